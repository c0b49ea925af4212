"""No machine outlives its process: at exit and on SIGTERM or SIGHUP what is still there is deleted.

After SIGKILL nothing here runs; the leases are then what the next `reap` goes by.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from harness import events
from harness.machines.base import Machine

_lock = threading.Lock()
_live: dict[int, tuple[int, Machine]] = {}
_installed = False


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came. Like Ctrl-C, so that `with` blocks and fixtures end as they do then."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"ended by {signal.Signals(number).name}")


def register(machine: Machine) -> None:
    """Delete `machine` when this process ends, unless it is gone by then."""
    global _installed
    with _lock:
        _live[id(machine)] = (os.getpid(), machine)
        if not _installed:
            atexit.register(delete_all)
            _installed = True


def forget(machine: Machine) -> None:
    """It is gone, or kept."""
    with _lock:
        _live.pop(id(machine), None)


def delete_all() -> list[str]:
    """Delete every machine this process still has; the names of those that could not be (their leases stay)."""
    with _lock:  # a forked child has the list, but not the machines
        mine = [machine for pid, machine in _live.values() if pid == os.getpid()]
    failed = []
    for machine in mine:
        try:
            machine.delete()
        except Exception as error:  # noqa: BLE001 - the others must still go
            events.event("delete-failed", machine=machine.name, error=str(error))
            failed.append(machine.name)
    return failed


@contextlib.contextmanager
def guard_signals() -> Iterator[None]:
    """Inside the block SIGTERM and SIGHUP raise `Terminated` in the main thread, so that machines are deleted in the
    ordinary way. Elsewhere than in the main thread it does nothing (signals cannot be handled there).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, _frame: FrameType | None) -> None:
        # A second signal must not cut the deletion short that the first one began.
        signal.signal(number, signal.SIG_IGN)
        raise Terminated(number)

    before = {number: signal.signal(number, terminate) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
