"""An app bundle on disk and the system extensions in it: what they are, without a Mac.

Nothing outside the bundle is read: names from an Info.plist are untrusted, links may not lead out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bundles.executables import Executable, read_executable
from harness.bundles.failures import BundleError
from harness.errors import UsageError
from harness.formats.failures import FormatError
from harness.formats.plists import MAX_PLIST, load_plist, table_of, text_of, texts_of

EXTENSIONS = Path("Contents/Library/SystemExtensions")
MAX_EXTENSIONS = 100
_ES_CLIENT = "com.apple.developer.endpoint-security.client"
# Provider classes' keys → the app file's words. `app-proxy` serves app proxies and transparent proxies alike.
_PROVIDERS = {
    "com.apple.networkextension.app-proxy": ("transparent-proxy", "app-proxy"),
    "com.apple.networkextension.packet-tunnel": ("vpn",),
    "com.apple.networkextension.filter-data": ("content-filter",),
    "com.apple.networkextension.filter-packet": ("content-filter",),
    "com.apple.networkextension.dns-proxy": ("dns-proxy",),
}


@dataclass(frozen=True)
class SystemExtensionBundle:
    """A system extension inside an app.

    Attributes:
        path: Its folder.
        identifier: Bundle identifier.
        short: CFBundleShortVersionString.
        build: CFBundleVersion.
        kinds: What it can be, in the app file's words; the first is the likeliest. ("camera" has none there.)
        category: sysextd's word: `network_extension`, `endpoint_security`, `driver_extension`, `cmio`; "" if unclear.
        package_type: `SYSX` or `DEXT`; anything else macOS refuses.
        provider_classes: Provider point to class name, of a network extension.
        mach_service: NEMachServiceName; "" if none.
        app_groups: From its entitlements.
        usage_description: NSSystemExtensionUsageDescription; "" if missing.
        executable: Its Mach-O file.
        entitlements: Of its first signed slice.
        info: Its Info.plist.
    """

    path: Path
    identifier: str
    short: str
    build: str
    kinds: tuple[str, ...]
    category: str
    package_type: str
    provider_classes: dict[str, str]
    mach_service: str
    app_groups: tuple[str, ...]
    usage_description: str
    executable: Executable
    entitlements: dict[str, Any] = field(repr=False)
    info: dict[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        """The likeliest kind; "" if unclear."""
        return self.kinds[0] if self.kinds else ""

    @property
    def team(self) -> str:
        """Team identifier; "" when unsigned or ad-hoc."""
        signature = self.executable.signature
        return signature.best.team if signature else ""


@dataclass(frozen=True)
class AppBundle:
    """An app.

    Attributes:
        path: The `.app` folder.
        name: Its display name.
        identifier: Bundle identifier.
        short: CFBundleShortVersionString.
        build: CFBundleVersion.
        executable: Its main Mach-O file.
        team: Team identifier of its signature; "" when unsigned or ad-hoc.
        entitlements: Of its first signed slice.
        extensions: The system extensions in it, by file name.
        minimum_os: LSMinimumSystemVersion; "" if missing.
        info: Its Info.plist.
    """

    path: Path
    name: str
    identifier: str
    short: str
    build: str
    executable: Executable
    team: str
    entitlements: dict[str, Any] = field(repr=False)
    extensions: tuple[SystemExtensionBundle, ...]
    minimum_os: str
    info: dict[str, Any] = field(repr=False)

    def require_extension(self, identifier: str | None = None) -> SystemExtensionBundle:
        """The system extension of that identifier, or the only one for None.

        Raises:
            UsageError: There is none, or several to choose from; names what is there.
        """
        names = ", ".join(extension.identifier for extension in self.extensions)
        if not self.extensions:
            raise UsageError(
                f"a system extension in {self.path.name}",
                seen=f"nothing in {EXTENSIONS}",
                hint="is this the right app, and the right build of it?",
            )
        if identifier is None:
            if len(self.extensions) > 1:
                raise UsageError(
                    f"one system extension in {self.path.name}", seen=names, hint="set extension.id in the app file"
                )
            return self.extensions[0]
        for extension in self.extensions:
            if extension.identifier == identifier:
                return extension
        raise UsageError(
            f"the system extension {identifier} in {self.path.name}",
            seen=f"it has {names}",
            hint="correct extension.id in the app file, or choose another release",
        )


def open_app(path: Path) -> AppBundle:
    """Read an app bundle.

    Raises:
        UsageError: It is no bundle, has no Info.plist, names no executable, or one of its parts is damaged. An app
            without a system extension is no error here: see `AppBundle.require_extension`.
    """
    if not path.is_dir():
        seen = "a file" if path.exists() else "nothing there"
        raise BundleError(f"an app bundle at {path}", seen=seen, hint="give the folder that ends in .app")
    root = path.resolve()
    info = _info(root, root)
    executable = _executable(root, root, info)
    signature = executable.signature
    folder = root / EXTENSIONS
    found = []
    if folder.is_dir():
        _inside(folder, root)
        names = sorted(entry for entry in folder.iterdir() if entry.suffix in (".systemextension", ".dext"))
        if len(names) > MAX_EXTENSIONS:
            raise BundleError(f"at most {MAX_EXTENSIONS} extensions in {path.name}", seen=str(len(names)))
        found = [_extension(entry, root) for entry in names]
    return AppBundle(
        path=path,
        name=text_of(info.get("CFBundleDisplayName")) or text_of(info.get("CFBundleName")) or path.stem,
        identifier=text_of(info.get("CFBundleIdentifier")),
        short=text_of(info.get("CFBundleShortVersionString")),
        build=text_of(info.get("CFBundleVersion")),
        executable=executable,
        team=signature.best.team if signature else "",
        entitlements=signature.entitlements if signature else {},
        extensions=tuple(found),
        minimum_os=text_of(info.get("LSMinimumSystemVersion")),
        info=info,
    )


def _extension(path: Path, root: Path) -> SystemExtensionBundle:
    _inside(path, root)
    info = _info(path, root)
    executable = _executable(path, root, info)
    signature = executable.signature
    entitlements = signature.entitlements if signature else {}
    providers = {
        key: text_of(value)
        for key, value in table_of(table_of(info.get("NetworkExtension")).get("NEProviderClasses")).items()
    }
    kinds, category = kinds_of(path.suffix, info, entitlements, providers)
    return SystemExtensionBundle(
        path=path,
        identifier=text_of(info.get("CFBundleIdentifier")),
        short=text_of(info.get("CFBundleShortVersionString")),
        build=text_of(info.get("CFBundleVersion")),
        kinds=kinds,
        category=category,
        package_type=text_of(info.get("CFBundlePackageType")),
        provider_classes=providers,
        mach_service=text_of(table_of(info.get("NetworkExtension")).get("NEMachServiceName")),
        app_groups=texts_of(entitlements.get("com.apple.security.application-groups")),
        usage_description=text_of(info.get("NSSystemExtensionUsageDescription"))
        or text_of(info.get("OSBundleUsageDescription")),
        executable=executable,
        entitlements=entitlements,
        info=info,
    )


def kinds_of(
    suffix: str, info: Mapping[str, Any], entitlements: Mapping[str, Any], providers: Mapping[str, str]
) -> tuple[tuple[str, ...], str]:
    """What a system extension can be, in the app file's words, the likeliest first; and sysextd's word for it."""
    if suffix == ".dext" or text_of(info.get("CFBundlePackageType")) == "DEXT":
        return ("driver",), "driver_extension"
    kinds: list[str] = []
    for key in providers:
        kinds += [kind for kind in _PROVIDERS.get(key, ()) if kind not in kinds]
    if providers or "NetworkExtension" in info:
        return tuple(kinds), "network_extension"
    if entitlements.get(_ES_CLIENT) is True or "NSEndpointSecurityEarlyBoot" in info:
        return ("endpoint-security",), "endpoint_security"
    return ((), "cmio") if "CMIOExtension" in info else ((), "")


def _info(bundle: Path, root: Path) -> dict[str, Any]:
    """A bundle's Info.plist: below Contents, or at the top of a flat one (drivers)."""
    for place in (bundle / "Contents" / "Info.plist", bundle / "Info.plist"):
        if not place.is_file():
            continue
        _inside(place, root)
        try:
            with place.open("rb") as file:
                return load_plist(file.read(MAX_PLIST + 1), f"Info.plist of {bundle.name}")
        except OSError as error:
            raise BundleError(f"Info.plist of {bundle.name} to be readable", seen=str(error)) from error
        except FormatError as error:
            raise BundleError(error.expected, seen=error.seen, hint="is the app complete?") from error
    raise BundleError(
        f"Contents/Info.plist in {bundle.name}", seen="none", hint="is this an app bundle, and was it copied whole?"
    )


def _executable(bundle: Path, root: Path, info: dict[str, Any]) -> Executable:
    name = text_of(info.get("CFBundleExecutable"))
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise BundleError(f"CFBundleExecutable in Info.plist of {bundle.name} to be a file name", seen=repr(name))
    flat = not (bundle / "Contents").is_dir()
    path = bundle / name if flat else bundle / "Contents" / "MacOS" / name
    if not path.is_file():
        raise BundleError(f"the executable of {bundle.name} at {path.relative_to(root)}", seen="no such file")
    _inside(path, root)
    return read_executable(path)


def _inside(path: Path, root: Path) -> None:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BundleError(f"{path.name} in {root.name} to be readable", seen=str(error)) from error
    if not real.is_relative_to(root):
        raise BundleError(
            f"{path.name} to lie inside {root.name}", seen=f"a link to {real}", hint="this bundle is not to be trusted"
        )
