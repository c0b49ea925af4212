"""Needles on disk: one file each, written whole or not at all, bounded in size and number, shared by processes.

A file says itself what it is about; a name says nothing. Whatever is not as it should be is as if it were not there, and an
event tells so. Layout: FOLDER/vN/ORIGIN/KEY.needle, N being `VERSION`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
import zlib
from pathlib import Path

import msgspec

from harness import events

VERSION = 1
"""Raise it when the form of a file, or what makes a needle, changes: older files are then not looked at."""
_MOST_OF_ONE = 24
"""Needles of one app on one kind of Mac that are kept; the longest unused goes."""
_MOST_FILES = 400
_MOST_BYTES = 4 * 1024 * 1024
"""Of a file."""
_MOST_PIXELS = 2_400_000
_STALE = 3600.0
"""Seconds after which a file that was never finished is nobody's any more."""

_Four = tuple[int, int, int, int]


class StoredLine(msgspec.Struct, frozen=True):
    """A line of text; its box is relative to the picture, as all boxes here."""

    text: str
    box: _Four
    score: float


class StoredButton(msgspec.Struct, frozen=True):
    """A button."""

    text: str
    role: str
    box: _Four
    default: bool
    enabled: bool


class Stored(msgspec.Struct, frozen=True):
    """A needle as it is kept.

    Attributes:
        display: (width, height) of the frame it was seen in.
        place: Where in that frame.
        advice: Which of the buttons was the one to click.
        pixels: height × width × 3 bytes: red, green, blue.
        origin, app: What it belongs to; filled in by the store.
    """

    window: str
    app_name: str
    language: str
    confidence: float
    why: str
    display: tuple[int, int]
    place: _Four
    lines: tuple[StoredLine, ...]
    buttons: tuple[StoredButton, ...]
    advice: int
    title: _Four
    pixels: bytes
    origin: str = ""
    app: str = ""


class NeedleStore:
    """The needles of one app on one kind of Mac.

    Args:
        folder: Of all needles.
        origin: Provider and macOS build.
        app_name: Of the app under test.
    """

    def __init__(self, folder: Path, *, origin: str, app_name: str) -> None:
        self.root = folder / f"v{VERSION}"
        self.origin = origin
        self.app_name = app_name
        of = hashlib.blake2b(f"{origin}\0{app_name}".encode(errors="replace"), digest_size=6).hexdigest()
        plain = "".join(char if char.isascii() and (char.isalnum() or char in "-.") else "-" for char in origin)
        self.folder = self.root / f"{plain[:40].lstrip('.') or 'x'}-{of}"
        self._decoder = msgspec.msgpack.Decoder(Stored)

    def load(self) -> list[tuple[str, Stored]]:
        """All that can be read, the last used first. Never raises for what is on the disk."""
        found: list[tuple[float, str, Stored]] = []
        for path, used in self._files(self.folder)[:_MOST_OF_ONE]:
            stored = self._read(path)
            if stored is not None:
                found.append((used, path.stem, stored))
        return [(key, stored) for _, key, stored in found]

    def put(self, stored: Stored) -> str:
        """Keep one; returns its key, which is the same for the same content. A disk that does not take it is an event."""
        stored = msgspec.structs.replace(stored, origin=self.origin, app=self.app_name)
        key = hashlib.blake2b(msgspec.msgpack.encode(stored), digest_size=10).hexdigest()
        packed = zlib.compress(stored.pixels, 1)
        body = msgspec.msgpack.encode(msgspec.structs.replace(stored, pixels=packed))
        data = hashlib.blake2b(body, digest_size=16).digest() + body
        if len(data) > _MOST_BYTES:
            events.event("needle-refused", window=stored.window, reason=f"{len(data)} bytes are too many")
            return key
        path = self._path(key)
        partial = path.with_suffix(f".{os.getpid()}.{uuid.uuid4().hex[:8]}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_bytes(data)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            self._prune()
        except OSError as error:
            events.event("degraded", what="a needle could not be kept", reason=str(error))
        return key

    def touch(self, key: str) -> None:
        """It was of use just now."""
        with contextlib.suppress(OSError):
            os.utime(self._path(key))

    def drop(self, key: str) -> None:
        """Delete one, for all processes."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.needle"

    def _read(self, path: Path) -> Stored | None:
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            data = path.read_bytes()
            if hashlib.blake2b(data[16:], digest_size=16).digest() != data[:16]:
                raise ValueError("its checksum is wrong")
            stored = self._decoder.decode(data[16:])
            if (stored.origin, stored.app) != (self.origin, self.app_name):
                raise ValueError("it is another app's, or another Mac's")
            width, height = stored.place[2] - stored.place[0], stored.place[3] - stored.place[1]
            if width <= 0 or height <= 0 or width * height > _MOST_PIXELS:
                raise ValueError(f"a picture of {width}x{height}")
            unpacked = zlib.decompressobj()
            pixels = unpacked.decompress(stored.pixels, width * height * 3 + 1)
            if len(pixels) != width * height * 3:
                raise ValueError("its picture has another size than it says")
            return msgspec.structs.replace(stored, pixels=pixels)
        except FileNotFoundError:  # another process dropped it
            return None
        except (OSError, ValueError, zlib.error, msgspec.MsgspecError, RecursionError) as error:
            events.event("needle-refused", needle=path.stem, reason=f"unreadable: {error}"[:200])
            return None

    def _files(self, folder: Path) -> list[tuple[Path, float]]:
        """(path, time of last use) of the needles in a folder, the last used first."""
        found: list[tuple[Path, float]] = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                with contextlib.suppress(OSError):
                    used = entry.stat(follow_symlinks=False).st_mtime
                    if entry.name.endswith(".needle") and entry.is_file(follow_symlinks=False):
                        found.append((Path(entry.path), used))
                    elif entry.name.endswith(".part") and time.time() - used > _STALE:
                        Path(entry.path).unlink()
        return sorted(found, key=lambda item: (-item[1], item[0].name))

    def _prune(self) -> None:
        for path, _ in self._files(self.folder)[_MOST_OF_ONE:]:
            path.unlink(missing_ok=True)
        everything: list[tuple[Path, float]] = []
        for entry in os.scandir(self.root):
            if entry.is_dir(follow_symlinks=False):
                everything += self._files(Path(entry.path))
        everything.sort(key=lambda item: -item[1])
        for path, _ in everything[_MOST_FILES:]:
            path.unlink(missing_ok=True)
