"""A person without administrator's rights at the console, and what the authorisation daemon says of them."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from harness import events
from harness.errors import UsageError
from harness.guest import users
from harness.waiting import Deadline

if TYPE_CHECKING:
    from harness.session.mac import Mac

STANDARD_USER = "tester"
_REFUSED = re.compile(r"Failed to authori[sz]e .{0,600}?\(-\d{5}\)")


def use_as_standard_user(mac: Mac, name: str = STANDARD_USER) -> str:
    """Make an account without administrator's rights, restart, and have it at the console; SSH stays the administrator's.

    Approvals ask for an administrator from now on. Returns the account's name.

    Raises:
        UsageError: It is the very host that we run on.
        EnvironmentFailure: The account cannot be made, or does not come to the console.
    """
    if mac.machine.own_display:
        raise UsageError(
            "a Mac whose console user can be another one",
            seen=f"{mac.name}: this program runs on it",
            hint="run this scenario with another provider",
        )
    password = events.SECRETS.add(secrets.token_hex(8))
    with events.step("use as standard user", user=name) as step:
        deadline = Deadline.after(mac.settings.timeouts.install)
        users.add_user(mac.guest, name, password, deadline)
        users.log_in_at_start(mac.guest, name, password, deadline)
        mac.guest.desktop_user = name
        mac.reboot()
        groups = mac.guest.run(["id", "-Gn", name], deadline=Deadline.after(mac.settings.timeouts.command)).text.split()
        step.note(groups=groups)
    return name


def refusals(mac: Mac, *, minutes: int = 5) -> list[str]:
    """What authd has refused lately: the lines `Failed to authorize … (-60006)` of its log, at most 20; also an event.

    That a refusal is logged at all is posted for the right system.preferences only: none is no proof of anything.
    """
    shown = mac.guest.run(
        [
            *(mac.guest.log_command, "show", "--last", f"{minutes}m", "--style", "compact"),
            *("--info", "--predicate", 'process == "authd"'),
        ],
        deadline=Deadline.after(mac.settings.timeouts.command),
        check=False,
    )
    found = [match[0] for line in shown.text.splitlines() if (match := _REFUSED.search(line)) is not None][-20:]
    events.event("authorisations-refused", count=len(found), lines=found[:5])
    return found
