"""`installer`: a package is really read (by `harness.bundles`), its scripts run in the guest's shell, its payload is put in place.

What Installer does with a bundle (replace it as a whole, leave a newer one alone, follow one that was moved) is decided by the
package's own PackageInfo, as pkgbuild(1) describes it under "component property list".
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.bundles.package import Component, Package, read_package
from harness.errors import SysextError
from harness.simulator.flatpackage import PackagedBundle, bundles_of
from harness.simulator.guest.commands.arguments import EX_USAGE, UsageMistake, complain, parse, say
from harness.simulator.guest.commands.files import spend
from harness.simulator.guest.core import INSTALL_LOG, MacGuest
from harness.simulator.interfaces import CommandIO
from harness.simulator.streams import reader_of

RECEIPTS = "/private/var/db/receipts/simulated.json"
_SANDBOXES = "/Library/InstallerSandboxes/.PKInstallSandboxManager"
_FAILED = "installer: The install failed. (The Installer encountered an error that caused the installation to fail. Contact the software manufacturer for assistance."
_MAX_SCRIPT_OUTPUT = 1 << 20


@dataclass
class _Install:
    """One run of Installer."""

    guest: MacGuest
    io: CommandIO
    package: Package
    guest_path: str
    title: str

    async def run(self) -> int:
        """0, 1 when a script failed.

        Raises:
            SysextError, OSError: The package is damaged or hostile, or the disk is full.
        """
        sandbox = f"{_SANDBOXES}/{str(uuid.uuid4()).upper()}.activeSandbox"
        root = self.guest.disk.path(f"{sandbox}/Root")
        root.mkdir(parents=True)
        try:
            await asyncio.to_thread(self.package.extract, root)
            spend(self.guest, root)
            for component in self.package.components:
                if not await self._script(component, "preinstall"):
                    return 1
            await self.guest.delay("install", self.guest.settings.settle_seconds)
            for component in self.package.components:
                await asyncio.to_thread(self._place_bundles, component, root)
            await asyncio.to_thread(self._place_rest, root)
            for component in self.package.components:
                if not await self._script(component, "postinstall"):
                    return 1
        finally:
            shutil.rmtree(self.guest.disk.path(sandbox), ignore_errors=True)
        return 0

    def _place_bundles(self, component: Component, root: Path) -> None:
        for bundle in bundles_of(self.package.path, component.name):
            source = root / component.install_location.strip("/") / bundle.path
            if not source.is_dir() or source.is_symlink():
                continue
            place = f"{component.install_location.rstrip('/')}/{bundle.path}"
            there = self._installed(place)
            if there is None and bundle.relocatable:
                moved = self._elsewhere(bundle.identifier)
                if moved is not None:
                    place, there = moved, self._installed(moved)
                    self.log(f'PackageKit: Applied relocation: "{bundle.identifier}" is at {place}')
            if there is not None and bundle.version_checked and _newer(there, bundle):
                self.log(
                    f"PackageKit: Skipping component “{bundle.identifier}” ({bundle.short}-{bundle.build}-*) because the version "
                    f"{there.short}-{there.build}-* is already installed at {place}."
                )
                shutil.rmtree(source)
                continue
            if bundle.replaces:
                self._swap(source, self.guest.disk.path(place))
            elif there is not None and place != f"{component.install_location.rstrip('/')}/{bundle.path}":
                shutil.copytree(source, self.guest.disk.path(place), symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(source)

    @staticmethod
    def _swap(source: Path, target: Path) -> None:
        """The new one takes the old one's place in two renames, whoever runs from it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        if target.exists():
            os.replace(target, old)  # noqa: PTH105 - the rename is the point
        os.replace(source, target)  # noqa: PTH105
        shutil.rmtree(old, ignore_errors=True)

    def _place_rest(self, root: Path) -> None:
        """What is in no bundle is merged, file by file, through the disk's own border."""
        for source in sorted(root.rglob("*")):
            target = self.guest.disk.path(f"/{source.relative_to(root)}")
            if source.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.symlink_to(os.readlink(source))  # noqa: PTH115 - the link's text, unresolved
            elif source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def _installed(self, place: str) -> PackagedBundle | None:
        """The bundle at a guest path."""
        try:
            if not self.guest.disk.path(place).is_dir():
                return None
            app = self.guest.apps.read(place)
        except (OSError, ValueError):
            return None
        return PackagedBundle(place, app.identifier, app.short, app.build)

    def _elsewhere(self, identifier: str) -> str | None:
        """Where its user has moved it; looked for where apps are (assumed: macOS asks Spotlight and Launch Services)."""
        for folder in ("/Applications", "/Users"):
            root = self.guest.disk.path(folder)
            for path in sorted((*root.glob("*.app"), *root.glob("*/*.app"), *root.glob("*/*/*.app"))):
                place = self.guest.disk.guest(path)
                found = self._installed(place)
                if found is not None and found.identifier == identifier and ".app/" not in place:
                    return place
        return None

    async def _script(self, component: Component, name: str) -> bool:
        """Run a component's script, as root, in its folder; what it prints goes to install.log."""
        if name not in component.scripts:
            return True
        guest = self.guest
        folder = f"/private/tmp/PKInstallSandbox.{uuid.uuid4().hex[:6]}/Scripts/{component.identifier or 'package'}.{uuid.uuid4().hex[:6]}"
        host = guest.disk.path(folder)
        host.mkdir(parents=True, exist_ok=True)
        said = bytearray()

        async def hear(data: bytes) -> None:
            if len(said) < _MAX_SCRIPT_OUTPUT:
                said.extend(data)

        try:
            self.package.extract_scripts(component, host)
            place = component.install_location
            environment = {
                "PATH": "/bin:/sbin:/usr/bin:/usr/sbin:/usr/libexec",
                "HOME": "/var/root" if self.io.environment.get("SUDO_USER") else self.io.environment.get("HOME", "/var/root"),
                "USER": self.io.environment.get("SUDO_USER", "root"),
                "COMMAND_LINE_INSTALL": "1",
                "INSTALLER_TEMP": folder,
                "PACKAGE_PATH": self.guest_path,
                "SCRIPT_NAME": name,
                "DSTROOT": place,
                "DSTVOLUME": "/",
            }  # fmt: skip
            self.log(f'PackageKit: Executing script "{name}" in {folder}')
            asroot = CommandIO(reader_of(b""), hear, hear, "root", folder, environment)
            code = await guest.execute([f"{folder}/{name}", self.guest_path, place, "/", "/"], asroot)
        finally:
            shutil.rmtree(guest.disk.path("/".join(folder.split("/")[:4])), ignore_errors=True)
        for line in said.decode("utf-8", "replace").splitlines():
            self.log(f"./{name}: {line}", "package_script_service")
        if code:
            self.log(f"PackageKit: Install Failed: Error Domain=PKInstallErrorDomain Code=112 “An error occurred while running scripts from the package “{PurePosixPath(self.guest_path).name}”.” ({name} exited with {code})", "installd")  # fmt: skip
        return not code

    def log(self, text: str, process: str = "installd") -> None:
        """A line of /var/log/install.log."""
        write_log(self.guest, text, process)


