"""Histories: states over time, what silence proves and what not, documents joined to them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.triage import Triage, triage

ID = "org.weir.filter"
REQUEST = [
    f"sysextd: [com.apple.sx:XPC] client activation request for {ID}",
    f"sysextd: attempting to realize extension with identifier {ID}",
    "sysextd: realizing target path: file:///Applications/Weir.app/Contents/Library/SystemExtensions/org.weir.filter.systemextension/",
    "sysextd: initial activation decision: activateNew",
    f"sysextd: staging extension with identifier {ID}",
]


def step(before: str, after: str, version: str = "2.0/41") -> str:
    return f"sysextd: [com.apple.sx:StateChange] extension ABCDE12345 {ID} ({version}) advancing state from {before} to {after}"


WAITING = [
    *REQUEST,
    step("realizing", "staging"),
    step("staging", "validating"),
    step("validating", "activated_waiting_for_user"),
]
ENABLED = [step("activated_waiting_for_user", "activated_enabling"), step("activated_enabling", "activated_enabled")]
TICK = "mDNSResponder: tick"
PROMPT = "UserNotificationCenter: [com.apple.UserNotificationCenter:default] Ordering alert window front"


def log(messages: list[str], second: float = 1.0, start: int = 1_750_000_000) -> bytes:
    lines = ["Timestamp                       Thread     Type        Activity             PID    TTL  "]
    for number, message in enumerate(messages):
        at = datetime.fromtimestamp(start + number * second, UTC)
        lines.append(
            f"{at:%Y-%m-%d %H:%M:%S.%f}+0000 0x4d96     Default     0x0                  357    0    {message}"
        )
    return ("\n".join(lines) + "\n").encode()


def codes(found: Triage) -> list[str]:
    return [cause.code for cause in found.causes]


def test_a_good_activation_is_told_step_by_step() -> None:
    found = triage([log([*WAITING, PROMPT, *ENABLED, *[TICK] * 60])])
    assert found.verdict == "healthy", codes(found)
    steps = [happening.what for happening in found.timeline if happening.extension == ID]
    assert steps[0] == "activation request"
    assert steps[-1] == "activated_enabling -> activated_enabled"
    assert [happening.version for happening in found.timeline if "enabled" in happening.what][-1] == "2.0/41"
    assert all(happening.line > 0 for happening in found.timeline)


def test_no_prompt_in_a_covered_window_is_proof() -> None:
    found = triage([log([*WAITING, *[TICK] * 100])])
    assert codes(found)[0] == "approval-prompt-missing"


def test_no_prompt_in_a_log_that_ends_too_soon_proves_only_that_approval_is_pending() -> None:
    found = triage([log([*WAITING, *[TICK] * 5])])
    assert "approval-prompt-missing" not in codes(found)
    assert codes(found) == ["approval-pending"]


def test_silence_proves_nothing_where_messages_were_lost() -> None:
    data = (
        log([*WAITING, *[TICK] * 100])
        + b"lost >=63 unreliable messages from 120-240 (Mach continuous exact start-approx. end)\n"
    )
    found = triage([data])
    if found.coverage["lost"] == 0:
        pytest.fail("the marker was not read")
    assert "approval-prompt-missing" not in codes(found)


def test_a_prompt_in_time_is_no_missing_one() -> None:
    found = triage([log([*WAITING, TICK, PROMPT, *[TICK] * 100])])
    assert codes(found) == ["approval-pending"]


def test_what_the_screen_showed_decides_between_missing_and_invisible() -> None:
    asked = log([*WAITING, PROMPT, TICK])
    assert codes(triage([asked], prompt_seen=False))[0] == "invisible-prompt-until-reboot"
    assert codes(triage([log([*WAITING, TICK])], prompt_seen=False))[0] == "approval-prompt-missing"
    assert codes(triage([log([*WAITING, *[TICK] * 100])], prompt_seen=True)) == ["approval-pending"]


def test_a_case_file_says_what_the_screen_showed(tmp_path: Path) -> None:
    case = tmp_path / "case"
    case.mkdir()
    record = {"type": "event", "id": "1", "parent": None, "name": "prompt-missing", "time": "x", "attributes": {}}
    (case / "run.jsonl").write_text(json.dumps(record) + "\n")
    (case / "manifest.json").write_text("{}")
    (case / "log.txt").write_bytes(log([*WAITING, PROMPT, TICK]))
    assert codes(triage([case]))[0] == "invisible-prompt-until-reboot"


def test_a_coalesced_request_is_no_missing_prompt() -> None:
    again = [REQUEST[0], "sysextd: initial activation decision: coalesceWithActivationInProgress(<x>)"]
    found = triage([log([*WAITING, *again, *[TICK] * 100])])
    assert codes(found)[0] == "approval-coalesced-no-prompt"
    assert "approval-prompt-missing" not in codes(found)


DRIVER = [line.replace(ID, "org.weir.usbdriver") for line in REQUEST[:2]]


def test_silence_after_the_attempt_is_proof_for_a_driver_when_the_log_goes_on() -> None:
    assert codes(triage([log([*DRIVER, *[TICK] * 30])])) == ["dext-silent-after-realize"]


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([*DRIVER, "libxpc: x", "libxpc: y", "libxpc: z"], id="the excerpt ends"),
        pytest.param([*DRIVER, "sysextd: realizing target path: file:///x", *[TICK] * 30], id="it went on"),
        pytest.param([*REQUEST[:2], *[TICK] * 30], id="no driver"),
    ],
)
def test_other_silence_proves_nothing(messages: list[str]) -> None:
    assert "dext-silent-after-realize" not in codes(triage([log(messages, second=0.5 if len(messages) < 10 else 1)]))


CONFLICT = [
    REQUEST[0],
    "sysextd: initial activation decision: requestAppReplaceAction(<x>)",
    "sysextd: notifying client of activation conflict",
]
GONE = "sysextd: [com.apple.sx:XPC] client connection (pid 511) invalidated"


def test_an_app_that_goes_before_it_answers_is_named() -> None:
    assert codes(triage([log([*CONFLICT, GONE, TICK], 0.2)])) == ["replacement-answer-lost"]


@pytest.mark.parametrize(
    ("other", "first"),
    [
        pytest.param(ID, "replacement-answer-lost", id="overtaken"),
        pytest.param("org.weir.driver", "approval-coalesced-no-prompt", id="by another extension's"),
    ],
)
def test_a_joined_request_that_a_later_one_got_past_comes_after_what_that_one_met(other: str, first: str) -> None:
    joined = [REQUEST[0], "sysextd: initial activation decision: coalesceWithActivationInProgress(<x>)"]
    later = [line.replace(ID, other) for line in REQUEST[:3]]
    lost = [*later, *CONFLICT[1:], GONE]
    found = triage([log([*WAITING, *joined, TICK, *lost, *[TICK] * 20], 0.2)])
    assert codes(found)[0] == first
    found = triage([log([*WAITING, *lost, TICK, *joined, *[TICK] * 20], 0.2)])
    assert codes(found)[0] == "approval-coalesced-no-prompt"


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(
            [*CONFLICT, "Weir: system extension actionForReplacingExtension: 1 2", step("a", "staging"), GONE],
            id="answered",
        ),
        pytest.param([REQUEST[0], GONE], id="no conflict"),
        pytest.param([*CONFLICT, TICK], id="still there"),
    ],
)
def test_the_end_of_a_connection_alone_is_normal(messages: list[str]) -> None:
    assert "replacement-answer-lost" not in codes(triage([log(messages, 0.2)]))


def test_the_last_state_counts_not_those_on_the_way() -> None:
    found = triage([log([*WAITING, PROMPT, *ENABLED])])
    assert "approval-pending" not in codes(found)


def test_a_later_listing_replaces_an_earlier_one(tmp_path: Path) -> None:
    row = f"1 extension(s)\n*\t*\tABCDE12345\t{ID} (2.0/41)\tWeir\t[{{}}]\n"
    first, second = tmp_path / "1.txt", tmp_path / "2.txt"
    first.write_text(row.format("activated waiting for user"))
    second.write_text(row.format("activated enabled"))
    assert triage([first, second]).verdict == "healthy"
    assert codes(triage([second, first])) == ["approval-pending"]


IPS = {
    "app_name": "x",
    "timestamp": "2025-06-15 15:06:45.00 +0000",
    "bug_type": "309",
    "os_version": "macOS 15.5 (24F74)",
    "name": "x",
}


def crash(path: str, name: str, bundle: str = "", **more: object) -> bytes:
    body = {"procName": name, "procPath": path, "pid": 901, "bundleInfo": {"CFBundleIdentifier": bundle}}
    body |= {
        "exception": {"type": "EXC_BAD_ACCESS", "signal": "SIGSEGV"},
        "captureTime": "2025-06-15 15:06:45.00 +0000",
    }
    return (
        json.dumps(IPS | {"app_name": name, "name": name, "bundleID": bundle}) + "\n" + json.dumps(body | more)
    ).encode()


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (crash("/System/Library/Frameworks/SystemExtensions.framework/Versions/A/Helpers/sysextd", "sysextd"), "sysextd-crash"),
        (crash(f"/Library/SystemExtensions/X/{ID}.systemextension/Contents/MacOS/{ID}", ID, ID), "extension-crash"),
        (
            crash(f"/Library/SystemExtensions/X/{ID}.systemextension/Contents/MacOS/{ID}", ID, ID,
                  termination={"namespace": "CODESIGNING", "indicator": "Taskgated Invalid Signature", "code": 1}),
            "killed-at-exec",
        ),
        (crash("/Applications/Weir.app/Contents/MacOS/WeirAgent", "WeirAgent", "org.weir.agent"), "host-component-crash"),
    ],
    ids=["sysextd", "extension", "killed", "host"],
)  # fmt: skip
def test_a_crash_report_near_the_request_is_told_by_whose_it_is(tmp_path: Path, report: bytes, code: str) -> None:
    (tmp_path / "x.ips").write_bytes(report)
    near = log([REQUEST[0], *[TICK] * 3], start=1_750_000_000)
    (tmp_path / "log.txt").write_bytes(near)
    assert code in codes(triage([tmp_path / "log.txt", tmp_path / "x.ips"]))


def test_an_app_that_crashed_at_another_time_is_not_accused(tmp_path: Path) -> None:
    (tmp_path / "x.ips").write_bytes(
        crash("/Applications/Weir.app/Contents/MacOS/WeirAgent", "WeirAgent", "org.weir.agent")
    )
    (tmp_path / "log.txt").write_bytes(log([*REQUEST, *[TICK] * 100], start=1_740_000_000))
    assert "host-component-crash" not in codes(triage([tmp_path / "log.txt", tmp_path / "x.ips"]))


def test_a_job_of_an_extension_that_is_off_is_not_missed(tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(f"1 extension(s)\n\t*\tABCDE12345\t{ID} (2.0/41)\tWeir\t[activated waiting for user]\n")
    job = tmp_path / "job.txt"
    job.write_text(f'Bad request.\nCould not find service "NetworkExtension.{ID}.2.0.41" in domain for system\n')
    assert codes(triage([listing, job])) == ["approval-pending"]
    listing.write_text(listing.read_text().replace("waiting for user", "enabled"))
    assert "extension-not-running" in codes(triage([listing, job], extension_id=ID))
