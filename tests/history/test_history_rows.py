"""From files to rows: the same run is the same row; what is damaged is named; nothing else gets in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError, Verdict
from harness.history.rows import Row, read_paths, row_of
from harness.reports.result import CaseResult
from tests.history.conftest import STARTED, case_file


def test_a_case_file(tmp_path: Path) -> None:
    (row,) = read_paths([case_file(tmp_path / "run-1" / "upgrade-macos15")]).rows
    assert row == Row(
        scenario="upgrade", nodeid="t.py::test_upgrade[macos15]", macos="15", release="1.2", image="img", lane="pristine",
        provider="simulated", simulated=True, faults="a,b", verdict=Verdict.PRODUCT_FAILURE, cause="xpc-x", seconds=12.345,
        started=datetime(2026, 11, 1, 10, 0, 0, 123000, UTC), attempt=1, flaky=False, host="mini-7", run="run-1",
        case="upgrade-macos15", cdhash="ab" * 20, uuid="6f9619ff-8b86-d011-b42d-00cf4fc964ff", known_issue="",
        error="no\nprompt",
    )  # fmt: skip


def test_the_same_run_however_it_comes(tmp_path: Path) -> None:
    case = case_file(tmp_path / "run-1" / "upgrade-macos15")
    whole = read_paths([tmp_path]).rows[0]
    stream, result = tmp_path / "night.jsonl", tmp_path / "night.json"
    (case / "run.jsonl").rename(stream)
    from_result = read_paths([case / "result.json"]).rows[0]
    (case / "result.json").rename(result)
    from_stream = read_paths([stream]).rows[0]
    assert from_stream == whole
    assert from_result.id == read_paths([result]).rows[0].id == whole.id
    assert from_result.content == whole.content
    assert len(read_paths([stream, result, stream]).rows) == 1


@pytest.mark.parametrize(
    "more",
    [{"macos": "26"}, {"release": "1.3"}, {"lane": "managed"}, {"attempt": 2}, {"simulated": False}, {"image": "x"}],
)
def test_different_runs_are_different_rows(tmp_path: Path, more: dict[str, object]) -> None:
    case_file(tmp_path / "a" / "run" / "case")
    case_file(tmp_path / "b" / "run" / "case", **more)
    assert len(read_paths([tmp_path]).rows) == 2


def test_all_runs_below_a_folder_and_no_copies(tmp_path: Path) -> None:
    for number in range(3):
        case = case_file(tmp_path / f"run-{number}" / "case")
        case_file(case / "evidence" / "01-failure", release="of a copy")
    assert len(read_paths([tmp_path, tmp_path / "run-1"]).rows) == 3


def test_a_killed_run_is_no_run(tmp_path: Path) -> None:
    case = case_file(tmp_path / "run" / "case")
    (case / "result.json").unlink()
    stream = case / "run.jsonl"
    stream.write_bytes(stream.read_bytes().splitlines(keepends=True)[0] + b'{"type": "sta')
    found = read_paths([tmp_path])
    assert found.rows == []
    assert found.unfinished == [stream]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    case = case_file(tmp_path / "run" / "case")
    with (case / "run.jsonl").open("a") as stream:
        stream.write('{"type": "event", "id": "9", "name": "seen", "time": "", "attributes": {"name": "a\\udcffb"}}\n')
    assert len(read_paths([case]).rows) == 1
    text = (case / "result.json").read_text().replace('"no\\nprompt"', '"a\\u0000b\\udcffc"')
    (case / "result.json").write_text(text)
    assert read_paths([case]).rows[0].error == "ab?c"


BAD_STREAMS = {
    "a bad line": (lambda lines: [lines[0], b"{nonsense\n", *lines[1:]], ":2"),
    "no header": (lambda lines: lines[1:], ":1"),
    "no stream": (lambda lines: [b"[1]\n"], ":1"),
    "empty": (lambda lines: [], "no header"),
    "a number for a name": (lambda lines: [lines[0].replace(b'"macos": "15"', b'"macos": 15'), *lines[1:]], "'macos'"),
    "no such verdict": (lambda lines: [*lines[:-1], lines[-1].replace(b"product-failure", b"fine")], "verdict"),
    "no time": (lambda lines: [lines[0].replace(b"2026-11-01T10", b"yesterday"), *lines[1:]], "time"),
    "endless seconds": (lambda lines: [*lines[:-1], lines[-1].replace(b"12.345", b"1e99")], "seconds"),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_a_damaged_stream_is_named(tmp_path: Path, name: str) -> None:
    case = case_file(tmp_path / "run" / "case")
    (case / "result.json").unlink()
    change, said = BAD_STREAMS[name]
    stream = case / "run.jsonl"
    stream.write_bytes(b"".join(change(stream.read_bytes().splitlines(keepends=True))))
    with pytest.raises(UsageError) as caught:
        read_paths([tmp_path])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "{\n nonsense", '{"schema": 9}', "\x00", '{"scenario": 1}', "[" * 50_000, "x" * 5_000_000]
)
def test_a_damaged_result_is_named(tmp_path: Path, text: str) -> None:
    case = case_file(tmp_path / "run" / "case")
    if text == '{"schema": 9}':
        text = (case / "result.json").read_text().replace('"schema": 1', '"schema": 9')
    (case / "result.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_paths([tmp_path])
    assert "result.json" in str(caught.value)


def test_nothing_to_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "run.jsonl"):
        with pytest.raises(UsageError):
            read_paths([path])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(["header", "result", "start"])), max_size=6))
def test_whatever_a_file_holds(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes | str]) -> None:
    known = {
        "header": {"type": "header", "attributes": {"scenario": "s", "simulated": True}, "time": STARTED},
        "result": {"type": "event", "name": "result", "attributes": {"verdict": "passed", "seconds": 1}},
        "start": {"type": "start", "name": "x", "attributes": {}},
    }
    lines = [part if isinstance(part, bytes) else json.dumps(known[part]).encode() + b"\n" for part in parts]
    path = tmp_path_factory.mktemp("fuzz") / "file.jsonl"
    path.write_bytes(b"".join(lines))
    try:
        assert read_paths([path]).rows == []  # the header above is not whole
    except UsageError as error:
        assert str(path) in str(error)


def test_results_of_the_harness_give_rows(tmp_path: Path) -> None:
    result = CaseResult.read(case_file(tmp_path / "run" / "case"))
    assert row_of(result).id == read_paths([tmp_path]).rows[0].id


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"attempt": 1', '"attempt": true'),
        ('"attempt": 1', f'"attempt": {10**30}'),
        ('"seconds": 12.345', f'"seconds": {10**400}'),
        ('"seconds": 12.345', '"seconds": false'),
        ('"seconds": 12.345', '"seconds": NaN'),
        ('"seconds": 12.345', '"seconds": 1e999'),
    ],
)
def test_numbers_that_no_run_has(tmp_path: Path, old: str, new: str) -> None:
    case = case_file(tmp_path / "run" / "case")
    for name in ("result.json", "run.jsonl"):
        text = (case / name).read_text()
        assert old in text
        damaged = tmp_path / name
        damaged.write_text(text.replace(old, new))
        with pytest.raises(UsageError):
            read_paths([damaged])
        damaged.unlink()


@pytest.mark.parametrize("settings", ['{"simulated": []}', '{"simulated": {"faults": 3}}', "[]", "null"])
def test_a_header_of_another_form(tmp_path: Path, settings: str) -> None:
    case = case_file(tmp_path / "run" / "case")
    text = (case / "run.jsonl").read_text()
    stream = tmp_path / "other.jsonl"
    stream.write_text(text.replace('{"simulated": {"faults": ["b", "a"]}}', settings))
    assert stream.read_text() != text
    assert read_paths([stream]).rows[0].faults == ""
