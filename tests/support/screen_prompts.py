"""Prompts as the simulated Mac draws them, with what a faultless reader would see in them: no reader needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from harness.screen import Box, Button, Frame, Sighting, TextLine
from harness.simulator.display.alerts import AlertWindow
from harness.simulator.display.canvas import Canvas
from harness.simulator.display.canvas import _font as font
from harness.simulator.display.theme import theme_for
from harness.simulator.interfaces import Alert, AlertKind

ROLES = {"Allow": "approve", "Don’t Allow": "deny", "Open System Settings": "open-settings", "OK": "ok"}
ADVISED = ("approve", "open-settings")


class Recorder(Canvas):
    """A canvas that remembers the texts drawn on it: (text, box in pixels, bold)."""

    def __init__(self, image: Image.Image, scale: int) -> None:
        super().__init__(image, scale)
        self.texts: list[tuple[str, Box, bool]] = []

    def text(self, x, y, text, colour, *, size=13, bold=False, anchor="lm") -> None:
        super().text(x, y, text, colour, size=size, bold=bold, anchor=anchor)
        at = (round(x * self.scale), round(y * self.scale))
        box = self._draw.textbbox(at, text, font=font(round(size * self.scale)), anchor=anchor)
        self.texts.append((text, Box(*(round(value) for value in box)).padded(1, self.image.size), bold))


def window_class(kind: AlertKind, version: str) -> str:
    if kind is AlertKind.EXTENSION:
        return "alert-blocked" if int(version) < 15 else "alert-new-extension"
    return {
        AlertKind.PROXY: "ne-proxy-consent",
        AlertKind.VPN: "ne-vpn-consent",
        AlertKind.FILTER: "ne-filter-consent",
    }.get(kind, "other-alert")


@dataclass
class Drawn:
    """A prompt on a frame."""

    frame: Frame
    seen: Sighting
    window: Box
    """Around the window itself, in pixels."""

    def on(self, background: np.ndarray, x: int, y: int) -> Frame:
        """The window's pixels elsewhere."""
        pixels = background.copy()
        pixels[y : y + self.window.height, x : x + self.window.width] = self.frame.crop(self.window)
        return frame_of(pixels)


def frame_of(pixels: np.ndarray, serial: int = 1) -> Frame:
    pixels = np.ascontiguousarray(pixels)
    pixels.setflags(write=False)
    return Frame(pixels, serial, 0.0)


def prompt(
    kind: AlertKind,
    app: str,
    *,
    version: str = "15",
    appearance: str = "light",
    scale: int = 1,
    text: str = "",
    points: tuple[int, int] = (420, 440),
    wallpaper: tuple[int, int, int] = (70, 110, 190),
) -> Drawn:
    """Draw one alert."""
    image = Image.new("RGB", (points[0] * scale, points[1] * scale), wallpaper)
    canvas = Recorder(image, scale)
    window = AlertWindow.on(points, Alert(kind, app, text=text), int(version), lambda _text: None)
    window.paint(canvas, theme_for(int(version), appearance))
    frame = frame_of(np.asarray(image))
    lines = tuple(TextLine(words, box, 1.0) for words, box, _ in canvas.texts)
    buttons = tuple(Button(line.text, ROLES[line.text], line.box) for line in lines if line.text in ROLES)
    titles = [box for _, box, bold in canvas.texts if bold]
    title = titles[0]
    for box in titles[1:]:
        title = title.union(box)
    whole = title
    for button in buttons:
        whole = whole.union(button.box)
    seen = Sighting(
        window_class(kind, version),
        frame,
        whole,
        lines,
        app_name=app,
        buttons=buttons,
        advice=next((button for button in buttons if button.role in ADVISED), None),
        why="drawn",
        language="en",
        confidence=1.0,
        title=title,
    )
    x0, y0, x1, y1 = (round(value * scale) for value in window.box)
    return Drawn(frame, seen, Box(x0, y0, x1, y1))
