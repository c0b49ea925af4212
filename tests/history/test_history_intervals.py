"""Intervals and numbers of runs, against published values and exact sums."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.history.intervals import (
    binomial_cdf,
    clopper_pearson,
    interval,
    percent,
    runs_missing,
    runs_needed,
    upper_bound,
    wilson,
)


@pytest.mark.parametrize(
    ("failures", "runs", "low", "high"),
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)],
)
def test_wilson(failures: int, runs: int, low: float, high: float) -> None:
    found = wilson(failures, runs)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert found.method == "wilson"
    assert failures / runs in found


@pytest.mark.parametrize(
    ("failures", "runs", "low", "high"),
    [(0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0)],
)
def test_clopper_pearson(failures: int, runs: int, low: float, high: float) -> None:
    found = clopper_pearson(failures, runs)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert found.method == "clopper-pearson"


def test_clopper_pearson_is_never_too_short() -> None:
    runs = 20
    intervals = [clopper_pearson(failures, runs) for failures in range(runs + 1)]
    for rate in (0.01, 0.05, 0.2, 0.33, 0.5, 0.77, 0.95):
        covered = sum(
            math.comb(runs, failures) * rate**failures * (1 - rate) ** (runs - failures)
            for failures in range(runs + 1)
            if rate in intervals[failures]
        )
        assert covered >= 0.95


def test_large_counts() -> None:
    found = clopper_pearson(50_000, 1_000_000)
    assert found.low == pytest.approx(0.049574, abs=2e-6)
    assert found.high == pytest.approx(0.050429, abs=2e-6)


@pytest.mark.parametrize(
    ("failures", "needed"), [(0, 59), (1, 93), (2, 124), (3, 153), (4, 181), (5, 208)]
)  # the 95/95 table of acceptance sampling
def test_runs_needed(failures: int, needed: int) -> None:
    assert runs_needed(0.05, 0.95, failures) == needed


def test_runs_missing() -> None:
    assert runs_needed(0.01, 0.95) == 299
    assert runs_missing(0, 10, 0.05) == 49
    assert runs_missing(0, 59, 0.05) == 0
    assert runs_missing(1, 59, 0.05) == 34
    assert upper_bound(0, 58) > 0.05 >= upper_bound(0, 59)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.data())
def test_the_binomial_sum(runs: int, data: st.DataObject) -> None:
    failures = data.draw(st.integers(0, runs))
    rate = Fraction(data.draw(st.integers(1, 99)), 100)
    exact = sum(math.comb(runs, k) * rate**k * (1 - rate) ** (runs - k) for k in range(failures + 1))
    assert binomial_cdf(failures, runs, float(rate)) == pytest.approx(float(exact), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500), st.sampled_from(["wilson", "clopper-pearson"]))
def test_any_counts(failures: int, passed: int, method: str) -> None:
    runs = failures + passed
    found = interval(failures, runs, method=method)  # type: ignore[arg-type]
    assert 0 <= found.low <= (failures / runs if runs else 0.5) <= found.high <= 1
    wider = interval(failures, runs, confidence=0.99, method=method)  # type: ignore[arg-type]
    assert wider.low <= found.low
    assert found.high <= wider.high


@pytest.mark.parametrize(
    "bad",
    [
        lambda: wilson(2, 1),
        lambda: clopper_pearson(-1, 1),
        lambda: wilson(0, 1, 1.0),
        lambda: runs_needed(0.0),
        lambda: runs_needed(0.05, 95),
        lambda: runs_needed(0.05, failures=-1),
    ],
)
def test_impossible_input(bad: object) -> None:
    with pytest.raises(UsageError):
        bad()  # type: ignore[operator]


def test_percent() -> None:
    assert [percent(x) for x in (0, 0.0003, 0.041, 0.2, 0.996, 1)] == [
        "0 %",
        "0.03 %",
        "4.1 %",
        "20 %",
        "100 %",
        "100 %",
    ]
