"""Which release brought a fault that only shows now and then: what to run next, when to stop, what was found. Pure.

    hunt = Hunt(["0.11.1", "0.11.2", …, "0.11.5"], sure=0.95)
    while releases := hunt.batch(4):         # to run at once; hunt.next() is one alone
        for release in releases:
            hunt.take(release, outcome)      # of one fresh run of it
    hunt.answer, hunt.stopped

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
from harness.history.intervals import percent, plural
from harness.history.statistics import Bisection, Interval, interval
from harness.repro.outcomes import UNNAMED, Outcome

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
        moot: It ended because an end is not what it was said to be: more runs would not help.
        warnings: What makes the answer doubtful.

    Raises:
        UsageError: There is nothing to find out, or nothing to go by.
    """

    releases: Sequence[str]
    sure: float = DEFAULT_SURE
    prior: Prior = Prior()
    cause: str = ""
    most: int = DEFAULT_MOST
    ends: bool = True
    outcomes: list[tuple[str, Outcome, bool]] = field(default_factory=list)
    stopped: str = ""
    moot: bool = False
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bisection = Bisection(self.releases, sure=self.sure, prior=self.prior.beta)
        self._left_out: set[str] = set()
        self._broken = 0
        self._passed_over = 0
        if len(self.releases) == 2 and not self.ends:
            raise UsageError(
                "a release between the ends, or a look at these",
                seen=f"{self.good} and {self.bad} with none between them, and --no-ends: nothing would be run",
                hint="leave --no-ends out, or name those between: --release-list A,B,C",
            )

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

    @property
    def doubted(self) -> bool:
        """Whether nothing speaks for the bad end being bad, but that somebody said so: it was neither counted before nor seen."""
        return self.ends and not self._counted_before and not self.bisection.counts(self.bad)[0]

    @property
    def weighs(self) -> bool:
        """Whether the probabilities say anything: there is a choice, and the bad end does fail."""
        return len(self.releases) > 2 and not self.doubted

    def next(self) -> str | None:
        """The release to run next; None when it is over (`answer` or `stopped` say how)."""
        if self.stopped:
            return None
        end = self._end_to_see(()) if self.ends else None
        if end is None and self.doubted:
            self._stop(self._never_failed(), moot=True)
        elif end is None and self.answer is not None:
            return None
        elif self._passed_over >= PASSED_OVER:
            self._stop(
                f"{self._passed_over} failures in a row were by another cause than {self.cause}; is it that code?"
            )
        elif self.bisection.runs >= self.most:
            self._stop(self._spent())
        elif (release := end or self._most_telling(())) is not None:
            return release
        else:
            self._stop("no release can be run")
        return None

    def batch(self, jobs: int) -> list[str]:
        """The releases to run next, up to `jobs` of them at once; none when it is over.

        Each is chosen without knowing what those before it come to. All of a batch are to be run to their ends and taken: where
        failing takes longer than passing, to stop at the first that come back would count too few failures.
        """
        first = self.next()
        chosen = [first] if first is not None else []
        while chosen and len(chosen) < min(jobs, self.most - self.bisection.runs):
            more = self._beside(chosen)
            if more is None:
                break
            chosen.append(more)
        return chosen

    def stop(self, why: str) -> None:
        """It was broken off from outside; an answer that is there already stays."""
        if self.next() is not None:
            self._stop(why)

    def take(self, release: str, outcome: Outcome) -> bool:
        """Count a run; False if it does not count (the environment broke it, another cause, skipped)."""
        counts = outcome.counts and not (outcome.failed and self.cause and outcome.cause != self.cause)
        self.outcomes.append((release, outcome, counts))
        self._passed_over = 0 if counts else self._passed_over + (outcome.counts and outcome.failed)
        if outcome.verdict is Verdict.SKIPPED:
            self._left_out.add(release)
            why = f"cannot be run: {_first_line(outcome.error) or 'the scenario skips it'}"
            self.warnings.append(f"{release} {why}")
            if release == self.bad and self.doubted:
                self._stop(f"{release} (the bad end) {why}", moot=True)
        elif not outcome.counts:
            self._broken += 1
            if self._broken >= BROKEN_IN_A_ROW:
                self._stop(f"{self._broken} runs in a row said nothing about the app: {_first_line(outcome.error)}")
        if not counts:
            return False
        self._broken = 0
        self.bisection.update(release, outcome.failed)
        if release == self.good and outcome.failed:
            self._good_failed(outcome)
        return True

    def _good_failed(self, outcome: Outcome) -> None:
        known = {one.cause for at, one, counts in self.outcomes if at == self.bad and counts and one.failed}
        same = outcome.cause in known or not known
        if self.ends and same:
            self._stop(
                f"{self.good} (the good end) fails as well ({outcome.reason}): the fault is older than that; take an older --good",
                moot=True,
            )
        elif self.ends and self.bisection.counts(self.good) == (GOOD_RUNS, GOOD_RUNS):
            seen = sorted(known)[0] or UNNAMED
            self._stop(
                f"{self.good} (the good end) failed in {GOOD_RUNS} of {GOOD_RUNS} runs, too, though by another cause "
                f"({outcome.reason}, not {seen}): look for one cause alone, --cause CODE",
                moot=True,
            )
        elif same:
            self.warnings.append(f"{self.good} (the good end) failed as well ({outcome.reason}); take an older --good")
        else:
            self.warnings.append(
                f"{self.good} failed with another cause ({outcome.reason}); --cause CODE counts one only"
            )

    def _end_to_see(self, pending: Sequence[str]) -> str | None:
        """The end that has to be looked at still, beside those that are being looked at."""
        if self.doubted:
            runs = self.bisection.counts(self.bad)[1] + pending.count(self.bad)
            return self.bad if runs < self.bad_runs else None
        runs = self.bisection.counts(self.good)[1] + pending.count(self.good)
        return self.good if runs < GOOD_RUNS and self.good not in self._left_out else None

    def _beside(self, pending: Sequence[str]) -> str | None:
        """What to run beside these; None where it is best to wait for what they come to."""
        if self.ends and (end := self._end_to_see(pending)) is not None:
            return end
        return None if self.doubted or self.answer is not None else self._most_telling(pending)

    def _most_telling(self, pending: Sequence[str]) -> str | None:
        gains = self.bisection.gains(pending)
        choice = [place for place, release in enumerate(self.releases) if release not in self._left_out]
        return self.releases[max(choice, key=lambda place: gains[place])] if choice else None

    def _stop(self, why: str, *, moot: bool = False) -> None:
        """The first reason is the one that is told."""
        if not self.stopped:
            self.stopped, self.moot = why, moot

    def _never_failed(self) -> str:
        runs = self.bisection.counts(self.bad)[1]
        by = f" by {self.cause}" if self.cause else ""
        chance = percent((1 - self.prior.rate) ** runs)
        return (
            f"{self.bad} (the bad end) was never seen to fail{by} in {plural(runs, 'run')}: if it failed at {percent(self.prior.rate)}, "
            f"so many clean runs would come about in {chance} of all cases. Is it this scenario, on this macOS? For a rarer fault say so: "
            f"--prior-rate {min(self.prior.rate / 4, 0.05):.2g}"
        )

    def _spent(self) -> str:
        spent = f"{plural(self.most, 'run')} (--most)"
        if self.doubted:
            return f"{self.bad} (the bad end) was not seen to fail within {spent}; that may take {plural(self.bad_runs, 'run')}"
        if self.answer is not None:
            return f"{self.good} (the good end) could not be looked at within {spent}"
        if not any(counts and one.failed for _, one, counts in self.outcomes):
            return f"{spent} saw no failure at all: is {self.bad} bad, with this scenario on this macOS?"
        return f"{spent} did not make it {percent(self.sure)} sure"

    @property
    def _counted_before(self) -> bool:
        return self.prior.counted and self.prior.failures >= 1

    @property
    def answer(self) -> str | None:
        """The first bad release, if it is sure enough."""
        return None if self.stopped else self.bisection.answer

    @property
    def best(self) -> tuple[str, float]:
        """The likeliest and its probability (see `weighs`)."""
        return self.bisection.best

    @property
    def causes(self) -> list[tuple[str, int]]:
        """Of the failures that count, the most frequent first."""
        found = Counter(outcome.reason for _, outcome, counts in self.outcomes if counts and outcome.failed)
        return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))

    def rate(self) -> tuple[int, int, Interval]:
        """Failures and runs from the likeliest release on (where none is: of the bad end), and the interval of that rate."""
        place = list(self.releases).index(self.best[0] if self.weighs else self.bad)
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
            "best": best if self.weighs else self.answer,
            "probability": round(probability, 6) if self.weighs else None,
            "sure": self.sure,
            "stopped": self.stopped,
            "moot": self.moot,
            "warnings": self.warnings,
            "runs": self.bisection.runs,
            "not_counted": sum(not counts for _, _, counts in self.outcomes),
            "rate": {"failures": failures, "runs": runs, "low": rate.low, "high": rate.high, "method": rate.method},
            "causes": [{"code": code, "count": count} for code, count in self.causes],
            "releases": [
                {
                    "release": release,
                    "probability": round(posterior[release], 6) if self.weighs else None,
                    "failures": self.bisection.counts(release)[0],
                    "runs": self.bisection.counts(release)[1],
                }
                for release in self.releases
            ],
            "outcomes": [{"release": at, "counts": counts, **one.as_dict()} for at, one, counts in self.outcomes],
        }


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else ""
