"""What the harness saw itself names what broke a run; a log that says the same words does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.triage import triage
from harness.triage.catalog import load_catalog
from harness.triage.observed import observe
from harness.triage.passing import survived

LISTING = (
    "1 extension(s)\n--- com.apple.system_extension.network_extension\nenabled\tactive\tteamID\tbundleID (version)\tname\t[state]\n"
    "\t*\tABCDE12345\torg.weir.filter (1.0/1)\tWeir\t[activated waiting for user]\n"
)
SSH = "the SSH server of weir-15-ab12 to answer: not within 300 s (90 tries); last seen: dhcp: no address"
ENDS = {
    "env-vm-limit": (
        "StartFailed",
        "weir-15 starts: vm-limit, exit code 1: The number of VMs exceeds the system limit",
    ),
    "env-keychain": (
        "StartFailed",
        'weir-15 starts: keychain, exit code 1: Error Domain=VZErrorDomain Code=-9 "security"',
    ),
    "env-hung-boot": ("WaitTimeout", SSH),
    "env-ssh-drop": (
        "ConnectionLost",
        "`ls` on weir-15 to be still within reach: the connection broke 0.3 s after its start",
    ),
    "env-vnc-freeze": (
        "ScreenError",
        "the screen of weir-15: it has not answered for 18 s; the VNC server to answer: nothing for 6 s",
    ),
    "env-disk-full": (
        "CommandFailed",
        "`mkdir /tmp/x` to succeed on weir-15: exit code 1: mkdir: /tmp/x: No space left on device",
    ),
    "env-pull-404": (
        "UsageError",
        'tart clone ended with 1: (when: "pulling manifest", code: 404, details: MANIFEST_UNKNOWN)',
    ),
}
SURVIVED: dict[str, Any] = {
    "env-stale-ip": {"type": "event", "name": "stale-address", "attributes": {"silent": ["192.168.64.3"]}},
    "env-slow-clone": [
        {"type": "end", "name": name, "outcome": "ok", "duration": seconds, "attributes": {"machine": "weir"}}
        for name, seconds in (("clone", 41.0), ("start", 6.2))
    ],
    "env-stop-needs-kill": {"type": "event", "name": "vm-process-ended", "attributes": {"pid": 1, "reason": "killed"}},
    "env-sysdiagnose-hangs": {
        "type": "event",
        "name": "evidence-gap",
        "attributes": {"item": "sysdiagnose", "status": "failed", "why": "sysdiagnose to end: it hung and was ended"},
    },
    "env-ssh-drop": {"type": "event", "name": "reconnected", "attributes": {"serial": 2}},
    "env-vnc-freeze": {
        "type": "event",
        "name": "degraded",
        "attributes": {"what": "screen updates stalled: pointer wiggled"},
    },
    "env-vm-limit": {"type": "event", "name": "start-retried", "attributes": {"machine": "weir", "reason": "vm-limit"}},
    "env-disk-full": {
        "type": "event",
        "name": "evidence-gap",
        "attributes": {"why": "disk full in the guest: exit code 1"},
    },
}


def case(folder: Path, *rows: dict[str, Any]) -> Path:
    """A case file with these events, and a listing in which something waits."""
    (folder / "evidence" / "01-x").mkdir(parents=True)
    (folder / "evidence" / "01-x" / "systemextensionsctl-list.txt").write_text(LISTING)
    (folder / "manifest.json").write_text(json.dumps({"collections": []}))
    (folder / "run.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def outcome(error_type: str, error: str, verdict: str = "environment-failure") -> dict[str, Any]:
    return {
        "type": "event",
        "name": "outcome",
        "time": "2026-01-02T03:04:05+00:00",
        "attributes": {"verdict": verdict, "error_type": error_type, "error": error},
    }


def test_every_cause_of_a_run_has_a_case_here() -> None:
    ours = {cause.id for cause in load_catalog().causes.values() if cause.of_our_own}
    assert ours - {"ne-configuration-lost"} == set(ENDS) | set(SURVIVED)


@pytest.mark.parametrize("code", ENDS)
def test_what_ended_the_run_is_named_before_what_its_log_shows(code: str, tmp_path: Path) -> None:
    found = triage([case(tmp_path / "case", outcome(*ENDS[code]))], extension_id="org.weir.filter")
    assert [cause.code for cause in found.causes][:2] == [code, "approval-pending"]
    sign = found.causes[0].signs[0]
    assert (sign.file, sign.line, sign.process) == ("run.jsonl", 1, "harness")


@pytest.mark.parametrize("code", ENDS)
def test_the_same_words_in_a_log_are_no_observation(code: str) -> None:
    for text in (f"outcome environment-failure {ENDS[code][0]}: {ENDS[code][1]}", json.dumps(outcome(*ENDS[code]))):
        assert code not in [cause.code for cause in triage([text.encode()]).causes]


@pytest.mark.parametrize("code", ENDS)
def test_a_product_s_failure_or_a_hint_is_none_either(code: str, tmp_path: Path) -> None:
    rows = [outcome(*ENDS[code], verdict="product-failure"), outcome("X", f"nothing\nHint: {ENDS[code][1]}")]
    for number, row in enumerate(rows):
        found = triage([case(tmp_path / str(number), row)], extension_id="org.weir.filter")
        assert [cause.code for cause in found.causes] == ["approval-pending"]


def test_an_error_that_quotes_a_log_is_no_log(tmp_path: Path) -> None:
    quoted = "ES_NEW_CLIENT_RESULT_ERR_NOT_PERMITTED; activateDecision found two entries for org.weir.filter; MacOS error: -67062"
    found = triage([case(tmp_path / "case", outcome("X", quoted, verdict="product-failure"))])
    assert [cause.code for cause in found.causes] == ["approval-pending"]


def test_an_older_case_file_says_it_in_its_result(tmp_path: Path) -> None:
    folder = case(tmp_path / "case")
    (folder / "result.json").write_text(json.dumps({"verdict": "environment-failure", "error": SSH}))
    found = triage([folder])
    assert found.causes[0].code == "env-hung-boot"
    assert found.causes[0].signs[0].file == "result.json"
    (folder / "result.json").write_text("[" * 100_000)
    assert triage([folder]).causes[0].code == "approval-pending"


@pytest.mark.parametrize("code", SURVIVED)
def test_what_was_survived_is_told_and_fails_nothing(code: str, tmp_path: Path) -> None:
    rows = SURVIVED[code] if isinstance(SURVIVED[code], list) else [SURVIVED[code]]
    folder = case(tmp_path / "case", *rows, *rows)
    (told,) = survived(folder)
    assert (told.what, told.alarm, told.count) == (code, False, 2)
    assert code not in [cause.code for cause in triage([folder]).causes]
    assert survived(case(tmp_path / "other", {"type": "event", "name": "approved", "attributes": {}})) == []


def test_what_was_told_already_is_not_told_again(tmp_path: Path) -> None:
    """A case file that is looked at once more: its events quote themselves."""
    quoted = {"code": "env-ssh-drop", "text": 'event log-gap {"reason": "the connection broke 7.4 s after its start"}'}
    rows = [
        {"type": "event", "name": "survived", "attributes": quoted},
        {"type": "event", "name": "unexpected-line", "attributes": {"what": "x", "text": "event screen-lost {}"}},
    ]
    assert survived(case(tmp_path / "case", *rows)) == []


def test_an_ordinary_clone_and_stop_are_not_worth_telling(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"type": "end", "name": "clone", "outcome": "ok", "duration": 9.4, "attributes": {}},
        {"type": "end", "name": "start", "outcome": "ok", "duration": 0.4, "attributes": {}},
        {"type": "end", "name": "clone", "outcome": "ok", "duration": 30.1, "attributes": {}},
        {
            "type": "end",
            "name": "start",
            "outcome": "ok",
            "duration": 19.9,
            "attributes": {},
        },  # everything is slow there
        {"type": "end", "name": "clone", "outcome": "ok", "duration": 30.1, "attributes": {"machine": "another"}},
        {"type": "end", "name": "start", "outcome": "ok", "duration": 0.9, "attributes": {"machine": "weir"}},
        {"type": "end", "name": "clone", "outcome": "failed", "duration": 90.0, "attributes": {}},
        {"type": "event", "name": "vm-process-ended", "attributes": {"pid": 1, "reason": "stopped"}},
        {"type": "event", "name": "evidence-gap", "attributes": {"item": "last frames", "why": "none were kept"}},
    ]
    assert survived(case(tmp_path / "case", *rows)) == []


def test_what_asked_again_after_an_upgrade_names_what_was_lost(tmp_path: Path) -> None:
    def asked(*, consent: bool) -> dict[str, Any]:
        return {"type": "event", "name": "asked-again", "attributes": {"window": "w", "consent": consent}}

    assert triage([case(tmp_path / "a", asked(consent=True))]).causes[0].code == "ne-configuration-lost"
    found = triage([case(tmp_path / "b", asked(consent=False))])
    assert "ne-configuration-lost" not in [cause.code for cause in found.causes]
    gone = {"type": "event", "name": "configuration-gone", "attributes": {"name": "weir", "before": "1.0"}}
    assert "ne-configuration-lost" in [cause.code for cause in triage([case(tmp_path / "c", gone)]).causes]


def test_the_prompt_and_what_the_app_said(tmp_path: Path) -> None:
    error = {"type": "ActivationFailed", "text": "it failed: code 8\nHint: look at code 4"}
    rows = [
        {"type": "end", "name": "wait for prompt", "attributes": {"window": "alert-blocked"}},
        {"type": "end", "name": "a", "error": error},
        {"type": "end", "name": "b", "error": error},
    ]
    found = observe(case(tmp_path / "case", *rows))
    assert found.prompt_seen is True
    assert [(record.message, record.line) for record in found.said] == [("it failed: code 8", 2)]
    missing = {"type": "event", "name": "prompt-missing"}
    assert observe(case(tmp_path / "other", missing, rows[0])).prompt_seen is False
    assert observe(tmp_path / "nowhere").units == []


KEYS = ["type", "name", "attributes", "error", "duration", "outcome", "time", "text", "verdict", "window", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=8,
)
ROWS = st.dictionaries(
    st.sampled_from(KEYS), JSON | st.sampled_from(["event", "end", "outcome", "wait for prompt", "ok"]), max_size=8
)


@given(lines=st.lists(ROWS.map(lambda row: json.dumps(row).encode()) | st.binary(max_size=60), max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_stream_brings_it_down(lines: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_bytes(b"\n".join(lines))
    found = observe(tmp_path)
    assert len(found.units) <= len(lines)
    assert all(unit.place == "observed" and unit.text and len(unit.text) <= 4000 for unit in found.units)
    survived(tmp_path)
