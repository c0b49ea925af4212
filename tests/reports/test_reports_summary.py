from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import Verdict
from harness.reports import SIMULATED_NOTE, CaseResult, summarise, write_github_summary
from harness.reports.result import Cause, Sign, Why

Make = Callable[..., CaseResult]
WHY = Why(
    verdict="failure",
    headline="[SIMULATED] approval-prompt-missing: The prompt never came",
    causes=(
        Cause(
            code="approval-prompt-missing",
            title="The prompt never came",
            signs=(Sign(file="log.ndjson", line=7, process="sysextd", text="advancing state <b>|"),),
            remedy="Open Settings.",
        ),
        Cause(code="approval-pending"),
    ),
)
GOLDEN = Path(__file__).parent / "golden"


def a_night(case: Make) -> list[CaseResult]:
    return [
        case(macos="26", seconds=9.0, nodeid="a"),
        case(macos="13", seconds=10.0, nodeid="a"),
        case(
            scenario="prompt missing",
            nodeid="b",
            verdict=Verdict.PRODUCT_FAILURE,
            prompt_appeared=False,
            approvable=True,
            error="the approval prompt on sysext-15-ab: no window within 30 s\nHint: see triage.json",
            case="b/15",
            seconds=61.25,
            why=WHY,
        ),
        case(scenario="relaunch", nodeid="e", notes=("logged while it passed: fatal line: launchd: a canary",)),
        case(scenario="reboot", nodeid="c", verdict=Verdict.ENVIRONMENT_FAILURE, attempt=1, started="1"),
        case(scenario="reboot", nodeid="c", attempt=2, started="2", prompt_appeared=None, approvable=None),
        case(scenario="upgrade", nodeid="d", verdict=Verdict.SKIPPED, simulated=False, lane="managed", provider="tart"),
    ]


@pytest.mark.parametrize("form", ["txt", "md"])
def test_as_on_file(case: Make, form: str) -> None:
    summary = summarise(a_night(case))
    made = summary.text(110) if form == "txt" else summary.markdown()
    assert made == (GOLDEN / f"summary.{form}").read_text(encoding="utf-8")


def test_counts_keep_flaky_and_environment_apart(case: Make) -> None:
    summary = summarise(a_night(case))
    assert summary.counts == {"passed": 3, "flaky": 1, "product-failure": 1, "skipped": 1}
    assert summary.environment_failures == 1
    assert not summary.green


def test_green_needs_something_that_ran(case: Make) -> None:
    assert not summarise([]).green
    assert not summarise([case(verdict=Verdict.SKIPPED)]).green
    assert summarise([case()]).green
    for verdict in (Verdict.ENVIRONMENT_FAILURE, Verdict.HARNESS_ERROR, Verdict.PRODUCT_FAILURE):
        assert not summarise([case(nodeid="x"), case(nodeid="y", verdict=verdict)]).green


def test_simulated_is_said_everywhere_and_only_then(case: Make) -> None:
    simulated = summarise([case()])
    real = summarise([case(simulated=False, provider="tart")])
    for text in (simulated.text(), simulated.markdown()):
        assert SIMULATED_NOTE in text
        assert text.count("SIMULATED") >= 3
    for text in (real.text(), real.markdown()):
        assert "SIMULATED" not in text


def test_the_case_file_of_a_failure_is_named(case: Make) -> None:
    summary = summarise(a_night(case))
    assert "b/15" in summary.text()
    assert "b/15" in summary.markdown()


hostile = st.text(max_size=60) | st.sampled_from(
    ["a|b", "x\n| y | z |", "<script>alert(1)</script>", "`code`", "[a](http://b)", "\x1b[31mred", "[bold]x[/bold]"]
)


@given(hostile, hostile)
def test_what_a_mac_prints_is_never_markup(name: str, error: str) -> None:
    result = CaseResult(
        scenario=name,
        nodeid="n",
        macos="15",
        image="",
        lane="pristine",
        provider="tart",
        simulated=False,
        release="1",
        verdict=Verdict.PRODUCT_FAILURE,
        error=error,
    )
    summary = summarise([result])
    markdown = summary.markdown()
    outside = re.sub(r"<pre>.*?</pre>", "", markdown, flags=re.DOTALL)
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert len(re.findall(r"(?<!\\)\|", rows[2])) == 8
    assert "<script" not in markdown
    assert "\x1b" not in markdown + summary.text(400)
    assert summary.text(400).count("product-failure") >= 2


def test_github_gets_it_appended(case: Make, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")
    assert write_github_summary(summarise([case()]), {"GITHUB_STEP_SUMMARY": str(page)}) == page
    text = page.read_text()
    assert text.startswith("before\n")
    assert "first activation" in text


def test_outside_of_github_nothing_is_written(case: Make) -> None:
    assert write_github_summary(summarise([case()]), {}) is None


def test_a_page_too_large_is_cut_and_says_so(case: Make, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    many = [case(nodeid=f"n{n}", verdict=Verdict.PRODUCT_FAILURE, error="é" * 3000) for n in range(300)]
    write_github_summary(summarise(many), {"GITHUB_STEP_SUMMARY": str(page)})
    data = page.read_bytes()
    assert len(data) <= 1024 * 1024
    assert data.endswith(b"see the artifacts)\n")
    data.decode()  # not cut inside a character
