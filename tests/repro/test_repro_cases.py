"""How a run is read back from its case file, wherever that lies."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import events
from harness.errors import UsageError, Verdict
from harness.repro import cases
from harness.repro.cases import _Pieces, find_cases, read_case

DIGEST = "ghcr.io/x/macos@sha256:" + "a" * 64


def write_case(folder: Path, name: str = "upgrade", *, verdict: str | None = "product-failure", **header: Any) -> Path:
    """A case file as a run leaves it."""
    case = folder / name
    attributes: dict[str, Any] = {
        "scenario": name, "nodeid": f"scenarios/test_x.py::test_{name}[macos15]", "macos": "15", "attempt": 1,
        "provider": "simulated", "simulated": True, "image": "ghcr.io/x/macos:latest", "release": "2.0",
        "settings": {"provider": "simulated", "simulated": {"faults": ["sysextd-crash:rate=0.5"]}}, **header,
    }  # fmt: skip
    log = events.EventLog(case / "run.jsonl", **attributes)
    with events.use(log):
        with events.step("create machine") as step:
            step.note(machine="sysext-mac-1", run_key="the key|1")
            with events.step("clone") as clone:
                clone.note(image_digest=DIGEST)
        if verdict is not None:
            events.event("result", verdict=verdict, error="it broke\nbadly", cause="a-cause")
    log.close()
    return case


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return write_case(tmp_path / "run")


def test_everything_that_a_replay_needs(case: Path) -> None:
    found = read_case(case)

    assert found.text("nodeid") == "scenarios/test_x.py::test_upgrade[macos15]"
    assert (found.verdict, found.cause, found.error) == (Verdict.PRODUCT_FAILURE, "a-cause", "it broke\nbadly")
    assert (found.machine, found.run_key, found.image_digest) == ("sysext-mac-1", "the key|1", DIGEST)
    assert (found.failed, found.kept, found.used, found.simulated) == (True, False, False, True)
    assert found.settings["simulated"]["faults"] == ["sysextd-crash:rate=0.5"]


@pytest.mark.parametrize("name", ["", "run.jsonl"])
def test_a_folder_or_the_file_in_it(case: Path, name: str) -> None:
    assert read_case(case / name if name else case).folder == case


def test_a_kept_mac_and_one_used_before(tmp_path: Path) -> None:
    log = events.EventLog(tmp_path / "run.jsonl", scenario="x")
    log.event("same-mac", machine="sysext-mac-9")
    log.event("machine-kept", machine="sysext-mac-9")
    log.close()

    found = read_case(tmp_path)

    assert (found.machine, found.kept, found.used, found.verdict, found.failed) == (
        "sysext-mac-9",
        True,
        True,
        None,
        True,
    )


def test_the_failed_one_of_several_is_meant(tmp_path: Path) -> None:
    write_case(tmp_path, "one", verdict="passed")
    write_case(tmp_path, "two")

    assert read_case(tmp_path).text("scenario") == "two"
    assert read_case(tmp_path, "one").text("scenario") == "one"
    assert len(list(find_cases(tmp_path))) == 2


def test_several_failed_ones_are_listed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_case(tmp_path, name)

    with pytest.raises(UsageError, match=r"(?s)2 cases, 2 of them failed.*one.*two.*--case"):
        read_case(tmp_path)
    with pytest.raises(UsageError, match="'three' in its name"):
        read_case(tmp_path, "three")


def test_copies_in_the_evidence_are_no_cases(case: Path) -> None:
    copy = case / "evidence" / "01-broken"
    copy.mkdir(parents=True)
    (copy / "run.jsonl").write_bytes((case / "run.jsonl").read_bytes())

    assert [found.folder for found in find_cases(case.parent)] == [case]


def test_a_zip_is_read_without_being_unpacked(case: Path, tmp_path: Path) -> None:
    archive = tmp_path / "artifact.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(case / "run.jsonl", "2026/upgrade/run.jsonl")
        file.write(case / "run.jsonl", "2026/upgrade/evidence/01-x/run.jsonl")
        file.write(case / "run.jsonl", "../../outside/run.jsonl")
        file.writestr("2026/upgrade/frames/001.png", b"\0" * 1000)
    before = sorted(tmp_path.rglob("*"))

    (found,) = find_cases(archive)

    assert (found.place, found.folder) == ("artifact.zip:2026/upgrade", None)
    assert (found.verdict, found.run_key) == (Verdict.PRODUCT_FAILURE, "the key|1")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_stream_is_believed_where_the_result_is_damaged(case: Path) -> None:
    (case / "result.json").write_text("{")

    assert read_case(case).verdict is Verdict.PRODUCT_FAILURE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ({}, "no run.jsonl"),
        ({"run.jsonl": b""}, "no header"),
        ({"run.jsonl": b'{"type": "event", "name": "result", "attributes": {}}\n'}, "no header"),
    ],
)
def test_what_is_no_case(tmp_path: Path, content: dict[str, bytes] | None, words: str) -> None:
    place = tmp_path / "place"
    if content is not None:
        place.mkdir()
        for name, data in content.items():
            (place / name).write_bytes(data)

    with pytest.raises(UsageError, match=words):
        read_case(place)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "nothing")
    with pytest.raises(UsageError, match=r"no run\.jsonl"):
        read_case(archive)
    archive.write_bytes(archive.read_bytes()[:-10])
    with pytest.raises(UsageError):
        read_case(archive)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
RECORD = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["header", "start", "end", "event"]) | JSON,
        "name": st.sampled_from(["create machine", "clone", "machine-kept", "same-mac", "result"]) | JSON,
        "attributes": st.dictionaries(st.sampled_from(["machine", "run_key", "verdict", "cause", "image_digest"]), JSON)
        | JSON,
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RECORD.map(lambda record: json.dumps(record).encode()) | st.binary(max_size=40), max_size=8))
def test_any_stream_is_a_case_or_an_error_of_ours(tmp_path: Path, lines: list[bytes]) -> None:
    (tmp_path / "run.jsonl").write_bytes(b"\n".join(lines))

    try:
        found = read_case(tmp_path)
    except UsageError:
        return
    assert isinstance(found.machine, str)
    assert isinstance(found.told, str)
    assert isinstance(found.settings, dict)


def test_streams_of_nothing_but_line_ends_are_no_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They pack to next to nothing, and each of a zip's thousands of streams may be as long."""
    monkeypatch.setattr(cases, "_MOST_LINES", 100)
    case = (write_case(tmp_path / "full") / "run.jsonl").read_bytes()
    path = tmp_path / "night.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abc":
            archive.writestr(f"{name}/run.jsonl", case + b"\n" * 50)
    with pytest.raises(UsageError, match="100 lines"):
        read_case(path)


@given(st.lists(st.binary(max_size=9), max_size=9), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_lines_of_pieces_are_those_of_the_whole(pieces: list[bytes], most: int) -> None:
    left = [piece for piece in pieces if piece]
    lines = _Pieces(lambda _: left.pop(0) if left else b"")
    whole = io.BytesIO(b"".join(pieces))
    while line := whole.readline(most):
        assert lines.readline(most) == line
    assert lines.readline(most) == b""
