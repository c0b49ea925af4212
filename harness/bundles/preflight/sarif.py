"""SARIF 2.1.0: what code scanning and editors read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from harness import __version__
from harness.bundles.preflight.engine import Report
from harness.bundles.preflight.output import tame
from harness.bundles.preflight.rules import Finding, Rule, load_rules

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_sarif(reports: Sequence[Report]) -> str:
    """One run with all rules; a finding of a rule that is switched off is there, suppressed, with the reason.

    A place is the file that was given (for a release of an app file: the app file); the path in the bundle is the logical
    location.
    """
    rules = list(load_rules().values())
    index = {rule.id: number for number, rule in enumerate(rules)}
    results = [result for report in reports for result in _results(report, index)]
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "sysext preflight",
                        "version": __version__,
                        "rules": [_rule(rule) for rule in rules],
                    }
                },
                "invocations": [{"executionSuccessful": True}],
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _rule(rule: Rule) -> dict[str, Any]:
    name = "".join(word.capitalize() for word in rule.id.split("-"))
    return {
        "id": rule.id,
        "name": name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {
            "text": f"{rule.why}\nFix: {rule.fix}",
            "markdown": f"{rule.why}\n\n**Fix:** {rule.fix}\n\nLeads to: {', '.join(f'`{c}`' for c in rule.causes)}",
        },
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"tags": [rule.about, "macos", "system-extension"], "causes": list(rule.causes)},
    }


def _results(report: Report, index: dict[str, int]) -> Iterator[dict[str, Any]]:
    for finding in report.findings:
        yield _result(report, finding, index)
    for item in report.off:
        suppression = {"kind": "external", "status": "accepted", "justification": tame(item.reason)}
        yield {**_result(report, item.finding, index), "suppressions": [suppression]}


def _result(report: Report, finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    what = f"{finding.where}: {finding.what}" if finding.where else finding.what
    subject = (
        f"{report.previous} -> {report.name}" if report.previous and finding.rule.about == "upgrade" else report.name
    )
    logical = [report.name, finding.where] if finding.where else [report.name]
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": index[finding.rule.id],
        "level": finding.severity,
        "message": {"text": tame(f"{subject}: {finding.rule.title}: {what}")},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": uri_of(report.origin or report.name)}},
                "logicalLocations": [{"fullyQualifiedName": tame("/".join(logical)), "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"finding/v1": _fingerprint(report, finding)},
        "properties": {"release": report.name, "previous": report.previous, "causes": list(finding.rule.causes)},
    }


def uri_of(origin: str) -> str:
    """A path as a relative or file URI reference; a source as it is, with what a URI may not hold escaped."""
    if re.match(r"(?:pypi:|https://)", origin):
        return quote(origin, safe=":/#=%?&.,+@~!$'()*;[]")
    return ("file://" if origin.startswith("/") else "") + quote(origin, safe="/.~+,@=")


def _fingerprint(report: Report, finding: Finding) -> str:
    """The same for the same finding of another release: what differs from release to release is left out."""
    key = "\0".join((finding.rule.id, report.origin and report.origin.rsplit("/", 1)[-1], finding.where))
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
