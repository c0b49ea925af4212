"""Places for Macs on this host, counted across processes.

A slot is a file under an exclusive `flock`. The lock belongs to the open file, and the hypervisor's process inherits that
file: a slot stays taken as long as either the process that leased it or the VM itself lives, which is what the
two-VM limit of Apple's licence and kernel is about. The kernel frees it when both are gone, however they went.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import events
from harness.errors import Verdict, WaitTimeout
from harness.machines.base import NoFreeSlot
from harness.machines.processes import alive, birth
from harness.waiting import Deadline, wait_until


class Slot:
    """One held place. `release` gives it back (idempotent)."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    def fileno(self) -> int:
        """The descriptor to hand down to the VM's process.

        Raises:
            ValueError: It was released.
        """
        if self._descriptor is None:
            raise ValueError(f"{self.path.name} was released")
        return self._descriptor

    def release(self) -> None:
        """Close our end. Not `LOCK_UN`: that would also free it under a VM that still runs."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass(frozen=True)
class Holder:
    """Who holds a slot, as its file says."""

    slot: int
    pid: int
    alive: bool
    since: str
    machine: str

    def __str__(self) -> str:
        gone = "" if self.alive else " (gone; its VM still runs, `sysext gc` removes it)"
        what = f" with {self.machine}" if self.machine else ""
        return f"slot {self.slot}: held by pid {self.pid}{gone}{what} since {self.since}"


class Slots:
    """The places of one kind of Mac on this host.

    Args:
        folder: Where the lock files live; shared by all processes that must count together.
        pool: "tart" or "simulated": real and simulated Macs do not take each other's places.
        count: How many there are.
    """

    def __init__(self, folder: Path, pool: str, count: int) -> None:
        self.folder = folder
        self.pool = pool
        self.count = count

    def acquire(self, machine: str, deadline: Deadline, *, before_waiting: Callable[[], object] | None = None) -> Slot:
        """A slot for `machine`; waits for one up to the deadline.

        Args:
            machine: Its name, for others who wait.
            deadline: When to give up.
            before_waiting: Called once if none is free at once (to remove what dead processes left running).

        Raises:
            NoFreeSlot: None became free; names the holders.
        """
        slot = self._try(machine)
        if slot is not None:
            return slot
        if before_waiting is not None:
            before_waiting()
        events.event("slot-wait", pool=self.pool, slots=self.count, holders=[str(holder) for holder in self.holders()])
        try:
            found = wait_until(
                lambda: self._try(machine),
                what=f"a free VM slot of {self.count} ({self.pool})",
                deadline=deadline,
                interval=0.2,
                blame=Verdict.ENVIRONMENT_FAILURE,
            )
        except WaitTimeout as error:
            holders = "; ".join(str(holder) for holder in self.holders()) or "its holders wrote no name"
            raise NoFreeSlot(
                f"a free VM slot of {self.count} on this host",
                seen=f"no free VM slot within {error.elapsed:.0f} s: {holders}",
                hint="wait for those runs, `sysext gc` removes what dead ones left, or raise timeouts.slot",
            ) from error
        if found is None:  # pragma: no cover - wait_until returns only what holds
            raise NoFreeSlot(f"a free VM slot of {self.count} on this host")
        return found

    def holders(self) -> list[Holder]:
        """Who holds which slot now."""
        held = []
        for index in range(self.count):
            path = self._path(index)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                held.append(_read_holder(index, descriptor))
            finally:
                os.close(descriptor)
        return held

    @contextlib.contextmanager
    def starting(self, deadline: Deadline) -> Iterator[None]:
        """Only one VM of this host starts at a time: two simultaneous starts can race for the last place.

        Raises:
            WaitTimeout: Another start took all the time.
        """
        with exclusive(self.folder / f"{self.pool}-start.lock", deadline, what="another machine's start to be over"):
            yield

    def _path(self, index: int) -> Path:
        return self.folder / f"{self.pool}-{index}.slot"

    def _try(self, machine: str) -> Slot | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for index in range(self.count):
            path = self._path(index)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                continue
            since = datetime.now(UTC).isoformat(timespec="seconds")
            record = {"pid": os.getpid(), "birth": birth(os.getpid()), "since": since, "machine": machine}
            with contextlib.suppress(OSError):  # a full disk: the lock counts, the name is for people
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(record).encode(), 0)
            return Slot(path, descriptor)
        return None


def _read_holder(index: int, descriptor: int) -> Holder:
    try:
        record = json.loads(os.pread(descriptor, 4096, 0))
        pid = int(record["pid"])
        return Holder(index, pid, alive(pid, record.get("birth")), str(record["since"]), str(record["machine"]))
    except (ValueError, KeyError, TypeError):  # just taken, its name not yet written
        return Holder(index, 0, alive=True, since="just now", machine="")


@contextlib.contextmanager
def exclusive(path: Path, deadline: Deadline, *, what: str) -> Iterator[None]:
    """Hold an exclusive lock file, host-wide.

    Args:
        path: The file (made if absent, left there).
        deadline: When to give up.
        what: What is awaited, for the error.

    Raises:
        WaitTimeout: Somebody else held it all the time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        wait_until(
            lambda: _lock(descriptor),
            what=what,
            deadline=deadline,
            interval=0.05,
            hint=f"see who has {path} open",
            blame=Verdict.ENVIRONMENT_FAILURE,
        )
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
