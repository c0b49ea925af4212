"""Evidence for a sign-off: rows of the history, the release's files, what the preflight says of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import UTC, datetime

from harness import events
from harness.bundles.app import AppBundle
from harness.bundles.oddities import oddities_of
from harness.bundles.preflight import Finding, Release, Terms, judge, load_rules
from harness.bundles.preflight.sources import inspected
from harness.bundles.releases import fetch_release
from harness.config import AppFile, Settings
from harness.errors import UsageError, Verdict
from harness.history.grouping import kind, older_of
from harness.history.store import History, Selection
from harness.reports.signoff.config import Item, PreflightItem, SignOffFile, fits
from harness.reports.signoff.evidence import Checked, Evidence, Found, builds_of, runs_of

MOST_ROWS = 200_000
"""Runs of one release that are looked at."""


def gather(
    history: History,
    app: AppFile,
    release: str,
    config: SignOffFile,
    settings: Settings,
    *,
    rehearsal: bool = False,
    now: datetime | None = None,
) -> Evidence:
    """All evidence there is for a release, as of now.

    Args:
        history: Where the runs are.
        app: The app file; the release's files are fetched, for what counts is of that very build.
        release: As the app file calls it.
        config: What is demanded.
        settings: For the cache, and for rules of the preflight that are switched off.
        rehearsal: Look at runs on simulated Macs, too.
        now: Another time, for tests.

    Raises:
        UsageError: There is no such release, it cannot be read or identified, or there are too many runs.
        EnvironmentFailure: The network, the disk, or the history's database.
    """
    time = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    with events.step("gather evidence", release=release) as step:
        bundle = fetch_release(app.release(release), app, settings.cache_dir)
        builds = builds_of(bundle, app.extension.id)
        for build in builds:
            if not build.cdhashes:
                raise UsageError(
                    f"a cdhash in the {build.part} of {app.name} {release}, to know its runs by",
                    seen="none: it is not signed (a UUID alone says nothing about what else is in it)",
                    hint="sign off what you ship: the signed release",
                )
        rows = rows_of(history, release)
        if rehearsal:
            rows += rows_of(history, release, simulated=True)
        evidence = Evidence(
            app=app.name,
            bundle_id=app.bundle_id,
            release=release,
            as_of=time.isoformat(),
            rehearsal=rehearsal,
            config=config,
            builds=builds,
            runs=tuple(run for run in runs_of(rows) if _wanted(run.scenario, config)),
            simulated=() if rehearsal else tuple(_simulated(history, release, config)),
            checked=checked_of(config, app, release, bundle, settings),
        )
        step.note(runs=len(evidence.runs), simulated=sum(number for *_, number in evidence.simulated))
    return evidence


def checked_of(
    config: SignOffFile, app: AppFile, release: str, bundle: AppBundle, settings: Settings
) -> tuple[Checked, ...]:
    """What the preflight finds, item by item.

    Raises:
        UsageError: A release to upgrade from is none of the app file's.
        EnvironmentFailure: It cannot be fetched.
    """
    return tuple(one for item in config.preflight for one in _checked(item, app, release, bundle, settings))


def rows_of(history: History, release: str, *, simulated: bool = False) -> list[dict[str, object]]:
    """The rows of a release.

    Raises:
        UsageError: There are more than are looked at.
    """
    rows = history.runs(Selection(release=release, simulated=simulated), most=MOST_ROWS + 1)
    if len(rows) > MOST_ROWS:
        raise UsageError(f"at most {MOST_ROWS} runs of {release}", seen="more", hint="use a history of its own")
    return rows


def unmatched(history: History, config: SignOffFile) -> list[str]:
    """Scenarios that are demanded and of which the history has no run at all, of whatever release and Mac: likely misspelt."""
    names = {count.series.scenario for side in (False, True) for count in history.counts(Selection(simulated=side))}
    told = []
    for pattern in dict.fromkeys(pattern for item in config.item for pattern in item.scenarios):
        if not any(fits(pattern, name) for name in names):
            near = difflib.get_close_matches(pattern, sorted(names), n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            told.append(f"no run of '{pattern}' is in the history, of any release{hint}")
    return told


def not_run(history: History, config: SignOffFile, release: str) -> list[str]:
    """Scenarios that are demanded, that other releases ran on real Macs, and that this one did not: a wildcard means what ran, and
    does not miss them. Upgrade paths are told apart by their way, not by their releases.
    """
    mine: set[tuple[str, str]] = set()
    others: dict[tuple[str, str], str] = {}
    for count in history.counts(Selection()):
        series = count.series
        if any(series.macos in item.macos and _means(item, series.scenario) for item in config.item):
            older = older_of(series.scenario, series.release)
            key = (older[1] if older else kind(series.scenario, series.release), series.macos)
            if series.release == release:
                mine.add(key)
            elif count.verdict is not Verdict.SKIPPED:
                others[key] = f"{series.scenario} on macOS {series.macos} ({series.release})"
    missing = sorted(told for key, told in others.items() if key not in mine)
    if not missing:
        return []
    more = f"; and {len(missing) - 10} more" if len(missing) > 10 else ""
    return [f"other releases ran, and {release} did not: {'; '.join(missing[:10])}{more}"]


def _means(item: Item, scenario: str) -> bool:
    return any(fits(pattern, scenario) for pattern in item.scenarios)


def _wanted(scenario: str, config: SignOffFile) -> bool:
    return any(_means(item, scenario) for item in config.item)


def _simulated(history: History, release: str, config: SignOffFile) -> Iterable[tuple[str, str, int]]:
    numbers: dict[tuple[str, str], int] = {}
    for count in history.counts(Selection(release=release, simulated=True)):
        if count.verdict is not Verdict.SKIPPED and _wanted(count.series.scenario, config):
            key = (count.series.scenario, count.series.macos)
            numbers[key] = numbers.get(key, 0) + count.runs
    return [(scenario, macos, number) for (scenario, macos), number in sorted(numbers.items())]


def _checked(
    item: PreflightItem, app: AppFile, release: str, bundle: AppBundle, settings: Settings
) -> Iterable[Checked]:
    wanted = [rule.id for rule in load_rules().values() if any(fits(pattern, rule.id) for pattern in item.rules)]
    terms = Terms(macos=tuple(item.macos), sip=True, off=settings.preflight.off)
    subject = _release(app, release, bundle)
    for previous in _previous(item, app, release) or [""]:
        old = None
        if previous:
            old = _release(app, previous, fetch_release(app.release(previous), app, settings.cache_dir, checked=False))
        report = judge(subject, old, terms=terms)
        judged = [rule for rule in wanted if previous or load_rules()[rule].about == "release"]
        yield Checked(
            item=item.id,
            previous=previous,
            rules=tuple(judged),
            findings=(
                *(_found(finding) for finding in report.findings if finding.rule.id in judged),
                *(_found(one.finding, one.reason) for one in report.off if one.finding.rule.id in judged),
            ),
        )


def _previous(item: PreflightItem, app: AppFile, release: str) -> list[str]:
    """The releases to upgrade from, as the app file calls them.

    Raises:
        UsageError: One is not in it.
    """
    versions = [one.version for one in app.releases]
    found: list[str] = []
    for name in item.previous:
        if name == "previous" and name not in versions:
            place = versions.index(release)
            found += versions[place - 1 : place] if place else []
        else:
            found.append(app.release(name).version)
    return list(dict.fromkeys(found))


def _release(app: AppFile, version: str, bundle: AppBundle) -> Release:
    return Release(version, inspected(bundle.path), bundle.path, oddities_of(bundle.path), str(app.path))


def _found(finding: Finding, reason: str = "") -> Found:
    return Found(rule=finding.rule.id, severity=finding.severity, where=finding.where, what=finding.what, reason=reason)
