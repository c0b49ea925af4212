"""Back to a Mac without the product, so that the next cycle on it begins as the first one did; judged by the oracle."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness import events
from harness.errors import EnvironmentFailure, SysextError
from harness.waiting import Deadline

if TYPE_CHECKING:
    from harness.session.mac import Mac

AT_ONCE = 3.0
"""Seconds that macOS is given to remove an extension whose app is gone, before the Mac is restarted for it."""


def others(mac: Mac) -> frozenset[str]:
    """What else is installed: the extensions of other apps, `bundle id state`."""
    snapshot = mac.snapshot()
    known = snapshot.database.extensions if snapshot.database is not None else ()
    return frozenset(f"{one.identifier} {one.state}" for one in known if one.identifier != mac.app.extension.id)


def remove_product(mac: Mac, *, beside: frozenset[str] | None = None) -> None:
    """Quit the app, delete it, and wait until its extension and its saved network configuration are gone; where the
    extension stays, the Mac is restarted for it, which is when macOS removes what it could not.

    Args:
        mac: It; nothing but its scenario has used it.
        beside: What `others` said before the scenario: the same must be there now.

    Raises:
        EnvironmentFailure: Something is left: the Mac must not be used for another cycle.
        SysextError: It does not answer.
    """
    if mac.guest.desktop_user is not None:
        raise EnvironmentFailure(
            f"{mac.guest.settings.user} at the console of {mac.name}",
            seen=f"{mac.guest.desktop_user} is, now and after each restart",
        )
    mac.stop_activations()
    with contextlib.suppress(SysextError):
        mac.quit_settings()
    if mac.installed is not None:
        mac.uninstall()
    if not _gone(mac, AT_ONCE):
        if mac.machine.own_display:
            raise EnvironmentFailure("a Mac without the extension", seen="it stays, and this host cannot be restarted")
        events.event("restart", why="the extension stays where its app was deleted")
        mac.reboot()
        if not _gone(mac, AT_ONCE):
            raise EnvironmentFailure("a Mac without the extension", seen=mac.snapshot().describe())
    configuration = mac.oracle.configuration(Deadline.after(mac.settings.timeouts.command))
    if configuration is not None:
        raise EnvironmentFailure("a Mac without the app's network configuration", seen=configuration.raw)
    if beside is not None and (now := others(mac)) != beside:
        raise EnvironmentFailure("the other extensions as they were", seen=", ".join(sorted(now ^ beside)))


def _gone(mac: Mac, seconds: float) -> bool:
    """No copy that counts. Those that wait for a restart to be removed pile up on every Mac that upgrades, and do no harm
    (Apple Developer Forums); how many there are is told.
    """
    with contextlib.suppress(SysextError):
        left = mac.oracle.wait_for_state([None], Deadline.after(seconds)).entries
        if left:
            events.event("leftovers", entries=[f"{entry.version} {entry.state}" for entry in left])
        return True
    return False
