"""HFS+ volumes, read only: folders, files, links of both sorts, permissions, and files that HFS compressed itself.

Read off the catalog's leaves in order, with the extents overflow for fragmented files and the attributes for compressed
ones. Layouts: Apple's Technical Note 1150. All numbers are big-endian, but for the compression's own header.
"""

from __future__ import annotations

import itertools
import struct
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from harness.bundles.failures import BundleError
from harness.bundles.sink import CHUNK, Sink, note_oddity
from harness.bundles.udif import Disk, damaged

MAX_RECORDS = 1_000_000
MAX_COMPRESSED = 256 * 1024 * 1024
_ROOT = 2
_S_IFMT, _S_IFLNK = 0o170000, 0o120000
_UF_IMMOVABLE = 0x06  # UF_IMMUTABLE, UF_APPEND
_UF_COMPRESSED = 0x20
_FOLDER, _FILE = 1, 2
_PRIVATE = "\0\0\0\0HFS+ Private Data"
_HIDDEN = (_PRIVATE, ".HFS+ Private Directory Data\r", ".journal", ".journal_info_block")
_DECMPFS = "com.apple.decmpfs"


@dataclass(frozen=True)
class _Fork:
    size: int
    extents: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Entry:
    folder: bool
    parent: int
    name: str
    id: int
    mode: int
    owner_flags: int
    special: int
    hard_link: bool
    data: _Fork
    resource: _Fork


