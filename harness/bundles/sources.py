"""Whatever a person names on the command line, as something that can be inspected: a bundle's folder or a Mach-O file."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.bundles.macho import is_macho
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.waiting import Deadline

FETCH_SECONDS = 1800.0
_BUNDLES = (".app", ".framework", ".xpc", ".systemextension", ".dext", ".bundle")


@contextmanager
def opened(
    source: str, *, app_name: str | None = None, sha256: str | None = None, deadline: Deadline | None = None
) -> Iterator[Path]:
    """An app (or another bundle, or a Mach-O file) on disk while the context lasts.

    Args:
        source: A path to a bundle, archive, package, disk image, folder or Mach-O file; `pypi:NAME==VERSION`; or an https
            address, whose content `sha256` must be.
        app_name: Which app of several.
        sha256: What a file must hash to; optional but for addresses.
        deadline: For a download.

    Raises:
        UsageError: There is no such thing, or it cannot be used.
        EnvironmentFailure: The network, or the host's disk.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError("a SHA-256 of 64 hexadecimal digits", seen=repr(sha256))
    with tempfile.TemporaryDirectory(prefix="sysext-open-") as folder:
        room = Path(folder)
        path = _obtained(source, sha256, room, deadline)
        if sha256 is not None and path.is_file():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256.lower():
                raise UsageError(f"{source} to have sha256 {sha256.lower()}", seen=found, hint="was it replaced?")
        if _is_bundle(path) if path.is_dir() else _is_macho(path):
            yield path
            return
        from harness.bundles.archives import unpack  # it needs much else

        into = room / "unpacked"
        into.mkdir()
        yield unpack(path, into, app_name, any_app=True)


def _obtained(source: str, sha256: str | None, room: Path, deadline: Deadline | None) -> Path:
    if not source.startswith("pypi:") and "://" not in source:
        path = Path(source).expanduser()
        if not path.exists():
            raise UsageError(
                f"an app, archive, package, disk image or Mach-O file at {source}",
                seen="nothing there",
                hint="check the path; releases are pypi:NAME==VERSION or an https address with --sha256",
            )
        return path
    from harness.bundles.releases import download, from_pypi
    from harness.waiting import Deadline

    deadline = deadline or Deadline.after(FETCH_SECONDS)
    if source.startswith("pypi:"):
        return from_pypi(source.removeprefix("pypi:"), room, deadline)
    parts = urlsplit(source)
    if parts.scheme != "https":
        raise UsageError("an https address", seen=source, hint="http and others are not taken, for safety")
    if sha256 is None:
        raise UsageError(f"the SHA-256 of {source}", seen="none", hint="give --sha256 (shasum -a 256 FILE)")
    target = room / (Path(parts.path).name or "download")
    download(source, target, deadline)
    return target


def _is_bundle(path: Path) -> bool:
    return path.suffix in _BUNDLES or (path / "Contents" / "Info.plist").is_file()


def _is_macho(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_macho(file.read(8))
    except OSError as error:
        raise UsageError(f"{path} to be readable", seen=str(error.strerror)) from error
