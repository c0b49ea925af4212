"""Crash reports as ReportCrash writes them on macOS 12 and later: one line of JSON, then a JSON body."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from harness.simulator.guest.processes import GuestProcess
from harness.simulator.guest.unified_log import image_uuid

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

FOLDER = "/Library/Logs/DiagnosticReports"


def write_crash_report(
    guest: MacGuest,
    process: GuestProcess,
    *,
    slice_uuid: str = "",
    bundle_id: str = "",
    version: tuple[str, str] = ("", ""),
    team: str = "",
    queue: str = "com.apple.main-thread",
    symbols: Sequence[str] = (),
    at_exec: bool = False,
) -> str:
    """Write `<name>-YYYY-MM-DD-HHMMSS.ips` for a process that has just crashed; returns its guest path, "" when it could not
    be written (a full disk).

    Args:
        guest: The guest.
        process: Who crashed.
        slice_uuid: LC_UUID of its executable, as the bundle says; made up for a system daemon.
        bundle_id: Its bundle identifier; a daemon has none.
        version: CFBundleShortVersionString and CFBundleVersion.
        team: The signing team; "" for Apple's own.
        queue: The dispatch queue of the crashed thread.
        symbols: Frames of its own code, innermost first.
        at_exec: The kernel killed it before dyld ran (code signing).
    """
    now = guest.clock.now()
    name = process.path.rsplit("/", 1)[-1]
    incident = str(uuid.uuid4()).upper()
    slice_uuid = slice_uuid or image_uuid(process.path)
    os_version = f"macOS {guest.macos.product} ({guest.macos.build})"
    header: dict[str, Any] = {
        "app_name": name,
        "timestamp": now.strftime("%Y-%m-%d %H:%M:%S.00 %z"),
        "app_version": version[0],
        "slice_uuid": slice_uuid.lower(),
        "build_version": version[1],
        "platform": 1,
    }
    if bundle_id:
        header["bundleID"] = bundle_id
    header |= {
        "share_with_app_devs": 0,
        "is_first_party": 0 if team else 1,
        "bug_type": "309",
        "os_version": os_version,
        "roots_installed": 0,
        "name": name,
        "incident_id": incident,
    }
    body = _body(guest, process, name, incident, now.strftime("%Y-%m-%d %H:%M:%S.%f")[:-2] + now.strftime(" %z"))
    launched = now - timedelta(milliseconds=250)
    body["procLaunch"] = launched.strftime("%Y-%m-%d %H:%M:%S.%f")[:-2] + now.strftime(" %z")
    body |= {
        "codeSigningID": bundle_id or f"com.apple.{name}",
        "codeSigningTeamID": team,
        "codeSigningFlags": 570503953,
    }
    if bundle_id:
        body["bundleInfo"] = {
            "CFBundleShortVersionString": version[0],
            "CFBundleVersion": version[1],
            "CFBundleIdentifier": bundle_id,
        }
    base = 4_300_000_000
    images = [
        {"source": "P", "arch": "arm64", "base": base, "size": 1_500_000, "uuid": slice_uuid.lower(), "path": process.path, "name": name},
        {"source": "P", "arch": "arm64e", "base": 6_500_000_000, "size": 636_284, "uuid": image_uuid("/usr/lib/dyld").lower(),
         "path": "/usr/lib/dyld_path_missing" if at_exec else "/usr/lib/dyld", "name": "dyld_path_missing" if at_exec else "dyld"},
    ]  # fmt: skip
    if at_exec:
        body |= {
            "exception": {
                "codes": "0x0000000000000032, 0x0000000104660000",
                "rawCodes": [50, 4368760832],
                "type": "EXC_CRASH",
                "signal": "SIGKILL (Code Signature Invalid)",
            },
            "termination": {
                "flags": 0,
                "code": 1,
                "namespace": "CODESIGNING",
                "indicator": "Taskgated Invalid Signature",
            },
        }
        frames = [{"imageOffset": 5776, "symbol": "_dyld_start", "symbolLocation": 0, "imageIndex": 1}]
    else:
        body |= {
            "exception": {
                "codes": "0x0000000000000001, 0x00000001992f8c84",
                "rawCodes": [1, 6865009796],
                "type": "EXC_BREAKPOINT",
                "signal": "SIGTRAP",
            },
            "termination": {
                "flags": 0,
                "code": 5,
                "namespace": "SIGNAL",
                "indicator": "Trace/BPT trap: 5",
                "byProc": "exc handler",
                "byPid": process.pid,
            },
        }
        frames = [
            {"imageOffset": 17232 + 4096 * index, "symbol": symbol, "symbolLocation": 380, "imageIndex": 0}
            for index, symbol in enumerate(symbols or (f"{name}.main", "main"))
        ]
    body |= {
        "faultingThread": 1 if queue != "com.apple.main-thread" else 0,
        "threads": [
            *(
                [{"id": 4001, "queue": "com.apple.main-thread", "frames": [{"imageOffset": 3160, "imageIndex": 1}]}]
                if queue != "com.apple.main-thread"
                else []
            ),
            {"triggered": True, "id": 4021, "queue": queue, "frames": frames},
        ],
        "usedImages": images,
    }
    path = f"{FOLDER}/{name}-{now.strftime('%Y-%m-%d-%H%M%S')}.ips"
    text = (
        json.dumps(header, separators=(",", ":"))
        + "\n"
        + json.dumps(body, indent=2, separators=(",", " : ")).replace("/", "\\/")
        + "\n"
    )
    target = guest.disk.path(path)
    counter = 0
    while target.exists():
        counter += 1
        path = f"{FOLDER}/{name}-{now.strftime('%Y-%m-%d-%H%M%S')}.{counter:03d}.ips"
        target = guest.disk.path(path)
    if guest.disk.full:
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    reporter = guest.processes.spawn("ReportCrash", "/System/Library/CoreServices/ReportCrash")
    guest.log.emit(
        reporter, f"Saved crash report for {name}[{process.pid}] version {version[0] or '???'} ({version[1] or '1'}) to {name}-{now.strftime('%Y-%m-%d-%H%M%S')}.ips",
        subsystem="com.apple.ReportCrash", category="default",
    )  # fmt: skip
    guest.processes.remove(reporter.pid)
    return path


def _body(guest: MacGuest, process: GuestProcess, name: str, incident: str, captured: str) -> dict[str, Any]:
    mach = guest.clock.mach()
    return {
        "uptime": int(guest.clock.uptime()),
        "procRole": "Unspecified",
        "version": 2,
        "userID": 0 if process.user == "root" else 501,
        "deployVersion": 210,
        "modelCode": guest.hardware,
        "coalitionID": 600 + process.pid,
        "osVersion": {"train": f"macOS {guest.macos.product}", "build": guest.macos.build, "releaseType": "User"},
        "captureTime": captured,
        "codeSigningMonitor": 1,
        "incident": incident,
        "pid": process.pid,
        "translated": False,
        "cpuType": "ARM-64",
        "roots_installed": 0,
        "bug_type": "309",
        "procLaunch": "",
        "procStartAbsTime": max(0, mach - 6_000_000),
        "procExitAbsTime": mach,
        "procName": name,
        "procPath": process.path,
        "parentProc": "launchd",
        "parentPid": 1,
        "coalitionName": name,
        "crashReporterKey": "5E1F0C2A-0000-4000-8000-000000000000",
        "bootSessionUUID": guest.clock.boot_uuid,
        "sip": "enabled" if guest.sip else "disabled",
    }
