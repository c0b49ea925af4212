"""What a window is: a box with controls that can be pressed, and perhaps a field that takes keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.simulator.display.canvas import Box, Canvas
from harness.simulator.display.theme import Theme


@dataclass
class Control:
    """Something that can be pressed. `box` in points of the screen."""

    box: Box
    text: str
    action: Callable[[], None]
    default: bool = False
    cancel: bool = False

    def hit(self, x: float, y: float) -> bool:
        """Whether a point lies in it."""
        x0, y0, x1, y1 = self.box
        return x0 <= x < x1 and y0 <= y < y1


@dataclass
class Field:
    """A text field."""

    box: Box
    secret: bool = False
    text: str = ""
    selected: bool = False

    def draw(self, canvas: Canvas, theme: Theme, *, focused: bool, placeholder: str = "") -> None:
        """The field; a secret one shows bullets; a focused one a ring and a caret."""
        x0, y0, x1, y1 = self.box
        if focused:
            canvas.box((x0 - 2, y0 - 2, x1 + 2, y1 + 2), theme.accent, radius=5)
        canvas.box(self.box, theme.field, radius=4, outline=theme.line)
        middle = (y0 + y1) / 2
        end = x0 + 8
        if self.text and self.secret:
            for index in range(min(len(self.text), int((x1 - x0 - 16) / 8))):
                canvas.circle(x0 + 12 + index * 8, middle, 2.6, fill=theme.text)
                end = x0 + 18 + index * 8
        elif self.text:
            canvas.text(x0 + 8, middle, self.text, theme.text, size=12)
            end = x0 + 9 + canvas.width(self.text, 12)
        elif placeholder:
            canvas.text(x0 + 8, middle, placeholder, theme.faint, size=12)
        if focused:
            canvas.line(end, y0 + 4, end, y1 - 4, theme.text)


@dataclass
class Window(ABC):
    """Base of all windows. `paint` is called for each picture and sets the controls anew."""

    kind: str
    box: Box
    controls: list[Control] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    focus: int = 0
    modal: bool = False

    @abstractmethod
    def paint(self, canvas: Canvas, theme: Theme) -> None:
        """Draw it and set `controls`."""

    def scroll(self, _lines: int) -> bool:
        """The wheel was turned over it; True when something moved."""
        return False

    def contains(self, x: float, y: float) -> bool:
        """Whether a point lies in it."""
        x0, y0, x1, y1 = self.box
        return x0 <= x < x1 and y0 <= y < y1

    def press(self, x: float, y: float) -> Control | None:
        """The control at a point; a field there takes the focus."""
        for index, entry in enumerate(self.fields):
            if Control(entry.box, "", lambda: None).hit(x, y):
                self.focus = index
        return next((control for control in self.controls if control.hit(x, y)), None)

    def default(self) -> Control | None:
        """What Return presses."""
        return next((control for control in self.controls if control.default), None)

    def cancel(self) -> Control | None:
        """What Escape presses."""
        return next((control for control in self.controls if control.cancel), None)

    def button(
        self,
        canvas: Canvas,
        theme: Theme,
        box: Box,
        text: str,
        action: Callable[[], None],
        *,
        default: bool = False,
        cancel: bool = False,
    ) -> None:
        """Draw a push button and add its control."""
        canvas.box(box, theme.accent if default else theme.button, radius=theme.button_radius)
        colour = theme.accent_text if default else theme.button_text
        canvas.text((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, text, colour, size=12.5, anchor="mm")
        self.controls.append(Control(box, text, action, default, cancel))

    def frame(self, canvas: Canvas, theme: Theme) -> None:
        """Shadow, outline and body."""
        x0, y0, x1, y1 = self.box
        radius = theme.window_radius
        canvas.box((x0 - 1, y0 - 1, x1 + 2, y1 + 3), (20, 20, 24), radius=radius + 1)
        canvas.box(self.box, theme.window, radius=radius)
