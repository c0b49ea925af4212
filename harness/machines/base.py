"""What a machine and a provider promise, whoever makes the Macs.

A machine is one disposable Mac: cloned, booted, used, deleted. It is always deleted: at the end of its `with` block, at
the end of the process, on Ctrl-C and SIGTERM (`guard_signals`), and after SIGKILL by the next `Provider.reap`.
"""

from __future__ import annotations

import dataclasses
import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from harness import events
from harness.errors import EnvironmentFailure, UsageError, Verdict
from harness.waiting import Deadline


@dataclass(frozen=True)
class Endpoint:
    """Where a guest's port can be reached from this host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class VncEndpoint:
    """The VNC server of one machine. The password stays in memory (of a kept machine: in its lease, too) and shows in no `repr`.

    Attributes:
        user: The account that the password is of, for Apple's Screen Sharing in the Mac; empty for a hypervisor's server.
    """

    host: str
    port: int
    password: str = field(repr=False)
    user: str = ""

    def of_account(self, user: str, password: str) -> VncEndpoint:
        """The same place, with the word of an account instead of the server's; itself if no user is given."""
        return dataclasses.replace(self, user=user, password=password) if user else self

    def __str__(self) -> str:
        return str(Endpoint(self.host, self.port))


class EndReason(enum.StrEnum):
    """Why a machine is no longer running."""

    POWER_OFF = "power-off"
    STOPPED = "stopped"
    PANIC = "panic"
    NETWORK_LOST = "network-lost"
    VM_LIMIT = "vm-limit"
    KEYCHAIN = "keychain"
    SUSPENDED = "suspended"
    KILLED = "killed"
    START_FAILED = "start-failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Wishes:
    """What a scenario asks of its Mac beyond the ordinary.

    Attributes:
        suspendable: Its state can be saved and gone on from (`Machine.suspend`). Not the default, for it has its price: such
            a Mac has no audio and no entropy device, and Mac-only input devices (Tart's `--suspendable`).
        variations: How a simulated Mac differs from the usual one, over the settings' `simulated.variations`; no other
            provider can grant them.
    """

    suspendable: bool = False
    variations: tuple[str, ...] = ()


NO_WISHES = Wishes()


@dataclass(frozen=True)
class End:
    """How a machine ended.

    Attributes:
        reason: What it means.
        exit_code: Of the hypervisor's process; negative for a signal. It alone tells little: power-off, panic, stop and
            network loss all end with 0.
        text: The lines that say so, secrets masked, at most 2000 characters.
    """

    reason: EndReason
    exit_code: int | None
    text: str = ""

    def __str__(self) -> str:
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        return f"{self.reason.value}{code}" + (f": {self.text}" if self.text else "")


class StartFailed(EnvironmentFailure):
    """The machine did not start, or ended while it was waited for. `end` says how."""

    def __init__(self, expected: str, *, end: End, hint: str = "", evidence: tuple[Path, ...] = ()) -> None:
        super().__init__(expected, seen=str(end), hint=hint, evidence=evidence)
        self.end = end


class NoFreeSlot(UsageError):
    """All of this host's places for Macs are taken: nothing was started (exit code 2), and nobody's product is at fault."""

    verdict = Verdict.ENVIRONMENT_FAILURE


@dataclass(frozen=True)
class MachineState:
    """One leased machine as `Provider.machines` lists it.

    Attributes:
        name: The VM's name.
        provider: Who made it.
        owner: The pid of the process that made it.
        owner_alive: Whether that very process is still there (not another with its number).
        kept: Whether it was kept on purpose.
        created: When, UTC, ISO 8601.
        state: `running`, `suspended`, `stopped`, `absent` (lease only), or `unknown` (the provider could not be asked).
        image: What it was cloned from.
    """

    name: str
    provider: str
    owner: int
    owner_alive: bool
    kept: bool
    created: str
    state: str
    image: str


