"""Judges of entitlements on their own: their form, and what the extension's kind needs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.bundles.facts import CodeItem, SliceFacts
from harness.bundles.preflight.common import (
    DRIVERKIT,
    GROUPS,
    INSTALL,
    NETWORK,
    USERCLIENT,
    category_of,
    entitlements_of,
    groups_of,
    info_place,
    mach_service_of,
    place,
    programs,
    providers_of,
    texts,
)
from harness.bundles.preflight.layout import POINTS
from harness.bundles.preflight.rules import Said, Subject, judges

_LISTS = frozenset({GROUPS, NETWORK, "keychain-access-groups", "com.apple.developer.associated-domains"})
_SUFFIX = "-systemextension"
_SUFFIXED = frozenset(POINTS.values())


@judges("entitlements-agree")
def agree(subject: Subject) -> Iterator[Said]:
    """XML and DER."""
    for problem in subject.seen.problems:
        if problem.code == "entitlements-differ":
            yield problem.where, problem.what


@judges("entitlement-lists")
def lists(subject: Subject) -> Iterator[Said]:
    """No text where a list belongs, no line breaks in a value."""
    for item, part in programs(subject.seen):
        for key, value in part.entitlements.items():
            if key == USERCLIENT:
                continue  # has a rule of its own
            if key in _LISTS and not isinstance(value, list | tuple):
                yield place(item, part), f"{key} is no array, but {_shown(value)}"
            elif any(re.search(r"[\r\n]", text) for text in _all_texts(value)):
                yield place(item, part), f"{key} has a line break in a value: {_shown(value)}"


def _all_texts(value: object, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple) and depth < 8:
        for entry in value:
            yield from _all_texts(entry, depth + 1)
    elif isinstance(value, dict) and depth < 8:
        for entry in value.values():
            yield from _all_texts(entry, depth + 1)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


@judges("userclient-access")
def userclient(subject: Subject) -> Iterator[Said]:
    """An array, an identifier per element."""
    for item, part in programs(subject.seen):
        if USERCLIENT not in part.entitlements:
            continue
        value = part.entitlements[USERCLIENT]
        if not isinstance(value, list | tuple):
            yield place(item, part), f"{USERCLIENT} is no array, but {_shown(value)}"
            continue
        for entry in value:
            if not isinstance(entry, str) or not re.fullmatch(r"[A-Za-z0-9._-]+|\*", entry):
                yield place(item, part), f"{USERCLIENT} holds {_shown(entry)}, which is no bundle identifier"


@judges("install-entitlement")
def install(subject: Subject) -> Iterator[Said]:
    """In every slice of the app."""
    if not subject.seen.extensions:
        return
    for part in subject.seen.app.slices:
        if part.entitlements.get(INSTALL) is not True:
            yield place(subject.seen.app, part), f"{INSTALL} is not true"


@judges("provider-entitlement")
def provider(subject: Subject) -> Iterator[Said]:
    """What the kind of extension needs, in the extension; for network extensions in the app too."""
    for item in subject.seen.extensions:
        kind = category_of(item)
        for part in item.slices:
            if kind == "network":
                yield from _network(item, part, item)
            elif kind == "driver" and part.entitlements.get(DRIVERKIT) is not True:
                yield place(item, part), f"{DRIVERKIT} is not true"
        if kind == "network":
            for part in subject.seen.app.slices:
                yield from _network(subject.seen.app, part, item)


def _network(item: CodeItem, part: SliceFacts, extension: CodeItem) -> Iterator[Said]:
    held = {value.removesuffix(_SUFFIX) for value in texts(part.entitlements.get(NETWORK))}
    for point in providers_of(extension):
        wanted = POINTS.get(point)
        if wanted is not None and wanted not in held:
            yield place(item, part), f"{NETWORK} does not list {wanted}{_SUFFIX}, which {point} needs"


@judges("developer-id-suffix")
def suffix(subject: Subject) -> Iterator[Said]:
    """Of what Developer ID signed."""
    for item, part in programs(subject.seen):
        if part.cms is None or part.cms.authority != "developer-id":
            continue
        for value in texts(part.entitlements.get(NETWORK)):
            if value in _SUFFIXED:
                yield place(item, part), f"{NETWORK} has {value}, which Developer ID may only have as {value}{_SUFFIX}"


@judges("mach-service-prefix")
def service_prefix(subject: Subject) -> Iterator[Said]:
    """Of network extensions and cameras."""
    for item in subject.seen.extensions:
        kind = category_of(item)
        name = mach_service_of(item)
        if kind not in ("network", "camera"):
            continue
        if not name:
            if kind == "camera":
                yield info_place(item), "CMIOExtensionMachServiceName is missing"
            continue
        groups = groups_of(item)
        if not any(group and name.startswith(group) for group in groups):
            listed = ", ".join(groups) or "none"
            yield info_place(item), f"{name} begins with none of the extension's app groups ({listed})"


@judges("mach-service-name")
def service_name(subject: Subject) -> Iterator[Said]:
    """Of network extensions."""
    for item in subject.seen.extensions:
        if category_of(item) == "network" and not mach_service_of(item) and entitlements_of(item):
            yield info_place(item), "NetworkExtension has no NEMachServiceName"
