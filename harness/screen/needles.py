"""Needles: pictures of prompts that were answered with success, by which the same prompt is known again without reading.

A needle is the window from its title to its lowest button, the texts and buttons that a reader saw in it, and where they were.
It is found in two passes: a coarse one (correlation of shrunken pictures) proposes a place, a fine one compares every pixel
there. Where there is text or a button no pixel may differ by more than `TOLERANCE` levels, so another app's name, a moved or a
greyed button, another language or theme are other windows. Elsewhere one spot the size of a pointer is forgiven.
Only windows whose whole meaning is in their picture can be needles (`why_not`): not those with rows, switches or fields.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import events
from harness.screen.frames import Box, Frame, Pixels
from harness.screen.needle_store import NeedleStore, Stored, StoredButton, StoredLine
from harness.screen.ocr import TextLine
from harness.screen.recognise import Button, Sighting

WINDOWS = (
    "alert-blocked",
    "alert-updated",
    "alert-new-extension",
    "ne-proxy-consent",
    "ne-vpn-consent",
    "ne-filter-consent",
)
"""Window classes that can be needles: alerts, which say the same for the same app each time. A Settings page has rows and
switches, a password sheet a field: what they are about changes within the window."""
TOLERANCE = 3
"""Levels of a colour channel by which a pixel may differ: dithering and rounding."""
TINT = 8
"""Levels by which a window's whole background may be tinted by what lies behind it (a translucent material)."""
_POINTER = (32, 40)
"""Points (width, height) of the largest pointer; what may lie on parts of a window that say nothing."""
_LINE = 14.0
"""Points that a line of an alert's text is high, as readers box it: tells the scale."""
_FLAT = 10.0
"""Standard deviation of brightness below which a picture says too little to be told from another."""
_SMALLEST = (80, 60)
_LARGEST = 2_400_000
"""Pixels of a needle: fewer or more are no alert."""
_COARSE = 0.6
"""Correlation of the shrunken pictures from which a place is looked at closely."""
_PEAKS = 3
_BUDGET = 0.25
"""Seconds that one search may take, over all needles; what is left untried goes to the reader."""


@dataclass(frozen=True)
class Found:
    """A needle that was found.

    Attributes:
        sighting: As a reader would have seen it, in this frame.
        needle: Its key, for `confirm` and `refuse`.
        place: Of the whole picture.
        score: 1 minus the mean difference of the pixels (levels ÷ 255).
        settled: It is where it was when it was learned, and each pixel is as it was then (no tint, no pointer): it was learned
            from a window that had come to rest, so this one has neither to move nor to fade in any further.
    """

    sighting: Sighting
    needle: str
    place: Box
    score: float
    settled: bool = False


class Spot(NamedTuple):
    """Where a known window was the last time, and the middle of the button that was the one to click."""

    window: str
    place: Box
    at: tuple[int, int]


@dataclass(frozen=True)
class _Needle:
    """A needle ready to be matched."""

    stored: Stored
    pixels: Pixels
    strict: NDArray[np.bool_]
    anchor: Box

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]


def why_not(seen: Sighting) -> str:
    """Why a window cannot become a needle, in words; empty if it can."""
    if seen.window not in WINDOWS:
        return f"'{seen.window}' holds what changes (rows, switches, fields)"
    if seen.title is None or not seen.lines:
        return "its title was not placed"
    if not seen.app_name:
        return "the app it is about was not read"
    if seen.advice is None:
        return "nothing in it was to be clicked"
    if any(button.state for button in seen.buttons):
        return "it has a switch"
    place = _place(seen)
    if place.width < _SMALLEST[0] or place.height < _SMALLEST[1] or place.area > _LARGEST:
        return f"{place.width}x{place.height} pixels are no alert's size"
    if seen.frame.crop(place).shape[:2] != (place.height, place.width):
        return "it goes on beyond the screen's edge"
    for part in (place, seen.title, *(button.box for button in seen.buttons)):
        if float(_grey(seen.frame.crop(part)).std()) < _FLAT:
            return f"too flat to be known again at {tuple(part)}"
    return ""


