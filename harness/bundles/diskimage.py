"""Disk images: the file system in a `.dmg` (or a plain image), read without mounting it.

HFS+ and ISO 9660 can be read here; APFS cannot: such an image is installed in the guest by `hdiutil`, unseen.
"""

from __future__ import annotations

import struct
from pathlib import Path

from harness.bundles.failures import BundleError
from harness.bundles.hfsplus import HfsVolume
from harness.bundles.iso9660 import IsoVolume
from harness.bundles.sink import Limits, Sink
from harness.bundles.udif import SECTOR, Disk, OpenDisk, PlainDisk, UdifDisk, damaged

MAX_PARTITIONS = 256


def is_disk_image(path: Path) -> bool:
    """Whether a file is a disk image, by its trailer or by a file system or partition table at its beginning."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 2 * SECTOR:
            return False
        file.seek(size - SECTOR)
        tail = file.read(SECTOR)
        file.seek(0)
        head = file.read(0x8006)
    return (
        tail[:4] == b"koly"
        or head[:8] == b"encrcdsa"
        or tail[-8:] == b"cdsaencr"
        or (head[1024:1026] in (b"H+", b"HX") and head[1026:1028] in (b"\0\4", b"\0\5"))
        or head[32:36] == b"NXSB"
        or head[0x8001:0x8006] == b"CD001"
        or head[512:520] == b"EFI PART"
        or (head[:2] == b"ER" and head[512:514] == b"PM")
    )


class DiskImage:
    """A disk image.

    Raises:
        BundleError: It is encrypted, damaged, or holds no file system that is known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with OpenDisk(path) as disk:
            self._place, self.filesystem = self._find(disk)
            self.volume_name = "" if self.filesystem == "apfs" else self._volume(disk).volume_name

    def extract(self, into: Path) -> None:
        """Write the volume's content into an existing folder. Links out of its top level ("Applications") are left away.

        Raises:
            BundleError: It holds APFS, is damaged or hostile.
        """
        sink = Sink(into, self.path.name, Limits.of(self.path.stat().st_size))
        with OpenDisk(self.path) as disk:
            self._volume(disk).extract(sink)
        sink.finish()

    def _volume(self, disk: Disk) -> HfsVolume | IsoVolume:
        if self.filesystem == "hfs+":
            return HfsVolume(disk, self._place, self.path.name)
        if self.filesystem == "iso9660":
            return IsoVolume(disk, self._place, self.path.name)
        raise BundleError(
            f"a file system that can be read on this host in {self.path.name}",
            seen="APFS, which can be read on a Mac only",
            hint=f"make it with HFS+: hdiutil create -fs HFS+ -srcfolder FOLDER {self.path.name}; or use a zip",
        )

    def _find(self, disk: UdifDisk | PlainDisk) -> tuple[int, str]:
        """Where the first known file system begins, and which it is."""
        starts = [0, *(disk.starts if isinstance(disk, UdifDisk) else ()), *_partitions(disk)]
        found: dict[str, int] = {}
        for start in dict.fromkeys(starts):
            for name, offset, marks in (
                ("hfs+", 1024, (b"H+", b"HX")),
                ("apfs", 32, (b"NXSB",)),
                ("iso9660", 0x8001, (b"CD001",)),
            ):
                length = len(marks[0])
                if start + offset + length <= disk.size and disk.read(start + offset, length) in marks:
                    found.setdefault(name, start)
        for name in ("hfs+", "apfs", "iso9660"):
            if name in found:
                return found[name], name
        raise BundleError(
            f"HFS+ or ISO 9660 in {self.path.name}", seen="no file system that is known", hint="is it damaged?"
        )


def _partitions(disk: Disk) -> list[int]:
    """Where a GUID or Apple partition map says that partitions begin, in bytes."""
    if disk.size < 64 * SECTOR:
        return []
    head = disk.read(0, 2 * SECTOR)
    starts: list[int] = []
    try:
        if head[512:520] == b"EFI PART":
            (table,) = struct.unpack("<Q", head[512 + 72 : 512 + 80])
            count, width = struct.unpack("<II", head[512 + 80 : 512 + 88])
            if not 128 <= width <= 4096:
                raise damaged("the image", f"partition entries of {width} bytes")
            for index in range(min(count, MAX_PARTITIONS)):
                at = table * SECTOR + index * width
                if at + width > disk.size:
                    break
                entry = disk.read(at, 48)
                if entry[:16].strip(b"\0"):
                    starts.append(struct.unpack("<Q", entry[32:40])[0] * SECTOR)
        elif head[:2] == b"ER" and head[512:514] == b"PM":
            (count,) = struct.unpack(">I", head[516:520])
            for index in range(1, min(count, MAX_PARTITIONS) + 1):
                if (index + 1) * SECTOR > disk.size:
                    break
                entry = disk.read(index * SECTOR, 16)
                if entry[:2] == b"PM":
                    starts.append(struct.unpack(">I", entry[8:12])[0] * SECTOR)
    except struct.error as error:
        raise damaged("the image", f"its partition map: {error}") from error
    return [start for start in starts if 0 <= start < disk.size]
