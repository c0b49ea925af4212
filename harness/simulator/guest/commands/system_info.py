"""Commands that tell what Mac this is: sw_vers, sysctl, csrutil, profiles, fdesetup and the like."""

from __future__ import annotations

import re

from harness.simulator.guest.commands.arguments import EX_USAGE, complain, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.interfaces import CommandIO


async def sw_vers(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`sw_vers [--productName|--productVersion|--productVersionExtra|--buildVersion]`, also with one dash."""
    values = {
        "productname": "macOS",
        "productversion": guest.macos.product,
        "productversionextra": "",
        "buildversion": guest.macos.build,
    }
    if len(argv) > 1:
        wanted = argv[1].lstrip("-").lower()
        if not argv[1].startswith("-") or wanted not in values:
            await complain(
                io, "Usage: sw_vers [--help|--productName|--productVersion|--productVersionExtra|--buildVersion]"
            )
            return 1
        await say(io, values[wanted])
        return 0
    await say(
        io, f"ProductName:\t\tmacOS\nProductVersion:\t\t{guest.macos.product}\nBuildVersion:\t\t{guest.macos.build}"
    )
    return 0


def _sysctls(guest: MacGuest) -> dict[str, str]:
    boot = guest.clock.boot_time
    return {
        "kern.ostype": "Darwin",
        "kern.osrelease": guest.macos.darwin,
        "kern.osversion": guest.macos.build,
        "kern.osproductversion": guest.macos.product,
        "kern.hostname": f"{guest.machine_name}.local",
        "kern.bootsessionuuid": guest.clock.boot_uuid,
        "kern.boottime": f"{{ sec = {int(boot.timestamp())}, usec = {boot.microsecond} }} {boot.strftime('%a %b %e %H:%M:%S %Y')}",
        "kern.version": f"Darwin Kernel Version {guest.macos.darwin}: root:xnu/RELEASE_ARM64_VMAPPLE",
        "kern.hv_vmm_present": "1",
        "kern.maxproc": "4000",
        "hw.model": guest.hardware,
        "hw.ncpu": "4",
        "hw.memsize": "8589934592",
        "hw.machine": "arm64",
        "hw.optional.arm64": "1",
        "machdep.cpu.brand_string": "Apple M1 (Virtual)",
        "vm.loadavg": "{ 1.21 1.08 0.97 }",
    }


async def sysctl(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`sysctl [-n] name …`, `sysctl -a`, a prefix such as `kern`; read only."""
    known = _sysctls(guest)
    options = {letter for word in argv[1:] if word.startswith("-") for letter in word[1:]}
    names = [word for word in argv[1:] if not word.startswith("-")]
    if "a" in options:
        names = sorted(known)
    code = 0
    for name in names:
        name, equals, _value = name.partition("=")
        if equals:
            await complain(
                io, f"sysctl: oid '{name}' is read only" if io.root else f"sysctl: {name}: Operation not permitted"
            )
            code = 1
            continue
        found = [name] if name in known else [key for key in sorted(known) if key.startswith(f"{name}.")]
        if not found:
            await complain(io, f"sysctl: unknown oid '{name}'")
            code = 1
        for key in found:
            await say(io, known[key] if "n" in options else f"{key}: {known[key]}")
    return code


async def csrutil(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`csrutil status`; everything else needs Recovery."""
    verb = argv[1] if len(argv) > 1 else ""
    if verb == "status":
        await say(io, f"System Integrity Protection status: {'enabled' if guest.sip else 'disabled'}.")
        return 0
    if verb == "authenticated-root":
        await say(io, f"Authenticated Root status: {'enabled' if guest.sip else 'disabled'}")
        return 0
    if verb in ("enable", "disable", "clear"):
        await complain(io, f"csrutil: This tool needs to be executed from Recovery OS.\ncsrutil: {verb} failed")
        return 1
    await complain(
        io,
        "usage: csrutil <command>\nModify the System Integrity Protection configuration. All configuration changes apply to the entire machine.",
    )
    return EX_USAGE


async def fdesetup(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`fdesetup status`: FileVault is off in a disposable machine."""
    del guest
    if argv[1:2] == ["status"]:
        await say(io, "FileVault is Off.")
        return 0
    await complain(io, "Error: Unsupported command.")
    return 1


async def quiet_setting(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """systemsetup, softwareupdate, tccutil, mdutil: accepted when root, without effect on what is simulated."""
    del guest
    if not io.root and argv[0].rsplit("/", 1)[-1] == "systemsetup":
        await say(io, "You need administrator access to run this tool... exiting!")
        return 1
    return 0


async def system_profiler(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """The software and hardware overviews, as text."""
    wanted = [word for word in argv[1:] if re.fullmatch(r"SP\w+DataType", word)] or [
        "SPSoftwareDataType",
        "SPHardwareDataType",
    ]
    if "SPSoftwareDataType" in wanted:
        await say(io, "Software:\n\n    System Software Overview:\n\n"
                      f"      System Version: macOS {guest.macos.product} ({guest.macos.build})\n"
                      f"      Kernel Version: Darwin {guest.macos.darwin}\n"
                      f"      System Integrity Protection: {'Enabled' if guest.sip else 'Disabled'}\n")  # fmt: skip
    if "SPHardwareDataType" in wanted:
        await say(
            io, f"Hardware:\n\n    Hardware Overview:\n\n      Model Identifier: {guest.hardware}\n      Memory: 8 GB\n"
        )
    return 0
