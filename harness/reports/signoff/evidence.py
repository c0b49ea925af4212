"""What a sign-off rests on: runs, builds, findings. And which runs count: those that do not are told, each with one reason."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

from harness.bundles.app import AppBundle
from harness.bundles.executables import Executable
from harness.errors import Verdict
from harness.history.grouping import parameters, path_of
from harness.history.store import FAILURES, JUDGED
from harness.reports.signoff.config import Item, SignOffFile, fits

REAL_PROVIDERS = ("tart", "orchard", "this-mac", "ssh")
"""Where real Macs come from. Anything else signs nothing off, whatever its rows say of themselves."""
CLOCK_SKEW = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the history, as the report keeps it.

    Attributes:
        started: UTC, ISO 8601 with milliseconds.
    """

    id: str
    scenario: str
    nodeid: str
    macos: str
    release: str
    image: str
    lane: str
    provider: str
    simulated: bool
    faults: str
    verdict: str
    cause: str
    started: str
    attempt: int
    flaky: bool
    host: str
    run: str
    case: str
    cdhash: str
    uuid: str
    extension_cdhash: str
    extension_uuid: str
    same_mac: bool
    known_issue: str

    @property
    def failed(self) -> bool:
        """It is a failure of the product, a known one included."""
        return self.verdict in [one.value for one in FAILURES]

    @property
    def judged(self) -> bool:
        """It says something about the product."""
        return self.verdict in [one.value for one in JUDGED]

    @cached_property
    def time(self) -> datetime:
        """When it started.

        Raises:
            ValueError: It is no time.
        """
        return moment(self.started)


