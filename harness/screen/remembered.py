"""What was read before, kept on disk: reading the same pixels again gives the same lines, so it need not be done twice.

Keyed by the pixels and by the reader that read them, shared by processes; a hint only: what cannot be read is read anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

_MOST_FILES = 4000
_MOST_BYTES = 256 * 1024
_PRUNE_EVERY = 64


class _Line(msgspec.Struct, frozen=True):
    text: str
    box: tuple[int, int, int, int]
    score: float


class Remembered:
    """Lines by key, a small JSON file each; the oldest go when there are too many.

    Args:
        folder: Where they are kept; made when first needed.
        reader: Name and version of what reads: another reader's lines are not taken.
    """

    def __init__(self, folder: Path, reader: str) -> None:
        self._folder = folder / "".join(char if char.isalnum() or char in "-." else "-" for char in reader)
        self._decoder = msgspec.json.Decoder(list[_Line])
        self._stored = 0

    def get(self, key: bytes) -> list[_Line] | None:
        """The lines that were read from those pixels, None if unknown."""
        path = self._folder / f"{key.hex()}.json"
        try:
            if path.stat().st_size > _MOST_BYTES:
                return None
            lines = self._decoder.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return lines

    def put(self, key: bytes, lines: Sequence[tuple[str, tuple[int, int, int, int], float]]) -> None:
        """Keep them, all or nothing; a full or read-only disk is no error."""
        path = self._folder / f"{key.hex()}.json"
        partial = path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._stored % _PRUNE_EVERY == 0:
                self._prune()
            self._stored += 1
            try:
                partial.write_bytes(msgspec.json.encode([_Line(*line) for line in lines]))
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def _prune(self) -> None:
        files = [entry for entry in os.scandir(self._folder) if entry.is_file()]
        if len(files) <= _MOST_FILES:
            return
        files.sort(key=lambda entry: entry.stat().st_mtime)
        for entry in files[: len(files) - _MOST_FILES * 3 // 4]:
            with contextlib.suppress(OSError):
                Path(entry.path).unlink()
