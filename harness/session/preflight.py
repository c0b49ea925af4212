"""The preflight of a scenario: its releases judged from their files before a Mac boots, and every upgrade before it is made.

Findings are events, and in `result.json`. An error fails the scenario as the product's failure, with no Mac booted;
`--sysext-no-preflight` (or `preflight.enabled = false`) goes on, and a rule alone is switched off in `[preflight.off]`.
"""

from __future__ import annotations

from pathlib import Path

from harness import events
from harness.bundles.preflight import Finding, Release, Report, Terms, check_switched_off, judge
from harness.bundles.preflight.sources import inspected
from harness.bundles.releases import fetch_release, oddities_of
from harness.config import AppFile, Settings
from harness.errors import ProductFailure
from harness.session.case import Case

MOST_SHOWN = 6
"""Findings that the failure's own text names; all are in the case file."""


class PreflightFailed(ProductFailure):
    """A release cannot activate, or an upgrade goes wrong: seen in the files."""


def check_settings(settings: Settings) -> None:
    """The rules that are switched off exist, each with a reason.

    Raises:
        UsageError: One does not.
    """
    check_switched_off(settings.preflight.off, origin="sysext.toml, [preflight.off]")


def before_scenario(case: Case, app: AppFile, versions: tuple[str, ...]) -> None:
    """Judge the releases that a scenario will install, and the upgrades between them, in that order.

    Args:
        case: Findings go to its result and events.
        app: The product under test.
        versions: Releases of the app file, oldest first.

    Raises:
        PreflightFailed: One of them has errors.
        UsageError: A release cannot be fetched or read.
    """
    if not case.settings.preflight.enabled:
        events.event("degraded", what="no preflight", reason="it is switched off (--sysext-no-preflight)")
        return
    older: str | None = None
    for version in versions:
        check(case, app, version, previous=older)
        older = version


def check(case: Case, app: AppFile, version: str, *, previous: str | None = None) -> Report | None:
    """Judge one release, and the upgrade to it from `previous`; each finding is told once per case.

    Returns:
        None when the preflight is switched off.

    Raises:
        PreflightFailed: It has errors.
        UsageError: It cannot be fetched or read.
    """
    settings = case.settings
    if not settings.preflight.enabled:
        return None
    terms = Terms(macos=(case.macos,), sip=settings.lane != "sip-off", off=settings.preflight.off)
    with events.step("preflight", release=version, **({"previous": previous} if previous else {})) as step:
        report = judge(
            _release(app, version, settings.cache_dir),
            _release(app, previous, settings.cache_dir) if previous is not None else None,
            terms=terms,
        )
        step.note(found=report.headline())
        for finding in report.findings:
            _tell(case, finding)
        for item in report.off:
            events.event("preflight-off", rule=item.finding.rule.id, reason=item.reason, what=item.finding.what)
        if not report.ok:
            raise PreflightFailed(
                f"{app.name} {version} to pass the preflight"
                + (f", as an upgrade from {previous}" if previous is not None else ""),
                seen=_shown(report),
                hint=_hint(app.path, version, previous),
            )
    return report


def _release(app: AppFile, version: str, cache: Path) -> Release:
    bundle = fetch_release(app.release(version), app, cache)
    return Release(version, inspected(bundle.path), bundle.path, oddities_of(bundle.path), str(app.path))


def _tell(case: Case, finding: Finding) -> None:
    told = {
        "rule": finding.rule.id,
        "severity": finding.severity,
        "release": finding.release,
        "where": finding.where,
        "what": finding.what,
    }
    if told in case.preflight:
        return
    case.preflight.append(told)
    if finding.severity != "note":
        events.event("preflight-finding", **told, causes=list(finding.rule.causes), fix=finding.rule.fix)


def _shown(report: Report) -> str:
    errors = report.errors
    lines = [f"{finding.rule.id} ({finding.where or 'the app'}): {finding.what}" for finding in errors[:MOST_SHOWN]]
    if len(errors) > MOST_SHOWN:
        lines.append(f"and {len(errors) - MOST_SHOWN} more")
    return "; ".join(lines)


def _hint(path: Path, version: str, previous: str | None) -> str:
    command = f"sysext preflight --app-file {path} --release {version}"
    if previous is not None:
        command += f" --previous {previous}"
    return (
        f"{command} says why and what to do; --sysext-no-preflight goes on all the same, "
        'and [preflight.off] rule-id = "reason" in sysext.toml switches one rule off'
    )
