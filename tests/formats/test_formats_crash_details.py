"""Where it died and whether it ever ran: frames, images, termination, the network path of panics."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.formats import FormatError
from harness.formats.crash import parse_crash_report
from harness.formats.crash_details import kexts_in_backtrace, network_hints, panicked_task

UUID = "4b208b43-31a6-36c3-984f-d466737b7e01"
OLD = f"""Process:               org.example.ext [913]
Path:                  /Library/SystemExtensions/X/org.example.ext
Identifier:            org.example.ext
Date/Time:             2020-10-27 16:23:41.306 -0700

Crashed Thread:        1  Dispatch queue: com.example.queue

Exception Type:        EXC_CRASH (Code Signature Invalid)
Termination Reason:    Namespace CODESIGNING, Code 0x2

Application Specific Information:
Fatal error: two of them

Thread 0:
0   libsystem_kernel.dylib        0x00007fff6d2052bc mach_msg_trap + 10

Thread 1 Crashed:: Dispatch queue: com.example.queue
0   org.example.ext               0x000000010a695d82 0x10a68b000 + 44418
1   Foundation                    0x00007fff35875413 __NSXPC_CALLING_OUT__ + 10

Thread 1 crashed with X86 Thread State (64-bit):

Binary Images:
       0x10a68b000 -        0x10a6fffff +org.example.ext (1.0 - 1) <{UUID.upper()}> /Library/SystemExtensions/X/org.example.ext
    0x7fff35800000 -     0x7fff35ffffff  com.apple.Foundation (6.9 - 1677) <25DE7632-26B2-3BF2-9278-1050216410B6> /System/Foundation
"""


def test_the_old_text() -> None:
    report = parse_crash_report(OLD)
    assert (report.thread, report.slice_uuid) == ("com.example.queue", UUID.upper())
    assert [(frame.image, frame.symbol) for frame in report.frames] == [
        ("org.example.ext", "0x10a68b000 + 44418"),
        ("Foundation", "__NSXPC_CALLING_OUT__ + 10"),
    ]
    assert [image.name for image in report.images] == ["org.example.ext", "com.apple.Foundation"]
    assert (report.namespace, report.code, report.killed_at_exec) == ("CODESIGNING", "0x2", "Code Signature Invalid")
    assert report.notes == "Fatal error: two of them"


def _ips(**body: object) -> str:
    return json.dumps({"bug_type": "309", "app_name": "Host", "slice_uuid": UUID}) + "\n" + json.dumps(body, indent=2)


def test_the_new_one() -> None:
    report = parse_crash_report(
        _ips(
            procName="Host",
            faultingThread=1,
            threads=[
                {"frames": []},
                {
                    "name": "worker",
                    "frames": [{"imageIndex": 1, "symbol": "f", "imageOffset": 16}, {"imageIndex": 9}, 3],
                },
            ],
            usedImages=[{"uuid": UUID, "name": "Host", "path": "/A/Host"}, {"uuid": UUID, "name": "Lib"}],
            termination={
                "namespace": "DYLD",
                "code": 1,
                "indicator": "Library missing",
                "reasons": ["not loaded: @rpath/x"],
            },
            asi={"Host": ["Fatal error: nil"]},
        )
    )
    assert (report.thread, report.namespace, report.code) == ("worker", "DYLD", "1")
    assert [(frame.image, frame.symbol, frame.offset) for frame in report.frames] == [
        ("Lib", "f", "0x10"),
        ("???", "", ""),
    ]
    assert report.images[0].uuid == UUID.upper()
    assert report.notes == "Fatal error: nil\nnot loaded: @rpath/x"
    assert report.killed_at_exec == ""


@pytest.mark.parametrize(
    ("termination", "mark"),
    [
        (
            {"namespace": "CODESIGNING", "code": 4, "indicator": "Launch Constraint Violation"},
            "Launch Constraint Violation",
        ),
        (
            {"namespace": "CODESIGNING", "code": 1, "indicator": "Taskgated Invalid Signature"},
            "Taskgated Invalid Signature",
        ),
        ({"namespace": "CODESIGNING", "code": 2, "indicator": "Invalid Page"}, "Code Signature Invalid"),
        ({"namespace": "CODESIGNING", "code": 9, "indicator": "x"}, "CODESIGNING"),
        ({"namespace": "SIGNAL", "code": 6, "indicator": "Abort trap: 6"}, ""),
    ],
)
def test_killed_at_exec(termination: dict[str, object], mark: str) -> None:
    assert parse_crash_report(_ips(procName="Host", termination=termination)).killed_at_exec == mark


@pytest.mark.parametrize(
    ("panic", "parts"),
    [
        ("m_copym_with_hdrs n 0xfb copy overflow @uipc_mbuf.c:3268", "mbuf copy"),
        ("skmem_cache_destroy: 'skc.kmd.com.apple.netif.utun4' not empty @skmem_cache.c:855", "skywalk"),
        ("dlil_if_ref: wraparound refcnt for ifp=0xfffffe @dlil_subr.c:538", "interface"),
        ('"tcp_lock: so=0xff NO PCB! lr=0xff"@/x/bsd/netinet/tcp_subr.c:3309', "tcp/ip stack"),
        ("userspace watchdog timeout: no successful checkins from WindowServer", ""),
        ("Kernel trap at 0xffffff8018c8b907, type 14=page fault", ""),
    ],
)
def test_the_network_path_of_a_panic(panic: str, parts: str) -> None:
    found = network_hints(f"panic(cpu 1 caller 0xff): {panic}")
    assert (parts in found) if parts else not found


def test_who_ran_and_what_was_in_the_backtrace() -> None:
    text = (
        "panic(cpu 1 caller 0xfffffe): x\nPanicked task 0xfffffe1b: 10 pages, 2 threads: pid 345: Example Filter\n"
        "      Kernel Extensions in backtrace:\n"
        "         com.example.kext(1.0.1)[B33F2B09-4BE9-32C5-954C-9233E1D5BB94]@0xfffffe->0xffffff\n"
    )
    assert panicked_task(text) == ("Example Filter", 345)
    assert kexts_in_backtrace(text) == (("com.example.kext", "1.0.1"),)
    assert panicked_task("Process name corresponding to current thread (0xff): kernel_task\n") == ("kernel_task", None)
    report = parse_crash_report(text + f"Boot session UUID: {UUID}\nOS version: 24G90\n")
    assert (report.boot_uuid, report.os_version, report.panicked) == (UUID.upper(), "24G90", "Example Filter")


def test_the_sandboxs_report_is_no_crash() -> None:
    with pytest.raises(FormatError):
        parse_crash_report(
            "Violation:       deny(1) x\nProcess:         Ext [698]\nIdentifier:      org.example\nDate/Time: x\n"
        )


_VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["frames", "imageIndex", "uuid", "name", "code"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["threads", "usedImages", "faultingThread", "termination", "exception", "asi", "procName"]),
        _VALUES,
        max_size=6,
    )
)
def test_any_body(body: dict[str, object]) -> None:
    report = parse_crash_report(_ips(**body))
    assert report.slice_uuid == UUID.upper()
    assert all(isinstance(frame.image, str) for frame in report.frames)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(OLD)), st.text(max_size=9), st.integers(0, 60))
def test_a_spoilt_text(place: int, piece: str, cut: int) -> None:
    try:
        report = parse_crash_report(OLD[:place] + piece + OLD[place + cut :])
    except FormatError as error:
        assert error.seen
    else:
        assert len(report.frames) <= 24
