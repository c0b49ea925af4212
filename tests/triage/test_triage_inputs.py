"""Whatever a user has: its kind is found, every line is in one class, nothing that could matter is dropped."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import SysextError, UsageError
from harness.formats import FormatError, records
from harness.formats.logs import LogReader
from harness.triage.inputs import Interest, Source, open_input
from harness.triage.reading import Blocks

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
BOOT = "7871ABF2-F319-49C9-B9FD-884E994F3DF5"
LISTING = (
    "1 extension(s)\n--- com.apple.system_extension.network_extension\n"
    "enabled\tactive\tteamID\tbundleID (version)\tname\t[state]\n"
    "\t*\tABCDE12345\torg.example.ext (1.0/1)\tName\t[activated waiting for user]\n"
)
IPS = (
    '{"app_name":"Host","timestamp":"2026-07-26 18:11:22.00 +1200","bug_type":"309","slice_uuid":"4b208b43-31a6-36c3-984f-d466737b7e01"}\n'
    '{\n  "pid" : 812,\n  "procName" : "Host",\n  "captureTime" : "2026-07-26 18:11:22.1 +1200",\n'
    '  "faultingThread" : 0,\n  "threads" : [{"queue":"q","frames":[{"imageIndex":0,"symbol":"f","imageOffset":16}]}],\n'
    '  "usedImages" : [{"uuid":"4b208b43-31a6-36c3-984f-d466737b7e01","name":"Host"}],\n'
    '  "termination" : {"namespace":"CODESIGNING","code":4,"indicator":"Launch Constraint Violation"}\n}\n'
)
DEFAULT = "2026-07-26 18:11:22.348728+1200 0x6dcc     Default     0x0                  537    0    "
POST = f"""My prompt never comes.

This is what I see in the log:

> {DEFAULT}sysextd: [com.apple.sx:XPC] client activation request for org.example.ext
> {DEFAULT}sysextd: attempting to realize
2026-07-26 18:11:23.000000+1200 sysextd: [com.apple.sx:Staging]\x20
Removing tree at
  path: /Library/SystemExtensions/X

It is odd. The list says:

{LISTING}
and it crashed, too:

