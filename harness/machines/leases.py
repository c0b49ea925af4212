"""Who owns which VM: one small file per machine, written before it is cloned and removed after it is deleted.

A lease whose owner is gone (pid and birth no longer match) is an order to delete: `reap` ends what the owner left running
and deletes the clone. A VM without one of our leases is never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from harness import events
from harness.errors import SysextError, UsageError
from harness.machines.base import Endpoint, MachineState, VncEndpoint
from harness.machines.processes import alive, birth, kill
from harness.machines.slots import exclusive
from harness.machines.tart_cli import TartCli
from harness.waiting import Deadline

SCHEMA = 1
REAP_SECONDS = 60.0
"""For one machine: kill, list, delete."""


@dataclass(frozen=True)
class Door:
    """How to reach a machine that was kept.

    The VNC password stands here, and nowhere else on disk: the hypervisor says it once, and whoever kept the machine is gone.
    A lease can be read by its owner only, and goes with the machine.

    Attributes:
        since: When it was kept, UTC, ISO 8601.
    """

    since: str
    user: str = ""
    ssh_host: str = ""
    ssh_port: int = 0
    vnc_host: str = ""
    vnc_port: int = 0
    vnc_password: str = field(default="", repr=False)

    @classmethod
    def of(cls, ssh: Endpoint | None, vnc: VncEndpoint | None, *, user: str) -> Door:
        """Of a machine that is being kept now."""
        return cls(
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            user=user,
            ssh_host=ssh.host if ssh is not None else "",
            ssh_port=ssh.port if ssh is not None else 0,
            vnc_host=vnc.host if vnc is not None else "",
            vnc_port=vnc.port if vnc is not None else 0,
            vnc_password=vnc.password if vnc is not None else "",
        )


@dataclass(frozen=True)
class Lease:
    """One machine's lease.

    Attributes:
        name: The VM's name; also the file's.
        provider: "tart" or "simulated".
        simulated: Whether it is a simulated Mac.
        executable: The `tart` that made it (absolute), which is the one to delete it with.
        home: Its TART_HOME, or None for Tart's default.
        image: What it is cloned from.
        owner: The pid that made it.
        owner_birth: See `processes.birth`.
        created: UTC, ISO 8601.
        run: The pid of its `tart run`, or None before the start.
        run_birth: Its birth.
        helper: The pid of a `tart` command under way for it (a clone can take long and must not outlive its owner).
        helper_birth: Its birth.
        kept: Kept on purpose: reaped only when asked for.
        folder: Its work folder (its case file's `machine/`), absolute; None in leases of before there was this field.
        door: How to reach it, if it was kept.
    """

    name: str
    provider: str
    simulated: bool
    executable: str
    home: str | None
    image: str
    owner: int
    owner_birth: str | None
    created: str
    run: int | None = None
    run_birth: str | None = None
    helper: int | None = None
    helper_birth: str | None = None
    kept: bool = False
    folder: str | None = None
    door: Door | None = None
    schema: int = SCHEMA

    @property
    def owner_alive(self) -> bool:
        """Whether the very process that made it is still there."""
        return alive(self.owner, self.owner_birth)


class LeaseFile:
    """The lease of a machine this process makes. Not thread-safe: one machine is driven by one thread at a time."""

    def __init__(self, path: Path, lease: Lease) -> None:
        self.path = path
        self.lease = lease

    def update(self, **changes: object) -> None:
        """Change fields and write the file anew (atomically).

        Raises:
            OSError: It could not be written; the file is as before.
        """
        self.lease = replace(self.lease, **changes)  # type: ignore[arg-type]
        _write(self.path, self.lease)

    def run(self, pid: int | None) -> None:
        """Record the pid of `tart run`."""
        self._note(run=pid, run_birth=birth(pid) if pid is not None else None)

    def helper(self, pid: int | None) -> None:
        """Record the pid of a command under way, or None when it is over."""
        self._note(helper=pid, helper_birth=birth(pid) if pid is not None else None)

    def _note(self, **changes: object) -> None:
        # A full disk must neither stop a machine from being used nor from being deleted: who reaps finds its processes by
        # asking Tart, too.
        try:
            self.update(**changes)
        except OSError as error:
            events.event("lease-not-written", machine=self.lease.name, reason=str(error))

    def remove(self) -> None:
        """The machine is gone."""
        self.path.unlink(missing_ok=True)


class Leases:
    """All leases of this host's user.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(
        self, *, name: str, provider: str, simulated: bool, image: str, cli: TartCli, folder: Path | None = None
    ) -> LeaseFile:
        """A new lease, owned by this process.

        Raises:
            FileExistsError: There is one of that name.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.json"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        lease = Lease(
            name=name,
            provider=provider,
            simulated=simulated,
            executable=str(cli.path()),
            home=str(cli.home) if cli.home is not None else None,
            image=image,
            owner=os.getpid(),
            owner_birth=birth(os.getpid()),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            folder=str(folder.absolute()) if folder is not None else None,
        )
        try:
            _write(path, lease)
        except BaseException:
            path.unlink(missing_ok=True)  # an empty one would stay for ever: it names nobody to reap it by
            raise
        return LeaseFile(path, lease)

    def all(self, provider: str | None = None) -> list[Lease]:
        """Every lease (of one provider, if named), by name. A file that is no lease (torn, foreign, of a later version) is left alone, with an event."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            lease = _read(path)
            if lease is not None and provider in (None, lease.provider):
                found.append(lease)
        return found

    def machines(self, provider: str | None = None) -> list[MachineState]:
        """Every leased machine (of one provider, if named) with its state, asked from the `tart` that made it."""
        states: dict[tuple[str, str | None], dict[str, str] | None] = {}
        result = []
        for lease in self.all(provider):
            key = (lease.executable, lease.home)
            if key not in states:
                states[key] = _states(lease)
            known = states[key]
            result.append(
                MachineState(
                    name=lease.name,
                    provider=lease.provider,
                    owner=lease.owner,
                    owner_alive=lease.owner_alive,
                    kept=lease.kept,
                    created=lease.created,
                    state="unknown" if known is None else known.get(lease.name, "absent"),
                    image=lease.image,
                )
            )
        return result

    def remove(self, name: str, *, seconds: float = 120.0) -> bool:
        """Remove one kept machine, whoever made it; False if there is no lease of that name.

        Raises:
            UsageError: It is in use: it was not kept, and its owner is there.
            EnvironmentFailure, WaitTimeout, OSError: It could not be removed; the lease stays.
        """
        deadline = Deadline.after(seconds)
        path = self.folder / f"{name}.json"
        with exclusive(self.folder / "reaper.lock", deadline, what="another reaper to be done"):
            lease = next((one for one in self.all() if one.name == name), None)
            if lease is None:
                return False
            if not lease.kept and lease.owner_alive:
                raise UsageError(
                    f"{name} to be a Mac that was kept",
                    seen=f"it is in use by process {lease.owner}",
                    hint="end that run first",
                )
            with events.step("delete kept machine", machine=name):
                _remove(lease, deadline)
            path.unlink(missing_ok=True)
        return True

    def reap(self, provider: str | None = None, *, include_kept: bool = False, seconds: float = 600.0) -> list[str]:
        """Remove every machine whose owner is gone.

        Args:
            provider: Only this one's; None for all.
            include_kept: Also those that were kept on purpose (whose owner is gone).
            seconds: For all of it.

        Returns:
            The names removed. What could not be removed keeps its lease and is an event `reap-failed` with the reason.
        """
        if not any(self._orphaned(lease, include_kept=include_kept) for lease in self.all(provider)):
            return []
        deadline = Deadline.after(seconds)
        removed = []
        with (
            events.step("reap", folder=str(self.folder)) as step,
            exclusive(self.folder / "reaper.lock", deadline, what="another reaper to be done"),
        ):
            for lease in self.all(provider):  # read again: the other reaper may have been quicker
                if not self._orphaned(lease, include_kept=include_kept):
                    continue
                try:
                    _remove(lease, deadline.sub(REAP_SECONDS))
                except (SysextError, OSError) as error:
                    events.event("reap-failed", machine=lease.name, error=str(error))
                    continue
                (self.folder / f"{lease.name}.json").unlink(missing_ok=True)
                removed.append(lease.name)
            step.note(removed=removed)
        return removed

    @staticmethod
    def _orphaned(lease: Lease, *, include_kept: bool) -> bool:
        return not lease.owner_alive and (include_kept or not lease.kept)


