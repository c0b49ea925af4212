"""What crash reports, panics, launchd's prints, listings and databases come to, as facts for the causes' signs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from harness.formats.crash import CrashReport
from harness.formats.database import ExtensionDatabase
from harness.formats.launchctl import Job
from harness.formats.listing import Listing
from harness.triage.catalog import fold
from harness.triage.clocks import Clocks
from harness.triage.history import Fact, History, Row
from harness.triage.inputs import Document
from harness.triage.matching import Unit

SERIES: Final = 4
"""So many reports of one process are a series."""
CROWD: Final = 5
"""So many network extensions that run beside one whose job was never started are suspicious. No limit is documented; this is the
number that developers report for macOS 26.
"""
EX_CONFIG: Final = 78
"""sysexits.h: something in the job's configuration is wrong."""
_REPORT_NAME = re.compile(r"(?<![\w.-])([A-Za-z][\w .-]{0,120}?)[-_]\d{4}-\d\d-\d\d-\d{4,6}\S{0,60}?\.(?:ips|crash)\b")
_EXTENSION_PATH = re.compile(r"\.systemextension\b|\.dext\b|/Library/SystemExtensions/", re.IGNORECASE)
_EXTENSION_ID = re.compile(
    r"(?:network|system|endpoint|security|driver|camera|filter|proxy|tunnel|vpn)[\w.-]{0,12}?ext(?:ension)?(?![a-z])|\bsysext|\bdext\b",
    re.IGNORECASE,
)
_PRODUCT_NAME = re.compile(
    r"^(?!com\.apple\.)[\w-]+(?:\.[\w-]+){2,}$|(?:network|system|driver|camera|security).?ext|\bdext\b|sysext",
    re.IGNORECASE,
)
"""How the processes of extensions are named: by a bundle identifier, or with the word."""
_PANIC = re.compile(r"panic\(cpu \d+ caller", re.IGNORECASE)
_PANIC_NETWORK = re.compile(
    r"m_copym_with_hdrs|uipc_mbuf|\bmbuf\b|\bm_\w+: |skmem_|skywalk|skr\.flowadv|\bfsw_\w|flow_?switch|\bnexus\b|netif\.utun|\butun\d"
    r"|dlil_\w+|\bifnet\w*|necp_\w+|cfil_\w+|content_filter|kalloc\.type\d\.\d+.{0,80}element modified after free",
    re.IGNORECASE,
)
_PANICKED_EXTENSION = re.compile(
    r"(?:Panicked task\b.{0,90}?\bpid \d+: ?|(?:BSD )?process name corresponding to current thread(?: \(\w{1,20}\))?: ?|\bTask: )"
    r"(?=\S*[.-])\S{0,60}?(?:network-|network.?ext|utun|neagent|vpn|tunnel|extension)|Panicked task\b.{0,90}?\bpid \d+: ?neagent",
    re.IGNORECASE,
)
_KEXT = re.compile(r"com\.apple\.(?!netif)[\w.]{1,120}")
_MDM = re.compile(
    r"com\.apple\.mdmclient\.daemon(?:\.runatboot)? = \{.{0,3000}?(?:\bstate = not running|job state = exited)",
    re.IGNORECASE,
)
_MDM_EXIT = re.compile(r"last exit code = (?:\(never exited\)|[1-9])", re.IGNORECASE)
_LIST_ROW = re.compile(r"(?:^|\n)- (-?\d{1,5}) ([A-Za-z0-9][\w.-]{3,200})$")
"""A line of `launchctl list` of a job without a process: how it ended, and its label."""
_RUNNING_ROW = re.compile(r"(?:^|\n)(\d{1,7}) (?:-|-?\d{1,5}) (NetworkExtension\.[\w.-]{3,200})$")
"""A line of `launchctl list`, or of the services in `launchctl print system`, of a network extension's job that has a process."""
_PRINT = re.compile(r"^(?:PID Status Label|services = \{|system = \{)")
"""Where such a print begins."""
_JOB_OF_EXTENSION = re.compile(r"^(?:[A-Z0-9]{10}|NetworkExtension|CMIOExtension)\.")
_CRASHES: Final = frozenset({-4, -5, -6, -8, -10, -11})
_SAVED = re.compile(
    r"Saved (?:crash|IPS) report for (?P<saved>\S.{0,80}?)\[\d+\]|Process:? (?P<process>\S.{0,60}?) ?\[\d+\] crashed"
    r"|Formulating fatal 309 report for corpse\[\d+\] (?P<corpse>\S{1,120})",
    re.IGNORECASE,
)


