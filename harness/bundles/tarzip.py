"""tar (plain, gzip, xz, bzip2) and zip, into a `Sink`. The standard library reads the formats; what it would write is
written by the sink instead.
"""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, cast

from harness.bundles.failures import BundleError
from harness.bundles.sink import Readable, Sink, chunks_of, is_host_fault, note_oddity
from harness.bundles.streams import decompressed

MAX_HEADER = 16 * 1024 * 1024
"""The most that one read may ask for: a tar header that claims a name of gigabytes is not believed."""
MAX_LINK = 4096
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
)


class _Measured:
    """A stream of which only reasonable reads and a reasonable total are allowed."""

    def __init__(self, source: Readable, total: int, what: str) -> None:
        self._source = source
        self._left = total
        self._what = what

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > MAX_HEADER:
            raise BundleError(f"sensible headers in {self._what}", seen=f"one of {size} bytes", hint="is it damaged?")
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BundleError(
                f"{self._what} to unpack to a sensible size",
                seen="it goes on and on",
                hint="is this a decompression bomb? look at it by hand",
            )
        return data


def extract_tar(path: Path, sink: Sink) -> None:
    """Extract a tar, compressed or not.

    Raises:
        BundleError: Damaged, hostile, or it holds devices.
    """
    try:
        with path.open("rb") as file:
            measured = _Measured(decompressed(file), sink.limits.total * 2, path.name)
            with tarfile.open(fileobj=cast("IO[bytes]", measured), mode="r|", bufsize=512 * 1024) as archive:
                for member in archive:
                    _member(archive, member, sink)
    except BundleError:
        raise
    except _BROKEN as error:
        if is_host_fault(error):
            raise
        raise _damaged(path, error) from error
    if not sink.entries:
        raise BundleError(f"files in {path.name}", seen="an empty archive", hint="fetch it again")
    sink.finish()


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, sink: Sink) -> None:
    if _is_double(member.name):
        return
    flags = member.pax_headers.get("SCHILY.fflags", "")  # as bsdtar writes what chflags sets
    if any(word in ("uchg", "schg", "uappnd", "sappnd", "uimmutable", "simmutable") for word in flags.split(",")):
        note_oddity(member.name, f"flags {flags[:60]} in the archive")
    if member.isdir():
        sink.directory(member.name, member.mode)
    elif member.issym():
        sink.symlink(member.name, member.linkname)
    elif member.islnk():
        sink.hardlink(member.name, member.linkname)
    elif member.isreg():
        content = archive.extractfile(member)
        assert content is not None
        sink.file(member.name, member.mode, chunks_of(cast("Readable", content), member.size))
    else:
        raise BundleError(f"files, folders and links in {sink.what}", seen=f"{member.name} is neither")


def extract_zip(path: Path, sink: Sink) -> None:
    """Extract a zip or wheel, links and permission bits as `ditto` and Info-ZIP store them.

    Raises:
        BundleError: Damaged, hostile or encrypted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.infolist()
            if len(names) > sink.limits.entries:
                raise BundleError(f"at most {sink.limits.entries} entries in {path.name}", seen=str(len(names)))
            for info in names:
                _entry(archive, info, sink)
    except BundleError:
        raise
    except (*_BROKEN, NotImplementedError) as error:
        if is_host_fault(error):
            raise
        raise _damaged(path, error) from error
    sink.finish()


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, sink: Sink) -> None:
    if _is_double(info.filename):
        return
    if info.flag_bits & 0x1:
        raise BundleError(f"{sink.what} without a password", seen=f"{info.filename} is encrypted")
    if not info.filename:
        raise BundleError(f"{sink.what} whose members have names", seen="a member without one", hint="is it damaged?")
    mode = info.external_attr >> 16
    if info.is_dir():
        sink.directory(info.filename, mode or 0o755)
        return
    with archive.open(info) as content:
        if stat.S_ISLNK(mode):
            sink.symlink(info.filename, content.read(MAX_LINK + 1).decode("utf-8", "replace"))
        elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
            sink.file(info.filename, mode & 0o777 or 0o644, chunks_of(cast("Readable", content)))
        else:
            raise BundleError(f"files, folders and links in {sink.what}", seen=f"{info.filename} is neither")


def is_wheel(path: Path) -> bool:
    """Whether a zip is a Python wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.count("/") == 1 and name.endswith(".dist-info/WHEEL") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _is_double(name: str) -> bool:
    """AppleDouble: what macOS's archivers keep extended attributes in."""
    parts = name.rstrip("/").split("/")
    return parts[0] == "__MACOSX" or parts[-1].startswith("._")


def _damaged(path: Path, error: Exception) -> BundleError:
    return BundleError(
        f"{path.name} to be a whole archive",
        seen=f"{type(error).__name__}: {str(error)[:200]}",
        hint="it is truncated or damaged: fetch it again",
    )
