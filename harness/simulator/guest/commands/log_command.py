"""`/usr/bin/log`: show, stream, collect, stats, config; in the styles default, compact, syslog, json, ndjson."""

from __future__ import annotations

import asyncio
import json
import plistlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

from harness.simulator.guest.commands.arguments import EX_NOPERM, EX_USAGE, Parsed, UsageMistake, complain, parse, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.guest.predicate import BadPredicate, Test, parse_predicate
from harness.simulator.guest.unified_log import LogRecord, json_line, record_from_json, timestamp
from harness.simulator.interfaces import CommandIO

STYLES = ("default", "syslog", "compact", "json", "ndjson")
HEADERS = {
    "default": "Timestamp                       Thread     Type        Activity             PID    TTL  ",
    "compact": "Timestamp               Ty Process[PID:TID]",
    "syslog": "Timestamp                       (process)[PID]    ",
}
ARCHIVE_FILE = "Extra/simulated-log.ndjson"
"""Where a collected archive keeps its records. Real archives hold tracev3 files, which nothing here can write: the name
says what it is, so that nobody takes it for one.
"""
_FLAGS = frozenset(
    [
        "--info",
        "--debug",
        "--no-info",
        "--no-debug",
        "--backtrace",
        "--signpost",
        "--no-signpost",
        "--loss",
        "--no-loss",
        "--source",
        "--no-pager",
        "--mach-continuous-time",
        "--no-activity",
        "-v",
        "--verbose",
    ]
)
_VALUES = frozenset(
    [
        "--style",
        "--last",
        "--start",
        "--end",
        "--predicate",
        "--archive",
        "--process",
        "--level",
        "--type",
        "--timeout",
        "--output",
        "--size",
        "--color",
        "--timezone",
        "--user",
        "--sort",
        "--format",
        "--file",
        "--subsystem",
        "--category",
        "--mode",
        "--device-name",
    ]
)
_SHORT = {"Default": "Df", "Error": "E ", "Fault": "F ", "Info": "I ", "Debug": "Db"}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_CHUNK = 256


