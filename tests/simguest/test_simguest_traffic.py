"""Flows through extensions, DNS proxies and MDM, other vendors' extensions: what they do, and their faults."""

from __future__ import annotations

import plistlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.errors import UsageError
from harness.formats.launchctl import parse_launchctl_print
from harness.formats.listing import parse_listing
from harness.simulator.variations import parse_variations

Run = Callable[[Any], None]
URL = "http://captive.apple.com/hotspot-detect.html"
COUNTER = "/Library/Application Support/Guard/flows"


@pytest.fixture
def counting(new_mac: Any, tmp_path: Path, rig: ModuleType) -> None:
    """The example app's extension counts what it is handed."""
    path = tmp_path / "behaviours/example.toml"
    path.write_text(rig.BEHAVIOUR + f'[traffic]\ncounter = "{COUNTER}"\nmessage = "flow to {{host}}"\n')


def as_dns_proxy(tmp_path: Path, rig: ModuleType) -> None:
    path = tmp_path / "behaviours/example.toml"
    path.write_text(rig.BEHAVIOUR.replace("transparent-proxy", "dns-proxy") + f'[traffic]\ncounter = "{COUNTER}"\n')


def count(mac: Any) -> int:
    path = mac.guest.disk.path(COUNTER)
    return int(path.read_text()) if path.is_file() else 0


async def connected(mac: Any) -> None:
    assert (await mac.enabled()).code == 0
    await mac.until(lambda: mac.guest.network.configurations[0].status == "Connected", "the tunnel")


