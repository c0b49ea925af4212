"""Crash reports: new and old, whole and cut off, in posts; panics; and what is none."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.formats import FormatError
from harness.formats.crash import parse_crash_report

HEADER = {
    "app_name": "org.example.ext",
    "timestamp": "2026-08-20 16:13:30.00 -0600",
    "app_version": "2.0",
    "slice_uuid": "4b208b43-31a6-36c3-984f-d466737b7e01",
    "build_version": "1",
    "bundleID": "org.example.ext",
    "bug_type": "309",
    "os_version": "macOS 26.6.1 (25G76)",
    "incident_id": "72672495-6710-46fe-9ab1-fb5a7bd60950",
    "name": "org.example.ext",
}
BODY = {
    "captureTime": "2026-08-20 16:13:29.9185 -0600",
    "procLaunch": "2026-08-20 16:13:27.5 -0600",
    "pid": 913,
    "procName": "org.example.ext",
    "procPath": "/Library/SystemExtensions/*/org.example.ext",
    "bootSessionUUID": "7871abf2-f319-49c9-b9fd-884e994f3df5",
    "exception": {"type": "EXC_CRASH", "signal": "SIGKILL (Code Signature Invalid)"},
    "termination": {"namespace": "CODESIGNING", "code": 1, "indicator": "Taskgated Invalid Signature"},
    "threads": [{"frames": [{"imageOffset": 1}], "pid": 7}],
}


def _ips(body: object = BODY) -> str:
    return json.dumps(HEADER) + "\n" + json.dumps(body, indent=2)


def test_a_whole_report() -> None:
    report = parse_crash_report(_ips())
    assert (report.process, report.pid, report.bundle_id) == ("org.example.ext", 913, "org.example.ext")
    assert (report.version, report.os_version, report.bug_type) == ("2.0 (1)", "macOS 26.6.1 (25G76)", "309")
    assert report.time is not None
    assert report.time.astimezone(UTC) == datetime(2026, 8, 20, 22, 13, 29, 918500, tzinfo=UTC)
    assert report.launched is not None
    assert report.launched < report.time
    assert report.slice_uuid == "4B208B43-31A6-36C3-984F-D466737B7E01"
    assert report.boot_uuid == "7871ABF2-F319-49C9-B9FD-884E994F3DF5"
    assert report.incident == "72672495-6710-46FE-9AB1-FB5A7BD60950"
    assert report.exception == "EXC_CRASH (SIGKILL (Code Signature Invalid))"
    assert report.termination == "CODESIGNING 1 Taskgated Invalid Signature"
    assert report.panic == ""


def test_bytes_and_a_mark_and_a_post_around_it() -> None:
    whole = parse_crash_report(_ips())
    assert parse_crash_report(b"\xef\xbb\xbf" + _ips().encode()) == whole
    post = "-----------\nFull Report\n-----------\n\n" + _ips() + "\n"
    assert parse_crash_report(post) == whole


def test_a_body_that_is_cut_off_keeps_its_own_values() -> None:
    text = _ips()
    report = parse_crash_report(text[: text.index('"threads"')])
    assert (report.pid, report.process) == (913, "org.example.ext")
    assert report.boot_uuid == "7871ABF2-F319-49C9-B9FD-884E994F3DF5"
    alone = parse_crash_report(json.dumps(HEADER))
    assert (alone.pid, alone.process, alone.slice_uuid) == (None, "org.example.ext", HEADER["slice_uuid"].upper())


def test_posted_reports(samples: dict[str, str]) -> None:
    old = parse_crash_report(samples["dev-020"])
    assert (old.process, old.pid, old.format) == ("sysextd", 45250, "text")
    assert old.exception == "EXC_BAD_INSTRUCTION (SIGILL)"
    assert old.bundle_id == ""  # a daemon has none
    assert old.time is not None
    assert old.time.isoformat() == "2020-10-27T16:23:41.306000-07:00"
    icloud = parse_crash_report(samples["fmt-056"])
    assert (icloud.process, icloud.pid) == ("iCloud Extension", 668)
    assert icloud.bundle_id == "com.robbertbrandsma.iCloudControl.iCloudExtension"
    agent = parse_crash_report(samples["fmt-034"])
    assert (agent.process, agent.pid, agent.version) == ("Agent Max", 78226, "1.0.0 (1.0.0)")
    assert agent.os_version == "macOS 15.6 (24G84)"
    for name in ("fmt-039", "fmt-067"):
        report = parse_crash_report(samples[name])
        assert report.pid
        assert report.launched is not None


def test_panics(samples: dict[str, str]) -> None:
    report = parse_crash_report(samples["fmt-031"])
    assert (report.process, report.bug_type) == ("kernel", "210")
    assert report.panic.startswith("panic(cpu 0 caller 0xfffffe0038b64a34): userspace watchdog timeout")
    assert "\n" not in report.panic
    assert parse_crash_report(samples["fmt-019"]).panic.startswith("panic(cpu 1 caller")
    bare = parse_crash_report("some words before\npanic(cpu 3 caller 0xffffff80): reason\nmore")
    assert (bare.process, bare.panic) == ("kernel", "panic(cpu 3 caller 0xffffff80): reason")


@pytest.mark.parametrize(
    "text", ["", "hello", "{", "{}", '{"a": 1}', "Process: x", "panic is near", "[1]", '{"count":3,"finished":1}']
)
def test_what_is_no_report(text: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_crash_report(text)
    assert error.value.seen


def test_every_sample_is_read_or_refused(samples: dict[str, str]) -> None:
    read = 0
    for text in samples.values():
        try:
            parse_crash_report(text)
        except FormatError:
            continue
        read += 1
    assert read >= 10


@given(st.data())
def test_damage(data: st.DataObject) -> None:
    text = _ips()
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.text(max_size=5)) + text[data.draw(st.integers(at, len(text))) :]
    with contextlib.suppress(FormatError):
        assert parse_crash_report(text).format in ("ips", "text")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*BODY, *HEADER]), inner, max_size=6)
        ),
        max_leaves=10,
    )
)
def test_wrong_types(body: object) -> None:
    report = parse_crash_report(_ips(body))
    assert report.bug_type == "309"
