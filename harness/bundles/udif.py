"""The blocks of a disk image: UDIF (`.dmg` as hdiutil makes it: pieces raw, zero, zlib, bzip2, xz or ADC) or plain.

UDIF: a 512-byte trailer "koly" at the end names an XML property list; its `blkx` tables ("mish") say for each run of
sectors where its piece lies and how it is compressed. All numbers are big-endian.
"""

from __future__ import annotations

import bz2
import itertools
import lzma
import struct
import zlib
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from harness.bundles.failures import BundleError
from harness.bundles.streams import XZ_MEMORY
from harness.formats.failures import FormatError
from harness.formats.plists import load_plist

SECTOR = 512
MAX_RUNS = 4_000_000
MAX_PIECE = 64 * 1024 * 1024
MAX_LIST = 64 * 1024 * 1024
_CACHED = 8
_ZERO, _RAW, _IGNORE = 0, 1, 2
_ADC, _ZLIB, _BZIP2, _LZFSE, _LZMA = 0x80000004, 0x80000005, 0x80000006, 0x80000007, 0x80000008
_COMMENT, _END = 0x7FFFFFFE, 0xFFFFFFFF


class Disk(Protocol):
    """A disk: bytes by address."""

    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises:
            BundleError: The disk ends before.
        """


class PlainDisk:
    """A disk that lies in a file as it is."""

    def __init__(self, file: IO[bytes], size: int, name: str) -> None:
        self._file = file
        self.size = size
        self._name = name

    def read(self, offset: int, size: int) -> bytes:
        """See `Disk`."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise damaged(self._name, f"bytes {offset}–{offset + size} of {self.size} are asked for")
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise damaged(self._name, f"it ends at {offset + len(data)}")
        return data


@dataclass(frozen=True, order=True)
class _Run:
    start: int  # bytes, in the disk
    size: int
    kind: int
    offset: int  # bytes, in the file
    stored: int


