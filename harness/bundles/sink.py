"""Where everything that comes out of an archive is written: nothing leaves the folder, nothing grows without bound.

Names, link targets, sizes and counts come from a file somebody else made. No path is ever followed through a link; a
link that leads out is refused; executables keep their permission bits, set-uid bits are dropped.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.bundles.failures import BundleError

CHUNK = 1024 * 1024
MAX_ODDITIES = 1000
_ODDITIES: contextvars.ContextVar[list[tuple[str, str]] | None] = contextvars.ContextVar("oddities", default=None)


@contextlib.contextmanager
def collect_oddities() -> Iterator[list[tuple[str, str]]]:
    """Inside the block, what is odd about entries of archives is noted: (name in the archive, what). The sink itself sets
    permissions right as it writes, and flags are not set at all, so afterwards nobody could tell.
    """
    found: list[tuple[str, str]] = []
    token = _ODDITIES.set(found)
    try:
        yield found
    finally:
        _ODDITIES.reset(token)


def note_oddity(name: str, what: str) -> None:
    """Note something odd about an entry, if anybody collects that."""
    found = _ODDITIES.get()
    if found is not None and len(found) < MAX_ODDITIES:
        found.append((name, what))


def _note_mode(name: str, mode: int) -> None:
    if mode & 0o002:
        note_oddity(name, f"mode {mode & 0o7777:o} in the archive: everybody can write it")
    if mode & 0o6000:
        note_oddity(name, f"mode {mode & 0o7777:o} in the archive: set-uid or set-gid")


class Readable(Protocol):
    """Something with `read`."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""


@dataclass(frozen=True)
class Limits:
    """How much one archive may become.

    Attributes:
        total: Bytes written in all.
        entries: Files, folders and links.
        depth: Folders below one another.
    """

    total: int = 16 * 1024**3
    entries: int = 200_000
    depth: int = 64

    @classmethod
    def of(cls, compressed: int) -> Limits:
        """Limits for an archive of so many bytes: real apps compress to a third, not to a thousandth."""
        return cls(total=min(cls.total, max(512 * 1024**2, compressed * 100)))


