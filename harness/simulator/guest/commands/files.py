"""ditto and xattr."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import zipfile
from pathlib import Path

from harness.simulator.guest.commands.arguments import EX_USAGE, UsageMistake, complain, parse, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.interfaces import CommandIO

XATTRS = "/private/var/db/.simulated-xattrs.json"
"""Extended attributes are kept in one file beside, for the host's file system may have none."""
MAX_UNPACKED = 8 * 1024**3


def spend(guest: MacGuest, source: Path) -> None:
    """Count what a copy of `source` will write.

    Raises:
        OSError: ENOSPC: the disk is full.
    """
    if guest.disk.full:
        raise OSError(errno.ENOSPC, "No space left on device")
    wrote = getattr(guest.disk, "wrote", None)
    if wrote is not None:
        files = (
            [source]
            if source.is_file()
            else [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
        )
        wrote(sum(path.stat().st_size for path in files))


async def ditto(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`ditto SRC DST` (contents of a folder into a folder, merged), `ditto -c -k [--keepParent] SRC ZIP`, `ditto -x -k ZIP DST`."""
    try:
        given = parse(
            argv[1:],
            flags=("-c", "-k", "-x", "-v", "-V", "--keepParent", "--rsrc", "--norsrc", "--noqtn", "--extattr", "--noextattr", "--sequesterRsrc", "--acl", "--noacl"),
            values=("--arch", "--bom"),
        )  # fmt: skip
    except UsageMistake as error:
        await complain(io, f"ditto: {error}")
        return 1
    if len(given.operands) < 2:
        await complain(io, "Usage: ditto [ <options> ] src [ ... src ] dst")
        return EX_USAGE
    *sources, last = [guest.disk.path(word, io.cwd) for word in given.operands]
    for source, word in zip(sources, given.operands, strict=False):
        if not source.exists():
            await complain(io, f"ditto: Cannot get the real path for source '{word}'")
            return 1
        if given.has("-x"):
            await asyncio.to_thread(_unzip, guest, source, last)
        elif given.has("-c"):
            spend(guest, source)
            await asyncio.to_thread(_zip, source, last, keep=given.has("--keepParent"))
        else:
            spend(guest, source)
            await asyncio.to_thread(_copy, source, last)
    return 0


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target / source.name if target.is_dir() else target)


def _zip(source: Path, target: Path, *, keep: bool) -> None:
    base = source.parent if keep or source.is_file() else source
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            archive.write(path, path.relative_to(base))


def _unzip(guest: MacGuest, source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        if sum(item.file_size for item in archive.infolist()) > MAX_UNPACKED:
            raise OSError(errno.EFBIG, "File too large")
        top = guest.disk.guest(target)
        for item in archive.infolist():
            place = guest.disk.path(f"{top}/{item.filename}")
            if not place.is_relative_to(target):
                raise OSError(errno.EPERM, "Operation not permitted")
            if item.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            mode = item.external_attr >> 16
            if mode & 0o170000 == 0o120000:
                place.unlink(missing_ok=True)
                place.symlink_to(archive.read(item).decode())
                continue
            with archive.open(item) as data, place.open("wb") as file:
                shutil.copyfileobj(data, file)
            if mode & 0o777:
                place.chmod(mode & 0o777)


async def xattr(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`xattr [-l] [-r] F…`, `-p NAME F…`, `-w [-r] NAME VALUE F…`, `-d [-r] NAME F…`, `-c [-r] F…`."""
    words = argv[1:]
    flags = ""
    while words and words[0].startswith("-") and len(words[0]) > 1:
        flags += words.pop(0)[1:]
    if unknown := set(flags) - set("pwdclrsvx"):
        await complain(io, f"option -{sorted(unknown)[0]} not recognized")
        return EX_USAGE
    taken = 2 if "w" in flags else 1 if set(flags) & {"p", "d"} else 0
    if len(words) <= taken:
        await complain(io, "usage: xattr [-l] [-r] [-s] [-v] [-x] file [file ...]")
        return EX_USAGE
    name = words[0] if taken else ""
    store = _load(guest)
    code = 0
    for operand in words[taken:]:
        path = guest.disk.path(operand, io.cwd)
        if not path.exists():
            await complain(io, f"xattr: No such file: {operand}")
            code = 1
            continue
        top = guest.disk.guest(path)
        paths = [top]
        if "r" in flags and path.is_dir():
            paths += [guest.disk.guest(item) for item in path.rglob("*") if not item.is_symlink()]
        for guest_path in paths:
            attributes = store.setdefault(guest_path, {})
            if "w" in flags:
                attributes[name] = words[1]
            elif "c" in flags:
                attributes.clear()
            elif "d" in flags or "p" in flags:
                if name not in attributes:
                    if "r" not in flags:
                        await complain(io, f"xattr: {operand}: No such xattr: {name}")
                        code = 1
                elif "d" in flags:
                    del attributes[name]
                else:
                    await say(io, attributes[name])
            else:
                for key, value in attributes.items():
                    prefix = f"{guest_path}: " if len(words) > 1 or "r" in flags else ""
                    await say(io, f"{prefix}{key}: {value}" if "l" in flags else f"{prefix}{key}")
    if set(flags) & set("wdc"):
        target = guest.disk.path(XATTRS)
        temporary = target.with_name(target.name + ".new")
        temporary.write_text(json.dumps({path: kept for path, kept in store.items() if kept}))
        os.replace(temporary, target)  # noqa: PTH105 - never half a file
    return code


def _load(guest: MacGuest) -> dict[str, dict[str, str]]:
    try:
        data = json.loads(guest.disk.path(XATTRS).read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
