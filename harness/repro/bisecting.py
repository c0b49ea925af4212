"""Which release brought a fault that only shows now and then: what to run next, when to stop, what was found. Pure.

    hunt = Hunt(["0.11.1", "0.11.2", …, "0.11.5"], sure=0.95)
    while (release := hunt.next()) is not None:
        hunt.take(release, outcome)          # of one fresh run of that release
    hunt.answer, hunt.because

The ends come first: the bad one until it has failed once (else the question is moot), the good one a few times. Then each run is
where it is expected to tell the most (`harness.history.bisecting`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UsageError, Verdict
from harness.history.statistics import Bisection, Interval, interval
from harness.repro.outcomes import Outcome

DEFAULT_SURE = 0.95
DEFAULT_MOST = 400
SUPPOSED_RATE = 0.2
"""Where nobody says how often it fails: how many clean runs of the bad end are too many goes by that."""
GOOD_RUNS = 2
"""Of the good end, before it is believed. A fault of 20 % would slip through 2 runs in 64 %; but those runs count like all others,
and more of them are made where they tell more."""
TRUST = 10
"""Runs that a rate without a number of runs stands for."""
BROKEN_IN_A_ROW = 5
"""Runs in a row that say nothing about the app, after which it is given up."""
PASSED_OVER = 20
"""Failures in a row by another cause than the one that counts, after which it is given up: it might never end."""


@dataclass(frozen=True)
class Prior:
    """What is known of the failure rate of the bad release beforehand.

    Attributes:
        failures: So many failures (may be a fraction: a rate times the runs it stands for) …
        runs: … among so many runs.
    """

    failures: float = 0.0
    runs: float = 0.0
    counted: bool = False
    """These runs were made; else it is a guess."""

    @classmethod
    def parse(cls, text: str) -> Prior:
        """`0.2` or `20%` (a guess), or `7/35` (failures/runs, counted).

        Raises:
            UsageError: Neither.
        """
        counted = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if counted is not None and 0 <= int(counted[1]) <= int(counted[2]) and int(counted[2]) > 0:
            return cls(int(counted[1]), int(counted[2]), counted=True)
        match = re.fullmatch(r"(\d{0,6}\.?\d{0,12})(%?)", text.strip())
        try:
            rate = float(match[1]) / (100 if match[2] else 1) if match is not None else -1.0
        except ValueError:
            rate = -1.0
        if counted is not None or not 0 < rate < 1:
            raise UsageError(
                "a failure rate as 0.2, 20% or failures/runs as 7/35", seen=repr(text), hint="--prior-rate 0.2"
            )
        return cls(rate * TRUST, TRUST)

    @property
    def rate(self) -> float:
        """The rate to go by: the supposed one where nothing is known."""
        known = self.failures / self.runs if self.runs and self.failures else SUPPOSED_RATE
        return min(0.99, max(1e-6, known))

    @property
    def beta(self) -> tuple[float, float]:
        """For `Bisection.prior`."""
        return 1.0 + self.failures, 3.0 + self.runs - self.failures


@dataclass
class Hunt:
    """A bisection under way.

    Attributes:
        releases: Oldest first: the good end … the bad end.
        sure: The probability at which a release is named.
        prior: What is known of the rate.
        cause: Count only failures with this cause; others are told.
        most: Runs that count, after which it ends in any case.
        ends: Look at the ends first.
        outcomes: Every run so far: release, what it came to, whether it counts.
        stopped: Why it ended without an answer; "" while it has not.
        warnings: What makes the answer doubtful.
    """

    releases: Sequence[str]
    sure: float = DEFAULT_SURE
    prior: Prior = Prior()
    cause: str = ""
    most: int = DEFAULT_MOST
    ends: bool = True
    outcomes: list[tuple[str, Outcome, bool]] = field(default_factory=list)
    stopped: str = ""
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bisection = Bisection(self.releases, sure=self.sure, prior=self.prior.beta)
        self._left_out: set[str] = set()
        self._broken = 0
        self._passed_over = 0

    @property
    def good(self) -> str:
        """The good end."""
        return self.releases[0]

    @property
    def bad(self) -> str:
        """The bad end."""
        return self.releases[-1]

    @property
    def bad_runs(self) -> int:
        """Clean runs of the bad end after which it is not believed to be bad: at the rate to go by, one in twenty (with
        `sure` 0.95) would see so many.
        """
        return math.ceil(math.log(1 - self.sure) / math.log(1 - self.prior.rate))

    def next(self) -> str | None:
        """The release to run next; None when it is over (`answer` or `stopped` say how)."""
        if self.stopped or (self.answer is not None and self._ends_seen()):
            return None
        if self._passed_over >= PASSED_OVER:
            self.stopped = (
                f"{self._passed_over} failures in a row were by another cause than {self.cause}; is it that code?"
            )
            return None
        if self.bisection.runs >= self.most:
            self.stopped = f"{self.most} runs were not enough to be {self.sure:.0%} sure"
            return None
        if self.ends:
            release, self.stopped = self._end_to_see()
            if release is not None or self.stopped:
                return release
        gains = self.bisection.gains()
        choice = [place for place, release in enumerate(self.releases) if release not in self._left_out]
        if not choice:
            self.stopped = "no release can be run"
            return None
        return self.releases[max(choice, key=lambda place: gains[place])]

    def take(self, release: str, outcome: Outcome) -> bool:
        """Count a run; False if it does not count (the environment broke it, another cause, skipped)."""
        counts = outcome.counts and not (outcome.failed and self.cause and outcome.cause != self.cause)
        self.outcomes.append((release, outcome, counts))
        self._passed_over = 0 if counts else self._passed_over + (outcome.counts and outcome.failed)
        if outcome.verdict is Verdict.SKIPPED:
            self._left_out.add(release)
            self.warnings.append(f"{release} cannot be run: {_first_line(outcome.error) or 'the scenario skips it'}")
        elif not outcome.counts:
            self._broken += 1
            if self._broken >= BROKEN_IN_A_ROW:
                self.stopped = f"{self._broken} runs in a row said nothing about the app: {_first_line(outcome.error)}"
        if not counts:
            return False
        self._broken = 0
        self.bisection.update(release, outcome.failed)
        if release == self.good and outcome.failed:
            self._good_failed(outcome)
        return True

    def _good_failed(self, outcome: Outcome) -> None:
        known = {one.cause for at, one, counts in self.outcomes if at == self.bad and counts and one.failed}
        if self.ends and (outcome.cause in known or not known):
            self.stopped = f"{self.good} fails, too ({outcome.reason}): the fault is older; take an older --good"
        else:
            self.warnings.append(
                f"{self.good} failed with another cause ({outcome.reason}); --cause CODE counts one only"
            )

    def _ends_seen(self) -> bool:
        return not self.ends or self._end_to_see() == (None, "")

    def _end_to_see(self) -> tuple[str | None, str]:
        """The end that has to be looked at still, or why it makes no sense to go on: the bad one never fails."""
        failures, runs = self.bisection.counts(self.bad)
        if not failures and self.bad not in self._left_out and not self._counted_before:
            if runs < self.bad_runs:
                return self.bad, ""
            return None, (
                f"{self.bad} never failed in {runs} runs: if it failed at {self.prior.rate:.0%}, that would be seen in "
                f"{(1 - self.prior.rate) ** runs:.1%} of all cases; is it this scenario? a rarer fault: --prior-rate"
            )
        runs = self.bisection.counts(self.good)[1]
        return (self.good if runs < GOOD_RUNS and self.good not in self._left_out else None), ""

    @property
    def _counted_before(self) -> bool:
        return self.prior.counted and self.prior.failures >= 1

    @property
    def answer(self) -> str | None:
        """The first bad release, if it is sure enough."""
        return None if self.stopped else self.bisection.answer

    @property
    def best(self) -> tuple[str, float]:
        """The likeliest and its probability."""
        return self.bisection.best

    @property
    def causes(self) -> list[tuple[str, int]]:
        """Of the failures that count, the most frequent first."""
        found = Counter(outcome.reason for _, outcome, counts in self.outcomes if counts and outcome.failed)
        return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))

    def rate(self) -> tuple[int, int, Interval]:
        """Failures and runs from the likeliest release on, and the interval of that rate."""
        place = list(self.releases).index(self.best[0])
        counts = [self.bisection.counts(release) for release in self.releases[place:]]
        failures, runs = (sum(one) for one in zip(*counts, strict=True))
        return failures, runs, interval(failures, runs)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        failures, runs, rate = self.rate()
        posterior = self.bisection.posterior
        best, probability = self.best
        return {
            "schema": 1,
            "first_bad": self.answer,
            "best": best,
            "probability": round(probability, 6),
            "sure": self.sure,
            "stopped": self.stopped,
            "warnings": self.warnings,
            "runs": self.bisection.runs,
            "not_counted": sum(not counts for _, _, counts in self.outcomes),
            "rate": {"failures": failures, "runs": runs, "low": rate.low, "high": rate.high, "method": rate.method},
            "causes": [{"code": code, "count": count} for code, count in self.causes],
            "releases": [
                {
                    "release": release,
                    "probability": round(posterior[release], 6),
                    "failures": self.bisection.counts(release)[0],
                    "runs": self.bisection.counts(release)[1],
                }
                for release in self.releases
            ],
            "outcomes": [{"release": at, "counts": counts, **one.as_dict()} for at, one, counts in self.outcomes],
        }


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else ""
