"""What several judges need: versions, entitlements of an item, the extension's kind, the names in the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.bundles.facts import CodeItem, Inspection, SliceFacts

EXTENSIONS = "Contents/Library/SystemExtensions"
GROUPS = "com.apple.security.application-groups"
NETWORK = "com.apple.developer.networking.networkextension"
INSTALL = "com.apple.developer.system-extension.install"
ENDPOINT_SECURITY = "com.apple.developer.endpoint-security.client"
DRIVERKIT = "com.apple.developer.driverkit"
USERCLIENT = "com.apple.developer.driverkit.userclient-access"
EXECUTE = 2
"""Mach-O's file type of a program."""
_DRIVERKIT_TO_MACOS = {19: 10, 20: 11, 21: 12, 22: 13, 23: 14, 24: 15, 25: 26}
"""DriverKit's versions are Darwin's."""


def place(item: CodeItem, part: SliceFacts | None = None) -> str:
    """Where an item is, as findings name it: its path, and the slice."""
    if part is None:
        return item.path
    return f"{item.executable or item.path} ({part.arch})"


def info_place(item: CodeItem) -> str:
    """Where an item's Info.plist is."""
    flat = item.kind == "dext" and "/Contents/" not in item.executable.removeprefix(item.path)
    inner = "Info.plist" if flat else "Contents/Info.plist"
    return f"{item.path}/{inner}" if item.path else inner


def programs(seen: Inspection) -> Iterator[tuple[CodeItem, SliceFacts]]:
    """Every slice of every program: not of libraries and frameworks."""
    for item in seen.items():
        for part in item.slices:
            if part.file_type == EXECUTE:
                yield item, part


def hosts(seen: Inspection) -> Iterator[CodeItem]:
    """The app and its extensions."""
    yield seen.app
    yield from seen.extensions


def entitlements_of(item: CodeItem) -> Mapping[str, Any]:
    """Of its first signed slice; slices of one file are signed alike unless somebody mixed two builds."""
    return next((part.entitlements for part in item.slices if part.signed), {})


def texts(value: object) -> tuple[str, ...]:
    """The texts of a list; a single text is a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(entry for entry in value if isinstance(entry, str)) if isinstance(value, list | tuple) else ()


def table(value: object) -> Mapping[str, Any]:
    """A dictionary, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def groups_of(item: CodeItem) -> tuple[str, ...]:
    """Its app groups."""
    return texts(entitlements_of(item).get(GROUPS))


def team_of(item: CodeItem) -> str:
    """The team that signed it; "" when nobody did."""
    return next((part.team for part in item.slices if part.team), "")


def authority_of(item: CodeItem) -> str:
    """What kind of certificate signed it (`CmsFacts.authority`)."""
    return next((part.cms.authority for part in item.slices if part.cms is not None), "")


def providers_of(item: CodeItem) -> Mapping[str, Any]:
    """NEProviderClasses: provider point to class."""
    return table(table(item.info.get("NetworkExtension")).get("NEProviderClasses"))


def category_of(item: CodeItem) -> str:
    """`network`, `endpoint-security`, `camera`, `driver`, or "" for none that can be told."""
    if item.kind == "dext" or item.package_type == "DEXT":
        return "driver"
    if "NetworkExtension" in item.info:
        return "network"
    if "CMIOExtension" in item.info:
        return "camera"
    if entitlements_of(item).get(ENDPOINT_SECURITY) is True or "NSEndpointSecurityMachServiceName" in item.info:
        return "endpoint-security"
    return ""


def mach_service_of(item: CodeItem) -> str:
    """The name of its mach service; "" when it names none."""
    for outer, key in (
        ("NetworkExtension", "NEMachServiceName"),
        ("CMIOExtension", "CMIOExtensionMachServiceName"),
    ):
        name = table(item.info.get(outer)).get(key)
        if isinstance(name, str) and name:
            return name
    name = item.info.get("NSEndpointSecurityMachServiceName")
    return name if isinstance(name, str) else ""


def version_parts(text: str) -> tuple[int, ...]:
    """The numbers of a version, zeros at its end left out, so that 2.0 equals 2; empty when it begins with none."""
    found = re.match(r"\d+(?:\.\d+)*", text.strip())
    numbers = [int(part[:12]) for part in found.group().split(".")[:8]] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def macos_of(part: SliceFacts) -> tuple[int, ...]:
    """The macOS a slice needs at least; empty when it does not say."""
    numbers = version_parts(part.min_os)
    if part.platform == "driverkit" and numbers:
        return (_DRIVERKIT_TO_MACOS.get(numbers[0], numbers[0]),)
    if part.arch.startswith("arm64") and numbers:
        return max(numbers, (11,))  # there is no older one on that processor
    return numbers


def dotted(numbers: tuple[int, ...]) -> str:
    """(12, 3) → "12.3"."""
    return ".".join(str(number) for number in numbers) or "0"


def processor(arch: str) -> str:
    """`arm64` for arm64e, `x86_64` for x86_64h: the Mac they run on."""
    return {"arm64e": "arm64", "x86_64h": "x86_64"}.get(arch, arch)


def names_in(seen: Inspection) -> Iterator[tuple[str, bool]]:
    """Every path in the bundle, and whether it is a folder."""
    for entry in seen.tree:
        if entry.endswith("/"):
            yield entry[:-1], True
        else:
            yield entry.split(" -> ", 1)[0], False
