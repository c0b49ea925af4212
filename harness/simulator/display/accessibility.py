"""What the accessibility interface shows of the drawn desktop: the texts that are drawn, and the controls that can be pressed.

Alerts belong to UserNotificationCenter and have no name (google/santa's and PIA's scripts address `window 1` of it); a password
sheet is a sheet of System Settings' window, except SecurityAgent's, which is a window of that process. What is inside a page
of Settings lies in groups and scroll areas on a real Mac, so it is no direct child of the window here either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from harness.simulator.display.canvas import Box, Canvas, Colour
from harness.simulator.display.theme import Theme
from harness.simulator.display.windows import Control, Window
from harness.simulator.interfaces import AxElement, AxProcess


@dataclass
class _Line:
    x: float
    y: float
    text: str
    size: float
    bold: bool


class _Listener(Canvas):
    """A canvas that draws nothing and remembers the texts."""

    def __init__(self) -> None:
        super().__init__(Image.new("RGB", (1, 1)), 1)
        self.lines: list[_Line] = []

    def box(self, box: Box, fill: Colour, *, radius: float = 0, outline: Colour | None = None) -> None:
        """Nothing."""

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, width: float = 1) -> None:
        """Nothing."""

    def circle(
        self, x: float, y: float, radius: float, fill: Colour | None = None, outline: Colour | None = None
    ) -> None:
        """Nothing."""

    def text(
        self, x: float, y: float, text: str, colour: Colour, *, size: float = 13, bold: bool = False, anchor: str = "lm"
    ) -> None:
        """Remembered."""
        del colour, anchor
        self.lines.append(_Line(x, y, text, size, bold))


def window_element(
    window: Window, theme: Theme, *, role: str, name: str | None, press: Callable[[str], None], pages: bool = False
) -> AxElement:
    """A window with its texts, fields and buttons.

    Args:
        window: What is on the screen; it is laid out anew, which changes nothing of what is seen.
        theme: Its look: widths decide where lines break.
        role: "window" or "sheet".
        name: Its title, if it has one.
        press: Presses the control of that text.
        pages: What is inside is a page of Settings: nothing of it is a direct child.
    """
    element = AxElement(role, name)
    if pages:
        return element
    listener = _Listener()
    window.paint(listener, theme)
    controls = list(window.controls)
    fields = [entry.box for entry in window.fields]
    loose = [
        line
        for line in listener.lines
        if not any(control.hit(line.x, line.y) for control in controls)
        and not any(Control(box, "", lambda: None).hit(line.x, line.y) for box in fields)
    ]
    element.children += [AxElement("static text", None, text) for text in _joined(loose)]
    element.children += [
        AxElement("text field", None, entry.text if not entry.secret else None) for entry in window.fields
    ]
    for control in controls:
        text = control.text
        element.children.append(AxElement("button", text, None, press=lambda text=text: press(text)))  # type: ignore[misc]
    return element


def _joined(lines: list[_Line]) -> list[str]:
    """Texts: lines in the same type that follow one another are one text, broken where the window is narrow."""
    texts: list[str] = []
    last: _Line | None = None
    for line in lines:
        if (
            last is not None
            and (last.size, last.bold) == (line.size, line.bold)
            and 0 < line.y - last.y <= 1.5 * line.size
        ):
            texts[-1] += f" {line.text}"
        else:
            texts.append(line.text)
        last = line
    return texts


def processes(found: dict[str, list[AxElement]], front: str) -> list[AxProcess]:
    """By name; UserNotificationCenter always runs, with windows or without."""
    names = list(dict.fromkeys(("Finder", "Dock", "UserNotificationCenter", *found)))
    return [AxProcess(name, found.get(name, []), name == front) for name in names]
