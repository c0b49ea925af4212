"""One cycle: what it came to, as the one who decides needs it. Plain data that crosses a pipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.errors import Verdict

FAILED = (Verdict.PRODUCT_FAILURE, Verdict.KNOWN_ISSUE)
"""Verdicts that count as a failure of the product: a known issue is one that has a name."""
COUNTED = (Verdict.PASSED, *FAILED)
"""Verdicts that say something about the product. The others are told, and their cycle is run again."""
UNNAMED = "no cause named"


@dataclass(frozen=True)
class Outcome:
    """What one attempt of one cycle came to.

    Attributes:
        cycle: Its number, from 1, in the order in which cycles were begun.
        attempt: 1; more where the environment broke the attempts before it.
        item: Which of the chosen scenarios it ran, from 0.
        nodeid: pytest's, without the cycle.
        verdict: As everywhere.
        cause: The cause that triage proved, or "".
        error: What the failure says, its first line.
        case: The case file's folder; "" if there is none.
        seconds: Wall time of the attempt.
        kept: Its Mac was kept running.
        notes: What else is worth telling: "the Mac of the cycle before".
    """

    cycle: int
    attempt: int
    item: int
    nodeid: str
    verdict: Verdict
    cause: str = ""
    error: str = ""
    case: str = ""
    seconds: float = 0.0
    kept: bool = False
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure of the product."""
        return self.verdict in FAILED

    @property
    def counts(self) -> bool:
        """Whether it says anything about the product."""
        return self.verdict in COUNTED

    @property
    def reason(self) -> str:
        """The code of the cause, or what there is in its place."""
        return self.cause or UNNAMED

    def as_dict(self) -> dict[str, Any]:
        """For JSON and the pipe."""
        return {**asdict(self), "verdict": self.verdict.value}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Outcome:
        """What `as_dict` wrote."""
        return cls(**{**data, "verdict": Verdict(data["verdict"]), "notes": tuple(data.get("notes", ()))})


@dataclass(frozen=True)
class CauseRow:
    """A line of the table of causes."""

    code: str
    count: int
    cases: tuple[str, ...] = field(default=())


def causes(outcomes: Iterable[Outcome]) -> list[CauseRow]:
    """The causes of the failures among these, the most frequent first."""
    failures = [outcome for outcome in outcomes if outcome.failed]
    counts = Counter(outcome.reason for outcome in failures)
    return [
        CauseRow(code, count, tuple(one.case for one in failures if one.reason == code and one.case))
        for code, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
