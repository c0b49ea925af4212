"""Files to and from a guest: SFTP with many requests in flight, resumed after a break, checked by SHA-256.

On both sides a file arrives under another name and is renamed when it is whole. That name is made from what is sent, so
that a part left behind is only ever continued with the same content.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import posixpath
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import paramiko

from harness import events
from harness.errors import SysextError, UsageError
from harness.guest.connection import LOST
from harness.guest.errors import ChecksumMismatch, CommandFailed, ConnectionLost, NoSpace, NoSuchFile
from harness.guest.pipeline import REQUEST, read_pieces, write_pieces
from harness.guest.shell import Shell
from harness.waiting import Deadline

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), at most every quarter of a second and at the end."""
TRANSFER_SECONDS = 600.0
_BROKEN: tuple[type[Exception], ...] = (*LOST, ConnectionLost)
_WAYS = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EPIPE, errno.EBADF)
RESERVE = 32 << 20
"""Bytes that a transfer leaves free on the disk it writes to."""

if TYPE_CHECKING:
    from hashlib import _Hash as Hash


@dataclass(frozen=True)
class Transfer:
    """A file that was copied.

    Attributes:
        size: Of the whole file, in bytes.
        sha256: As computed while copying, the other side agrees; "" without `verify`.
        resumed_from: Bytes that were there already.
        breaks: How often the connection broke on the way.
    """

    size: int
    sha256: str
    seconds: float
    resumed_from: int
    breaks: int


