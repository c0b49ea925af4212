"""The provider `this-mac`: the Mac is this very host, reached through its own Remote Login, seen on its own display.

For hosts that are thrown away after the run (a hosted runner). Nothing is cloned and nothing is deleted, so what a scenario
installs and approves stays: it refuses to begin unless the settings say that the host is disposable. Nor can it be restarted or
shut down: that would end this program too. Nobody has run it on a Mac yet.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from harness import events
from harness.config import Settings
from harness.errors import UsageError, Verdict
from harness.machines.address import probe
from harness.machines.base import (
    NO_WISHES,
    End,
    Endpoint,
    EndReason,
    Machine,
    MachineState,
    NoFreeSlot,
    Provider,
    VncEndpoint,
    Wishes,
)
from harness.machines.slots import Slot, Slots
from harness.waiting import Deadline, wait_until

NAME = "this-mac"
_HINT = "on a Mac: System Settings › General › Sharing › Remote Login, or `sudo systemsetup -setremotelogin on`"


class ThisMac(Machine):
    """This host. `own_display`: it is seen and clicked on its own display, there is no hypervisor's."""

    own_display = True

    def __init__(self, settings: Settings, *, macos: str, folder: Path, slot: Slot) -> None:
        super().__init__(name=NAME, image=NAME, macos=macos, provider=NAME, simulated=False, folder=folder)
        self._endpoint = Endpoint(settings.this_mac.host, settings.guest.ssh_port)
        self._slot: Slot | None = slot

    @property
    def run_output(self) -> Path:
        """An empty file: no hypervisor runs it."""
        path = self.folder / "run.log"
        path.touch()
        return path

    def masked_output(self) -> str:
        """Nothing: no hypervisor runs it."""
        return ""

    def ssh_endpoint(self, deadline: Deadline) -> Endpoint:
        """Where its own SSH server answers.

        Raises:
            WaitTimeout: It does not; blamed on the environment.
        """
        wait_until(
            lambda: probe(self._endpoint, min(3.0, max(0.1, deadline.remaining))),
            lambda trouble: trouble is None,
            what=f"this host's SSH server at {self._endpoint}",
            deadline=deadline,
            interval=0.5,
            hint=_HINT,
            blame=Verdict.ENVIRONMENT_FAILURE,
        )
        return self._endpoint

    def vnc_endpoint(self, deadline: Deadline) -> VncEndpoint:
        """There is none.

        Raises:
            UsageError: Always.
        """
        del deadline
        raise UsageError(
            "a hypervisor's VNC server", seen=f"{self.name} has none", hint="it is seen on its own display"
        )

    def running(self) -> bool:
        """Always: we run on it."""
        return True

    def end(self) -> End | None:
        """It has not ended as long as anybody can ask."""
        return None

    def stop(self, deadline: Deadline, graceful: Callable[[Deadline], None] | None = None) -> End:
        """Not done: it would stop us. `graceful` (a shutdown) is not called."""
        del deadline, graceful
        events.event("degraded", what=f"{self.name} is not stopped", reason="this program runs on it")
        return End(EndReason.STOPPED, None, "left running")

    def delete(self) -> None:
        """Nothing is deleted; the next run may use it."""
        if self._slot is not None:
            self._slot.release()
            self._slot = None

    def keep(self) -> str:
        """It stays in any case."""
        self.kept = True
        return f"{self.name} is this host; nothing of it was deleted"


class ThisMacProvider(Provider):
    """This host as the only Mac there is."""

    name = NAME
    simulated = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._slots = Slots(settings.cache_dir / "slots", NAME, 1)

    def describe(self) -> dict[str, str]:
        """Provider and host."""
        return {
            "provider": self.name,
            "host": socket.gethostname(),
            "disposable": str(self.settings.this_mac.disposable).lower(),
        }

    def check(self, image: str) -> None:
        """Whether this host may be used.

        Raises:
            UsageError: It is no Mac, or not said to be disposable.
        """
        del image
        platform = sys.platform
        if platform != "darwin":
            raise UsageError(
                "a Mac for the provider this-mac",
                seen=f"this host is {platform}",
                hint="--sysext-provider simulated runs anywhere; tart on Apple silicon",
            )
        if not self.settings.this_mac.disposable:
            raise UsageError(
                "a host that may be changed for good: apps are installed and extensions approved on it, and nothing is undone",
                seen="this_mac.disposable is false",
                hint="on a host that is thrown away afterwards, set this_mac.disposable = true "
                "(SYSEXT_THIS_MAC__DISPOSABLE=true); never on your own Mac",
            )

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
        """This host, for one scenario at a time.

        Raises:
            UsageError: See `check`; `NoFreeSlot`.
        """
        del environment  # there is no hypervisor's process to give it to
        self.check(image)
        if wishes.suspendable or wishes.variations:
            raise UsageError(
                "an ordinary Mac for the provider this-mac",
                seen="one is asked for that can be suspended" if wishes.suspendable else ", ".join(wishes.variations),
                hint="run that scenario with the provider tart (or simulated)",
            )
        folder.mkdir(parents=True, exist_ok=True)
        slot = self._slots.acquire(NAME, deadline.sub(self.settings.timeouts.slot))
        events.event("this-mac", purpose=purpose, pid=os.getpid(), reason="nothing is cloned, nothing will be deleted")
        return ThisMac(self.settings, macos=macos, folder=folder, slot=slot)

    def wait_for_slot(self, deadline: Deadline) -> None:
        """Wait until nobody else uses this host.

        Raises:
            NoFreeSlot: Somebody does.
        """
        self._slots.acquire(NAME, deadline).release()

    def reap(self, *, include_kept: bool = False) -> list[str]:
        """Nothing was made that could be left."""
        del include_kept
        return []

    def machines(self) -> list[MachineState]:
        """None: it is nobody's to list or remove."""
        return []


__all__ = ["NAME", "NoFreeSlot", "ThisMac", "ThisMacProvider"]
