"""Drawing in points on a pixel image: text, rounded boxes, a few glyphs that the font lacks."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in points."""


@functools.cache
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    # The font inside Pillow itself (Aileron): the same on every machine, no system package needed.
    font = ImageFont.load_default(pixels)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


class Canvas:
    """A pixel image that is drawn on in points."""

    def __init__(self, image: Image.Image, scale: int) -> None:
        self.image = image
        self.scale = scale
        self._draw = ImageDraw.Draw(image)

    def box(self, box: Box, fill: Colour, *, radius: float = 0, outline: Colour | None = None) -> None:
        """A filled rectangle, with rounded corners where a radius is given."""
        x0, y0, x1, y1 = (round(value * self.scale) for value in box)
        if x1 <= x0 or y1 <= y0:
            return
        self._draw.rounded_rectangle(
            (x0, y0, x1 - 1, y1 - 1), radius=round(radius * self.scale), fill=fill, outline=outline, width=self.scale
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, width: float = 1) -> None:
        """A line."""
        points = [round(value * self.scale) for value in (x0, y0, x1, y1)]
        self._draw.line(points, fill=colour, width=max(1, round(width * self.scale)))

    def circle(
        self, x: float, y: float, radius: float, fill: Colour | None = None, outline: Colour | None = None
    ) -> None:
        """A circle around (x, y)."""
        box = [round(value * self.scale) for value in (x - radius, y - radius, x + radius, y + radius)]
        self._draw.ellipse(box, fill=fill, outline=outline, width=self.scale)

    def text(
        self, x: float, y: float, text: str, colour: Colour, *, size: float = 13, bold: bool = False, anchor: str = "lm"
    ) -> None:
        """One line; `anchor` as in Pillow ("lm": left, middle; "mm": centre)."""
        font = _font(round(size * self.scale))
        stroke = 0.022 * size * self.scale if bold else 0
        self._draw.text(
            (round(x * self.scale), round(y * self.scale)),
            text,
            font=font,
            fill=colour,
            anchor=anchor,
            stroke_width=stroke,
            stroke_fill=colour,
        )

    def width(self, text: str, size: float = 13) -> float:
        """How wide a line is, in points."""
        return float(_font(round(size * self.scale)).getlength(text)) / self.scale

    def wrap(self, text: str, width: float, size: float = 13) -> list[str]:
        """`text` broken into lines of at most `width` points."""
        lines: list[str] = []
        line = ""
        for word in text.split():
            longer = f"{line} {word}" if line else word
            if line and self.width(longer, size) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        return [*lines, line] if line else lines


def bring(new: NDArray[np.uint8], *, into: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Copy a framebuffer into another of its size (four bytes a pixel); where they differed: x, y, width, height, or None."""
    changed = into.view(np.uint32)[:, :, 0] != new.view(np.uint32)[:, :, 0]
    rows = np.flatnonzero(changed.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(changed[rows[0] : rows[-1] + 1].any(axis=0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    into[y0:y1, x0:x1] = new[y0:y1, x0:x1]
    return x0, y0, x1 - x0, y1 - y0
