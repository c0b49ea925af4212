"""MDM: whether the Mac is enrolled, apsd, and mdmclient's daemon, which launchd starts on demand.

Fault `mdmclient-not-running-with-dns-proxy`, as posted: while a DNS proxy is active the daemon has ended with 0 and is not started again
until a restart; apsd runs, names resolve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.simulator.guest.launchd import Job

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

DAEMON, PUSH = "com.apple.mdmclient.daemon", "com.apple.apsd"
SERVER = "https://mdm.example.com/mdm/checkin"


class Management:
    """The Mac's management in one boot."""

    def __init__(self, guest: MacGuest) -> None:
        self._guest = guest

    @property
    def enrolled(self) -> bool:
        """Whether it is enrolled (variation `management`)."""
        return self._guest.settings.variations.get("management") == "enrolled"

    def register(self) -> None:
        """Its jobs, at boot. mdmclient's daemon has run once, and is idle."""
        launchd = self._guest.launchd
        push = ("com.apple.apsd", "com.apple.aps.mdmclient.daemon.push.production")
        launchd.register(Job(PUSH, "/System/Library/PrivateFrameworks/ApplePushService.framework/apsd", endpoints=push))
        daemon = Job(DAEMON, "/usr/libexec/mdmclient", endpoints=(DAEMON,), keep_alive=False, arguments=("daemon",))
        launchd.register(daemon, start=self.enrolled)
        if self.enrolled:
            launchd.ended(daemon)

    def wake(self) -> bool:
        """Somebody asks the daemon something: launchd starts it, it answers and ends. False: it is not started, and does not answer."""
        guest = self._guest
        job = guest.launchd.jobs.get(DAEMON)
        if job is None or self._stuck():
            return False
        guest.launchd.start(job)
        if job.process is not None:
            guest.log.emit(job.process, "Processing server request: DeviceInformation for: <Device>", subsystem="com.apple.ManagedClient", category="MDMDaemon")  # fmt: skip
        guest.launchd.ended(job)
        return True

    def _stuck(self) -> bool:
        proxied = any(
            item.kind == "dns-proxy" and item.status == "Connected" for item in self._guest.network.configurations
        )
        return proxied and self._guest.fault("mdmclient-not-running-with-dns-proxy") is not None
