"""A recorded screen on disk, and how it is read: while it grows, or long after.

screen/timeline.jsonl   one JSON object a line: a header, then frames and marks in the order they happened, an end
screen/tiles/HASH.png   the pixels: tiles of `TILE` pixels, each stored once, named by its content

A frame names only the tiles that changed since the frame before it, so it costs what changed. A thinned timeline replaces
the file as a whole. What is read may be anybody's: every record is checked, sizes are bounded, a name is never a path.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from harness.errors import UsageError
from harness.screen.frames import Pixels

SCHEMA = 1
TILE = 256
"""Pixels: width and height of a tile; those at the right and bottom edges are smaller."""
FOLDER = "screen"
"""The recording's folder inside a case file."""
TIMELINE = "timeline.jsonl"
TILES = "tiles"
MOST_LINE = 1 << 20
MOST_RECORDS = 200_000
MOST_BYTES = 256 << 20
"""Of a timeline; what is beyond is not read."""
MOST_SIDE = 16_384
MOST_PIXELS = 64 << 20
_MOST_READ = 8 << 20
_MOST_TILE_BYTES = 2 << 20
_UNKNOWN = (96, 96, 104)

Name = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Place = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,5}$")]
Side = Annotated[int, msgspec.Meta(ge=1, le=MOST_SIDE)]
Pixel = Annotated[int, msgspec.Meta(ge=-MOST_SIDE, le=MOST_SIDE)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=10_000_000)]
Text = Annotated[str, msgspec.Meta(max_length=4000)]
Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class Header(msgspec.Struct, tag="header", omit_defaults=True):
    """The first line.

    Attributes:
        time: When the recording began, UTC, ISO 8601.
        labels: What it is of: scenario, macos, image, …
    """

    schema: int
    time: Text
    machine: Text = ""
    simulated: bool = False
    tile: int = TILE
    labels: dict[str, Text] = {}


