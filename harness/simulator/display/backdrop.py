"""What lies behind the windows: wallpaper, menu bar, Dock, a window of another app; the login and boot screens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from harness.simulator.display.canvas import Box, Canvas
from harness.simulator.display.theme import Theme
from harness.simulator.display.windows import Window

BOOT_SIZE = (1024, 768)
"""Pixels of the framebuffer before the guest's own display driver runs (Virtualization.framework's usual boot mode)."""
_NOTES = (
    "Meeting notes: the release goes out on Thursday. Check the list of open points, allow an hour for questions, and do not "
    "forget to open the window. Proxy settings were updated for the office network; see the wiki page for more. Everybody who "
    "wants to travel by train should book before Monday. Cancel what you do not need."
)
"""Holds words like "allow" and "open": it must fool nobody."""


def boot_screen(*, on: bool) -> Image.Image:
    """The boot logo with its bar, or black."""
    image = Image.new("RGB", BOOT_SIZE)
    if on:
        canvas = Canvas(image, 1)
        canvas.circle(512, 330, 34, fill=(200, 200, 200))
        canvas.box((412, 440, 612, 446), (70, 70, 70), radius=3)
        canvas.box((412, 440, 500, 446), (220, 220, 220), radius=3)
    return image


def wallpaper(points: tuple[int, int], scale: int, theme: Theme) -> tuple[Image.Image, Canvas]:
    """An image of the whole screen, and the way to draw on it."""
    width, height = points[0] * scale, points[1] * scale
    top, bottom = (np.array(colour, float) for colour in theme.wallpaper)
    ramp = np.linspace(0, 1, height)[:, None]
    column = (top * (1 - ramp) + bottom * ramp).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(column[:, None, :], (height, width, 3))))
    return image, Canvas(image, scale)


def login(canvas: Canvas, points: tuple[int, int], user: str) -> None:
    """The login window's picture and name."""
    middle = points[0] / 2
    canvas.circle(middle, points[1] * 0.62, 32, fill=(210, 210, 214))
    canvas.text(middle, points[1] * 0.62 + 50, user, (255, 255, 255), size=14, bold=True, anchor="mm")


def desktop(canvas: Canvas, points: tuple[int, int], theme: Theme, clock: str) -> None:
    """Menu bar, a window of notes, Dock."""
    canvas.box((0, 0, points[0], 25), theme.bar)
    x = 20.0
    for index, name in enumerate(("Finder", "File", "Edit", "View", "Go", "Window", "Help")):
        canvas.text(x, 12.5, name, theme.text, size=12.5, bold=index == 0)
        x += canvas.width(name, 12.5) + 18
    canvas.text(points[0] - 14, 12.5, clock, theme.text, size=12.5, anchor="rm")
    notes(canvas, theme, (30.0, 60.0, 330.0, min(420.0, points[1] - 120)), "Notes")
    side, count = 44, 9
    left = (points[0] - count * (side + 8)) / 2
    canvas.box(
        (left - 10, points[1] - side - 20, left + count * (side + 8) + 2, points[1] - 6), theme.sidebar, radius=16
    )
    for index in range(count):
        colour = tuple(int(128 + 100 * math.sin(index * 1.7 + part * 2)) for part in range(3))
        x0 = left + index * (side + 8)
        canvas.box((x0, points[1] - side - 14, x0 + side, points[1] - 14), (colour[0], colour[1], colour[2]), radius=10)


def notes(canvas: Canvas, theme: Theme, box: Box, title: str) -> None:
    """A window full of text."""
    x0, y0, x1, y1 = box
    canvas.box(box, theme.field, radius=theme.window_radius, outline=theme.line)
    canvas.text((x0 + x1) / 2, y0 + 16, title, theme.text, size=12.5, bold=True, anchor="mm")
    y = y0 + 44
    for line in canvas.wrap(f"{_NOTES} {_NOTES}", x1 - x0 - 30, 12):
        if y > y1 - 14:
            break
        canvas.text(x0 + 15, y, line, theme.text, size=12)
        y += 17


@dataclass
class ForeignWindow(Window):
    """A window of another app that can stand before Settings. A click into it brings it to the front, and nothing more."""

    title: str = "Reader"
    behind: bool = False

    def paint(self, canvas: Canvas, theme: Theme) -> None:
        """Text, and text only."""
        notes(canvas, theme, self.box, self.title)
