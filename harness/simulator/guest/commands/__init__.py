"""macOS's own commands, by name. Generic POSIX commands are not here: they are the hull's."""

from __future__ import annotations

from harness.simulator.guest.commands.accounts import createhomedir, dscl, dseditgroup, sysadminctl, who
from harness.simulator.guest.commands.disk_images import hdiutil
from harness.simulator.guest.commands.extension_commands import launchctl, scutil, systemextensionsctl
from harness.simulator.guest.commands.files import ditto, xattr
from harness.simulator.guest.commands.installer import installer
from harness.simulator.guest.commands.log_command import log
from harness.simulator.guest.commands.management import mdmclient, profiles
from harness.simulator.guest.commands.network import curl, dig, dscacheutil, host, nslookup
from harness.simulator.guest.commands.packages import pkgbuild, pkgutil
from harness.simulator.guest.commands.power import caffeinate, pmset
from harness.simulator.guest.commands.property_lists import defaults, plist_buddy, plutil
from harness.simulator.guest.commands.scripting import osascript
from harness.simulator.guest.commands.session import open_command, screencapture, shutdown
from harness.simulator.guest.commands.signing import codesign, dwarfdump, spctl, stapler
from harness.simulator.guest.commands.sysdiagnose import sysdiagnose
from harness.simulator.guest.commands.system_info import (
    csrutil,
    fdesetup,
    quiet_setting,
    sw_vers,
    sysctl,
    system_profiler,
)
from harness.simulator.guest.core import GuestCommand

COMMANDS: dict[str, GuestCommand] = {
    "PlistBuddy": plist_buddy,
    "caffeinate": caffeinate,
    "codesign": codesign,
    "createhomedir": createhomedir,
    "csrutil": csrutil,
    "curl": curl,
    "defaults": defaults,
    "dig": dig,
    "ditto": ditto,
    "dscacheutil": dscacheutil,
    "dscl": dscl,
    "dseditgroup": dseditgroup,
    "dwarfdump": dwarfdump,
    "fdesetup": fdesetup,
    "halt": shutdown,
    "hdiutil": hdiutil,
    "host": host,
    "installer": installer,
    "launchctl": launchctl,
    "log": log,
    "mdmclient": mdmclient,
    "mdutil": quiet_setting,
    "nslookup": nslookup,
    "open": open_command,
    "osascript": osascript,
    "pkgbuild": pkgbuild,
    "pkgutil": pkgutil,
    "plutil": plutil,
    "pmset": pmset,
    "profiles": profiles,
    "reboot": shutdown,
    "screencapture": screencapture,
    "scutil": scutil,
    "shutdown": shutdown,
    "softwareupdate": quiet_setting,
    "spctl": spctl,
    "stapler": stapler,
    "sw_vers": sw_vers,
    "sysadminctl": sysadminctl,
    "sysctl": sysctl,
    "sysdiagnose": sysdiagnose,
    "system_profiler": system_profiler,
    "systemextensionsctl": systemextensionsctl,
    "systemsetup": quiet_setting,
    "tccutil": quiet_setting,
    "users": who,
    "who": who,
    "xattr": xattr,
}
