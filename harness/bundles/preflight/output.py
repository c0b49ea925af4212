"""How a preflight is told: to people, to GitHub's log, as JSON. SARIF has a file of its own."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

from harness.bundles.preflight.engine import Report
from harness.bundles.preflight.rules import Finding, Rule

WIDTH = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
Paint = Callable[[str, str], str]
"""(text, style) → the text for the terminal; styles: error, warning, note, good, strong, dim."""


def plain(text: str, style: str) -> str:
    """No colours."""
    del style
    return text


def tame(text: str) -> str:
    """On one line, control characters shown as escapes: names in bundles are anybody's."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def as_text(reports: Sequence[Report], paint: Paint = plain, *, verbose: bool = False) -> str:
    """For people: the worst first, at most 100 columns. `verbose` also explains notes."""
    return "\n".join("\n".join(_report(report, paint, verbose=verbose)) + "\n" for report in reports)


def _report(report: Report, paint: Paint, *, verbose: bool) -> Iterator[str]:
    version = f" {report.version}" if report.version else ""
    title = f"{tame(report.name)}{tame(version)}"
    if report.previous:
        title += f", upgrade from {tame(report.previous)} {tame(report.previous_version)}"
    for line in _fold(title):
        yield paint(line, "strong")
    counts = ", ".join(f"{n} {name}{'s' if n > 1 else ''}" for name, n in report.counts().items())
    worst = next(iter(report.counts()), "good")
    yield paint(f"  {counts or 'nothing wrong found'}", worst)
    for rule, findings in _by_rule(report.findings):
        severity = findings[0].severity
        yield ""
        head = f"  {severity} {rule.id}"
        yield paint(head, severity)
        yield from _fold(rule.title, "    ")
        for finding in findings:
            place = f"{tame(finding.where)}: " if finding.where else ""
            yield from _fold(f"{place}{tame(finding.what)}", "    - ", "      ")
        if severity != "note" or verbose:
            yield from _fold(f"Why: {rule.why}", "    ")
            yield from _fold(f"Leads to: {', '.join(rule.causes)}", "    ")
            yield from _fold(f"Fix: {rule.fix}", "    ")
    for item in report.off:
        yield ""
        text = f"switched off: {item.finding.rule.id} ({tame(item.reason)}): {tame(item.finding.what)}"
        for line in _fold(text, "  "):
            yield paint(line, "dim")


def _by_rule(findings: Sequence[Finding]) -> Iterator[tuple[Rule, list[Finding]]]:
    order: dict[str, list[Finding]] = {}
    for finding in findings:
        order.setdefault(finding.rule.id, []).append(finding)
    for group in order.values():
        yield group[0].rule, group


def _fold(text: str, first: str = "", rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=True,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def as_json(reports: Sequence[Report]) -> str:
    """A list, one object per release that was judged; the keys are stable."""
    return json.dumps([report.as_dict() for report in reports], indent=1, ensure_ascii=False) + "\n"


def as_github(reports: Sequence[Report]) -> str:
    """Annotations for a GitHub Actions log."""
    levels = {"error": "error", "warning": "warning", "note": "notice"}
    lines = []
    for report in reports:
        for finding in report.findings:
            message = f"{finding.where + ': ' if finding.where else ''}{finding.what}. {finding.rule.why} "
            message += f"Fix: {finding.rule.fix}"
            title = f"{finding.rule.id} ({report.name})"
            where = f"file={_property(report.origin)}," if report.origin else ""
            lines.append(f"::{levels[finding.severity]} {where}title={_property(title)}::{_data(message)}")
        if not report.findings:
            lines.append(f"::notice title=sysext preflight::{_data(report.headline())}")
    return "\n".join(lines) + "\n" if lines else ""


def _data(text: str) -> str:
    return tame(text.replace("%", "%25"))


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
