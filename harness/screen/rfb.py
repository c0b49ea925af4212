"""`VncScreen`: a machine's framebuffer over VNC, kept up to date by a thread of its own.

Nothing polls: the server is asked for changes once, and answers when there are some. Virtualization.framework's server
sometimes stops answering (hashicorp/packer-plugin-tart#178 and its stall handling), hence the ladder: ask for everything →
wiggle the pointer → connect anew. Each rung is an event.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Callable
from typing import Self

import numpy as np

from harness import events
from harness.screen.errors import ScreenError
from harness.screen.frames import Box, Frame, Pixels, Watcher
from harness.screen.keymap import SHIFT, keysym, strokes
from harness.screen.rfb_stream import AuthenticationFailed, Connection, Update
from harness.waiting import Deadline, sleep

STALL = 5.0
"""Seconds without an update, while somebody watches, until everything is asked for. Doubles up to `STALL_MOST` as long as
that shows that nothing was missed."""
STALL_MOST = 20.0
ANSWER = 3.0
"""Seconds within which a server must begin to answer a request for everything."""
CLICK = 0.1
"""Seconds between move, press and release: faster clicks get lost on VZ guests (packer-plugin-tart)."""
KEY = 0.03
"""Seconds a key is held, and between keys."""
PACE = 0.02
"""Seconds between two requests, so that a film on the screen does not eat a core."""
_WATCHED = 15.0
_INPUT_PATIENCE = 10.0


class VncScreen:
    """A screen behind a VNC port. Connects (and again, when the connection breaks) in the background; thread-safe.

    Args:
        password: Only its first eight characters count; None for a server without.
        name: The machine's, for messages.
    """

    def __init__(self, host: str, port: int, password: str | None, *, name: str = "screen") -> None:
        self.host = host
        self.port = port
        self.name = name
        if password:
            events.SECRETS.add(password)
        self._password = password
        self._log = events.current()
        self._news = threading.Condition()
        self._sending = threading.Lock()
        self._connection: Connection | None = None
        self._front: Pixels | None = None
        self._serial = 0
        self._time = 0.0
        self._frame: Frame | None = None
        self._marked: Frame | None = None
        self._recent: list[tuple[int, Box]] = []
        self._watchers: list[Watcher] = []
        self._error: Exception | None = None
        self._fatal = False
        self._closed = threading.Event()
        self._watched_until = time.monotonic() + _WATCHED
        self._refresh_wanted = False
        self._pointer = (0, 0)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._thread = threading.Thread(target=self._run, name=f"vnc-{name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # --- seeing

    @property
    def marked(self) -> Frame | None:
        """What `mark` remembered; None before, and when there was no picture then."""
        return self._marked

    def mark(self) -> None:
        """Remember the present frame as "before the activation". Never waits."""
        with self._news:
            self._marked = self._snapshot()
        self._log.event("screen-marked", serial=self._marked.serial if self._marked else None)

    def frame(self, deadline: Deadline, *, fresh: bool = False) -> Frame:
        """The newest frame. If the server has been silent for long it is asked for everything first, and given two
        seconds to answer.

        Args:
            deadline: For all of it.
            fresh: The server must have answered just now: without that, nothing can be said of what is *not* on the screen.

        Raises:
            ScreenError: There is no picture (no fresh one) within the deadline; the error says why.
        """
        with self._news:
            quiet = time.monotonic() - max(self._time, self._watched_until - _WATCHED)
            self._watch()
            if self._front is not None and (fresh or quiet > STALL):
                asked = time.monotonic()
                self._refresh_wanted = True
                self._wake()
                patience = deadline if fresh else deadline.sub(2.0)
                answered = self._news.wait_for(
                    lambda: self._time > asked or self._fatal or self._closed.is_set(), patience.remaining
                )
                if fresh and not answered:
                    raise self._no_picture(f"it has not answered for {time.monotonic() - self._time:.0f} s")
            if not self._news.wait_for(
                lambda: self._front is not None or self._fatal or self._closed.is_set(), deadline.remaining
            ):
                raise self._no_picture(f"no picture within {deadline.seconds:g} s")
            frame = self._snapshot()
            if frame is None:
                raise self._no_picture("no picture")
            return frame

    def wait_for_change(self, after: Frame | None, deadline: Deadline) -> Frame | None:
        """The first frame later than `after` (None: any frame); None when the deadline comes first.

        Raises:
            ScreenError: The screen is closed, or the server refuses us for good.
        """
        serial = after.serial if after is not None else -1

        def there() -> bool:
            return self._fatal or self._closed.is_set() or (self._front is not None and self._serial > serial)

        with self._news:
            while not there():
                self._watch()
                if deadline.expired:
                    return None
                self._news.wait(min(deadline.remaining, 1.0))
            if self._fatal or self._closed.is_set():
                raise self._no_picture("closed" if self._closed.is_set() else "refused")
            return self._snapshot()

    def settle(self, deadline: Deadline, quiet: float = 0.3, region: Box | None = None) -> Frame:
        """The frame once nothing in `region` has changed for `quiet` seconds; at the deadline, the newest one."""
        frame = self.frame(deadline)
        calm = Deadline(quiet)
        while not deadline.expired:
            later = self.wait_for_change(frame, deadline.sub(calm.remaining) if not calm.expired else Deadline(0))
            if later is None:
                if calm.expired:
                    break
                continue
            if region is None or self._touched(frame.serial, region) or later.size != frame.size:
                calm = Deadline(quiet)
            frame = later
        return frame

    def subscribe(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback(frame, changed boxes)` after each update that changed a pixel; returns the way to stop it.

        It runs on the reader thread: while it works, nothing is read. One that raises is dropped, and the fact is an
        event. The present frame is not delivered: ask for it with `frame`.
        """
        with self._news:
            self._watchers.append(callback)

        def stop() -> None:
            with self._news, contextlib.suppress(ValueError):
                self._watchers.remove(callback)

        return stop

    # --- acting

    def click(self, x: int, y: int) -> None:
        """Move, press, release the left button, each `CLICK` apart; then the pointer leaves for the right edge.

        Raises:
            ScreenError: Not connected.
        """
        with events.step("click", x=x, y=y):
            self._move(x, y, 0)
            sleep(CLICK)
            self._move(x, y, 1)
            sleep(CLICK)
            self._move(x, y, 0)
            width, height = self._size()
            self._move(width - 2, height // 2, 0)

    def scroll(self, x: int, y: int, lines: int) -> None:
        """Turn the wheel `lines` notches over a pixel; positive is down."""
        with events.step("scroll", x=x, y=y, lines=lines):
            self._move(x, y, 0)
            for _ in range(abs(lines)):
                self._move(x, y, 16 if lines > 0 else 8)
                sleep(PACE)
                self._move(x, y, 0)
                sleep(PACE)

    def type_text(self, text: str, *, secret: bool = False) -> None:
        """Type characters of the US layout, Shift held where needed.

        Raises:
            UnsupportedCharacter: Before anything was typed.
            ScreenError: Not connected.
        """
        planned = strokes(text)
        if secret:
            events.SECRETS.add(text)
        with events.step("type", length=len(text), **({} if secret else {"text": text})):
            for symbol, shifted in planned:
                if shifted:
                    self._key(SHIFT, down=True)
                self._tap(symbol)
                if shifted:
                    self._key(SHIFT, down=False)

    def key(self, name: str) -> None:
        """Press and release a named key ("return", "escape", …)."""
        symbol = keysym(name)
        with events.step("key", key=name):
            self._tap(symbol)

    def chord(self, *names: str) -> None:
        """`chord("command", "a")`: the last is struck while the others are held."""
        symbols = [keysym(name) for name in names]
        with events.step("key", key="+".join(names)):
            for symbol in symbols[:-1]:
                self._key(symbol, down=True)
                sleep(KEY)
            try:
                self._tap(symbols[-1])
            finally:
                for symbol in reversed(symbols[:-1]):
                    self._key(symbol, down=False)

    def close(self) -> None:
        """Disconnect and end the thread. Can be called twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._wake()
        with self._news:
            connection = self._connection
            self._news.notify_all()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(2)
        self._thread.join(5.0)
        if not self._thread.is_alive():
            for descriptor in (self._wake_read, self._wake_write):
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    # --- the reader thread

    def _run(self) -> None:
        pause = 0.1
        while not self._closed.is_set():
            try:
                connection = Connection(self.host, self.port, self._password)
            except AuthenticationFailed as error:
                with self._news:
                    self._error, self._fatal = error, True
                    self._news.notify_all()
                return
            except (OSError, ScreenError, struct.error) as error:
                if type(error) is not type(self._error):
                    self._log.event("screen-unreachable", machine=self.name, reason=f"{type(error).__name__}: {error}")
                self._error = error
                self._closed.wait(pause)
                pause = min(2.0, pause * 2)
                continue
            pause = 0.1
            reason = "closed"
            try:
                self._log.event("screen-connected", machine=self.name, size=list(connection.size))
                with self._news:
                    self._connection = connection
                    self._news.notify_all()
                self._serve(connection)
            except (OSError, ScreenError, struct.error, MemoryError) as error:
                self._error = error
                reason = f"{type(error).__name__}: {error}"
            finally:
                with self._news:
                    self._connection = None
                connection.close()
            if not self._closed.is_set():
                self._log.event("screen-lost", machine=self.name, reason=reason)
                self._closed.wait(pause)
                pause = min(2.0, pause * 2)

    def _serve(self, connection: Connection) -> None:
        """Read updates until the connection ends (by raising) or the screen is closed."""
        self._request(connection, incremental=False)
        patience = STALL
        asked_all: float | None = time.monotonic()
        wiggled = refreshing = False
        last = time.monotonic()
        while not self._closed.is_set():
            now = time.monotonic()
            if asked_all is not None:
                wait = asked_all + ANSWER - now
            else:
                wait = min(last + patience - now, 1.0) if now < self._watched_until else 1.0
            if connection.readable(wait, self._wake_read):
                update = connection.read()
                if update is None:
                    continue
                differs = self._apply(connection, update)
                last = time.monotonic()
                if differs and refreshing:
                    self._log.event(
                        "degraded",
                        what="screen updates had stalled",
                        reason="only a request for everything brought news",
                    )
                if differs or asked_all is None:
                    patience = STALL
                asked_all, wiggled, refreshing = None, False, False
                self._closed.wait(PACE)
                self._request(connection, incremental=not update.resized)
                continue
            self._drain()
            now = time.monotonic()
            if asked_all is not None:
                if now - asked_all < ANSWER:
                    continue
                if wiggled:
                    raise ScreenError(
                        "the VNC server to answer", seen=f"nothing for {now - last:.0f} s, also after a wiggle"
                    )
                self._log.event(
                    "degraded", what="screen updates stalled: pointer wiggled", reason=f"{now - last:.1f} s"
                )
                self._wiggle(connection)
                wiggled = True
                asked_all = now
                self._request(connection, incremental=False)
            elif self._refresh_wanted or (now < self._watched_until and now - last >= patience):
                self._refresh_wanted = False
                self._log.event("screen-refresh", machine=self.name, silent=round(now - last, 1))
                patience = min(STALL_MOST, patience * 2)
                asked_all, refreshing = now, True
                self._request(connection, incremental=False)

    def _apply(self, connection: Connection, update: Update) -> bool:
        """Bring the drawn parts to the front; True when a pixel differs from before."""
        back = connection.pixels
        differs = False
        with self._news:
            front = self._front
            if front is None or front.shape[:2] != back.shape[:2]:
                if not update.regions:
                    return True  # only a new size: its pixels come with the next update
                front = self._front = np.ascontiguousarray(back[:, :, 2::-1])
                changed = [Box(0, 0, *connection.size)]
                differs = True
            else:
                changed = []
                for box in update.regions:
                    new = back[box.y0 : box.y1, box.x0 : box.x1, 2::-1]
                    old = front[box.y0 : box.y1, box.x0 : box.x1]
                    if not np.array_equal(new, old):
                        old[:] = new
                        changed.append(box)
                differs = bool(changed)
            self._time = time.monotonic()
            if differs:
                self._serial += 1
                self._frame = None
                self._recent = [*self._recent[-63:], *((self._serial, box) for box in changed)][-256:]
            watchers = tuple(self._watchers) if differs else ()
            frame = self._snapshot() if watchers else None
            self._news.notify_all()
        if frame is not None:
            self._tell(watchers, frame, tuple(changed))
        return differs

    def _tell(self, watchers: tuple[Watcher, ...], frame: Frame, changed: tuple[Box, ...]) -> None:
        for watcher in watchers:
            try:
                watcher(frame, changed)
            except Exception as error:  # noqa: BLE001 - a recorder never breaks a run
                with self._news, contextlib.suppress(ValueError):
                    self._watchers.remove(watcher)
                self._log.event(
                    "subscriber-dropped", subscriber=repr(watcher), error=f"{type(error).__name__}: {error}"
                )

    def _wiggle(self, connection: Connection) -> None:
        x, y = self._pointer
        for near in (max(0, x - 1), x):
            self._send(connection, struct.pack(">BBHH", 5, 0, near, y))

    def _request(self, connection: Connection, *, incremental: bool) -> None:
        with self._sending:
            connection.request(incremental=incremental)

    # --- inside

    def _snapshot(self) -> Frame | None:
        """The newest frame; copied once per change. Called with the lock held."""
        if self._frame is None and self._front is not None:
            pixels = self._front.copy()
            pixels.setflags(write=False)
            self._frame = Frame(pixels, self._serial, self._time)
        return self._frame

    def _touched(self, since: int, region: Box) -> bool:
        with self._news:
            return any(serial > since and box.overlaps(region) for serial, box in self._recent)

    def _watch(self) -> None:
        self._watched_until = time.monotonic() + _WATCHED

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            os.read(self._wake_read, 4096)

    def _size(self) -> tuple[int, int]:
        front = self._front
        return (front.shape[1], front.shape[0]) if front is not None else (2, 2)

    def _move(self, x: int, y: int, buttons: int) -> None:
        width, height = self._size()
        x, y = min(max(0, x), width - 1), min(max(0, y), height - 1)
        self._pointer = (x, y)
        self._send(self._connected(), struct.pack(">BBHH", 5, buttons, x, y))

    def _tap(self, symbol: int) -> None:
        self._key(symbol, down=True)
        sleep(KEY)
        self._key(symbol, down=False)
        sleep(KEY)

    def _key(self, symbol: int, *, down: bool) -> None:
        self._send(self._connected(), struct.pack(">BBxxI", 4, int(down), symbol))

    def _send(self, connection: Connection, message: bytes) -> None:
        self._watch()
        try:
            with self._sending:
                connection.send(message)
        except OSError as error:
            raise ScreenError(f"the VNC connection of {self.name} to hold", seen=str(error)) from error

    def _connected(self) -> Connection:
        with self._news:
            self._news.wait_for(
                lambda: self._connection is not None or self._fatal or self._closed.is_set(), _INPUT_PATIENCE
            )
            if self._connection is None or self._closed.is_set():
                raise self._no_picture("not connected")
            return self._connection

    def _no_picture(self, seen: str) -> ScreenError:
        if self._closed.is_set():
            return ScreenError(f"the screen of {self.name} to be open", seen="it was closed")
        if isinstance(self._error, ScreenError):
            return ScreenError(f"the screen of {self.name} ({self.host}:{self.port})", seen=f"{seen}; {self._error}")
        return ScreenError(
            f"the screen of {self.name} ({self.host}:{self.port})",
            seen=f"{seen}; {type(self._error).__name__}: {self._error}" if self._error else seen,
            hint="does `tart run` with --vnc-experimental still run?",
        )
