from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.events import EventLog
from harness.reports import ConsoleReader, Follower, LiveFile


@contextlib.contextmanager
def lines_of(**options: object):
    lines: list[str] = []
    log = EventLog()
    log.subscribe(ConsoleReader(lines.append, **options))  # type: ignore[arg-type]
    yield log, lines
    lines[:] = [re.sub(r"\d+\.\d s", "N s", line) for line in lines]


def test_one_line_per_step_with_indentation_and_duration() -> None:
    with lines_of(prefix="[15]") as (log, lines), log.step("boot the Mac", image="vanilla"):
        with log.step("wait for SSH"):
            pass
        log.event("fell back", reason="no prompt")
    assert lines == [
        "[15] ▶ boot the Mac  (image=vanilla)",
        "[15]   ▶ wait for SSH",
        "[15]   ✓ wait for SSH  N s",
        "[15]   · fell back  (reason=no prompt)",
        "[15] ✓ boot the Mac  N s",
    ]


def test_a_failure_is_shown_however_deep() -> None:
    with lines_of(depth=1) as (log, lines), pytest.raises(ValueError, match="first"), log.step("outer"):  # noqa: SIM117
        with log.step("inner"):
            raise ValueError("first line\nsecond line")
    assert lines == [
        "▶ outer",
        "  ✗ inner  N s  ValueError: first line",
        "✗ outer  N s  ValueError: first line",
    ]


def test_a_deep_failure_stands_no_deeper_than_what_is_shown() -> None:
    with lines_of(depth=1) as (log, lines), pytest.raises(ValueError, match="x"):  # noqa: SIM117
        with log.step("a"), log.step("b"), log.step("c"):
            raise ValueError("x")
    assert lines[1:3] == ["  ✗ c  N s  ValueError: x", "  ✗ b  N s  ValueError: x"]


def test_steps_below_the_depth_are_left_out() -> None:
    with lines_of(depth=1) as (log, lines), log.step("outer"), log.step("inner"):
        log.event("instant")
    assert lines == ["▶ outer", "✓ outer  N s"]


def test_control_characters_of_a_guest_do_not_reach_the_terminal() -> None:
    with lines_of() as (log, lines):
        log.event("\x1b[2Jgone\r\nforged ✓ line", text="a\x07b" * 500)
    (line,) = lines
    assert line.isprintable()
    assert len(line) < 300


def test_a_reader_that_breaks_is_not_ours() -> None:
    with lines_of() as (log, _), log.step("a"), log.step("b"):
        pass
    seen: list[str] = []
    log.subscribe(lambda record: seen.append(str(record["name"])))
    log.event("still there")
    assert seen == ["still there"]


def _write_many(arguments: tuple[Path, int]) -> None:
    path, worker = arguments
    live = LiveFile(path)
    for number in range(200):
        live(f"{worker} {number} " + "x" * 200)
    live.close()
    live.close()


def test_lines_of_many_writers_arrive_whole_and_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "live" / "live.log"
    seen: list[str] = []
    with Follower(path, seen.append, interval=0.01), ThreadPoolExecutor(4) as pool:
        list(pool.map(_write_many, [(path, worker) for worker in range(4)]))
    assert len(seen) == 800
    for worker in range(4):
        numbers = [int(line.split()[1]) for line in seen if line.startswith(f"{worker} ")]
        assert numbers == list(range(200))
        assert all(line.endswith("x" * 200) for line in seen)


def test_a_torn_last_line_is_still_shown(tmp_path: Path) -> None:
    path = tmp_path / "live.log"
    seen: list[str] = []
    follower = Follower(path, seen.append)
    follower.start()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"whole\nkilled in the mid")
    os.close(descriptor)
    follower.stop()
    follower.stop()
    assert seen == ["whole", "killed in the mid"]


def test_write_is_called_with_lines_only() -> None:
    write: Callable[[str], None]
    lines: list[str] = []
    write = lines.append
    reader = ConsoleReader(write)
    reader({"type": "header", "schema": 1})
    reader({"type": "end", "id": "77", "name": "never started", "duration": 1.0, "outcome": "ok"})
    assert lines == ["✓ never started  1.0 s"]
