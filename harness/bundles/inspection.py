"""Everything about an app bundle that can be known without a Mac: `inspect_app`.

Damage inside the bundle is no error but a `Problem`: an inspection says all it can. Nothing is executed, no link is
followed out of the bundle, nothing is written.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bundles.codedirectory import Sealed, check_slice
from harness.bundles.facts import (
    PROBLEMS,
    CertificateFacts,
    CmsFacts,
    CodeItem,
    CodeKind,
    Inspection,
    Problem,
    Profile,
    ResourceCheck,
    SliceFacts,
    Ticket,
    TimestampFacts,
)
from harness.bundles.failures import BundleError
from harness.bundles.layout import check_layout
from harness.bundles.macho import is_macho, read_slices
from harness.bundles.profile import MAX_PROFILE, ProfileError, read_profile
from harness.bundles.resources import Place, SealError, check_resources
from harness.bundles.ticket import MAGIC, MAX_TICKET, TicketError, read_ticket
from harness.bundles.tree import Entry, Tree, walk
from harness.formats.failures import FormatError
from harness.formats.plists import MAX_PLIST, load_plist, text_of

__all__ = [
    "PROBLEMS",
    "CertificateFacts",
    "CmsFacts",
    "CodeItem",
    "Inspection",
    "Problem",
    "Profile",
    "ResourceCheck",
    "SliceFacts",
    "Ticket",
    "TimestampFacts",
    "inspect_app",
    "inspect_file",
]

MAX_CODE = 2_000
"""Pieces of code in one app. A large browser has some dozens."""
MAX_PROBLEMS = 2_000
MAX_EXECUTABLE = 4 * 1024**3
_KINDS: dict[str, CodeKind] = {
    "app": "helper",
    "systemextension": "system-extension",
    "dext": "dext",
    "framework": "framework",
    "xpc": "xpc",
    "appex": "helper",
    "bundle": "library",
    "plugin": "library",
    "kext": "library",
    "mdimporter": "library",
    "qlgenerator": "library",
}


@dataclass(frozen=True)
class _Bundle:
    """A bundle found in the tree: its folder, where its parts are, and what it is."""

    path: str
    kind: CodeKind
    base: str
    info: str
    folder: str


@dataclass
class _Work:
    tree: Tree
    verify: bool
    problems: list[Problem] = field(default_factory=list)
    hashes: dict[str, frozenset[str]] = field(default_factory=dict)
    seals: list[tuple[_Bundle, str, bytes]] = field(default_factory=list)

    def tell(self, code: str, where: str, what: str) -> None:
        """Note a problem, up to a limit."""
        assert code in PROBLEMS, code
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(code, where, what))


def inspect_app(path: Path, *, verify: bool = True) -> Inspection:
    """Read an unpacked `.app` and everything in it.

    Args:
        path: The app's folder (`harness.bundles.archives.unpack` makes one of any archive).
        verify: Check hashes, signatures and chains too; else only read.

    Raises:
        BundleError: It is no bundle at all. What is damaged inside of it is a `Problem`.
    """
    if not path.is_dir():
        seen = "a file" if path.exists() else "nothing there"
        raise BundleError(f"an app bundle at {path}", seen=seen, hint="give the folder that ends in .app")
    found: list[tuple[str, str, str]] = []
    tree = walk(path.resolve(), lambda code, where, what: found.append((code, where, what)))
    work = _Work(tree, verify)
    for problem in found:
        work.tell(*problem)
    main = _bundle(tree, "", "framework" if path.suffix == ".framework" else "app")
    if main is None:
        raise BundleError(
            f"Contents/Info.plist in {path.name}", seen="none", hint="is this an app bundle, and was it copied whole?"
        )
    bundles = _bundles(work)
    taken: set[str] = set()
    # What is nested is read first: the seals around it name its cdhashes.
    items = [_item(work, bundle, taken) for bundle in sorted(bundles, key=lambda one: -one.path.count("/"))]
    app = _item(work, main, taken)
    items += _loose(work, taken)
    checks = {bundle.path: _resources(work, bundle, executable, seal) for bundle, executable, seal in work.seals}
    items = sorted((_sealed(item, checks) for item in items), key=lambda item: item.path)
    extensions = tuple(item for item in items if item.kind in ("system-extension", "dext"))
    return Inspection(
        name=path.name or path.resolve().name,
        app=_sealed(app, checks),
        extensions=extensions,
        others=tuple(item for item in items if item not in extensions),
        tree=tuple(str(entry) for entry in tree.entries.values()),
        ticket=_ticket(work, main),
        problems=tuple(work.problems),
        verified=verify,
    )


def inspect_file(path: Path, *, verify: bool = True) -> tuple[CodeItem, tuple[Problem, ...]]:
    """Read one Mach-O file on its own: a tool, a library.

    Raises:
        BundleError: It cannot be read, or is no Mach-O file. Other damage is a `Problem`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
        size = path.stat().st_size
    except OSError as error:
        raise BundleError(f"a Mach-O file at {path}", seen=str(error.strerror), hint="check the path") from error
    if not is_macho(head):
        seen = f"a file that begins {head.hex()}" if head else "an empty file"
        raise BundleError(f"{path.name} to be a Mach-O file", seen=seen, hint="is it for macOS, and whole?")
    tree = Tree(path.resolve().parent, {path.resolve().name: Entry(path.resolve().name, "file", size)})
    work = _Work(tree, verify)
    (item,) = _loose(work, set()) or (None,)
    if item is None:
        raise BundleError(f"{path.name} to be a Mach-O file", seen=f"{size} bytes", hint="is it whole?")
    return item, tuple(work.problems)


