"""Judges of what lies where, and what the Info.plist files say."""

from __future__ import annotations

import mmap
import posixpath
import re
import stat
from collections.abc import Iterator

from harness.bundles.facts import CodeItem
from harness.bundles.preflight.common import (
    EXTENSIONS,
    category_of,
    dotted,
    hosts,
    info_place,
    macos_of,
    names_in,
    processor,
    providers_of,
    table,
    version_parts,
)
from harness.bundles.preflight.rules import Said, Subject, judges

_INCOMPLETE = frozenset(
    {
        "info-unreadable",
        "executable-missing",
        "executable-unreadable",
        "fat-layout",
        "link-outside",
        "tree-special",
        "tree-too-large",
    }
)
POINTS = {
    "com.apple.networkextension.app-proxy": "app-proxy-provider",
    "com.apple.networkextension.packet-tunnel": "packet-tunnel-provider",
    "com.apple.networkextension.filter-data": "content-filter-provider",
    "com.apple.networkextension.filter-packet": "content-filter-provider",
    "com.apple.networkextension.dns-proxy": "dns-proxy",
}
"""Provider points of system extensions, and the entitlement value (without its suffix) that each needs."""
_OTHER_POINTS = frozenset({"com.apple.networkextension.url-filter-control", "com.apple.networkextension.url-filter"})
_KEXT_VERSION = re.compile(r"\d{1,4}(?:\.\d{1,2}){0,2}(?:(?:d|a|b|f|fc)(\d{1,3}))?")
_ODD = re.compile(r'[\x00-\x1f\x7f:\\"*?<>|]')
_MOST_FILES = 100_000


@judges("bundle-complete")
def whole(subject: Subject) -> Iterator[Said]:
    """What could not be read."""
    for problem in subject.seen.problems:
        if problem.code in _INCOMPLETE:
            yield problem.where, problem.what


@judges("extension-present")
def present(subject: Subject) -> Iterator[Said]:
    """At least one."""
    if not any(posixpath.dirname(item.path) == EXTENSIONS for item in subject.seen.extensions):
        yield EXTENSIONS, "no .systemextension and no .dext is in it"


@judges("extension-location")
def location(subject: Subject) -> Iterator[Said]:
    """Extensions outside of the one folder."""
    for path, folder in names_in(subject.seen):
        parent, name = posixpath.split(path)
        if not folder or not name.endswith((".systemextension", ".dext")):
            continue
        if parent != EXTENSIONS and not parent.endswith(f".app/{EXTENSIONS}"):
            yield path, f"it lies in {parent or 'the top folder'}, not in {EXTENSIONS}"


@judges("extension-file-name")
def file_name(subject: Subject) -> Iterator[Said]:
    """Bundle identifier and ending."""
    for item in subject.seen.extensions:
        ending = ".dext" if item.kind == "dext" else ".systemextension"
        name = posixpath.basename(item.path)
        if name != item.bundle_id + ending:
            yield (
                item.path,
                f"the file is called {name}, the bundle {item.bundle_id or 'nothing (no CFBundleIdentifier)'}",
            )


@judges("extension-identifier-prefix")
def identifier_prefix(subject: Subject) -> Iterator[Said]:
    """<app>.<something>."""
    app = subject.seen.app.bundle_id
    for item in subject.seen.extensions:
        if app and item.bundle_id and not item.bundle_id.startswith(f"{app}."):
            yield info_place(item), f"{item.bundle_id} does not begin with {app}."


@judges("package-type")
def package_type(subject: Subject) -> Iterator[Said]:
    """SYSX or DEXT, as the file's ending."""
    for item in subject.seen.extensions:
        wanted = "DEXT" if item.kind == "dext" else "SYSX"
        if item.package_type != wanted:
            yield info_place(item), f"CFBundlePackageType is {item.package_type or 'missing'}, not {wanted}"


@judges("extension-category")
def category(subject: Subject) -> Iterator[Said]:
    """Some kind, and what that kind must name."""
    for item in subject.seen.extensions:
        kind = category_of(item)
        if not kind:
            yield (
                info_place(item),
                "neither NetworkExtension, CMIOExtension nor an Endpoint Security entitlement is there",
            )
        elif kind == "network":
            yield from _providers(item)
        elif kind == "driver" and not table(item.info.get("IOKitPersonalities")):
            yield info_place(item), "a driver without IOKitPersonalities"


def _providers(item: CodeItem) -> Iterator[Said]:
    classes = providers_of(item)
    if not classes:
        yield info_place(item), "NetworkExtension has no NEProviderClasses"
    for point, name in classes.items():
        if point not in POINTS and point not in _OTHER_POINTS:
            yield info_place(item), f"NEProviderClasses names {point}, which is no provider point of system extensions"
        if not isinstance(name, str) or not name.strip():
            yield info_place(item), f"NEProviderClasses names no class for {point}"


@judges("usage-description")
def usage(subject: Subject) -> Iterator[Said]:
    """A text that is not empty."""
    for item in subject.seen.extensions:
        keys = ("OSBundleUsageDescription", "NSSystemExtensionUsageDescription")
        wanted = keys if item.kind == "dext" else keys[1:]
        if not any(isinstance(text := item.info.get(key), str) and text.strip() for key in wanted):
            yield info_place(item), f"{wanted[0]} is missing or empty"


@judges("entry-point")
def entry_point(subject: Subject) -> Iterator[Said]:
    """No reference to NSExtensionMain among the symbols."""
    if subject.path is None:
        return
    root = subject.path.resolve()
    for item in subject.seen.extensions:
        path = root / item.executable
        if item.kind == "dext" or not item.executable or not path.resolve().is_relative_to(root) or not path.is_file():
            continue
        if not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(b"\0_NSExtensionMain\0") >= 0:
                yield item.executable, "it is linked to NSExtensionMain, the entry point of app extensions"


