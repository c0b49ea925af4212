"""The one place that imports pyautogui: pointer, keys and pictures of the display of the very machine we run on.

pyautogui comes with the extra `desktop` only. Its MouseInfo and PyMsgBox (marked GPL-3) are kept out of our process: it does without
them, and MouseInfo would end the process where there is no tkinter. On Linux (tests) it needs python3-xlib, which is GPL-2.

Pictures are taken by mss where that works (no other program is needed, and it is many times faster: benchmarks/bench_desktop.py),
by `pyautogui.screenshot` otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness import events
from harness.errors import UsageError
from harness.screen.errors import ScreenError
from harness.screen.frames import Pixels

INSTALL = "pip install 'sysext-harness[desktop]'"
_KEPT_OUT = ("mouseinfo", "pymsgbox")


class FailSafe(ScreenError):
    """Somebody moved the pointer into a corner of the screen: pyautogui's way to stop a program that runs away."""


class PermissionMissing(ScreenError):
    """macOS does not let this process look at the screen, or act on it."""


class DesktopDriver(Protocol):
    """Pointer, keys and pictures of one display. Positions are in points, which may be more than one pixel wide.

    Every method may raise ScreenError (or one of its kinds, above).
    """

    def grab(self) -> Pixels:
        """The picture, in pixels; the same object as the last time if nothing has changed since."""

    def size(self) -> tuple[int, int]:
        """(width, height) in points."""

    def position(self) -> tuple[int, int]:
        """Where the pointer is."""

    def move(self, x: int, y: int) -> None:
        """Move the pointer."""

    def button(self, *, down: bool) -> None:
        """Press or release the left button where the pointer is."""

    def scroll(self, lines: int) -> None:
        """Turn the wheel where the pointer is; positive is down."""

    def key(self, name: str, *, down: bool) -> None:
        """Press or release a key: a name of keymap.KEYS, or an unshifted character of the US layout."""

    def may_look(self) -> bool | None:
        """Whether the system lets us see other apps' windows; None where that cannot be asked."""

    def may_act(self) -> bool | None:
        """Whether the system lets us move the pointer and type; None where that cannot be asked."""

    def close(self) -> None:
        """Let go of the display."""


def open_driver() -> DesktopDriver:
    """Pointer and eyes of this machine.

    Raises:
        UsageError: pyautogui is not installed; says how to.
        ScreenError: There is no display, or it cannot be reached.
    """
    return PyAutoGuiDriver()


