"""Streams between simulated commands: pipes with back-pressure, files as streams."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from harness.simulator.interfaces import Disk

CHUNK = 256 * 1024
LIMIT = 256 * 1024
Writer = Callable[[bytes], Awaitable[None]]


class _Valve(asyncio.ReadTransport):
    """What a StreamReader pauses when it is full, and resumes when it was read from."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()

    def pause_reading(self) -> None:
        self.open.clear()

    def resume_reading(self) -> None:
        self.open.set()


class Pipe:
    """`reader` is a StreamReader; `write` waits while it is full and raises BrokenPipeError once nobody reads."""

    def __init__(self) -> None:
        self._valve = _Valve()
        self.reader = asyncio.StreamReader(limit=LIMIT)
        self.reader.set_transport(self._valve)
        self._broken = False

    async def write(self, data: bytes) -> None:
        """Put data in."""
        if self._broken:
            raise BrokenPipeError
        if data:
            self.reader.feed_data(data)
        if not self._valve.open.is_set():
            await self._valve.open.wait()
            if self._broken:
                raise BrokenPipeError

    def close(self) -> None:
        """The writing end is closed."""
        self.reader.feed_eof()

    def abandon(self) -> None:
        """The reading end is closed."""
        self._broken = True
        self._valve.open.set()


def reader_of(data: bytes) -> asyncio.StreamReader:
    """Bytes as a stream."""
    reader = asyncio.StreamReader(limit=LIMIT)
    reader.feed_data(data)
    reader.feed_eof()
    return reader


def file_reader(path: Path) -> tuple[asyncio.StreamReader, asyncio.Task[None] | None]:
    """A file as a stream; for a big one a task feeds it, which the caller cancels when done.

    Raises:
        OSError: It cannot be opened.
    """
    file = path.open("rb", buffering=0)
    if os.fstat(file.fileno()).st_size <= CHUNK:
        with file:
            return reader_of(file.read()), None
    pipe = Pipe()

    async def feed() -> None:
        with file:
            while data := file.read(CHUNK):
                await pipe.write(data)
        pipe.close()

    return pipe.reader, asyncio.get_running_loop().create_task(feed())


def file_writer(disk: Disk, file: BinaryIO) -> Writer:
    """A writer into an open, unbuffered file that a full disk refuses."""

    async def write(data: bytes) -> None:
        note_write(disk, len(data))
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        if len(data) >= CHUNK:
            await asyncio.sleep(0)

    return write


def note_write(disk: Disk, count: int) -> None:
    """Tell the disk that so many bytes are about to be written.

    Raises:
        OSError: ENOSPC.
    """
    wrote = getattr(disk, "wrote", None)
    if wrote is not None:
        wrote(count)
    elif disk.full:
        raise OSError(28, os.strerror(28))


async def nowhere(data: bytes) -> None:
    """/dev/null."""


async def closed(data: bytes) -> None:  # noqa: ARG001 - a Writer
    """A stream that was closed (`>&-`)."""
    raise OSError(9, os.strerror(9))


async def copy(reader: asyncio.StreamReader, write: Writer) -> None:
    """Everything from a stream to a writer."""
    while data := await reader.read(CHUNK):
        await write(data)
