"""Where the releases to judge come from: paths, patterns, folders of several, sources, releases of an app file."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.bundles.archives import Kind, detect_kind
from harness.bundles.facts import Inspection
from harness.bundles.failures import BundleError
from harness.bundles.inspection import inspect_app
from harness.bundles.oddities import oddities_of, unpack_noting
from harness.bundles.preflight.engine import Release
from harness.errors import UsageError
from harness.waiting import Deadline

if TYPE_CHECKING:  # releases and their settings take longer to load than a release takes to be judged
    from harness.config import AppFile

MOST_IN_FOLDER = 200
_ADDRESS = re.compile(r"^(https://[^#]+)#(?:sha256[=:])?([0-9a-fA-F]{64})$")


@contextlib.contextmanager
def opened(
    texts: Sequence[str], *, cache: Path, app: AppFile | None = None, deadline: Deadline | None = None
) -> Iterator[list[Release]]:
    """The releases behind what a person wrote, inspected; unpacked ones last as long as the context.

    Args:
        texts: Each is a path (app, archive, package, disk image, folder of several), a pattern of paths,
            `pypi:NAME==VERSION`, or `https://…#sha256=HEX`.
        cache: Where downloads are kept.
        app: The app file: which app to take out of an archive with several.
        deadline: For downloads.

    Raises:
        UsageError: There is no such thing, or it cannot be read.
        EnvironmentFailure: The network, or the host's disk.
    """
    name = app.name if app is not None else None
    with contextlib.ExitStack() as stack:
        found: list[Release] = []
        for text in texts:
            if text.startswith("pypi:") or "://" in text:
                found.append(_fetched(text, cache, name, deadline))
                continue
            found.extend(_opened(path, name, stack) for path in _paths(text))
        yield found


def from_app_file(app: AppFile, version: str | None, *, cache: Path, deadline: Deadline | None = None) -> Release:
    """A release of the app file (the newest for None), inspected. What it is may differ from the app file.

    Raises:
        UsageError: There is no such release, or it cannot be read.
        EnvironmentFailure: The network, or the host's disk.
    """
    from harness.bundles.releases import fetch_release

    release = app.release(version)
    bundle = fetch_release(release, app, cache, deadline=deadline, checked=False)
    return Release(release.version, inspected(bundle.path), bundle.path, oddities_of(bundle.path), str(app.path))


def inspected(path: Path) -> Inspection:
    """`inspect_app`, remembered as long as no file in the app changes.

    Raises:
        BundleError: It is no bundle.
    """
    if not path.is_dir():
        return inspect_app(path)
    return _inspected(path, _state(path))


def _state(path: Path) -> str:
    """Names, sizes, times and modes of everything in it: a digest that takes a millisecond."""
    total = hashlib.sha256()
    for entry in sorted(path.rglob("*")):
        state = entry.lstat()
        total.update(
            f"{entry.relative_to(path)}\0{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_mode} "
            f"{state.st_ino}\0".encode("utf-8", "surrogateescape")
        )
    return total.hexdigest()


@lru_cache(maxsize=16)
def _inspected(path: Path, state: str) -> Inspection:
    del state  # part of the key
    return inspect_app(path)


def _fetched(text: str, cache: Path, app_name: str | None, deadline: Deadline | None) -> Release:
    from harness.bundles.releases import fetch_source

    sha256 = None
    source = text
    if "://" in text:
        found = _ADDRESS.match(text)
        if found is None:
            raise UsageError(
                "an https address with the SHA-256 of what is there",
                seen=text,
                hint="write it as https://…#sha256=HEX (shasum -a 256 FILE)",
            )
        source, sha256 = found.group(1), found.group(2).lower()
    bundle = fetch_source(source, cache, sha256=sha256, app_name=app_name, deadline=deadline)
    return Release(text.partition("#")[0], inspected(bundle.path), bundle.path, oddities_of(bundle.path), text)


def _paths(text: str) -> Iterator[Path]:
    path = Path(text).expanduser()
    if not path.exists() and glob.has_magic(text):
        found = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 - a whole pattern
        if not found:
            raise UsageError(f"files for {text}", seen="none", hint="check the pattern")
        for match in found[:MOST_IN_FOLDER]:
            yield from _paths(glob.escape(str(match))) if glob.has_magic(str(match)) else _paths(str(match))
        return
    if not path.exists():
        path = Path(re.sub(r"\[([*?[])\]", r"\1", text))  # what glob.escape made of it
    if not path.exists():
        raise UsageError(
            f"an app, archive, package, disk image or folder of them at {text}",
            seen="nothing there",
            hint="releases are pypi:NAME==VERSION, https://…#sha256=HEX, or --app-file FILE --release VERSION",
        )
    if not path.is_dir() or detect_kind(path) is Kind.APP:
        yield path
        return
    yield from _in_folder(path)


def _in_folder(folder: Path) -> Iterator[Path]:
    """The apps of a folder, and the archives with one; what is neither is passed over."""
    apps = [path for path in sorted(folder.rglob("*.app")) if path.is_dir() and not path.is_symlink()]
    outer = [path for path in apps if not any(other in path.parents for other in apps)]
    files = []
    for path in sorted(folder.iterdir()):
        if path.is_file():
            with contextlib.suppress(UsageError):
                detect_kind(path)
                files.append(path)
    if not outer and not files:
        raise UsageError(f"apps or archives in {folder}", seen="none", hint="name the .app")
    yield from [*outer, *files][:MOST_IN_FOLDER]


def _opened(path: Path, app_name: str | None, stack: contextlib.ExitStack) -> Release:
    if path.is_dir():
        return Release(path.name, inspected(path), path, (), str(path))
    room = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sysext-preflight-")))
    app, odd = unpack_noting(path, room, app_name, any_app=True)
    try:
        return Release(path.name, inspected(app), app, odd, str(path))
    except BundleError as error:
        raise BundleError(f"an app that can be read in {path}", seen=str(error)) from error