class PyAutoGuiDriver:
    """See `DesktopDriver`. The display is the one that the process was started with: pyautogui connects when imported."""

    def __init__(self) -> None:
        self._gui = _import_pyautogui()
        self._mss: Any = None
        self._raw: Any = None
        self._last: Pixels | None = None
        self._mac = sys.platform == "darwin"
        try:
            self._mss = _open_mss()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, there is another way
            _degraded(error)

    def grab(self) -> Pixels:
        """See `DesktopDriver`."""
        if self._mss is not None:
            try:
                return self._by_mss()
            except Exception as error:  # noqa: BLE001 - as above
                _degraded(error)
                self._mss = None
        try:
            picture = np.asarray(self._gui.screenshot().convert("RGB"))
        except Exception as error:
            raise ScreenError(
                "a picture of this machine's display",
                seen=f"{type(error).__name__}: {error}",
                hint=f"{INSTALL} (it brings mss); or on Linux scrot, with XDG_SESSION_TYPE=x11",
            ) from error
        if self._last is None or not np.array_equal(picture, self._last):
            self._last = picture
        return self._last

    def size(self) -> tuple[int, int]:
        """See `DesktopDriver`."""
        with self._told():
            width, height = self._gui.size()
        return int(width), int(height)

    def position(self) -> tuple[int, int]:
        """See `DesktopDriver`."""
        with self._told():
            x, y = self._gui.position()
        return int(x), int(y)

    def move(self, x: int, y: int) -> None:
        """See `DesktopDriver`."""
        with self._told():
            self._gui.moveTo(x, y, _pause=False)

    def button(self, *, down: bool) -> None:
        """See `DesktopDriver`."""
        with self._told():
            (self._gui.mouseDown if down else self._gui.mouseUp)(button="left", _pause=False)

    def scroll(self, lines: int) -> None:
        """See `DesktopDriver`."""
        with self._told():
            self._gui.scroll(-lines, _pause=False)

    def key(self, name: str, *, down: bool) -> None:
        """See `DesktopDriver`. A Mac's Command and Option are, elsewhere, what VncScreen sends for them: both Alt keys."""
        native = _NATIVE_MAC.get(name, name) if self._mac else _NATIVE_X.get(name, name)
        with self._told():
            if not self._gui.isValidKey(native):  # it would be passed over in silence
                raise ScreenError("a key that this display has", seen=f"none for {name}")
            (self._gui.keyDown if down else self._gui.keyUp)(native, _pause=False)

    def may_look(self) -> bool | None:
        """`CGPreflightScreenCaptureAccess` (macOS 10.15 and later); it asks nobody, and shows no window."""
        return _ask("CoreGraphics", "CGPreflightScreenCaptureAccess") if self._mac else None

    def may_act(self) -> bool | None:
        """`AXIsProcessTrusted`; it asks nobody, and shows no window."""
        return _ask("ApplicationServices", "AXIsProcessTrusted") if self._mac else None

    def close(self) -> None:
        """See `DesktopDriver`. pyautogui's own connection ends with the process."""
        if self._mss is not None:
            with contextlib.suppress(Exception):
                self._mss.close()
            self._mss = None

    def _by_mss(self) -> Pixels:
        shot = self._mss.grab(self._mss.monitors[1])  # 0 is all displays together
        raw = shot.raw  # a buffer of its own each time
        if self._last is None or raw != self._raw or self._last.shape[:2] != (shot.height, shot.width):
            self._raw = raw
            four = np.frombuffer(raw, np.uint8).reshape(shot.height, shot.width, 4)
            self._last = np.ascontiguousarray(four[:, :, 2::-1])
        return self._last

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Its errors are ours."""
        try:
            yield
        except self._gui.FailSafeException as error:
            raise FailSafe(
                "the pointer anywhere but in a corner of the screen",
                seen="it is in a corner: pyautogui's fail-safe stops here",
                hint="somebody stopped the run that way, or left the pointer there: move it away and run again",
            ) from error
        except (OSError, AttributeError) as error:  # the X server went away
            raise ScreenError(
                "this machine's display to take input", seen=f"{type(error).__name__}: {error}"
            ) from error


_NATIVE_MAC = {"control": "ctrl", "delete": "del"}  # its "delete" is the key that deletes to the left
_NATIVE_X = {"control": "ctrl", "command": "altleft", "option": "altright"}


def _degraded(error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}"
    events.event("degraded", what="pictures by pyautogui.screenshot instead of mss: slower", reason=reason)


def _open_mss() -> Any:
    import mss

    if sys.platform == "darwin":
        from mss import darwin

        darwin.IMAGE_OPTIONS = 0  # all pixels of a Retina display; its default gives one a point
    return mss.MSS() if hasattr(mss, "MSS") else mss.mss()


def _import_pyautogui() -> Any:
    """pyautogui, connected to the display.

    Raises:
        UsageError: It is not installed.
        ScreenError: There is no display to connect to.
    """
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        raise ScreenError(
            "a display", seen="DISPLAY is not set", hint="run it in a desktop session, or under `xvfb-run -a`"
        )
    held = {name: sys.modules.get(name) for name in _KEPT_OUT if name in sys.modules}
    for name in _KEPT_OUT:
        sys.modules[name] = None  # type: ignore[assignment] # "cannot be imported"
    try:
        with _xauthority(), contextlib.redirect_stdout(sys.stderr):  # python3-xlib prints its warnings
            return importlib.import_module("pyautogui")
    except ModuleNotFoundError as error:
        missing = error.name or "pyautogui"
        raise UsageError("pyautogui, to act on this machine's own display", seen=f"no module {missing}", hint=INSTALL) from error  # fmt: skip
    except (Exception, SystemExit) as error:  # it connects as it is imported, and each platform fails in its own way
        for name in [name for name in sys.modules if name.partition(".")[0] == "pyautogui"]:
            del sys.modules[name]  # half of it would be taken for all of it the next time
        seen = f"DISPLAY {os.environ.get('DISPLAY', '')!r}: " if sys.platform.startswith("linux") else ""
        raise ScreenError(
            "a display that can be reached",
            seen=f"{seen}{type(error).__name__}: {error}",
            hint="is somebody logged in there? over SSH there may be no display at all",
        ) from error
    finally:
        for name in _KEPT_OUT:
            if held.get(name) is not None:
                sys.modules[name] = held[name]  # type: ignore[assignment]
            else:
                del sys.modules[name]


@contextlib.contextmanager
def _xauthority() -> Iterator[None]:
    """python3-xlib fails without an authority file, also where the server wants none: then it gets an empty one."""
    given = os.environ.get("XAUTHORITY")
    there = Path(given) if given else Path("~/.Xauthority").expanduser()
    if not sys.platform.startswith("linux") or there.exists():
        yield
        return
    os.environ["XAUTHORITY"] = os.devnull
    try:
        yield
    finally:
        if given is None:
            del os.environ["XAUTHORITY"]
        else:
            os.environ["XAUTHORITY"] = given


def _ask(framework: str, function: str) -> bool | None:
    """What a question of a macOS framework, without arguments, answers; None if it cannot be asked."""
    try:
        path = ctypes.util.find_library(framework) or f"/System/Library/Frameworks/{framework}.framework/{framework}"
        question = getattr(ctypes.CDLL(path), function)
    except (OSError, AttributeError):
        return None
    question.restype = ctypes.c_bool
    question.argtypes = []
    return bool(question())
