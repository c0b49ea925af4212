"""installer, pkgutil, hdiutil: packages and disk images are really read (by `harness.bundles`), nothing is pretended."""

from __future__ import annotations

import asyncio
import json
import os
import plistlib
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from harness.bundles.diskimage import DiskImage
from harness.bundles.package import Package, read_package
from harness.errors import SysextError
from harness.simulator.guest.commands.arguments import EX_USAGE, UsageMistake, complain, parse, say
from harness.simulator.guest.commands.files import spend
from harness.simulator.guest.core import INSTALL_LOG, MacGuest
from harness.simulator.interfaces import CommandIO

RECEIPTS = "/private/var/db/receipts/simulated.json"


async def installer(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`installer -pkg X -target / [-verbose] [-verboseR] [-dumplog]`; root for anything but the user's home."""
    try:
        given = parse(
            argv[1:],
            flags=("-verbose", "-verboseR", "-dumplog", "-allowUntrusted"),
            values=("-pkg", "-package", "-target", "-tgt", "-lang"),
        )
    except UsageMistake as error:
        await complain(io, f"installer: {error}")
        return EX_USAGE
    name, target = given.value("-pkg", "-package"), given.value("-target", "-tgt")
    if name is None or target is None:
        await complain(io, "Usage: installer [-help] [-dominfo] [-volinfo] [-pkginfo] [-allowUntrusted] [-dumplog] [-verbose | -verboseR] [-vers] [-config] [-plist] [-file <pathToFile>] [-pkg <pathToPackage>] [-target <domain | volume>]")  # fmt: skip
        return EX_USAGE
    path = guest.disk.path(name, io.cwd)
    if not path.is_file():
        await complain(io, f"installer: Error the package path specified was invalid: '{name}'.")
        return 1
    if not io.root:
        await complain(io, "installer: Must be run as root to install this package.")
        return 1
    try:
        package = await asyncio.to_thread(read_package, path)
        title = PurePosixPath(name).stem
        await say(io, f"installer: Package name is {title}")
        await say(io, f"installer: Installing at base path {target}")
        await guest.delay("install", guest.settings.settle_seconds)
        await asyncio.to_thread(_install, guest, package)
        code = await _post_install(guest, io, package)
    except (SysextError, OSError) as error:
        _log(guest, f"install failed: {error}")
        await say(io, "installer: The install failed. (The Installer encountered an error that caused the installation to fail. Contact the software manufacturer for assistance.)")  # fmt: skip
        return 1
    if code:
        await say(io, "installer: The install failed. (The Installer encountered an error that caused the installation to fail. An error occurred while running scripts from the package.)")  # fmt: skip
        return 1
    receipts = _receipts(guest)
    known = package.identifier in receipts
    receipts[package.identifier] = {"version": package.components[0].version, "location": package.install_location}
    guest.disk.path(RECEIPTS).parent.mkdir(parents=True, exist_ok=True)
    guest.disk.path(RECEIPTS).write_text(json.dumps(receipts))
    _log(guest, f"Installed {title} ({package.components[0].version})")
    await say(io, f"installer: The {'upgrade' if known else 'install'} was successful.")
    return 0


def _install(guest: MacGuest, package: Package) -> None:
    """Unpack beside, then copy file by file through the disk's own border.

    Raises:
        SysextError, OSError: Damaged, hostile, or the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="sysext-sim-pkg-") as scratch:
        package.extract(Path(scratch))
        spend(guest, Path(scratch))
        for source in sorted(Path(scratch).rglob("*")):
            target = guest.disk.path(f"/{source.relative_to(scratch)}")
            if source.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.symlink_to(os.readlink(source))  # noqa: PTH115 - the link's text, unresolved
            elif source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)


async def _post_install(guest: MacGuest, io: CommandIO, package: Package) -> int:
    """Run the components' postinstall scripts, as root, in the guest's shell."""
    for component in package.components:
        folder = f"/private/tmp/PKInstallSandbox.{guest.clock.mach():x}"
        guest.disk.path(folder).mkdir(parents=True, exist_ok=True)
        try:
            scripts = package.extract_scripts(component, guest.disk.path(folder))
            for script in scripts:
                if script.name == "postinstall":
                    script.chmod(0o755)
                    asroot = CommandIO(io.stdin, io.stdout, io.stderr, "root", "/", dict(io.environment))
                    code = await guest.execute([guest.disk.guest(script), str(package.path), "/", "/", "/"], asroot)
                    if code:
                        return code
        finally:
            shutil.rmtree(guest.disk.path(folder), ignore_errors=True)
    return 0


def _log(guest: MacGuest, text: str) -> None:
    if guest.disk.full:
        return
    path = guest.disk.path(INSTALL_LOG)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(
            f"{guest.clock.now().strftime('%Y-%m-%d %H:%M:%S%z')[:-2]} {guest.machine_name} installer[{guest.processes.named('installer')[-1].pid}]: {text}\n"
        )


def _receipts(guest: MacGuest) -> dict[str, dict[str, str]]:
    try:
        data = json.loads(guest.disk.path(RECEIPTS).read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


async def pkgutil(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`pkgutil --pkgs`, `--pkg-info ID`, `--forget ID`."""
    receipts = _receipts(guest)
    verb, name = ([*argv[1:], "", ""])[:2]
    if verb == "--pkgs":
        for identifier in sorted(receipts):
            await say(io, identifier)
        return 0
    if name not in receipts:
        await complain(io, f"No receipt for '{name}' found at '/'.")
        return 1
    if verb == "--pkg-info":
        await say(
            io,
            f"package-id: {name}\nversion: {receipts[name]['version']}\nvolume: /\nlocation: {receipts[name]['location'].lstrip('/')}",
        )
    elif verb == "--forget":
        del receipts[name]
        guest.disk.path(RECEIPTS).write_text(json.dumps(receipts))
        await say(io, f"Forgot package '{name}' on '/'.")
    return 0


async def hdiutil(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`hdiutil attach [-nobrowse] [-readonly] [-mountpoint M] [-plist] X`, `detach X [-force]`, `info`."""
    verb = argv[1] if len(argv) > 1 else ""
    flags = ("-nobrowse", "-noautoopen", "-readonly", "-quiet", "-plist", "-noverify", "-force", "-nokernel", "-debug", "-verbose", "-owners", "-private", "-noidme")  # fmt: skip
    try:
        given = parse(argv[2:], flags=flags, values=("-mountpoint", "-mountroot", "-mount", "-timeout"))
    except UsageMistake as error:
        await complain(io, f"hdiutil: {verb}: {error}")
        return 1
    if verb in ("detach", "unmount", "eject") and given.operands:
        return await _detach(guest, io, given.operands[0], quiet=given.has("-quiet"))
    if verb == "info":
        for mount_point, device in guest.mounts.items():
            await say(io, f"{device}s1\tApple_HFS\t{mount_point}")
        return 0
    if verb not in ("attach", "mount") or not given.operands:
        await complain(io, "Usage: hdiutil <verb> <options>")
        return 1
    path = guest.disk.path(given.operands[0], io.cwd)
    if not path.is_file():
        await complain(io, "hdiutil: attach failed - No such file or directory")
        return 1
    try:
        image = await asyncio.to_thread(DiskImage, path)
        mount_point = given.value("-mountpoint") or f"/Volumes/{image.volume_name or path.stem}"
        target = guest.disk.path(mount_point, io.cwd)
        mount_point = guest.disk.guest(target)
        if mount_point in guest.mounts or (target.is_dir() and any(target.iterdir())):
            await complain(io, "hdiutil: attach failed - Resource busy")
            return 1
        target.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(image.extract, target)
    except (SysextError, OSError) as error:
        guest.journal.write("attach-failed", image=given.operands[0], error=str(error))
        await complain(io, "hdiutil: attach failed - image not recognized")
        return 1
    device = f"/dev/disk{4 + len(guest.mounts)}"
    guest.mounts[mount_point] = device
    if given.has("-plist"):
        entities = [
            {"content-hint": "GUID_partition_scheme", "dev-entry": device, "potentially-mountable": False},
            {"content-hint": "Apple_HFS", "dev-entry": f"{device}s1", "mount-point": mount_point, "volume-kind": "hfs", "potentially-mountable": True},
        ]  # fmt: skip
        await io.stdout(plistlib.dumps({"system-entities": entities}))
    elif not given.has("-quiet"):
        await say(
            io,
            f"{device:<20}\tGUID_partition_scheme          \t\n{device + 's1':<20}\tApple_HFS                      \t{mount_point}",
        )
    return 0


async def _detach(guest: MacGuest, io: CommandIO, what: str, *, quiet: bool) -> int:
    try:
        wanted = guest.disk.guest(guest.disk.path(what, io.cwd))
    except OSError:
        wanted = what
    for mount_point, device in list(guest.mounts.items()):
        if wanted == mount_point or what in (device, f"{device}s1", device.removeprefix("/dev/")):
            guest.unmount(mount_point)
            if not quiet:
                await say(io, f'"{device.removeprefix("/dev/")}" ejected.')
            return 0
    await complain(io, "hdiutil: detach failed - No such file or directory")
    return 1