class UdifDisk:
    """A UDIF image's disk. Decompressed pieces are kept while they are being read, a few at a time."""

    def __init__(self, file: IO[bytes], size: int, name: str) -> None:
        self._file = file
        self._length = size
        self._name = name
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self.starts: list[int] = []
        """Where the image's partitions begin, in bytes."""
        try:
            self._runs = self._read_runs()
        except struct.error as error:
            raise damaged(name, str(error)) from error
        self._begins = [run.start for run in self._runs]
        self.size = self._runs[-1].start + self._runs[-1].size if self._runs else 0

    def read(self, offset: int, size: int) -> bytes:
        """See `Disk`."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise damaged(self._name, f"bytes {offset}–{offset + size} of {self.size} are asked for")
        parts = []
        while size > 0:
            index = bisect_right(self._begins, offset) - 1
            run = self._runs[index] if index >= 0 else None
            if run is None or offset >= run.start + run.size:
                # A gap between runs reads as zeros.
                end = self._begins[index + 1] if index + 1 < len(self._begins) else self.size
                take = min(size, end - offset)
                parts.append(bytes(take))
            else:
                at = offset - run.start
                take = min(size, run.size - at)
                parts.append(self._piece(index, run, at, take))
            offset += take
            size -= take
        return b"".join(parts)

    def _piece(self, index: int, run: _Run, at: int, size: int) -> bytes:
        if run.kind in (_ZERO, _IGNORE):
            return bytes(size)
        if run.kind == _RAW:
            if at + size > run.stored:
                raise damaged(self._name, f"a raw piece of {run.stored} bytes for {run.size}")
            self._file.seek(run.offset + at)
            data = self._file.read(size)
            if len(data) != size:
                raise damaged(self._name, "a piece is cut off")
            return data
        whole = self._cache.get(index)
        if whole is None:
            whole = self._decompress(run)
            self._cache[index] = whole
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return whole[at : at + size]

    def _decompress(self, run: _Run) -> bytes:
        self._file.seek(run.offset)
        packed = self._file.read(run.stored)
        limit = run.size + 1
        try:
            if run.kind == _ZLIB:
                data = zlib.decompressobj().decompress(packed, limit)
            elif run.kind == _BZIP2:
                data = bz2.BZ2Decompressor().decompress(packed, limit)
            elif run.kind == _LZMA:
                data = lzma.LZMADecompressor(memlimit=XZ_MEMORY).decompress(packed, limit)
            else:
                data = decompress_adc(packed, limit)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise damaged(self._name, f"a piece at {run.offset}: {type(error).__name__}: {error}") from error
        if len(data) != run.size:
            raise damaged(self._name, f"a piece at {run.offset} gives {len(data)} bytes for {run.size}")
        return data

    def _read_runs(self) -> list[_Run]:
        self._file.seek(self._length - 512)
        trailer = self._file.read(512)
        magic, _, header = struct.unpack(">4sII", trailer[:12])
        fork, fork_length = struct.unpack(">QQ", trailer[24:40])
        segments = struct.unpack(">I", trailer[60:64])[0]
        at, length = struct.unpack(">QQ", trailer[216:232])
        if magic != b"koly" or header != 512:
            raise damaged(self._name, "no UDIF trailer")
        if segments > 1:
            raise damaged(self._name, f"it is one of {segments} segments")
        if not 0 < length <= MAX_LIST or at + length > self._length or fork + fork_length > self._length:
            raise damaged(self._name, f"its table lies at {at}–{at + length} of {self._length} bytes")
        self._file.seek(at)
        try:
            plist = load_plist(self._file.read(length), f"the block table of {self._name}")
        except FormatError as error:
            raise damaged(self._name, error.seen) from error
        resources = plist.get("resource-fork")
        tables = resources.get("blkx") if isinstance(resources, dict) else None
        runs: list[_Run] = []
        for table in tables if isinstance(tables, list) else []:
            data = table.get("Data") if isinstance(table, dict) else None
            if isinstance(data, bytes):
                self._table(data, fork, runs)
        runs.sort()
        for before, after in itertools.pairwise(runs):
            if before.start + before.size > after.start:
                raise damaged(self._name, f"two pieces for the bytes at {after.start}")
        if not runs:
            raise damaged(self._name, "no pieces")
        return runs

    def _table(self, data: bytes, fork: int, runs: list[_Run]) -> None:
        magic, _, first, _, base = struct.unpack(">4sIQQQ", data[:32])
        (count,) = struct.unpack(">I", data[200:204])
        if magic != b"mish" or 204 + count * 40 > len(data) or len(runs) + count > MAX_RUNS:
            raise damaged(self._name, f"a table that begins {magic!r} with {count} pieces")
        self.starts.append(first * SECTOR)
        for index in range(count):
            kind, _, start, sectors, offset, stored = struct.unpack(
                ">IIQQQQ", data[204 + index * 40 : 244 + index * 40]
            )
            if kind == _END:
                break
            if kind == _COMMENT or not sectors:
                continue
            if kind == _LZFSE:
                raise BundleError(
                    f"a disk image that can be read on this host: {self._name}",
                    seen="it is compressed with LZFSE",
                    hint=f"convert it on a Mac: hdiutil convert {self._name} -format UDZO -o NEW.dmg",
                )
            if kind not in (_ZERO, _RAW, _IGNORE, _ADC, _ZLIB, _BZIP2, _LZMA):
                raise damaged(self._name, f"a piece of kind {kind:08x}")
            packed = kind not in (_ZERO, _RAW, _IGNORE)
            if sectors > (1 << 40) or (packed and sectors * SECTOR > MAX_PIECE) or stored > self._length:
                raise damaged(self._name, f"a piece of {sectors} sectors, {stored} bytes stored")
            where = fork + base + offset
            if kind not in (_ZERO, _IGNORE) and where + stored > self._length:
                raise damaged(self._name, f"a piece at {where}–{where + stored} of {self._length} bytes")
            runs.append(_Run((first + start) * SECTOR, sectors * SECTOR, kind, where, stored))


class OpenDisk:
    """The disk in an image file; a context manager."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise BundleError(f"a disk image at {path}", seen=str(error)) from error
        try:
            size = self._file.seek(0, 2)
            self._file.seek(0)
            head = self._file.read(8)
            self._file.seek(max(0, size - 512))
            tail = self._file.read(512)
            if head == b"encrcdsa" or tail[-8:] == b"cdsaencr":
                raise BundleError(f"a disk image without a password: {path.name}", seen="it is encrypted")
            self.disk: UdifDisk | PlainDisk
            if tail[:4] == b"koly":
                self.disk = UdifDisk(self._file, size, path.name)
            else:
                self.disk = PlainDisk(self._file, size, path.name)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> UdifDisk | PlainDisk:
        return self.disk

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def decompress_adc(packed: bytes, limit: int) -> bytes:
    """Apple Data Compression: runs of plain bytes, and copies of what came before (two lengths).

    Raises:
        ValueError: A copy from before the beginning, or the data ends too early.
    """
    out = bytearray()
    at = 0
    while at < len(packed) and len(out) < limit:
        code = packed[at]
        if code & 0x80:
            length = (code & 0x7F) + 1
            out += packed[at + 1 : at + 1 + length]
            at += 1 + length
            continue
        if code & 0x40:
            if at + 3 > len(packed):
                raise ValueError("cut off")
            length, back, at = (code & 0x3F) + 4, (packed[at + 1] << 8 | packed[at + 2]) + 1, at + 3
        else:
            if at + 2 > len(packed):
                raise ValueError("cut off")
            length, back, at = (code >> 2 & 0xF) + 3, ((code & 3) << 8 | packed[at + 1]) + 1, at + 2
        if back > len(out):
            raise ValueError(f"a copy from {back} before {len(out)}")
        for _ in range(length):
            out.append(out[-back])
    return bytes(out[:limit])


def damaged(name: str, seen: str) -> BundleError:
    """The error for an image that is not whole."""
    return BundleError(f"{name} to be a whole disk image", seen=seen, hint="it is truncated or damaged: fetch it again")