async def installer(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`installer -pkg X -target / [-verbose] [-verboseR] [-dumplog]`; root for anything but the user's home."""
    try:
        given = parse(
            argv[1:],
            flags=("-verbose", "-verboseR", "-dumplog", "-allowUntrusted"),
            values=("-pkg", "-package", "-target", "-tgt", "-lang", "-applyChoiceChangesXML"),
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
    if target not in ("/", "LocalSystem"):
        await complain(io, f"installer: Error trying to locate volume at {target}")
        return 1
    if not io.root:
        await complain(io, "installer: Must be run as root to install this package.")
        return 1
    title = PurePosixPath(name).stem
    before = guest.disk.path(INSTALL_LOG).stat().st_size if guest.disk.path(INSTALL_LOG).is_file() else 0
    try:
        package = await asyncio.to_thread(read_package, path)
        receipts = read_receipts(guest)
        known = package.identifier in receipts
        await say(io, f"installer: Package name is {title}")
        await say(io, f"installer: {'Upgrading' if known else 'Installing'} at base path /")
        code = await _Install(guest, io, package, guest.disk.guest(path), title).run()
    except (SysextError, OSError) as error:
        write_log(guest, f"Install failed: {error}")
        await say(io, f"{_FAILED})")
        return 1
    finally:
        if given.has("-dumplog"):
            log = guest.disk.path(INSTALL_LOG)
            await io.stderr(log.read_bytes()[before:] if log.is_file() else b"")
    if code:
        await say(io, f"{_FAILED} An error occurred while running scripts from the package “{path.name}”.)")
        return 1
    for component in package.components:
        receipts[component.identifier] = {"version": component.version, "location": component.install_location}
    write_receipts(guest, receipts)
    write_log(guest, f"Installed “{title}” ({package.components[0].version})")
    await say(io, f"installer: The {'upgrade' if known else 'install'} was successful.")
    if any(component.restart for component in package.components):
        await say(io, "installer: The install requires restarting now.")
    return 0


def _newer(there: PackagedBundle, ours: PackagedBundle) -> bool:
    """Whether what is installed is newer: short version first, then the build (assumed: the order of the two)."""
    return (_numbers(there.short), _numbers(there.build)) > (_numbers(ours.short), _numbers(ours.build))


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part[:18]) for part in re.findall(r"\d+", version)]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def write_log(guest: MacGuest, text: str, process: str = "installer") -> None:
    """A line of /var/log/install.log."""
    if guest.disk.full:
        return
    path = guest.disk.path(INSTALL_LOG)
    path.parent.mkdir(parents=True, exist_ok=True)
    running = guest.processes.named(process)
    when = guest.clock.now().strftime("%Y-%m-%d %H:%M:%S%z")[:-2]
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{when} {guest.machine_name} {process}[{running[-1].pid if running else 513}]: {text}\n")


def read_receipts(guest: MacGuest) -> dict[str, dict[str, str]]:
    """What packages left, by identifier."""
    try:
        data = json.loads(guest.disk.path(RECEIPTS).read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_receipts(guest: MacGuest, receipts: dict[str, dict[str, str]]) -> None:
    """The reverse."""
    path = guest.disk.path(RECEIPTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(receipts))
