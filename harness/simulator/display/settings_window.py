"""System Settings: Privacy & Security (13, 14), Login Items & Extensions and its extension sheets (15, 26)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from harness.simulator.display.canvas import Box, Canvas
from harness.simulator.display.theme import Theme
from harness.simulator.display.windows import Control, Window
from harness.simulator.interfaces import GuestModel, PendingExtension

REMOVE = "Delete Extension"
"""What the menu behind a row's (⋯) button has. That the button is there is seen in a posted picture of macOS 15, that removing is
possible in Apple's description of `NonRemovableFromUISystemExtensions`; the wording is assumed.
"""
_SIDE = 200.0
_HEAD = 44.0
_ROW = 40.0
_ROWS = 5
_SIDEBAR = (
    "Wi-Fi",
    "Bluetooth",
    "Network",
    "General",
    "Appearance",
    "Control Center",
    "Privacy & Security",
    "Desktop & Dock",
    "Displays",
)
_PRIVACY = (
    "Location Services",
    "Calendars",
    "Contacts",
    "Photos",
    "Camera",
    "Microphone",
    "Accessibility",
    "Input Monitoring",
    "Full Disk Access",
    "Developer Tools",
)
_KINDS = {
    "network": "Network Extensions",
    "driver": "Driver Extensions",
    "endpoint security": "Endpoint Security Extensions",
}
_POINTS = {"network_extension": "network", "driver_extension": "driver", "endpoint_security": "endpoint security"}
_TEXTS = {
    "network": "Network extensions run in the background and can monitor network traffic on your Mac.",
    "driver": "Driver extensions run in the background and let your Mac use hardware devices.",
    "endpoint security": "Endpoint security extensions run in the background and can monitor activity on your Mac.",
}
Ask = Callable[[str, Callable[[], None]], None]
"""`ask(pane, then)`: authenticate, and on success call `then`."""


def page_of(url: str, generation: int) -> tuple[str, str]:
    """(page, sheet kind or "") that a Settings URL leads to on that generation; the front page for an unknown one."""
    if generation >= 15:
        if (
            "com.apple.ExtensionsPreferences" in url
            and "extensionPointIdentifier=com.apple.system_extension." in url
            and url.endswith(".extension-point")
        ):
            point = url.rsplit("com.apple.system_extension.", 1)[1].split(".", 1)[0]
            return "login-items", _POINTS.get(point, "")
        if "com.apple.LoginItems-Settings.extension" in url:
            return "login-items", ""
    elif generation == 12:
        return "privacy-security" if url.endswith("com.apple.preference.security?General") else "general", ""
    elif "com.apple.preference.security" in url or "com.apple.settings.PrivacySecurity.extension" in url:
        return "privacy-security" if url.endswith(("?Security", ".extension")) else "privacy", ""
    return "general", ""


@dataclass
class SettingsWindow(Window):
    """The Settings window on one page, perhaps with an extensions sheet open. `offset`: how far the page is scrolled."""

    generation: int = 15
    model: GuestModel | None = None
    ask: Ask = lambda _pane, _then: None
    close: Callable[[], None] = lambda: None
    named: Callable[[PendingExtension], str] = lambda item: item.app_name
    page: str = "general"
    sheet: str = ""
    offset: float = 0
    url: str = ""
    first: int = 0
    """The first row that a sheet shows: it has room for `_ROWS`."""
    menu: PendingExtension | None = None
    """The row whose menu is open."""
    _most: float = field(default=0, repr=False)

    def go(self, page: str, sheet: str = "", *, top: bool = False) -> None:
        """Show a page; Privacy & Security's security part lies below the fold and is scrolled to when asked for, unless
        `top` says that the page stays where pages begin.
        """
        self.page, self.sheet = page, sheet
        self.offset = 0
        self.first = 0
        self.menu = None
        if top:
            self.page = {"privacy-security": "privacy"}.get(page, page)
            return
        if page == "privacy-security":
            self.page, self.offset = "privacy", 10_000
        elif page == "login-items":
            self.offset = 10_000

    def paint(self, canvas: Canvas, theme: Theme) -> None:
        """Sidebar, page, sheet."""
        x0, y0, x1, y1 = self.box
        self.controls = []
        self.frame(canvas, theme)
        self._content(canvas, theme, x0 + _SIDE, y0, x1, y1)
        canvas.box((x0, y0, x0 + _SIDE, y1), theme.sidebar, radius=theme.window_radius)
        for index, colour in enumerate(((255, 95, 87), (254, 188, 46), (40, 200, 64))):
            canvas.circle(x0 + 18 + 20 * index, y0 + 20, 6, fill=colour)
        self.controls.append(Control((x0 + 11, y0 + 13, x0 + 25, y0 + 27), "(close)", self.close))
        here = "Privacy & Security" if self.page == "privacy" else "General"
        for index, name in enumerate(_SIDEBAR):
            y = y0 + 56 + index * 30
            box = (x0 + 10, y, x0 + _SIDE - 10, y + 26)
            if name == here:
                canvas.box(box, theme.accent, radius=6)
            canvas.text(x0 + 22, y + 13, name, theme.accent_text if name == here else theme.text, size=12)
            page = {"Privacy & Security": "privacy", "General": "general"}.get(name)
            if page:
                self.controls.append(Control(box, name, partial(self.go, page)))
        if self.sheet:
            self._sheet(canvas, theme)

    def scroll(self, lines: int) -> bool:
        """Turn the wheel: positive is down, 30 points a line; in a sheet, a row a line."""
        if self.menu is not None:
            return False
        if self.sheet:
            most = max(0, len(self._listed()) - _ROWS)
            was, self.first = self.first, min(max(0, self.first + (1 if lines > 0 else -1)), most)
            return was != self.first
        before = self.offset
        self.offset = min(max(0.0, self.offset + 30 * lines), self._most)
        return before != self.offset

    def _content(self, canvas: Canvas, theme: Theme, x0: float, y0: float, x1: float, y1: float) -> None:
        rows = {"privacy": self._privacy, "login-items": self._login_items}.get(self.page, self._general)
        title = {"privacy": "Privacy & Security", "login-items": "Login Items & Extensions"}.get(self.page, "General")
        height = rows(canvas, theme, x0 + 20, 0, x1 - 20, None)
        self._most = max(0.0, height - (y1 - y0 - _HEAD - 16))
        self.offset = min(self.offset, self._most)
        rows(canvas, theme, x0 + 20, y0 + _HEAD + 8 - self.offset, x1 - 20, (y0 + _HEAD, y1 - 8))
        canvas.box((x0, y0, x1, y0 + _HEAD), theme.window, radius=theme.window_radius)
        canvas.box((x0, y1 - 10, x1, y1), theme.window, radius=theme.window_radius)
        canvas.text(x0 + 20, y0 + 24, title, theme.text, size=15, bold=True)

    def _add(
        self,
        box: tuple[float, float, float, float],
        text: str,
        action: Callable[[], None],
        clip: tuple[float, float] | None,
    ) -> None:
        if clip is not None and not self.sheet and clip[0] <= box[1] and box[3] <= clip[1]:
            self.controls.append(Control(box, text, action))

    def _general(
        self, canvas: Canvas, theme: Theme, x0: float, y: float, x1: float, clip: tuple[float, float] | None
    ) -> float:
        start = y
        names = [
            "About",
            "Software Update",
            "Storage",
            "AirDrop & Handoff",
            "Login Items" if self.generation < 15 else "Login Items & Extensions",
            "Language & Region",
        ]
        for name in names:
            box = (x0, y, x1, y + 36)
            if _seen(box, clip):
                canvas.box(box, theme.panel, radius=6)
                canvas.text(x0 + 14, y + 18, name, theme.text, size=12.5)
                canvas.text(x1 - 14, y + 18, ">", theme.faint, size=12.5, anchor="rm")
            if name == "Login Items & Extensions":
                self._add(box, name, lambda: self.go("login-items"), clip)
            y += 42
        return y - start

    def _privacy(
        self, canvas: Canvas, theme: Theme, x0: float, y: float, x1: float, clip: tuple[float, float] | None
    ) -> float:
        start = y
        for name in _PRIVACY:
            box = (x0, y, x1, y + _ROW - 4)
            if _seen(box, clip):
                canvas.box(box, theme.panel, radius=6)
                canvas.text(x0 + 14, y + 18, name, theme.text, size=12.5)
                canvas.text(x1 - 14, y + 18, ">", theme.faint, size=12.5, anchor="rm")
            y += _ROW
        y += 18
        self._line(canvas, theme, x0, y, "Security", clip, bold=True)
        y += 26
        box = (x0, y, x1, y + 62)
        if _seen(box, clip):
            canvas.box(box, theme.panel, radius=6)
            canvas.text(x0 + 14, y + 17, "Allow applications downloaded from", theme.text, size=12.5)
            canvas.text(x0 + 14, y + 42, "App Store and identified developers", theme.faint, size=12)
        y += 70
        waiting = [item for item in self._extensions() if item.waiting]
        if waiting:
            y += self._blocked(canvas, theme, x0, y, x1, waiting, clip)
        box = (x0, y, x1, y + 36)
        if _seen(box, clip):
            canvas.box(box, theme.panel, radius=6)
            canvas.text(x0 + 14, y + 18, "FileVault", theme.text, size=12.5)
            canvas.text(x1 - 14, y + 18, "Off", theme.faint, size=12.5, anchor="rm")
        return y + 60 - start

    def _blocked(
        self,
        canvas: Canvas,
        theme: Theme,
        x0: float,
        y: float,
        x1: float,
        waiting: Sequence[PendingExtension],
        clip: tuple[float, float] | None,
    ) -> float:
        one = len(waiting) == 1
        text = (
            f"System software from application “{self.named(waiting[0])}” was blocked from loading."
            if one
            else "Some system software requires your attention before it can be used."
        )
        button = "Allow" if one else "Details..."
        lines = canvas.wrap(text, x1 - x0 - 120, 12.5)
        height = 22 + 17 * len(lines)
        box = (x0, y, x1, y + height)
        if _seen(box, clip):
            canvas.box(box, theme.panel, radius=6)
            for index, line in enumerate(lines):
                canvas.text(x0 + 14, y + 20 + 17 * index, line, theme.text, size=12.5)
            push = (x1 - 88, y + height / 2 - 12, x1 - 14, y + height / 2 + 12)
            canvas.box(push, theme.button, radius=theme.button_radius)
            canvas.text(
                (push[0] + push[2]) / 2, (push[1] + push[3]) / 2, button, theme.button_text, size=12.5, anchor="mm"
            )
            if one:
                identifier = waiting[0].identifier
                self._add(push, button, lambda: self.ask("Privacy & Security", lambda: self._allow(identifier)), clip)
            else:
                self._add(push, button, lambda: self._open_sheet("pending"), clip)
        return height + 8

    def _login_items(
        self, canvas: Canvas, theme: Theme, x0: float, y: float, x1: float, clip: tuple[float, float] | None
    ) -> float:
        start = y
        self._line(canvas, theme, x0, y + 8, "Open at Login", clip, bold=True)
        y += 26
        box = (x0, y, x1, y + 60)
        if _seen(box, clip):
            canvas.box(box, theme.panel, radius=6)
            canvas.text((x0 + x1) / 2, y + 30, "No Items", theme.faint, size=12.5, anchor="mm")
        y += 78
        background = "App Background Activity" if self.generation >= 26 else "Allow in the Background"
        self._line(canvas, theme, x0, y, background, clip, bold=True)
        y += 18
        for name in ("Example Helper", "Sample Updater", "Sync Agent"):
            box = (x0, y, x1, y + _ROW - 4)
            if _seen(box, clip):
                canvas.box(box, theme.panel, radius=6)
                canvas.text(x0 + 14, y + 18, name, theme.text, size=12.5)
                switch(canvas, theme, x1 - 46, y + 10, on=True)
            y += _ROW
        y += 18
        self._line(canvas, theme, x0, y, "Extensions", clip, bold=True)
        y += 18
        if self.generation >= 26:
            box = (x0, y, x0 + 190, y + 24)
            if _seen(box, clip):
                canvas.box(box, theme.button, radius=theme.button_radius)
                canvas.box((x0 + 95, y, x0 + 190, y + 24), theme.panel, radius=theme.button_radius)
                canvas.text(x0 + 47, y + 12, "By App", theme.text, size=11.5, anchor="mm")
                canvas.text(x0 + 142, y + 12, "By Category", theme.text, size=11.5, anchor="mm")
            y += 34
        for name in ("Actions", "Driver Extensions", "File Providers", "Finder", "Network Extensions", "Sharing"):
            box = (x0, y, x1, y + _ROW - 4)
            kind = {title: key for key, title in _KINDS.items()}.get(name, "")
            if _seen(box, clip):
                canvas.box(box, theme.panel, radius=6)
                canvas.text(x0 + 14, y + 18, name, theme.text, size=12.5)
                info(canvas, theme, x1 - 26, y + 18)
            if kind:
                self._add((x1 - 36, y + 8, x1 - 16, y + 28), f"(i) {name}", partial(self._open_sheet, kind), clip)
            y += _ROW
        return y + 10 - start

    def _sheet(self, canvas: Canvas, theme: Theme) -> None:
        x0, y0, x1, _ = self.box
        rows = self._listed()[self.first : self.first + _ROWS]
        left, right = x0 + 110, x1 - 110
        top = y0 + 60
        lines = canvas.wrap(
            _TEXTS.get(self.sheet, "The following software was blocked from loading."), right - left - 40, 11.5
        )
        bottom = top + 66 + 15 * len(lines) + 52 * max(1, len(rows)) + 54
        canvas.box((left - 1, top - 1, right + 1, bottom + 2), theme.line, radius=theme.window_radius)
        canvas.box((left, top, right, bottom), theme.window, radius=theme.window_radius)
        self.controls = [control for control in self.controls if control.text == "(close)"]
        canvas.text(left + 20, top + 24, _KINDS.get(self.sheet, "System Software"), theme.text, size=13.5, bold=True)
        y = top + 46.0
        for line in lines:
            canvas.text(left + 20, y, line, theme.faint, size=11.5)
            y += 15
        y += 8
        below: Box | None = None
        if not rows:
            canvas.text((left + right) / 2, y + 24, "No Extensions", theme.faint, size=12, anchor="mm")
        for item in rows:
            canvas.box((left + 20, y, right - 20, y + 46), theme.panel, radius=6)
            canvas.box((left + 30, y + 10, left + 56, y + 36), (90, 130, 200), radius=6)
            canvas.text(left + 66, y + 16, self.named(item), theme.text, size=12.5)
            canvas.text(left + 66, y + 33, "Extension", theme.faint, size=10.5)
            box = switch(canvas, theme, right - 92, y + 14, on=item.enabled)
            more(canvas, theme, right - 36, y + 23)
            self.controls.append(Control(box, f"switch {item.app_name}", partial(self._switch, item)))
            place = (right - 46, y + 13, right - 26, y + 33)
            self.controls.append(Control(place, f"(⋯) {item.app_name}", partial(self._open_menu, item)))
            if self.menu is not None and self.menu.identifier == item.identifier:
                below = (right - 166, y + 36, right - 26, y + 66)
            y += 52
        self.button(
            canvas,
            theme,
            (right - 84, bottom - 38, right - 20, bottom - 12),
            "Done",
            self._close_sheet,
            default=True,
            cancel=True,
        )
        if self.menu is not None:
            self._menu(canvas, theme, self.menu, below)

    def _menu(self, canvas: Canvas, theme: Theme, item: PendingExtension, place: Box | None) -> None:
        """The open menu of a row, over everything; a click elsewhere closes it. Without its row it is gone."""
        if place is None:
            self.menu = None
            return
        x0, y0, x1, y1 = place
        canvas.box((x0 - 1, y0 - 1, x1 + 1, y1 + 2), theme.line, radius=6)
        canvas.box(place, theme.window, radius=6)
        canvas.text(x0 + 14, (y0 + y1) / 2, REMOVE, theme.text, size=12.5)
        self.controls = [
            Control(place, REMOVE, partial(self._remove, item)),
            Control(self.box, "(close menu)", self._close_menu, cancel=True),
        ]

    def _line(
        self,
        canvas: Canvas,
        theme: Theme,
        x: float,
        y: float,
        text: str,
        clip: tuple[float, float] | None,
        *,
        bold: bool,
    ) -> None:
        if clip is not None and clip[0] <= y - 8 and y + 8 <= clip[1]:
            canvas.text(x, y, text, theme.text, size=13, bold=bold)

    def _extensions(self) -> Sequence[PendingExtension]:
        return self.model.extensions() if self.model is not None else ()

    def _listed(self) -> list[PendingExtension]:
        """The sheet's rows: those that wait, or all of its kind."""
        pending = self.sheet == "pending"
        return [item for item in self._extensions() if (item.waiting if pending else item.kind == self.sheet)]

    def _switch(self, item: PendingExtension) -> None:
        self.ask(
            "Login Items", lambda: self._disallow(item.identifier) if item.enabled else self._allow(item.identifier)
        )

    def _allow(self, identifier: str) -> None:
        if self.model is not None:
            self.model.allow(identifier)

    def _disallow(self, identifier: str) -> None:
        if self.model is not None:
            self.model.disallow(identifier)

    def _open_menu(self, item: PendingExtension) -> None:
        self.menu = item

    def _close_menu(self) -> None:
        self.menu = None

    def _remove(self, item: PendingExtension) -> None:
        self.menu = None
        self.ask("Login Items", lambda: self.model.remove(item.identifier) if self.model is not None else None)

    def _open_sheet(self, kind: str) -> None:
        self.sheet, self.first, self.menu = kind, 0, None

    def _close_sheet(self) -> None:
        self.sheet, self.menu = "", None


