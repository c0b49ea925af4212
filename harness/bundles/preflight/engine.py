"""Judging releases and upgrades: every rule that applies, and what it found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bundles.facts import Inspection
from harness.bundles.preflight.rules import (
    SEVERITIES,
    Finding,
    Rule,
    Said,
    Severity,
    Subject,
    Upgrade,
    check_switched_off,
    judge_of,
    load_rules,
)

MOST_PER_RULE = 25
"""Findings of one rule that are told one by one; the rest is counted."""


@dataclass(frozen=True)
class SwitchedOff:
    """A finding of a rule that the settings switch off, and why they do."""

    finding: Finding
    reason: str


@dataclass(frozen=True)
class Report:
    """What a preflight came to.

    Attributes:
        name: What was judged: the release's name.
        version: `short (build)` of the app.
        previous: The release it was compared with; "" for none.
        previous_version: Likewise of that one.
        findings: The worst first.
        off: Findings of rules that are switched off.
        origin: The file or folder, as given.
    """

    name: str
    version: str = ""
    previous: str = ""
    previous_version: str = ""
    findings: tuple[Finding, ...] = ()
    off: tuple[SwitchedOff, ...] = ()
    origin: str = ""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those that stop an activation or an upgrade."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def ok(self) -> bool:
        """No errors; there may be warnings and notes."""
        return not self.errors

    def counts(self) -> dict[Severity, int]:
        """How many findings of each severity, zeros left out."""
        numbers = {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES}
        return {severity: number for severity, number in numbers.items() if number}

    def headline(self) -> str:
        """One line."""
        what = f"{self.previous} -> {self.name}" if self.previous else self.name
        counts = ", ".join(f"{number} {name}{'s' if number > 1 else ''}" for name, number in self.counts().items())
        return f"{what}: {counts or 'nothing wrong found'}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the keys are stable."""
        return {
            "name": self.name,
            "version": self.version,
            "previous": self.previous or None,
            "previous_version": self.previous_version or None,
            "origin": self.origin,
            "ok": self.ok,
            "counts": {severity: self.counts().get(severity, 0) for severity in SEVERITIES},
            "findings": [finding.as_dict() for finding in self.findings],
            "switched_off": [{**item.finding.as_dict(), "reason": item.reason} for item in self.off],
        }


@dataclass(frozen=True)
class Release:
    """A release to judge: what was found in it, and where it lies.

    Attributes:
        name: As people call it: "0.11.5".
        seen: Its inspection.
        path: The unpacked app.
        oddities: Of the archive it came in.
        origin: What it was made from: a path or a source.
    """

    name: str
    seen: Inspection
    path: Path | None = None
    oddities: tuple[Said, ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class Terms:
    """By what a release is judged.

    Attributes:
        macos: The versions of macOS it shall run on.
        sip: Whether macOS checks who signed (False for the lane `sip-off`).
        off: Rules switched off, each with its reason.
        today: Seconds since 1970; None is now.
    """

    macos: tuple[str, ...] = ()
    sip: bool = True
    off: Mapping[str, str] = field(default_factory=dict)
    today: float | None = None


def judge(release: Release, previous: Release | None = None, *, terms: Terms | None = None) -> Report:
    """Judge a release, and the upgrade to it from `previous` where one is given.

    Raises:
        UsageError: A rule that is switched off does not exist, or has no reason.
    """
    terms = terms or Terms()
    check_switched_off(terms.off)
    subject = Subject(
        release.seen, release.path, release.oddities, terms.macos, time.time() if terms.today is None else terms.today
    )
    upgrade = Upgrade(previous.seen, release.seen) if previous is not None else None
    kept: list[Finding] = []
    off: list[SwitchedOff] = []
    for rule in load_rules().values():
        if rule.about == "release":
            found = list(_ask(rule, subject, release.name, sip=terms.sip))
        elif upgrade is not None:
            found = list(_ask(rule, upgrade, release.name, sip=terms.sip))
        else:
            continue
        if rule.id in terms.off:
            off += [SwitchedOff(finding, terms.off[rule.id]) for finding in found]
        else:
            kept += found
    kept.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(
        name=release.name,
        version=_version(release.seen),
        previous=previous.name if previous is not None else "",
        previous_version=_version(previous.seen) if previous is not None else "",
        findings=tuple(kept),
        off=tuple(off),
        origin=release.origin,
    )


def _ask(rule: Rule, about: Subject | Upgrade, name: str, *, sip: bool) -> Iterator[Finding]:
    severity: Severity = rule.severity if sip or not rule.trust else "note"
    seen: Sequence[Said] = list(dict.fromkeys(judge_of(rule)(about)))
    for where, what in seen[:MOST_PER_RULE]:
        yield Finding(rule, severity, where, what, name)
    if len(seen) > MOST_PER_RULE:
        yield Finding(rule, severity, "", f"and {len(seen) - MOST_PER_RULE} more", name)


def _version(seen: Inspection) -> str:
    return f"{seen.app.version} ({seen.app.build})"
