"""A small real pytest run with allure-pytest; its results are read as JSON, and as HTML where the generator is at hand."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import events

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-secret-4711"

CONFTEST = """
import pytest
from harness.errors import EnvironmentFailure, ProductFailure, Verdict, verdict_of
from harness.events import SECRETS, EventLog, use
from harness.reports import AllureReader, CaseResult, finish_test

SECRETS.add("canary-secret-4711")
ERRORS = {}

@pytest.fixture
def log(tmp_path):
    log = EventLog(tmp_path / "run.jsonl")
    log.subscribe(AllureReader())
    with use(log), log.step("boot the Mac", image="vanilla"):
        pass
    with use(log):
        yield log
    with use(log), log.step("delete machine"):
        pass

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if call.excinfo is not None:
        ERRORS[item.nodeid] = call.excinfo.value
    return (yield)

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logfinish(nodeid, location):
    error = ERRORS.get(nodeid)
    finish_test(CaseResult(scenario=nodeid, nodeid=nodeid, macos="15", image="img", lane="pristine",
        provider="simulated", simulated=True, release="1.0", verdict=verdict_of(error), error=str(error or ""),
        flaky="flaky" in nodeid))
"""
TESTS = """
import contextvars, threading
from pathlib import Path
import pytest
from harness import events
from harness.errors import EnvironmentFailure, ProductFailure

def test_good(log, tmp_path):
    picture = tmp_path / "frame.png"
    picture.write_bytes(b"not really a picture")
    large = tmp_path / "sysdiagnose.tar.gz"
    with large.open("wb") as file:
        file.truncate(80 * 1024 * 1024)
    with events.step("approve", channel="vnc") as step:
        threading.Event().wait(0.02)
        step.note(tries=2)
        with events.step("click"):
            events.attach(picture, "what was clicked", "image/png")
            events.event("fell back", reason="no prompt")
        events.attach(large)
        events.attach(tmp_path / "never-written.txt")

def test_product(log):
    with events.step("wait for the prompt"):
        with events.step("type it", text="canary-secret-4711"):
            raise ProductFailure("the approval prompt", seen="nothing (canary-secret-4711)", hint="look")

def test_environment(log):
    with events.step("boot"):
        raise EnvironmentFailure("a booted Mac", seen="none")

def test_threads(log):
    def work():
        with events.step("in a thread"):
            with events.step("deeper"):
                pass
    with events.step("parent"):
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: context.run(work))
        thread.start(); thread.join()
    stray = threading.Thread(target=lambda: events.use(log).__enter__() and log.event("from nowhere"))
    stray.start(); stray.join()

def test_swallowed(log):
    with events.step("tries"):
        try:
            with events.step("first try"):
                raise ConnectionResetError("gone")
        except ConnectionResetError:
            pass
        with events.step("second try"):
            pass

def test_many_events(log):
    for number in range(700):
        events.event("tick", number=number)

@pytest.fixture
def broken(log):
    raise RuntimeError("canary-secret-4711")

def test_broken_fixture(broken):
    pass

def test_flaky(log):
    pass

def test_skipped(log):
    pytest.skip("not on this macOS")
