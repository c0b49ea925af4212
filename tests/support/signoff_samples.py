"""Evidence to decide by: made up, small, and the same every time."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.reports.signoff.config import SignOffFile
from harness.reports.signoff.evidence import Build, Checked, Evidence, Found, Run

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BUILDS = (
    Build(
        part="app",
        identifier="com.example.app",
        version="1.2 (34)",
        cdhashes={"arm64": "a1" * 20, "x86_64": "a2" * 20},
        uuids={"arm64": "aaaaaaaa-0000-0000-0000-000000000001", "x86_64": "aaaaaaaa-0000-0000-0000-000000000002"},
    ),
    Build(
        part="extension",
        identifier="com.example.app.extension",
        version="1.2 (34)",
        cdhashes={"arm64": "e1" * 20},
        uuids={"arm64": "eeeeeeee-0000-0000-0000-000000000001"},
    ),
)
ITEM: dict[str, Any] = {
    "id": "activation", "scenarios": ["first activation"], "macos": ["15"], "minimum_runs": 10, "maximum_rate": 0.05,
}  # fmt: skip


def run(number: int = 0, **more: object) -> Run:
    """A real run of the very build that passed, unlike those of other numbers."""
    values: dict[str, object] = {
        "id": f"{number:032x}", "scenario": "first activation", "nodeid": "t.py::test_first_activation[macos15]", "macos": "15",
        "release": "1.2", "image": "macos-sequoia-vanilla", "lane": "pristine", "provider": "tart", "simulated": False,
        "faults": "", "verdict": "passed", "cause": "", "attempt": 1, "flaky": False, "host": "mini-7",
        "started": (NOW - timedelta(hours=1 + number)).isoformat(timespec="milliseconds"), "run": f"run-{number}",
        "case": "first-activation-macos15", "cdhash": "a1" * 20, "uuid": "aaaaaaaa-0000-0000-0000-000000000001",
        "extension_cdhash": "e1" * 20, "extension_uuid": "eeeeeeee-0000-0000-0000-000000000001", "same_mac": False,
        "known_issue": "",
    }  # fmt: skip
    return Run(**{**values, **more})  # type: ignore[arg-type]


def runs(count: int, *, first: int = 0, **more: object) -> tuple[Run, ...]:
    return tuple(run(first + number, **more) for number in range(count))


def config(*items: dict[str, Any], **more: object) -> SignOffFile:
    return SignOffFile.model_validate({"item": list(items) or [ITEM], **more})


def evidence(*, config: SignOffFile, runs: tuple[Run, ...] = (), **more: object) -> Evidence:
    values: dict[str, object] = {
        "app": "Example", "bundle_id": "com.example.app", "release": "1.2", "as_of": NOW.isoformat(), "rehearsal": False,
        "builds": BUILDS,
    }  # fmt: skip
    return Evidence(**{**values, "config": config, "runs": runs, **more})  # type: ignore[arg-type]


def whole() -> Evidence:
    """One of everything, with texts that must be escaped."""
    demands = config(
        {**ITEM, "title": "First activation <b>on every</b> macOS", "macos": ["15", "26"], "maximum_rate": 0.2},
        {"id": "upgrade", "scenarios": ["upgrade path"], "macos": ["15"], "per": "macos", "maximum_rate": 0.2},
        {"id": "reboot", "scenarios": ["reboot while waiting"], "macos": ["15"]},
        name="Example | 1.2 & later",
        preflight=[{"id": "files", "rules": ["version-raised", "both-*"]}],
        manual=[
            {
                "id": "vpn", "title": "With the customer's VPN", "done_by": "Łukasz Иванов", "on": "2026-11-19", "release": "1.2",
                "evidence": "https://example.com/notes?a=1&b=2", "note": "two hours | no loss",
            },
            {"id": "translation", "title": "All languages read"},
        ],
        waiver=[
            {"item": "reboot", "who": "A. Person", "why": "the lab's Mac is away", "until": "2026-11-20"},
            {"item": "translation", "who": "B. Person", "why": "next week", "until": "2026-11-19"},
        ],
    )  # fmt: skip
    path = "upgrade path [1.1->1.2-pkg-running]"
    many = (
        *runs(14),
        *runs(5, first=100, macos="26", case="first-activation-macos26"),
        run(112, macos="26", verdict="product-failure", cause="xpc-endpoints-missing", case="first-activation-macos26"),
        *runs(14, first=200, scenario=path, case="upgrade-path"),
        *runs(3, first=300, cdhash="b0" * 20),
        run(400, verdict="environment-failure"),
        run(401, lane="sip-off"),
        run(402, faults="xpc-endpoints-missing-after-upgrade"),
    )
    checked = Checked(
        item="files",
        previous="1.1",
        rules=("version-raised", "both-versions-raised"),
        findings=(
            Found(
                rule="both-versions-raised", severity="warning", where="Contents/Info.plist", what="1.2 (34) <again>"
            ),
            Found(rule="version-raised", severity="error", where="", what="34", reason="a test build"),
        ),
    )
    return evidence(config=demands, runs=many, simulated=(("first activation", "15", 34),), checked=(checked,))


def other(evidence: Evidence, **changes: object) -> Evidence:
    return dataclasses.replace(evidence, **changes)  # type: ignore[arg-type]