class Machine(ABC):
    """One disposable Mac. Use it in a `with` block: leaving it deletes the machine unless it was kept."""

    def __init__(self, *, name: str, image: str, macos: str, provider: str, simulated: bool, folder: Path) -> None:
        self.name = name
        self.image = image
        self.macos = macos
        self.provider = provider
        self.simulated = simulated
        self.folder = folder
        """Its work folder on this host."""
        self.image_digest = ""
        """The content address of what it was cloned from (`HOST/NAME@sha256:…`), where the provider knows one."""
        self.bad: str | None = None
        """Why it must not be used any more, or None."""
        self.kept = False

    suspendable = False
    """Whether `suspend` can be used on it."""
    own_display = False
    """Whether it is the very host that we run on, seen on its own display, and not to be restarted."""

    @property
    @abstractmethod
    def run_output(self) -> Path:
        """The file that has the hypervisor's output; the VNC password in it is overwritten as soon as it was read."""

    @abstractmethod
    def masked_output(self) -> str:
        """The hypervisor's output for the evidence: secrets masked, the last 256 KiB."""

    @abstractmethod
    def ssh_endpoint(self, deadline: Deadline) -> Endpoint:
        """Where its SSH server answers; waits until it does (the server's banner was read, so the address is not stale).

        Raises:
            WaitTimeout: It did not answer in time (blamed on the environment); says what was tried last.
            StartFailed: The machine ended meanwhile.
        """

    @abstractmethod
    def vnc_endpoint(self, deadline: Deadline) -> VncEndpoint:
        """The hypervisor's VNC server; waits until it is announced.

        Raises:
            WaitTimeout, StartFailed: As for `ssh_endpoint`.
        """

    @abstractmethod
    def running(self) -> bool:
        """Whether the VM's process is alive. True for a hung guest too."""

    @abstractmethod
    def end(self) -> End | None:
        """How it ended; None while it runs (or before it was started)."""

    @abstractmethod
    def stop(self, deadline: Deadline, graceful: Callable[[Deadline], None] | None = None) -> End:
        """Stop it and say how it ended.

        Args:
            deadline: For all of it; past it the process is killed, so it is stopped when this returns.
            graceful: Asks the guest to shut down (`shutdown -h now`). Without it, or when it does not help (an event
                says so), the machine is stopped as by a power cut.
        """

    @abstractmethod
    def delete(self) -> None:
        """Stop it if need be and remove every trace: the VM, its lease, its slot. Does nothing the second time.

        Raises:
            EnvironmentFailure: It could not be removed; the lease stays, so that `reap` tries again.
        """

    @abstractmethod
    def keep(self) -> str:
        """Do not delete it at the end; returns how to reach it, for the terminal (it holds the VNC password)."""

    def suspend(self, deadline: Deadline) -> End:  # noqa: ARG002 - for those that can
        """Save its state and stop. Its SSH and VNC servers are gone then, and come back elsewhere after `resume`.

        Raises:
            UsageError: This machine cannot.
            EnvironmentFailure: It should, and did not.
        """
        raise UsageError(
            f"{self.name} can be suspended",
            seen=f"the provider {self.provider} cannot suspend it",
            hint="run the scenarios that suspend with the provider tart (or simulated)",
        )

    def resume(self, deadline: Deadline) -> None:  # noqa: ARG002 - for those that can
        """Go on from the saved state.

        Raises:
            UsageError: This machine cannot.
        """
        raise UsageError(
            f"{self.name} can be resumed",
            seen=f"the provider {self.provider} cannot resume it",
            hint="run the scenarios that suspend with the provider tart (or simulated)",
        )

    def mark_bad(self, reason: str) -> None:
        """This machine is broken: do not use it again. The first reason stays."""
        if self.bad is None:
            self.bad = reason
            events.event("machine-bad", machine=self.name, reason=reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.kept:
            self.delete()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} macOS {self.macos} from {self.image}>"


class Provider(ABC):
    """Where Macs come from."""

    name: str
    simulated: bool
    can_suspend = False
    """Whether it grants `Wishes.suspendable`."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """For headers and reports: provider, version, executable, host, and (simulated) delays and faults. Never raises
        for a missing executable: it says so.
        """

    @abstractmethod
    def check(self, image: str) -> None:
        """Whether a machine could be made from `image`, as far as can be told without making one.

        Raises:
            UsageError: No such executable, image, or fault.
        """

    @abstractmethod
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
        """A started machine (powered on; `ssh_endpoint` waits for the rest). On any failure nothing is left behind.

        Args:
            image: What to clone.
            macos: The version it is said to hold ("15").
            purpose: What for; becomes part of its name.
            folder: Its work folder on this host (made if absent).
            deadline: For all of it: slot, clone (with download) and start, each also limited by `settings.timeouts`.
            environment: More variables for the hypervisor's process.
            wishes: What the scenario needs of it.

        Raises:
            UsageError: A wish that this provider cannot grant; unknown image and the like; `NoFreeSlot`.
            StartFailed: It was cloned but did not start.
            EnvironmentFailure: Anything else that broke on this host.
        """

    @abstractmethod
    def wait_for_slot(self, deadline: Deadline) -> None:
        """Wait until one more machine may run on this host, without taking the place: somebody else still can.

        Raises:
            NoFreeSlot: None became free; names the holders.
        """

    @abstractmethod
    def reap(self, *, include_kept: bool = False) -> list[str]:
        """Remove this provider's machines whose processes are gone; the names removed. What could not be removed keeps its
        lease and is an event `reap-failed`.
        """

    @abstractmethod
    def machines(self) -> list[MachineState]:
        """This provider's leased machines on this host, by name."""
