"""sysdiagnose: everything macOS gathers about itself, bounded in time, with a named stand-in when it fails.

Interactive use prints a privacy notice and waits for Enter: a newline is fed. Flags as in sysdiagnose(1): `-u` no feedback on
the screen, `-b` do not show it in the Finder, `-q` skip footprint, `-f` folder, `-A` name of the archive.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import SysextError
from harness.evidence.collector import Partial, Plan, forget
from harness.evidence.logs import workplace
from harness.guest import CommandFailed, CommandTimeout, Guest
from harness.guest.trees import BoundedHeaders
from harness.waiting import Deadline

NAME = "sysdiagnose"
NEEDED = 512 << 20
"""Bytes that a sysdiagnose takes at least, while it is made: posted ones have 5 to 900 MB."""
MAX_ARCHIVE = 4 << 30


class SysdiagnoseFailed(SysextError):
    """No sysdiagnose came."""


def sysdiagnose(guest: Guest, *, seconds: float) -> Plan:
    """The plan for a sysdiagnose of at most `seconds`, the download included.

    One that hangs is ended, in the guest too.
    """

    def gather(target: Path, deadline: Deadline) -> str | None:
        folder = workplace(guest, deadline)
        try:
            _make(guest, folder, deadline)
            archive = _find(guest, folder, deadline)
            _fetch(guest, archive, target, deadline)
        finally:
            forget(guest, folder, Deadline.after(30))
        return _check(target, deadline)

    source = f"echo | sudo sysdiagnose -u -b -q -f DIR -A {NAME}"
    return Plan("sysdiagnose", "sysdiagnose.tar.gz", source, seconds, gather)


def _make(guest: Guest, folder: str, deadline: Deadline) -> None:
    free = guest.free_bytes(folder, deadline=deadline)
    # The download needs some time too: what is made at the last second cannot be had any more.
    limit = Deadline(max(1.0, deadline.remaining * 0.85))
    argv = ["sysdiagnose", "-u", "-b", "-q", "-f", folder, "-A", NAME]
    try:
        guest.run(argv, sudo=True, input=b"\n", deadline=limit, quiet=True)
    except CommandTimeout as error:
        # Its helpers are not children of ours: sysdiagnosed does the work, and would go on.
        guest.run(["pkill", "-x", "sysdiagnose"], sudo=True, deadline=Deadline.after(15), check=False, quiet=True)
        raise SysdiagnoseFailed("sysdiagnose to end", seen=f"it hung and was ended; {error.seen}") from error
    except CommandFailed as error:
        if free is not None and free < NEEDED:
            raise SysdiagnoseFailed(
                "a sysdiagnose", seen=f"disk full in the guest ({free:,} bytes were free); {error.seen}"
            ) from error
        raise


def _find(guest: Guest, folder: str, deadline: Deadline) -> str:
    result = guest.run(["ls", "-1", folder], sudo=True, deadline=deadline, quiet=True)
    names = [line for line in result.lines if line.startswith(NAME) and line.endswith((".tar.gz", ".tgz", ".tar"))]
    if not names:
        raise SysdiagnoseFailed(
            f"an archive {NAME}.tar.gz in {folder}",
            seen=f"sysdiagnose ended with 0, but there is only: {', '.join(result.lines[:10]) or 'nothing'}",
        )
    return f"{folder}/{names[0]}"


def _fetch(guest: Guest, archive: str, target: Path, deadline: Deadline) -> None:
    try:
        guest.get(archive, target, deadline=deadline, sudo=True, max_bytes=MAX_ARCHIVE)
    except SysextError as error:
        # The beginning of a tar.gz can still be read: better than nothing, and named as what it is.
        parts = [part for part in target.parent.glob(f"{target.name}.*.part") if part.stat().st_size]
        if not parts:
            raise
        parts[0].replace(target)
        raise Partial(f"only the first {target.stat().st_size:,} bytes could be copied: {error.seen}") from error


class _Timed:
    """A file that cannot be read once the time is up: a few bytes of archive can be any number of bytes to go through."""

    def __init__(self, file: BinaryIO, deadline: Deadline) -> None:
        self._file = file
        self._deadline = deadline

    def read(self, size: int) -> bytes:
        if self._deadline.expired:
            raise _TimeUp
        return self._file.read(size)


class _TimeUp(Exception):
    pass


def _timed(file: BinaryIO, deadline: Deadline) -> Any:
    return _Timed(file, deadline)  # a whole file to the type checker: tarfile only reads from it


def _check(target: Path, deadline: Deadline) -> str:
    """That it is an archive to its end, as far as there is time, without unpacking anything."""
    members = 0
    try:
        with (
            target.open("rb") as file,
            tarfile.open(fileobj=_timed(file, deadline), mode="r|*", tarinfo=BoundedHeaders) as archive,
        ):
            seen: Any = archive
            for _ in archive:
                members += 1
                seen.members.clear()  # it keeps all it has seen
    except _TimeUp:
        return f"whole as downloaded; no time to look further than its first {members} members"
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise Partial(f"the archive is damaged after {members} members: {error}") from error
    return f"{members} members"
