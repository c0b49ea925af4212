"""The guest as a Mac: which system, who is logged in, ready or not, reboot, shutdown."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness import events
from harness.errors import Verdict
from harness.formats.system import parse_csrutil, parse_sw_vers
from harness.guest.errors import CommandFailed, ConnectionLost, HostKeyChanged
from harness.guest.trees import Trees
from harness.waiting import Deadline, wait_until

NOBODY = ("", "root", "loginwindow", "_mbsetupuser")
"""Owners of /dev/console while nobody is logged in (_mbsetupuser: Setup Assistant is open)."""

_READINESS = "sysctl -n kern.bootsessionuuid; stat -f %Su /dev/console; if pgrep -x Finder >/dev/null; then echo yes; else echo no; fi"


@dataclass(frozen=True)
class System:
    """What the guest runs.

    Attributes:
        product_version: "15.5".
        build: "24F74".
        sip: Whether System Integrity Protection is on; None if csrutil says neither (a custom configuration).
        boot_session: UUID, new at each boot.
        architecture: "arm64".
    """

    product_version: str
    build: str
    sip: bool | None
    boot_session: str
    architecture: str


@dataclass(frozen=True)
class Readiness:
    """How far the guest has come."""

    boot_session: str
    console_user: str
    finder: bool


class MacSystem(Trees):
    """The guest as a Mac.

    Attributes:
        desktop_user: Who is at the console, where it is not the user that we log in as.
    """

    desktop_user: str | None = None

    def system(self, deadline: Deadline | None = None) -> System:
        """Which system it runs.

        Raises:
            FormatError: `sw_vers` printed something else.
        """
        deadline = deadline or Deadline.after(60)
        version = parse_sw_vers(self.run(["sw_vers"], deadline=deadline, quiet=True).text)
        csrutil = self.run(["csrutil", "status"], deadline=deadline, check=False, quiet=True).text
        return System(
            product_version=version.version,
            build=version.build,
            sip={"enabled": True, "disabled": False}.get(parse_csrutil(csrutil)),
            boot_session=self.boot_session(deadline),
            architecture=self.run(["uname", "-m"], deadline=deadline, quiet=True).text.strip(),
        )

    def boot_session(self, deadline: Deadline | None = None) -> str:
        """The UUID of this boot (`kern.bootsessionuuid`)."""
        return self.run(["sysctl", "-n", "kern.bootsessionuuid"], deadline=deadline, quiet=True).text.strip()

    def console_user(self, deadline: Deadline | None = None) -> str:
        """Who is logged in at the screen: the owner of /dev/console, "root" if nobody is."""
        return self.run(["stat", "-f", "%Su", "/dev/console"], deadline=deadline, quiet=True).text.strip()

    def wait_ready(self, deadline: Deadline, *, user: str | None = None) -> Readiness:
        """Wait until it can be worked with: SSH lets us in, the console user is there, Finder runs, and two fresh
        connections worked.

        Args:
            deadline: For all of it.
            user: Who must be at the console; None for `desktop_user`, else the user we log in as.

        Raises:
            WaitTimeout: Blames the environment, and says how far it came.
        """
        wanted = user or self.desktop_user or self.settings.user
        with events.step("wait-ready", machine=self.name, user=wanted) as step:
            self.connect(deadline)
            ready = wait_until(
                lambda: self._readiness(deadline),
                lambda seen: seen.console_user == wanted and seen.finder,
                what=f"{wanted} to be logged in at the console of {self.name}, with Finder running",
                deadline=deadline,
                interval=0.3,
                transient=(ConnectionLost, CommandFailed),
                hint="is auto-login on in the image?",
                blame=Verdict.ENVIRONMENT_FAILURE,
            )
            for _ in range(2):
                wait_until(
                    lambda: self._fresh(deadline),
                    what=f"a fresh SSH connection to {self.name}",
                    deadline=deadline,
                    transient=(ConnectionLost,),
                    blame=Verdict.ENVIRONMENT_FAILURE,
                )
            step.note(boot_session=ready.boot_session)
            self.compare_clocks(ready.boot_session, deadline)
        return ready

    def compare_clocks(self, boot_session: str, deadline: Deadline) -> float | None:
        """How far its clock is ahead of ours, in seconds; None if it does not say. Told as an event `clock`: triage puts what we noted
        and what it logged on one clock by it. `date` knows whole seconds: half of one, and half of the way there and back, is how
        exact it is.
        """
        before, started = time.time(), time.monotonic()
        try:
            text = self.run(["date", "+%s"], deadline=deadline.sub(10), quiet=True).text.strip()
            there = int(text[:20])
        except (CommandFailed, ConnectionLost, ValueError) as error:  # it is worth a remark, not a failed boot
            reason = str(error)[:200]
            events.event("degraded", what="its clock was not compared with ours", machine=self.name, reason=reason)
            return None
        way = time.monotonic() - started
        ahead = round(there + 0.5 - (before + way / 2), 2)
        within = round(0.5 + way / 2, 2)
        events.event("clock", machine=self.name, ahead=ahead, within=within, boot_session=boot_session)
        return ahead

    def reboot(self, deadline: Deadline, before: Callable[[], None] | None = None) -> Readiness:
        """Reboot and wait until it is ready again. It has rebooted when `kern.bootsessionuuid` has changed, and not before.

        Args:
            deadline: For all of it.
            before: Called first: what a reboot would destroy (the unified log) is saved there.

        Raises:
            WaitTimeout: It did not come back, or never went; blames the environment.
        """
        with events.step("reboot", machine=self.name) as step:
            session = self.boot_session(deadline)
            if before is not None:
                before()
            self._power(["shutdown", "-r", "now"], deadline)
            new = wait_until(
                lambda: self._new_session(deadline),
                lambda seen: bool(seen) and seen != session,
                what=f"{self.name} to come back from its reboot with a new boot session",
                deadline=deadline,
                interval=0.5,
                transient=(ConnectionLost, CommandFailed),
                hint="see the screen's last frames: it may hang, or ask for something",
                blame=Verdict.ENVIRONMENT_FAILURE,
            )
            step.note(before=session, after=new)
            self._passwordless = None
            return self.wait_ready(deadline)

    def shutdown(self, deadline: Deadline) -> None:
        """Shut it down in an orderly way; returns when SSH has gone. The machine itself tells when it is off.

        Raises:
            WaitTimeout: It still answers at the deadline.
        """
        with events.step("shutdown", machine=self.name):
            self._power(["shutdown", "-h", "now"], deadline)
            connection = self._connection
            wait_until(
                lambda: connection is None or not connection.alive,
                what=f"SSH on {self.name} to go down",
                deadline=deadline,
                blame=Verdict.ENVIRONMENT_FAILURE,
                hint="stop the machine from outside",
            )
            self.close()

    def _power(self, argv: list[str], deadline: Deadline) -> None:
        # The connection may go before the exit code comes: for this command that is success.
        with contextlib.suppress(ConnectionLost):
            self.run(argv, sudo=True, deadline=deadline.sub(60))

    def _readiness(self, deadline: Deadline) -> Readiness:
        # One look is allowed 3 s even at the end: what it sees is the reason that the error gives.
        limit = Deadline(3) if deadline.remaining < 3 else deadline.sub(20)
        result = self.script(_READINESS, deadline=limit, quiet=True)
        session, user, finder = ([*result.lines, "", "", ""])[:3]
        return Readiness(boot_session=session.strip(), console_user=user.strip(), finder=finder.strip() == "yes")

    def _fresh(self, deadline: Deadline) -> bool:
        connection = self.fresh_connection(deadline.sub(20))
        try:
            connection.release(connection.channel(deadline.sub(20)))
        finally:
            connection.close()
        return True

    def _new_session(self, deadline: Deadline) -> str:
        with contextlib.suppress(HostKeyChanged):
            return self.boot_session(deadline.sub(15))
        return ""
