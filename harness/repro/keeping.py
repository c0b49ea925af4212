"""Macs that were kept after a failure: found by case file or by name, reached, put away.

kept = find_kept("artifacts/…/upgrade-macos15", settings)
kept.state, kept.ssh_command(settings.guest), kept.vnc_url(password=True)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from harness.config import GuestSettings, Settings
from harness.errors import SysextError, UsageError
from harness.events import SECRETS
from harness.machines.address import probe
from harness.machines.base import Endpoint
from harness.machines.leases import Door, Lease, Leases
from harness.machines.tart_cli import TartCli
from harness.repro.cases import Recorded, find_cases, read_case
from harness.waiting import Deadline

GONE = "gone"
PROBE_SECONDS = 3.0
_MOST_SIBLINGS = 2000


@dataclass(frozen=True)
class Kept:
    """A Mac, and what is known of it.

    Attributes:
        name: Its name.
        state: `running`, `suspended`, `stopped`, `absent` (only its lease is left), `unknown` (the provider could not be asked),
            or `gone`: no lease, so it was put away.
        lease: None where it is gone.
        case: The case file of the scenario that it was kept for, where that can be read.
        ssh: Where its SSH server answers now; None if it does not.
        trouble: Why SSH does not answer, where it should.
    """

    name: str
    state: str
    lease: Lease | None = None
    case: Recorded | None = None
    ssh: Endpoint | None = None
    trouble: str = ""

    @property
    def door(self) -> Door | None:
        """How it was reached when it was kept."""
        return self.lease.door if self.lease is not None else None

    @property
    def since(self) -> datetime | None:
        """When it was kept."""
        text = self.door.since if self.door is not None else ""
        try:
            return datetime.fromisoformat(text) if text else None
        except ValueError:
            return None

    def ssh_command(self, guest: GuestSettings) -> list[str]:
        """An interactive ssh with this Mac's pinned host key; [] where SSH does not answer."""
        if self.ssh is None or self.lease is None:
            return []
        user = (self.door.user if self.door is not None else "") or guest.user
        options = [f"HostKeyAlias={self.name}", "GlobalKnownHostsFile=/dev/null"]
        known = self._known_hosts()
        if known is not None:
            options += [f'UserKnownHostsFile="{known}"', "StrictHostKeyChecking=yes"]
        else:  # its first contact left no key: nothing to compare with
            options += ["UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=accept-new"]
        if guest.key is not None:
            options += [f'IdentityFile="{guest.key.expanduser()}"', "IdentitiesOnly=yes"]
        else:  # an agent with many keys would use up the tries before the password is asked for
            options += ["PubkeyAuthentication=no"]
        flags = [part for option in options for part in ("-o", option)]
        return ["ssh", "-p", str(self.ssh.port), *flags, f"{user}@{self.ssh.host}"]

    def vnc_url(self, *, password: bool) -> str:
        """Its VNC server as a URL, with the password or without; "" where it has none or does not run."""
        door = self.door
        if door is None or not door.vnc_port or self.state != "running":
            return ""
        secret = f":{door.vnc_password}@" if password and door.vnc_password else ""
        return f"vnc://{secret}{Endpoint(door.vnc_host, door.vnc_port)}"

    def start_command(self) -> str:
        """How to start it again where it is stopped: its disk is as it was."""
        if self.lease is None:
            return ""
        home = f"TART_HOME={self.lease.home} " if self.lease.home else ""
        return f"{home}{self.lease.executable} run {self.name}"

    def _known_hosts(self) -> Path | None:
        """A known_hosts file with the key that was pinned at first contact."""
        if self.lease is None or not self.lease.folder:
            return None
        folder = Path(self.lease.folder)
        try:
            words = (folder / "known_host").read_text(encoding="ascii").split()
            if len(words) != 2:
                return None
            path = folder / "known_hosts"
            path.write_text(f"{self.name} {words[0]} {words[1]}\n", encoding="ascii")
        except (OSError, UnicodeError):
            return None
        return path


