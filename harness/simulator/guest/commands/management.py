"""profiles and mdmclient: whether the Mac is enrolled in an MDM, and whether its client answers.

`mdmclient`'s output forms are those of posted runs, abridged; what it does in the stuck state (fault
`mdmclient-not-running-with-dns-proxy`) is assumed: it waits for a daemon that launchd does not start again.
"""

from __future__ import annotations

import asyncio

from harness.simulator.guest.commands.arguments import EX_USAGE, complain, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.guest.management import SERVER
from harness.simulator.interfaces import CommandIO


async def profiles(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`profiles status [-type enrollment]`, `list`, `show`, `validate`."""
    verb = argv[1].lstrip("-") if len(argv) > 1 else ""
    if verb == "status":
        if guest.management.enrolled:
            await say(io, f"Enrolled via DEP: No\nMDM enrollment: Yes (User Approved)\nMDM server: {SERVER}")
        else:
            await say(io, "Enrolled via DEP: No\nMDM enrollment: No")
        return 0
    if verb in ("list", "show", "L", "P"):
        if guest.management.enrolled:
            await say(io, "_computerlevel[1] attribute: profileIdentifier: com.example.mdm.enrollment\nThere are 1 configuration profiles installed")  # fmt: skip
        else:
            await say(io, f"There are no configuration profiles installed {'in the system domain' if io.root else f'for user {io.user!r}'}")  # fmt: skip
        return 0
    await complain(io, "usage: profiles <command> [<options> ...]")
    return 1


async def mdmclient(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`mdmclient QueryDeviceInformation`, `QuerySecurityInfo`, `QueryInstalledProfiles`, `QueryNetworkInformation` (root)."""
    verb = argv[1] if len(argv) > 1 else ""
    if not verb.startswith("Query"):
        await complain(io, "Usage: mdmclient <command>")
        return EX_USAGE
    if not io.root:
        await complain(io, "mdmclient must be run as root for this command")  # its wording is assumed
        return 1
    if not guest.management.enrolled:
        await say(io, "Not enrolled")
        return 0
    if not guest.management.wake():
        await asyncio.Event().wait()
    await say(
        io,
        f'Daemon response: {{\n    QueryResponses =     {{\n        BuildVersion = {guest.macos.build};\n        DeviceName = "{guest.machine_name}";\n'
        f'        IsSupervised = 0;\n        OSVersion = "{guest.macos.product}";\n        Model = "{guest.hardware}";\n    }};\n    Status = Acknowledged;\n}}',
    )
    return 0
