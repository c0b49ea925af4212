"""The desktop of a simulated Mac: what is on its display, and what pointer and keys do to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.simulator.display import accessibility, backdrop, keys, people
from harness.simulator.display.alerts import AlertWindow
from harness.simulator.display.backdrop import BOOT_SIZE, ForeignWindow
from harness.simulator.display.canvas import Box, Canvas, bring
from harness.simulator.display.listed import Listed
from harness.simulator.display.lock import LockScreen
from harness.simulator.display.passwords import PasswordSheet
from harness.simulator.display.preferences_window import PreferencesWindow
from harness.simulator.display.settings_window import SettingsWindow, page_of
from harness.simulator.display.theme import theme_for
from harness.simulator.display.windows import Control, Window
from harness.simulator.interfaces import (
    Alert,
    AlertKind,
    AxElement,
    AxProcess,
    GuestModel,
    Journal,
    MacOSVersion,
    Stage,
)
from harness.simulator.variations import Variations

Region = tuple[int, int, int, int]
"""x, y, width, height in pixels."""
Listener = Callable[[Region | None], None]
"""Told of each changed region; None: the size has changed."""

_OTHER_APP = "Aardvark Filter"
"""Whose alert comes up beside ours, where a variation has one."""


class Desktop:
    """See `interfaces.Display`. Lives in one event loop; every call is made in its thread.

    Attributes:
        framebuffer: height × width × 4 bytes: blue, green, red, unused. Replaced, never resized in place.
        frozen: No updates are to be delivered; `hard` tells whether a full request revives them.
    """

    def __init__(
        self,
        *,
        macos: MacOSVersion,
        size_points: tuple[int, int],
        scale: int,
        appearance: str,
        journal: Journal,
        variations: Variations | None = None,
    ) -> None:
        self.macos = macos
        self.points = size_points
        self.scale = scale
        self.theme = theme_for(macos.generation, appearance)
        self.journal = journal
        self.variations = variations or Variations()
        self._model: GuestModel | None = None
        self._listed: Listed | None = None
        self.stage = Stage.OFF
        self.frozen = False
        self.hard = False
        self.user = "admin"
        self._listeners: list[Listener] = []
        self._alerts: dict[int, AlertWindow] = {}
        self._settings: SettingsWindow | PreferencesWindow | None = None
        self._sheet: PasswordSheet | None = None
        self._foreign: ForeignWindow | None = None
        self._lock: LockScreen | None = None
        self._happened: set[str] = set()
        """What a variation does once and has done."""
        self._key: Window | None = None
        self._ids = itertools.count(1)
        self._asked = 0
        self._pressed: Control | None = None
        self._buttons = 0
        self._grip: tuple[AlertWindow, float, float] | None = None
        """The alert that is being dragged, and where it was gripped."""
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

    @property
    def model(self) -> GuestModel | None:
        """The guest behind the Settings pages."""
        return self._model

    @model.setter
    def model(self, model: GuestModel | None) -> None:
        self._model = model
        self._listed = Listed(model, self.variations, self.journal) if model is not None else None

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
        if stage is Stage.LOCKED and self._model is not None:
            self._lock = LockScreen(people.at_console(self._model)[0], self._model.check_password, self._unlocked)
        if stage not in (Stage.DESKTOP, Stage.ASLEEP, Stage.LOCKED):
            self._alerts.clear()
            self._settings = self._sheet = self._key = self._foreign = None
        self._base = None
        self._tick()
        self._paint()

    def show(self, alert: Alert) -> int:
        """Put an alert in front; returns its id."""
        if alert.kind is AlertKind.ADMINISTRATOR:
            self._authenticate((0.0, 0.0, *self.points), alert.app_name, lambda may: alert.on_button("OK" if may else "Cancel"), alert.text)  # fmt: skip
            self._asked = next(self._ids)
            self._paint()
            return self._asked
        number = self._put(alert)
        if alert.kind is AlertKind.EXTENSION:
            self._company(number)
            self._somebody("ok", lambda: self._answer(number, "OK") if number in self._alerts else None)
        self._paint()
        self.journal.write("prompt-drawn", kind=alert.kind.value, app=alert.app_name)
        return number

    def dismiss(self, alert_id: int) -> None:
        """Take an alert away."""
        asked = alert_id == self._asked and self._sheet is not None
        self._sheet = None if asked else self._sheet
        if self._alerts.pop(alert_id, None) is not None or asked:
            self._key = self._front()
            self._paint()

    def open_settings(self, url: str) -> None:
        """Open Settings at a page. A window that is open already for the same URL stays where it is."""
        if self.stage is not Stage.DESKTOP:
            return
        if self._settings is not None and self._settings.url == url:
            self._key = self._front()
            return
        page, sheet = page_of(url, self.macos.generation)
        self._open_page(page, sheet, url)

    def quit_settings(self) -> None:
        """Close the Settings window."""
        if self._settings is not None:
            self._settings = self._sheet = self._foreign = None
            self._key = self._front()
            self._paint()

    def freeze(self, frozen: bool, *, hard: bool = False) -> None:  # noqa: FBT001 - a state, named by the verb
        """Stop delivering updates; a full request revives them unless `hard`."""
        self.frozen, self.hard = frozen, hard
        if not frozen:
            self._tell((0, 0, *self.size))

    def refresh(self) -> None:
        """Draw again: what the guest's model says has changed."""
        self._paint()

    def accessible(self) -> Sequence[AxProcess]:
        """See `Display`: who owns which window, and what is in it."""
        found: dict[str, list[AxElement]] = {}
        front = self._front()
        owner = ""
        for window in reversed(self._stack() if self.stage is Stage.DESKTOP else []):
            process, element = self._accessible(window)
            owner = process if window is front else owner
            if window is self._sheet and process != "SecurityAgent" and self._settings is not None:
                continue  # shown as a child of its window
            found.setdefault(process, []).append(element)
        return accessibility.processes(found, owner)

    # --- what a person does

    def pointer(self, x: int, y: int, buttons: int) -> None:
        """A pointer event as RFB has it: pixel position, bit mask of pressed buttons (1 left, 8/16 wheel up/down)."""
        px, py = x / self.scale, y / self.scale
        pressed = buttons & ~self._buttons
        released = self._buttons & ~buttons
        self._buttons = buttons
        if self.stage is not Stage.DESKTOP:
            self._touched("click" if pressed else "move")
            return
        window = next((window for window in reversed(self._stack()) if window.contains(px, py)), None)
        for bit, lines in ((8, -2), (16, 2)):
            if pressed & bit and window is not None and window.scroll(lines):
                self._paint()
        if pressed & 1:
            self._pressed = None
            if window is not None:
                self._raise(window)
                if not (
                    self._sheet is not None and window is self._settings
                ):  # the window below a sheet takes no clicks
                    self._pressed = window.press(px, py)
            # Before it is painted: that takes a tenth of a second on a large display, and a click is timed by this line.
            if isinstance(window, AlertWindow) and self._pressed is None:
                self._grip = (window, px, py)
            self.journal.write(
                "click", x=x, y=y, hit=f"{window.kind}/{self._pressed.text}" if window and self._pressed else None
            )
            if window is not None:
                self._paint()
        if released & 1 and self._grip is not None:
            self._drop(px, py)
        if released & 1 and self._pressed is not None:
            control, self._pressed = self._pressed, None
            if window is not None and control.hit(px, py) and not self._deaf(window):
                self._act(control)

    def key(self, keysym: int, down: bool) -> None:  # noqa: FBT001 - as the protocol says it
        """A key event; keysyms as Virtualization.framework takes them (see keys.py)."""
        if down and self._touched("key"):
            return
        if keysym in keys.SHIFTS:
            self._shift = down
        elif keysym in keys.COMMANDS:
            self._command = down
        elif down and self.stage is Stage.LOCKED and self._lock is not None:
            self._lock.key(keysym, shift=self._shift)
            self._paint()
        elif down and self.stage is Stage.DESKTOP and self._key is not None and not self._deaf(self._key):
            self._typed(keysym, self._key)

    # --- inside

    def _typed(self, keysym: int, window: Window) -> None:
        character = keys.character(keysym, shift=self._shift)
        entry = window.fields[window.focus] if window.fields and window.focus >= 0 else None
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

    def _touched(self, kind: str) -> bool:
        """Wake what sleeps: the guest decides what wakes; a display without a guest wakes by a press."""
        if self.stage is not Stage.ASLEEP:
            return False
        if not people.told(self._model, kind) and kind != "move":
            self.set_stage(Stage.DESKTOP)
        return True

    def _unlocked(self) -> None:
        self._lock = None
        if not people.unlocked(self._model):
            self.set_stage(Stage.DESKTOP)

    def _act(self, control: Control) -> None:
        control.action()
        self._paint()

    def _deaf(self, window: Window) -> bool:
        """Whether pointer and keys do nothing to it; what arrived is in the journal all the same."""
        kinds = {
            "alert": ("alert/extension",),
            "consent": ("alert/ne-",),
            "password": ("password-sheet", "security-agent"),
        }
        deaf = window.kind.startswith(kinds.get(self.variations.get("deaf"), ("-",)))
        if deaf:
            self.journal.write("input-ignored", window=window.kind)
        return deaf

    def _accessible(self, window: Window) -> tuple[str, AxElement]:
        """(the process it belongs to, what is in it)."""

        def press(text: str) -> None:
            self.journal.write("ax-press", hit=f"{window.kind}/{text}")
            control = next((control for control in window.controls if control.text == text), None)
            if control is not None and window in self._stack() and self.variations.get("ax") != "ignored":
                self._act(control)

        settings = "System Settings" if self.macos.generation >= 13 else "System Preferences"
        if isinstance(window, AlertWindow):
            own = window.alert.kind is AlertKind.NOTICE
            process, name = (window.alert.app_name, "") if own else ("UserNotificationCenter", None)
            return process, accessibility.window_element(window, self.theme, role="window", name=name, press=press)
        if isinstance(window, PasswordSheet):
            agent = window.kind == "security-agent"
            role = "window" if agent else "sheet"
            element = accessibility.window_element(window, self.theme, role=role, name=None, press=press)
            return "SecurityAgent" if agent else settings, element
        if window is self._settings:
            element = accessibility.window_element(
                window, self.theme, role="window", name=settings, press=press, pages=True
            )
            if self._sheet is not None and self._sheet.kind != "security-agent":
                element.children.append(self._accessible(self._sheet)[1])
            return settings, element
        return "Notes", accessibility.window_element(
            window, self.theme, role="window", name="Notes", press=press, pages=True
        )

    def _put(self, alert: Alert, *, kind: str = "", aside: float = 0) -> int:
        """An alert in front of all that is there: a little lower and to the right of the one before, or `aside` by points."""
        number = next(self._ids)
        window = AlertWindow.on(self.points, alert, self.macos.generation, lambda text: self._answer(number, text))
        shift = 0.0 if aside else 18.0 * len(self._alerts)
        x0, y0, x1, y1 = window.box
        window.box = (x0 + shift + aside, y0 + shift, x1 + shift + aside, y1 + shift)
        window.kind = kind or window.kind
        self._alerts[number] = window
        self._key = window
        return number

    def _company(self, ours: int) -> None:
        """Another app asks at the same moment, once."""
        where = self.variations.get("alert")
        if where == "single" or "alert" in self._happened:
            return
        self._happened.add("alert")
        window = self._alerts.pop(ours)
        other = Alert(AlertKind.EXTENSION, _OTHER_APP, window.alert.extension_kind)
        if where == "other-beside":
            self._put(other, kind="alert/other", aside=360.0)
            self._alerts[ours] = window
        elif where == "other-below":
            self._put(other, kind="alert/other")
            x0, y0, x1, y1 = window.box
            window.box = (x0 + 18, y0 + 18, x1 + 18, y1 + 18)
            self._alerts[ours] = window
        else:
            self._alerts[ours] = window
            self._put(other, kind="alert/other")
            return
        self._key = window

    def _somebody(self, what: str, action: Callable[[], object]) -> None:
        """Somebody else does something after a while, once."""
        wanted, seconds = self.variations.someone
        if wanted != what or what in self._happened:
            return
        self._happened.add(what)

        def act() -> None:
            self.journal.write("somebody", did=what)
            action()
            self._paint()

        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().call_later(seconds, act)

    def _front(self) -> Window | None:
        """Who gets the keys when a window goes: the one in front."""
        stack = self._stack()
        return stack[-1] if stack else None

    def _raise(self, window: Window) -> None:
        """A click into a window brings it before those of its kind, and gives it the keys."""
        self._key = window
        for number, alert in list(self._alerts.items()):
            if alert is window:
                self._alerts[number] = self._alerts.pop(number)
        if window in (self._settings, self._sheet) and self._foreign is not None:
            self._foreign.behind = True
        elif window is self._foreign and self._foreign is not None:
            self._foreign.behind = False

    def _drop(self, px: float, py: float) -> None:
        """An alert is dragged by its background; drawn once, where it is let go."""
        if self._grip is None:
            return
        (window, x, y), self._grip = self._grip, None
        x0, y0, x1, y1 = window.box
        dx = min(max(px - x, -x0), self.points[0] - x1)
        dy = min(max(py - y, 25 - y0), self.points[1] - 40 - y0)
        if dx or dy:
            window.box = (x0 + dx, y0 + dy, x1 + dx, y1 + dy)
            self.journal.write("alert-moved", kind=window.kind)
            self._paint()

    def _answer(self, number: int, text: str) -> None:
        window = self._alerts.pop(number, None)
        if window is None:
            return
        self._key = self._front()
        alert = window.alert
        if alert.kind is AlertKind.EXTENSION and text.startswith("Open "):
            self._open_page("login-items" if self.macos.generation >= 15 else "privacy-security", "", "")
        asks = alert.kind in (AlertKind.PROXY, AlertKind.VPN, AlertKind.FILTER) and text == "Allow"
        if asks and self.variations.get("consent") == "password":
            # Requester and right: "VPN is trying to modify your system settings", as posted; where it stands is assumed.
            around = (self.points[0] / 2 - 200, 90.0, self.points[0] / 2 + 200, 400.0)
            self._authenticate(around, "VPN", lambda allowed: alert.on_button("Allow" if allowed else "Don’t Allow"))
        else:
            alert.on_button(text)

    def _open_page(self, page: str, sheet: str, url: str) -> None:
        if self._settings is None:
            self._settings = self._new_settings()
        self._sheet = None
        self._settings.url = url
        self._settings.go(page, sheet, top=self.variations.get("page") == "top")
        if self._foreign is not None:
            self._foreign.behind = True
        self._key = self._settings
        self._paint()
        self._watch_model()
        self.journal.write("settings-drawn", page=page, sheet=sheet)
        if self.variations.get("front") == "other-window" and page != "general" and "front" not in self._happened:
            self._happened.add("front")
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().call_later(0.1, self._cover)

    def _new_settings(self) -> SettingsWindow | PreferencesWindow:
        width, height = min(760, self.points[0] - 40), min(600, self.points[1] - 90)
        x, y = (self.points[0] - width) / 2 + 40, 60.0
        named = self._listed.named if self._listed is not None else lambda item: item.app_name
        if self.macos.generation >= 13:
            return SettingsWindow(
                "settings", (x, y, x + width, y + height), generation=self.macos.generation, model=self._listed,
                ask=self._ask, close=self.quit_settings, named=named,
            )  # fmt: skip
        return PreferencesWindow(
            "preferences", (x, y, x + min(width, 700), y + min(height, 560)), model=self._listed, ask=self._ask,
            close=self.quit_settings, named=named, locked=self.variations.get("lock") != "open",
        )  # fmt: skip

    def _cover(self) -> None:
        """Another app's window comes up before Settings and leaves only its left edge in sight."""
        if self._settings is None:
            return
        x0, y0, x1, y1 = self._settings.box
        self._foreign = ForeignWindow("foreign", (x0 + 60, y0 - 20, min(x1 + 60, self.points[0] - 10), y1 + 20))
        self._key = self._foreign
        self._paint()
        self.journal.write("foreign-window")

    def _ask(self, pane: str, then: Callable[[], None]) -> None:
        settings = self._settings
        if settings is None or self.model is None:
            return

        def done(allowed: bool) -> None:  # noqa: FBT001 - the answer itself
            if allowed:
                then()

        self._authenticate(settings.box, pane, done)

    def _authenticate(self, parent: Box, pane: str, then: Callable[[bool], None], what: str = "") -> None:
        model = self.model
        if model is None:
            return

        def done(allowed: bool) -> None:  # noqa: FBT001 - the answer itself
            self._sheet = None
            self._key = self._front()
            if not allowed and not people.at_console(model)[1]:
                people.refused(model, pane)
            then(allowed)

        user, administrator = people.at_console(model)
        usual = "user-sheet" if what or not 12 < self.macos.generation < 26 else "sheet"
        form = (self.variations.get("password") or usual) if administrator else "user-empty"
        sheet = PasswordSheet.over(
            parent, screen=self.points, pane=pane, user=user if administrator else "", form=form, done=done, what=what,
            unlock=self.macos.generation <= 12 and not what, check=partial(people.may, model),
        )  # fmt: skip
        self._sheet = self._key = sheet
        self.journal.write("password-asked", pane=pane)
        self._somebody("escape", lambda: done(False) if self._sheet is sheet else None)  # noqa: FBT003 - the answer

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
        """From the back to the front; alerts float above all."""
        foreign = self._foreign
        below: list[Window | None] = [self._settings, self._sheet]
        below = [foreign, *below] if foreign is not None and foreign.behind else [*below, foreign]
        return [window for window in below if window is not None] + list(self._alerts.values())

    def _paint(self) -> None:
        if self.stage in (Stage.OFF, Stage.BOOT):
            image = backdrop.boot_screen(on=self.stage is Stage.BOOT)
        else:
            if self._base is None:
                self._base = self._background()
            image = self._base.copy() if self.stage is not Stage.ASLEEP else Image.new("RGB", self._base.size)
            if self.stage is Stage.LOCKED and self._lock is not None:
                self._lock.paint(Canvas(image, self.scale), self.points, self.theme)
            if self.stage is Stage.DESKTOP:
                canvas = Canvas(image, self.scale)
                for window in self._stack():
                    window.paint(canvas, self.theme)
        self._take(image)

    def _take(self, image: Image.Image) -> None:
        """Bring a picture into the framebuffer, and tell where it differs."""
        width, height = image.size
        # Four bytes a pixel, compared as one number: a quarter of the work.
        new = np.frombuffer(image.tobytes("raw", "BGRX"), np.uint8).reshape(height, width, 4)
        old = self.framebuffer
        if old.shape != new.shape:
            self.framebuffer = new.copy()
            for listener in tuple(self._listeners):
                listener(None)
            return
        region = bring(new, into=old)
        if region is not None:
            self._tell(region)

    def _tell(self, region: Region) -> None:
        for listener in tuple(self._listeners):
            listener(region)

    def _background(self) -> Image.Image:
        image, canvas = backdrop.wallpaper(self.points, self.scale, self.theme)
        if self.stage is Stage.LOGIN:
            backdrop.login(canvas, self.points, self.user)
        elif self.stage is not Stage.LOCKED:
            backdrop.desktop(canvas, self.points, self.theme, self._minute)
        return image

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
