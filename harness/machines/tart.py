"""Macs by Tart: clone, set, run, reach, stop, delete."""

from __future__ import annotations

import difflib
import os
import platform
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from harness import events
from harness.config import Settings
from harness.errors import EnvironmentFailure, SysextError, UsageError, Verdict, WaitTimeout
from harness.events import SECRETS
from harness.machines import cleanup
from harness.machines.address import AddressFinder, hint_for, probe, resolvers
from harness.machines.base import (
    NO_WISHES,
    End,
    Endpoint,
    EndReason,
    Machine,
    MachineState,
    Provider,
    StartFailed,
    VncEndpoint,
    Wishes,
)
from harness.machines.leases import Door, LeaseFile, Leases
from harness.machines.slots import Slot, Slots
from harness.machines.supervised import OUTPUT_LIMIT, SupervisedRun
from harness.machines.tart_cli import TartCli
from harness.machines.tart_output import VmRow, end_hint
from harness.waiting import Deadline, sleep, wait_until

START_SECONDS = 90.0
"""From `tart run` to its VNC line: a saved state may have to be restored first."""
STOP_GRACE = 10
"""Seconds that `tart stop` gives the process before it kills it."""
DELETE_SECONDS = 60.0
SUSPENDABLE = "--suspendable"
"""Needed at the first start already: the devices that it leaves out cannot be taken away later (openai/tart#803)."""


