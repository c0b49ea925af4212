"""sysextd's record: `/Library/SystemExtensions/db.plist` and the staged copies beside it.

Keys and their forms are those of posted databases. The file is the truth: sysextd reads it whenever it starts.
"""

from __future__ import annotations

import os
import plistlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.simulator.guest.installed import CATEGORIES, Slice
from harness.simulator.interfaces import Disk

FOLDER = "/Library/SystemExtensions"
DATABASE = f"{FOLDER}/db.plist"
WAITING = "activated_waiting_for_user"
ENABLING = "activated_enabling"
ENABLED = "activated_enabled"
DISABLED = "activated_disabled"
LEFTOVER = "terminated_waiting_to_uninstall_on_reboot"
GONE = frozenset({LEFTOVER, "uninstalling", "uninstalled", "terminating_for_uninstall", "terminating_for_upgrade"})
"""States of an entry that no longer counts as the extension being there."""


@dataclass(eq=False)
class Entry:
    """One copy of one extension. `app_path` is "" once its app is gone."""

    identifier: str
    team: str
    unique_id: str
    state: str
    short: str
    build: str
    kind: str
    name: str
    app_path: str
    app_identifier: str
    app_name: str
    origin: str
    executable: str
    slices: tuple[Slice, ...] = ()
    mach_service: str = ""
    points: tuple[str, ...] = ()
    launchd_entries: bool = True
    prompted_in: str = ""
    """The boot session in which its dialog was last raised (or believed raised)."""
    waiters: list[Any] = field(default_factory=list)
    foreign: bool = False
    """Another vendor's, there from the beginning: faults are not its own."""

    @property
    def version(self) -> str:
        """`short/build`."""
        return f"{self.short}/{self.build}"

    @property
    def live(self) -> bool:
        """Whether it counts as the extension being there."""
        return self.state not in GONE

    @property
    def staged(self) -> str:
        """Guest path of the staged bundle."""
        suffix = ".dext" if self.kind == "driver" else ".systemextension"
        return f"{FOLDER}/{self.unique_id}/{self.identifier}{suffix}"

    @property
    def label(self) -> str:
        """The launchd label of its job."""
        if self.kind == "network":
            return f"NetworkExtension.{self.identifier}.{self.short}.{self.build}"
        return f"{self.team or '-'}.{self.identifier}"

    @property
    def service(self) -> str:
        """The Mach service its job offers: what the bundle names, else one made of team and identifier."""
        return self.mach_service or f"{self.team}.{self.identifier}"

    def as_plist(self) -> dict[str, Any]:
        """As db.plist holds it."""
        entry: dict[str, Any] = {
            "identifier": self.identifier,
            "teamID": self.team or "-",
            "uniqueID": self.unique_id,
            "state": self.state,
            "categories": [CATEGORIES[self.kind]],
            "bundleVersion": {"CFBundleShortVersionString": self.short, "CFBundleVersion": self.build},
            "container": {"bundlePath": self.app_path or "$null"},
            "originPath": self.origin,
            "references": [{"appIdentifier": self.app_identifier, "appRef": self.app_path, "teamID": self.team or "-"}],
            "stagedBundleURL": {"relative": f"file://{self.staged}/"},
            "stagedCdhashes": {
                item.cdhash: {"cputype": item.cpu[0], "cpusubtype": item.cpu[1]} for item in self.slices if item.cdhash
            },
        }
        if self.launchd_entries:
            entry["additionalLaunchdPlistEntries"] = {
                "MachServices": {self.service: True},
                "Label": self.label,
            }
        return entry


