"""Noisy bisection, against the same sums made the slow way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.history.bisecting import Bisection, halving_runs

RELEASES = ["1.0", "1.1", "1.2", "1.3", "1.4"]
Runs = list[tuple[int, bool]]


def slowly(runs: Runs, count: int) -> list[float]:
    """The posterior by adding up over a grid of rates; a uniform prior for the fault's, none of failures without it."""
    rates = (np.arange(4000) + 0.5) / 4000
    weights = []
    for first_bad in range(1, count):
        likelihood = np.ones_like(rates)
        for place, failed in runs:
            if place >= first_bad:
                likelihood *= rates if failed else 1 - rates
            elif failed:
                likelihood *= 0
        weights.append(likelihood.mean())
    total = sum(weights)
    return [weight / total for weight in weights]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=12))
def test_the_posterior(runs: Runs) -> None:
    runs = [(4, True), *runs]  # so that it is possible at all
    bisection = Bisection(RELEASES, prior=(1, 1), base_prior=(1e-9, 1e9))
    for place, failed in runs:
        bisection.update(RELEASES[place], failed)
    assert list(bisection.posterior.values())[1:] == pytest.approx(slowly(runs, 5), abs=1e-3)
    assert bisection.posterior["1.0"] == 0


def test_the_gain_is_the_entropy_that_goes() -> None:
    bisection = Bisection(RELEASES)
    for place, failed in [(2, False), (4, True), (3, False), (4, False)]:
        bisection.update(RELEASES[place], failed)
    before = bisection.posterior
    for place, gain in enumerate(bisection.gains()):
        after = {}
        for failed in (True, False):
            other = Bisection(RELEASES)
            for one in RELEASES:
                failures, runs = bisection.counts(one)
                for number in range(runs):
                    other.update(one, number < failures)
            other.update(RELEASES[place], failed)
            after[failed] = other.posterior
        # P(fails) is what mixes the two posteriors back into the present one.
        for release in RELEASES[1:]:
            if abs(after[True][release] - after[False][release]) > 1e-9:
                fails = (before[release] - after[False][release]) / (after[True][release] - after[False][release])
                expected = entropy(before) - fails * entropy(after[True]) - (1 - fails) * entropy(after[False])
                assert gain == pytest.approx(expected, abs=1e-9)
                break


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=6), st.lists(st.sampled_from(RELEASES), max_size=3)
)
def test_the_gain_beside_runs_under_way(runs: Runs, pending: list[str]) -> None:
    """Against all that the runs may come to, gone through one by one; each run tells less the more is asked already."""
    bisection = Bisection(RELEASES)
    for place, failed in runs:
        bisection.update(RELEASES[place], failed)
    weights, since, before = bisection._posterior()

    def entropy_left(asked: list[str]) -> float:
        """The mean entropy of which one it was once these runs are known."""
        left = 0.0
        for outcome in itertools.product([True, False], repeat=len(asked)):
            joint = weights.copy()
            for release, failed in zip(asked, outcome, strict=True):
                place = RELEASES.index(release)
                fails = np.where(place >= np.arange(1, 5), since, before)
                joint = joint * (fails if failed else 1 - fails)
            if joint.sum() > 0:
                left += joint.sum() * entropy(dict(enumerate(joint / joint.sum())))
        return left

    for place, gain in enumerate(bisection.gains(pending)):
        assert gain == pytest.approx(entropy_left(pending) - entropy_left([*pending, RELEASES[place]]), abs=1e-6)
        assert gain <= bisection.gains()[place] + 1e-9


def entropy(posterior: Mapping[Any, float]) -> float:
    return -sum(p * math.log2(p) for p in posterior.values() if p > 0)


def test_it_finds_them() -> None:
    rng = np.random.default_rng(11)
    releases = [f"r{number}" for number in range(12)]
    right = 0
    for trial in range(22):
        first_bad = 1 + trial % 11
        bisection = Bisection(releases)
        while bisection.answer is None:
            assert bisection.runs < 400
            release = bisection.next_release()
            bisection.update(release, int(release[1:]) >= first_bad and bool(rng.random() < 0.4))
        right += bisection.answer == f"r{first_bad}"
        assert bisection.best[1] >= 0.95
    assert right >= 20


def test_a_failure_now_and_then_without_the_fault_is_borne() -> None:
    bisection = Bisection(RELEASES, base_prior=(1, 20))
    for _ in range(30):
        bisection.update("1.2", False)
        bisection.update("1.3", True)
    bisection.update("1.2", True)
    assert bisection.answer == "1.3"
    assert 0.8 < bisection.rate < 1


def test_weights() -> None:
    bisection = Bisection(RELEASES, weights=[0, 0, 1, 3, 0])
    assert bisection.posterior == pytest.approx({"1.0": 0, "1.1": 0, "1.2": 0.25, "1.3": 0.75, "1.4": 0})
    assert bisection.answer is None
    assert Bisection(["a", "b"]).answer == "b"


def test_plain_halving() -> None:
    assert halving_runs(2, 0.2, 0.9) == (1, 0)  # only one release it can be
    each, runs = halving_runs(20, 0.2, 0.9)
    assert each == 14
    assert 4 * each < runs < 5 * each


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Bisection(["1"]),
        lambda: Bisection(["1", "1"]),
        lambda: Bisection(RELEASES, sure=1.0),
        lambda: Bisection(RELEASES, weights=[1, 1]),
        lambda: Bisection(RELEASES).update("2.0", True),
        lambda: halving_runs(1, 0.2, 0.9),
    ],
)
def test_unusable_input(bad: object) -> None:
    with pytest.raises(UsageError):
        bad()  # type: ignore[operator]
