from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.screen import remembered
from harness.screen.frames import Box, Frame
from harness.screen.ocr import RapidReader, TextLine
from harness.screen.remembered import Remembered

LINES = [("Allow", (1, 2, 3, 4), 0.9), ("Don’t Allow", (5, 6, 7, 8), 0.5)]


def test_what_was_kept_is_given_back_by_another_process_too(tmp_path: Path) -> None:
    Remembered(tmp_path, "reader 1/2").put(b"key", LINES)
    again = Remembered(tmp_path, "reader 1/2").get(b"key")
    assert again is not None
    assert [(line.text, line.box, line.score) for line in again] == LINES
    assert Remembered(tmp_path, "reader 1/2").get(b"other") is None
    assert Remembered(tmp_path, "reader 2").get(b"key") is None
    assert [path.parent.parent for path in tmp_path.rglob("*.json")] == [tmp_path]


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b"[]" + b" " * 300_000])
def test_a_damaged_file_is_as_none(tmp_path: Path, damage: bytes) -> None:
    store = Remembered(tmp_path, "r")
    store.put(b"key", LINES)
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(damage)
    assert store.get(b"key") is None


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_MOST_FILES", 8)
    monkeypatch.setattr(remembered, "_PRUNE_EVERY", 1)
    store = Remembered(tmp_path, "r")
    for number in range(20):
        store.put(bytes([number]), LINES)
    assert len(list(tmp_path.rglob("*.json"))) <= 9
    assert store.get(bytes([19])) is not None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Remembered(tmp_path / "file", "r")
    store.put(b"key", LINES)
    assert store.get(b"key") is None


def test_a_reader_reads_the_same_pixels_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((40, 60, 3), 255, np.uint8)
    frame = Frame(pixels, serial=1, time=0.0)
    runs: list[int] = []

    def run(_self: RapidReader, _pixels: object) -> list[TextLine]:
        runs.append(1)
        return [TextLine("Allow", Box(1, 2, 30, 20), 0.75)]

    monkeypatch.setattr(RapidReader, "_run", run)
    monkeypatch.setattr(RapidReader, "warm_up", lambda _self: None)
    first = RapidReader(tmp_path).read(frame, Box(10, 10, 50, 40))
    second = RapidReader(tmp_path).read(frame, Box(10, 10, 50, 40))
    assert first == second == [TextLine("Allow", Box(11, 12, 40, 30), 0.75)]
    assert len(runs) == 1
    pixels = pixels.copy()
    pixels[20, 20] = 0
    RapidReader(tmp_path).read(Frame(pixels, serial=2, time=0.0), Box(10, 10, 50, 40))
    assert len(runs) == 2
