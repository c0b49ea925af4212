"""A case's recording: begun with the screen, filmed and sealed at the end, dropped when a pass is not kept."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness import events
from harness.config import Settings, load_settings
from harness.errors import ProductFailure
from harness.evidence import CaseFolder, Collection, Item, Manifest
from harness.evidence import film as film_module
from harness.screen.frames import Box, Frame
from harness.screen.recording import ScreenRecorder
from harness.screen.timeline import Recording
from harness.session.case import Case
from harness.session.mac import Mac


def frame(serial: int) -> Frame:
    pixels = np.full((300, 400, 3), 10 + 40 * serial, np.uint8)
    return Frame(pixels, serial, time.monotonic())


def make_case(folder: Path, **settings: Any) -> Case:
    case_folder = CaseFolder(folder / "run" / "case")
    chosen: Settings = load_settings(environ={}, overrides={"provider": "simulated", **settings})
    return Case(
        scenario="first activation", nodeid="t", macos="15", attempt=1, settings=chosen, simulated=True, image="i",
        release="1", folder=case_folder, log=events.EventLog(case_folder.events_path), artifacts=folder,
    )  # fmt: skip


def record(case: Case) -> Path:
    with events.use(case.log), ScreenRecorder(case.folder.new_recording(), machine="mac-1", pace=0.0) as recorder:
        recorder.show(frame(1), (Box(0, 0, 400, 300),))
        recorder.note({"type": "event", "name": "sighting", "attributes": {"window": "other"}})
        recorder.show(frame(2), (Box(0, 0, 400, 300),))
    return recorder.folder


def collect(case: Case) -> None:
    manifest = Manifest(case.folder.manifest_path)
    began = Collection(
        id="01-x", reason="x", machine="mac-1", started="", since="", items=[Item("a", "b", status="ok")]
    )
    manifest.begin(began)
    manifest.finish(began)


def ends(case: Case, name: str) -> list[events.Record]:
    return [
        line for line in events.read(case.folder.events_path) if line.get("type") == "end" and line.get("name") == name
    ]


def test_a_failure_is_filmed_and_sealed(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    record(case)
    collect(case)
    case.fail(ProductFailure("x"))
    case.close()
    clip = case.folder.path / "screen.webp"
    assert Image.open(clip).n_frames >= 2
    (step,) = ends(case, "film the screen")
    assert step["attachments"] == [{"path": str(clip), "name": "the screen", "mime": "image/webp"}]
    manifest = Manifest(case.folder.manifest_path)
    assert [item.path for item in manifest.collections[-1].items] == ["screen/timeline.jsonl", "screen.webp"]
    assert manifest.collections[-1].complete
    assert manifest.verify() == []
    with (case.folder.path / "screen" / "timeline.jsonl").open("a") as file:
        file.write("more\n")
    assert manifest.verify() == ["screen/timeline.jsonl: another checksum"]


def test_a_pass_is_not_filmed_but_kept(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    folder = record(case)
    case.close()
    assert Recording.load(folder).end is not None
    assert not (case.folder.path / "screen.webp").exists()
    assert not case.folder.manifest_path.exists()


def test_a_pass_that_is_not_kept_loses_its_recording(tmp_path: Path) -> None:
    case = make_case(tmp_path, **{"evidence.keep_passing": False})
    folder = record(case)
    case.close()
    assert not folder.exists()


def test_no_film_when_none_is_wanted(tmp_path: Path) -> None:
    case = make_case(tmp_path, **{"evidence.clip_mb": 0})
    record(case)
    case.fail(ProductFailure("x"))
    case.close()
    assert not (case.folder.path / "screen.webp").exists()
    assert ends(case, "film the screen") == []


def test_a_film_that_cannot_be_made_is_said_and_the_result_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(film_module, "make_clip", full)
    case = make_case(tmp_path)
    record(case)
    case.fail(ProductFailure("x"))
    assert case.close().failed
    said = [line["attributes"] for line in events.read(case.folder.events_path) if line.get("name") == "degraded"]
    assert [one["what"] for one in said] == ["no film of the failure"]
    assert "No space left" in said[0]["reason"]


def test_two_macs_of_one_case_are_recorded_apart(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    assert [record(case).name, record(case).name] == ["screen", "screen-2"]
    assert [folder.name for folder in case.folder.recordings()] == ["screen", "screen-2"]
    case.fail(ProductFailure("x"))
    case.close()
    assert len(ends(case, "film the screen")) == 2
    assert (case.folder.path / "screen-2.webp").is_file()


class _Screen:
    """Shows one picture."""

    def __init__(self) -> None:
        self.watchers: list[Any] = []

    def subscribe(self, callback: Any) -> Any:
        self.watchers.append(callback)
        return lambda: self.watchers.remove(callback)

    def wait_for_change(self, *_: object) -> Frame:
        return frame(1)


def mac_of(case: Case) -> Mac:
    mac = Mac.__new__(Mac)
    mac.name = "mac-1"
    mac.settings = case.settings
    mac.case = case
    mac._recorder = None
    mac._screen = None
    mac._log = None
    mac._activations = []
    mac.guest = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]
    return mac


def test_a_mac_records_its_screen_until_it_is_closed(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    mac, screen = mac_of(case), _Screen()
    with events.use(case.log):
        mac._record(screen)  # type: ignore[arg-type]
        events.event("sighting", window="alert-blocked")
        mac.close()
    assert screen.watchers == []
    recording = Recording.load(case.folder.path / "screen")
    assert recording.header is not None
    assert recording.header.simulated
    assert recording.header.labels["scenario"] == "first activation"
    assert [getattr(one, "what", "frame") for one in recording.records] == ["frame", "sighting"]
    assert recording.end is not None
    (told,) = [line for line in events.read(case.folder.events_path) if line.get("name") == "screen-recorded"]
    assert told["attributes"]["frames"] == 1


def test_no_recording_where_none_is_wanted_or_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = make_case(tmp_path, **{"evidence.recording": False})
    mac = mac_of(off)
    mac._record(_Screen())  # type: ignore[arg-type]
    assert mac._recorder is None
    assert not (off.folder.path / "screen").exists()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    case = make_case(tmp_path / "other")
    monkeypatch.setattr(CaseFolder, "new_recording", full)
    mac = mac_of(case)
    with events.use(case.log):
        mac._record(_Screen())  # type: ignore[arg-type]
    assert mac._recorder is None
    said = [line for line in events.read(case.folder.events_path) if line.get("name") == "degraded"]
    assert said[0]["attributes"]["what"] == "the screen is not recorded"
