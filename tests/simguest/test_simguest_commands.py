"""macOS's own commands in the simulated guest, one by one."""

from __future__ import annotations

import asyncio
import io
import json
import plistlib
import re
import tarfile
import zipfile
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.formats.system import parse_hdiutil_attach, parse_installer
from harness.simulator.guest.clock import GuestClock
from harness.simulator.guest.predicate import BadPredicate, parse_predicate
from harness.simulator.guest.processes import GuestProcess, ProcessTable
from harness.simulator.guest.unified_log import UnifiedLog
from harness.simulator.interfaces import Stage
from tests.support import bundle_builders as builders


def record(message="client connection (pid 7) invalidated", **changes):
    log = UnifiedLog(GuestClock())
    process = GuestProcess(537, "sysextd", "/System/Library/sysextd", "root")
    return log.emit(process, message, **{"subsystem": "com.apple.sx", "category": "XPC", **changes})


@pytest.mark.parametrize(
    ("predicate", "matches"),
    [
        ('process == "sysextd"', True),
        ("process == 'sysextd' AND subsystem == 'com.apple.sx'", True),
        ('process != "sysextd"', False),
        ('eventMessage CONTAINS "CONNECTION"', False),
        ('eventMessage CONTAINS[c] "CONNECTION"', True),
        ('eventMessage contains[cd] "connection"', True),
        ('eventMessage BEGINSWITH "client"', True),
        ('processImagePath ENDSWITH "/sysextd"', True),
        ('eventMessage LIKE "client*invalidated"', True),
        ('eventMessage LIKE "client?invalidated"', False),
        (r'eventMessage MATCHES "client .*\\(pid \\d+\\).*"', True),
        ('process IN {"amfid", "sysextd"}', True),
        ('process IN {"amfid"}', False),
        ("NOT (process == \"amfid\") && (category == 'XPC' || category == 'x')", True),
        ('!(process == "sysextd")', False),
        ("processID == 537", True),
        ("processID >= 538", False),
        ("messageType == error", False),
        ("messageType == default", True),
        ("eventType == logEvent", True),
        ('process == "a" OR process == "sysextd" AND category == "no"', False),
        ("TRUEPREDICATE", True),
    ],
)
def test_predicates(predicate, matches):
    assert parse_predicate(predicate)(record()) is matches


@pytest.mark.parametrize(
    "predicate",
    [
        "",
        "process",
        "process ==",
        'process == "a',
        "colour == 1",
        "(process == 'a'",
        "process == 'a' extra",
        "process LIKES 'x'",
        "(",
    ],
)
def test_bad_predicates_are_refused(predicate):
    with pytest.raises(BadPredicate):
        parse_predicate(predicate)


@given(st.text(max_size=60) | st.from_regex(r"(process|pid|NOT|\(|\)|==|IN|\{|'x'| )*", fullmatch=True))
def test_no_text_crashes_the_predicate_parser(text):
    try:
        test = parse_predicate(text)
    except BadPredicate:
        return
    assert test(record()) in (True, False)


@given(st.text(min_size=1, max_size=50))
def test_any_text_survives_quoting(text):
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_predicate(f'eventMessage == "{quoted}"')(record(text))
    assert not parse_predicate(f'eventMessage == "{quoted}x"')(record(text))


def test_pids_go_up_and_are_never_used_twice_at_once():
    table = ProcessTable("x")
    pids = [table.spawn("p", "/p").pid for _ in range(50)]
    assert pids == sorted(set(pids))
    assert table.kill(pids[0], 0)
    assert table.get(pids[0]) is not None
    assert table.kill(pids[0], 15)
    assert table.get(pids[0]) is None
    assert not table.kill(pids[0], 15)


