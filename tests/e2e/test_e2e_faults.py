"""A faulty Mac turns the right scenario red, with the right words and the evidence; the others stay green."""

from __future__ import annotations

import gzip
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import Verdict

from .conftest import House, Order, Ran  # type: ignore[import-not-found]

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
    approval: str = "60"
    ready: str = "25"
    boot: str = "12"


PRODUCT = [
    Expected("approval-prompt-missing", FIRST, Verdict.PRODUCT_FAILURE, "prompt missing"),
    Expected("approval-coalesced-no-prompt", FIRST, Verdict.PRODUCT_FAILURE, "prompt missing"),
    Expected("invisible-prompt-until-reboot", FIRST, Verdict.PRODUCT_FAILURE, "prompt missing"),
    Expected("sysextd-crash", FIRST, Verdict.PRODUCT_FAILURE, "to activate its extension"),
    Expected("staging-removal-immutable", FIRST, Verdict.PRODUCT_FAILURE, "activation request", approval="30"),
    Expected("no-policy-outside-applications", FIRST, Verdict.PRODUCT_FAILURE, "extensionNotFound"),
    Expected("extension-not-found", FIRST, Verdict.PRODUCT_FAILURE, "extensionNotFound"),
    Expected("extension-crash", FIRST, Verdict.PRODUCT_FAILURE, "launchd|to be connected", ready="12"),
    Expected("xpc-endpoints-missing-after-upgrade", UPGRADE, Verdict.PRODUCT_FAILURE, "XPC broken"),
]
QUICK = {
    "SYSEXT_TIMEOUTS__PROMPT": "6",
    "SYSEXT_TIMEOUTS__ACTIVATION": "20",
    "SYSEXT_TIMEOUTS__READY": "25",
}


def _order(fault: str, scenario: str, **environment: str) -> Order:
    return Order(scenario, ("--sysext-fault", fault), environment)


@pytest.mark.parametrize(
    ("expected", "ran"),
    [
        pytest.param(
            item,
            _order(
                item.fault,
                item.scenario,
                **{**QUICK, "SYSEXT_TIMEOUTS__APPROVAL": item.approval, "SYSEXT_TIMEOUTS__READY": item.ready},
            ),
            id=item.fault,
        )
        for item in PRODUCT
    ],
    indirect=["ran"],
)
def test_a_product_fault_is_red_with_its_evidence(expected: Expected, ran: Ran) -> None:
    assert ran.code == 1, ran.output[-3000:]
    (result,) = ran.results
    assert result.verdict is expected.verdict, result.error
    assert re.search(expected.says, result.error), result.error
    assert result.simulated
    assert result.faults == (expected.fault,)
    collections = ran.manifest()["collections"]
    (collection,) = [each for each in collections if each["id"] != "screen"]  # type: ignore[attr-defined]
    items = {str(item["name"]): item for item in collection["items"]}
    for name in ("db.plist", "systemextensionsctl", "sysdiagnose", "log"):
        assert any(name in key and item["status"] == "ok" for key, item in items.items()), (name, sorted(items))
    assert ran.house.machines() == []
    assert ran.house.processes() == []


@pytest.mark.parametrize(
    "ran",
    [_order("xpc-endpoints-missing-after-upgrade", FIRST), _order("approval-prompt-missing", OUTSIDE)],
    indirect=True,
    ids=lambda order: order.arguments[-1],
)
def test_a_fault_leaves_the_scenario_green_that_it_does_not_touch(ran: Ran) -> None:
    assert ran.code == 0, ran.output[-3000:]
    assert [result.verdict for result in ran.results] == [Verdict.PASSED]


@pytest.mark.parametrize(
    "ran",
    [Order(FIRST, environment={"SYSEXT_FAULT": "approval-coalesced-no-prompt", **QUICK})],
    indirect=True,
    ids=["fault-from-the-environment"],
)
def test_prompt_missing_is_told_apart_from_not_approvable(ran: Ran) -> None:
    """The acceptance of the main job: two verdicts, and everything a person needs to see why."""
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
    Expected("env-hung-boot", FIRST, Verdict.ENVIRONMENT_FAILURE, "SSH", collected=False, boot="5"),
    Expected("env-keychain", FIRST, Verdict.ENVIRONMENT_FAILURE, "keychain", collected=False),
    Expected("env-vm-limit", FIRST, Verdict.ENVIRONMENT_FAILURE, "limit", collected=False),
    Expected("env-vnc-freeze:hard=1", FIRST, Verdict.ENVIRONMENT_FAILURE, "", collected=False),
    Expected("env-ssh-drop:after=1", FIRST, Verdict.ENVIRONMENT_FAILURE, "", collected=False),
    Expected("env-disk-full", FIRST, Verdict.ENVIRONMENT_FAILURE, "", collected=False),
]


@pytest.mark.parametrize(
    ("expected", "ran"),
    [
        pytest.param(item, _order(item.fault, item.scenario, SYSEXT_TIMEOUTS__BOOT=item.boot, **QUICK), id=item.fault)
        for item in ENVIRONMENT
    ],
    indirect=["ran"],
)
def test_a_broken_environment_is_no_product_failure_and_is_tried_twice(expected: Expected, ran: Ran) -> None:
    assert ran.code == 1, ran.output[-3000:]
    assert [(result.attempt, result.verdict) for result in ran.results] == [
        (1, expected.verdict),
        (2, expected.verdict),
    ], [result.error for result in ran.results]
    assert re.search(expected.says, ran.results[0].error), ran.results[0].error
    assert ran.house.machines() == []


@pytest.mark.parametrize(
    "ran",
    [_order("env-stale-ip:seconds=5", FIRST), _order("env-vnc-freeze", FIRST)],
    indirect=True,
    ids=lambda order: order.arguments[-1],
)
def test_what_heals_is_survived_and_told(ran: Ran) -> None:
    assert ran.code == 0, ran.output[-3000:]
    told = [record for record in ran.events() if record.get("name") in TOLD]
    assert told, sorted({str(record.get("name")) for record in ran.events()})


TOLD = {"degraded", "stale-address", "screen-refresh"}


def test_an_intermittent_fault_is_repeatable(tmp_path: Path) -> None:
    """The same rate and seed decide alike on each run."""
    order = _order("no-policy-outside-applications:rate=0.5:seed=1", OUTSIDE)
    houses = [House(tmp_path / name) for name in ("one", "two")]
    processes = [house.begin(order) for house in houses]
    first, second = [house.end(process) for house, process in zip(houses, processes, strict=True)]
    for ran in (first, second):
        assert [record for record in ran.events() if record["type"] == "header"]
    assert first.code == second.code
    assert [(result.attempt, result.verdict) for result in first.results] == [
        (result.attempt, result.verdict) for result in second.results
    ]
