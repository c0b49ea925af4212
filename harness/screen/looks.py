"""What pixels around a text tell: light or dark, how many pixels a point has, whether a text stands on a button, is greyed out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.screen.frames import Box, Frame
from harness.screen.ocr import TextLine

_EDGE = 12
"""Sum of the three channel differences from which a colour is another one: macOS's palest buttons differ by 18 from what they
are on, what is one colour by less than 6."""
_SIDE = 12
_ABOVE = 1.5
_POINTS = 12.0
_MARGIN = 7.0
"""Readers put boxes of about 12 points and 7 pixels around a line of macOS's usual 13-point text."""


def background(frame: Frame, text: Box) -> NDArray[np.int64] | None:
    """The usual colour around a text, None where there is nothing around it."""
    gap = max(2, text.height // 8)
    strips = [
        frame.crop(Box(text.x0, text.y0 - gap - 1, text.x1, text.y0 - gap + 1)),
        frame.crop(Box(text.x0, text.y1 + gap - 1, text.x1, text.y1 + gap + 1)),
    ]
    pixels = [strip.reshape(-1, 3) for strip in strips if strip.size]
    return np.median(np.concatenate(pixels).astype(np.int64), axis=0).astype(np.int64) if pixels else None


def appearance(frame: Frame, lines: Sequence[TextLine]) -> str | None:
    """Whether most of the text stands on "light" or "dark"; None where that is in between, or differs."""
    light = dark = 0
    for line in lines:
        colour = background(frame, line.box)
        if colour is None:
            continue
        tone = int(colour.sum()) // 3
        if tone >= 150:
            light += line.box.width
        elif tone <= 105:
            dark += line.box.width
    total = light + dark
    if not total or max(light, dark) < 0.75 * total:
        return None
    return "light" if light > dark else "dark"


def scale(heights: Sequence[int]) -> float | None:
    """Pixels per point, 1.0 or 2.0, from the heights of lines of 13-point text; None where it is neither."""
    if not heights:
        return None
    ratio = (float(np.median(heights)) - _MARGIN) / _POINTS
    return 1.0 if 0.7 <= ratio <= 1.4 else 2.0 if 1.65 <= ratio <= 2.55 else None


def contrast(frame: Frame, text: Box) -> int:
    """How far the strongest pixels of a text are from what it stands on (0 to 255, in the channel where it is furthest)."""
    around = background(frame, text)
    part = frame.crop(text)
    if around is None or part.size == 0:
        return 0
    difference = np.abs(part.astype(np.int64) - around).max(axis=2)
    return int(np.percentile(difference, 98))


def greyed(frame: Frame, text: Box, others: Sequence[Box]) -> bool:
    """Whether a button's text is pale beside other texts of its window: it cannot be pressed."""
    usual = float(np.median([contrast(frame, other) for other in others])) if others else 0.0
    own = contrast(frame, text)
    return usual >= 60 and own < 110 and own < 0.5 * usual


def button_around(frame: Frame, text: Box) -> Box | None:
    """The one-coloured body of a button around its text; None where there is no edge all around it, near enough."""
    # Readers draw their boxes now tight around the letters, now a little wider than a small button.
    for gap in (max(2, text.height // 4), 1, -(text.height // 8), -(text.height // 5)):
        body = _body(frame, text, gap)
        if body is not None:
            return body
    return None


def _body(frame: Frame, text: Box, gap: int) -> Box | None:
    """Likewise, sampled `gap` pixels beside the text's box."""
    middle = text.centre[1]
    left, right = text.x0 - gap, text.x1 + gap - 1
    if not 0 <= left < right < frame.size[0] or not 1 <= middle < frame.size[1] - 1:
        return None
    reach = _SIDE * text.height
    begin, end = max(0, left - reach), min(frame.size[0], right + reach)
    band = np.median(frame.crop(Box(begin, middle - 1, end, middle + 2)).astype(np.int64), axis=0)
    fills = (band[left - begin], band[right - begin])
    if int(np.abs(fills[0] - fills[1]).sum()) > 3 * _EDGE:
        return None
    to_left = _edge(band[: left - begin][::-1], fills[0])
    to_right = _edge(band[right - begin + 1 :], fills[1])
    if to_left is None or to_right is None:
        return None
    # Up and down from the middle, beside the text, where no letter is.
    far = text.height // 2 + int(_ABOVE * text.height) + 2
    ups, downs = [], []
    for x, fill in ((left, fills[0]), (right, fills[1])):
        top = max(0, middle - far)
        strip = np.median(frame.crop(Box(x - 1, top, x + 2, middle + far)).astype(np.int64), axis=1)
        ups.append(_edge(strip[: middle - top][::-1], fill))
        downs.append(_edge(strip[middle - top + 1 :], fill))
    if None in ups or None in downs:
        return None
    up, down = min(value or 0 for value in ups), min(value or 0 for value in downs)
    if min(up, down) < text.height // 4:
        return None
    return Box(left - to_left, middle - up, right + 1 + to_right, middle + 1 + down)


def _edge(strip: NDArray[Any], fill: NDArray[Any]) -> int | None:
    """How far along a strip the colour changes and stays changed for two pixels."""
    change = np.asarray(strip, float).reshape(-1, 3) - np.asarray(fill, float)
    differs = np.abs(change).sum(axis=1) > _EDGE
    found = np.nonzero(differs[:-1] & differs[1:])[0] if len(differs) > 1 else np.nonzero(differs)[0]
    return int(found[0]) if len(found) else None
