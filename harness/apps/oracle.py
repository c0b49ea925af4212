"""The oracle: what macOS itself says about an extension. Judges every approval; never looks at a screen.

First source: `/Library/SystemExtensions/db.plist`. Second: `systemextensionsctl list`, cross-checked. Then launchd's job
(`launchctl print system/…`) and the saved network configuration (`scutil --nc list`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness import events
from harness.config import AppFile
from harness.errors import SysextError, UsageError, Verdict
from harness.formats.database import DatabaseExtension, ExtensionDatabase, parse_database
from harness.formats.launchctl import Job, parse_launchctl_print
from harness.formats.listing import Listing, parse_listing
from harness.formats.network import NetworkConfiguration, parse_nc_list
from harness.guest import Guest
from harness.waiting import Deadline, wait_until

DATABASE = "/Library/SystemExtensions/db.plist"
LEAVING = frozenset({"terminated_waiting_to_uninstall_on_reboot", "uninstalling", "uninstalled"})
"""States of a copy that is on its way out; harmless beside a healthy entry (Apple Developer Forums, many listings)."""
LAST_LOOK = 10.0
"""Seconds that a look may take also when the wait's own time is up."""


@dataclass(frozen=True)
class Entry:
    """One copy of the extension, as the sources together tell it."""

    identifier: str
    state: str
    """With underscores: `activated_waiting_for_user`."""
    short: str
    build: str
    unique_id: str | None
    in_database: bool
    in_listing: bool

    @property
    def version(self) -> str:
        """`short/build`, as `systemextensionsctl` prints it."""
        return f"{self.short}/{self.build}"


@dataclass(frozen=True)
class Snapshot:
    """One look at all sources.

    Attributes:
        entries: Every copy of the extension under test, the one that counts first.
        disagreements: Where db.plist and the listing differ, in words.
    """

    entries: tuple[Entry, ...]
    database: ExtensionDatabase | None
    listing: Listing | None
    listing_text: str
    disagreements: tuple[str, ...]

    @property
    def main(self) -> Entry | None:
        """The copy that counts: the best one that is not on its way out, else None."""
        return next((entry for entry in self.entries if entry.state not in LEAVING), None)

    @property
    def state(self) -> str | None:
        """The main copy's state, None when there is no such extension."""
        return self.main.state if self.main is not None else None

    def describe(self) -> str:
        """One line for errors and events."""
        return ", ".join(f"{entry.version} [{entry.state.replace('_', ' ')}]" for entry in self.entries) or "no entry"


_RANK = ("activated_enabled", "activated_enabling", "activated_waiting_for_user", "activated_disabled")


def _rank(entry: Entry) -> tuple[int, str]:
    if entry.state in LEAVING or entry.state.startswith("terminat"):
        return len(_RANK) + 1, entry.state
    return (_RANK.index(entry.state) if entry.state in _RANK else len(_RANK)), entry.state


def for_a_look(deadline: Deadline) -> Deadline:
    """Time for one look inside a wait: 30 s of what is left at most, but always enough to finish a look that was begun.

    One that is cut short by the end of the wait would say that the Mac does not answer, where it is the product that did
    not get there; and what counts is the last thing seen.
    """
    return deadline.sub(30) if deadline.remaining > LAST_LOOK else Deadline.after(LAST_LOOK)


