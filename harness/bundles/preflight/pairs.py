"""Judges of upgrades: what changed from one release to the next, and what should have."""

from __future__ import annotations

from collections.abc import Iterator

from harness.bundles.facts import CodeItem
from harness.bundles.preflight.common import (
    GROUPS,
    category_of,
    dotted,
    entitlements_of,
    groups_of,
    info_place,
    mach_service_of,
    macos_of,
    place,
    processor,
    providers_of,
    team_of,
    version_parts,
)
from harness.bundles.preflight.rules import Said, Upgrade, judges


def code_changed(old: CodeItem, new: CodeItem) -> bool:
    """Whether anything that is sealed with the code differs: code, Info.plist, resources, entitlements."""
    before = {part.arch: part.cdhash or part.uuid for part in old.slices}
    return before != {part.arch: part.cdhash or part.uuid for part in new.slices}


def uuids(old: CodeItem, new: CodeItem) -> tuple[list[str], list[str]]:
    """The architectures both have: with the same build UUID, with another one. Slices without one are left out."""
    same: list[str] = []
    other: list[str] = []
    for part in new.slices:
        twin = old.slice_of(part.arch)
        if twin is not None and part.uuid and twin.uuid:
            (same if part.uuid == twin.uuid else other).append(part.arch)
    return same, other


def versions(item: CodeItem) -> tuple[str, str]:
    """(short, build)."""
    return item.version, item.build


def _version(item: CodeItem) -> str:
    return f"{item.version} ({item.build})"


def _how(old: CodeItem, new: CodeItem) -> str:
    same, other = uuids(old, new)
    if other and same:
        return f"built anew for {', '.join(other)}, not for {', '.join(same)}"
    if other:
        return "built anew"
    return "signed anew, or other files in it; the same builds" if same else "changed"


@judges("version-raised")
def raised(upgrade: Upgrade) -> Iterator[Said]:
    """Of extensions that changed."""
    for old, new in upgrade.extensions():
        if code_changed(old, new) and versions(old) == versions(new):
            yield info_place(new), f"the extension was {_how(old, new)}, and its version is still {_version(new)}"


@judges("both-versions-raised")
def both(upgrade: Upgrade) -> Iterator[Said]:
    """Of app and extensions that changed."""
    for old, new in upgrade.pairs():
        if not code_changed(old, new) or (old.version == new.version) == (old.build == new.build):
            continue
        key, value = (
            ("CFBundleVersion", new.build)
            if old.build == new.build
            else (
                "CFBundleShortVersionString",
                new.version,
            )
        )
        yield info_place(new), f"from {_version(old)} to {_version(new)}: {key} is still {value}"


@judges("app-version-raised")
def app_raised(upgrade: Upgrade) -> Iterator[Said]:
    """Of the app."""
    old, new = upgrade.old.app, upgrade.new.app
    if code_changed(old, new) and versions(old) == versions(new):
        yield info_place(new), f"the app was {_how(old, new)}, and its version is still {_version(new)}"


@judges("build-uuid-changed")
def new_uuids(upgrade: Upgrade) -> Iterator[Said]:
    """Of every slice of what has another version."""
    for old, new in upgrade.pairs():
        if versions(old) == versions(new):
            continue
        for arch in uuids(old, new)[0]:
            part = new.slice_of(arch)
            assert part is not None
            yield place(new, part), f"from {_version(old)} to {_version(new)} with the same build UUID {part.uuid}"


@judges("slices-rebuilt-together")
def together(upgrade: Upgrade) -> Iterator[Said]:
    """All or none."""
    for old, new in upgrade.pairs():
        same, other = uuids(old, new)
        if same and other:
            yield new.executable, f"new build UUIDs for {', '.join(other)}, the old ones for {', '.join(same)}"


@judges("downgrade")
def downgrade(upgrade: Upgrade) -> Iterator[Said]:
    """By numbers, the short version first."""
    for old, new in upgrade.pairs():
        before = (version_parts(old.version), version_parts(old.build))
        after = (version_parts(new.version), version_parts(new.build))
        if all((*before, *after)) and after < before:
            yield info_place(new), f"from {_version(old)} down to {_version(new)}"


