"""`sysdiagnose`: a real tar.gz with members a Mac's would have, made from what this guest knows."""

from __future__ import annotations

import asyncio
import os
import plistlib
import shutil
import tarfile
from pathlib import Path

from harness.simulator.guest.commands.arguments import EX_USAGE, UsageMistake, complain, parse, say
from harness.simulator.guest.commands.log_command import write_archive
from harness.simulator.guest.core import MacGuest
from harness.simulator.guest.crash_reports import FOLDER as CRASHES
from harness.simulator.guest.extension_database import DATABASE
from harness.simulator.interfaces import CommandIO

_FLAGS = (
    "-u",
    "-b",
    "-q",
    "-Q",
    "-n",
    "-k",
    "-S",
    "-p",
    "-P",
    "-g",
    "-G",
    "-d",
    "-D",
    "-r",
    "-R",
    "-F",
    "-H",
    "-v",
    "-h",
)
_NOTICE = (
    "\nThis tool writes diagnostic information about this Mac, which may hold personal information, to a file.\n"
    "\nPress 'Enter' to continue. Ctrl+\\ to cancel.\n"
)


async def sysdiagnose(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """Needs root; prints a notice and waits for a newline; then collects for as long as the setting says.

    The fault `env-sysdiagnose-hangs` makes it never end.
    """
    try:
        given = parse(argv[1:], flags=_FLAGS, values=("-f", "-A", "-V", "-C"))
    except UsageMistake as error:
        await complain(io, f"sysdiagnose: {error}")
        return EX_USAGE
    if given.has("-H"):
        await say(io, "/private/var/tmp")
        return 0
    if not io.root:
        await complain(io, "sysdiagnose must be run as root.")
        return 1
    await say(io, _NOTICE)
    await io.stdin.readline()
    moment = guest.clock.now()
    model = guest.hardware.replace(",", "-")
    name = (
        given.value("-A") or f"sysdiagnose_{moment.strftime('%Y.%m.%d_%H-%M-%S%z')}_macOS_{model}_{guest.macos.build}"
    )
    name = name.removesuffix(".tar.gz")
    folder = given.value("-f") or "/private/var/tmp"
    target = guest.disk.path(folder, io.cwd)
    if not target.is_dir():
        await complain(io, f"sysdiagnose: {folder}: No such file or directory")
        return 1
    if "/" in name or name in ("", ".", ".."):
        await complain(io, f"sysdiagnose: invalid archive name {name}")
        return EX_USAGE
    await say(io, "Executing collectors…")
    if guest.fault("env-sysdiagnose-hangs"):
        await asyncio.Event().wait()
    await guest.delay("sysdiagnose", guest.settings.sysdiagnose_seconds)
    if guest.disk.full:
        await complain(io, "sysdiagnose: error: No space left on device")
        return 1
    top = target / name
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    if not given.has("-R"):
        records = guest.log.between()
        await asyncio.to_thread(write_archive, guest, f"{guest.disk.guest(top)}/system_logs.logarchive", records)
    if not given.has("-r"):
        _fill(guest, top)
    result = top
    if not given.has("-n"):
        result = target / f"{name}.tar.gz"
        await asyncio.to_thread(_pack, top, result)
        if not given.has("-k"):
            await asyncio.to_thread(shutil.rmtree, top, ignore_errors=True)
    await say(io, f"Output available at '{guest.disk.guest(result)}'.")
    return 0


def _pack(folder: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.partial")
    with tarfile.open(temporary, "w:gz", compresslevel=1) as tar:
        tar.add(folder, arcname=folder.name)
    os.replace(temporary, target)  # noqa: PTH105 - a name that is there means a whole file


def _fill(guest: MacGuest, root: Path) -> None:
    (root / "README.txt").write_text("SIMULATED sysdiagnose: made by a simulated Mac, for tests.\n")
    (root / "sysdiagnose.log").write_text(
        f"sysdiagnose started on {guest.machine_name}, macOS {guest.macos.product} ({guest.macos.build})\n"
    )
    rows = [
        f"{process.user:<16} {process.parent:>5} {process.pid:>5} {0.0:>5} {process.command_line}"
        for process in guest.processes
    ]
    (root / "ps.txt").write_text("USER              PPID   PID  %CPU COMMAND\n" + "\n".join(rows) + "\n")
    (root / "launchctl-print-system.txt").write_text(guest.launchd.print_domain("system"))
    version = root / "logs/SystemVersion"
    version.mkdir(parents=True)
    (version / "SystemVersion.plist").write_bytes(
        plistlib.dumps(
            {"ProductName": "macOS", "ProductVersion": guest.macos.product, "ProductBuildVersion": guest.macos.build}
        )
    )
    crashes = root / "crashes_and_spins"
    crashes.mkdir()
    for report in sorted(guest.disk.path(CRASHES).glob("*.ips"))[-200:]:
        shutil.copyfile(report, crashes / report.name)
    networking = root / "logs/Networking"
    networking.mkdir(parents=True)
    preferences = guest.disk.path("/Library/Preferences/com.apple.networkextension.plist")
    if preferences.is_file():
        shutil.copyfile(preferences, networking / preferences.name)
    database = guest.disk.path(DATABASE)
    if database.is_file():
        (root / "logs/SystemExtensions").mkdir()
        shutil.copyfile(database, root / "logs/SystemExtensions/db.plist")