class Files(Shell):
    """The guest as a place to keep files in."""

    def put(
        self,
        local: Path,
        remote: str,
        *,
        deadline: Deadline | None = None,
        progress: Progress | None = None,
        resume: bool = True,
        verify: bool = True,
        sudo: bool = False,
        mode: int | None = None,
    ) -> Transfer:
        """Copy a file into the guest.

        Args:
            local: The file here.
            remote: Its absolute path there; its folder must exist. Replaced in one step if it is there.
            deadline: None for ten minutes from now.
            progress: Told how far it is.
            resume: Continue a part that is there, and go on after a broken connection.
            verify: Compare the checksum there with the one here.
            sudo: Put it where only root may write.
            mode: Its permissions; None for those of `local`.

        Raises:
            UsageError: `local` is no file, or cannot be read.
            NoSpace: The guest's disk has no room.
            ChecksumMismatch: It arrived damaged, twice.
            ConnectionLost: The connection broke (with `resume`: could not be had again until the deadline).
        """
        absolute(remote)
        deadline = deadline or Deadline.after(TRANSFER_SECONDS)
        try:
            info = local.stat()
        except OSError as error:
            raise UsageError(
                "a file to copy into the guest", seen=f"{local}: {error.strerror}", hint="check the path"
            ) from error
        if not stat.S_ISREG(info.st_mode):
            raise UsageError("a file to copy into the guest", seen=f"{local} is none", hint="use put_tree for a folder")
        key = hashlib.sha256(f"{local.resolve()}\0{info.st_size}\0{info.st_mtime_ns}".encode()).hexdigest()[:12]
        part = f"/tmp/sysext-{key}.part" if sudo else f"{remote}.{key}.part"  # noqa: S108 - renamed or moved by sudo
        mode = stat.S_IMODE(info.st_mode) if mode is None else mode
        with events.step("put", machine=self.name, local=str(local), remote=remote, bytes=info.st_size) as step:
            self._check_room(posixpath.dirname(part), info.st_size, deadline)
            meter = _Meter(info.st_size, progress)
            transfer = self._until_whole(
                "put",
                remote,
                deadline,
                resume,
                lambda: self._upload(local, part, info.st_size, meter, deadline, resume=resume, verify=verify),
                lambda done: self._arrived(part, done, verify, deadline),
                lambda: self._remove(part, deadline),
            )
            with self._sftp(part, "written", deadline) as client:
                client.chmod(part, mode)
                if not sudo:
                    _rename(client, part, remote)
            if sudo:
                self.run(["mv", "-f", part, remote], sudo=True, deadline=deadline)
                self.run(["chown", "0:0", remote], sudo=True, deadline=deadline, check=False)
            step.note(seconds=round(transfer.seconds, 3), resumed_from=transfer.resumed_from, breaks=transfer.breaks)
        return transfer

    def get(
        self,
        remote: str,
        local: Path,
        *,
        deadline: Deadline | None = None,
        progress: Progress | None = None,
        resume: bool = True,
        verify: bool = True,
        sudo: bool = False,
        max_bytes: int | None = None,
    ) -> Transfer:
        """Copy a file out of the guest.

        Args:
            remote: Its absolute path there.
            local: Where to; replaced in one step if it is there.
            deadline: None for ten minutes from now.
            progress: Told how far it is.
            resume: Continue a part that is here, and go on after a broken connection.
            verify: Compare the checksum there with the one here.
            sudo: Read it as root (through `sudo tail`, for SFTP has the rights of the user).
            max_bytes: Refuse a larger one.

        Raises:
            NoSuchFile: It is not there.
            NoSpace: The host's disk has no room.
            ChecksumMismatch: It arrived damaged, twice.
            ConnectionLost: As for `put`.
        """
        absolute(remote)
        deadline = deadline or Deadline.after(TRANSFER_SECONDS)
        with events.step("get", machine=self.name, remote=remote, local=str(local)) as step:
            size, stamp = self._remote_size(remote, sudo=sudo, deadline=deadline)
            if max_bytes is not None and size > max_bytes:
                raise UsageError(f"at most {max_bytes:,} bytes in {remote}", seen=f"{size:,} bytes", hint="")
            local.parent.mkdir(parents=True, exist_ok=True)
            key = hashlib.sha256(f"{self.name}\0{remote}\0{size}\0{stamp}".encode()).hexdigest()[:12]
            part = local.with_name(f"{local.name}.{key}.part")
            free = shutil.disk_usage(local.parent).free
            if free < size + RESERVE:
                raise NoSpace(
                    f"room for {size:,} bytes in {local.parent}",
                    seen=f"{free:,} bytes free",
                    hint="free some space on the host",
                )
            meter = _Meter(size, progress)
            transfer = self._until_whole(
                "get",
                remote,
                deadline,
                resume,
                lambda: self._download(remote, part, size, meter, deadline, resume=resume, verify=verify, sudo=sudo),
                lambda done: self._same(remote, done, size, verify, sudo, deadline),
                lambda: part.unlink(missing_ok=True),
            )
            part.replace(local)
            step.note(
                bytes=size,
                seconds=round(transfer.seconds, 3),
                resumed_from=transfer.resumed_from,
                breaks=transfer.breaks,
            )
        return transfer

    def read_bytes(
        self, remote: str, *, sudo: bool = False, limit: int = 16 << 20, deadline: Deadline | None = None
    ) -> bytes:
        """The content of a small file.

        Raises:
            NoSuchFile: It is not there.
            CommandFailed: It is larger than `limit`, or may not be read.
        """
        absolute(remote)
        result = self.run(["cat", remote], deadline=deadline, sudo=sudo, check=False, max_output=limit, quiet=True)
        if not result.ok and b"No such file" in result.stderr:
            raise NoSuchFile(f"{remote} on {self.name}", seen="no such file", hint="")
        return result.check(self.name).stdout

    def exists(self, remote: str, *, sudo: bool = False, deadline: Deadline | None = None) -> bool:
        """Whether there is something of that path (a dangling link counts as nothing)."""
        absolute(remote)
        result = self.run(["test", "-e", remote], deadline=deadline, sudo=sudo, check=False, quiet=True)
        if result.exit_code > 1:
            result.check(self.name)
        return result.ok

    def listdir(self, remote: str, *, deadline: Deadline | None = None) -> list[str]:
        """The names in a folder, sorted.

        Raises:
            NoSuchFile: There is no such folder.
        """
        absolute(remote)
        deadline = deadline or Deadline.after(TRANSFER_SECONDS)
        with self._sftp(remote, "read", deadline) as client:
            return sorted(client.listdir(remote))

    def free_bytes(self, folder: str, *, deadline: Deadline | None = None) -> int | None:
        """Bytes free for us on the disk of a folder, as `df -Pk` tells; None if that cannot be read."""
        result = self.run(["df", "-Pk", folder], deadline=deadline, check=False, quiet=True)
        for line in reversed(result.lines):
            words = line.split()
            for index, word in enumerate(words):
                # … 1024-blocks Used Available Capacity Mounted-on: the name before them may hold blanks, so count back.
                if word.endswith("%") and index >= 3 and words[index - 1].isdigit():
                    return int(words[index - 1]) * 1024
        return None

    def _until_whole(
        self,
        verb: str,
        remote: str,
        deadline: Deadline,
        resume: bool,  # noqa: FBT001 - internal
        copy: Callable[[], tuple[int, str, int]],
        agree: Callable[[str], None],
        forget: Callable[[], None],
    ) -> Transfer:
        started = time.monotonic()
        breaks = damaged = 0
        while True:
            try:
                size, digest, offset = copy()
                agree(digest)
            except _BROKEN as error:
                if isinstance(error, OSError) and _is_of_host(error):
                    raise
                if isinstance(error, TimeoutError) or deadline.expired:
                    raise ConnectionLost(
                        f"{verb} {remote} on {self.name}",
                        seen=f"not done after {time.monotonic() - started:.1f} s ({breaks} breaks)",
                        hint="raise the deadline, or look at the host's load",
                    ) from error
                if not resume or self.closed or (self.connected and breaks >= 5):
                    raise ConnectionLost(
                        f"{verb} {remote} on {self.name}", seen=f"{type(error).__name__}: {error}", hint="try again"
                    ) from error
                breaks += 1
                events.event("transfer-broken", machine=self.name, verb=verb, remote=remote, reason=str(error))
                continue
            except ChecksumMismatch:
                damaged += 1
                forget()
                events.event("transfer-damaged", machine=self.name, verb=verb, remote=remote, times=damaged)
                if damaged > 1:
                    raise
                continue
            return Transfer(size, digest, time.monotonic() - started, offset, breaks)

    def _upload(
        self,
        local: Path,
        part: str,
        size: int,
        meter: _Meter,
        deadline: Deadline,
        *,
        resume: bool,
        verify: bool,
    ) -> tuple[int, str, int]:
        digest = hashlib.sha256()
        with local.open("rb") as source, self._sftp(part, "written", deadline) as client:
            offset = self._resumable(client, part, local, size, deadline) if resume else 0
            if verify:
                _hash_up_to(source, offset, digest)
            source.seek(offset)

            def pieces() -> Iterator[tuple[int, bytes]]:
                at = offset
                while piece := source.read(REQUEST):
                    yield at, piece
                    if verify:
                        digest.update(piece)
                    at += len(piece)
                    meter.at(min(at, size))
                if at != size:
                    raise UsageError(f"{local} not to change while it is copied", seen=f"{at} of {size} bytes", hint="")

            with client.open(part, "r+b" if offset else "wb") as target:
                write_pieces(client, target, pieces(), lambda: _arm(client, deadline))
        return size, digest.hexdigest() if verify else "", offset

    def _resumable(self, client: paramiko.SFTPClient, part: str, local: Path, size: int, deadline: Deadline) -> int:
        """How much of a part in the guest is the beginning of this file."""
        try:
            there = client.stat(part).st_size or 0
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno == errno.ENOENT:
                return 0
            raise
        if not 0 < there <= size:
            return 0
        digest = hashlib.sha256()
        with local.open("rb") as source:
            _hash_up_to(source, there, digest)
        if self.sha256(part, deadline=deadline) != digest.hexdigest():
            events.event("part-discarded", machine=self.name, remote=part, bytes=there)
            return 0
        events.event("resumed", machine=self.name, remote=part, bytes=there)
        return there

    def _download(
        self,
        remote: str,
        part: Path,
        size: int,
        meter: _Meter,
        deadline: Deadline,
        *,
        resume: bool,
        verify: bool,
        sudo: bool,
    ) -> tuple[int, str, int]:
        digest = hashlib.sha256()
        offset = 0
        if resume and part.is_file() and 0 < part.stat().st_size <= size:
            there = part.stat().st_size
            with part.open("rb") as begun:
                _hash_up_to(begun, there, digest)
            if self.sha256(remote, first=there, sudo=sudo, deadline=deadline) == digest.hexdigest():
                offset = there
                events.event("resumed", machine=self.name, remote=remote, bytes=offset)
            else:
                events.event("part-discarded", machine=self.name, remote=remote, bytes=there)
                digest = hashlib.sha256()
        with _host_errors(part), part.open("r+b" if offset else "wb") as target:
            target.seek(offset)
            writer = _Writer(target, digest if verify else None, meter, offset)
            if sudo:
                tail = ["tail", "-c", f"+{offset + 1}", remote]
                self.run(tail, sudo=True, deadline=deadline, stdout_to=writer, max_output=size + (1 << 20), quiet=True)
            elif offset < size:
                with self._sftp(remote, "read", deadline) as client, client.open(remote, "rb") as source:
                    read_pieces(client, source, offset, size, writer.write, lambda: _arm(client, deadline))
            if writer.done < size:
                raise ConnectionLost(
                    f"{size:,} bytes of {remote} on {self.name}",
                    seen=f"{writer.done:,} bytes",
                    hint="was it cut meanwhile?",
                )
            target.truncate()
        return writer.done, digest.hexdigest() if verify else "", offset

    def sha256(
        self, remote: str, *, first: int | None = None, sudo: bool = False, deadline: Deadline | None = None
    ) -> str:
        """The SHA-256 of a file in the guest (or of its first bytes), by `shasum -a 256`, which every macOS has.

        Raises:
            CommandFailed: It cannot be read.
        """
        deadline = deadline or Deadline.after(TRANSFER_SECONDS)
        if first is None:
            result = self.run(["shasum", "-a", "256", remote], sudo=sudo, deadline=deadline, quiet=True)
        else:
            text = 'head -c "$1" "$2" | shasum -a 256'
            result = self.script(text, str(first), remote, sudo=sudo, deadline=deadline, quiet=True)
        word = result.text.lstrip("\\").split(maxsplit=1)[0] if result.text.strip() else ""  # "\" marks an escaped name
        if len(word) != 64:
            raise CommandFailed(f"a SHA-256 of {remote} on {self.name}", seen=repr(result.text[:200]), result=result)
        return word

    def _arrived(self, part: str, digest: str, verify: bool, deadline: Deadline) -> None:  # noqa: FBT001
        if not verify:
            return
        there = self.sha256(part, deadline=deadline)
        if there != digest:
            raise ChecksumMismatch(
                f"{part} on {self.name} to have SHA-256 {digest}",
                seen=there,
                hint="the guest's disk or network damages data",
            )

    def _same(self, remote: str, digest: str, size: int, verify: bool, sudo: bool, deadline: Deadline) -> None:  # noqa: FBT001
        if not verify:
            return
        there = self.sha256(remote, first=size, sudo=sudo, deadline=deadline)
        if there != digest:
            raise ChecksumMismatch(
                f"our copy of {remote} of {self.name} to have SHA-256 {there}",
                seen=digest,
                hint="was it written to meanwhile? then copy it first, or use verify=False",
            )

    def _remote_size(self, remote: str, *, sudo: bool, deadline: Deadline) -> tuple[int, float]:
        if sudo:
            script = 'test -e "$1" || exit 3; wc -c < "$1"'
            result = self.script(script, remote, sudo=True, deadline=deadline, check=False, quiet=True)
            if result.exit_code == 3:
                raise NoSuchFile(f"{remote} on {self.name}", seen="no such file", hint="")
            return int(result.check(self.name).text.split()[0]), 0.0
        with self._sftp(remote, "read", deadline) as client:
            info = client.stat(remote)
        if info.st_mode is not None and stat.S_ISDIR(info.st_mode):
            raise UsageError("a file to copy out of the guest", seen=f"{remote} is a folder", hint="use get_tree")
        return info.st_size or 0, float(info.st_mtime or 0)

    def _check_room(self, folder: str, size: int, deadline: Deadline) -> None:
        free = self.free_bytes(folder or "/", deadline=deadline)
        if free is not None and free < size + (RESERVE if size > RESERVE else 0):
            raise NoSpace(
                f"room for {size:,} bytes in {folder} on {self.name}",
                seen=f"{free:,} bytes free",
                hint="give the image a larger disk",
            )

    def _remove(self, remote: str, deadline: Deadline) -> None:
        self.run(["rm", "-f", remote], deadline=deadline, check=False, quiet=True)

    @contextlib.contextmanager
    def _sftp(self, remote: str, verb: str, deadline: Deadline) -> Iterator[paramiko.SFTPClient]:
        """An SFTP session of its own: no answer to a broken transfer can be taken for one to the next. SFTP's errors become
        ours; those of a broken connection go through as they are.
        """
        connection, channel = self.session(deadline)
        try:
            channel.settimeout(max(0.5, deadline.remaining))
            try:
                connection.request(channel, "subsystem", "sftp", deadline)
                client = paramiko.SFTPClient(channel)
            except LOST as error:
                raise ConnectionLost(
                    f"an SFTP session on {self.name}",
                    seen=f"{type(error).__name__}: {error}",
                    hint="is the sftp subsystem on in the guest's sshd?",
                ) from error
            yield client
        except (TimeoutError, EOFError, paramiko.SSHException, ConnectionError):
            raise
        except OSError as error:
            if not connection.alive or channel.closed or error.filename is not None:
                raise
            raise self._meaning(error, remote, verb, deadline) from error
        finally:
            connection.release(channel)

    def _meaning(self, error: OSError, remote: str, verb: str, deadline: Deadline) -> SysextError:
        what = f"{remote} on {self.name} to be {verb}"
        if error.errno == errno.ENOENT:
            return NoSuchFile(what, seen="no such file or folder", hint="")
        if error.errno == errno.EACCES:
            return CommandFailed(what, seen="permission denied", hint="use sudo=True")
        # SFTP 3 has no code for a full disk: it is the general "Failure" (draft-ietf-secsh-filexfer-02, §7).
        free = self.free_bytes(posixpath.dirname(remote), deadline=deadline) if verb == "written" else None
        if (free is not None and free < RESERVE) or "space" in str(error).lower():
            return NoSpace(
                what,
                seen=f"{error}; {free} bytes free",
                hint="the guest's disk is full: give the image a larger one",
            )
        return CommandFailed(what, seen=str(error), hint="")