async def log(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """The command."""
    verbs: dict[str, Callable[[MacGuest, CommandIO, Parsed], Any]] = {
        "show": _show,
        "stream": _stream,
        "collect": _collect,
        "stats": _stats,
        "config": _config,
    }
    verb = argv[1] if len(argv) > 1 else "help"
    if verb == "emit" and guest.macos.generation >= 26:
        return await _emit(guest, io, argv[2:])
    if verb not in verbs:
        await complain(io, "usage:\n    log <command>\n\nglobal options:\n    -?, --help\n\ncommands:\n    collect\n    config\n    erase\n    show\n    stream\n    stats")  # fmt: skip
        return EX_USAGE
    try:
        parsed = parse(argv[2:], flags=_FLAGS, values=_VALUES, optional={"--status": "", "--reset": ""})
        style = parsed.value("--style") or "default"
        if style not in STYLES:
            raise UsageMistake(f"Invalid style: {style}")
        return int(await verbs[verb](guest, io, parsed))
    except BadPredicate as error:
        await complain(io, f"log: Bad predicate ({parsed.value('--predicate')}): {error}")
    except (UsageMistake, ValueError) as error:
        await complain(io, f"log: {error}")
    return EX_USAGE


def _test(parsed: Parsed, *, stream: bool) -> Test:
    levels = {"Default", "Error", "Fault"}
    wanted = parsed.value("--level") or ""
    if parsed.has("--info", "--debug") or wanted in ("info", "debug"):
        levels.add("Info")
    if parsed.has("--debug") or wanted == "debug":
        levels.add("Debug")
    if stream and wanted and wanted not in ("default", "info", "debug"):
        raise UsageMistake(f"Invalid level: {wanted}")
    text = parsed.value("--predicate")
    predicate: Test = parse_predicate(text) if text else (lambda _record: True)
    process = parsed.value("--process")

    def test(record: LogRecord) -> bool:
        if record.level not in levels:
            return False
        if process and process not in (record.process, str(record.pid)):
            return False
        return predicate(record)

    return test


def _moment(guest: MacGuest, text: str) -> datetime:
    """`YYYY-MM-DD[ HH:MM[:SS[.ffffff]]][+zzzz]` in the guest's zone, or `@unix`."""
    if text.startswith("@"):
        return datetime.fromtimestamp(float(text[1:]), guest.clock.zone)
    moment = datetime.fromisoformat(re.sub(r"([+-]\d{2})(\d{2})$", r"\1:\2", text.strip()))
    return moment if moment.tzinfo else moment.replace(tzinfo=guest.clock.zone)


def _span(guest: MacGuest, parsed: Parsed) -> tuple[datetime | None, datetime | None]:
    start = end = None
    last = parsed.value("--last")
    if last == "boot":
        start = guest.clock.boot_time
    elif last is not None:
        match = re.fullmatch(r"(\d{1,7})([smhd]?)", last)
        if match is None:
            raise UsageMistake(f"Invalid time: {last}")
        start = guest.clock.now() - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    if (text := parsed.value("--start")) is not None:
        start = _moment(guest, text)
    if (text := parsed.value("--end")) is not None:
        end = _moment(guest, text)
    return start, end


def _records(guest: MacGuest, parsed: Parsed, io: CommandIO) -> list[LogRecord]:
    start, end = _span(guest, parsed)
    archive = parsed.value("--archive")
    if archive is None:
        return guest.log.between(start, end)
    path = guest.disk.path(f"{archive.rstrip('/')}/{ARCHIVE_FILE}", io.cwd)
    if not path.is_file():
        raise UsageMistake(
            f"{archive}: Could not open local log store: The log archive is corrupt or incomplete and cannot be read"
        )
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        record = record_from_json(json.loads(line))
        if (start is None or record.time >= start) and (end is None or record.time <= end):
            found.append(record)
    return found


async def _show(guest: MacGuest, io: CommandIO, parsed: Parsed) -> int:
    style = parsed.value("--style") or "default"
    test = _test(parsed, stream=False)
    records = [record for record in _records(guest, parsed, io) if test(record)]
    if style in HEADERS:
        if text := parsed.value("--predicate"):
            await say(io, _filtering(text))
        await say(io, HEADERS[style])
    if style == "json":
        await io.stdout(b"[")
    pending: list[str] = []
    for index, record in enumerate(records):
        pending.append(_json_part(record, first=index == 0) if style == "json" else render(record, style) + "\n")
        if len(pending) >= _CHUNK:
            await io.stdout("".join(pending).encode())
            pending.clear()
    await io.stdout("".join(pending).encode())
    if style == "json":
        await say(io, "]")
    elif style == "ndjson":
        await say(io, json_line({"count": len(records), "finished": 1}))
    elif style == "default":
        count = Counter(record.level for record in records)
        await say(io, "-" * 116)
        await say(io, f"Log      - Default: {count['Default']:>10}, Info: {count['Info']:>16}, Debug: {count['Debug']:>13}, "
                      f"Error: {count['Error']:>10}, Fault: {count['Fault']:>10}")  # fmt: skip
        await say(io, "Activity - Create:           0, Transition:          0, Actions:           0")
    return 0


async def _stream(guest: MacGuest, io: CommandIO, parsed: Parsed) -> int:
    style = parsed.value("--style") or "default"
    test = _test(parsed, stream=True)
    with guest.log.listen() as listener:  # from here on nothing is missed, the header may take its time
        if text := parsed.value("--predicate"):
            await say(io, _filtering(text))
        if style in HEADERS:
            await say(io, HEADERS[style])
        first = True
        async for records in _batches(listener.take):
            chosen = [record for record in records if test(record)]
            if style == "json":
                text = "".join(
                    ("[" if first and i == 0 else "") + _json_part(r, first=first and i == 0)
                    for i, r in enumerate(chosen)
                )
            else:
                text = "".join(render(record, style) + "\n" for record in chosen)
            first = first and not chosen
            if text:
                await io.stdout(text.encode())
            if listener.lost:
                await complain(io, f"log: {listener.lost} messages were dropped: the reader is too slow")
                listener.lost = 0
    return 0


async def _batches(take: Callable[[], Any]) -> AsyncIterator[list[LogRecord]]:
    while True:
        yield await take()


async def _collect(guest: MacGuest, io: CommandIO, parsed: Parsed) -> int:
    if not io.root:
        await complain(io, "log: Could not collect logs: Operation not permitted; this command must be run as root")
        return EX_NOPERM
    output = parsed.value("--output") or "system_logs.logarchive"
    target = guest.disk.path(output, io.cwd)
    if target.is_dir() and not output.endswith(".logarchive"):
        output = f"{output.rstrip('/')}/system_logs.logarchive"
        target = guest.disk.path(output, io.cwd)
    if target.exists():
        await complain(io, f"log: failed to create archive: File exists: {output}")
        return 73
    start, end = _span(guest, parsed)
    text = parsed.value("--predicate")
    test: Test = parse_predicate(text) if text else (lambda _record: True)
    await guest.delay("log-collect", min(0.3, guest.settings.sysdiagnose_seconds / 4))
    records = [record for record in guest.log.between(start, end) if test(record)]
    await asyncio.to_thread(write_archive, guest, output, records, io.cwd)
    await say(io, f"Archive successfully written to {guest.disk.guest(target)}")
    return 0


def write_archive(guest: MacGuest, output: str, records: list[LogRecord], cwd: str = "/") -> None:
    """Make a `.logarchive` bundle at a guest path.

    Raises:
        OSError: It cannot be written (a full disk).
    """
    if guest.disk.full:
        raise OSError(28, "No space left on device")
    target = guest.disk.path(output, cwd)
    (target / "Extra").mkdir(parents=True)
    for name in ("Persist", "Special", "timesync", "dsc"):
        (target / name).mkdir()
    info = {
        "OSArchiveVersion": 5,
        "ArchiveIdentifier": guest.clock.boot_uuid,
        "SourceProductName": "macOS",
        "SourceProductVersion": guest.macos.product,
        "SourceBuildVersion": guest.macos.build,
        "SimulatedArchive": True,
        "EndTimeRef": {
            "UUID": guest.clock.boot_uuid,
            "ContinuousTime": guest.clock.mach(),
            "WallTime": int(guest.clock.now().timestamp() * 1e9),
        },
    }
    (target / "Info.plist").write_bytes(plistlib.dumps(info))
    with (target / ARCHIVE_FILE).open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json_line(record.as_json()) + "\n")