def test_log_show_hides_info_and_debug_unless_asked_and_honours_times(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            agent = mac.guest.daemon("trustd")
            for level in ("Debug", "Info", "Default", "Error"):
                mac.guest.log.emit(agent, f"probe {level}", subsystem="probe", level=level)

            async def shown(*extra):
                result = await mac.run(
                    ["/usr/bin/log", "show", "--style", "ndjson", "--predicate", 'subsystem == "probe"', *extra]
                )
                assert result.code == 0
                *records, last = [json.loads(line) for line in result.out.splitlines()]
                assert last == {"count": len(records), "finished": 1}
                return [item["messageType"] for item in records]

            assert await shown() == ["Default", "Error"]
            assert await shown("--info") == ["Info", "Default", "Error"]
            assert await shown("--debug") == ["Debug", "Info", "Default", "Error"]
            assert await shown("--last", "1m") == ["Default", "Error"]
            now = mac.guest.clock.now()
            assert await shown("--start", now.strftime("%Y-%m-%d %H:%M:%S%z")) in ([], ["Default", "Error"])
            assert await shown("--start", "2100-01-01 00:00:00") == []
            assert await shown("--end", "2001-01-01 00:00:00") == []
            assert (await mac.run(["log", "show", "--predicate", "nonsense"])).code == 64
            assert (await mac.run(["log", "show", "--style", "pretty"])).code == 64
            assert (await mac.run(["log", "dance"])).code == 64

    run_async(body)


def test_log_stream_gives_what_is_logged_from_its_start_on(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            agent = mac.guest.daemon("trustd")
            mac.guest.log.emit(agent, "before", subsystem="probe")
            out: list[bytes] = []
            words = [
                "/usr/bin/log",
                "stream",
                "--style",
                "ndjson",
                "--level",
                "debug",
                "--predicate",
                'subsystem == "probe"',
            ]
            task = asyncio.ensure_future(mac.guest.execute(words, mac.io(out, [])))
            await mac.until(lambda: out)
            assert out[0] == b'Filtering the log data using "subsystem == "probe""\n'
            for number in range(300):
                mac.guest.log.emit(agent, f"line {number}\nnext", subsystem="probe", level="Debug")
            await mac.until(lambda: b"line 299" in b"".join(out))
            messages = [json.loads(line)["eventMessage"] for line in b"".join(out[1:]).splitlines()]
            assert messages == [f"line {number}\nnext" for number in range(300)]
            (process,) = mac.guest.processes.named("log")
            mac.guest.processes.kill(process.pid, 15)
            assert await task == 128 + 15
            assert mac.guest.processes.named("log") == []

    run_async(body)


def test_a_reboot_purges_the_log_and_keeps_a_little(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            agent = mac.guest.daemon("trustd")
            mac.guest.log.emit(agent, "ordinary")
            mac.guest.log.emit(agent, "an error", level="Error")
            await mac.reboot()
            texts = mac.messages()
            assert "an error" in texts
            assert "ordinary" not in texts
            last = (await mac.run(["log", "show", "--last", "boot", "--style", "ndjson"])).out
            assert "an error" not in last
            assert mac.guest.clock.boot_uuid in last

    run_async(body)


def test_log_collect_needs_root_and_its_archive_can_be_shown(new_mac, run_async, disk_root):
    async def body():
        async with new_mac() as mac:
            assert (await mac.run("log collect --output /tmp/a.logarchive")).code == 77
            result = await mac.run("log collect --output /tmp/a.logarchive --last 1h", root=True)
            assert result.out == "Archive successfully written to /private/tmp/a.logarchive\n"
            archive = disk_root / "private/tmp/a.logarchive"
            assert plistlib.loads((archive / "Info.plist").read_bytes())["SimulatedArchive"] is True
            assert not list(archive.rglob("*.tracev3"))
            shown = await mac.run("log show --archive /tmp/a.logarchive --style ndjson --info")
            *records, last = [json.loads(line) for line in shown.out.splitlines()]
            assert last["count"] == len(records)
            assert f"=== system boot: {mac.guest.clock.boot_uuid}" in [item["eventMessage"] for item in records]
            again = await mac.run("log collect --output /tmp/a.logarchive", root=True)
            assert again.code != 0

    run_async(body)


def test_sysdiagnose_waits_for_enter_and_packs_a_real_archive(new_mac, run_async, disk_root):
    async def body():
        async with new_mac(faults="extension-crash:every=0.01:count=2") as mac:
            assert (await mac.run("sysdiagnose -u -b")).code == 1
            await mac.enabled()
            await mac.until(lambda: list((disk_root / "Library/Logs/DiagnosticReports").glob("*.ips")))
            (disk_root / "private/tmp/out").mkdir()
            out: list[bytes] = []
            channel = mac.io(out, [], root=True)
            channel.stdin = asyncio.StreamReader()
            task = asyncio.ensure_future(
                mac.guest.execute(["sysdiagnose", "-u", "-b", "-q", "-f", "/tmp/out", "-A", "evidence"], channel)
            )
            await mac.until(lambda: b"Press 'Enter'" in b"".join(out))
            await asyncio.sleep(0.1)
            assert not task.done()
            channel.stdin.feed_data(b"\n")
            assert await task == 0
            assert b"Output available at '/private/tmp/out/evidence.tar.gz'." in b"".join(out)
            with tarfile.open(disk_root / "private/tmp/out/evidence.tar.gz") as tar:
                names = tar.getnames()
            assert {name.split("/")[0] for name in names} == {"evidence"}
            for wanted in (
                r"system_logs\.logarchive/Info\.plist",
                r"ps\.txt",
                r"crashes_and_spins/.*\.ips",
                r"README\.txt",
                r"sysdiagnose\.log",
            ):
                assert any(re.fullmatch(f"evidence/{wanted}", name) for name in names), wanted
            named = await mac.run("sysdiagnose -u -b", root=True, stdin=b"\n")
            pattern = r"Output available at '/private/var/tmp/sysdiagnose_\d{4}\.\d\d\.\d\d_\d\d-\d\d-\d\d-0700_macOS_VirtualMac2-1_\w+\.tar\.gz'\."
            assert re.search(pattern, named.out)
            assert (await mac.run("sysdiagnose -l", root=True, stdin=b"\n")).code == 64

    run_async(body)


def test_sysdiagnose_can_hang(new_mac, run_async):
    async def body():
        async with new_mac(faults="env-sysdiagnose-hangs") as mac:
            task = asyncio.ensure_future(mac.run("sysdiagnose -u -b", root=True, stdin=b"\n"))
            await asyncio.sleep(0.2)
            assert not task.done()
            task.cancel()

    run_async(body)


def test_open_and_quit_settings(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            url = "x-apple.systempreferences:com.apple.ExtensionsPreferences?extensionPointIdentifier=x"
            assert (await mac.run(["open", url])).code == 0
            assert (await mac.run(["open", "x-apple.systempreferences:no.such.pane"])).code == 0
            assert mac.display.urls == [url, "x-apple.systempreferences:no.such.pane"]
            (process,) = mac.guest.processes.named("System Settings")
            mac.guest.processes.kill(process.pid, 15)
            assert mac.display.settings_closed == 1
            assert (await mac.run(["osascript", "-e", 'tell application "System Settings" to quit'])).code == 0
            assert mac.display.settings_closed == 2
            refused = await mac.run(["osascript", "-e", 'tell application "System Events" to get windows'])
            assert (refused.code, "(-1719)" in refused.err) == (1, True)
            nothing = await mac.run("open -a Nonesuch")
            assert (nothing.code, nothing.err) == (1, "Unable to find application named 'Nonesuch'\n")

    run_async(body)


def test_open_starts_an_app_in_the_background_and_w_waits_for_it(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            assert (await mac.run(["open", "-a", "Example Guard"])).code == 0
            await mac.until(lambda: mac.display.alerts)
            assert len(mac.guest.processes.named("Example Guard")) == 1
            assert (await mac.run(["open", "/Applications/Example Guard.app"])).code == 0
            assert len(mac.guest.processes.named("Example Guard")) == 1
            waiting = mac.start(["open", "-n", "-W", "-a", "/Applications/Example Guard.app"])
            await mac.until(lambda: len(mac.guest.processes.named("Example Guard")) == 2)
            assert not waiting.done()
            for process in mac.guest.processes.named("Example Guard"):
                mac.guest.processes.kill(process.pid, 9)
            assert (await waiting).code == 0

    run_async(body)


def test_without_a_console_user_nothing_opens(new_mac, run_async):
    async def body():
        async with new_mac(boot=False, login_seconds=30) as mac:
            booting = asyncio.ensure_future(mac.guest.boot())
            await mac.until(lambda: mac.power.up == [True])
            assert (mac.guest.console_user, mac.display.stage) == ("root", Stage.LOGIN)
            result = await mac.run("open -a Safari")
            assert (result.code, "LSOpenURLsWithRole" in result.err) == (1, True)
            refused = await mac.run("launchctl asuser 501 true", root=True)
            assert "Could not switch to audit session" in refused.err
            booting.cancel()

    run_async(body)


def test_shutdown_and_reboot(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            assert (await mac.run("shutdown -r now")).err == "shutdown: NOT super-user\n"
            before = mac.guest.clock.boot_uuid
            assert (await mac.run("reboot", root=True)).code == 0
            await mac.until(lambda: mac.guest.clock.boot_uuid != before and mac.guest.console_user == "admin")
            assert mac.power.up == [True, False, True]
            assert (await mac.run("shutdown -h now", root=True)).code == 0
            await mac.until(lambda: mac.power.off == 1)
            assert mac.power.up[-1] is False

    run_async(body)


def test_delays_are_in_the_journal(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            sums: dict[str, float] = {}
            for line in mac.journal.lines:
                if line["what"] == "delay":
                    sums[line["name"]] = sums.get(line["name"], 0) + line["seconds"]
            settings = mac.guest.settings
            assert sums["boot"] == settings.boot_seconds
            assert sums["login"] == settings.login_seconds
            assert sums["prompt"] == sums["consent"] == settings.prompt_seconds
            assert sums["activation"] == pytest.approx(settings.activation_seconds)
            assert sums["settle"] == pytest.approx(2 * settings.settle_seconds)

    run_async(body)


def test_kickstart_kill_and_asuser(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            label = "system/NetworkExtension.com.example.guard.extension.1.0.1"
            old = mac.guest.launchd.get("system", label.split("/")[1]).process.pid
            assert (await mac.run(f"launchctl kickstart -k {label}")).code == 1
            assert (await mac.run(f"launchctl kickstart -k {label}", root=True)).code == 0
            new = mac.guest.launchd.get("system", label.split("/")[1]).process.pid
            assert new != old
            assert (await mac.run(f"launchctl bootout {label}", root=True)).code == 150
            assert (
                await mac.run("launchctl asuser 501 sw_vers --productVersion", root=True)
            ).out.strip() == mac.guest.macos.product
            assert (await mac.run("launchctl asuser 501 sw_vers")).code == 1
            assert (await mac.run("launchctl managername")).out == "Background\n"
            assert (await mac.run("launchctl asuser 501 launchctl managername", root=True)).out == "Aqua\n"
            assert (await mac.run("launchctl managername")).out == "Background\n"

    run_async(body)


def test_systemextensionsctl_is_gated_by_sip(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            for verb in ("reset", "developer on", "uninstall TEAM123456 com.example.guard.extension"):
                result = await mac.run(f"systemextensionsctl {verb}", root=True)
                assert "cannot be used if System Integrity Protection is enabled" in result.out
                assert result.code != 0
            assert (await mac.run("systemextensionsctl gc", root=True)).out == "Successfully cleaned up\n"
            assert (await mac.run("systemextensionsctl")).code == 64

    run_async(body)


def test_systemextensionsctl_without_sip(new_mac, run_async):
    async def body():
        async with new_mac(sip=False) as mac:
            assert (await mac.run("csrutil status")).out == "System Integrity Protection status: disabled.\n"
            await mac.enabled()
            assert (await mac.run("systemextensionsctl uninstall - com.example.guard.extension", root=True)).code == 0
            assert mac.states() == [("1.0/1", "terminated_waiting_to_uninstall_on_reboot")]
            assert (await mac.run("systemextensionsctl uninstall - com.example.guard.extension", root=True)).code == 1

    run_async(body)


def test_installing_by_ditto_zip_and_attributes(new_mac, run_async, rig, disk_root):
    async def body():
        rig.write_app(disk_root, path="/private/tmp/Example Guard.app")
        (disk_root / "private/tmp/Example Guard.app/link").symlink_to("Contents")
        async with new_mac(app=False) as mac:
            assert (await mac.run(["ditto", "/tmp/Example Guard.app", "/Applications/Copy.app"])).code == 0
            copied = disk_root / "Applications/Copy.app"
            assert (copied / "link").is_symlink()
            assert (copied / "Contents/MacOS/Example Guard").stat().st_mode & 0o111
            assert (
                await mac.run(["ditto", "-c", "-k", "--keepParent", "/tmp/Example Guard.app", "/tmp/a.zip"])
            ).code == 0
            assert (await mac.run(["ditto", "-x", "-k", "/tmp/a.zip", "/tmp/unzipped"])).code == 0
            assert (disk_root / "private/tmp/unzipped/Example Guard.app/Contents/Info.plist").is_file()
            assert (await mac.run(["ditto", "/tmp/none", "/tmp/x"])).code == 1
            value = "0181;66000000;Safari;X"
            assert (
                await mac.run(["xattr", "-w", "-r", "com.apple.quarantine", value, "/Applications/Copy.app"])
            ).code == 0
            shown = await mac.run(["xattr", "-p", "com.apple.quarantine", "/Applications/Copy.app/Contents/Info.plist"])
            assert shown.out.strip() == value
            assert (await mac.run(["xattr", "-d", "-r", "com.apple.quarantine", "/Applications/Copy.app"])).code == 0
            gone = await mac.run(["xattr", "-p", "com.apple.quarantine", "/Applications/Copy.app"])
            assert (gone.code, "No such xattr" in gone.err) == (1, True)

    run_async(body)


def test_a_hostile_zip_does_not_leave_the_disk(new_mac, run_async, disk_root, tmp_path):
    async def body():
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("../../../../../evil", "x")
        (disk_root / "private/tmp/evil.zip").write_bytes(data.getvalue())
        async with new_mac() as mac:
            assert (await mac.run("ditto -x -k /tmp/evil.zip /tmp/deep/er")).code == 1
            assert not list(tmp_path.rglob("evil"))

    run_async(body)


def test_what_cannot_be_installed_says_so(new_mac, run_async, disk_root):
    async def body():
        (disk_root / "private/tmp/bad.pkg").write_bytes(b"xar!" + b"\0" * 100)
        (disk_root / "private/tmp/bad.dmg").write_bytes(b"no image")
        async with new_mac() as mac:
            result = await mac.run("installer -pkg /tmp/bad.pkg -target /", root=True)
            assert (result.code, "installer: The install failed." in result.out) == (1, True)
            assert (await mac.run("installer -pkg /tmp/none.pkg -target /", root=True)).code == 1
            assert (await mac.run("installer -pkg /tmp/bad.pkg -target /")).code == 1
            attached = await mac.run("hdiutil attach -nobrowse /tmp/bad.dmg")
            assert (attached.code, attached.err) == (1, "hdiutil: attach failed - image not recognized\n")
            assert (await mac.run("hdiutil detach /Volumes/none")).code == 1

    run_async(body)


def test_property_lists(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            printed = (await mac.run("plutil -p /Library/SystemExtensions/db.plist")).out
            assert '"state" => "activated_enabled"' in printed
            as_json = await mac.run("plutil -convert json -o - /Library/SystemExtensions/db.plist")
            assert json.loads(as_json.out)["extensions"][0]["state"] == "activated_enabled"
            assert (await mac.run("plutil -lint /Library/SystemExtensions/db.plist")).out.endswith(": OK\n")
            name = await mac.run(
                ["defaults", "read", "/Applications/Example Guard.app/Contents/Info", "CFBundleIdentifier"]
            )
            assert name.out == "com.example.guard\n"
            await mac.run("defaults write com.example.x Key -bool true")
            assert (await mac.run("defaults read com.example.x Key")).out == "1\n"
            missing = await mac.run("defaults read com.example.x Nothing")
            assert (missing.code, missing.err) == (
                1,
                "The domain/default pair of (com.example.x, Nothing) does not exist\n",
            )
            buddy = await mac.run(
                [
                    "/usr/libexec/PlistBuddy",
                    "-c",
                    "Print :CFBundleVersion",
                    "/Applications/Example Guard.app/Contents/Info.plist",
                ]
            )
            assert buddy.out == "1\n"

    run_async(body)


def test_signing_tools_on_the_real_app(new_mac, run_async, disk_root, redirector):
    async def body():
        redirector("0.11.5", disk_root / "Applications")
        app = "/Applications/Mitmproxy Redirector.app"
        async with new_mac() as mac:
            shown = (await mac.run(["codesign", "-dv", app])).err
            assert "Identifier=org.mitmproxy.macos-redirector\n" in shown
            assert "TeamIdentifier=S8XHQB96PW\n" in shown
            assert "CDHash=e00b8d1c973e18f88abbfcbb86abf8a3af62aa11\n" in shown
            entitlements = await mac.run(["codesign", "-d", "--entitlements", "-", "--xml", app])
            assert plistlib.loads(entitlements.raw)["com.apple.developer.system-extension.install"] is True
            assert "accepted" in (await mac.run(["spctl", "-a", "-vv", app])).err
            assert (await mac.run(["spctl", "-a", "-vv", "/Applications/Example Guard.app"])).code == 3

    run_async(body)


def test_unknown_things_are_refused_as_a_shell_does(new_mac, run_async, disk_root):
    async def body():
        (disk_root / "private/tmp/data").write_text("no program")
        (disk_root / "private/tmp/odd").write_bytes(b"\xca\xfe")
        (disk_root / "private/tmp/odd").chmod(0o755)
        async with new_mac() as mac:
            assert (await mac.run("nonesuch")).code == 127
            assert (await mac.run("nonesuch")).err == "zsh: command not found: nonesuch\n"
            assert (await mac.run("/tmp/none")).code == 127
            assert (await mac.run("/tmp/data")).code == 126
            assert (await mac.run("/tmp/odd")).code == 126
            assert (await mac.run("/usr/bin/sw_vers")).code == 0

    run_async(body)


def test_suspend_and_resume_keep_the_boot_session(new_mac, run_async):
    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            state = json.loads(json.dumps(mac.guest.snapshot()))
        async with new_mac(boot=False) as mac:
            await mac.guest.resume(state)
            assert mac.guest.clock.boot_uuid == state["boot_uuid"]
            assert mac.states() == [("1.0/1", "activated_enabled")]
            assert mac.guest.console_user == "admin"

    run_async(body)


def test_a_full_disk_fails_writers(new_mac, run_async, disk_root):
    async def body():
        async with new_mac() as mac:
            mac.guest.disk._full_after = 0
            result = await mac.run("log collect --output /tmp/full.logarchive", root=True)
            assert (result.code != 0, "No space left on device" in result.err) == (True, True)
            sysdiagnose = await mac.run("sysdiagnose -u -b", root=True, stdin=b"\n")
            assert (sysdiagnose.code, "No space left on device" in sysdiagnose.err) == (1, True)
            failed = await (await mac.launch())
            assert "OSSystemExtensionErrorDomain" in failed.err

    run_async(body)


def test_the_clock_is_in_its_own_zone_and_starts_at_boot():
    clock = GuestClock()
    clock.booted()
    assert clock.now().utcoffset().total_seconds() == -7 * 3600
    assert abs((clock.now() - datetime.now(clock.zone)).total_seconds()) < 5
    assert 0 <= clock.mach() <= clock.uptime() * 24_000_000 + 1


def test_a_package_installs_its_app_runs_its_script_and_leaves_a_receipt(new_mac, run_async, rig, disk_root, tmp_path):
    async def body():
        source = rig.write_app(tmp_path, path="/source/Example Guard.app")
        script = {"postinstall": "#!/bin/sh\nwhoami > /tmp/ran\nexit 0\n"}
        (disk_root / "private/tmp/guard.pkg").write_bytes(builders.package(source, scripts=script))
        async with new_mac(app=False) as mac:
            result = await mac.run("installer -pkg /tmp/guard.pkg -target /", root=True)
            assert parse_installer(result.out).succeeded, result
            assert (disk_root / rig.APP.lstrip("/") / "Contents/MacOS/Example Guard").stat().st_mode & 0o111
            assert (disk_root / "private/tmp/ran").read_text() == "root\n"
            assert "upgrade was successful" in (await mac.run("installer -pkg /tmp/guard.pkg -target /", root=True)).out
            assert "version: 1.2" in (await mac.run("pkgutil --pkg-info org.example.pkg")).out
            assert (await mac.enabled()).code == 0
            failing = {"postinstall": "#!/bin/sh\nexit 3\n"}
            (disk_root / "private/tmp/bad.pkg").write_bytes(builders.package(source, scripts=failing))
            bad = await mac.run("installer -pkg /tmp/bad.pkg -target /", root=True)
            assert (bad.code, parse_installer(bad.out).succeeded) == (1, False)

    run_async(body)


def test_a_disk_image_is_mounted_and_taken_away(new_mac, run_async, rig, disk_root, tmp_path):
    async def body():
        rig.write_app(tmp_path, path="/source/Example Guard.app")
        image = builders.udif(builders.HfsWriter(tmp_path / "source", "Guard").image())
        (disk_root / "private/tmp/guard.dmg").write_bytes(image)
        async with new_mac(app=False) as mac:
            attached = await mac.run("hdiutil attach -nobrowse -readonly -plist -mountpoint /tmp/mnt /tmp/guard.dmg")
            parsed = parse_hdiutil_attach(attached.raw)
            assert parsed.mount_points == ("/private/tmp/mnt",)
            assert (await mac.run(["ditto", "/tmp/mnt/Example Guard.app", "/Applications/Example Guard.app"])).code == 0
            assert (await mac.run("hdiutil attach -mountpoint /tmp/mnt /tmp/guard.dmg")).err.endswith("Resource busy\n")
            assert (await mac.run("hdiutil detach /tmp/mnt -force")).code == 0
            assert not (disk_root / "private/tmp/mnt").exists()
            named = await mac.run("hdiutil attach -nobrowse /tmp/guard.dmg")
            assert named.out.splitlines()[-1].split("\t")[-1] == "/Volumes/Guard"
            assert (await mac.enabled()).code == 0
            await mac.reboot()
            assert not (disk_root / "Volumes/Guard").exists()

    run_async(body)
