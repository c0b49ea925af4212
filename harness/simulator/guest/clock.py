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
        self.boot_time = self.now()
        self.boot_uuid = ""

    def booted(self) -> None:
        """A new boot session begins: mach time starts at zero, a new UUID is drawn."""
        self._started = time.monotonic()
        self.boot_time = self.now()
        self.boot_uuid = str(uuid.uuid4()).upper()

    def now(self) -> datetime:
        """Wall time, aware, in the guest's zone."""
        return datetime.now(UTC).astimezone(self.zone)

    def uptime(self) -> float:
        """Seconds since boot."""
        return time.monotonic() - self._started

    def mach(self) -> int:
        """mach_absolute_time, in ticks since boot."""
        return int(self.uptime() * MACH_TICKS_PER_SECOND)
