"""System Preferences of macOS 12: Security & Privacy, its General tab, the lock, and the list behind "Details…".

That there is a lock to be opened first, what its texts are, and that "Allow" is dead while it is closed: google/santa's
allow_sysex.scpt and pictures of 10.15 to 12. How the list behind "Details…" looked on 12 is unconfirmed: rows with boxes to
tick, Cancel and OK, as for kernel extensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from harness.simulator.display.canvas import Canvas
from harness.simulator.display.settings_window import Ask
from harness.simulator.display.theme import Theme
from harness.simulator.display.windows import Control, Window
from harness.simulator.interfaces import GuestModel, PendingExtension

_TABS = ("General", "FileVault", "Firewall", "Privacy")
_PANES = ("Apple ID", "General", "Desktop & Screen Saver", "Dock & Menu Bar", "Mission Control", "Siri", "Security & Privacy", "Network", "Bluetooth", "Sound")  # fmt: skip


@dataclass
class PreferencesWindow(Window):
    """The window: all panes, or Security & Privacy. `page` is "general" (all panes) or "privacy-security"."""

    model: GuestModel | None = None
    ask: Ask = lambda _pane, _then: None
    close: Callable[[], None] = lambda: None
    named: Callable[[PendingExtension], str] = lambda item: item.app_name
    page: str = "general"
    tab: str = "General"
    sheet: str = ""
    locked: bool = True
    url: str = ""
    ticked: set[str] = field(default_factory=set)

    def go(self, page: str, sheet: str = "", *, top: bool = False) -> None:
        """Show a page; there is nothing to scroll."""
        del sheet, top
        self.page, self.tab, self.sheet = page, "General", ""

    def paint(self, canvas: Canvas, theme: Theme) -> None:
        """Title bar, tabs, page, lock, sheet."""
        x0, y0, x1, y1 = self.box
        self.controls = []
        self.frame(canvas, theme)
        canvas.box((x0, y0, x1, y0 + 44), theme.sidebar, radius=theme.window_radius)
        for index, colour in enumerate(((255, 95, 87), (254, 188, 46), (40, 200, 64))):
            canvas.circle(x0 + 18 + 20 * index, y0 + 22, 6, fill=colour)
        self.controls.append(Control((x0 + 11, y0 + 15, x0 + 25, y0 + 29), "(close)", self.close))
        title = "Security & Privacy" if self.page != "general" else "System Preferences"
        canvas.text(x0 + 130, y0 + 22, title, theme.text, size=14, bold=True)
        if self.page == "general":
            self._panes(canvas, theme)
            return
        self._tabs(canvas, theme)
        if self.tab == "General":
            self._general(canvas, theme)
        canvas.line(x0, y1 - 54, x1, y1 - 54, theme.line)
        text = "Click the lock to make changes." if self.locked else "Click the lock to prevent further changes."
        lock = (x0 + 22, y1 - 42, x0 + 44, y1 - 12)
        canvas.box((lock[0], lock[1] + 12, lock[2], lock[3]), (214, 170, 50), radius=3)
        shift = 0 if self.locked else 8
        canvas.circle(lock[0] + 11 + shift, lock[1] + 10, 8, outline=theme.faint)
        canvas.text(x0 + 56, y1 - 26, text, theme.text, size=12)
        self.controls.append(Control(lock, "lock", self._lock))
        if self.sheet:
            self._details(canvas, theme)

    def _panes(self, canvas: Canvas, theme: Theme) -> None:
        x0, y0, *_ = self.box
        for index, name in enumerate(_PANES):
            x, y = x0 + 70 + 130 * (index % 5), y0 + 110 + 120 * (index // 5)
            canvas.box((x - 20, y - 20, x + 20, y + 20), (120, 140, 180), radius=9)
            for row, line in enumerate(canvas.wrap(name, 110, 11)):
                canvas.text(x, y + 34 + 13 * row, line, theme.text, size=11, anchor="mm")
            if name == "Security & Privacy":
                self.controls.append(
                    Control((x - 50, y - 24, x + 50, y + 56), name, partial(self.go, "privacy-security"))
                )

    def _tabs(self, canvas: Canvas, theme: Theme) -> None:
        x0, y0, x1, _ = self.box
        left = (x0 + x1) / 2 - 180
        for index, name in enumerate(_TABS):
            box = (left + 90 * index, y0 + 60, left + 90 * index + 88, y0 + 82)
            here = name == self.tab
            canvas.box(box, theme.accent if here else theme.button, radius=4)
            colour = theme.accent_text if here else theme.button_text
            canvas.text((box[0] + box[2]) / 2, y0 + 71, name, colour, size=12, anchor="mm")
            self.controls.append(Control(box, f"tab {name}", partial(self._go_tab, name)))

    def _general(self, canvas: Canvas, theme: Theme) -> None:
        x0, y0, x1, _ = self.box
        left = x0 + 60
        canvas.text(left, y0 + 120, "A login password has been set for this user", theme.text, size=12)
        canvas.text(left, y0 + 150, "Require password immediately after sleep begins", theme.text, size=12)
        canvas.line(x0 + 20, y0 + 190, x1 - 20, y0 + 190, theme.line)
        canvas.text(left, y0 + 220, "Allow apps downloaded from:", theme.text, size=12)
        canvas.text(left + 24, y0 + 246, "App Store", theme.text, size=12)
        canvas.text(left + 24, y0 + 270, "App Store and identified developers", theme.text, size=12)
        waiting = self._waiting()
        if not waiting:
            return
        one = len(waiting) == 1
        text = "Some system software requires your attention before it can be used."
        if one:
            text = f"System software from application “{self.named(waiting[0])}” was blocked from loading."
        lines = canvas.wrap(text, x1 - left - 160, 12)
        for index, line in enumerate(lines):
            canvas.text(left, y0 + 312 + 17 * index, line, theme.text, size=12)
        push = (x1 - 130, y0 + 302, x1 - 40, y0 + 326)
        canvas.box(push, theme.button, radius=theme.button_radius)
        colour = theme.faint if self.locked else theme.button_text
        middle = (push[0] + push[2]) / 2
        canvas.text(middle, (push[1] + push[3]) / 2, "Allow" if one else "Details…", colour, size=12.5, anchor="mm")
        if not self.locked:
            if one:
                self.controls.append(Control(push, "Allow", partial(self._allow, (waiting[0].identifier,))))
            else:
                self.controls.append(Control(push, "Details...", self._open_details))

    def _details(self, canvas: Canvas, theme: Theme) -> None:
        x0, y0, x1, _ = self.box
        rows = self._waiting()
        left, right, top = x0 + 130, x1 - 130, y0 + 46
        bottom = top + 74 + 30 * len(rows) + 52
        canvas.box((left - 1, top - 1, right + 1, bottom + 2), theme.line, radius=theme.window_radius)
        canvas.box((left, top, right, bottom), theme.window, radius=theme.window_radius)
        self.controls = [control for control in self.controls if control.text == "(close)"]
        y = top + 24.0
        for line in canvas.wrap("The system software listed below was blocked from loading.", right - left - 40, 12.5):
            canvas.text(left + 20, y, line, theme.text, size=12.5, bold=True)
            y += 17
        y += 12
        for item in rows:
            box = (left + 24, y, left + 38, y + 14)
            on = item.identifier in self.ticked
            canvas.box(box, theme.accent if on else theme.field, radius=3, outline=theme.faint)
            if on:
                canvas.line(box[0] + 3, y + 7, box[0] + 6, y + 11, theme.accent_text, 2)
                canvas.line(box[0] + 6, y + 11, box[0] + 11, y + 3, theme.accent_text, 2)
            canvas.text(left + 50, y + 7, self.named(item), theme.text, size=12.5)
            self.controls.append(Control(box, f"box {item.app_name}", partial(self._tick, item.identifier)))
            y += 30
        self.button(
            canvas,
            theme,
            (right - 190, bottom - 40, right - 110, bottom - 14),
            "Cancel",
            self._close_details,
            cancel=True,
        )
        self.button(
            canvas, theme, (right - 100, bottom - 40, right - 20, bottom - 14), "OK", self._accept, default=True
        )

    def _waiting(self) -> Sequence[PendingExtension]:
        return [item for item in self.model.extensions() if item.waiting] if self.model is not None else ()

    def _go_tab(self, name: str) -> None:
        self.tab = name

    def _lock(self) -> None:
        if self.locked:
            self.ask("Security & Privacy", self._unlocked)
        else:
            self.locked = True

    def _unlocked(self) -> None:
        self.locked = False

    def _open_details(self) -> None:
        self.sheet = "pending"

    def _close_details(self) -> None:
        self.sheet, self.ticked = "", set()

    def _tick(self, identifier: str) -> None:
        self.ticked ^= {identifier}

    def _accept(self) -> None:
        self._allow(tuple(self.ticked))
        self._close_details()

    def _allow(self, identifiers: tuple[str, ...]) -> None:
        for identifier in identifiers:
            if self.model is not None:
                self.model.allow(identifier)
