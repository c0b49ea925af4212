"""Other vendors' extensions that were on the Mac before ours (variation `others`).

They are entries like any other: in db.plist and the listing, with a launchd job and a row in Settings. No fault is theirs.
"""

from __future__ import annotations

import plistlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.simulator.guest.extension_database import ENABLED, Entry
from harness.simulator.guest.processes import GuestProcess

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

_MADE = "others"
ES_CLIENT = "Sentry Watch"
NAMES = ("Northwind Filter", "Quartz Proxy", "Ridgeline Monitor", "Saffron Inspector", "Tundra Firewall", "Lighthouse Probe",
         "Harbour Relay", "Indigo Tunnel", "Juniper Gate", "Kestrel Shield", "Lantern Guard", "Maple Sensor")  # fmt: skip


@dataclass(frozen=True)
class Other:
    """One of them."""

    name: str
    kind: str

    @property
    def identifier(self) -> str:
        """Of its extension."""
        return f"com.example.{self.name.split()[0].lower()}.extension"

    @property
    def team(self) -> str:
        """Its vendor's."""
        return f"{self.name.split()[0].upper():0<10}"[:10]


def wanted(guest: MacGuest) -> list[Other]:
    """Those that the variations ask for."""
    count, client = guest.settings.variations.others
    found = [Other(name, "network") for name in NAMES[:count]]
    if client:
        found.append(Other(ES_CLIENT, "endpoint security"))
    return found


def put_there(guest: MacGuest) -> None:
    """Once per machine, before sysextd looks at its record: the apps, and their enabled extensions."""
    if guest.state.get(_MADE):
        return
    others = wanted(guest)
    if not others:
        return
    guest.remember(_MADE, str(len(others)))
    for other in others:
        app = f"/Applications/{other.name}.app"
        inner = f"{app}/Contents/Library/SystemExtensions/{other.identifier}.systemextension"
        _bundle(guest, app, other.name, other.identifier.removesuffix(".extension"), "APPL")
        _bundle(guest, inner, "extension", other.identifier, "SYSX")
        entry = Entry(
            identifier=other.identifier,
            team=other.team,
            unique_id=str(uuid.uuid5(uuid.NAMESPACE_DNS, other.identifier)).upper(),
            state=ENABLED,
            short="4.2",
            build="420",
            kind=other.kind,
            name=other.name,
            app_path=app,
            app_identifier=other.identifier.removesuffix(".extension"),
            app_name=other.name,
            origin=inner,
            executable="extension",
            points=("com.apple.networkextension.filter-data",) if other.kind == "network" else (),
            foreign=True,
        )
        _bundle(guest, entry.staged, "extension", other.identifier, "SYSX")
        guest.sysextd.database.entries.append(entry)
    guest.sysextd.database.save()


def says_hello(guest: MacGuest, entry: Entry, process: GuestProcess) -> None:
    """What the Endpoint Security client of another vendor logs where it has no Full Disk Access: noise, nothing of ours."""
    if entry.kind != "endpoint security" or guest.settings.variations.others[1] != "es-without-access":
        return
    for text in (
        "Failed to open service: 0xe00002d8: Caller lacks TCC authorization for Full Disk Access",
        "Failed to create an Endpoint Security client: ES_NEW_CLIENT_RESULT_ERR_NOT_PERMITTED",
    ):
        guest.log.emit(process, text, subsystem="com.apple.EndpointSecurity", category="client", level="Error", sender="/usr/lib/libEndpointSecurity.dylib")  # fmt: skip


def _bundle(guest: MacGuest, path: str, name: str, identifier: str, kind: str) -> None:
    folder = guest.disk.path(f"{path}/Contents/MacOS")
    folder.mkdir(parents=True, exist_ok=True)
    info = {
        "CFBundleExecutable": name,
        "CFBundleIdentifier": identifier,
        "CFBundleName": name,
        "CFBundlePackageType": kind,
        "CFBundleShortVersionString": "4.2",
        "CFBundleVersion": "420",
    }
    (folder.parent / "Info.plist").write_bytes(plistlib.dumps(info))
    (folder / name).write_bytes(b"#!/usr/bin/false\n")
    (folder / name).chmod(0o755)