class _Meter:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._next = 0.0

    def at(self, done: int) -> None:
        """Tell, if it is time to."""
        if self._progress is None:
            return
        now = time.monotonic()
        if now >= self._next or done == self._total:
            self._next = now + 0.25
            self._progress(done, self._total)


class _Writer:
    """A file that hashes and counts what is written to it."""

    def __init__(self, target: BinaryIO, digest: Hash | None, meter: _Meter, done: int) -> None:
        self._write = target.write
        self._digest = digest
        self._meter = meter
        self.done = done

    def write(self, piece: bytes) -> int:
        """Write all of it."""
        self._write(piece)
        if self._digest is not None:
            self._digest.update(piece)
        self.done += len(piece)
        self._meter.at(self.done)
        return len(piece)


@contextlib.contextmanager
def _host_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except SysextError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"{path} to be written", seen=error.strerror or "", hint="free some space on the host"
            ) from error
        raise


def _is_of_host(error: OSError) -> bool:
    """Whether it is the host's own file that made trouble, not the network; paramiko's own errors carry no number."""
    return (
        error.errno is not None and not isinstance(error, ConnectionError | TimeoutError) and error.errno not in _WAYS
    )


def _arm(client: paramiko.SFTPClient, deadline: Deadline) -> None:
    channel = client.get_channel()
    if deadline.expired:
        raise TimeoutError("no time left for the transfer")
    if channel is not None:
        channel.settimeout(max(0.1, deadline.remaining))


def _rename(client: paramiko.SFTPClient, part: str, remote: str) -> None:
    try:
        client.posix_rename(part, remote)
    except OSError:
        # A server without posix-rename@openssh.com: SFTP 3's own rename does not replace.
        with contextlib.suppress(OSError):
            client.remove(remote)
        client.rename(part, remote)


def _hash_up_to(source: BinaryIO, count: int, digest: Hash) -> None:
    while count > 0 and (piece := source.read(min(count, 1 << 20))):
        digest.update(piece)
        count -= len(piece)


def absolute(remote: str) -> str:
    """The path itself.

    Raises:
        UsageError: It is not absolute.
    """
    if not remote.startswith("/") or "\0" in remote:
        raise UsageError("an absolute path in the guest", seen=repr(remote), hint="begin it with /")
    return remote
