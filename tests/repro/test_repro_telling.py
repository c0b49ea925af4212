"""What is said: the live line, the report, the options and what pytest is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError, Verdict
from harness.events import SECRETS
from harness.repro.deciding import Decider
from harness.repro.outcomes import Outcome
from harness.repro.questions import Fixed, Sequential, UntilFail
from harness.repro.selecting import chosen, parse_options, pytest_arguments, settings_overrides
from harness.repro.telling import Live, as_dict, duration, report, status

FOLDER = Path("/artifacts/run")


def decided(verdicts: str, *, cycles: int | None = None, kept: int = 0) -> Decider:
    """p passed, f failed, e environment."""
    decider = Decider(Fixed(cycles or verdicts.count("p") + verdicts.count("f")))
    kinds = {"p": Verdict.PASSED, "f": Verdict.PRODUCT_FAILURE, "e": Verdict.ENVIRONMENT_FAILURE}
    for letter in verdicts:
        draw = decider.draw()
        assert draw is not None
        failed = letter == "f"
        decider.add(
            Outcome(
                *(draw.cycle, draw.attempt, 0, "t.py::test_a", kinds[letter]),
                cause="xpc-broken" if failed else "",
                error="no endpoints\nHint: restart" if letter != "p" else "",
                case=f"{FOLDER}/case-{draw.cycle}",
                seconds=2.0,
                kept=failed and draw.cycle == kept,
            )
        )
    return decider


def say(decider: Decider, *, simulated: bool = True) -> str:
    return report(decider, folder=FOLDER, simulated=simulated, same_mac=False, seconds=20.0)


def test_the_live_line() -> None:
    text = status(decided("ppfp", cycles=10), seconds=8.0)
    assert text == (
        "1/4 failed · 25 % (Clopper-Pearson 95 %: 0.6 % to 81 %) · about 6 more, 12 s · top cause xpc-broken (1)"
    )
    assert status(Decider(UntilFail()), seconds=1.0) == "no cycle has counted yet"


def test_the_report_names_causes_case_files_and_the_kept_mac() -> None:
    text = say(decided("pfpfe" + "p", kept=2))
    for said in (
        "FAILING: 2 of 5 cycles failed: the rate is above 7.6 %",
        "xpc-broken  2  case-2, case-4",
        f"Kept Mac: sysext attach {FOLDER}/case-2",
        "Not counted, and run again: 1 broken by the environment",
        "a fresh Mac each",
        "SIMULATED: no real Mac took part",
    ):
        assert said in text
    assert "sysext replay" in say(decided("pf")), "no Mac was kept: how to make the failure again"
    assert "SIMULATED" not in say(decided("pf"), simulated=False)


def test_the_report_as_json_has_every_cycle() -> None:
    data = as_dict(decided("pfe" + "p"), folder=FOLDER, simulated=True, same_mac=True, seconds=1.0, jobs=2)
    assert (data["runs"], data["failures"], data["answer"], data["exit_code"]) == (3, 1, "undecided", 3)
    assert [len(data[name]) for name in ("cycles", "not_counted", "after_the_decision")] == [3, 1, 0]
    assert data["interval"]["method"] == "clopper-pearson"


def test_a_password_is_shown_on_a_terminal_only() -> None:
    for terminal in (True, False):
        shown: list[str] = []
        Live(shown.append, terminal=terminal).kept("vnc://:pepper-cherry@h:1", "vnc://:***@h:1")
        assert ("pepper-cherry" in "".join(shown)) is terminal


def test_what_a_guest_says_cannot_move_the_cursor_nor_tell_a_secret() -> None:
    shown: list[str] = []
    secret = SECRETS.add("correct-horse-battery")
    Live(shown.append, terminal=False).line(f"\x1b[2J{secret}\nx")
    assert "".join(shown) == " [2J*** x\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(8, "8 s"), (89.4, "89 s"), (100, "2 min"), (3000, "50 min"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_options_are_pytests_own() -> None:
    options = parse_options(["--sysext-macos", "15, 26", "--sysext-fault", "a", "--sysext-fault=b", "word"])
    assert options.rest == ["word"]
    found = settings_overrides(options)
    assert (found["macos"], found["simulated.faults"]) == (["15", "26"], ["a", "b"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sysext-macoss", "15"], "did you mean --sysext-macos?"),
        (["--sysext-repeat", "3"], "--cycles instead of --sysext-repeat"),
        (["--sysext-keep-vm"], "--keep all instead"),
        (["--sysext-macos"], "expected one argument"),
        (["--maxfail=1"], "--maxfail"),
    ],
)
def test_other_options_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(words)
    assert said in str(caught.value)


def test_a_scenario_is_a_node_id_a_path_or_a_word(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").touch()
    assert chosen("test_a.py::test_x[macos15]", root=tmp_path) == ["test_a.py::test_x[macos15]"]
    assert chosen("test_a.py", root=tmp_path) == ["test_a.py"]
    assert chosen("upgrade", root=tmp_path) == ["-k", "upgrade"]
    (tmp_path / "scenarios").mkdir()
    assert chosen("upgrade", root=tmp_path) == ["scenarios", "-k", "upgrade"]
    for wrong in ("", "-x", "test_b.py::test_x"):
        with pytest.raises(UsageError):
            chosen(wrong, root=tmp_path)


def test_what_pytest_is_given(tmp_path: Path) -> None:
    given = pytest_arguments(
        "upgrade", ["--sysext-macos", "15"], root=tmp_path, simulated=True, same_mac=True, keep="first"
    )
    text = " ".join(given)
    assert text.startswith("-k upgrade --sysext-macos 15 ")
    assert "--sysext-keep first" in text
    assert "--sysext-same-mac" in text


@given(failures=st.integers(0, 40), clean=st.integers(0, 400))
@settings(max_examples=40, deadline=None)
def test_what_is_left_is_never_negative_nor_more_than_the_most(failures: int, clean: int) -> None:
    question = Sequential(0.05)
    runs = min(failures + clean, question.most or 0)
    left = question.left(min(failures, runs), runs)
    assert 0 <= left <= (question.most or 0)


@pytest.mark.parametrize(
    ("words", "command", "said", "hint"),
    [
        (["--sysext-repeat", "3"], "bisect", "nothing instead of --sysext-repeat", "`sysext bisect --help`"),
        (["--sysext-nonsense"], "bisect", "--sysext-nonsense", "`sysext bisect --help`"),
        (["--sysext-releas=1"], "repro", "--sysext-releas; did you mean --sysext-release?", "`sysext repro --help`"),
        (["-k", "upgrade"], "repro", "the scenario named by SCENARIO", "SCENARIO may be a word"),
    ],
)
def test_refused_options_name_the_verb_they_were_given_to(words: list[str], command: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(words, command)
    assert said in str(caught.value)
    assert hint in str(caught.value)
    assert "did you mean" not in str(caught.value) or "?" in said
