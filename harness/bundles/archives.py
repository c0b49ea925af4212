"""From whatever a release comes in to its `.app`: a folder, tar, zip, wheel, package or disk image, also one in another.

What a file is, is judged by its content, never by its name. Everything is unpacked into a temporary folder beside the
target and the app renamed into place at the end: there is never half an app.
"""

from __future__ import annotations

import enum
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.bundles.diskimage import DiskImage, is_disk_image
from harness.bundles.failures import BundleError
from harness.bundles.package import read_package
from harness.bundles.sink import Limits, Sink, copy_tree, is_host_fault
from harness.bundles.tarzip import extract_tar, extract_zip, is_wheel
from harness.errors import EnvironmentFailure, SysextError, UsageError
from harness.events import step
from harness.formats.failures import FormatError
from harness.formats.plists import load_plist, text_of

MAX_NESTING = 3
"""An archive in an archive in an archive: the wheel of a tar is 2."""


class Kind(enum.StrEnum):
    """What a release can come in."""

    APP = "app"
    FOLDER = "folder"
    TAR = "tar"
    ZIP = "zip"
    WHEEL = "wheel"
    PACKAGE = "pkg"
    DISK_IMAGE = "dmg"


def detect_kind(path: Path) -> Kind:
    """What `path` is, by its content.

    Raises:
        UsageError: It is not there, or nothing known.
    """
    if path.is_dir():
        is_app = path.suffix == ".app" or (path / "Contents" / "Info.plist").is_file()
        return Kind.APP if is_app else Kind.FOLDER
    try:
        kind = _kind_of_file(path)
    except OSError as error:
        raise UsageError(f"an app, archive, package or disk image at {path}", seen=str(error.strerror)) from error
    if kind is None:
        with path.open("rb") as file:
            head = file.read(8)
        raise BundleError(
            f"{path.name} to be an app, tar, zip, wheel, package or disk image",
            seen=f"a file that begins {head.hex()}" if head else "an empty file",
            hint="fetch it again, or unpack it by hand and name the .app",
        )
    return kind


def _kind_of_file(path: Path) -> Kind | None:
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] == b"xar!":
        return Kind.PACKAGE
    if is_disk_image(path):  # before the compressed kinds: an image may begin with anything
        return Kind.DISK_IMAGE
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return Kind.WHEEL if is_wheel(path) else Kind.ZIP
    if head[257:262] == b"ustar" or head[:2] == b"\x1f\x8b" or head[:6] == b"\xfd7zXZ\0" or head[:3] == b"BZh":
        return Kind.TAR
    return None


def unpack(source: Path, into: Path, app_name: str | None = None, *, any_app: bool = False) -> Path:
    """Unpack a release.

    Args:
        source: A folder, app, archive, package or disk image.
        into: An existing folder; the app appears in it, complete or not at all. An older one of its name is replaced.
        app_name: Which app, with or without `.app`; None if there is only one with a system extension.
        any_app: Without a name, take the only app there is, if none has a system extension.

    Returns:
        The `.app` folder in `into`.

    Raises:
        UsageError: There is no such app in it (names what is there), or it is damaged or hostile.
        EnvironmentFailure: No space left, or no rights.
    """
    into.mkdir(parents=True, exist_ok=True)
    with step("unpack", source=source.name, app=app_name or "") as under_way:
        kind = detect_kind(source)
        under_way.note(kind=str(kind))
        room = Path(tempfile.mkdtemp(prefix=".unpack-", dir=into))
        try:
            apps = _search(source, room, app_name, 0)
            plain = any_app and app_name is None and len(apps) == 1
            found = apps[0] if plain else _choose(apps, source, app_name)
            target = into / found.name
            if target.exists():
                os.replace(target, room / "replaced")  # noqa: PTH105
            os.replace(found, target)  # noqa: PTH105
        except OSError as error:
            raise _as_ours(error, source) from error
        finally:
            shutil.rmtree(room, ignore_errors=True)
    return target


