"""A Mac's sleep, and its VM's suspension, as a scenario asks for them: it goes, stays away for a moment, and is back whole.

What is back is checked, not assumed: the same boot session, the console user, SSH, a picture that is not black. How far the
guest's clock has moved against ours is told: a resumed VM knows nothing of the time it was away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import events
from harness.errors import EnvironmentFailure, UsageError, Verdict
from harness.guest import power
from harness.screen import ScreenError, VncScreen, is_black
from harness.waiting import Deadline, sleep, wait_until

if TYPE_CHECKING:
    from harness.session.mac import Mac

AWAY = 3.0
"""Seconds that a Mac stays asleep, or suspended, unless a scenario says otherwise."""
FALLS_ASLEEP = 45.0
"""Seconds within which a Mac that was told to sleep has gone: powerd gives clients up to 30 (pmset(1))."""
WAKE_KEY = "shift"
"""Struck to wake it: it does nothing to a window that happens to have the focus."""
BLACK = 20.0
"""Seconds within which a display that was told to sleep is black."""


@dataclass(frozen=True)
class Absence:
    """A time for which a Mac was away.

    Attributes:
        what: "sleep", "display sleep" or "suspend".
        happened: Whether it really went: a VM may ignore a request to sleep. Where it did not, nothing was tested.
        why: What shows that it did, or what was seen instead.
        seconds: How long it was away, by the host's clock.
        clock_jump: Seconds that the guest's clock has lost (negative) or won against the host's meanwhile.
    """

    what: str
    happened: bool
    why: str
    seconds: float = 0.0
    clock_jump: float = 0.0


def sleep_and_wake(mac: Mac, *, seconds: float = AWAY) -> Absence:
    """System sleep (`pmset sleepnow`), then input on its keyboard until it is awake.

    Raises:
        UsageError: It is the very host that we run on.
        EnvironmentFailure: It does not wake up.
    """
    _not_ourselves(mac, "be put to sleep")
    with events.step("sleep and wake", machine=mac.name) as step:
        deadline = Deadline.after(mac.settings.timeouts.command)
        session, before = mac.guest.boot_session(deadline), power.clock(mac.guest, deadline)
        power.sleep_now(mac.guest, deadline)
        quiet = _falls_quiet(mac)
        sleep(seconds)
        _wake(mac, Deadline.after(mac.settings.timeouts.boot))
        _same_boot(mac, session)
        after = power.clock(mac.guest, Deadline.after(mac.settings.timeouts.command))
        log = power.power_log(mac.guest, Deadline.after(mac.settings.timeouts.command), since=before)
        asleep = [event for event in log if event.fell_asleep]
        # Silence alone may be a busy host's; it counts only where there is no log that would know of a sleep.
        happened = bool(asleep) or (quiet and not log)
        if asleep:
            why = f"its power log: {asleep[0].domain}: {asleep[0].text}"[:300]
        elif happened:
            why = "SSH went quiet, and it has no power log that could say why"
        else:
            why = f"SSH {'went quiet for a while' if quiet else 'answered all along'}, and its power log has no sleep"
        jump = round(after.ahead - before.ahead, 1)
        step.note(
            happened=happened,
            why=why,
            ssh_quiet=quiet,
            clock_jump=jump,
            log=[
                f"{event.domain}: {event.text}"[:200] for event in log if event.domain in ("Sleep", "Wake", "DarkWake")
            ][:12],
        )
        return Absence("sleep", happened, why, seconds, jump)


def sleep_display(mac: Mac) -> Absence:
    """Display sleep only (`pmset displaysleepnow`): the screen is black, the system goes on. `wake_display` ends it."""
    with events.step("display sleep", machine=mac.name) as step:
        power.display_sleep_now(mac.guest, Deadline.after(mac.settings.timeouts.command))
        limit, black = Deadline.after(BLACK), False
        frame = mac.screen.frame(limit, fresh=True)
        while not (black := is_black(frame)) and not limit.expired:
            frame = mac.screen.wait_for_change(frame, limit.sub(1.0)) or mac.screen.frame(limit.sub(2.0))
        why = "the screen is black" if black else f"the screen is not black within {limit.seconds:g} s"
        step.note(happened=black, why=why)
        return Absence("display sleep", black, why)


def wake_display(mac: Mac) -> bool:
    """Wake it by its keyboard; returns once there is a picture: whether it had slept until now. If not, the result says so, for
    what was seen meanwhile was seen on a Mac that was awake.

    Raises:
        EnvironmentFailure: The screen stays black.
    """
    with events.step("wake display", machine=mac.name) as step:
        slept = is_black(mac.screen.frame(Deadline.after(mac.settings.timeouts.command), fresh=True))
        step.note(slept=slept)
        if not slept:
            mac.case.notes.append("the display was awake before it was woken: something else had woken it")
        _light_up(mac, Deadline.after(mac.settings.timeouts.ready))
        return slept


def suspend_and_resume(mac: Mac, *, seconds: float = AWAY) -> Absence:
    """Suspend its VM, and go on: the same boot, the same processes. SSH and the screen are reached anew, for they are elsewhere.

    Raises:
        UsageError: Its provider cannot, or it was not started so (marker `sysext_suspendable`).
        EnvironmentFailure: It did not come back as it was.
    """
    machine, timeouts = mac.machine, mac.settings.timeouts
    with events.step("suspend and resume", machine=mac.name) as step:
        deadline = Deadline.after(timeouts.command)
        session, before = mac.guest.boot_session(deadline), power.clock(mac.guest, deadline)
        machine.suspend(Deadline.after(timeouts.shutdown + timeouts.boot))
        sleep(seconds)
        deadline = Deadline.after(timeouts.boot)
        machine.resume(deadline)
        if isinstance(mac.screen, VncScreen):
            vnc = machine.vnc_endpoint(deadline)
            mac.screen.move_to(vnc.host, vnc.port, vnc.password, user=vnc.user or None)
        mac.guest.drop()
        mac.guest.wait_ready(deadline)
        _same_boot(mac, session)
        after = power.clock(mac.guest, Deadline.after(timeouts.command))
        jump = round(after.ahead - before.ahead, 1)
        _light_up(mac, deadline)
        step.note(clock_jump=jump, boot_session=session)
        events.event("clock-jump", machine=mac.name, seconds=jump)
        return Absence("suspend", happened=True, why="Tart saved its state", seconds=seconds, clock_jump=jump)


def _falls_quiet(mac: Mac) -> bool:
    """Whether it stops to answer within its time."""
    limit = Deadline.after(FALLS_ASLEEP)
    while not limit.expired:
        if not power.answers(mac.guest) and not power.answers(mac.guest):
            events.event("asleep", machine=mac.name)
            return True
        sleep(0.5)
    return False


def _wake(mac: Mac, deadline: Deadline) -> None:
    """Strike a key until SSH answers and there is a picture."""

    def poke() -> bool:
        _strike(mac)
        return power.answers(mac.guest)

    with events.step("wake", machine=mac.name):
        wait_until(
            poke,
            what=f"{mac.name} to wake up from input on its keyboard",
            deadline=deadline,
            interval=1.0,
            hint="see the screen's last frames",
            blame=Verdict.ENVIRONMENT_FAILURE,
        )
        mac.guest.wait_ready(deadline)
        _light_up(mac, deadline)


def _light_up(mac: Mac, deadline: Deadline) -> None:
    """Strike a key until the screen is not black."""

    def dark() -> bool:
        try:
            if not is_black(mac.screen.frame(deadline.sub(10.0), fresh=True)):
                return False
        except ScreenError:
            return True
        _strike(mac)
        return True

    wait_until(
        dark,
        lambda seen: not seen,
        what=f"a picture on the screen of {mac.name}",
        deadline=deadline,
        interval=1.0,
        hint="its display sleeps on: see the film in the case file",
        blame=Verdict.ENVIRONMENT_FAILURE,
    )


def _strike(mac: Mac) -> None:
    try:
        mac.screen.key(WAKE_KEY)
    except ScreenError as error:  # its server may be away as long as it sleeps
        events.event("degraded", what="a key to wake it was not struck", reason=error.seen)


def _same_boot(mac: Mac, session: str) -> None:
    now = mac.guest.boot_session(Deadline.after(mac.settings.timeouts.command))
    if now != session:
        raise EnvironmentFailure(
            f"{mac.name} to go on where it was",
            seen=f"it has booted: boot session {now}, before {session}",
            hint="a saved state that cannot be restored is dropped, and the VM boots: see the output of `tart run`",
        )


def _not_ourselves(mac: Mac, what: str) -> None:
    if mac.machine.own_display:
        raise UsageError(
            f"a Mac that can {what}",
            seen=f"{mac.name}: this program runs on it",
            hint="run the scenarios that sleep with another provider",
        )
