"""A Mac that goes away and comes back: what is taken for sleep, and what is not taken for a Mac that came back."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from harness.config import load_settings
from harness.errors import EnvironmentFailure, UsageError, WaitTimeout
from harness.guest import ConnectionLost, Result
from harness.screen import Frame
from harness.session import power

LINE = "{time:%Y-%m-%d %H:%M:%S} +0000 {domain:<20}\t{text}\n"


class Guest:
    """A guest with a switch: asleep, it does not answer until a key was struck."""

    name = "vm"

    def __init__(self, *, sleeps: bool = True, logs: bool = True, boots: bool = False, ahead: float = 0.0) -> None:
        self.sleeps, self.logs, self.boots, self.ahead = sleeps, logs, boots, ahead
        self.asleep = False
        self.slept = 0
        self.dropped = 0

    def run(self, argv, *, check=True, **_):
        if self.asleep:
            raise ConnectionLost("an answer", seen="none")
        text, words = "", " ".join(argv)
        if words == "date +%s":
            text = f"{int(time.time() + (self.ahead if self.slept else 0))}\n"
        elif words == "pmset sleepnow" and self.sleeps:
            self.asleep, self.slept = True, self.slept + 1
        elif words == "pmset -g log" and self.logs and self.slept:
            now = datetime.now(UTC)
            text = LINE.format(time=now, domain="Sleep", text="Entering Sleep state due to 'Software Sleep pid=9'")
        return Result(tuple(argv), 0, text.encode(), b"", 0.0)

    def boot_session(self, _=None):
        return "B" if self.boots and self.slept else "A"

    def wait_ready(self, _):
        assert not self.asleep

    def drop(self):
        self.dropped += 1


class Screen:
    """Black while its guest sleeps; a key wakes it, unless it is broken."""

    def __init__(self, guest: Guest, *, wakes: bool = True) -> None:
        self.guest, self.wakes, self.keys = guest, wakes, 0

    def key(self, _):
        self.keys += 1
        if self.wakes:
            self.guest.asleep = False

    def frame(self, _, *, fresh=False):
        return Frame(np.full((40, 60, 3), 0 if self.guest.asleep else 200, np.uint8), self.keys, time.monotonic())


def make_mac(*, own_display=False, wakes=True, boot=30, **how):
    guest = Guest(**how)
    machine = SimpleNamespace(own_display=own_display, suspended=0)

    def suspend(_):
        machine.suspended += 1
        guest.slept += 1

    machine.suspend, machine.resume = suspend, lambda _: None
    settings = load_settings(overrides={"timeouts.boot": boot, "timeouts.command": 5}, environ={})
    return SimpleNamespace(
        name="vm", guest=guest, machine=machine, settings=settings, screen=Screen(guest, wakes=wakes)
    )


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "FALLS_ASLEEP", 0.6)


def test_sleep_is_taken_from_the_power_log() -> None:
    mac = make_mac(ahead=-40.0)
    absence = power.sleep_and_wake(mac, seconds=0)
    assert absence.happened
    assert "Entering Sleep state" in absence.why
    assert mac.screen.keys >= 1
    assert -42 <= absence.clock_jump <= -38


def test_silence_alone_is_sleep_too() -> None:
    absence = power.sleep_and_wake(make_mac(logs=False), seconds=0)
    assert absence.happened
    assert "quiet" in absence.why


def test_a_host_that_is_busy_for_a_while_is_no_sleep() -> None:
    """SSH went quiet, and a power log that works knows of no sleep."""
    mac = make_mac()
    run = mac.guest.run

    def wakeful(argv, **how):
        result = run(argv, **how)
        if argv[:1] == ["pmset"] and result.stdout:
            line = LINE.format(time=datetime.now(UTC), domain="Assertions", text="PID 1(x) Created UserIsActive")
            return Result(tuple(argv), 0, line.encode(), b"", 0.0)
        return result

    mac.guest.run = wakeful
    absence = power.sleep_and_wake(mac, seconds=0)
    assert not absence.happened
    assert "went quiet for a while" in absence.why


def test_a_mac_that_stays_awake_has_not_slept() -> None:
    absence = power.sleep_and_wake(make_mac(sleeps=False), seconds=0)
    assert not absence.happened
    assert "answered all along" in absence.why


def test_one_that_boots_instead_is_broken() -> None:
    for way in (power.sleep_and_wake, power.suspend_and_resume):
        with pytest.raises(EnvironmentFailure, match="go on where it was"):
            way(make_mac(boots=True), seconds=0)


def test_one_that_does_not_wake_is_the_environments() -> None:
    with pytest.raises(WaitTimeout) as caught:
        power.sleep_and_wake(make_mac(wakes=False, boot=1), seconds=0)
    assert caught.value.verdict.value == "environment-failure"


def test_a_resumed_mac_is_reached_anew_and_its_clock_is_told() -> None:
    mac = make_mac(ahead=-90.0)
    absence = power.suspend_and_resume(mac, seconds=0)
    assert mac.machine.suspended == 1
    assert mac.guest.dropped == 1
    assert -92 <= absence.clock_jump <= -88


@pytest.mark.parametrize("asleep", [True, False])
def test_a_display_that_was_awake_before_it_was_woken_is_told(*, asleep: bool) -> None:
    mac = make_mac()
    mac.case = SimpleNamespace(notes=[])
    mac.guest.asleep = asleep
    assert power.wake_display(mac) is asleep
    assert ["awake before" in note for note in mac.case.notes] == ([] if asleep else [True])


def test_our_own_mac_is_not_put_to_sleep() -> None:
    mac = make_mac(own_display=True)
    with pytest.raises(UsageError, match="can be put to sleep"):
        power.sleep_and_wake(mac, seconds=0)
    assert mac.guest.slept == 0
