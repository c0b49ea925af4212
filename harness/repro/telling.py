"""What `sysext repro` says: the line that lives while it runs, the report at its end, and the same as JSON."""

from __future__ import annotations

import contextlib
import shlex
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import Verdict
from harness.events import SECRETS
from harness.history.intervals import percent, plural
from harness.repro.deciding import Decider
from harness.repro.outcomes import Outcome, causes
from harness.repro.questions import Answer

SCHEMA = 1
METHOD = "Clopper-Pearson"
_CASES = 3
_ANSWERS = {
    Answer.ACCEPTED: "ACCEPTED",
    Answer.FAILING: "FAILING",
    Answer.UNDECIDED: "UNDECIDED",
}


class Live:
    """One line that says how it stands, redrawn on a terminal, printed anew elsewhere.

    Args:
        write: Takes text as it is to appear.
        terminal: It is a terminal: the line is redrawn.
        clock: Seconds.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        terminal: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._terminal = terminal
        self._clock = clock
        self._started = clock()
        self._shown = False

    def line(self, text: str) -> None:
        """A line that stays."""
        with contextlib.suppress(OSError):  # nobody looks any more: the run goes on
            self._write(("\r\x1b[K" if self._shown else "") + SECRETS.mask(_tame(text)) + "\n")
        self._shown = False

    def kept(self, text: str, masked: str) -> None:
        """How to reach a kept Mac: with its VNC password only where it is a terminal."""
        if not self._terminal:
            for line in masked.splitlines():
                self.line(line)
            if masked != text:
                self.line("  (the VNC password is shown on a terminal only: `sysext attach` there)")
            return
        for line in text.splitlines():  # unmasked: `line` would hide the password
            with contextlib.suppress(OSError):
                self._write(("\r\x1b[K" if self._shown else "") + _tame(line) + "\n")
            self._shown = False

    def outcome(self, decider: Decider, outcome: Outcome) -> None:
        """After each attempt."""
        told = tell_outcome(outcome)
        if told:
            self.line(told)
        text = status(decider, seconds=self._clock() - self._started)
        if self._terminal:
            with contextlib.suppress(OSError):
                self._write(f"\r\x1b[K{text}")
            self._shown = True
        else:
            self.line(text)

    def end(self) -> None:
        """Nothing is redrawn any more."""
        if self._shown:
            with contextlib.suppress(OSError):
                self._write("\r\x1b[K")
        self._shown = False


def tell_outcome(outcome: Outcome) -> str:
    """A line for an attempt that is not simply clean; "" for one that is."""
    if outcome.verdict is Verdict.PASSED:
        return ""
    case = f"  {outcome.case}" if outcome.case else ""
    first = outcome.error.strip().split("\n", 1)[0][:160]
    if outcome.failed:
        kept = " (its Mac is kept)" if outcome.kept else ""
        return f"cycle {outcome.cycle} FAILED{kept}: {outcome.cause or first}{case}"
    if outcome.verdict is Verdict.SKIPPED:
        return f"{outcome.nodeid} is skipped and left out: {first}"
    who = "the environment" if outcome.verdict is Verdict.ENVIRONMENT_FAILURE else "a mistake of the harness"
    return f"cycle {outcome.cycle}, attempt {outcome.attempt}: {who}, does not count: {first}{case}"


def status(decider: Decider, *, seconds: float) -> str:
    """The live line: failures, interval, what is left, top cause."""
    runs, failures = decider.runs, decider.failures
    if not runs:
        parts = ["no cycle has counted yet"]
    else:
        bounds = decider.interval
        parts = [
            f"{failures}/{runs} failed",
            (
                f"{percent(failures / runs)} ({METHOD} {percent(decider.question.sure)}: "
                f"{percent(bounds.low)} to {percent(bounds.high)})"
            ),
        ]
    if decider.disturbed:
        parts.append(f"{len(decider.disturbed)} not counted")
    if decider.answer is None and runs:
        left = decider.question.left(failures, runs)
        if left is not None:
            parts.append(f"about {left:.0f} more, {duration(left * seconds / runs)}")
    if decider.causes:
        top = decider.causes[0]
        parts.append(f"top cause {top.code} ({top.count})")
    return " · ".join(parts)


def report(decider: Decider, *, folder: Path, simulated: bool, same_mac: bool, seconds: float, jobs: int = 1) -> str:
    """What it came to, for people."""
    assert decider.answer is not None
    runs, failures, bounds = decider.runs, decider.failures, decider.interval
    lines = [f"{_ANSWERS[decider.answer]}: {decider.why}."]
    if runs:
        lines.append(
            f"Failure rate {percent(failures / runs)}, {METHOD} {percent(decider.question.sure)} interval {percent(bounds.low)} to "
            f"{percent(bounds.high)} (as if the number of cycles had been fixed)."
        )
        each = statistics.fmean(one.seconds for one in decider.counted)
        side = f", {jobs} side by side" if jobs > 1 else ""
        lines.append(
            f"{plural(runs, 'cycle')} in {duration(seconds)}, {each:.1f} s each{side}, {_macs(same_mac=same_mac)}."
        )
    by_item: dict[str, list[bool]] = {}
    for one in decider.counted:
        by_item.setdefault(one.nodeid, []).append(one.failed)
    if len(by_item) > 1:
        lines.append("By scenario (they took turns; the answer is about all of them together):")
        lines += [f"  {sum(failed)}/{len(failed)}  {nodeid}" for nodeid, failed in sorted(by_item.items())]
    rows = decider.causes
    if rows:
        width = max(len(row.code) for row in rows)
        lines.append("Causes:")
        for row in rows:
            cases = ", ".join(_short(case, folder) for case in row.cases[:_CASES])
            more = f", and {len(row.cases) - _CASES} more" if len(row.cases) > _CASES else ""
            lines.append(f"  {row.code:<{width}}  {row.count}  {cases}{more}")
    lines += _set_aside(decider)
    kept = [one for one in (*decider.counted, *decider.disturbed, *decider.late) if one.kept]
    for one in kept:
        lines.append(f"Kept Mac: sysext attach {shlex.quote(one.case)}")
    if rows and not kept and rows[0].cases:
        lines.append(f"Again: sysext replay {shlex.quote(rows[0].cases[0])}")
    lines.append(f"Case files: {folder}")
    if simulated:
        lines.append("SIMULATED: no real Mac took part; this says nothing about a release and cannot sign one off.")
    return "\n".join(SECRETS.mask(_tame(line)) for line in lines)


def as_dict(
    decider: Decider, *, folder: Path, simulated: bool, same_mac: bool, seconds: float, jobs: int
) -> dict[str, Any]:
    """The report for machines."""
    assert decider.answer is not None
    runs, bounds = decider.runs, decider.interval
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "answer": decider.answer.value,
        "exit_code": decider.answer.exit_code,
        "why": decider.why,
        "question": decider.question.as_dict(),
        "runs": runs,
        "failures": decider.failures,
        "interval": {
            "method": "clopper-pearson",
            "confidence": decider.question.sure,
            "low": bounds.low,
            "high": bounds.high,
        },
        "causes": [{"code": row.code, "count": row.count, "cases": list(row.cases)} for row in decider.causes],
        "simulated": simulated,
        "same_mac": same_mac,
        "jobs": jobs,
        "seconds": round(seconds, 3),
        "folder": str(folder),
        "cycles": [one.as_dict() for one in decider.counted],
        "not_counted": [one.as_dict() for one in decider.disturbed],
        "after_the_decision": [one.as_dict() for one in decider.late],
        "skipped": [one.as_dict() for one in decider.skipped.values()],
    }
    masked: dict[str, Any] = SECRETS.mask_all(data)
    return masked


def duration(seconds: float) -> str:
    """As people say it: "8 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _macs(*, same_mac: bool) -> str:
    return "the same Mac where it could be used again" if same_mac else "a fresh Mac each"


def _set_aside(decider: Decider) -> list[str]:
    lines = []
    for verdict, who in (
        (Verdict.ENVIRONMENT_FAILURE, "broken by the environment"),
        (Verdict.HARNESS_ERROR, "ended by a mistake of the harness"),
    ):
        those = [one for one in decider.disturbed if one.verdict is verdict]
        if those:
            cases = ", ".join(one.case or f"cycle {one.cycle}" for one in those[:_CASES])
            lines.append(f"Not counted, and run again: {len(those)} {who} ({cases})")
    lines += [f"Left out, skipped: {one.nodeid}: {one.error[:200]}" for one in decider.skipped.values()]
    if decider.late:
        failed = causes(decider.late)
        what = f", {sum(row.count for row in failed)} failed" if failed else ""
        lines.append(f"Not counted, begun after the deciding cycle: {len(decider.late)}{what}")
    return lines


def _short(case: str, folder: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(Path(case).relative_to(folder))
    return case


def _tame(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