@judges("every-slice")
def every_slice(subject: Subject) -> Iterator[Said]:
    """The same processors."""
    app = {processor(arch) for arch in subject.seen.app.archs}
    for item in subject.seen.extensions:
        mine = {processor(arch) for arch in item.archs}
        if not app or not mine:
            continue
        for arch in sorted(app - mine):
            yield item.executable, f"the app has {arch}, the extension only {', '.join(sorted(mine))}"
        for arch in sorted(mine - app):
            yield subject.seen.app.executable, f"the extension has {arch}, the app only {', '.join(sorted(app))}"


@judges("minimum-os")
def minimum_os(subject: Subject) -> Iterator[Said]:
    """Against the matrix, against each other, and Info.plist against the code."""
    app = subject.seen.app
    for item in hosts(subject.seen):
        code = min((macos_of(part) for part in item.slices if macos_of(part)), default=())
        text = item.info.get("LSMinimumSystemVersion")
        said = version_parts(text) if isinstance(text, str) else ()
        if text is not None and not said:
            yield info_place(item), f"LSMinimumSystemVersion is {str(text)[:60]!r}, no version"
        elif said and item.kind != "dext" and said < code and said[0] > 10:
            yield info_place(item), f"LSMinimumSystemVersion says {dotted(said)}, the code needs {dotted(code)}"
        need = max(code, said) if item.kind != "dext" else code
        for macos in subject.macos:
            if need and int(macos) < need[0]:
                yield info_place(item), f"it needs macOS {dotted(need)}, and is to run on macOS {macos}"
        if item is app:
            continue
        for part in item.slices:
            twin = next((one for one in app.slices if processor(one.arch) == processor(part.arch)), None)
            if twin is not None and macos_of(twin) and macos_of(part) > max(macos_of(twin), _stated(app)):
                yield (
                    f"{item.executable} ({part.arch})",
                    f"it needs macOS {dotted(macos_of(part))}, the app only {dotted(macos_of(twin))}",
                )


def _stated(item: CodeItem) -> tuple[int, ...]:
    text = item.info.get("LSMinimumSystemVersion")
    return version_parts(text) if isinstance(text, str) else ()


@judges("versions-present")
def versions(subject: Subject) -> Iterator[Said]:
    """Both keys, of app and extensions."""
    for item in hosts(subject.seen):
        for key, value in (("CFBundleShortVersionString", item.version), ("CFBundleVersion", item.build)):
            if not value:
                yield info_place(item), f"{key} is missing"
            elif re.search(r"[\s/()\x00-\x1f]", value):
                yield info_place(item), f"{key} is {value[:60]!r}: blanks, brackets and slashes do not belong into it"


@judges("kext-version")
def kext_version(subject: Subject) -> Iterator[Said]:
    """As OSKext parses versions."""
    for item in subject.seen.extensions:
        if item.kind != "dext" or not item.build:
            continue
        found = _KEXT_VERSION.fullmatch(item.build)
        if found is None or (found.group(1) and int(found.group(1)) > 255):
            yield info_place(item), f"CFBundleVersion {item.build[:60]!r} is no kext version"


@judges("product-name-brackets")
def brackets(subject: Subject) -> Iterator[Said]:
    """Of the app's folder and of every folder in it."""
    if re.search(r"[\[\]]", subject.seen.name):
        yield "", f"the app is called {subject.seen.name}"
    for path, folder in names_in(subject.seen):
        if folder and re.search(r"[\[\]]", posixpath.basename(path)):
            yield path, "a folder with square brackets in its name"


@judges("path-characters")
def characters(subject: Subject) -> Iterator[Said]:
    """Of every path."""
    for path in (subject.seen.name, *(path for path, _ in names_in(subject.seen))):
        name = posixpath.basename(path)
        if _ODD.search(name) or name != name.strip():
            yield ("" if path == subject.seen.name else path), f"the name {name!r}"


@judges("permissions")
def permissions(subject: Subject) -> Iterator[Said]:
    """Of the archive's entries, and of the files as they lie here."""
    yield from subject.oddities
    if subject.path is None:
        return
    root = subject.path
    programs = {item.executable for item in subject.seen.items() if any(part.file_type == 2 for part in item.slices)}
    for number, path in enumerate(root.rglob("*")):
        if number >= _MOST_FILES:
            return
        state = path.lstat()
        name = path.relative_to(root).as_posix()
        if stat.S_ISLNK(state.st_mode):
            continue
        yield from odd_mode(name, state.st_mode, program=name in programs)
        flags = int(getattr(state, "st_flags", 0))
        if flags & (stat.UF_IMMUTABLE | stat.SF_IMMUTABLE | stat.UF_APPEND | stat.SF_APPEND):
            yield name, "it carries an immutable or append-only flag"


def odd_mode(name: str, mode: int, *, program: bool = False) -> Iterator[Said]:
    """What is odd about permission bits."""
    readable = 0o555 if stat.S_ISDIR(mode) else 0o444
    if mode & readable != readable:
        yield name, f"mode {mode & 0o7777:o}: not everybody can read it"
    if mode & 0o002:
        yield name, f"mode {mode & 0o7777:o}: everybody can write it"
    if mode & 0o6000:
        yield name, f"mode {mode & 0o7777:o}: set-uid or set-gid"
    if program and mode & 0o111 != 0o111:
        yield name, f"mode {mode & 0o7777:o}: a program that not everybody can run"
