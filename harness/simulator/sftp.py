# ruff: noqa: PTH108, PTH102, PTH106, PTH104, PTH105, PTH115, PTH116, PTH211 - names are bytes here, as SFTP has them
"""SFTP into the machine's disk: every name goes through `GuestDisk`, writes honour a full disk and the user's rights."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import asyncssh

from harness.simulator.disk import GuestDisk, may_write

ADMIN_UID, STAFF_GID = 501, 20


class DiskSFTPServer(asyncssh.SFTPServer):
    """One SFTP session of one user. Relative names begin at the user's home, as OpenSSH's server has it."""

    def __init__(self, chan: Any, disk: GuestDisk, user: str, home: str, writable: asyncio.Event) -> None:
        super().__init__(chan)
        self._writable = writable
        self._turn = asyncio.Lock()
        self._disk = disk
        self._user = user
        self._home = home

    # --- names

    def map_path(self, path: bytes) -> bytes:
        """The host's name, links followed."""
        return os.fsencode(self._disk.path(os.fsdecode(path), self._home))

    def reverse_map_path(self, path: bytes) -> bytes:
        """The guest's name of a host path."""
        root = os.fsencode(self._disk.root)
        return path[len(root) :] or b"/" if path.startswith(root) else path

    def _entry(self, path: bytes) -> bytes:
        return os.fsencode(self._disk.entry(os.fsdecode(path), self._home))

    def _for_writing(self, host: bytes) -> bytes:
        if not may_write(self._user, os.fsdecode(self.reverse_map_path(host))):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return host

    # --- files

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """Open for reading or writing at any offset."""
        host = self.map_path(path)
        flags = os.O_CLOEXEC
        if pflags & (asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC | asyncssh.FXF_APPEND):
            self._for_writing(host)
            flags |= os.O_RDWR if pflags & asyncssh.FXF_READ else os.O_WRONLY
        for bit, flag in (
            (asyncssh.FXF_APPEND, os.O_APPEND),
            (asyncssh.FXF_CREAT, os.O_CREAT),
            (asyncssh.FXF_TRUNC, os.O_TRUNC),
            (asyncssh.FXF_EXCL, os.O_EXCL),
        ):
            if pflags & bit:
                flags |= flag
        if pflags & asyncssh.FXF_CREAT and not os.path.lexists(host):
            self._disk.wrote(0)
        mode = 0o644 if attrs.permissions is None else attrs.permissions & 0o777
        descriptor = os.open(host, flags, mode)
        writing = flags & (os.O_WRONLY | os.O_RDWR)
        return os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "wb" if writing else "rb", buffering=0)

    async def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        """Read at an offset. One at a time and only while the client takes what it asked for: some ask for a whole
        file at once, which must not end up in memory.
        """
        async with self._turn:
            await self._writable.wait()
            return os.pread(file_obj.fileno(), size, offset)

    def write(self, file_obj: Any, offset: int, data: bytes) -> int:
        """Write at an offset.

        Raises:
            OSError: ENOSPC on a full disk.
        """
        self._disk.wrote(len(data))
        return os.pwrite(file_obj.fileno(), data, offset)

    # --- looking

    def _shown(self, result: os.stat_result) -> asyncssh.SFTPAttrs:
        attrs = asyncssh.SFTPAttrs.from_local(result)
        attrs.uid, attrs.gid = ADMIN_UID, STAFF_GID
        return attrs

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """What the name leads to."""
        return self._shown(os.stat(self.map_path(path)))

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """The name itself."""
        return self._shown(os.lstat(self._entry(path)))

    def fstat(self, file_obj: Any) -> asyncssh.SFTPAttrs:
        """An open file."""
        return self._shown(os.fstat(file_obj.fileno()))

    def readlink(self, path: bytes) -> bytes:
        """A link's text, as the guest wrote it."""
        return os.readlink(self._entry(path))

    def realpath(self, path: bytes) -> bytes:
        """The guest's canonical name."""
        return self.reverse_map_path(self.map_path(path))

    def format_user(self, uid: int | None) -> str:
        """Long names show the guest's user."""
        return "admin" if uid == ADMIN_UID else "root"

    def format_group(self, gid: int | None) -> str:
        """Long names show the guest's group."""
        return "staff" if gid == STAFF_GID else "wheel"

    # --- changing

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> Any:
        """Permissions, times, size; owners are not kept."""
        self._for_writing(self.map_path(path))
        attrs.uid = attrs.gid = None
        return super().setstat(path, attrs)

    def fsetstat(self, file_obj: Any, attrs: asyncssh.SFTPAttrs) -> Any:
        """As `setstat`."""
        attrs.uid = attrs.gid = None
        return super().fsetstat(file_obj, attrs)

    def remove(self, path: bytes) -> None:
        """Unlink."""
        host = self._for_writing(self._entry(path))
        size = os.lstat(host).st_size
        os.unlink(host)
        self._disk.freed(size)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Make a folder."""
        self._disk.wrote(0)
        os.mkdir(self._for_writing(self._entry(path)), 0o777 if attrs.permissions is None else attrs.permissions)

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        os.rmdir(self._for_writing(self._entry(path)))

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename, but never over something."""
        new = self._for_writing(self._entry(newpath))
        if os.path.lexists(new):
            raise asyncssh.SFTPFailure("File already exists")
        os.rename(self._for_writing(self._entry(oldpath)), new)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename, over what is there."""
        os.replace(self._for_writing(self._entry(oldpath)), self._for_writing(self._entry(newpath)))

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """A link with that very text; where it leads is judged when it is followed."""
        os.symlink(oldpath, self._for_writing(self._entry(newpath)))

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        """A hard link."""
        os.link(self._for_writing(self.map_path(oldpath)), self._for_writing(self._entry(newpath)))

    def statvfs(self, path: bytes) -> Any:
        """Free space; none on a full disk."""
        result = os.statvfs(self.map_path(path))
        if not self._disk.full:
            return result
        values = list(result)
        values[3] = values[4] = 0
        return os.statvfs_result(values)
