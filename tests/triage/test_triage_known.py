"""Known issues: which failures they are, until when, and files that are refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import SysextError, UsageError
from harness.triage.known_issues import Failure, Issue, KnownIssues, load_known_issues, read_issue

DAY = date(2026, 6, 1)
GOOD = """
scenario = "first activation*"
macos = "26"
cause = "approval-*"
reason = "told to the vendor"
link = "https://example.com/1"
expires = 2026-12-31
"""
FAILURE = Failure(
    scenario="first activation through the prompt",
    macos="26",
    release="1.2",
    cause="approval-prompt-missing",
    texts=["prompt missing on vm-1: not within 30 s"],
)


def written(folder: Path, text: str = GOOD, name: str = "one.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def matched(path: Path, failure: Failure = FAILURE, day: date = DAY) -> tuple[Issue | None, Issue | None]:
    return load_known_issues([path]).match(failure, day)


def test_it_matches_by_scenario_macos_and_cause(tmp_path: Path) -> None:
    current, late = matched(written(tmp_path))
    assert current is not None
    assert late is None
    assert "told to the vendor" in current.said()
    assert "https://example.com/1" in current.said()


@pytest.mark.parametrize(
    "changed",
    [
        {"scenario": "upgrade"},
        {"macos": "15"},
        {"cause": "extension-crash"},
        {"cause": ""},
    ],
)
def test_another_failure_is_not_it(tmp_path: Path, changed: dict[str, str]) -> None:
    failure = Failure(**{"scenario": FAILURE.scenario, "macos": "26", "cause": FAILURE.cause, **changed})
    assert matched(written(tmp_path), failure) == (None, None)


def test_text_is_looked_for_in_the_failure_and_its_signs(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.replace('cause = "approval-*"', 'text = "*NOT within ?? s*"'))
    assert matched(path)[0] is not None
    assert matched(path, Failure(scenario=FAILURE.scenario, macos="26", texts=["no", "x not within 12 s y"]))[0]
    assert matched(path, Failure(scenario=FAILURE.scenario, macos="26", texts=["not within 123 s"])) == (None, None)


def test_it_counts_through_its_last_day_and_not_after(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert matched(path, day=date(2026, 12, 31))[0] is not None
    current, late = matched(path, day=date(2027, 1, 1))
    assert current is None
    assert late is not None
    assert load_known_issues([path]).expired(date(2027, 1, 1)) == [late]


def test_one_that_still_counts_wins_over_an_expired_one(tmp_path: Path) -> None:
    written(tmp_path, GOOD.replace("2026-12-31", "2026-01-01"), "a.toml")
    written(tmp_path, GOOD, "b.toml")
    current, late = load_known_issues([tmp_path]).match(FAILURE, DAY)
    assert current is not None
    assert current.id == "b"
    assert late is None


def test_a_pass_of_one_that_always_fails_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + 'expects = "always"\n')
    known = load_known_issues([path])
    passed = Failure(scenario=FAILURE.scenario, macos="26")
    assert [issue.id for issue in known.missed(passed, DAY)] == ["one"]
    assert known.missed(Failure(scenario=FAILURE.scenario, macos="13"), DAY) == []
    assert known.missed(passed, date(2027, 1, 1)) == []
    assert load_known_issues([written(tmp_path, GOOD)]).missed(passed, DAY) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("cause", "caus"), "did you mean 'cause'"),
        (GOOD.replace('reason = "told to the vendor"\n', ""), "'reason'"),
        (GOOD.replace("expires = 2026-12-31\n", ""), "'expires'"),
        (GOOD.replace("2026-12-31", '"some day"'), "'expires'"),
        (GOOD.replace("https://example.com/1", "issue 1"), "'link'"),
        (GOOD.replace('cause = "approval-*"\n', ""), "'cause'"),
        (GOOD.replace('"approval-*"', '"*"'), "'cause'"),
        (GOOD.replace('macos = "26"', "macos = 26"), "'macos'"),
        (GOOD + 'expects = "never"\n', "'expects'"),
        ("scenario = ", "known issue in"),
        ("x" * 70_000, "64 KiB"),
    ],
)
def test_a_bad_file_is_refused_and_names_the_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_issue(written(tmp_path, text))
    assert says in str(refused.value)
    assert "one.toml" in str(refused.value)


def test_places_that_must_be_there_and_those_that_may(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_known_issues([tmp_path / "nowhere"])
    assert len(load_known_issues([], optional=[tmp_path / "nowhere"])) == 0
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    written(tmp_path / "a")
    written(tmp_path / "b")
    with pytest.raises(UsageError, match="different file names"):
        load_known_issues([tmp_path / "a", tmp_path / "b"])


@given(st.text(max_size=300))
@settings(max_examples=60)
def test_any_text_is_an_issue_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("known") / "x.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(read_issue(path), Issue)
    except SysextError as error:
        assert isinstance(error, UsageError)


@given(st.text(max_size=30).filter(lambda text: text.strip("*? ")), st.text(max_size=30))
@settings(max_examples=60)
def test_a_text_matches_itself_between_stars(text: str, around: str) -> None:
    plain = " ".join("".join(char for char in text if char not in "*?[]").split()) or "x"  # white space is folded
    issue = Issue(id="i", reason="r", link="l", expires=DAY, patterns={"text": f"*{plain}*"})
    failure = Failure(scenario="", macos="", texts=[around + " " + plain + " " + around])
    assert KnownIssues([issue]).match(failure, DAY)[0] is issue
