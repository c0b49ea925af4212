"""Reading a recorded screen, whoever wrote it, and the film that is made of it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness import events
from harness.errors import HarnessError, UsageError
from harness.screen import timeline
from harness.screen.annotations import Annotator, plain, said
from harness.screen.film import Options, make_clip, make_film, plan
from harness.screen.frames import Box, Frame
from harness.screen.recording import ScreenRecorder
from harness.screen.timeline import (
    MOST_LINE,
    TILE,
    FrameRecord,
    MarkRecord,
    Painter,
    Recording,
    Tail,
    decode,
    encode,
    find_recording,
    read_tile,
)
from harness.waiting import Deadline

SIZE = (600, 400)


def sighting(**more: object) -> events.Record:
    attributes = {"window": "alert-blocked", "region": [100, 50, 300, 200], "advice": ["Allow", 250, 180], **more}
    return {"type": "event", "name": "sighting", "attributes": attributes}


def make_frames(times: list[float]) -> list[FrameRecord | MarkRecord]:
    return [
        FrameRecord(n=number, t=t, time="", serial=number, size=(300, 300), boxes=[(0, 0, 9, 9)],
                    tiles={str(number % 4): f"{number:032x}"}, whole=number == 0)
        for number, t in enumerate(times)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case folder with a recording: an alert comes, is seen, is clicked, goes."""
    case = tmp_path_factory.mktemp("case")
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[:, :, 2] = np.arange(SIZE[0]) % 251
    place = Box(100, 50, 300, 200)
    with ScreenRecorder(
        case / "screen", machine="mac-1", simulated=True, labels={"scenario": "s"}, pace=0.0
    ) as recorder:
        start = time.monotonic()
        for serial, colour in enumerate((None, 200, 7)):
            if colour is not None:
                pixels[place.y0 : place.y1, place.x0 : place.x1] = colour
            recorder.show(Frame(pixels.copy(), serial, start + serial), (place,))
            if serial != 1:
                recorder.note({"type": "event", "name": "approvable", "attributes": {"approvable": True}})
                continue
            recorder.note(
                sighting(buttons=[["Allow", "approve", 230, 170, 270, 190], ["OK", "ok", 120, 170, 160, 190]])
            )
            press = {"window": "alert-blocked", "button": "Allow", "role": "approve", "at": [250, 180], "attempt": 1}
            recorder.note({"type": "start", "id": "1", "name": "press", "attributes": press})
            recorder.note({"type": "start", "id": "2", "name": "click", "attributes": {"x": 250, "y": 180}})
    return case


def test_what_a_killed_process_left_can_be_read(recorded: Path, tmp_path: Path) -> None:
    """The last line is torn, there is no end."""
    shutil.copytree(recorded / "screen", tmp_path / "screen")
    path = tmp_path / "screen" / "timeline.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    recording = Recording.load(tmp_path / "screen")
    assert recording.end is None
    assert len(recording.records) == len(lines) - 3


def test_a_tile_that_is_gone_or_not_what_it_says_is_grey(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded / "screen", tmp_path / "screen")
    recording = Recording.load(tmp_path / "screen")
    first = next(recording.frames())
    recording.tile(first.tiles["0"]).unlink()
    recording.tile(first.tiles["1"]).write_bytes(b"\x89PNG\r\n\x1a\nnonsense" * 20)
    Image.new("RGB", (3000, 3000)).save(recording.tile(first.tiles["2"]), format="PNG")
    changed = np.asarray(Image.open(recording.tile(first.tiles["3"]))).copy()
    changed[0, 0] ^= 1
    Image.fromarray(changed).save(recording.tile(first.tiles["3"]), format="PNG")
    painter = Painter(recording)
    pixels = painter.paint(first)
    assert painter.missing == 4
    assert tuple(pixels[5, 5]) == (96, 96, 104)
    assert tuple(pixels[5, TILE + 5]) == (96, 96, 104)


# --- what a stranger may have written


@given(st.binary(max_size=400))
@settings(max_examples=80, deadline=None)
def test_any_line_is_a_record_or_none(data: bytes) -> None:
    decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


@given(
    what=st.sampled_from(["sighting", "press", "click", "type", "other"]),
    data=st.dictionaries(
        st.sampled_from(["window", "advice", "at", "x", "y", "box", "region", "buttons", "role", "attempt"]), JSON
    ),
)
@settings(max_examples=80, deadline=None)
def test_any_mark_can_be_drawn_and_told(what: str, data: dict[str, object]) -> None:
    line = json.dumps({"type": "mark", "n": 1, "t": 1.5, "time": "", "what": what, "data": data}).encode()
    record = decode(line)
    if record is None:
        return
    assert isinstance(record, MarkRecord)
    for shape in Annotator().feed(record):
        assert all(0 <= value <= 16_384 for value in shape.box)
    assert "\n" not in said(record)


