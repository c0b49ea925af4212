"""Crash reports: `.ips` (one line of JSON, then a JSON or text body) and the old `.crash` text; panics too.

What is kept is what joins a report to the rest: pid and time (log), boot session, the slice's UUID (the shipped
binary's LC_UUID), and why it ended.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.formats import crash_details as details
from harness.formats.crash_details import Frame, Image
from harness.formats.failures import FormatError, excerpt

MAX_TEXT = 32 * 1024 * 1024
PANIC_TYPES = frozenset({"210"})
"""`bug_type` of a kernel panic; 309 and 109 are crashes, 298 jetsam, 288 a stackshot."""
_FIELD = re.compile(r"^([A-Z][A-Za-z/ ]{1,40}?):[ \t]+(.*)$", re.MULTILINE)
_PANIC = re.compile(r"^panic\(cpu \d+ caller 0x[0-9a-fA-F]+\):.*", re.MULTILINE)
# At most two blanks of indentation: the body's own values, not those of its threads and images.
_SCALAR = re.compile(r'^ {0,2}"(\w{1,60})"\s*:\s*("(?:[^"\\\n]|\\.){0,8000}(?:"|\\?\s*\Z)|-?\d{1,20})', re.MULTILINE)
_TICKS = {"ARM": 125 / 3e9, "X86": 1e-9}
_NAMED = re.compile(r"^(.*?)\s*\[(\d{1,10})\]$")


@dataclass(frozen=True)
class CrashReport:
    """One report. Texts are "" and numbers None where the report does not say.

    Attributes:
        process: Name of the process ("sysextd"); "kernel" for a panic.
        pid: Its number, which a log record of that boot shares.
        path: Its executable, often redacted (`/Users/USER/*/…`).
        bundle_id: Daemons have none.
        version: "short (build)" as printed.
        time: When it crashed, with zone.
        launched: When the process began.
        incident: The report's own UUID.
        bug_type: "309", "210", …; "" in the old text.
        os_version: "macOS 15.6 (24G84)".
        boot_uuid: Boot session; equals a log record's `boot_uuid`.
        slice_uuid: LC_UUID of the crashed slice, upper case.
        exception: "EXC_BREAKPOINT (SIGTRAP)".
        termination: "SIGNAL 5 Trace/BPT trap: 5", "Namespace CODESIGNING, Code 0x2".
        panic: First line of the panic; "" for anything else.
        format: "ips" or "text".
        thread: Name or queue of the thread that crashed.
        frames: Its frames, innermost first, at most 24.
        images: Loaded images with their LC_UUIDs, the executable first, at most 64.
        namespace: Of the termination: "CODESIGNING", "SIGNAL", "DYLD", "EXEC", …
        code: Of the termination, as printed.
        killed_at_exec: The mark of a process killed for its signature or before it ran ("Launch Constraint Violation",
            "Taskgated Invalid Signature", "Code Signature Invalid", "CODESIGNING", "OS_REASON_EXEC", …); "" for any other.
        notes: Application-specific information and what else the report says in words.
        panicked: Process that ran when the kernel panicked.
        kexts: (identifier, version) of third parties' and Apple's kernel extensions in a panic's backtrace.
        network: Parts of the network path that a panic names; empty for a panic of something else.
        start_ticks: `procStartAbsTime`: ticks since boot, sleep not counted; 0 where the report does not say.
        exit_ticks: `procExitAbsTime`, a moment before `time`.
        tick: Seconds of such a tick: 125/3 ns on Apple silicon, 1 ns on Intel (real reports of both agree with their times);
            0.0 where the processor is not named.
        booted: When the Mac that panicked had booted, by its own clock.
    """

    process: str = ""
    pid: int | None = None
    path: str = ""
    bundle_id: str = ""
    version: str = ""
    time: datetime | None = None
    launched: datetime | None = None
    incident: str = ""
    bug_type: str = ""
    os_version: str = ""
    boot_uuid: str = ""
    slice_uuid: str = ""
    exception: str = ""
    termination: str = ""
    panic: str = ""
    format: str = "ips"
    thread: str = ""
    frames: tuple[Frame, ...] = ()
    images: tuple[Image, ...] = ()
    namespace: str = ""
    code: str = ""
    killed_at_exec: str = ""
    notes: str = ""
    panicked: str = ""
    kexts: tuple[tuple[str, str], ...] = ()
    network: tuple[str, ...] = ()
    start_ticks: int = 0
    exit_ticks: int = 0
    tick: float = 0.0
    booted: datetime | None = None


def parse_crash_report(data: bytes | str) -> CrashReport:
    """Read a report, also from a post that has the translated text first and "Full Report" JSON below it.

    Raises:
        FormatError: Nothing in it looks like a report.
    """
    text = data[:MAX_TEXT].decode("utf-8", "replace") if isinstance(data, bytes) else data[:MAX_TEXT]
    text = text.lstrip("\ufeff")
    for match in re.finditer(r"^[ \t]*\{", text, re.MULTILINE):
        report = _ips(text[match.start() :])
        if report is not None:
            return report
        break
    report = _text(text)
    if report is None and (panic := _PANIC.search(text)):
        report = _bare_panic(text, panic)
    if report is None:
        raise FormatError(
            "a crash report (.ips with a JSON header, or text with Process: and Exception Type:)",
            seen=excerpt(text),
            hint="is the file whole?",
        )
    return report


def _ips(text: str) -> CrashReport | None:
    first, _, rest = text.partition("\n")
    header = _object(first)
    if header is None or not {"bug_type", "incident_id", "app_name", "slice_uuid"} & header.keys():
        header = _object(text)  # a body alone, or both in one
        if header is None or not {"procName", "panicString", "bug_type"} & header.keys():
            return None
        rest = text
    body = _object(rest)
    old = _text(rest) if body is None else None
    body = body if body is not None else _salvage(rest)
    exception, termination = _exception(_table(body, "exception")), _termination(_table(body, "termination"))
    exception, termination = (
        exception or (old.exception if old else ""),
        termination or (old.termination if old else ""),
    )
    version = _table(body, "osVersion")
    panic = _text_of(body, "panicString")
    bug_type = _text_of(header, "bug_type") or _text_of(body, "bug_type")
    trained = _text_of(version, "train")
    if trained and _text_of(version, "build"):
        trained += f" ({_text_of(version, 'build')})"
    thread, frames = details.frames_of_json(body)
    notes = _notes(body) or (old.notes if old else "")
    app_version, build = _text_of(header, "app_version"), _text_of(header, "build_version")
    named = _text_of(body, "procName") or _text_of(header, "app_name") or _text_of(header, "name")
    return CrashReport(
        process=named or ("kernel" if panic or bug_type in PANIC_TYPES else "") or (old.process if old else ""),
        pid=_number(body.get("pid")) or (old.pid if old else None),
        path=_text_of(body, "procPath") or (old.path if old else ""),
        bundle_id=_text_of(header, "bundleID") or _text_of(_table(body, "bundleInfo"), "CFBundleIdentifier"),
        version=f"{app_version} ({build})" if app_version and build else app_version or build,
        time=_time(_text_of(body, "captureTime")) or _time(_text_of(header, "timestamp")) or _epoch(panic, "Calendar"),
        launched=_time(_text_of(body, "procLaunch")),
        incident=(_text_of(header, "incident_id") or _text_of(body, "incident")).upper(),
        bug_type=bug_type,
        os_version=_text_of(header, "os_version") or trained,
        boot_uuid=_text_of(body, "bootSessionUUID").upper(),
        slice_uuid=_text_of(header, "slice_uuid").upper() or (old.slice_uuid if old else ""),
        exception=exception,
        termination=termination,
        panic=panic.partition("\n")[0][:1000],
        thread=thread or (old.thread if old else ""),
        frames=frames or (old.frames if old else ()),
        images=details.images_of_json(body) or (old.images if old else ()),
        namespace=details.namespace_and_code(termination)[0],
        code=details.namespace_and_code(termination)[1],
        killed_at_exec="" if panic else details.killed_at_exec(exception, termination, notes),
        notes=notes,
        panicked=details.panicked_task(panic)[0],
        kexts=details.kexts_in_backtrace(panic),
        network=details.network_hints(panic) if panic else (),
        start_ticks=_ticks(body.get("procStartAbsTime")),
        exit_ticks=_ticks(body.get("procExitAbsTime")),
        tick=_TICKS.get(_text_of(body, "cpuType").partition("-")[0].upper(), 0.0),
        booted=_epoch(panic, "Boot"),
    )


def _bare_panic(text: str, match: re.Match[str]) -> CrashReport:
    """A panic's text alone. What is before it may be anything."""
    panic = text[match.start() :][:200_000]
    boot = re.search(r"^Boot session UUID: ([0-9A-Fa-f-]{36})", panic, re.MULTILINE)
    version = re.search(r"^OS version: (.{1,60})$", panic, re.MULTILINE)
    return CrashReport(
        process="kernel",
        panic=match.group()[:1000],
        format="text",
        time=_epoch(panic, "Calendar"),
        booted=_epoch(panic, "Boot"),
        boot_uuid=boot.group(1).upper() if boot else "",
        os_version=version.group(1).strip() if version else "",
        panicked=details.panicked_task(panic)[0],
        kexts=details.kexts_in_backtrace(panic),
        network=details.network_hints(panic),
    )