class FrameRecord(msgspec.Struct, tag="frame"):
    """The screen changed.

    Attributes:
        n: Counts the records.
        t: Seconds since the beginning, on the monotonic clock.
        time: UTC, ISO 8601.
        serial: The frame's own.
        size: (width, height).
        boxes: Where it changed: x0, y0, x1, y1.
        tiles: Number of a tile (row by row) to the name of its pixels; those only that changed, all of them if `whole`.
        whole: It stands on its own: the first one, and each after a change of size.
    """

    n: Number
    t: Seconds
    time: Text
    serial: Number
    size: tuple[Side, Side]
    boxes: Annotated[list[tuple[Pixel, Pixel, Pixel, Pixel]], msgspec.Meta(max_length=64)]
    tiles: dict[Place, Name]
    whole: bool = False

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.size[0] // TILE)

    @property
    def count(self) -> int:
        """Tiles in all."""
        return self.columns * -(-self.size[1] // TILE)


class MarkRecord(msgspec.Struct, tag="mark"):
    """Something was recognised or done.

    Attributes:
        what: `sighting`, `press`, `click`, `scroll`, `type`, …: the event's name.
        data: Its attributes, cut short. Of what was typed there is nothing, not even how long it was.
    """

    n: Number
    t: Seconds
    time: Text
    what: Annotated[str, msgspec.Meta(max_length=100)]
    data: dict[str, Any] = {}


class EndRecord(msgspec.Struct, tag="end"):
    """The recording was closed in order; `data` says how much there was of what."""

    n: Number
    t: Seconds
    time: Text
    data: dict[str, Any] = {}


Record = Header | FrameRecord | MarkRecord | EndRecord
_DECODER = msgspec.json.Decoder(Record)
_ENCODER = msgspec.json.Encoder()


def encode(record: Record) -> bytes:
    """One line of the file, with its end."""
    return _ENCODER.encode(record) + b"\n"


def decode(line: bytes) -> Record | None:
    """A line read, or None for what is no record of ours (torn, foreign, of a later version, absurd)."""
    if not line.strip() or len(line) > MOST_LINE:
        return None
    try:
        record: Record = _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(record, Header) and (record.schema != SCHEMA or record.tile != TILE):
        return None
    if isinstance(record, FrameRecord) and (
        record.size[0] * record.size[1] > MOST_PIXELS or any(int(place) >= record.count for place in record.tiles)
    ):
        return None
    return record


class Tail:
    """Reads a file of lines as it grows; notices when it was replaced.

    Args:
        path: Need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""
        self._skipping = False
        self.at_end = False
        """Whether the last `read` came to the end of the file as it was then."""

    def read(self) -> tuple[bool, list[bytes]]:
        """(whether to forget all lines so far, the new whole lines); at most 8 MiB at a time: call again.

        A line longer than `MOST_LINE` is left out.
        """
        try:
            with self.path.open("rb") as file:
                state = os.fstat(file.fileno())
                inode = (state.st_dev, state.st_ino)
                fresh = self._inode is not None and (inode != self._inode or state.st_size < self._offset)
                if fresh or self._inode is None:
                    self._inode, self._offset, self._rest, self._skipping = inode, 0, b"", False
                file.seek(self._offset)
                data = file.read(_MOST_READ)
        except OSError:
            self.at_end = True
            return False, []
        self._offset += len(data)
        self.at_end = len(data) < _MOST_READ
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._skipping and lines:
            del lines[0]
            self._skipping = False
        if len(self._rest) > MOST_LINE:
            self._rest, self._skipping = b"", True
        elif self._skipping:
            self._rest = b""
        return fresh, [line for line in lines if len(line) <= MOST_LINE]


class Recording:
    """A recorded screen.

    Args:
        folder: The one with `timeline.jsonl`. Nothing is read before `poll`.

    Attributes:
        records: Frames and marks in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header: Header | None = None
        self.records: list[FrameRecord | MarkRecord] = []
        self.end: EndRecord | None = None
        self.unread = 0
        """Lines that were no records."""
        self._tail = Tail(folder / TIMELINE)
        self._size: tuple[int, int] | None = None
        self._bytes = 0

    @classmethod
    def load(cls, folder: Path) -> Recording:
        """All that is there now.

        Raises:
            UsageError: There is no recording with a picture in it.
        """
        recording = cls(folder)
        while not recording._tail.at_end:
            recording.poll()
        if not any(True for _ in recording.frames()):
            raise UsageError(
                f"a recorded screen in {folder}",
                seen="no pictures" if (folder / TIMELINE).is_file() else f"no {TIMELINE}",
                hint="give a case folder (artifacts/<run>/<scenario>-macos15); is `evidence.recording` on?",
            )
        return recording

    def poll(self) -> tuple[bool, list[Record]]:
        """(whether all before is void, what has come since the last call); ([], False) where nothing has."""
        fresh, lines = self._tail.read()
        if fresh:
            self.header, self.end, self.records, self._size, self._bytes = None, None, [], None, 0
        new: list[Record] = []
        for line in lines:
            self._bytes += len(line)
            record = decode(line) if self._bytes <= MOST_BYTES and len(self.records) < MOST_RECORDS else None
            if record is None:
                self.unread += bool(line.strip())
                continue
            if isinstance(record, Header):
                self.header = record
            elif isinstance(record, EndRecord):
                self.end = record
            elif isinstance(record, FrameRecord) and not record.whole and record.size != self._size:
                self.unread += 1  # it builds on a picture that is not there
                continue
            else:
                if isinstance(record, FrameRecord):
                    self._size = record.size
                self.records.append(record)
            new.append(record)
        return fresh, new

    def frames(self) -> Iterator[FrameRecord]:
        """The frames in order."""
        return (record for record in self.records if isinstance(record, FrameRecord))

    def tile(self, name: str) -> Path:
        """Where the pixels of a (checked) name are."""
        return self.folder / TILES / f"{name}.png"


class Painter:
    """Puts frames together, one after another.

    Attributes:
        pixels: The present picture; changes with each `paint`.
        missing: Tiles so far that could not be had, or are not what their name says.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.pixels: Pixels = np.zeros((1, 1, 3), np.uint8)
        self.missing = 0
        self._names: dict[int, str] = {}

    def paint(self, record: FrameRecord) -> Pixels:
        """The picture after `record`, which must follow the one painted before (or be whole). Tiles that are gone or
        broken are grey.
        """
        width, height = record.size
        if record.whole or self.pixels.shape[:2] != (height, width):
            self.pixels = np.empty((height, width, 3), np.uint8)
            self.pixels[:] = _UNKNOWN
            self._names = {}
        for place, name in record.tiles.items():
            number = int(place)
            if self._names.get(number) == name:
                continue
            self._names[number] = name
            y, x = divmod(number, record.columns)
            target = self.pixels[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE]
            tile = read_tile(self.recording.tile(name), (target.shape[0], target.shape[1]))
            if tile is None or tile_name(tile) != name:
                self.missing += 1
                target[:] = _UNKNOWN
            else:
                target[:] = tile
        return self.pixels


def tile_name(pixels: Pixels) -> str:
    """The name of a tile: BLAKE2b of its pixels (red, green, blue, row by row), 16 bytes, with "WIDTHxHEIGHT" as the
    person; so a timeline vouches for its pictures.
    """
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels)
    return hashlib.blake2b(data.data, digest_size=16, person=f"{width}x{height}".encode()).hexdigest()


def read_tile(path: Path, shape: tuple[int, int]) -> Pixels | None:
    """A tile's pixels; None if it is not there, or no PNG of that (height, width)."""
    import cv2

    try:
        with path.open("rb") as file:
            data = file.read(_MOST_TILE_BYTES + 1)
    except OSError:
        return None
    # The size stands in the header: a picture that would fill the memory is not decoded to find that out.
    if len(data) > _MOST_TILE_BYTES or data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 33:
        return None
    if (int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")) != shape:
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    if image is None or image.shape != (*shape, 3):
        return None
    return np.ascontiguousarray(image[:, :, ::-1]).astype(np.uint8, copy=False)


def find_recording(path: Path) -> Path:
    """The recording's folder, from a case folder, a run's folder with one case, or the folder itself.

    Raises:
        UsageError: There is none, or several; names them.
    """
    for folder in (path / FOLDER, path):
        if (folder / TIMELINE).is_file():
            return folder
    if not path.is_dir():
        raise UsageError(f"a case folder at {path}", seen="no such folder", hint="see artifacts/<run>/")
    found = sorted(file.parent for file in path.glob(f"*/{FOLDER}/{TIMELINE}"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(folder.parent) for folder in found[:5]) + (", …" if len(found) > 5 else "")
    raise UsageError(
        f"a recorded screen in {path}",
        seen=f"{len(found)} of them: {names}" if found else f"no {FOLDER}/{TIMELINE}",
        hint="give one of these" if found else "is `evidence.recording` on?",
    )
