"""Frames: what was on a screen at one instant, and cheap questions about their pixels."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.waiting import Deadline

Pixels = NDArray[np.uint8]
"""height × width × 3: red, green, blue."""
_TILE = 16


class Box(NamedTuple):
    """A rectangle in pixels; the right and bottom edges are outside."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels."""
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Pixels in it."""
        return self.width * self.height

    @property
    def centre(self) -> tuple[int, int]:
        """The pixel in the middle."""
        return (self.x0 + self.x1) // 2, (self.y0 + self.y1) // 2

    def union(self, other: Box) -> Box:
        """The smallest box around both."""
        return Box(min(self.x0, other.x0), min(self.y0, other.y0), max(self.x1, other.x1), max(self.y1, other.y1))

    def padded(self, by: int, size: tuple[int, int]) -> Box:
        """Grown on all sides, but not beyond (width, height)."""
        return Box(max(0, self.x0 - by), max(0, self.y0 - by), min(size[0], self.x1 + by), min(size[1], self.y1 + by))

    def overlaps(self, other: Box) -> bool:
        """Whether they have a pixel in common."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of the screen.

    Attributes:
        pixels: Read-only.
        serial: Counts the screen's changes; a later frame has a higher one.
        time: On the monotonic clock, when its last pixels came.
    """

    pixels: Pixels
    serial: int
    time: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def box(self) -> Box:
        """All of it."""
        return Box(0, 0, *self.size)

    def crop(self, box: Box) -> Pixels:
        """A view of a part; clipped to the frame."""
        return self.pixels[max(0, box.y0) : max(0, box.y1), max(0, box.x0) : max(0, box.x1)]


Watcher = Callable[[Frame, tuple[Box, ...]], None]
"""Is given a new frame and the boxes in which it differs from the one before."""


class Screen(Protocol):
    """A screen that can be seen and acted on: the VNC framebuffer now, the machine's own display perhaps later."""

    @property
    def marked(self) -> Frame | None:
        """What `mark` remembered."""

    def mark(self) -> None:
        """Remember the present frame as "before": windows are then looked for where it has changed."""

    def frame(self, deadline: Deadline, *, fresh: bool = False) -> Frame:
        """What is on it now; `fresh`: not what was delivered last, but asked for anew."""

    def wait_for_change(self, after: Frame | None, deadline: Deadline) -> Frame | None:
        """The first frame later than `after`; None when the deadline comes first."""

    def settle(self, deadline: Deadline, quiet: float = 0.3, region: Box | None = None) -> Frame:
        """The frame once nothing (in `region`) has changed for `quiet` seconds, or at the deadline."""

    def subscribe(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback(frame, changed boxes)` with each new frame from now on; returns the way to stop it. It runs on
        the screen's own thread, so it must be quick. The present frame is not delivered: ask for it with `frame`.
        """

    def click(self, x: int, y: int) -> None:
        """Press and release the left button at a pixel, then move the pointer away."""

    def scroll(self, x: int, y: int, lines: int) -> None:
        """Turn the wheel over a pixel; positive is down."""

    def type_text(self, text: str, *, secret: bool = False) -> None:
        """Type characters."""

    def key(self, name: str) -> None:
        """Press and release a named key."""

    def chord(self, *names: str) -> None:
        """Press keys together; the last is struck while the others are held."""

    def close(self) -> None:
        """Let go of it."""


def same(one: Frame, other: Frame, box: Box | None = None) -> bool:
    """Whether (a part of) two frames is equal, pixel by pixel."""
    if one.size != other.size:
        return False
    box = box or one.box
    return bool(np.array_equal(one.crop(box), other.crop(box)))


def changed_regions(before: Frame, now: Frame, *, smallest: tuple[int, int] = (96, 48)) -> list[Box]:
    """Where two frames differ, as boxes around connected areas, largest first; areas smaller than `smallest`
    (width, height) are left out: a clock, a caret. Frames of different size differ everywhere.
    """
    import cv2

    if before.size != now.size:
        return [now.box]
    around = _difference(before.pixels, now.pixels)
    if around is None:
        return []
    # Comparing all channels of a whole frame costs ten times as much as finding the box around what differs. The part
    # begins at a tile's edge.
    left, top = around.x0 // _TILE * _TILE, around.y0 // _TILE * _TILE
    one, other = (frame.pixels[top : around.y1, left : around.x1] for frame in (before, now))
    differs: NDArray[np.bool_] = np.zeros(one.shape[:2], bool)
    for channel in range(one.shape[2]):
        differs |= one[:, :, channel] != other[:, :, channel]
    rows, columns = -(-differs.shape[0] // _TILE), -(-differs.shape[1] // _TILE)
    padded = np.zeros((rows * _TILE, columns * _TILE), bool)
    padded[: differs.shape[0], : differs.shape[1]] = differs
    tiles: NDArray[Any] = np.asarray(padded.reshape(rows, _TILE, columns, _TILE).any(axis=(1, 3)), np.uint8)
    # Two tiles apart still belong together: flat parts of a window may look like what was there before.
    kernel: NDArray[Any] = np.ones((3, 3), np.uint8)
    joined = np.asarray(cv2.dilate(tiles, kernel), np.uint8)
    count, labels = cv2.connectedComponents(joined)
    found: list[Box] = []
    for label in range(1, count):
        ys, xs = np.nonzero((labels == label) & (tiles > 0))
        coarse = Box(
            int(xs.min()) * _TILE,
            int(ys.min()) * _TILE,
            min(differs.shape[1], (int(xs.max()) + 1) * _TILE),
            min(differs.shape[0], (int(ys.max()) + 1) * _TILE),
        )
        part = differs[coarse.y0 : coarse.y1, coarse.x0 : coarse.x1]
        ink_y, ink_x = np.nonzero(part.any(axis=1))[0], np.nonzero(part.any(axis=0))[0]
        box = Box(
            left + coarse.x0 + int(ink_x[0]),
            top + coarse.y0 + int(ink_y[0]),
            left + coarse.x0 + int(ink_x[-1]) + 1,
            top + coarse.y0 + int(ink_y[-1]) + 1,
        )
        if box.width >= smallest[0] and box.height >= smallest[1]:
            found.append(box)
    return sorted(found, key=lambda box: -box.area)


def _difference(before: Pixels, now: Pixels) -> Box | None:
    """The box around all pixels that are not equal in two pictures of the same size; None if there are none."""
    one, other = (np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1) for pixels in (before, now))
    if one.shape[1] % 8 == 0:  # eight bytes at a time
        one, other = one.view(np.uint64), other.view(np.uint64)
    step = one.shape[1] / before.shape[1]
    unequal = one != other
    rows = np.nonzero(unequal.any(axis=1))[0]
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.nonzero(unequal[top:bottom].any(axis=0))[0]
    left, right = int(columns[0] // step), int(np.ceil((columns[-1] + 1) / step))
    return Box(left, top, min(right, before.shape[1]), bottom)


def scrolled_by(before: Frame, now: Frame, column: Box) -> int | None:
    """By how many pixels the content of a column has moved up between two frames; None if that cannot be told, or if it
    has not moved up.
    """
    import cv2

    column = column.padded(0, now.size)
    third = column.height // 3
    if before.size != now.size or third < 8 or column.width < 8:
        return None
    old = np.ascontiguousarray(before.crop(column)[2 * third :])  # what was lowest stays longest in sight
    if int(old.max(axis=2).max()) - int(old.min(axis=2).min()) < 16:
        return None  # nothing in it that could be found again
    scores = cv2.matchTemplate(np.ascontiguousarray(now.crop(column)), old, cv2.TM_CCOEFF_NORMED)[:, 0]
    best = int(scores.argmax())
    moved = 2 * third - best
    return moved if scores[best] > 0.9 and moved > 0 else None


def is_black(frame: Frame) -> bool:
    """One flat dark colour: a display that sleeps, or has not started."""
    if frame.pixels[::16, ::16].max() >= 16:  # most frames end here
        return False
    return bool(frame.pixels.max() < 16)


def save_png(pixels: Pixels, path: Path) -> Path:
    """Write a PNG, atomically; makes the folder.

    Raises:
        HarnessError: The picture cannot be encoded.
        OSError: It cannot be written.
    """
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise HarnessError("a picture to be encoded as PNG", seen=f"{pixels.shape}")
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(data.tobytes())
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
    return path
