"""Commands about the session at the console, and about power: open, screencapture, shutdown."""

from __future__ import annotations

import asyncio
import re
import struct
import zlib
from pathlib import PurePosixPath

from harness.simulator.guest.commands.arguments import EX_USAGE, UsageMistake, complain, parse, say
from harness.simulator.guest.core import USER, MacGuest
from harness.simulator.guest.sessions import NOBODY
from harness.simulator.interfaces import CommandIO

_SETTINGS_URL = re.compile(r"x-apple\.systempreferences:.*", re.DOTALL)
_SETTINGS_NAMES = ("System Settings", "System Preferences", "com.apple.systempreferences")


async def open_command(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`open URL`, `open X.app`, `open -a NAME [-n] [-W] [-g] [-j] [-F] [--env K=V] [--stdout P] [--args …]`.

    Exits 0 for a Settings pane that does not exist, as the real one does. Without a console user nothing opens.
    """
    words, arguments = argv[1:], []
    if "--args" in words:
        index = words.index("--args")
        words, arguments = words[:index], words[index + 1 :]
    try:
        given = parse(words, flags=("-n", "-W", "-g", "-j", "-F", "-h", "-t", "-e", "-f", "-R", "-u"), values=("-a", "-b", "--env", "--stdout", "--stderr", "--stdin", "-o", "-i"))  # fmt: skip
    except UsageMistake as error:
        await complain(io, f"open: {error}")
        return 1
    name = given.value("-a", "-b")
    url = next((word for word in given.operands if _SETTINGS_URL.fullmatch(word)), None)
    wanted = name or (given.operands[0] if given.operands else "")
    if not guest.may_open(io):
        await complain(io, f"LSOpenURLsWithRole() failed with error -10810 for the file {wanted}.")
        return 1
    if url is not None or wanted in _SETTINGS_NAMES:
        guest.open_settings(url or "")
        return 0
    if not wanted:
        await complain(io, "Usage: open [-e] [-t] [-f] [-W] [-R] [-n] [-g] [-h] [-s <partial SDK name>][-b <bundle identifier>] [-a <application>] [filenames] [--args arguments]")  # fmt: skip
        return 1
    if re.match(r"[a-z][a-z0-9+.-]*:", wanted):
        return 0  # some URL: another app's business
    app = _find_app(guest, wanted, io.cwd, by_identifier=given.value("-b") is not None)
    if app is None:
        if name is not None:
            await complain(io, f"Unable to find application named '{name}'")
        else:
            await complain(io, f"The file {wanted} does not exist.")
        return 1
    try:
        bundle = guest.apps.read(app)
    except (OSError, ValueError):
        await complain(io, f"The application cannot be opened because its executable is missing: {app}")
        return 1
    if not given.has("-n") and any(process.path == bundle.executable for process in guest.processes):
        return 0
    running = guest.spawn(guest.run_app(app, bundle.executable, arguments, None, user=guest.console_user))
    if given.has("-W"):
        await asyncio.wait([running])
    return 0


def _find_app(guest: MacGuest, wanted: str, cwd: str, *, by_identifier: bool) -> str | None:
    folders = (
        "/Applications",
        "/Applications/Utilities",
        f"/Users/{guest.console_user}/Applications",
        "/System/Applications",
    )
    if by_identifier:
        for folder in folders:
            root = guest.disk.path(folder)
            for path in sorted(root.glob("*.app")) if root.is_dir() else []:
                try:
                    if guest.apps.read(guest.disk.guest(path)).identifier == wanted:
                        return guest.disk.guest(path)
                except (OSError, ValueError):
                    continue
        return None
    candidates = [wanted] if "/" in wanted else [f"{folder}/{wanted.removesuffix('.app')}.app" for folder in folders]
    for candidate in candidates:
        try:
            path = guest.disk.path(candidate, cwd)
            if path.is_dir() and path.suffix == ".app":
                return guest.disk.guest(path)
        except OSError:
            continue
    return None


async def screencapture(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """Writes a black picture: what one gets over SSH without the Screen Recording right, silently."""
    try:
        given = parse(
            argv[1:], flags=("-x", "-C", "-m", "-S", "-o", "-r", "-i", "-c"), values=("-t", "-D", "-R", "-l", "-T")
        )
    except UsageMistake as error:
        await complain(io, f"screencapture: {error}")
        return 1
    if guest.console_user == NOBODY:
        await complain(io, "could not create image from display")
        return 1
    if not given.operands:
        await complain(io, "screencapture: no file specified")
        return 1
    width, height = 1280, 800
    rows = zlib.compress(b"\0" * ((width + 1) * height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    picture = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    if guest.disk.full:
        raise OSError(28, "No space left on device")
    guest.disk.path(given.operands[0], io.cwd).write_bytes(picture)
    return 0


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


async def shutdown(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`shutdown -h|-r now|+0`, `reboot`, `halt`: root only. Answers first, then the machine goes down."""
    name = PurePosixPath(argv[0]).name
    words = argv[1:]
    if not io.root:
        await complain(io, f"{name}: {'NOT super-user' if name == 'shutdown' else 'Operation not permitted'}")
        return 1
    restart = name == "reboot"
    if name == "shutdown":
        flags = {letter for word in words if word.startswith("-") for letter in word[1:]}
        times = [word for word in words if not word.startswith("-")]
        if not times or times[0] not in ("now", "+0") or not flags & {"h", "r"}:
            await complain(
                io, "usage: shutdown [-] [-h [-u] [-n] | -r [-n] | -s | -k] [-o [-n]] time [warning-message ...]"
            )
            return EX_USAGE
        restart = "r" in flags
        await say(io, f"Shutdown NOW!\n\n*** FINAL System shutdown message from {USER}@{guest.machine_name}.local ***\n"
                      "System going down IMMEDIATELY\n\n\nSystem shutdown time has arrived")  # fmt: skip
    guest.later(guest.restart() if restart else guest.shut_down())
    return 0
