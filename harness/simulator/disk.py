"""The machine's disk: one host folder, and the border around it.

Every path that comes out of the guest (shell, SFTP, apps) goes through `GuestDisk.path`. It walks the path component by
component, reads symbolic links itself and re-roots absolute ones, so neither `..` nor a link leads out of the folder.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath

MAX_LINKS = 40
"""As many links as a Mac follows before it says ELOOP (MAXSYMLINKS is 32 there, 40 on Linux)."""

PRIVATE = ("tmp", "var", "etc")
SKELETON = (
    "Applications",
    "Applications/Utilities",
    "Library/Application Support",
    "Library/Logs/DiagnosticReports",
    "Library/SystemExtensions",
    "Library/LaunchDaemons",
    "Library/Preferences",
    "System/Applications",
    "System/Library/CoreServices",
    "System/Library/Extensions",
    "Users/Shared",
    "Users/admin/Desktop",
    "Users/admin/Documents",
    "Users/admin/Downloads",
    "Users/admin/Library/Logs/DiagnosticReports",
    "Users/admin/Library/Preferences",
    "Volumes",
    "bin",
    "dev",
    "opt",
    "private/etc",
    "private/tmp",
    "private/var/db",
    "private/var/folders",
    "private/var/log",
    "private/var/root",
    "private/var/run",
    "private/var/tmp",
    "sbin",
    "usr/bin",
    "usr/lib",
    "usr/libexec",
    "usr/local/bin",
    "usr/sbin",
)


def make_skeleton(root: Path) -> None:
    """The folders that every Mac has, and the three links into /private. Leaves what is there."""
    for folder in SKELETON:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in PRIVATE:
        link = root / name
        if not link.is_symlink() and not link.exists():
            link.symlink_to(f"private/{name}")
    (root / "private/tmp").chmod(0o1777)


class GuestDisk:
    """See `interfaces.Disk`."""

    def __init__(self, root: Path, *, full_after_bytes: int | None = None) -> None:
        self.root = Path(os.path.realpath(root))
        self._full_after = full_after_bytes
        self._written = 0

    @property
    def full(self) -> bool:
        """True while the disk is full: writers must fail with ENOSPC."""
        return self._full_after is not None and self._written >= self._full_after

    def wrote(self, count: int) -> None:
        """Tell of `count` bytes that are about to be written.

        Raises:
            OSError: ENOSPC: they do not fit.
        """
        if self._full_after is not None and self._written + count > self._full_after:
            self._written = max(self._written, self._full_after)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._written += count

    def freed(self, count: int) -> None:
        """Tell of `count` bytes that were deleted."""
        self._written = max(0, self._written - count)

    def absolute(self, guest_path: str, cwd: str = "/") -> str:
        """`guest_path` as an absolute guest path, `.` and empty parts removed, `..` and links left as they are."""
        joined = guest_path if guest_path.startswith("/") else f"{cwd}/{guest_path}"
        return "/" + "/".join(part for part in joined.split("/") if part not in ("", "."))

    def path(self, guest_path: str, cwd: str = "/") -> Path:
        """Where a guest path lives on the host, all links followed. The last parts need not exist.

        Raises:
            PermissionError: The path cannot lie on the disk (a NUL in it, too long a name is left to the caller).
            OSError: ELOOP: too many links.
        """
        return self._resolve(guest_path, cwd, follow_last=True)

    def entry(self, guest_path: str, cwd: str = "/") -> Path:
        """Like `path`, but a link in the last place is left alone: for lstat, unlink, rename, readlink."""
        return self._resolve(guest_path, cwd, follow_last=False)

    def guest(self, host_path: Path) -> str:
        """The guest's name of a host path below the disk.

        Raises:
            PermissionError: It does not lie on the disk.
        """
        try:
            relative = host_path.relative_to(self.root)
        except ValueError:
            raise PermissionError(errno.EPERM, "not on the machine's disk", str(host_path)) from None
        return str(PurePosixPath("/") / relative.as_posix())

    def _resolve(self, guest_path: str, cwd: str, *, follow_last: bool) -> Path:
        if "\0" in guest_path or "\0" in cwd:
            raise PermissionError(errno.EPERM, "a path has no NUL", guest_path)
        pending = self.absolute(guest_path, cwd).split("/")[1:]
        pending.reverse()
        done: list[str] = []
        links = 0
        root = str(self.root)
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if done:
                    done.pop()
                continue
            here = "/".join((root, *done, part))
            if not pending and not follow_last:
                done.append(part)
                break
            try:
                is_link = stat.S_ISLNK(os.lstat(here).st_mode)
            except OSError:
                is_link = False
            if not is_link:
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), guest_path)
            target = os.readlink(here)  # noqa: PTH115 - a Path would lose a trailing slash
            if target.startswith("/"):
                done = []
            pending.extend(reversed(target.split("/")))
        return Path("/".join((root, *done))) if done else self.root


def owner_of(guest_path: str) -> str:
    """Whose a file is, by where it lies: the disk keeps no owners of its own."""
    parts = guest_path.strip("/").split("/")
    if parts[0] == "Users" and len(parts) > 1 and parts[1] != "Shared":
        return parts[1]
    return "root"


def may_write(user: str, guest_path: str) -> bool:
    """Whether `user` (an administrator, or root) may write at a resolved guest path on a stock Mac."""
    if user == "root":
        return not guest_path.startswith("/System/")
    home = f"/Users/{user}"
    open_to_all = (
        "/private/tmp",
        "/private/var/tmp",
        "/private/var/folders",
        "/Users/Shared",
        "/Applications",
        "/Volumes",
    )
    return any(guest_path == folder or guest_path.startswith(folder + "/") for folder in (home, *open_to_all))
