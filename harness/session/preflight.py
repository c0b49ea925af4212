"""The preflight of a scenario: its releases judged from their files before a Mac boots, and every upgrade before it is made.

Findings are events, and in `result.json`. An error fails the scenario as the product's failure, with no Mac booted;
`--sysext-no-preflight` (`preflight.enforce = false`) goes on, and a rule alone is switched off in `[preflight.off]`.
"""

from __future__ import annotations

from pathlib import Path

from harness import events
from harness.bundles.app import AppBundle
from harness.bundles.oddities import oddities_of
from harness.bundles.preflight import Finding, Release, Report, Terms, check_switched_off, judge
from harness.bundles.preflight.sources import inspected
from harness.bundles.releases import fetch_release
from harness.config import AppFile, Settings
from harness.errors import ProductFailure
from harness.reports.result import Cause, Sign, Why
from harness.session.builds import tell_build
from harness.session.case import Case
from harness.upgrades import Relation, relation

MEANT = frozenset({Relation.REBUILD, Relation.REINSTALL, Relation.DOWNGRADE})
"""Upgrades that no product is shipped with: they are only ever walked on purpose."""
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
        events.event("degraded", what="no preflight", reason="preflight.enabled is false")
        return
    older: str | None = None
    for version in versions:
        check(case, app, version, previous=older)
        older = version


def check(case: Case, app: AppFile, version: str, *, previous: str | None = None) -> Report | None:
    """Judge one release, and the upgrade to it from `previous`; each finding is told once per case.

    Where errors are not to stop anything, trouble with judging stops nothing either.

    Returns:
        None when the preflight is switched off, or could not be made and is not enforced.

    Raises:
        PreflightFailed: It has errors.
        UsageError: It cannot be fetched or read.
    """
    settings = case.settings
    if not settings.preflight.enabled:
        return None
    try:
        report = _judged(case, app, version, previous)
    except Exception as error:
        if settings.preflight.enforce:
            raise
        events.event("degraded", what=f"no preflight of {version}", reason=f"{type(error).__name__}: {error}")
        return None
    meant = previous is not None and relation(app, previous, version) in MEANT
    # Whoever asks for a downgrade or a rebuild knows what the rules about upgrades say of it: told, and gone on.
    errors = [finding for finding in report.errors if not (meant and finding.rule.about == "upgrade")]
    if not errors:
        return report
    if not settings.preflight.enforce:
        events.event(
            "degraded", what=f"{version} goes on", reason=f"--sysext-no-preflight, in spite of {_shown(report)}"
        )
        return report
    case.why = _why(errors[0], more=len(errors) - 1)
    raise PreflightFailed(
        f"{app.name} {version} to pass the preflight"
        + (f", as an upgrade from {previous}" if previous is not None else ""),
        seen=_shown(report),
        hint=_hint(app.path, version, previous),
    )


def _judged(case: Case, app: AppFile, version: str, previous: str | None) -> Report:
    settings = case.settings
    terms = Terms(macos=(case.macos,), sip=settings.lane != "sip-off", off=settings.preflight.off)
    with events.step("preflight", release=version, **({"previous": previous} if previous else {})) as step:
        bundle = fetch_release(app.release(version), app, settings.cache_dir)
        # However it gets onto the Mac, and even if it does not: what comes of this scenario is of this very build.
        tell_build(bundle, app, version)
        older = fetch_release(app.release(previous), app, settings.cache_dir) if previous is not None else None
        report = judge(
            _release(app, version, bundle),
            _release(app, previous, older) if previous is not None and older is not None else None,
            terms=terms,
        )
        step.note(found=report.headline())
        for finding in report.findings:
            _tell(case, finding)
        for item in report.off:
            events.event("preflight-off", rule=item.finding.rule.id, reason=item.reason, what=item.finding.what)
    return report


def _why(finding: Finding, *, more: int) -> Why:
    """What triage would say, known before any Mac logged it."""
    rule = finding.rule
    sign = Sign(file=finding.where, text=finding.what)
    return Why(
        verdict="failure",
        headline=f"preflight: {rule.id}: {rule.title}" + (f" (and {more} more)" if more else ""),
        causes=(
            Cause(
                code=rule.causes[0],
                title=rule.title,
                owner="app packaging",
                severity="fatal",
                signs=(sign,),
                remedy=rule.fix,
            ),
        ),
        standing="Seen in the release's files, before any Mac booted.",
    )


def _release(app: AppFile, version: str, bundle: AppBundle) -> Release:
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
