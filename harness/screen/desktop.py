"""`DesktopScreen`: the display of the very machine we run on, seen and acted on through pyautogui.

There are no messages that something has changed, unlike over VNC: pictures are taken again and again, often while something
happens, seldom while nothing does. Positions are pixels of the frame, as everywhere; how many of them make a point (two on a
Retina display) is measured, not assumed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from harness import events
from harness.errors import EnvironmentFailure, WaitTimeout
from harness.screen.desktop_driver import DesktopDriver, PermissionMissing, open_driver
from harness.screen.errors import ScreenError
from harness.screen.frames import Box, Frame, Watcher, changed_regions, is_black, same
from harness.screen.keymap import key_of, keysym
from harness.waiting import Deadline, sleep, wait_until

FAST, SLOW = 0.05, 0.5
"""Seconds between two pictures: while something happens, and after `CALM` seconds of nothing."""
CALM = 3.0
CLICK = 0.1
"""Seconds between move, press and release; see rfb.py."""
KEY = 0.03
"""Seconds a key is held, and between keys."""
_DRAG_STEPS = 8
_ARRIVE = 1.0
"""Seconds within which the pointer must be where it was sent."""
_QUEUE = 16
LOOK_HINT = (
    "grant Screen Recording to the app that runs this (System Settings › Privacy & Security › Screen & System Audio Recording), "
    "then start it anew; without it macOS hands out black pictures, or the wallpaper alone"
)
ACT_HINT = (
    "grant Accessibility to the app that runs this (System Settings › Privacy & Security › Accessibility), then start it anew; "
    "without it macOS drops clicks and keys in silence"
)


class DesktopScreen:
    """This machine's own display. Thread-safe.

    Args:
        name: The machine's, for messages.
        driver: Pointer, keys and pictures; pyautogui by default.

    Raises:
        UsageError: pyautogui is not installed.
        ScreenError: There is no display.
    """

    def __init__(self, *, name: str = "this machine", driver: DesktopDriver | None = None) -> None:
        self.name = name
        self._driver = driver if driver is not None else open_driver()
        self._log = events.current()
        self._looking = threading.RLock()
        self._acting = threading.RLock()
        self._news = threading.Condition()
        self._frame: Frame | None = None
        self._marked: Frame | None = None
        self._watchers: list[Watcher] = []
        self._untold: deque[tuple[Frame, tuple[Box, ...]]] = deque(maxlen=_QUEUE)
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._lively = time.monotonic()
        self._black_told = False

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # --- seeing

    @property
    def marked(self) -> Frame | None:
        """What `mark` remembered; None before."""
        return self._marked

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of a frame per point, across and down: measured now.

        Raises:
            ScreenError: There is no picture.
        """
        frame = self._take()
        width, height = self._driver.size()
        if width < 1 or height < 1:
            raise ScreenError(f"the display of {self.name} to have a size", seen=f"{width}×{height} points")
        return frame.size[0] / width, frame.size[1] / height

    def mark(self) -> None:
        """Remember the present frame as "before the activation"; none, if there is no picture now."""
        self._marked = None
        with contextlib.suppress(ScreenError):
            self._marked = self._take()
        self._log.event("screen-marked", serial=self._marked.serial if self._marked else None)

    def frame(self, deadline: Deadline, *, fresh: bool = False) -> Frame:
        """What is on the display now: each one is taken anew, so it is always fresh.

        Raises:
            PermissionMissing: macOS does not let us see other apps' windows.
            ScreenError: There is no picture.
        """
        del deadline, fresh
        return self._take()

    def wait_for_change(self, after: Frame | None, deadline: Deadline) -> Frame | None:
        """The first frame later than `after` (None: any frame); None when the deadline comes first.

        Raises:
            ScreenError: There is no picture, or the screen is closed.
        """
        serial = after.serial if after is not None else -1
        try:
            return wait_until(
                self._take,
                lambda frame: frame.serial > serial,
                what=f"a change on the display of {self.name}",
                deadline=deadline,
                interval=SLOW,
                pause=self._pause,
            )
        except WaitTimeout:
            return None

    def settle(self, deadline: Deadline, quiet: float = 0.3, region: Box | None = None) -> Frame:
        """The frame once nothing in `region` has changed for `quiet` seconds; at the deadline, the newest one."""
        self._lively = time.monotonic()
        newest = base = self._take()

        def calm(frame: Frame) -> bool:
            nonlocal newest, base
            newest = frame
            if same(base, frame, region):
                return True
            base = frame
            return False

        with contextlib.suppress(WaitTimeout):
            return wait_until(
                self._take,
                calm,
                what=f"the display of {self.name} to be still",
                deadline=deadline,
                interval=FAST,
                stable_for=quiet,
                pause=self._pause,
            )
        return newest

    def subscribe(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback(frame, changed boxes)` with each frame that differs from the one before; returns the way to stop it.

        As long as somebody does, a thread of the screen's own takes pictures: what comes and goes between two of them
        (`SLOW` seconds at most) is not seen. A subscriber that raises is dropped, and the fact is an event.
        """
        with self._news:
            self._watchers.append(callback)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name=f"desktop-{self.name}", daemon=True)
                self._thread.start()
            self._news.notify_all()

        def stop() -> None:
            with self._news, contextlib.suppress(ValueError):
                self._watchers.remove(callback)

        return stop

    # --- acting

    def click(self, x: int, y: int) -> None:
        """Move, press, release the left button, each `CLICK` apart; then the pointer leaves for the right edge.

        Raises:
            PermissionMissing: macOS does not let us move the pointer.
            FailSafe: Somebody moved the pointer into a corner.
            ScreenError: The pointer does not go where it is sent.
        """
        with events.step("click", x=x, y=y), self._act():
            self._move(x, y)
            sleep(CLICK)
            self._driver.button(down=True)
            try:
                sleep(CLICK)
            finally:
                self._driver.button(down=False)
            self._leave()

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Press at one pixel, move to another in a few steps, release there; then the pointer leaves for the right edge.

        Raises:
            PermissionMissing, FailSafe, ScreenError: As `click`; the button is released all the same.
        """
        with events.step("drag", start=list(start), end=list(end)), self._act():
            self._move(*start)
            sleep(CLICK)
            self._driver.button(down=True)
            try:
                sleep(CLICK)
                for part in range(1, _DRAG_STEPS + 1):
                    x, y = (a + (b - a) * part // _DRAG_STEPS for a, b in zip(start, end, strict=True))
                    self._move(x, y)
                    sleep(CLICK / 2)
            finally:
                self._driver.button(down=False)
            self._leave()

    def scroll(self, x: int, y: int, lines: int) -> None:
        """Turn the wheel `lines` notches over a pixel; positive is down."""
        with events.step("scroll", x=x, y=y, lines=lines), self._act():
            self._move(x, y)
            self._driver.scroll(lines)

    def type_text(self, text: str, *, secret: bool = False) -> None:
        """Type characters of the US layout, Shift held where needed.

        Raises:
            UnsupportedCharacter: Before anything was typed.
            ScreenError: The display takes no keys.
        """
        planned = [key_of(character, index, len(text)) for index, character in enumerate(text)]
        if secret:
            events.SECRETS.add(text)
        with events.step("type", length=len(text), **({} if secret else {"text": text})), self._act():
            for name, shifted in planned:
                with self._held("shift") if shifted else contextlib.nullcontext():
                    self._tap(name)

    def key(self, name: str) -> None:
        """Press and release a named key ("return", "escape", …).

        Raises:
            UnsupportedCharacter: There is no such key.
        """
        keysym(name)
        with events.step("key", key=name), self._act():
            self._tap(name)

    def chord(self, *names: str) -> None:
        """`chord("command", "a")`: the last is struck while the others are held."""
        for name in names:
            keysym(name)
        with events.step("key", key="+".join(names)), self._act(), contextlib.ExitStack() as held:
            for name in names[:-1]:
                held.enter_context(self._held(name))
                sleep(KEY)
            self._tap(names[-1])

    def close(self) -> None:
        """End the thread, let go of the display. Can be called twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        with self._news:
            self._news.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5.0)
        with self._looking:
            self._driver.close()

    # --- inside

    def _take(self) -> Frame:
        """A picture; the same frame as before while nothing differs."""
        with self._looking:
            if self._closed.is_set():
                raise ScreenError(f"the screen of {self.name} to be open", seen="it was closed")
            old = self._frame
            if old is None:
                self._may_look()
            pixels = self._driver.grab()
            if old is not None and (pixels is old.pixels or np.array_equal(pixels, old.pixels)):
                return old
            pixels.setflags(write=False)
            frame = Frame(pixels, old.serial + 1 if old is not None else 0, time.monotonic())
            self._frame = frame
            self._lively = time.monotonic()
            if is_black(frame):
                self._may_look()
                if not self._black_told:
                    self._log.event(
                        "black-screen", hint="display asleep, locked, or the right of Screen Recording is missing"
                    )
                self._black_told = True
            else:
                self._black_told = False
            with self._news:
                if self._watchers and old is not None:
                    self._untold.append((frame, tuple(changed_regions(old, frame, smallest=(1, 1)))))
                    self._news.notify_all()
            return frame

    def _may_look(self) -> None:
        if self._driver.may_look() is False:
            raise PermissionMissing(
                f"the right to see the display of {self.name}", seen="macOS says it was not granted", hint=LOOK_HINT
            )

    @contextlib.contextmanager
    def _act(self) -> Iterator[None]:
        """One action at a time, and only where actions are let through."""
        with self._acting:
            if self._closed.is_set():
                raise ScreenError(f"the screen of {self.name} to be open", seen="it was closed")
            if self._driver.may_act() is False:
                raise PermissionMissing(
                    f"the right to act on the display of {self.name}",
                    seen="macOS says it was not granted",
                    hint=ACT_HINT,
                )
            try:
                yield
            finally:
                self._lively = time.monotonic()

    def _move(self, x: int, y: int) -> None:
        """To a pixel of the frame. A click elsewhere would be worse than none, so the pointer is looked for."""
        across, down = self.scale
        width, height = self._driver.size()
        # A target in the very corner would set off the fail-safe; nothing is lost by a point.
        point = min(max(1, int(x / across)), width - 2), min(max(1, int(y / down)), height - 2)
        self._driver.move(*point)

        def there() -> tuple[int, int]:
            at = self._driver.position()
            if at != point:
                self._driver.move(*point)
            return at

        wait_until(
            there,
            lambda at: abs(at[0] - point[0]) <= 1 and abs(at[1] - point[1]) <= 1,
            what=f"the pointer of {self.name} at {point}",
            deadline=Deadline.after(_ARRIVE),
            interval=0.02,
            blame=EnvironmentFailure.verdict,
            hint=f"is somebody moving the mouse? on macOS also: {ACT_HINT}",
        )

    def _leave(self) -> None:
        """Out of the way, but not into a corner: that is the fail-safe."""
        width, height = self._driver.size()
        self._driver.move(width - 2, height // 2)

    def _tap(self, name: str) -> None:
        with self._held(name):
            sleep(KEY)
        sleep(KEY)

    @contextlib.contextmanager
    def _held(self, name: str) -> Iterator[None]:
        self._driver.key(name, down=True)
        try:
            yield
        finally:
            self._driver.key(name, down=False)

    def _pause(self, seconds: float) -> None:
        """Wait up to so many seconds: short while things happen, longer and longer while they do not."""
        sleep(min(seconds, self._pace()))

    def _pace(self) -> float:
        calm = time.monotonic() - self._lively
        return FAST if calm < CALM else min(SLOW, FAST + (calm - CALM) * 0.05)

    def _watch(self) -> None:
        """The thread of `subscribe`: looks, and tells what anybody's look has brought."""
        failed = ""
        while not self._closed.is_set():
            with self._news:
                if not self._watchers:
                    self._untold.clear()
                    self._news.wait(1.0)
                    continue
                if not self._untold:
                    self._news.wait(self._pace())
            if self._closed.is_set():
                return
            try:
                self._take()
            except (ScreenError, OSError) as error:
                if str(error) != failed and not self._closed.is_set():
                    failed = str(error)
                    self._log.event("screen-unreachable", machine=self.name, reason=f"{type(error).__name__}: {error}")
                self._closed.wait(SLOW)
            while True:
                with self._news:
                    if not self._untold:
                        break
                    frame, changed = self._untold.popleft()
                    watchers = tuple(self._watchers)
                self._tell(watchers, frame, changed)

    def _tell(self, watchers: tuple[Watcher, ...], frame: Frame, changed: tuple[Box, ...]) -> None:
        for watcher in watchers:
            try:
                watcher(frame, changed)
            except Exception as error:  # noqa: BLE001 - a recorder never breaks a run
                with self._news, contextlib.suppress(ValueError):
                    self._watchers.remove(watcher)
                self._log.event(
                    "subscriber-dropped", subscriber=repr(watcher), error=f"{type(error).__name__}: {error}"
                )