class TartMachine(Machine):
    """A Mac that `tart run` carries. Made by `TartProvider.create`."""

    def __init__(
        self,
        owner: TartProvider,
        *,
        name: str,
        image: str,
        macos: str,
        folder: Path,
        cli: TartCli,
        slot: Slot,
        lease: LeaseFile,
        suspendable: bool = False,
    ) -> None:
        super().__init__(
            name=name, image=image, macos=macos, provider=owner.name, simulated=owner.simulated, folder=folder
        )
        self._owner = owner
        self._arguments = [] if self.simulated else list(owner.settings.tart.run_arguments)
        self.suspendable = suspendable or SUSPENDABLE in self._arguments
        if self.suspendable and SUSPENDABLE not in self._arguments:
            self._arguments.append(SUSPENDABLE)
        self._cli = cli
        self._slot = slot
        self._lease = lease
        self._run: SupervisedRun | None = None
        self._cloned = False
        self._deleted = False
        self._lock = threading.RLock()
        self._ssh: Endpoint | None = None

    @property
    def run_output(self) -> Path:
        """See `Machine`."""
        return self.folder / "tart-run.txt"

    def masked_output(self) -> str:
        """See `Machine`."""
        try:
            with self.run_output.open("rb") as file:
                file.seek(max(0, self.run_output.stat().st_size - OUTPUT_LIMIT))
                return SECRETS.mask(file.read(OUTPUT_LIMIT).decode("utf-8", "replace"))
        except FileNotFoundError:
            return ""

    def running(self) -> bool:
        """See `Machine`."""
        return self._run is not None and self._run.running()

    def end(self) -> End | None:
        """See `Machine`."""
        return self._run.end() if self._run is not None else None

    # Coming up

    def clone(self, deadline: Deadline) -> None:
        """Clone the image and give the clone its hardware. The name was looked up before: `clone` overwrites silently.

        Raises:
            UsageError, EnvironmentFailure, WaitTimeout: See `TartCli.clone` and `TartCli.set`.
        """
        with events.step("clone", machine=self.name, image=self.image) as step:
            self._cloned = True
            self._cli.clone(self.image, self.name, deadline, on_pid=self._lease.helper)
            self.image_digest = self._owner.digest(self.image, deadline)
            step.note(image_digest=self.image_digest)
            cpu, memory_mb, display = self._owner.hardware()
            self._cli.set(self.name, cpu=cpu, memory_mb=memory_mb, display=display, deadline=deadline)

    def start(self, deadline: Deadline) -> None:
        """Power it on; returns once its VNC server is there (the guest then still boots).

        When Tart says that the host's VM limit is reached although we hold a slot, another program's VM or one just
        ended is counted: tried again a few times, each an event.

        Raises:
            StartFailed: It did not start.
        """
        with events.step("start", machine=self.name) as step:
            pauses = self._owner.start_pauses
            for attempt, pause in enumerate((*pauses, 0.0)):
                with self._owner.slots.starting(deadline):
                    end = self._start_once(deadline)
                if end is None:
                    step.note(attempts=attempt + 1)
                    return
                if end.reason is not EndReason.VM_LIMIT or attempt == len(pauses) or deadline.remaining < pause:
                    raise self._failed(f"{self.name} starts", end)
                events.event("start-retried", machine=self.name, reason=end.reason.value, text=end.text, pause=pause)
                sleep(pause)

    def _start_once(self, deadline: Deadline) -> End | None:
        argv = [str(self._cli.path()), "run", self.name, "--no-graphics", "--vnc-experimental"]
        argv += self._arguments
        run = SupervisedRun(
            argv, environment=self._cli.environment(), output=self.run_output, inherit=[self._slot.fileno()]
        )
        self._run = run
        self._lease.run(run.pid)
        try:
            wait_until(
                lambda: run.vnc() is not None or run.end() is not None,
                what=f"`tart run {self.name}` to announce its VNC server",
                deadline=deadline.sub(START_SECONDS),
                interval=0.02,
                blame=Verdict.ENVIRONMENT_FAILURE,
            )
        except WaitTimeout:
            # Tart's words may have changed; the Mac can be of use without a screen. `vnc_endpoint` will say so.
            if self._state(deadline.sub(30)) != "running":
                raise
            events.event("vnc-line-missing", machine=self.name, output=self.masked_output()[-2000:])
        return run.end()

    def _state(self, deadline: Deadline) -> str | None:
        return {row.name: row.state for row in self._cli.list(deadline) if row.local}.get(self.name)

    def ssh_endpoint(self, deadline: Deadline) -> Endpoint:
        """See `Machine`. An address that answered before is tried first."""
        if self._ssh is not None and self.running() and probe(self._ssh, min(1.0, deadline.remaining)) is None:
            return self._ssh
        with events.step("find guest", machine=self.name) as step:
            self._await_running(deadline)
            finder = AddressFinder(
                lambda resolver, limit: self._cli.ip(self.name, resolver, limit),
                lambda address, limit: self._owner.door(address, self._owner.settings.guest.ssh_port, limit),
                order=resolvers(self._arguments),
                again=self._owner.ask_again,
                patience=self._owner.resolver_patience,
            )
            try:
                look = wait_until(
                    lambda: finder.look(deadline),
                    lambda seen: seen.endpoint is not None,
                    what=f"the SSH server of {self.name} to answer",
                    deadline=deadline,
                    interval=0.1,
                    fail_if=lambda _: self._ended(),
                    blame=Verdict.ENVIRONMENT_FAILURE,
                )
            except WaitTimeout as error:
                error.hint = error.hint or hint_for(error.last)
                raise
            assert look.endpoint is not None
            step.note(endpoint=str(look.endpoint))
            self._ssh = look.endpoint
            return look.endpoint

    def vnc_endpoint(self, deadline: Deadline) -> VncEndpoint:
        """See `Machine`."""
        found = wait_until(
            lambda: self._run.vnc() if self._run is not None else None,
            what=f"the VNC server of {self.name}",
            deadline=deadline,
            interval=0.05,
            fail_if=lambda _: self._ended(),
            hint=f"see {self.run_output}: is there a line with vnc:// ?",
            blame=Verdict.ENVIRONMENT_FAILURE,
        )
        assert found is not None
        if (ended := self._ended()) is not None:
            raise ended
        who = self._owner.settings.guest
        return found.of_account(who.vnc_user, who.reveal())

    def _await_running(self, deadline: Deadline) -> None:
        """Tart's lease files name addresses of VMs that do not run: so not before this one does. The VNC line comes after
        the start of the VM, hence tells it without asking.
        """
        if self._run is None:
            raise EnvironmentFailure(f"{self.name} runs", seen="it was never started")
        if self._run.vnc() is not None and self._run.running():
            return
        wait_until(
            lambda: self._state(deadline.sub(30)),
            lambda state: state == "running",
            what=f"{self.name} to be running",
            deadline=deadline,
            interval=0.5,
            fail_if=lambda _: self._ended(),
            blame=Verdict.ENVIRONMENT_FAILURE,
        )

    def _ended(self) -> StartFailed | None:
        end = self.end()
        return None if end is None else self._failed(f"{self.name} keeps running", end)

    def _failed(self, expected: str, end: End) -> StartFailed:
        return StartFailed(expected, end=end, hint=end_hint(end), evidence=(self.run_output,))

    # Going down

    def stop(self, deadline: Deadline, graceful: Callable[[Deadline], None] | None = None) -> End:
        """See `Machine`."""
        run = self._run
        if run is None:
            return End(EndReason.UNKNOWN, None, "it was never started")
        with events.step("stop", machine=self.name, graceful=graceful is not None) as step:
            if run.running() and graceful is not None:
                spare = min(STOP_GRACE, 0.3 * deadline.remaining)  # for `tart stop`, should it come to that
                limit = min(self._owner.settings.timeouts.shutdown, deadline.remaining - spare)
                self._shut_down(run, deadline.sub(limit), graceful)
            if run.running():
                try:
                    self._cli.stop(self.name, deadline.sub(STOP_GRACE + 20), grace=STOP_GRACE)
                except SysextError as error:
                    events.event("tart-stop-failed", machine=self.name, error=str(error))
                run.wait(min(5.0, deadline.remaining))
            if run.running():
                events.event("vm-process-killed", machine=self.name, pid=run.pid)
                run.kill()
            end = run.end() or End(EndReason.UNKNOWN, None, "its process does not end, not even when killed")
            self._lease.run(None)
            step.note(reason=end.reason.value)
            return end

    def _shut_down(self, run: SupervisedRun, deadline: Deadline, graceful: Callable[[Deadline], None]) -> None:
        try:
            graceful(deadline)
        except Exception as error:  # noqa: BLE001 - whatever it was, the machine must go down
            # It may have worked all the same: a shutdown cuts the connection that asked for it.
            if not run.wait(min(5.0, deadline.remaining)):
                events.event("graceful-stop-failed", machine=self.name, error=str(error))
        else:
            if not run.wait(deadline.remaining):
                events.event("graceful-stop-slow", machine=self.name, seconds=deadline.seconds)

    def suspend(self, deadline: Deadline) -> End:
        """See `Machine`. Only with `--suspendable`: without it Tart loses the VM."""
        if not self.suspendable:
            raise UsageError(
                f"{self.name} can be suspended",
                seen="it was not started with --suspendable",
                hint="mark the scenario with `@pytest.mark.sysext_suspendable`, or add --suspendable to tart.run_arguments",
            )
        run = self._run
        if run is None or not run.running():
            raise EnvironmentFailure(f"{self.name} runs", seen=str(self.end() or "it was never started"))
        with events.step("suspend", machine=self.name):
            self._cli.suspend(self.name, deadline)
            end = wait_until(
                run.end,
                what=f"{self.name} to be suspended",
                deadline=deadline,
                blame=Verdict.ENVIRONMENT_FAILURE,
            )
            assert end is not None
            self._lease.run(None)
            if end.reason is not EndReason.SUSPENDED:
                raise self._failed(f"{self.name} is suspended", end)
            return end

    def resume(self, deadline: Deadline) -> None:
        """See `Machine`."""
        if self.running():
            return
        with events.step("resume", machine=self.name):
            state = self._state(deadline.sub(30))
            if state != "suspended":  # `tart run` would boot it, and nobody would notice
                raise EnvironmentFailure(
                    f"{self.name} to be suspended",
                    seen=f"Tart says it is {state or 'unknown'}",
                    hint="its saved state is gone: see the output of `tart run` in the case file",
                )
            self._ssh = None
            self.start(deadline)

    def delete(self) -> None:
        """See `Machine`."""
        with self._lock:
            if self._deleted:
                return
            with events.step("delete", machine=self.name):
                deadline = Deadline.after(DELETE_SECONDS)
                try:
                    self._power_off(deadline)
                    if self._cloned:
                        self._delete_clone(deadline)
                finally:
                    # Also of a clone that does not go: it does not run, and a VM that still did would hold the slot itself.
                    self._slot.release()
                self._lease.remove()
                self._deleted = True
                cleanup.forget(self)

    def _power_off(self, deadline: Deadline) -> None:
        run = self._run
        if run is None or not run.running():
            return
        run.interrupt()  # in order, so that the kernel's count of VMs goes down
        if not run.wait(min(STOP_GRACE, deadline.remaining)):
            events.event("vm-process-killed", machine=self.name, pid=run.pid)
            run.kill()
        run.end()

    def _delete_clone(self, deadline: Deadline) -> None:
        def gone() -> bool:
            try:
                self._cli.delete(self.name, deadline)
            except EnvironmentFailure as error:
                if "is running" in error.seen:  # a run we lost sight of: interrupted just as it was started
                    self._cli.stop(self.name, deadline, grace=2)
                raise
            return True

        try:
            # Just after its end Tart may still see the process's lock: "is running".
            wait_until(gone, what=f"{self.name} to be deleted", deadline=deadline.sub(15), transient=(SysextError,))
        except WaitTimeout as error:
            raise EnvironmentFailure(
                f"{self.name} is deleted",
                seen=error.seen,
                hint=f"`sysext gc` tries again; by hand: `{self._cli.executable} delete {self.name}`",
                evidence=(self.run_output,),
            ) from error

    def keep(self) -> str:
        """See `Machine`."""
        vnc = self._run.vnc() if self._run is not None else None
        self._lease.update(kept=True, door=Door.of(self._ssh, vnc, user=self._owner.settings.guest.user))
        self.kept = True
        cleanup.forget(self)
        events.event("machine-kept", machine=self.name)
        home = f"TART_HOME={self._cli.home} " if self._cli.home is not None else ""
        lines = [f"{self.name} ({self.image}) is kept and {'runs' if self.running() else 'is stopped'}."]
        if self._ssh is not None:
            user = self._owner.settings.guest.user
            lines.append(f"  ssh -p {self._ssh.port} {user}@{self._ssh.host}")
        if vnc is not None and self.running():
            lines.append(f"  vnc://{vnc.user}:{vnc.password}@{vnc.host}:{vnc.port}")
        lines.append(f"  {home}{self._cli.executable} stop {self.name}")
        lines.append(f"  {home}{self._cli.executable} delete {self.name}     (or: sysext gc --include-kept)")
        return "\n".join(lines)


