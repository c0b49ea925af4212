"""The desktop of a simulated Mac: what is on its display, and what pointer and keys do to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import Callable
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.simulator.display import keys
from harness.simulator.display.alerts import AlertWindow, PasswordSheet
from harness.simulator.display.canvas import Canvas
from harness.simulator.display.settings_window import SettingsWindow, page_of
from harness.simulator.display.theme import theme_for
from harness.simulator.display.windows import Control, Window
from harness.simulator.interfaces import Alert, AlertKind, GuestModel, Journal, MacOSVersion, Stage

Region = tuple[int, int, int, int]
"""x, y, width, height in pixels."""
Listener = Callable[[Region | None], None]
"""Told of each changed region; None: the size has changed."""

BOOT_SIZE = (1024, 768)
"""Pixels of the framebuffer before the guest's own display driver runs (Virtualization.framework's usual boot mode)."""
_TEXT = [
    "Meeting",
    "notes:",
    "the",
    "release",
    "goes",
    "out",
    "on",
    "Thursday.",
    "Check",
    "the",
    "list",
    "of",
    "open",
    "points,",
    "allow",
    "an",
    "hour",
    "for",
    "questions,",
    "and",
    "do",
    "not",
    "forget",
    "to",
    "open",
    "the",
    "window.",
    "Proxy",
    "settings",
    "were",
    "updated",
    "for",
    "the",
    "office",
    "network;",
    "see",
    "the",
    "wiki",
    "page",
    "for",
    "more.",
    "Everybody",
    "who",
    "wants",
    "to",
    "travel",
    "by",
    "train",
    "should",
    "book",
    "before",
    "Monday.",
    "Cancel",
    "what",
    "you",
    "do",
    "not",
    "need.",
]


class Desktop:
    """See `interfaces.Display`. Lives in one event loop; every call is made in its thread.

    Attributes:
        framebuffer: height × width × 4 bytes: blue, green, red, unused. Replaced, never resized in place.
        model: The guest behind the Settings pages; set by whoever builds the machine.
        frozen: No updates are to be delivered; `hard` tells whether a full request revives them.
    """

    def __init__(
        self, *, macos: MacOSVersion, size_points: tuple[int, int], scale: int, appearance: str, journal: Journal
    ) -> None:
        self.macos = macos
        self.points = size_points
        self.scale = scale
        self.theme = theme_for(macos.generation, appearance)
        self.journal = journal
        self.model: GuestModel | None = None
        self.stage = Stage.OFF
        self.frozen = False
        self.hard = False
        self.user = "admin"
        self._listeners: list[Listener] = []
        self._alerts: dict[int, AlertWindow] = {}
        self._settings: SettingsWindow | None = None
        self._sheet: PasswordSheet | None = None
        self._key: Window | None = None
        self._ids = itertools.count(1)
        self._pressed: Control | None = None
        self._buttons = 0
        self._shift = self._command = False
        self._base: Image.Image | None = None
        self._minute = ""
        self._clock: asyncio.TimerHandle | None = None
        self._watching = False
        self.framebuffer: NDArray[np.uint8] = np.zeros((BOOT_SIZE[1], BOOT_SIZE[0], 4), np.uint8)

    @property
    def size(self) -> tuple[int, int]:
        """Pixels now: (width, height)."""
        height, width = self.framebuffer.shape[:2]
        return width, height

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Be told of changes from now on; returns the way to stop."""
        self._listeners.append(listener)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    # --- what the guest asks

    def set_stage(self, stage: Stage) -> None:
        """Change what is shown as a whole; leaving the desktop closes all windows."""
        self.stage = stage
        if stage is not Stage.DESKTOP and stage is not Stage.ASLEEP:
            self._alerts.clear()
            self._settings = self._sheet = self._key = None
        self._base = None
        self._tick()
        self._paint()

    def show(self, alert: Alert) -> int:
        """Put an alert in front; returns its id."""
        number = next(self._ids)
        window = AlertWindow.on(self.points, alert, self.macos.generation, lambda text: self._answer(number, text))
        shift = 18.0 * len(self._alerts)
        x0, y0, x1, y1 = window.box
        window.box = (x0 + shift, y0 + shift, x1 + shift, y1 + shift)
        self._alerts[number] = window
        self._key = window
        self._paint()
        self.journal.write("prompt-drawn", kind=alert.kind.value, app=alert.app_name)
        return number

    def dismiss(self, alert_id: int) -> None:
        """Take an alert away."""
        if self._alerts.pop(alert_id, None) is not None:
            self._key = next(reversed(self._alerts.values()), self._sheet or self._settings)
            self._paint()

    def open_settings(self, url: str) -> None:
        """Open Settings at a page. A window that is open already for the same URL stays where it is."""
        if self.stage is not Stage.DESKTOP:
            return
        if self._settings is not None and self._settings.url == url:
            self._key = self._sheet or self._settings
            return
        page, sheet = page_of(url, self.macos.generation)
        self._open_page(page, sheet, url)

    def quit_settings(self) -> None:
        """Close the Settings window."""
        if self._settings is not None:
            self._settings = self._sheet = None
            self._key = next(reversed(self._alerts.values()), None)
            self._paint()

    def freeze(self, frozen: bool, *, hard: bool = False) -> None:  # noqa: FBT001 - a state, named by the verb
        """Stop delivering updates; a full request revives them unless `hard`."""
        self.frozen, self.hard = frozen, hard
        if not frozen:
            self._tell((0, 0, *self.size))

    def refresh(self) -> None:
        """Draw again: what the guest's model says has changed."""
        self._paint()

    # --- what a person does

    def pointer(self, x: int, y: int, buttons: int) -> None:
        """A pointer event as RFB has it: pixel position, bit mask of pressed buttons (1 left, 8/16 wheel up/down)."""
        px, py = x / self.scale, y / self.scale
        pressed = buttons & ~self._buttons
        released = self._buttons & ~buttons
        self._buttons = buttons
        if self.stage is not Stage.DESKTOP:
            if self.stage is Stage.ASLEEP and pressed:
                self.set_stage(Stage.DESKTOP)
            return
        window = next((window for window in reversed(self._stack()) if window.contains(px, py)), None)
        for bit, lines in ((8, -2), (16, 2)):
            if pressed & bit and window is not None and window.scroll(lines):
                self._paint()
        if pressed & 1:
            self._pressed = None
            if window is not None:
                self._key = window
                if not (
                    self._sheet is not None and window is self._settings
                ):  # the window below a sheet takes no clicks
                    self._pressed = window.press(px, py)
                self._paint()
            self.journal.write(
                "click", x=x, y=y, hit=f"{window.kind}/{self._pressed.text}" if window and self._pressed else None
            )
        if released & 1 and self._pressed is not None:
            control, self._pressed = self._pressed, None
            if window is not None and control.hit(px, py):
                self._act(control)

    def key(self, keysym: int, down: bool) -> None:  # noqa: FBT001 - as the protocol says it
        """A key event; keysyms as Virtualization.framework takes them (see keys.py)."""
        if keysym in keys.SHIFTS:
            self._shift = down
        elif keysym in keys.COMMANDS:
            self._command = down
        elif down and self.stage is Stage.DESKTOP and self._key is not None:
            self._typed(keysym, self._key)

    # --- inside

    def _typed(self, keysym: int, window: Window) -> None:
        character = keys.character(keysym, shift=self._shift)
        entry = window.fields[window.focus] if window.fields else None
        control: Control | None = None
        if self._command:
            if character.lower() == "a" and entry is not None:
                entry.selected = True
            elif character.lower() in ("q", "w") and window in (self._settings, self._sheet):
                self.quit_settings()
            return
        if keysym in (keys.RETURN, keys.ENTER):
            control = window.default()
        elif keysym == keys.ESCAPE:
            control = window.cancel()
        elif keysym == keys.TAB and window.fields:
            window.focus = (window.focus + (-1 if self._shift else 1)) % len(window.fields)
        elif entry is not None and keysym == keys.BACKSPACE:
            entry.text = "" if entry.selected else entry.text[:-1]
            entry.selected = False
        elif entry is not None and character:
            entry.text = (character if entry.selected else entry.text + character)[:256]
            entry.selected = False
        if control is not None:
            self.journal.write("key", hit=f"{window.kind}/{control.text}")
            self._act(control)
        else:
            self._paint()

    def _act(self, control: Control) -> None:
        control.action()
        self._paint()

    def _answer(self, number: int, text: str) -> None:
        window = self._alerts.pop(number, None)
        if window is None:
            return
        self._key = next(reversed(self._alerts.values()), self._sheet or self._settings)
        if window.alert.kind is AlertKind.EXTENSION and text == "Open System Settings":
            self._open_page("login-items" if self.macos.generation >= 15 else "privacy-security", "", "")
        window.alert.on_button(text)

    def _open_page(self, page: str, sheet: str, url: str) -> None:
        if self._settings is None:
            width, height = min(760, self.points[0] - 40), min(600, self.points[1] - 90)
            x, y = (self.points[0] - width) / 2 + 40, 60.0
            self._settings = SettingsWindow(
                "settings", (x, y, x + width, y + height), generation=self.macos.generation, model=self.model,
                ask=self._ask, close=self.quit_settings,
            )  # fmt: skip
        self._sheet = None
        self._settings.url = url
        self._settings.go(page, sheet)
        self._key = self._settings
        self._paint()
        self._watch_model()
        self.journal.write("settings-drawn", page=page, sheet=sheet)

    def _ask(self, pane: str, then: Callable[[], None]) -> None:
        settings, model = self._settings, self.model
        if settings is None or model is None:
            return

        def done(allowed: bool) -> None:  # noqa: FBT001 - the answer itself
            self._sheet = None
            self._key = self._settings
            if allowed:
                then()

        self._sheet = PasswordSheet.over(
            settings.box,
            pane=pane,
            user=self.user,
            with_user=self.macos.generation >= 26,
            check=model.check_password,
            done=done,
        )
        self._key = self._sheet
        self.journal.write("password-asked", pane=pane)

    def _watch_model(self) -> None:
        """While Settings is open, draw again when the guest's extensions change behind it."""
        if self._settings is None or self.model is None or self._watching:
            return
        seen = list(self.model.extensions())

        def look() -> None:
            nonlocal seen
            self._watching = False
            if self._settings is None or self.model is None:
                return
            now = list(self.model.extensions())
            if now != seen:
                seen = now
                self._paint()
            again()

        def again() -> None:
            with contextlib.suppress(RuntimeError):  # drawn without a loop: nothing changes behind it
                asyncio.get_running_loop().call_later(0.2, look)
                self._watching = True

        again()

    def _stack(self) -> list[Window]:
        below: list[Window | None] = [self._settings, self._sheet]
        return [window for window in below if window is not None] + list(self._alerts.values())

    def _paint(self) -> None:
        if self.stage in (Stage.OFF, Stage.BOOT):
            image = self._boot_screen()
        else:
            if self._base is None:
                self._base = self._background()
            image = self._base.copy() if self.stage is not Stage.ASLEEP else Image.new("RGB", self._base.size)
            if self.stage is Stage.DESKTOP:
                canvas = Canvas(image, self.scale)
                for window in self._stack():
                    window.paint(canvas, self.theme)
        self._take(np.asarray(image))

    def _take(self, picture: NDArray[np.uint8]) -> None:
        height, width = picture.shape[:2]
        old = self.framebuffer
        if old.shape[:2] != (height, width):
            self.framebuffer = np.zeros((height, width, 4), np.uint8)
            self.framebuffer[:, :, :3] = picture[:, :, ::-1]
            for listener in tuple(self._listeners):
                listener(None)
            return
        changed = (old[:, :, :3] != picture[:, :, ::-1]).any(axis=2)
        rows = np.flatnonzero(changed.any(axis=1))
        if rows.size == 0:
            return
        columns = np.flatnonzero(changed.any(axis=0))
        y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        old[y0:y1, x0:x1, :3] = picture[y0:y1, x0:x1, ::-1]
        self._tell((x0, y0, x1 - x0, y1 - y0))

    def _tell(self, region: Region) -> None:
        for listener in tuple(self._listeners):
            listener(region)

    def _boot_screen(self) -> Image.Image:
        image = Image.new("RGB", BOOT_SIZE)
        if self.stage is Stage.BOOT:
            canvas = Canvas(image, 1)
            canvas.circle(512, 330, 34, fill=(200, 200, 200))
            canvas.box((412, 440, 612, 446), (70, 70, 70), radius=3)
            canvas.box((412, 440, 500, 446), (220, 220, 220), radius=3)
        return image

    def _background(self) -> Image.Image:
        width, height = self.points[0] * self.scale, self.points[1] * self.scale
        top, bottom = (np.array(colour, float) for colour in self.theme.wallpaper)
        ramp = np.linspace(0, 1, height)[:, None]
        column = (top * (1 - ramp) + bottom * ramp).astype(np.uint8)
        image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(column[:, None, :], (height, width, 3))))
        canvas = Canvas(image, self.scale)
        if self.stage is Stage.LOGIN:
            middle = self.points[0] / 2
            canvas.circle(middle, self.points[1] * 0.62, 32, fill=(210, 210, 214))
            canvas.text(middle, self.points[1] * 0.62 + 50, self.user, (255, 255, 255), size=14, bold=True, anchor="mm")
            return image
        theme = self.theme
        canvas.box((0, 0, self.points[0], 25), theme.bar)
        x = 20.0
        for index, name in enumerate(("Finder", "File", "Edit", "View", "Go", "Window", "Help")):
            canvas.text(x, 12.5, name, theme.text, size=12.5, bold=index == 0)
            x += canvas.width(name, 12.5) + 18
        canvas.text(self.points[0] - 14, 12.5, self._minute, theme.text, size=12.5, anchor="rm")
        self._note(canvas)
        side, count = 44, 9
        left = (self.points[0] - count * (side + 8)) / 2
        canvas.box(
            (left - 10, self.points[1] - side - 20, left + count * (side + 8) + 2, self.points[1] - 6),
            theme.sidebar,
            radius=16,
        )
        for index in range(count):
            colour = tuple(int(128 + 100 * math.sin(index * 1.7 + part * 2)) for part in range(3))
            box = (
                left + index * (side + 8),
                self.points[1] - side - 14,
                left + index * (side + 8) + side,
                self.points[1] - 14,
            )
            canvas.box(box, (colour[0], colour[1], colour[2]), radius=10)
        return image

    def _note(self, canvas: Canvas) -> None:
        """A window of another app, full of text that holds words like "allow" and "open": it must fool nobody."""
        theme = self.theme
        x0, y0, x1, y1 = 30.0, 60.0, 330.0, min(420.0, self.points[1] - 120)
        canvas.box((x0, y0, x1, y1), theme.field, radius=theme.window_radius, outline=theme.line)
        canvas.text((x0 + x1) / 2, y0 + 16, "Notes", theme.text, size=12.5, bold=True, anchor="mm")
        y = y0 + 44
        for line in canvas.wrap(" ".join(_TEXT * 2), x1 - x0 - 30, 12):
            if y > y1 - 14:
                break
            canvas.text(x0 + 15, y, line, theme.text, size=12)
            y += 17

    def _tick(self) -> None:
        """The menu bar's clock: it changes once a minute."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if self.stage is not Stage.DESKTOP:
            return
        now = datetime.now().astimezone()
        minute = now.strftime("%a %d %b  %H:%M")
        if minute != self._minute:
            self._minute = minute
            self._base = None
            self._paint()
        with contextlib.suppress(RuntimeError):  # drawn without a loop (the gallery): its clock stands still
            self._clock = asyncio.get_running_loop().call_later(60 - now.second, self._tick)
