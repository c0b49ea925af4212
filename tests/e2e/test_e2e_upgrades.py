"""An upgrade that breaks XPC: red, named, and the rung that heals it told; the rungs before it were really tried."""

from __future__ import annotations

import json

import pytest

from harness.errors import Verdict

from .conftest import Order, Ran  # type: ignore[import-not-found]

BROKEN = Order(
    "test_upgrade_path",
    ("--sysext-upgrade", "previous via dmg", "--sysext-fault", "xpc-endpoints-missing-after-upgrade"),
    {
        "SYSEXT_TIMEOUTS__READY": "8",
        "SYSEXT_UPGRADES__RUNG_SECONDS": "8",
        "SYSEXT_EVIDENCE__RECORDING": "false",
        "SYSEXT_EVIDENCE__SYSDIAGNOSE": "false",
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
