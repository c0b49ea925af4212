"""Judges of provisioning profiles, and of entitlements against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.bundles.facts import CodeItem, Profile, SliceFacts
from harness.bundles.preflight.common import (
    EXECUTE,
    GROUPS,
    authority_of,
    place,
    team_of,
    texts,
)
from harness.bundles.preflight.rules import Said, Subject, judges

_RESTRICTED = ("com.apple.developer.", "com.apple.vm.networking", "com.apple.vm.device-access")
_IDENTITY = frozenset({"com.apple.application-identifier", "com.apple.developer.team-identifier"})
_DAY = 86400.0
SOON_DAYS = 30


def _programs(subject: Subject) -> Iterator[tuple[CodeItem, SliceFacts, Profile]]:
    for item in subject.seen.items():
        for part in item.slices:
            if part.file_type == EXECUTE and part.signed and item.profile is not None:
                yield item, part, item.profile


def _profiles(subject: Subject) -> Iterator[tuple[CodeItem, Profile]]:
    for item in subject.seen.items():
        if item.profile is not None:
            yield item, item.profile


def _where(item: CodeItem) -> str:
    inner = "embedded.provisionprofile" if item.kind == "dext" else "Contents/embedded.provisionprofile"
    return f"{item.path}/{inner}" if item.path else inner


def restricted(part: SliceFacts) -> Mapping[str, Any]:
    """The entitlements of a slice that only a profile can grant."""
    return {
        key: value
        for key, value in part.entitlements.items()
        if (key.startswith(_RESTRICTED) or key in _IDENTITY) and value is not False
    }


@judges("profile-present")
def present(subject: Subject) -> Iterator[Said]:
    """Where one is needed. What the store sells and what nobody signed has other troubles."""
    unreadable = {problem.where for problem in subject.seen.problems if problem.code == "profile-unreadable"}
    for item in subject.seen.items():
        if item.profile is not None or any(where.startswith(_where(item)) for where in unreadable):
            continue
        for part in item.slices:
            needs = sorted(set(restricted(part)) - _IDENTITY)
            if part.file_type == EXECUTE and needs and _authority(part) != "apple":
                yield place(item, part), f"it claims {', '.join(needs[:3])} and has no profile"


def _authority(part: SliceFacts) -> str:
    return part.cms.authority if part.cms is not None else ""


@judges("profile-genuine")
def genuine(subject: Subject) -> Iterator[Said]:
    """Its signature, and its platform."""
    for problem in subject.seen.problems:
        if problem.code in ("profile-unreadable", "profile-unverified"):
            yield problem.where, problem.what
    for item, profile in _profiles(subject):
        if profile.platform and not {"OSX", "macOS"} & set(profile.platform) and item.kind != "dext":
            yield _where(item), f"{profile.name} is for {', '.join(profile.platform)}"


@judges("profile-current")
def current(subject: Subject) -> Iterator[Said]:
    """Its end."""
    for item, profile in _profiles(subject):
        if profile.expires is not None and profile.expires.timestamp() <= subject.today:
            yield _where(item), f"{profile.name} expired on {profile.expires:%Y-%m-%d}"


@judges("profile-ends-soon")
def ends_soon(subject: Subject) -> Iterator[Said]:
    """A month before its end."""
    for item, profile in _profiles(subject):
        if profile.expires is None:
            continue
        left = profile.expires.timestamp() - subject.today
        if 0 < left < SOON_DAYS * _DAY:
            yield _where(item), f"{profile.name} ends on {profile.expires:%Y-%m-%d}, in {left / _DAY:.0f} days"


@judges("profile-certificate")
def certificate(subject: Subject) -> Iterator[Said]:
    """The leaf is in it."""
    for item, part, profile in _programs(subject):
        leaf = part.cms.leaf if part.cms is not None else None
        if leaf is not None and leaf.sha1 not in profile.certificates:
            yield place(item, part), f"signed by {leaf.name}, which {profile.name} does not list"


@judges("profile-devices")
def devices(subject: Subject) -> Iterator[Said]:
    """All, unless the store signed."""
    for item, profile in _profiles(subject):
        if not profile.all_devices and authority_of(item) != "app-store":
            yield _where(item), f"{profile.name} is for {len(profile.devices)} listed devices only"


@judges("entitlements-in-profile")
def allowed(subject: Subject) -> Iterator[Said]:
    """Every restricted one, value by value."""
    for item, part, profile in _programs(subject):
        for key, value in restricted(part).items():
            if key not in profile.entitlements:
                yield place(item, part), f"{profile.name} does not allow {key}"
            elif missing := _missing(value, profile.entitlements[key]):
                yield place(item, part), f"{profile.name} does not allow {key} = {', '.join(missing)[:200]}"


def _missing(value: object, granted: object) -> list[str]:
    """The values that are not granted; a profile's list may hold patterns that end in *."""
    wanted = list(value) if isinstance(value, list | tuple) else [value]
    given = list(granted) if isinstance(granted, list | tuple) else [granted]
    return [str(entry) for entry in wanted if not any(_fits(entry, one) for one in given)]


def _fits(value: object, granted: object) -> bool:
    if granted == "*":
        return True
    if isinstance(value, str) and isinstance(granted, str):
        return value == granted or (granted.endswith("*") and value.startswith(granted[:-1]))
    if isinstance(value, Mapping) and isinstance(granted, Mapping):
        return all(key in value and _fits(value[key], one) for key, one in granted.items())
    return value == granted and isinstance(value, bool) == isinstance(granted, bool)


@judges("app-group-in-profile")
def groups(subject: Subject) -> Iterator[Said]:
    """Every group of every program."""
    for item in subject.seen.items():
        team = team_of(item)
        for part in item.slices:
            if part.file_type != EXECUTE:
                continue
            for group in texts(part.entitlements.get(GROUPS)):
                ours = bool(team) and group.startswith(f"{team}.")
                if item.profile is not None:
                    listed = texts(item.profile.entitlements.get(GROUPS))
                    if not any(_fits(group, one) for one in listed):
                        names = ", ".join(listed) or "none"
                        yield place(item, part), f"{group} is not in {item.profile.name} (groups there: {names})"
                elif not ours:
                    yield (
                        place(item, part),
                        f"{group} does not begin with the team ({team or 'none'}), and there is no profile",
                    )
