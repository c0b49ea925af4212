"""What goes wrong while one version of an extension replaces another (faults of a replacement).

Each replacement has a number on its Mac, from 1, which outlives restarts. A fault with a rate is decided anew at each of them,
so that several upgrades of one Mac are as many draws; `per=machine` decides once for the Mac instead.
"""

from __future__ import annotations

import shutil
import uuid as uuids
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING

from harness.simulator.guest.extension_database import Entry

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

REPLACEMENT_FAULTS: dict[str, str] = {
    "xpc-endpoints-missing-after-upgrade": "After a replacement the new job runs without endpoints, until a reboot.",
    "xpc-invalidated-after-upgrade": "After a replacement each connection from the app to the extension is invalidated, also after a restart.",
    "build-uuid-unchanged": "After a replacement the staged copy is the old version's code, under the new version and with the same build UUID.",
    "old-process-lingers": "After a replacement the old version's job still runs beside the new one, until a reboot.",
    "replacement-answer-lost": "The app quits before it answers the question whether to replace the old version.",
    "replacement-cancelled": "The app answers the question whether to replace the old version with cancel (code 11).",
    "upgrade-waiting-for-reboot": "The new version waits for a restart, and the old one runs on.",
    "duplicate-entries-jam": "A replacement breaks off and leaves two live entries: each request is refused (code 4) until a reboot.",
    "approval-not-inherited": "After a replacement the new version waits for the user, though the old one was approved.",
    "ne-configuration-lost": "A replacement takes the saved network configuration along: the app has to ask for it again.",
}
"""Decided at each replacement. Like all faults by cause code, with what each does."""
WAITING_TO_UPGRADE = "activated_waiting_to_upgrade"
_BROKEN_XPC = "xpc-invalidated"


class Replacement:
    """One replacement of a version by another."""

    def __init__(self, guest: MacGuest, number: int) -> None:
        self._guest = guest
        self.number = number

    def has(self, code: str) -> bool:
        """Whether this replacement has that fault. The journal learns that it came to bear."""
        fault = self._guest.faults.at(code, "" if self.number == 1 else f"replacement {self.number}")
        if fault is not None:
            self._guest.journal.write("fault", code=code, replacement=self.number)
        return fault is not None

    def break_connections(self, entry: Entry) -> None:
        """Fault xpc-invalidated-after-upgrade: of this entry, for as long as there is one."""
        self._guest.remember(_BROKEN_XPC, entry.unique_id)

    def keep_old_code(self, old: Entry, new: Entry) -> None:
        """Fault build-uuid-unchanged: put the old version's executable in the place of the new one's, with the new one's build
        UUIDs, as if both had been built with the same.
        """
        source, target = (_executable(self._guest, entry) for entry in (old, new))
        if not source.is_file() or not target.is_file():
            return
        mode = target.stat().st_mode
        ours = {item.arch: item for item in old.slices}
        code = source.read_bytes()
        slices = []
        for item in new.slices:
            was = ours.get(item.arch)
            if was is not None and was.uuid and item.uuid:
                code = code.replace(uuids.UUID(was.uuid).bytes, uuids.UUID(item.uuid).bytes)
            slices.append(changed(item, cdhash=was.cdhash) if was is not None else item)
        target.write_bytes(code)
        target.chmod(mode)
        # Its seal covers its Info.plist; the old one goes with the old code.
        signature = source.parent.parent / "_CodeSignature"
        if signature.is_dir():
            shutil.copytree(signature, target.parent.parent / "_CodeSignature", dirs_exist_ok=True)
        new.slices = tuple(slices)


def begin(guest: MacGuest) -> Replacement:
    """The next replacement of this Mac."""
    number = int(guest.state.get("replacements", "0")) + 1
    guest.remember("replacements", str(number))
    return Replacement(guest, number)


def connections_broken(guest: MacGuest, identifier: str) -> bool:
    """Whether the app cannot talk to its extension (fault xpc-invalidated-after-upgrade)."""
    broken = guest.state.get(_BROKEN_XPC)
    return any(entry.unique_id == broken for entry in guest.sysextd.database.live(identifier))


def _executable(guest: MacGuest, entry: Entry) -> Path:
    inner = "" if entry.kind == "driver" else "Contents/MacOS/"
    return guest.disk.path(f"{entry.staged}/{inner}{entry.executable}")
