"""sysextd's walk: what an app, a person and a reboot make of an extension's state."""

from __future__ import annotations

import asyncio
import plistlib
import re
from pathlib import Path
from typing import Any

import pytest

from harness.simulator.interfaces import AlertKind

LABEL = "NetworkExtension.com.example.guard.extension.1.0.1"
WAITING = "activated_waiting_for_user"


def database(disk: Path) -> dict[str, Any]:
    return plistlib.loads((disk / "Library/SystemExtensions/db.plist").read_bytes())


@pytest.mark.parametrize("macos", ["13", "14", "15", "26"])
def test_first_activation_walks_all_states_and_the_app_ends_with_0(rig, new_mac, run_async, disk_root, macos):
    async def body():
        async with new_mac(macos=macos) as mac:
            app = await mac.launch()
            await mac.until(lambda: mac.display.alerts, "the dialog")
            (alert,) = mac.display.alerts.values()
            assert (alert.kind, alert.app_name, alert.extension_kind) == (
                AlertKind.EXTENSION,
                "Example Guard",
                "network",
            )
            assert database(disk_root)["extensions"][0]["state"] == WAITING
            assert not app.done()
            mac.display.press("Open System Settings")
            mac.guest.allow(rig.EXTENSION_ID)
            await mac.until(lambda: mac.display.alerts, "the consent")
            (alert,) = mac.display.alerts.values()
            assert alert.kind is AlertKind.PROXY
            mac.display.press("Allow")
            assert (await app).code == 0
            assert mac.states() == [("1.0/1", "activated_enabled")]
            await mac.until(lambda: mac.guest.network.find("guard").status == "Connected")
        walk = [
            re.search(r"from (\w+) to (\w+)", text).groups() for text in mac.messages() if "advancing state" in text
        ]
        assert walk == [
            ("realizing", "staging"),
            ("staging", "validating"),
            ("validating", "validating_by_category"),
            ("validating_by_category", WAITING),
            (WAITING, "activated_enabling"),
            ("activated_enabling", "activated_enabled"),
        ]

    run_async(body)


def test_the_database_has_the_forms_of_posted_ones(rig, new_mac, run_async, disk_root):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            data = database(disk_root)
            assert data["bootUUID"] == mac.guest.clock.boot_uuid
            assert (data["version"], data["developerMode"], data["extensionPolicies"]) == (1, False, [])
            (entry,) = data["extensions"]
            assert entry["teamID"] == "TEAM123456"
            assert entry["container"] == {"bundlePath": rig.APP}
            assert entry["originPath"].startswith(rig.APP + "/Contents/Library/SystemExtensions/")
            assert entry["references"] == [{"appIdentifier": rig.APP_ID, "appRef": rig.APP, "teamID": "TEAM123456"}]
            assert entry["bundleVersion"] == {"CFBundleShortVersionString": "1.0", "CFBundleVersion": "1"}
            assert entry["categories"] == ["com.apple.system_extension.network_extension"]
            staged = entry["stagedBundleURL"]["relative"].removeprefix("file://")
            assert entry["uniqueID"] in staged
            assert (disk_root / staged.lstrip("/") / "Contents/Info.plist").is_file()
            assert "additionalLaunchdPlistEntries" in entry

    run_async(body)


