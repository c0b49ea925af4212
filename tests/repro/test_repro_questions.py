"""Questions: when they are answered, and what is said of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError, Verdict
from harness.repro.deciding import ATTEMPTS, Decider
from harness.repro.outcomes import UNNAMED, Outcome, causes
from harness.repro.questions import Answer, Fixed, Question, Sequential, UntilFail


def outcome(
    cycle: int, verdict: Verdict = Verdict.PASSED, *, attempt: int = 1, cause: str = "", item: int = 0
) -> Outcome:
    return Outcome(
        cycle=cycle,
        attempt=attempt,
        item=item,
        nodeid=f"t.py::test_{item}",
        verdict=verdict,
        cause=cause,
        case=f"c{cycle}",
    )


FAIL = Verdict.PRODUCT_FAILURE
BROKEN = Verdict.ENVIRONMENT_FAILURE


def run(question: Question, failing: set[int], most: int = 2000) -> Decider:
    decider = Decider(question)
    for _ in range(most):
        draw = decider.draw()
        if draw is None:
            break
        decider.add(outcome(draw.cycle, FAIL if draw.cycle in failing else Verdict.PASSED))
    return decider


def test_a_clean_scenario_is_accepted_after_as_many_cycles_as_the_plan_says() -> None:
    question = Sequential(0.05)
    decider = run(question, set())
    assert decider.answer is Answer.ACCEPTED
    assert decider.runs == question.plan.clean_runs
    assert Answer.ACCEPTED.exit_code == 0


def test_a_failing_one_is_found_long_before() -> None:
    decider = run(Sequential(0.05), {2, 4, 6, 8})
    assert decider.answer is Answer.FAILING
    assert decider.runs < 10
    assert decider.answer.exit_code == 1
    assert "5.0 % or more" in decider.why


def test_the_words_before_say_rates_errors_and_what_to_expect() -> None:
    text = "\n".join(Sequential(0.05).lines())
    for said in (
        "1.0 % or less is fine",
        "5.0 % or more is not",
        "sequential probability ratio test",
        "71 if it never fails",
    ):
        assert said in text


def test_sure_is_one_minus_either_error() -> None:
    plan = Sequential(0.1, sure=0.9, fine=0.02).plan
    assert (plan.alpha, plan.beta, plan.low, plan.high) == (0.1, 0.1, 0.02, 0.1)


@pytest.mark.parametrize(
    ("cycles", "failures", "answer"),
    [
        (59, 0, Answer.ACCEPTED),  # the textbook's 59
        (58, 0, Answer.UNDECIDED),
        (59, 1, Answer.UNDECIDED),
        (93, 1, Answer.ACCEPTED),
        (20, 4, Answer.FAILING),
        (20, 2, Answer.UNDECIDED),
    ],
)
def test_a_fixed_number(cycles: int, failures: int, answer: Answer) -> None:
    question = Fixed(cycles)
    assert question.answer(failures, cycles) is answer
    assert question.answer(failures, cycles - 1) is None, "all of them are run"


def test_a_fixed_number_says_beforehand_how_many_are_needed() -> None:
    assert "59 clean ones show a failure rate below 5.0 % at 95 %" in Fixed(59).lines()[0]
    assert len(Fixed(59).lines()) == 1
    assert "too few" in Fixed(10).lines()[1]
    assert "92 more clean ones" not in Fixed(10).because(1, 10)
    assert "83 more clean ones" in Fixed(10).because(1, 10)


def test_until_it_fails() -> None:
    assert run(UntilFail(), {7}).runs == 7
    assert run(UntilFail(), {7}).answer is Answer.FAILING
    assert run(UntilFail(5), {7}).answer is Answer.UNDECIDED
    assert UntilFail().left(0, 10) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sequential(0.0),
        lambda: Sequential(1.0),
        lambda: Sequential(float("nan")),
        lambda: Sequential(0.05, sure=1.0),
        lambda: Sequential(0.05, sure=0.4),
        lambda: Sequential(0.05, fine=0.06),
        lambda: Fixed(0),
        lambda: UntilFail(0),
    ],
)
def test_what_makes_no_test_is_refused(make: object) -> None:
    with pytest.raises(UsageError):
        make()  # type: ignore[operator]


@settings(max_examples=60, deadline=None)
@given(
    failing=st.sets(st.integers(1, 200), max_size=60),
    seed=st.integers(0, 10_000),
    jobs=st.integers(1, 6),
)
def test_side_by_side_decides_as_one_after_the_other(failing: set[int], seed: int, jobs: int) -> None:
    """Whatever the order in which cycles end: answer and counts are those of the cycles in the order of their beginning."""
    dice = random.Random(seed)
    alone = run(Sequential(0.1), failing)
    decider = Decider(Sequential(0.1))
    running: list[int] = []
    while decider.answer is None:
        while len(running) < jobs and (draw := decider.draw()) is not None:
            running.append(draw.cycle)
        # Failing ones take longer: they end only when nothing else can.
        quick = [cycle for cycle in running if cycle not in failing]
        cycle = dice.choice(quick or running)
        running.remove(cycle)
        decider.add(outcome(cycle, FAIL if cycle in failing else Verdict.PASSED))
    assert decider.answer is alone.answer
    assert [one.cycle for one in decider.counted] == [one.cycle for one in alone.counted]
    assert decider.failures == alone.failures


def test_what_ends_early_waits_for_what_began_before() -> None:
    decider = Decider(UntilFail(3))
    for _ in range(3):
        decider.draw()
    decider.add(outcome(3, FAIL))
    decider.add(outcome(2))
    assert (decider.runs, decider.answer) == (0, None)
    decider.add(outcome(1))
    assert (decider.runs, decider.answer) == (3, Answer.FAILING)


def test_cycles_begun_after_the_deciding_one_do_not_count() -> None:
    decider = Decider(UntilFail())
    for _ in range(4):
        decider.draw()
    decider.add(outcome(3, FAIL))
    decider.add(outcome(1))
    decider.add(outcome(2, FAIL, cause="x"))
    assert decider.runs == 2
    assert [one.cycle for one in decider.late] == [3]
    decider.add(outcome(4, FAIL))
    assert [one.cycle for one in decider.late] == [3, 4]
    assert [row.code for row in decider.causes] == ["x"]


def test_what_the_environment_broke_is_run_again_and_counts_for_nothing() -> None:
    decider = Decider(Fixed(2))
    decider.draw()
    decider.add(outcome(1, BROKEN))
    again = decider.draw()
    assert again is not None
    assert (again.cycle, again.attempt) == (1, 2)
    decider.add(outcome(1, attempt=2))
    assert (decider.runs, decider.failures, len(decider.disturbed)) == (1, 0, 1)


def test_an_environment_that_breaks_every_time_ends_it_undecided() -> None:
    decider = Decider(Sequential(0.05))
    for attempt in range(1, ATTEMPTS + 1):
        assert decider.answer is None
        draw = decider.draw()
        assert draw is not None
        decider.add(outcome(1, BROKEN, attempt=draw.attempt))
        assert draw.attempt == attempt
    assert decider.answer is Answer.UNDECIDED
    assert "the environment" in decider.why


def test_a_mistake_of_the_harness_is_neither_a_failure_nor_a_clean_cycle() -> None:
    decider = Decider(Fixed(1))
    decider.draw()
    decider.add(outcome(1, Verdict.HARNESS_ERROR))
    assert (decider.runs, decider.answer) == (0, None)


def test_scenarios_take_turns_and_those_that_skip_are_left_out() -> None:
    decider = Decider(Fixed(4), items=3)
    assert [decider.draw().item for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]
    decider.add(outcome(2, Verdict.SKIPPED, item=1))
    again = decider.draw()
    assert again is not None
    assert again.cycle == 2
    assert again.item in (0, 2)
    decider.add(outcome(1, Verdict.SKIPPED, item=0))
    with pytest.raises(UsageError, match="a scenario that runs"):
        decider.add(outcome(3, Verdict.SKIPPED, item=2))


def test_broken_off_it_says_what_is_known() -> None:
    decider = Decider(Sequential(0.05))
    decider.draw()
    decider.add(outcome(1))
    assert decider.stop("interrupted") is Answer.UNDECIDED
    assert decider.why.startswith("interrupted; 0 of 1 cycle failed")
    assert decider.draw() is None
    late = Decider(UntilFail())
    late.draw()
    late.add(outcome(1, FAIL))
    assert late.stop("interrupted") is Answer.FAILING, "what was decided stays"


def test_a_known_issue_counts_as_a_failure() -> None:
    assert outcome(1, Verdict.KNOWN_ISSUE).failed


def test_the_table_of_causes() -> None:
    rows = causes([outcome(1), outcome(2, FAIL, cause="b"), outcome(3, FAIL, cause="b"), outcome(4, FAIL)])
    assert [(row.code, row.count, row.cases) for row in rows] == [("b", 2, ("c2", "c3")), (UNNAMED, 1, ("c4",))]


@given(
    st.builds(
        Outcome,
        cycle=st.integers(1, 10**6),
        attempt=st.integers(1, 9),
        item=st.integers(0, 99),
        nodeid=st.text(max_size=20),
        verdict=st.sampled_from(Verdict),
        cause=st.text(max_size=20),
        error=st.text(max_size=20),
        kept=st.booleans(),
        notes=st.lists(st.text(max_size=9), max_size=3).map(tuple),
    )
)
@settings(max_examples=40, deadline=None)
def test_an_outcome_crosses_the_pipe_as_it_is(one: Outcome) -> None:
    assert Outcome.from_dict(one.as_dict()) == one