class TextFacts:
    """Facts that lie in texts and have no document of their own: a pasted panic, a list of report names."""

    def __init__(self) -> None:
        self._panic: Unit | None = None
        self._network: Unit | None = None
        self._mdm: Unit | None = None
        self._names: dict[str, tuple[int, Unit]] = {}
        self._saved: list[tuple[str, Unit]] = []
        self._jobs: list[tuple[str, str, Unit]] = []
        self._running: dict[tuple[str, int], dict[str, Unit]] = {}
        self._prints = 0
        self._counted: set[tuple[str, int, str]] = set()

    def feed(self, unit: Unit) -> None:
        """Take the next text."""
        text = unit.text
        if _PANIC.search(text):
            self._panic = self._panic or unit
        if unit.place != "log" or _PANIC.search(text):
            if self._network is None and _networked(text):
                self._network = unit
            if "mdmclient" in text and (mdm := _MDM.search(text)) and not _MDM_EXIT.search(text, mdm.start()):
                self._mdm = unit
        if text[:2] == "- " and unit.place != "log" and len(self._jobs) < 1000 and (row := _LIST_ROW.search(text)):
            self._ended(int(row.group(1)), row.group(2), unit)
        if unit.place != "log" and _PRINT.search(text):
            self._prints += 1
        if "NetworkExtension." in text and unit.place != "log" and not unit.repeats:
            for found in _RUNNING_ROW.finditer(text):
                if found.group(1) != "0" and len(self._running) < 1000:
                    self._running.setdefault((unit.file, self._prints), {})[found.group(2)] = unit
        if ".ips" in text or ".crash" in text:
            for name in _REPORT_NAME.finditer(text):
                key = (unit.file, unit.numbers[0], name.group())
                if unit.repeats or key in self._counted:
                    continue
                self._counted.add(key)
                count, first = self._names.get(name.group(1), (0, unit))
                self._names[name.group(1)] = (count + 1, first)
        if (
            unit.place == "log"
            and len(self._saved) < 1000
            and ("crash" in text or "corpse" in text)
            and (saved := _SAVED.search(text))
        ):
            self._saved.append((saved["saved"] or saved["process"] or saved["corpse"], unit))

    def _ended(self, status: int, label: str, unit: Unit) -> None:
        """A job of `launchctl list` that has ended with `status`: the exit code, or the negative number of a signal."""
        if unit.repeats or label.startswith(("com.apple.", "application.")):
            return
        if status == EX_CONFIG:
            self._jobs.append(("job-configuration", label, unit))
        elif status in _CRASHES:
            self._jobs.append(("job-crashed", label, unit))
        elif status == -9:
            self._jobs.append(("job-killed", label, unit))

    def facts(self, history: History, *, never_started: Mapping[str, Unit] | None = None) -> Iterator[Fact]:
        """Everything that follows.

        Args:
            history: The log's own, already fed.
            never_started: Jobs that `launchctl print` calls never started, by their labels, and where.
        """
        for label, unit in (never_started or {}).items():
            yield from self._crowded(label, unit)
        for name, label, unit in self._jobs:
            known = any(identifier and identifier in label for identifier in history.identifiers)
            if name == "job-configuration" or known or _JOB_OF_EXTENSION.search(label) or _EXTENSION_ID.search(label):
                yield Fact(name, unit, label)
        yield from self._two_versions(history)
        if self._panic is not None:
            if self._network is not None:
                yield Fact("panic-network", self._panic)
            else:
                yield Fact("panic-other", self._panic)
        if self._mdm is not None:
            yield Fact("mdmclient-exited", self._mdm)
        for name, (count, unit) in self._names.items():
            if count >= SERIES and name != "sysextd" and (name in history.identifiers or _PRODUCT_NAME.search(name)):
                yield Fact("crash-series", unit, name)
        for name, unit in self._saved:
            if name == "sysextd":
                yield Fact("crash-sysextd", unit)
            elif name in history.identifiers or _EXTENSION_ID.search(name):
                yield Fact("crash-extension", unit, name)
            elif history.near_request(unit.seconds) and _related(name, history):
                yield Fact("crash-host-near-activation", unit, name)

    def _crowded(self, label: str, unit: Unit) -> Iterator[Fact]:
        """A job that was never started where so many other network extensions run: launchd's last prints, not some earlier ones."""
        for running in reversed(self._running.values()):
            if label in running:
                return
            others = sorted({_without_version(other) for other in running} - {_without_version(label)})
            if len(others) >= CROWD:
                say = f"{label} was never started (runs = 0) beside {len(others)} network extensions that run: {', '.join(others)}"
                say = say.replace(_NETWORK_JOB, "")[:1000]
                yield Fact("never-started-in-a-crowd", msgspec.structs.replace(unit, text=say, lines=(say,)), label)
                return

    def _two_versions(self, history: History) -> Iterator[Fact]:
        """Jobs of two versions of one network extension that have a process at the same moment (one print)."""
        for labels in self._running.values():
            for identifier in sorted(history.identifiers | history.requested):
                ours = [label for label in labels if re.match(rf"NetworkExtension\.{re.escape(identifier)}\.\d", label)]
                if len(ours) > 1:
                    yield Fact("two-versions-running", labels[ours[-1]], identifier)


