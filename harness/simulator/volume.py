"""Writes disk images as `hdiutil create -srcfolder` does: an HFS+ volume of a folder, packed into a UDIF file.

HFS+ as Apple's Technical Note TN1150 has it (one fork extent a file, nothing fragmented, no journal); UDIF as it is read by
`harness.bundles` and 7-Zip.
"""

from __future__ import annotations

import bz2
import os
import plistlib
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

SECTOR = 512
BLOCK = 4096
NODE = 8192
_CATALOG_KEY, _EXTENTS_KEY, _ATTRIBUTES_KEY = 516, 10, 266
_ROOT = 2
_PIECE = 512 * SECTOR
_SYMLINK = b"slnkrhap"

FORMATS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "UDZO": (0x80000005, lambda data: zlib.compress(data, 1)),
    "UDBZ": (0x80000006, lambda data: bz2.compress(data, 1)),
    "UDRO": (1, lambda data: data),
}
"""Image formats by hdiutil's names: the chunks' type, and how they are packed."""


def write_image(target: Path, source: Path, name: str, form: str = "UDZO") -> None:
    """Write a disk image of a folder's content.

    Args:
        target: The file to write.
        source: The folder.
        name: The volume's name.
        form: A key of `FORMATS`.

    Raises:
        OSError: Something cannot be read, or the target not written.
    """
    target.write_bytes(_udif(_Volume(source, name).image(), form))


