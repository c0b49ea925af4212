"""Regression or noise: exact comparison of two rates, correction for many of them, and the trend of one.

Fisher (1922), Holm (1979), Benjamini and Hochberg (1995), Cochran (1954) and Armitage (1955).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from harness.errors import UsageError

Correction = Literal["holm", "benjamini-hochberg", "none"]


def fisher_exact(failures_a: int, runs_a: int, failures_b: int, runs_b: int) -> float:
    """The two-sided p-value that both have the same failure rate: the probability of all tables with these margins that are
    no likelier than this one.

    Raises:
        UsageError: Impossible counts.
    """
    for failures, runs in ((failures_a, runs_a), (failures_b, runs_b)):
        if not 0 <= failures <= runs:
            raise UsageError("0 ≤ failures ≤ runs", seen=f"{failures} failures in {runs} runs")
    total, failed = runs_a + runs_b, failures_a + failures_b
    low, high = max(0, failed - runs_b), min(failed, runs_a)
    if low == high:
        return 1.0
    k = np.arange(low, high, dtype=np.float64)  # from k to k + 1
    steps = np.log((failed - k) * (runs_a - k)) - np.log((k + 1) * (total - failed - runs_a + k + 1))
    logs = np.concatenate(([0.0], np.cumsum(steps)))
    weights = np.exp(logs - logs.max())
    here = weights[failures_a - low]
    return min(1.0, float(weights[weights <= here * (1 + 1e-7)].sum() / weights.sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: the chance of even one false alarm among all of them stays below the level."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: the share of false alarms among the alarms stays below the level."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    adjusted = [0.0] * len(p_values)
    best = 1.0
    for rank, index in enumerate(order):
        best = min(best, p_values[index] * len(p_values) / (len(p_values) - rank))
        adjusted[index] = best
    return adjusted


def correct(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Adjusted by the method named; the order stays."""
    if correction == "holm":
        return holm(p_values)
    return benjamini_hochberg(p_values) if correction == "benjamini-hochberg" else list(p_values)


@dataclass(frozen=True)
class Comparison:
    """One rate against another.

    Attributes:
        p: Fisher's two-sided p-value.
        adjusted: The same, corrected for all comparisons made together.
        finding: `regression` and `improvement` are shown at the level; `noise`: the difference may well be chance;
            `too few runs`: even the worst outcome of so many runs could not have shown anything.
    """

    failures_a: int
    runs_a: int
    failures_b: int
    runs_b: int
    p: float
    adjusted: float
    finding: Literal["regression", "improvement", "noise", "too few runs"]


def compare(
    tables: Sequence[tuple[int, int, int, int]], *, level: float = 0.05, correction: Correction = "holm"
) -> list[Comparison]:
    """Judge many pairs (failures before, runs before, failures after, runs after) together; the order stays."""
    p_values = [fisher_exact(*table) for table in tables]
    found: list[Comparison] = []
    for table, p, adjusted in zip(tables, p_values, correct(p_values, correction), strict=True):
        failures_a, runs_a, failures_b, runs_b = table
        finding: Literal["regression", "improvement", "noise", "too few runs"] = "noise"
        if adjusted <= level:
            finding = "regression" if failures_b * runs_a > failures_a * runs_b else "improvement"
        elif not runs_a or not runs_b or fisher_exact(0, runs_a, runs_b, runs_b) > level:
            finding = "too few runs"
        found.append(Comparison(failures_a, runs_a, failures_b, runs_b, p, adjusted, finding))
    return found


@dataclass(frozen=True)
class Trend:
    """Does a rate rise or fall over time?

    Attributes:
        z: The test's statistic, positive where the rate rises; 0 where nothing can be said.
        p: Two-sided, by the normal approximation.
        word: `rising`, `falling` or `flat` at the level asked for.
    """

    z: float
    p: float
    word: Literal["rising", "falling", "flat"]


def trend(points: Sequence[tuple[float, int, int]], *, level: float = 0.05) -> Trend:
    """Cochran and Armitage's test for (time, failures, runs): a straight rise or fall of the rate.

    Raises:
        UsageError: Impossible counts.
    """
    runs_all = failed = 0
    times = squares = failing = 0.0  # sums over the runs, of time since the first point
    for time, failures, runs in points:
        if not 0 <= failures <= runs:
            raise UsageError("0 ≤ failures ≤ runs", seen=f"{failures} failures in {runs} runs")
        since = time - points[0][0]
        runs_all += runs
        failed += failures
        times += since * runs
        squares += since * since * runs
        failing += since * failures
    if not 0 < failed < runs_all:
        return Trend(0.0, 1.0, "flat")
    rate = failed / runs_all
    spread = squares - times * times / runs_all
    if spread <= 1e-9 * squares:
        return Trend(0.0, 1.0, "flat")
    slope = failing - rate * times
    z = slope / math.sqrt(rate * (1 - rate) * spread)
    p = min(1.0, 2 * NormalDist().cdf(-abs(z)))
    return Trend(z, p, "flat" if p > level else "rising" if z > 0 else "falling")