_NETWORK_JOB: Final = "NetworkExtension."


def _without_version(label: str) -> str:
    """The job's label without the extension's version, which ends it."""
    return re.sub(r"(?:\.\d{1,9}){1,8}$", "", label)


_COMMON_PARTS: Final = frozenset(
    [
        "apple",
        "extension",
        "network",
        "system",
        "driver",
        "daemon",
        "agent",
        "helper",
        "macos",
        "service",
        "security",
        "endpoint",
        "filter",
        "proxy",
    ]
)


def _related(name: str, history: History) -> bool:
    """Whether a process or bundle is of the product that asked: its name has a part of an extension's identifier.

    Where nobody is known to have asked, any may be.
    """
    parts = {
        part
        for identifier in history.identifiers | history.requested
        for part in identifier.lower().replace("-", ".").split(".")
        if len(part) >= 4 and part not in _COMMON_PARTS
    }
    low = name.lower()
    if low.startswith("com.apple."):
        return False
    return not parts or any(part in low for part in parts)


def _networked(text: str) -> bool:
    """Whether a panic's text speaks of the network path, lists of Apple's kernel extensions aside."""
    return bool(_PANIC_NETWORK.search(_KEXT.sub(" ", text)) or _PANICKED_EXTENSION.search(text))


def rows_of(document: Document, order: int) -> Iterator[Row]:
    """The rows of a listing or a database."""
    value = document.value
    if isinstance(value, Listing):
        for entry in value.entries:
            version = f"{entry.short}/{entry.build}".strip("/")
            yield Row(entry.identifier, version, entry.state, line_in(document, entry.raw, order))
    elif isinstance(value, ExtensionDatabase):
        for item in value.extensions:
            unit = line_in(
                document, item.unique_id or item.identifier, order, say=f"{item.identifier}: state {item.state}"
            )
            yield Row(item.identifier, f"{item.short}/{item.build}".strip("/"), item.state, unit)


def document_facts(
    documents: Sequence[Document],
    history: History,
    *,
    extension: str = "",
    host: str = "",
    clocks: Clocks | None = None,
) -> Iterator[Fact]:
    """What documents come to.

    Args:
        documents: What an input held besides logs.
        history: The log's own, already fed.
        extension: Bundle identifier of the extension under test, if known.
        host: That of its app.
        clocks: The Mac's, learnt from its log: a crash report's time is compared by them.
    """
    enabled = {row.identifier for row in history.rows if row.state == "activated_enabled"}
    off = {row.identifier for row in history.rows} - enabled
    if (
        extension
        and extension not in enabled
        and any(document.kind in ("listing", "database") for document in documents)
    ):
        off.add(extension)
    builds = builds_of(documents)
    for order, document in enumerate(documents):
        if isinstance(document.value, CrashReport):
            yield from _crash(document, document.value, history, extension, host, order, builds, clocks or Clocks())
        elif document.kind == "staged":
            yield from _staged(document, order)
        elif document.kind == "launchctl":
            yield from _job(document, document.value, enabled, off, extension, order)


def moment_of_report(report: CrashReport, clocks: Clocks) -> float | None:
    """When it crashed, on the clock of the log (see `Clocks`); None for a report without a time."""
    return clocks.of_wall(report.time, boot=report.boot_uuid, ticks=report.exit_ticks, rate=report.tick)


def builds_of(documents: Sequence[Document]) -> dict[str, str]:
    """Build UUID → whose it is, of the extension that was installed and of the copy that macOS runs."""
    found: dict[str, str] = {}
    for document in documents:
        if document.kind != "staged":
            continue
        for part, whose in (
            ("staged", "the copy that macOS runs, not of what was installed"),
            ("installed", "what was installed"),
        ):
            for uuid, _ in _slices(document.value, part).values():
                found[uuid.upper()] = whose
    return found


def _slices(value: Any, part: str) -> dict[str, tuple[str, str]]:
    """Architecture → (build UUID, cdhash); the file comes from a folder that anybody may have edited."""
    slices = value.get(part) if isinstance(value, dict) else None
    return {
        str(arch)[:20]: (pair[0], pair[1])
        for arch, pair in (slices.items() if isinstance(slices, dict) else ())
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) and pair[0]
    }


