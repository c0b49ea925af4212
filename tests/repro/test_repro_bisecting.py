"""Which release is run next, when it ends, what is said; and the releases between two."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import AppFile, Release, load_app
from harness.errors import SysextError, UsageError, Verdict
from harness.repro.bisecting import BROKEN_IN_A_ROW, Hunt, Prior
from harness.repro.chains import make_chain
from harness.repro.hunting import bar, plan_lines, run_line, table, verdict_lines
from harness.repro.outcomes import Outcome

NAMES = ["1.0", "1.1", "1.2", "1.3", "1.4"]


def came(verdict: Verdict = Verdict.PASSED, cause: str = "", error: str = "") -> Outcome:
    return Outcome(cycle=1, attempt=1, item=0, nodeid="x", verdict=verdict, cause=cause, error=error)


FAILED = came(Verdict.PRODUCT_FAILURE, "a-cause")


def hunted(hunt: Hunt, first_bad: str, *, rate: float = 1.0, seed: int = 1) -> list[str]:
    """Run it to its end; the releases run, in order."""
    dice = random.Random(seed)
    order = []
    while (release := hunt.next()) is not None:
        bad = hunt.releases.index(release) >= hunt.releases.index(first_bad)
        hunt.take(release, FAILED if bad and dice.random() < rate else came())
        order.append(release)
    return order


@pytest.mark.parametrize("first_bad", NAMES[1:])
def test_a_certain_fault_is_found(first_bad: str) -> None:
    hunt = Hunt(NAMES)
    order = hunted(hunt, first_bad)

    assert hunt.answer == first_bad
    assert order[:3] == ["1.4", "1.0", "1.0"]  # the ends first
    assert hunt.stopped == ""
    assert hunt.causes[0][0] == "a-cause"


def test_a_rare_fault_is_found_too() -> None:
    found = []
    for seed in range(12):
        hunt = Hunt(NAMES, prior=Prior(6, 30, counted=True))
        hunted(hunt, "1.2", rate=0.2, seed=seed)
        found.append(hunt.answer)

    assert found.count("1.2") >= 10


def test_a_bad_end_that_never_fails_is_told() -> None:
    hunt = Hunt(NAMES)
    order = hunted(hunt, "1.4", rate=0.0)

    assert order == ["1.4"] * hunt.bad_runs
    assert hunt.answer is None
    assert hunt.moot
    assert "1.4 (the bad end) was never seen to fail in 14 runs" in hunt.stopped
    assert "4.4 % of all cases" in hunt.stopped
    assert "--prior-rate 0.05" in hunt.stopped


def test_a_bad_end_that_was_counted_is_believed() -> None:
    hunt = Hunt(NAMES, prior=Prior.parse("7/35"))

    assert hunt.next() == "1.0"


def test_a_good_end_that_fails_by_the_same_is_told() -> None:
    hunt = Hunt(NAMES)
    hunted(hunt, "1.0")

    assert (hunt.answer, hunt.next()) == (None, None)
    assert "take an older --good" in hunt.stopped


def test_a_good_end_that_fails_by_another_cause_is_doubt_only() -> None:
    hunt = Hunt(NAMES)
    hunt.take("1.4", FAILED)
    hunt.take("1.0", came(Verdict.PRODUCT_FAILURE, "another"))

    assert hunt.stopped == ""
    assert "--cause" in hunt.warnings[0]
    hunt.take("1.0", came(Verdict.PRODUCT_FAILURE))
    assert hunt.next() is None, "it always fails: no good end"
    assert "1.0 (the good end) failed in 2 of 2 runs, too" in hunt.stopped
    assert "(no cause named, not a-cause)" in hunt.stopped
    assert (hunt.answer, hunt.moot) == (None, True)


def test_only_one_cause_counts_if_asked() -> None:
    hunt = Hunt(NAMES, cause="a-cause", ends=False)

    assert not hunt.take("1.2", came(Verdict.PRODUCT_FAILURE, "another"))
    assert hunt.take("1.2", FAILED)
    assert hunt.bisection.counts("1.2") == (1, 1)


@pytest.mark.parametrize("verdict", [Verdict.ENVIRONMENT_FAILURE, Verdict.HARNESS_ERROR])
def test_what_says_nothing_about_the_app_does_not_count(verdict: Verdict) -> None:
    hunt = Hunt(NAMES)
    for number in range(BROKEN_IN_A_ROW):
        assert hunt.next() == "1.4", number
        assert not hunt.take("1.4", came(verdict, error="no room\nmore"))

    assert hunt.next() is None
    assert hunt.stopped == "5 runs in a row said nothing about the app: no room"
    assert hunt.bisection.runs == 0


def test_a_known_issue_is_a_failure() -> None:
    hunt = Hunt(NAMES)

    assert hunt.take("1.4", came(Verdict.KNOWN_ISSUE))
    assert hunt.bisection.counts("1.4") == (1, 1)


def test_a_release_that_is_skipped_is_left_out() -> None:
    hunt = Hunt(NAMES)
    hunt.take("1.4", FAILED)
    hunt.take("1.0", came(Verdict.SKIPPED, error="nothing to upgrade from"))
    order = hunted(hunt, "1.3")

    assert "1.0" not in order
    assert hunt.answer == "1.3"
    assert hunt.warnings == ["1.0 cannot be run: nothing to upgrade from"]


def test_it_ends_at_its_limit() -> None:
    hunt = Hunt(NAMES, most=6, prior=Prior(1, 10, counted=True))
    order = hunted(hunt, "1.2", rate=0.0)

    assert len(order) == 6
    assert "6 runs (--most)" in hunt.stopped


@pytest.mark.parametrize(
    ("text", "rate", "runs"),
    [("0.2", 0.2, 10), ("20%", 0.2, 10), (".05", 0.05, 10), ("7/35", 0.2, 35), ("0/9", 0.2, 9)],
)
def test_prior_rates(text: str, rate: float, runs: float) -> None:
    prior = Prior.parse(text)

    assert (pytest.approx(prior.rate), prior.runs) == (rate, runs)
    assert prior.beta[0] == pytest.approx(1 + prior.failures)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789./% -", max_size=10))
def test_any_prior_is_read_or_refused(text: str) -> None:
    try:
        prior = Prior.parse(text)
    except UsageError as error:
        assert "7/35" in str(error)
        return
    assert 0 < prior.rate < 1
    assert Hunt(NAMES, prior=prior).bad_runs >= 1
    assert min(prior.beta) > 0


def test_what_is_told(tmp_path: Path) -> None:
    hunt = Hunt(NAMES)
    lines = plan_lines(hunt, "an.toml", "0.9")
    assert lines[0] == "5 releases from 1.0 (good) to 1.4 (bad), by an.toml: 1.0, 1.1, 1.2, 1.3, 1.4"
    assert "comes from 0.9" in lines[1]

    hunt.take("1.4", FAILED)
    assert run_line(hunt, "1.4", FAILED, counts=True).startswith("run   1  1.4  FAILED: a-cause")
    hunted(hunt, "1.2")
    told = verdict_lines(hunt, folder=tmp_path, seconds=10, simulated=True)
    assert told[0].startswith("first bad release: 1.2 (9")
    assert "causes: a-cause" in "\n".join(told)
    assert told[-1].startswith("SIMULATED")
    rows = table(hunt, now=["1.3"])
    assert len(rows) == 6
    assert rows[3].count("█") > 20
    assert rows[4].startswith("> 1.3")
    data = hunt.as_dict()
    assert (data["first_bad"], data["runs"]) == ("1.2", hunt.bisection.runs)
    assert sum(row["probability"] for row in data["releases"]) == pytest.approx(1, abs=1e-4)


def told(hunt: Hunt) -> str:
    return "\n".join([*table(hunt), *verdict_lines(hunt, folder=Path("runs"), seconds=10, simulated=False)])


def test_neighbours_are_only_looked_at() -> None:
    hunt = Hunt(NAMES[:2])
    plan = "\n".join(plan_lines(hunt, "an.toml", ""))
    assert "there is none between them" in plan
    assert "likely" not in plan
    order = hunted(hunt, "1.1")

    assert (order, hunt.answer) == (["1.1", "1.0", "1.0"], "1.1")
    assert "first bad release: 1.1 (there is none before it but the good one, after 3 runs)" in told(hunt)
    assert "that 1.0 is good is your word, and 2 clean runs of it, which show no more than a rate below 78 %" in told(
        hunt
    )
    assert "1.1: 1 of 1 run failed, 100 %" in told(hunt)
    assert "%  ▏" not in told(hunt)
    assert "likel" not in told(hunt)
    assert (hunt.as_dict()["best"], hunt.as_dict()["probability"]) == ("1.1", None)


def test_neighbours_of_which_none_fails_have_no_likeliest() -> None:
    hunt = Hunt(NAMES[:2])
    hunted(hunt, "1.1", rate=0.0)

    assert told(hunt).startswith(
        "  release  failed\n  1.0      -\n  1.1      0/14\nno first bad release can be named: 1.1 (the bad end)"
    )
    assert "likel" not in told(hunt)
    assert "100" not in told(hunt)
    assert (hunt.as_dict()["best"], hunt.as_dict()["first_bad"], hunt.as_dict()["moot"]) == (None, None, True)


def test_neighbours_without_a_look_at_them_are_refused() -> None:
    with pytest.raises(UsageError, match="--no-ends"):
        Hunt(NAMES[:2], ends=False)


def test_nothing_is_likely_while_the_bad_end_has_not_failed() -> None:
    hunt = Hunt(NAMES)
    hunt.take("1.4", came())

    assert run_line(hunt, "1.4", came(), counts=True) == "run   1  1.4  passed"
    hunt.stop("interrupted")
    assert "undecided after 1 run: interrupted\n" in told(hunt)
    assert all(row["probability"] is None for row in hunt.as_dict()["releases"])
    hunt = Hunt(NAMES)
    hunt.take("1.4", FAILED)
    assert "-> 1." in run_line(hunt, "1.4", FAILED, counts=True)


def test_a_good_end_that_fails_as_well_is_no_likelihood() -> None:
    hunt = Hunt(NAMES)
    hunted(hunt, "1.0")

    assert "no first bad release can be named: 1.0 (the good end) fails as well (a-cause): the fault is older" in told(
        hunt
    )
    assert "the likeliest" not in told(hunt)


def test_a_bad_end_that_cannot_be_run_ends_it() -> None:
    hunt = Hunt(NAMES)
    hunt.take("1.4", came(Verdict.SKIPPED, error="not on this macOS"))

    assert hunt.next() is None
    assert "no first bad release can be named: 1.4 (the bad end) cannot be run: not on this macOS" in told(hunt)


@pytest.mark.parametrize(
    ("most", "fails", "names", "words"),
    [
        (1, False, NAMES, "undecided after 1 run: 1.4 (the bad end) was not seen to fail within 1 run (--most); that may take 14 runs"),
        (1, True, NAMES[:2], "undecided after 1 run: 1.0 (the good end) could not be looked at within 1 run (--most)"),
        (3, True, NAMES, "undecided after 3 runs: 3 runs (--most) did not make it 95 % sure; the likeliest is 1.1 ("),
    ],
)  # fmt: skip
def test_a_budget_that_is_spent(most: int, fails: bool, names: list[str], words: str) -> None:
    hunt = Hunt(["1.0", "1.4"] if len(names) == 2 else names, most=most)
    hunted(hunt, hunt.bad, rate=float(fails))

    assert words.replace("1.1 (", "") in told(hunt)
    assert hunt.answer is None
    assert not hunt.moot


def test_a_budget_without_a_failure_says_so() -> None:
    hunt = Hunt(NAMES, most=9, ends=False)
    hunted(hunt, "1.4", rate=0.0)

    assert "9 runs (--most) saw no failure at all: is 1.4 bad" in told(hunt)


def test_a_budget_that_cannot_do_is_told_beforehand() -> None:
    assert "3 runs (--most) may be too few" in "\n".join(plan_lines(Hunt(NAMES, most=3), "x", ""))
    counted = "\n".join(plan_lines(Hunt(NAMES, most=1, prior=Prior(7, 35, counted=True)), "x", "", jobs=2))
    assert "at most 1 run, 2 at a time" in counted
    assert "the ends first" not in counted


def test_an_answer_that_is_there_is_not_interrupted() -> None:
    hunt = Hunt(NAMES)
    hunted(hunt, "1.2")
    hunt.stop("interrupted")

    assert (hunt.answer, hunt.stopped) == ("1.2", "")


def test_an_answer_without_a_failure_says_whose_word_it_rests_on() -> None:
    hunt = Hunt(NAMES, ends=False, prior=Prior(20, 35, counted=True))
    hunted(hunt, "1.4", rate=0.0)

    assert hunt.answer == "1.4"
    assert "no run failed: that 1.4 is bad is your word" in told(hunt)


@pytest.mark.parametrize("jobs", [2, 3, 7])
def test_several_at_once_are_what_one_after_the_other_would_ask(jobs: int) -> None:
    found, rounds = [], []
    for seed in range(10):
        dice = random.Random(seed)
        hunt, number = Hunt(NAMES, prior=Prior(6, 30)), 0
        while batch := hunt.batch(jobs):
            number += 1
            assert len(batch) <= jobs
            for release in batch:
                hunt.take(release, FAILED if release >= "1.2" and dice.random() < 0.3 else came())
        found.append(hunt.answer)
        rounds.append((number, hunt.bisection.runs))
    assert found.count("1.2") >= 9
    assert sum(runs for _, runs in rounds) >= 0.7 * jobs * sum(number for number, _ in rounds), "few places stay empty"


def test_a_batch_knows_its_limits() -> None:
    assert Hunt(NAMES).batch(3) == ["1.4"] * 3
    assert len(Hunt(NAMES).batch(50)) == 14
    assert Hunt(NAMES, most=2).batch(5) == ["1.4"] * 2
    hunt = Hunt(NAMES[:2])
    hunt.take("1.1", FAILED)
    assert hunt.batch(9) == ["1.0", "1.0"], "then it is answered"
    hunt = Hunt(NAMES)
    hunt.take("1.4", FAILED)
    batch = hunt.batch(6)
    assert batch[:2] == ["1.0", "1.0"]
    assert len(set(batch[2:])) > 1, "not all where one alone would tell most"
    hunt.take("1.0", FAILED)
    assert hunt.batch(3) == []


@given(st.floats(0, 1))
def test_bars_fit(probability: float) -> None:
    assert len(bar(probability)) <= 30
    assert (bar(probability) != "") or probability < 0.01


@pytest.fixture
def app(tmp_path: Path) -> AppFile:
    path = tmp_path / "an.toml"
    path.write_text(
        'name = "A"\nbundle_id = "b"\nextension = {id = "c", kind = "driver"}\n'
        'releases = [{version = "1.0", source = "pypi:a==1.0"}, {version = "1.4", source = "pypi:a==1.4"}]\n'
    )
    return load_app(path)


def registry(_name: str) -> list[str]:
    return ["0.9", *NAMES, "2.0"]


def test_the_registry_knows_what_is_between(app: AppFile) -> None:
    chain = make_chain(app, "1.0", "1.4", registry=registry)

    assert chain.names == NAMES
    assert chain.before is not None
    assert chain.before.version == "0.9"
    assert [release.source for release in chain.releases][1] == "pypi:a==1.1"
    again = load_app(chain.write(app, app.path.with_name("chain.toml")))
    assert [release.version for release in again.releases] == ["0.9", *NAMES]


def test_an_end_that_only_the_registry_knows(app: AppFile) -> None:
    assert make_chain(app, "1.2", "2.0", registry=registry).names == ["1.2", "1.3", "1.4", "2.0"]


def test_releases_of_the_app_file_come_first(app: AppFile) -> None:
    def never(_name: str) -> list[str]:
        raise AssertionError("asked")

    more = app.model_copy(
        update={"releases": [app.releases[0], Release(version="x", source="pypi:a==1.2"), app.releases[1]]}
    )
    chain = make_chain(more, "1.0", "1.4", registry=never)

    assert (chain.names, chain.listed, chain.before) == (["1.0", "x", "1.4"], True, None)


def test_releases_that_are_named(app: AppFile) -> None:
    chain = make_chain(app, "1.0", "1.4", named=["1.3", "1.35"])

    assert chain.names == ["1.0", "1.3", "1.35", "1.4"]
    assert chain.releases[2].source == "pypi:a==1.35"
    assert make_chain(app, "1.0", "1.4", named=["1.0", "1.4"], registry=registry).names == ["1.0", "1.4"]


def test_files_have_no_registry(app: AppFile) -> None:
    files = app.model_copy(update={"releases": [app.releases[0], Release(version="1.4", source="a.zip")]})

    assert make_chain(files, "1.0", "1.4", registry=registry).names == ["1.0", "1.4"]
    with pytest.raises(UsageError, match=r"release 1\.2"):
        make_chain(files, "1.0", "1.4", named=["1.2"])
    with pytest.raises(UsageError, match=r"release 1\.3 in"):
        make_chain(files, "1.0", "1.3", registry=registry)


@pytest.mark.parametrize(
    ("good", "bad", "named", "words"),
    [
        ("1.0", "1.0", [], "two different releases"),
        ("1.4", "1.0", [], "--good older"),
        ("1.4", "1.2", [], "--good older"),
        ("1.0", "9.9", [], r"release 9\.9"),
        ("1.0", "1.4", ["1.1", "1.1"], "once"),
        ("1.0", "1.4", ["1.4", "1.0"], "--good older"),
    ],
)
def test_ends_that_make_no_sense(app: AppFile, good: str, bad: str, named: list[str], words: str) -> None:
    with pytest.raises(SysextError, match=words):
        make_chain(app, good, bad, named=named, registry=registry)
