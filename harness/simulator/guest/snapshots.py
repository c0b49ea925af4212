"""A suspended machine: what must be remembered of a running guest, and how it goes on from there in a new host process.

Kept: the boot session, uptime, who is logged in, every job with its process (the same pid), running apps with what they were waiting
for, sessions of the network extension, the dialog on the screen, attached images. Lost, as connections are: what was running in an
SSH session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.simulator.guest.extension_database import ENABLED, WAITING

LOG_STORE = "/private/var/db/diagnostics/Persist/simulated-persist.ndjson"

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest


def take(guest: MacGuest) -> dict[str, Any]:
    """The guest's state as JSON values."""
    return {
        "boot_uuid": guest.clock.boot_uuid,
        "uptime": guest.clock.uptime(),
        "mach": guest.clock.mach(),
        "console_user": guest.console_user,
        "users": list(guest.sessions.users),
        "next_pid": guest.processes.next_pid,
        "jobs": {
            label: {
                "pid": job.process.pid,
                "runs": job.runs,
                "exit": job.last_exit_code,
                "reason": job.last_exit_reason,
                "signal": job.last_signal,
                "keep_alive": job.keep_alive,
            }
            for label, job in guest.launchd.jobs.items()
            if job.process is not None
        },
        "apps": guest.apps.snapshot(),
        "sessions": {item.service_id: item.status for item in guest.network.configurations},
        "dialogs": guest.sysextd.prompts.shown(),
        "settings": guest.settings_url if guest.processes.named(guest.settings_name) else None,
        "mounts": dict(guest.mounts),
    }


async def restore(guest: MacGuest, state: dict[str, Any]) -> None:
    """Go on from there. The disk's state and the accounts have been read."""
    guest.clock.booted()
    guest.clock.boot_uuid = str(state.get("boot_uuid") or guest.clock.boot_uuid)
    guest.clock.go_back(float(state.get("uptime") or 0.0), int(state.get("mach") or 0))
    guest.log.go_on(guest.disk.path(LOG_STORE))
    guest.launchd.revive = dict(state.get("jobs") or {})
    guest.mounts = {str(point): str(device) for point, device in (state.get("mounts") or {}).items()}
    guest.start_daemons(resumed=True)
    guest.sysextd.resume(guest.clock.boot_uuid)
    for entry in guest.sysextd.database:
        if entry.state == ENABLED:
            guest.extension_jobs.launch(entry)
    guest.processes.next_pid = max(guest.processes.next_pid, int(state.get("next_pid") or 0))
    await guest.power.network(up=True)
    console = str(state.get("console_user") or "root")
    for user in state.get("users") or ([console] if console != "root" else []):
        guest.sessions.log_in(str(user))
    if console != "root":
        guest.sessions.switch(console)
    guest.network.resume({str(key): str(value) for key, value in (state.get("sessions") or {}).items()})
    if state.get("settings") is not None:
        guest.open_settings(str(state["settings"]))
    shown = set(state.get("dialogs") or ())
    for entry in guest.sysextd.database:
        if entry.unique_id in shown and entry.state == WAITING:
            guest.sysextd.prompts.show_again(entry)
    guest.apps.resume(list(state.get("apps") or ()))
    guest.launchd.revive = {}
    guest.journal.write("resumed", boot_uuid=guest.clock.boot_uuid)
