"""Recording a screen: what is written, and how it stays within its bounds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import events
from harness.screen.frames import Box, Frame, is_black
from harness.screen.recording import ScreenRecorder
from harness.screen.thinning import thin
from harness.screen.timeline import FrameRecord, MarkRecord, Painter, Recording
from harness.simulator.interfaces import Stage
from harness.waiting import Deadline, wait_until

SIZE = (600, 400)


class Wall:
    """A screen that shows what a test puts on it."""

    def __init__(self, width: int = SIZE[0], height: int = SIZE[1]) -> None:
        self.pixels = np.zeros((height, width, 3), np.uint8)
        self.pixels[:, :, 2] = np.arange(width) % 251
        self.serial = 0
        self.watchers: list[Callable] = []

    def frame(self) -> Frame:
        pixels = self.pixels.copy()
        pixels.setflags(write=False)
        return Frame(pixels, self.serial, time.monotonic())

    def paint(self, box: Box, colour: int) -> Frame:
        self.pixels[box.y0 : box.y1, box.x0 : box.x1] = colour
        self.serial += 1
        frame = self.frame()
        for watcher in tuple(self.watchers):
            watcher(frame, (box,))
        return frame

    def subscribe(self, callback: Callable) -> Callable[[], None]:
        self.watchers.append(callback)
        return lambda: self.watchers.remove(callback)

    def wait_for_change(self, after: Frame | None, deadline: Deadline) -> Frame | None:
        return self.frame()


def written(recorder: ScreenRecorder, count: int) -> None:
    """Wait until so many frames and marks are on the disk."""
    path = recorder.folder / "timeline.jsonl"
    wait_until(
        lambda: sum(b'"type":"frame"' in line or b'"type":"mark"' in line for line in path.read_bytes().splitlines()),
        lambda seen: seen >= count,
        what=f"{count} records in {path}",
        deadline=Deadline(60),
        interval=0.01,
    )


def sighting(**more: object) -> events.Record:
    attributes = {"window": "alert-blocked", "region": [100, 50, 300, 200], "advice": ["Allow", 250, 180], **more}
    return {"type": "event", "name": "sighting", "attributes": attributes}


def last_picture(recording: Recording) -> np.ndarray:
    painter = Painter(recording)
    for frame in recording.frames():
        painter.paint(frame)
    assert painter.missing == 0
    return painter.pixels


# --- writing and reading back


def test_what_was_shown_is_what_is_read(tmp_path: Path) -> None:
    stage = Wall()
    shown = []
    with ScreenRecorder(tmp_path / "screen", pace=0.0) as recorder:
        recorder.follow(stage)  # type: ignore[arg-type]
        written(recorder, 1)
        for number in range(4):
            shown.append(stage.paint(Box(10 + 100 * number, 20, 200 + 100 * number, 300), 40 * number + 9).pixels)
            written(recorder, 2 + number)
    recording = Recording.load(tmp_path / "screen")
    painter = Painter(recording)
    pictures = [painter.paint(frame).copy() for frame in recording.frames()]
    assert len(pictures) == 5
    assert all(np.array_equal(one, other) for one, other in zip(pictures[1:], shown, strict=True))
    assert recording.end is not None
    assert recording.end.data["frames"] == 5
    assert recording.unread == 0
    times = [record.t for record in recording.records]
    assert times == sorted(times)
    assert recording.header is not None
    begun = datetime.fromisoformat(recording.header.time)
    for record in recording.records:
        assert (datetime.fromisoformat(record.time) - begun).total_seconds() == pytest.approx(record.t, abs=60)


def test_only_tiles_that_changed_are_written(tmp_path: Path) -> None:
    stage = Wall()
    with ScreenRecorder(tmp_path / "screen", pace=0.0) as recorder:
        recorder.follow(stage)  # type: ignore[arg-type]
        written(recorder, 1)
        stage.paint(Box(10, 10, 40, 40), 3)
        written(recorder, 2)
        stage.paint(Box(10, 10, 40, 40), 200)
        written(recorder, 3)
        stage.paint(Box(10, 10, 40, 40), 3)  # as it was before: nothing new to store
        written(recorder, 4)
    recording = Recording.load(tmp_path / "screen")
    frames = list(recording.frames())
    assert recording.end is not None
    on_disk = sum(path.stat().st_size for path in (tmp_path / "screen").rglob("*") if path.is_file())
    last_line = (tmp_path / "screen" / "timeline.jsonl").read_bytes().splitlines(keepends=True)[-1]
    assert recording.end.data["bytes"] == on_disk - len(last_line)
    assert frames[0].whole
    assert len(frames[0].tiles) == 6
    assert [list(frame.tiles) for frame in frames[1:]] == [["0"]] * 3
    assert frames[1].tiles == frames[3].tiles
    assert len(list((tmp_path / "screen" / "tiles").iterdir())) == len(
        {name for frame in frames for name in frame.tiles.values()}
    )


def test_a_change_that_changes_nothing_is_no_frame(tmp_path: Path) -> None:
    stage = Wall()
    with ScreenRecorder(tmp_path / "screen", pace=0.0) as recorder:
        recorder.follow(stage)  # type: ignore[arg-type]
        written(recorder, 1)
        stage.paint(Box(0, 0, 0, 0), 1)
        stage.serial += 1
        recorder.show(stage.frame(), (Box(0, 0, *SIZE),))
    assert len(list(Recording.load(tmp_path / "screen").frames())) == 1


def test_a_new_size_stands_on_its_own(tmp_path: Path) -> None:
    with ScreenRecorder(tmp_path / "screen", pace=0.0) as recorder:
        recorder.show(Wall().frame(), (Box(0, 0, *SIZE),))
        written(recorder, 1)
        other = Wall(300, 700)
        recorder.show(other.frame(), ())
        written(recorder, 2)
    recording = Recording.load(tmp_path / "screen")
    assert [frame.whole for frame in recording.frames()] == [True, True]
    assert np.array_equal(last_picture(recording), other.pixels)


def test_frames_that_come_too_quickly_give_way_to_the_last_one(tmp_path: Path) -> None:
    stage = Wall()
    with ScreenRecorder(tmp_path / "screen", pace=3600.0) as recorder:
        recorder.follow(stage)  # type: ignore[arg-type]
        written(recorder, 1)
        for number in range(30):
            stage.paint(Box(number * 10, 0, number * 10 + 20, 30), 100 + number)
    recording = Recording.load(tmp_path / "screen")
    assert len(list(recording.frames())) == 2  # closing does not wait for the pace
    assert np.array_equal(last_picture(recording), stage.pixels)
    assert recording.end is not None
    assert recording.end.data["coalesced"] == 29


def test_what_was_clicked_is_kept_however_quickly_it_changed(tmp_path: Path) -> None:
    stage = Wall()
    with ScreenRecorder(tmp_path / "screen", pace=3600.0) as recorder:
        recorder.follow(stage)  # type: ignore[arg-type]
        written(recorder, 1)
        clicked = stage.paint(Box(0, 0, 50, 50), 111).pixels
        recorder.note({"type": "start", "id": "1", "name": "click", "attributes": {"x": 5, "y": 6}})
        stage.paint(Box(0, 0, 50, 50), 222)
    recording = Recording.load(tmp_path / "screen")
    painter = Painter(recording)
    seen = None
    for record in recording.records:
        if isinstance(record, FrameRecord):
            painter.paint(record)
        else:
            assert record.what == "click"
            assert record.data == {"x": 5, "y": 6}
            seen = painter.pixels.copy()
    assert seen is not None
    assert np.array_equal(seen, clicked)
    assert np.array_equal(painter.pixels, stage.pixels)


def test_nothing_of_what_was_typed_is_written(tmp_path: Path) -> None:
    """Not the text, not its length, no frame for each key."""
    stage = Wall()
    log = events.EventLog(secrets=events.Secrets())
    with ScreenRecorder(tmp_path / "screen", pace=0.0) as recorder:
        recorder.follow(stage, log)  # type: ignore[arg-type]
        written(recorder, 1)
        with log.step("type", length=17, text="open sesame plain"):
            for number in range(17):
                stage.paint(Box(20 * number, 0, 20 * number + 10, 10), 255)
        log.event("sighting", window="password-prompt")
    text = (tmp_path / "screen" / "timeline.jsonl").read_text()
    assert "sesame" not in text
    assert "17" not in json.dumps([json.loads(line).get("data") for line in text.splitlines() if '"mark"' in line])
    recording = Recording.load(tmp_path / "screen")
    assert [mark.data for mark in recording.records if isinstance(mark, MarkRecord)] == [
        {},
        {"window": "password-prompt"},
    ]
    frames = list(recording.frames())
    assert len(frames) == 2  # before, and when all was typed
    assert len(frames[1].boxes) == 1
    assert np.array_equal(last_picture(recording), stage.pixels)


def test_secrets_are_masked_by_the_stream_before_they_come(tmp_path: Path) -> None:
    secrets = events.Secrets()
    secrets.add("hunter2hunter2")
    log = events.EventLog(secrets=secrets)
    stage = Wall()
    with ScreenRecorder(tmp_path / "screen", pace=0.0) as recorder:
        recorder.follow(stage, log)  # type: ignore[arg-type]
        log.event("sighting", window="other", text="the word is hunter2hunter2")
    text = (tmp_path / "screen" / "timeline.jsonl").read_text()
    assert "hunter2" not in text
    assert "the word is ***" in text


def test_a_long_text_of_a_guest_is_cut(tmp_path: Path) -> None:
    with ScreenRecorder(tmp_path / "screen") as recorder:
        recorder.note(sighting(text="x" * 100_000, buttons=[["y" * 10_000]] * 1000))
    line = (tmp_path / "screen" / "timeline.jsonl").read_bytes().splitlines()[1]
    assert len(line) < 20_000


def test_a_recorder_that_cannot_write_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed in the frame that was lost is in the next one, though that says to have changed elsewhere."""
    log = events.EventLog()
    heard: list[events.Record] = []
    log.subscribe(heard.append)
    stage = Wall()
    full = threading.Event()
    real = ScreenRecorder._store

    def store(self: ScreenRecorder, part: np.ndarray) -> str:
        if full.is_set():
            raise OSError(28, "No space left on device")
        return real(self, part)

    def lost() -> list[events.Record]:
        return [record for record in heard if record.get("name") == "degraded"]

    monkeypatch.setattr(ScreenRecorder, "_store", store)
    with events.use(log), ScreenRecorder(tmp_path / "screen", pace=0.0) as recorder:
        recorder.follow(stage)  # type: ignore[arg-type]
        written(recorder, 1)
        full.set()
        stage.paint(Box(0, 0, 9, 9), 99)
        wait_until(lost, what="the loss to be said", deadline=Deadline(60), interval=0.01)
        full.clear()
        stage.paint(Box(500, 300, 520, 320), 88)
    assert len(lost()) == 1
    assert "No space left" in lost()[0]["attributes"]["reason"]
    assert np.array_equal(last_picture(Recording.load(tmp_path / "screen")), stage.pixels)


