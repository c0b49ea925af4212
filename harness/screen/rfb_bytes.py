"""The bytes of one RFB connection: read with a buffer, a limit of silence and a limit per message; sent as they are.

Nothing here waits for ever: a server that stops, or drips a byte now and then, is given up.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence

from harness.screen.errors import ConnectionLost, ScreenError
from harness.waiting import Deadline

SILENCE = 15.0
"""Seconds without a byte in the middle of a message, after which the connection is given up."""
MESSAGE = 60.0
"""Seconds that one message may take in all, however busily it drips: a raw 2560×1600 frame at 300 kB/s fits."""
BUFFER = 1 << 18
"""Bytes read ahead."""
_DIRECT = 1 << 14
"""Bytes: bigger pieces go straight to where they belong, and only so much of what comes behind them is read ahead."""


class Stream:
    """A connected socket. One thread reads, others may send.

    Args:
        connected: The socket; blocking, with the time-out that sending shall have.
        wake: A descriptor that ends waits when it is readable.
        stopped: Asked after such an end: True breaks off also in the middle of a message.

    Raises:
        ConnectionLost: The connection broke.
        ScreenError: The server fell silent, or is too slow, in the middle of a message.
    """

    def __init__(
        self, connected: socket.socket, *, wake: int | None = None, stopped: Callable[[], bool] | None = None
    ) -> None:
        self.socket = connected
        # A second handle that never waits: with a time-out, each read would ask the system twice.
        self._source = connected.dup()
        self._source.settimeout(0)
        self._poll = select.poll()
        self._poll.register(self._source, select.POLLIN)
        self._alone = select.poll()
        self._alone.register(self._source, select.POLLIN)
        if wake is not None:
            self._poll.register(wake, select.POLLIN)
        self._stopped = stopped or (lambda: False)
        self._buffer = bytearray(BUFFER)
        self._start = self._end = 0
        self._deadline = Deadline.after(MESSAGE)

    def begin(self, deadline: Deadline | None = None) -> None:
        """A new message begins: its time starts now."""
        self._deadline = deadline or Deadline.after(MESSAGE)

    def readable(self, seconds: float) -> bool:
        """Whether a byte is there within so many seconds; what the `wake` descriptor says ends the wait."""
        if self._start < self._end:
            return True
        # Rounded up: a millisecond too early would make the caller come back for nothing.
        ready = self._poll.poll(max(0, int(seconds * 1000) + 1 if seconds > 0 else 0))
        return any(descriptor == self._source.fileno() for descriptor, _ in ready)

    def read(self, count: int) -> bytes:
        """Exactly so many bytes. The caller bounds `count`."""
        have = self._end - self._start
        if count <= have:
            piece = bytes(memoryview(self._buffer)[self._start : self._start + count])
            self._start += count
            return piece
        whole = bytearray(count)
        self.read_into(memoryview(whole))
        return bytes(whole)

    def read_into(self, target: memoryview) -> None:
        """Fill `target` (bytes, contiguous)."""
        while len(target):
            have = self._end - self._start
            if have:
                count = min(have, len(target))
                target[:count] = memoryview(self._buffer)[self._start : self._start + count]
                self._start += count
            elif len(target) >= _DIRECT:
                received = self._receive(target, memoryview(self._buffer)[:_DIRECT])
                count = min(received, len(target))
                self._start, self._end = 0, received - count
            else:
                self._fill()
                continue
            target = target[count:]

    def skip(self, count: int) -> None:
        """Read and forget; takes no memory."""
        while count > 0:
            have = self._end - self._start
            if not have:
                self._fill()
                continue
            self._start += min(have, count)
            count -= min(have, count)

    def send(self, message: bytes) -> None:
        """Send one client message."""
        try:
            self.socket.sendall(message)
        except OSError as error:
            raise ConnectionLost("the VNC server to listen", seen=f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the socket."""
        self._source.close()
        self.socket.close()

    def _fill(self) -> None:
        self._start = self._end = 0
        self._end = self._receive(memoryview(self._buffer))

    def _receive(self, *targets: memoryview) -> int:
        """Into the first, and what it cannot take into the next; how many bytes."""
        silence = self._deadline.sub(SILENCE)
        while not self._deadline.expired:
            try:
                return self._received(targets)
            except BlockingIOError:
                if self._stopped():
                    raise ConnectionLost("the VNC connection to hold", seen="the screen was closed") from None
                if silence.expired:
                    break
                self._alone.poll(max(1, int(min(0.25, silence.remaining) * 1000)))
        seen = f"nothing for {SILENCE:g} s in the middle of a message"
        if self._deadline.expired:
            seen = f"a message that was not whole within {self._deadline.seconds:g} s"
        raise ScreenError("the VNC server to go on", seen=seen)

    def _received(self, targets: Sequence[memoryview]) -> int:
        try:
            received = self._source.recvmsg_into(targets)[0]
        except BlockingIOError:
            raise
        except OSError as error:
            raise ConnectionLost("the VNC connection to hold", seen=f"{type(error).__name__}: {error}") from error
        if not received:
            raise ConnectionLost("the VNC connection to hold", seen="the server closed it")
        return received
