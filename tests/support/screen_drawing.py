"""Windows drawn after what macOS shows, in any words: alerts, Settings pages, sheets, and things that only look like them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from harness.screen import Box, Frame

Colour = tuple[int, int, int]
_FONTS = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/opentype/urw-base35/NimbusSans-Regular.otf",
    "/System/Library/Fonts/Helvetica.ttc",
)


@cache
def _font(pixels: int, which: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    found = [path for path in _FONTS if Path(path).exists()]
    return ImageFont.truetype(found[which % len(found)], pixels) if found else ImageFont.load_default(pixels)


def _writable(text: str) -> str:
    """Pillow's own font has no accents; without another one, do without (so does many a reader)."""
    if any(Path(path).exists() for path in _FONTS):
        return text
    plain = unicodedata.normalize("NFKD", text.translate({0x201E: '"', 0xDF: "ss", 0xAB: '"', 0xBB: '"'}))
    return "".join(character for character in plain if not unicodedata.combining(character))


@dataclass
class Picture:
    """A picture in the making; positions in points.

    Attributes:
        boxes: Where the buttons are, in pixels, by text.
    """

    width: int
    height: int
    dark: bool = False
    scale: float = 1.0
    which: int = 0
    boxes: dict[str, Box] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.panel: Colour = (50, 50, 52) if self.dark else (236, 236, 236)
        self.ink: Colour = (235, 235, 235) if self.dark else (30, 30, 30)
        size = (round(self.width * self.scale), round(self.height * self.scale))
        self.image = Image.new("RGB", size, self.panel)
        self.pen = ImageDraw.Draw(self.image)

    def font(self, points: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return _font(round(points * self.scale), self.which)

    def rectangle(
        self, box: Sequence[float], fill: Colour | None, outline: Colour | None = None, radius: float = 0
    ) -> None:
        scaled = [round(value * self.scale) for value in box]
        self.pen.rounded_rectangle(
            scaled, radius * self.scale, fill=fill, outline=outline, width=max(1, round(3 * self.scale))
        )

    def text(
        self, x: float, y: float, text: str, points: float = 13, anchor: str = "lm", ink: Colour | None = None
    ) -> None:
        self.pen.text(
            (x * self.scale, y * self.scale),
            _writable(text),
            fill=ink or self.ink,
            font=self.font(points),
            anchor=anchor,
        )

    def wrapped(
        self, x: float, y: float, width: float, text: str, points: float = 13, *, centred: bool = False
    ) -> float:
        """Text in lines; the y below the last."""
        line = ""
        for word in [*text.split(), ""]:
            longer = f"{line} {word}".strip()
            if word and self.font(points).getlength(_writable(longer)) <= width * self.scale:
                line = longer
                continue
            if line:
                self.text(x + width / 2 if centred else x, y + points * 0.62, line, points, "mm" if centred else "lm")
                y += points * 1.24
            line = word
        return y

    def button(
        self,
        box: tuple[float, float, float, float],
        text: str,
        *,
        default: bool = False,
        enabled: bool = True,
        flat: bool = False,
    ) -> None:
        fill: Colour = (0, 122, 255) if default else (98, 98, 100) if self.dark else (214, 214, 214)
        ink: Colour = (255, 255, 255) if default else self.ink
        if not enabled:
            ink = tuple(round(0.75 * back + 0.25 * front) for back, front in zip(fill, ink, strict=True))  # type: ignore[assignment]
        if not flat:
            self.rectangle(box, fill, radius=6)
        self.text((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, text, 13, "mm", ink if not flat else self.ink)
        self.boxes[text] = Box(*(round(value * self.scale) for value in box))

    def switch(self, x: float, y: float, name: str, *, on: bool) -> None:
        fill: Colour = (10, 100, 230) if on else (90, 90, 94) if self.dark else (205, 205, 208)
        self.rectangle((x, y, x + 32, y + 18), fill, radius=9)
        centre = x + (23 if on else 9)
        self.pen.ellipse(
            [round(v * self.scale) for v in (centre - 7.5, y + 1.5, centre + 7.5, y + 16.5)], fill=(255, 255, 255)
        )
        self.boxes[name] = Box(*(round(value * self.scale) for value in (x, y, x + 32, y + 18)))

    def info(self, x: float, y: float, name: str) -> None:
        box = (x - 8, y - 8, x + 8, y + 8)
        self.pen.ellipse(
            [round(v * self.scale) for v in box], outline=(125, 125, 125), width=max(1, round(1.2 * self.scale))
        )
        self.text(x, y, "i", 11, "mm", (125, 125, 125))
        self.boxes[name] = Box(*(round(value * self.scale) for value in box))

    def frame(self) -> Frame:
        return Frame(np.asarray(self.image), 0, 0.0)


def alert(
    title: str,
    body: str,
    buttons: Sequence[str],
    *,
    default: int = 0,
    stacked: bool = True,
    left: bool = False,
    wide: bool = False,
    dark: bool = False,
    scale: float = 1.0,
    which: int = 0,
    flat: bool = False,
    enabled: bool = True,
) -> Picture:
    """An alert of macOS 11–15 (narrow, centred), 26 (`left`), or 10.15 (`wide`, the icon at the left).

    Args:
        flat: The words alone, without buttons below them.
    """
    width = 420 if wide else 260
    picture = Picture(width, 340, dark, scale, which)
    x, y, room = (90, 20, 310) if wide else (20, 100, 220)
    picture.rectangle((24, 20, 72, 68) if wide or left else (100, 24, 160, 84), (90, 130, 190), radius=10)
    y = picture.wrapped(x, y, room, title, 13, centred=not (left or wide)) + 8
    y = picture.wrapped(x, y, room, body, 11, centred=not (left or wide)) + 14
    if wide:
        right = width - 20
        for index, text in enumerate(buttons):
            size = max(70, picture.font(13).getlength(_writable(text)) / scale + 30)
            picture.button((right - size, y, right, y + 22), text, default=index == default, flat=flat)
            right -= size + 10
        y += 22
    elif stacked:
        for index, text in enumerate(buttons):
            picture.button(
                (16, y, 244, y + 28), text, default=index == default, flat=flat, enabled=enabled or index == default
            )
            y += 34
    else:
        step = 228 / len(buttons)
        for index, text in enumerate(buttons):
            picture.button(
                (16 + index * step + 3, y, 16 + (index + 1) * step - 3, y + 28),
                text,
                default=index == default,
                flat=flat,
            )
        y += 28
    cut = Picture(width, round(y + 16), dark, scale, which)
    cut.image.paste(picture.image, (0, 0))
    cut.boxes = picture.boxes
    return cut


def blocked(
    sentence: str,
    allow: str,
    *,
    heading: str = "Security",
    lock: str = "",
    dark: bool = False,
    scale: float = 1.0,
    which: int = 0,
    enabled: bool = True,
    flat: bool = False,
) -> Picture:
    """The Security part of Settings; with `lock`, of System Preferences."""
    picture = Picture(560, 220, dark, scale, which)
    picture.text(30, 30, heading, 15)
    bottom = picture.wrapped(30, 80, 380, sentence, 13)
    y = max(bottom - 30, 76)
    picture.button((450, y, 530, y + 24), allow, enabled=enabled, flat=flat)
    if lock:
        picture.rectangle((26, 186, 40, 200), (200, 160, 40), radius=2)
        picture.text(52, 193, lock, 13)
        picture.boxes["lock"] = Box(*(round(value * scale) for value in (22, 180, 48, 206)))
    return picture


def sheet(
    heading: str,
    body: str,
    rows: Sequence[tuple[str, bool]],
    kind: str,
    done: str,
    *,
    dark: bool = False,
    scale: float = 1.0,
    which: int = 0,
) -> Picture:
    """The sheet with a switch per extension."""
    picture = Picture(460, 150 + 48 * len(rows), dark, scale, which)
    picture.text(30, 28, heading, 15)
    y = picture.wrapped(30, 42, 400, body, 12) + 10
    for name, on in rows:
        picture.text(46, y + 14, name, 13)
        picture.text(46, y + 32, kind, 11)
        picture.switch(380, y + 12, name, on=on)
        y += 48
    picture.button((370, y + 10, 440, y + 34), done, default=True)
    return picture


def login_items(
    title: str,
    background: str,
    extensions: str,
    rows: Sequence[str],
    *,
    dark: bool = False,
    scale: float = 1.0,
    which: int = 0,
) -> Picture:
    """Login Items & Extensions, with a row per kind of extension."""
    picture = Picture(560, 150 + 40 * len(rows), dark, scale, which)
    picture.text(30, 24, title, 15)
    picture.text(30, 60, background, 13)
    picture.text(30, 100, extensions, 13)
    for index, row in enumerate(rows):
        picture.text(46, 135 + 40 * index, row, 13)
        picture.info(520, 135 + 40 * index, row)
    return picture


def on_desktop(picture: Picture, size: tuple[int, int] = (900, 640), colour: Colour = (70, 110, 150)) -> Picture:
    """A window in the middle of a wallpaper."""
    whole = Picture(*size, picture.dark, picture.scale, picture.which)
    whole.rectangle((0, 0, *size), colour)
    return _put(whole, picture, round((size[0] - picture.width) / 2), round((size[1] - picture.height) / 3))


def in_document(picture: Picture, above: str, below: str) -> Picture:
    """A picture of a window between the paragraphs of a white page."""
    whole = Picture(picture.width + 240, picture.height + 260, False, picture.scale, picture.which)
    whole.rectangle((0, 0, whole.width, whole.height), (255, 255, 255))
    whole.wrapped(60, 40, picture.width + 120, above)
    _put(whole, picture, 100, 110)
    whole.wrapped(60, 110 + picture.height + 30, picture.width + 120, below)
    return whole


def _put(whole: Picture, part: Picture, x: int, y: int) -> Picture:
    at = (round(x * part.scale), round(y * part.scale))
    whole.image.paste(part.image, at)
    whole.boxes = {
        text: Box(box.x0 + at[0], box.y0 + at[1], box.x1 + at[0], box.y1 + at[1]) for text, box in part.boxes.items()
    }
    return whole