def _bundles(work: _Work) -> list[_Bundle]:
    """Every bundle within, outermost first; the app itself left out."""
    found: list[_Bundle] = []
    for name, entry in work.tree.entries.items():
        kind = _KINDS.get(name.rpartition(".")[2]) if entry.kind == "folder" and "." in name else None
        if kind is None or "." not in name.rpartition("/")[2]:
            continue
        bundle = _bundle(work.tree, name, kind)
        if bundle is not None and len(found) < MAX_CODE:
            found.append(bundle)
        elif bundle is not None:
            work.tell("tree-too-large", name, f"more than {MAX_CODE} bundles")
            break
        elif kind in ("system-extension", "dext"):
            work.tell("info-unreadable", name, "it has no Info.plist")
    return found


def _bundle(tree: Tree, path: str, kind: CodeKind) -> _Bundle | None:
    """A folder as a bundle: with Contents, as a framework with versions, or flat."""
    prefix = f"{path}/" if path else ""
    versions = f"{prefix}Versions"
    if kind == "framework" and versions in tree.entries:
        current = tree.entries.get(f"{versions}/Current")
        names = [current.target] if current is not None and current.kind == "link" else []
        names += ["A", *(name[len(versions) + 1 :] for name in tree.entries if name.startswith(f"{versions}/"))]
        for name in names:
            base = f"{versions}/{name}"
            info = tree.file(f"{base}/Resources/Info.plist") if "/" not in name else None
            if info is not None and tree.entries.get(base, info).kind == "folder":
                return _Bundle(path, kind, base, info.name, base)
    for base, folder in ((f"{prefix}Contents", f"{prefix}Contents/MacOS"), (path, path)):
        info = tree.file(f"{base}/Info.plist" if base else "Info.plist")
        if info is None and base == path and kind == "framework":
            info = tree.file(f"{prefix}Resources/Info.plist")
        if info is not None:
            return _Bundle(path, kind, base, info.name, folder)
    return None


def _item(work: _Work, bundle: _Bundle, taken: set[str]) -> CodeItem:
    tree, base = work.tree, f"{bundle.base}/" if bundle.base else ""
    info: dict[str, Any] = {}
    raw: bytes | None = None
    try:
        entry = tree.entries[bundle.info]
        raw = tree.read(entry, MAX_PLIST)
        info = load_plist(raw, "Info.plist")
    except (BundleError, FormatError) as error:
        work.tell("info-unreadable", bundle.info, f"{error.expected}: {error.seen}")
    seal = _read(work, f"{base}_CodeSignature/CodeResources", MAX_PLIST, "resources-unreadable")
    executable = _executable(work, bundle, info)
    slices: tuple[SliceFacts, ...] = ()
    if executable:
        taken.add(executable)
        slices = _slices(work, executable, Sealed(raw, seal))
    hashes = frozenset(value for part in slices for value in part.cdhashes.values())
    for name in {bundle.path, bundle.base, executable} - {""}:
        work.hashes[name] = hashes
    if any(part.signed for part in slices):
        if seal is None:
            work.tell("resources-missing", bundle.path or bundle.base, "no _CodeSignature/CodeResources")
        elif work.verify:
            work.seals.append((bundle, executable[len(base) :] if executable.startswith(base) else "", seal))
    return CodeItem(
        path=bundle.path,
        kind=bundle.kind,
        info=info,
        package_type=text_of(info.get("CFBundlePackageType")),
        bundle_id=text_of(info.get("CFBundleIdentifier")),
        version=text_of(info.get("CFBundleShortVersionString")),
        build=text_of(info.get("CFBundleVersion")),
        executable=executable,
        slices=slices,
        profile=_profile(work, base),
        resources=None,
    )


def _executable(work: _Work, bundle: _Bundle, info: Mapping[str, Any]) -> str:
    """The main executable's name in the tree; "" where there is none."""
    name = text_of(info.get("CFBundleExecutable"))
    prefix = f"{bundle.folder}/" if bundle.folder else ""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        if info and bundle.kind in ("library", "framework"):
            return ""  # these may be resources only
        work.tell("executable-missing", bundle.info, f"CFBundleExecutable is {name!r}")
        # Without a usable Info.plist the only file there is the one that is meant.
        only = [
            other
            for other, entry in work.tree.entries.items()
            if entry.kind == "file" and prefix.endswith("MacOS/") and other.rpartition("/")[0] == bundle.folder
        ]
        return only[0] if len(only) == 1 else ""
    entry = work.tree.file(prefix + name)
    if entry is None:
        work.tell("executable-missing", bundle.info, f"{prefix + name}, which CFBundleExecutable names, is not there")
        return ""
    return entry.name


