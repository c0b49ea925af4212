"""Comparisons of rates, against published examples and sums made by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.history.comparing import benjamini_hochberg, compare, correct, fisher_exact, holm, trend

# Benjamini and Hochberg (1995), section 4: 15 hypotheses. Their procedure rejects 4, Bonferroni's and Holm's 3.
PUBLISHED = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
]


def test_the_lady_tasting_tea() -> None:
    assert fisher_exact(3, 4, 1, 4) == pytest.approx(0.4857, abs=5e-5)
    assert fisher_exact(4, 4, 0, 4) == pytest.approx(0.0286, abs=5e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_fisher_by_adding_up(failures_a: int, passed_a: int, failures_b: int, passed_b: int) -> None:
    runs_a, runs_b, failed = failures_a + passed_a, failures_b + passed_b, failures_a + failures_b
    ways = {
        k: math.comb(runs_a, k) * math.comb(runs_b, failed - k)
        for k in range(max(0, failed - runs_b), min(failed, runs_a) + 1)
    }
    exact = sum(way for way in ways.values() if way <= ways[failures_a]) / sum(ways.values())
    assert fisher_exact(failures_a, runs_a, failures_b, runs_b) == pytest.approx(exact, rel=1e-9)


def test_fisher_of_many_runs() -> None:
    assert fisher_exact(500, 100_000, 500, 100_000) == pytest.approx(1.0)
    assert fisher_exact(500, 100_000, 900, 100_000) < 1e-20


def test_corrections_as_published() -> None:
    shuffled = PUBLISHED[::-1]
    assert sum(p <= 0.05 for p in benjamini_hochberg(shuffled)) == 4
    assert sum(p <= 0.05 for p in holm(shuffled)) == 3
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert correct([0.3, 0.2], "none") == [0.3, 0.2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=20))
def test_corrections_only_raise(p_values: list[float]) -> None:
    for p, loose, strict in zip(p_values, benjamini_hochberg(p_values), holm(p_values), strict=True):
        assert p <= loose + 1e-12
        assert loose <= strict + 1e-12
        assert strict <= 1


def test_findings() -> None:
    tables = [(0, 60, 15, 60), (15, 60, 0, 60), (3, 60, 5, 60), (0, 2, 2, 2), (0, 0, 5, 5)]
    assert [one.finding for one in compare(tables)] == [
        "regression", "improvement", "noise", "too few runs", "too few runs",
    ]  # fmt: skip


def test_many_comparisons_raise_no_false_alarm() -> None:
    one = (2, 60, 10, 60)
    assert compare([one])[0].finding == "regression"
    many = compare([one, *[(3, 60, 3, 60)] * 20])
    assert many[0].finding == "noise"
    assert compare([one, *[(3, 60, 3, 60)] * 20], correction="none")[0].finding == "regression"


def test_the_trend_as_published() -> None:
    # Agresti, Categorical Data Analysis: malformations by the mother's drinks a day; z² = 6.57, p = 0.010.
    malformed, sound = [48, 38, 5, 1, 1], [17066, 14464, 788, 126, 37]
    points = [(x, bad, bad + good) for x, bad, good in zip([0, 0.5, 1.5, 4, 7], malformed, sound, strict=True)]
    found = trend(points)
    assert found.z**2 == pytest.approx(6.57, abs=0.01)
    assert found.p == pytest.approx(0.0104, abs=5e-4)
    assert found.word == "rising"
    assert trend([(-x, bad, runs) for x, bad, runs in points]).word == "falling"


@pytest.mark.parametrize("points", [[], [(1, 0, 10), (2, 0, 10)], [(1, 10, 10)], [(5, 3, 10)], [(1, 0, 1), (2, 1, 1)]])
def test_no_trend_to_speak_of(points: list[tuple[float, int, int]]) -> None:
    assert trend(points).word == "flat"


def test_impossible_counts() -> None:
    for bad in (lambda: fisher_exact(2, 1, 0, 1), lambda: trend([(0, 2, 1)])):
        with pytest.raises(UsageError):
            bad()