def test_curl_gets_the_pages_there_are_and_says_what_is_wrong(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            words = "curl --silent --show-error --fail --max-time 10 "
            assert "Success" in (await mac.run(words + URL)).out
            assert (await mac.run(["curl", "-sSfo", "/tmp/page", "-w", "%{http_code}\\n", URL])).out == "200\n"
            assert "Success" in mac.guest.disk.path("/tmp/page").read_text()
            assert (await mac.run("curl -sI " + URL)).out.startswith("HTTP/1.1 200 OK\r\n")
            for url, code, said in (
                ("http://no.such.name/", 6, "Could not resolve host: no.such.name"),
                ("http://127.0.0.1:8123/", 7, "Failed to connect to 127.0.0.1 port 8123"),
                ("http://captive.apple.com/none", 22, "The requested URL returned error: 404"),
                ("gopher://captive.apple.com/", 1, "not supported"),
            ):
                done = await mac.run(words + url)
                assert (done.code, said in done.err) == (code, True), done.err
            assert (await mac.run("curl -s http://no.such.name/")).err == ""
            assert (await mac.run("curl --nonsense " + URL)).code == 2
            assert (await mac.run("curl")).code == 2

    run_async(body)


@pytest.mark.usefixtures("counting")
def test_a_connected_proxy_counts_flows_and_its_end_ends_that(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            await mac.run("curl -s " + URL)
            assert count(mac) == 0
            await connected(mac)
            for _ in range(2):
                assert (await mac.run("curl -sf " + URL)).code == 0
            assert count(mac) == 2
            assert mac.messages().count("flow to captive.apple.com") == 2
            assert (await mac.run("dscacheutil -q host -a name example.com")).out.startswith(
                "name: example.com\nip_address: "
            )
            assert count(mac) == 2  # a transparent proxy is handed no lookups
            await mac.run("scutil --nc stop guard")
            assert (await mac.run("curl -sf " + URL)).code == 0
            assert count(mac) == 2

    run_async(body)


def test_flows_are_held_where_the_extension_has_no_endpoints(new_mac: Any, rig: ModuleType, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac(faults="xpc-endpoints-missing-after-upgrade") as mac:
            await connected(mac)
            assert (await mac.run("curl -sS -m 5 " + URL)).code == 0
            rig.write_app(mac.guest.disk.root, short="2.0", build="2")
            assert (await mac.launch()) is not None
            await mac.until(lambda: ("2.0/2", "activated_enabled") in mac.states(), "the replacement")
            await mac.until(lambda: mac.guest.network.configurations[0].status == "Connected", "the tunnel again")
            late = await mac.run("curl -sS -m 0.05 " + URL)
            assert (late.code, "timed out" in late.err) == (28, True)

    run_async(body)


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize(("fault", "code"), [("proxy-dead-after-wake", 0), ("proxy-dead-after-wake:flows=held", 28)])
def test_a_proxy_may_be_passed_by_after_a_sleep(new_mac: Any, run_async: Run, fault: str, code: int) -> None:
    async def body() -> None:
        async with new_mac(faults=fault) as mac:
            await connected(mac)
            await mac.run("curl -s " + URL)
            await mac.guest.sleep.system_sleep("test")
            mac.guest.user_activity("key")
            await mac.until(lambda: len(mac.power.slept) == 2, "awake")
            await mac.until(lambda: "wake" in mac.messages(), "the provider hears of it")
            assert (await mac.run("curl -s -m 0.05 " + URL)).code == code
            assert count(mac) == 1
            assert "(Connected)" in (await mac.run("scutil --nc list")).out
            await mac.run("scutil --nc stop guard")
            await mac.run("scutil --nc start guard")
            await mac.until(lambda: mac.guest.network.configurations[0].status == "Connected", "a new session")
            assert (await mac.run("curl -s -m 5 " + URL)).code == 0
            assert count(mac) == 2

    run_async(body)


def test_a_dns_proxy_is_handed_lookups(new_mac: Any, tmp_path: Path, rig: ModuleType, run_async: Run) -> None:
    async def body() -> None:
        as_dns_proxy(tmp_path, rig)
        async with new_mac() as mac:
            await connected(mac)
            address = (await mac.run("dig +short example.com")).out.strip()
            assert f"Address: {address}" in (await mac.run("nslookup example.com")).out
            assert f"example.com has address {address}" in (await mac.run("host example.com")).out
            assert f"ip_address: {address}" in (await mac.run("dscacheutil -q host -a name example.com")).out
            assert "status: NXDOMAIN" in (await mac.run("dig no.such.name")).out
            assert (await mac.run("nslookup no.such.name")).code == 1
            assert count(mac) == 6
            provider = mac.guest.network.provider
            mac.guest.network.provider = lambda _configuration: None  # its process hangs somewhere
            assert (await mac.run("dig +time=0.02 +tries=1 example.com")).code == 9
            assert (await mac.run("curl -sS -m 0.02 " + URL)).code == 28
            mac.guest.network.provider = provider

    run_async(body)


@pytest.mark.parametrize("faults", ["", "mdmclient-not-running-with-dns-proxy"])
def test_mdm_answers_on_an_enrolled_mac_unless_a_dns_proxy_keeps_it_down(
    new_mac: Any, tmp_path: Path, rig: ModuleType, run_async: Run, faults: str
) -> None:
    async def body() -> None:
        as_dns_proxy(tmp_path, rig)
        async with new_mac(faults=faults, variations=parse_variations("management=enrolled")) as mac:
            assert "MDM enrollment: Yes" in (await mac.run("profiles status -type enrollment")).out
            assert (await mac.run("mdmclient QueryDeviceInformation")).code == 1  # root only
            before = await mac.run("/usr/libexec/mdmclient QueryDeviceInformation", root=True)
            assert (before.code, "QueryResponses" in before.out) == (0, True)
            await connected(mac)
            asked = mac.start(["sudo", "mdmclient", "QueryDeviceInformation"])
            if faults:
                await mac.until(lambda: mac.guest.processes.named("mdmclient"), "it asks")
                job = parse_launchctl_print((await mac.run("launchctl print system/com.apple.mdmclient.daemon")).out)
                assert (job.state, job.last_exit_code) == ("not running", 0)
                push = parse_launchctl_print((await mac.run("launchctl print system/com.apple.apsd")).out)
                assert push.state == "running"
                assert not asked.done()
                assert (await mac.run("dig +short example.com")).out
                asked.cancel()
            else:
                assert (await asked).code == 0

    run_async(body)


def test_a_mac_without_mdm_says_so(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            assert "MDM enrollment: No" in (await mac.run("profiles status -type enrollment")).out
            assert (await mac.run("mdmclient QueryDeviceInformation", root=True)).out == "Not enrolled\n"

    run_async(body)


def test_other_vendors_extensions_are_there_from_the_beginning_and_stay(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        several = parse_variations("others=3+es-without-access")
        async with new_mac(variations=several, faults="killed-at-exec") as mac:
            listed = parse_listing((await mac.run("systemextensionsctl list")).out)
            assert sorted((entry.category, entry.state) for entry in listed.entries) == [
                *[("endpoint_security", "activated_enabled")],
                *[("network_extension", "activated_enabled")] * 3,
            ]
            assert len(mac.guest.processes.named("extension")) == 4  # the fault is ours alone
            assert "ES_NEW_CLIENT_RESULT_ERR_NOT_PERMITTED" in " ".join(mac.messages())
            rows = mac.guest.extensions()
            ours = next(row for row in rows if row.app_name == "Northwind Filter")
            assert (ours.kind, ours.waiting, ours.enabled) == ("network", False, True)
            database = plistlib.loads(mac.guest.disk.path("/Library/SystemExtensions/db.plist").read_bytes())
            for entry in database["extensions"]:
                assert mac.guest.disk.path(entry["container"]["bundlePath"]).is_dir()
            await mac.reboot()
            assert len(parse_listing((await mac.run("systemextensionsctl list")).out).entries) == 4

    run_async(body)


@pytest.mark.parametrize(("others", "runs"), [(1, True), (2, False)])
def test_the_fault_of_too_many_extensions(
    new_mac: Any, rig: ModuleType, run_async: Run, others: int, runs: bool
) -> None:
    async def body() -> None:
        beside = parse_variations(f"others={others}")
        async with new_mac(variations=beside, faults="network-extension-count-limit:most=2") as mac:
            task = await mac.launch()
            await mac.until(lambda: mac.display.alerts, "the dialog")
            mac.guest.allow(rig.EXTENSION_ID)
            await mac.until(lambda: ("1.0/1", "activated_enabled") in mac.states(), "enabled")
            assert bool(mac.guest.processes.named(rig.EXTENSION_ID)) is runs
            task.cancel()

    run_async(body)


@pytest.mark.parametrize("text", ["others=13", "others=-1", "others=x", "management=maybe", "others=3+x"])
def test_variations_that_do_not_exist(text: str) -> None:
    with pytest.raises(UsageError):
        parse_variations(text)
