"""Stop as soon as it is sure: the sequential probability ratio test for a failure rate, with error rates that really hold.

Wald (1945) bounds both error rates from outside, because a run is all or nothing and oversteps the bounds. Here all that can
happen is added up instead (dynamic programming over the number of runs and failures, truncation included), and the bounds
are moved until the stated error rates are just kept: fewer runs on average, at what was promised.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from harness.errors import UsageError
from harness.history.intervals import Interval, Method, interval


class Decision(enum.StrEnum):
    """What a sequential test says so far."""

    CONTINUE = "continue"
    ACCEPT = "accept"
    """The rate is low: `low` or less."""
    REJECT = "reject"
    """The rate is high: `high` or more."""


@dataclass(frozen=True)
class Operating:
    """What a plan does at a given true rate, exactly.

    Attributes:
        rate: The true failure rate.
        reject: The probability that the test ends with REJECT.
        expected: The mean number of runs.
        longest: The number of runs that 95 % of the tests do not exceed.
    """

    rate: float
    reject: float
    expected: float
    longest: int

    @property
    def accept(self) -> float:
        """The probability that the test ends with ACCEPT."""
        return 1 - self.reject


@dataclass(frozen=True)
class SprtPlan:
    """A sequential test of "the failure rate is at most `low`" against "it is at least `high`".

    Attributes:
        low: A rate that should be accepted.
        high: A rate that should be rejected.
        alpha: The stated probability of rejecting at `low` (a false alarm).
        beta: The stated probability of accepting at `high` (a miss).
        lower: Accept when the log likelihood ratio is at or below this.
        upper: Reject when it is at or above this.
        most: After so many runs the nearer bound decides.
    """

    low: float
    high: float
    alpha: float
    beta: float
    lower: float
    upper: float
    most: int

    @property
    def up(self) -> float:
        """What a failed run adds to the log likelihood ratio."""
        return math.log(self.high / self.low)

    @property
    def down(self) -> float:
        """What a passed run adds; negative."""
        return math.log1p(-self.high) - math.log1p(-self.low)

    def ratio(self, failures: int, runs: int) -> float:
        """The log likelihood ratio of `high` over `low`."""
        return failures * self.up + (runs - failures) * self.down

    def decide(self, failures: int, runs: int) -> Decision:
        """What so many failures in so many runs mean."""
        # Written as `_spread` has it, so that both round alike.
        step = self.up - self.down
        if failures >= math.ceil((self.upper - 1e-9 - runs * self.down) / step):
            return Decision.REJECT
        if failures <= math.floor((self.lower + 1e-9 - runs * self.down) / step):
            return Decision.ACCEPT
        if runs < self.most:
            return Decision.CONTINUE
        return Decision.REJECT if failures > self._middle else Decision.ACCEPT

    @cached_property
    def _middle(self) -> int:
        """Up to so many failures the lower bound is the nearer one after `most` runs."""
        return math.floor(((self.lower + self.upper) / 2 - self.most * self.down) / (self.up - self.down))

    @cached_property
    def clean_runs(self) -> int:
        """How many runs accept if none of them fails."""
        return min(self.most, math.ceil((self.lower + 1e-9) / self.down))

    def operating(self, rate: float, *, failures: int = 0, runs: int = 0) -> Operating:
        """What happens at this true rate from here on (from the start by default); `expected` counts the runs to come.

        Raises:
            UsageError: The rate is not within 0..1.
        """
        if not 0 <= rate <= 1:
            raise UsageError("a rate from 0 to 1", seen=f"{rate:g}")
        reject = expected = ended = 0.0
        longest = 0
        if (decision := self.decide(failures, runs)) is not Decision.CONTINUE:
            return Operating(rate, float(decision is Decision.REJECT), 0.0, 0)
        for number, rejected, accepted in self._spread(rate, failures, runs):
            reject += rejected
            expected += (number - runs) * (rejected + accepted)
            if ended < 0.95 - 1e-12:
                longest = number - runs
            ended += rejected + accepted
        return Operating(rate, reject, expected, longest)

    def wald_expected(self, rate: float) -> float:
        """Wald's approximation of the mean number of runs at this rate, for the stated error rates: it leaves out that
        bounds are overstepped. At `low` and `high` no test of any kind that keeps the error rates needs fewer on average.
        """
        top, bottom = math.log((1 - self.beta) / self.alpha), math.log(self.beta / (1 - self.alpha))
        drift = rate * self.up + (1 - rate) * self.down
        if abs(drift) < 1e-9:
            return -top * bottom / (rate * self.up**2 + (1 - rate) * self.down**2)
        accept = _wald_accept(rate, self.up, self.down, top, bottom)
        return (accept * bottom + (1 - accept) * top) / drift

    def _spread(self, rate: float, failures: int, runs: int) -> Iterator[tuple[int, float, float]]:
        """Per number of runs: the probability that the test ends there with REJECT, and with ACCEPT."""
        numbers = np.arange(runs + 1, self.most + 1)
        # With `number` runs, REJECT from so many failures on, and ACCEPT up to so many; as `decide` has it.
        step = self.up - self.down
        reject_from = np.ceil((self.upper - 1e-9 - numbers * self.down) / step).astype(np.int64)
        accept_to = np.floor((self.lower + 1e-9 - numbers * self.down) / step).astype(np.int64)
        if numbers.size:
            accept_to[-1] = max(accept_to[-1], self._middle)
            reject_from[-1] = min(reject_from[-1], accept_to[-1] + 1)
        alive = np.array([1.0])  # by number of failures from `first` on, among the tests that still go on
        first = failures
        for number, high, low in zip(numbers.tolist(), reject_from.tolist(), accept_to.tolist(), strict=True):
            after = np.zeros(alive.size + 1)
            after[:-1] = alive * (1 - rate)
            after[1:] += alive * rate
            above = min(max(0, high - first), after.size)
            below = min(max(0, low + 1 - first), above)
            yield number, float(after[above:].sum()), float(after[:below].sum())
            alive = after[below:above]
            first += below
            if not alive.size:
                return


def _wald_accept(rate: float, up: float, down: float, top: float, bottom: float) -> float:
    """Wald's operating characteristic: P(accept) at a rate, from the h with E[exp(h z)] = 1."""

    def excess(h: float) -> float:
        big = max(h * up, h * down, 0.0)  # so that nothing overflows
        value = rate * math.exp(h * up - big) + (1 - rate) * math.exp(h * down - big)
        return math.log(value) + big if value > 0 else -math.inf

    if rate <= 0 or rate >= 1:
        return 1.0 if rate <= 0 else 0.0
    sign = -1.0 if rate * up + (1 - rate) * down > 0 else 1.0
    near, far = 1e-9, 1.0
    while excess(sign * far) < 0 and far < 1e6:
        far *= 2
    for _ in range(100):
        middle = (near + far) / 2
        near, far = (middle, far) if excess(sign * middle) < 0 else (near, middle)
    h = sign * far
    if abs(h * max(top, -bottom)) > 500:
        return 0.0 if h < 0 else 1.0
    return (math.exp(h * top) - 1) / (math.exp(h * top) - math.exp(h * bottom))


