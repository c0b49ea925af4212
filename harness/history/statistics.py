"""All that is counted and decided over many runs, under one name. Pure functions: no files, no clock, no chance."""

from __future__ import annotations

from harness.history.bisecting import Bisection, halving_runs
from harness.history.comparing import (
    Comparison,
    Correction,
    Trend,
    benjamini_hochberg,
    compare,
    correct,
    fisher_exact,
    holm,
    trend,
)
from harness.history.intervals import (
    Interval,
    Method,
    clopper_pearson,
    interval,
    runs_missing,
    runs_needed,
    upper_bound,
    wilson,
)
from harness.history.sequential import Decision, Operating, Sprt, SprtPlan, plan_sprt

__all__ = [
    "Bisection",
    "Comparison",
    "Correction",
    "Decision",
    "Interval",
    "Method",
    "Operating",
    "Sprt",
    "SprtPlan",
    "Trend",
    "benjamini_hochberg",
    "clopper_pearson",
    "compare",
    "correct",
    "fisher_exact",
    "halving_runs",
    "holm",
    "interval",
    "plan_sprt",
    "runs_missing",
    "runs_needed",
    "trend",
    "upper_bound",
    "wilson",
]
