"""That the extension works, traffic included: the same proof before and after something has happened to the Mac."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.apps.health import Health
from harness.session.traffic import Traffic
from harness.waiting import Deadline

if TYPE_CHECKING:
    from harness.session.mac import Mac


class Proof:
    """Make it before anything is activated: whether the Mac has a network by itself is tried then."""

    def __init__(self, mac: Mac) -> None:
        self._mac = mac
        self._traffic = Traffic(mac.guest, mac.app.traffic)
        spec = mac.app.traffic
        if spec is None:
            mac.case.notes.append("traffic was not tried: the app file has no [traffic]")
        elif not spec.count_command:
            mac.case.notes.append("traffic that goes past the extension would not be seen: no traffic.count_command")
        self._traffic.try_without(Deadline.after(mac.settings.timeouts.command))
        if self._traffic.usable is False:
            mac.case.notes.append("traffic was not judged: none passed before the activation")

    def expect(self) -> Health:
        """All that `Mac.expect_working` checks, then traffic that passes, if the app file says how (`[traffic]`).

        Raises:
            ProductFailure: It does not work.
        """
        health = self._mac.expect_working()
        self._traffic.expect(Deadline.after(self._mac.settings.timeouts.ready))
        return health
