"""The windows that ask for an administrator's password, in the forms that Macs have.

A sheet of Settings (13 and later, "Modify Settings"), with or without a user name; a window of SecurityAgent somewhere else on
the screen; a Touch-ID sheet that first wants "Use Password…"; System Preferences' sheet of macOS 12 ("Unlock"). Which of them a
Mac shows depends on its release, the pane and its hardware: docs/contracts.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from harness.simulator.display.canvas import Box, Canvas
from harness.simulator.display.theme import Theme
from harness.simulator.display.windows import Field, Window

FORMS = ("sheet", "sheet-unfocused", "security-agent", "user-sheet", "user-empty", "touch-id")
_WIDTH = 260.0
_WRONG_ALLOWED = 3
"""SecurityAgent closes its window after so many wrong passwords; so do sheets here."""


@dataclass
class PasswordSheet(Window):
    """Asks for a password. A wrong one clears the field and the window stays; a third one closes it."""

    pane: str = "Privacy & Security"
    what: str = "your system settings"
    user: str = "admin"
    form: str = "sheet"
    unlock: bool = False
    check: Callable[[str, str], bool] = lambda _name, _password: False
    done: Callable[[bool], None] = lambda _allowed: None
    wrong: int = 0

    @classmethod
    def over(
        cls,
        parent: Box,
        *,
        screen: tuple[int, int],
        pane: str,
        user: str,
        form: str,
        unlock: bool,
        check: Callable[[str, str], bool],
        done: Callable[[bool], None],
        what: str = "",
    ) -> PasswordSheet:
        """In the upper middle of its window; SecurityAgent's stands by itself, lower and to the left, as does one that an app asks
        for (it says what is to be modified).
        """
        height = _height(form)
        agent = form == "security-agent" or bool(what)
        if agent:
            x, y = 90.0, min(screen[1] * 0.42, screen[1] - height - 90.0)
        else:
            x, y = (parent[0] + parent[2]) / 2 - _WIDTH / 2, parent[1] + 70
        sheet = cls(
            "security-agent" if agent else "password-sheet",
            (x, y, x + _WIDTH, y + height),
            pane=pane,
            what=what or cls.what,
            user=user,
            form=form,
            unlock=unlock,
            check=check,
            done=done,
            modal=True,
        )
        sheet._lay_out()
        return sheet

    def paint(self, canvas: Canvas, theme: Theme) -> None:
        """Lock, text, fields, buttons."""
        x0, y0, x1, y1 = self.box
        self.controls = []
        self.frame(canvas, theme)
        centre = (x0 + x1) / 2
        canvas.box((centre - 18, y0 + 34, centre + 18, y0 + 62), (230, 190, 60), radius=4)
        canvas.circle(centre, y0 + 30, 12, outline=theme.faint)
        y = y0 + 80.0
        canvas.text(centre, y, self.pane, theme.text, size=13, bold=True, anchor="mm")
        y += 19
        touch = self.form == "touch-id"
        last = "Touch ID or enter your password to allow this." if touch else "Enter your password to allow this."
        if not self.user:  # whoever is at the console is none
            last = "Enter an administrator’s name and password to allow this."
        for line in (*canvas.wrap(self._sentence(), x1 - x0 - 36, 11), *canvas.wrap(last, x1 - x0 - 24, 11)):
            canvas.text(centre, y, line, theme.text, size=11, anchor="mm")
            y += 14
        for index, entry in enumerate(self.fields):
            entry.draw(
                canvas, theme, focused=index == self.focus, placeholder="Password" if entry.secret else "User Name"
            )
        refuse = partial(self.done, False)  # noqa: FBT003 - the answer itself
        if touch:  # stacked, as on a Mac with the sensor
            self.button(
                canvas, theme, (x0 + 16, y1 - 74, x1 - 16, y1 - 46), "Use Password…", self._use_password, default=True
            )
            self.button(canvas, theme, (x0 + 16, y1 - 40, x1 - 16, y1 - 12), "Cancel", refuse, cancel=True)
            return
        bottom = y1 - 40
        confirm = "Unlock" if self.unlock else "Modify Settings" if self.what == PasswordSheet.what else "OK"
        self.button(canvas, theme, (x0 + 16, bottom, centre - 4, bottom + 26), "Cancel", refuse, cancel=True)
        self.button(canvas, theme, (centre + 4, bottom, x1 - 16, bottom + 26), confirm, self._confirm, default=True)

    def _sentence(self) -> str:
        if self.unlock:
            return f"System Preferences is trying to unlock {self.pane} preferences."
        return f"{self.pane} is trying to modify {self.what}."

    def _lay_out(self) -> None:
        x0, y0, *_ = self.box
        top = y0 + 156
        self.fields = []
        if self.form in ("user-sheet", "user-empty"):
            name = self.user if self.form == "user-sheet" else ""
            self.fields.append(Field((x0 + 16, top, x0 + 244, top + 24), text=name))
            top += 32
        if self.form != "touch-id":
            self.fields.append(Field((x0 + 16, top, x0 + 244, top + 24), secret=True))
        # A person begins in the first field that is empty; a field that has no focus takes no keys.
        self.focus = 0 if self.form == "user-empty" else len(self.fields) - 1
        if self.form == "sheet-unfocused":
            self.focus = -1

    def _use_password(self) -> None:
        self.form = "sheet"
        self._lay_out()

    def _confirm(self) -> None:
        password = self.fields[-1]
        if self.check(self.fields[0].text if len(self.fields) > 1 else self.user, password.text):
            self.done(True)  # noqa: FBT003 - the answer itself
            return
        self.wrong += 1
        password.text = ""
        if self.wrong >= _WRONG_ALLOWED:
            self.done(False)  # noqa: FBT003 - the answer itself


def _height(form: str) -> float:
    return 268.0 if form in ("user-sheet", "user-empty") else 236.0
