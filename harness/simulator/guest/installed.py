"""What an installed bundle says of itself: its Info.plist, Mach-O UUIDs, code-directory hashes, team, entitlements.

The one place where the simulated guest looks into bundles (through `harness.bundles`, which reads them without a Mac).
A bundle whose executable is no Mach-O at all (tests make such) is taken as signed by the team its behaviour file names.
"""

from __future__ import annotations

import hashlib
import plistlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.bundles.app import AppBundle, SystemExtensionBundle, open_app
from harness.bundles.executables import Executable
from harness.errors import SysextError
from harness.simulator.interfaces import Disk

CATEGORIES = {
    "network": "com.apple.system_extension.network_extension",
    "endpoint security": "com.apple.system_extension.endpoint_security",
    "driver": "com.apple.system_extension.driver_extension",
    "camera": "com.apple.system_extension.cmio",
}
INSTALL_ENTITLEMENT = "com.apple.developer.system-extension.install"
MAX_PLIST = 4 * 1024 * 1024


@dataclass(frozen=True)
class Slice:
    """One architecture of an executable."""

    arch: str
    uuid: str
    cdhash: str
    cpu: tuple[int, int] = (16777228, 0)
    """Mach-O's processor type and subtype (arm64 by default)."""


@dataclass(frozen=True)
class InstalledExtension:
    """A system extension inside an app. `kind` is a key of CATEGORIES, or "" when no category would claim it."""

    path: str
    identifier: str
    name: str
    short: str
    build: str
    kind: str
    executable: str
    slices: tuple[Slice, ...]
    mach_service: str
    app_groups: tuple[str, ...]
    provider_points: tuple[str, ...]

    @property
    def url(self) -> str:
        """`file:///Applications/Some%20App.app/…/`."""
        return "file://" + quote(self.path) + "/"


@dataclass(frozen=True)
class InstalledApp:
    """An app on the guest's disk. `team` is "" when nothing signed it."""

    path: str
    identifier: str
    name: str
    short: str
    build: str
    executable: str
    team: str
    entitlements: Mapping[str, Any]
    slices: tuple[Slice, ...]
    extensions: tuple[InstalledExtension, ...]
    readable_signature: bool = True
    problems: tuple[str, ...] = field(default=())

    def extension(self, identifier: str) -> InstalledExtension | None:
        """The extension of that identifier."""
        return next((item for item in self.extensions if item.identifier == identifier), None)


def app_of_path(guest_path: str) -> str | None:
    """The .app that a guest path lies in (the outermost), or None."""
    parts = guest_path.split("/")
    for index, part in enumerate(parts):
        if part.endswith(".app"):
            return "/".join(parts[: index + 1])
    return None


