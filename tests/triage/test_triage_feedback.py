"""The folder for Feedback Assistant: what the report says, what is masked, and that a simulated Mac is never passed off as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli.feedback import feedback
from harness.errors import UsageError

EXTENSION = "com.example.guard.extension"


def case_file(folder: Path, *, provider: str = "tart", verdict: str = "product-failure", **result: Any) -> Path:
    """A small case file as the harness writes it, with canaries."""
    collection = folder / "evidence" / "01-product-failure"
    collection.mkdir(parents=True)
    simulated = provider == "simulated"
    values = {
        "scenario": "first activation",
        "macos": "15",
        "provider": provider,
        "simulated": simulated,
        "release": "1.0",
        "verdict": verdict,
        "error": "the app to activate on vm-1: it ended with exit code 1\nHint: ours",
        "prompt_appeared": False,
        "started": "2026-06-01T10:00:00+00:00",
        **result,
    }
    (folder / "result.json").write_text(json.dumps(values))
    header = {
        "provider": provider,
        "simulated": simulated,
        "app": "Guard",
        "settings": {"guest": {"user": "canaryuser"}},
    }
    boot = {"product": "15.6.1", "build": "24G90", "sip": True, "boot_session": "8C6B5A41-1234-5678-9ABC-DEF012345678"}
    records = [
        {"type": "header", "schema": 1, "time": "t", "attributes": header},
        {"type": "end", "name": "boot", "time": "t1", "outcome": "ok", "attributes": boot},
        {"type": "end", "name": "install", "time": "t2", "outcome": "ok", "attributes": {"app": "Guard.app", "version": "1.0/7", "into": "/Applications"}},
        {"type": "end", "name": "launch", "time": "t3", "outcome": "failed", "attributes": {"app": "Guard"}, "error": {"type": "X", "text": "no"}},
    ]  # fmt: skip
    (folder / "run.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    items = [{"name": "log", "status": "ok", "path": "evidence/01-product-failure/log.ndjson"}]
    (folder / "manifest.json").write_text(json.dumps({"collections": [{"reason": "x", "items": items}]}))
    log = ""
    for number, message in enumerate(
        (
            f"client activation request for {EXTENSION}",
            "bundle code signature is not valid - does not satisfy requirement: -67050",
            "a session of canaryuser on canarymac.local 203.0.113.7",
        )
    ):
        record = {
            "timestamp": f"2026-06-01 12:00:0{number}.000000+0200",
            "messageType": "Error",
            "eventType": "logEvent",
            "eventMessage": message,
            "processImagePath": "/usr/libexec/sysextd",
            "processID": 99,
            "subsystem": "com.apple.sx",
            "category": "XPC",
            "machTimestamp": 10 + number,
        }
        log += json.dumps(record) + "\n"
    (collection / "log.ndjson").write_text(log)
    (collection / "screen.png").write_bytes(b"\x89PNG\r\n\x1a\n\0canaryuser")
    (folder / "frames").mkdir()
    (folder / "frames" / "001-x.png").write_bytes(b"\x89PNG\0")
    return folder


def run(case: Path, target: Path, *options: str) -> Result:
    return CliRunner().invoke(feedback, [str(case), "-o", str(target), *options], catch_exceptions=False)


def everything(folder: Path) -> str:
    return "\n".join(
        [
            str(path.relative_to(folder)) + "\n" + path.read_bytes().decode(errors="replace")
            for path in folder.rglob("*")
            if path.is_file()
        ]
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    base = tmp_path_factory.mktemp("feedback")
    target = base / "out"
    assert run(case_file(base / "case"), target).exit_code == 0
    return target, (target / "report.md").read_text()


@pytest.mark.parametrize(
    "said",
    [
        "# System extension on macOS 15.6.1",
        "15.6.1 (24G90)",
        "8C6B5A41-1234-5678-9ABC-DEF012345678",
        "**Expected:** the app to activate on vm-1",
        "**Actual:** it ended with exit code 1",
        "Install Guard.app (version 1.0/7) into /Applications.",
        "requests the activation of its system extension. This failed.",
        "`code-signature-invalid`",
        "evidence/01-product-failure/log.ndjson:2",
        "2026-06-01 12:00:01.000000+0200 Error sysextd[99] [com.apple.sx:XPC] bundle code signature is not valid - does not",
        "attachments/01-product-failure/log.ndjson",
        "Masked: ",
    ],
)
def test_the_report_has_what_apple_asks_for(report: tuple[Path, str], said: str) -> None:
    assert said in report[1]


def test_nobody_is_in_it_and_nothing_of_ours(report: tuple[Path, str]) -> None:
    target, text = report
    whole = everything(target)
    for canary in ("canaryuser", "canarymac", "203.0.113.7"):
        assert canary not in whole
    assert "Hint" not in text
    assert "SIMULATED" not in whole
    names = {path.name for path in target.rglob("*")}
    assert not names & {"run.jsonl", "result.json", "screen.png", "001-x.png"}
    assert {"report.md", "redaction.json", "triage.txt", "log.ndjson"} <= names


def test_a_simulated_mac_is_refused_and_on_demand_marked_everywhere(tmp_path: Path) -> None:
    case = case_file(tmp_path / "case", provider="simulated")
    with pytest.raises(UsageError, match="SIMULATED"):
        run(case, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    ended = run(case, tmp_path / "out", "--allow-simulated")
    assert ended.output.startswith("SIMULATED")
    target = tmp_path / "out-SIMULATED"
    text = (target / "report.md").read_text()
    assert text.splitlines()[0].startswith("**SIMULATED")
    assert text.rstrip().splitlines()[-1].startswith("**SIMULATED")
    assert "# [SIMULATED] System extension" in text
    assert "SIMULATED" in (target / "attachments-SIMULATED" / "triage.txt").read_text()
    assert (target / "SIMULATED.txt").is_file()


@pytest.mark.parametrize("where", ["result.json", "run.jsonl"])
def test_one_of_both_saying_simulated_is_enough(tmp_path: Path, where: str) -> None:
    case = case_file(tmp_path / "case", provider="simulated")
    other = case / ("run.jsonl" if where == "result.json" else "result.json")
    other.unlink()
    with pytest.raises(UsageError, match="SIMULATED"):
        run(case, tmp_path / "out")


def test_a_case_that_does_not_say_is_refused(tmp_path: Path) -> None:
    case = case_file(tmp_path / "case")
    (case / "result.json").write_text('{"verdict": "product-failure"}')
    (case / "run.jsonl").unlink()
    with pytest.raises(UsageError, match="whether its Mac was a real one"):
        run(case, tmp_path / "out")


def test_what_is_no_failing_case_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="passed"):
        run(case_file(tmp_path / "passed", verdict="passed"), tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for case in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(UsageError):
            run(case, tmp_path / "out")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_text("{")
    with pytest.raises(UsageError):
        run(tmp_path / "bad", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "empty", "passed"]


def test_hostile_words_of_a_mac_stay_words(tmp_path: Path) -> None:
    case = case_file(tmp_path / "case", scenario="a | b\n# c", error="x\x1b[31m: {0.__class__} {boot}\n## d")
    assert run(case, tmp_path / "out").exit_code == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "\x1b" not in text
    assert "\n# c" not in text
    assert "\n## d" not in text
    assert "{0.__class__} {boot}" in text