def find_kept(target: str, settings: Settings, *, wanted: str = "", deadline: Deadline | None = None) -> Kept:
    """The Mac that a case file or a name means, whether it is still there or not.

    Args:
        target: A case file (its folder, or a file of it), or a Mac's name, or a part of the name of just one.
        settings: This host's.
        wanted: See `read_case`.
        deadline: For asking the provider and looking whether SSH answers; 60 s by default.

    Raises:
        UsageError: Neither a case nor a Mac, or several Macs.
    """
    deadline = deadline or Deadline.after(60)
    leases = Leases(settings.cache_dir / "leases")
    if Path(target).exists():
        case = _case_with_mac(Path(target), wanted)
        if not case.machine:
            raise UsageError(
                f"a Mac in the case file {case.place}",
                seen="that scenario had none",
                hint=f"`sysext replay {target}` runs it again",
            )
        found = next((lease for lease in leases.all() if lease.name == case.machine), None)
        return (
            Kept(case.machine, GONE, case=case)
            if found is None
            else _looked_at(found, case, leases, settings, deadline)
        )
    lease = _named(target, leases)
    return _looked_at(lease, _case_of(lease), leases, settings, deadline)


def put_away(kept: Kept, settings: Settings) -> bool:
    """Delete a kept Mac with all that belongs to it; False if there was none.

    Raises:
        UsageError: It is in use.
        EnvironmentFailure, WaitTimeout: It could not be deleted.
    """
    return Leases(settings.cache_dir / "leases").remove(kept.name)


def _case_with_mac(path: Path, wanted: str) -> Recorded:
    """The case meant; of several, the one whose Mac was kept."""
    if not wanted:
        kept = [case for case in find_cases(path) if case.kept]
        if len(kept) == 1:
            return kept[0]
    return read_case(path, wanted)


def _named(target: str, leases: Leases) -> Lease:
    everything = leases.all()
    exact = [lease for lease in everything if lease.name == target]
    found = exact or [lease for lease in everything if target and target in lease.name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(lease.name for lease in (found or everything)[:10]) or "none"
    raise UsageError(
        f"a case file or a Mac called {target!r}",
        seen=f"no such path, and {len(found) or 'no'} Macs of that name; there are: {names}",
        hint="`sysext machines` lists them; name the case file's folder, or more of the name",
    )


def _case_of(lease: Lease) -> Recorded | None:
    """The case a Mac was kept for: its own, or of a later cycle of the same run on the same Mac."""
    if not lease.folder:
        return None
    own = Path(lease.folder).parent
    first: Recorded | None = None
    try:
        siblings = sorted(own.parent.glob("*/run.jsonl"))[:_MOST_SIBLINGS]
        for stream in [own / "run.jsonl", *siblings]:
            if not stream.is_file():
                continue
            for case in find_cases(stream):
                if case.machine == lease.name and case.kept:
                    return case
                if first is None and stream.parent == own:
                    first = case
    except (SysextError, OSError):
        return first
    return first


def _looked_at(lease: Lease, case: Recorded | None, leases: Leases, settings: Settings, deadline: Deadline) -> Kept:
    state = next((one.state for one in leases.machines(lease.provider) if one.name == lease.name), "absent")
    if lease.door is not None:
        SECRETS.add(lease.door.vnc_password)
    kept = Kept(lease.name, state, lease=lease, case=case)
    if state != "running":
        return kept
    endpoint, trouble = _reached(lease, settings, deadline)
    return replace(kept, ssh=endpoint, trouble=trouble)


def _reached(lease: Lease, settings: Settings, deadline: Deadline) -> tuple[Endpoint | None, str]:
    """Where SSH answers: where it did when the Mac was kept, or where the provider says it is now."""
    door = lease.door
    trouble = "its address is not known"
    if door is not None and door.ssh_port:
        last = Endpoint(door.ssh_host, door.ssh_port)
        said = probe(last, min(PROBE_SECONDS, max(0.1, deadline.remaining)))
        if said is None:
            return last, ""
        trouble = f"{last}: {said}"
    if lease.simulated:  # its address is a port of this host, which stays as long as it runs
        return None, trouble
    try:
        cli = TartCli(lease.executable, home=Path(lease.home) if lease.home is not None else None)
        address = cli.ip(lease.name, "dhcp", deadline.sub(15)) or cli.ip(lease.name, "arp", deadline.sub(15))
    except (SysextError, OSError) as error:
        return None, f"{trouble}; {error}"
    if not address:
        return None, f"{trouble}; Tart knows no address of it"
    now = Endpoint(address, settings.guest.ssh_port)
    said = probe(now, min(PROBE_SECONDS, max(0.1, deadline.remaining)))
    return (now, "") if said is None else (None, f"{trouble}; {now}: {said}")