def _text(text: str) -> CrashReport | None:
    """The old text. Its head ends with the first thread; only that is looked at."""
    head = text[:20_000]
    fields: dict[str, str] = {}
    for match in _FIELD.finditer(head):
        fields.setdefault(match.group(1).strip(), match.group(2)[:1000].strip())
    if "Process" not in fields or not {"Exception Type", "Date/Time", "Identifier"} & fields.keys():
        return None
    if "Violation" in fields:  # the sandbox's report of a denied operation has the same head
        return None
    named = _NAMED.match(fields["Process"])
    identifier = fields.get("Identifier", "")
    process = named.group(1) if named else fields["Process"]
    termination = (fields.get("Termination Reason", "") or fields.get("Termination Signal", ""))[:500]
    thread, frames = details.frames_of_text(text)
    images = details.images_of_text(text)
    own = next((image for image in images if image.path and image.path == fields.get("Path")), None)
    spoken = re.search(
        r"^(?:Application Specific Information|Dyld Error Message):\n((?:.+\n?){1,40})", head, re.MULTILINE
    )
    notes = spoken.group(1).strip()[:4000] if spoken else ""
    namespace, code = details.namespace_and_code(termination)
    return CrashReport(
        process=process,
        pid=int(named.group(2)) if named else None,
        path=fields.get("Path", ""),
        bundle_id=identifier if "." in identifier and identifier != process else "",
        version=fields.get("Version", ""),
        time=_time(fields.get("Date/Time", "")),
        launched=_time(fields.get("Launch Time", "")),
        incident=(fields.get("Incident Identifier", "")).upper(),
        os_version=fields.get("OS Version", ""),
        exception=fields.get("Exception Type", ""),
        termination=termination,
        format="text",
        slice_uuid=own.uuid if own else "",
        thread=thread,
        frames=frames,
        images=images,
        namespace=namespace,
        code=code,
        killed_at_exec=details.killed_at_exec(fields.get("Exception Type", ""), termination, head),
        notes=notes,
    )


