"""A DNS proxy over a time: names resolve, and the Mac still hears its management.

With a DNS proxy active, Macs under management were seen to stop processing MDM commands after hours, until a restart, while DNS
went on working: apsd runs, and `com.apple.mdmclient.daemon` has ended with 0 and is not started again (posted twice on Apple's
forums). That the daemon is not there means nothing by itself, for it runs on demand; so it is asked something.

Sources: dscacheutil(1), profiles(1); `mdmclient QueryDeviceInformation`, the command behind Apple's own diagnostics.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness import events
from harness.errors import EnvironmentFailure, ProductFailure, UsageError
from harness.formats.launchctl import Job, parse_launchctl_print
from harness.guest import CommandTimeout
from harness.waiting import Deadline, sleep

if TYPE_CHECKING:
    from harness.session.mac import Mac

MDMCLIENT = "/usr/libexec/mdmclient"
PUSH, CLIENT = "com.apple.apsd", "com.apple.mdmclient.daemon"
MDM_ANSWERS = 45.0
"""Seconds within which mdmclient answers a query about this very Mac."""
_ADDRESS = re.compile(r"^ip(?:v6)?_address:\s*(\S+)", re.MULTILINE)
_ENROLLED = re.compile(r"^MDM enrollment:\s*Yes", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Management:
    """What is known of a Mac's management.

    Attributes:
        enrolled: Whether it is enrolled; None if `profiles` does not say.
        push: launchd's job of apsd.
        client: launchd's job of mdmclient's daemon.
        answered: Whether mdmclient answered a query; None where it was not asked, for nobody manages this Mac.
        texts: What was printed, by command, for the case file.
    """

    enrolled: bool | None
    push: Job | None
    client: Job | None
    answered: bool | None
    texts: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def stuck(self) -> bool:
        """Enrolled, and nobody listens: no answer, or no push service that runs."""
        return self.answered is False or bool(self.enrolled and self.push is not None and self.push.state != "running")

    def describe(self) -> str:
        """One line."""
        jobs = [
            f"{name} {'unknown to launchd' if job is None else job.state or 'in no state'}"
            + (f", last exit code {job.last_exit_code}" if job is not None and job.last_exit_code is not None else "")
            for name, job in ((PUSH, self.push), (CLIENT, self.client))
        ]
        answer = {None: "not asked", True: "answers", False: "does not answer"}[self.answered]
        return f"enrolled: {self.enrolled}; {'; '.join(jobs)}; mdmclient {answer}"


def resolve(mac: Mac, name: str) -> list[str]:
    """The addresses of a name, as the Mac's own resolver tells apps; what it remembers is thrown away first."""
    deadline = Deadline.after(mac.settings.timeouts.command)
    mac.guest.run(["dscacheutil", "-flushcache"], deadline=deadline, check=False, quiet=True)
    asked = mac.guest.run(["dscacheutil", "-q", "host", "-a", "name", name], deadline=deadline, check=False, quiet=True)
    return _ADDRESS.findall(asked.text)


def management(mac: Mac) -> Management:
    """How the Mac's management is; asks mdmclient something where the Mac is enrolled."""
    texts: dict[str, str] = {}

    def printed(*words: str, sudo: bool = False, seconds: float = 0.0) -> str | None:
        limit = Deadline.after(seconds or mac.settings.timeouts.command)
        try:
            result = mac.guest.run(list(words), sudo=sudo, check=False, deadline=limit, max_output=1 << 20)
        except CommandTimeout:
            texts[" ".join(words)] = f"(no answer within {limit.seconds:g} s)"
            return None
        texts[" ".join(words)] = result.text + result.stderr.decode(errors="replace")
        return result.text if result.exit_code == 0 else None

    status = printed("profiles", "status", "-type", "enrollment", sudo=True)
    enrolled = None if status is None else bool(_ENROLLED.search(status))
    answered: bool | None = None
    if enrolled:
        # The command that hangs or fails in the stuck state; one that is idle is started by it.
        said = printed(MDMCLIENT, "QueryDeviceInformation", sudo=True, seconds=MDM_ANSWERS)
        answered = said is not None and bool(said.strip())
    jobs = {name: printed("launchctl", "print", f"system/{name}", sudo=True) for name in (PUSH, CLIENT)}
    found = {name: parse_launchctl_print(text) if text is not None else None for name, text in jobs.items()}
    return Management(enrolled, found[PUSH], found[CLIENT], answered, texts)


