"""Macs: made, booted, reached, deleted.

provider = provider_for(settings)
with provider.create(image=…, macos="15", purpose="approval", folder=…, deadline=…) as machine:
    machine.ssh_endpoint(deadline); machine.vnc_endpoint(deadline)
"""

from __future__ import annotations

from harness.config import Settings
from harness.machines.base import (
    End,
    Endpoint,
    EndReason,
    Machine,
    MachineState,
    NoFreeSlot,
    Provider,
    StartFailed,
    VncEndpoint,
    Wishes,
)
from harness.machines.cleanup import Terminated, guard_signals
from harness.machines.simulated import SimulatedProvider
from harness.machines.tart import TartMachine, TartProvider
from harness.machines.this_mac import ThisMac, ThisMacProvider

__all__ = [
    "End",
    "EndReason",
    "Endpoint",
    "Machine",
    "MachineState",
    "NoFreeSlot",
    "Provider",
    "SimulatedProvider",
    "StartFailed",
    "TartMachine",
    "TartProvider",
    "Terminated",
    "ThisMac",
    "ThisMacProvider",
    "VncEndpoint",
    "Wishes",
    "guard_signals",
    "provider_for",
]


def provider_for(settings: Settings) -> Provider:
    """The provider that the settings name. Starts nothing.

    Raises:
        UsageError: Faults were asked for, but the provider is a real one.
    """
    if settings.provider == "simulated":
        return SimulatedProvider(settings)
    if settings.provider == "this-mac":
        return ThisMacProvider(settings)
    return TartProvider(settings)
