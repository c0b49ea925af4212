"""codesign, spctl, stapler, dwarfdump, as far as their answers come from the bundle itself."""

from __future__ import annotations

import plistlib

from harness.simulator.guest.commands.arguments import UsageMistake, complain, parse, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.guest.installed import InstalledApp, app_of_path
from harness.simulator.interfaces import CommandIO

_SPCTL_REJECTED = 3


def _app(guest: MacGuest, path: str, cwd: str) -> InstalledApp | None:
    try:
        guest_path = guest.disk.guest(guest.disk.path(path, cwd))
        return guest.apps.read(app_of_path(guest_path) or guest_path)
    except (OSError, ValueError):
        return None


async def codesign(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`codesign -d[vvv] [--entitlements - --xml] X`, `codesign --verify [--deep --strict] X`. Prints on stderr, as it does."""
    try:
        given = parse(
            argv[1:],
            flags=("-d", "--display", "-v", "-vv", "-vvv", "-vvvv", "--verify", "--deep", "--strict", "--xml", "--check-notarization", "-dv", "-dvv", "-dvvv", "-dvvvv"),
            values=("--entitlements", "-R", "--arch", "-a"),
            optional={"--verbose": "1"},
        )  # fmt: skip
    except UsageMistake as error:
        await complain(io, f"codesign: {error}")
        return 2
    code = 0
    for path in given.operands:
        if not guest.disk.path(path, io.cwd).exists():
            await complain(io, f"{path}: No such file or directory")
            code = 1
            continue
        app = _app(guest, path, io.cwd)
        if app is None or not app.team:
            await complain(io, f"{path}: code object is not signed at all")
            code = 1
            continue
        display = given.has("-d", "--display") or any(flag.startswith("-dv") for flag in given.flags)
        if display and given.value("--entitlements") is not None:
            await io.stdout(plistlib.dumps(dict(app.entitlements)))
        elif display:
            archs = " ".join(item.arch for item in app.slices)
            await complain(io, f"Executable={app.executable}\nIdentifier={app.identifier}\nFormat=app bundle with Mach-O "
                               f"{'universal' if len(app.slices) > 1 else 'thin'} ({archs})\n"
                               f"CodeDirectory v=20500 size=11738 flags=0x10000(runtime) hashes=358+5 location=embedded\n"
                               f"CDHash={app.slices[-1].cdhash}\nTeamIdentifier={app.team}\nSealed Resources version=2 rules=13 files=7")  # fmt: skip
        elif any(flag.startswith("-v") for flag in given.flags) or given.value("--verbose"):
            await complain(io, f"{path}: valid on disk\n{path}: satisfies its Designated Requirement")
    return code


async def spctl(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`spctl -a [-vv] [-t exec|install|open] X` and `spctl --status`. A stapled ticket in the bundle makes it accepted."""
    try:
        given = parse(
            argv[1:],
            flags=("-a", "--assess", "-v", "-vv", "-vvv", "--status", "--raw"),
            values=("-t", "--type", "--context"),
        )
    except UsageMistake as error:
        await complain(io, f"spctl: {error}")
        return 2
    if given.has("--status"):
        await say(io, "assessments enabled")
        return 0
    for path in given.operands:
        app = _app(guest, path, io.cwd)
        stapled = app is not None and guest.disk.path(f"{app.path}/Contents/CodeResources").is_file()
        if app is None or not app.team or not stapled:
            await complain(
                io,
                f"{path}: rejected\nsource={'Unnotarized Developer ID' if app and app.team else 'no usable signature'}",
            )
            return _SPCTL_REJECTED
        await complain(io, f"{path}: accepted\nsource=Notarized Developer ID")
    return 0


async def stapler(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`stapler validate X`."""
    path = argv[-1]
    app = _app(guest, path, io.cwd)
    if app is not None and guest.disk.path(f"{app.path}/Contents/CodeResources").is_file():
        await say(io, f"Processing: {path}\nThe validate action worked!")
        return 0
    await say(io, f"Processing: {path}\n{path.rsplit('/', 1)[-1]} does not have a ticket stapled to it.")
    return 65


async def dwarfdump(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`dwarfdump --uuid X`: the UUIDs that the Mach-O file itself holds."""
    from harness.bundles.executables import read_executable
    from harness.errors import SysextError

    code = 0
    for path in [word for word in argv[1:] if not word.startswith("-")]:
        try:
            slices = read_executable(guest.disk.path(path, io.cwd)).slices
        except (SysextError, OSError):
            await complain(io, f"error: {path}: The file was not recognized as a valid object file")
            code = 1
            continue
        for item in slices:
            await say(io, f"UUID: {item.uuid} ({item.arch}) {path}")
    return code
