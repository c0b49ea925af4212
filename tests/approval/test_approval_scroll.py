"""Scrolling and waiting on a screen that is only pixels: no window in it is read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.approval import Approver, walk
from harness.approval.walk import Walk
from harness.errors import EnvironmentFailure, Verdict
from harness.screen import Box, Frame
from harness.screen.frames import scrolled_by
from harness.waiting import Deadline

SIGHT = 400
WINDOW = Box(60, 40, 540, 40 + SIGHT)


class Page:
    """A window on a page of `height` pixels, which one notch of the wheel moves by `notch` of them."""

    def __init__(self, height: int, notch: float) -> None:
        self.content = np.random.default_rng(5).integers(0, 255, (height, WINDOW.width, 3), np.uint8)
        self.notch = notch
        self.offset = 0
        self.serial = 0
        self.seen: list[int] = []
        self.marked = None

    def frame(self, *_: object, **__: object) -> Frame:
        pixels = np.full((SIGHT + 100, 640, 3), 90, np.uint8)
        pixels[WINDOW.y0 : WINDOW.y1, WINDOW.x0 : WINDOW.x1] = self.content[self.offset : self.offset + SIGHT]
        return Frame(pixels, self.serial, 0.0)

    settle = frame

    def wait_for_change(self, after: Frame, _: Deadline) -> Frame | None:
        return self.frame() if after.serial != self.serial else None

    def scroll(self, _x: int, _y: int, lines: int) -> None:
        before = self.offset
        self.offset = min(len(self.content) - SIGHT, self.offset + round(lines * self.notch))
        self.serial += self.offset != before
        self.seen.append(self.offset)


def _approver(screen: object, folder: Path) -> Approver:
    return Approver(
        screen=screen,  # type: ignore[arg-type]
        reader=SimpleNamespace(warm_up=lambda: None, read=lambda *_: []),
        app_name="Example",
        extension_kind="network",
        generation=15,
        password="Tr0ub4dor&3",
        user="admin",
        oracle=lambda: None,
        guest_open=lambda _: None,
        quit_settings=lambda: None,
        folder=folder,
    )


@pytest.mark.parametrize("notch", [1.0, 3.0, 10.0, 30.0, 90.0])
def test_a_page_is_seen_to_its_end_whatever_a_notch_of_the_wheel_does(tmp_path: Path, notch: float) -> None:
    page = Page(1000, notch)
    here, going = _approver(page, tmp_path), Walk("prompt")
    while here.walker.scroll(going, "a page", WINDOW):
        pass
    assert page.offset == 1000 - SIGHT
    steps = [later - sooner for sooner, later in zip([0, *page.seen], page.seen, strict=False)]
    assert max(steps) < SIGHT  # nothing is passed over


@pytest.mark.parametrize("moved", [0, 1, 37, 250, 399])
def test_how_far_a_page_has_moved(moved: int) -> None:
    page = Page(1000, 1.0)
    before = page.frame()
    page.scroll(0, 0, moved)
    # what was in the lowest third must still be in sight
    assert scrolled_by(before, page.frame(), WINDOW) == (moved if 0 < moved <= 2 * SIGHT // 3 else None)


def test_what_cannot_be_told_is_not_guessed() -> None:
    flat = Frame(np.full((500, 640, 3), 90, np.uint8), 0, 0.0)
    assert scrolled_by(flat, flat, WINDOW) is None
    assert scrolled_by(flat, Frame(np.zeros((400, 640, 3), np.uint8), 1, 0.0), WINDOW) is None
    assert scrolled_by(flat, flat, Box(0, 0, 5, 5)) is None


def test_a_display_that_sleeps_is_no_missing_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(1000, 1.0)
    here = _approver(page, tmp_path)
    assert here.wait_for_prompt(Deadline(0.1)) is None
    monkeypatch.setattr(page, "frame", lambda *_, **__: Frame(np.zeros((500, 640, 3), np.uint8), 1, 0.0))
    with pytest.raises(EnvironmentFailure, match="black") as caught:
        here.wait_for_prompt(Deadline(0.1))
    assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE


def test_settings_is_given_time_for_its_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known on the screen: the page is opened by its URL only after PATIENCE, and once more."""
    monkeypatch.setattr(walk, "PATIENCE", 0.4)
    monkeypatch.setattr(walk, "EFFECT", 0.05)
    page = Page(1000, 1.0)
    here = _approver(page, tmp_path)
    opened: list[str] = []
    monkeypatch.setattr(here.walker, "guest_open", opened.append)
    outcome = here.approve_in_settings(Deadline(60), enter="url")
    assert (outcome.approvable, len(opened)) == (False, 2)
    assert "no known window" in outcome.why
