"""Generic POSIX commands of the simulated Mac, in their BSD flavour, where the harness uses them.

`COMMANDS` maps names to commands; macOS's own (log, launchctl, systemextensionsctl, …) belong to `guest/`.
"""

from __future__ import annotations

from harness.simulator.interfaces import Command
from harness.simulator.posix import (
    archive,
    conditions,
    files,
    find,
    listing,
    privileges,
    processes,
    search,
    system,
    text,
)

COMMANDS: dict[str, Command] = {
    **text.COMMANDS,
    **conditions.COMMANDS,
    **files.COMMANDS,
    **listing.COMMANDS,
    **find.COMMANDS,
    **search.COMMANDS,
    **archive.COMMANDS,
    **processes.COMMANDS,
    **privileges.COMMANDS,
    **system.COMMANDS,
}
