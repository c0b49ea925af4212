"""What a failing or passing case says of itself: cause, signs, known issue, notes; and that triage never hides a failure."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from harness import events
from harness.config import Settings, load_settings
from harness.errors import EnvironmentFailure, HarnessError, KnownIssue, ProductFailure, UsageError, Verdict
from harness.evidence import CaseFolder
from harness.reports.failing import tell
from harness.reports.result import CaseResult, Cause
from harness.session import why
from harness.session.case import Case
from harness.session.run import open_run
from harness.session.why import explain, standing
from harness.triage import triage
from harness.triage.bounded import triage_bounded
from harness.triage.known_issues import KnownIssues, load_known_issues
from harness.triage.passing import rules_from, unexpected_lines

EXTENSION = "com.example.guard.extension"
APP = Path(__file__).resolve().parents[2] / "scenarios" / "apps" / "mitmproxy.toml"
DAY = date(2026, 6, 1)


def line(process: str, message: str, level: str = "Default") -> str:
    record = {
        "timestamp": "2026-05-09 15:30:00.123456+0200",
        "messageType": level,
        "eventType": "logEvent",
        "eventMessage": message,
        "processImagePath": f"/usr/libexec/{process}",
        "processID": 123,
        "threadID": 77,
        "subsystem": "com.apple.sx",
        "category": "",
        "machTimestamp": 1000 + len(message),
        "bootUUID": "8C6B5A41-1234-5678-9ABC-DEF012345678",
    }
    return json.dumps(record) + "\n"


REFUSED = line("sysextd", f"client activation request for {EXTENSION}") + line(
    "sysextd", "bundle code signature is not valid - does not satisfy requirement: -67050", "Error"
)


def make(
    folder: Path, *, log: str = "", simulated: bool = False, scenario: str = "first activation", **wanted: Any
) -> Case:
    settings: Settings = load_settings(environ={}, overrides={"provider": "simulated", **wanted})
    case_folder = CaseFolder(folder / "case")
    if log:
        (case_folder.path / "log-stream.ndjson").write_text(log, encoding="utf-8")
    return Case(
        scenario=scenario,
        nodeid="n",
        macos="15",
        attempt=1,
        settings=settings,
        simulated=simulated,
        image="i",
        release="1.0",
        folder=case_folder,
        log=events.EventLog(case_folder.events_path),
        artifacts=folder,
    )


def happened(case: Case, name: str) -> list[dict[str, Any]]:
    return [record["attributes"] for record in events.read(case.folder.events_path) if record.get("name") == name]


def known(folder: Path, **more: str) -> KnownIssues:
    values = {
        "cause": '"code-signature-*"',
        "reason": '"r"',
        "link": '"https://e.com/1"',
        "expires": "2026-12-31",
        **more,
    }
    path = folder / "issue.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()))
    return load_known_issues([path])


def test_a_failure_gets_its_cause_and_the_whole_answer_is_kept(tmp_path: Path) -> None:
    case = make(tmp_path, log=REFUSED, simulated=True)
    case.fail(ProductFailure("the app to activate", seen="error 8"))
    explain(case, extension_id=EXTENSION, known=KnownIssues())
    result = case.close()
    assert result.verdict is Verdict.PRODUCT_FAILURE
    assert result.cause == "code-signature-invalid"
    assert result.why is not None
    assert result.why.headline.startswith("[SIMULATED] ")
    assert "-67050" in result.why.causes[0].signs[0].text
    assert "-67050" in (case.folder.path / "triage.txt").read_text()
    assert json.loads((case.folder.path / "triage.json").read_text())["simulated"] is True
    assert CaseResult.read(case.folder.path) == result
    said = "\n".join(result.why.lines())
    assert "What to do:" in said
    assert "log-stream.ndjson:2" in said


def test_the_label_is_only_for_simulated_macs(tmp_path: Path) -> None:
    case = make(tmp_path, log=REFUSED)
    case.fail(ProductFailure("x"))
    explain(case, extension_id=EXTENSION, known=KnownIssues())
    assert case.why is not None
    assert "SIMULATED" not in case.why.headline


def test_triage_that_fails_is_told_and_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(why, "triage_bounded", broken)
    case = make(tmp_path, log=REFUSED)
    case.fail(ProductFailure("the prompt", seen="none"))
    explain(case, extension_id=EXTENSION, known=known(tmp_path))
    result = case.close()
    assert result.verdict is Verdict.PRODUCT_FAILURE
    assert result.error == "the prompt: none"
    assert result.why is not None
    assert "canary" in result.why.headline
    assert result.cause == ""
    assert "canary" in happened(case, "degraded")[0]["reason"]


def test_it_ends_in_time_and_says_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HarnessError, match="within 0 s"):
        triage_bounded(make(tmp_path, log=REFUSED).folder.path, seconds=0.001)
    with pytest.raises(HarnessError, match="nowhere"):
        triage_bounded(tmp_path / "nowhere", seconds=60)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(HarnessError, match="to be started"):
        triage_bounded(tmp_path, seconds=60)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    case = make(tmp_path, log=REFUSED, **{"triage.automatic": False})
    case.fail(ProductFailure("x"))
    explain(case, extension_id=EXTENSION, known=KnownIssues())
    assert case.close().why is None


def test_verdict_and_cause_that_disagree_are_told_and_the_verdict_stays(tmp_path: Path) -> None:
    image = Cause(code="es-no-full-disk-access", owner="harness-image")
    product = Cause(code="extension-crash", owner="app code")
    assert "verdict stays product-failure" in standing(Verdict.PRODUCT_FAILURE, image)
    assert standing(Verdict.PRODUCT_FAILURE, product) == ""
    assert "verdict stays environment-failure" in standing(Verdict.ENVIRONMENT_FAILURE, product)
    assert "verdict stays harness-error" in standing(Verdict.HARNESS_ERROR, product)
    assert standing(Verdict.PRODUCT_FAILURE, None) == ""
    case = make(tmp_path, log=REFUSED)
    case.fail(EnvironmentFailure("the connection", seen="dropped"))
    explain(case, extension_id=EXTENSION, known=known(tmp_path))
    result = case.close()
    assert result.verdict is Verdict.ENVIRONMENT_FAILURE
    assert result.why is not None
    assert "verdict stays" in result.why.standing


def test_a_known_issue_is_a_verdict_of_its_own(tmp_path: Path) -> None:
    case = make(tmp_path, log=REFUSED)
    case.fail(ProductFailure("the app to activate", seen="error 8"))
    explain(case, extension_id=EXTENSION, known=known(tmp_path), today=DAY)
    result = case.close()
    assert result.verdict is Verdict.KNOWN_ISSUE
    assert "https://e.com/1" in result.known_issue
    assert "error 8" in result.error
    assert result.cause == "code-signature-invalid"
    assert happened(case, "known-issue")[0]["id"] == "issue"


def test_an_expired_one_fails_and_says_so(tmp_path: Path) -> None:
    case = make(tmp_path, log=REFUSED)
    case.fail(ProductFailure("the app to activate", seen="error 8"))
    explain(case, extension_id=EXTENSION, known=known(tmp_path), today=date(2027, 1, 1))
    result = case.close()
    assert result.verdict is Verdict.PRODUCT_FAILURE
    assert "expired on 2026-12-31" in result.notes[0]
    assert result.known_issue.startswith("EXPIRED")


def test_a_pass_of_one_that_always_fails_is_told(tmp_path: Path) -> None:
    case = make(tmp_path)
    explain(case, extension_id=EXTENSION, known=known(tmp_path, expects='"always"'), today=DAY)
    result = case.close()
    assert result.verdict is Verdict.PASSED
    assert "expects it to fail always" in result.notes[0]
    assert happened(case, "known-issue-did-not-show")


def test_a_fatal_line_in_a_pass_is_told_and_fails_only_on_demand(tmp_path: Path) -> None:
    log = (
        line("sysextd", "Fatal error: canary") * 3
        + line("sysextd", "fine")
        + line("mdworker", "Fatal error: no matter")
    )
    for name, strict in (("told", False), ("strict", True)):
        case = make(tmp_path / name, log=log, **{"triage.strict_passing": strict})
        explain(case, extension_id=EXTENSION, known=KnownIssues())
        result = case.close()
        assert result.verdict is (Verdict.PRODUCT_FAILURE if strict else Verdict.PASSED)
        (note,) = result.notes
        assert "Fatal error: canary" in note
        assert "(3 times)" in note
        assert len(happened(case, "unexpected-line")) == 1


def test_what_is_expected_in_a_pass_is_not_told(tmp_path: Path) -> None:
    refusal = line("sysextd", f"client activation request for {EXTENSION}")
    refusal += line("sysextd", "no policy, cannot allow apps outside /Applications", "Error")
    folder = make(tmp_path, log=refusal).folder.path
    assert unexpected_lines(folder, scenario="app outside applications is refused", extension_id=EXTENSION) == []
    told = unexpected_lines(folder, scenario="upgrade", extension_id=EXTENSION)
    assert "no-policy-outside-applications" in [item.what for item in told]


def test_what_is_odd_and_not_fatal_is_told_and_is_no_alarm(tmp_path: Path) -> None:
    noise = (
        "Entitlement com.apple.security.application-groups=(X) is ignored because of invalid application signature or "
    )
    folder = make(tmp_path, log=line("trustd", noise + "incorrect provisioning profile", "Error") * 3).folder.path
    assert [cause.severity for cause in triage([folder / "log-stream.ndjson"]).causes] == ["degraded"]
    (told,) = unexpected_lines(folder, scenario="upgrade")
    assert (told.what, told.process, told.count, told.alarm) == ("app-group-profile-mismatch", "trustd", 3, False)
    more = make(
        tmp_path / "b", log=line("trustd", noise + "incorrect provisioning profile", "Error") + line("x", "y") * 200
    )
    (told,) = unexpected_lines(more.folder.path, scenario="upgrade")  # in a whole log no more than suspected
    assert (told.what, told.alarm) == ("app-group-profile-mismatch", False)


def test_a_noise_does_not_fail_a_strict_pass(tmp_path: Path) -> None:
    case = make(
        tmp_path,
        log=line(
            "trustd",
            "Entitlement x is ignored because of invalid application signature or incorrect provisioning profile",
        ),
        **{"triage.strict_passing": True},
    )
    explain(case, extension_id=EXTENSION, known=KnownIssues([]))
    assert case.failure is None
    assert any("app-group-profile-mismatch" in note and "nothing came of it" in note for note in case.notes)


def test_an_expectation_needs_a_reason() -> None:
    watch = {"processes": ["sysextd"], "fatal": ["x"]}
    with pytest.raises(UsageError, match="reason"):
        rules_from({"watch": watch, "expected": [{"cause": "x"}]})
    with pytest.raises(UsageError, match="unknown: caus"):
        rules_from({"watch": watch, "expected": [{"caus": "x", "cause": "y", "reason": "z"}]})


def test_the_next_question_is_not_the_prompt_that_was_missing() -> None:
    """Once the extension was approved by another way, the consent for its configuration is on the screen, and seen."""
    states = ("staging", "validating", "activated_waiting_for_user", "activated_enabling", "activated_enabled")
    messages = [
        ("sysextd", f"client activation request for {EXTENSION}"),
        ("sysextd", "initial activation decision: activateNew"),
        *(
            ("sysextd", f"extension TEAM {EXTENSION} (1.0/1) advancing state from {before} to {after}")
            for before, after in zip(("realizing", *states), states, strict=False)
        ),
        ("UserNotificationCenter", "Received CFUserNotification request from nehelper[102]"),
    ]
    log = "".join(
        line(process, message).replace("15:30:00.123456", f"15:30:{number:02d}.000000")
        for number, (process, message) in enumerate(messages)
    )
    found = triage([log.encode()], extension_id=EXTENSION, prompt_seen=False)
    assert found.causes[0].code == "approval-prompt-missing"


@dataclass
class Report:
    """As much of pytest's report as `tell` looks at."""

    when: str
    outcome: str
    longrepr: str = ""
    wasxfail: str | None = None
    sections: list[tuple[str, str]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.outcome == "failed"


def three(call: str) -> list[Report]:
    return [Report("setup", "passed"), Report("call", call), Report("teardown", "passed")]


def test_pytest_shows_the_cause_a_known_issue_and_a_strict_failure(tmp_path: Path) -> None:
    case = make(tmp_path / "a", log=REFUSED)
    case.fail(ProductFailure("the app to activate", seen="error 8"))
    explain(case, extension_id=EXTENSION, known=KnownIssues())
    reports = three("failed")
    tell(reports, case.close())
    ((title, text),) = reports[1].sections
    assert title == "sysext: why (code-signature-invalid)"
    assert "-67050" in text
    assert reports[1].outcome == "failed"

    case = make(tmp_path / "b")
    case.failure = KnownIssue("known", seen="x")
    case.known_issue = "known issue one"
    reports = three("failed")
    tell(reports, case.close())
    assert (reports[1].outcome, reports[1].wasxfail) == ("skipped", "known issue one")

    case = make(tmp_path / "c")
    case.fail(ProductFailure("no fatal line"))
    case.notes.append("a note")
    reports = three("passed")
    tell(reports, case.close())
    assert [report.outcome for report in reports] == ["passed", "failed", "passed"]
    assert reports[1].longrepr == "no fatal line"


def test_a_run_reads_its_known_issues_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sysext.toml").write_text(f'provider = "simulated"\napp = "{APP}"\n')
    assert len(open_run({}, config=None, release=None, folder=tmp_path).known_issues) == 0
    (tmp_path / "known_issues").mkdir()
    known(tmp_path / "known_issues")
    assert len(open_run({}, config=None, release=None, folder=tmp_path).known_issues) == 1
    (tmp_path / "known_issues" / "issue.toml").write_text(
        'expires = "never"\nreason = "r"\nlink = "https://e.com"\ncause = "x"\n'
    )
    with pytest.raises(UsageError, match="'expires'"):
        open_run({}, config=None, release=None, folder=tmp_path)
    (tmp_path / "sysext.toml").write_text(f'provider = "simulated"\napp = "{APP}"\nknown_issues = ["elsewhere"]\n')
    with pytest.raises(UsageError, match="elsewhere"):
        open_run({}, config=None, release=None, folder=tmp_path)
