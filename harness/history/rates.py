"""What the history says: failure rates with their intervals, trends, causes, and one release against another."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from harness.errors import UsageError, Verdict
from harness.history.comparing import Comparison, Correction, Trend, compare, holm, trend
from harness.history.grouping import kind, older_of
from harness.history.intervals import Interval, Method, interval
from harness.history.store import FAILURES, JUDGED, Count, History, Selection, Series, natural

LEVEL = 0.05
"""Below this (corrected) p-value a difference or a trend is believed."""


@dataclass(frozen=True)
class CauseCount:
    """How often a cause was named ("" is none), and since when."""

    code: str
    runs: int
    first: datetime


@dataclass(frozen=True)
class Cell:
    """One series' runs.

    Attributes:
        runs: Those that say something about the product: passed or failed.
        failures: Of them, product failures, known issues included.
        known: Of them, known issues.
        others: Runs that say nothing about it, by verdict: the environment's and our own failures, skips.
        flaky: Passes after a failure of the same scenario in the same pytest run.
        trend: Of the daily rates, corrected for looking at many series.
        seconds: Mean wall time of all runs.
        first_failure: UTC; None if nothing failed.
        points: (day since 1970, failures, runs), in order.
    """

    series: Series
    runs: int
    failures: int
    known: int
    others: dict[str, int]
    flaky: int
    interval: Interval
    trend: Trend
    seconds: float
    first: datetime
    last: datetime
    first_failure: datetime | None
    causes: tuple[CauseCount, ...]
    points: tuple[tuple[int, int, int], ...]

    @property
    def rate(self) -> float:
        """Failures per run; 0 without runs."""
        return self.failures / self.runs if self.runs else 0.0


@dataclass(frozen=True)
class FirstSeen:
    """Where a cause was seen first.

    Attributes:
        runs: How often since.
    """

    code: str
    first: datetime
    series: Series
    runs: int


@dataclass(frozen=True)
class Compared:
    """One release against another in one series (whose `release` is the later one's)."""

    series: Series
    before: str
    comparison: Comparison


@dataclass(frozen=True)
class Page:
    """What one look at the history gives.

    Attributes:
        simulated: Which side it is of; never both.
        cells: Ordered by scenario, macOS, lane, provider, image, release.
        first_seen: Causes of failures, the newest first.
        compared: The strongest first; empty unless two releases were compared.
        compared_by: The method, in words.
    """

    simulated: bool
    confidence: float
    method: Method
    cells: tuple[Cell, ...]
    first_seen: tuple[FirstSeen, ...]
    compared: tuple[Compared, ...] = ()
    compared_by: str = ""
    made: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def runs(self) -> int:
        """Judged runs on it."""
        return sum(cell.runs for cell in self.cells)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": 1,
            "made": self.made.isoformat(timespec="seconds"),
            "simulated": self.simulated,
            "interval": {"method": self.method, "confidence": self.confidence},
            "cells": [_cell_dict(cell) for cell in self.cells],
            "first_seen": [
                {"cause": one.code, "first": _iso(one.first), "runs": one.runs, **dataclasses.asdict(one.series)}
                for one in self.first_seen
            ],
            "compared_by": self.compared_by,
            "compared": [
                {**dataclasses.asdict(one.series), "before": one.before, **dataclasses.asdict(one.comparison)}
                for one in self.compared
            ],
        }


def rates(
    history: History, selection: Selection, *, confidence: float = 0.95, method: Method = "wilson"
) -> Page:  # fmt: skip
    """The rates of everything selected.

    Raises:
        UsageError: The confidence is none.
        EnvironmentFailure: The database does not answer.
    """
    interval(0, 0, confidence=confidence, method=method)
    counts = _by_series(history.counts(selection))
    days = history.days(selection)
    points = {series: tuple(days.get(series, ())) for series in counts}
    trends = _trends(points)
    cells = tuple(
        _cell(series, group, points[series], trends[series], interval(*_judged(group), confidence=confidence, method=method))
        for series, group in counts.items()
    )  # fmt: skip
    return Page(selection.simulated, confidence, method, cells, _first_seen(counts))


def compare_releases(
    history: History,
    selection: Selection,
    before: str,
    after: str,
    *,
    level: float = LEVEL,
    correction: Correction = "holm",
) -> tuple[Compared, ...]:
    """Every series that both releases have, judged together; the strongest evidence first. Upgrade paths are paired by what they
    are: the upgrade from the release before with the upgrade from the release before, whatever those are called.

    Raises:
        UsageError: One of the releases has no run in what is selected; names those that have.
        EnvironmentFailure: The database does not answer.
    """
    counts = _by_series(history.counts(dataclasses.replace(selection, release=None)))
    there = {series.release for series in counts}
    for release in (before, after):
        if release not in there:
            known = ", ".join(sorted(there, key=natural)[-10:]) or "none"
            raise UsageError(
                f"runs of release {release}",
                seen=f"none; there are {known}",
                hint="`sysext history` lists all there is",
            )
    older, newer = _by_kind(counts, before), _by_kind(counts, after)
    pairs = [
        (series, _judged(counts[older[key]]), _judged(counts[series])) for key, series in newer.items() if key in older
    ]
    found = compare([(*old, *new) for _, old, new in pairs], level=level, correction=correction)
    compared = [Compared(series, before, one) for (series, _, _), one in zip(pairs, found, strict=True)]
    compared.sort(key=lambda one: (one.comparison.adjusted, one.comparison.p))
    return tuple(compared)


