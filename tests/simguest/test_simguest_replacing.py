"""What goes wrong with a replacement: each fault leaves its signs, and a rate is a draw per replacement."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harness.simulator.faults import FaultSet, decide, parse_faults
from harness.simulator.guest.replacing import REPLACEMENT_FAULTS
from harness.simulator.interfaces import AlertKind

OLD = "NetworkExtension.com.example.guard.extension.1.0.1"
NEW = "NetworkExtension.com.example.guard.extension.2.0.1"
LEFTOVER = "terminated_waiting_to_uninstall_on_reboot"


def upgraded(new_mac, run_async, rig, disk_root, fault, check):
    """Activate 1.0, install 2.0, start the app; `check(mac, the app's task)`."""

    async def body():
        async with new_mac(faults=fault) as mac:
            await mac.enabled()
            rig.write_app(disk_root, short="2.0")
            await check(mac, await mac.launch())

    run_async(body)


def test_without_a_fault_the_new_version_takes_over(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        assert (await app).code == 0
        assert mac.states() == [("1.0/1", LEFTOVER), ("2.0/1", "activated_enabled")]
        assert OLD not in mac.guest.launchd.jobs
        (entry,) = mac.guest.sysextd.database.live("com.example.guard.extension")
        assert (
            (disk_root / entry.staged.lstrip("/") / f"Contents/MacOS/{entry.executable}").read_bytes().endswith(b"2.0")
        )
        await mac.until(lambda: mac.guest.network.find("guard").status == "Connected")

    upgraded(new_mac, run_async, rig, disk_root, "", check)


def test_the_old_code_stays_under_the_new_version(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        assert (await app).code == 0
        (entry,) = mac.guest.sysextd.database.live("com.example.guard.extension")
        assert entry.version == "2.0/1"
        code = disk_root / entry.staged.lstrip("/") / f"Contents/MacOS/{entry.executable}"
        assert code.read_bytes().endswith(b"1.0")

    upgraded(new_mac, run_async, rig, disk_root, "build-uuid-unchanged", check)


def test_the_old_process_runs_on_until_a_restart(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        assert (await app).code == 0
        listed = [
            row for row in (await mac.run("launchctl list", root=True)).out.splitlines() if "com.example.guard" in row
        ]
        assert sorted(row.split("\t")[2] for row in listed) == [OLD, NEW]
        assert not any(row.startswith("-") for row in listed)
        await mac.reboot()
        assert OLD not in mac.guest.launchd.jobs
        assert mac.guest.launchd.jobs[NEW].process is not None

    upgraded(new_mac, run_async, rig, disk_root, "old-process-lingers", check)


def test_the_app_quits_before_it_answers(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        result = await app
        assert (result.code, result.err) == (0, "")
        assert mac.states() == [("1.0/1", "activated_enabled")]
        said = mac.messages()
        conflict = said.index("notifying client of activation conflict")
        assert any("client connection (pid" in text for text in said[conflict:])
        assert not any("actionForReplacingExtension" in text for text in said)

    upgraded(new_mac, run_async, rig, disk_root, "replacement-answer-lost", check)


def test_the_app_answers_cancel(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        result = await app
        assert result.code == 1
        assert "OSSystemExtensionErrorDomain Code=11" in result.err
        assert mac.states() == [("1.0/1", "activated_enabled")]
        assert any("actionForReplacingExtension" in text for text in mac.messages())

    upgraded(new_mac, run_async, rig, disk_root, "replacement-cancelled", check)


def test_the_new_version_waits_for_a_restart(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        assert (await app).code == 0
        assert mac.states() == [("1.0/1", "activated_enabled"), ("2.0/1", "activated_waiting_to_upgrade")]
        assert "[activated waiting to upgrade]" in (await mac.run("systemextensionsctl list")).out
        assert "request:didFinishWithResult: 1" in mac.messages()
        assert (await (await mac.launch())).code == 0  # asking again changes nothing
        await mac.reboot()
        assert mac.states() == [("2.0/1", "activated_enabled")]

    upgraded(new_mac, run_async, rig, disk_root, "upgrade-waiting-for-reboot", check)


def test_two_entries_refuse_everything_until_a_restart(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        assert "OSSystemExtensionErrorDomain Code=4" in (await app).err
        assert [state for _, state in mac.states()] == ["activated_enabled", "validating_by_category"]
        again = await (await mac.launch())
        assert "OSSystemExtensionErrorDomain Code=4" in again.err
        assert sum("activateDecision found two entries for" in text for text in mac.messages()) == 2
        await mac.reboot()
        assert [state for _, state in mac.states()] == ["activated_enabled"]

    upgraded(new_mac, run_async, rig, disk_root, "duplicate-entries-jam", check)


def test_the_user_is_asked_again(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        await mac.until(lambda: any(alert.kind is AlertKind.EXTENSION for alert in mac.display.alerts.values()))
        assert mac.states() == [("1.0/1", LEFTOVER), ("2.0/1", "activated_waiting_for_user")]
        mac.guest.allow("com.example.guard.extension")
        assert (await app).code == 0

    upgraded(new_mac, run_async, rig, disk_root, "approval-not-inherited", check)


def test_the_configuration_has_to_be_asked_for_again(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        await mac.until(lambda: any(alert.kind is AlertKind.PROXY for alert in mac.display.alerts.values()))
        assert mac.states()[-1] == ("2.0/1", "activated_enabled")
        assert mac.guest.network.find("guard") is None
        mac.display.press("Allow", AlertKind.PROXY)
        assert (await app).code == 0

    upgraded(new_mac, run_async, rig, disk_root, "ne-configuration-lost", check)


def test_connections_are_invalidated_also_after_a_restart(new_mac, run_async, rig, disk_root):
    async def check(mac, app):
        assert "NSCocoaErrorDomain Code=4099" in (await app).err
        assert mac.states()[-1] == ("2.0/1", "activated_enabled")
        await mac.reboot()
        assert (await (await mac.launch())).code == 1
        leaving = await mac.launch("--deactivate")
        await mac.until(lambda: any(alert.kind is AlertKind.ADMINISTRATOR for alert in mac.display.alerts.values()))
        mac.display.press("OK", AlertKind.ADMINISTRATOR)
        assert (await leaving).code == 0
        assert "4099" not in (await mac.enabled()).err  # a new approval mends it

    upgraded(new_mac, run_async, rig, disk_root, "xpc-invalidated-after-upgrade", check)


def test_a_rate_is_drawn_at_each_replacement(new_mac, run_async, rig, disk_root):
    """Eight upgrades of one Mac: those whose own draw says so are broken, and no others; a restart in between counts on."""

    async def body():
        async with new_mac(faults="xpc-endpoints-missing-after-upgrade:rate=0.5:seed=3") as mac:
            fault = next(iter(parse_faults("xpc-endpoints-missing-after-upgrade:rate=0.5:seed=3")))
            wanted = [decide(fault, "key", "" if n == 1 else f"replacement {n}") for n in range(1, 9)]
            assert len(set(wanted)) == 2
            await mac.enabled()
            broken = []
            for number in range(2, 10):
                rig.write_app(disk_root, short=f"{number}.0")
                assert (await (await mac.launch())).code == 0
                (entry,) = mac.guest.sysextd.database.live("com.example.guard.extension")
                assert entry.short == f"{number}.0"
                broken.append(not entry.launchd_entries)
                if number == 4:
                    await mac.reboot()
            assert broken == wanted

    run_async(body)


def test_per_machine_is_decided_once_and_the_first_draw_is_the_machine_s() -> None:
    for seed in range(20):
        once = FaultSet(parse_faults(f"old-process-lingers:rate=0.5:seed={seed}:per=machine"), "key")
        draws = {
            once.at("old-process-lingers", occasion) is not None for occasion in ("", "replacement 2", "replacement 3")
        }
        assert draws == {once.active("old-process-lingers") is not None}
        each = FaultSet(parse_faults(f"old-process-lingers:rate=0.5:seed={seed}"), "key")
        assert each.at("old-process-lingers", "") == each.active("old-process-lingers")
    assert FaultSet((), "key").at("old-process-lingers", "x") is None


@pytest.mark.parametrize("code", REPLACEMENT_FAULTS)
def test_every_fault_of_a_replacement_is_exercised_here(code: str) -> None:
    assert f'"{code}' in Path(__file__).read_text()


def test_nothing_of_it_touches_a_first_activation(new_mac, run_async):
    async def body():
        async with new_mac(faults=",".join(REPLACEMENT_FAULTS)) as mac:
            assert (await mac.enabled()).code == 0
            assert mac.states() == [("1.0/1", "activated_enabled")]
            await mac.until(lambda: mac.guest.network.find("guard").status == "Connected")
            await asyncio.sleep(0.05)
            assert mac.states() == [("1.0/1", "activated_enabled")]

    run_async(body)