def _cli(lease: Lease) -> TartCli:
    return TartCli(lease.executable, home=Path(lease.home) if lease.home is not None else None)


def _states(lease: Lease) -> dict[str, str] | None:
    try:
        rows = _cli(lease).list(Deadline.after(30))
    except (SysextError, OSError):
        return None
    return {row.name: row.state for row in rows if row.local}


def _remove(lease: Lease, deadline: Deadline) -> None:
    if lease.helper is not None:
        kill(lease.helper, lease.helper_birth, deadline)
    if lease.run is not None:
        kill(lease.run, lease.run_birth, deadline)
    if lease.home is not None and not Path(lease.home).is_dir():
        return  # its whole TART_HOME is gone, and the VM with it
    cli = _cli(lease)
    state = {row.name: row.state for row in cli.list(deadline.sub(30)) if row.local}.get(lease.name)
    if state == "running":
        # The owner died between starting it and writing down its pid: Tart finds it by its lock.
        cli.stop(lease.name, deadline, grace=2)
    if state is not None:
        cli.delete(lease.name, deadline)


def _write(path: Path, lease: Lease) -> None:
    # A temporary name that `*.json` does not match, and no other process uses.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(lease), file, indent=1)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Lease | None:
    try:
        lease = msgspec.json.decode(path.read_bytes(), type=Lease)
        if lease.schema != SCHEMA or lease.name != path.stem:
            raise ValueError(f"not a lease of this version for {path.stem}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        with contextlib.suppress(OSError):
            if path.stat().st_size:  # an empty one is just being written
                events.event("lease-unreadable", path=str(path), error=str(error))
        return None
    return lease