def extract(source: Path, into: Path) -> None:
    """Everything that is in an archive, package or image, as it is, into an existing empty folder.

    Raises:
        UsageError: It is damaged, hostile, or nothing known.
    """
    kind = detect_kind(source)
    extractors: dict[Kind, Callable[[Path, Sink], None]] = {
        Kind.TAR: extract_tar,
        Kind.ZIP: extract_zip,
        Kind.WHEEL: extract_zip,
    }
    if kind in (Kind.APP, Kind.FOLDER):
        sink = Sink(into, source.name)
        copy_tree(source, sink, source.name if source.suffix == ".app" else "")
        sink.finish()
    elif kind is Kind.PACKAGE:
        read_package(source).extract(into)
    elif kind is Kind.DISK_IMAGE:
        DiskImage(source).extract(into)
    else:
        extractors[kind](source, Sink(into, source.name, Limits.of(source.stat().st_size)))


def _search(source: Path, room: Path, app_name: str | None, level: int) -> list[Path]:
    """The apps in `source`, unpacked somewhere below `room`. Nested archives are opened only while none fits."""
    here = Path(tempfile.mkdtemp(dir=room))
    extract(source, here)
    apps = [_named(here, source, room)] if (here / "Contents" / "Info.plist").is_file() else _apps(here)
    if any(_fits(app, app_name) for app in apps) or level >= MAX_NESTING:
        return apps
    for nested in sorted(_files(here)):
        try:
            kind = _kind_of_file(nested)
        except OSError:
            continue
        if kind is None:
            continue
        try:
            apps += _search(nested, room, app_name, level + 1)
        except SysextError:
            # Data that merely looks like an archive (a .gz resource) is no reason to fail; a release that is one
            # broken archive is.
            if not app_name or app_name.removesuffix(".app") not in nested.name:
                continue
            raise
        if any(_fits(app, app_name) for app in apps):
            break
    return apps


def _named(folder: Path, source: Path, room: Path) -> Path:
    """An app whose archive begins inside of it (real releases have done that): given its own folder and name."""
    name = f"{source.name.split('.app', 1)[0]}.app" if ".app" in source.name else ""
    if not name:
        try:
            info = load_plist((folder / "Contents" / "Info.plist").read_bytes(), f"Info.plist in {source.name}")
        except FormatError as error:
            raise BundleError(error.expected, seen=error.seen, hint="is the app complete?") from error
        title = text_of(info.get("CFBundleName")) or text_of(info.get("CFBundleExecutable"))
        name = f"{title}.app" if title and "/" not in title and len(title) < 200 else f"{source.stem}.app"
    home = Path(tempfile.mkdtemp(dir=room)) / name
    folder.rename(home)
    return home


def _choose(apps: list[Path], source: Path, app_name: str | None) -> Path:
    fitting = [app for app in apps if _fits(app, app_name)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(sorted({app.name for app in apps})) or "no app at all"
    if fitting:
        raise UsageError(
            f"one app in {source.name}",
            seen=", ".join(sorted(app.name for app in fitting)),
            hint="name the app",
        )
    wanted = f"{app_name.removesuffix('.app')}.app" if app_name else "an app with a system extension"
    raise UsageError(f"{wanted} in {source.name}", seen=names, hint="correct the name in the app file, or the source")


def _fits(app: Path, app_name: str | None) -> bool:
    if app_name is not None:
        return app.stem == app_name.removesuffix(".app")
    return (app / "Contents" / "Library" / "SystemExtensions").is_dir()


def _apps(folder: Path) -> list[Path]:
    """Outermost `.app` folders below `folder`."""
    found = []
    for parent, folders, _ in os.walk(folder):
        for name in sorted(folders):
            path = Path(parent) / name
            if name.endswith(".app") and not path.is_symlink():
                found.append(path)
        folders[:] = [name for name in folders if not name.endswith(".app")]
    return sorted(found)


def _files(folder: Path) -> list[Path]:
    """Files outside of apps, that could be archives themselves."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith(".app")]
        found += [path for name in files if (path := Path(parent) / name).is_file() and not path.is_symlink()]
    return found


def _as_ours(error: OSError, source: Path) -> SysextError:
    if is_host_fault(error):
        return EnvironmentFailure(
            f"room and rights to unpack {source.name}",
            seen=str(error),
            hint="make room on this host, or change the cache",
        )
    return BundleError(f"{source.name} to be unpacked", seen=str(error), hint="check the file and the folder")
