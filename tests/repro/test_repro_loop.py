"""Cycles really run by worker processes: counted, stopped, repeated after a worker's death, broken off by Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import UsageError, Verdict
from harness.repro.deciding import Decider
from harness.repro.looping import Loop, Told
from harness.repro.questions import Answer, Fixed, Question, UntilFail
from harness.waiting import Deadline, wait_until

SYSEXT = Path(sys.executable).with_name("sysext")
TESTS = """
import os, pathlib, pytest

HERE = pathlib.Path(__file__).parent

def number(request):
    return int(request.node.name.rpartition("cycle")[2].rstrip("]"))

@pytest.fixture(scope="session")
def once():
    with (HERE / "once.txt").open("a") as file:
        file.write("made\\n")

@pytest.mark.parametrize("way", ["a", "b"])
def test_third_fails(request, once, way):
    assert number(request) != 3

def test_dies_once(request):
    if number(request) == 2 and not (HERE / "died").exists():
        (HERE / "died").touch()
        os._exit(7)

def test_long(request):
    import threading
    (HERE / "long").touch()
    threading.Event().wait()

def test_skips():
    pytest.skip("not on a Tuesday")
"""
OWN = "-n 2 --sysext-until-fail --sysext-repeat=2 --sysext-same-mac -x"
"""What a project may have in its addopts, and what is not for the workers."""


@dataclass
class House:
    folder: Path

    def loop(self, name: str, question: Question, *, jobs: int = 1, told: Told | None = None) -> Loop:
        run = self.folder / "run"
        run.mkdir(exist_ok=True)
        arguments = [str(self.folder / "test_it.py"), "-k", name, "-q", "-c", str(self.folder / "pytest.ini")]
        return Loop(arguments, question, folder=run, jobs=jobs, told=told)

    def run(self, name: str, question: Question, **more: int) -> Decider:
        return self.loop(name, question, **more).run()  # type: ignore[arg-type]


@pytest.fixture
def house(tmp_path: Path) -> House:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\naddopts = -p no:cacheprovider --import-mode=importlib {OWN}\n")
    return House(tmp_path)


def test_until_it_fails_side_by_side(house: House) -> None:
    """Two workers; the scenarios take turns, what is made once per session is made once per worker, and each cycle is its own."""
    seen: list[str] = []
    told = Told(ready=lambda scenarios, _: seen.extend(scenarios))
    decider = house.loop("third", UntilFail(), jobs=2, told=told).run()
    assert decider.answer is Answer.FAILING
    assert (decider.runs, decider.failures) == (3, 1)
    assert decider.counted[2].verdict is Verdict.PRODUCT_FAILURE
    assert "assert 3 != 3" in decider.counted[2].error
    assert [one.item for one in decider.counted] == [0, 1, 0]
    assert [name.rpartition("[")[2] for name in seen] == ["a]", "b]"]
    assert len((house.folder / "once.txt").read_text().splitlines()) <= 2


def test_a_worker_that_dies_costs_one_attempt(house: House) -> None:
    notes: list[str] = []
    decider = house.loop("dies", Fixed(3), told=Told(note=notes.append)).run()
    assert (decider.runs, decider.failures) == (3, 0)
    assert [(one.cycle, one.attempt, one.verdict) for one in decider.disturbed] == [(2, 1, Verdict.HARNESS_ERROR)]
    assert "exit code 7" in notes[0]


@pytest.mark.parametrize(
    ("name", "said"), [("nothing_is_called_so", "pytest finds none"), ("skips", "not on a Tuesday")]
)
def test_a_scenario_that_cannot_be_repeated(house: House, name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        house.run(name, UntilFail())
    assert said in str(caught.value)


def test_ctrl_c_gives_the_answer_so_far(house: House) -> None:
    """The command itself; its worker is in the middle of a cycle, and is gone when the command ends."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SYSEXT_", "PYTEST_"))}
    environment |= {"SYSEXT_ARTIFACTS": str(house.folder / "artifacts"), "SYSEXT_HISTORY__RECORD": "false"}
    report = house.folder / "report.json"
    process = subprocess.Popen(
        [str(SYSEXT), "repro", "test_it.py::test_long", "--json", str(report), "--sysext-provider", "simulated"],
        cwd=house.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(
            (house.folder / "long").exists,
            lambda there: there or process.poll() is not None,
            what="a cycle under way",
            deadline=Deadline.after(120),
            interval=0.1,
        )
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 3, output
    assert "UNDECIDED: interrupted" in output
    data = json.loads(report.read_text())
    assert (data["answer"], data["runs"], data["exit_code"]) == ("undecided", 0, 3)
    (folder,) = (house.folder / "artifacts").iterdir()
    assert "KeyboardInterrupt" in (folder / "workers" / "1.log").read_text()
