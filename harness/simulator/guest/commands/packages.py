"""pkgbuild and pkgutil."""

from __future__ import annotations

import asyncio
import errno
import os
import plistlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.simulator.disk import may_write
from harness.simulator.flatpackage import PackagedBundle, write_package
from harness.simulator.guest.commands.arguments import EX_USAGE, UsageMistake, complain, parse, say
from harness.simulator.guest.commands.files import spend
from harness.simulator.guest.commands.installer import read_receipts, write_receipts
from harness.simulator.guest.core import MacGuest
from harness.simulator.interfaces import CommandIO

_USAGE = (
    "Usage: pkgbuild [options] --root <root-path> <package-path>\n"
    "Usage: pkgbuild --analyze --root <root-path> <component-plist-path>\n"
    "Usage: pkgbuild [options] --component <component-path> ... <package-path>"
)
_VALUES = ("--root", "--component-plist", "--identifier", "--version", "--install-location", "--scripts", "--ownership", "--prior",
           "--sign", "--keychain", "--cert", "--filter", "--min-os-version", "--compression")  # fmt: skip
_MAX_PLIST = 4 * 1024 * 1024


class _PackagingError(Exception):
    """Ends pkgbuild with its message."""


async def pkgbuild(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`pkgbuild [--analyze] {--root DIR [--component-plist P] | --component APP…} [--install-location L] [--scripts DIR]
    [--identifier I] [--version V] [--quiet] OUT`. The package is a real one; it is not signed.
    """
    words, components = argv[1:], []
    while "--component" in words:
        index = words.index("--component")
        components += words[index + 1 : index + 2]
        del words[index : index + 2]
    try:
        given = parse(words, flags=("--analyze", "--quiet", "--nopayload", "--timestamp", "--timestamp=none", "--large-payload"), values=_VALUES)  # fmt: skip
    except UsageMistake as error:
        await complain(io, f"pkgbuild: error: {error}\n{_USAGE}")
        return EX_USAGE
    root = given.value("--root")
    empty = given.has("--nopayload") and root is None and not components
    if len(given.operands) != 1 or ((root is not None) == bool(components) and not empty):
        await complain(
            io, f"pkgbuild: error: exactly one of --root and --component is needed, and one output path\n{_USAGE}"
        )
        return EX_USAGE
    told: list[str] = []
    try:
        target = guest.disk.path(given.operands[0], io.cwd)
        if not target.parent.is_dir() or not may_write(io.user, guest.disk.guest(target)):
            raise _PackagingError(f'Cannot write package to "{given.operands[0]}".')
        if given.has("--analyze"):
            await _analyze(guest, io, root or "", target, told)
        else:
            await _build(guest, io, given.values, components, target, told)
    except _PackagingError as error:
        await complain(io, f"pkgbuild: error: {error}")
        return 1
    if not given.has("--quiet"):
        for line in told:
            await say(io, f"pkgbuild: {line}")
        if not given.has("--analyze"):
            await say(io, f"pkgbuild: Wrote package to {given.operands[0]}")
    return 0


async def _analyze(guest: MacGuest, io: CommandIO, root: str, target: Path, told: list[str]) -> None:
    folder = _folder(guest, io, root, "root")
    told.append(f"Inferring bundle components from contents of {root}")
    rows = [_settings(relative) for relative, _path in _bundles_in(folder)]
    told.append(f"Writing new component property list to {target.name}")
    target.write_bytes(plistlib.dumps(rows))


async def _build(
    guest: MacGuest, io: CommandIO, values: dict[str, str], components: list[str], target: Path, told: list[str]
) -> None:
    location = values.get("--install-location", "")
    trees: list[tuple[str, Path]] = []
    bundles: list[PackagedBundle] = []
    if "--root" in values:
        folder = _folder(guest, io, values["--root"], "root")
        told.append(f"Inferring bundle components from contents of {values['--root']}")
        wishes = _wishes(guest, io, values.get("--component-plist"))
        trees.append(("", folder))
        for relative, path in _bundles_in(folder):
            told.append(f"Adding component at {relative}")
            bundles.append(_bundle(relative, path, wishes.get(relative, _settings(relative))))
        location = location or "/"
    for word in components:
        path = _folder(guest, io, word, "component")
        if not (path / "Contents/Info.plist").is_file():
            raise _PackagingError(f'"{word}" is not a bundle: only bundles can be specified with --component.')
        told.append(f"Adding component at {guest.disk.guest(path)}")
        if not location:
            location = guest.disk.guest(path).rpartition("/")[0] or "/"
            told.append(f"Inferred install-location of {location}")
        trees.append((path.name, path))
        bundles.append(_bundle(path.name, path, _settings(path.name)))
    identifier = values.get("--identifier") or (bundles[0].identifier if len(bundles) == 1 else "")
    if not identifier:
        raise _PackagingError("No package identifier specified and unable to determine one automatically.")
    scripts = _folder(guest, io, values["--scripts"], "scripts") if "--scripts" in values else None
    if scripts is not None:
        found = [name for name in ("preinstall", "postinstall") if (scripts / name).is_file()]
        told += [f"Adding top-level {name} script" for name in found]
    for _name, path in trees:
        spend(guest, path)
    # A version that is not given is that of the only bundle, else 0 (assumed for a bundle: pkgbuild(1) only names the 0)
    version = values.get("--version") or (bundles[0].build if len(bundles) == 1 and bundles[0].build else "0")
    await asyncio.to_thread(write_package, target, trees, bundles, identifier=identifier, version=version, location=location or "/", scripts=scripts)  # fmt: skip


def _folder(guest: MacGuest, io: CommandIO, word: str, what: str) -> Path:
    path = guest.disk.path(word, io.cwd)
    if not path.is_dir():
        raise _PackagingError(f'The {what} path "{word}" does not exist or is not a directory.')
    return path


def _bundles_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """The outermost bundles below a folder."""
    for parent, folders, _files in os.walk(folder):
        for name in sorted(folders):
            path = Path(parent) / name
            if not path.is_symlink() and (path / "Contents/Info.plist").is_file():
                folders.remove(name)
                yield path.relative_to(folder).as_posix(), path
        folders.sort()


def _settings(relative: str) -> dict[str, Any]:
    """A bundle's row of a component property list, with the defaults that pkgbuild(1) names."""
    return {
        "BundleHasStrictIdentifier": True,
        "BundleIsRelocatable": True,
        "BundleIsVersionChecked": True,
        "BundleOverwriteAction": "upgrade",
        "RootRelativeBundlePath": relative,
    }


def _wishes(guest: MacGuest, io: CommandIO, word: str | None) -> dict[str, dict[str, Any]]:
    if word is None:
        return {}
    try:
        path = guest.disk.path(word, io.cwd)
        if path.stat().st_size > _MAX_PLIST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        rows = plistlib.loads(path.read_bytes())
    except Exception as error:
        raise _PackagingError(f'Unable to read component property list "{word}": {error}') from error
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.get("RootRelativeBundlePath") for row in rows
    ):
        raise _PackagingError(f'Component property list "{word}" is not an array of dictionaries.')
    return {str(row["RootRelativeBundlePath"]): {**_settings(""), **row} for row in rows}


