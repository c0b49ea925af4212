"""Telling whether a process is still the same one: a pid alone is reused."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil

from harness.waiting import Deadline, wait_until

_LINUX: bool = sys.platform.startswith("linux")


def birth(pid: int) -> str | None:
    """What tells this process from a later one with the same pid; None if there is none (a zombie is none).

    On Linux it is the kernel's start tick and the boot id, since `create_time` is computed from a clock that can be set;
    elsewhere the start time that the kernel recorded.
    """
    if pid <= 0:
        return None
    try:
        if _LINUX:
            # The name in field 2 may hold blanks and brackets, so count from its end (proc(5)).
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if fields[0] in "ZX":
                return None
            return f"{Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii').strip()}:{fields[19]}"
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.3f}"
    except (OSError, IndexError, psutil.Error):
        return None


def alive(pid: int, born: str | None) -> bool:
    """Whether the process that had this pid and birth is still there."""
    return born is not None and birth(pid) == born


def kill(pid: int, born: str | None, deadline: Deadline) -> bool:
    """End a process that is not our child, with its group if it leads one; True if it was there.

    SIGTERM first; SIGKILL after 3 s or at the deadline. Returns when it is gone.

    Raises:
        WaitTimeout: It did not even go at SIGKILL within 5 s.
    """
    if not alive(pid, born):
        return False
    for number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
        limit = Deadline(min(seconds, deadline.remaining) if number == signal.SIGTERM else seconds)
        last_try = number == signal.SIGKILL
        if _gone(pid, born, limit, must=last_try):
            break
    return True


def _gone(pid: int, born: str | None, deadline: Deadline, *, must: bool) -> bool:
    if must:
        wait_until(lambda: not alive(pid, born), what=f"process {pid} to end", deadline=deadline, interval=0.02)
        return True
    with contextlib.suppress(Exception):
        wait_until(lambda: not alive(pid, born), what=f"process {pid} to end", deadline=deadline, interval=0.02)
    return not alive(pid, born)