@dataclass(frozen=True, kw_only=True)
class Build:
    """What identifies one part of the release: cdhash and LC_UUID per architecture, in lower case."""

    part: Literal["app", "extension"]
    identifier: str
    version: str
    cdhashes: dict[str, str]
    uuids: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Something that is not as a rule of the preflight wants it.

    Attributes:
        reason: Why the settings switch the rule off; "" where they do not.
    """

    rule: str
    severity: Literal["error", "warning", "note"]
    where: str
    what: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the preflight found for one item.

    Attributes:
        previous: The release it was judged as an upgrade from; "" for none.
        rules: Those that were judged.
        findings: Of these, those of rules that are switched off included.
    """

    item: str
    previous: str
    rules: tuple[str, ...] = ()
    findings: tuple[Found, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a sign-off is decided by: the same evidence gives the same decision.

    Attributes:
        as_of: When it was decided, UTC, ISO 8601.
        rehearsal: Runs on simulated Macs are looked at as if they were real. Nothing is ever signed off so.
        runs: Of the release; those on simulated Macs only in a rehearsal.
        simulated: (scenario, macOS, runs) on simulated Macs, which do not count.
    """

    app: str
    bundle_id: str
    release: str
    as_of: str
    rehearsal: bool
    config: SignOffFile
    builds: tuple[Build, ...]
    runs: tuple[Run, ...]
    simulated: tuple[tuple[str, str, int], ...] = ()
    checked: tuple[Checked, ...] = ()

    @property
    def now(self) -> datetime:
        """`as_of` as a time.

        Raises:
            ValueError: It is none.
        """
        return moment(self.as_of)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the digest is over this."""
        return {
            **{key: getattr(self, key) for key in ("app", "bundle_id", "release", "as_of", "rehearsal")},
            "config": self.config.model_dump(mode="json"),
            "builds": [asdict(one) for one in self.builds],
            "runs": [asdict(one) for one in self.runs],
            "simulated": [list(one) for one in self.simulated],
            "checked": [listed(asdict(one)) for one in self.checked],
        }


def listed(value: Any) -> Any:
    """As JSON has it: lists for tuples, however deep."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return [listed(item) for item in value] if isinstance(value, list | tuple) else value


def moment(text: str) -> datetime:
    """A time of ISO 8601; one without a zone is UTC.

    Raises:
        ValueError: It is none.
    """
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def digest(evidence: dict[str, Any]) -> str:
    """SHA-256 over the evidence as canonical JSON: keys sorted, no spaces, ASCII."""
    text = json.dumps(evidence, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def builds_of(bundle: AppBundle, extension_id: str) -> tuple[Build, ...]:
    """App and extension of a release.

    Raises:
        UsageError: It has no such extension.
    """
    extension = bundle.require_extension(extension_id)
    return (
        _build("app", bundle.identifier, f"{bundle.short} ({bundle.build})", bundle.executable),
        _build("extension", extension.identifier, f"{extension.short} ({extension.build})", extension.executable),
    )


def _build(part: Literal["app", "extension"], identifier: str, version: str, executable: Executable) -> Build:
    return Build(
        part=part,
        identifier=identifier,
        version=version,
        cdhashes={arch: text.lower() for arch, text in executable.cdhashes.items()},
        uuids={arch: text.lower() for arch, text in executable.uuids.items() if text},
    )


@dataclass(frozen=True)
class Sifted:
    """What of the history counts for one item.

    Attributes:
        counted: Runs that count, in order of time.
        failed: Ids of those that count as a failure.
        excluded: Why others do not: reason and number, the most frequent first.
        warnings: What a reader should look at.
    """

    counted: tuple[Run, ...]
    failed: frozenset[str]
    excluded: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...] = ()
    considered: tuple[Run, ...] = field(default=(), repr=False)


def sift(item: Item, evidence: Evidence) -> Sifted:
    """Which runs count for an item, and why others do not.

    A run counts if it is of one of its scenarios and versions of macOS, on a real Mac (or in a rehearsal), without injected faults,
    passed or failed as the product's doing, of the very build (cdhash and UUID of one slice of the app, and of the extension), in
    its lane, fresh, on a Mac of its own, and the first attempt that the environment did not break.
    """
    chosen = [
        run
        for run in evidence.runs
        if run.release == evidence.release
        and run.macos in item.macos
        and any(fits(pattern, run.scenario) for pattern in item.scenarios)
    ]
    chosen.sort(key=lambda run: (run.time, run.id))
    attempts: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in chosen:
        attempts[_group(run)].append(run)
    copies = _copies(chosen)
    reasons: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    counted: list[Run] = []
    failed: set[str] = set()
    warnings: list[str] = []
    used: set[tuple[str, ...]] = set()
    broken = 0
    for run in chosen:
        group = attempts[_group(run)]
        before = "" if run.id in copies else _used(run, used)
        reason = _TWICE if run.id in copies else _reason(run, item, evidence) or _rerun(run, group) or before
        if reason:
            reasons[reason] += 1
            if run.failed and reason != _TWICE and not reason.startswith(_NOT_OF_IT):
                left_out[reason] += 1
            broken += _may_be_the_products(run, reason, item, evidence)
            continue
        counted.append(run)
        if run.failed:
            failed.add(run.id)
        elif _unexplained(run, group):
            failed.add(run.id)
            warnings.append(
                f"{_name(run)} passed as attempt {run.attempt}, and what it was run again for is not in the history: a failure"
            )
    simulated = sum(
        number
        for scenario, macos, number in evidence.simulated
        if macos in item.macos and any(fits(pattern, scenario) for pattern in item.scenarios)
    )
    if simulated:
        reasons[_SIMULATED] += simulated
    told = [_left_out(reason, number) for reason, number in left_out.most_common()]
    if broken >= 2 and broken * 10 >= len(counted):
        told.append(
            f"{broken} runs were ended by the environment or the harness, {len(counted)} count: make sure that it was not the "
            "product that broke them"
        )
    return Sifted(
        tuple(counted),
        frozenset(failed),
        tuple(sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))),
        (*told, *warnings[:50]),
        tuple(chosen),
    )


_SIMULATED = "of simulated Macs"
_FAULTS = "with injected faults"
_ANOTHER = "of another build"
_NO_BUILD = "that do not say which build they were of"
_TWICE = "that are in the history twice, under other names"
_AGAIN = "run again after an attempt that counts"
_NOT_OF_IT = (_SIMULATED, _FAULTS, _ANOTHER, _AGAIN)
"""Failures left out for these reasons say nothing about this build on a real Mac, or count already."""
_BROKEN = (Verdict.ENVIRONMENT_FAILURE.value, Verdict.HARNESS_ERROR.value)
_NOT_RENEWED = "this-mac"
"""The provider whose Mac is the same for every scenario of a pytest session."""


def _may_be_the_products(run: Run, reason: str, item: Item, evidence: Evidence) -> bool:
    """It was ended by something else, as far as anybody knows, and would have counted."""
    return (
        run.verdict in _BROKEN
        and not reason.startswith(_NOT_OF_IT)
        and _of_another_build(run, evidence.builds) in ("", _NO_BUILD)
        and not _elsewhere(run, item, evidence)
    )


def _left_out(reason: str, number: int) -> str:
    if reason == _NO_BUILD:
        told = "for not saying which build it was of" if number == 1 else "for not saying which build they were of"
    else:
        told = f"({reason})"
    return f"{_number(number, 'failure')} left out {told}: make sure that it says nothing about this release"


def _copies(runs: Sequence[Run]) -> set[str]:
    """Ids of runs that are there under another name too (a later version of this program may call a scenario otherwise): of
    each, all but one, and that one is a failure if any is.
    """
    same: dict[tuple[object, ...], list[Run]] = defaultdict(list)
    for run in runs:
        same[(run.time, run.run, run.case, run.nodeid, run.attempt)].append(run)
    copies: set[str] = set()
    for group in same.values():
        kept = max(group, key=lambda run: (run.failed, run.judged, run.id))
        copies.update(run.id for run in group if run is not kept)
    return copies


def _reason(run: Run, item: Item, evidence: Evidence) -> str:
    """Why a run does not count; "" if it does (reruns are another question)."""
    if not evidence.rehearsal:
        if run.simulated:
            return _SIMULATED
        if run.provider not in REAL_PROVIDERS:
            return f"of the provider {run.provider}, which is none of real Macs"
    if run.faults:
        return f"{_FAULTS} ({run.faults})"
    if not run.judged:
        what = {
            Verdict.ENVIRONMENT_FAILURE.value: "that the environment broke",
            Verdict.HARNESS_ERROR.value: "that ended by an error of the harness",
            Verdict.SKIPPED.value: "skipped",
        }
        return what.get(run.verdict, f"with the verdict {run.verdict}")
    return _of_another_build(run, evidence.builds) or _elsewhere(run, item, evidence)


def _of_another_build(run: Run, builds: Sequence[Build]) -> str:
    seen = {"app": (run.cdhash, run.uuid), "extension": (run.extension_cdhash, run.extension_uuid)}
    for build in builds:
        cdhash, uuid = seen[build.part]
        if not cdhash and not uuid:
            return _NO_BUILD
        slices = [arch for arch, one in build.cdhashes.items() if one == cdhash]
        if not slices:
            return f"{_ANOTHER}: {build.part} cdhash {cdhash or 'none'}"
        if uuid not in [build.uuids.get(arch, "") for arch in slices]:
            return f"{_ANOTHER}: {build.part} UUID {uuid or 'none'}"
    return ""


def _elsewhere(run: Run, item: Item, evidence: Evidence) -> str:
    lane = item.lane or evidence.config.lane
    if run.lane != lane:
        return f"of the lane {run.lane} (wanted: {lane})"
    if item.providers and run.provider not in item.providers:
        return f"of the provider {run.provider} (wanted: {', '.join(item.providers)})"
    if item.images and not any(fits(pattern, run.image) for pattern in item.images):
        return f"of the image {run.image}"
    days = item.freshness_days or evidence.config.freshness_days
    if run.time < evidence.now - timedelta(days=days):
        return f"older than {days} days"
    if run.time > evidence.now + CLOCK_SKEW:
        return "from the future: a clock is wrong"
    path = path_of(parameters(run.nodeid))
    if path is not None and path.releases[-1] != evidence.release and not _named(run, item):
        return f"of a path that ends with another release ({path.releases[-1]})"
    return "on a Mac that an earlier cycle had used (--sysext-same-mac): not independent" if run.same_mac else ""


def _named(run: Run, item: Item) -> bool:
    """The item asks for paths by their parameters, so it asks for this very one (a downgrade, say)."""
    return any(" [" in pattern and fits(pattern, run.scenario) for pattern in item.scenarios)


def _group(run: Run) -> tuple[str, ...]:
    """The attempts of one scenario in one pytest run."""
    return (run.host, run.run, run.nodeid, run.scenario, run.macos, run.lane, run.provider, run.image, run.faults)


def _rerun(run: Run, attempts: Sequence[Run]) -> str:
    """A rerun counts only if nothing before it said anything about the product."""
    return _AGAIN if any(one.judged and one.attempt < run.attempt for one in attempts) else ""


def _used(run: Run, used: set[tuple[str, ...]]) -> str:
    """Where Macs are not renewed, a scenario's first run of a pytest session counts; notes each run."""
    if run.provider != _NOT_RENEWED:
        return ""
    key = (run.host, run.run, run.scenario, run.macos)
    if key in used:
        return "on this-mac, where the scenario had run before in the same session: not independent"
    used.add(key)
    return ""


def _unexplained(run: Run, attempts: Sequence[Run]) -> bool:
    there = {one.attempt for one in attempts}
    return any(number not in there for number in range(1, min(run.attempt, 100)))


def _name(run: Run) -> str:
    return f"{run.run}/{run.case}"


def _number(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def runs_of(rows: Iterable[dict[str, Any]]) -> tuple[Run, ...]:
    """Runs from what `harness.history.store.History.runs` gives, in order of time."""
    names = tuple(Run.__dataclass_fields__)
    runs = [
        Run(
            **{name: row[name] for name in names if name not in ("started", "verdict")},
            started=row["started"].astimezone(UTC).isoformat(timespec="milliseconds"),
            verdict=str(row["verdict"]),
        )
        for row in rows
    ]
    return tuple(sorted(runs, key=lambda run: (run.started, run.id)))