def _bundle(relative: str, path: Path, wish: dict[str, Any]) -> PackagedBundle:
    try:
        info = plistlib.loads((path / "Contents/Info.plist").read_bytes())
        assert isinstance(info, dict)
    except Exception as error:
        raise _PackagingError(f"Unable to read the Info.plist of {relative}: {error}") from error
    return PackagedBundle(
        relative,
        str(info.get("CFBundleIdentifier", "")),
        str(info.get("CFBundleShortVersionString", "")),
        str(info.get("CFBundleVersion", "")),
        replaces=wish.get("BundleOverwriteAction") == "upgrade",
        version_checked=bool(wish.get("BundleIsVersionChecked")),
        relocatable=bool(wish.get("BundleIsRelocatable")),
    )


async def pkgutil(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`pkgutil --pkgs[=REGEX]`, `--pkg-info ID`, `--forget ID` (root), `--check-signature F`."""
    receipts = read_receipts(guest)
    verb, name = ([*argv[1:], "", ""])[:2]
    if verb == "--pkgs" or verb.startswith("--pkgs="):
        wanted = verb.partition("=")[2]
        try:
            found = [identifier for identifier in sorted(receipts) if not wanted or re.fullmatch(wanted, identifier)]
        except re.error:
            found = []
        for identifier in found:
            await say(io, identifier)
        return 0 if found or not wanted else 1
    if verb == "--check-signature":
        path = guest.disk.path(name, io.cwd)
        if not path.is_file():
            await complain(io, f"Could not open package: {name}")
            return 1
        await say(io, f'Package "{path.stem}":\n   Status: no signature')
        return 1
    if name not in receipts:
        await complain(io, f"No receipt for '{name}' found at '/'.")
        return 1
    if verb == "--pkg-info":
        await say(
            io,
            f"package-id: {name}\nversion: {receipts[name]['version']}\nvolume: /\nlocation: {receipts[name]['location'].lstrip('/')}",
        )
    elif verb == "--forget":
        if not io.root:
            await complain(io, f"You must be root to forget package '{name}'.")  # its wording is assumed
            return 1
        del receipts[name]
        write_receipts(guest, receipts)
        await say(io, f"Forgot package '{name}' on '/'.")
    return 0
