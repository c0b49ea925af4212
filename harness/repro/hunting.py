"""How a bisection is told: a line per run, a table with a bar per release, the answer in words. Text only, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import Verdict
from harness.history.intervals import percent, plural, upper_bound
from harness.repro.bisecting import Hunt
from harness.repro.outcomes import Outcome

_BAR = 30
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def plan_lines(hunt: Hunt, origin: str, before: str, *, jobs: int = 1) -> list[str]:
    """What is about to be done, so many runs at a time."""
    count = len(hunt.releases)
    lines = [f"{count} releases from {hunt.good} (good) to {hunt.bad} (bad), by {origin}: {', '.join(hunt.releases)}"]
    if before:
        lines.append(f"an upgrade to {hunt.good} comes from {before}")
    known = _known(hunt)
    goal = f"until one release is {percent(hunt.sure)} likely to be the first bad one"
    if count == 2:
        goal = "there is none between them: this only looks whether the one fails and the other does not"
    side = f", {jobs} at a time" if jobs > 1 else ""
    lines.append(f"{goal}; rate {percent(hunt.prior.rate)} ({known}); at most {plural(hunt.most, 'run')}{side}")
    if hunt.doubted:
        lines.append(
            f"the ends first: {hunt.bad} until it fails, which at that rate it does within {plural(hunt.bad_runs, 'run')} in "
            f"{percent(hunt.sure)} of all cases"
        )
        if hunt.most < hunt.bad_runs:
            lines.append(f"note: {plural(hunt.most, 'run')} (--most) may be too few to see it fail at all")
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
    return f"run {number:>3}  {release}  {said}" + (f"   -> {best} {probability:.0%}" if hunt.weighs else "")


def table(hunt: Hunt, *, now: Sequence[str] = ()) -> list[str]:
    """A line per release: its probability to be the first bad one, as a number and as a bar, where that says anything; failures
    of runs.

    Args:
        hunt: How it stands.
        now: The releases that are run at the moment.
    """
    width = max(len(release) for release in (*hunt.releases, "release"))
    lines = [f"  {'release':<{width}}  " + (f"first bad  {'':<{_BAR}}  failed" if hunt.weighs else "failed")]
    for release, probability in hunt.bisection.posterior.items():
        failures, runs = hunt.bisection.counts(release)
        mark = ">" if release in now else " "
        told = f"{failures}/{runs}" if runs else "-"
        weight = f"{probability:>8.1%}  {bar(probability):<{_BAR}}  " if hunt.weighs else ""
        lines.append(f"{mark} {release:<{width}}  {weight}{told}")
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
    after = f"after {plural(runs, 'run')}"
    if hunt.answer is not None:
        sure = f"{probability:.1%} likely" if hunt.weighs else "there is none before it but the good one"
        head = f"first bad release: {hunt.answer} ({sure}, {after})"
    elif hunt.moot:
        head = f"no first bad release can be named: {hunt.stopped}"
    elif runs and hunt.weighs:
        head = f"undecided {after}: {hunt.stopped}; the likeliest is {best} ({probability:.1%})"
    else:
        head = f"undecided{' ' + after if runs else ''}: {hunt.stopped}"
    lines = [head, *_rests_on(hunt)]
    failures, since, bounds = hunt.rate()
    if since and not hunt.doubted:
        from_ = f"from {best} on" if hunt.weighs else hunt.bad
        lines.append(
            f"{from_}: {failures} of {plural(since, 'run')} failed, {percent(failures / since)} "
            f"({bounds.method} {bounds.confidence:.0%}: {percent(bounds.low)} to {percent(bounds.high)})"
        )
    if hunt.causes:
        lines.append("causes: " + ", ".join(f"{code} ({count})" for code, count in hunt.causes[:5]))
    apart = len(hunt.outcomes) - runs
    if apart:
        lines.append(f"not counted: {plural(apart, 'more run')} (broken by the environment, skipped, or another cause)")
    lines += [f"note: {warning}" for warning in dict.fromkeys(hunt.warnings)]
    failed = [outcome for _, outcome, counts in hunt.outcomes if counts and outcome.failed and outcome.case]
    if failed:
        lines.append(f"a failure: {failed[0].case}")
    each = f"{seconds / len(hunt.outcomes):.0f} s per run; " if hunt.outcomes else ""
    lines.append(f"{each}case files: {folder}")
    if simulated:
        lines.append("SIMULATED: no real Mac took part; this says nothing about a release")
    return lines


def _rests_on(hunt: Hunt) -> list[str]:
    """What an answer takes for granted: the ends are somebody's word, as far as no run bears them out."""
    if hunt.answer is None:
        return []
    lines = []
    failures, runs = hunt.bisection.counts(hunt.good)
    if hunt.answer == hunt.releases[1] and not failures:  # nothing else lies before it
        seen = f"{plural(runs, 'clean run')} of it"
        if runs:
            seen += f", which show no more than a rate below {percent(upper_bound(0, runs, hunt.sure))} at {percent(hunt.sure)}"
        lines.append(f"note: that {hunt.good} is good is your word, and {seen}")
    if not any(counts and outcome.failed for _, outcome, counts in hunt.outcomes):
        lines.append(
            f"note: no run failed: that {hunt.bad} is bad is your word; it is the clean runs of the others that speak"
        )
    return lines


def _known(hunt: Hunt) -> str:
    if hunt.prior.counted:
        return "as counted" if hunt.prior.failures else "supposed: none of those counted failed"
    return "your guess" if hunt.prior.runs else "supposed"