class _Volume:
    """One HFS+ volume, built in memory."""

    def __init__(self, source: Path, name: str) -> None:
        self._blocks: list[bytes] = [b""]  # block 0: boot blocks and the volume header
        self._catalog: list[tuple[tuple[int, str], bytes]] = []
        self._next = 16
        self._files = 0
        self._folders = 0
        self._folder(1, name, _ROOT, self._children(source, _ROOT), 0o40755)

    def image(self) -> bytes:
        """The whole volume."""
        records = [record for _key, record in sorted(self._catalog, key=lambda item: _order(item[0]))]
        trees = [self._fork(tree) for tree in (_btree([], _EXTENTS_KEY), _btree(records, _CATALOG_KEY), _btree([], _ATTRIBUTES_KEY))]  # fmt: skip
        # The bitmap's own blocks and the last one (which holds the other header) count as taken, too
        total = len(self._blocks) + 1
        total += -(-(total + total // (8 * BLOCK) + 2) // (8 * BLOCK))
        bitmap = bytearray(-(-total // 8))
        for block in range(total):
            bitmap[block // 8] |= 0x80 >> block % 8
        allocation = self._fork(bytes(bitmap))
        total = len(self._blocks) + 1
        header = struct.pack(">2sHI4sI", b"H+", 4, 0x100, b"10.0", 0) + bytes(16)
        header += struct.pack(">IIIIIII", self._files, self._folders - 1, BLOCK, total, 0, total - 1, BLOCK)
        header += bytes(4) + struct.pack(">IIQ", self._next, 1, 1) + bytes(32)
        header += allocation + b"".join(trees) + bytes(80)
        out = bytearray(total * BLOCK)
        for number, data in enumerate(self._blocks):
            out[number * BLOCK : number * BLOCK + len(data)] = data
        out[1024 : 1024 + len(header)] = header
        out[-1024 : -1024 + len(header)] = header
        return bytes(out)

    def _children(self, folder: Path, number: int) -> int:
        count = 0
        for entry in sorted(folder.iterdir()):
            mode = entry.lstat().st_mode
            if stat.S_ISDIR(mode):
                own = self._new_id()
                self._folder(number, entry.name, own, self._children(entry, own), mode)
            elif stat.S_ISLNK(mode):
                self._file(number, entry.name, mode, os.readlink(entry).encode(), _SYMLINK)  # noqa: PTH115 - its text
            elif stat.S_ISREG(mode):
                self._file(number, entry.name, mode, entry.read_bytes(), bytes(8))
            else:
                continue
            count += 1
        return count

    def _new_id(self) -> int:
        self._next += 1
        return self._next - 1

    def _folder(self, parent: int, name: str, number: int, children: int, mode: int) -> None:
        self._folders += 1
        record = struct.pack(">hHII5I", 1, 0, children, number, *[0] * 5)
        record += struct.pack(">IIBBHI", 0, 0, 0, 0, mode, 0) + bytes(40)
        self._entry(parent, name, record, 3, number)

    def _file(self, parent: int, name: str, mode: int, data: bytes, kind: bytes) -> None:
        self._files += 1
        number = self._new_id()
        record = struct.pack(">hHII5I", 2, 2, 0, number, *[0] * 5)
        record += struct.pack(">IIBBHI", 0, 0, 0, 0, mode, 0) + kind + bytes(32)
        record += self._fork(data) + self._fork(b"")
        self._entry(parent, name, record, 4, number)

    def _entry(self, parent: int, name: str, record: bytes, thread: int, number: int) -> None:
        """The record under its parent, and the thread that leads from its number back to it."""
        text = name.replace(":", "/").encode("utf-16-be")
        back = struct.pack(">hhIH", thread, 0, parent, len(text) // 2) + text
        self._catalog += [((parent, name), _key(parent, text) + record), ((number, ""), _key(number, b"") + back)]

    def _fork(self, data: bytes) -> bytes:
        """Store a fork; its description with the one extent it has."""
        count, first = -(-len(data) // BLOCK), len(self._blocks)
        self._blocks += [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
        extent = struct.pack(">II", first, count) if count else bytes(8)
        return struct.pack(">QII", len(data), 0, count) + extent + bytes(56)


def _key(parent: int, name: bytes) -> bytes:
    return struct.pack(">HIH", 6 + len(name), parent, len(name) // 2) + name


def _order(key: tuple[int, str]) -> tuple[int, bytes]:
    """The catalog's order: by parent, then by name without regard to case."""
    return key[0], key[1].lower().encode("utf-16-be")


def _node(kind: int, height: int, forward: int, back: int, records: list[bytes]) -> bytes:
    out = bytearray(NODE)
    out[:14] = struct.pack(">IIbBHH", forward, back, kind, height, len(records), 0)
    at = 14
    for index, record in enumerate((*records, b"")):
        out[at : at + len(record)] = record
        struct.pack_into(">H", out, NODE - 2 * (index + 1), at)
        at += len(record)
    return bytes(out)


def _pages(records: list[bytes]) -> list[list[bytes]]:
    pages: list[list[bytes]] = []
    room = 0
    for record in records:
        if not pages or room < len(record) + 2:
            pages.append([])
            room = NODE - 14 - 2
        pages[-1].append(record)
        room -= len(record) + 2
    return pages


def _btree(records: list[bytes], longest_key: int) -> bytes:
    """A B-tree: the header node, the leaves, then the index levels above them."""
    nodes: list[bytes] = []
    level, height, root, leaves = records, 0, 0, 0
    while level:
        pages, height = _pages(level), height + 1
        first = 1 + len(nodes)
        for index, page in enumerate(pages):
            after = first + index + 1 if index + 1 < len(pages) else 0
            nodes.append(_node(-1 if height == 1 else 0, height, after, first + index - 1 if index else 0, page))
        leaves = leaves or len(pages)
        if len(pages) == 1:
            root = first
            break
        level = [_pointer(page[0], first + index) for index, page in enumerate(pages)]
    total = 1 + len(nodes)
    last = leaves  # leaves are nodes 1…n
    header = struct.pack(">HIIIIHHIIHIBBI", height, root, len(records), 1 if leaves else 0, last, NODE, longest_key, total, 0, 0, NODE, 0, 0xCF, 6)  # fmt: skip
    used = bytearray(NODE - 14 - 106 - 128 - 8)
    for index in range(total):
        used[index // 8] |= 0x80 >> index % 8
    return _node(1, 0, 0, 0, [header + bytes(64), bytes(128), bytes(used)]) + b"".join(nodes)


def _pointer(record: bytes, node: int) -> bytes:
    """A record's key with the node it leads to."""
    (length,) = struct.unpack(">H", record[:2])
    return record[: 2 + length] + struct.pack(">I", node)


def _udif(disk: bytes, form: str) -> bytes:
    kind, pack = FORMATS[form]
    fork = bytearray()
    entries = []
    for at in range(0, len(disk), _PIECE):
        data = disk[at : at + _PIECE]
        where, sectors = at // SECTOR, len(data) // SECTOR
        if data.count(0) == len(data):
            entries.append((2, where, sectors, 0, 0))
            continue
        packed = pack(data)
        entries.append((kind, where, sectors, len(fork), len(packed)))
        fork += packed
    sectors = len(disk) // SECTOR
    entries.append((0xFFFFFFFF, sectors, 0, 0, 0))
    table = struct.pack(">4sIQQQII", b"mish", 1, 0, sectors, 0, 2056, 0) + bytes(24) + bytes(136)
    table += struct.pack(">I", len(entries))
    table += b"".join(struct.pack(">IIQQQQ", entry[0], 0, *entry[1:]) for entry in entries)
    row = {"Attributes": "0x0050", "CFName": "whole disk (Apple_HFS : 0)", "Data": table, "ID": "0", "Name": "whole disk (Apple_HFS : 0)"}  # fmt: skip
    xml = plistlib.dumps({"resource-fork": {"blkx": [row], "plst": []}})
    trailer = struct.pack(">4sIIIQQQQQII", b"koly", 4, 512, 1, 0, 0, len(fork), 0, 0, 1, 1) + bytes(16) + bytes(136)
    trailer += struct.pack(">QQ", len(fork), len(xml)) + bytes(120) + bytes(136)
    trailer += struct.pack(">IQ", 1, sectors) + bytes(12)
    return bytes(fork) + xml + trailer
