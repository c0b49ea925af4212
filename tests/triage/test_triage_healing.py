"""What the harness tries after a failure tells nothing about the failure: a request that succeeds on the recovery ladder is no answer to
the one that was lost.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.triage import triage
from harness.triage.observed import LADDER, observe

ID = "org.weir.filter"
START = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)
LOST = [
    (10.0, f"client activation request for {ID}"),
    (10.1, f"attempting to realize extension with identifier {ID}"),
    (10.2, "activateDecision found entry to replace: 8F0B81E2-C5B8-37F5-B8FF-533857442CA3, BundleVersion(…)"),
    (10.3, "initial activation decision: requestAppReplaceAction(<sysextd.Extension: 0x7fc262405b60>)"),
    (10.4, "notifying client of activation conflict"),
    (10.5, "client connection (pid 511) invalidated"),
]
HEALED = [
    (60.0, f"client activation request for {ID}"),
    (60.1, f"attempting to realize extension with identifier {ID}"),
    (60.2, "initial activation decision: activateNew"),
    (60.3, f"extension ABCDE12345 {ID} (2.0/2) advancing state from validating_by_category to activated_enabling"),
    (60.4, f"extension ABCDE12345 {ID} (2.0/2) advancing state from activated_enabling to activated_enabled"),
]


def event(kind: str, name: str, second: float, key: str = "1", **attributes: Any) -> dict[str, Any]:
    time = (START + timedelta(seconds=second)).isoformat()
    row = {"type": kind, "id": key, "name": name, "time": time, "attributes": attributes}
    return row | ({"duration": 1.0, "outcome": "ok"} if kind == "end" else {})


def line(second: float, message: str, ahead: float) -> dict[str, Any]:
    moment = START + timedelta(seconds=second + ahead)
    return {
        "timestamp": f"{moment:%Y-%m-%d %H:%M:%S.%f}+0000",
        "processImagePath": "/usr/libexec/sysextd",
        "eventMessage": message,
        "eventType": "logEvent",
        "messageType": "Default",
        "processID": 357,
        "subsystem": "com.apple.sx",
        "bootUUID": "49BBC808-BDB9-4D91-9C8F-362D27CA6F27",
        "machTimestamp": int((second + 100) * 24_000_000),
    }


def case(folder: Path, *, ahead: float, compared: bool = True, ladder: float | None = 50.0) -> Path:
    """A case file of a Mac whose clock is `ahead` of the host's; the ladder is climbed from `ladder` on."""
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"collections": []}))
    rows = [event("event", "clock", 1.0, ahead=ahead, within=0.1)] if compared else []
    if ladder is not None:
        rows += [event("start", LADDER, ladder, "7"), event("event", "prompt-missing", ladder + 2.0)]
        rows += [event("end", LADDER, ladder + 20.0, "7")]
    rows.append(event("event", "outcome", 80.0, verdict="product-failure", error_type="WaitTimeout", error="late"))
    (folder / "run.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    quiet = [(second / 2, "tick") for second in range(140)]
    said = sorted([*LOST, *HEALED, *quiet])
    log = "".join(json.dumps(line(second, message, ahead)) + "\n" for second, message in said)
    (folder / "log-stream.ndjson").write_text(log)
    return folder


@pytest.mark.parametrize("ahead", [0.0, -3600.0, 7200.0])
def test_what_heals_does_not_hide_what_failed(tmp_path: Path, ahead: float) -> None:
    found = triage([case(tmp_path / "a", ahead=ahead)], extension_id=ID)
    assert [cause.code for cause in found.causes][:1] == ["replacement-answer-lost"]


def test_a_success_that_the_app_had_by_itself_counts(tmp_path: Path) -> None:
    found = triage([case(tmp_path / "a", ahead=0.0, ladder=None)], extension_id=ID)
    assert "replacement-answer-lost" not in [cause.code for cause in found.causes]


def test_where_nobody_compared_the_clocks_everything_is_read(tmp_path: Path) -> None:
    found = triage([case(tmp_path / "a", ahead=0.0, compared=False)], extension_id=ID)
    assert "replacement-answer-lost" not in [cause.code for cause in found.causes]


def test_what_is_seen_on_the_ladder_is_not_what_was_seen_before(tmp_path: Path) -> None:
    seen = observe(case(tmp_path / "a", ahead=0.0))
    assert seen.healing == START + timedelta(seconds=50)
    assert seen.prompt_seen is None
    assert not [unit for unit in seen.units if "prompt-missing" in unit.text]
    assert [unit for unit in seen.units if unit.text.startswith("outcome product-failure")]


def test_a_torn_or_odd_ladder_is_no_trouble(tmp_path: Path) -> None:
    folder = case(tmp_path / "a", ahead=0.0)
    odd = {"type": "start", "id": None, "name": LADDER, "time": "yesterday"}
    (folder / "run.jsonl").write_text(json.dumps(odd) + "\n" + json.dumps(event("start", LADDER, 50.0)) + "\n")
    assert observe(folder).healing == START + timedelta(seconds=50)
    assert triage([folder], extension_id=ID).verdict
