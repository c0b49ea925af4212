"""A small VNC server for tests: a listener that hands each client to a function, and what clients say, message by message."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from benchmarks import rfb_words as words

Serve = Callable[[socket.socket], None]
_LENGTHS = {0: 20, 3: 10, 4: 8, 5: 6}


@contextlib.contextmanager
def listening(serve: Serve) -> Iterator[int]:
    """Serve one client after the other on a free loopback port, in a thread; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.settimeout(20)
                with client, contextlib.suppress(OSError):
                    serve(client)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)


def says(*streams: bytes) -> Serve:
    """Say each in turn to one client after the other, the last to all that follow; then wait for them to leave."""
    left = list(streams)

    def serve(client: socket.socket) -> None:
        client.sendall(left.pop(0) if len(left) > 1 else left[0])
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass

    return serve


def read(client: socket.socket, count: int) -> bytes:
    """Exactly so many bytes.

    Raises:
        ConnectionError: The client left.
    """
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


def greet(client: socket.socket, width: int, height: int) -> None:
    """Let a client in without a password; it has then said everything up to ClientInit."""
    client.sendall(b"RFB 003.008\n")
    read(client, 12)
    client.sendall(b"\x01\x01")
    read(client, 1)
    client.sendall(bytes(4))
    read(client, 1)
    client.sendall(words.server_init(width, height))


def messages(client: socket.socket) -> Iterator[bytes]:
    """What the client says from then on, until it leaves."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while True:
            kind = read(client, 1)
            if kind[0] == 2:
                head = read(client, 3)
                yield kind + head + read(client, 4 * struct.unpack(">xH", head)[0])
            else:
                yield kind + read(client, _LENGTHS[kind[0]] - 1)


def wants(message: bytes) -> str:
    """One of `everything`, `changes`; nothing for what is no request."""
    return "" if message[0] != 3 else "changes" if message[1] else "everything"
