"""A guest's sleep: put it to sleep, see whether it sleeps, read what its power log says, compare its clock with ours.

Sources: pmset(1) (`sleepnow`, `displaysleepnow`, `-g log`), caffeinate(8) (`-u`: as if somebody had moved the pointer).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import SysextError
from harness.formats.power import PowerEvent, parse_pmset_log
from harness.guest.errors import CommandFailed, CommandTimeout, ConnectionLost
from harness.guest.guest import Guest
from harness.waiting import Deadline

ANSWER = 4.0
"""Seconds within which a guest that is awake runs `true`; one that is not is asleep, or in a dark wake that ends at once."""


@dataclass(frozen=True)
class Clock:
    """A guest's clock beside ours.

    Attributes:
        guest: Seconds since 1970, as the guest has it (whole seconds).
        ahead: Seconds that the guest's clock is ahead of ours; exact to about a second.
    """

    guest: float
    ahead: float


def clock(guest: Guest, deadline: Deadline) -> Clock:
    """What time it is there.

    Raises:
        CommandFailed, ConnectionLost: It does not say.
    """
    before = time.time()
    text = guest.run(["date", "+%s"], deadline=deadline, quiet=True).text.strip()
    host = (before + time.time()) / 2
    try:
        there = float(text[:20])
    except ValueError:
        raise SysextError(f"`date +%s` on {guest.name} to print seconds", seen=repr(text[:80])) from None
    return Clock(there, round(there + 0.5 - host, 1))


def sleep_now(guest: Guest, deadline: Deadline) -> None:
    """Ask for system sleep. It may be gone before it has answered.

    Raises:
        CommandFailed: It refuses.
    """
    with contextlib.suppress(ConnectionLost, CommandTimeout):
        guest.run(["pmset", "sleepnow"], sudo=True, deadline=deadline.sub(15))


def display_sleep_now(guest: Guest, deadline: Deadline) -> None:
    """Put its display to sleep; the system stays awake.

    Raises:
        CommandFailed: It refuses.
    """
    guest.run(["pmset", "displaysleepnow"], sudo=True, deadline=deadline)


def declare_user_active(guest: Guest, deadline: Deadline, *, seconds: int = 2) -> None:
    """Wake its display from inside, as if somebody had touched it; keeps it awake for so long."""
    guest.run(["caffeinate", "-u", "-t", str(seconds)], deadline=deadline, check=False)


def answers(guest: Guest) -> bool:
    """Whether it runs a command within `ANSWER` seconds."""
    try:
        guest.run(["true"], deadline=Deadline(ANSWER), quiet=True)
    except (SysextError, OSError):
        return False
    return True


def power_log(guest: Guest, deadline: Deadline, *, since: Clock) -> Sequence[PowerEvent]:
    """What its power log has had since then (by the guest's own clock). Empty where `pmset -g log` does not work."""
    try:
        text = guest.run(["pmset", "-g", "log"], deadline=deadline, quiet=True).text
    except (CommandFailed, CommandTimeout):
        return []
    return [event for event in parse_pmset_log(text) if event.time.timestamp() >= since.guest - 1]
