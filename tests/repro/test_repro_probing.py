"""Single runs at one release or another; the command `sysext bisect` around them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli.bisect import bisect
from harness.errors import UsageError, Verdict
from harness.repro import probing
from harness.repro.cases import find_cases
from harness.repro.outcomes import Outcome
from harness.repro.probing import Prober, Probers

APP = """
name = "An App"
bundle_id = "com.example.app"
extension = {id = "com.example.app.ext", kind = "content-filter"}
releases = [
  {version = "1.0", source = "a.zip"}, {version = "1.1", source = "a.zip"}, {version = "1.2", source = "a.zip"},
  {version = "1.3", source = "a.zip"},
]
"""
SCENARIO = """
def test_one(case, sysext_run):
    assert sysext_run.release != "1.2" or "cycle1]" not in case.nodeid, "it broke"

def test_other(case):
    pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, and this process in it."""
    for name in list(os.environ):
        if name.startswith("SYSEXT_"):
            monkeypatch.delenv(name)
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "test_x.py").write_text(SCENARIO)
    (tmp_path / "an.toml").write_text(APP)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:hypothesispytest\n")
    (tmp_path / "sysext.toml").write_text(
        f'provider = "simulated"\napp = "{tmp_path}/an.toml"\ncache = "{tmp_path}/cache"\nhistory = {{record = false}}\n'
        f'simulated = {{home = "{tmp_path}/tart"}}\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_run_is_one_of_its_own(here: Path) -> None:
    headers: list[list[str]] = []
    arguments = ["scenarios", "-q", "-p", "no:cacheprovider", "--sysext-quiet", "--sysext-release=1.2"]
    with Prober(lambda _: arguments, here / "run", ready=lambda ids, _: headers.append(ids)) as prober:
        outcomes = [prober.run("1.2") for _ in range(2)]

    assert headers == [["scenarios/test_x.py::test_one[macos15]", "scenarios/test_x.py::test_other[macos15]"]]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.PRODUCT_FAILURE, Verdict.PASSED]  # the worst of both
    # Chance falls anew each time: what decides it is made from the node id.
    assert sorted(case.text("nodeid").partition("::")[2] for case in find_cases(here / "run")) == [
        *(f"test_one[macos15-cycle{number}]" for number in (1, 2)),
        *(f"test_other[macos15-cycle{number}]" for number in (1, 2)),
    ]


def test_what_pytest_refuses_is_told_in_its_words(here: Path) -> None:
    with (
        Prober(lambda _: ["scenarios", "--sysext-release=9", "-q"], here / "run") as prober,
        pytest.raises(UsageError, match="9"),
    ):
        prober.run("9")


TOGETHER = """
import os, pathlib, time

def test_one(case, sysext_run):
    here = pathlib.Path(os.environ["MEETING"])
    (here / f"{os.getpid()}-{sysext_run.release}").touch()
    until = time.monotonic() + 100
    while len(list(here.iterdir())) < 2:
        assert time.monotonic() < until, "nobody else came"
        time.sleep(0.02)
    assert sysext_run.release != "1.2", "it broke"
