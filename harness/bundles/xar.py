"""xar archives, the container of flat packages: a header, a compressed XML table of contents, a heap.

Header: "xar!", u16 size, u16 version, u64 length of the table compressed, u64 uncompressed, u32 checksum kind.
Every file's data is an area of the heap with its own encoding and checksum.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO
from xml.etree import ElementTree

from harness.bundles.failures import BundleError
from harness.bundles.sink import CHUNK, is_host_fault
from harness.bundles.streams import XZ_MEMORY

MAX_TABLE = 64 * 1024 * 1024
MAX_FILES = 100_000
MAX_DEPTH = 32
MAX_MEMBER = 16 * 1024**3
_SPOOL = 16 * 1024 * 1024


@dataclass(frozen=True)
class XarFile:
    """One file: its path in the archive, and where its data lies in the heap."""

    name: str
    offset: int
    stored: int
    size: int
    encoding: str
    checksum: tuple[str, str]


class XarArchive:
    """A xar archive, open for reading; a context manager.

    Raises:
        BundleError: It is no xar archive, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: IO[bytes] = path.open("rb")
        except OSError as error:
            raise BundleError(f"a package at {path}", seen=str(error)) from error
        try:
            self._size = path.stat().st_size
            self.files = tuple(self._read_table())
        except (struct.error, zlib.error, ValueError, OSError) as error:
            self._file.close()
            raise self._bad(f"{type(error).__name__}: {error}") from error
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> XarArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def find(self, name: str) -> XarFile | None:
        """The file of that path."""
        return next((file for file in self.files if file.name == name), None)

    def open(self, file: XarFile) -> IO[bytes]:
        """A file's content, decoded and checked; large ones lie in a temporary file."""
        spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115 - the caller's
        try:
            self._fill(file, spool)
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            spool.close()
            if is_host_fault(error):
                raise
            raise self._bad(f"{file.name}: {type(error).__name__}: {error}") from error
        except BaseException:
            spool.close()
            raise
        spool.seek(0)
        return spool

    def _fill(self, file: XarFile, spool: IO[bytes]) -> None:
        checksum = hashlib.new(file.checksum[0], usedforsecurity=False) if file.checksum[0] else None
        size = 0
        for chunk in self._decoded(file):
            size += len(chunk)
            if size > file.size:
                raise self._bad(f"{file.name} is longer than the {file.size} bytes it should have")
            if checksum is not None:
                checksum.update(chunk)
            spool.write(chunk)
        if size != file.size:
            raise self._bad(f"{file.name} has {size} of {file.size} bytes")
        if checksum is not None and checksum.hexdigest() != file.checksum[1]:
            raise self._bad(f"the checksum of {file.name} is {checksum.hexdigest()}, not {file.checksum[1]}")

    def read(self, file: XarFile, limit: int) -> bytes:
        """A small file's content."""
        if file.size > limit:
            raise self._bad(f"{file.name} has {file.size} bytes")
        with self.open(file) as content:
            return content.read()

    def _decoded(self, file: XarFile) -> Iterator[bytes]:
        decode = _decoder(file.encoding)
        if decode is None:
            raise self._bad(f"{file.name} is encoded as {file.encoding}")
        self._file.seek(self._heap + file.offset)
        left = file.stored
        while left > 0:
            part = self._file.read(min(CHUNK, left))
            if not part:
                raise self._bad(f"{file.name} is cut off")
            left -= len(part)
            yield from decode(part)

    def _read_table(self) -> Iterator[XarFile]:
        magic, header, _, packed, length, _ = struct.unpack(">4sHHQQI", self._file.read(28))
        if magic != b"xar!" or header < 28 or length > MAX_TABLE or packed > self._size - header:
            raise self._bad(f"begins {magic!r}, its table of contents has {packed} bytes")
        self._heap = header + packed
        self._file.seek(header)
        table = zlib.decompressobj().decompress(self._file.read(packed), MAX_TABLE + 1)
        if len(table) > MAX_TABLE:
            raise self._bad("its table of contents never ends")
        toc = parse_xml(table, f"the table of contents of {self.path.name}").find("toc")
        if toc is None:
            raise self._bad("no table of contents")
        found = list(self._files(toc, "", 0))
        if len(found) > MAX_FILES:
            raise self._bad(f"{len(found)} files")
        yield from found

    def _files(self, parent: ElementTree.Element, folder: str, depth: int) -> Iterator[XarFile]:
        if depth > MAX_DEPTH:
            raise self._bad(f"folders {depth} deep")
        for element in parent.findall("file"):
            own = element.findtext("name") or ""
            if not own or "/" in own or own in (".", ".."):
                raise self._bad(f"a file named {own!r}")
            name = f"{folder}/{own}" if folder else own
            yield from self._files(element, name, depth + 1)
            data = element.find("data")
            if data is None or element.findtext("type") == "directory":
                continue
            offset, stored, size = (int(data.findtext(key) or "0") for key in ("offset", "length", "size"))
            if min(offset, stored, size) < 0 or self._heap + offset + stored > self._size or size > MAX_MEMBER:
                raise self._bad(f"{name} lies at {offset}–{offset + stored} of {self._size - self._heap} bytes")
            encoding = data.find("encoding")
            checksum = data.find("extracted-checksum")
            style = (checksum.get("style") or "").lower().replace("-", "") if checksum is not None else ""
            digest = (checksum.text or "").strip().lower() if checksum is not None else ""
            yield XarFile(
                name=name,
                offset=offset,
                stored=stored,
                size=size,
                encoding=(encoding.get("style") or "") if encoding is not None else "",
                checksum=(style, digest) if style in ("sha1", "sha256", "sha512", "md5") else ("", ""),
            )

    def _bad(self, seen: str) -> BundleError:
        return BundleError(
            f"{self.path.name} to be a whole package (xar archive)",
            seen=seen,
            hint="it is truncated or damaged: fetch it again",
        )


def parse_xml(data: bytes, what: str) -> ElementTree.Element:
    """Parse XML from an untrusted source: no document type, hence no entities of its own.

    Raises:
        BundleError: It is not XML, or has a document type.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise BundleError(f"{what} to be plain XML", seen="a document type of its own", hint="do not trust this file")
    try:
        return ElementTree.fromstring(data)  # noqa: S314 - entities are refused above
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BundleError(f"{what} to be XML", seen=str(error), hint="fetch it again") from error


class _Decoder:
    """Decodes piece by piece; a small piece may grow, so what comes out is given in pieces too."""

    def __init__(self, encoding: str) -> None:
        self._zlib = zlib.decompressobj() if "gzip" in encoding or "zlib" in encoding else None
        self._other: bz2.BZ2Decompressor | lzma.LZMADecompressor | None = None
        if "bzip2" in encoding:
            self._other = bz2.BZ2Decompressor()
        elif "lzma" in encoding or "xz" in encoding:
            self._other = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def __call__(self, part: bytes) -> Iterator[bytes]:
        if self._zlib is not None:
            while part:
                yield self._zlib.decompress(part, CHUNK)
                part = self._zlib.unconsumed_tail
        elif self._other is not None:
            yield self._other.decompress(part, CHUNK)
            while not self._other.eof and not self._other.needs_input:
                yield self._other.decompress(b"", CHUNK)
        else:
            yield part


def _decoder(encoding: str) -> _Decoder | None:
    known = ("", "application/octet-stream", "application/x-gzip", "application/x-bzip2", "application/x-lzma")
    return _Decoder(encoding) if encoding in (*known, "application/x-xz", "application/zlib") else None
