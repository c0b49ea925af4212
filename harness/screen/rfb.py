"""`VncScreen`: a machine's framebuffer over VNC: seen without polling, acted on with the keys and pauses that a Mac wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Self

from harness import events
from harness.screen import rfb_reader
from harness.screen.errors import ScreenError
from harness.screen.frames import Box, Frame, Watcher
from harness.screen.keymap import SHIFT, keysym, strokes
from harness.screen.rfb_front import Front
from harness.screen.rfb_reader import Reader, key_event, pointer_event
from harness.screen.rfb_stream import Connection
from harness.waiting import Deadline, sleep

CLICK = 0.1
"""Seconds between move, press and release: faster clicks get lost on VZ guests (packer-plugin-tart)."""
KEY = 0.03
"""Seconds a key is held, and between keys."""
_DRAG_STEPS = 8
WHEEL = 0.02
"""Seconds between two notches of the wheel."""
_ANSWER = 2.0
_INPUT_PATIENCE = 10.0


class VncScreen:
    """A screen behind a VNC port. Connects (and again, when the connection breaks) in the background; thread-safe.

    The same object goes on when the server was restarted: whoever waits gets the next picture within their deadline, or an
    error that says what the last attempt met. Memory, whatever the server sends: 4 bytes a pixel of its screen for what it
    draws, 3 for the picture and 3 for each frame that somebody keeps, with at most `rfb_stream.MAX_PIXELS` pixels; and
    `rfb_encodings.WORKING` beside.

    Args:
        password: Of a VNC password only the first eight characters count; None for a server without.
        user: The account, for Apple's Screen Sharing in a guest; the password is then the account's.
        name: The machine's, for messages.
        encodings: What the server shall send, best first (numbers of RFC 6143); by how far it is, if None.
    """

    def __init__(
        self,
        host: str,
        port: int,
        password: str | None,
        *,
        user: str | None = None,
        name: str = "screen",
        encodings: Sequence[int] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.name = name
        if password:
            events.SECRETS.add(password)
        self._log = events.current()
        self._front = Front(self._log)
        self._marked: Frame | None = None
        self._encodings = encodings
        self._reader = self._read_from(host, port, password, user)

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
        self._marked = self._front.frame()
        self._log.event("screen-marked", serial=self._marked.serial if self._marked else None)

    def frame(self, deadline: Deadline, *, fresh: bool = False) -> Frame:
        """The newest frame. If the server has been silent for long, or is away, it is asked for everything first, and given
        two seconds to answer.

        Args:
            deadline: For all of it.
            fresh: The server must have answered just now: without that, nothing can be said of what is *not* on the screen.

        Raises:
            ScreenError: There is no picture (no fresh one) within the deadline; the error says why.
        """
        front, reader = self._front, self._reader
        with front.news:
            asked = time.monotonic()
            quiet = asked - max(front.time, reader.watched_since)
            reader.watch()
            if front.there and not reader.over and (fresh or quiet > rfb_reader.STALL or reader.connection is None):
                reader.refresh()
                patience = deadline if fresh else deadline.sub(_ANSWER)
                answered = front.news.wait_for(lambda: front.time > asked or reader.over, patience.remaining)
                if fresh and not answered:
                    raise self._no_picture(f"it has not answered for {time.monotonic() - front.time:.0f} s")
            if not front.news.wait_for(lambda: front.there or reader.over, deadline.remaining):
                raise self._no_picture(f"no picture within {deadline.seconds:g} s: {reader.doing}")
            frame = front.frame()
            if frame is None or (fresh and reader.over):
                raise self._no_picture("no picture")
            return frame

    def wait_for_change(self, after: Frame | None, deadline: Deadline) -> Frame | None:
        """The first frame later than `after` (None: any frame); None when the deadline comes first.

        Raises:
            ScreenError: The screen is closed, or the server refuses us for good.
        """
        front, reader = self._front, self._reader
        serial = after.serial if after is not None else -1
        with front.news:
            while not (reader.over or (front.there and front.serial > serial)):
                reader.watch()
                if deadline.expired:
                    return None
                front.news.wait(min(deadline.remaining, 1.0))
            if reader.over:
                raise self._no_picture("refused")
            return front.frame()

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
            if region is None or self._front.touched(frame.serial, region) or later.size != frame.size:
                calm = Deadline(quiet)
            frame = later
        return frame

    def subscribe(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback(frame, changed boxes)` after each update that changed a pixel; returns the way to stop it.

        It runs on the reader thread: while it works, nothing is read. One that raises is dropped, and the fact is an
        event. The present frame is not delivered: ask for it with `frame`.
        """
        return self._front.subscribe(callback)

    # --- acting

    def park(self, x: int, y: int) -> None:
        """Put the pointer there and press nothing: a click there then waits only for what is left of its first pause.

        Raises:
            ScreenError: Not connected.
        """
        self._move(x, y, 0)

    def leave(self) -> None:
        """Take the pointer to the right edge, where it is in nobody's way.

        Raises:
            ScreenError: Not connected.
        """
        width, height = self._size()
        self._move(width - 2, height // 2, 0)

    def click(self, x: int, y: int) -> None:
        """Move, press, release the left button, each `CLICK` apart; then the pointer leaves for the right edge. One that rests
        there already is not moved, and is pressed as soon as it has rested for `CLICK`.

        Raises:
            ScreenError: Not connected.
        """
        with events.step("click", x=x, y=y):
            if not self._rests_at(x, y):
                self._move(x, y, 0)
            while (rested := time.monotonic() - self._reader.moved) < CLICK:
                sleep(CLICK - rested)
            self._move(x, y, 1)
            sleep(CLICK)
            self._move(x, y, 0)
            self.leave()

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Press at one pixel, move to another in a few steps, release there; then the pointer leaves for the right edge.

        Raises:
            ScreenError: Not connected.
        """
        with events.step("drag", start=list(start), end=list(end)):
            self._move(*start, 0)
            sleep(CLICK)
            self._move(*start, 1)
            sleep(CLICK)
            for part in range(1, _DRAG_STEPS + 1):
                x, y = (a + (b - a) * part // _DRAG_STEPS for a, b in zip(start, end, strict=True))
                self._move(x, y, 1)
                sleep(CLICK / 2)
            self._move(*end, 0)
            self.leave()

    def scroll(self, x: int, y: int, lines: int) -> None:
        """Turn the wheel `lines` notches over a pixel; positive is down."""
        with events.step("scroll", x=x, y=y, lines=lines):
            self._move(x, y, 0)
            for _ in range(abs(lines)):
                self._move(x, y, 16 if lines > 0 else 8)
                sleep(WHEEL)
                self._move(x, y, 0)
                sleep(WHEEL)

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

    def move_to(self, host: str, port: int, password: str | None, *, user: str | None = None) -> None:
        """The server is elsewhere now (a VM that was resumed has a new one): go on with that. The mark, the last picture and
        whoever subscribed stay.
        """
        if password:
            events.SECRETS.add(password)
        self._reader.close()
        self.host, self.port = host, port
        self._reader = self._read_from(host, port, password, user)

    def close(self) -> None:
        """Disconnect and end the thread. Can be called twice."""
        self._reader.close()

    # --- inside

    def _read_from(self, host: str, port: int, password: str | None, user: str | None) -> Reader:
        def connect(wake: int, stopped: Callable[[], bool], proven: bool) -> Connection:  # noqa: FBT001 - the reader's call
            wanted = self._encodings
            return Connection(
                host, port, password, user=user, encodings=wanted, proven=proven, wake=wake, stopped=stopped
            )

        return Reader(connect, self._front, name=self.name, log=self._log)

    def _size(self) -> tuple[int, int]:
        return self._front.size or (2, 2)

    def _move(self, x: int, y: int, buttons: int) -> None:
        x, y = self._within(x, y)
        connection = self._connected()
        self._send(pointer_event(x, y, buttons), connection)
        self._reader.pointed(connection, (x, y, buttons), time.monotonic())

    def _rests_at(self, x: int, y: int) -> bool:
        """Whether the pointer was put there, through the connection that stands: a server begun anew knows nothing of it."""
        return self._reader.rests_at(self._connected(), self._within(x, y))

    def _within(self, x: int, y: int) -> tuple[int, int]:
        width, height = self._size()
        return min(max(0, x), width - 1), min(max(0, y), height - 1)

    def _tap(self, symbol: int) -> None:
        self._key(symbol, down=True)
        sleep(KEY)
        self._key(symbol, down=False)
        sleep(KEY)

    def _key(self, symbol: int, *, down: bool) -> None:
        self._send(key_event(symbol, down=down))

    def _send(self, message: bytes, connection: Connection | None = None) -> None:
        self._reader.watch()
        self._reader.send(connection or self._connected(), message)

    def _connected(self) -> Connection:
        front, reader = self._front, self._reader
        with front.news:
            front.news.wait_for(lambda: reader.connection is not None or reader.over, _INPUT_PATIENCE)
            if reader.connection is None or reader.over:
                raise self._no_picture("not connected")
            return reader.connection

    def _no_picture(self, seen: str) -> ScreenError:
        reader = self._reader
        if reader.closed.is_set():
            return ScreenError(f"the screen of {self.name} to be open", seen="it was closed")
        error = reader.error
        what = f"{seen}; {error.expected}: {error.seen}" if isinstance(error, ScreenError) else f"{seen}; {error!r}"
        hint = error.hint if isinstance(error, ScreenError) else ""
        return ScreenError(
            f"the screen of {self.name} ({self.host}:{self.port})", seen=what if error else seen, hint=hint
        )
