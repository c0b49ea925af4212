"""The three streams of one SSH session, moved without one of them blocking another."""

from __future__ import annotations

import contextlib
import signal as signals
import threading
from collections.abc import Iterable
from typing import Protocol

from paramiko.channel import Channel

from harness.guest.connection import LOST
from harness.waiting import Deadline

PIECE = 256 << 10
_GROUP_LINE = 24


class Sink(Protocol):
    """Where standard output can go instead of into memory: a binary file is one."""

    def write(self, piece: bytes, /) -> object:
        """Take all of it."""


class Pump:
    """Feeds standard input and collects the outputs of a session, both bounded.

    The first line of standard output is not the command's: it is the number of its process group.

    Args:
        channel: The session, its command sent.
        max_output: Bytes of both outputs together after which `overflow` is set.
        stdout_to: Where standard output goes; None keeps it in `stdout`.
    """

    def __init__(self, channel: Channel, *, max_output: int, stdout_to: Sink | None = None) -> None:
        self.channel = channel
        self.max_output = max_output
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.written = 0
        self.overflow = False
        self.group: int | None = None
        self.failure: BaseException | None = None
        self._to = stdout_to
        self._numbered = True
        self._first = bytearray()
        self._news = threading.Event()
        channel.settimeout(None)  # only reads what is there; the feeder is released by closing the channel
        channel.in_buffer.set_event(self._news)
        channel.in_stderr_buffer.set_event(self._news)

    def feed(self, prelude: bytes, data: bytes | Iterable[bytes] | None) -> None:
        """Send standard input and its end; in a thread of its own unless it is small."""
        # Only what surely goes at once is sent from here: a guest that opens no window would hold us past any deadline.
        if data is None or isinstance(data, bytes):
            pieces: Iterable[bytes] = [data or b""]
            if len(prelude) + len(data or b"") <= min(16384, self.channel.out_window_size):
                self._send([prelude, data or b""])
                return
        else:
            pieces = data

        def work() -> None:
            try:
                if prelude:
                    self.channel.sendall(prelude)
                self._send(pieces)
            except Exception as error:  # noqa: BLE001 - whatever the source raised is the caller's, after the end
                self.failure = error
                with contextlib.suppress(*LOST):
                    self.channel.close()

        threading.Thread(target=work, name="ssh-feed", daemon=True).start()

    def _send(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            try:
                self.channel.sendall(piece)
            except LOST:
                return  # it ended without reading everything, as `head` does
        with contextlib.suppress(*LOST):
            self.channel.shutdown_write()

    def until_end(self, deadline: Deadline) -> bool:
        """Move data until the session has ended (True), or the deadline or the limit came (False)."""
        channel = self.channel
        while True:
            moved = self.step()
            if self.overflow:
                return False
            if moved:
                if deadline.expired:
                    return False
                continue
            if self.drained:
                return channel.status_event.wait(deadline.remaining)
            if not self._news.wait(deadline.remaining) and not channel.recv_ready() and not channel.recv_stderr_ready():
                return False

    @property
    def drained(self) -> bool:
        """Whether both outputs have ended and were read."""
        channel = self.channel
        ended = channel.eof_received or channel.closed
        return bool(ended) and not channel.recv_ready() and not channel.recv_stderr_ready()

    def wait(self, seconds: float) -> None:
        """Until there may be something to read."""
        self._news.wait(seconds)

    def step(self) -> bool:
        """Read what is there; whether anything was."""
        moved = False
        if self.channel.recv_ready():
            self._take(self.channel.recv(PIECE))
            moved = True
        if self.channel.recv_stderr_ready():
            piece = self.channel.recv_stderr(PIECE)
            self.stderr += piece
            self._count(len(piece))
            moved = True
        return moved

    def _take(self, piece: bytes) -> None:
        if self._numbered:
            self._first += piece
            line, newline, rest = bytes(self._first).partition(b"\n")
            if not newline and len(self._first) < _GROUP_LINE:
                return
            self._numbered = False
            if newline and line.strip().isdigit():
                self.group = int(line)
            piece = rest
        if self._to is not None:
            self._to.write(piece)
        else:
            self.stdout += piece
        self._count(len(piece))

    def _count(self, size: int) -> None:
        self.written += size
        if self.written > self.max_output:
            self.overflow = True


def exit_of(channel: Channel) -> tuple[int | None, str | None]:
    """How the session's command ended: exit code and signal name; (None, None) if that never came (connection lost)."""
    name: str | None = getattr(channel, "exit_signal", None)
    if name is not None:
        number = getattr(signals, f"SIG{name}", None)
        return (128 + int(number) if number is not None else 255), name
    if channel.exit_status >= 0:
        return channel.exit_status, None
    return None, None
