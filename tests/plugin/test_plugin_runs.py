"""Scenarios on stub Macs: verdicts, reruns, evidence, what is shown, with and without xdist, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from harness import events
from harness.errors import Verdict

from .conftest import Project  # type: ignore[import-not-found]

BOTH = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
MIXED = """
from pathlib import Path

def test_passes(mac): pass
def test_product_breaks(mac): raise ProductFailure("a prompt", seen="none", hint="look at the frames")
def test_assertion(mac): assert 1 == 2
def test_skipped(mac): pytest.skip("not on this macOS")
def test_environment_heals(mac, case):
    if case.attempt == 1:
        raise EnvironmentFailure("a Mac that answers", seen="silence")
def test_environment_stays_broken(mac): raise ConnectionResetError("gone")
def test_harness_error(mac): raise HarnessError("us to be right", seen="we are not")
def test_plain(): pass
"""


@BOTH
def test_every_verdict_is_counted_as_what_it_is(project: Project, workers: tuple[str, ...]) -> None:
    project.scenario(MIXED)
    page = project.folder / "page.md"
    project.environment["GITHUB_STEP_SUMMARY"] = str(page)
    done = project.run(*workers, "--junit-xml", "junit.xml", "-ra")
    text = done.stdout
    assert done.returncode == 1, text + done.stderr
    assert "4 failed, 3 passed, 1 skipped, 2 rerun" in text

    (run,) = project.runs()
    results = {(result.scenario, result.attempt): result for result in project.results()}
    assert {key: result.verdict for key, result in results.items()} == {
        ("passes", 1): Verdict.PASSED,
        ("product breaks", 1): Verdict.PRODUCT_FAILURE,
        ("assertion", 1): Verdict.PRODUCT_FAILURE,
        ("skipped", 1): Verdict.SKIPPED,
        ("environment heals", 1): Verdict.ENVIRONMENT_FAILURE,
        ("environment heals", 2): Verdict.PASSED,
        ("environment stays broken", 1): Verdict.ENVIRONMENT_FAILURE,
        ("environment stays broken", 2): Verdict.ENVIRONMENT_FAILURE,
        ("harness error", 1): Verdict.HARNESS_ERROR,
    }
    assert results["environment heals", 2].flaky
    assert results["environment heals", 2].label == "flaky"
    assert not results["passes", 1].flaky
    assert "assert 1 == 2" in results["assertion", 1].error
    assert results["environment stays broken", 1].error == "ConnectionResetError: gone"
    assert all(result.simulated for result in results.values())
    assert all((project.artifacts / result.case / "run.jsonl").is_file() for result in results.values())

    table = text[text.index("scenarios on SIMULATED Macs") :]
    for words in ("flaky", "product-failure", "environment-failure", "harness-error", "skipped", "SIMULATED: no real"):
        assert words in table
    assert "2 broken by the environment on the way" in " ".join(table.split())
    assert f"case files: {run}" in text
    assert (
        "RERUN test_it.py::test_environment_heals[macos15], broken by the environment at first: a Mac that ans" in text
    )
    assert "flaky" in (run / "summary.md").read_text()
    assert page.read_text() == (run / "summary.md").read_text()
    assert "sysext: product-failure" in text
    assert "look at the frames" in text

    machines = [line for line in project.journal() if line.startswith(("create", "delete"))]
    assert len([line for line in machines if line.startswith("create")]) == 9
    assert len([line for line in machines if line.startswith("delete")]) == 9
    assert len([line for line in project.journal() if line.startswith("bad")]) == 3

    cases = ElementTree.parse(project.folder / "junit.xml").getroot().findall(".//testcase")
    assert sorted({str(case.get("name")) for case in cases}) == sorted(
        {f"test_{scenario.replace(' ', '_')}[macos15]" for scenario, _ in results} | {"test_plain"}
    )
    assert len([case for case in cases if case.find("failure") is not None]) == 4


def test_evidence_is_collected_while_the_mac_is_there_and_not_without_need(project: Project) -> None:
    project.scenario(
        MIXED + "@pytest.fixture\ndef prepared(mac): raise ProductFailure('an app', seen='none')\n"
        "def test_prepared(prepared): pass\n"
    )
    project.run()
    journal = project.journal()
    collected = [line for line in journal if line.startswith("collect")]
    assert all("there=True" in line for line in collected)
    assert sorted(line.split("there=True: ")[1] for line in collected) == [
        "environment-failure: ConnectionResetError",
        "environment-failure: ConnectionResetError",
        "environment-failure: EnvironmentFailure",
        "harness-error: HarnessError",
        "product-failure: AssertionError",
        "product-failure: ProductFailure",
        "product-failure: ProductFailure",
    ]
    name = next(line.split()[1] for line in collected if "assertion" in line)
    mine = [line.split()[0] for line in journal if name in line]
    assert mine == ["collect", "close", "stop", "delete"]


def test_a_mac_that_does_not_boot(project: Project) -> None:
    project.scenario("def test_it(mac): raise AssertionError('never run')\n")
    (project.folder / "hung boot").touch()
    done = project.run()
    assert done.returncode == 1
    assert "1 error, 1 rerun" in done.stdout
    assert re.search(r"(?m)(^| )RE?( |$)", done.stdout)
    assert (
        "RERUN test_it.py::test_it[macos15], broken by the environment at first: a booted Mac: a black" in done.stdout
    )
    assert [result.verdict for result in project.results()] == [Verdict.ENVIRONMENT_FAILURE] * 2
    assert [line.split()[0] for line in project.journal()] == [
        "create",
        "collect",
        "close",
        "bad",
        "stop",
        "delete",
    ] * 2
    keys = [line.rpartition("|")[2] for line in project.journal() if line.startswith("create")]
    assert keys == ["1", "2"], "each attempt has a run key of its own"


def test_a_mac_that_cannot_be_deleted_counts_once(project: Project) -> None:
    project.scenario("def test_it(mac): pass\n")
    (project.folder / "undeletable").touch()
    done = project.run()
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 rerun" in done.stdout
    first, second = project.results()
    assert (first.verdict, second.label) == (Verdict.ENVIRONMENT_FAILURE, "flaky")


def test_a_mac_that_cannot_be_deleted_does_not_hide_why_it_did_not_boot(project: Project) -> None:
    project.scenario("def test_it(mac): raise AssertionError('never run')\n")
    (project.folder / "hung boot").touch()
    (project.folder / "undeletable").touch()
    done = project.run()
    assert "1 error, 1 rerun" in done.stdout
    assert "broken by the environment at first: a booted Mac: a black" in done.stdout
    assert "the machine to go" in (project.artifacts / project.results()[0].case / "run.jsonl").read_text()


def test_a_scenario_that_ran_out_of_pytests_time_is_not_the_products_failure(project: Project) -> None:
    project.scenario(
        "import threading\n@pytest.mark.timeout(0.2)\ndef test_it(mac): threading.Event().wait(100)\n"
        "def test_own(mac): pytest.fail('Timeout of the product')\n"
    )
    project.run()
    verdicts = {result.scenario: result.verdict for result in project.results()}
    assert verdicts == {"it": Verdict.HARNESS_ERROR, "own": Verdict.PRODUCT_FAILURE}


def test_known_issues_are_neither_passed_nor_failed(project: Project) -> None:
    project.scenario(
        "@pytest.mark.xfail(reason='FB123', strict=True)\ndef test_known(mac): raise ProductFailure('a prompt', seen='no')\n"
        "@pytest.mark.xfail(reason='FB124', strict=True)\ndef test_mended(mac): pass\n"
    )
    done = project.run()
    assert done.returncode == 1
    results = {result.scenario: result for result in project.results()}
    assert results["known"].verdict is Verdict.KNOWN_ISSUE
    assert "FB123" in results["known"].error
    assert results["mended"].verdict is Verdict.PRODUCT_FAILURE
    assert "remove xfail" in results["mended"].error


def test_releases_give_the_one_before_the_one_under_test(project: Project) -> None:
    project.scenario("def test_it(releases, app): assert (releases, app.name) == (('1', '2'), 'Example')\n")
    assert project.run().returncode == 0
    done = project.run("--sysext-release", "1", "-rs")
    assert "nothing to upgrade from" in done.stdout


@BOTH
def test_live_lines_reach_the_terminal_past_the_capture(project: Project, workers: tuple[str, ...]) -> None:
    project.scenario(
        "import time\nfrom harness import events\n"
        "def test_a(mac):\n    print('captured')\n    events.event('said by a')\n    with events.step('a step'): pass\n    time.sleep(0.7)  # long enough to be shown while the test is captured\n"
        "def test_b(mac):\n    events.event('said by b')\n    assert False\n"
    )
    done = project.run(*workers)
    for line in ("macOS 15 a: · said by a", "macOS 15 a: ▶ a step", "macOS 15 b: · said by b", "macOS 15 b: · result"):
        assert f"\n{line}" in done.stdout, done.stdout
    assert done.stdout.count("said by a") == 1
    assert "· said by" not in done.stdout[done.stdout.index("= FAILURES") :]
    assert "\ncaptured" not in done.stdout
    (run,) = project.runs()
    assert "said by a" in (run / "live.log").read_text()
    assert len([path for path in run.iterdir() if path.is_dir()]) == 2


def test_quiet_says_nothing_live_and_a_summary_that_cannot_be_written_does_not_hurt(project: Project) -> None:
    project.scenario("def test_a(mac): pass\n")
    project.environment["GITHUB_STEP_SUMMARY"] = str(project.folder / "no folder" / "page.md")
    done = project.run("--sysext-quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "·" not in done.stdout
    assert "▶" not in done.stdout
    assert "1 passed" in done.stdout
    assert "the summary could not be written" in done.stdout


def test_xdist_with_an_app_from_the_settings_has_one_run_folder_and_a_case_file_for_each(project: Project) -> None:
    (project.folder / "sysext.toml").write_text('app = "app.toml"\nmacos = ["14"]\n')
    text = "@pytest.mark.parametrize('n', range(3))\ndef test_same(mac, n): pass\n"
    project.scenario(text, "test_one.py")
    project.scenario(text, "test_two.py")
    done = project.run("-n", "2", app=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIMULATED Macs" in done.stdout
    assert done.stdout.count("scenarios on") == 1
    assert len(project.runs()) == 1
    results = project.results()
    assert len({result.case for result in results}) == 6
    for result in results:
        records = list(events.read(project.artifacts / result.case / "run.jsonl"))
        assert [record["type"] for record in records].count("header") == 1
        assert records[0]["attributes"]["nodeid"] == result.nodeid


@BOTH
def test_a_kept_mac_is_said_and_its_password_is_in_no_file(project: Project, workers: tuple[str, ...]) -> None:
    project.scenario("def test_bad(mac): assert False\ndef test_good(mac): pass\n")
    done = project.run(
        *workers, "--sysext-keep-vm", "--junit-xml", "junit.xml", "--alluredir", "allure", "-o", "junit_logging=all"
    )
    kept = [line for line in project.journal() if line.startswith("keep")]
    assert len(kept) == 1
    assert "bad" in kept[0]
    assert "is kept." in done.stdout
    assert ("vnc-pass-word" in done.stdout) == (not workers)
    if workers:
        assert "sysext machines" in done.stdout
    for path in project.folder.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            assert b"vnc-pass-word" not in path.read_bytes(), path
    assert "SIMULATED" in (project.folder / "allure" / "environment.properties").read_text()
    found = [json.loads(path.read_text()) for path in (project.folder / "allure").glob("*-result.json")]
    verdicts = {label["value"] for result in found for label in result["labels"] if label["name"] == "verdict"}
    assert verdicts == {"passed", "product-failure"}


@pytest.fixture
def started(project: Project) -> Callable[..., subprocess.Popen[str]]:
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            project.command(*arguments),
            cwd=project.folder,
            env=project.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield start  # type: ignore[misc]
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("workers", "number"),
    [((), signal.SIGINT), ((), signal.SIGTERM), (("-n", "2"), signal.SIGINT)],
    ids=["alone-int", "alone-term", "xdist-int"],
)
def test_an_interrupted_run_deletes_its_macs(
    project: Project,
    workers: tuple[str, ...],
    number: signal.Signals,
    started: Callable[..., subprocess.Popen[str]],
) -> None:
    project.scenario(
        "import threading\nfrom pathlib import Path\n"
        "def test_long(mac):\n    Path('under way').touch()\n    threading.Event().wait(100)\n"
        "def test_next(mac): Path('next').touch()\n"
        if not workers
        else "import threading\nfrom pathlib import Path\n"
        "def test_long(mac):\n    Path('under way').touch()\n    threading.Event().wait(100)\n"
    )
    process = started(*workers, "--sysext-keep-vm")
    end = time.monotonic() + 60
    while not (project.folder / "under way").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)
    if workers:  # as the terminal does it: to everybody
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert not (project.folder / "next").exists()
    assert [line.split()[0] for line in project.journal()] == ["create", "close", "stop", "delete"], output
    if not workers:
        assert "✓ delete machine" in output
    (result,) = project.results()
    assert result.verdict is Verdict.HARNESS_ERROR, "and with --sysext-keep-vm its Mac goes all the same"
    assert "interrupted: " + ("ended by SIGTERM" if number == signal.SIGTERM else "Ctrl-C") in result.error
    told = [json.loads(line) for line in (project.artifacts / result.case / "run.jsonl").read_text().splitlines()]
    ends = [record["name"] for record in told if record["type"] == "end" or record.get("name") == "result"]
    assert ends[-2:] == ["delete machine", "result"]