class Needles:
    """The needles for one app on one kind of Mac. For one thread at a time; the folder may be shared by processes.

    Args:
        folder: Where they are kept, by anyone.
        origin: What pictures depend on: provider and macOS build ("tart-24G90"). Others' needles are not looked at.
        app_name: The app whose prompts count.
    """

    def __init__(self, folder: Path, *, origin: str, app_name: str) -> None:
        self.origin = origin
        self.app_name = app_name
        self._store = NeedleStore(folder, origin=origin, app_name=app_name)
        self._needles: dict[str, _Needle] | None = None

    def load(self) -> int:
        """Read them from the disk, once; returns how many there are."""
        return len(self._all())

    def find(
        self,
        frame: Frame,
        regions: Sequence[Box],
        *,
        kinds: Collection[str] | None = None,
        ignore: Collection[str] = (),
    ) -> Found | None:
        """The first needle that is in one of the regions (places where the frame has changed), None if there is none.

        Args:
            frame: Where to look.
            regions: Parts of it.
            kinds: Window classes that are wanted; any by default.
            ignore: Window classes that are looked past.
        """
        if not regions:
            return None
        until = time.monotonic() + _BUDGET
        for key, needle in self._all().items():
            window = needle.stored.window
            if (kinds is not None and window not in kinds) or window in ignore:
                continue
            for place in _places(needle, frame, regions):
                like = _compare(needle, frame, place) if _within(needle, place, regions) else None
                if like is not None:
                    here = needle.stored.display == frame.size and place == Box(*needle.stored.place)
                    seen = _sighting(needle, frame, place, like.score)
                    return Found(seen, key, place, like.score, settled=here and like.exact)
                if time.monotonic() > until:
                    events.event("needle-budget", seconds=_BUDGET, needles=len(self._all()))
                    return None
        return None

    def spots(self, display: tuple[int, int], kinds: Collection[str] | None = None) -> list[Spot]:
        """Where windows of these classes (any by default) were on a screen of this size; the one used last comes first."""
        found: list[Spot] = []
        for needle in self._all().values():
            stored = needle.stored
            if stored.display != display or (kinds is not None and stored.window not in kinds):
                continue
            place = Box(*stored.place)
            button = _moved(Box(*stored.buttons[stored.advice].box), place.x0, place.y0)
            found.append(Spot(stored.window, place, button.centre))
        return found

    def still(self, found: Found, frame: Frame) -> bool:
        """Whether the needle is at the same place in a later frame."""
        needle = self._all().get(found.needle)
        return needle is not None and _compare(needle, frame, found.place) is not None

    def used(self, found: Found) -> None:
        """It was acted upon: it stays on the disk longer than others."""
        self._store.touch(found.needle)

    def learn(self, seen: Sighting) -> str | None:
        """Keep a window that a reader saw, that was answered, and whose answer was verified; returns its key.

        None, with an event that says why, where it cannot become one; a known one is not kept twice.
        """
        reason = why_not(seen)
        if reason:
            events.event("needle-refused", window=seen.window, reason=reason)
            return None
        place = _place(seen)
        for key, needle in self._all().items():
            if needle.stored.window == seen.window and _compare(needle, seen.frame, place) is not None:
                self._store.touch(key)
                return key
        stored = _stored(seen, place)
        made = _ready(stored)
        if made is None:
            events.event("needle-refused", window=seen.window, reason="its texts lie outside its picture")
            return None
        key = self._store.put(stored)
        self._all()[key] = made
        events.event(
            "needle-learned",
            window=seen.window,
            needle=key,
            place=list(place),
            language=seen.language,
            app=seen.app_name,
        )
        return key

    def refuse(self, key: str, reason: str) -> None:
        """It has misled, or nothing came of it: it is not trusted any more, here or in another process that starts later."""
        needle = self._all().pop(key, None)
        self._store.drop(key)
        events.event(
            "needle-refused", window=needle.stored.window if needle else None, needle=key, reason=reason, dropped=True
        )

    def _all(self) -> dict[str, _Needle]:
        if self._needles is None:
            self._needles = {}
            for key, stored in self._store.load():
                needle = _ready(stored)
                if needle is None or stored.window not in WINDOWS:
                    events.event("needle-refused", needle=key, reason="what its file says does not fit together")
                    continue
                self._needles[key] = needle
        return self._needles


# --- a window's picture


def _place(seen: Sighting) -> Box:
    """From the title to the lowest button, as wide as any text between, with a margin within the window."""
    assert seen.title is not None
    bottom = max([button.box.y1 for button in seen.buttons] + [seen.title.y1])
    box = seen.title
    for line in seen.lines:
        if line.box.y0 >= seen.title.y0 - 2 and line.box.y1 <= bottom + 2:
            box = box.union(line.box)
    for button in seen.buttons:
        box = box.union(button.box)
    margin = int(np.median([line.box.height for line in seen.lines]) * 0.7)
    return Box(max(0, box.x0 - margin), max(0, box.y0 - margin // 4), box.x1 + margin, box.y1 + margin)


def _grey(pixels: Pixels) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY), np.uint8)


def _moved(box: Box, dx: int, dy: int) -> Box:
    return Box(box.x0 + dx, box.y0 + dy, box.x1 + dx, box.y1 + dy)