def expect_names(mac: Mac) -> dict[str, list[str]]:
    """Every name of the app file's `resolves` has an address, before anything was activated.

    Raises:
        EnvironmentFailure: One has none: this Mac has no DNS by itself, and a proxy cannot be judged on it.
    """
    found = {name: resolve(mac, name) for name in mac.app.resolves}
    missing = [name for name, addresses in found.items() if not addresses]
    if missing:
        raise EnvironmentFailure(
            f"{', '.join(missing)} to resolve on {mac.name} before anything is activated",
            seen="no address",
            hint="give the Mac a network, or set `resolves` in the app file to names that it knows",
        )
    return found


def expect_management(mac: Mac) -> Management:
    """The Mac hears its management before anything was activated, if it has any; where it has none, the result says so.

    Raises:
        EnvironmentFailure: It is enrolled, and does not: what comes later cannot be the proxy's doing.
    """
    found = management(mac)
    if found.stuck:
        _keep(mac, found)
        raise EnvironmentFailure(
            f"{mac.name} to hear its management before anything is activated",
            seen=found.describe(),
            hint="restart it; `management.txt` in the case file has what launchd and mdmclient said",
        )
    if found.answered is None:
        mac.case.notes.append("whether the Mac hears its management was not tested: it is not enrolled")
    return found


def soak(mac: Mac, *, cycles: int | None = None) -> Management:
    """Resolve the app file's names over and over (`soak.cycles`), and ask the management each time; the last answer.

    Raises:
        UsageError: It is no DNS proxy.
        ProductFailure: A name does not resolve, or the management does not answer any more.
    """
    if mac.app.extension.kind != "dns-proxy":
        raise UsageError("an app with a DNS proxy", seen=f"{mac.app.name} is of kind {mac.app.extension.kind}")
    wanted = cycles or mac.settings.soak.cycles
    last: Management | None = None
    with events.step("soak", cycles=wanted) as step:
        for cycle in range(1, wanted + 1):
            if cycle > 1:
                sleep(mac.settings.soak.pause_seconds)
            missing = [name for name in mac.app.resolves if not resolve(mac, name)]
            if missing:
                raise ProductFailure(
                    f"{', '.join(missing)} to resolve through {mac.app.name} on {mac.name}",
                    seen=f"no address in cycle {cycle} of {wanted}",
                    hint="it resolved before the extension was activated; see its own log in the case file",
                )
            last = management(mac)
            events.event("soak-cycle", cycle=cycle, management=last.describe())
            if last.stuck:
                _keep(mac, last)
                raise ProductFailure(
                    f"{mac.name} to hear its management while {mac.app.name} is active",
                    seen=f"in cycle {cycle} of {wanted}: {last.describe()}",
                    hint="a restart heals it; `management.txt` in the case file has what launchd and mdmclient said",
                )
        assert last is not None
        step.note(management=last.describe(), mdm_asked=last.answered is not None)
        _keep(mac, last)
    return last


def _keep(mac: Mac, found: Management) -> None:
    text = "".join(f"$ {command}\n{said.rstrip()}\n\n" for command, said in found.texts.items())
    try:
        mac.case.folder.path.joinpath("management.txt").write_text(events.SECRETS.mask(text), encoding="utf-8")
    except OSError as error:  # what was found must be heard all the same
        events.event("degraded", what="management.txt could not be written", reason=str(error))