class HfsVolume:
    """A volume at `offset` of a disk.

    Attributes:
        volume_name: As it would appear in /Volumes.

    Raises:
        BundleError: It is no HFS+ volume, or damaged.
    """

    def __init__(self, disk: Disk, offset: int, what: str) -> None:
        self._disk = disk
        self._offset = offset
        self._what = what
        try:
            self._open()
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise damaged(what, f"{type(error).__name__}: {error}") from error

    def _open(self) -> None:
        head = self._disk.read(self._offset + 1024, 512)
        if head[:2] not in (b"H+", b"HX"):
            raise damaged(self._what, f"an HFS+ volume that begins {head[:2]!r}")
        self._block, blocks = struct.unpack(">II", head[40:48])
        if not 512 <= self._block <= 1 << 24 or self._block & (self._block - 1):
            raise damaged(self._what, f"blocks of {self._block} bytes")
        self._size = self._block * blocks
        self._overflow: dict[tuple[int, int], list[tuple[int, tuple[tuple[int, int], ...]]]] = {}
        for key, record in self._leaves(_fork(head[192:272]), 3):
            kind, file_id, start = key[0], *struct.unpack(">II", key[2:10])
            self._overflow.setdefault((file_id, kind), []).append((start, _extents(record[:64])))
        self._children: dict[int, list[_Entry]] = {}
        self._inodes: dict[int, _Entry] = {}
        self.volume_name = ""
        private = 0
        for key, record in self._leaves(_fork(head[272:352]), 4):
            entry = _catalog(key, record)
            if entry is None:
                continue
            if entry.folder and entry.id == _ROOT:
                self.volume_name = entry.name
            else:
                self._children.setdefault(entry.parent, []).append(entry)
            if entry.folder and entry.parent == _ROOT and entry.name == _PRIVATE:
                private = entry.id
        for entry in self._children.get(private, ()) if private else ():
            number = entry.name.removeprefix("iNode")
            if number.isdigit() and len(number) < 12:
                self._inodes[int(number)] = entry
        self._compressed: dict[int, bytes] = {}
        for key, record in self._leaves(_fork(head[352:432]), 8):
            self._attribute(key, record)

    def extract(self, sink: Sink) -> None:
        """Write everything into `sink`. Links out of the volume's top level ("Applications") are left away.

        Raises:
            BundleError: Damaged or hostile.
        """
        try:
            self._folder(_ROOT, "", sink, set())
        except (struct.error, IndexError, zlib.error) as error:
            raise damaged(self._what, f"{type(error).__name__}: {error}") from error

    def _folder(self, folder: int, path: str, sink: Sink, above: set[int]) -> None:
        if folder in above:
            raise damaged(self._what, f"the folder {path!r} lies in itself")
        for entry in self._children.get(folder, ()):
            if folder == _ROOT and entry.name in _HIDDEN:
                continue
            # In HFS+ "/" is an ordinary character and ":" the separator; in paths it is the reverse.
            name = unicodedata.normalize("NFC", entry.name.replace("/", ":"))
            inner = f"{path}/{name}" if path else name
            if entry.owner_flags & _UF_IMMOVABLE:
                note_oddity(inner, "an immutable or append-only flag in the disk image")
            if entry.folder:
                sink.directory(inner, entry.mode or 0o755)
                self._folder(entry.id, inner, sink, above | {folder})
            else:
                self._file(entry, inner, sink)

    def _file(self, entry: _Entry, path: str, sink: Sink) -> None:
        if entry.hard_link:
            target = self._inodes.get(entry.special)
            if target is None:
                raise damaged(self._what, f"the hard link {path!r} leads nowhere")
            entry = target
        if entry.mode & _S_IFMT == _S_IFLNK:
            if entry.data.size > 4096:
                raise damaged(self._what, f"a link of {entry.data.size} bytes")
            target_text = b"".join(self._content(entry, resource=False)).decode("utf-8", "replace")
            sink.symlink(path, target_text, drop_outward="/" not in path)
        elif entry.owner_flags & _UF_COMPRESSED and entry.id in self._compressed:
            sink.file(path, entry.mode, self._decompressed(entry, path))
        else:
            sink.file(path, entry.mode or 0o644, self._content(entry, resource=False))

    def _content(self, entry: _Entry, *, resource: bool) -> Iterator[bytes]:
        fork = entry.resource if resource else entry.data
        return self._read_fork(fork, entry.id, 0xFF if resource else 0)

    def _read_fork(self, fork: _Fork, file_id: int, kind: int) -> Iterator[bytes]:
        left = fork.size
        extents = [extent for extent in fork.extents if extent[1]]
        covered = sum(count for _, count in extents)
        for start, more in sorted(self._overflow.get((file_id, kind), ())):
            if start == covered:
                extents += [extent for extent in more if extent[1]]
                covered = sum(count for _, count in extents)
        for start, count in extents:
            at, end = start * self._block, (start + count) * self._block
            if end > self._size:
                raise damaged(self._what, f"a file at blocks {start}–{start + count}")
            while at < end and left > 0:
                data = self._disk.read(self._offset + at, min(CHUNK, end - at, left))
                at += len(data)
                left -= len(data)
                yield data
        if left > 0:
            raise damaged(self._what, f"{left} bytes of a file have no place on the disk")

    def _leaves(self, fork: _Fork, file_id: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys (without their length) and records of a B-tree, in order."""
        if not fork.size:
            return
        tree = _Tree(self, fork, file_id)
        yield from tree.records()

    def _attribute(self, key: bytes, record: bytes) -> None:
        file_id, _, length = struct.unpack(">IIH", key[2:12])
        name = key[12 : 12 + length * 2].decode("utf-16-be", "replace")
        if name != _DECMPFS or struct.unpack(">I", record[:4])[0] != 0x10:
            return
        (size,) = struct.unpack(">I", record[12:16])
        self._compressed[file_id] = record[16 : 16 + size]

    def _decompressed(self, entry: _Entry, path: str) -> Iterator[bytes]:
        head = self._compressed[entry.id]
        magic, kind, size = struct.unpack("<4sIQ", head[:16])
        if magic != b"fpmc" or size > MAX_COMPRESSED:
            raise damaged(self._what, f"{path!r} is compressed in an odd way")
        if kind == 1:
            data = head[16:]
        elif kind == 3:
            data = _inflate(head[16:], size)
        elif kind == 4:
            data = b"".join(self._from_resource(entry, size, path))
        else:
            raise BundleError(
                f"files that can be read on this host in {self._what}",
                seen=f"{path} is compressed by the file system (kind {kind}, LZVN or LZFSE)",
                hint="copy it on a Mac with: ditto --nohfsCompression",
            )
        if len(data) != size:
            raise damaged(self._what, f"{path!r} gives {len(data)} of {size} bytes")
        yield data

    def _from_resource(self, entry: _Entry, size: int, path: str) -> Iterator[bytes]:
        if entry.resource.size > MAX_COMPRESSED:
            raise damaged(self._what, f"{path!r} has a resource fork of {entry.resource.size} bytes")
        fork = b"".join(self._content(entry, resource=True))
        (base,) = struct.unpack(">I", fork[:4])
        base += 4
        (count,) = struct.unpack("<I", fork[base : base + 4])
        if count > size // 65536 + 1:
            raise damaged(self._what, f"{path!r} has {count} pieces")
        for index in range(count):
            offset, length = struct.unpack("<II", fork[base + 4 + index * 8 : base + 12 + index * 8])
            yield _inflate(fork[base + offset : base + offset + length], 65536)


class _Tree:
    """A B-tree file: header node first, leaves chained."""

    def __init__(self, volume: HfsVolume, fork: _Fork, file_id: int) -> None:
        self._what = volume._what
        self._disk = volume._disk
        self._base = volume._offset
        # The first extents suffice for where a node lies, unless the tree itself is fragmented: then the overflow's.
        extents = [extent for extent in fork.extents if extent[1]]
        covered = sum(count for _, count in extents)
        for start, more in sorted(volume._overflow.get((file_id, 0), ())):
            if start == covered:
                extents += [extent for extent in more if extent[1]]
                covered = sum(count for _, count in extents)
        self._block = volume._block
        self._extents = extents
        head = self._read(0, 512)
        kind = head[8]
        _, _, _, self._first, _, self._node = struct.unpack(">HIIIIH", head[14:34])
        if kind != 1 or self._node < 512 or self._node & (self._node - 1):
            raise damaged(self._what, f"a B-tree of kind {kind} with nodes of {self._node} bytes")
        self._nodes = fork.size // self._node

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        number, seen, records = self._first, 0, 0
        while number:
            seen += 1
            if seen > self._nodes or number >= self._nodes:
                raise damaged(self._what, f"a B-tree whose leaves go on to {number} of {self._nodes}")
            node = self._read(number * self._node, self._node)
            number, _, kind, _, count = struct.unpack(">IIbBH", node[:12])
            if kind != -1 or 14 + count * 2 > self._node:
                raise damaged(self._what, f"a leaf of kind {kind} with {count} records")
            offsets = struct.unpack(f">{count + 1}H", node[self._node - 2 * (count + 1) :])[::-1]
            for begin, end in itertools.pairwise(offsets):
                records += 1
                if not 14 <= begin < end <= self._node or records > MAX_RECORDS:
                    raise damaged(self._what, f"a record at {begin}–{end} of {self._node} bytes")
                (length,) = struct.unpack(">H", node[begin : begin + 2])
                key = node[begin + 2 : begin + 2 + length]
                start = begin + 2 + length
                yield key, node[start + (start & 1) : end]

    def _read(self, offset: int, size: int) -> bytes:
        parts = []
        for start, count in self._extents:
            length = count * self._block
            if offset < length:
                take = min(size, length - offset)
                parts.append(self._disk.read(self._base + start * self._block + offset, take))
                size -= take
                offset = 0
                if not size:
                    return b"".join(parts)
            else:
                offset -= length
        raise damaged(self._what, "a B-tree that ends too early")


def _fork(data: bytes) -> _Fork:
    (size,) = struct.unpack(">Q", data[:8])
    return _Fork(size, _extents(data[16:80]))


def _extents(data: bytes) -> tuple[tuple[int, int], ...]:
    numbers = struct.unpack(">16I", data)
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _catalog(key: bytes, record: bytes) -> _Entry | None:
    parent, length = struct.unpack(">IH", key[:6])
    name = key[6 : 6 + length * 2].decode("utf-16-be", "surrogatepass").encode("utf-8", "replace").decode("utf-8")
    (kind,) = struct.unpack(">h", record[:2])
    if kind not in (_FOLDER, _FILE):
        return None  # a thread: the way back from an identifier to its name
    (number,) = struct.unpack(">I", record[8:12])
    owner_flags = record[41]
    mode, special = struct.unpack(">HI", record[42:48])
    folder = kind == _FOLDER
    return _Entry(
        folder=folder,
        parent=parent,
        name=name,
        id=number,
        mode=mode,
        owner_flags=owner_flags,
        special=special,
        hard_link=not folder and record[48:56] == b"hlnkhfs+",
        data=_Fork(0, ()) if folder else _fork(record[88:168]),
        resource=_Fork(0, ()) if folder else _fork(record[168:248]),
    )


def _inflate(data: bytes, limit: int) -> bytes:
    if data[:1] and data[0] & 0x0F == 0x0F:  # kept as it is
        return data[1:]
    return zlib.decompressobj().decompress(data, limit + 1)
