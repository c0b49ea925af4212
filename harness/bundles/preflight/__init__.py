"""Preflight: whether a release can activate and an upgrade can go wrong, judged from the files alone."""

from harness.bundles.preflight.engine import Release, Report, SwitchedOff, Terms, judge
from harness.bundles.preflight.rules import Finding, Rule, Severity, check_switched_off, load_rules

__all__ = [
    "Finding",
    "Release",
    "Report",
    "Rule",
    "Severity",
    "SwitchedOff",
    "Terms",
    "check_switched_off",
    "judge",
    "load_rules",
]
