"""`--sysext-repeat`, `--sysext-until-fail`, `--sysext-keep`: cycles as tests of their own."""

from __future__ import annotations

import argparse

import pytest

from harness.session.options import _cycles

from .conftest import Project  # type: ignore[import-not-found]

FAILS = "def test_one(mac):\n    raise ProductFailure('works', seen='does not')\n"
GW1_FAILS = """
import os, pathlib
from harness.waiting import Deadline, wait_until

def test_one(mac):
    if os.environ["PYTEST_XDIST_WORKER"] == "gw1":
        raise ProductFailure('works', seen='does not')
    flag = mac.case.folder.path.parent / "stopped.txt"
    wait_until(flag.exists, lambda there: there, what="the failure of the other", deadline=Deadline.after(60), interval=0.05)
"""


def created(project: Project) -> list[str]:
    return [line.split(" ", 2)[2] for line in project.journal() if line.startswith("create ")]


def test_each_cycle_has_its_mac_its_case_and_its_chance(project: Project) -> None:
    """And all first cycles come first; of the Macs on which it failed the first is kept."""
    project.scenario(FAILS)
    done = project.run("--sysext-repeat", "2", "--sysext-macos", "15,26", "--sysext-keep", "first")
    assert done.returncode == 1, done.stdout
    assert created(project) == [
        f"test_it.py::test_one[macos{macos}-cycle{cycle}]|1" for cycle in (1, 2) for macos in (15, 26)
    ]
    said = [line.split(" ")[0] for line in project.journal()]
    assert (said.count("keep"), said.count("delete")) == (1, 3)
    assert said.index("keep") < said.index("delete")
    assert len({result.case for result in project.results()}) == 4
    assert {result.scenario for result in project.results()} == {"one"}, "cycles are of one scenario"


def test_until_it_fails_in_one_process(project: Project) -> None:
    """What the environment broke does not stop it, a failure of the product does."""
    project.scenario(
        """
def test_one(mac):
    if "cycle1]" in mac.case.nodeid:
        raise EnvironmentFailure("a Mac", seen="none")
    assert "cycle3]" not in mac.case.nodeid
"""
    )
    done = project.run("--sysext-until-fail", "--sysext-macos", "15")
    assert done.returncode == 1, done.stdout
    assert [key.partition("-")[2] for key in created(project)] == ["cycle1]|1", "cycle1]|2", "cycle2]|1", "cycle3]|1"]
    assert "stopped at the first failure" in done.stdout
    assert "[macos15-cycle3]" in done.stdout.split("stopped at the first failure", 1)[1]


def test_until_it_fails_is_seen_by_all_workers(project: Project) -> None:
    project.scenario(GW1_FAILS)
    done = project.run("--sysext-until-fail", "--sysext-repeat", "40", "--sysext-macos", "15", "-n", "2")
    assert done.returncode == 1, done.stdout
    assert 1 <= len(created(project)) <= 2
    assert "stopped at the first failure" in done.stdout


@pytest.mark.parametrize("text", ["0", "-1", "100001", "many", ""])
def test_no_number_of_cycles(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"from 1 to 100000 is expected, not {text!r}"):
        _cycles(text)
