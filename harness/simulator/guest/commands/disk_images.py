"""hdiutil: images are really read (by `harness.bundles`) and really written; an attached image's files lie at its mount point."""

from __future__ import annotations

import asyncio
import plistlib
import shutil
import tempfile
from pathlib import Path

from harness.bundles.diskimage import DiskImage
from harness.errors import SysextError
from harness.simulator.disk import may_write
from harness.simulator.guest.commands.arguments import UsageMistake, complain, parse, say
from harness.simulator.guest.commands.files import spend
from harness.simulator.guest.core import MacGuest
from harness.simulator.interfaces import CommandIO
from harness.simulator.volume import FORMATS, write_image

_EBUSY = 16


async def hdiutil(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`hdiutil attach [-nobrowse] [-readonly] [-mountpoint M] [-plist] X`, `detach X [-force]`, `info`,
    `create -srcfolder F [-volname N] [-format UDZO|UDBZ|UDRO] [-ov] X`.
    """
    verb = argv[1] if len(argv) > 1 else ""
    if verb == "create":
        return await _create(guest, io, argv[2:])
    flags = ("-nobrowse", "-noautoopen", "-readonly", "-quiet", "-plist", "-noverify", "-force", "-nokernel", "-debug", "-verbose", "-owners", "-private", "-noidme")  # fmt: skip
    try:
        given = parse(argv[2:], flags=flags, values=("-mountpoint", "-mountroot", "-mount", "-timeout"))
    except UsageMistake as error:
        await complain(io, f"hdiutil: {verb}: {error}")
        return 1
    if verb in ("detach", "unmount", "eject") and given.operands:
        return await _detach(guest, io, given.operands[0], quiet=given.has("-quiet"), force=given.has("-force"))
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


async def _detach(guest: MacGuest, io: CommandIO, what: str, *, quiet: bool, force: bool) -> int:
    try:
        wanted = guest.disk.guest(guest.disk.path(what, io.cwd))
    except OSError:
        wanted = what
    for mount_point, device in list(guest.mounts.items()):
        if wanted == mount_point or what in (device, f"{device}s1", device.removeprefix("/dev/")):
            if not force and any(process.path.startswith(f"{mount_point}/") for process in guest.processes):
                await complain(io, f'hdiutil: couldn\'t unmount "{device.removeprefix("/dev/")}" - Resource busy')
                return _EBUSY
            guest.unmount(mount_point)
            if not quiet:
                await say(io, f'"{device.removeprefix("/dev/")}" ejected.')
            return 0
    await complain(io, "hdiutil: detach failed - No such file or directory")
    return 1


async def _create(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    """`hdiutil create`: of a folder's content. The volume is HFS+ whatever `-fs` says; encrypted images are not made."""
    try:
        given = parse(
            words,
            flags=("-ov", "-quiet", "-verbose", "-debug", "-puppetstrings", "-plist", "-nospotlight", "-noatomic"),
            values=("-srcfolder", "-srcdir", "-volname", "-format", "-fs", "-size", "-imagekey", "-layout"),
        )
    except UsageMistake as error:
        await complain(io, f"hdiutil: create: {error}")
        return 1
    folder, form = given.value("-srcfolder", "-srcdir"), given.value("-format") or "UDZO"
    if folder is None or len(given.operands) != 1:
        await complain(io, "hdiutil: create: one of -size, -srcfolder, -srcdevice or -sectors must be specified")
        return 1
    source = guest.disk.path(folder, io.cwd)
    if not source.exists():
        await complain(io, "hdiutil: create failed - No such file or directory")
        return 1
    if form not in FORMATS:
        await complain(io, f"hdiutil: create: unsupported format '{form}'")
        return 1
    name = given.operands[0] if given.operands[0].endswith(".dmg") else f"{given.operands[0]}.dmg"
    target = guest.disk.path(name, io.cwd)
    if target.exists() and not given.has("-ov"):
        await complain(io, "hdiutil: create failed - File exists")
        return 1
    if not target.parent.is_dir() or not may_write(io.user, guest.disk.guest(target)):
        await complain(io, "hdiutil: create failed - Permission denied")
        return 1
    spend(guest, source)
    await asyncio.to_thread(_write, target, source, given.value("-volname") or Path(name).stem, form)
    if not given.has("-quiet"):
        await say(io, f"created: {guest.disk.guest(target)}")
    return 0


def _write(target: Path, source: Path, name: str, form: str) -> None:
    """A source that is a bundle, or a file, lies in the image's top folder by its name; any other folder's content does."""
    if source.is_dir() and not (source / "Contents/Info.plist").is_file():
        write_image(target, source, name, form)
        return
    with tempfile.TemporaryDirectory(prefix="sysext-sim-image-") as room:
        if source.is_dir():
            shutil.copytree(source, Path(room) / source.name, symlinks=True)
        else:
            shutil.copy2(source, Path(room) / source.name)
        write_image(target, Path(room), name, form)