def read_app(disk: Disk, guest_path: str, *, assumed: Mapping[str, Any] | None = None) -> InstalledApp:
    """Read the app at a guest path.

    Args:
        disk: The guest's disk.
        guest_path: Its path there.
        assumed: `team` and `entitlements` for a bundle whose executable is no Mach-O.

    Raises:
        FileNotFoundError: There is no bundle with an Info.plist.
        ValueError: Its Info.plist cannot be read.
    """
    root = disk.path(guest_path)
    info = _info(root)
    assumed = assumed or {}
    executable = str(info.get("CFBundleExecutable") or root.stem)
    problems: list[str] = []
    signed = _signed(root, problems)
    host = root / "Contents/MacOS" / executable
    slices = _slices(signed.executable if signed else None, host)
    extensions = []
    folder = root / "Contents/Library/SystemExtensions"
    known = {Path(item.path).name: item for item in signed.extensions} if signed else {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix in (".systemextension", ".dext") and not path.is_symlink():
            try:
                extensions.append(
                    _extension(f"{guest_path}/Contents/Library/SystemExtensions", path, known.get(path.name))
                )
            except (OSError, ValueError) as error:
                problems.append(f"{path.name}: {error}")
    return InstalledApp(
        path=guest_path,
        identifier=str(info.get("CFBundleIdentifier", "")),
        name=str(info.get("CFBundleDisplayName") or info.get("CFBundleName") or root.stem),
        short=str(info.get("CFBundleShortVersionString", "")),
        build=str(info.get("CFBundleVersion", "")),
        executable=f"{guest_path}/Contents/MacOS/{executable}",
        team=signed.team if signed else str(assumed.get("team", "")),
        entitlements=signed.entitlements if signed else dict(assumed.get("entitlements", {})),
        slices=slices,
        extensions=tuple(extensions),
        readable_signature=signed is not None or bool(assumed.get("team")),
        problems=tuple(problems),
    )


def _info(bundle: Path) -> dict[str, Any]:
    for relative in ("Contents/Info.plist", "Info.plist"):
        path = bundle / relative
        if path.is_file():
            if path.stat().st_size > MAX_PLIST:
                raise ValueError(f"{path.name} is too large")
            try:
                data = plistlib.loads(path.read_bytes())
            except Exception as error:  # plistlib raises what its parsers raise
                raise ValueError(f"Info.plist cannot be read: {error}") from error
            if not isinstance(data, dict):
                raise ValueError("Info.plist is no dictionary")
            return data
    raise FileNotFoundError(f"no Info.plist in {bundle.name}")


def _signed(root: Path, problems: list[str]) -> AppBundle | None:
    """harness.bundles' reading of the whole app, or None when a part of it is no Mach-O."""
    try:
        return open_app(root)
    except SysextError as error:
        problems.append(str(error))
        return None


def _extension(folder: str, path: Path, signed: SystemExtensionBundle | None) -> InstalledExtension:
    info = _info(path)
    content = "Contents/MacOS/" if (path / "Contents").is_dir() else ""
    executable = str(info.get("CFBundleExecutable") or path.stem)
    network = info.get("NetworkExtension")
    network = network if isinstance(network, dict) else {}
    providers = network.get("NEProviderClasses")
    points = tuple(str(key) for key in providers) if isinstance(providers, dict) else ()
    guest_path = f"{folder}/{path.name}"
    return InstalledExtension(
        path=guest_path,
        identifier=str(info.get("CFBundleIdentifier", "")),
        name=str(info.get("CFBundleDisplayName") or info.get("CFBundleName") or ""),
        short=str(info.get("CFBundleShortVersionString", "")),
        build=str(info.get("CFBundleVersion", "")),
        kind=_kind(info, points, signed.category if signed else ""),
        executable=f"{guest_path}/{content}{executable}",
        slices=_slices(signed.executable if signed else None, path / f"{content}{executable}"),
        mach_service=str(network.get("NEMachServiceName", "")),
        app_groups=signed.app_groups if signed else (),
        provider_points=points,
    )


def _kind(info: Mapping[str, Any], points: tuple[str, ...], category: str) -> str:
    package_type = info.get("CFBundlePackageType")
    if package_type == "DEXT":
        return "driver"
    if package_type != "SYSX":
        return ""
    if points or category == "network_extension":
        return "network"
    if category == "endpoint_security":
        return "endpoint security"
    if "NSEndpointSecurityMachServiceName" in info or "NSEndpointSecurityEarlyBoot" in info:
        return "endpoint security"
    return "camera" if "CMIOExtension" in info else ""


def _slices(executable: Executable | None, host: Path) -> tuple[Slice, ...]:
    found = tuple(
        Slice(item.arch, item.uuid.upper(), item.cdhash, (item.cpu_type, item.cpu_subtype))
        for item in (executable.slices if executable is not None else ())
    )
    if found:
        return found
    content = host.read_bytes()[:MAX_PLIST] if host.is_file() else b""
    digest = hashlib.sha256(content).hexdigest()
    return (Slice("arm64", str(uuid.uuid5(uuid.NAMESPACE_OID, digest)).upper(), digest[:40]),)
