"""tar as it streams by, with nothing copied that nobody asked for: the standard library's stream reader is slower than isal unpacks.

The headers themselves are read by `tarfile`; pax and GNU extensions are heeded as far as names and sizes go. Every size is checked
before it is believed; a checksum that does not fit ends the archive.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Final

from harness.triage.reading import Readable

MAX_HEADER: Final = 1 << 20
"""Bytes of an extended header; a larger one is an attempt to fill the memory."""
MAX_SIZE: Final = 1 << 46
_RECORD: Final = 512
_CHUNK: Final = 1 << 18


class TarDamage(Exception):
    """The archive ends here. Not for users: what reads it turns it into a note."""


class TarEntry:
    """One member. Reads its own bytes, never beyond; what is left is skipped when the next one is asked for.

    Attributes:
        name: As the archive says, not to be trusted.
        size: Bytes, as it says.
        kind: `file`, `folder`, `link`, `other`.
    """

    def __init__(self, name: str, size: int, kind: str, stream: Readable) -> None:
        self.name = name
        self.size = size
        self.kind = kind
        self._stream = stream
        self.left = size
        self.why = ""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; b"" at its end, or where the archive is cut off (`why` says so)."""
        if size < 0:
            pieces = []
            while piece := self.read(_CHUNK):
                pieces.append(piece)
            return b"".join(pieces)
        wanted = min(size, self.left)
        if wanted <= 0:
            return b""
        piece = self._stream.read(wanted)
        self.left -= len(piece)
        if not piece:
            self.why = f"cut off: {self.left:,} of its bytes are not there"
            self.left = -1
        return piece


class TarStream:
    """Iterates over the members of a tar.

    Raises:
        TarDamage: In the iteration, where it cannot go on.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.members = 0

    def __iter__(self) -> Iterator[TarEntry]:
        name = ""
        size = -1
        while True:
            header = self._exactly(_RECORD, end=True)
            if header is None or not header.strip(b"\0"):
                return
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            except (tarfile.HeaderError, ValueError) as error:
                raise TarDamage(f"no header after {self.members} members: {error}") from error
            if not 0 <= info.size <= MAX_SIZE:
                raise TarDamage(f"a member of {info.size:,} bytes")
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE):
                found = _pax(self._extension(info.size))
                if info.type != tarfile.XGLTYPE:
                    name = found.get("path", name)
                    claimed = found.get("size", "")
                    size = int(claimed) if claimed.isdigit() and len(claimed) < 15 else size
                continue
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                text = self._extension(info.size).rstrip(b"\0").decode("utf-8", "replace")
                name = text if info.type == tarfile.GNUTYPE_LONGNAME else name
                continue
            self.members += 1
            holds = (
                info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
            )  # a link or folder does not, whatever it says
            real = (size if size >= 0 else info.size) if holds else 0
            kind = "folder" if info.isdir() else "link" if info.islnk() or info.issym() else "file"
            if kind == "file" and (not info.isreg() or info.type == tarfile.GNUTYPE_SPARSE):
                kind = "other"
            entry = TarEntry(name or info.name, real, kind, self._stream)
            name, size = "", -1
            yield entry
            if entry.left < 0:
                raise TarDamage(f"cut off within member {self.members}")
            self._skip(entry.left + -real % _RECORD)

    def _extension(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise TarDamage(f"a header of {size:,} bytes")
        data = self._exactly(size + -size % _RECORD)
        return (data or b"")[:size]

    def _exactly(self, size: int, *, end: bool = False) -> bytes | None:
        piece = self._stream.read(size)
        while len(piece) < size:
            more = self._stream.read(size - len(piece))
            if not more:
                if end and not piece:
                    return None
                raise TarDamage(f"cut off after {self.members} members")
            piece += more
        return piece

    def _skip(self, size: int) -> None:
        read = self._stream.read
        while size > 0:
            piece = read(min(size, _CHUNK))
            if not piece:
                raise TarDamage(f"cut off after {self.members} members")
            size -= len(piece)


def _pax(data: bytes) -> dict[str, str]:
    """Records such as `27 path=…`; what is none ends it."""
    found: dict[str, str] = {}
    place = 0
    while place < len(data):
        blank = data.find(b" ", place, place + 12)
        if blank < 0 or not data[place:blank].isdigit():
            break
        length = int(data[place:blank])
        if length <= blank - place:
            break
        key, equals, value = data[blank + 1 : place + length].removesuffix(b"\n").partition(b"=")
        if equals and key in (b"path", b"size"):
            found[key.decode()] = value.decode("utf-8", "replace")
        place += length
    return found
