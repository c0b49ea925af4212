"""Installer packages (flat `.pkg`): component packages, and product archives of several.

A flat package is a xar archive. A component has `PackageInfo` (XML: identifier, version, install-location), `Payload`
(cpio, compressed) and perhaps `Scripts` (cpio too).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.bundles.cpio import CpioEntry, extract_cpio, list_cpio
from harness.bundles.failures import BundleError
from harness.bundles.sink import Limits, Sink
from harness.bundles.xar import XarArchive, XarFile, parse_xml

MAX_INFO = 4 * 1024 * 1024


@dataclass(frozen=True)
class Component:
    """One component of a package.

    Attributes:
        name: Its folder in a product archive ("Redirector.pkg"); "" for a component package itself.
        identifier: Package identifier, as `pkgutil --pkgs` would list it.
        version: Its version.
        install_location: Absolute path in the target ("/", "/Applications").
        scripts: Names of its install scripts (`preinstall`, `postinstall`, …).
        restart: Whether it asks for a restart after installing.
    """

    name: str
    identifier: str
    version: str
    install_location: str
    scripts: tuple[str, ...]
    restart: bool


@dataclass(frozen=True)
class Package:
    """A flat package.

    Attributes:
        path: The file.
        components: At least one, in the archive's order.
    """

    path: Path
    components: tuple[Component, ...]

    @property
    def install_location(self) -> str:
        """The first component's."""
        return self.components[0].install_location

    @property
    def identifier(self) -> str:
        """The first component's."""
        return self.components[0].identifier

    def files(self) -> tuple[str, ...]:
        """What it installs: absolute guest paths, all components."""
        found: list[str] = []
        with XarArchive(self.path) as archive:
            for component in self.components:
                if payload := archive.find(_in(component, "Payload")):
                    with archive.open(payload) as content:
                        found += [
                            _join(component.install_location, entry.name)
                            for entry in list_cpio(content, self.path.name)
                        ]
        return tuple(found)

    def extract(self, into: Path) -> None:
        """Write what it installs below `into`, which stands for `/`.

        Raises:
            BundleError: Damaged or hostile.
        """
        sink = Sink(into, self.path.name, Limits.of(self.path.stat().st_size))
        with XarArchive(self.path) as archive:
            for component in self.components:
                if payload := archive.find(_in(component, "Payload")):
                    with archive.open(payload) as content:
                        extract_cpio(content, sink, component.install_location.strip("/"))
        sink.finish()

    def extract_scripts(self, component: Component, into: Path) -> tuple[Path, ...]:
        """Write a component's scripts into an existing folder; returns their paths."""
        sink = Sink(into, self.path.name, Limits.of(self.path.stat().st_size))
        with XarArchive(self.path) as archive:
            if scripts := archive.find(_in(component, "Scripts")):
                with archive.open(scripts) as content:
                    extract_cpio(content, sink, "")
        sink.finish()
        return tuple(into / name for name in component.scripts if (into / name).is_file())


def read_package(path: Path) -> Package:
    """Open a flat package and read what it is made of; no payload is unpacked yet.

    Raises:
        BundleError: No xar archive, no component in it, damaged.
    """
    with XarArchive(path) as archive:
        components = tuple(
            _component(archive, info) for info in archive.files if info.name.rpartition("/")[2] == "PackageInfo"
        )
    if not components:
        raise BundleError(
            f"a component with PackageInfo in {path.name}",
            seen=", ".join(file.name for file in archive.files[:8]) or "an empty archive",
            hint="bundle-style packages (a folder) and encrypted ones cannot be read; use a flat package",
        )
    return Package(path, components)


def _component(archive: XarArchive, info: XarFile) -> Component:
    folder = info.name.rpartition("/")[0]
    root = parse_xml(archive.read(info, MAX_INFO), f"PackageInfo in {archive.path.name}")
    location = root.get("install-location") or "/"
    if not location.startswith("/") or ".." in location.split("/"):
        raise BundleError(f"an absolute install-location in {archive.path.name}", seen=repr(location))
    scripts: list[str] = []
    if found := archive.find(f"{folder}/Scripts" if folder else "Scripts"):
        with archive.open(found) as content:
            names = [_plain(entry) for entry in list_cpio(content, archive.path.name)]
        scripts = [name for name in names if name in ("preinstall", "postinstall", "preupgrade", "postupgrade")]
    return Component(
        name=folder,
        identifier=root.get("identifier") or "",
        version=root.get("version") or "",
        install_location=location,
        scripts=tuple(sorted(scripts)),
        restart=(root.get("postinstall-action") or "none") != "none",
    )


def _in(component: Component, name: str) -> str:
    return f"{component.name}/{name}" if component.name else name


def _plain(entry: CpioEntry) -> str:
    return entry.name.removeprefix("./")


def _join(location: str, name: str) -> str:
    inner = name.removeprefix("./").strip("/")
    inner = "" if inner == "." else inner
    return f"{location.rstrip('/')}/{inner}".rstrip("/") or "/"