@pytest.mark.parametrize(
    "change",
    [
        {"tiles": {"0": "../../../../etc/passwd"}},
        {"tiles": {"../x": "0" * 32}},
        {"tiles": {"9999": "0" * 32}},
        {"size": [100_000, 100_000]},
        {"size": [16_000, 16_000]},
        {"size": [0, 5]},
        {"t": -1.0},
        {"t": "soon"},
        {"boxes": [[0, 0, 1, 1]] * 1000},
        {"type": "shell"},
    ],
)
def test_absurd_frames_are_refused(change: dict[str, object]) -> None:
    good = {"type": "frame", "n": 1, "t": 1.0, "time": "", "serial": 1, "size": [300, 300], "boxes": [],
            "tiles": {"0": "0" * 32}, "whole": True}  # fmt: skip
    assert isinstance(decode(json.dumps(good).encode()), FrameRecord)
    assert decode(json.dumps({**good, **change}).encode()) is None


def test_a_frame_without_the_picture_it_builds_on_is_left_out(tmp_path: Path) -> None:
    frames = make_frames([0.0, 1.0])
    (tmp_path / "timeline.jsonl").write_bytes(encode(frames[1]) + encode(frames[0]))
    recording = Recording.load(tmp_path)
    assert [record.n for record in recording.records] == [0]
    assert recording.unread == 1


