"""Process groups: sshd makes each command the leader of its own, and `kill -- -GROUP` ends all of it.

A group is known by the pid of its leader. Tasks of one group inherit it through their context, as processes do by fork.
"""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field
from typing import Any

IGNORED = frozenset({0, 17, 18, 19, 20, 21, 22, 23, 28, 29})
"""Signals (macOS numbers) that end nothing: a probe, stop and continue, window size and the like."""

_CURRENT: contextvars.ContextVar[Group | None] = contextvars.ContextVar("process group", default=None)
_GROUPS: dict[int, Group] = {}


@dataclass(eq=False)
class Group:
    """One group. `signal` is the one that ended it, or 0."""

    leader: int
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    signal: int = 0

    @property
    def alive(self) -> bool:
        """Something of it still runs."""
        return any(not task.done() for task in self.tasks)

    def add(self, task: asyncio.Task[Any]) -> None:
        """`task` belongs to it until it ends; a group without tasks is forgotten."""
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not self.tasks and _GROUPS.get(self.leader) is self:
            del _GROUPS[self.leader]


def lead(pid: int, task: asyncio.Task[Any]) -> Group:
    """Make the current task the leader of a new group."""
    group = Group(pid)
    _GROUPS[pid] = group
    group.add(task)
    _CURRENT.set(group)
    return group


def current() -> Group | None:
    """The group of the current task, if it has one."""
    return _CURRENT.get()


def kill(leader: int, signal: int) -> bool:
    """Send a signal to a group; False when there is none."""
    group = _GROUPS.get(leader)
    if group is None or not group.alive:
        return False
    if signal not in IGNORED:
        group.signal = signal
        for task in tuple(group.tasks):
            task.cancel()
    return True
