from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError, Verdict
from harness.events import SECRETS
from harness.reports import CaseResult, final_attempts, read_results
from harness.reports.result import Cause, Sign, Why

Make = Callable[..., CaseResult]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
any_result = st.builds(
    CaseResult,
    scenario=texts,
    nodeid=texts,
    macos=st.sampled_from(["13", "14", "15", "26"]),
    image=texts,
    lane=st.sampled_from(["pristine", "managed"]),
    provider=texts,
    simulated=st.booleans(),
    release=texts,
    verdict=st.sampled_from(Verdict),
    error=texts,
    prompt_appeared=st.none() | st.booleans(),
    approvable=st.none() | st.booleans(),
    seconds=st.floats(0, 1e6),
    started=texts,
    attempt=st.integers(1, 9),
    flaky=st.booleans(),
    faults=st.lists(texts, max_size=3).map(tuple),
    delays=st.dictionaries(texts, st.floats(0, 100), max_size=3),
    case=texts,
    why=st.none()
    | st.builds(
        Why,
        verdict=texts,
        headline=texts,
        causes=st.lists(
            st.builds(Cause, code=texts, signs=st.lists(st.builds(Sign, text=texts), max_size=1).map(tuple)), max_size=2
        ).map(tuple),
    ),
    known_issue=texts,
    notes=st.lists(texts, max_size=2).map(tuple),
)


@given(any_result)
def test_what_is_written_is_read_back(result: CaseResult) -> None:
    assert CaseResult.from_json(result.to_json()) == result


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_else_is_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(UsageError, match="a scenario result in here"):
        CaseResult.from_json(data, origin="here")


def test_a_result_of_a_later_schema_is_refused(case: Make) -> None:
    later = json.loads(case().to_json()) | {"schema": 99}
    with pytest.raises(UsageError, match="schema 99"):
        CaseResult.from_json(json.dumps(later))


def test_an_unknown_verdict_is_refused(case: Make) -> None:
    odd = json.loads(case().to_json()) | {"verdict": "passed with an exception"}
    with pytest.raises(UsageError, match="verdict"):
        CaseResult.from_json(json.dumps(odd))


def test_secrets_do_not_reach_the_file(case: Make, tmp_path: Path) -> None:
    SECRETS.add("hunter2-canary")
    path = case(error="typed hunter2-canary into it").write(tmp_path)
    assert "hunter2-canary" not in path.read_text()
    assert CaseResult.read(tmp_path).error == "typed *** into it"


def test_a_folder_is_read_whole_and_broken_files_are_told(case: Make, tmp_path: Path) -> None:
    case(started="2026-01-02").write(tmp_path / "b")
    case(started="2026-01-01", macos="13").write(tmp_path / "a" / "deep")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "result.json").write_text('{"scenario": "fir')
    results, problems = read_results(tmp_path)
    assert [result.macos for result in results] == ["13", "15"]
    assert len(problems) == 1
    assert str(tmp_path / "killed" / "result.json") in str(problems[0])


def test_writing_leaves_no_partial_file(case: Make, tmp_path: Path) -> None:
    case().write(tmp_path)
    case(attempt=2).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert CaseResult.read(tmp_path).attempt == 2


def test_a_pass_after_a_failure_is_flaky_and_not_passed(case: Make) -> None:
    first = case(verdict=Verdict.ENVIRONMENT_FAILURE, attempt=1)
    second = case(attempt=2)
    ((last, earlier),) = final_attempts([second, first])
    assert (last.label, last.flaky, list(earlier)) == ("flaky", True, [first])


def test_a_failure_after_a_failure_stays_one(case: Make) -> None:
    first = case(verdict=Verdict.ENVIRONMENT_FAILURE, attempt=1)
    second = case(verdict=Verdict.PRODUCT_FAILURE, attempt=2)
    ((last, _),) = final_attempts([first, second])
    assert last.label == "product-failure"


@pytest.mark.parametrize("field", ["macos", "lane", "provider", "image", "release", "nodeid"])
def test_runs_that_differ_are_not_attempts_of_one(case: Make, field: str) -> None:
    one = case(verdict=Verdict.PRODUCT_FAILURE)
    other = dataclasses.replace(one, verdict=Verdict.PASSED, **{field: "other"})
    settled = final_attempts([one, other])
    assert sorted(last.label for last, _ in settled) == ["passed", "product-failure"]
