"""An upgrade that breaks XPC: red, named, and the rung that heals it told; the rungs before it were really tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import Verdict

from .conftest import Order, Ran  # type: ignore[import-not-found]

WHAT = ("--sysext-upgrade", "previous via dmg", "--sysext-fault", "xpc-endpoints-missing-after-upgrade")
QUICK = {
    "SYSEXT_TIMEOUTS__READY": "8",
    "SYSEXT_UPGRADES__RUNG_SECONDS": "8",
    "SYSEXT_EVIDENCE__RECORDING": "false",
    "SYSEXT_EVIDENCE__SYSDIAGNOSE": "false",
}
APPS = Path(__file__).parent / "apps"
BROKEN = Order("test_upgrade_path", WHAT, QUICK)
LEAVING = Order(
    "test_upgrade_path",
    (*WHAT, "--sysext-app", str(APPS / "leaving.toml")),
    {
        **QUICK,
        "SYSEXT_SIM_BEHAVIOURS": str(APPS / "behaviours"),
        "SYSEXT_UPGRADES__RUNG_SECONDS": "6",
        "SYSEXT_TIMEOUTS__READY": "5",
    },
)


@pytest.mark.parametrize("ran", [pytest.param(BROKEN, id="dmg-running")], indirect=True)
def test_the_ladder_says_what_heals(ran: Ran) -> None:
    (result,) = ran.results
    assert result.verdict is Verdict.PRODUCT_FAILURE
    assert result.scenario == "upgrade path [0.11.4->0.11.5-dmg-running]"
    assert "XPC broken" in result.error
    assert "healed by remove-and-approve (not by restart-app, off-on)" in result.error
    assert any("healed by remove-and-approve" in note for note in result.notes)
    assert result.cause == "xpc-endpoints-missing-after-upgrade"
    (step,) = json.loads((ran.case() / "upgrade.json").read_text(encoding="utf-8"))["steps"]
    assert step["relation"] == "previous"
    assert step["healed_by"] == "remove-and-approve"
    outcomes = {rung["name"]: rung["outcome"] for rung in step["ladder"]}
    assert outcomes == {
        "restart-app": "still broken",
        "off-on": "still broken",
        "deactivate-activate": "not tried",
        "remove-and-approve": "healed",
    }
    done = [
        (record["name"], record.get("attributes", {})) for record in ran.events() if record["type"] in ("event", "end")
    ]
    pressed = [what["button"] for name, what in done if name == "press" and what.get("role") == "remove"]
    assert pressed == ["Delete Extension"]
    assert not any(name == "reboot" for name, _ in done)
    assert "1.0/1 [activated enabled]" in step["before"]


@pytest.mark.parametrize("ran", [pytest.param(LEAVING, id="leaves")], indirect=True)
def test_an_app_that_can_leave_is_healed_by_that(ran: Ran) -> None:
    """It asks for its extension's removal, an administrator allows that, and it is activated and approved anew."""
    (result,) = ran.results
    assert result.verdict is Verdict.PRODUCT_FAILURE, ran.output[-3000:]
    assert "healed by deactivate-activate (not by restart-app, off-on)" in result.error
    (step,) = json.loads((ran.case() / "upgrade.json").read_text(encoding="utf-8"))["steps"]
    assert step["healed_by"] == "deactivate-activate"
    assert {rung["name"]: rung["outcome"] for rung in step["ladder"]} == {
        "restart-app": "still broken",
        "off-on": "still broken",
        "deactivate-activate": "healed",
    }
    asked = [record["attributes"] for record in ran.events() if record.get("name") == "password for the app"]
    assert any(what.get("asked") for what in asked)
    log = (ran.case() / "log-stream.ndjson").read_text(encoding="utf-8", errors="replace")
    assert "client deactivation request for org.mitmproxy.macos-redirector.network-extension" in log
