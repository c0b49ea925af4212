"""The guest agent's door (`control.sock`) that `tart exec` uses: frames of one type byte, four length bytes, payload.

Tart speaks gRPC over vsock here; what a user meets is the same: argv without a shell, streams, the exit code, and the
gRPC error when the agent is not there (vanilla images, or before the console login).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from harness.simulator.store import TartError

NO_AGENT = (
    "Failed to connect to the VM using its control socket: The operation couldn’t be completed. "
    "(GRPC.GRPCConnectionPoolError error 1.), is the Tart Guest Agent running?"
)
AGENT_PATH = "/bin:/usr/bin:/usr/sbin:/usr/local/bin:/opt/homebrew/bin"
_HEAD = struct.Struct(">cI")
MAX_FRAME = 1 << 20

Executor = Callable[[list[str], asyncio.StreamReader, Callable[[bytes, bytes], Awaitable[None]]], Awaitable[int]]
"""`await executor(argv, stdin, send)`; `send(kind, data)` with kind b"o" or b"e"."""


class AgentDoor:
    """The listening side, in the machine's process."""

    def __init__(self, folder: Path, execute: Executor) -> None:
        self._folder = folder
        self._execute = execute
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Bind `control.sock`; a stale one is replaced."""
        path = self._folder / "control.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A path relative to its folder, for the 104 bytes a socket's path may have
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir(self._folder)
            listener.bind("control.sock")
        finally:
            os.fchdir(here)
            os.close(here)
        listener.setblocking(False)  # noqa: FBT003 - the socket API
        self._server = await asyncio.start_unix_server(self._accept, sock=listener)

    async def close(self) -> None:
        """Stop listening, end what runs, remove the socket."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        (self._folder / "control.sock").unlink(missing_ok=True)

    def drop(self) -> None:
        """End what runs (a guest that goes down)."""
        for task in tuple(self._tasks):
            task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stdin = asyncio.StreamReader()

        async def send(kind: bytes, data: bytes) -> None:
            for start in range(0, len(data), 65536):
                chunk = data[start : start + 65536]
                writer.write(_HEAD.pack(kind, len(chunk)) + chunk)
            await writer.drain()

        async def feed() -> None:
            while True:
                kind, data = await read_frame(reader)
                if kind == b"i" and data:
                    stdin.feed_data(data)
                else:
                    stdin.feed_eof()
                    return

        try:
            _, data = await read_frame(reader)
            argv = json.loads(data)
            feeder = asyncio.get_running_loop().create_task(feed())
            try:
                code = await self._execute([str(word) for word in argv], stdin, send)
            finally:
                feeder.cancel()
            writer.write(_HEAD.pack(b"x", 4) + struct.pack(">i", code))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            return
        finally:
            writer.close()


async def read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One frame.

    Raises:
        ValueError: It is longer than any we send.
    """
    kind, size = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    if size > MAX_FRAME:
        raise ValueError("frame too long")
    return kind, await reader.readexactly(size)


def call_agent(folder: Path, argv: Sequence[str], *, interactive: bool) -> int:
    """Run a command through the agent; returns its exit code (255 where a signal ended it).

    Raises:
        TartError: The agent does not answer, or there is no such executable.
    """
    if not (folder / "sim/agent-up").exists():
        raise TartError(NO_AGENT)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    here = Path.cwd()
    try:
        os.chdir(folder)
        connection.connect("control.sock")
    except OSError:
        raise TartError(NO_AGENT) from None
    finally:
        os.chdir(here)
    with connection:
        payload = json.dumps(list(argv)).encode()
        connection.sendall(_HEAD.pack(b"c", len(payload)) + payload)
        if interactive:
            threading.Thread(target=_pump_stdin, args=(connection,), daemon=True).start()
        else:
            with contextlib.suppress(OSError):  # it may have ended by now
                connection.sendall(_HEAD.pack(b"i", 0))
        stream = connection.makefile("rb")
        while True:
            head = stream.read(_HEAD.size)
            if len(head) < _HEAD.size:
                raise TartError("Error: unavailable (14): connection to the guest agent was lost")
            kind, size = _HEAD.unpack(head)
            data = stream.read(size)
            if kind == b"x":
                code: int = struct.unpack(">i", data)[0]
                return code if 0 <= code <= 255 else 255
            if kind == b"!":
                raise TartError(data.decode(errors="replace"))
            target = sys.stdout if kind == b"o" else sys.stderr
            target.buffer.write(data)
            target.buffer.flush()


def _pump_stdin(connection: socket.socket) -> None:
    try:
        while True:
            data = os.read(0, 65536)
            connection.sendall(_HEAD.pack(b"i", len(data)) + data)
            if not data:
                return
    except OSError:
        return
