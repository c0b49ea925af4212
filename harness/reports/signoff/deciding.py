"""From evidence to a decision, item by item. Pure: the same evidence gives the same decision, on whatever host and day.

How runs count is told in every report (`TERMS`); what is demanded of rates is the exact bound of Clopper and Pearson, one-sided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.history.intervals import lower_bound, runs_missing, runs_needed, upper_bound
from harness.reports.signoff.config import Item, ManualItem, PreflightItem, Waiver, fits
from harness.reports.signoff.evidence import Checked, Evidence, Run, Sifted, sift

Status = Literal["met", "not met", "not enough data", "waived"]
MOST_FAILURES = 50
"""Failing runs that an item names; the number is always told."""

_WHAT_COUNTS = (
    "A run counts if it is of this very build (cdhash and UUID of app and extension), on a real Mac, in the lane asked for, "
    "fresh, on a Mac of its own, and without injected faults."
)
_FAILURES = "Failures of the product count as failures, known issues too: what is known and accepted needs a waiver."
_OTHERS = (
    "Failures of the environment or of the harness, and skips, count neither way. A run repeated on a fresh Mac after one that "
    "the environment broke counts as any other; a pass after a failure does not count: its first attempt does, as a failure."
)
TERMS = (_WHAT_COUNTS, _FAILURES, _OTHERS)
"""How runs count; told in every report."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What must reach the numbers by itself: a scenario on a macOS, or more of them together.

    Attributes:
        upper: The failure rate which, at `confidence`, is not exceeded; None where no rate is demanded.
        planned: Runs that were to be made: at least the minimum, and as many as show the rate where none fails.
        runs_missing: Clean runs that would still be needed.
    """

    name: str
    status: Status
    runs: int
    failures: int
    known: int
    upper: float | None
    confidence: float
    planned: int
    runs_missing: int
    says: str


@dataclass(frozen=True, kw_only=True)
class Failing:
    """A run that counts as a failure, for a link to its case file."""

    scenario: str
    macos: str
    started: str
    cause: str
    known_issue: str
    run: str
    case: str


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One item.

    Attributes:
        kind: What it demands: runs, a preflight, or a person's word.
        status: `waived` only where a valid waiver replaces another one, which is `instead`.
        says: The status in a sentence.
        excluded: Why runs do not count: reason and number.
        waiver: Who waived it, why, until when; also one that no longer holds.
    """

    id: str
    title: str
    kind: Literal["runs", "preflight", "manual"]
    status: Status
    says: str
    demands: str
    instead: str = ""
    runs_missing: int = 0
    parts: tuple[Part, ...] = ()
    excluded: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()
    failing: tuple[Failing, ...] = ()
    details: tuple[str, ...] = ()
    link: str = ""
    waiver: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The whole.

    Attributes:
        signed_off: Every item is met or waived, and it is no rehearsal.
        statistics: What the bounds mean over all items.
        counted: Runs that count for some item, in order of time.
    """

    signed_off: bool
    headline: str
    statistics: str
    items: tuple[Decided, ...]
    counted: tuple[Run, ...]


def decide(evidence: Evidence) -> Decision:
    """Judge every item by the evidence, as of its time.

    Raises:
        ValueError: A time in it is none.
    """
    sifted = [(item, sift(item, evidence)) for item in evidence.config.item]
    groups = [list(_parts(item, seen)) for item, seen in sifted]
    bounds = sum(len(parts) for (item, _), parts in zip(sifted, groups, strict=True) if item.maximum_rate is not None)
    decided = [_runs(item, seen, parts, evidence, bounds) for (item, seen), parts in zip(sifted, groups, strict=True)]
    decided += [_preflight(item, evidence) for item in evidence.config.preflight]
    decided += [_manual(item, evidence) for item in evidence.config.manual]
    items = tuple(_waived(one, evidence) for one in decided)
    good = all(one.status in ("met", "waived") for one in items)
    counted = {run.id: run for _, seen in sifted for run in seen.counted}
    return Decision(
        signed_off=good and not evidence.rehearsal,
        headline=_headline(items, evidence, good=good),
        statistics=_statistics(evidence, bounds),
        items=items,
        counted=tuple(sorted(counted.values(), key=lambda run: (run.time, run.id))),
    )


def _parts(item: Item, seen: Sifted) -> Iterator[tuple[str, list[Run]]]:
    """What is judged by itself: (its name, its counted runs). Every scenario asked for is there on every macOS asked for, with no
    runs if need be; those that a pattern means are the ones that ran on any real Mac.
    """
    if item.per == "item":
        yield "all together", list(seen.counted)
        return
    for macos in item.macos:
        here = [run for run in seen.counted if run.macos == macos]
        if item.per == "macos":
            yield f"macOS {macos}", here
            continue
        names: dict[str, None] = {}
        for pattern in item.scenarios:
            found = {run.scenario for run in seen.considered if run.macos == macos and fits(pattern, run.scenario)}
            names.update(dict.fromkeys(sorted(found) or [pattern]))
        for name in names:
            yield f"{name} on macOS {macos}", [run for run in here if run.scenario == name]


def _runs(
    item: Item, seen: Sifted, groups: Sequence[tuple[str, list[Run]]], evidence: Evidence, bounds: int
) -> Decided:
    confidence = item.confidence or evidence.config.confidence
    if evidence.config.correction == "bonferroni" and bounds:
        confidence = 1 - (1 - confidence) / bounds
    parts = [_part(item, name, runs, seen.failed, confidence) for name, runs in groups]
    absent = [
        f"{pattern} on macOS {macos}"
        for macos in item.macos
        for pattern in item.scenarios
        if not any(run.macos == macos and fits(pattern, run.scenario) for run in seen.counted)
    ]
    status: Status = "met"
    if any(part.status == "not met" for part in parts):
        status = "not met"
    elif absent or any(part.status == "not enough data" for part in parts):
        status = "not enough data"
    # What must have run at all, where the numbers are of several scenarios or versions together.
    missing = max(sum(part.runs_missing for part in parts), len(absent))
    failing = [run for run in seen.counted if run.id in seen.failed]
    return Decided(
        id=item.id,
        title=item.title,
        kind="runs",
        status=status,
        says=_runs_say(status, parts, absent, missing),
        demands=_demands(item, evidence, confidence),
        runs_missing=missing,
        parts=tuple(parts),
        excluded=seen.excluded,
        warnings=seen.warnings,
        failing=tuple(_failing(run) for run in failing[-MOST_FAILURES:]),
        details=(f"never ran so that it counts: {'; '.join(absent[:20])}",)
        if absent and item.per != "scenario"
        else (),
    )


def _part(item: Item, name: str, runs: Sequence[Run], failed: frozenset[str], confidence: float) -> Part:
    count, failures = len(runs), sum(run.id in failed for run in runs)
    rate = item.maximum_rate
    if rate is None:
        planned = item.minimum_runs
        missing = max(0, planned - count)
        upper = None
        status: Status = "not met" if failures else "not enough data" if missing else "met"
    else:
        planned = max(item.minimum_runs, runs_needed(rate, confidence))
        missing = max(item.minimum_runs - count, runs_missing(failures, count, rate, confidence))
        upper = upper_bound(failures, count, confidence)
        status = "not enough data"
        if not missing:
            status = "met"
        elif count >= planned or lower_bound(failures, count, confidence) > rate:
            status = "not met"
    return Part(
        name=name,
        status=status,
        runs=count,
        failures=failures,
        known=sum(run.verdict == "known-issue" for run in runs),
        upper=None if upper is None else round(upper, 6),
        confidence=round(confidence, 6) if confidence <= 1 - 1e-6 else confidence,
        planned=planned,
        runs_missing=missing,
        says=_part_says(status, count, failures, planned, missing, rate),
    )


def _part_says(status: Status, count: int, failures: int, planned: int, missing: int, rate: float | None) -> str:
    if status == "met":
        return "met"
    if rate is None:
        return f"{_number(failures, 'run')} failed" if failures else f"{_number(missing, 'run')} missing"
    limit = exact(rate)
    if status == "not met":
        shown = "the limit is exceeded" if count < planned else f"less than {limit} is not shown"
        return f"{shown}: {failures} of {count} failed ({_number(missing, 'more clean run')} would show it)"
    return f"{_number(missing, 'clean run')} missing"


def _runs_say(status: Status, parts: Sequence[Part], absent: Sequence[str], missing: int) -> str:
    runs, failures = sum(part.runs for part in parts), sum(part.failures for part in parts)
    told = f"{failures} of {_number(runs, 'run')} failed" if runs else "no run that counts"
    if status == "met":
        return told
    bad = [part for part in parts if part.status not in ("met",)]
    named = "; ".join(f"{part.name}: {part.says}" for part in bad[:3]) or f"no run of {absent[0]}"
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    tail = f"; {_number(missing, 'run')} missing in all" if status == "not enough data" and len(bad) > 1 else ""
    return f"{told}; {named}{more}{tail}"


def _demands(item: Item, evidence: Evidence, confidence: float) -> str:
    each = {"scenario": "each scenario on each macOS", "macos": "each macOS", "item": "all together"}[item.per]
    days = item.freshness_days or evidence.config.freshness_days
    rate = (
        f"failing less than {exact(item.maximum_rate)} at {exact(confidence)} confidence"
        if item.maximum_rate is not None
        else "none failing"
    )
    where = f"macOS {', '.join(item.macos)}, lane {item.lane or evidence.config.lane}"
    return (
        f"{', '.join(item.scenarios)} on {where}: {each} at least {_number(item.minimum_runs, 'run')}, {rate}, "
        f"not older than {_number(days, 'day')}"
    )


def _failing(run: Run) -> Failing:
    return Failing(**{name: getattr(run, name) for name in Failing.__dataclass_fields__})


def _preflight(item: PreflightItem, evidence: Evidence) -> Decided:
    checked = [one for one in evidence.checked if one.item == item.id]
    rules = {rule for one in checked for rule in one.rules}
    wanted = ("error", "warning") if item.warnings else ("error",)
    stops: list[str] = []
    told: list[str] = []
    off: list[str] = []
    for one in checked:
        at = f" (upgrade from {one.previous})" if one.previous else ""
        for finding in one.findings:
            text = f"{finding.severity} {finding.rule}{at}: {finding.where or 'the app'}: {finding.what}"
            if finding.reason:
                # Switched off for runs; for shipping it takes a waiver, with a name and an end.
                (stops if finding.severity in wanted else off).append(f"switched off ({finding.reason}): {text}")
            else:
                (stops if finding.severity in wanted else told).append(text)
    froms = [one.previous for one in checked if one.previous]
    status: Status = "not met" if stops else "met" if checked else "not enough data"
    says = f"{_number(len(stops), 'finding')}" if stops else "nothing that stops it" if checked else "not judged"
    return Decided(
        id=item.id,
        title=item.title,
        kind="preflight",
        status=status,
        says=says + (f"; told: {_number(len(told), 'lesser finding')}" if told else ""),
        demands=f"{_number(len(rules), 'rule')} of the preflight without {' or '.join(wanted)}"
        + (f", also as an upgrade from {', '.join(froms)}" if froms else ", as a first installation"),
        details=tuple(dict.fromkeys([*stops, *told, *off]))[:200],
    )


def _manual(item: ManualItem, evidence: Evidence) -> Decided:
    status: Status = "not met"
    if not item.done_by or item.on is None:
        says = "nobody has done it: write done_by, on and release"
    elif item.cdhash and item.cdhash.lower() not in evidence.builds[0].cdhashes.values():
        says = f"done by {item.done_by} on {item.on} with another build: app cdhash {item.cdhash.lower()}"
    elif item.release != evidence.release:
        says = f"done by {item.done_by} on {item.on} with release {item.release or '(none named)'}, not with this one"
    elif item.on > evidence.now.date():
        says = f"its day, {item.on}, is yet to come"
    else:
        status, says = "met", f"done by {item.done_by} on {item.on}"
        says += ", with this build" if item.cdhash else "; with which build of it is not said (cdhash)"
    return Decided(
        id=item.id,
        title=item.title,
        kind="manual",
        status=status,
        says=says,
        demands="done by a person, with this release",
        details=(item.note,) if item.note else (),
        link=item.evidence,
    )


def _waived(one: Decided, evidence: Evidence) -> Decided:
    """With the waiver that is about it: one that holds replaces what is not met; one that does not is told."""
    mine = [waiver for waiver in evidence.config.waiver if waiver.item == one.id]
    if not mine:
        return one
    best = max(mine, key=lambda waiver: (not _invalid(waiver, evidence), waiver.until))
    told = f"{best.who}: {best.why} (until {best.until})"
    invalid = _invalid(best, evidence)
    if invalid:
        return replace(one, waiver=f"does not hold, {invalid}: {told}")
    if one.status == "met":
        return replace(one, waiver=f"not needed: {told}")
    return replace(one, status="waived", instead=one.status, waiver=told)


def _invalid(waiver: Waiver, evidence: Evidence) -> str:
    """Why a waiver does not hold; "" if it does. Its last day is whole, in UTC."""
    if waiver.release and waiver.release != evidence.release:
        return f"it is for release {waiver.release}"
    return f"expired on {waiver.until}" if evidence.now.date() > waiver.until else ""


def _headline(items: Sequence[Decided], evidence: Evidence, *, good: bool) -> str:
    counts = {status: sum(one.status == status for one in items) for status in ("not met", "not enough data", "waived")}
    told = [
        f"{_number(counts['not met'], 'item')} not met" if counts["not met"] else "",
        f"{counts['not enough data']} without enough data" if counts["not enough data"] else "",
        f"{counts['waived']} waived" if counts["waived"] else "",
    ]
    rest = ", ".join(part for part in told if part)
    if evidence.rehearsal:
        return "REHEARSAL, not a sign-off: " + (rest or "all items would be met")
    if good:
        return f"SIGNED OFF: {_number(len(items), 'item')}" + (f", {rest}" if rest else ", all met")
    return f"NOT SIGNED OFF: {rest}"


def _statistics(evidence: Evidence, bounds: int) -> str:
    if not bounds:
        return "No failure rate is demanded."
    if evidence.config.correction == "bonferroni":
        return (
            f"Upper bounds are Clopper and Pearson's, exact and one-sided, with Bonferroni's correction over {bounds}: together "
            "they all hold at the confidence of the file."
        )
    return (
        f"Upper bounds are Clopper and Pearson's, exact and one-sided; {_number(bounds, 'bound')}, not corrected for being "
        "several. Since every item must be met, a release of which any one rate is above its limit is signed off with a chance of "
        'at most one minus that item\'s confidence; that all bounds hold at once is less sure (correction = "bonferroni" demands '
        "that). The bounds suppose a number of runs chosen beforehand: running again until it is met makes them too good."
    )


def exact(rate: float) -> str:
    """A rate with as many digits as it takes to tell a bound from a limit: "5 %", "4.95 %", "0.031 %"."""
    text = f"{rate * 100:.3f}" if rate < 0.001 else f"{rate * 100:.2f}"
    if rate < 1 and float(text) == 100:
        text = f"{rate * 100:.12f}"
        text = text if float(text) < 100 else "99.999999999999"
    return f"{text.rstrip('0').rstrip('.')} %"


def bound(rate: float) -> str:
    """An upper bound, rounded up, never to less than it is."""
    import math

    return exact(min(1.0, math.ceil(round(rate * 10_000, 6)) / 10_000))


def _number(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


__all__ = ["TERMS", "Checked", "Decided", "Decision", "Failing", "Part", "Status", "bound", "decide", "exact"]
