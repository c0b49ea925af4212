"""Whole folders to and from a guest, as a tar stream: permissions and links are kept, nothing leaves the target."""

from __future__ import annotations

import contextlib
import os
import posixpath
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import events
from harness.errors import HarnessError, UsageError
from harness.guest.errors import NoSuchFile
from harness.guest.files import TRANSFER_SECONDS, Files, absolute
from harness.guest.shell import in_this_context, unique
from harness.waiting import Deadline

PLAIN_TAR = {"COPYFILE_DISABLE": "1"}
"""Keeps a Mac's tar from adding a file `._NAME` for each file with extended attributes (copyfile(3)), which nearly all
have since macOS 13: nothing of the folder, and not what anybody who reads the copy expects."""
MAX_TREE = 4 << 30
MAX_MEMBERS = 200_000
MAX_HEADER = 1 << 20
"""Bytes of one member's long name or attributes: tarfile takes them into memory as a whole."""


class BoundedHeaders(tarfile.TarInfo):
    """Refuses members that are all header: what a hostile guest would fill our memory with."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.size > MAX_HEADER and self.type in (*_EXTENDED, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class Trees(Files):
    """The guest as a place to keep folders in."""

    def put_tree(self, local: Path, remote: str, *, deadline: Deadline | None = None, sudo: bool = False) -> None:
        """Copy a folder into the guest; it appears under its name once it is whole, replacing what is there.

        Raises:
            UsageError: `local` is no folder.
            NoSpace: The guest's disk has no room.
            CommandFailed: tar in the guest did not take it.
        """
        absolute(remote)
        deadline = deadline or Deadline.after(TRANSFER_SECONDS)
        if not local.is_dir():
            raise UsageError("a folder to copy into the guest", seen=f"{local} is none", hint="use put for a file")
        remote = remote.rstrip("/")
        incoming = f"{remote}.{unique('incoming-')}"
        size = _size(local)
        with events.step("put-tree", machine=self.name, local=str(local), remote=remote, bytes=size):
            self._check_room(posixpath.dirname(remote) or "/", size, deadline)
            self.run(["mkdir", incoming], deadline=deadline, sudo=sudo, quiet=True)
            try:
                flags = "-xpof" if sudo else "-xpf"  # -o: as root, files belong to root and not to the host's user
                with _tar_stream(local) as pieces:
                    self.run(
                        ["tar", flags, "-", "-C", incoming], deadline=deadline, sudo=sudo, input=pieces, quiet=True
                    )
                script = 'if [ -e "$2" ] || [ -L "$2" ]; then rm -rf "$2" || exit; fi; mv "$1" "$2"'
                self.script(script, incoming, remote, deadline=deadline, sudo=sudo, quiet=True)
            except BaseException:
                with contextlib.suppress(Exception):
                    self.run(["rm", "-rf", incoming], deadline=Deadline.after(20), sudo=sudo, check=False, quiet=True)
                raise

    def get_tree(
        self,
        remote: str,
        local: Path,
        *,
        deadline: Deadline | None = None,
        sudo: bool = False,
        max_bytes: int = MAX_TREE,
    ) -> None:
        """Copy a folder out of the guest. `local` must not exist; it appears once it is whole. What the guest sends is not
        trusted: members that would lead out of `local` (names or links), devices and too much data are refused.

        Raises:
            NoSuchFile: There is no such folder.
            CommandFailed: It is larger than `max_bytes`, or tar failed.
            HarnessError: The archive is not safe to unpack.
        """
        deadline = deadline or Deadline.after(TRANSFER_SECONDS)
        if local.exists():
            raise UsageError("a new place to copy a folder to", seen=f"{local} is there already", hint="")
        local.parent.mkdir(parents=True, exist_ok=True)
        with (
            events.step("get-tree", machine=self.name, remote=remote, local=str(local)),
            tempfile.TemporaryDirectory(prefix=f".{local.name}.", dir=local.parent) as folder,
        ):
            archive = Path(folder) / "tree.tar"
            self.get_tar(remote, archive, deadline=deadline, sudo=sudo, max_bytes=max_bytes)
            content = Path(folder) / "content"
            content.mkdir()
            _unpack(archive, content, max_bytes)
            content.replace(local)

    def get_tar(
        self, remote: str, local: Path, *, deadline: Deadline, sudo: bool = False, max_bytes: int = MAX_TREE
    ) -> None:
        """Copy a folder out of the guest as one tar file, whose members are relative to the folder.

        Raises:
            NoSuchFile, CommandFailed: As for `get_tree`.
        """
        absolute(remote)
        part = local.with_name(local.name + ".part")
        try:
            with part.open("wb") as target:
                result = self.run(
                    ["tar", "-cf", "-", "-C", remote, "."],
                    deadline=deadline,
                    sudo=sudo,
                    env=PLAIN_TAR,
                    stdout_to=target,
                    max_output=max_bytes,
                    check=False,
                    quiet=True,
                )
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if not result.ok:
            part.unlink()
            if b"could not chdir" in result.stderr or b"No such file" in result.stderr:
                raise NoSuchFile(f"{remote} on {self.name}", seen=result.error_text.strip()[:300], hint="")
            result.check(self.name)
        part.replace(local)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size + 1024 for path in folder.rglob("*"))


@contextlib.contextmanager
def _tar_stream(folder: Path) -> Iterator[Iterator[bytes]]:
    """The folder's content as pieces of a tar archive, made in a thread while they are sent."""
    readable, writable = os.pipe()
    failure: list[BaseException] = []

    def make() -> None:
        try:
            with (
                os.fdopen(writable, "wb") as sink,
                tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                tar.add(folder, arcname=".", filter=_nobody)
        except BrokenPipeError:
            pass  # the other end gave up, and says why
        except Exception as error:  # noqa: BLE001 - raised where the pieces are taken
            failure.append(error)

    thread: threading.Thread = in_this_context(make, "tar")

    # A file object, not the number: whoever feeds the guest may still be at it when this is over, and the number may by
    # then be another file's.
    source = os.fdopen(readable, "rb", buffering=0)

    def pieces() -> Iterator[bytes]:
        while piece := source.read(1 << 18):
            yield piece
        thread.join()
        if failure:
            raise failure[0]

    thread.start()
    try:
        yield pieces()
    finally:
        source.close()
        thread.join(10)


def _nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _unpack(archive: Path, into: Path, max_bytes: int) -> None:
    try:
        # "r:": what `tar -c` makes is not compressed; else a few bytes could become any number of them.
        with tarfile.open(archive, "r:", tarinfo=BoundedHeaders) as tar:
            total = 0
            for count, member in enumerate(tar):
                total += member.size
                if count > MAX_MEMBERS or total > max_bytes:
                    raise HarnessError(
                        f"a folder of at most {MAX_MEMBERS:,} files and {max_bytes:,} bytes", seen="more"
                    )
                if member.name in (".", "./"):
                    continue
                # "data" refuses absolute names, "..", links that lead out, devices; and drops owners and set-id bits.
                tar.extract(member, into, filter="data")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise HarnessError(
            "a folder from the guest that is safe to unpack", seen=f"{type(error).__name__}: {error}"
        ) from error