def with_comparison(page: Page, compared: Sequence[Compared], *, correction: Correction, level: float = LEVEL) -> Page:
    """The page with a comparison on it, and how it was made."""
    how = {
        "holm": "Holm's correction",
        "benjamini-hochberg": "Benjamini and Hochberg's correction",
        "none": "uncorrected",
    }
    text = f"Fisher's exact test, two-sided, {how[correction]} over {len(compared)} series, level {level:g}"
    return dataclasses.replace(page, compared=tuple(compared), compared_by=text)


def _by_series(counts: Sequence[Count]) -> dict[Series, list[Count]]:
    groups: dict[Series, list[Count]] = defaultdict(list)
    for count in counts:
        groups[count.series].append(count)
    return dict(groups)


def _by_kind(counts: Mapping[Series, object], release: str) -> dict[Series, Series]:
    """The series of a release, by what they are for any release: its name does not matter, nor which release came before it."""
    mine = [series for series in counts if series.release == release]
    nearest: dict[tuple[Series, str], str] = {}  # (all but the older release, way) to the newest older release
    for series in mine:
        found = older_of(series.scenario, release)
        if found is not None and natural(found[0]) < natural(release):
            key = (dataclasses.replace(series, scenario=""), found[1])
            nearest[key] = max(nearest.get(key, found[0]), found[0], key=natural)
    named: dict[Series, Series] = {}
    for series in mine:
        found = older_of(series.scenario, release)
        name = kind(series.scenario, release)
        if found is not None and nearest.get((dataclasses.replace(series, scenario=""), found[1])) == found[0]:
            name = found[1]
        named[dataclasses.replace(series, release="", scenario=name)] = series
    return named


def _judged(group: Sequence[Count]) -> tuple[int, int]:
    """Failures and runs."""
    failures = sum(one.runs for one in group if one.verdict in FAILURES)
    return failures, sum(one.runs for one in group if one.verdict in JUDGED)


def _trends(points: dict[Series, tuple[tuple[int, int, int], ...]]) -> dict[Series, Trend]:
    """Each series' trend; among many some would rise by chance, so the p-values are corrected together."""
    found = [trend(one, level=LEVEL) for one in points.values()]
    adjusted = holm([one.p for one in found])
    return {
        series: one if p <= LEVEL else dataclasses.replace(one, word="flat")
        for series, one, p in zip(points, found, adjusted, strict=True)
    }


def _cell(
    series: Series, group: Sequence[Count], points: tuple[tuple[int, int, int], ...], slope: Trend, span: Interval
) -> Cell:
    failures, runs = _judged(group)
    others: dict[str, int] = defaultdict(int)
    for one in group:
        if one.verdict not in JUDGED:
            others[one.verdict.value] += one.runs
    failed = [one for one in group if one.verdict in FAILURES]
    causes: dict[str, CauseCount] = {}
    for one in failed:
        seen = causes.get(one.cause, CauseCount(one.cause, 0, one.first))
        causes[one.cause] = CauseCount(one.cause, seen.runs + one.runs, min(seen.first, one.first))
    return Cell(
        series=series,
        runs=runs,
        failures=failures,
        known=sum(one.runs for one in failed if one.verdict is Verdict.KNOWN_ISSUE),
        others=dict(others),
        flaky=sum(one.flaky for one in group),
        interval=span,
        trend=slope,
        seconds=sum(one.seconds for one in group) / max(1, sum(one.runs for one in group)),
        first=min(one.first for one in group),
        last=max(one.last for one in group),
        first_failure=min((one.first for one in failed), default=None),
        causes=tuple(sorted(causes.values(), key=lambda one: (-one.runs, one.code))),
        points=points,
    )


def _first_seen(counts: dict[Series, list[Count]]) -> tuple[FirstSeen, ...]:
    first: dict[str, Count] = {}
    runs: dict[str, int] = defaultdict(int)
    for group in counts.values():
        for one in group:
            if one.verdict in FAILURES and one.cause:
                runs[one.cause] += one.runs
                if one.cause not in first or one.first < first[one.cause].first:
                    first[one.cause] = one
    found = [FirstSeen(code, one.first, one.series, runs[code]) for code, one in first.items()]
    return tuple(sorted(found, key=lambda one: (one.first, one.code), reverse=True))


def _cell_dict(cell: Cell) -> dict[str, Any]:
    return {
        **dataclasses.asdict(cell.series),
        "runs": cell.runs,
        "failures": cell.failures,
        "known_issues": cell.known,
        "others": cell.others,
        "flaky": cell.flaky,
        "rate": round(cell.rate, 6),
        "low": round(cell.interval.low, 6),
        "high": round(cell.interval.high, 6),
        "trend": {"word": cell.trend.word, "p": cell.trend.p},
        "mean_seconds": round(cell.seconds, 3),
        "first": _iso(cell.first),
        "last": _iso(cell.last),
        "first_failure": _iso(cell.first_failure) if cell.first_failure else None,
        "causes": [{"cause": one.code, "runs": one.runs, "first": _iso(one.first)} for one in cell.causes],
        "days": [{"day": day, "failures": failures, "runs": runs} for day, failures, runs in cell.points],
    }


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
