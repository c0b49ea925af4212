"""The unified log's ndjson: the fast path, the lenient one, markers, and lines that are no record: none is lost."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.formats.logs import MAX_LINE, LogReader, parse_log_line

RECORD = {
    "timezoneName": "",
    "messageType": "Default",
    "eventType": "logEvent",
    "source": None,
    "formatString": "client activation request for %{public}s",
    "userID": 0,
    "activityIdentifier": 9223372036854775908,
    "subsystem": "com.apple.sx",
    "category": "XPC",
    "threadID": 9831,
    "senderImageUUID": "B33F2B09-4BE9-32C5-954C-9233E1D5BB94",
    "backtrace": {"frames": [{"imageOffset": 1, "imageUUID": "B33F"}]},
    "bootUUID": "7871ABF2-F319-49C9-B9FD-884E994F3DF5",
    "processImagePath": "/System/Library/Frameworks/SystemExtensions.framework/Versions/A/Helpers/sysextd",
    "senderImagePath": "/usr/lib/libxpc.dylib",
    "timestamp": "2026-07-26 18:11:22.348728+1200",
    "machTimestamp": 1234567890123,
    "eventMessage": "client activation request for org.example.ext\nsecond line — é",
    "processImageUUID": "72E8021B-1B49-3258-AF87-5DEDFA8D77A8",
    "traceID": 18446744073709551615,
    "processID": 345,
    "senderProgramCounter": 99,
    "parentActivityIdentifier": 0,
}


def _line(**changes: object) -> bytes:
    """As macOS writes it: no blanks, `/` escaped."""
    return json.dumps({**RECORD, **changes}, separators=(",", ":")).replace("/", "\\/").encode() + b"\n"


def test_a_record() -> None:
    record = parse_log_line(_line())
    assert record is not None
    assert (record.process, record.sender, record.pid, record.tid) == ("sysextd", "libxpc.dylib", 345, 9831)
    assert (record.subsystem, record.category, record.level) == ("com.apple.sx", "XPC", "Default")
    assert record.message == RECORD["eventMessage"]
    assert record.boot_uuid == RECORD["bootUUID"]
    assert (record.mach_time, record.activity) == (1234567890123, 9223372036854775908)
    assert (record.event_type, record.position) == ("logEvent", 1)
    assert record.time is not None
    assert record.time.utcoffset() == timedelta(hours=12)
    assert record.time.microsecond == 348728


@pytest.mark.parametrize(
    "line",
    [
        _line().replace(b"second", b"sec\\ud800nd"),  # a lone surrogate
        _line().replace(b"second", b"sec\xffnd"),  # no UTF-8
        _line().replace(b"second", b"sec\x01nd\t"),  # raw control characters
        b"\xef\xbb\xbf" + _line(),  # a byte order mark
        _line(processID="345"),
        _line(processID=345.0),
        _line(messageType=None, senderImagePath=None),
        _line(bootUUID=7),
    ],
    ids=["surrogate", "latin-1", "control", "bom", "text number", "float", "null", "wrong type"],
)
def test_the_lenient_path(line: bytes) -> None:
    reader = LogReader([line])
    (record,) = reader
    assert (record.pid, record.process) == (345, "sysextd")
    assert record.message.startswith("client activation request")
    record.message.encode()  # what it gives can be written again
    assert reader.unparsed == 0


def test_a_stream_with_everything() -> None:
    lines = [
        b'Filtering the log data using "process == "sysextd""\n',
        _line(eventMessage="one"),
        b"\r\n",
        _line(eventMessage="two").replace(b"\n", b"\r\n"),
        b"log: something went wrong\n",
        b'["an", "array"]\n',
        b'{"unrelated": 1}\n',
        _line(eventMessage="cut")[:200],
        _line(eventMessage="", eventType="activityCreateEvent", messageType=None, subsystem=""),
        b'{"count":3,"finished":1}\n',
    ]
    reader = LogReader(lines)
    records = list(reader)
    assert [(r.message, r.position) for r in records] == [("one", 2), ("two", 4), ("", 9)]
    assert reader.filtering.startswith("Filtering")
    assert (reader.lines, reader.records, reader.unparsed) == (10, 3, 4)
    assert [number for number, _ in reader.examples] == [5, 6, 7, 8]
    assert reader.examples[0][1] == "log: something went wrong"
    assert (reader.finished, reader.claimed) == (True, 3)


def test_a_capture_cut_short_is_not_finished() -> None:
    reader = LogReader([_line()])
    assert len(list(reader)) == 1
    assert (reader.finished, reader.claimed) == (False, None)


def test_a_record_cannot_set_its_position() -> None:
    record = parse_log_line(_line(position=77))
    assert record is not None
    assert record.position == 1


def test_an_endless_line_is_counted_not_read() -> None:
    reader = LogReader([b"{" + b" " * MAX_LINE + b"}"])
    assert list(reader) == []
    assert reader.unparsed == 1
    assert len(reader.examples[0][1]) <= 300


def test_deep_nesting() -> None:
    reader = LogReader([b"[" * 100_000, b'{"eventMessage":' * 50_000])
    assert list(reader) == []
    assert reader.unparsed == 2


def test_odd_times() -> None:
    for text in ("", "yesterday", "2026-13-01 00:00:00+0000"):
        record = parse_log_line(_line(timestamp=text))
        assert record is not None
        assert record.time is None


def test_posted_records(samples: dict[str, str]) -> None:
    reader = LogReader(line.encode() for line in samples["fmt-064"].splitlines())
    records = list(reader)
    assert [record.level for record in records][:2] == ["Fault", "Error"]
    assert {record.process for record in records} == {"MyApp"}
    end = LogReader(line.encode() for line in samples["fmt-003"].splitlines())
    assert list(end) == []
    assert (end.finished, end.claimed) == (True, 5467)


def test_every_sample_is_accounted_for(samples: dict[str, str]) -> None:
    for name, text in samples.items():
        lines = text.encode().splitlines()
        reader = LogReader(lines)
        records = list(reader)
        blank = sum(not line.strip() for line in lines)
        markers = (1 if reader.filtering else 0) + (1 if reader.finished else 0)
        assert len(records) + reader.unparsed + blank + markers == len(lines), name


@given(st.lists(st.binary(max_size=120) | st.just(_line()), max_size=8))
def test_any_bytes(lines: list[bytes]) -> None:
    reader = LogReader(lines)
    records = list(reader)
    assert reader.lines == len(lines)
    assert reader.records == len(records) >= lines.count(_line())


_VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
)


@given(st.dictionaries(st.sampled_from(sorted(RECORD)), _VALUES, max_size=10))
def test_wrong_types(changes: dict[str, object]) -> None:
    record = parse_log_line(_line(**changes))
    assert record is None or (isinstance(record.pid, int) and isinstance(record.message, str))
