"""What pytest shows of a scenario: the cause below its failure, a known issue as an expected failure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.errors import Verdict
from harness.events import SECRETS
from harness.reports.result import CaseResult


def tell(reports: Iterable[Any], result: CaseResult) -> None:
    """Put the cause into the reports of a scenario's phases, before they are logged.

    A known issue is shown as xfailed, with its reason; a pass that `triage.strict_passing` made a failure as failed.

    Args:
        reports: pytest's, of set-up, call and teardown.
        result: What it came to.
    """
    reports = list(reports)
    failed = [report for report in reports if report.failed]
    if not failed and result.failed:  # nothing was raised, and yet it is no pass
        failed = [report for report in reports if report.when == "call"]
        for report in failed:
            report.outcome = "failed"
            report.longrepr = SECRETS.mask(result.error)
    lines = [*(result.why.lines() if result.why is not None else ()), *result.notes]
    for report in failed:
        if lines:
            title = f"sysext: why ({result.cause or 'not known'})"
            report.sections.append((title, SECRETS.mask("\n".join(lines))))
        if result.verdict is Verdict.KNOWN_ISSUE:
            report.outcome = "skipped"
            report.wasxfail = SECRETS.mask(result.known_issue)
