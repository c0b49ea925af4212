"""The ladder of looking: which rung answers, what it costs is told, what is learned and what is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness import events
from harness.approval import Approver, observer
from harness.approval.observer import Observer
from harness.screen import Box, Frame, Sighting, TextLine
from harness.screen.needles import Needles
from harness.simulator.interfaces import Alert, AlertKind
from harness.waiting import Deadline
from tests.support import screen_prompts as prompts

APP = "Mitmproxy Redirector"


class FakeScreen:
    """A screen whose frames are a list: each wait for a change, or for calm, takes the next one."""

    def __init__(self, marked: Frame | None, *coming: Frame) -> None:
        self.marked = marked
        self.coming = list(coming)
        self.settled = 0

    def wait_for_change(self, after: Frame | None, deadline: Deadline) -> Frame | None:
        return self.coming.pop(0) if self.coming else None

    def settle(self, deadline: Deadline, quiet: float = 0.3, region: Box | None = None) -> Frame:
        self.settled += 1
        self.at_rest = self.coming.pop() if self.coming else self.at_rest
        self.coming.clear()
        return self.at_rest

    at_rest: Frame


class FakeReader:
    """Reads the texts of what was drawn; counts."""

    def __init__(self, *lines: TextLine) -> None:
        self.lines = lines
        self.regions: list[Box | None] = []

    def warm_up(self) -> None:
        """Nothing to load."""

    def read(self, frame: Frame, region: Box | None = None) -> list[TextLine]:
        self.regions.append(region)
        whole = region or frame.box
        return [line for line in self.lines if line.box.overlaps(whole)]


@dataclasses.dataclass
class Eyes:
    screen: FakeScreen
    reader: FakeReader
    observer: Observer
    needles: Needles
    records: list[dict]
    drawn: object

    def named(self, name: str) -> list[dict]:
        return [record["attributes"] for record in self.records if record["name"] == name]

    @property
    def rungs(self) -> list[str]:
        return [rung["rung"] for rung in self.named("rung")]


@pytest.fixture
def eyes(tmp_path: Path) -> Iterator[Callable[..., Eyes]]:
    log = events.EventLog()
    records: list[dict] = []
    log.subscribe(records.append)

    def make(kind: AlertKind = AlertKind.PROXY, *, known: bool = False, mark: bool = True) -> Eyes:
        drawn = prompts.prompt(kind, APP)
        empty = np.zeros_like(drawn.frame.pixels)
        empty[:] = (70, 110, 190)
        screen = FakeScreen(prompts.frame_of(empty, serial=0) if mark else None)
        screen.at_rest = drawn.frame
        reader = FakeReader(*drawn.seen.lines)
        needles = Needles(tmp_path / "needles", origin="simulated-1", app_name=APP)
        if known:
            assert needles.learn(drawn.seen) is not None
        watcher = Observer(
            screen=screen,
            reader=reader,
            app_name=APP,
            extension_kind="network",
            folder=tmp_path / "frames",
            needles=needles,
        )
        return Eyes(screen, reader, watcher, needles, records, drawn)

    with events.use(log):
        yield make


def test_a_known_prompt_is_not_read(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=True)
    frame, seen = here.observer.watch(here.drawn.frame, Deadline(5))
    assert seen is not None
    assert (seen.window, seen.app_name) == ("ne-proxy-consent", APP)
    assert seen.advice is not None
    assert seen.advice.box == here.drawn.seen.advice.box
    assert frame is here.drawn.frame
    assert here.reader.regions == []
    assert here.screen.settled == 0
    assert here.rungs == ["changed-region", "needle"]
    assert [rung["found"] for rung in here.named("rung")] == [True, "ne-proxy-consent"]
    assert all(rung["seconds"] >= 0 for rung in here.named("rung"))
    assert here.named("rung")[1]["score"] == 1.0
    (used,) = here.named("needle-used")
    assert used["window"] == "ne-proxy-consent"
    assert here.named("sighting")[0]["rung"] == "needle"


def test_an_unknown_prompt_is_read_once_the_screen_is_calm(eyes: Callable[..., Eyes]) -> None:
    here = eyes()
    half = (here.drawn.frame.pixels // 2 + here.screen.marked.pixels // 2).astype(np.uint8)
    frame, seen = here.observer.watch(prompts.frame_of(half, serial=7), Deadline(5))
    assert seen is not None
    assert seen.window == "ne-proxy-consent"
    assert frame is here.drawn.frame
    assert seen.frame is frame
    assert here.screen.settled == 1
    assert len(here.reader.regions) == 1
    region = here.reader.regions[0]
    assert region is not None
    assert region.width < frame.size[0]
    assert [rung for rung in here.rungs if rung not in ("needle", "changed-region")] == ["settle", "changed-since-mark"]


def test_a_prompt_that_comes_while_the_screen_settles_is_known_without_reading(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=True)
    half = (here.drawn.frame.pixels // 2 + here.screen.marked.pixels // 2).astype(np.uint8)
    _, seen = here.observer.watch(prompts.frame_of(half, serial=7), Deadline(5))
    assert seen is not None
    assert here.reader.regions == []
    assert seen.frame is here.drawn.frame


def moved(here: Eyes) -> Frame:
    """The prompt, 7 pixels lower than it was learned."""
    return prompts.frame_of(np.roll(here.drawn.frame.pixels, 7, axis=0), serial=5)


def test_exactly_what_was_learned_needs_no_second_look(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=True)
    here.screen.coming = [here.screen.marked]
    assert here.observer.watch(here.drawn.frame, Deadline(5))[1] is not None
    assert len(here.screen.coming) == 1


def test_a_needle_that_does_not_stay_is_not_believed(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=True)
    gone = here.screen.marked
    here.screen.coming = [gone]
    frame, seen = here.observer.watch(moved(here), Deadline(5))
    assert seen is None
    assert frame is gone


def test_a_needle_that_stays_is_told_with_the_newest_frame(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=True)
    first = moved(here)
    pixels = first.pixels.copy()
    pixels[:8, :8] = 0  # the clock
    later = prompts.frame_of(pixels, serial=9)
    here.screen.coming = [later]
    frame, seen = here.observer.watch(first, Deadline(5))
    assert frame is later
    assert seen is not None
    assert seen.frame is later
    here.observer.pressed(seen, worked=False)  # this very sighting is known to come from the needle
    assert here.needles.load() == 0


def test_nothing_changed_is_nothing_seen(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=True)
    frame, seen = here.observer.watch(here.screen.marked, Deadline(5))
    assert seen is None
    assert frame is here.screen.marked
    assert here.reader.regions == []
    assert here.rungs == []


def test_the_whole_screen_is_the_last_rung_and_is_told_as_degraded(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=False)
    pixels = here.drawn.frame.pixels.copy()
    pixels[300:400, 10:200] = 5  # what has changed is elsewhere; the prompt stood there at the mark
    here.screen.marked = here.drawn.frame
    frame = prompts.frame_of(pixels, serial=3)
    assert here.observer.look(frame) is None
    seen = here.observer.look(frame, full=True)
    assert seen is not None
    assert "full-frame" in here.rungs
    assert here.named("degraded")[-1]["reason"] == "ne-proxy-consent"


def test_without_a_mark_a_known_prompt_is_found_in_the_whole_frame(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=True, mark=False)
    assert here.observer.look(here.drawn.frame) is not None
    assert here.reader.regions == []
    assert here.named("degraded") == []


def test_what_stands_where_the_action_changed_comes_before_an_older_prompt(eyes: Callable[..., Eyes]) -> None:
    """A known alert that still stands must not hide the window that a click has opened."""
    here = eyes(known=True)
    new = prompts.prompt(AlertKind.FILTER, APP)
    height, width = here.drawn.frame.pixels.shape[:2]
    before = np.concatenate([here.drawn.frame.pixels, here.screen.marked.pixels], axis=1)
    after = np.concatenate([here.drawn.frame.pixels, new.frame.pixels], axis=1)
    here.screen.marked = prompts.frame_of(np.concatenate([here.screen.marked.pixels] * 2, axis=1), serial=0)
    here.reader.lines = tuple(
        dataclasses.replace(line, box=Box(line.box.x0 + width, line.box.y0, line.box.x1 + width, line.box.y1))
        for line in new.seen.lines
    )
    seen = here.observer.look(prompts.frame_of(after, serial=2), before=prompts.frame_of(before, serial=1))
    assert seen is not None
    assert seen.window == "ne-filter-consent"
    assert height > 0


def test_learned_only_when_proved(eyes: Callable[..., Eyes]) -> None:
    here = eyes()
    _, seen = here.observer.watch(here.drawn.frame, Deadline(5))
    assert seen is not None
    here.observer.pressed(seen, worked=True)
    assert here.needles.load() == 0
    here.observer.disproved("the oracle says no")
    here.observer.proved()  # of nothing
    assert here.needles.load() == 0
    here.observer.pressed(seen, worked=False)
    here.observer.proved()
    assert here.needles.load() == 0
    here.observer.pressed(seen, worked=True)
    here.observer.proved()
    assert here.needles.load() == 1
    assert here.named("needle-learned")[0]["window"] == "ne-proxy-consent"


@pytest.mark.parametrize("how", ["no effect", "not approved"])
def test_a_needle_that_misled_is_dropped(how: str, eyes: Callable[..., Eyes], tmp_path: Path) -> None:
    here = eyes(known=True)
    _, seen = here.observer.watch(here.drawn.frame, Deadline(5))
    assert seen is not None
    here.observer.pressed(seen, worked=how != "no effect")
    if how == "not approved":
        assert here.needles.load() == 1
        here.observer.disproved("not approved: nothing came")
    assert here.needles.load() == 0
    assert not list(tmp_path.rglob("*.needle"))
    assert here.named("needle-refused")[-1]["dropped"] is True
    _, again = here.observer.watch(here.drawn.frame, Deadline(5))
    assert again is not None
    assert here.reader.regions  # it is read anew


def test_a_needle_that_did_well_stays(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=True)
    _, seen = here.observer.watch(here.drawn.frame, Deadline(5))
    assert seen is not None
    here.observer.pressed(seen, worked=True)
    here.observer.proved()
    here.observer.disproved("of a later walk")
    assert here.needles.load() == 1


def test_windows_of_other_kinds_are_not_learned(eyes: Callable[..., Eyes]) -> None:
    here = eyes()
    sheet = dataclasses.replace(here.drawn.seen, window="settings-extensions-sheet")
    here.observer.pressed(sheet, worked=True)
    here.observer.proved()
    assert here.needles.load() == 0


def test_the_same_rung_with_the_same_answer_is_told_once(eyes: Callable[..., Eyes]) -> None:
    here = eyes(known=True)
    for _ in range(5):
        here.observer.watch(here.drawn.frame, Deadline(5))
    assert here.rungs == ["changed-region", "needle"]
    assert len(here.named("needle-used")) == 1


def test_pictures_are_written_behind_and_attached_to_a_step(eyes: Callable[..., Eyes], tmp_path: Path) -> None:
    here = eyes()
    with events.step("press"):
        path = here.observer.keep(here.drawn.frame, "Some Window!")
        assert path is not None
        assert here.observer.keep(here.drawn.frame, "another") is not None
        assert [picture.name for picture in here.observer.frames] == ["001-some-window-.png", "002-another.png"]
    assert path.read_bytes()[:4] == b"\x89PNG"
    (end,) = (record for record in here.records if record["type"] == "end")
    assert [Path(item["path"]).name for item in end["attachments"]] == ["001-some-window-.png", "002-another.png"]


def test_a_disk_that_takes_no_picture_is_told(eyes: Callable[..., Eyes], tmp_path: Path) -> None:
    here = eyes()
    (tmp_path / "frames").write_text("in the way")
    here.observer.keep(here.drawn.frame, "window")
    assert here.observer.frames == []
    assert here.named("degraded")[0]["what"] == "a frame could not be saved"


def test_pictures_are_bounded(eyes: Callable[..., Eyes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "_MOST_PICTURES", 2)
    here = eyes()
    kept = [here.observer.keep(here.drawn.frame, "w") for _ in range(4)]
    assert [path is None for path in kept] == [False, False, True, True]
    assert len(here.observer.frames) == 2


def test_the_second_prompt_is_clicked_without_being_read(displays, reader, tmp_path: Path) -> None:
    """On the simulated display: learned from a prompt that was read, answered and went; known the next time, also moved."""
    display = displays("15")
    screen = display.connect()
    log = events.EventLog()
    records: list[dict] = []
    log.subscribe(records.append)

    def approver(needles: Needles) -> Approver:
        return Approver(
            screen=screen,
            reader=reader,
            app_name=APP,
            extension_kind="network",
            generation=15,
            password="x",
            user="admin",
            oracle=lambda: None,
            guest_open=lambda _url: None,
            quit_settings=lambda: None,
            folder=tmp_path / "frames",
            needles=needles,
        )

    def answer() -> Sighting:
        needles = Needles(tmp_path / "needles", origin="simulated-24G90", app_name=APP)
        walker = approver(needles)
        screen.mark()
        display.do(lambda: display.desktop.show(Alert(AlertKind.EXTENSION, APP)))
        seen = walker.wait_for_prompt(Deadline(60))
        assert seen is not None
        walker.close_prompt(Deadline(30))
        return seen

    with events.use(log):
        first = answer()
        reads = len([record for record in records if record["name"] == "sighting"])
        assert reads
        assert [record for record in records if record["name"] == "needle-learned"]
        second = answer()
        with_needle = [record["attributes"]["rung"] for record in records if record["name"] == "sighting"][reads:]
    screen.close()
    assert with_needle[0] == "needle"
    assert [button.box for button in second.buttons] == [button.box for button in first.buttons]
    assert display.clicks == ["alert/extension/OK"] * 2