def _seen(box: tuple[float, float, float, float], clip: tuple[float, float] | None) -> bool:
    """Whether a row is (at least partly) inside the visible part; the caller's head and foot cover the rest."""
    return clip is not None and box[3] > clip[0] and box[1] < clip[1]


def switch(canvas: Canvas, theme: Theme, x: float, y: float, *, on: bool) -> tuple[float, float, float, float]:
    """A switch of 32×18 points at (x, y); returns its box."""
    box = (x, y, x + 32, y + 18)
    canvas.box(box, theme.accent if on else theme.off, radius=9)
    canvas.circle(x + (23 if on else 9), y + 9, 7.5, fill=(255, 255, 255))
    return box


def info(canvas: Canvas, theme: Theme, x: float, y: float) -> None:
    """The (i) button."""
    canvas.circle(x, y, 8, outline=theme.faint)
    canvas.text(x, y, "i", theme.faint, size=11, bold=True, anchor="mm")


def more(canvas: Canvas, theme: Theme, x: float, y: float) -> None:
    """The (⋯) button: three dots in a ring, as a posted picture of macOS 15 has it."""
    canvas.circle(x, y, 8, outline=theme.faint)
    for dot in (-4, 0, 4):
        canvas.circle(x + dot, y, 1.2, fill=theme.faint)
