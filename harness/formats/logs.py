"""The unified log as `log show/stream --style ndjson` prints it: one JSON object a line, the format of record.

The fast path decodes with msgspec (some 400 MB/s, constant memory). What it refuses (a lone surrogate, bytes that are no
UTF-8, a raw control character, a number as text) is tried again leniently; what is no record even then is counted and
its beginning kept: no line is ever lost silently.

The text styles (default, compact, syslog, Console's export) lose information and are read elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

MAX_LINE = 4 * 1024 * 1024
"""Bytes; a longer line is counted as unparsed."""
MAX_EXAMPLES = 20
_FILTERING = (b"Filtering the log data using", b"Skipping ")


class LogRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One record. Texts are "" and numbers 0 where the log has none (an activity has no level, a marker no process).

    Attributes:
        timestamp: As printed, in the writer's zone: "2026-07-26 18:11:22.348728+1200".
        mach_time: Ticks of the continuous clock; with `boot_uuid` the only order to trust, for wall clocks jump.
        level: `Default`, `Info`, `Debug`, `Error`, `Fault`.
        message: May hold newlines and `<private>`.
        event_type: `logEvent`, `activityCreateEvent`, `signpostEvent`, `stateEvent`, `timesyncEvent`, `lossEvent`, …
        position: Number of the line in its stream, from 1.
    """

    timestamp: str = msgspec.field(default="", name="timestamp")
    mach_time: int = msgspec.field(default=0, name="machTimestamp")
    process_path: str = msgspec.field(default="", name="processImagePath")
    pid: int = msgspec.field(default=0, name="processID")
    tid: int = msgspec.field(default=0, name="threadID")
    sender_path: str = msgspec.field(default="", name="senderImagePath")
    subsystem: str = msgspec.field(default="", name="subsystem")
    category: str = msgspec.field(default="", name="category")
    level: str = msgspec.field(default="", name="messageType")
    message: str = msgspec.field(default="", name="eventMessage")
    boot_uuid: str = msgspec.field(default="", name="bootUUID")
    event_type: str = msgspec.field(default="", name="eventType")
    process_uuid: str = msgspec.field(default="", name="processImageUUID")
    activity: int = msgspec.field(default=0, name="activityIdentifier")
    # A name that no log writes: the reader sets it.
    position: int = msgspec.field(default=0, name="(position)")

    @property
    def process(self) -> str:
        """Name of the process's executable."""
        return self.process_path.rpartition("/")[2]

    @property
    def sender(self) -> str:
        """Name of the library or executable that logged."""
        return self.sender_path.rpartition("/")[2]

    @property
    def time(self) -> datetime | None:
        """The timestamp with its zone; None if it is missing or odd (an unresolved one starts in 1970)."""
        try:
            return datetime.fromisoformat(self.timestamp)
        except ValueError:
            return None


class _Line(LogRecord, frozen=True, gc=False, kw_only=True):
    """A record with what only the closing line has."""

    count: int | None = None
    finished: int | bool | None = None


_DECODER = msgspec.json.Decoder(_Line)
_TEXTS = {field.encode_name: field.name for field in msgspec.structs.fields(LogRecord) if field.type is str}
_NUMBERS = {field.encode_name: field.name for field in msgspec.structs.fields(LogRecord) if field.type is int}


class LogReader:
    """Iterates over the records of an ndjson stream. Reads no file itself: give it lines.

    Attributes (valid so far, final once iterated):
        lines: Lines seen, blank ones included.
        records: Records given out.
        unparsed: Lines that are no record.
        examples: The first of them, as (line number, beginning).
        filtering: The "Filtering the log data using …" line, "" if there was none.
        finished: Whether the closing record `{"count":N,"finished":1}` came: its absence means a capture cut short
            (a stream never has one).
        claimed: The count it names; None without it.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._source = lines
        self.lines = 0
        self.records = 0
        self.unparsed = 0
        self.examples: list[tuple[int, str]] = []
        self.filtering = ""
        self.finished = False
        self.claimed: int | None = None

    def __iter__(self) -> Iterator[LogRecord]:
        decode = _DECODER.decode
        place = msgspec.structs.force_setattr
        for line in self._source:
            self.lines += 1
            if len(line) > MAX_LINE:
                self._odd(line)
                continue
            try:
                record = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                lenient = self._lenient(line)
                if lenient is None:
                    continue
                record = lenient
            if not record.timestamp and record.finished is not None:
                self.finished = bool(record.finished)
                self.claimed = record.count
                continue
            if not (record.timestamp or record.message or record.event_type):
                self._odd(line)  # JSON, but nothing of the log in it
                continue
            place(record, "position", self.lines)
            self.records += 1
            yield record

    def _lenient(self, line: bytes) -> _Line | None:
        text = line.decode("utf-8", "replace").strip().lstrip("\ufeff")
        if not text:
            return None
        if line.lstrip().startswith(_FILTERING):
            self.filtering = text[:2000]
            return None
        try:
            value = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            self._odd(line)
            return None
        return _from_json(value)

    def _odd(self, line: bytes) -> None:
        self.unparsed += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append((self.lines, line[:300].decode("utf-8", "replace").rstrip("\r\n")))


def parse_log_line(line: bytes) -> LogRecord | None:
    """One line's record; None for a marker, a blank line or no record."""
    return next(iter(LogReader([line])), None)


def _from_json(value: dict[str, Any]) -> _Line:
    found: dict[str, Any] = {}
    for key, name in _TEXTS.items():
        item = value.get(key)
        if isinstance(item, str):
            found[name] = item.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    for key, name in _NUMBERS.items():
        item = value.get(key)
        if isinstance(item, str) and len(item) < 40:
            try:
                item = int(item, 0)
            except ValueError:
                continue
        if isinstance(item, int | float) and not isinstance(item, bool) and abs(item) < 2**64:
            found[name] = int(item)
    for key in ("count", "finished"):
        if isinstance(value.get(key), int):
            found[key] = value[key]
    return _Line(**found)