def test_a_line_that_the_disk_took_half_of_takes_no_other_with_it(tmp_path: Path) -> None:
    stage = Wall()

    class HalfFull:
        """A file that takes only a part of the next line."""

        def __init__(self, real: Any) -> None:
            self.real, self.cut = real, True

        def write(self, line: bytes) -> int:
            if self.cut:
                self.cut = False
                return self.real.write(line[:40])
            return self.real.write(line)

        def close(self) -> None:
            self.real.close()

    with ScreenRecorder(tmp_path / "screen", pace=0.0) as recorder:
        recorder.follow(stage)  # type: ignore[arg-type]
        written(recorder, 1)
        recorder._file = HalfFull(recorder._file)  # type: ignore[assignment]
        stage.paint(Box(0, 0, 9, 9), 99)
        wait_until(lambda: recorder.lost["failed"], what="the loss", deadline=Deadline(60), interval=0.01)
        stage.paint(Box(500, 300, 520, 320), 88)
    recording = Recording.load(tmp_path / "screen")
    assert recording.unread == 1
    assert [type(record) for record in recording.records] == [FrameRecord, MarkRecord, FrameRecord]
    assert recording.end is not None
    assert np.array_equal(last_picture(recording), stage.pixels)


def test_it_follows_a_real_screen(displays: Callable[..., Any], tmp_path: Path) -> None:
    display = displays("15")
    with display.connect() as screen, ScreenRecorder(tmp_path / "screen", pace=0.0) as recorder:
        recorder.follow(screen)
        written(recorder, 1)
        before = screen.frame(Deadline(30))
        display.do(lambda: display.desktop.set_stage(Stage.ASLEEP))
        after = wait_until(lambda: screen.frame(Deadline(30)), is_black, what="black", deadline=Deadline(60))
    recording = Recording.load(tmp_path / "screen")
    assert np.array_equal(Painter(recording).paint(next(recording.frames())), before.pixels)
    assert np.array_equal(last_picture(recording), after.pixels)


