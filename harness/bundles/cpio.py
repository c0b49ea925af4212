"""cpio archives, old portable (odc, what packages use) and new (newc), streamed; and the layers they are compressed in:
gzip, bzip2, xz, or Apple's pbzx (xz blocks of 16 MB).
"""

from __future__ import annotations

import io
import lzma
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

from harness.bundles.failures import BundleError
from harness.bundles.sink import Readable, Sink, chunks_of, is_host_fault
from harness.bundles.streams import XZ_MAGIC, XZ_MEMORY, decompressed

MAX_NAME = 4096
MAX_ENTRIES = 1_000_000
MAX_BLOCK = 64 * 1024 * 1024
MAX_TOTAL = 32 * 1024**3
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class CpioEntry:
    """One entry's header."""

    name: str
    mode: int
    size: int
    inode: tuple[int, int]
    links: int


class _Pbzx(io.RawIOBase):
    """Apple's pbzx: "pbzx", u64 flags, then (u64 flags, u64 length, block) while the flags' bit 24 is set."""

    def __init__(self, source: IO[bytes], name: str) -> None:
        super().__init__()
        self._source = source
        self._name = name
        self._rest = b""
        head = source.read(12)
        (self._flags,) = struct.unpack(">Q", head[4:12]) if len(head) == 12 else (0,)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest and self._flags & (1 << 24):
            self._rest = self._block()
        data = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(data) :]
        return data

    def _block(self) -> bytes:
        head = self._source.read(16)
        if len(head) < 16:
            self._flags = 0
            return b""
        self._flags, length = struct.unpack(">QQ", head)
        if length > MAX_BLOCK:
            raise BundleError(f"sensible blocks in {self._name}", seen=f"one of {length} bytes")
        block = self._source.read(length)
        if len(block) < length:
            raise BundleError(f"the whole payload of {self._name}", seen=f"{length - len(block)} bytes are missing")
        if not block.startswith(XZ_MAGIC):
            return block
        decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
        data = decompressor.decompress(block, MAX_BLOCK + 1)
        if len(data) > MAX_BLOCK:
            raise BundleError(f"sensible blocks in {self._name}", seen=f"one that grows beyond {MAX_BLOCK} bytes")
        return data


def decompressed_payload(source: IO[bytes], name: str) -> Readable:
    """A payload's content, by its first bytes; `source` must be seekable."""
    head = source.read(4)
    source.seek(0)
    return cast("Readable", _Pbzx(source, name)) if head == b"pbzx" else decompressed(source)


def list_cpio(source: IO[bytes], name: str) -> Iterator[CpioEntry]:
    """The entries' headers, without the trailer.

    Raises:
        BundleError: It is damaged.
    """
    stream = decompressed_payload(source, name)
    total = 0
    try:
        for entry, padding in _entries(stream, name):
            yield entry
            _skip(stream, entry.size + padding)
            total += entry.size
            if total > MAX_TOTAL:
                raise _damaged(name, f"more than {MAX_TOTAL} bytes of content")
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        if is_host_fault(error):
            raise
        raise _damaged(name, f"{type(error).__name__}: {error}") from error


def extract_cpio(source: IO[bytes], sink: Sink, below: str) -> None:
    """Write an archive's content into `sink`, below the folder `below` ("" for its root).

    Raises:
        BundleError: It is damaged or hostile.
    """
    name = sink.what
    stream = decompressed_payload(source, name)
    first: dict[tuple[int, int], str] = {}
    waiting: dict[tuple[int, int], list[str]] = {}
    try:
        for entry, padding in _entries(stream, name):
            path = f"{below}/{entry.name.removeprefix('./')}".strip("/") if below else entry.name
            kind = stat.S_IFMT(entry.mode)
            if kind == stat.S_IFDIR:
                sink.directory(path, entry.mode)
            elif kind == stat.S_IFLNK:
                if entry.size > MAX_NAME:
                    raise _damaged(name, f"a link target of {entry.size} bytes")
                target = b"".join(chunks_of(stream, entry.size)).decode("utf-8", "replace")
                sink.symlink(path, target)
            elif kind in (stat.S_IFREG, 0):
                _file(stream, entry, path, sink, first, waiting)
            else:
                raise BundleError(f"files, folders and links in {name}", seen=f"{entry.name} is neither")
            _skip(stream, padding + (entry.size if kind == stat.S_IFDIR else 0))
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        if is_host_fault(error):
            raise
        raise _damaged(name, f"{type(error).__name__}: {error}") from error


def _file(
    stream: Readable,
    entry: CpioEntry,
    path: str,
    sink: Sink,
    first: dict[tuple[int, int], str],
    waiting: dict[tuple[int, int], list[str]],
) -> None:
    """A file; of a hard-linked one the data may come with each name (odc) or with the last only (newc)."""
    shared = entry.links > 1
    if shared and entry.inode in first and not entry.size:
        sink.hardlink(path, first[entry.inode])
        return
    sink.file(path, entry.mode, chunks_of(stream, entry.size))
    if not shared:
        return
    if not entry.size:
        waiting.setdefault(entry.inode, []).append(path)
        return
    first[entry.inode] = path
    for earlier in waiting.pop(entry.inode, []):
        sink.hardlink(earlier, path)


def _entries(stream: Readable, name: str) -> Iterator[tuple[CpioEntry, int]]:
    for _ in range(MAX_ENTRIES):
        magic = _exactly(stream, 6, name)
        if magic == b"070707":
            entry, padding = _odc(stream, name), 0
        elif magic in (b"070701", b"070702"):
            entry, padding = _newc(stream, name)
        else:
            raise _damaged(name, f"an entry that begins {magic!r}")
        if entry.name == _TRAILER:
            return
        yield entry, padding
    raise _damaged(name, f"more than {MAX_ENTRIES} entries")


def _odc(stream: Readable, name: str) -> CpioEntry:
    head = _exactly(stream, 70, name)
    device, inode, mode, _, _, links, _ = (int(head[at : at + 6], 8) for at in range(0, 42, 6))
    length, size = int(head[53:59], 8), int(head[59:70], 8)
    return CpioEntry(_title(stream, length, name), mode, size, (device, inode), links)


def _newc(stream: Readable, name: str) -> tuple[CpioEntry, int]:
    head = _exactly(stream, 104, name)
    inode, mode, _, _, links, _, size, major, minor, _, _, length, _ = (
        int(head[at : at + 8], 16) for at in range(0, 104, 8)
    )
    title = _title(stream, length, name)
    _exactly(stream, -(110 + length) % 4, name)
    return CpioEntry(title, mode, size, (major << 32 | minor, inode), links), -size % 4


def _title(stream: Readable, length: int, name: str) -> str:
    if not 0 < length <= MAX_NAME:
        raise _damaged(name, f"a name of {length} bytes")
    return _exactly(stream, length, name).rstrip(b"\0").decode("utf-8", "surrogateescape")


def _exactly(stream: Readable, size: int, name: str) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.read(size - len(data))
        if not part:
            raise _damaged(name, "it ends in the middle of an entry")
        data += part
    return data


def _skip(stream: Readable, size: int) -> None:
    for _ in chunks_of(stream, size):
        pass


def _damaged(name: str, seen: str) -> BundleError:
    return BundleError(f"a whole cpio archive in {name}", seen=seen, hint="it is truncated or damaged: fetch it again")