"""


def test_runs_at_once_meet(here: Path) -> None:
    """Each waits for the other, and ends only because it is there; what comes back is in the order asked for."""
    (here / "scenarios" / "test_x.py").write_text(TOGETHER)
    (here / "meeting").mkdir()
    told: list[list[str]] = []
    environment = {**os.environ, "MEETING": str(here / "meeting")}
    options = ["scenarios", "-q", "-p", "no:cacheprovider", "--sysext-quiet"]
    with Probers(
        2,
        lambda at: [*options, f"--sysext-release={at}"],
        here / "run",
        environment=environment,
        ready=lambda ids, _: told.append(ids),
    ) as probers:
        outcomes = probers.run(["1.2", "1.1"])
        again = probers.run(["1.1"])

    assert [outcome.verdict for outcome in outcomes] == [Verdict.PRODUCT_FAILURE, Verdict.PASSED]
    assert [outcome.cycle for outcome in (*outcomes, *again)] == [1, 2, 3], "no two are called the same"
    assert len(told) == 1
    assert len(list((here / "meeting").iterdir())) == 2, (
        "the third was run by the worker that was there for its release"
    )


def test_one_of_several_that_is_refused_ends_them_all(here: Path) -> None:
    options = ["scenarios", "-q", "-p", "no:cacheprovider", "--sysext-quiet"]
    probers = Probers(2, lambda at: [*options, f"--sysext-release={at}"], here / "run")
    with probers, pytest.raises(UsageError, match="9"):
        probers.run(["1.1", "9"])
    assert [prober.release for prober in probers._probers] == ["", ""]


class Drawn:
    """In the place of the probers: a fault from 1.2 on, and no Mac."""

    asked: list[str]
    arguments: list[str]
    stop_after = 10**6
    jobs = 0
    most = 0

    def __init__(self, jobs: int, arguments: Any, _folder: Path, **_: Any) -> None:
        Drawn.asked, Drawn.arguments, Drawn.jobs, Drawn.most = [], arguments("1.1"), jobs, 0

    def __enter__(self) -> Drawn:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, releases: list[str]) -> list[Outcome]:
        Drawn.most = max(self.most, len(releases))
        return [self.one(release) for release in releases]

    def one(self, release: str) -> Outcome:
        if len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(release)
        verdict = Verdict.PRODUCT_FAILURE if release >= "1.2" else Verdict.PASSED
        cause = "a-cause" if verdict is Verdict.PRODUCT_FAILURE else ""
        return Outcome(cycle=1, attempt=1, item=0, nodeid="x", verdict=verdict, cause=cause)


@pytest.fixture
def drawn(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Drawn]]:
    monkeypatch.setattr(probing, "Probers", Drawn)
    yield Drawn
    Drawn.stop_after = 10**6


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(bisect, ["--good", "1.0", "--bad", "1.3", "upgrade", *arguments])


def test_found(here: Path, drawn: type[Drawn]) -> None:
    done = invoke("--sysext-macos", "26", "--json", "answer.json")

    assert done.exit_code == 0, done.output
    assert "4 releases from 1.0 (good) to 1.3 (bad), by an.toml" in done.output
    assert "first bad release: 1.2 (" in done.output
    assert "causes: a-cause" in done.output
    assert "SIMULATED" in done.output
    assert "preflight of 1.2 could not be made" in done.output  # there are no such files
    data = json.loads((here / "answer.json").read_text())
    assert (data["first_bad"], data["simulated"], data["runs"]) == ("1.2", True, len(drawn.asked))
    assert drawn.arguments[-1] == "--sysext-release=1.1"
    assert drawn.arguments[drawn.arguments.index("--sysext-macos") + 1] == "26"
    assert list((here / "artifacts").glob("*/bisect.json"))


def test_the_answer_alone_on_standard_output(here: Path, drawn: type[Drawn]) -> None:
    done = invoke("--json", "-")

    assert json.loads(done.stdout)["first_bad"] == "1.2"
    assert "first bad release" in done.stderr


def test_ctrl_c_gives_the_answer_so_far(here: Path, drawn: type[Drawn]) -> None:
    drawn.stop_after = 4
    done = invoke()

    assert done.exit_code == 3
    assert "undecided after 4 runs: interrupted; the likeliest is" in done.output


def test_ctrl_c_before_anything_failed_names_no_release(here: Path, drawn: type[Drawn]) -> None:
    drawn.stop_after = 0
    done = invoke("--json", "answer.json")

    assert done.exit_code == 3
    assert "undecided: interrupted\n" in done.output
    assert json.loads((here / "answer.json").read_text())["best"] is None


def test_several_at_once(here: Path, drawn: type[Drawn]) -> None:
    done = invoke("-n", "3")

    assert done.exit_code == 0, done.output
    assert "first bad release: 1.2 (" in done.output
    assert "3 at a time" in done.output
    assert (drawn.jobs, drawn.most) == (3, 3)


def test_no_more_at_once_than_there_are_places(here: Path, drawn: type[Drawn]) -> None:
    file = here / "sysext.toml"
    file.write_text(file.read_text().replace('tart"}', 'tart", slots = 2}'))
    done = invoke("-n", "3")

    assert drawn.jobs == 2, done.output


def test_another_list_of_releases_is_an_app_file_of_its_own(here: Path, drawn: type[Drawn]) -> None:
    done = invoke("--release-list", "1.0,1.2,1.3", "--sysext-app", "an.toml")

    assert done.exit_code == 0, done.output
    app = drawn.arguments[drawn.arguments.index("--sysext-app") + 1]
    assert Path(app).name == "bisect.toml"
    assert drawn.arguments.count("--sysext-app") == 1
    assert str(here / "a.zip") in Path(app).read_text()
    assert set(drawn.asked) <= {"1.0", "1.2", "1.3"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sysext-release", "1.1"],
        ["--prior-rate", "often"],
        ["--sure", "1.5"],
        ["--json", "nowhere/answer.json"],
        ["another-word"],
        ["--sysext-nonsense"],
        ["--release-list", "1.9"],
        ["--release-list", "1.0,1.3", "--no-ends"],
    ],
)
def test_unusable_input_runs_nothing(here: Path, drawn: type[Drawn], arguments: list[str]) -> None:
    drawn.asked = []
    done = invoke(*arguments)

    assert isinstance(done.exception, UsageError), done.output
    assert drawn.asked == []
    assert not (here / "artifacts").exists()
