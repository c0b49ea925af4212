"""Scenarios of a Mac's life, on simulated Macs: each can fail for what it is there for."""

from __future__ import annotations

import plistlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.bundles.releases import fetch_release
from harness.config import load_app, load_settings
from harness.errors import SysextError, Verdict

from .conftest import APP, House, Order, Ran  # type: ignore[import-not-found]

SOAK = "test_dns_proxy_soak"
# The real app's bundle, which says here that its provider is a DNS proxy, and behaves so.
BEHAVIOUR = """
bundle = "org.mitmproxy.macos-redirector"
[launch]
argument_prefix = "/tmp/"
refusal = "no"
[activation]
conflict = "replace"
[configuration]
kind = "dns-proxy"
name = "mitmproxy"
start = true
[end]
stays = false
"""
QUICK = {
    "SYSEXT_TIMEOUTS__PROMPT": "20",
    "SYSEXT_EVIDENCE__SYSDIAGNOSE": "false",
    "SYSEXT_PREFLIGHT__ENABLED": "false",
    "SYSEXT_EVIDENCE__RECORDING": "false",
    "SYSEXT_SOAK__CYCLES": "2",
    "SYSEXT_SOAK__PAUSE_SECONDS": "0.1",
    "SYSEXT_SIMULATED__BOOT_SECONDS": "0.2",
    "SYSEXT_SIMULATED__LOGIN_SECONDS": "0.1",
    "SYSEXT_SIMULATED__ACTIVATION_SECONDS": "0.1",
}


APP_FILE = """
name = "Mitmproxy Redirector"
bundle_id = "org.mitmproxy.macos-redirector"
team = "S8XHQB96PW"
consents = ["approval", "proxy-configuration"]
configuration = "mitmproxy"
[extension]
id = "org.mitmproxy.macos-redirector.network-extension"
kind = "dns-proxy"
[[releases]]
version = "1"
source = "Mitmproxy Redirector.app"
[launch]
how = "exec"
arguments = ["/tmp/mitmproxy-{pid}"]
exits = true
"""


@pytest.fixture
def dns_app(tmp_path: Path) -> Path:
    """An app with a DNS proxy, its app file, and the folder of its behaviour beside it."""
    app = load_app(APP)
    try:
        real = fetch_release(app.release(), app, load_settings(environ={}).cache_dir)
    except SysextError as error:
        pytest.skip(f"the release cannot be fetched: {error}")
    copy = tmp_path / real.path.name
    shutil.copytree(real.path, copy, symlinks=True)
    (info,) = copy.glob("Contents/Library/SystemExtensions/*/Contents/Info.plist")
    data = plistlib.loads(info.read_bytes())
    provider = data["NetworkExtension"]["NEProviderClasses"]
    data["NetworkExtension"]["NEProviderClasses"] = {
        "com.apple.networkextension.dns-proxy": next(iter(provider.values()))
    }
    info.write_bytes(plistlib.dumps(data))
    file = tmp_path / "dns.toml"
    file.write_text(APP_FILE, encoding="utf-8")
    (tmp_path / "behaviours").mkdir()
    (tmp_path / "behaviours" / "dns.toml").write_text(BEHAVIOUR, encoding="utf-8")
    return file


STUCK = "mdmclient-not-running-with-dns-proxy"


def test_a_dns_proxy_and_the_management(tmp_path: Path, dns_app: Path) -> None:
    """Healthy, and with the management stuck: two runs at the same time, for most of each is waiting."""
    environment = {**QUICK, "SYSEXT_SIM_BEHAVIOURS": str(tmp_path / "behaviours")}
    houses = {fault: House(tmp_path / f"house{len(fault)}") for fault in ("", STUCK)}
    begun = {
        fault: house.begin(
            Order(SOAK, ("--sysext-app", str(dns_app), *(("--sysext-fault", fault) if fault else ())), environment)
        )
        for fault, house in houses.items()
    }
    try:
        ended = {fault: houses[fault].end(process) for fault, process in begun.items()}
    finally:
        for process in begun.values():
            if process.poll() is None:  # its Mac goes with it
                process.terminate()
                process.wait(timeout=60)
    _expect_healthy(ended[""])
    _expect_stuck(ended[STUCK])


def _expect_healthy(ran: Ran) -> None:
    (result,) = ran.results
    assert result.verdict is Verdict.PASSED, ran.output[-3000:]
    assert [cycle["cycle"] for cycle in _cycles(ran)] == [1, 2]
    assert all("mdmclient answers" in cycle["management"] for cycle in _cycles(ran))
    assert "not tested" not in " ".join(result.notes)


def _expect_stuck(ran: Ran) -> None:
    (result,) = ran.results
    assert result.verdict is Verdict.PRODUCT_FAILURE, ran.output[-3000:]
    assert "does not answer" in result.error
    assert "last exit code 0" in result.error
    assert len(_cycles(ran)) == 1


def _cycles(ran: Ran) -> list[dict[str, Any]]:
    kept = (ran.case() / "management.txt").read_text(encoding="utf-8")
    assert "$ launchctl print system/com.apple.mdmclient.daemon" in kept
    return [record["attributes"] for record in ran.events() if record.get("name") == "soak-cycle"]
