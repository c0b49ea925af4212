"""Logs as JSON objects that span lines: `log show --style json` (an array of `"key" : value` objects), and the objects of
mandiant's decoder, pretty-printed or one a line.

`ObjectSplitter` finds where each object begins and ends without decoding what is in between, in bounded memory; strings
are respected. `record_from_json` makes the one record of either vocabulary.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

from harness.formats.logs import LogRecord, _from_json

MAX_OBJECT: Final = 8 * 1024 * 1024
"""Bytes of one object; a larger one is not decoded."""
# A string that does not end in its line ends with it, so that no quote is looked at twice.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}]', re.DOTALL)
_MANDIANT = frozenset(("log_type", "event_type", "process_uuid", "library", "boot_uuid", "timezone_name"))


class FoundObject(msgspec.Struct, gc=False):
    """One object's bytes and place. `lines` counts those that end with or within it; `data` is "" when it was too large."""

    data: bytes
    line: int
    lines: int


class ObjectSplitter:
    """Takes lines, gives the top-level objects in them.

    Attributes:
        depth: Open braces; not 0 at the end of input means that the last object was cut off.
    """

    def __init__(self) -> None:
        self.depth = 0
        self._start = 0
        self._held: list[bytes] = []
        self._size = 0
        self._lines = 0

    def feed(self, line: bytes, number: int) -> list[FoundObject]:
        """The objects that end in this line (without its newline), the `number`th of its file."""
        found: list[FoundObject] = []
        begin = 0
        if self.depth:
            self._lines += 1
        for match in _TOKEN.finditer(line):
            token = match.group()
            if token == b"{":
                if self.depth == 0:
                    begin, self._start, self._lines = match.start(), number, 1
                self.depth += 1
            elif token == b"}" and self.depth:
                self.depth -= 1
                if self.depth == 0:
                    self._held.append(line[begin : match.end()])
                    small = self._size + match.end() <= MAX_OBJECT
                    data = b"\n".join(self._held) if small else b""
                    found.append(FoundObject(data, self._start, self._lines))
                    self._held, self._size, begin = [], 0, match.end()
        if self.depth:
            self._hold(line[begin:])
        return found

    def rest(self) -> FoundObject | None:
        """What was begun and not ended; None if nothing was."""
        if not self.depth:
            return None
        rest = FoundObject(b"\n".join(self._held), self._start, self._lines)
        self.depth, self._held, self._size = 0, [], 0
        return rest

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece) + 1
        if self._size <= MAX_OBJECT:
            self._held.append(piece)


def decode_object(data: bytes) -> dict[str, Any] | None:
    """The object, leniently: bad UTF-8 and raw control characters are taken as they are. None for anything else."""
    try:
        value = json.loads(data.decode("utf-8", "replace").lstrip("\ufeff"), strict=False)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def record_from_json(value: dict[str, Any]) -> LogRecord | None:
    """The record in an object of Apple's or mandiant's vocabulary; None if there is nothing of a log in it."""
    if is_mandiant(value):
        value = _translated(value)
    elif not ({"eventMessage", "eventType", "timestamp"} & value.keys()):
        return None
    record = _from_json(value)
    return record if record.timestamp or record.message or record.event_type else None


def is_mandiant(value: dict[str, Any]) -> bool:
    """Whether the object has the keys of macos-UnifiedLogs."""
    return "message" in value and len(_MANDIANT & value.keys()) >= 2


def _translated(value: dict[str, Any]) -> dict[str, Any]:
    """Mandiant's keys as Apple's. UUIDs get their dashes; a time before 2000 is none (raw ticks without timesync)."""
    kind = str(value.get("log_type", ""))
    event = str(value.get("event_type", ""))
    stamp = value.get("timestamp")
    stamp = stamp if isinstance(stamp, str) else ""
    if re.match(r"19\d\d-", stamp):
        stamp = ""
    events = {"Log": "logEvent", "Activity": "activityCreateEvent", "Signpost": "signpostEvent", "Trace": "traceEvent"}
    events |= {"Loss": "lossEvent", "Simpledump": "stateEvent", "Statedump": "stateEvent"}
    return {
        "timestamp": _micro(stamp),
        "processImagePath": value.get("process"),
        "processID": value.get("pid"),
        "threadID": value.get("thread_id"),
        "senderImagePath": value.get("library"),
        "subsystem": value.get("subsystem"),
        "category": value.get("category"),
        "messageType": kind if kind in ("Default", "Info", "Debug", "Error", "Fault") else "",
        "eventMessage": value.get("message"),
        "bootUUID": dashed(str(value.get("boot_uuid", ""))),
        "eventType": events.get(event, "signpostEvent" if "Signpost" in kind else event),
        "processImageUUID": dashed(str(value.get("process_uuid", ""))),
        "activityIdentifier": value.get("activity_id"),
    }


def _micro(stamp: str) -> str:
    """A nanosecond stamp cut to what `datetime` reads."""
    return re.sub(r"(\.\d{6})\d+", r"\1", stamp)


def dashed(uuid: str) -> str:
    """A UUID in upper case with dashes; anything else as it is."""
    text = uuid.replace("-", "")
    if len(text) != 32:
        return uuid
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".upper()
