"""A bundle that is replaced while the app and its extension run, and what a request makes of it in each state."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from harness.simulator.interfaces import AlertKind

Run = Callable[[Any], None]
GUARD = "/Applications/Example Guard.app"
NEW = "/tmp/new/Example Guard.app"
LABEL = "NetworkExtension.com.example.guard.extension"
WAYS = {
    "pkg": "pkgbuild --quiet --component {new} --install-location /Applications /tmp/g.pkg && sudo installer -pkg /tmp/g.pkg -target /",
    "dmg": "mkdir /tmp/mount && hdiutil create -quiet -volname G -srcfolder /tmp/new -format UDZO /tmp/g.dmg"
    " && hdiutil attach -quiet -nobrowse -mountpoint /tmp/mount /tmp/g.dmg"
    " && sudo rm -rf {app} && sudo ditto /tmp/mount/Example\\ Guard.app {app} && hdiutil detach -quiet /tmp/mount",
    "updater": "sudo mv {app} {app}.old && sudo mv {new} {app} && sudo rm -rf {app}.old",
    "delete-first": "sudo rm -rf {app} && sudo ditto {new} {app}",
}


async def deliver(mac: Any, rig: ModuleType, way: str, version: str = "2.0", build: str = "2") -> None:
    rig.write_app(mac.guest.disk.root, path="/private/tmp/new/Example Guard.app", short=version, build=build)
    script = WAYS[way].format(app=shlex.quote(GUARD), new=shlex.quote(NEW))
    done = await mac.run(["zsh", "-c", script])
    assert done.code == 0, done.err + done.out


def extension_pid(mac: Any) -> int:
    return int(mac.guest.processes.named("com.example.guard.extension")[0].pid)


@pytest.mark.parametrize("way", WAYS)
def test_the_old_version_runs_until_the_new_one_asks(new_mac: Any, rig: ModuleType, run_async: Run, way: str) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            assert (await mac.enabled()).code == 0
            await mac.until(lambda: mac.guest.network.configurations[0].status == "Connected", "the tunnel")
            pid = extension_pid(mac)
            await deliver(mac, rig, way)
            assert extension_pid(mac) == pid
            assert mac.states() == [("1.0/1", "activated_enabled")]
            assert mac.guest.network.configurations[0].status == "Connected"
            assert f"{LABEL}.1.0.1" in mac.guest.launchd.jobs
            assert (await mac.run([f"{GUARD}/Contents/MacOS/Example Guard"])).code == 0
            assert sorted(mac.states()) == [
                ("1.0/1", "terminated_waiting_to_uninstall_on_reboot"), ("2.0/2", "activated_enabled"),
            ]  # fmt: skip
            assert extension_pid(mac) != pid
            assert len(mac.guest.processes.named("com.example.guard.extension")) == 1
            assert [label for label in mac.guest.launchd.jobs if label.startswith(LABEL)] == [f"{LABEL}.2.0.2"]
            assert [alert.kind for alert in mac.display.shown].count(AlertKind.EXTENSION) == 1  # inherited

    run_async(body)


def test_what_was_switched_off_stays_off_in_the_new_version(new_mac: Any, rig: ModuleType, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            assert (await mac.enabled()).code == 0
            mac.guest.disallow(rig.EXTENSION_ID)
            await mac.until(lambda: mac.states() == [("1.0/1", "activated_disabled")], "off")
            await deliver(mac, rig, "pkg")
            task = await mac.launch()
            await mac.until(lambda: mac.states() == [("2.0/2", "activated_disabled")], "the new one, off")
            assert not mac.guest.processes.named("com.example.guard.extension")
            assert not task.done()
            assert "requestNeedsUserApproval" in mac.messages()
            mac.guest.allow(rig.EXTENSION_ID)
            assert (await asyncio.wait_for(task, 10)).code == 0
            assert mac.states() == [("2.0/2", "activated_enabled")]

    run_async(body)


def test_a_dismissed_prompt_comes_again_for_another_version(new_mac: Any, rig: ModuleType, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            first = await mac.launch()
            await mac.until(lambda: mac.display.alerts, "the dialog")
            mac.display.press("OK", AlertKind.EXTENSION)
            assert mac.states() == [("1.0/1", "activated_waiting_for_user")]
            await deliver(mac, rig, "delete-first")
            second = await mac.launch()
            await mac.until(lambda: mac.display.alerts, "the dialog of the new version")
            assert mac.states() == [("2.0/2", "activated_waiting_for_user")]
            assert (await asyncio.wait_for(first, 10)).code == 1  # superseded
            second.cancel()

    run_async(body)


def test_an_older_version_replaces_a_newer_one_when_the_app_says_so(
    new_mac: Any, rig: ModuleType, run_async: Run
) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            assert (await mac.enabled()).code == 0
            await deliver(mac, rig, "updater", "0.9", "0")
            assert (await mac.run([f"{GUARD}/Contents/MacOS/Example Guard"])).code == 0
            assert ("0.9/0", "activated_enabled") in mac.states()
            assert "actionForReplacingExtension: 1.0/1 -> 0.9/0" in mac.messages()

    run_async(body)


def test_the_same_version_with_other_content_replaces_nothing(new_mac: Any, rig: ModuleType, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            assert (await mac.enabled()).code == 0
            pid = extension_pid(mac)
            await deliver(mac, rig, "pkg", "1.0", "1")
            assert (await mac.run([f"{GUARD}/Contents/MacOS/Example Guard"])).code == 0
            assert mac.states() == [("1.0/1", "activated_enabled")]
            assert extension_pid(mac) == pid

    run_async(body)
