"""Which release brought the fault, when it only shows now and then: Bayesian bisection.

A plain halving must run every release it asks about so often that one clean answer can be believed. Here every run, passed or
failed, moves the probability of each release; the next run is where it is expected to tell the most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError

_Array = NDArray[np.float64]


@dataclass
class Bisection:
    """Releases in order, the first known as good, the last known as bad; the fault came with one of those between them (or
    with the last). Its rate is not known, but the same since it came.

    Attributes:
        releases: All of them, oldest first.
        sure: The probability at which a release is named.
        prior: Beta(a, b) of the fault's rate: (1, 3) has a mean of 25 % and excludes nothing. Where f of n runs of the bad
            release failed before, (1 + f, 3 + n - f) says so, and saves a quarter of the runs.
        base_prior: Beta(a, b) of the failure rate without it: (0.1, 99.9) has a mean of 0.1 %. Take more where the scenario
            fails for other reasons now and then.
        weights: How likely each release was to bring it before any run (the size of its changes, say); equal by default. The
            first one's is not used.
    """

    releases: Sequence[str]
    sure: float = 0.95
    prior: tuple[float, float] = (1.0, 3.0)
    base_prior: tuple[float, float] = (0.1, 99.9)
    weights: Sequence[float] | None = None
    _passed: _Array = field(init=False, repr=False)
    _failed: _Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = len(self.releases)
        if count < 2 or len(set(self.releases)) != count:
            raise UsageError(
                "two different releases or more, the first good and the last bad",
                seen=", ".join(self.releases) or "none",
                hint="the app file lists them in order",
            )
        if not 0.5 < self.sure < 1:
            raise UsageError("a probability between 0.5 and 1", seen=f"{self.sure:g}", hint="0.95 is usual")
        if self.weights is not None and (
            len(self.weights) != count or min(self.weights) < 0 or sum(self.weights[1:]) <= 0
        ):
            raise UsageError("a weight ≥ 0 per release, one of them above 0", seen=str(list(self.weights)))
        self._passed = np.zeros(count)
        self._failed = np.zeros(count)

    def update(self, release: str, failed: bool) -> None:  # noqa: FBT001 - one run failed or it did not
        """Count one run of a release.

        Raises:
            UsageError: It is not one of them.
        """
        try:
            place = list(self.releases).index(release)
        except ValueError:
            raise UsageError(f"one of {', '.join(self.releases)}", seen=release) from None
        (self._failed if failed else self._passed)[place] += 1

    @property
    def runs(self) -> int:
        """Runs so far."""
        return int(self._passed.sum() + self._failed.sum())

    def counts(self, release: str) -> tuple[int, int]:
        """Failures and runs of a release so far."""
        place = list(self.releases).index(release)
        return int(self._failed[place]), int(self._failed[place] + self._passed[place])

    @property
    def posterior(self) -> dict[str, float]:
        """Per release, the probability that the fault came with it; the first one's is 0."""
        return dict(zip(self.releases, [0.0, *self._posterior()[0].tolist()], strict=True))

    @property
    def answer(self) -> str | None:
        """The release that is sure enough, or None while none is."""
        release, probability = self.best
        return release if probability >= self.sure else None

    @property
    def best(self) -> tuple[str, float]:
        """The likeliest release and its probability."""
        return max(self.posterior.items(), key=lambda item: item[1])

    @property
    def rate(self) -> float:
        """The mean of the fault's rate, as far as it is known."""
        weights, since, _ = self._posterior()
        return float((weights * since).sum())

    def next_release(self) -> str:
        """The release whose next run is expected to tell most about which one it was (in bits)."""
        return self.releases[int(np.argmax(self.gains()))]

    def gains(self, pending: Sequence[str] = ()) -> list[float]:
        """Per release, the bits that one more run of it is expected to yield.

        Args:
            pending: Releases of runs whose outcomes are not known yet: what those will tell is not told once more. All their
                outcomes are gone through (2 to the power of their number), so up to about 16.
        """
        weights, since, before = self._posterior()
        count = len(self.releases)
        # P(fails | the fault came with k), for a run of release i: since[k] where i ≥ k, else before[k].
        i = np.arange(count)[:, None]
        k = np.arange(1, count)[None, :]
        fails = np.where(i >= k, since[None, :], before[None, :])
        outcomes = weights[None, :]  # a row per way the pending runs may come out: its probability with each k
        for release in pending:
            chance = fails[list(self.releases).index(release)]
            outcomes = np.concatenate([outcomes * chance, outcomes * (1 - chance)])
        likely = outcomes.sum(axis=1)
        mean = (outcomes @ fails.T) / np.maximum(likely, np.finfo(float).tiny)[:, None]
        gains: list[float] = (likely @ _entropy(mean) - (_entropy(fails) * weights).sum(axis=1)).tolist()
        return gains

    def _posterior(self) -> tuple[_Array, _Array, _Array]:
        """Per release that may have brought it (all but the first): its probability, and, if it did, the mean rate since and
        before.
        """
        failed_since = np.cumsum(self._failed[::-1])[::-1][1:]
        passed_since = np.cumsum(self._passed[::-1])[::-1][1:]
        failed_before = self._failed.sum() - failed_since
        passed_before = self._passed.sum() - passed_since
        prior = np.ones(len(self.releases) - 1) if self.weights is None else np.array(self.weights[1:], dtype=float)
        (a, b), (c, d) = self.prior, self.base_prior
        logs = np.array(
            [
                (math.log(weight) if weight > 0 else -math.inf) + _log_beta(a + f1, b + p1) + _log_beta(c + f0, d + p0)
                for weight, f1, p1, f0, p0 in zip(
                    prior, failed_since, passed_since, failed_before, passed_before, strict=True
                )
            ]
        )
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        since = (a + failed_since) / (a + b + failed_since + passed_since)
        before = (c + failed_before) / (c + d + failed_before + passed_before)
        return weights, since, before


def halving_runs(releases: int, rate: float, accuracy: float) -> tuple[int, int]:
    """What a plain halving with a fixed number of runs per release needs to be right as often as `accuracy`, the fault's rate
    known beforehand and nothing failing without it: (runs per release asked about, runs in all on average).

    Raises:
        UsageError: Fewer than two releases, or a rate or accuracy outside 0..1.
    """
    if releases < 2 or not 0 < rate < 1 or not 0 < accuracy < 1:
        raise UsageError("two releases or more, and rate and accuracy between 0 and 1", seen=f"{releases}, {rate:g}")
    candidates = releases - 1
    each = 0
    while True:
        each += 1
        miss = (1 - rate) ** each
        outcomes = [_halve(0, candidates - 1, place, miss) for place in range(candidates)]
        if sum(right for right, _ in outcomes) / candidates >= accuracy:
            return each, round(each * sum(asked for _, asked in outcomes) / candidates)


def _halve(low: int, high: int, place: int, miss: float) -> tuple[float, float]:
    """P(right) and the mean number of releases asked about, among candidates low..high, if `place` brought the fault."""
    if low == high:
        return float(place == low), 0.0
    middle = (low + high) // 2  # asking it tells whether the fault came with it or before
    after, asked_after = _halve(middle + 1, high, place, miss)
    if place > middle:
        return after, 1 + asked_after
    until, asked_until = _halve(low, middle, place, miss)
    return (1 - miss) * until + miss * after, 1 + (1 - miss) * asked_until + miss * asked_after


def _entropy(rates: _Array) -> _Array:
    """Of one run, in bits."""
    inside = np.clip(rates, 1e-12, 1 - 1e-12)
    return -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
