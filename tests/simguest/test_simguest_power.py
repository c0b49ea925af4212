"""Sleep, waking, the lock screen, suspend and resume of the simulated Mac, after pmset(1) and caffeinate(8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

from harness.formats.power import parse_pmset_log
from harness.simulator.interfaces import AlertKind, Stage

Run = Callable[[Any], None]


def test_system_sleep_stops_everything_until_a_key_is_struck(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            assert (await mac.enabled()).code == 0
            pid = mac.guest.processes.named("com.example.guard.extension")[0].pid
            slept = await mac.run("pmset sleepnow")
            assert (slept.code, slept.out) == (0, "Sleeping now...\n")
            await mac.until(lambda: mac.guest.sleep.asleep, "sleep")
            await mac.until(lambda: mac.power.slept == [True], "a silent network")
            assert mac.display.stage is Stage.ASLEEP
            mach, lines = mac.guest.clock.mach(), len(mac.messages())
            waiting = asyncio.get_running_loop().create_task(mac.guest.delay("x", 0.001))
            await asyncio.sleep(0.05)
            assert not waiting.done()  # nothing goes on
            assert (mac.guest.clock.mach(), len(mac.messages())) == (mach, lines)
            assert mac.guest.user_activity("move")  # a movement alone wakes no system
            await asyncio.sleep(0.02)
            assert mac.guest.sleep.asleep
            assert mac.guest.user_activity("key")
            await mac.until(lambda: mac.power.slept == [True, False], "awake")
            await waiting
            assert mac.display.stage is Stage.DESKTOP
            assert mac.guest.processes.named("com.example.guard.extension")[0].pid == pid
            events = parse_pmset_log((await mac.run("pmset -g log")).out)
            assert [(event.domain, event.fell_asleep, event.woke) for event in events] == [
                ("Sleep", True, False), ("Wake", False, True), ("Notification", False, False),
            ]  # fmt: skip
            assert any(message.startswith("Wake reason") for message in mac.messages())
            assert not mac.guest.user_activity("key")  # from now on keys are keys

    run_async(body)


def test_display_sleep_leaves_the_system_awake(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            await mac.launch()
            await mac.until(lambda: mac.display.alerts, "the dialog")
            assert (await mac.run("pmset displaysleepnow")).code == 0
            assert mac.display.stage is Stage.ASLEEP
            assert not mac.guest.sleep.asleep
            assert mac.display.alerts  # it is still there, unseen
            assert (await mac.run("caffeinate -u -t 0")).code == 0
            assert mac.display.stage is Stage.DESKTOP
            await mac.run("pmset displaysleepnow")
            assert mac.guest.user_activity("move")
            assert mac.display.stage is Stage.DESKTOP

    run_async(body)


def test_the_screen_locks_where_that_is_set(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            wrong = await mac.run("sysadminctl -screenLock immediate -password -", stdin=b"nonsense\n")
            assert "authentication failed" in wrong.err
            assert "screenLock is off" in (await mac.run("sysadminctl -screenLock status")).err
            await mac.run("sysadminctl -screenLock immediate -password -", stdin=b"admin\n")
            assert "immediate" in (await mac.run("sysadminctl -screenLock status")).err
            await mac.run("pmset displaysleepnow")
            mac.guest.user_activity("key")
            assert mac.display.stage is Stage.LOCKED
            mac.guest.unlocked()
            assert mac.display.stage is Stage.DESKTOP
            await mac.reboot()
            assert mac.guest.sleep.lock_after == 0

    run_async(body)


def test_pmset_wakes_it_by_the_clock_with_a_dark_display(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            assert (await mac.run("pmset relative wake 1")).code != 0  # root only
            assert (await mac.run("pmset relative wake 0", root=True)).code == 0  # passes before it sleeps: too early
            await mac.guest.sleep.system_sleep("test")
            mac.guest.sleep.wake_after(0.02)
            await mac.until(lambda: not mac.guest.sleep.asleep and len(mac.power.slept) == 2, "woken by the clock")
            assert mac.display.stage is Stage.ASLEEP
            assert parse_pmset_log((await mac.run("pmset -g log")).out)[-1].domain == "DarkWake"
            assert (await mac.run("pmset -a sleep 0")).code == 77

    run_async(body)


def test_a_suspended_machine_goes_on_with_the_same_processes(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        state: dict[str, Any] = {}
        async with new_mac() as mac:
            assert (await mac.enabled()).code == 0
            await mac.until(lambda: mac.guest.network.configurations[0].status == "Connected", "the tunnel")
            mac.guest.open_settings("x-apple.systempreferences:com.apple.Network")
            state = json.loads(json.dumps(mac.guest.snapshot()))
            pids = {label: job.process.pid for label, job in mac.guest.launchd.jobs.items() if job.process}
            runs = {label: job.runs for label, job in mac.guest.launchd.jobs.items()}
            before = mac.guest.clock.boot_uuid, mac.guest.clock.mach(), mac.states()
            said = len([text for text in mac.messages() if "client activation request" in text])
            mac.guest.processes.clear()  # the power is cut: nothing is told
            async with new_mac(boot=False) as again:
                await again.guest.resume(state)
                assert again.guest.clock.boot_uuid == before[0]
                assert again.guest.clock.mach() >= before[1]
                assert again.states() == before[2]
                assert (
                    pids.items()
                    <= {
                        label: job.process.pid for label, job in again.guest.launchd.jobs.items() if job.process
                    }.items()
                )
                assert {label: job.runs for label, job in again.guest.launchd.jobs.items()} == runs
                assert again.guest.network.configurations[0].status == "Connected"
                assert again.guest.console_user == "admin"
                assert again.display.urls[-1:] == ["x-apple.systempreferences:com.apple.Network"]
                assert len([text for text in again.messages() if "client activation request" in text]) == said
                assert again.guest.processes.next_pid >= max(pids.values())

    run_async(body)


def test_what_waits_for_the_user_waits_on_after_a_suspend(new_mac: Any, rig: ModuleType, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            task = await mac.launch()
            await mac.until(lambda: mac.display.alerts, "the dialog")
            pid = mac.guest.processes.named("Example Guard")[0].pid
            state = json.loads(json.dumps(mac.guest.snapshot()))
            task.cancel()
            await asyncio.wait([task])
            mac.guest.processes.clear()
            async with new_mac(boot=False) as again:
                await again.guest.resume(state)
                assert [alert.kind for alert in again.display.shown] == [AlertKind.EXTENSION]
                await again.until(lambda: again.guest.processes.get(pid) is not None, "the app, as it was")
                requests = [text for text in again.messages() if "client activation request" in text]
                assert len(requests) == 1  # the one of before
                again.guest.allow(rig.EXTENSION_ID)
                await again.until(
                    lambda: any(a.kind is AlertKind.PROXY for a in again.display.alerts.values()), "consent"
                )
                again.display.press("Allow", AlertKind.PROXY)
                await again.until(lambda: again.guest.processes.get(pid) is None, "the app has ended")
                assert again.states() == [("1.0/1", "activated_enabled")]

    run_async(body)