@lru_cache(maxsize=64)
def plan_sprt(
    low: float, high: float, *, alpha: float = 0.05, beta: float = 0.05, most: int | None = None, exact: bool = True
) -> SprtPlan:
    """A plan whose error rates hold exactly, with about the fewest runs on average.

    Args:
        low: A failure rate that should be accepted.
        high: A failure rate that should be rejected; larger.
        alpha: Probability of rejecting at `low`.
        beta: Probability of accepting at `high`.
        most: Runs at most; by default four times what Wald's approximation expects where it takes longest, or more
            where that is too few to keep the error rates.
        exact: Move the bounds to where the error rates are just kept; False leaves Wald's own (and does not check them).

    Raises:
        UsageError: Not 0 < low < high < 1, error rates not below 0.5, or `most` is too few for the error rates.
    """
    if not 0 < low < high < 1:
        raise UsageError("0 < low rate < high rate < 1", seen=f"{low:g} and {high:g}", hint="for example 0.01 and 0.05")
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0 < value < 0.5:
            raise UsageError(f"{name} between 0 and 0.5", seen=f"{value:g}", hint="0.05 is usual")
    top, bottom = math.log((1 - beta) / alpha), math.log(beta / (1 - alpha))
    plan = SprtPlan(low, high, alpha, beta, bottom, top, 10**9)
    turning = -plan.down / (plan.up - plan.down)
    usual = math.ceil(4 * max(plan.wald_expected(rate) for rate in (low, turning, high)))
    wanted = [most] if most is not None else [usual, 2 * usual, 4 * usual]
    for limit in wanted:
        plan = SprtPlan(low, high, alpha, beta, bottom, top, limit)
        if not exact:
            return plan
        found = _tightened(plan)
        if found is not None:
            return found
    fewest = f"{wanted[-1]} runs are too few" if most is not None else f"not with {wanted[-1]} runs"
    raise UsageError(
        f"a test of {low:g} against {high:g} with error rates {alpha:g} and {beta:g}",
        seen=fewest,
        hint="allow more runs, or set the two rates further apart",
    )


