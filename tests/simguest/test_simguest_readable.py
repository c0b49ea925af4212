"""What the simulated guest prints, judged by strangers: the parsers that were made from real samples, and forms in those."""

from __future__ import annotations

import json
import re

import pytest

from harness.formats.crash import parse_crash_report
from harness.formats.database import parse_database
from harness.formats.launchctl import parse_launchctl_print, parse_launchctl_services
from harness.formats.listing import parse_listing
from harness.formats.logs import LogReader
from harness.formats.network import parse_nc_list, parse_nc_status
from harness.formats.system import (
    parse_boot_time,
    parse_csrutil,
    parse_sw_vers,
    parse_sysctl,
)

LABEL = "NetworkExtension.com.example.guard.extension.1.0.1"
EXTENSION = "com.example.guard.extension"

# Real lines, and the patterns made from them that both they and ours must match.
DEFAULT_LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}[+-]\d{4} (?=.{11}[A-Z])0x[0-9a-f]+ +(Default|Info|Debug|Error|Fault) +0x[0-9a-f]+ +\d+ +\d+ +[^:]+: (\([^)]+\) )?(\[[^\]]+:[^\]]*\] )?\S.*"
)
DEFAULT_REAL = (
    "2023-09-29 23:08:29.260822+1000 0x6dcc     Default     0x0                  537    0    sysextd: [com.apple.sx:XPC] client activation request for x",
    "2023-09-29 23:08:29.261024+1000 0x6dcc     Default     0x0                  537    0    sysextd: (libxpc.dylib) [com.apple.xpc:connection] [0x15280aa10] activating",
)
COMPACT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (Df|E |I |Db|F |A ) ?[^\[]+\[\d+:[0-9a-f]+\] .+")
COMPACT_REAL = "2026-01-01 07:17:32.677 E  syspolicyd[527:85cf08] [com.apple.syspolicy.exec:default] msg"
SYSLOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}[+-]\d{4} {1,2}localhost [^\[]+\[\d+\]: .+")
SYSLOG_REAL = "2023-09-27 22:55:39.622369+0200  localhost legacyScreenSaver[41737]: (ScreenSaverExample) msg"
NDJSON_KEYS = [
    "timezoneName",
    "messageType",
    "eventType",
    "source",
    "formatString",
    "userID",
    "activityIdentifier",
    "subsystem",
    "category",
    "threadID",
    "senderImageUUID",
    "backtrace",
    "bootUUID",
    "processImagePath",
    "senderImagePath",
    "timestamp",
    "machTimestamp",
    "eventMessage",
    "processImageUUID",
    "traceID",
    "processID",
    "senderProgramCounter",
    "parentActivityIdentifier",
]


def test_the_patterns_are_those_of_real_lines():
    assert all(DEFAULT_LINE.fullmatch(line) for line in DEFAULT_REAL)
    assert COMPACT_LINE.fullmatch(COMPACT_REAL)
    assert SYSLOG_LINE.fullmatch(SYSLOG_REAL)


@pytest.mark.parametrize(
    ("macos", "hint"),
    [
        ("13", ""),
        ("14", " (Go to 'System Settings"),
        (
            "15",
            " (Go to 'System Settings > General > Login Items & Extensions > Network Extensions' to modify these system extension(s))",
        ),
        (
            "26",
            " (Go to 'System Settings > General > Login Items & Extensions > Network Extensions' to modify these system extension(s))",
        ),
    ],
)
def test_listings(new_mac, run_async, rig, disk_root, macos, hint):
    async def body():
        async with new_mac(macos=macos) as mac:
            empty = (await mac.run("systemextensionsctl list")).out
            assert parse_listing(empty).count == 0
            await mac.enabled()
            rig.write_app(disk_root, short="2.0")
            await (await mac.launch())
            text = (await mac.run("systemextensionsctl list")).out
            lines = text.splitlines()
            assert lines[1].startswith(f"--- com.apple.system_extension.network_extension{hint}")
            assert lines[2] == "enabled\tactive\tteamID\tbundleID (version)\tname\t[state]"
            listing = parse_listing(text)
            assert listing.count == len(listing.entries) == 2
            old, new = listing.entries
            assert (new.enabled, new.active, new.team, new.identifier, new.short, new.build, new.name) == (
                True,
                True,
                "TEAM123456",
                EXTENSION,
                "2.0",
                "1",
                "extension",
            )
            assert (str(new.state), str(old.state)) == (
                "activated_enabled",
                "terminated_waiting_to_uninstall_on_reboot",
            )
            assert (old.enabled, old.active) == (False, False)
            data = parse_database((disk_root / "Library/SystemExtensions/db.plist").read_bytes())
            assert [(e.short, e.state) for e in data.extensions] == [(e.short, str(e.state)) for e in listing.entries]
            assert data.boot_uuid == mac.guest.clock.boot_uuid
            assert data.extensions[1].launchd_entries
            assert data.extensions[1].staged_cdhashes

    run_async(body)


def test_waiting_rows(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.launch()
            await mac.until(lambda: mac.display.alerts)
            (entry,) = parse_listing((await mac.run("systemextensionsctl list")).out).entries
            assert (entry.enabled, entry.active, str(entry.state)) == (False, True, "activated_waiting_for_user")

    run_async(body)


@pytest.mark.parametrize("macos", ["13", "26"])
def test_launchctl(new_mac, run_async, macos):
    async def body():
        async with new_mac(macos=macos) as mac:
            await mac.enabled()
            text = (await mac.run(f"launchctl print system/{LABEL}", root=True)).out
            for line in (
                "submitted job. ignore execute allowed",
                "last exit code = (never exited)",
                "type = Submitted",
                "started suspended = 0",
            ):
                assert f"\t{line}\n" in text
            job = parse_launchctl_print(text)
            assert job is not None
            assert (job.label, job.domain, job.state, job.runs, job.complete) == (LABEL, "system", "running", 1, True)
            assert job.pid == mac.guest.launchd.jobs[LABEL].process.pid
            assert job.program.startswith("/Library/SystemExtensions/")
            assert [(item.name, item.active) for item in job.endpoints] == [("TEAM123456.com.example.guard", True)]
            assert bool(job.managed_by) == (macos == "26")
            mac.guest.processes.kill(job.pid, 9)
            await mac.until(lambda: mac.guest.launchd.jobs[LABEL].process is not None)
            job = parse_launchctl_print((await mac.run(f"launchctl print system/{LABEL}", root=True)).out)
            assert (job.runs, job.state) == (2, "running")
            domain = parse_launchctl_services((await mac.run("launchctl print system", root=True)).out)
            assert (LABEL, job.pid) in [(item.label, item.pid) for item in domain]
            listed = parse_launchctl_services((await mac.run("launchctl list", root=True)).out)
            assert (LABEL, job.pid) in [(item.label, item.pid) for item in listed]
            missing = await mac.run("launchctl print system/no.such.job", root=True)
            assert missing.code == 113
            assert parse_launchctl_print(missing.out + missing.err) is None

    run_async(body)


def test_network_configurations(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            assert parse_nc_list((await mac.run("scutil --nc list")).out) == ()
            missing = await mac.run("scutil --nc status guard")
            assert parse_nc_status(missing.out) is None
            await mac.enabled()
            await mac.until(lambda: mac.guest.network.find("guard").status == "Connected")
            (item,) = parse_nc_list((await mac.run("scutil --nc list")).out)
            assert (item.enabled, item.status, item.name, item.type) == (
                True,
                "Connected",
                "guard",
                "VPN:com.example.guard",
            )
            assert re.fullmatch(r"[0-9A-F-]{36}", item.service_id)
            assert parse_nc_status((await mac.run("scutil --nc status guard")).out) == "Connected"
            await mac.run("scutil --nc stop guard")
            assert parse_nc_status((await mac.run("scutil --nc status guard")).out) == "Disconnected"
            await mac.run("scutil --nc start guard")
            await mac.until(lambda: mac.guest.network.find("guard").status == "Connected")

    run_async(body)


def test_log_as_ndjson(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            result = await mac.run(
                ["/usr/bin/log", "show", "--last", "boot", "--info", "--debug", "--style", "ndjson"], root=True
            )
            lines = result.raw.splitlines()
            assert list(json.loads(lines[0])) == NDJSON_KEYS
            assert b"\\/usr\\/libexec" in result.raw
            reader = LogReader(lines)
            records = list(reader)
            assert (reader.unparsed, reader.finished, reader.claimed) == (0, True, len(records))
            sysextd = [record for record in records if record.process == "sysextd"]
            assert any(
                "client activation request" in record.message and record.subsystem == "com.apple.sx"
                for record in sysextd
            )
            assert {record.boot_uuid for record in records} == {mac.guest.clock.boot_uuid}
            assert [record.mach_time for record in records] == sorted(record.mach_time for record in records)
            assert records[-1].time.utcoffset().total_seconds() == -7 * 3600
            others = {record.process for record in records} - {
                "sysextd",
                "Example Guard",
                "UserNotificationCenter",
                "nehelper",
                "nesessionmanager",
            }
            assert others, "other daemons chat as well"

    run_async(body)


@pytest.mark.parametrize(
    ("style", "header", "pattern"),
    [
        (
            "default",
            "Timestamp                       Thread     Type        Activity             PID    TTL  ",
            DEFAULT_LINE,
        ),
        ("compact", "Timestamp               Ty Process[PID:TID]", COMPACT_LINE),
        ("syslog", "Timestamp                       (process)[PID]    ", SYSLOG_LINE),
    ],
)
def test_log_as_text(new_mac, run_async, style, header, pattern):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            text = (
                await mac.run(["log", "show", "--style", style, "--predicate", 'process == "sysextd"'], root=True)
            ).out
            banner, head, *lines = text.splitlines()
            assert banner == 'Filtering the log data using "process == "sysextd""'
            assert head == header
            rows = [line for line in lines if "sysextd" in line]
            assert len(rows) > 10
            assert [row for row in rows if not pattern.fullmatch(row)] == []

    run_async(body)


def test_log_as_json_is_one_array(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            text = (await mac.run(["log", "show", "--style", "json", "--info"], root=True)).out
            assert list(json.loads(text)[0]) == NDJSON_KEYS
            assert text.startswith("[{")
            assert '"messageType" : ' in text

    run_async(body)


def test_crash_reports(new_mac, run_async, disk_root):
    async def body():
        async with new_mac(faults="sysextd-crash") as mac:
            await (await mac.launch())
            (report,) = (disk_root / "Library/Logs/DiagnosticReports").glob("*.ips")
            crash = parse_crash_report(report.read_text())
            assert (crash.process, crash.bug_type, crash.format) == ("sysextd", "309", "ips")
            assert crash.boot_uuid == mac.guest.clock.boot_uuid
            assert crash.time.utcoffset().total_seconds() == -7 * 3600
            assert crash.exception == "EXC_BREAKPOINT (SIGTRAP)"
            assert crash.incident
            assert crash.slice_uuid
            listing = (await mac.run("sw_vers")).out
            assert crash.pid
            assert mac.guest.macos.build in listing

    run_async(body)


@pytest.mark.parametrize("macos", ["13", "14", "15", "26"])
def test_system_facts(new_mac, run_async, macos):
    async def body():
        async with new_mac(macos=macos) as mac:
            version = parse_sw_vers((await mac.run("sw_vers")).out)
            assert (version.name, version.major, version.build) == ("macOS", int(macos), mac.guest.macos.build)
            assert (await mac.run("sw_vers --productVersion")).out.strip() == version.version
            assert parse_csrutil((await mac.run("csrutil status")).out) == "enabled"
            values = parse_sysctl((await mac.run("sysctl kern.bootsessionuuid kern.boottime hw.model")).out)
            assert values["kern.bootsessionuuid"] == mac.guest.clock.boot_uuid
            assert abs((parse_boot_time(values["kern.boottime"]) - mac.guest.clock.boot_time).total_seconds()) < 1
            assert (await mac.run("sysctl -n kern.bootsessionuuid")).out.strip() == mac.guest.clock.boot_uuid

    run_async(body)
