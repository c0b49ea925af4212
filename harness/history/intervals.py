"""How sure a failure rate is: intervals with a name, and how many runs a statement needs.

Exact, on the standard library alone: `tests/history` compares with published tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from harness.errors import UsageError

Method = Literal["wilson", "clopper-pearson"]
_TINY = 1e-300


@dataclass(frozen=True)
class Interval:
    """Where a rate lies, at a confidence, by a named method. Rates are 0..1."""

    low: float
    high: float
    method: Method
    confidence: float

    def __contains__(self, rate: float) -> bool:
        return self.low <= rate <= self.high

    def __str__(self) -> str:
        return f"{percent(self.low)}..{percent(self.high)} ({self.method}, {self.confidence:.0%})"


def interval(failures: int, runs: int, *, confidence: float = 0.95, method: Method = "wilson") -> Interval:
    """The two-sided interval of a failure rate, by the method named.

    Raises:
        UsageError: Impossible counts, or a confidence that is none.
    """
    return (wilson if method == "wilson" else clopper_pearson)(failures, runs, confidence)


def wilson(failures: int, runs: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval: short, and right on average over the rates. Without runs it is 0..1."""
    _check(failures, runs, confidence)
    if runs == 0:
        return Interval(0.0, 1.0, "wilson", confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = failures / runs
    scale = 1 + z * z / runs
    middle = (rate + z * z / (2 * runs)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / runs + z * z / (4 * runs * runs))
    low = 0.0 if failures == 0 else max(0.0, middle - half)
    high = 1.0 if failures == runs else min(1.0, middle + half)
    return Interval(low, high, "wilson", confidence)


def clopper_pearson(failures: int, runs: int, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's interval: never too short, whatever the rate. Without runs it is 0..1."""
    _check(failures, runs, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if failures == 0 else beta_quantile(tail, failures, runs - failures + 1)
    high = 1.0 if failures == runs else beta_quantile(1 - tail, failures + 1, runs - failures)
    return Interval(low, high, "clopper-pearson", confidence)


def upper_bound(failures: int, runs: int, confidence: float = 0.95) -> float:
    """The rate which, at this confidence, is not exceeded (one-sided, exact)."""
    _check(failures, runs, confidence)
    return 1.0 if failures == runs else beta_quantile(confidence, failures + 1, runs - failures)


def lower_bound(failures: int, runs: int, confidence: float = 0.95) -> float:
    """The rate which, at this confidence, is not fallen short of (one-sided, exact)."""
    _check(failures, runs, confidence)
    return 0.0 if failures == 0 else beta_quantile(1 - confidence, failures, runs - failures + 1)


def runs_needed(rate: float, confidence: float = 0.95, failures: int = 0) -> int:
    """How many runs, of which so many failed, show at this confidence that the failure rate is below `rate`.

    59 clean runs show less than 5 % at 95 %.

    Raises:
        UsageError: A rate or confidence outside 0..1, or a negative number of failures.
    """
    _probability("the rate", rate)
    _probability("the confidence", confidence)
    if failures < 0:
        raise UsageError("a number of failures", seen=str(failures), hint="0 or more")
    if failures == 0:
        needed = max(1, math.ceil(math.log1p(-confidence) / math.log1p(-rate)))
        return needed if (1 - rate) ** needed <= (1 - confidence) * (1 + 1e-12) else needed + 1

    def enough(runs: int) -> bool:
        return binomial_cdf(failures, runs, rate) <= 1 - confidence

    most = failures + 1
    while not enough(most):
        most *= 2
    least = max(failures, most // 2)
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return most


def runs_missing(failures: int, runs: int, rate: float, confidence: float = 0.95) -> int:
    """How many more clean runs show that the rate is below `rate`; 0 if it is shown already."""
    _check(failures, runs, confidence)
    return max(0, runs_needed(rate, confidence, failures) - runs)


def binomial_cdf(failures: int, runs: int, rate: float) -> float:
    """P(at most so many failures)."""
    if failures >= runs:
        return 1.0
    return 1.0 - beta_cdf(rate, failures + 1, runs - failures)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )  # fmt: skip
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1.0 - front * _fraction(1 - x, b, a) / b


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = probability, by halving: 60 steps are all that a double holds."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    value = d
    most = 200 + int(20 * math.sqrt(a + b))  # it converges in about sqrt(max(a, b)) turns
    for m in range(1, most):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + numerator * d
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = 1 + numerator / c
            c = c if abs(c) > _TINY else _TINY
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def percent(rate: float) -> str:
    """A rate as people read it: "20 %", "4.1 %", "0.03 %", "100 %"."""
    number = rate * 100
    if number == 0 or number >= 99.95:
        return f"{number:.0f} %"
    return f"{number:.0f} %" if number >= 10 else f"{number:.1f} %" if number >= 0.1 else f"{number:.2g} %"


def plural(number: int, noun: str, *, none: str = "no") -> str:
    """A number of things as people say it: "1 run", "2 runs", "no runs"."""
    return f"{number or none} {noun}{'' if number == 1 else 's'}"


def _check(failures: int, runs: int, confidence: float) -> None:
    _probability("the confidence", confidence)
    if not 0 <= failures <= runs:
        raise UsageError("0 ≤ failures ≤ runs", seen=f"{failures} failures in {runs} runs", hint="check the counts")


def _probability(what: str, value: float) -> None:
    if not 0 < value < 1:
        raise UsageError(f"{what} between 0 and 1, exclusive", seen=f"{value:g}", hint="0.05 is 5 %")
