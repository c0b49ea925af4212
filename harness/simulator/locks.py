"""The lock by which Tart knows that a machine runs: an fcntl write lock on its config.json, held by `tart run`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

# struct flock: Linux has type, whence, start, len, pid; macOS has start, len, pid, type, whence.
_MAC = sys.platform == "darwin"
_FLOCK = "@qqihh" if _MAC else "@hhqqi4x"


def _pack(kind: int) -> bytes:
    return struct.pack(_FLOCK, 0, 0, 0, kind, 0) if _MAC else struct.pack(_FLOCK, kind, 0, 0, 0, 0)


def holder(path: Path) -> int | None:
    """The pid of another process that holds the lock on `path`; None when nobody does, or there is no such file.

    Never asks about a file that this very process has locked: closing the second descriptor would drop the lock.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fields = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, _pack(fcntl.F_WRLCK)))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    kind, pid = (fields[3], fields[2]) if _MAC else (fields[0], fields[4])
    return None if kind == fcntl.F_UNLCK else int(pid)


def take(path: Path) -> int | None:
    """Take the lock; the descriptor that holds it (until closed, or the process ends), or None if it is taken."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an flock on a file or folder meanwhile (Tart locks TART_HOME so); waits for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
