"""Heads of log lines in every text style, markers, and whatever is none: nothing raises, the rest of the line is kept."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.formats import records
from harness.formats.logs_markers import parse_marker
from harness.formats.logs_text import parse_head, seconds_of

DEFAULT = "2025-06-09 15:32:13.834324+0530 0x6dcc     Default     0x0                  537    0    "
CASES = {
    "default": (
        DEFAULT + "sysextd: (libxpc.dylib) [com.apple.sx:XPC] client activation request for org.example.ext",
        (
            "default",
            "sysextd",
            537,
            "libxpc.dylib",
            "com.apple.sx",
            "XPC",
            "Default",
            "client activation request for org.example.ext",
        ),
    ),
    "default without a TTL": (
        "2017-05-10 16:49:00.149440+0300 0x10c80    Error       0x0                  8539   neagent: (NetworkExtension) failed",
        ("default", "neagent", 8539, "NetworkExtension", "", "", "Error", "failed"),
    ),
    "a process with blanks and a colon in the message": (
        DEFAULT + "System Settings: opened: a page",
        ("default", "System Settings", 537, "", "", "", "Default", "opened: a page"),
    ),
    "--source": (
        DEFAULT + "sysextd: <sysextd> message",
        ("default", "sysextd", 537, "sysextd", "", "", "Default", "message"),
    ),
    "a message that begins with a pointer": (
        DEFAULT + "app: [0x152b1bd40] activating connection",
        ("default", "app", 537, "", "", "", "Default", "[0x152b1bd40] activating connection"),
    ),
    "private": (
        DEFAULT + "app: <private> is gone",
        ("default", "app", 537, "", "", "", "Default", "<private> is gone"),
    ),
    "compact": (
        "2026-01-01 07:17:32.677 E  syspolicyd[527:85cf08] [com.apple.syspolicy.exec:default] no ticket",
        ("compact", "syspolicyd", 527, "", "com.apple.syspolicy.exec", "default", "Error", "no ticket"),
    ),
    "compact of the kernel": (
        "2026-01-01 07:17:32.677 Df kernel[0:1a2b] (AppleSystemPolicy) ASP: refused",
        ("compact", "kernel", 0, "AppleSystemPolicy", "", "", "Default", "ASP: refused"),
    ),
    "syslog": (
        "2023-09-27 22:55:39.622369+0200  localhost backupd[417]: (Lib) [a.b:c] text",
        ("syslog", "backupd", 417, "Lib", "a.b", "c", "", "text"),
    ),
    "NSLog": (
        "2020-10-27 11:03:26.981 Santa Agent[10156:116722] Requesting deactivation",
        ("nslog", "Santa Agent", 10156, "", "", "", "", "Requesting deactivation"),
    ),
    "what a post leaves of it": (
        "2025-06-09 15:32:13.834324+0530 sysextd: [com.apple.sx:Staging] ",
        ("short", "sysextd", 0, "", "com.apple.sx", "Staging", "", ""),
    ),
    "console": (
        "error\t13:00:16.745381+0200\ttaskgated-helper\torg.example: Unsatisfied\tentitlements",
        ("console", "taskgated-helper", 0, "", "", "", "Error", "org.example: Unsatisfied\tentitlements"),
    ),
    "console with a topic before": (
        "com.apple.securityd\tsecurity_exception\tdebug\t11:46:22.845588+0700\tsome.process\ttext",
        ("console", "some.process", 0, "", "com.apple.securityd", "security_exception", "Debug", "text"),
    ),
    "console, tabs to blanks": (
        "default    13:00:16.745091+0200    Mitm Redirector    Checking profile: x",
        ("console", "Mitm Redirector", 0, "", "", "", "Default", "Checking profile: x"),
    ),
    "bsd": (
        "Jan 30 17:26:22 HOST com.apple.xpc.launchd[1] (com.example.job): Could not import service",
        ("bsd", "com.apple.xpc.launchd", 1, "com.example.job", "", "", "", "Could not import service"),
    ),
    "dated": (
        "7/8/15 4:00:19.942 PM CoreServicesUIAgent[5940]: Fails dylib check",
        ("dated", "CoreServicesUIAgent", 5940, "", "", "", "", "Fails dylib check"),
    ),
    "a time alone": (
        "07:51:04.733232 com.apple.securityd Entitlement x=y is ignored",
        ("clock", "", 0, "", "com.apple.securityd", "", "", "Entitlement x=y is ignored"),
    ),
    "an app's own": (
        "[2021-08-29 08:56:14.171] [warning] [service] driver_version_ is mismatched",
        ("app", "service", 0, "", "", "", "Error", "driver_version_ is mismatched"),
    ),
    "a name": ("sysextd: no policy", ("bare", "sysextd", 0, "", "", "", "", "no policy")),
    "a name and a number": ("ExampleHost[812]: died", ("bare", "ExampleHost", 812, "", "", "", "", "died")),
    "a library": ("(PlugInKit)<Error>: lost", ("bare", "", 0, "PlugInKit", "", "", "Error", "lost")),
    "quoted": ("> > sysextd: no policy", ("bare", "sysextd", 0, "", "", "", "", "no policy")),
    "in a list": ("  * sysextd: no policy", ("bare", "sysextd", 0, "", "", "", "", "no policy")),
    "numbered": ("12. 2025-06-09 15:32:13.8+0530 sysextd: x", ("short", "sysextd", 0, "", "", "", "", "x")),
    "entities": ("sysextd: a &lt;b&gt; &quot;c&quot;", ("bare", "sysextd", 0, "", "", "", "", 'a <b> "c"')),
}


@pytest.mark.parametrize("name", CASES)
def test_styles(name: str) -> None:
    line, expected = CASES[name]
    head = parse_head(line)
    assert head is not None
    seen = (head.style, head.process, head.pid, head.sender, head.subsystem, head.category, head.level, head.message)
    assert seen == expected


def test_times() -> None:
    zoned = parse_head(CASES["default"][0])
    assert zoned is not None
    assert zoned.time is not None
    assert zoned.time.astimezone(UTC) == datetime(2025, 6, 9, 10, 2, 13, 834324, tzinfo=UTC)
    naive = parse_head(CASES["compact"][0])
    assert naive is not None
    assert naive.time == datetime(2026, 1, 1, 7, 17, 32, 677000)  # noqa: DTZ001 - that is the point
    clock = parse_head(CASES["console"][0])
    assert clock is not None
    assert (clock.time, clock.clock) == (None, pytest.approx(13 * 3600 + 16.745381))
    half = parse_head(CASES["dated"][0])
    assert half is not None
    assert half.time is not None
    assert (half.time.hour, half.time.year) == (16, 2015)
    assert seconds_of("25:00:00.1") is None
    assert parse_head("2026-13-45 99:99:99.1+0000 sysextd: x") is None


def test_kinds() -> None:
    for word, kind in (
        ("Activity", records.ACTIVITY),
        ("Loss", records.LOSS),
        ("State", records.STATE),
        ("Fault", records.LOG),
    ):
        head = parse_head(DEFAULT.replace("Default", word) + "p: m")
        assert head is not None
        assert head.kind == kind


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "I have a problem: it does not work",
        "Error: something",
        "https://example.org/x: y",
        "1 extension(s)",
        "Process:               sysextd [45250]",
        "at 12:30 we had lunch",
        "2025-06-09",
        "[activated enabled]",
        "http: error",
    ],
)
def test_what_is_no_head(line: str) -> None:
    assert parse_head(line) is None


def test_a_long_line_keeps_its_end() -> None:
    head = parse_head("sysextd: " + "x" * 10_000 + "END")
    assert head is not None
    assert len(head.message) == 10_003
    assert head.message.endswith("END")


def test_markers() -> None:
    boot = parse_marker(
        "2025-06-09 15:32:13.834324+0530 0x0 Default 0x0 0 0 === system boot: 7871abf2-F319-49C9-B9FD-884E994F3DF5"
    )
    assert boot is not None
    assert (boot.kind, boot.boot) == (records.BOOT, "7871ABF2-F319-49C9-B9FD-884E994F3DF5")
    lost = parse_marker("lost >=63 unreliable messages from 12-15 (Mach continuous exact start-approx. end)")
    assert lost is not None
    assert (lost.kind, lost.lost) == (records.LOSS, 63)
    jump = parse_marker("=== system wallclock time adjusted")
    assert jump is not None
    assert jump.kind == records.CLOCK
    for header, style in (
        ("Timestamp                       Thread     Type        Activity             PID    TTL  ", "default"),
        ("Timestamp               Ty Process[PID:TID]", "compact"),
        ("Timestamp                       (process)[PID]    ", "syslog"),
    ):
        marker = parse_marker(header)
        assert marker is not None
        assert (marker.kind, marker.style) == (records.MARKER, style)
    assert parse_marker('Filtering the log data using "x"') is not None
    assert parse_marker("```console") is not None
    for line in ("", "Timestamp of the event", "we lost 3 messages", "=== my notes", "- a list"):
        assert parse_marker(line) is None


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([line for name, (line, _) in CASES.items() if name != "entities"]),
    st.integers(0, 120),
    st.text(max_size=30),
    st.integers(0, 40),
)
def test_spoilt_lines_lose_nothing(line: str, place: int, piece: str, cut: int) -> None:
    spoilt = line[:place] + piece + line[place + cut :]
    head = parse_head(spoilt)
    parse_marker(spoilt)
    if head is not None and "&" not in spoilt:
        assert spoilt.endswith(head.message)
