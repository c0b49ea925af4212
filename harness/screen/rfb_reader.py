"""The thread that keeps a screen's picture up to date: connects, asks, draws; and again, when the connection breaks.

Nothing polls: the server is asked for changes once, and answers when there are some. Virtualization.framework's server
sometimes stops answering (hashicorp/packer-plugin-tart#178 and its stall handling), hence the ladder: ask for everything →
wiggle the pointer → connect anew. Each rung is an event.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Sequence

from harness import events
from harness.screen.errors import ScreenError
from harness.screen.rfb_front import Front
from harness.screen.rfb_stream import AuthenticationFailed, Connection, Refused, Update

STALL = 5.0
"""Seconds without an update, while somebody watches, until everything is asked for. Doubles up to `STALL_MOST` as long as
that shows that nothing was missed."""
STALL_MOST = 20.0
ANSWER = 3.0
"""Seconds within which a server must begin to answer a request for everything."""
PACE = 0.02
"""Seconds between two requests, so that a film on the screen does not eat a core; a frame that somebody waits for is
asked for at once."""
WATCHED = 15.0
"""Seconds that somebody who looked is taken to go on watching."""
HOLLOW = 0.5
"""Seconds after an answer without pixels (the pointer's shape, the layout of the screens), until everything is asked for
once more: TigerVNC sends the pixels behind it, others take the request for answered."""
REFUSALS = 5
"""Times in a row that a server may send us away before it is taken at its word."""
_STEADY = 5.0
"""Seconds that a connection must have held for the next one to be tried at once."""
_BREATH = 0.003
"""Seconds after an update in which somebody may want everything: then changes need not be asked for as well."""
_CHATTER = 64
"""Messages without pixels in a row, after which the reader takes a breath."""

_Connect = Callable[[int, Callable[[], bool], bool], Connection]


class Reader:
    """Runs in a thread of its own until `close`.

    Args:
        connect: Makes a connection, given the `wake` descriptor, the `stopped` question, and whether to ask for proven encodings only.
        front: Where the picture goes.
        name: The machine's.
        log: Where events go.

    Attributes:
        connection: The one that stands, or None. Guarded by `front.news`, as are the others.
        error: What went wrong last.
        fatal: Trying again does not help.
    """

    def __init__(self, connect: _Connect, front: Front, *, name: str, log: events.EventLog) -> None:
        self.connection: Connection | None = None
        self.error: Exception | None = None
        self.fatal = False
        self.closed = threading.Event()
        self.doing = "connecting"
        self.pointer = (0, 0, 0)
        """Where it was put last, and the buttons held."""
        self.moved = 0.0
        """When it was moved last, on the monotonic clock."""
        self._pointed: Connection | None = None
        self._connect = connect
        self._front = front
        self._name = name
        self._log = log
        self._sending = threading.Lock()
        self._proven = self._pictured = False
        self._refresh_wanted = False
        self._watched_until = time.monotonic() + WATCHED
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._napping = select.poll()
        self._napping.register(self._wake_read, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name=f"vnc-{name}", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """No picture will come any more."""
        return self.fatal or self.closed.is_set()

    @property
    def watched_since(self) -> float:
        """When somebody looked last, on the monotonic clock."""
        return self._watched_until - WATCHED

    def watch(self) -> None:
        """Somebody looks now, and probably for a while."""
        self._watched_until = time.monotonic() + WATCHED

    def refresh(self) -> None:
        """Have everything asked for."""
        self._refresh_wanted = True
        self._wake()

    def send(self, connection: Connection, message: bytes) -> None:
        """Send a message from any thread.

        Raises:
            ConnectionLost: See there.
        """
        with self._sending:
            connection.send(message)

    def pointed(self, connection: Connection, pointer: tuple[int, int, int], now: float) -> None:
        """The pointer was put somewhere, through this connection."""
        if pointer[:2] != self.pointer[:2] or connection is not self._pointed:
            self.moved = now
        self.pointer, self._pointed = pointer, connection

    def rests_at(self, connection: Connection, place: tuple[int, int]) -> bool:
        """Whether it was put there through this connection, with no button held, and has not been moved since."""
        return self._pointed is connection and self.pointer == (*place, 0)

    def close(self) -> None:
        """Disconnect and end the thread. Can be called twice."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._wake()
        with self._front.news:
            connection = self.connection
            self._front.news.notify_all()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(2)
        if threading.current_thread() is not self._thread:  # a subscriber may close its screen
            self._thread.join(6.0)
        if not self._thread.is_alive():
            with self._front.news:
                for descriptor in (self._wake_read, self._wake_write):
                    os.close(descriptor)
                self._wake_read = self._wake_write = -1

    # --- in the thread

    def _run(self) -> None:
        pause = 0.1
        refusals = 0
        while not self.closed.is_set():
            self.doing = "connecting"
            began = time.monotonic()
            try:
                connection = self._connect(self._wake_read, self.closed.is_set, self._proven)
            except (ScreenError, OSError, MemoryError) as error:
                refusals = refusals + 1 if isinstance(error, Refused) else 0
                fatal = isinstance(error, AuthenticationFailed) or refusals >= REFUSALS
                if str(error) != str(self.error) and not self.closed.is_set():
                    self._log.event("screen-unreachable", machine=self._name, reason=_words(error))
                with self._front.news:
                    self.error, self.fatal = error, fatal
                    self._front.news.notify_all()
                if fatal:
                    return
            else:
                refusals = 0
                self._use(connection)
                if not self._pictured:
                    self._proven = not self._proven  # perhaps it does not bear what it was asked for
                if time.monotonic() - began > _STEADY:
                    pause = 0.1
            self.closed.wait(pause)
            pause = min(2.0, pause * 2)

    def _use(self, connection: Connection) -> None:
        reason = "closed"
        try:
            self.doing = "connected; it has sent no picture yet"
            self._log.event("screen-connected", machine=self._name, size=list(connection.size))
            with self._front.news:
                self.connection = connection
                self._front.news.notify_all()
            self._serve(connection)
        except (ScreenError, OSError, MemoryError) as error:
            self.error = error
            reason = _words(error)
        finally:
            with self._front.news:
                self.connection = None
            connection.close()
        if not self.closed.is_set():
            self._log.event("screen-lost", machine=self._name, reason=reason)

    def _serve(self, connection: Connection) -> None:
        """Read updates until the connection ends (by raising) or the screen is closed."""
        self._refresh_wanted = self._pictured = False
        connection.adopt(self._front.picture)
        self._request(connection, incremental=False)
        patience = STALL
        last = asked = time.monotonic()
        asked_all: float | None = asked
        hollow: float | None = None
        quickest = _Quickest(connection)
        wiggled = refreshing = False
        told_layout = True
        chatter = 0
        while not self.closed.is_set():
            now = time.monotonic()
            if asked_all is not None:
                wait = min(asked_all + ANSWER, hollow + HOLLOW if hollow is not None else math.inf) - now
            elif self._refresh_wanted:
                wait = 0.0
            else:
                wait = min(last + patience - now, 1.0) if self._is_watched(now) else 1.0
            if connection.readable(max(0.0, wait)):
                update = connection.read()
                if update is None:
                    chatter += 1
                    if chatter % _CHATTER == 0:
                        self._nap(PACE)
                    continue
                if not update.regions and not update.resized:
                    last = hollow = time.monotonic()
                    if update.layout and told_layout and asked_all is not None:
                        # libvncserver says it before each whole picture, and takes a round of its loop for that: half the
                        # rate. A new size comes as DesktopSize all the same.
                        told_layout = False
                        self._prefer(connection, layouts=False)
                    self._nap(PACE)
                    self._request(connection, incremental=True)
                    continue
                chatter = 0
                differs = self._front.apply(connection.pixels, update.regions, update.changed)
                self._pictured = True
                last = time.monotonic()
                self.error = None
                better = quickest.answered(update, last - asked_all) if asked_all is not None else None
                if better is not None:
                    self._prefer(connection, better)
                if differs and refreshing:
                    self._log.event(
                        "degraded",
                        what="screen updates had stalled",
                        reason="only a request for everything brought news",
                    )
                if differs or asked_all is None:
                    patience = STALL
                wiggled = refreshing = False
                asked, asked_all = self._ask_next(connection, update, asked)
                hollow = None
                continue
            self._drain()
            now = time.monotonic()
            if asked_all is not None:
                if now - asked_all < ANSWER:
                    if hollow is not None and now - hollow >= HOLLOW:
                        hollow = None
                        self._request(connection, incremental=False)
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
            elif self._refresh_wanted or (self._is_watched(now) and now - last >= patience):
                self._refresh_wanted = False
                self._log.event("screen-refresh", machine=self._name, silent=round(now - last, 1))
                patience = min(STALL_MOST, patience * 2)
                asked = asked_all = now
                hollow = None
                refreshing = True
                self._request(connection, incremental=False)

    def _ask_next(self, connection: Connection, update: Update, asked: float) -> tuple[float, float | None]:
        """Ask for the next update, not before its time; when that was, and the same if everything was asked for."""
        due = max(asked + PACE, time.monotonic() + _BREATH)
        while not self._refresh_wanted and not self.closed.is_set() and (early := due - time.monotonic()) > 0:
            self._nap(early)
        everything = update.resized or self._refresh_wanted
        self._refresh_wanted = False
        self._request(connection, incremental=not everything)
        now = time.monotonic()
        return now, now if everything else None

    def _is_watched(self, now: float) -> bool:
        return now < self._watched_until or self._front.watched

    def _wiggle(self, connection: Connection) -> None:
        x, y, buttons = self.pointer
        for near in (x - 1 if x else x + 1, x):
            self.send(connection, pointer_event(near, y, buttons))
            self.moved = time.monotonic()

    def _request(self, connection: Connection, *, incremental: bool) -> None:
        with self._sending:
            connection.request(incremental=incremental)

    def _prefer(
        self, connection: Connection, encodings: Sequence[int] | None = None, *, layouts: bool | None = None
    ) -> None:
        with self._sending:
            connection.prefer(encodings, layouts=layouts)

    def _nap(self, seconds: float) -> None:
        self._napping.poll(max(1, int(seconds * 1000)))
        self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            os.read(self._wake_read, 4096)

    def _wake(self) -> None:
        with self._front.news, contextlib.suppress(OSError):
            if self._wake_write >= 0:
                os.write(self._wake_write, b"!")


class _Quickest:
    """Finds out which of a connection's `choices` of encodings the server answers most quickly in.

    Only answers to requests for everything are timed, which are made anyway; each choice has its turn at first.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rates: list[float | None] = [None] * len(connection.choices)
        self._now = 0

    def answered(self, update: Update, seconds: float) -> Sequence[int] | None:
        """Everything was asked for, and this came so much later: the encodings to change to, or None."""
        width, height = self._connection.size
        drawn = sum(box.area for box in update.regions)
        if len(self._rates) == 1 or 2 * drawn < width * height:
            return None
        rate = drawn / max(seconds, 1e-6)
        before = self._rates[self._now]
        self._rates[self._now] = rate if before is None else (before + rate) / 2
        best = max(range(len(self._rates)), key=lambda choice: self._rates[choice] or math.inf)
        changes = best != self._now
        self._now = best
        return self._connection.choices[best] if changes else None


def pointer_event(x: int, y: int, buttons: int) -> bytes:
    """The message that the pointer is there, with these buttons held."""
    return struct.pack(">BBHH", 5, buttons, x, y)


def key_event(symbol: int, *, down: bool) -> bytes:
    """The message that a key goes down or up."""
    return struct.pack(">BBxxI", 4, int(down), symbol)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
