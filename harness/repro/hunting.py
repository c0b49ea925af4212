"""How a bisection is told: a line per run, a table with a bar per release, the answer in words. Text only, no I/O."""

from __future__ import annotations

from pathlib import Path

from harness.errors import Verdict
from harness.history.intervals import percent
from harness.repro.bisecting import Hunt
from harness.repro.outcomes import Outcome

_BAR = 30
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def plan_lines(hunt: Hunt, origin: str, before: str) -> list[str]:
    """What is about to be done."""
    count = len(hunt.releases)
    lines = [f"{count} releases from {hunt.good} (good) to {hunt.bad} (bad), by {origin}: {', '.join(hunt.releases)}"]
    if before:
        lines.append(f"an upgrade to {hunt.good} comes from {before}")
    if count == 2:
        lines.append("there is none between them: this only checks that the one is good and the other bad")
    known = "as counted" if hunt.prior.counted else "supposed"
    lines.append(
        f"until one release is {hunt.sure:.0%} likely to be the first bad one; rate {percent(hunt.prior.rate)} ({known}); "
        f"at most {hunt.most} runs"
    )
    if hunt.ends:
        lines.append(
            f"the ends first: {hunt.bad} until it fails, which at that rate it does within {hunt.bad_runs} runs in {hunt.sure:.0%} of all "
            "cases"
        )
    if hunt.cause:
        lines.append(f"only failures by {hunt.cause} count")
    return lines


def run_line(hunt: Hunt, release: str, outcome: Outcome, *, counts: bool) -> str:
    """What one run came to, and how it stands after it."""
    best, probability = hunt.best
    first = outcome.error.strip().split("\n", 1)[0][:120]
    if counts and outcome.failed:
        said = f"FAILED: {outcome.cause or first}"
    elif counts:
        said = "passed"
    elif outcome.failed:
        said = f"failed by another cause, does not count: {outcome.cause or first}"
    elif outcome.verdict is Verdict.SKIPPED:
        said = f"is skipped and left out: {first}"
    else:
        said = f"{outcome.verdict.value}, does not count: {first}"
    number = len(hunt.outcomes)
    return f"run {number:>3}  {release}  {said}   -> {best} {probability:.0%}"


def table(hunt: Hunt, *, now: str = "") -> list[str]:
    """A line per release: its probability to be the first bad one, as a number and as a bar; failures of runs.

    Args:
        hunt: How it stands.
        now: The release that is run at the moment.
    """
    width = max(len(release) for release in (*hunt.releases, "release"))
    lines = [f"  {'release':<{width}}  first bad  {'':<{_BAR}}  failed"]
    for release, probability in hunt.bisection.posterior.items():
        failures, runs = hunt.bisection.counts(release)
        mark = ">" if release == now else " "
        told = f"{failures}/{runs}" if runs else "-"
        lines.append(f"{mark} {release:<{width}}  {probability:>8.1%}  {bar(probability):<{_BAR}}  {told}")
    return lines


def bar(probability: float, width: int = _BAR) -> str:
    """A bar of at most `width` characters; what is above nothing is never drawn as nothing."""
    eighths = round(probability * width * 8)
    if probability > 0.005:
        eighths = max(1, eighths)
    full, rest = divmod(min(eighths, width * 8), 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).rstrip()


def verdict_lines(hunt: Hunt, *, folder: Path, seconds: float, simulated: bool) -> list[str]:
    """The answer, how sure it is, what it rests on."""
    best, probability = hunt.best
    runs = hunt.bisection.runs
    if hunt.answer is not None:
        head = f"first bad release: {hunt.answer} ({probability:.1%} likely, after {runs} runs)"
    elif not runs:
        head = f"undecided: {hunt.stopped}"
    else:
        head = f"undecided after {runs} runs: {hunt.stopped}; the likeliest is {best} ({probability:.1%})"
    lines = [head]
    failures, since, bounds = hunt.rate()
    if runs and since:
        lines.append(
            f"from {best} on: {failures} of {since} runs failed, {percent(failures / since)} "
            f"({bounds.method} {bounds.confidence:.0%}: {percent(bounds.low)} to {percent(bounds.high)})"
        )
    if hunt.causes:
        lines.append("causes: " + ", ".join(f"{code} ({count})" for code, count in hunt.causes[:5]))
    apart = len(hunt.outcomes) - runs
    if apart:
        lines.append(f"not counted: {apart} more runs (broken by the environment, skipped, or another cause)")
    lines += [f"note: {warning}" for warning in dict.fromkeys(hunt.warnings)]
    failed = [outcome for _, outcome, counts in hunt.outcomes if counts and outcome.failed and outcome.case]
    if failed:
        lines.append(f"a failure: {failed[0].case}")
    lines.append(f"{seconds / max(1, len(hunt.outcomes)):.0f} s per run; case files: {folder}")
    if simulated:
        lines.append("SIMULATED: no real Mac took part; this says nothing about a release")
    return lines
