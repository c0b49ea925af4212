"""A faulty Mac turns the right scenario red, with the right words and the evidence; the others stay green."""

from __future__ import annotations

import gzip
import re
import tarfile
from dataclasses import dataclass

import pytest

from harness.errors import Verdict

from .conftest import House, Ran  # type: ignore[import-not-found]

FIRST = "test_first_activation_through_the_prompt"
UPGRADE = "test_upgrade_with_the_extension_running"
REBOOT = "test_reboot_brings_the_prompt_back"
OUTSIDE = "test_app_outside_applications_is_refused"


@dataclass(frozen=True)
class Expected:
    fault: str
    scenario: str
    verdict: Verdict
    says: str
    collected: bool = True


PRODUCT = [
    Expected("approval-prompt-missing", FIRST, Verdict.PRODUCT_FAILURE, "prompt missing"),
    Expected("approval-coalesced-no-prompt", FIRST, Verdict.PRODUCT_FAILURE, "prompt missing"),
    Expected("invisible-prompt-until-reboot", FIRST, Verdict.PRODUCT_FAILURE, "prompt missing"),
    Expected("sysextd-crash", FIRST, Verdict.PRODUCT_FAILURE, "to activate its extension"),
    Expected("staging-removal-immutable", FIRST, Verdict.PRODUCT_FAILURE, "activation request"),
    Expected("no-policy-outside-applications", FIRST, Verdict.PRODUCT_FAILURE, "extensionNotFound"),
    Expected("extension-not-found", FIRST, Verdict.PRODUCT_FAILURE, "extensionNotFound"),
    Expected("extension-crash", FIRST, Verdict.PRODUCT_FAILURE, "launchd|to be connected"),
    Expected("xpc-endpoints-missing-after-upgrade", UPGRADE, Verdict.PRODUCT_FAILURE, "XPC broken"),
]
QUICK = {
    "SYSEXT_TIMEOUTS__PROMPT": "8",
    "SYSEXT_TIMEOUTS__ACTIVATION": "20",
    "SYSEXT_TIMEOUTS__READY": "25",
    "SYSEXT_TIMEOUTS__APPROVAL": "60",
}


@pytest.mark.parametrize("expected", PRODUCT, ids=lambda item: item.fault)
def test_a_product_fault_is_red_with_its_evidence(house: House, expected: Expected) -> None:
    ran = house.scenario(expected.scenario, "--sysext-fault", expected.fault, **QUICK)
    assert ran.code == 1, ran.output[-3000:]
    (result,) = ran.results
    assert result.verdict is expected.verdict, result.error
    assert re.search(expected.says, result.error), result.error
    assert result.simulated
    assert result.faults == (expected.fault,)
    (collection,) = ran.manifest()["collections"]  # type: ignore[misc]
    items = {str(item["name"]): item for item in collection["items"]}
    for name in ("db.plist", "systemextensionsctl", "sysdiagnose", "log"):
        assert any(name in key and item["status"] == "ok" for key, item in items.items()), (name, sorted(items))
    assert house.machines() == []
    assert house.processes() == []


@pytest.mark.parametrize(
    ("fault", "scenario"), [("xpc-endpoints-missing-after-upgrade", FIRST), ("approval-prompt-missing", OUTSIDE)]
)
def test_a_fault_leaves_the_scenario_green_that_it_does_not_touch(house: House, fault: str, scenario: str) -> None:
    ran = house.scenario(scenario, "--sysext-fault", fault)
    assert ran.code == 0, ran.output[-3000:]
    assert [result.verdict for result in ran.results] == [Verdict.PASSED]


def test_prompt_missing_is_told_apart_from_not_approvable(house: House) -> None:
    """The acceptance of the main job: two verdicts, and everything a person needs to see why."""
    ran = house.scenario(FIRST, SYSEXT_FAULT="approval-coalesced-no-prompt", **QUICK)
    assert ran.code == 1
    assert "prompt missing" in ran.output
    assert "SIMULATED" in ran.output
    (result,) = ran.results
    assert result.prompt_appeared is False
    assert result.approvable is True
    case = ran.case()
    frames = list((case / "frames").glob("*.png")) + list((case / "evidence").rglob("*.png"))
    assert frames
    streams = (case / "log-stream.ndjson").read_text(encoding="utf-8")
    assert "coalesceWithActivationInProgress" in streams
    (archive,) = [path for path in case.rglob("*.tar.gz") if "sysdiagnose" in path.name]
    with tarfile.open(archive) as members:
        assert any("system_logs.logarchive" in name for name in members.getnames())
    with gzip.open(archive) as data:
        assert data.read(1)
    names = [record.get("name") for record in ran.events()]
    assert names.index("prompt-missing") < names.index("try the Settings route")


ENVIRONMENT = [
    Expected("env-hung-boot", FIRST, Verdict.ENVIRONMENT_FAILURE, "", collected=False),
    Expected("env-keychain", FIRST, Verdict.ENVIRONMENT_FAILURE, "keychain", collected=False),
    Expected("env-vm-limit", FIRST, Verdict.ENVIRONMENT_FAILURE, "limit", collected=False),
    Expected("env-vnc-freeze:hard=1", FIRST, Verdict.ENVIRONMENT_FAILURE, "", collected=False),
    Expected("env-ssh-drop:after=1", FIRST, Verdict.ENVIRONMENT_FAILURE, "", collected=False),
    Expected("env-disk-full", FIRST, Verdict.ENVIRONMENT_FAILURE, "", collected=False),
]


@pytest.mark.parametrize("expected", ENVIRONMENT, ids=lambda item: item.fault)
def test_a_broken_environment_is_no_product_failure_and_is_tried_twice(house: House, expected: Expected) -> None:
    ran = house.scenario(expected.scenario, "--sysext-fault", expected.fault, SYSEXT_TIMEOUTS__BOOT="12", **QUICK)
    assert ran.code == 1, ran.output[-3000:]
    assert [(result.attempt, result.verdict) for result in ran.results] == [
        (1, expected.verdict),
        (2, expected.verdict),
    ], [result.error for result in ran.results]
    assert re.search(expected.says, ran.results[0].error), ran.results[0].error
    assert house.machines() == []


@pytest.mark.parametrize("fault", ["env-stale-ip:seconds=2", "env-vnc-freeze"])
def test_what_heals_is_survived_and_told(house: House, fault: str) -> None:
    ran = house.scenario(FIRST, "--sysext-fault", fault)
    assert ran.code == 0, ran.output[-3000:]
    told = [record for record in ran.events() if record.get("name") in TOLD]
    assert told, sorted({str(record.get("name")) for record in ran.events()})


TOLD = {"degraded", "stale-address", "screen-refresh"}


def test_an_intermittent_fault_is_repeatable(house: House) -> None:
    """The same rate and seed decide alike on each run; another seed may decide otherwise."""
    outcomes: dict[str, list[bool]] = {}
    for seed in ("1", "1", "2"):
        ran: Ran = house.scenario(OUTSIDE, "--sysext-fault", f"no-policy-outside-applications:rate=0.5:seed={seed}")
        started = [record for record in ran.events() if record["type"] == "header"]
        assert started
        outcomes.setdefault(seed, []).append(ran.code == 0)
    assert outcomes["1"][0] == outcomes["1"][1]