class Oracle:
    """Reads the state of one app's extension on one Mac."""

    def __init__(self, guest: Guest, app: AppFile) -> None:
        self.guest = guest
        self.app = app

    def snapshot(self, deadline: Deadline) -> Snapshot:
        """Look at db.plist and the listing. If they disagree, both are read once more (the state may have moved between
        the two reads); what still disagrees is an event and in the snapshot.

        Raises:
            SysextError: Neither source could be read.
        """
        snapshot = self._look(deadline)
        if snapshot.disagreements:
            snapshot = self._look(deadline)
            if snapshot.disagreements:
                events.event("oracle-disagreement", disagreements=list(snapshot.disagreements))
        return snapshot

    def state(self, deadline: Deadline) -> str | None:
        """The state, from db.plist alone where it can be read: the quick look between two clicks."""
        entry = self.main(deadline)
        return entry.state if entry is not None else None

    def main(self, deadline: Deadline) -> Entry | None:
        """The copy that counts, seen as quickly as `state`.

        Raises:
            SysextError: Neither source could be read.
        """
        database = self._database(deadline)
        if database is None:
            return self._look(deadline).main
        entries = [
            self._from_database(item) for item in database.extensions if item.identifier == self.app.extension.id
        ]
        entries.sort(key=_rank)
        return next((entry for entry in entries if entry.state not in LEAVING), None)

    def wait_for_state(
        self,
        wanted: Sequence[str | None],
        deadline: Deadline,
        *,
        hopeless: Sequence[str] = (),
        blame: Verdict = Verdict.PRODUCT_FAILURE,
        interval: float = 0.25,
    ) -> Snapshot:
        """Wait until the state is one of `wanted` (None: no such extension).

        Raises:
            WaitTimeout: With what was last seen.
        """
        seen = wait_until(
            lambda: self.state(for_a_look(deadline)),
            lambda state: state in wanted,
            what=f"{self.app.extension.id} on {self.guest.name} to be {' or '.join(str(state) for state in wanted)}",
            deadline=deadline,
            interval=interval,
            fail_if=(lambda state: f"the state is {state}" if state in hopeless else None) if hopeless else None,
            hint="look at sysextd in the case file's log; `sysext triage` on the case file names the cause",
            blame=blame,
        )
        snapshot = self.snapshot(for_a_look(deadline))
        events.event("extension-state", state=seen, entries=snapshot.describe())
        return snapshot

    def job(self, short: str, build: str, deadline: Deadline) -> Job | None:
        """Launchd's job of that version; None when launchd knows none, and for a driver."""
        label = self.label(short, build)
        if label is None:
            return None
        result = self.guest.run(["launchctl", "print", f"system/{label}"], deadline=deadline, check=False, sudo=True)
        return parse_launchctl_print(result.text) if result.exit_code == 0 else None

    def label(self, short: str, build: str) -> str | None:
        """The launchd label of that version; None for a driver, whose job nobody has posted.

        Network extensions are labelled by version, endpoint-security ones by team (posted `launchctl print` outputs).

        Raises:
            UsageError: The app file of an endpoint-security extension names no team.
        """
        if self.app.extension.kind == "driver":
            return None
        if self.app.extension.kind == "endpoint-security":
            if not self.app.team:
                raise UsageError(
                    f"`team` in the app file of {self.app.name}",
                    seen="none",
                    hint="launchd's label of an endpoint-security extension begins with it",
                )
            return f"{self.app.team}.{self.app.extension.id}"
        return f"NetworkExtension.{self.app.extension.id}.{short}.{build}"

    def configuration(self, deadline: Deadline) -> NetworkConfiguration | None:
        """The network configuration the app saved, None if there is none (or the app file names none)."""
        if self.app.configuration is None:
            return None
        result = self.guest.run(["scutil", "--nc", "list"], deadline=deadline, check=False)
        return next((item for item in parse_nc_list(result.text) if item.name == self.app.configuration), None)

    def _look(self, deadline: Deadline) -> Snapshot:
        database = self._database(deadline)
        listed = self.guest.run(["systemextensionsctl", "list"], deadline=deadline, check=False)
        listing = parse_listing(listed.text) if listed.exit_code == 0 else None
        if database is None and listing is None:
            raise SysextError(
                f"{DATABASE} or systemextensionsctl on {self.guest.name} to be readable",
                seen=f"systemextensionsctl list: exit {listed.exit_code}: {listed.stderr.decode(errors='replace')[-300:]}",
                hint="log in and run `systemextensionsctl list` there",
            )
        wanted = self.app.extension.id
        stored = [item for item in database.extensions if item.identifier == wanted] if database is not None else []
        shown = [item for item in listing.entries if item.identifier == wanted] if listing is not None else []
        entries: list[Entry] = []
        disagreements: list[str] = []
        left = list(shown)
        for item in stored:
            twin = next(
                (row for row in left if (row.short, row.build, row.state) == (item.short, item.build, item.state)), None
            )
            twin = twin or next((row for row in left if (row.short, row.build) == (item.short, item.build)), None)
            if twin is not None:
                left.remove(twin)
            entries.append(self._from_database(item, listed=twin is not None))
            if listing is None:
                continue
            if twin is None:
                if item.state != "uninstalled":
                    disagreements.append(
                        f"db.plist has {item.short}/{item.build} [{item.state}], the listing has no such row"
                    )
            elif twin.state != item.state:
                disagreements.append(f"{item.short}/{item.build}: db.plist says {item.state}, the listing {twin.state}")
        for row in left:
            entries.append(Entry(wanted, row.state, row.short, row.build, None, in_database=False, in_listing=True))
            if database is not None:
                disagreements.append(
                    f"the listing has {row.short}/{row.build} [{row.state}], db.plist has no such entry"
                )
        entries.sort(key=_rank)
        return Snapshot(tuple(entries), database, listing, listed.text, tuple(disagreements))

    def _database(self, deadline: Deadline) -> ExtensionDatabase | None:
        result = self.guest.run(["cat", DATABASE], deadline=deadline, check=False)
        if result.exit_code != 0:
            if b"No such file" not in result.stderr:
                events.event(
                    "degraded", what="db.plist not readable", reason=result.stderr.decode(errors="replace")[-200:]
                )
            return None
        try:
            return parse_database(result.stdout)
        except SysextError as error:
            events.event("degraded", what="db.plist not understood, using the listing alone", reason=str(error))
            return None

    @staticmethod
    def _from_database(item: DatabaseExtension, *, listed: bool = False) -> Entry:
        return Entry(
            item.identifier, item.state, item.short, item.build, item.unique_id, in_database=True, in_listing=listed
        )
