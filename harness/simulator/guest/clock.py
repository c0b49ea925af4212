"""The guest's clocks: wall time in its own zone, mach time, the boot session."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta, timezone

MACH_TICKS_PER_SECOND = 24_000_000
"""Apple silicon's mach_absolute_time runs at 24 MHz."""


class GuestClock:
    """Host time as the guest shows it.

    Args:
        offset_hours: The guest's zone; away from UTC on purpose, so that a reader who forgets the zone is found out.
    """

    def __init__(self, offset_hours: int = -7) -> None:
        self.zone = timezone(timedelta(hours=offset_hours))
        self._started = time.monotonic()
        self._stopped = 0.0
        self._slept = 0.0
        self.boot_time = self.now()
        self.boot_uuid = ""
        self.sleep_time = self.wake_time = 0.0

    def booted(self) -> None:
        """A new boot session begins: mach time starts at zero, a new UUID is drawn."""
        self._started = time.monotonic()
        self._stopped = self._slept = 0.0
        self.sleep_time = self.wake_time = 0.0
        self.boot_time = self.now()
        self.boot_uuid = str(uuid.uuid4()).upper()

    def now(self) -> datetime:
        """Wall time, aware, in the guest's zone."""
        return datetime.now(UTC).astimezone(self.zone)

    def uptime(self) -> float:
        """Seconds since boot."""
        return time.monotonic() - self._started

    def stop(self) -> None:
        """The system sleeps: mach_absolute_time stands still."""
        self._stopped = time.monotonic()
        self.sleep_time = time.time()

    def go_on(self) -> None:
        """It is awake again."""
        if self._stopped:
            self._slept += time.monotonic() - self._stopped
            self._stopped = 0.0
            self.wake_time = time.time()

    def go_back(self, uptime: float, mach: int) -> None:
        """Go on from a saved state, taken so many seconds (and ticks) after boot. Wall time is right at once (assumed)."""
        self._started = time.monotonic() - uptime
        self._slept = uptime - mach / MACH_TICKS_PER_SECOND
        self.boot_time = self.now() - timedelta(seconds=uptime)

    def mach(self) -> int:
        """mach_absolute_time, in ticks since boot; it does not count sleep."""
        now = self._stopped or time.monotonic()
        return int((now - self._started - self._slept) * MACH_TICKS_PER_SECOND)
