"""The lock screen: the user's picture and name, a field for the password. Return unlocks, a wrong one clears the field."""

from __future__ import annotations

from collections.abc import Callable

from harness.simulator.display import backdrop, keys
from harness.simulator.display.canvas import Canvas
from harness.simulator.display.theme import Theme
from harness.simulator.display.windows import Field

_LONGEST = 256


class LockScreen:
    """What is typed at a locked screen.

    Args:
        user: Whose session it is.
        check: Whether a password is right.
        unlock: Called once it was.
    """

    def __init__(self, user: str, check: Callable[[str], bool], unlock: Callable[[], None]) -> None:
        self.user = user
        self._check = check
        self._unlock = unlock
        self._field = Field((0, 0, 0, 0), secret=True)

    def key(self, keysym: int, *, shift: bool) -> None:
        """A key that went down."""
        if keysym in (keys.RETURN, keys.ENTER):
            right = self._check(self._field.text)
            self._field.text = ""
            if right:
                self._unlock()
        elif keysym == keys.BACKSPACE:
            self._field.text = self._field.text[:-1]
        elif keysym == keys.ESCAPE:
            self._field.text = ""
        else:
            self._field.text = (self._field.text + keys.character(keysym, shift=shift))[:_LONGEST]

    def paint(self, canvas: Canvas, points: tuple[int, int], theme: Theme) -> None:
        """Draw it."""
        backdrop.login(canvas, points, self.user)
        middle, top = points[0] / 2, points[1] * 0.62 + 70
        self._field.box = (middle - 90, top, middle + 90, top + 26)
        self._field.draw(canvas, theme, focused=True, placeholder="Enter Password")
