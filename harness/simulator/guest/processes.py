"""The guest's process table: what `ps`, `pgrep` and `kill` see."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness.simulator.interfaces import Process

SIGKILL = 9
SIGTERM = 15
IGNORED_SIGNALS = frozenset({0, 18, 19, 20, 21, 22, 23, 28, 29})
"""Signals that end nothing on their own: 0 (a probe), continue, window size, information and the like (macOS numbers)."""


@dataclass(eq=False)
class GuestProcess(Process):
    """A process inside the guest.

    Attributes:
        parent: Its parent's pid.
        started: When, aware.
        signal: The signal that ended it, or 0.
        on_end: Called once when it ends by a signal, with the signal; launchd uses it to start the job again.
    """

    parent: int = 1
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    signal: int = 0
    on_end: Callable[[int], None] | None = None

    @property
    def command_line(self) -> str:
        """As `ps -o command` shows it."""
        return " ".join([self.path, *self.arguments])


class ProcessTable:
    """All processes; pids are handed out upwards with gaps, as on a busy Mac, and wrap at 99999.

    Args:
        seed: Makes the pids of a machine repeatable.
    """

    def __init__(self, seed: str = "") -> None:
        self._random = random.Random(seed)  # noqa: S311 - pids, not secrets
        self._processes: dict[int, GuestProcess] = {}
        self.next_pid = 80

    def __iter__(self) -> Iterator[GuestProcess]:
        return iter(sorted(self._processes.values(), key=lambda process: process.pid))

    def __len__(self) -> int:
        return len(self._processes)

    def spawn(
        self,
        name: str,
        path: str,
        user: str = "root",
        arguments: tuple[str, ...] = (),
        *,
        parent: int = 1,
        pid: int | None = None,
        task: asyncio.Task[object] | None = None,
    ) -> GuestProcess:
        """Add a process; `pid` only for launchd and the kernel, which have fixed ones."""
        if pid is None:
            self.next_pid += self._random.choice((1, 1, 1, 2, 3))
            while self.next_pid in self._processes or self.next_pid > 99998:
                self.next_pid = 100 if self.next_pid > 99998 else self.next_pid + 1
            pid = self.next_pid
        process = GuestProcess(pid, name, path, user, arguments, task, parent=parent)
        self._processes[pid] = process
        return process

    def get(self, pid: int) -> GuestProcess | None:
        """The process of that pid, or None."""
        return self._processes.get(pid)

    def named(self, name: str) -> list[GuestProcess]:
        """All processes of exactly that name, oldest pid first."""
        return [process for process in self if process.name == name]

    def remove(self, pid: int) -> None:
        """It has ended by itself."""
        self._processes.pop(pid, None)

    def kill(self, pid: int, signal: int = SIGTERM) -> bool:
        """Send a signal; False when there is no such process. Its task is cancelled and launchd hears of it."""
        process = self._processes.get(pid)
        if process is None:
            return False
        if signal in IGNORED_SIGNALS or pid <= 1:
            return True
        process.signal = signal
        self._processes.pop(pid, None)
        if process.task is not None:
            process.task.cancel()
        if process.on_end is not None:
            process.on_end(signal)
        return True

    def clear(self) -> None:
        """Power-off: all tasks are cancelled, nothing is told."""
        for process in list(self._processes.values()):
            process.on_end = None
            if process.task is not None:
                process.task.cancel()
        self._processes.clear()
        self.next_pid = 80
