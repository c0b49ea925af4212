"""What a scenario does itself is no sign of trouble; the same thing a moment later is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.triage import triage
from harness.triage.meant import CUTTING, Meant
from harness.triage.passing import survived

WORDS = "NESMTransparentProxySession[Primary Tunnel:weir:50136928-B358-495E-A86B-EF954451A757:(null)]: status changed to connected"
DEAD = "traffic to pass on weir-15 (curl): not within 25 s (4 tries); last seen: exit code 28: Operation timed out"


def at(second: float) -> str:
    return f"2026-01-02T03:04:{second:09.6f}+00:00"


def begins(name: str, second: float, key: str = "1") -> dict[str, Any]:
    return {"type": "start", "id": key, "name": name, "time": at(second), "attributes": {}}


def ends(name: str, second: float, key: str = "1", result: str = "ok") -> dict[str, Any]:
    return {
        "type": "end",
        "id": key,
        "name": name,
        "time": at(second),
        "duration": 1.0,
        "outcome": result,
        "attributes": {},
    }


def event(name: str, second: float, **attributes: Any) -> dict[str, Any]:
    return {"type": "event", "id": "e", "name": name, "time": at(second), "attributes": attributes}


def case(folder: Path, *rows: dict[str, Any], log: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"collections": []}))
    (folder / "run.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if log:
        record: dict[str, Any] = {
            "timestamp": "2026-01-02 03:04:05.000000+0000",
            "processImagePath": "/usr/libexec/nesessionmanager",
        }
        record |= {"eventMessage": log, "eventType": "logEvent", "messageType": "Default", "processID": 9}
        (folder / "log-stream.ndjson").write_text(json.dumps(record) + "\n")
    return folder


def told(folder: Path) -> list[str]:
    return sorted(one.what for one in survived(folder))


CUT = [
    event("screen-lost", 10.2, reason="the server closed it"),
    event("log-gap", 10.3, reason="the connection broke 7.4 s after its start"),
    event("reconnected", 12.0, serial=2),
]


@pytest.mark.parametrize("step", sorted(CUTTING - {"display sleep"}))
def test_a_cut_that_was_wanted_is_not_told(step: str, tmp_path: Path) -> None:
    assert told(case(tmp_path / "none", *CUT)) == ["env-ssh-drop", "env-vnc-freeze"]
    assert told(case(tmp_path / "within", begins(step, 10), *CUT, ends(step, 13))) == []
    assert told(case(tmp_path / "after", begins(step, 10), ends(step, 10.1), *CUT)) == []
    late = [begins(step, 0), ends(step, 0.1), *CUT]
    assert told(case(tmp_path / "late", *late)) == ["env-ssh-drop", "env-vnc-freeze"]
    before = [*CUT, begins(step, 20), ends(step, 20.1)]
    assert told(case(tmp_path / "before", *before)) == ["env-ssh-drop", "env-vnc-freeze"]


def test_a_display_sleeps_until_it_is_woken(tmp_path: Path) -> None:
    stalled = event("degraded", 40, what="screen updates stalled: pointer wiggled", reason="9.1 s")
    asleep = [begins("display sleep", 1), ends("display sleep", 2)]
    assert told(case(tmp_path / "asleep", *asleep, stalled)) == []
    woken = [begins("wake display", 3, "2"), ends("wake display", 4, "2")]
    assert told(case(tmp_path / "awake", *asleep, *woken, stalled)) == ["env-vnc-freeze"]


def test_other_trouble_in_such_a_step_is_told(tmp_path: Path) -> None:
    killed = event("vm-process-ended", 10.5, pid=1, reason="killed")
    other = event("degraded", 10.6, what="a key to wake it was not struck")
    assert told(case(tmp_path / "case", begins("stop", 10), killed, other, ends("stop", 11))) == ["env-stop-needs-kill"]


def outcome(verdict: str, error: str) -> dict[str, Any]:
    return event("outcome", 50, verdict=verdict, error_type="WaitTimeout", error=error)


SLEPT = [begins("sleep and wake", 1), ends("sleep and wake", 9)]


@pytest.mark.parametrize(
    ("rows", "log", "named"),
    [
        pytest.param([*SLEPT, outcome("product-failure", DEAD)], WORDS, True, id="slept"),
        pytest.param([outcome("product-failure", DEAD)], WORDS, False, id="did not sleep"),
        pytest.param([*SLEPT, outcome("product-failure", DEAD)], WORDS.replace("TransparentProxy", "VPN"), False, id="a tunnel"),
        pytest.param([*SLEPT, outcome("environment-failure", DEAD)], WORDS, False, id="the Mac is gone"),
        pytest.param([*SLEPT, outcome("product-failure", "its process to run: it does not")], WORDS, False, id="another failure"),
        pytest.param([SLEPT[0], ends("sleep and wake", 9, result="failed"), outcome("product-failure", DEAD)], WORDS, False, id="never woke"),
    ],
)  # fmt: skip
def test_traffic_that_passed_before_the_sleep_only(rows: list[dict[str, Any]], log: str, *, named: bool, tmp_path: Path) -> None:  # fmt: skip
    found = triage([case(tmp_path / "case", *rows, log=log)])
    assert ("proxy-dead-after-wake" in [cause.code for cause in found.causes]) is named


MANAGED = (
    "weir-15 to hear its management while Weir is active: in cycle 1 of 3: enrolled: True; com.apple.apsd running; "
)
SILENT = MANAGED + "com.apple.mdmclient.daemon not running, last exit code 0; mdmclient does not answer"
ENABLED = "extension ABCDE12345 org.weir.dns (1.0/1) advancing state from activated_enabling to activated_enabled; NESMDNSProxySession"


@pytest.mark.parametrize(
    ("error", "log", "named"),
    [
        (SILENT, ENABLED, True),
        (SILENT, ENABLED.replace("DNSProxy", "VPN"), False),
        (SILENT.replace("code 0", "code 1"), ENABLED, False),
        (MANAGED + "com.apple.mdmclient.daemon running; mdmclient answers", ENABLED, False),
    ],
)
def test_management_that_was_silent_beside_a_dns_proxy(error: str, log: str, *, named: bool, tmp_path: Path) -> None:
    found = triage([case(tmp_path / "case", outcome("product-failure", error), log=log)])
    assert ("mdmclient-not-running-with-dns-proxy" in [cause.code for cause in found.causes]) is named


def test_how_it_ended_after_a_sleep_is_still_how_it_ended(tmp_path: Path) -> None:
    said = "`ls` on weir-15 to be within reach: the connection broke 0.3 s after its start"
    rows = [*SLEPT, event("outcome", 50, verdict="environment-failure", error_type="ConnectionLost", error=said)]
    assert triage([case(tmp_path / "case", *rows)]).causes[0].code == "env-ssh-drop"


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["start", "end", "event", "", 1]),
                "name": st.sampled_from([*sorted(CUTTING), "log-gap", "degraded", "outcome", "clone", "start"]) | st.none(),
                "id": st.text(max_size=2) | st.none(),
                "time": st.sampled_from([at(1), at(30), "2026-01-02T03:04:05", "soon", ""]) | st.none(),
                "duration": st.floats() | st.none(),
                "outcome": st.sampled_from(["ok", "failed"]),
                "attributes": st.dictionaries(st.sampled_from(["what", "machine"]), st.integers() | st.text(max_size=3)) | st.none(),
            },
        ),
        max_size=12,
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_or_made_up(rows: list[dict[str, Any]]) -> None:
    meant = Meant()
    for row in rows:
        text = f"event {row.get('name')} x" if row.get("type") == "event" else ""
        read = meant.reads(row, text)
        assert bool(read) == bool(text) or row.get("name") == "start"
        assert read.endswith(text.removeprefix("event ")) or row.get("name") == "start"