class ExtensionDatabase:
    """The entries, kept on the guest's disk.

    What db.plist has no key for (the app's display name, in which boot a dialog was raised) lies in a second file, so that
    a machine survives being stopped and started.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.entries: list[Entry] = []
        self.boot_uuid = ""
        self.developer_mode = False

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self.entries))

    def live(self, identifier: str) -> list[Entry]:
        """The entries of that identifier that count."""
        return [entry for entry in self.entries if entry.identifier == identifier and entry.live]

    def load(self) -> None:
        """Read what is on disk; a damaged or absent file means no extensions, as after a fresh installation."""
        main = self._plist(DATABASE)
        extra = self._plist(f"{FOLDER}/.simulated.plist")
        waiters = {entry.unique_id: entry.waiters for entry in self.entries}
        self.entries = []
        self.developer_mode = bool(main.get("developerMode", False))
        for item in main.get("extensions", []):
            if isinstance(item, dict) and item.get("uniqueID"):
                more = extra.get(str(item["uniqueID"]))
                entry = _entry(item, more if isinstance(more, dict) else {})
                entry.waiters = waiters.get(entry.unique_id, [])
                self.entries.append(entry)

    def save(self) -> None:
        """Write both files.

        Raises:
            OSError: The disk is full.
        """
        self._write(
            DATABASE,
            {
                "bootUUID": self.boot_uuid,
                "developerMode": self.developer_mode,
                "extensionPolicies": [],
                "extensions": [entry.as_plist() for entry in self.entries],
                "version": 1,
            },
        )
        self._write(f"{FOLDER}/.simulated.plist", {entry.unique_id: _extra(entry) for entry in self.entries})

    def remove(self, entry: Entry) -> None:
        """Forget an entry and delete its staged copy."""
        if entry in self.entries:
            self.entries.remove(entry)
        folder = self._disk.path(f"{FOLDER}/{entry.unique_id}")
        if re.fullmatch(r"[0-9A-F-]{36}", entry.unique_id) and folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)

    def _plist(self, path: str) -> dict[str, Any]:
        try:
            data = plistlib.loads(self._disk.path(path).read_bytes())
        except Exception:  # noqa: BLE001 - whatever the harness or a test put there, sysextd starts
            return {}
        return data if isinstance(data, dict) else {}

    def _write(self, path: str, data: dict[str, Any]) -> None:
        if self._disk.full:
            raise OSError(28, "No space left on device")
        target = self._disk.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".new")
        temporary.write_bytes(plistlib.dumps(data, fmt=plistlib.FMT_BINARY))
        temporary.chmod(0o644)
        os.replace(temporary, target)  # noqa: PTH105 - the rename is the point: a reader never sees half a file


def _extra(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "app_name": entry.app_name,
        "prompted_in": entry.prompted_in,
        "foreign": entry.foreign,
        "executable": entry.executable,
        "mach_service": entry.mach_service,
        "points": list(entry.points),
        "slices": [[item.arch, item.uuid, item.cdhash, *item.cpu] for item in entry.slices],
    }


def _entry(item: dict[str, Any], more: dict[str, Any]) -> Entry:
    version = item.get("bundleVersion")
    version = version if isinstance(version, dict) else {}
    container = item.get("container")
    container = container if isinstance(container, dict) else {}
    references = item.get("references")
    reference = references[0] if isinstance(references, list) and references and isinstance(references[0], dict) else {}
    categories = item.get("categories") or [CATEGORIES["network"]]
    kind = next((name for name, category in CATEGORIES.items() if category in categories), "network")
    team = str(item.get("teamID", ""))
    path = str(container.get("bundlePath", ""))
    identifier = str(item.get("identifier", ""))
    return Entry(
        identifier=identifier,
        team="" if team == "-" else team,
        unique_id=str(item.get("uniqueID")),
        state=str(item.get("state", "")),
        short=str(version.get("CFBundleShortVersionString", "")),
        build=str(version.get("CFBundleVersion", "")),
        kind=kind,
        name=str(more.get("name", identifier)),
        app_path="" if path == "$null" else path,
        app_identifier=str(reference.get("appIdentifier", "")),
        app_name=str(more.get("app_name", identifier)),
        origin=str(item.get("originPath", "")),
        executable=str(more.get("executable", identifier)),
        slices=tuple(
            Slice(str(part[0]), str(part[1]), str(part[2]), (int(part[3]), int(part[4])))
            for part in more.get("slices", [])
            if len(part) == 5
        ),
        mach_service=str(more.get("mach_service", "")),
        points=tuple(str(point) for point in more.get("points", [])),
        launchd_entries="additionalLaunchdPlistEntries" in item,
        prompted_in=str(more.get("prompted_in", "")),
        foreign=bool(more.get("foreign", False)),
    )
