"""Archives, read as they stream by: one pass, nothing unpacked to disk, nothing trusted.

What an archive says about itself is not believed: names that lead out of it, links, devices and archives within it are
refused with a note; sizes are what is read, not what is claimed; what unpacks beyond its limit ends there.

Limits: `RATIO` times the packed size, at least `LEAST` and at most `MOST` bytes unpacked; `MAX_MEMBERS` members; a document
of `MAX_DOCUMENT` bytes, a log of what is left of the whole.
"""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from isal import igzip, isal_zlib

from harness.formats import FormatError
from harness.formats.records import Coverage
from harness.triage.reading import Readable
from harness.triage.tars import TarDamage, TarStream

RATIO: Final = 200
LEAST: Final = 4 << 30
MOST: Final = 64 << 30
MAX_MEMBERS: Final = 300_000
MAX_DOCUMENT: Final = 32 << 20
MAX_NAME: Final = 1024
_CHUNK: Final = 1 << 20
DAMAGE: Final[tuple[type[Exception], ...]] = (
    EOFError,
    OSError,
    zlib.error,
    cast("type[Exception]", isal_zlib.error),
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # zipfile: a method it does not know
    RuntimeError,  # zipfile: encrypted
    ValueError,
    UnicodeError,
)
"""Everything by which a damaged archive shows."""


class Bounded:
    """A stream that ends at a limit, or where it is damaged, without raising.

    Attributes:
        size: Bytes given out.
        why: Why it ended before its end; "" if it did not.
    """

    def __init__(self, stream: Readable, limit: int, head: bytes = b"") -> None:
        self._stream = stream
        self._limit = limit
        self._head = head
        self.size = 0
        self.why = ""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; b"" once it is over. -1: all that there is within the limit."""
        if size < 0:
            pieces = []
            while piece := self.read(_CHUNK):
                pieces.append(piece)
            return b"".join(pieces)
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            self.size += len(piece)
            return piece
        if self.why:
            return b""
        try:
            piece = self._stream.read(size)
        except DAMAGE as error:
            self.why = f"damaged or cut off ({type(error).__name__}: {str(error)[:120] or 'no more data'})"
            return b""
        if self.size + len(piece) > self._limit:
            piece = piece[: self._limit - self.size]
            self.why = f"more than {self._limit:,} bytes: what is beyond was not read"
        self.size += len(piece)
        return piece

    def seekable(self) -> bool:
        """No."""
        return False


@dataclass
class Member:
    """One file of an archive. `stream` is to be read before the next member is asked for."""

    name: str
    size: int
    stream: Readable


class _Joined:
    """The beginning that was read to look at it, and then the rest."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            if size < 0:
                piece, self._head = self._head, b""
                return piece + self._stream.read(-1)
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._stream.read(size)

    def readinto(self, buffer: Any, /) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        return None


def unpacked(kind: str, stream: Readable, head: bytes, packed: int | None) -> Bounded:
    """The stream that a `gzip`, `bzip2` or `xz` one holds, bounded.

    Args:
        kind: As `detect.sniff` names it.
        stream: The packed bytes behind `head`.
        head: What was read already.
        packed: Size of the whole, if it is known.
    """
    source = _Joined(head, stream)
    opened: Any
    if kind == "gzip":
        opened = cast("Any", igzip).IGzipFile(fileobj=cast("BinaryIO", source), mode="rb")
    elif kind == "bzip2":
        opened = bz2.BZ2File(cast("BinaryIO", source))
    else:
        opened = lzma.LZMAFile(cast("BinaryIO", source))  # noqa: SIM115 - it ends with its source
    limit = MOST if packed is None else min(MOST, max(LEAST, packed * RATIO))
    return Bounded(opened, limit)


def tar_members(stream: Readable, coverage: Coverage) -> Iterator[Member]:
    """The files of a tar that streams by. Never raises for what is in it: damage ends it, with a note."""
    archive = TarStream(stream)
    try:
        for entry in archive:
            if archive.members > MAX_MEMBERS:
                coverage.truncated = True
                coverage.note(f"more than {MAX_MEMBERS} members: the rest was not read")
                return
            name, wrong = checked_name(entry.name)
            if entry.kind == "folder":
                continue
            if entry.kind != "file":
                wrong = wrong or ("a link" if entry.kind == "link" else "no regular file")
            if wrong:
                if wrong != "AppleDouble":
                    coverage.skip(name, wrong)
                continue
            yield Member(name, entry.size, entry)
    except TarDamage as error:
        coverage.truncated = True
        coverage.note(f"the tar ends early: {error}")


def tar_names(head: bytes) -> list[str]:
    """The names of the members that a tar's beginning shows, at most ten."""
    names: list[str] = []
    try:
        for entry in TarStream(io.BytesIO(head)):
            names.append(checked_name(entry.name)[0] + ("/" if entry.kind == "folder" else ""))
            if len(names) == 10:
                break
    except TarDamage:  # it is cut off: that is its nature
        pass
    return names


def opened_zip(source: Path | BinaryIO, name: str) -> zipfile.ZipFile:
    """A zip's table of contents.

    Raises:
        FormatError: It has none: a zip is read from its end, and that is not there.
    """
    try:
        return zipfile.ZipFile(source)
    except DAMAGE as error:
        raise FormatError(f"a whole zip in {name}", seen=str(error)[:200], hint="copy it once more") from error


def zip_members(archive: zipfile.ZipFile, coverage: Coverage) -> Iterator[Member]:
    """The files of a zip. Never raises for what is in it."""
    infos = archive.infolist()
    packed = sum(info.compress_size for info in infos[:MAX_MEMBERS])
    left = min(MOST, max(LEAST, packed * RATIO))
    with archive:
        for count, info in enumerate(infos):
            if count >= MAX_MEMBERS:
                coverage.truncated = True
                coverage.note(f"more than {MAX_MEMBERS} members: the rest was not read")
                return
            name, wrong = checked_name(info.filename)
            if info.filename.endswith("/") or name.startswith("__MACOSX/"):
                continue
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                wrong = wrong or "a link"
            if info.flag_bits & 1:
                wrong = wrong or "encrypted"
            if left <= 0:
                wrong = wrong or "the archive unpacks to more than its limit"
            if wrong:
                coverage.skip(name, wrong)
                continue
            try:
                with archive.open(info) as file:
                    bounded = Bounded(file, left)
                    yield Member(name, info.file_size, bounded)
                    left -= bounded.size
                    if bounded.why:
                        coverage.truncated = True
                        coverage.note(f"{name}: {bounded.why}")
            except DAMAGE as error:
                coverage.truncated = True
                coverage.note(f"{name}: {str(error)[:200]}")


def checked_name(name: str) -> tuple[str, str]:
    """A member's name made safe to show, and why it is refused ("" if it is not)."""
    shown = "".join(char if char.isprintable() else "�" for char in name[:MAX_NAME]).replace("\\", "/")
    parts = [part for part in shown.split("/") if part not in ("", ".")]
    if len(name) > MAX_NAME:
        return shown, "a name that long"
    if name.startswith("/") or ".." in parts:
        return shown, "a name that leads out of the archive"
    if not parts:
        return shown, "no name"
    if parts[-1].startswith("._"):
        return "/".join(parts), "AppleDouble"
    return "/".join(parts), ""