# --- bounds


def noise(stage: Wall, seed: int) -> None:
    stage.pixels[:] = np.random.default_rng(seed).integers(0, 255, stage.pixels.shape, np.uint8)
    stage.serial += 1


def test_it_stays_within_its_bound_and_keeps_what_matters(tmp_path: Path) -> None:
    log = events.EventLog()
    heard: list[events.Record] = []
    log.subscribe(heard.append)
    stage = Wall()
    bound = 6 << 20  # a picture of noise takes 0.7 MB
    kept: list[np.ndarray] = []
    with events.use(log), ScreenRecorder(tmp_path / "screen", most_bytes=bound, pace=0.0) as recorder:
        for number in range(24):
            noise(stage, number)
            recorder.show(stage.frame(), (Box(0, 0, *SIZE),))
            if number == 3:
                recorder.note({"type": "start", "id": "1", "name": "click", "attributes": {"x": 1, "y": 2}})
            if number in (0, 3, 23):
                kept.append(stage.pixels.copy())
            wait_until(
                lambda: recorder._queue, lambda queue: not queue, what="the queue", deadline=Deadline(60), interval=0.01
            )
    thinned = [record for record in heard if record.get("name") == "recording-thinned"]
    assert thinned
    assert "6 MB" in thinned[0]["attributes"]["reason"]
    total = sum(path.stat().st_size for path in (tmp_path / "screen").rglob("*") if path.is_file())
    assert total <= bound
    recording = Recording.load(tmp_path / "screen")
    painter = Painter(recording)
    pictures = [painter.paint(frame).copy() for frame in recording.frames()]
    assert painter.missing == 0
    assert 3 < len(pictures) < 24
    assert all(any(np.array_equal(one, other) for other in pictures) for one in kept)
    assert np.array_equal(pictures[0], kept[0])
    assert np.array_equal(pictures[-1], kept[-1])
    assert sum(isinstance(record, MarkRecord) for record in recording.records) == 1