def test_a_timeline_is_read_only_so_far(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = Recording.load(recorded / "screen")
    monkeypatch.setattr(timeline, "MOST_RECORDS", 2)
    few = Recording.load(recorded / "screen")
    assert (len(few.records), few.records) == (2, everything.records[:2])
    assert few.unread > 0
    monkeypatch.setattr(timeline, "MOST_BYTES", 100)
    with pytest.raises(UsageError, match="no pictures"):
        Recording.load(recorded / "screen")


def test_the_tail_of_a_file_grows_and_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.read() == (False, [])
    path.write_bytes(b"one\ntw")
    assert tail.read() == (False, [b"one"])
    with path.open("ab") as file:
        file.write(b"o\n" + b"x" * (MOST_LINE + 5))
    assert tail.read() == (False, [b"two"])
    with path.open("ab") as file:
        file.write(b"still long\nfour\n")
    assert tail.read() == (False, [b"four"])
    other = tmp_path / "other"
    other.write_bytes(b"anew\n")
    other.replace(path)
    assert tail.read() == (True, [b"anew"])


def test_a_recording_is_found_from_where_people_point_at(recorded: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(recorded, run / "one")
    assert find_recording(run / "one") == run / "one" / "screen"
    assert find_recording(run / "one" / "screen") == run / "one" / "screen"
    assert find_recording(run) == run / "one" / "screen"
    shutil.copytree(recorded, run / "two")
    with pytest.raises(UsageError, match="2 of them"):
        find_recording(run)
    with pytest.raises(UsageError, match="no such folder"):
        find_recording(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError):
        Recording.load(tmp_path / "empty")


# --- what is drawn


def test_a_sighting_lasts_until_its_window_changes() -> None:
    annotator = Annotator()
    mark = MarkRecord(n=1, t=1.0, time="", what="sighting", data=sighting(
        box=[110, 60, 290, 190], app_name="App", buttons=[["Allow", "approve", 240, 170, 260, 190]])["attributes"])  # fmt: skip
    window, advice = annotator.feed(mark)
    assert (window.kind, window.box, window.text) == ("window", Box(110, 60, 290, 190), "alert-blocked · App")
    assert (advice.kind, advice.box) == ("advice", Box(240, 170, 260, 190))
    elsewhere = FrameRecord(n=2, t=2.0, time="", serial=2, size=SIZE, boxes=[(400, 300, 500, 400)], tiles={})
    assert len(annotator.feed(elsewhere)) == 2
    click = MarkRecord(n=3, t=2.5, time="", what="click", data={"x": 250, "y": 180})
    assert [shape.kind for shape in annotator.feed(click)] == ["window", "advice", "click"]
    gone = FrameRecord(n=4, t=2.6, time="", serial=3, size=SIZE, boxes=[(100, 50, 300, 200)], tiles={})
    assert [shape.kind for shape in annotator.feed(gone)] == ["click"]
    assert annotator.feed(FrameRecord(n=5, t=9.0, time="", serial=4, size=SIZE, boxes=[], tiles={})) == ()


def test_text_of_a_guest_has_no_control_characters() -> None:
    assert plain("a\x1b[31m\u202eb\n" + "c" * 100, 12) == "a [31m b cc…"


@pytest.fixture(scope="module")
def film(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(Recording.load(recorded / "screen"), tmp_path_factory.mktemp("film") / "film.webp")


def test_the_film_shows_every_scene_for_as_long_as_planned(recorded: Path, film: Path) -> None:
    scenes = plan(Recording.load(recorded / "screen"), Options())
    image = Image.open(film)
    assert image.is_animated
    assert image.size == (SIZE[0], SIZE[1] + 26)
    total = 0
    for number in range(image.n_frames):
        image.seek(number)
        image.load()
        total += image.info["duration"]
    assert total == pytest.approx(sum(scene.seconds for scene in scenes) * 1000, abs=len(scenes) * 2)


def redness(film: Path) -> int:
    """Pixels of the click's colour, in the picture that has most of them; the window's caption apart."""
    image = Image.open(film)
    most = 0
    for number in range(image.n_frames):
        image.seek(number)
        pixels = np.asarray(image.convert("RGB")).astype(int)[: SIZE[1]]
        most = max(most, int(((pixels[:, :, 0] > 180) & (pixels[:, :, 1] < 120) & (pixels[:, :, 2] < 120)).sum()))
    return most


def test_clicks_are_drawn_into_the_film_only(recorded: Path, film: Path, tmp_path: Path) -> None:
    bare = make_film(Recording.load(recorded / "screen"), tmp_path / "bare.webp", Options(boxes=False))
    assert redness(film) > 60
    assert redness(bare) == 0


def test_idle_time_is_cut_and_said(tmp_path: Path) -> None:
    frames = make_frames([0.0, 300.0, 300.5])
    (tmp_path / "timeline.jsonl").write_bytes(b"".join(encode(frame) for frame in frames))
    scenes = plan(Recording.load(tmp_path), Options())
    assert sum(scene.seconds for scene in scenes) < 5
    assert [round(scene.skipped) for scene in scenes] == [0, 300, 0]
    quick = plan(Recording.load(tmp_path), Options(speed=1000))
    assert [scene.skipped for scene in quick] == [0, 0, 0]


def test_a_clip_fits_or_there_is_none(recorded: Path, tmp_path: Path) -> None:
    recording = Recording.load(recorded / "screen")
    target = tmp_path / "clip.webp"
    assert make_clip(recording, target, most_bytes=200_000, deadline=Deadline(60)) == target
    assert target.stat().st_size <= 200_000
    target.unlink()
    assert make_clip(recording, target, most_bytes=100, deadline=Deadline(60)) is None
    assert make_clip(recording, target, most_bytes=200_000, deadline=Deadline(0)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_gif_and_few_pictures(recorded: Path, tmp_path: Path) -> None:
    target = make_film(
        Recording.load(recorded / "screen"), tmp_path / "film.gif", Options(most_pictures=2, max_width=300)
    )
    image = Image.open(target)
    assert image.size[0] == 300
    assert image.n_frames == 2


@pytest.fixture
def path_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts an executable named ffmpeg, and little else, into PATH."""

    def make(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        path = folder / "ffmpeg"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        return folder

    return make


def test_mp4_is_piped_through_ffmpeg(recorded: Path, tmp_path: Path, path_with: Callable[[str], Path]) -> None:
    folder = path_with('printf "%s\\n" "$@" > "$0.arguments"; for last; do :; done; cat > "$last"')
    recording = Recording.load(recorded / "screen")
    target = make_film(recording, tmp_path / "film.mp4")
    arguments = (folder / "ffmpeg.arguments").read_text().splitlines()
    size = arguments[arguments.index("-s") + 1]
    assert size == "600x426"
    pictures, rest = divmod(target.stat().st_size, 600 * 426 * 3)
    assert rest == 0
    assert pictures == pytest.approx(10 * sum(scene.seconds for scene in plan(recording, Options())), abs=2)


def test_an_ffmpeg_that_fails_or_hangs_leaves_nothing(
    recorded: Path, tmp_path: Path, path_with: Callable[[str], Path]
) -> None:
    folder = path_with("echo no such encoder >&2; exit 3")
    recording = Recording.load(recorded / "screen")
    (tmp_path / "out").mkdir()
    with pytest.raises(HarnessError, match="no such encoder"):
        make_film(recording, tmp_path / "out" / "film.mp4")
    (folder / "ffmpeg").write_text("#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(HarnessError, match="ffmpeg"):
        make_film(recording, tmp_path / "out" / "film.mp4", deadline=Deadline(1.5))
    assert list((tmp_path / "out").iterdir()) == []


def test_without_ffmpeg_there_is_a_hint(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"film\.webp"):
        make_film(Recording.load(recorded / "screen"), tmp_path / "film.mp4")


def test_a_tile_is_no_larger_than_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "tile.png"
    Image.fromarray(np.full((40, 30, 3), (1, 2, 3), np.uint8)).save(path)
    tile = read_tile(path, (40, 30))
    assert tile is not None
    assert tuple(tile[0, 0]) == (1, 2, 3)
    assert read_tile(path, (30, 40)) is None
    assert read_tile(tmp_path / "none.png", (40, 30)) is None
