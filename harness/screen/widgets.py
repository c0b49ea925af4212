"""Controls without text, found by their pixels: switches, (i) buttons; and whether a button is the blue default one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.screen.frames import Box, Frame, Pixels

_INK = 36
"""Sum of the three channel differences from the background, from which a pixel belongs to a control. macOS's dark panels
and their switched-off switches differ by about 90, the light ones by 150."""
_COLOURFUL = 60
_MUCH = 0.1
"""Of a strip's pixels, for a colour to be one that things stand on."""


@dataclass(frozen=True)
class Widget:
    """A control found by pixels; `state` "on", "off" or "" (a switch whose colour and knob disagree, or no switch)."""

    box: Box
    state: str = ""


def find_switch(frame: Frame, strip: Box, text_height: int) -> Widget | None:
    """The right-most switch in a strip of a row: a filled pill about twice as wide as high.

    Its knob's side tells the state; its colour must not say otherwise.
    """
    pixels = frame.crop(strip)
    shapes = list(reversed(components(pixels)))
    for ground in _grounds(
        pixels
    ):  # then on each colour of the row, where a part of it was dimmed or made to stand out
        shapes += reversed(components(pixels, ground=ground))
    for box, area in shapes:
        ratio = box.width / max(1, box.height)
        if not 1.4 <= ratio <= 2.7 or not 0.7 * text_height <= box.height <= 2.6 * text_height:
            continue
        if not 0.75 <= area <= 0.97:  # a pill, not a rectangle
            continue
        shape = pixels[box.y0 : box.y1, box.x0 : box.x1]
        return Widget(
            Box(strip.x0 + box.x0, strip.y0 + box.y0, strip.x0 + box.x1, strip.y0 + box.y1), _switch_state(shape)
        )
    return None


def find_info(frame: Frame, strip: Box, text_height: int, avoid: Sequence[Box] = ()) -> Widget | None:
    """The right-most (i) button in a strip of a row: a ring, as high as wide; not within the boxes of `avoid` (texts)."""
    pixels = frame.crop(strip)
    # Second, on its own ground: where a part of the row was dimmed, or made to stand out.
    shapes = [*components(pixels, text_height), *components(pixels)]
    for box, area in reversed(shapes):
        ratio = box.width / max(1, box.height)
        if not 0.68 <= area <= 0.9:  # a disc fills 0.785 of its box, a square all of it
            continue
        if 0.75 <= ratio <= 1.34 and 0.55 * text_height <= box.height <= 2.0 * text_height:
            found = Box(strip.x0 + box.x0, strip.y0 + box.y0, strip.x0 + box.x1, strip.y0 + box.y1)
            if not any(found.overlaps(text) for text in avoid):
                return Widget(found)
    return None


def is_default(frame: Frame, text: Box) -> bool:
    """Whether the button around a text is filled with an accent colour: sampled left and right of the text."""
    gap = max(2, text.height // 3)
    y = (text.y0 + text.y1) // 2
    samples = []
    for x0, x1 in ((text.x0 - gap - 3, text.x0 - gap), (text.x1 + gap, text.x1 + gap + 3)):
        part = frame.crop(Box(x0, y - 2, x1, y + 3)).reshape(-1, 3)
        if len(part):
            samples.append(np.median(part.astype(int), axis=0))
    return bool(samples) and all(float(sample.max() - sample.min()) > _COLOURFUL for sample in samples)


def components(pixels: Pixels, local: int = 0, ground: NDArray[np.int64] | None = None) -> list[tuple[Box, float]]:
    """(box, how much of it the outline fills) of everything that differs from the strip's usual colour (or from `ground`), left
    to right; with `local` from the usual colour within about that many pixels (it must be thin then).
    """
    import cv2

    if pixels.size == 0:
        return []
    background = np.median(pixels.reshape(-1, 3), axis=0).astype(np.int64) if ground is None else ground
    if local:
        background = cv2.medianBlur(np.ascontiguousarray(pixels), min(local, 99) | 1).astype(np.int64)
    mask = (np.abs(pixels.astype(int) - background).sum(axis=2) > _INK).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for outline in outlines:
        x, y, width, height = cv2.boundingRect(outline)
        if width < 5 or height < 5 or x == 0 or y == 0 or x + width == mask.shape[1] or y + height == mask.shape[0]:
            continue  # specks; and what goes on outside the strip: a window's edge, a panel's
        # The contour runs through the pixels' middles: one less each way.
        area = float(cv2.contourArea(cv2.convexHull(outline))) / max(1, (width - 1) * (height - 1))
        found.append((Box(x, y, x + width, y + height), area))
    return sorted(found, key=lambda item: item[0].x0)


def _grounds(pixels: Pixels) -> list[NDArray[np.int64]]:
    """The colours that much of a strip has, two at most; none where nearly all of it has one."""
    if pixels.size == 0:
        return []
    flat = pixels.reshape(-1, 3)
    kinds, counts = np.unique(flat >> 3, axis=0, return_counts=True)
    common = sorted(zip(counts.tolist(), kinds.tolist(), strict=True), reverse=True)[:2]
    if len(common) < 2 or common[1][0] < _MUCH * len(flat):
        return []
    return [np.median(flat[(flat >> 3 == kind).all(axis=1)], axis=0).astype(np.int64) for _, kind in common]


def _switch_state(shape: Pixels) -> str:
    inner = shape[shape.shape[0] // 4 : -max(1, shape.shape[0] // 4)].astype(int)
    width = inner.shape[1]
    left, right = inner[:, width // 6 : width // 2], inner[:, width // 2 : -max(1, width // 6)]
    if not left.size or not right.size:
        return ""
    tones = [np.median(part.reshape(-1, 3), axis=0) for part in (left, right)]
    bright = [float(tone.sum()) for tone in tones]
    # The knob is the brighter half, white or nearly so; the other half shows the fill.
    knob = "off" if bright[0] > bright[1] + 20 else "on" if bright[1] > bright[0] + 20 else ""
    colourful = [float(tone.max() - tone.min()) > _COLOURFUL for tone in tones]
    if knob == "off" and any(colourful):  # a knob has no colour, nor has what is off
        return ""
    return knob
