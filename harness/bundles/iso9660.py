"""ISO 9660 volumes with Rock Ridge, read only: what disk images made on Linux hold, and hybrid images.

ECMA-119 for the volume, IEEE P1282 (Rock Ridge: PX permissions, NM names, SL links) over SUSP.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.bundles.sink import CHUNK, Sink
from harness.bundles.udif import Disk, damaged

BLOCK = 2048
MAX_FOLDER = 64 * 1024 * 1024
MAX_AREAS = 32
_HEAD = 16 * BLOCK


@dataclass
class _Ridge:
    """What Rock Ridge says about an entry."""

    name: bytes = b""
    mode: int = 0
    link: list[bytes] = field(default_factory=list)
    open_part: bool = False
    moved: bool = False


class IsoVolume:
    """A volume at `offset` of a disk.

    Raises:
        BundleError: It is damaged.
    """

    def __init__(self, disk: Disk, offset: int, what: str) -> None:
        self._disk = disk
        self._offset = offset
        self._what = what
        head = disk.read(offset + _HEAD, BLOCK)
        if head[1:6] != b"CD001" or head[0] != 1:
            raise damaged(what, "no primary volume descriptor")
        self.volume_name = head[40:72].decode("ascii", "replace").strip()
        self._root = head[156:190]
        self._skip = 0

    def extract(self, sink: Sink) -> None:
        """Write everything into `sink`. Links out of the volume's top level are left away.

        Raises:
            BundleError: Damaged or hostile.
        """
        try:
            place, size = _place(self._root)
            self._folder(place, size, "", sink, frozenset())
        except (struct.error, IndexError) as error:
            raise damaged(self._what, f"{type(error).__name__}: {error}") from error

    def _folder(self, place: int, size: int, path: str, sink: Sink, above: frozenset[int]) -> None:
        if place in above or size > MAX_FOLDER:
            raise damaged(self._what, f"the folder {path!r} lies in itself, or has {size} bytes")
        pending: list[tuple[int, int]] = []
        for record in self._records(place, size, first=not path):
            flags, length = record[25], record[32]
            raw = record[33 : 33 + length]
            if raw in (b"\0", b"\1"):
                continue
            ridge = self._ridge(record, 33 + length + (1 - length % 2))
            if ridge.moved:
                continue
            name = (ridge.name or raw.split(b";")[0].rstrip(b".")).decode("utf-8", "surrogateescape")
            inner = f"{path}/{name}" if path else name
            where, long = _place(record)
            kind = stat.S_IFMT(ridge.mode)
            if flags & 2:
                sink.directory(inner, ridge.mode or 0o755)
                self._folder(where, long, inner, sink, above | {place})
            elif kind == stat.S_IFLNK:
                target = b"/".join(ridge.link) if ridge.link != [b""] else b"/"
                sink.symlink(inner, target.decode("utf-8", "surrogateescape"), drop_outward=not path)
            elif kind in (0, stat.S_IFREG):
                pending.append((where, long))
                if flags & 0x80:  # a large file in several extents
                    continue
                # Without Rock Ridge nothing says what is executable: then all is.
                sink.file(inner, ridge.mode or 0o755, self._content(pending))
                pending = []

    def _records(self, place: int, size: int, *, first: bool) -> Iterator[bytes]:
        data = self._disk.read(self._offset + place * BLOCK, size)
        at = 0
        while at < size:
            length = data[at]
            if not length:  # records do not cross blocks
                at = (at // BLOCK + 1) * BLOCK
                continue
            if length < 34 or at + length > size:
                raise damaged(self._what, f"a directory record of {length} bytes")
            record = data[at : at + length]
            if first and at == 0 and record[34:36] == b"SP":
                self._skip = record[40]
            yield record
            at += length

    def _content(self, areas: list[tuple[int, int]]) -> Iterator[bytes]:
        for place, size in list(areas):
            at, end = self._offset + place * BLOCK, self._offset + place * BLOCK + size
            while at < end:
                data = self._disk.read(at, min(CHUNK, end - at))
                at += len(data)
                yield data

    def _ridge(self, record: bytes, start: int) -> _Ridge:
        found = _Ridge()
        area = record[start + self._skip :]
        for _ in range(MAX_AREAS):
            continued: tuple[int, int, int] | None = None
            at = 0
            while at + 4 <= len(area):
                mark, length = area[at : at + 2], area[at + 2]
                if length < 4 or at + length > len(area):
                    break
                body = area[at + 4 : at + length]
                if mark == b"PX":
                    (found.mode,) = struct.unpack("<I", body[:4])
                elif mark == b"NM":
                    found.name += body[1:]
                elif mark == b"SL":
                    _link(body[1:], found)
                elif mark == b"RE":
                    found.moved = True
                elif mark == b"CE":
                    continued = struct.unpack("<I4xI4xI4x", body[:24])
                elif mark == b"ST":
                    break
                at += length
            if continued is None:
                return found
            place, offset, size = continued
            if size > BLOCK * 8:
                break
            area = self._disk.read(self._offset + place * BLOCK + offset, size)
        raise damaged(self._what, "a name that goes on and on")


def _link(body: bytes, found: _Ridge) -> None:
    at = 0
    while at + 2 <= len(body):
        flags, length = body[at], body[at + 1]
        text = body[at + 2 : at + 2 + length]
        if flags & 2:
            text = b"."
        elif flags & 4:
            text = b".."
        elif flags & 8:
            text = b""
        if found.open_part and found.link:
            found.link[-1] += text
        else:
            found.link.append(text)
        found.open_part = bool(flags & 1)
        at += 2 + length


def _place(record: bytes) -> tuple[int, int]:
    (place,) = struct.unpack("<I", record[2:6])
    (size,) = struct.unpack("<I", record[10:14])
    return place, size
