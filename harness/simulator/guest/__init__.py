"""The operating system inside the simulated Mac."""

from __future__ import annotations

from harness.simulator.guest.core import MacGuest
from harness.simulator.guest.faults import GUEST_FAULTS
from harness.simulator.interfaces import Disk, Display, Faults, Journal, MacOSVersion, Power
from harness.simulator.settings import SimSettings

__all__ = ["GUEST_FAULTS", "MacGuest", "build_guest"]


def build_guest(
    *,
    macos: MacOSVersion,
    disk: Disk,
    display: Display,
    power: Power,
    settings: SimSettings,
    faults: Faults,
    journal: Journal,
    machine_name: str,
    sip: bool,
) -> MacGuest:
    """A guest that is switched off; `boot()` starts it. It is a `Guest`, a `GuestModel` and a `CommandRunner`."""
    from harness.simulator.guest.commands import COMMANDS

    return MacGuest(
        macos=macos,
        disk=disk,
        display=display,
        power=power,
        settings=settings,
        faults=faults,
        journal=journal,
        machine_name=machine_name,
        sip=sip,
        commands=COMMANDS,
    )
