"""This machine's own display as a screen, with a driver of the tests' own: for what no X display has (points of several pixels,
rights that were not granted). On a real display: test_screen_desktop_real.py.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from harness import events
from harness.errors import EnvironmentFailure, UsageError, Verdict, WaitTimeout, verdict_of
from harness.screen import ScreenError, TextLine, UnsupportedCharacter, desktop, desktop_driver
from harness.screen.catalog import Phrase
from harness.screen.desktop import DesktopScreen
from harness.screen.desktop_driver import PermissionMissing
from harness.screen.frames import Box
from harness.screen.layout import Paragraph, find
from harness.waiting import Deadline, wait_until

# --- a driver of our own


class Driver:
    """A display of 400×300 points, `scale` pixels each."""

    def __init__(self, scale: int = 1) -> None:
        self.scale = scale
        self.picture = np.full((300 * scale, 400 * scale, 3), 90, np.uint8)
        self.at = (50, 50)
        self.did: list[object] = []
        self.stuck = 0
        self.looks = self.acts = True
        self.broken: Exception | None = None
        self.grabs = 0
        self.closed = False

    def paint(self, box: Box, level: int) -> None:
        picture = self.picture.copy()
        picture[box.y0 : box.y1, box.x0 : box.x1] = level
        self.picture = picture

    def grab(self):
        self.grabs += 1
        if self.broken is not None:
            raise self.broken
        return self.picture

    def size(self) -> tuple[int, int]:
        return 400, 300

    def position(self) -> tuple[int, int]:
        return self.at

    def move(self, x: int, y: int) -> None:
        if self.stuck:
            self.stuck -= 1
            return
        self.at = (x, y)

    def button(self, *, down: bool) -> None:
        self.did.append(("down" if down else "up", *self.at))

    def scroll(self, lines: int) -> None:
        self.did.append(("scroll", lines, *self.at))

    def key(self, name: str, *, down: bool) -> None:
        self.did.append(f"{'+' if down else '-'}{name}")

    def may_look(self) -> bool | None:
        return self.looks

    def may_act(self) -> bool | None:
        return self.acts

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def screen(driver: Driver) -> Iterator[DesktopScreen]:
    with DesktopScreen(name="own", driver=driver) as made:
        yield made


@pytest.mark.parametrize(
    ("scale", "pixel", "point"), [(1, (120, 80), (120, 80)), (2, (121, 81), (60, 40)), (3, (399, 6), (133, 2))]
)
def test_a_click_given_in_pixels_of_the_frame_lands_on_their_point(scale, pixel, point):
    driver = Driver(scale)
    with DesktopScreen(driver=driver) as screen:
        assert screen.scale == (scale, scale)
        screen.click(*pixel)
    assert driver.did == [("down", *point), ("up", *point)]
    assert driver.at == (398, 150)  # out of the way, and in no corner


def test_no_target_is_in_a_corner_where_the_fail_safe_is(driver, screen):
    screen.click(0, 0)
    screen.click(399, 299)
    screen.click(100_000, -5)
    assert [entry[1:] for entry in driver.did[::2]] == [(1, 1), (398, 298), (398, 1)]


def test_frames_count_changes_and_are_the_same_while_nothing_differs(driver, screen):
    first = screen.frame(Deadline(1))
    driver.picture = driver.picture.copy()
    assert screen.frame(Deadline(1), fresh=True) is first
    driver.paint(Box(10, 10, 20, 20), 200)
    later = screen.frame(Deadline(1))
    assert (first.serial, later.serial) == (0, 1)
    assert first.pixels[15, 15, 0] == 90
    assert not later.pixels.flags.writeable
    screen.mark()
    assert screen.marked is later


def test_a_change_is_waited_for(driver, screen):
    first = screen.frame(Deadline(1))
    assert screen.wait_for_change(None, Deadline(0)) is first
    assert screen.wait_for_change(first, Deadline(0.2)) is None
    threading.Timer(0.1, driver.paint, (Box(0, 0, 5, 5), 1)).start()
    later = screen.wait_for_change(first, Deadline(30))
    assert later is not None
    assert later.serial == 1


def test_a_display_that_changes_elsewhere_is_still_where_it_matters(driver, screen):
    count = 0
    grab = driver.grab

    def flicker():
        nonlocal count
        count += 1
        driver.paint(Box(300, 0, 310, 10), count % 250)
        return grab()

    driver.grab = flicker
    settled = screen.settle(Deadline(30), quiet=0.1, region=Box(0, 0, 100, 100))
    assert settled.serial > 0
    # Nothing is ever still here: the deadline ends it, with the newest frame.
    restless = screen.settle(Deadline(0.3), quiet=0.1)
    assert restless.serial >= settled.serial


def test_looks_are_rarer_while_nothing_happens(driver, screen, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(desktop, "sleep", waits.append)
    screen.frame(Deadline(1))
    screen._pause(10)
    screen._lively -= desktop.CALM + 1
    screen._pause(10)
    screen._lively -= 1000
    screen._pause(10)
    screen._pause(0.01)
    assert waits[0] == desktop.FAST < waits[1] < waits[2] == desktop.SLOW
    assert waits[3] == 0.01


def test_keys_go_down_and_up_in_order_and_shift_is_held(driver, screen):
    screen.type_text("aB\n?")
    screen.chord("command", "a")
    screen.key("escape")
    assert driver.did == [
        *("+a", "-a", "+shift", "+b", "-b", "-shift", "+return", "-return", "+shift", "+/", "-/", "-shift"),
        *("+command", "+a", "-a", "-command", "+escape", "-escape"),
    ]


def test_nothing_is_typed_of_a_text_that_has_no_keys(driver, screen):
    with pytest.raises(UnsupportedCharacter) as caught:
        screen.type_text("geheimß", secret=True)
    assert driver.did == []
    assert "ß" not in str(caught.value)
    with pytest.raises(UnsupportedCharacter):
        screen.chord("command", "hyper")
    assert driver.did == []


def test_a_key_does_not_stay_down_when_something_goes_wrong(driver, screen):
    key = driver.key

    def fails(name: str, *, down: bool) -> None:
        key(name, down=down)
        if name == "a" and down:
            raise ScreenError("a key", seen="the display went away")

    driver.key = fails
    with pytest.raises(ScreenError):
        screen.chord("command", "shift", "a")
    assert driver.did[-2:] == ["-shift", "-command"]


def test_a_secret_is_in_no_event(driver, tmp_path):
    log = events.EventLog(tmp_path / "run.jsonl")
    with events.use(log), DesktopScreen(driver=driver) as screen:
        screen.type_text("Xyzzy-Plugh", secret=True)
        screen.type_text("told")
        screen.click(30, 40)
    log.close()
    written = (tmp_path / "run.jsonl").read_text()
    assert "Xyzzy" not in written
    assert '"text": "told"' in written
    assert '"name": "click"' in written


def test_no_right_to_look_is_said_so(driver):
    driver.looks = False
    with DesktopScreen(driver=driver) as screen, pytest.raises(PermissionMissing, match="Screen") as caught:
        screen.frame(Deadline(1))
    assert verdict_of(caught.value) is Verdict.ENVIRONMENT_FAILURE
    assert "wallpaper" in caught.value.hint
    assert driver.grabs == 0


def test_a_black_picture_asks_for_the_right_again(driver, screen, tmp_path):
    screen.frame(Deadline(1))
    driver.paint(Box(0, 0, 400, 300), 0)
    driver.looks = False
    with pytest.raises(PermissionMissing):
        screen.frame(Deadline(1))


def test_a_black_picture_with_the_right_is_an_event(driver, tmp_path):
    log, told = events.EventLog(), []
    log.subscribe(lambda record: told.append(record["name"]) if record["type"] == "event" else None)
    with events.use(log), DesktopScreen(driver=driver) as screen:
        screen.frame(Deadline(1))
        for level in (0, 1, 90, 2):
            driver.paint(Box(0, 0, 400, 300), level)
            screen.frame(Deadline(1))
    assert told.count("black-screen") == 2  # told once for each time that it goes black


def test_no_right_to_act_is_said_before_anything_is_done(driver, screen):
    driver.acts = False
    for action in (
        lambda: screen.click(5, 5),
        lambda: screen.type_text("x"),
        lambda: screen.key("tab"),
        lambda: screen.scroll(5, 5, 1),
    ):
        with pytest.raises(PermissionMissing, match="act") as caught:
            action()
        assert "Accessibility" in caught.value.hint
    assert driver.did == []


def test_a_pointer_that_does_not_go_where_it_is_sent_clicks_nothing(driver, screen, monkeypatch):
    monkeypatch.setattr(desktop, "_ARRIVE", 0.2)
    driver.stuck = 10**9
    with pytest.raises(WaitTimeout, match="pointer") as caught:
        screen.click(200, 200)
    assert verdict_of(caught.value) is Verdict.ENVIRONMENT_FAILURE
    assert "Accessibility" in caught.value.hint
    assert driver.did == []


def test_a_pointer_that_needs_a_second_push_gets_it(driver, screen):
    driver.stuck = 2
    screen.click(200, 100)
    assert driver.did == [("down", 200, 100), ("up", 200, 100)]


def test_a_window_is_dragged_with_the_button_held(driver, screen):
    passed: list[tuple[int, int]] = []
    move = driver.move
    driver.move = lambda x, y: (passed.append((x, y)), move(x, y))
    screen.drag((100, 50), (20, 90))
    assert driver.did == [("down", 100, 50), ("up", 20, 90)]
    assert len(set(passed)) > 4
    driver.stuck = 10**9
    with pytest.raises(WaitTimeout):
        screen.drag((5, 5), (20, 90))
    assert len(driver.did) == 2


def test_the_wheel_turns_over_the_pixel(driver, screen):
    screen.scroll(200, 100, 3)
    screen.scroll(200, 100, -2)
    assert driver.did == [("scroll", 3, 200, 100), ("scroll", -2, 200, 100)]


def test_whoever_subscribes_is_told_what_changed_until_he_stops(driver, screen):
    seen: list[tuple[int, tuple[Box, ...]]] = []
    screen.frame(Deadline(1))
    stop = screen.subscribe(lambda frame, boxes: seen.append((frame.serial, boxes)))
    driver.paint(Box(100, 40, 140, 80), 200)
    wait_until(lambda: len(seen), lambda count: count == 1, what="the first", deadline=Deadline(30))
    assert seen == [(1, (Box(100, 40, 140, 80),))]
    stop()
    stop()
    driver.paint(Box(0, 0, 9, 9), 1)
    screen.frame(Deadline(1))
    again: list[int] = []
    screen.subscribe(lambda frame, boxes: again.append(frame.serial))
    driver.paint(Box(0, 0, 9, 9), 2)
    wait_until(lambda: again, what="the second", deadline=Deadline(30))
    assert [number for number, _ in seen] == [1]


def test_a_subscriber_that_raises_is_dropped_and_told(driver):
    log, told = events.EventLog(), []
    log.subscribe(lambda record: told.append(record["name"]) if record["type"] == "event" else None)
    with events.use(log), DesktopScreen(driver=driver) as screen:
        screen.frame(Deadline(1))
        good: list[int] = []
        screen.subscribe(lambda frame, boxes: 1 / 0)
        screen.subscribe(lambda frame, boxes: good.append(frame.serial))
        for level in (1, 2):
            driver.paint(Box(0, 0, 9, 9), level)
            wait_until(lambda level=level: good[-1:] == [level], what="a frame", deadline=Deadline(30))
    assert told.count("subscriber-dropped") == 1


def test_a_display_that_fails_is_told_once_and_then_shows_again(driver):
    log, told = events.EventLog(), []
    log.subscribe(lambda record: told.append(record["name"]) if record["type"] == "event" else None)
    with events.use(log), DesktopScreen(driver=driver) as screen:
        screen.frame(Deadline(1))
        seen: list[int] = []
        screen.subscribe(lambda frame, boxes: seen.append(frame.serial))
        driver.broken = ScreenError("a picture", seen="none")
        wait_until(lambda: "screen-unreachable" in told, what="an event", deadline=Deadline(30))
        driver.broken = None
        driver.paint(Box(0, 0, 9, 9), 7)
        wait_until(lambda: seen, what="a frame", deadline=Deadline(30))
    assert told.count("screen-unreachable") == 1


def test_a_closed_screen_says_so(driver):
    screen = DesktopScreen(driver=driver)
    screen.subscribe(lambda frame, boxes: None)
    screen.close()
    screen.close()
    assert driver.closed
    for action in (
        lambda: screen.frame(Deadline(1)),
        lambda: screen.click(1, 1),
        lambda: screen.wait_for_change(None, Deadline(1)),
    ):
        with pytest.raises(ScreenError, match="closed"):
            action()


# --- pyautogui itself


def test_without_a_display_it_says_what_to_do(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(ScreenError, match="DISPLAY is not set") as caught:
        desktop_driver.open_driver()
    assert isinstance(caught.value, EnvironmentFailure)
    assert "xvfb-run" in caught.value.hint


@pytest.mark.parametrize(
    ("failure", "wanted", "said"),
    [
        (
            ModuleNotFoundError("No module named 'pyautogui'", name="pyautogui"),
            UsageError,
            "pip install 'sysext-harness[desktop]'",
        ),
        (SystemExit("NOTE: You must install tkinter on Linux to use MouseInfo."), ScreenError, "tkinter"),
        (KeyError("DISPLAY"), ScreenError, "KeyError"),
        (ConnectionRefusedError(111, "Connection refused"), ScreenError, "Connection refused"),
    ],
)
def test_whatever_pyautogui_does_when_imported_is_an_error_of_ours(monkeypatch, failure, wanted, said):
    def fails(_name: str) -> None:
        assert sys.modules["mouseinfo"] is None  # GPL: kept out of our process
        raise failure

    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setattr(desktop_driver.importlib, "import_module", fails)
    with pytest.raises(wanted) as caught:
        desktop_driver.open_driver()
    assert said in str(caught.value)
    assert "mouseinfo" not in sys.modules


def test_where_the_right_cannot_be_asked_nobody_is_refused():
    assert desktop_driver._ask("NoSuchFramework", "AXIsProcessTrusted") is None
    if sys.platform != "darwin":
        assert desktop_driver._ask("c", "no_such_function_anywhere") is None


def test_a_heading_that_is_the_askers_own_long_name_hides_no_question():
    """As the dialog below has it: the name of the page, then "<the same> is trying to …" right under it."""
    phrase = Phrase("{app} is trying to modify your system settings")
    texts = ["Login Items & Extensions", "Login Items & Extensions is trying to", "modify your system settings."]
    widths = [190, 214, 171]
    lines = [
        TextLine(text, Box(200 - width // 2, 17 * index, 200 + width // 2, 17 * index + 15), 0.9)
        for index, (text, width) in enumerate(zip(texts, widths, strict=True))
    ]
    match = find(phrase, Paragraph(lines))
    assert match is not None
    assert (match.alone, match.holes) == (True, {"app": "Login Items & Extensions"})
    prose = find(phrase, Paragraph([dataclasses.replace(lines[0], text="and so it went on as ever"), *lines[1:]]))
    assert prose is not None
    assert not prose.alone
