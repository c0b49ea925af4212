"""The way through: open the inputs, find the signs, replay the history, decide."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from harness import events
from harness.config import AppFile
from harness.formats import records
from harness.formats.crash import CrashReport
from harness.formats.records import Record
from harness.triage.catalog import load_catalog
from harness.triage.clocks import Clocks
from harness.triage.facts import TextFacts, document_facts, moment_of_report, rows_of
from harness.triage.history import History
from harness.triage.inputs import Document, Interest, Source, open_input
from harness.triage.matching import Matcher, unit_of, units_of
from harness.triage.observed import STREAM, Observed, observe
from harness.triage.ranking import is_excerpt, rank
from harness.triage.report import Happening, Triage

LARGE: Final = 64 * 1024 * 1024
"""Bytes from which log records of no interest are only counted, not matched."""
INTEREST: Final = Interest(
    processes=frozenset(
        [
            "sysextd",
            "amfid",
            "taskgated",
            "taskgated-helper",
            "kernelmanagerd",
            "kernelmanager_helper",
            "syspolicyd",
            "nesessionmanager",
            "nehelper",
            "neagent",
            "launchd",
            "com.apple.xpc.launchd",
            "xpcproxy",
            "ReportCrash",
            "authd",
            "mdmclient",
            "profiles",
            "SystemExtensionsMDM",
            "UserNotificationCenter",
            "CoreServicesUIAgent",
            "SystemExtensionsUI",
            "systemextensionsctl",
            "pkd",
        ]
    )
    | {"com.apple.xpc.launchd"},
    subsystems=frozenset(
        {"com.apple.sx", "com.apple.kernelmanagerd.logging", "com.apple.EndpointSecurity", "com.apple.cmio"}
    ),
    texts=(
        "ystemExtension",
        "ystem extension",
        "ErrorDomain",
        "0xe00002",
        "0xE00002",
        "ntitlement",
        "panic(cpu",
        "bootstrap look-up",
        "Full Disk Access",
        "application signature",
        "CMIOExtension",
        "OS_REASON_",
        "mach service name",
        "TUN device",
        "delegate interface",
        "crash",
        "ES_NEW_CLIENT",
        "Invalid display",
        "code signature",
        "Code Signature",
        "userclient-access",
    ),
)
"""What is wanted of a large log; all signs of all causes lie in it."""
MAX_TIMELINE: Final = 500
COLLECTED: Final = frozenset({"case-file", "sysdiagnose", "archive", "logarchive", "tracev3", "folder"})
"""Kinds that a program collected: nobody chose their lines, however few they are."""


def triage(
    paths: Sequence[str | Path | bytes | BinaryIO],
    *,
    app: AppFile | None = None,
    extension_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    prompt_seen: bool | None = None,
) -> Triage:
    """Say why, from everything in `paths` together (they belong to one Mac).

    Args:
        paths: Files, folders (a case file), bytes or streams; "-" is standard input.
        app: The product under test: its extension's findings rank before others'.
        extension_id: The same by the extension's bundle identifier.
        since: Leave out log records before; naive times are the log's own clock.
        until: Leave out log records after.
        prompt_seen: Whether whoever watched the screen saw the prompt; None if nobody did, or a case file tells.

    Raises:
        UsageError: A path does not exist or cannot be read.
        FormatError: Nothing can be read from it.
    """
    extension = extension_id or (app.extension.id if app else "") or ""
    run = _Run(extension, app.bundle_id if app else "", since, until)
    run.prompt_seen = prompt_seen
    with events.step("triage", inputs=[_name(path) for path in paths]) as step:
        for path in paths:
            run.read(path)
        found = run.decide()
        step.note(verdict=found.verdict, causes=[cause.code for cause in found.causes])
    return found


class _Run:
    def __init__(self, extension: str, host: str, since: datetime | None, until: datetime | None) -> None:
        self.catalog = load_catalog()
        self.matcher = Matcher(self.catalog)
        self.history = History(extension)
        self.clocks = Clocks()
        self.happened: list[Happening] = []
        self.texts = TextFacts()
        self.extension = extension
        self.host = host
        self.since = since
        self.until = until
        self.prompt_seen: bool | None = None
        self.sources: list[Source] = []
        self.documents: list[Document] = []
        self.order = 0
        self.logs = 0
        self.lines = 0

    def read(self, path: str | Path | bytes | BinaryIO) -> None:
        """Take one input in."""
        source = open_input(path, interest=INTEREST if _size(path) >= LARGE else None)
        self.sources.append(source)
        self.clocks.one_log = source.kind == "case-file"  # its logs are read as one
        watched = observe(Path(path)) if isinstance(path, str | Path) else Observed()
        for seen in watched.clocks:
            self.clocks.compared(seen)
        for record, moment in self._placed(source, watched.healing):
            if record.kind == records.BOOT:
                self.order += 1
                self.history.reboot(unit_of(record, self.order, moment))
            elif record.kind in (records.LOG, records.TEXT, records.PARAGRAPH, records.STATE) and self._wanted(record):
                self._take(record, moment)
        for document in source.documents:
            self._document(document)
        self.prompt_seen = watched.prompt_seen if self.prompt_seen is None else self.prompt_seen
        for record in watched.said:
            self._take(record)
        for unit in watched.units:
            self.matcher.feed(unit)
        for time, what, line in watched.happened:
            moment = self.clocks.of_host(time)
            if moment is not None:
                self.happened.append(Happening("", what, _shown(time), "", STREAM, line, moment))

    def _placed(self, source: Source, healing: datetime | None) -> Iterator[tuple[Record, float | None]]:
        """The records with their moments, but none from when the harness began to heal the failure: a request that succeeds on the
        ladder is no answer to the one that failed. Where nobody compared the clocks that moment is not known, and all are read.
        """
        end: float | None = None
        boot: str | None = None
        for record in source.records:
            moment = self.clocks.place(record)
            if healing is not None and moment is not None:
                if record.boot != boot:
                    end, boot = self.clocks.of_host(healing), record.boot
                if end is not None and moment >= end:
                    continue
            yield record, moment

    def _take(self, record: Record, moment: float | None = None) -> None:
        self.order += 1
        if record.kind == records.LOG:
            self.logs += 1
        elif record.kind == records.TEXT:
            self.lines += 1
        unit = unit_of(record, self.order, moment)
        self.matcher.feed(unit)
        self.history.feed(unit)
        self.texts.feed(unit)

    def _document(self, document: Document) -> None:
        self.documents.append(document)
        self.order += 1
        rows = list(rows_of(document, self.order))
        for row in rows:
            self.history.add_row(row)
        for unit in units_of(document, self.order):
            self.matcher.feed(unit)
            self.texts.feed(unit)
            if not rows:
                self.history.feed(unit)

    def _wanted(self, record: Record) -> bool:
        if record.time is None or (self.since is None and self.until is None):
            return True
        early = self.since is not None and _before(record.time, self.since)
        late = self.until is not None and _before(self.until, record.time)
        return not early and not late

    def decide(self) -> Triage:
        """The answer."""
        coverages = [source.coverage for source in self.sources]
        lost = sum(coverage.lost for coverage in coverages)
        told = list(
            document_facts(self.documents, self.history, extension=self.extension, host=self.host, clocks=self.clocks)
        )
        never = {fact.subject: fact.unit for fact in told if fact.name == "job-never-started"}
        facts = [
            *self.history.facts(lost=bool(lost), prompt_seen=self.prompt_seen),
            *self.texts.facts(self.history, never_started=never),
            *told,
        ]
        counted = max(self.logs, sum(coverage.records for coverage in coverages) - self.lines)
        ranking = rank(
            self.catalog,
            self.matcher,
            facts,
            self.history,
            excerpt=is_excerpt(counted, self.lines) and not any(source.kind in COLLECTED for source in self.sources),
            extension=self.extension,
        )
        coverage = self._coverage(lost)
        if ranking.verdict == "inconclusive":
            coverage["inconclusive"] = self._reason(ranking.suspected)
        timeline = in_order([*self.history.timeline, *self._beside()])[:MAX_TIMELINE]
        return Triage(
            input=", ".join(source.input for source in self.sources),
            kind=self.sources[0].kind if len(self.sources) == 1 else "several",
            verdict=ranking.verdict,
            causes=ranking.causes,
            suspected=ranking.suspected,
            timeline=timeline,
            coverage=coverage,
            simulated=any(_is_simulated(document) for document in self.documents),
        )

    def _beside(self) -> Iterator[Happening]:
        """What the history has from elsewhere: crash reports, and what the harness did. It is told with the extension under test,
        or with the only one that there is.
        """
        known = {happening.extension for happening in self.history.timeline} - {""}
        extension = self.extension or (next(iter(known)) if len(known) == 1 else "")
        for happening in self.happened:
            yield replace(happening, extension=extension)
        for document in self.documents:
            report = document.value
            if isinstance(report, CrashReport) and (moment := moment_of_report(report, self.clocks)) is not None:
                what = "the kernel panicked" if report.panic else f"{report.process} crashed"
                when = _shown(report.time) if report.time else ""
                yield Happening(extension, what, when, report.version, document.file, document.line, moment)

    def _reason(self, suspected: list[tuple[str, str]]) -> str:
        if suspected:
            return f"{suspected[0][0]} is suspected only: {suspected[0][1]}"
        if not self.history.moments and self.logs:
            return "the log has no activation request: what it covers may begin later"
        return "no known sign of a failure, and none of health"

    def _coverage(self, lost: int) -> dict[str, Any]:
        coverages = [source.coverage for source in self.sources]
        classes: dict[str, int] = {}
        notes: list[str] = []
        for coverage in coverages:
            for name, count in coverage.of.items():
                classes[name] = classes.get(name, 0) + count
            notes.extend(coverage.notes)
            notes.extend(f"{name} was not read: {reason}" for name, reason in coverage.skipped[:20])
            notes.extend(f"not understood: {file}:{line}: {text[:80]}" for file, line, text in coverage.examples[:3])
        if lost:
            notes.append(f"the log says that it lost {lost} messages: silence proves nothing")
        first = min((c.first for c in coverages if c.first), key=_stamp, default=None)
        last = max((c.last for c in coverages if c.last), key=_stamp, default=None)
        lines = sum(classes.values())
        summary = f"{lines} lines, {self.logs} log messages, {len(self.documents)} documents"
        if first and last:
            summary += (
                f", {first.isoformat(sep=' ', timespec='seconds')} to {last.isoformat(sep=' ', timespec='seconds')}"
            )
        return {
            "summary": summary,
            "lines": classes,
            "messages": self.logs,
            "documents": len(self.documents),
            "first": first.isoformat() if first else None,
            "last": last.isoformat() if last else None,
            "lost": lost,
            "finished": next((c.finished for c in coverages if c.finished is not None), None),
            "truncated": any(coverage.truncated for coverage in coverages),
            "boots": sum(len(coverage.boots) for coverage in coverages),
            "clocks": self.clocks.said(),
            "notes": notes,
        }


def in_order(happenings: Sequence[Happening]) -> list[Happening]:
    """By extension, and then by time on the clock that all sources share. What has no time stays behind what it followed."""
    moments: dict[str, float] = {}
    keyed = []
    for happening in happenings:
        if happening.moment is not None:
            moments[happening.extension] = happening.moment
        keyed.append((happening.extension, moments.get(happening.extension, -math.inf), happening))
    return [happening for _, _, happening in sorted(keyed, key=lambda item: item[:2])]


def _shown(time: datetime) -> str:
    return time.isoformat(sep=" ", timespec="milliseconds")


def _is_simulated(document: Document) -> bool:
    value = document.value
    return (
        document.kind in ("result", "manifest")
        and isinstance(value, dict)
        and (value.get("simulated") is True or value.get("provider") == "simulated")
    )


def _stamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _before(first: datetime, second: datetime) -> bool:
    if (first.tzinfo is None) != (second.tzinfo is None):
        return first.replace(tzinfo=None) < second.replace(tzinfo=None)
    return first < second


def _size(path: str | Path | bytes | BinaryIO) -> int:
    if isinstance(path, bytes):
        return len(path)
    if isinstance(path, str | Path) and str(path) != "-":
        try:
            if Path(path).is_dir():
                return sum(item.stat().st_size for item in Path(path).rglob("*") if item.is_file())
            size = os.stat(path).st_size  # noqa: PTH116 - a name with odd bytes
        except OSError:
            return 0
        return size * 8 if str(path).endswith((".gz", ".tgz", ".zip")) else size
    return 0


def _name(path: str | Path | bytes | BinaryIO) -> str:
    return str(path) if isinstance(path, str | Path) else type(path).__name__