def _notes(body: dict[str, Any]) -> str:
    """`asi` (application-specific information, by image) and the termination's reasons, as lines."""
    lines: list[str] = []
    for texts in list(_table(body, "asi").values())[:20]:
        lines += [str(text) for text in texts[:20]] if isinstance(texts, list) else []
    for key in ("reasons", "details"):
        reasons = _table(body, "termination").get(key)
        lines += [str(text) for text in reasons[:20]] if isinstance(reasons, list) else []
    return "\n".join(lines)[:4000]


def _object(text: str) -> dict[str, Any] | None:
    text = text.strip()
    if not text.startswith("{"):
        return None
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _salvage(text: str) -> dict[str, Any]:
    """The plain values of a JSON body that is cut off: a report still being written, or a post's beginning of one."""
    found: dict[str, Any] = {}
    for match in _SCALAR.finditer(text[:200_000]):
        key, value = match.groups()
        if value.startswith('"') and (len(value) == 1 or not value.endswith('"')):  # the text ends within it
            value = value.rstrip().removesuffix("\\") + '"'
        try:
            found.setdefault(key, json.loads(value, strict=False))
        except ValueError:
            continue
    return found


def _table(value: dict[str, Any], key: str) -> dict[str, Any]:
    item = value.get(key)
    return item if isinstance(item, dict) else {}


def _text_of(value: dict[str, Any], key: str) -> str:
    item = value.get(key)
    return str(item)[:4000] if isinstance(item, str | int) and not isinstance(item, bool) else ""


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(text: str) -> datetime | None:
    """`2026-08-20 16:13:30.00 -0600`, with any number of digits behind the second."""
    match = re.match(r"^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\s*([+-]\d\d):?(\d\d)?", text)
    if match is None:
        return None
    day, clock, fraction, hours, minutes = match.groups()
    try:
        return datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0')[:6]:0<6}{hours}:{minutes or '00'}")
    except ValueError:
        return None


def _epoch(panic: str, name: str) -> datetime | None:
    """A row of a panic's table of clocks (`  Calendar: 0x6884f6ad 0x00060c57`: seconds since 1970 and microseconds); 0 is never."""
    match = re.search(
        rf"^[ \t]*{name}[ \t]*: 0x([0-9a-fA-F]{{1,8}}) 0x([0-9a-fA-F]{{1,8}})[ \t]*$", panic[:200_000], re.MULTILINE
    )
    if match is None or not int(match.group(1), 16):
        return None
    return datetime.fromtimestamp(int(match.group(1), 16), UTC) + timedelta(microseconds=int(match.group(2), 16))


def _ticks(value: object) -> int:
    number = _number(value)
    return number if number is not None and 0 < number < 2**64 else 0


def _exception(value: dict[str, Any]) -> str:
    kind, signal = _text_of(value, "type"), _text_of(value, "signal")
    return f"{kind} ({signal})" if kind and signal else kind or signal


def _termination(value: dict[str, Any]) -> str:
    parts = [_text_of(value, key) for key in ("namespace", "code", "indicator")]
    return " ".join(part for part in parts if part)[:500]
