"""Sleep: of the display, and of the whole system, until somebody touches the keyboard or the mouse.

pmset(1), caffeinate(8). The lines of `pmset -g log` have the form of posted ones; what the log holds beside them is assumed.
A sleeping guest answers nothing: no packet, no command goes on, no delay of the simulation runs out.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from harness.simulator.interfaces import Stage

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

POWER_LOG = "/private/var/log/powermanagement/simulated.log"
WAKING = frozenset({"key", "click"})
"""What wakes a system; the display wakes from a movement of the pointer, too."""
_MOST_LINES = 5000


class Sleep:
    """Whether the guest is awake.

    Attributes:
        display_off: The display sleeps.
        awake: Set while the system does not sleep.
        lock_after: The screen is locked when the display has slept: seconds, or None for never (images never do).
        sleeps: How often the system has slept since its boot.
    """

    def __init__(self, guest: MacGuest) -> None:
        self._guest = guest
        self.display_off = False
        self.awake = asyncio.Event()
        self.awake.set()
        self.lock_after: int | None = None
        self.sleeps = 0
        self._timers: set[asyncio.TimerHandle] = set()
        self._busy = False

    @property
    def asleep(self) -> bool:
        """Whether the system sleeps."""
        return not self.awake.is_set()

    def booted(self) -> None:
        """A new boot: awake, display on."""
        self._cancel()
        self.display_off, self.sleeps, self._busy = False, 0, False
        self.awake.set()
        lock = self._guest.state.get("screen-lock", "")
        self.lock_after = int(lock) if lock.isdecimal() else None

    def set_lock(self, seconds: int | None) -> None:
        """Whether a password is asked for after display sleep."""
        self.lock_after = seconds
        self._guest.remember("screen-lock", "" if seconds is None else str(seconds))

    def display_sleep(self) -> None:
        """The display goes off; the system goes on."""
        if self.display_off or self._guest.console_user == "root":
            return
        self.display_off = True
        self._note("Notification", "Display is turned off")
        self._guest.display.set_stage(Stage.ASLEEP)

    def declare_activity(self, why: str) -> None:
        """As if somebody had touched it (an assertion of that kind): the display comes on."""
        if self.display_off and not self.asleep:
            self.display_off = False
            self._note("Notification", f"Display is turned on ({why})")
            locked = self.lock_after is not None
            self._guest.display.set_stage(Stage.LOCKED if locked else Stage.DESKTOP)

    def unlock(self) -> None:
        """The password was right."""
        self._guest.display.set_stage(Stage.DESKTOP)

    async def system_sleep(self, cause: str) -> None:
        """The whole system goes to sleep: `cause` as powerd names it."""
        guest = self._guest
        if self.asleep or self._busy:
            return
        self._busy = True
        guest.log.emit(
            guest.daemon("powerd"),
            f"Entering Sleep state due to '{cause}'",
            subsystem="com.apple.powerd",
            category="sleepWake",
        )
        self._note("Sleep", f"Entering Sleep state due to '{cause}':TCPKeepAlive=inactive Using AC (Charge:0%)")
        guest.network.will_sleep()
        await guest.delay("falling-asleep", guest.settings.settle_seconds)
        self.display_off = True
        guest.display.set_stage(Stage.ASLEEP)
        self.sleeps += 1
        self.awake.clear()
        guest.clock.stop()
        guest.journal.write("asleep", cause=cause)
        await guest.power.sleep(asleep=True)
        self._busy = False

    def user_activity(self, kind: str) -> bool:
        """Somebody touched it ("key", "click" or "move"). Whether it was asleep in some way, so that nothing else happens."""
        if self.asleep:
            if kind in WAKING:
                self._guest.spawn(self.wake("HID Activity", full=True))
            return True
        if self.display_off:
            self.declare_activity(f"UserActivity {kind}")
            return True
        return False

    def wake_after(self, seconds: float) -> None:
        """`pmset relative wake`: the clock wakes it; the display stays off until somebody comes."""
        loop = asyncio.get_running_loop()
        self._timers.add(loop.call_later(seconds, lambda: self._guest.spawn(self.wake("RTC/Maintenance", full=False))))

    async def wake(self, cause: str, *, full: bool) -> None:
        """It wakes up."""
        if not self.asleep or self._busy:
            return
        guest = self._guest
        self._busy = True
        guest.clock.go_on()
        self.awake.set()
        guest.journal.write("awake", cause=cause)
        guest.log.emit(guest.daemon("kernel"), f"Wake reason: {cause}")
        guest.log.emit(
            guest.daemon("powerd"),
            f"Wake from Normal Sleep [CDNVA] : due to {cause}",
            subsystem="com.apple.powerd",
            category="sleepWake",
        )
        kind, words = ("Wake", "Wake from Normal Sleep") if full else ("DarkWake", "DarkWake from Normal Sleep")
        self._note(kind, f"{words} [CDNVA] : due to {cause} Using AC (Charge:0%)")
        await guest.power.sleep(asleep=False)
        self._busy = False
        guest.network.has_woken()
        if full:
            self.declare_activity(cause)

    def history(self) -> list[str]:
        """The lines of `pmset -g log`, oldest first."""
        try:
            return self._guest.disk.path(POWER_LOG).read_text(encoding="utf-8").splitlines()[-_MOST_LINES:]
        except OSError:
            return []

    def went_down(self) -> None:
        """Power-off."""
        self._cancel()
        self.awake.set()

    def _cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _note(self, domain: str, text: str) -> None:
        guest = self._guest
        if guest.disk.full:
            return
        with contextlib.suppress(OSError):
            path = guest.disk.path(POWER_LOG)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{guest.clock.now():%Y-%m-%d %H:%M:%S %z} {domain:<20}\t{text:<75}\t           \n")
