"""Disk images: the file system in a `.dmg`, read without mounting it."""

from __future__ import annotations

from pathlib import Path


def is_disk_image(path: Path) -> bool:
    """Whether a file is a disk image."""
    with path.open("rb") as file:
        file.seek(0, 2)
        if file.tell() < 512:
            return False
        file.seek(-512, 2)
        return file.read(4) == b"koly"


class DiskImage:
    """A disk image."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def extract(self, into: Path) -> None:
        """Write the volume's content into an existing folder."""
        raise NotImplementedError