{IPS}
Any idea? Thanks for having a look at it.
"""


def _ndjson(number: int, **changes: object) -> dict[str, object]:
    return {
        "timestamp": f"2026-07-26 18:11:22.{number:06}+1200",
        "machTimestamp": number * 10,
        "processImagePath": "/usr/libexec/sysextd" if number % 5 == 0 else "/usr/libexec/mds",
        "processID": number,
        "subsystem": "com.apple.sx" if number % 5 == 0 else "com.apple.spotlight",
        "messageType": "Default",
        "eventMessage": f"message {number}",
        "bootUUID": BOOT,
        "eventType": "logEvent",
        **changes,
    }


def _lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def _all(source: Source) -> list[records.Record]:
    found = source.drain()
    assert source.coverage.given == len(found)
    assert source.coverage.lines == sum(file.of.total() for file in source.coverage.files.values())
    return found


def test_a_post_with_everything() -> None:
    source = open_input(POST.encode(), name="post.txt")
    found = _all(source)
    assert source.kind == "text"
    assert source.coverage.lines == POST.count("\n")
    logged = [record for record in found if record.kind == records.LOG]
    assert [(record.process, record.line, record.lines) for record in logged] == [
        ("sysextd", 5, 1),
        ("sysextd", 6, 1),
        ("sysextd", 7, 3),
    ]
    assert logged[2].message.split("\n")[1] == "Removing tree at"
    place = logged[2].message.index("path:")
    assert (logged[2].line_at(place), logged[2].text_at(place)) == (9, "path: /Library/SystemExtensions/X")
    assert [document.kind for document in source.documents] == ["listing", "crash"]
    listing, crash = source.documents
    assert POST.split("\n")[listing.line - 1] == "1 extension(s)"
    assert [entry.state for entry in listing.value.entries] == ["activated_waiting_for_user"]
    assert (crash.value.pid, crash.value.killed_at_exec) == (812, "Launch Constraint Violation")
    assert crash.value.frames[0].symbol == "f"
    prose = [record.message for record in found if record.kind == records.TEXT]
    assert prose[0] == "My prompt never comes."
    assert prose[-1] == "Any idea? Thanks for having a look at it."


def test_wrapped_lines_come_once_more_as_a_paragraph() -> None:
    text = b"Error Domain=\nOSSystemExtensionErrorDomain Code=3 must be in\n/Applications folder\n\nend\n"
    found = _all(open_input(text))
    assert [(record.kind, record.line, record.lines) for record in found] == [
        ("text", 1, 1), ("text", 2, 1), ("text", 3, 1), ("paragraph", 1, 0), ("text", 5, 1)
    ]  # fmt: skip
    assert found[3].message == "Error Domain=\nOSSystemExtensionErrorDomain Code=3 must be in\n/Applications folder"


def test_a_pure_log_goes_on_over_empty_lines_but_not_into_a_sentence() -> None:
    text = f"Timestamp                       Thread     Type        Activity             PID    TTL\n{DEFAULT}app: first\n\n  (\n  )\n{DEFAULT}app: second\n\nI have no idea what this could be about.\n"
    source = open_input(text.encode())
    found = [record for record in _all(source) if record.kind != records.MARKER]
    assert [record.message for record in found] == [
        "first\n\n  (\n  )",
        "second",
        "I have no idea what this could be about.",
    ]
    assert [record.lines for record in found] == [4, 1, 1]
    assert source.coverage.of == {"marker": 1, "record": 2, "blank": 2, "continuation": 2, "prose": 1}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"{DEFAULT}sysextd: a\n{DEFAULT}sysextd: b\n", "log-default"),
        ("2026-01-01 07:17:32.677 E  syspolicyd[527:85cf08] [a.b:c] m\n", "log-compact"),
        ("2026-07-26 18:11:22.3+1200  localhost backupd[417]: (Lib) m\n", "log-syslog"),
        ("error\t13:00:16.745381+0200\ttaskgated-helper\tDisallowing: x\n", "console"),
        (LISTING, "listing"),
        ("\tstate = spawn scheduled\n\truns = 324\n\tlast exit reason = OS_REASON_EXEC\n", "launchctl"),
        ("system/org.example.x = {\n\tstate = running\n}\n", "launchctl"),
        (IPS, "ips"),
        (
            "panic(cpu 1 caller 0xfffffe0019b6e2a8): skmem_cache_destroy @skmem_cache.c:855\nBoot session UUID: "
            + BOOT
            + "\n",
            "panic",
        ),
        ("Process:   sysextd [45]\nIdentifier:  sysextd\n\nException Type:  EXC_CRASH\n", "crash"),
        ('{\n  bootUUID = "x";\n  version = 1;\n  extensions = (\n  );\n}\n', "database"),
        ('[{\n  "timestamp" : "2026-07-26 18:11:22.3+1200",\n  "eventMessage" : "m"\n}]\n', "json"),
        ("OSSystemExtensionErrorDomain error 9\n", "text"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    for data in (
        text.encode(),
        text.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + text.encode(),
        gzip.compress(text.encode()),
    ):
        source = open_input(data)
        assert source.kind == kind
        _all(source)
        assert source.coverage.lines == text.count("\n")
        assert source.coverage.of["unparsed"] == 0
    wide = open_input(text.encode("utf-16"))
    assert wide.kind == kind
    assert wide.drain() is not None


def test_a_property_list_ends_where_it_ends() -> None:
    plist = '<?xml version="1.0"?>\n<plist version="1.0">\n<dict>\n<key>extensions</key>\n<array/>\n</dict>\n</plist>\n'
    source = open_input(f"Look:\n{plist}sysextd: and this\nis odd\n".encode())
    found = _all(source)
    assert [(document.line, document.lines) for document in source.documents] == [(2, 7)]
    assert [(record.message, record.line) for record in found] == [("Look:", 1), ("and this", 9), ("is odd", 10)]


def test_a_panic_names_the_network_path() -> None:
    source = open_input(
        b"panic(cpu 2 caller 0xfffffe002dc896e8): skmem_cache_destroy: 'skc.kmd.com.apple.netif.utun4' not empty @skmem_cache.c:855\n"
        b"Panicked task 0xfffffe: 10 pages, 2 threads: pid 345: Example Filter\n"
        b"      Kernel Extensions in backtrace:\n"
        b"         org.example.kext(1.0)[B33F2B09-4BE9-32C5-954C-9233E1D5BB94]@0xfffffe->0xffffff\n"
    )
    _all(source)
    (document,) = source.documents
    assert "skywalk" in document.value.network
    assert (document.value.panicked, document.value.kexts) == ("Example Filter", (("org.example.kext", "1.0"),))


INTEREST = Interest(frozenset({"sysextd"}), frozenset({"com.apple.network"}), ("refused",), frozenset({"Fault"}))


def test_interest_changes_what_is_given_not_what_is_counted() -> None:
    values = [_ndjson(number) for number in range(900)]
    values[7]["eventMessage"] = "it was refused, too"
    values[11]["messageType"] = "Fault"
    values[13]["subsystem"] = "com.apple.network.path"
    values[14]["subsystem"] = "com.apple.networkextension"  # begins alike, is another
    values[17]["eventType"] = "lossEvent"
    values[18]["eventMessage"] = "refu"  # the text, but over two messages
    values[19]["eventMessage"] = "sed"
    data = _lines(*values, {"count": 900, "finished": 1})
    everything, some = open_input(data), open_input(data, interest=INTEREST)
    all_of_it, chosen = _all(everything), _all(some)
    assert len(all_of_it) == 900
    wanted = {number for number in range(900) if number % 5 == 0} | {7, 11, 13, 17}
    assert [record.pid for record in chosen] == sorted(wanted)
    assert chosen == [record for record in all_of_it if record.pid in wanted]
    for one, other in ((everything.coverage, some.coverage),):
        assert (one.records, one.of, one.processes, one.first, one.last, one.boots, one.finished) == (
            other.records, other.of, other.processes, other.first, other.last, other.boots, other.finished
        )  # fmt: skip
    assert some.coverage.processes == {"sysextd": 180, "mds": 720}
    assert some.coverage.lost == 1


def test_boots_order_the_records() -> None:
    values = [_ndjson(1), _ndjson(2, bootUUID="B", machTimestamp=3), _ndjson(3, bootUUID=BOOT, machTimestamp=5)]
    for interest in (None, Interest(frozenset({"mds"}))):
        source = open_input(_lines(*values), interest=interest)
        found = _all(source)
        assert [record.order for record in found] == [(1, 10, 1), (2, 3, 2), (1, 5, 3)]
        assert source.coverage.boots == [BOOT, "B"]
    text = f"{DEFAULT}app: a\n=== system boot: {BOOT}\n{DEFAULT}app: b\n"
    assert [record.order[0] for record in _all(open_input(text.encode()))] == [0, 1, 1]


def test_a_log_cut_short() -> None:
    whole = _lines(_ndjson(1), _ndjson(2), {"count": 2, "finished": 1})
    source = open_input(whole)
    _all(source)
    assert (source.coverage.finished, source.coverage.truncated) == (True, False)
    cut = open_input(whole[: len(whole) // 2])
    _all(cut)
    assert (cut.coverage.finished, cut.coverage.truncated) == (False, True)
    assert cut.coverage.of["unparsed"] == 1
    fewer = open_input(_lines(_ndjson(1), {"count": 2, "finished": 1}))
    _all(fewer)
    assert any("says 2 records, 1 were read" in note for note in fewer.coverage.notes)
    streamed = open_input(b'Filtering the log data using "process == \\"sysextd\\""\n' + _lines(_ndjson(1)))
    _all(streamed)
    assert streamed.coverage.finished is None  # a stream has no end to tell


def test_odd_lines_in_ndjson_are_counted_and_given() -> None:
    data = _lines(_ndjson(1)) + b"log: it went wrong\n\n" + _lines(_ndjson(2)).replace(b"message", b"mess\xffage")
    source = open_input(data, interest=INTEREST)
    found = _all(source)
    assert [(record.kind, record.line) for record in found] == [("text", 2)]
    assert source.coverage.of == {"record": 2, "unparsed": 1, "blank": 1}
    assert source.coverage.examples == [("(bytes)", 2, "log: it went wrong")]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from([_lines(_ndjson(5)), _lines(_ndjson(6, messageType=None)), b"\n", b"words\n", b'{"a":1}\n', b"[1]\n", b'{"eventMessage":"\\ud800"}\n'])
        | st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"") + b"\n"),
        min_size=1, max_size=12,
    ),
    st.sampled_from([None, INTEREST]),
)  # fmt: skip
def test_blocks_count_as_the_reader_of_lines_does(lines: list[bytes], interest: Interest | None) -> None:
    data = _lines(_ndjson(1), _ndjson(2), _ndjson(3)) * 5 + b"".join(lines)
    reader = LogReader(data.removesuffix(b"\n").split(b"\n"))
    expected = list(reader)
    source = open_input(data, interest=interest)
    if source.kind != "ndjson":
        return
    _all(source)
    assert source.coverage.records == len(expected)
    assert source.coverage.lines == reader.lines


@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(POST.encode().split(b"\n")) | st.binary(max_size=50), min_size=1, max_size=40))
def test_any_text_is_accounted_for(lines: list[bytes]) -> None:
    data = b"\n".join(line.replace(b"\0", b" ") for line in lines) + b"\n"
    try:
        source = open_input(data)
    except SysextError:
        return
    _all(source)
    if source.kind not in ("archive", "tracev3", "plist", "database") and not data.startswith(
        (b"\xff\xfe", b"\xfe\xff")
    ):
        assert source.coverage.lines == data.count(b"\n")


def test_every_sample_is_accounted_for() -> None:
    folder = SHARED / "bench" / "triage" / "dev"
    if not folder.is_dir():
        pytest.skip(f"../shared is absent: {folder}")
    kinds = set()
    for path in sorted(folder.rglob("*.txt")):
        source = open_input(path)
        kinds.add(source.kind)
        _all(source)
        data = path.read_bytes()
        assert source.coverage.lines == data.count(b"\n") + (not data.endswith(b"\n")), path.name
        assert not source.coverage.of["unparsed"], path.name
    assert kinds > {
        "log-default",
        "console",
        "log-syslog",
        "listing",
        "launchctl",
        "ips",
        "crash",
        "panic",
        "ndjson",
        "text",
        "database",
    }


def test_the_seed_thread_as_it_is() -> None:
    folder = SHARED / "seeds"
    if not folder.is_dir():
        pytest.skip(f"../shared is absent: {folder}")
    (path,) = folder.glob("000*.txt")
    found = _all(open_input(path))
    logged = [record for record in found if record.kind == records.LOG and record.line < 70]
    assert [record.line for record in logged] == [51, 62, 63]
    assert {record.process for record in logged} == {"sysextd"}
    assert any("0xe00002d8" in record.message for record in found if record.kind == records.TEXT)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for given_input in (tmp_path / "none", b"", b" \n\n", tmp_path):
        with pytest.raises(UsageError) as usage:
            open_input(given_input)
        assert usage.value.seen
        assert usage.value.hint
    for data in (
        b"\x89PNG\r\n\x1a\n" + b"\0" * 90,
        b"\xcf\xfa\xed\xfe" + b"\0\1" * 50,
        gzip.compress(gzip.compress(b"x")),
        b"PK\x03\x04" + b"x" * 90,
    ):
        with pytest.raises(FormatError) as error:
            open_input(data, name="thing")
        assert "thing" in error.value.expected


def test_an_overlong_line_loses_its_end_and_nothing_else() -> None:
    data = b"x" * 9_000_000 + b"\n" + LISTING.encode()
    source = open_input(data)
    found = _all(source)
    assert (len(found), [document.kind for document in source.documents]) == (1, ["listing"])
    assert source.coverage.lines == 5
    assert source.coverage.truncated


class _Drip:
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file, self._step = io.BytesIO(data), step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([b"", b"a", b"bcd" * 9, b"\r"]), max_size=12), st.integers(1, 9), st.booleans())
def test_blocks_end_with_lines(lines: list[bytes], step: int, closed: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if closed else b"")
    blocks = Blocks(_Drip(data, step))
    pieces = list(blocks)
    assert b"".join(pieces) == data
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    assert blocks.open_end == (bool(data) and not data.endswith(b"\n"))