def _loose(work: _Work, taken: set[str]) -> list[CodeItem]:
    """Mach-O files that are no bundle's main executable."""
    found: list[CodeItem] = []
    for name, entry in work.tree.entries.items():
        if entry.kind != "file" or entry.size < 28 or name in taken:
            continue
        try:
            with work.tree.path(name).open("rb") as file:
                head = file.read(8)
        except OSError:
            continue
        if not is_macho(head):
            continue
        if len(found) >= MAX_CODE:
            work.tell("tree-too-large", name, f"more than {MAX_CODE} Mach-O files")
            break
        slices = _slices(work, name, Sealed())
        work.hashes[name] = frozenset(value for part in slices for value in part.cdhashes.values())
        runs = any(part.file_type == 2 for part in slices)
        found.append(
            CodeItem(
                path=name,
                kind="helper" if runs else "library",
                info={},
                package_type="",
                bundle_id="",
                version="",
                build="",
                executable=name,
                slices=slices,
                profile=None,
                resources=None,
            )
        )
    return found


def _slices(work: _Work, name: str, sealed: Sealed) -> tuple[SliceFacts, ...]:
    try:
        size = work.tree.entries[name].size
        if not 28 <= size <= MAX_EXECUTABLE:
            raise BundleError("a Mach-O file", seen=f"{size} bytes")
        with (
            work.tree.path(name).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            parts = read_slices(data, "the file")
            if work.verify:
                check_layout(data, parts, lambda code, what: work.tell(code, name, what))
            found: list[SliceFacts] = []
            for part in parts:
                where = f"{name} ({part.arch})"

                def tell(code: str, what: str, where: str = where) -> None:
                    work.tell(code, where, what)

                found.append(check_slice(data, part, sealed, tell, verify=work.verify))
            return tuple(found)
    except BundleError as error:
        work.tell("executable-unreadable", name, f"{error.expected}: {error.seen}")
    except (OSError, ValueError) as error:
        work.tell("executable-unreadable", name, str(error))
    return ()


def _read(work: _Work, name: str, limit: int, code: str) -> bytes | None:
    entry = work.tree.file(name)
    if entry is None:
        return None
    try:
        return work.tree.read(entry, limit)
    except BundleError as error:
        work.tell(code, name, f"{error.expected}: {error.seen}")
        return None


def _profile(work: _Work, base: str) -> Profile | None:
    for name in (f"{base}embedded.provisionprofile", f"{base}embedded.mobileprovision"):
        data = _read(work, name, MAX_PROFILE, "profile-unreadable")
        if data is None:
            continue
        try:
            profile, why_not = read_profile(data, verify=work.verify)
        except ProfileError as error:
            work.tell("profile-unreadable", name, str(error))
            return None
        if why_not:
            work.tell("profile-unverified", name, why_not)
        return profile
    return None


def _ticket(work: _Work, bundle: _Bundle) -> Ticket | None:
    name = f"{bundle.base}/CodeResources" if bundle.base else "CodeResources"
    entry = work.tree.entries.get(name)
    if entry is None or entry.kind != "file":  # old bundles have a link of that name, to the seal
        return None
    data = _read(work, name, MAX_TICKET, "ticket-unreadable")
    if data is None:
        return None
    try:
        ticket, why_not = read_ticket(data, verify=work.verify)
    except TicketError as error:
        work.tell("ticket-unreadable", name, str(error) if data[:4] == MAGIC else f"no ticket: it begins {data[:4]!r}")
        return None
    if why_not:
        work.tell("ticket-unverified", name, why_not)
    return ticket


def _resources(work: _Work, bundle: _Bundle, executable: str, seal: bytes) -> ResourceCheck | None:
    prefix = f"{bundle.base}/" if bundle.base else ""
    where = f"{prefix}_CodeSignature/CodeResources"
    try:
        check = check_resources(
            work.tree, Place(bundle.base, executable), load_plist(seal, "CodeResources"), work.hashes.get
        )
    except (SealError, FormatError) as error:
        what = f"{error.expected}: {error.seen}" if isinstance(error, FormatError) else str(error)
        work.tell("resources-unreadable", where, what)
        return None
    for code, names, what in (
        ("resource-added", check.added, "not in the seal"),
        ("resource-missing", check.missing, "sealed, and not there"),
        ("resource-altered", check.altered, "not what was sealed"),
    ):
        for name in names:
            work.tell(code, prefix + name, what)
    return check


def _sealed(item: CodeItem, checks: Mapping[str, ResourceCheck | None]) -> CodeItem:
    check = checks.get(item.path)
    return CodeItem(**{**item.__dict__, "resources": check}) if check is not None else item