def _stored(seen: Sighting, place: Box) -> Stored:
    def button(one: Button) -> StoredButton:
        return StoredButton(one.text, one.role, _moved(one.box, -place.x0, -place.y0), one.default, one.enabled)

    assert seen.title is not None
    assert seen.advice is not None
    lines = tuple(
        StoredLine(line.text, _moved(line.box, -place.x0, -place.y0), line.score)
        for line in seen.lines
        if line.box.x0 >= place.x0 and line.box.x1 <= place.x1 and line.box.y0 >= place.y0 and line.box.y1 <= place.y1
    )
    return Stored(
        window=seen.window,
        app_name=seen.app_name or "",
        language=seen.language,
        confidence=seen.confidence,
        why=seen.why,
        display=seen.frame.size,
        place=place,
        lines=lines,
        buttons=tuple(button(one) for one in seen.buttons),
        advice=seen.buttons.index(seen.advice),
        title=_moved(seen.title, -place.x0, -place.y0),
        pixels=np.ascontiguousarray(seen.frame.crop(place)).tobytes(),
    )


def _ready(stored: Stored) -> _Needle | None:
    """None if its parts do not fit together: a file may have been written by anyone."""
    width, height = stored.place[2] - stored.place[0], stored.place[3] - stored.place[1]
    if width < _SMALLEST[0] or height < _SMALLEST[1] or len(stored.pixels) != width * height * 3:
        return None
    whole = Box(0, 0, width, height)
    parts = (
        [Box(*line.box) for line in stored.lines]
        + [Box(*button.box) for button in stored.buttons]
        + [Box(*stored.title)]
    )
    if not all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in parts):
        return None
    if not 0 <= stored.advice < len(stored.buttons) or not stored.app_name or not stored.lines:
        return None
    pixels = np.frombuffer(stored.pixels, np.uint8).reshape(height, width, 3)
    strict = np.zeros((height, width), bool)
    for box in parts:
        box = box.padded(box.height // 2, whole[2:])
        strict[box.y0 : box.y1, box.x0 : box.x1] = True
    for button in stored.buttons:  # its fill and its edge, as wide as they may be: the whole strip
        box = Box(*button.box)
        strict[max(0, box.y0 - box.height) : box.y1 + box.height] = True
    return _Needle(stored, pixels, strict, Box(*stored.title))


def _sighting(needle: _Needle, frame: Frame, place: Box, score: float) -> Sighting:
    stored = needle.stored
    buttons = tuple(
        Button(
            button.text,
            button.role,
            _moved(Box(*button.box), place.x0, place.y0),
            button.default,
            enabled=button.enabled,
        )
        for button in stored.buttons
    )
    lines = tuple(TextLine(line.text, _moved(Box(*line.box), place.x0, place.y0), line.score) for line in stored.lines)
    box = _moved(Box(*stored.title), place.x0, place.y0)
    for button in buttons:
        box = box.union(button.box)
    return Sighting(
        stored.window,
        frame,
        box,
        lines,
        app_name=stored.app_name,
        buttons=buttons,
        advice=buttons[stored.advice],
        why=f"{stored.why}; known by its pixels",
        language=stored.language,
        confidence=min(score, stored.confidence),
        title=_moved(Box(*stored.title), place.x0, place.y0),
    )


# --- matching


def _places(needle: _Needle, frame: Frame, regions: Sequence[Box]) -> Iterator[Box]:
    """Where it may be: where it was the last time, then where the shrunken pictures are alike."""
    width, height = needle.size
    tried: list[Box] = []
    learned = Box(*needle.stored.place)
    if needle.stored.display == frame.size and any(learned.overlaps(region) for region in regions):
        tried.append(learned)
        yield learned
    for region in regions:
        grow_x, grow_y = max(0, width - region.width) + 32, max(0, height - region.height) + 32
        search = Box(region.x0 - grow_x, region.y0 - grow_y, region.x1 + grow_x, region.y1 + grow_y).padded(
            0, frame.size
        )
        if search.width < width or search.height < height:
            continue
        for x, y in _coarse(needle, frame, search):
            place = _exactly(needle, frame, x, y)
            if place is not None and place not in tried:
                tried.append(place)
                yield place


def _within(needle: _Needle, place: Box, regions: Sequence[Box]) -> bool:
    """Whether its title and each button are where the frame has changed: what stood there before is not looked for."""
    parts = [needle.stored.title, *(button.box for button in needle.stored.buttons)]
    moved = [_moved(Box(*part), place.x0, place.y0) for part in parts]
    return all(any(part.overlaps(region) for region in regions) for part in moved)


def _coarse(needle: _Needle, frame: Frame, search: Box) -> list[tuple[int, int]]:
    """The likeliest places within a box, best first."""
    import cv2

    factor = 4 if min(needle.size) >= 240 else 2
    small = _shrunk(needle.pixels, factor)
    large = _shrunk(frame.crop(search), factor)
    if large.shape[0] < small.shape[0] or large.shape[1] < small.shape[1] or float(small.std()) < 1:
        return []
    scores = np.nan_to_num(cv2.matchTemplate(large, small, cv2.TM_CCOEFF_NORMED), nan=-1.0, posinf=-1.0, neginf=-1.0)
    found: list[tuple[int, int]] = []
    for _ in range(_PEAKS):
        y, x = np.unravel_index(int(scores.argmax()), scores.shape)
        if scores[y, x] < _COARSE:
            break
        found.append((search.x0 + int(x) * factor, search.y0 + int(y) * factor))
        scores[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = -1.0
    return found


def _shrunk(pixels: Pixels, factor: int) -> NDArray[np.uint8]:
    import cv2

    grey = _grey(pixels)
    size = (max(1, grey.shape[1] // factor), max(1, grey.shape[0] // factor))
    grey = grey[: size[1] * factor, : size[0] * factor]
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _exactly(needle: _Needle, frame: Frame, x: int, y: int) -> Box | None:
    """The place to the pixel: where the title is, near a coarse place."""
    import cv2

    reach = 10
    anchor = needle.anchor
    near = _moved(anchor, x, y)
    search = Box(near.x0 - reach, near.y0 - reach, near.x1 + reach, near.y1 + reach).padded(0, frame.size)
    if search.width < anchor.width or search.height < anchor.height:
        return None
    patch = _grey(needle.pixels[anchor.y0 : anchor.y1, anchor.x0 : anchor.x1])
    scores = np.nan_to_num(cv2.matchTemplate(_grey(frame.crop(search)), patch, cv2.TM_CCOEFF_NORMED), nan=-1.0)
    dy, dx = np.unravel_index(int(scores.argmax()), scores.shape)
    left, top = search.x0 + int(dx) - anchor.x0, search.y0 + int(dy) - anchor.y0
    place = Box(left, top, left + needle.size[0], top + needle.size[1])
    inside = place.x0 >= 0 and place.y0 >= 0 and place.x1 <= frame.size[0] and place.y1 <= frame.size[1]
    return place if inside else None


class _Like(NamedTuple):
    """How alike two pictures of the same window are; `exact`: without any allowance but `TOLERANCE`."""

    score: float
    exact: bool


def _compare(needle: _Needle, frame: Frame, place: Box) -> _Like | None:
    """The second pass: every pixel. None unless it is the same window."""
    import cv2

    seen = frame.crop(place)
    if seen.shape != needle.pixels.shape:
        return None
    apart = np.asarray(cv2.absdiff(np.ascontiguousarray(seen), needle.pixels), np.uint8)
    bad = _beyond(apart, TOLERANCE)
    exact = not bad.any()
    if not exact:
        tint = _tint(seen, needle.pixels)
        if tint is None:
            return None
        if tint.any():
            # Text is a blend of its own colour (not tinted) and the background (tinted): anything between will do.
            signed = seen.astype(np.int16) - needle.pixels
            low, high = np.minimum(tint, 0) - TOLERANCE, np.maximum(tint, 0) + TOLERANCE
            bad = np.asarray(((signed < low) | (signed > high)).any(axis=2), bool)
        if bad.any() and not _only_a_pointer(bad, needle):
            return None
    return _Like(1.0 - float(apart.mean()) / 255.0, exact)


def _beyond(apart: NDArray[np.uint8], most: int) -> NDArray[np.bool_]:
    import cv2

    red, green, blue = cv2.split(apart)
    return np.asarray(np.maximum(np.maximum(red, green), blue) > most, bool)


def _tint(seen: Pixels, known: Pixels) -> NDArray[np.int16] | None:
    """By how much the usual colour of one picture differs from the other's; None if by more than a tint."""
    usual = np.median(seen[::4, ::4].reshape(-1, 3), axis=0) - np.median(known[::4, ::4].reshape(-1, 3), axis=0)
    return usual.astype(np.int16) if float(np.abs(usual).max()) <= TINT else None


def _only_a_pointer(bad: NDArray[np.bool_], needle: _Needle) -> bool:
    """Whether what differs is one spot, as small as a pointer, on no text and no button."""
    if (bad & needle.strict).any():
        return False
    ys, xs = np.nonzero(bad)
    points = float(np.median([line.box[3] - line.box[1] for line in needle.stored.lines]))
    scale = max(1.0, points / _LINE)
    return bool(xs.max() - xs.min() < _POINTER[0] * scale and ys.max() - ys.min() < _POINTER[1] * scale)