async def _stats(guest: MacGuest, io: CommandIO, parsed: Parsed) -> int:
    records = _records(guest, parsed, io)
    count = Counter(record.level for record in records)
    if parsed.value("--style") == "json":
        await say(io, json.dumps({"events": len(records), "faults": count["Fault"], "errors": count["Error"]}))
        return 0
    await say(
        io,
        f"size:        {len(records) * 200 // 1024} KB\nevents:      {len(records)} (faults: {count['Fault']}, errors: {count['Error']})",
    )
    return 0


async def _config(guest: MacGuest, io: CommandIO, parsed: Parsed) -> int:
    del guest
    if not io.root and parsed.value("--mode"):
        await complain(io, "log: Operation not permitted; this command must be run as root")
        return EX_NOPERM
    if "--status" in parsed.values:
        await say(io, f"Mode for '{parsed.value('--subsystem') or 'system'}'  DEFAULT")
    return 0


async def _emit(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    parsed = parse(words, flags=("--fault", "--error", "--info", "--debug"), values=("--subsystem", "--category"))
    process = guest.processes.named("log")[-1]
    guest.log.emit(
        process,
        " ".join(parsed.operands),
        subsystem=parsed.value("--subsystem") or "",
        category=parsed.value("--category") or "",
    )
    del io
    return 0


def _filtering(predicate: str) -> str:
    return f'Filtering the log data using "{predicate}"'


def render(record: LogRecord, style: str) -> str:
    """One record in a style (not json, whose records need what surrounds them)."""
    if style == "ndjson":
        return json_line(record.as_json())
    sender = f"({record.sender}) " if record.sender != record.process else ""
    origin = f"[{record.subsystem}:{record.category}] " if record.subsystem else ""
    body = f"{sender}{origin}{record.message}"
    if style == "compact":
        stamp = record.time.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        return f"{stamp} {_SHORT[record.level]} {record.process}[{record.pid}:{record.thread:x}] {body}"
    if style == "syslog":
        return f"{timestamp(record.time)}  localhost {record.process}[{record.pid}]: {body}"
    thread, activity = f"{record.thread:#x}", f"{record.activity:#x}"
    return f"{timestamp(record.time)} {thread:<10} {record.level:<11} {activity:<20} {record.pid:<6} {0:<4} {record.process}: {body}"


def _json_part(record: LogRecord, *, first: bool) -> str:
    fields = ",\n".join(
        f"  {json_line(key)} : {json_line(value, spaced=True)}" for key, value in record.as_json().items()
    )
    return ("" if first else ",") + "{\n" + fields + "\n}"