def _staged(document: Document, order: int) -> Iterator[Fact]:
    """The copy that macOS runs and what was installed: another code, and still the same build UUID."""
    staged = _slices(document.value, "staged")
    for arch, (uuid, cdhash) in _slices(document.value, "installed").items():
        other = staged.get(arch)
        if other is not None and other[0].upper() == uuid.upper() and other[1] and cdhash and other[1] != cdhash:
            say = f"{arch}: build UUID {uuid} in both, cdhash {cdhash} was installed and {other[1]} runs"
            yield Fact("staged-same-uuid", line_in(document, "", order, say=say), arch)


def _crash(
    document: Document,
    report: CrashReport,
    history: History,
    extension: str,
    host: str,
    order: int,
    builds: Mapping[str, str],
    clocks: Clocks,
) -> Iterator[Fact]:
    if report.panic:
        unit = line_in(document, report.panic[:60], order, say=report.panic)
        networked = _networked(fold(report.panic)) or _PANICKED_EXTENSION.search(fold(document.text[:20_000]))
        yield Fact("panic-network" if networked else "panic-other", unit)
        return
    name = report.process
    unit = line_in(document, name, order, say=f"{name} crashed: {report.exception} {report.termination}")
    moment = moment_of_report(report, clocks)
    unit = msgspec.structs.replace(unit, time=report.time, moment=moment)
    if whose := builds.get(report.slice_uuid):
        said = f"{unit.text} (build UUID {report.slice_uuid}: {whose})"
        unit = msgspec.structs.replace(unit, text=said, lines=(said,))
    if name == "sysextd":
        yield Fact("crash-sysextd", unit, name)
        return
    known = {extension, *history.identifiers} - {""}
    named = f"{report.bundle_id} {name}"
    phone = report.os_version.startswith(("iPhone", "iPad", "Watch", "Apple TV"))
    is_extension = (
        bool(_EXTENSION_PATH.search(report.path))
        or report.slice_uuid in builds
        or report.bundle_id in known
        or name in known
        or (bool(_EXTENSION_ID.search(named)) and ".appex/" not in report.path.replace("network-extension", ""))
    ) and not phone
    if getattr(report, "killed_at_exec", "") and not report.path.startswith("/System/"):
        yield Fact("crash-at-exec", unit, name)
    elif is_extension:
        yield Fact("crash-extension", unit, name)
    elif host and report.bundle_id == host:
        yield Fact("crash-host-near-activation", unit, name)
    elif (
        ".app/" in report.path and not report.path.startswith("/System/") and not phone and ".appex/" not in report.path
    ):
        near = history.near_request(moment) and (_related(name, history) or _related(report.bundle_id, history))
        yield Fact("crash-host-near-activation" if near else "crash-host", unit, name)


def _job(document: Document, job: Any, enabled: set[str], off: set[str], extension: str, order: int) -> Iterator[Fact]:
    """`off`: extensions that are known and not enabled: of those no process is expected."""
    if any(name and name in document.text for name in off):
        return
    if job is None:
        text = fold(document.text)
        wanted = extension and extension in text
        if "NetworkExtension." in text or wanted:
            yield Fact("job-unknown", line_in(document, "ould not find", order), extension)
        return
    if not isinstance(job, Job):
        return
    ours = job.label.startswith("NetworkExtension.") or any(
        name and name in job.label for name in (extension, *enabled)
    )
    if job.label.startswith("com.apple.mdmclient.daemon"):
        if job.state in ("not running", "exited") and not job.last_exit_code:
            yield Fact("mdmclient-exited", line_in(document, "state = ", order))
        return
    if not ours:
        return
    if job.running or job.state == "running":
        if job.complete and not job.endpoints and job.label.startswith("NetworkExtension."):
            yield Fact("endpoints-missing", line_in(document, job.label, order), job.label)
        else:
            yield Fact("job-running", line_in(document, "state = ", order), job.label)
    elif job.state and "OS_REASON_EXEC" not in job.last_exit_reason:
        yield Fact("job-not-running", line_in(document, "state = ", order), job.label)
        if job.runs == 0:
            yield Fact("job-never-started", line_in(document, "runs = ", order), job.label)


def line_in(document: Document, needle: str, order: int, *, say: str = "") -> Unit:
    """The line of a document that holds `needle`; its first one if none does, or `say` where it has no text."""
    if document.text:
        at = max(0, document.text.find(needle)) if needle else 0
        start = document.text.rfind("\n", 0, at) + 1
        end = document.text.find("\n", at)
        line = fold(document.text[start : end if end >= 0 else None][:2000])
        number = (document.line or 1) + document.text.count("\n", 0, at)
        text = line if len(line) > 3 else say
    else:
        text, number = say or needle, document.line
    return Unit(text=text, place="document", file=document.file, numbers=(number,), lines=(text,), order=order)
