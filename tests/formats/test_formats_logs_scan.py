"""JSON logs by the block, arrays of objects, another decoder's vocabulary, and property lists as text."""

from __future__ import annotations

import json
import plistlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.formats import FormatError, records
from harness.formats.database import parse_database
from harness.formats.logs_array import ObjectSplitter, decode_object, record_from_json
from harness.formats.logs_scan import decode_block, decode_line, record_of
from harness.formats.plist_text import parse_plist_text

RECORD = {
    "timestamp": "2026-07-26 18:11:22.348728+1200",
    "machTimestamp": 77,
    "processImagePath": "/usr/libexec/sysextd",
    "processID": 345,
    "threadID": 9,
    "senderImagePath": "/usr/lib/libxpc.dylib",
    "subsystem": "com.apple.sx",
    "category": "XPC",
    "messageType": "Fault",
    "eventMessage": "one\ntwo",
    "bootUUID": "7871abf2-f319-49c9-b9fd-884e994f3df5",
    "eventType": "logEvent",
}
MANDIANT = {
    "subsystem": "com.apple.sx",
    "thread_id": 9,
    "pid": 345,
    "library": "/usr/lib/libxpc.dylib",
    "category": "XPC",
    "event_type": "Log",
    "log_type": "Error",
    "process": "/usr/libexec/sysextd",
    "process_uuid": "72E8021B1B493258AF875DEDFA8D77A8",
    "message": "one\ntwo",
    "boot_uuid": "7871ABF2F31949C9B9FD884E994F3DF5",
    "timezone_name": "Auckland",
    "timestamp": "2026-07-26T06:11:22.348728123Z",
}


def _line(**changes: object) -> bytes:
    return json.dumps({**RECORD, **changes}).encode() + b"\n"


def test_a_block() -> None:
    found = decode_block(_line() * 3, 3)
    assert found is not None
    record = record_of(found[2], file="log", number=3, boot=1)
    assert (record.process, record.sender, record.pid, record.level) == ("sysextd", "libxpc.dylib", 345, "Fault")
    assert (record.message, record.kind, record.order) == ("one\ntwo", records.LOG, (1, 77, 3))
    assert record.boot == "7871ABF2-F319-49C9-B9FD-884E994F3DF5"
    assert record.zone_known
    assert record.line_at(5) == 3  # a newline within a message is none of the file
    assert [(part.message, part.line, part.lines) for part in record.each_line()] == [("one", 3, 1), ("two", 3, 1)]


def test_null_is_as_good_as_absent() -> None:
    found = decode_block(_line(messageType=None, subsystem=None, senderImagePath=None, eventMessage=None), 1)
    assert found is not None
    record = record_of(found[0], file="", number=1, boot=0)
    assert (record.level, record.subsystem, record.sender, record.message) == ("", "", "", "")


@pytest.mark.parametrize("odd", [b"\n", b"[1]\n", b"words\n", _line()[:60] + b"\n", _line(processID="x"), b"\xff\n"])
def test_a_block_with_anything_odd_is_refused_whole(odd: bytes) -> None:
    block = _line() + odd + _line()
    assert decode_block(block, 3) is None


def test_an_unresolved_time_is_none() -> None:
    found = decode_line(_line(timestamp="1970-01-12 08:06:16.931837+0000"))
    assert found is not None
    assert record_of(found, file="", number=1, boot=0).time is None


def test_another_decoders_words() -> None:
    block = json.dumps(MANDIANT).encode() + b"\n"
    found = decode_block(block, 1, mandiant=True)
    assert found is not None
    one = record_of(found[0], file="", number=1, boot=0)
    lenient = decode_line(block)
    assert lenient is not None
    assert record_of(lenient, file="", number=1, boot=0) == one
    assert (one.process, one.level, one.message) == ("sysextd", "Error", "one\ntwo")
    assert one.boot == "7871ABF2-F319-49C9-B9FD-884E994F3DF5"
    assert one.process_uuid == "72E8021B-1B49-3258-AF87-5DEDFA8D77A8"
    assert one.time is not None
    assert one.time.microsecond == 348728
    never = decode_block(json.dumps({**MANDIANT, "timestamp": "1970-01-01T00:00:01Z"}).encode(), 1, mandiant=True)
    assert never is not None
    assert record_of(never[0], file="", number=1, boot=0).time is None


def test_objects_over_lines() -> None:
    text = b'[{\n  "eventMessage" : "a } \\" { b",\n  "timestamp" : "2026"\n},{ "eventMessage" : "two" }]\n'
    splitter = ObjectSplitter()
    found = [item for number, line in enumerate(text.split(b"\n"), 1) for item in splitter.feed(line, number)]
    assert [(item.line, item.lines) for item in found] == [(1, 4), (4, 1)]
    assert [decode_object(item.data) for item in found] == [
        {"eventMessage": 'a } " { b', "timestamp": "2026"},
        {"eventMessage": "two"},
    ]
    assert splitter.rest() is None
    splitter.feed(b'{ "cut" : "of', 9)
    rest = splitter.rest()
    assert rest is not None
    assert rest.line == 9
    assert record_from_json({"unrelated": 1}) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=5), st.text(max_size=12) | st.integers() | st.lists(st.text(max_size=3)), max_size=4
        ),
        max_size=5,
    ),
    st.sampled_from([None, 1, 3]),
)
def test_the_splitter_finds_what_json_wrote(values: list[dict[str, object]], indent: int | None) -> None:
    text = json.dumps(values, indent=indent).encode()
    splitter = ObjectSplitter()
    found = [item for number, line in enumerate(text.split(b"\n"), 1) for item in splitter.feed(line, number)]
    assert [decode_object(item.data) for item in found] == values


def test_property_lists_as_text() -> None:
    old = """{
        bootUUID = "7871";
        developerMode = 0;
        extensions =     (
            {
                identifier = "org.example.ext";
                bundleVersion =  { CFBundleShortVersionString = "1.0"; CFBundleVersion = 2404171112; };
                additionalLaunchdPlistEntries = {length = 821, bytes = 0x62706c69 ... 0000027d };
                state = "activated_enabled";
                teamID = ABCDE12345;
            }
        );
        version = 1;
    }"""
    database = parse_database(plistlib.dumps(parse_plist_text(old)))
    assert not database.developer_mode
    (extension,) = database.extensions
    assert (extension.identifier, extension.short, extension.build) == ("org.example.ext", "1.0", "2404171112")
    assert (extension.state, extension.team, extension.launchd_entries) == ("activated_enabled", "ABCDE12345", True)
    plutil = '{\n  "extensions" => [\n    0 => {\n      "identifier" => "a\\"b"\n    }\n  ]\n  "version" => 1\n}'
    assert parse_plist_text(plutil) == {"extensions": [{"identifier": 'a"b'}], "version": 1}


@pytest.mark.parametrize("text", ["", "{", "{ a = ", "( 1, 2 )", '{ "a" = "b', "{" * 5000, "{a=(" * 5000, "}"])
def test_what_is_no_property_list(text: str) -> None:
    with pytest.raises(FormatError):
        parse_plist_text(text)


@settings(max_examples=80, deadline=None)
@given(st.text(alphabet='{}()[];,="<>\\ab1 \n', max_size=60))
def test_any_property_list_ends(text: str) -> None:
    try:
        assert isinstance(parse_plist_text(text), dict)
    except FormatError as error:
        assert error.expected