class Sink:
    """Writes files, folders and links below `root`, which must exist.

    Args:
        root: The folder; it should be new and ours alone.
        what: The archive's name, for errors.
        limits: See `Limits`.
    """

    def __init__(self, root: Path, what: str, limits: Limits | None = None) -> None:
        self.root = root
        self.what = what
        self.limits = limits or Limits()
        self.written = 0
        self.entries = 0
        self.skipped: list[str] = []
        """Links that led out and were left away, where that was allowed."""
        self._folders: set[str] = {""}
        self._links: list[str] = []
        self._modes: dict[str, int] = {}

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Make a folder; its parents as needed. Its own mode comes with `finish`, so that it can be filled first."""
        name = self._name(name)
        if not name:
            return
        self._count()
        _note_mode(name, mode)
        self._ensure(name)
        self._modes[name] = mode & 0o755 | 0o700

    def file(self, name: str, mode: int, chunks: Iterable[bytes]) -> int:
        """Write a file, replacing one of the same name; returns its size.

        Raises:
            BundleError: A bad name, or the limits are passed.
        """
        name = self._name(name)
        self._count()
        _note_mode(name, mode)
        path = self._fresh(name)
        size = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                size += len(chunk)
                self.written += len(chunk)
                if self.written > self.limits.total:
                    raise BundleError(
                        f"{self.what} to unpack to at most {self.limits.total // 1024**2} MB",
                        seen=f"{name} goes beyond it",
                        hint="is this a decompression bomb? look at it by hand",
                    )
                file.write(chunk)
        path.chmod(mode & 0o755 | 0o600)
        return size

    def symlink(self, name: str, target: str, *, drop_outward: bool = False) -> None:
        """Make a symbolic link; a target outside is refused, or left away where `drop_outward` allows it."""
        name = self._name(name)
        self._count()
        if not target or "\0" in target or len(target) > 4096:
            raise self._bad(name, f"a link to {target[:80]!r}")
        inner = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if target.startswith("/") or inner == ".." or inner.startswith("../"):
            if drop_outward:
                self.skipped.append(name)
                return
            raise self._bad(name, f"a link to {target!r}, which leads out")
        self._fresh(name).symlink_to(target)
        self._links.append(name)

    def hardlink(self, name: str, existing: str) -> None:
        """Give a file that was already written a second name."""
        name, existing = self._name(name), self._name(existing)
        self._count()
        source = self.root / existing
        self._parents(existing)
        try:
            regular = stat.S_ISREG(source.lstat().st_mode)
        except OSError:
            regular = False
        if not regular:
            raise self._bad(name, f"a hard link to {existing!r}, which is no file in it")
        os.link(source, self._fresh(name), follow_symlinks=False)

    def finish(self) -> None:
        """Check the links as a whole (one may lead out through another), and set the folders' modes."""
        real = os.path.realpath(self.root)
        for name in self._links:
            path = self.root / name
            if not path.is_symlink():
                continue  # replaced since
            end = os.path.realpath(path)
            if end != real and not end.startswith(real + os.sep):
                path.unlink()
                raise self._bad(name, f"a link that ends at {end}")
        for name, mode in sorted(self._modes.items(), reverse=True):
            path = self.root / name
            if not path.is_symlink() and path.is_dir():
                path.chmod(mode)

    def _name(self, name: str) -> str:
        if "\0" in name or len(name) > 4096:
            raise self._bad(name, "an impossible name")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise self._bad(name, "a name that leads out")
        if len(parts) > self.limits.depth:
            raise self._bad(name, f"{len(parts)} folders deep")
        return "/".join(parts)

    def _count(self) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise BundleError(
                f"{self.what} to hold at most {self.limits.entries} entries", seen="more", hint="look at it by hand"
            )

    def _ensure(self, name: str) -> None:
        """Make the folder, link-free all the way."""
        if name in self._folders:
            return
        parent = posixpath.dirname(name)
        self._ensure(parent)
        path = self.root / name
        try:
            path.mkdir(mode=0o755)
        except FileExistsError:
            if path.is_symlink() or not path.is_dir():
                raise self._bad(name, "a folder where a file or link already is") from None
        self._folders.add(name)

    def _parents(self, name: str) -> None:
        parent = posixpath.dirname(name)
        if parent:
            self._ensure(parent)

    def _fresh(self, name: str) -> Path:
        """The path to create: parents made, an older file or link of that name gone."""
        if not name:
            raise self._bad(name, "an entry without a name")
        self._parents(name)
        path = self.root / name
        if name in self._folders or (path.is_dir() and not path.is_symlink()):
            raise self._bad(name, "a file where a folder already is")
        path.unlink(missing_ok=True)
        return path

    def _bad(self, name: str, seen: str) -> BundleError:
        return BundleError(
            f"harmless entries in {self.what}",
            seen=f"{name[:200]!r}: {seen}",
            hint="do not trust this file; fetch it again from its source",
        )


_HOST_FAULTS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO)
)


def is_host_fault(error: BaseException) -> bool:
    """Whether an error while unpacking is this host's (a full disk, missing rights) and says nothing of the archive."""
    return isinstance(error, OSError) and error.errno in _HOST_FAULTS


def chunks_of(source: Readable, size: int | None = None) -> Iterator[bytes]:
    """What `source` gives, a megabyte at a time: `size` bytes of it, or all for None.

    Raises:
        BundleError: It ends before `size`.
    """
    left = size
    while left is None or left > 0:
        chunk = source.read(CHUNK if left is None else min(CHUNK, left))
        if not chunk:
            if left:
                raise BundleError(
                    "the whole content of a file", seen=f"{left} bytes are missing", hint="is it truncated?"
                )
            return
        if left is not None:
            left -= len(chunk)
        yield chunk


def copy_tree(source: Path, sink: Sink, name: str = "") -> None:
    """Copy a folder into `sink` below `name`: files, folders, links; sockets and devices are refused."""
    sink.directory(name, source.stat().st_mode)
    for entry in sorted(os.scandir(source), key=lambda found: found.name):
        inner = f"{name}/{entry.name}" if name else entry.name
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            sink.symlink(inner, os.readlink(entry.path))  # noqa: PTH115 - the text itself, not a Path
        elif stat.S_ISDIR(mode):
            copy_tree(Path(entry.path), sink, inner)
        elif stat.S_ISREG(mode):
            with Path(entry.path).open("rb") as file:
                sink.file(inner, mode, chunks_of(file))
        else:
            raise BundleError(f"files, folders and links in {source}", seen=f"{inner} is neither", hint="remove it")
