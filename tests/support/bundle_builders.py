"""Writers of what the harness reads: small, and only for tests. 7-Zip, cpio and genisoimage judge them where they can."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import plistlib
import stat
import struct
import zlib
from pathlib import Path

SECTOR = 512


# --- trees -----------------------------------------------------------------------------------------------------------


def snapshot(root: Path) -> dict[str, tuple[str, object]]:
    """Every entry below `root`: kind, executable bit and content; what an unpacked copy must equal."""
    found: dict[str, tuple[str, object]] = {}
    for parent, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(parent) / name
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = ("link", str(path.readlink()))
            elif path.is_dir():
                found[key] = ("folder", None)
            else:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                found[key] = ("executable" if path.stat().st_mode & 0o100 else "file", content)
    return found


def _walk(root: Path, top: str) -> list[tuple[str, Path]]:
    """(name in the archive, path) of `root` and all below, parents first."""
    found = [(top, root)]
    for parent, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(folders + files):
            path = Path(parent) / name
            found.append((f"{top}/{path.relative_to(root)}", path))
    return found


# --- compression: levels that do not matter here ---------------------------------------------------------------------


def quick_lzma(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


def quick_bzip2(data: bytes) -> bytes:
    return bz2.compress(data, 1)


def quick_zlib(data: bytes) -> bytes:
    return zlib.compress(data, 1)


# --- cpio ------------------------------------------------------------------------------------------------------------


def cpio(root: Path, top: str, *, form: str = "odc") -> bytes:
    out = bytearray()
    entries = [(".", root.parent), *((f"./{name}", path) for name, path in _walk(root, top))]
    for inode, (name, path) in enumerate(entries, 1):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            data = str(path.readlink()).encode()
        elif stat.S_ISREG(mode):
            data = path.read_bytes()
        else:
            data = b""
        out += cpio_entry(name, mode, data, inode=inode, form=form)
    out += cpio_entry("TRAILER!!!", 0, b"", form=form)
    return bytes(out)


def cpio_entry(name: str, mode: int, data: bytes, *, inode: int = 1, links: int = 1, form: str = "odc") -> bytes:
    title = name.encode() + b"\0"
    if form == "odc":
        head = "070707" + "".join(f"{n:06o}" for n in (1, inode, mode, 0, 0, links, 0))
        return f"{head}{0:011o}{len(title):06o}{len(data):011o}".encode() + title + data
    numbers = (inode, mode, 0, 0, links, 0, len(data), 0, 1, 0, 0, len(title), 0)
    head = ("070701" + "".join(f"{n:08x}" for n in numbers)).encode() + title
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def pbzx(data: bytes, block: int = 1 << 20) -> bytes:
    out = bytearray(b"pbzx" + struct.pack(">Q", 1 << 24))
    pieces = [data[at : at + block] for at in range(0, len(data), block)]
    for index, piece in enumerate(pieces):
        packed = lzma.compress(piece, preset=0) if index % 2 == 0 else piece  # every second one kept as it is
        more = 1 << 24 if index + 1 < len(pieces) else 0
        out += struct.pack(">QQ", more, len(packed)) + packed
    return bytes(out)


# --- xar and packages ------------------------------------------------------------------------------------------------


def xar(files: dict[str, bytes], *, encoding: str = "application/x-gzip", break_checksum: bool = False) -> bytes:
    """A xar of these paths ("Inner.pkg/Payload") and contents."""
    heap = bytearray(bytes(20))  # the table's checksum comes first
    tree: dict[str, object] = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        here = tree
        for folder in folders:
            here = here.setdefault(folder, {})  # type: ignore[assignment]
        here[name] = content
    number = 0

    def element(name: str, item: object) -> str:
        nonlocal number
        number += 1
        identifier = number
        if isinstance(item, dict):
            inner = "".join(element(key, value) for key, value in item.items())
            return f'<file id="{identifier}"><name>{name}</name><type>directory</type>{inner}</file>'
        assert isinstance(item, bytes)
        packed = {"application/x-gzip": zlib.compress, "application/x-bzip2": bz2.compress}.get(
            encoding, lambda data: data
        )(item)
        offset = len(heap)
        heap.extend(packed)
        digest = hashlib.sha1(item + (b"x" if break_checksum else b"")).hexdigest()
        return (
            f'<file id="{identifier}"><name>{name}</name><type>file</type><mode>0644</mode><data>'
            f"<length>{len(packed)}</length><offset>{offset}</offset><size>{len(item)}</size>"
            f'<encoding style="{encoding}"/><archived-checksum style="sha1">{hashlib.sha1(packed).hexdigest()}'
            f'</archived-checksum><extracted-checksum style="sha1">{digest}</extracted-checksum></data></file>'
        )

    body = "".join(element(name, item) for name, item in tree.items())
    toc = (
        '<?xml version="1.0" encoding="UTF-8"?><xar><toc><checksum style="sha1"><offset>0</offset><size>20</size>'
        f"</checksum>{body}</toc></xar>"
    ).encode()
    packed_toc = zlib.compress(toc)
    heap[:20] = hashlib.sha1(packed_toc).digest()
    return struct.pack(">4sHHQQI", b"xar!", 28, 1, len(packed_toc), len(toc), 1) + packed_toc + bytes(heap)


def package(
    app: Path,
    *,
    location: str = "/Applications",
    inner: str = "",
    payload: str = "gzip",
    form: str = "odc",
    scripts: dict[str, str] | None = None,
) -> bytes:
    """A component package of one app; with `inner`, a product archive around it."""
    archive = cpio(app, app.name, form=form)
    packed = {"gzip": lambda data: gzip.compress(data, 1), "xz": quick_lzma, "bzip2": quick_bzip2, "pbzx": pbzx}.get(
        payload, lambda data: data
    )(archive)
    info = (
        f'<pkg-info format-version="2" identifier="org.example.pkg" version="1.2" install-location="{location}" '
        'auth="root" postinstall-action="none"><payload numberOfFiles="9" installKBytes="9"/></pkg-info>'
    ).encode()
    files = {"PackageInfo": info, "Payload": packed}
    if scripts:
        data = cpio_entry(".", 0o40755, b"")
        for name, text in scripts.items():
            data += cpio_entry(f"./{name}", 0o100755, text.encode())
        files["Scripts"] = gzip.compress(data + cpio_entry("TRAILER!!!", 0, b""))
    if inner:
        files = {"Distribution": b"<installer-gui-script/>", **{f"{inner}/{k}": v for k, v in files.items()}}
    return xar(files)


# --- HFS+ ------------------------------------------------------------------------------------------------------------

_BLOCK = 4096
_NODE = 4096


class HfsWriter:
    """An HFS+ volume of a folder: enough of one for 7-Zip to read it too.

    `fragment` spreads files over single blocks, so that the extents overflow is used. `compress` names files kept
    compressed in an attribute, `compress_in_fork` in the resource fork. `hard_links` maps new names to existing ones.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        fragment: bool = False,
        compress: tuple[str, ...] = (),
        compress_in_fork: tuple[str, ...] = (),
        hard_links: dict[str, str] | None = None,
        links_out: dict[str, str] | None = None,
    ) -> None:
        self.blocks: dict[int, bytes] = {}
        self.next_block = 1
        self.next_id = 16
        self.catalog: list[tuple[tuple[int, str], bytes]] = []
        self.overflow: list[tuple[tuple[int, int, int], bytes]] = []
        self.attributes: list[tuple[tuple[int, str], bytes]] = []
        self.fragment = fragment
        self.compress, self.compress_in_fork = compress, compress_in_fork
        self.hard_links = hard_links or {}
        self.inodes: dict[str, int] = {}
        self.files = self.folders = 0
        linked = set(self.hard_links.values())
        self.private = self._id() if linked else 0
        children = self._children(root, 2, "", linked)
        for link, target in (links_out or {}).items():
            self._file(2, link, 0o120755, target.encode())
            children += 1
        if linked:
            self._folder(1 + 1, "\0\0\0\0HFS+ Private Data", self.private, len(self.inodes), 0o40000)
            children += 1
        self._folder(1, name, 2, children, 0o40755)

    def _id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _children(self, folder: Path, number: int, path: str, linked: set[str]) -> int:
        entries = sorted(folder.iterdir())
        for entry in entries:
            inner = f"{path}/{entry.name}" if path else entry.name
            mode = entry.lstat().st_mode
            if stat.S_ISDIR(mode):
                own = self._id()
                self._folder(number, entry.name, own, self._children(entry, own, inner, linked), mode)
            elif stat.S_ISLNK(mode):
                self._file(number, entry.name, mode, str(entry.readlink()).encode())
            elif inner in linked:
                inode = self._file(self.private, "", mode, entry.read_bytes())
                self.inodes[inner] = inode
                self._file(number, entry.name, 0o100444, b"", hard=inode)
            else:
                how = "attribute" if inner in self.compress else "fork" if inner in self.compress_in_fork else ""
                self._file(number, entry.name, mode, entry.read_bytes(), compressed=how)
        extra = 0
        for link, target in self.hard_links.items():
            if (link.rpartition("/")[0] if "/" in link else "") == path:
                self._file(number, link.rpartition("/")[2], 0o100444, b"", hard=self.inodes[target])
                extra += 1
        return len(entries) + extra

    def _key(self, parent: int, name: str) -> bytes:
        text = name.replace(":", "/").encode("utf-16-be")
        return struct.pack(">HIH", 6 + len(text), parent, len(text) // 2) + text

    def _threads(self, kind: int, parent: int, name: str, number: int) -> None:
        text = name.replace(":", "/").encode("utf-16-be")
        record = struct.pack(">hhIH", kind, 0, parent, len(text) // 2) + text
        self.catalog.append(((number, ""), self._key(number, "") + record))

    def _folder(self, parent: int, name: str, number: int, children: int, mode: int) -> None:
        self.folders += 1
        record = struct.pack(">hHII5I", 1, 0, children, number, *[0] * 5)
        record += struct.pack(">IIBBHI", 0, 0, 0, 0, mode, 0) + bytes(40)
        self.catalog.append(((parent, name), self._key(parent, name) + record))
        self._threads(3, parent, name, number)

    def _file(self, parent: int, name: str, mode: int, data: bytes, *, compressed: str = "", hard: int = 0) -> int:
        self.files += 1
        number = self._id()
        name = name or f"iNode{number}"
        resource = b""
        flags = 0
        if compressed:
            flags = 0x20
            head = struct.pack("<4sIQ", b"fpmc", 3 if compressed == "attribute" else 4, len(data))
            if compressed == "attribute":
                head += zlib.compress(data)
            else:
                resource = _resource_fork(data)
            key = struct.pack(">HIIH", 0, number, 0, 17) + "com.apple.decmpfs".encode("utf-16-be")
            record = struct.pack(">IIII", 0x10, 0, 0, len(head)) + head + bytes(len(head) % 2)
            self.attributes.append(((number, ""), struct.pack(">H", len(key)) + key + record))
            data = b""
        info = b"hlnkhfs+" if hard else b"slnkrhap" if stat.S_ISLNK(mode) else bytes(8)
        record = struct.pack(">hHII5I", 2, 2, 0, number, *[0] * 5)
        record += struct.pack(">IIBBHI", 0, 0, 0, flags, mode, hard) + info + bytes(24) + bytes(8)
        record += self._store(data, number, 0) + self._store(resource, number, 0xFF)
        self.catalog.append(((parent, name), self._key(parent, name) + record))
        self._threads(4, parent, name, number)
        return number

    def _store(self, data: bytes, number: int, kind: int) -> bytes:
        count = -(-len(data) // _BLOCK)
        extents: list[tuple[int, int]] = []
        step = max(1, -(-count // 20)) if self.fragment else max(1, count)
        for first in range(0, count, step):
            length = min(step, count - first)
            for index in range(length):
                at = (first + index) * _BLOCK
                self.blocks[self.next_block + index] = data[at : at + _BLOCK]
            extents.append((self.next_block, length))
            self.next_block += length + (1 if self.fragment else 0)  # a hole after each
        for at in range(8, len(extents), 8):
            key = struct.pack(">HBBII", 10, kind, 0, number, sum(n for _, n in extents[:at]))
            self.overflow.append(((number, kind, at), key + _extents(extents[at : at + 8])))
        return struct.pack(">QII", len(data), 0, count) + _extents(extents[:8])

    def image(self) -> bytes:
        trees = {}
        for name, records, depth_keys in (
            ("extents", [r for _, r in sorted(self.overflow)], 10),
            ("catalog", [r for _, r in sorted(self.catalog, key=_catalog_order)], 516),
            ("attributes", [r for _, r in sorted(self.attributes)], 266),
        ):
            trees[name] = self._place(_btree(records, depth_keys))
        total = self.next_block + 8
        bitmap = bytearray(-(-total // 8))
        for block in range(total):
            bitmap[block // 8] |= 0x80 >> block % 8
        allocation = self._place(bytes(bitmap))
        total = self.next_block + 1
        head = struct.pack(">2sHI4sI", b"H+", 4, 0x100, b"10.0", 0) + bytes(16)
        head += struct.pack(">II", self.files, self.folders - 1) + struct.pack(">II", _BLOCK, total)
        head += (
            struct.pack(">III", 0, total - 1, _BLOCK) + bytes(4) + struct.pack(">IIQ", self.next_id, 1, 1) + bytes(32)
        )
        assert len(head) == 112, len(head)
        head += allocation + trees["extents"] + trees["catalog"] + trees["attributes"] + bytes(80)
        out = bytearray(total * _BLOCK)
        for number, data in self.blocks.items():
            out[number * _BLOCK : number * _BLOCK + len(data)] = data
        out[1024 : 1024 + len(head)] = head
        out[-1024 : -1024 + 512] = head
        return bytes(out)

    def _place(self, data: bytes) -> bytes:
        count = -(-len(data) // _BLOCK)
        for index in range(count):
            self.blocks[self.next_block + index] = data[index * _BLOCK : (index + 1) * _BLOCK]
        fork = struct.pack(">QII", len(data), 0, count) + _extents([(self.next_block, count)] if count else [])
        self.next_block += count
        return fork


def _catalog_order(item: tuple[tuple[int, str], bytes]) -> tuple[int, str]:
    (parent, name), _ = item
    return parent, name.lower().replace("\0", "\uffff")


def _extents(extents: list[tuple[int, int]]) -> bytes:
    padded = [*extents, *[(0, 0)] * (8 - len(extents))]
    return b"".join(struct.pack(">II", *extent) for extent in padded)


def _resource_fork(data: bytes) -> bytes:
    pieces = [zlib.compress(data[at : at + 65536]) for at in range(0, len(data), 65536)]
    table = struct.pack("<I", len(pieces))
    at = 4 + 8 * len(pieces)
    for piece in pieces:
        table += struct.pack("<II", at, len(piece))
        at += len(piece)
    body = table + b"".join(pieces)
    head = struct.pack(">IIII", 0x100, 0x104 + len(body), 4 + len(body), 50) + bytes(240)
    resource_map = bytes(24) + struct.pack(">HHHIHHHHII", 28, 50, 0, 0x636D7066, 0, 10, 1, 0xFFFF, 0, 0)
    return head + struct.pack(">I", len(body)) + body + resource_map


def _node(kind: int, height: int, forward: int, back: int, records: list[bytes]) -> bytes:
    out = bytearray(_NODE)
    out[:14] = struct.pack(">IIbBHH", forward, back, kind, height, len(records), 0)
    at = 14
    for index, record in enumerate(records):
        out[at : at + len(record)] = record
        struct.pack_into(">H", out, _NODE - 2 * (index + 1), at)
        at += len(record)
    assert at <= _NODE - 2 * (len(records) + 1)
    struct.pack_into(">H", out, _NODE - 2 * (len(records) + 1), at)
    return bytes(out)


def _btree(records: list[bytes], longest_key: int) -> bytes:
    leaves: list[list[bytes]] = []
    room = 0
    for record in records:
        if not leaves or room < len(record) + 2:
            leaves.append([])
            room = _NODE - 14 - 2
        leaves[-1].append(record)
        room -= len(record) + 2
    nodes: list[bytes] = []
    numbers = list(range(1, 1 + len(leaves)))
    for index, leaf in enumerate(leaves):
        forward = numbers[index + 1] if index + 1 < len(leaves) else 0
        nodes.append(_node(-1, 1, forward, numbers[index - 1] if index else 0, leaf))
    root, depth = (1, 1) if leaves else (0, 0)
    if len(leaves) > 1:
        pointers = []
        for number, leaf in zip(numbers, leaves, strict=True):
            (length,) = struct.unpack(">H", leaf[0][:2])
            pointers.append(leaf[0][: 2 + length] + struct.pack(">I", number))
        root, depth = len(leaves) + 1, 2
        nodes.append(_node(0, 2, 0, 0, pointers))
    total = 1 + len(nodes)
    header = struct.pack(
        ">HIIIIHHIIHIBBI",
        *(
            depth,
            root,
            len(records),
            1 if leaves else 0,
            len(leaves),
            _NODE,
            longest_key,
            total,
            0,
            0,
            _BLOCK,
            0,
            0xCF,
            6,
        ),
    ) + bytes(64)
    map_record = bytearray(_NODE - 14 - len(header) - 128 - 8)
    for index in range(total):
        map_record[index // 8] |= 0x80 >> index % 8
    return _node(1, 0, 0, 0, [header, bytes(128), bytes(map_record)]) + b"".join(nodes)


# --- UDIF ------------------------------------------------------------------------------------------------------------

_KINDS = {"raw": 1, "adc": 0x80000004, "zlib": 0x80000005, "bzip2": 0x80000006, "lzfse": 0x80000007, "lzma": 0x80000008}


def adc(data: bytes) -> bytes:
    """Plain runs, and for zeros one copy of the byte before: both forms of ADC's copies occur."""
    out = bytearray()
    at = 0
    while at < len(data):
        run = len(data[at : at + 67]) - len(data[at : at + 67].lstrip(b"\0"))
        if at and run >= 4 and data[at - 1] == 0:
            if run <= 18:
                out += bytes([(run - 3) << 2, 0])
            else:
                out += bytes([0x40 | run - 4, 0, 0])
            at += run
        else:
            piece = data[at : at + 128]
            zero = piece.find(bytes(8), 1)
            piece = piece[: zero + 1] if zero >= 0 else piece
            out += bytes([0x80 | len(piece) - 1]) + piece
            at += len(piece)
    return bytes(out)


def udif(disk: bytes, *, kind: str = "zlib", piece: int = 512 * SECTOR, start: int = 0) -> bytes:
    """A UDIF image of a volume; `start` sectors of zeros (a partition map's place) come before it."""
    disk += bytes(-len(disk) % SECTOR)
    pack = {
        "raw": lambda data: data,
        "adc": adc,
        "zlib": quick_zlib,
        "bzip2": quick_bzip2,
        "lzma": quick_lzma,
        "lzfse": lambda data: b"bvx-" + data,
    }[kind]
    fork = bytearray()
    entries = []
    for at in range(0, len(disk), piece):
        data = disk[at : at + piece]
        where, sectors = at // SECTOR, len(data) // SECTOR
        if not data.strip(b"\0"):
            entries.append((0, where, sectors, 0, 0))
            continue
        packed = pack(data)
        entries.append((_KINDS[kind], where, sectors, len(fork), len(packed)))
        fork += packed
    tables = [_mish(0, start, [(2, 0, start, 0, 0)])] if start else []
    tables.append(_mish(start, len(disk) // SECTOR, entries))
    blkx = [{"Attributes": "0x0050", "CFName": "x", "Data": t, "ID": str(i), "Name": "x"} for i, t in enumerate(tables)]
    xml = plistlib.dumps({"resource-fork": {"blkx": blkx, "plst": []}})
    trailer = struct.pack(">4sIIIQQQQQII", b"koly", 4, 512, 1, 0, 0, len(fork), 0, 0, 1, 1) + bytes(16) + bytes(136)
    trailer += struct.pack(">QQ", len(fork), len(xml)) + bytes(120) + bytes(136)
    trailer += struct.pack(">IQ", 1, start + len(disk) // SECTOR) + bytes(12)
    assert len(trailer) == 512, len(trailer)
    return bytes(fork) + xml + trailer


def _mish(first: int, count: int, entries: list[tuple[int, int, int, int, int]]) -> bytes:
    head = struct.pack(">4sIQQQII", b"mish", 1, first, count, 0, 2056, 0) + bytes(24) + bytes(136)
    entries = [*entries, (0xFFFFFFFF, count, 0, 0, 0)]
    body = b"".join(struct.pack(">IIQQQQ", kind, 0, *rest) for kind, *rest in entries)
    return head + struct.pack(">I", len(entries)) + body
