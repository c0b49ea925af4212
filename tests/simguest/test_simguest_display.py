"""The guest behind the drawn desktop: a person with a pointer and a keyboard approves what the guest asks."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from harness.simulator.disk import GuestDisk
from harness.simulator.display import Desktop, build_display
from harness.simulator.faults import FaultSet
from harness.simulator.guest import build_guest
from harness.simulator.journal import MemoryJournal

EXTENSION = "com.example.guard.extension"
RETURN = 0xFF0D


class Person:
    """Finds controls by their text, presses them with the pointer."""

    def __init__(self, desktop: Desktop) -> None:
        self.desktop = desktop

    def seen(self) -> list[str]:
        return [control.text for window in self.desktop._stack() for control in window.controls]

    async def click(self, text: str) -> None:
        for _ in range(400):
            for window in reversed(self.desktop._stack()):
                for control in window.controls:
                    if control.text == text:
                        x, y = (control.box[0] + control.box[2]) / 2, (control.box[1] + control.box[3]) / 2
                        self.desktop.pointer(int(x), int(y), 0)
                        self.desktop.pointer(int(x), int(y), 1)
                        self.desktop.pointer(int(x), int(y), 0)
                        return
            await asyncio.sleep(0.005)
        raise AssertionError(f"no {text!r} on screen, only {self.seen()}")

    def type(self, text: str) -> None:
        for character in text:
            self.desktop.key(ord(character), True)
            self.desktop.key(ord(character), False)
        self.desktop.key(RETURN, True)
        self.desktop.key(RETURN, False)


@pytest.mark.parametrize("macos", ["12", "13", "14", "15", "26"])
def test_a_person_approves_and_the_app_ends_with_0(rig, tmp_path, disk_root, run_async, macos):
    async def body():
        (tmp_path / "own").mkdir()
        (tmp_path / "own/example.toml").write_text(rig.BEHAVIOUR)
        rig.write_app(disk_root)
        journal, power = MemoryJournal(), rig.FakePower()
        desktop = build_display(
            macos=rig.MACOS[macos], size_points=(1280, 800), scale=1, appearance="light", settings=None, journal=journal
        )
        guest = build_guest(
            macos=rig.MACOS[macos],
            disk=GuestDisk(disk_root),
            display=desktop,
            power=power,
            settings=dataclasses.replace(rig.FAST, behaviours=str(tmp_path / "own")),
            faults=FaultSet((), ""),
            journal=journal,
            machine_name="seen",
            sip=True,
        )
        desktop.model = guest
        mac = rig.Mac(guest, desktop, power, journal)
        person = Person(desktop)
        await guest.boot()

        def state() -> str:
            return mac.states()[-1][1] if mac.states() else ""

        app = await mac.launch()
        if macos == "12":
            await person.click("Open Security Preferences")
            assert guest.processes.named("System Preferences")
            assert "Allow" not in person.seen()  # dead while the lock is closed
            await person.click("lock")
            person.type("admin")
            await person.click("Allow")
            await mac.until(lambda: state() == "activated_enabled")
            await person.click("Allow")
            assert (await app).code == 0
            await guest._stop_everything()
            return
        await person.click("Open System Settings")
        assert guest.processes.named("System Settings")
        if macos in ("13", "14"):
            await person.click("Allow")
        else:
            url = "x-apple.systempreferences:com.apple.ExtensionsPreferences?extensionPointIdentifier=com.apple.system_extension.network_extension.extension-point"
            assert (await mac.run(["open", url])).code == 0
            await person.click("switch Example Guard")
        assert state() == "activated_waiting_for_user"
        person.type("wrong")
        assert state() == "activated_waiting_for_user"
        person.type("admin")
        await mac.until(lambda: state() == "activated_enabled")
        await person.click("Allow")
        assert (await app).code == 0
        assert (await mac.run("scutil --nc list")).out.count("guard") >= 1
        await guest._stop_everything()
        drawn = [line["kind"] for line in journal.lines if line["what"] == "prompt-drawn"]
        assert drawn == ["extension", "ne-proxy-consent"]
        assert not [line for line in journal.lines if line["what"] == "simulator-error"]

    run_async(body)