def test_ok_closes_the_dialog_and_a_second_request_is_joined_without_a_dialog(rig, new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            first = await mac.launch()
            await mac.until(lambda: mac.display.alerts)
            mac.display.press("OK")
            assert mac.states() == [("1.0/1", WAITING)]
            second = await mac.launch()
            await mac.until(lambda: any("coalesceWithActivationInProgress" in text for text in mac.messages()))
            await asyncio.sleep(0.1)
            assert len(mac.display.shown) == 1
            mac.guest.allow(rig.EXTENSION_ID)
            await mac.until(lambda: mac.display.alerts)
            mac.display.press("Allow")
            assert {(await first).code, (await second).code} == {0}
            assert [alert.kind for alert in mac.display.shown] == [AlertKind.EXTENSION, AlertKind.PROXY]

    run_async(body)


def test_after_a_reboot_a_waiting_extension_asks_again_when_the_app_does(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.launch()
            await mac.until(lambda: mac.display.alerts)
            mac.display.press("OK")
            before = mac.guest.clock.boot_uuid
            await mac.reboot()
            assert mac.guest.clock.boot_uuid != before
            assert mac.states() == [("1.0/1", WAITING)]
            assert not mac.display.alerts
            await mac.launch()
            await mac.until(lambda: mac.display.alerts, "the dialog of the second boot")

    run_async(body)


def test_enabled_survives_a_reboot_and_asks_for_nothing_again(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            assert (await mac.enabled()).code == 0
            shown = len(mac.display.shown)
            await mac.reboot()
            assert mac.states() == [("1.0/1", "activated_enabled")]
            assert (await mac.run(f"launchctl print system/{LABEL}", root=True)).code == 0
            assert mac.guest.network.find("guard").status == "Disconnected"
            again = await mac.launch()
            assert (await again).code == 0
            assert len(mac.display.shown) == shown

    run_async(body)


def test_an_upgrade_inherits_the_approval_and_leaves_a_leftover_until_reboot(rig, new_mac, run_async, disk_root):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            old_pid = mac.guest.launchd.jobs[LABEL].process.pid
            rig.write_app(disk_root, short="2.0")
            shown = len(mac.display.shown)
            assert (await (await mac.launch())).code == 0
            assert mac.states() == [
                ("1.0/1", "terminated_waiting_to_uninstall_on_reboot"),
                ("2.0/1", "activated_enabled"),
            ]
            assert len(mac.display.shown) == shown
            assert LABEL not in mac.guest.launchd.jobs
            assert mac.guest.processes.get(old_pid) is None
            new = mac.guest.launchd.jobs[f"NetworkExtension.{rig.EXTENSION_ID}.2.0.1"]
            assert new.process is not None
            text = "\n".join(mac.messages())
            assert "activateDecision found entry to replace:" in text
            assert "notifying client of activation conflict" in text
            await mac.reboot()
            assert mac.states() == [("2.0/1", "activated_enabled")]
            assert len(list((disk_root / "Library/SystemExtensions").glob("*/"))) == 1

    run_async(body)


def test_an_upgrade_while_approval_is_pending_asks_for_the_new_version(rig, new_mac, run_async, disk_root):
    async def body():
        async with new_mac() as mac:
            first = await mac.launch()
            await mac.until(lambda: mac.display.alerts)
            rig.write_app(disk_root, short="2.0")
            second = await mac.launch()
            await mac.until(lambda: len(mac.display.shown) == 2)
            assert len(mac.display.alerts) == 1
            assert mac.states() == [("2.0/1", WAITING)]
            assert "Code=12" in (await first).err
            second.cancel()

    run_async(body)


def test_the_same_version_enabled_completes_at_once(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            before = len(mac.guest.log)
            assert (await (await mac.launch())).code == 0
            fresh = mac.messages()[-(len(mac.guest.log) - before) :]
            assert any("existing entry of same version: state activated_enabled" in text for text in fresh)
            assert not any("advancing state" in text for text in fresh)

    run_async(body)


@pytest.mark.parametrize(
    ("macos", "code", "line"), [("13", 3, "Failing to realize"), ("15", 4, "no policy, cannot allow apps outside")]
)
def test_an_app_elsewhere_is_refused_with_the_lines_of_its_version(
    rig, new_mac, run_async, disk_root, macos, code, line
):
    async def body():
        async with new_mac(macos=macos) as mac:
            rig.write_app(disk_root, path="/Users/admin/Downloads/Example Guard.app")
            result = await mac.run(["/Users/admin/Downloads/Example Guard.app/Contents/MacOS/Example Guard"])
            assert result.code == 1
            assert f"OSSystemExtensionErrorDomain Code={code} " in result.err
            assert any(line in text for text in mac.messages())
            assert mac.states() == []

    run_async(body)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ({"CFBundlePackageType": "XPC!"}, 7),
        ({"NetworkExtension": None}, 7),
        ({"CFBundleIdentifier": "com.example.other"}, None),
    ],
)
def test_what_the_bundle_says_decides(rig, new_mac, run_async, disk_root, kind, code):
    async def body():
        rig.write_app(disk_root, kind=kind)
        async with new_mac() as mac:
            app = await mac.launch()
            if code is None:  # another identifier: the app asks for the extension it has
                await mac.until(lambda: mac.display.alerts)
                app.cancel()
                return
            assert f"Code={code} " in (await app).err

    run_async(body)


def test_removing_the_app_uninstalls_its_extension_at_the_next_boot(rig, new_mac, run_async, disk_root):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            rig.shutil.rmtree(disk_root / rig.APP.lstrip("/"))
            assert mac.states() == [("1.0/1", "activated_enabled")]
            await mac.reboot()
            assert mac.states() == []
            assert (await mac.run("systemextensionsctl list")).out == "0 extension(s)\n"
            assert LABEL not in mac.guest.launchd.jobs
            rig.write_app(disk_root)
            asked = len(mac.display.shown)
            assert (await mac.enabled()).code == 0
            assert [alert.kind for alert in mac.display.shown[asked:]] == [AlertKind.EXTENSION, AlertKind.PROXY]

    run_async(body)


def test_dont_allow_fails_the_app_and_the_extension_stays_enabled(rig, new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            app = await mac.launch()
            await mac.until(lambda: mac.display.alerts)
            mac.guest.allow(rig.EXTENSION_ID)
            await mac.until(lambda: any(a.kind is AlertKind.PROXY for a in mac.display.alerts.values()))
            mac.display.press("Don’t Allow", AlertKind.PROXY)
            result = await app
            assert result.code == 1
            assert "permission denied" in result.err
            assert mac.states() == [("1.0/1", "activated_enabled")]
            assert mac.guest.network.configurations == []

    run_async(body)


def test_switching_off_and_on_again(rig, new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            mac.guest.disallow(rig.EXTENSION_ID)
            await mac.until(lambda: mac.states()[0][1] == "activated_disabled")
            (pending,) = mac.guest.extensions()
            assert (pending.waiting, pending.enabled) == (False, False)
            assert LABEL not in mac.guest.launchd.jobs
            mac.guest.allow(rig.EXTENSION_ID)
            await mac.until(lambda: mac.states()[0][1] == "activated_enabled")

    run_async(body)


def test_a_killed_extension_is_started_again_by_launchd(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            job = mac.guest.launchd.jobs[LABEL]
            old = job.process.pid
            await mac.until(lambda: mac.guest.network.find("guard").status == "Connected")
            assert mac.guest.processes.kill(old, 9)
            assert mac.guest.network.find("guard").status != "Connected"
            await mac.until(lambda: job.process is not None)
            assert (job.process.pid != old, job.runs) == (True, 2)
            await mac.until(lambda: mac.guest.network.find("guard").status == "Connected")

    run_async(body)


def test_deactivation_leaves_until_the_next_boot(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            nothing = await (await mac.launch("--deactivate"))
            assert (nothing.code, "Code=4" in nothing.err) == (1, True)
            assert not any(alert.kind is AlertKind.ADMINISTRATOR for alert in mac.display.shown), (
                "nothing to be allowed"
            )
            await mac.enabled()
            assert (await leave(mac)).code == 0
            assert mac.states() == [("1.0/1", "terminated_waiting_to_uninstall_on_reboot")]
            assert LABEL not in mac.guest.launchd.jobs
            assert mac.guest.extensions() == []
            app = await mac.launch()
            await mac.until(lambda: len(mac.states()) == 2, "a new entry beside the leftover")
            app.cancel()

    run_async(body)


def test_a_deactivation_that_no_administrator_allows_is_refused(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            refused = await leave(mac, "Cancel")
            assert (refused.code, "Code=13" in refused.err) == (1, True)
            assert mac.states() == [("1.0/1", "activated_enabled")]
            assert any("request contains no authorizationref" in line for line in mac.messages())
            app = await mac.launch("--deactivate")
            await mac.until(lambda: mac.display.alerts, "the question")
            app.cancel()
            await mac.until(lambda: not mac.display.alerts, "the question goes with its app")

    run_async(body)


async def leave(mac, answer="OK"):
    """The app asks for its extension's deactivation, and the administrator answers."""
    app = await mac.launch("--deactivate")
    await mac.until(lambda: any(alert.kind is AlertKind.ADMINISTRATOR for alert in mac.display.alerts.values()))
    mac.display.press(answer, AlertKind.ADMINISTRATOR)
    return await app


def test_removed_in_settings_it_asks_anew_and_the_configuration_stays(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            mac.guest.remove("com.example.guard.extension")
            await mac.until(lambda: mac.states() == [("1.0/1", "terminated_waiting_to_uninstall_on_reboot")])
            assert LABEL not in mac.guest.launchd.jobs
            assert mac.guest.extensions() == []
            assert mac.guest.network.find("guard") is not None
            app = await mac.launch()
            await mac.until(lambda: mac.states()[-1] == ("1.0/1", WAITING), "a new entry that waits")
            await mac.until(lambda: mac.display.alerts, "the dialog")
            app.cancel()

    run_async(body)


def test_killing_sysextd_loses_the_request_and_keeps_the_record(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            app = await mac.launch()
            await mac.until(lambda: mac.display.alerts)
            old = mac.guest.daemon("sysextd").pid
            mac.guest.processes.kill(old, 9)
            assert "OSSystemExtensionErrorDomain" in (await app).err
            await mac.until(lambda: mac.guest.processes.named("sysextd"))
            assert mac.guest.daemon("sysextd").pid != old
            assert mac.states() == [("1.0/1", WAITING)]

    run_async(body)


def test_an_edited_database_counts_once_sysextd_is_restarted(new_mac, run_async, disk_root):
    """What CI machines without SIP do instead of clicking: state rewritten in db.plist, then the daemon restarted."""

    async def body():
        async with new_mac(sip=False) as mac:
            await mac.launch()
            await mac.until(lambda: mac.display.alerts)
            path = disk_root / "Library/SystemExtensions/db.plist"
            data = database(disk_root)
            data["extensions"][0]["state"] = "activated_enabling"
            path.write_bytes(plistlib.dumps(data, fmt=plistlib.FMT_BINARY))
            assert mac.states() == [("1.0/1", WAITING)]
            mac.guest.processes.kill(mac.guest.daemon("sysextd").pid, 15)
            await mac.until(lambda: mac.states() == [("1.0/1", "activated_enabled")])
            assert mac.guest.launchd.jobs[LABEL].process is not None

    run_async(body)


@pytest.mark.parametrize(
    "content", [b"", b"not a plist", plistlib.dumps([1]), plistlib.dumps({"extensions": [1, {"uniqueID": "x"}]})]
)
def test_a_damaged_database_never_stops_the_guest(new_mac, run_async, disk_root, content):
    async def body():
        (disk_root / "Library/SystemExtensions/db.plist").write_bytes(content)
        async with new_mac() as mac:
            assert mac.guest.console_user == "admin"
            await mac.enabled()
            assert ("1.0/1", "activated_enabled") in mac.states()

    run_async(body)


def test_the_real_redirector_is_driven_by_its_own_bundle(new_mac, run_async, disk_root, redirector):
    """Versions, team, UUIDs and hashes come out of the published, notarized files."""

    async def body():
        redirector("0.11.4", disk_root / "Applications")
        path = "/Applications/Mitmproxy Redirector.app/Contents/MacOS/Mitmproxy Redirector"
        async with new_mac() as mac:
            refused = mac.start([path])
            await mac.until(lambda: mac.display.alerts)
            (alert,) = mac.display.alerts.values()
            assert alert.kind is AlertKind.NOTICE
            mac.display.press("OK")
            assert (await refused).code == 1
            app = mac.start([path, "/tmp/mitmproxy-77"])
            await mac.until(lambda: mac.display.alerts)
            identifier = "org.mitmproxy.macos-redirector.network-extension"
            mac.guest.allow(identifier)
            await mac.until(lambda: any(a.kind is AlertKind.PROXY for a in mac.display.alerts.values()))
            mac.display.press("Allow", AlertKind.PROXY)
            assert (await app).code == 0
            redirector("0.11.5", disk_root / "Applications")
            assert (await mac.run([path, "/tmp/mitmproxy-78"])).code == 0
            old, new = database(disk_root)["extensions"]
            assert (old["state"], new["state"]) == ("terminated_waiting_to_uninstall_on_reboot", "activated_enabled")
            assert (
                old["bundleVersion"]["CFBundleShortVersionString"],
                new["bundleVersion"]["CFBundleShortVersionString"],
            ) == ("1.0", "2.0")
            assert new["teamID"] == "S8XHQB96PW"
            # published by the signature itself, read by other tools than ours
            assert new["stagedCdhashes"]["748ee256b2e991d606758aaa9e558c71ffe0b51c"] == {
                "cputype": 16777228,
                "cpusubtype": 0,
            }
            uuids = await mac.run(["dwarfdump", "--uuid", path])
            assert "UUID: 8F0B81E2-C5B8-37F5-B8FF-533857442CA3 (arm64)" in uuids.out

    run_async(body)
