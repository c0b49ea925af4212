"""Which cycle comes next, and when it is enough.

Cycles run side by side end in another order than they began, and a failing one takes longer: who counted them as they end
would see the quick clean ones first, and stop too early. So a cycle counts only when all that began before it have counted,
and what comes after the deciding one does not count at all.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from harness.errors import UsageError, Verdict
from harness.history.intervals import Interval, clopper_pearson
from harness.repro.outcomes import CauseRow, Outcome, causes
from harness.repro.questions import Answer, Question

ATTEMPTS = 3
"""A cycle that says nothing about the product (the environment broke, the harness did) is begun so often at most."""


@dataclass(frozen=True)
class Draw:
    """A cycle to run now."""

    cycle: int
    attempt: int
    item: int


class Decider:
    """Takes outcomes in any order, counts them in the order of their beginning, and says when to stop.

    Attributes:
        question: What is asked.
        answer: None until it is answered, or until it cannot be.
        why: One sentence for the answer.
        counted: The outcomes that count, in order.
        disturbed: Attempts that say nothing about the product: told, never counted.
        late: Cycles that had begun after the deciding one: told, never counted.
    """

    def __init__(self, question: Question, *, items: int = 1) -> None:
        self.question = question
        self.answer: Answer | None = None
        self.why = ""
        self.counted: list[Outcome] = []
        self.disturbed: list[Outcome] = []
        self.late: list[Outcome] = []
        self.skipped: dict[int, Outcome] = {}
        self.items = items
        self._drawn = 0
        self._again: list[tuple[int, int]] = []
        self._waiting: dict[int, Outcome] = {}

    @property
    def runs(self) -> int:
        """Cycles that count."""
        return len(self.counted)

    @property
    def failures(self) -> int:
        """Those of them that failed."""
        return sum(outcome.failed for outcome in self.counted)

    @property
    def interval(self) -> Interval:
        """Of the failure rate, by Clopper and Pearson. It takes no account of when the test stopped."""
        return clopper_pearson(self.failures, self.runs, self.question.sure)

    @property
    def causes(self) -> list[CauseRow]:
        """Of the failures that count."""
        return causes(self.counted)

    def draw(self) -> Draw | None:
        """The next cycle to begin; None if there is none for now. Those to be repeated come first."""
        if self.answer is not None:
            return None
        if self._again:
            cycle, attempt = heapq.heappop(self._again)
            return Draw(cycle, attempt, self._item(cycle))
        if self.question.most is not None and self._drawn >= self.question.most:
            return None
        self._drawn += 1
        return Draw(self._drawn, 1, self._item(self._drawn))

    def add(self, outcome: Outcome) -> Answer | None:
        """Take what a cycle came to; says whether that is enough.

        Raises:
            UsageError: Every chosen scenario skips itself, and none was ever run: there is nothing to repeat.
        """
        if self.answer is not None:
            self.late.append(outcome)
        elif outcome.verdict is Verdict.SKIPPED:
            self._skip(outcome)
        elif not outcome.counts:
            self._repeat(outcome)
        else:
            self._waiting[outcome.cycle] = outcome
            self._count()
        return self.answer

    def stop(self, why: str) -> Answer:
        """Break off: the answer is what is known by now."""
        if self.answer is None:
            self.answer = self.question.so_far(self.failures, self.runs)
            known = self.question.because(self.failures, self.runs)
            self._finish(f"{why}; {known}" if why else known)
        return self.answer

    def _count(self) -> None:
        while self.answer is None and (outcome := self._waiting.pop(len(self.counted) + 1, None)) is not None:
            self.counted.append(outcome)
            self.answer = self.question.answer(self.failures, self.runs)
            if self.answer is not None:
                self._finish(self.question.because(self.failures, self.runs))

    def _repeat(self, outcome: Outcome) -> None:
        self.disturbed.append(outcome)
        if outcome.attempt < ATTEMPTS:
            heapq.heappush(self._again, (outcome.cycle, outcome.attempt + 1))
            return
        who = "the environment" if outcome.verdict is Verdict.ENVIRONMENT_FAILURE else "a mistake of the harness"
        self.stop(f"cycle {outcome.cycle} was broken by {who} {outcome.attempt} times: {outcome.error[:200]}")

    def _skip(self, outcome: Outcome) -> None:
        self.skipped[outcome.item] = outcome
        if len(self.skipped) < self.items:
            heapq.heappush(self._again, (outcome.cycle, outcome.attempt))
            return
        if self.counted or self._waiting:  # it ran before: what those cycles said is not lost
            self.stop(f"{outcome.nodeid} skips itself by now: {outcome.error or 'no reason given'}"[:300])
            return
        raise UsageError(
            "a scenario that runs",
            seen=f"{outcome.nodeid} is skipped: {outcome.error or 'no reason given'}",
            hint="choose another scenario, app or macOS version",
        )

    def _item(self, cycle: int) -> int:
        """The chosen scenarios take turns; those that skip themselves are left out."""
        left = [item for item in range(self.items) if item not in self.skipped]
        return left[(cycle - 1) % len(left)]

    def _finish(self, why: str) -> None:
        self.why = why
        self.late += [self._waiting.pop(cycle) for cycle in sorted(self._waiting)]
