"""Scenarios of a Mac's life, on simulated Macs: each can fail for what it is there for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.triage_apps import BEHAVIOURS, dns_proxy
from harness.errors import SysextError, Verdict

from .conftest import House, Order, Ran  # type: ignore[import-not-found]

SOAK = "test_dns_proxy_soak"
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


@pytest.fixture
def dns_app(tmp_path: Path) -> Path:
    """An app with a DNS proxy; the folder of its behaviour is beside its app file."""
    try:
        return dns_proxy(tmp_path)
    except SysextError as error:
        pytest.skip(f"the release cannot be fetched: {error}")


STUCK = "mdmclient-not-running-with-dns-proxy"


def test_a_dns_proxy_and_the_management(tmp_path: Path, dns_app: Path) -> None:
    """Healthy, and with the management stuck: two runs at the same time, for most of each is waiting."""
    environment = {**QUICK, "SYSEXT_SIM_BEHAVIOURS": str(tmp_path / BEHAVIOURS)}
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
