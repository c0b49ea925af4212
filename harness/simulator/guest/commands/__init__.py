"""macOS's own commands, by name. Generic POSIX commands are not here: they are the hull's."""

from __future__ import annotations

from harness.simulator.guest.core import GuestCommand

COMMANDS: dict[str, GuestCommand] = {}