@judges("same-team")
def team(upgrade: Upgrade) -> Iterator[Said]:
    """Of app and extensions."""
    for old, new in upgrade.pairs():
        if team_of(old) != team_of(new):
            yield place(new), f"from team {team_of(old) or '(none)'} to {team_of(new) or '(none)'}"


@judges("same-identifiers")
def identifiers(upgrade: Upgrade) -> Iterator[Said]:
    """The app's, and every extension's."""
    if upgrade.old.app.bundle_id != upgrade.new.app.bundle_id:
        yield info_place(upgrade.new.app), f"from {upgrade.old.app.bundle_id} to {upgrade.new.app.bundle_id}"
    here = [item.bundle_id for item in upgrade.new.extensions]
    for item in upgrade.old.extensions:
        if item.bundle_id not in here:
            yield item.path, f"{item.bundle_id} is gone; the new release has {', '.join(here) or 'no extension'}"


@judges("same-kind")
def kind(upgrade: Upgrade) -> Iterator[Said]:
    """Category and provider points."""
    for old, new in upgrade.extensions():
        before = (category_of(old), sorted(providers_of(old)))
        after = (category_of(new), sorted(providers_of(new)))
        if before != after:
            yield info_place(new), f"from {_kind(before)} to {_kind(after)}"


def _kind(told: tuple[str, list[str]]) -> str:
    points = ", ".join(point.rpartition(".")[2] for point in told[1])
    return f"{told[0] or 'no kind'} ({points})" if points else told[0] or "no kind"


@judges("mach-service-stable")
def service(upgrade: Upgrade) -> Iterator[Said]:
    """Of extensions."""
    for old, new in upgrade.extensions():
        before, after = mach_service_of(old), mach_service_of(new)
        if before != after:
            yield info_place(new), f"from {before or '(none)'} to {after or '(none)'}"


@judges("groups-changed")
def groups(upgrade: Upgrade) -> Iterator[Said]:
    """Of app and extensions."""
    for old, new in upgrade.pairs():
        before, after = set(groups_of(old)), set(groups_of(new))
        if before != after:
            yield place(new), _difference(before, after)


def _difference(before: set[str], after: set[str]) -> str:
    parts = []
    if before - after:
        parts.append(f"no longer {', '.join(sorted(before - after))}")
    if after - before:
        parts.append(f"now {', '.join(sorted(after - before))}")
    return "; ".join(parts)


@judges("entitlements-changed")
def entitlements(upgrade: Upgrade) -> Iterator[Said]:
    """Of app and extensions; groups have a rule of their own."""
    for old, new in upgrade.pairs():
        before, after = entitlements_of(old), entitlements_of(new)
        for key in sorted({*before, *after} - {GROUPS}):
            if key not in before:
                yield place(new), f"now has {key}"
            elif key not in after:
                yield place(new), f"no longer has {key}"
            elif before[key] != after[key]:
                yield place(new), f"{key} from {str(before[key])[:80]} to {str(after[key])[:80]}"


@judges("slices-kept")
def slices(upgrade: Upgrade) -> Iterator[Said]:
    """Of app and extensions."""
    for old, new in upgrade.pairs():
        gone = {processor(arch) for arch in old.archs} - {processor(arch) for arch in new.archs}
        if gone:
            yield new.executable, f"no longer built for {', '.join(sorted(gone))}"


@judges("minimum-os-raised")
def minimum_os(upgrade: Upgrade) -> Iterator[Said]:
    """Per processor."""
    for old, new in upgrade.pairs():
        for part in new.slices:
            twin = old.slice_of(part.arch)
            if twin is not None and macos_of(twin) and macos_of(part) > macos_of(twin):
                yield place(new, part), f"from macOS {dotted(macos_of(twin))} to {dotted(macos_of(part))}"