def make_frames(times: list[float]) -> list[FrameRecord | MarkRecord]:
    return [
        FrameRecord(n=number, t=t, time="", serial=number, size=(300, 300), boxes=[(0, 0, 9, 9)],
                    tiles={str(number % 4): f"{number:032x}"}, whole=number == 0)
        for number, t in enumerate(times)
    ]  # fmt: skip


def test_thinning_is_even_over_the_time() -> None:
    records = make_frames([0.01 * number for number in range(100)] + [float(number) for number in range(1, 101)])
    kept, _ = thin(records, {}, lambda some: len(some) <= 60)
    late = [record for record in kept if record.t >= 1.0]
    assert len(late) > 40  # the crowd at the beginning went first


@given(
    gaps=st.lists(st.floats(0, 5), min_size=2, max_size=40),
    most=st.integers(2, 40),
    anchors=st.dictionaries(st.integers(0, 39), st.sampled_from([1, 2]), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_thinning_changes_no_picture_that_is_left(gaps: list[float], most: int, anchors: dict[int, int]) -> None:
    records = make_frames(list(np.cumsum(gaps)))

    def pictures(some: list[FrameRecord | MarkRecord]) -> dict[int, dict[str, str]]:
        shown: dict[str, str] = {}
        found = {}
        for record in some:
            assert isinstance(record, FrameRecord)
            shown = {**({} if record.whole else shown), **record.tiles}
            found[record.n] = shown
        return found

    before = pictures(records)
    kept, _ = thin(records, anchors, lambda some: len(some) <= most)
    after = pictures(kept)
    assert all(before[number] == picture for number, picture in after.items())
    assert [kept[0].n, kept[-1].n] == [records[0].n, records[-1].n]
    assert len(kept) <= max(2, most)
    lost = {anchors[number] for number in anchors if number < len(records) and number not in after}
    left = {anchors.get(number, 0) for number in list(after)[1:-1]}
    assert not lost or not left or max(left) >= max(lost)
    if lost == {2} or lost == {1, 2}:
        assert 0 not in left
