"""ndjson by the block: whole blocks of lines are decoded at once, which is what makes a gigabyte a matter of seconds.

The same lines count as records as in `logs.LogReader`, which reads line by line; a block that holds anything odd is
decoded line by line too, leniently. `null` is as good as absent, for Apple's log has it where there is nothing to say.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

import msgspec

from harness.formats import records
from harness.formats.logs import LogRecord, _from_json
from harness.formats.logs_array import dashed, is_mandiant, record_from_json
from harness.formats.records import Record

MAX_LINE: Final = 4 * 1024 * 1024
KINDS: Final = {
    "logEvent": records.LOG,
    "": records.LOG,
    "activityCreateEvent": records.ACTIVITY,
    "activityTransitionEvent": records.ACTIVITY,
    "userActionEvent": records.ACTIVITY,
    "signpostEvent": records.SIGNPOST,
    "stateEvent": records.STATE,
    "lossEvent": records.LOSS,
    "timesyncEvent": records.CLOCK,
    "traceEvent": records.LOG,
}
"""Kind of record by `eventType`; an unknown one is a log message."""


class Line(msgspec.Struct, gc=False):
    """One line of ndjson, as it is. `count` and `finished` are the closing line's."""

    timestamp: str | None = ""
    machTimestamp: int = 0  # noqa: N815 - Apple's names, so that no renaming costs time
    processImagePath: str | None = ""  # noqa: N815
    processID: int = 0  # noqa: N815
    threadID: int = 0  # noqa: N815
    senderImagePath: str | None = ""  # noqa: N815
    subsystem: str | None = ""
    category: str | None = ""
    messageType: str | None = ""  # noqa: N815
    eventMessage: str | None = ""  # noqa: N815
    bootUUID: str | None = ""  # noqa: N815
    eventType: str | None = ""  # noqa: N815
    processImageUUID: str | None = ""  # noqa: N815
    count: int | None = None
    finished: int | bool | None = None


class MandiantLine(msgspec.Struct, gc=False):
    """One line of macos-UnifiedLogs' JSONL."""

    timestamp: str | None = ""
    process: str | None = ""
    pid: int = 0
    thread_id: int = 0
    library: str | None = ""
    subsystem: str | None = ""
    category: str | None = ""
    log_type: str | None = ""
    event_type: str | None = ""
    message: str | None = ""
    boot_uuid: str | None = ""
    process_uuid: str | None = ""


_BLOCK = msgspec.json.Decoder(Line)
_MANDIANT = msgspec.json.Decoder(MandiantLine)
_EVENTS = {
    "Log": "logEvent",
    "Activity": "activityCreateEvent",
    "Signpost": "signpostEvent",
    "Loss": "lossEvent",
    "Simpledump": "stateEvent",
    "Statedump": "stateEvent",
    "Trace": "traceEvent",
}
_LEVELS = frozenset(("Default", "Info", "Debug", "Error", "Fault"))


def decode_block(block: bytes, lines: int, *, mandiant: bool = False) -> list[Line] | None:
    """The lines of a block, one for one; None if any of its `lines` is blank, odd, or no JSON object."""
    try:
        if mandiant:
            found = [from_mandiant(line) for line in _MANDIANT.decode_lines(block)]
        else:
            found = _BLOCK.decode_lines(block)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if len(found) == lines else None


def decode_line(line: bytes) -> Line | None:
    """One line, leniently; None if it is no JSON object or has nothing of a log in it."""
    if len(line) > MAX_LINE:
        return None
    try:
        value = json.loads(line.decode("utf-8", "replace").strip().lstrip("\ufeff"), strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if is_mandiant(value):
        record = record_from_json(value)
        return None if record is None else line_of(record)
    plain = _from_json(value)
    found = line_of(plain)
    found.count, found.finished = plain.count, plain.finished
    return found


def line_of(record: LogRecord) -> Line:
    """A `LogRecord` as a line."""
    return Line(
        timestamp=record.timestamp,
        machTimestamp=record.mach_time,
        processImagePath=record.process_path,
        processID=record.pid,
        threadID=record.tid,
        senderImagePath=record.sender_path,
        subsystem=record.subsystem,
        category=record.category,
        messageType=record.level,
        eventMessage=record.message,
        bootUUID=record.boot_uuid,
        eventType=record.event_type,
        processImageUUID=record.process_uuid,
    )


def from_mandiant(line: MandiantLine) -> Line:
    """Its words as Apple's. A time before 2000 is none: ticks that no timesync file explained."""
    stamp = line.timestamp or ""
    if stamp.startswith("19"):
        stamp = ""
    elif len(stamp) > 27 and stamp[19:20] == ".":  # nanoseconds
        stamp = stamp[:26] + stamp[26:].lstrip("0123456789")
    kind = line.log_type or ""
    event = _EVENTS.get(line.event_type or "", "signpostEvent" if "Signpost" in kind else line.event_type or "")
    return Line(
        timestamp=stamp,
        processImagePath=line.process,
        processID=line.pid,
        threadID=line.thread_id,
        senderImagePath=line.library,
        subsystem=line.subsystem,
        category=line.category,
        messageType=kind if kind in _LEVELS else "",
        eventMessage=line.message,
        bootUUID=dashed(line.boot_uuid or ""),
        eventType=event,
        processImageUUID=dashed(line.process_uuid or ""),
    )


def moment_of(stamp: str | None) -> datetime | None:
    """A timestamp as printed; None for one that is missing, odd, or from before 2000 (never resolved)."""
    if not stamp:
        return None
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return moment if moment.year >= 2000 else None


def record_of(line: Line, *, file: str, number: int, boot: int, lines: int = 1, style: str = "ndjson") -> Record:
    """The record of a line: the `number`th of `file`, in its `boot`th boot."""
    return Record(
        time=moment_of(line.timestamp),
        order=(boot, line.machTimestamp, number),
        boot=(line.bootUUID or "").upper(),
        process=(line.processImagePath or "").rpartition("/")[2],
        pid=line.processID,
        tid=line.threadID,
        sender=(line.senderImagePath or "").rpartition("/")[2],
        subsystem=line.subsystem or "",
        category=line.category or "",
        level=line.messageType or "",
        message=line.eventMessage or "",
        file=file,
        line=number,
        lines=lines,
        kind=KINDS.get(line.eventType or "", records.LOG),
        style=style,
        process_uuid=(line.processImageUUID or "").upper(),
    )