"""


@dataclasses.dataclass
class Ran:
    results: Path
    tests: dict[str, dict[str, Any]]
    containers: list[dict[str, Any]]

    def steps(self, test: str) -> list[dict[str, Any]]:
        return self.tests[test]["steps"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("allure-run")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_small.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    results = folder / "results"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:sysext", "-p", "no:cacheprovider"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "SYSEXT_"))}
    done = subprocess.run(
        [*command, "--alluredir", str(results), "--basetemp", str(folder / "tmp"), str(folder)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "5 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    tests = {}
    for path in results.glob("*-result.json"):
        data = json.loads(path.read_text())
        tests[data["name"]] = data
    containers = [json.loads(path.read_text()) for path in results.glob("*-container.json")]
    return Ran(results, tests, containers)


def shape(steps: list[dict[str, Any]]) -> list[Any]:
    return [(step["name"], step["status"], shape(step.get("steps", []))) for step in steps]


def test_nesting_and_order(ran: Ran) -> None:
    assert shape(ran.steps("test_good")) == [
        ("approve", "passed", [("click", "passed", [("· fell back", "passed", [])])]),
    ]


def test_parameters_hold_what_was_noted_later(ran: Ran) -> None:
    (approve,) = ran.steps("test_good")
    values = {parameter["name"]: parameter["value"] for parameter in approve["parameters"]}
    assert values["channel"] == "vnc"
    assert values["tries"] == "2"


def test_durations_are_those_of_the_stream(ran: Ran) -> None:
    (stream,) = (ran.results.parent / "tmp").glob("test_good0/run.jsonl")
    ends = {record["name"]: record for record in events.read(stream) if record["type"] == "end"}
    (approve,) = ran.steps("test_good")
    assert approve["stop"] - approve["start"] == round(ends["approve"]["duration"] * 1000)


def test_durations_lie_inside_one_another(ran: Ran) -> None:
    (approve,) = ran.steps("test_good")
    (click,) = approve["steps"]
    assert approve["start"] <= click["start"] <= click["stop"] + 1
    assert click["stop"] <= approve["stop"] + 1


def test_steps_of_fixtures_are_in_the_fixtures(ran: Ran) -> None:
    befores = [before for container in ran.containers for before in container.get("befores", [])]
    names = [shape(before.get("steps", [])) for before in befores if before["name"] == "log"]
    assert len(names) == 9
    assert all(steps == [("boot the Mac", "passed", [])] for steps in names)
    afters = [after for container in ran.containers for after in container.get("afters", [])]
    assert any(shape(after.get("steps", [])) == [("delete machine", "passed", [])] for after in afters)


def test_a_file_is_attached_to_its_own_step(ran: Ran) -> None:
    (approve,) = ran.steps("test_good")
    (attachment,) = approve["steps"][0]["attachments"]
    assert (attachment["name"], attachment["type"]) == ("what was clicked", "image/png")
    assert (ran.results / attachment["source"]).read_bytes() == b"not really a picture"


def test_files_too_large_or_missing_are_told_not_copied(ran: Ran) -> None:
    (approve,) = ran.steps("test_good")
    assert not approve.get("attachments")
    told = {parameter["name"]: parameter["value"] for parameter in approve["parameters"]}
    assert "84 MB, left in the case file" in told["sysdiagnose.tar.gz"]
    assert "not attached" in told["never-written.txt"]
    assert sum(path.stat().st_size for path in ran.results.iterdir()) < 5_000_000


def test_a_product_failure_is_failed_all_the_way_up(ran: Ran) -> None:
    test = ran.tests["test_product"]
    assert test["status"] == "failed"
    assert test["statusDetails"]["message"].startswith("[product-failure]")
    assert shape(test["steps"]) == [("wait for the prompt", "failed", [("type it", "failed", [])])]
    assert test["steps"][0]["statusDetails"]["message"].startswith("[product-failure] ProductFailure: the approval")


def test_an_environment_failure_is_broken_not_failed(ran: Ran) -> None:
    test = ran.tests["test_environment"]
    assert test["status"] == "broken"
    assert test["statusDetails"]["message"].startswith("[environment-failure]")
    assert shape(test["steps"]) == [("boot", "broken", [])]


def test_a_failure_that_was_dealt_with_shows_only_where_it_was(ran: Ran) -> None:
    assert ran.tests["test_swallowed"]["status"] == "passed"
    assert shape(ran.steps("test_swallowed")) == [
        ("tries", "passed", [("first try", "broken", []), ("second try", "passed", [])])
    ]


def test_steps_of_threads_hang_below_what_started_them(ran: Ran) -> None:
    assert ran.tests["test_threads"]["status"] == "passed"
    assert shape(ran.steps("test_threads")) == [
        ("parent", "passed", [("in a thread", "passed", [("deeper", "passed", [])])]),
    ]


def test_instants_are_bounded(ran: Ran) -> None:
    assert len(ran.steps("test_many_events")) == 500


def test_labels_say_verdict_macos_and_simulated(ran: Ran) -> None:
    for name, verdict in {
        "test_good": "passed",
        "test_product": "product-failure",
        "test_flaky": "flaky",
        "test_skipped": "skipped",
    }.items():
        labels = {(label["name"], label["value"]) for label in ran.tests[name]["labels"]}
        assert {("verdict", verdict), ("macos", "15"), ("tag", "SIMULATED"), ("tag", "macOS 15")} <= labels
    assert ran.tests["test_flaky"]["statusDetails"]["flaky"] is True


def test_no_secret_in_any_file(ran: Ran) -> None:
    for path in ran.results.iterdir():
        assert CANARY.encode() not in path.read_bytes(), path.name


def test_without_allure_the_reader_does_nothing() -> None:
    code = (
        "from harness.events import EventLog\nfrom harness.reports import AllureReader\n"
        "seen=[]\nlog=EventLog()\nlog.subscribe(AllureReader())\nlog.subscribe(seen.append)\n"
        "with log.step('a'):\n    log.event('b')\nprint([r['name'] for r in seen])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['a', 'b', 'a']"


def test_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.events import SECRETS
    from harness.reports import write_extras

    SECRETS.add(CANARY)
    github = {
        "GITHUB_RUN_ID": "42",
        "GITHUB_RUN_NUMBER": "7",
        "GITHUB_SERVER_URL": "https://git.example",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_WORKFLOW": "nightly",
    }
    write_extras(tmp_path, environment={"app name": f"a=b\n{CANARY}"}, simulated=True, environ=github)
    lines = (tmp_path / "environment.properties").read_text().splitlines()
    assert lines[0].startswith("SIMULATED=")
    assert r"app_name=a=b\n***" in lines
    executor = json.loads((tmp_path / "executor.json").read_text())
    assert executor["buildUrl"] == "https://git.example/o/r/actions/runs/42"
    assert executor["buildOrder"] == 7
    write_extras(tmp_path, environment={}, simulated=False, environ={})
    assert "SIMULATED" not in (tmp_path / "environment.properties").read_text()
    assert json.loads((tmp_path / "executor.json").read_text())["type"] == "local"


def test_categories_sort_by_verdict(ran: Ran, tmp_path: Path) -> None:
    from harness.reports import write_extras

    write_extras(tmp_path, environment={}, simulated=True, environ={})
    categories = json.loads((tmp_path / "categories.json").read_text())

    def of(test: dict[str, Any]) -> list[str]:
        message = (test.get("statusDetails") or {}).get("message", "")
        return [
            category["name"]
            for category in categories
            if test["status"] in category["matchedStatuses"] and re.search(category.get("messageRegex", ""), message)
        ]

    assert of(ran.tests["test_product"]) == ["Product failures"]
    assert of(ran.tests["test_environment"]) == ["Environment failures"]
    assert of(ran.tests["test_skipped"]) == ["Skipped"]
    assert of(ran.tests["test_good"]) == []


def test_the_html_generator_takes_it(ran: Ran, tmp_path: Path) -> None:
    generator = ROOT / "build" / "allure_html" / "node_modules" / ".bin" / "allure"
    if not generator.exists():
        pytest.skip("the npm package `allure` is not installed here: `make report` does that, from the network")
    rules = ROOT / "scripts" / "allure_html" / "allurerc.mjs"
    command = [str(generator), "awesome", str(ran.results), "--config", str(rules), "--single-file"]
    subprocess.run([*command, "--output", str(tmp_path / "report")], check=True, capture_output=True, cwd=tmp_path)
    page = (tmp_path / "report" / "index.html").read_text(errors="replace")
    data = b"".join(_decoded(chunk) for chunk in re.findall(r"[A-Za-z0-9+/=]{100,}", page))
    for text in ("test_product", "wait for the prompt", "Product failures", "Environment failures", "SIMULATED"):
        assert text.encode() in data, text


def _decoded(chunk: str) -> bytes:
    try:
        return base64.b64decode(chunk + "==", validate=False)
    except binascii.Error:
        return b""
