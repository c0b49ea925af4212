"""What is asked of a scenario that is run again and again, when that is answered, and how sure the answer is. Pure.

Three questions: is the failure rate low or high (a sequential test, which stops as soon as it is sure); what do N cycles
show; and when does it fail for the first time.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from harness.errors import UsageError
from harness.history.intervals import percent, plural, runs_missing, runs_needed, upper_bound
from harness.history.sequential import Decision, SprtPlan, plan_sprt

DEFAULT_RATE = 0.05
DEFAULT_SURE = 0.95
FINE_SHARE = 5
"""By default a rate counts as fine that is so many times lower than the one that is asked about."""


class Answer(enum.StrEnum):
    """What the cycles say about the scenario."""

    ACCEPTED = "accepted"
    FAILING = "failing"
    UNDECIDED = "undecided"

    @property
    def exit_code(self) -> int:
        """Of `sysext repro`."""
        return {Answer.ACCEPTED: 0, Answer.FAILING: 1, Answer.UNDECIDED: 3}[self]


class Question(ABC):
    """When to stop, and what it then means.

    Attributes:
        sure: The confidence of what is said.
        most: The number of cycles after which it ends in any case; None for never.
    """

    sure: float
    most: int | None

    @abstractmethod
    def lines(self) -> list[str]:
        """What is tested, in words, before the first cycle."""

    @abstractmethod
    def answer(self, failures: int, runs: int) -> Answer | None:
        """None: go on."""

    @abstractmethod
    def so_far(self, failures: int, runs: int) -> Answer:
        """What may be said if it is broken off here."""

    @abstractmethod
    def left(self, failures: int, runs: int) -> float | None:
        """How many more cycles to expect; None where nobody can know."""

    @abstractmethod
    def because(self, failures: int, runs: int) -> str:
        """Why the answer is what it is, one sentence."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """For the report."""


class Sequential(Question):
    """Wald's test, with bounds that keep the stated error rates exactly (`harness.history.sequential`).

    Args:
        rate: A failure rate that is not acceptable.
        sure: One minus either error rate.
        fine: A rate that is acceptable; a fifth of `rate` by default.

    Raises:
        UsageError: Rates or confidence that make no test.
    """

    def __init__(
        self,
        rate: float = DEFAULT_RATE,
        *,
        sure: float = DEFAULT_SURE,
        fine: float | None = None,
        most: int | None = None,
    ) -> None:
        _check(rate, sure)
        self.sure = sure
        error = round(1 - sure, 12)
        self.plan: SprtPlan = plan_sprt(
            fine if fine is not None else rate / FINE_SHARE, rate, alpha=error, beta=error, most=most
        )
        self.most = self.plan.most

    def lines(self) -> list[str]:
        """See `Question`."""
        plan = self.plan
        wrong = percent(plan.alpha)
        usual = [f"{plan.operating(rate).expected:.0f} at {percent(rate)}" for rate in self._shown]
        return [
            (
                f"Is it failing? A failure rate of {percent(plan.low)} or less is fine, one of {percent(plan.high)} or more is not "
                "(sequential probability ratio test)."
            ),
            (
                f"Of scenarios at {percent(plan.low)} at most {wrong} are called failing, of those at {percent(plan.high)} at most "
                f"{percent(plan.beta)} are accepted; in between it may say either."
            ),
            (
                f"Cycles to expect, by the true rate: {plan.operating(0.0).expected:.0f} if it never fails, {', '.join(usual)}; "
                f"never more than {plan.most}."
            ),
        ]

    @cached_property
    def _shown(self) -> list[float]:
        return [self.plan.low, self.plan.high, *([0.2] if self.plan.high < 0.15 else [min(0.9, 2 * self.plan.high)])]

    def answer(self, failures: int, runs: int) -> Answer | None:
        """See `Question`."""
        decision = self.plan.decide(failures, runs)
        if decision is Decision.CONTINUE:
            return None
        return Answer.FAILING if decision is Decision.REJECT else Answer.ACCEPTED

    def so_far(self, failures: int, runs: int) -> Answer:
        """See `Question`."""
        return self.answer(failures, runs) or Answer.UNDECIDED

    def left(self, failures: int, runs: int) -> float:
        """See `Question`; at the rate seen so far, with one clean cycle added."""
        return self.plan.operating(failures / (runs + 1), failures=failures, runs=runs).expected

    def because(self, failures: int, runs: int) -> str:
        """See `Question`."""
        seen = _seen(failures, runs)
        found = self.answer(failures, runs)
        if found is None:
            return f"{seen}: too few to tell {percent(self.plan.low)} from {percent(self.plan.high)}"
        side = f"{percent(self.plan.high)} or more" if found is Answer.FAILING else f"{percent(self.plan.low)} or less"
        wrong = percent(self.plan.alpha if found is Answer.FAILING else self.plan.beta)
        return f"{seen}: that speaks for a rate of {side} (the test is wrong at most {wrong} of the time)"

    def as_dict(self) -> dict[str, Any]:
        """See `Question`."""
        plan = self.plan
        return {
            "test": "sequential probability ratio test",
            "fine": plan.low,
            "rate": plan.high,
            "alpha": plan.alpha,
            "beta": plan.beta,
            "most": plan.most,
            "expected": {f"{rate:g}": round(plan.operating(rate).expected, 2) for rate in (0.0, *self._shown)},
        }


class Fixed(Question):
    """So many cycles, all of them: what do they show about a rate?

    Raises:
        UsageError: No cycle at all, or rates that make no test.
    """

    def __init__(self, cycles: int, *, rate: float = DEFAULT_RATE, sure: float = DEFAULT_SURE) -> None:
        _check(rate, sure)
        if cycles < 1:
            raise UsageError("one cycle or more", seen=str(cycles), hint="--cycles 59 shows less than 5 % at 95 %")
        self.most: int = cycles
        self.rate, self.sure = rate, sure

    def lines(self) -> list[str]:
        """See `Question`."""
        needed = runs_needed(self.rate, self.sure)
        all_of = plural(self.most, "cycle") + (", all of them" if self.most > 1 else "")
        goal = f"a failure rate below {percent(self.rate)} at {percent(self.sure)}"
        words = [f"{all_of}. {needed} clean {'one shows' if needed == 1 else 'ones show'} {goal}."]
        if self.most < needed:
            reached = percent(upper_bound(0, self.most, self.sure))
            few = (
                "1 is too few for that: clean it shows"
                if self.most == 1
                else f"{self.most} are too few for that: if all are clean they show"
            )
            words.append(f"{few} less than {reached}.")
        return words

    def answer(self, failures: int, runs: int) -> Answer | None:
        """See `Question`."""
        return self._shown(failures, runs) if runs >= self.most else None

    def so_far(self, failures: int, runs: int) -> Answer:
        """See `Question`. The bounds hold for a number that was fixed beforehand: broken off early (when it looked good, perhaps)
        it says only what the cycles left out could not have changed.
        """
        missing = max(0, self.most - runs)
        best, worst = self._shown(failures, self.most), self._shown(failures + missing, self.most)
        return best if best is worst else Answer.UNDECIDED

    def _shown(self, failures: int, runs: int) -> Answer:
        """One-sided Clopper-Pearson bounds against the rate."""
        if not runs:
            return Answer.UNDECIDED
        if upper_bound(failures, runs, self.sure) < self.rate:
            return Answer.ACCEPTED
        least = 1 - upper_bound(runs - failures, runs, self.sure)
        return Answer.FAILING if failures and least > self.rate else Answer.UNDECIDED

    def left(self, failures: int, runs: int) -> float:  # noqa: ARG002 - what came of them changes nothing
        """See `Question`."""
        return float(max(0, self.most - runs))

    def because(self, failures: int, runs: int) -> str:
        """See `Question`."""
        seen = _seen(failures, runs)
        if not runs:
            return f"{seen}: nothing is known"
        found, at = self.so_far(failures, runs), f"at {percent(self.sure)} (Clopper-Pearson, one-sided)"
        if found is Answer.ACCEPTED:
            return f"{seen}: the rate is below {percent(upper_bound(failures, runs, self.sure))} {at}"
        if found is Answer.FAILING:
            return f"{seen}: the rate is above {percent(1 - upper_bound(runs - failures, runs, self.sure))} {at}"
        if runs < self.most:
            return f"{seen}, and of {self.most} that were to be run the others may still show either"
        missing = runs_missing(failures, runs, self.rate, self.sure)
        return f"{seen}: {plural(missing, 'more clean one')} would show a rate below {percent(self.rate)} {at}"

    def as_dict(self) -> dict[str, Any]:
        """See `Question`."""
        return {"test": "fixed number", "cycles": self.most, "rate": self.rate, "confidence": self.sure}


class UntilFail(Question):
    """Until it fails for the first time."""

    def __init__(self, most: int | None = None, *, sure: float = DEFAULT_SURE) -> None:
        if most is not None and most < 1:
            raise UsageError("one cycle or more", seen=str(most))
        _check(DEFAULT_RATE, sure)
        self.most, self.sure = most, sure

    def lines(self) -> list[str]:
        """See `Question`."""
        limit = "" if self.most is None else f", {plural(self.most, 'cycle')} at most"
        return [
            f"Until the first failure{limit}. At a rate of 5 % that takes 20 cycles on average, 59 in one of 20 cases."
        ]

    def answer(self, failures: int, runs: int) -> Answer | None:
        """See `Question`."""
        if failures:
            return Answer.FAILING
        return Answer.UNDECIDED if self.most is not None and runs >= self.most else None

    def so_far(self, failures: int, runs: int) -> Answer:  # noqa: ARG002 - any number of clean ones leaves it open
        """See `Question`."""
        return Answer.FAILING if failures else Answer.UNDECIDED

    def left(self, failures: int, runs: int) -> float | None:
        """See `Question`."""
        if failures:
            return 0.0
        return None if self.most is None else float(max(0, self.most - runs))

    def because(self, failures: int, runs: int) -> str:
        """See `Question`."""
        if failures:
            return f"cycle {runs} failed" if failures == 1 else _seen(failures, runs)
        if not runs:
            return "no cycle was run to its end"
        return f"none of {plural(runs, 'cycle')} failed: the rate is below {percent(upper_bound(0, runs, self.sure))} at {percent(self.sure)}"

    def as_dict(self) -> dict[str, Any]:
        """See `Question`."""
        return {"test": "until it fails", "most": self.most}


def _seen(failures: int, runs: int) -> str:
    return f"{failures} of {plural(runs, 'cycle')} failed" if runs else "no cycle was run to its end"


def _check(rate: float, sure: float) -> None:
    if not 0 < rate < 1 or not math.isfinite(rate):
        raise UsageError("a failure rate between 0 and 1", seen=f"{rate:g}", hint="--rate 0.05 is 5 %")
    if not 0.5 < sure < 1:
        raise UsageError("a confidence above 0.5 and below 1", seen=f"{sure:g}", hint="--sure 0.95 is usual")