class TartProvider(Provider):
    """Macs by Tart on this host."""

    name = "tart"
    simulated = False
    can_suspend = True
    start_pauses: tuple[float, ...] = (2.0, 5.0, 10.0)
    """Seconds between starts that the host's VM limit refused."""
    ask_again = 2.0
    resolver_patience = 20.0

    def __init__(self, settings: Settings) -> None:
        if settings.simulated.faults and not self.simulated:
            raise UsageError(
                "faults only with simulated Macs",
                seen=f"provider {self.name}, faults {', '.join(settings.simulated.faults)}",
                hint="add --sysext-provider simulated, or leave the faults out",
            )
        self.settings = settings
        self.cli = self._make_cli()
        self.slots = Slots(settings.cache_dir / "slots", self.name, self._slot_count())
        self.leases = Leases(settings.cache_dir / "leases")
        self._version: str | None = None
        self._digests: dict[str, str] = {}
        self._reaped = False

    # What the simulated provider does otherwise

    def _make_cli(self) -> TartCli:
        home = self.settings.tart.home
        if home is None and os.environ.get("TART_HOME"):
            home = Path(os.environ["TART_HOME"])
        return TartCli(self.settings.tart.executable, home=home.expanduser().absolute() if home is not None else None)

    def _slot_count(self) -> int:
        return self.settings.tart.slots

    def hardware(self) -> tuple[int, int, str]:
        """CPUs, memory in MB, display as `tart set` takes it."""
        tart = self.settings.tart
        return tart.cpu, tart.memory_mb, tart.display

    def door(self, address: str, port: int, deadline: Deadline) -> Endpoint:  # noqa: ARG002 - the simulated one asks
        """Where this host reaches a guest's port."""
        return Endpoint(address, port)

    def run_environment(self, purpose: str, given: Mapping[str, str]) -> dict[str, str]:  # noqa: ARG002 - the simulated one has some
        """Variables for all `tart` calls of one machine; `given` are those that `create` was given."""
        return dict(given)

    def wished(self, wishes: Wishes) -> dict[str, str]:
        """Variables that grant a scenario's wishes.

        Raises:
            UsageError: A wish that cannot be granted.
        """
        if wishes.variations:
            raise UsageError(
                "variations only with simulated Macs",
                seen=f"provider {self.name}, variations {', '.join(wishes.variations)}",
                hint="a real Mac is what it is: prepare the image so",
            )
        return {}

    def digest(self, image: str, deadline: Deadline) -> str:
        """The content address of an image that was just cloned, asked once per image; "" (told as an event) where there is
        none to be had: then only its name is known. Never raises.
        """
        if "@sha256:" in image:
            return image
        if image not in self._digests:
            try:
                self._digests[image] = self.cli.digest(image, deadline.sub(30)) if "/" in image else ""
            except (SysextError, OSError) as error:
                events.event("degraded", what=f"the digest of {image} is not known", reason=str(error))
                return ""
        return self._digests[image]

    # The promises of Provider

    @property
    def executable(self) -> str:
        """The `tart` it runs: a path, or a name to find in PATH."""
        return self.cli.executable

    def version(self) -> str:
        """`tart --version`, asked once."""
        if self._version is None:
            self._version = self.cli.version(Deadline.after(30))
        return self._version

    def describe(self) -> dict[str, str]:
        """See `Provider`."""
        try:
            executable, version = str(self.cli.path()), self.version()
        except SysextError as error:
            executable, version = self.cli.executable, f"not usable: {error.expected} {error.seen}".strip()
        return {
            "provider": self.name,
            "simulated": "yes" if self.simulated else "no",
            "tart": version,
            "executable": executable,
            "tart home": str(self.cli.home) if self.cli.home is not None else "default",
            "host": platform.platform(),
            "slots": str(self.slots.count),
        }

    def check(self, image: str) -> None:
        """See `Provider`. A remote image that is not here yet is pulled: no other verb tells whether it exists, and no
        scenario should wait for tens of gigabytes.
        """
        rows = self._known(image)
        if "/" in image and image not in {row.name for row in rows}:
            with events.step("pull image", image=image):
                self.cli.pull(image, Deadline.after(self.settings.timeouts.clone))

    def _known(self, image: str) -> list[VmRow]:
        self.cli.path()
        rows = self.cli.list(Deadline.after(60))
        if "/" in image:
            return rows
        names = sorted({row.name for row in rows if row.local})
        if image not in names:
            close = difflib.get_close_matches(image, names, n=3, cutoff=0.5)
            raise UsageError(
                f"an image called {image!r}",
                seen=f"no such local VM; here are {', '.join(names[:10]) or 'none'}",
                hint=f"did you mean {' or '.join(close)}?" if close else "a remote image is HOST/NAMESPACE/NAME:TAG",
            )
        state = next(row.state for row in rows if row.local and row.name == image)
        if state != "stopped":  # allowed, but not what was meant: a copy of a disk in use, or of a saved state
            events.event("image-not-stopped", image=image, state=state)
        return rows

    def create(
        self,
        *,
        image: str,
        macos: str,
        purpose: str,
        folder: Path,
        deadline: Deadline,
        environment: Mapping[str, str] | None = None,
        wishes: Wishes = NO_WISHES,
    ) -> Machine:
        """See `Provider`."""
        with events.step("create machine", provider=self.name, image=image, macos=macos, purpose=purpose) as step:
            wished = self.wished(wishes)
            rows = self._known(image)
            if not self._reaped:
                self.cli.require_tart(deadline, simulated=self.simulated)
                self._reaped = True
                self.reap()
            folder.mkdir(parents=True, exist_ok=True)
            timeouts = self.settings.timeouts
            name = _fresh_name(purpose, macos, {row.name for row in rows})
            step.note(machine=name)
            slot = self.slots.acquire(name, deadline.sub(timeouts.slot), before_waiting=self.reap)
            variables = {**self.run_environment(purpose, environment or {}), **wished}
            step.note(run_key=variables.get("SYSEXT_SIM_RUN_KEY", ""))
            cli = self.cli.derived(variables)
            try:
                lease = self.leases.open(
                    name=name,
                    provider=self.name,
                    simulated=self.simulated,
                    image=image,
                    cli=self.cli,
                    folder=folder,
                )
                machine = TartMachine(
                    self,
                    name=name,
                    image=image,
                    macos=macos,
                    folder=folder,
                    cli=cli,
                    slot=slot,
                    lease=lease,
                    suspendable=wishes.suspendable,
                )
                cleanup.register(machine)
            except BaseException:
                slot.release()
                raise
            try:
                machine.clone(deadline.sub(timeouts.clone))
                machine.start(deadline.sub(timeouts.boot))
            except BaseException:
                try:
                    machine.delete()
                except SysextError as error:  # the first error matters more; the lease stays for `reap`
                    events.event("delete-failed", machine=name, error=str(error))
                raise
            return machine

    def wait_for_slot(self, deadline: Deadline) -> None:
        """See `Provider`."""
        self.slots.acquire("", deadline, before_waiting=self.reap).release()

    def reap(self, *, include_kept: bool = False) -> list[str]:
        """See `Provider`."""
        return self.leases.reap(self.name, include_kept=include_kept)

    def machines(self) -> list[MachineState]:
        """See `Provider`."""
        return self.leases.machines(self.name)


def _fresh_name(purpose: str, macos: str, taken: set[str]) -> str:
    """A name that no VM has. Letters, digits and hyphens; short, for Tart puts a socket below it."""
    slug = re.sub(r"[^a-z0-9]+", "-", purpose.casefold()).strip("-")[:24].strip("-") or "mac"
    while True:
        name = f"sysext-{slug}-{re.sub(r'[^0-9A-Za-z]', '', macos)[:8]}-{secrets.token_hex(4)}"
        if name not in taken:
            return name