def _tightened(plan: SprtPlan) -> SprtPlan | None:
    """The plan with its bounds where the stated error rates are just kept, or None where it cannot keep them.

    A bound closer by only makes its own error likelier, and the other's a little rarer; so each is halved in on in turn.
    Several starts, since on a lattice of outcomes they may end in different places; the fewest runs on average wins.
    """
    best: tuple[float, SprtPlan] | None = None
    wide = plan.upper - plan.lower
    for turns in ("ulu", "lul"):
        upper, lower = plan.upper + 0.5 * wide, plan.lower - 0.5 * wide
        for turn in turns:
            far, near = (upper, 1e-6) if turn == "u" else (lower, -1e-6)
            for _ in range(16):
                middle = (far + near) / 2
                trial = _with(plan, middle if turn == "l" else lower, middle if turn == "u" else upper)
                good = trial.operating(plan.low).reject <= plan.alpha if turn == "u" else _misses(trial) <= plan.beta
                far, near = (middle, near) if good else (far, middle)
            upper, lower = (far, lower) if turn == "u" else (upper, far)
        trial = _with(plan, lower, upper)
        at_low, at_high = trial.operating(plan.low), trial.operating(plan.high)
        if at_low.reject > plan.alpha or at_high.accept > plan.beta:
            continue
        cost = at_low.expected / plan.wald_expected(plan.low) + at_high.expected / plan.wald_expected(plan.high)
        if best is None or cost < best[0]:
            best = cost, trial
    return best[1] if best else None


def _misses(plan: SprtPlan) -> float:
    return plan.operating(plan.high).accept


def _with(plan: SprtPlan, lower: float, upper: float) -> SprtPlan:
    return SprtPlan(plan.low, plan.high, plan.alpha, plan.beta, lower, upper, plan.most)


@dataclass
class Sprt:
    """A sequential test under way.

    Attributes:
        plan: What it tests.
        runs: Runs so far.
        failures: How many of them failed.
    """

    plan: SprtPlan
    runs: int = 0
    failures: int = 0
    _decision: Decision = field(default=Decision.CONTINUE, repr=False)

    def update(self, failed: bool) -> Decision:  # noqa: FBT001 - one run failed or it did not
        """Count one more run; says what is known now. A decision stands: runs after it are counted, but change nothing."""
        self.runs += 1
        self.failures += bool(failed)
        if self._decision is Decision.CONTINUE:
            self._decision = self.plan.decide(self.failures, self.runs)
        return self._decision

    @property
    def decision(self) -> Decision:
        """What is known so far."""
        return self._decision

    @property
    def rate(self) -> float:
        """Failures per run so far; 0 before the first."""
        return self.failures / self.runs if self.runs else 0.0

    def interval(self, confidence: float = 0.95, method: Method = "clopper-pearson") -> Interval:
        """The interval of the rate so far. It takes no account of when the test stopped."""
        return interval(self.failures, self.runs, confidence=confidence, method=method)

    def expected_left(self, rate: float | None = None) -> float:
        """How many more runs to expect: at that rate, or at the one seen so far (with one passed run added, so that a first
        failure does not say 100 %).
        """
        if self._decision is not Decision.CONTINUE:
            return 0.0
        seen = self.failures / (self.runs + 1) if rate is None else rate
        return self.plan.operating(seen, failures=self.failures, runs=self.runs).expected
