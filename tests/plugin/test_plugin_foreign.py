"""A project that has nothing to do with system extensions, in an environment where this plugin happens to be installed."""

from __future__ import annotations

from .conftest import Project  # type: ignore[import-not-found]

CONFTEST = """
import sys
import pytest
from pathlib import Path

@pytest.fixture
def mac():
    return "00:16:3e:00:00:01"

@pytest.fixture
def macos():
    return False

@pytest.fixture
def app():
    return "theirs"

@pytest.hookimpl
def pytest_runtest_protocol(item, nextitem):
    with Path("protocol.txt").open("a") as file:
        file.write(item.name + "\\n")

def pytest_unconfigure(config):
    heavy = [name for name in sys.modules if name.partition(".")[0] in ("pydantic", "paramiko", "numpy", "sqlalchemy")]
    Path("heavy.txt").write_text(" ".join(heavy))
"""
TESTS = """
@pytest.mark.parametrize("case", ["one", "two"])
def test_table(case):
    assert case in ("one", "two")

@pytest.mark.parametrize("case, macos", [("one", True)])
def test_two_names(case, macos):
    assert macos

def test_address(mac, macos, app):
    assert (mac.count(":"), macos, app) == (5, False, "theirs")
"""


def test_its_own_case_and_mac_are_left_alone(project: Project) -> None:
    """Neither their names nor their tests are ours: other plugins see each test, nothing asks for an app, nothing is loaded."""
    (project.folder / "conftest.py").write_text(CONFTEST)
    project.scenario(TESTS)
    done = project.run("-q", app=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    assert "sysext" not in done.stdout
    assert (project.folder / "protocol.txt").read_text().split() == [
        *("test_table[one]", "test_table[two]", "test_two_names[one-True]", "test_address"),
    ]
    assert (project.folder / "heavy.txt").read_text() == ""
    assert project.runs() == []


def test_a_fixture_that_builds_on_ours_is_ours(project: Project) -> None:
    with (project.folder / "conftest.py").open("a") as file:
        file.write("import pytest\n@pytest.fixture\ndef mac(mac):\n    return mac\n")
    project.scenario("def test_it(mac): raise EnvironmentFailure('a Mac', seen='none')\n")
    done = project.run("--sysext-macos", "15")
    assert "1 failed, 1 rerun" in done.stdout, done.stdout + done.stderr
