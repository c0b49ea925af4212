"""Reading and writing one SFTP file with many requests in flight.

paramiko's own ways are not used for this: its prefetch thread spins for ever when the connection breaks, and its pipelined
writes lose the status of the last requests, which is where a full disk shows. Its request and response functions are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.sftp import CMD_DATA, CMD_READ, CMD_STATUS, CMD_WRITE, SFTPError, int64

if TYPE_CHECKING:
    from paramiko.message import Message

REQUEST = 255 << 10
"""Bytes a request: OpenSSH's sftp-server takes and gives at most 261,120 (its `limits@openssh.com`)."""
IN_FLIGHT = 12
"""Requests under way: 3 MiB, which bounds the memory too. More cost time (see `connection.WINDOW`)."""


class _Requests:
    def __init__(self, client: paramiko.SFTPClient, file: paramiko.SFTPFile, arm: Callable[[], None]) -> None:
        self.client: Any = client
        self.handle: Any = file.handle
        self.arm = arm
        self.sent: dict[int, tuple[int, int]] = {}
        self.came: dict[int, bytes] = {}
        self.ends: set[int] = set()

    def ask(self, kind: int, offset: int, payload: bytes | int, size: int) -> None:
        # Answers are only ever read by `collect`, in this very thread: so the number is known in time.
        number = self.client._async_request(self, kind, self.handle, int64(offset), payload)
        self.sent[number] = (offset, size)

    def collect(self) -> None:
        self.arm()
        self.client._read_response()

    def _async_response(self, kind: int, message: Message, number: int) -> None:
        offset, size = self.sent.pop(number)
        if kind == CMD_STATUS:
            try:
                self.client._convert_status(message)
            except EOFError:
                self.ends.add(offset)
            return
        if kind != CMD_DATA:
            raise SFTPError(f"packet type {kind} where data was expected")
        data = message.get_string()
        if len(data) > size:
            raise SFTPError(f"{len(data)} bytes where {size} were asked for")
        self.came[offset] = data


def write_pieces(
    client: paramiko.SFTPClient,
    file: paramiko.SFTPFile,
    pieces: Iterable[tuple[int, bytes]],
    arm: Callable[[], None],
) -> None:
    """Write (offset, bytes) pieces; returns once the server has confirmed every one.

    Args:
        client: The session.
        file: Open for writing.
        pieces: At most `REQUEST` bytes each.
        arm: Called before each wait: sets the session's time limit, or raises.

    Raises:
        OSError: The server refused a piece (a full disk is its general "Failure").
    """
    requests = _Requests(client, file, arm)
    for offset, data in pieces:
        arm()
        requests.ask(CMD_WRITE, offset, data, len(data))
        while len(requests.sent) >= IN_FLIGHT:
            requests.collect()
    while requests.sent:
        requests.collect()


def read_pieces(
    client: paramiko.SFTPClient,
    file: paramiko.SFTPFile,
    start: int,
    end: int,
    take: Callable[[bytes], object],
    arm: Callable[[], None],
) -> int:
    """Read from `start` up to `end`, in order, each piece given to `take`; returns where it stopped (the file's end may
    come first). A server may answer with fewer bytes than asked for (SFTP 3): the rest is asked for again.
    """
    requests = _Requests(client, file, arm)
    queue: deque[tuple[int, int]] = deque()
    position = next_ask = start
    while True:
        while next_ask < end and len(queue) < IN_FLIGHT:
            size = min(REQUEST, end - next_ask)
            requests.ask(CMD_READ, next_ask, size, size)
            queue.append((next_ask, size))
            next_ask += size
        if not queue:
            return position
        offset, size = queue.popleft()
        while offset not in requests.came and offset not in requests.ends:
            requests.collect()
        data = requests.came.pop(offset, b"")
        if not data:
            return position
        take(data)
        position = offset + len(data)
        if len(data) < size:
            requests.ask(CMD_READ, position, size - len(data), size - len(data))
            queue.appendleft((position, size - len(data)))
