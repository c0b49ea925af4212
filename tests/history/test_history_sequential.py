"""The sequential test: what it promises, against every possible course of it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.history.sequential import Decision, Sprt, SprtPlan, plan_sprt


def by_walking(plan: SprtPlan, rate: float, failures: int = 0, runs: int = 0) -> tuple[float, float]:
    """P(reject) and the mean number of runs, step by step through `decide` alone."""

    @cache
    def walk(failures: int, runs: int) -> tuple[float, float]:
        decision = plan.decide(failures, runs)
        if decision is not Decision.CONTINUE:
            return float(decision is Decision.REJECT), 0.0
        good, bad = walk(failures, runs + 1), walk(failures + 1, runs + 1)
        return (
            (1 - rate) * good[0] + rate * bad[0],
            1 + (1 - rate) * good[1] + rate * bad[1],
        )

    return walk(failures, runs)


@pytest.fixture(scope="module")
def plan() -> SprtPlan:
    return plan_sprt(0.05, 0.2)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.01, 0.4),
    st.floats(1.3, 5),
    st.floats(-4, -0.2),
    st.floats(0.2, 4),
    st.integers(1, 60),
    st.floats(0, 1),
    st.integers(0, 8),
    st.integers(0, 3),
)
def test_exact_for_any_plan(
    low: float, times: float, lower: float, upper: float, most: int, rate: float, passed: int, failed: int
) -> None:
    plan = SprtPlan(low, min(0.95, low * times), 0.05, 0.05, lower, upper, most)
    seen = plan.operating(rate, failures=failed, runs=passed + failed)
    assert (seen.reject, seen.expected) == pytest.approx(by_walking(plan, rate, failed, passed + failed), abs=1e-9)


@pytest.mark.parametrize(("low", "high"), [(0.05, 0.2), (0.02, 0.2), (0.1, 0.3)])
def test_error_rates_hold_and_few_runs_do(low: float, high: float) -> None:
    plan = plan_sprt(low, high)
    at_low, at_high = plan.operating(low), plan.operating(high)
    assert 0.03 < at_low.reject <= 0.05
    assert 0.03 < at_high.accept <= 0.05
    assert 1 <= at_low.expected / plan.wald_expected(low) <= 1.15  # no test does better than 1
    assert 1 <= at_high.expected / plan.wald_expected(high) <= 1.15
    wald = plan_sprt(low, high, exact=False)
    assert at_high.expected < wald.operating(high).expected
    assert at_low.longest <= plan.most


def test_unequal_error_rates() -> None:
    plan = plan_sprt(0.05, 0.25, alpha=0.01, beta=0.1)
    assert plan.operating(0.05).reject <= 0.01
    assert plan.operating(0.25).accept <= 0.1


def test_walds_expectation() -> None:
    plan = plan_sprt(0.05, 0.2, exact=False)
    assert plan.wald_expected(0.05) == pytest.approx(28.2, abs=0.05)
    assert plan.wald_expected(0.2) == pytest.approx(18.96, abs=0.05)
    assert plan.wald_expected(0) == pytest.approx(17.13, abs=0.05)
    turning = -plan.down / (plan.up - plan.down)
    assert plan.wald_expected(turning) == pytest.approx(plan.wald_expected(turning + 1e-4), rel=0.05)


def test_runs_one_by_one(plan: SprtPlan) -> None:
    clean = Sprt(plan)
    decisions = [clean.update(False) for _ in range(plan.clean_runs)]
    assert decisions == [Decision.CONTINUE] * (plan.clean_runs - 1) + [Decision.ACCEPT]
    assert clean.expected_left() == 0
    broken = Sprt(plan)
    while broken.update(True) is Decision.CONTINUE:
        assert broken.runs < 10
    assert broken.decision is Decision.REJECT
    assert broken.update(False) is Decision.REJECT
    assert broken.rate < 1
    assert broken.rate in broken.interval()


def test_what_is_left_shrinks(plan: SprtPlan) -> None:
    test = Sprt(plan)
    before = test.expected_left(0.0)
    test.update(False)
    assert test.expected_left(0.0) == pytest.approx(before - 1)
    assert test.expected_left() > 0


def test_it_ends(plan: SprtPlan) -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        test = Sprt(plan)
        while test.update(bool(rng.random() < 0.1)) is Decision.CONTINUE:
            assert test.runs < plan.most
        assert test.runs <= plan.most


@pytest.mark.parametrize(
    ("arguments", "more"),
    [((0.2, 0.05), {}), ((0, 0.05), {}), ((0.1, 1), {}), ((0.1, 0.2), {"alpha": 0.5}), ((0.05, 0.1), {"most": 10})],
)
def test_impossible_plans(arguments: tuple[float, float], more: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        plan_sprt(*arguments, **more)  # type: ignore[arg-type]
