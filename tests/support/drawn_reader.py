"""A reader that knows what the simulated display has drawn: exact, and without the cost of recognising characters.

For tests of what is *done* with what was read. Everything else that the walk looks at (switches, rings, bullets, what has
changed) is pixels here too; and `python -m benchmarks.walk_matrix` does the same walks with the real reader.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest

from harness.screen import Box, Frame, TextLine
from harness.simulator.display.canvas import Canvas, _font
from harness.simulator.display.desktop import Desktop


@dataclass
class _Drawn:
    text: str
    box: Box


class DrawnReader:
    """Install it before a display is made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: OrderedDict[int, list[_Drawn]] = OrderedDict()
        self._now = threading.local()
        self.unknown = 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        text, box = Canvas.text, Canvas.box
        paint, take, background = Desktop._paint, Desktop._take, Desktop._background
        reader = self

        def drawn_text(canvas, x, y, what, colour, *, size=13, bold=False, anchor="lm"):
            text(canvas, x, y, what, colour, size=size, bold=bold, anchor=anchor)
            scale = canvas.scale
            width = _font(round(size * scale)).getlength(what)
            left = x * scale - {"l": 0.0, "m": width / 2, "r": width}[anchor[0]]
            half = 0.75 * size * scale
            reader._now.lines.append(
                _Drawn(what, Box(round(left), round(y * scale - half), round(left + width), round(y * scale + half)))
            )

        def drawn_box(canvas, area, fill, **more):
            box(canvas, area, fill, **more)
            cover = Box(*(round(value * canvas.scale) for value in area))
            reader._now.lines = [line for line in reader._now.lines if _share(line.box, cover) < 0.25]

        def drawn_background(desktop):
            reader._now.lines = []
            image = background(desktop)
            desktop.base_lines = list(reader._now.lines)
            return image

        def painted(desktop):
            reader._now.lines = list(getattr(desktop, "base_lines", ()))
            paint(desktop)

        def taken(desktop, picture):
            with reader._lock:
                reader._pages[_key(np.asarray(picture))] = list(reader._now.lines)
                while len(reader._pages) > 400:
                    reader._pages.popitem(last=False)
            take(desktop, picture)

        for owner, name, function in (
            (Canvas, "text", drawn_text),
            (Canvas, "box", drawn_box),
            (Desktop, "_paint", painted),
            (Desktop, "_take", taken),
            (Desktop, "_background", drawn_background),
        ):
            patch.setattr(owner, name, function)

    def warm_up(self) -> None:
        pass

    def read(self, frame: Frame, region: Box | None = None) -> list[TextLine]:
        with self._lock:
            page = self._pages.get(_key(frame.pixels))
        if page is None:
            self.unknown += 1
            return []
        inside = region or frame.box
        lines = [TextLine(line.text, line.box, 0.99) for line in page if _share(line.box, inside) > 0.6]
        return sorted(lines, key=lambda line: (line.box.y0, line.box.x0))


def _key(pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels[::3, ::4, :3]).tobytes())


def _share(part: Box, cover: Box) -> float:
    """How much of `part` lies in `cover`."""
    width = min(part.x1, cover.x1) - max(part.x0, cover.x0)
    height = min(part.y1, cover.y1) - max(part.y0, cover.y0)
    return max(0, width) * max(0, height) / max(1, part.width * part.height)
