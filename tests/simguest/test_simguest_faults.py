"""Each fault leaves exactly the signs by which its cause can be named, and the healthy run has none of them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from harness.simulator.guest import GUEST_FAULTS
from harness.simulator.interfaces import AlertKind

LABEL = "NetworkExtension.com.example.guard.extension.1.0.1"
WAITING = "activated_waiting_for_user"
REMOVAL = r"Removing tree at path: /Library/SystemExtensions/\S+ failed with error"


def prompts(mac) -> list:
    return [alert for alert in mac.display.shown if alert.kind is AlertKind.EXTENSION]


def logged(mac, pattern: str) -> bool:
    return any(re.search(pattern, text) for text in mac.messages())


def reports(disk_root: Path) -> list[Path]:
    return sorted((disk_root / "Library/Logs/DiagnosticReports").glob("*.ips"))


def test_a_healthy_run_has_no_sign_of_any_fault(new_mac, run_async, disk_root):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            for pattern in (
                "coalesceWith",
                REMOVAL,
                "no policy, cannot allow",
                "failed to validate",
                r"pid 0 created from an endpoint",
                "State timer",
            ):
                assert not logged(mac, pattern), pattern
            assert len(prompts(mac)) == 1
            assert "endpoints = {" in (await mac.run(f"launchctl print system/{LABEL}", root=True)).out
            assert reports(disk_root) == []

    run_async(body)


def test_prompt_missing_waits_silently_and_settings_can_approve(new_mac, run_async):
    async def body():
        async with new_mac(faults="approval-prompt-missing") as mac:
            app = await mac.launch()
            await mac.until(lambda: mac.states() and mac.states()[0][1] == WAITING)
            await asyncio.sleep(0.15)
            assert prompts(mac) == []
            assert logged(mac, "activateNew")
            assert not logged(mac, "coalesceWith")
            agent = mac.guest.agent("UserNotificationCenter").pid
            assert not any(record.pid == agent for record in mac.guest.log.between())
            assert [item.waiting for item in mac.guest.extensions()] == [True]
            mac.guest.allow("com.example.guard.extension")
            await mac.until(lambda: mac.display.alerts)
            mac.display.press("Allow")
            assert (await app).code == 0

    run_async(body)


def test_coalesced_finds_a_waiting_entry_and_prompts_again_only_after_a_reboot(new_mac, run_async):
    async def body():
        async with new_mac(faults="approval-coalesced-no-prompt") as mac:
            await mac.launch()
            await mac.until(lambda: logged(mac, "initial activation decision: coalesceWithActivationInProgress"))
            assert logged(
                mac, "activateDecision found existing entry of same version: state activated_waiting_for_user"
            )
            await asyncio.sleep(0.15)
            assert prompts(mac) == []
            await mac.reboot()
            await mac.launch()
            await mac.until(lambda: prompts(mac))

    run_async(body)


def test_invisible_prompt_is_logged_but_not_on_screen_until_a_reboot(new_mac, run_async):
    async def body():
        async with new_mac(faults="invisible-prompt-until-reboot") as mac:
            await mac.launch()
            await mac.until(lambda: logged(mac, "Received CFUserNotification request from sysextd"))
            await mac.launch()
            await mac.until(lambda: logged(mac, "coalesceWithActivationInProgress"))
            await asyncio.sleep(0.1)
            assert prompts(mac) == []
            await mac.reboot()
            await mac.launch()
            await mac.until(lambda: prompts(mac))

    run_async(body)


def test_sysextd_crash_leaves_a_report_and_another_pid(new_mac, run_async, disk_root):
    async def body():
        async with new_mac(faults="sysextd-crash") as mac:
            old = mac.guest.daemon("sysextd").pid
            result = await (await mac.launch())
            assert result.code == 1
            assert "OSSystemExtensionErrorDomain Code=1" in result.err
            assert logged(mac, r"The connection to service on pid 0 created from an endpoint was invalidated\.")
            (report,) = reports(disk_root)
            assert re.fullmatch(r"sysextd-\d{4}-\d\d-\d\d-\d{6}\.ips", report.name)
            first, _, rest = report.read_text().partition("\n")
            assert re.search(r'"app_name":"sysextd"', first)
            assert re.search(r'"procName" : "sysextd"', rest)
            assert json.loads(rest)["pid"] == old
            await mac.until(lambda: mac.guest.processes.named("sysextd") and mac.guest.daemon("sysextd").pid != old)
            assert (await mac.run("systemextensionsctl list")).out == "0 extension(s)\n"

    run_async(body)


def test_staging_never_ends_beside_an_immutable_leftover(new_mac, run_async):
    async def body():
        async with new_mac(faults="staging-removal-immutable") as mac:
            app = await mac.launch()
            await mac.until(lambda: logged(mac, REMOVAL))
            await asyncio.sleep(0.1)
            assert logged(mac, r"Resetting flags and trying again!")
            assert mac.states() == [("1.0/1", "staging")]
            assert "[staging]" in (await mac.run("systemextensionsctl list")).out
            assert not app.done()
            await mac.reboot()
            assert mac.states() == []

    run_async(body)


def test_endpoints_are_missing_only_after_an_upgrade_and_come_back_with_a_reboot(new_mac, run_async, rig, disk_root):
    async def body():
        async with new_mac(faults="xpc-endpoints-missing-after-upgrade") as mac:
            await mac.enabled()
            assert "endpoints = {" in (await mac.run(f"launchctl print system/{LABEL}", root=True)).out
            rig.write_app(disk_root, short="2.0")
            assert (await (await mac.launch())).code == 0
            command = "launchctl print system/NetworkExtension.com.example.guard.extension.2.0.1"
            broken = (await mac.run(command, root=True)).out
            assert "state = running" in broken
            assert "endpoints = {" not in broken
            assert broken.rstrip().endswith("}")
            entries = [entry.as_plist() for entry in mac.guest.sysextd.database if entry.short == "2.0"]
            assert "additionalLaunchdPlistEntries" not in entries[0]
            await mac.reboot()
            assert "endpoints = {" in (await mac.run(command, root=True)).out

    run_async(body)


@pytest.mark.parametrize(
    ("fault", "code", "line"),
    [
        ("no-policy-outside-applications", 4, "no policy, cannot allow apps outside /Applications"),
        ("extension-not-found", 4, None),
        ("category-validation-failed", 9, "failed to validate! uninstalling"),
    ],
)
def test_refusals_reach_the_app_as_error_codes(new_mac, run_async, fault, code, line):
    async def body():
        async with new_mac(faults=fault) as mac:
            result = await (await mac.launch())
            assert result.code == 1
            assert f"Error Domain=OSSystemExtensionErrorDomain Code={code} " in result.err
            assert line is None or logged(mac, re.escape(line))
            assert logged(mac, "no policy") == (fault == "no-policy-outside-applications")
            assert mac.states() == []
            assert ("Unable to find any matched extension with identifier" in result.err) == (
                fault == "extension-not-found"
            )

    run_async(body)


def test_a_crashing_extension_piles_up_reports_with_its_own_uuid(new_mac, run_async, disk_root):
    async def body():
        async with new_mac(faults="extension-crash:every=0.02:count=6") as mac:
            await mac.enabled()
            await mac.until(lambda: len(reports(disk_root)) >= 5, "five reports")
            entry = next(iter(mac.guest.sysextd.database))
            head, _, rest = reports(disk_root)[0].read_text().partition("\n")
            assert json.loads(head)["slice_uuid"].upper() == entry.slices[0].uuid
            assert json.loads(head)["bundleID"] == "com.example.guard.extension"
            assert json.loads(rest)["exception"]["signal"] == "SIGTRAP"
            assert (
                int(re.search(r"runs = (\d+)", (await mac.run(f"launchctl print system/{LABEL}", root=True)).out)[1])
                >= 5
            )
            assert mac.guest.network.find("guard").status != "Connected"

    run_async(body)


@pytest.mark.parametrize(
    ("fault", "state"), [("extension-not-running", "not running"), ("killed-at-exec", "spawn scheduled")]
)
def test_enabled_with_no_process(new_mac, run_async, disk_root, fault, state):
    async def body():
        async with new_mac(faults=fault) as mac:
            await mac.enabled()
            text = (await mac.run(f"launchctl print system/{LABEL}", root=True)).out
            assert f"state = {state}\n" in text
            assert "\tpid = " not in text
            assert ("OS_REASON_EXEC" in text) == (fault == "killed-at-exec")
            assert mac.states() == [("1.0/1", "activated_enabled")]
            if fault == "killed-at-exec":
                assert "Code Signature Invalid" in reports(disk_root)[0].read_text()

    run_async(body)


def test_a_provider_that_never_starts_and_a_store_that_fails(new_mac, run_async):
    async def body():
        async with new_mac(faults="ne-provider-start-timeout") as mac:
            await mac.enabled()
            await mac.until(lambda: logged(mac, r"State timer \(60 seconds\) fired"))
            assert mac.guest.network.find("guard").status == "Disconnected"

    run_async(body)


def test_preferences_that_cannot_be_saved_fail_the_app_without_a_dialog(new_mac, run_async):
    async def body():
        async with new_mac(faults="ne-preferences-save-failed") as mac:
            result = await mac.enabled()
            assert result.code == 1
            assert "failed to make changes in SCPreferences" in result.err
            assert [alert.kind for alert in mac.display.shown] == [AlertKind.EXTENSION]

    run_async(body)


@pytest.mark.parametrize(
    ("fault", "code", "line"),
    [
        ("forbidden-by-policy", 10, "is not in the list of allowed extensions"),
        ("code-signature-invalid", 8, "does not satisfy requirement: -67050"),
        ("extension-category-unrecognised", 7, "does not appear to belong to any extension categories"),
        ("mach-service-name-invalid", 9, "has an invalid mach service name"),
    ],
)
def test_sysextd_turns_the_request_down(new_mac, run_async, fault, code, line):
    async def body():
        async with new_mac(faults=fault) as mac:
            result = await (await mac.launch())
            assert result.code == 1
            assert f"Error Domain=OSSystemExtensionErrorDomain Code={code} " in result.err
            assert logged(mac, re.escape(line))
            assert mac.states() == []

    run_async(body)


def test_the_app_crashes_and_its_request_goes_on(new_mac, run_async, disk_root):
    async def body():
        async with new_mac(faults="host-component-crash") as mac:
            result = await (await mac.launch())
            assert result.code == 128 + 11
            (report,) = reports(disk_root)
            assert json.loads(report.read_text().partition("\n")[0])["bundleID"] == "com.example.guard"
            await mac.until(lambda: prompts(mac))
            mac.guest.allow("com.example.guard.extension")
            await mac.until(lambda: mac.states() == [("1.0/1", "activated_enabled")])

    run_async(body)


def test_an_endpoint_security_client_without_full_disk_access_never_stays(new_mac, run_async, disk_root):
    async def body():
        async with new_mac(faults="es-no-full-disk-access") as mac:
            await mac.enabled()
            await mac.until(lambda: mac.guest.launchd.jobs[LABEL].runs >= 3)
            assert logged(mac, "Failed to open service: 0xe00002d8: Caller lacks TCC authorization")
            assert reports(disk_root) == []
            assert mac.guest.launchd.jobs[LABEL].last_exit_code == "1"

    run_async(body)


def test_trustd_complains_and_everything_works(new_mac, run_async):
    async def body():
        async with new_mac(faults="app-group-profile-mismatch") as mac:
            assert (await mac.enabled()).code == 0
            assert logged(mac, "is ignored because of invalid application signature or incorrect provisioning profile")
            await mac.until(lambda: mac.guest.network.find("guard").status == "Connected")

    run_async(body)


def test_switching_off_gets_stuck(new_mac, run_async):
    async def body():
        async with new_mac(faults="disable-stuck-still-running") as mac:
            await mac.enabled()
            mac.guest.disallow("com.example.guard.extension")
            await mac.until(lambda: mac.states()[0][1] == "terminating_for_disable_but_still_running")
            assert "[terminating for disable but still running]" in (await mac.run("systemextensionsctl list")).out
            assert mac.guest.launchd.jobs[LABEL].process is not None
            await mac.reboot()
            assert mac.states() == [("1.0/1", "activated_disabled")]

    run_async(body)


def test_a_hung_boot_never_reaches_the_network(new_mac, run_async):
    async def body():
        async with new_mac(faults="env-hung-boot", boot=False) as mac:
            booting = asyncio.ensure_future(mac.guest.boot())
            await asyncio.sleep(0.1)
            assert not booting.done()
            assert mac.power.up == []
            booting.cancel()

    run_async(body)


def test_every_guest_fault_is_exercised_here():
    text = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_simguest_*.py")))
    assert [code for code in GUEST_FAULTS if f'"{code}' not in text] == []
