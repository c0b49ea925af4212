"""Case files, verdicts, names of folders; and what is wrong before a run is told as a usage error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import events
from harness.config import Settings, load_settings
from harness.errors import (
    EnvironmentFailure,
    HarnessError,
    KnownIssue,
    ProductFailure,
    SysextError,
    UsageError,
    Verdict,
)
from harness.evidence import CaseFolder
from harness.reports.result import CaseResult
from harness.session.case import Case, slug
from harness.session.run import claim, new_run_folder, open_run, prepare, unused

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "scenarios" / "apps" / "mitmproxy.toml"


class Skipped(Exception):
    """Named and placed like pytest's own."""


Skipped.__module__ = "builtins"


def _case(folder: Path, **more: Any) -> Case:
    case_folder = CaseFolder(folder / "run" / "case")
    settings: Settings = more.pop("settings", None) or load_settings(environ={}, overrides={"provider": "simulated"})
    return Case(
        scenario="first activation",
        nodeid="test_x.py::test_first_activation[macos15]",
        macos="15",
        attempt=more.pop("attempt", 1),
        settings=settings,
        simulated=more.pop("simulated", True),
        image="image",
        release="1",
        folder=case_folder,
        log=events.EventLog(case_folder.events_path),
        artifacts=folder,
        **more,
    )


def test_a_case_that_passed(tmp_path: Path) -> None:
    case = _case(tmp_path)
    result = case.close()
    assert result.verdict is Verdict.PASSED
    assert (result.error, result.flaky, result.case) == ("", False, "run/case")
    assert CaseResult.read(case.folder.path) == result
    assert set(result.delays) >= {"boot", "prompt", "settle"}
    (told,) = [record for record in events.read(case.folder.events_path) if record.get("name") == "result"]
    assert told["attributes"]["verdict"] == "passed"


def test_flaky_only_after_a_failure(tmp_path: Path) -> None:
    assert _case(tmp_path, failed_before=True, attempt=2).close().label == "flaky"
    failed = _case(tmp_path, failed_before=True, attempt=2)
    failed.fail(ProductFailure("x"))
    assert failed.close().label == "product-failure"


def test_the_first_failure_decides_but_a_skip_does_not(tmp_path: Path) -> None:
    case = _case(tmp_path)
    assert case.fail(Skipped("not here")) is Verdict.SKIPPED
    assert case.result().verdict is Verdict.SKIPPED
    assert case.fail(EnvironmentFailure("a Mac", seen="none")) is Verdict.ENVIRONMENT_FAILURE
    assert case.fail(ProductFailure("later")) is Verdict.PRODUCT_FAILURE
    assert case.fail(Skipped("again")) is Verdict.SKIPPED
    assert case.result().verdict is Verdict.ENVIRONMENT_FAILURE
    assert case.result().error == "a Mac: none"


@pytest.mark.parametrize(
    ("error", "verdict", "says"),
    [
        (AssertionError(), Verdict.PRODUCT_FAILURE, "AssertionError"),
        (AssertionError("1 == 2"), Verdict.PRODUCT_FAILURE, "AssertionError: 1 == 2"),
        (ConnectionResetError("gone"), Verdict.ENVIRONMENT_FAILURE, "ConnectionResetError: gone"),
        (KeyError("x"), Verdict.HARNESS_ERROR, "KeyError: 'x'"),
        (KnownIssue("FB1", seen="it"), Verdict.KNOWN_ISSUE, "FB1: it"),
        (HarnessError("us", seen="wrong", hint="tell us"), Verdict.HARNESS_ERROR, "us: wrong\nHint: tell us"),
    ],
)
def test_no_failure_is_without_words(tmp_path: Path, error: Exception, verdict: Verdict, says: str) -> None:
    case = _case(tmp_path)
    case.fail(error)
    result = case.result()
    assert (result.verdict, result.error) == (verdict, says)


def test_secrets_stay_out_of_the_case_file(tmp_path: Path) -> None:
    secret = events.SECRETS.add("session-test-secret-word")
    case = _case(tmp_path)
    case.fail(ProductFailure("no secret", seen=f"it printed {secret}"))
    case.close()
    for path in case.folder.path.rglob("*"):
        if path.is_file():
            assert secret not in path.read_text()


def test_a_real_mac_has_no_delays_and_no_faults(tmp_path: Path) -> None:
    settings = load_settings(environ={}, overrides={"simulated.faults": ["sysextd-crash"], "provider": "simulated"})
    assert _case(tmp_path, settings=settings).result().faults == ("sysextd-crash",)
    real = _case(tmp_path, settings=settings, simulated=False).result()
    assert (real.faults, real.delays, real.simulated) == ((), {}, False)


def test_a_result_that_cannot_be_written_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = _case(tmp_path)
    records: list[events.Record] = []
    case.log.subscribe(records.append)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CaseResult, "write", full)
    assert case.close().verdict is Verdict.PASSED
    assert any("No space left" in json.dumps(record) for record in records if record.get("name") == "degraded")


# --- names -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=200), max_size=4))
def test_a_slug_is_one_safe_name(words: list[str]) -> None:
    name = slug(words)
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name)
    assert len(name) <= 120
    assert name == Path(name).name


@given(st.from_regex(r"[a-z][a-z ]{0,80}[a-z]", fullmatch=True), st.sampled_from(["13", "14", "15", "26"]))
def test_slugs_of_scenarios_keep_what_tells_them_apart(scenario: str, macos: str) -> None:
    name = slug([scenario, f"macos{macos}", "attempt2"])
    assert name.endswith(f"-macos{macos}-attempt2")
    assert name.startswith(scenario.replace(" ", "-"))


def test_slug_of_nothing() -> None:
    assert slug([]) == slug(["…", "///"]) == slug(["..", "."]) == "unnamed"


CLAIM = """
import sys
from pathlib import Path
from harness.session.run import claim
print("ready", flush=True)
sys.stdin.readline()
for _ in range(150):
    print(claim(Path(sys.argv[1])).name, flush=True)
"""


def test_no_two_processes_claim_the_same_folder(tmp_path: Path) -> None:
    """Another process claims as well, at the same time: each of us until the other one has begun and ended."""
    case = tmp_path / "a" / "case"
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(case)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        theirs = [other.stdout.readline().strip()]
        ours = [claim(case).name for _ in range(150)]
        theirs += other.stdout.read().split()
    assert other.returncode == 0
    names = ours + theirs
    assert len(names) == len(set(names)) == 300
    assert sorted(path.name for path in case.parent.iterdir()) == sorted(names)
    assert "case" in names
    assert "case-300" in names


def test_a_place_that_cannot_be_written_to_is_the_environments(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure) as caught:
        claim(tmp_path / "file" / "case")
    assert caught.value.hint


def test_run_folders_are_new_and_sort_by_time(tmp_path: Path) -> None:
    first = new_run_folder(tmp_path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d+", first.name)
    first.mkdir()
    assert unused(first) == first.with_name(f"{first.name}-2")


# --- before a run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    for name in ("SYSEXT_APP", "SYSEXT_CONFIG", "SYSEXT_PROVIDER", "SYSEXT_FAULT", "SYSEXT_MACOS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return {
        "provider": "simulated",
        "app": APP,
        "artifacts": tmp_path / "artifacts",
        "cache": tmp_path / "cache",
        "simulated.home": tmp_path / "tart",
    }


def _open(overrides: dict[str, object], **more: object) -> Any:
    return open_run({**overrides, **more}, config=None, release=None, folder=None)


def test_opening_a_run_makes_nothing(overrides: dict[str, object], tmp_path: Path) -> None:
    run = _open(overrides)
    assert run.provider.simulated
    assert run.folder.parent == tmp_path / "artifacts"
    assert list(tmp_path.iterdir()) == []
    assert _open(overrides, artifacts="relative").folder.is_absolute()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"app": None}, "an app file"),
        ({"app": "none.toml"}, "none.toml"),
        ({"provider": "vmware"}, "provider"),
        ({"macos": ["15", "11"]}, "macos"),
        ({"provider": "tart", "simulated.faults": ["sysextd-crash"]}, "faults"),
        ({"nonsense": "x"}, "nonsense"),
        ({"tart.images": {"14": "x"}, "macos": ["15"]}, "an image for macOS 15"),
    ],
)
def test_what_cannot_be_used_is_said_with_a_hint(
    overrides: dict[str, object], more: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        _open(overrides, **more)
    assert caught.value.hint


def test_an_unknown_release(overrides: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"release 9\.9\.9"):
        open_run(overrides, config=None, release="9.9.9", folder=None)


class Provider:
    """Says yes to everything, and remembers the question."""

    simulated = True

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self, image: str) -> None:
        self.asked.append(image)

    def wait_for_slot(self, _: object) -> None:
        self.asked.append("slot")


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        (None, ["0.11.4", "0.11.5"]),
        ("0.11.5", ["0.11.4", "0.11.5"]),
        ("0.11.4", ["0.11.1", "0.11.4"]),
        ("0.11.1", ["0.11.1"]),
    ],
)
def test_preparing_has_the_release_and_the_one_before_it(
    overrides: dict[str, object], monkeypatch: pytest.MonkeyPatch, release: str | None, wanted: list[str]
) -> None:
    fetched: list[str] = []
    needed: list[str] = []

    class Bundle:
        def require_extension(self, identifier: str) -> None:
            needed.append(identifier)

    def fetch(item: Any, *_: object) -> Bundle:
        fetched.append(item.version)
        return Bundle()

    monkeypatch.setattr("harness.bundles.releases.fetch_release", fetch)
    run = open_run({**overrides, "macos": ["14", "15"]}, config=None, release=release, folder=None)
    provider = Provider()
    run.provider = provider  # type: ignore[assignment]
    prepare(run)
    assert fetched == wanted
    assert needed == [run.app.extension.id] * len(wanted)
    assert provider.asked == [run.settings.image_for("14"), run.settings.image_for("15"), "slot"]
    assert run.folder.is_dir()


def test_preparing_says_what_is_missing(overrides: dict[str, object], tmp_path: Path) -> None:
    run = _open(overrides, image="ghcr.io/nobody/nothing:1")
    with pytest.raises(SysextError) as caught:
        prepare(run)
    assert caught.value.seen
    assert not (tmp_path / "artifacts").exists()


def test_case_files_of_a_run(overrides: dict[str, object]) -> None:
    run = _open(overrides)
    long = "a scenario with a very long name " * 8
    cases = [
        run.open_case(scenario=long, nodeid="t", macos="15", attempt=attempt, failed_before=attempt > 1)
        for attempt in (1, 2, 2)
    ]
    names = [case.folder.path.name for case in cases]
    assert len(set(names)) == 3
    assert names[0].endswith("-macos15")
    assert names[1].endswith("-macos15-attempt2")
    assert names[2].endswith("-macos15-attempt2-2")
    header = next(iter(events.read(cases[0].folder.events_path)))
    assert header["attributes"]["simulated"] is True
    assert header["attributes"]["settings"]["guest"]["password"] == "*" * 10
    for case in cases:
        case.close()


def test_a_failure_whose_text_is_no_utf8_is_written_all_the_same(tmp_path: Path) -> None:
    case = _case(tmp_path)
    case.fail(AssertionError("\udcff"))
    case.close()
    assert CaseResult.read(case.folder.path).error == "AssertionError: ?"


def test_a_cache_that_cannot_be_written_to_is_said(overrides: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UsageError, match=r"downloads and locks.*cache") as caught:
        prepare(_open(overrides))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("keep", "failure", "more", "kept"),
    [
        (True, None, {}, True),
        (False, None, {}, False),
        (False, ProductFailure("x"), {}, True),
        (False, None, {"failed_before": True}, True),
        (False, None, {"collected": ["prompt missing"]}, True),
    ],
    ids=["wanted", "passed", "failed", "flaky", "collected"],
)
def test_only_what_passed_is_dropped_and_only_if_asked(
    tmp_path: Path, keep: bool, failure: Exception | None, more: dict[str, Any], kept: bool
) -> None:
    settings = load_settings(environ={}, overrides={"provider": "simulated", "evidence.keep_passing": keep})
    case = _case(tmp_path, settings=settings, **more)
    paths = [
        case.folder.frames / "001-x.png",
        *(case.folder.path / f"log-stream.{end}" for end in ("ndjson", "ndjson.1")),
    ]
    for path in paths:
        path.write_bytes(b"x")
    if failure is not None:
        case.fail(failure)
    case.close()
    assert [path.exists() for path in paths] == [kept] * 3
    assert case.folder.events_path.is_file()
    assert (case.folder.path / "result.json").is_file()


def test_a_clock_that_was_set_moves_the_beginning_with_it(tmp_path: Path) -> None:
    case = _case(tmp_path)
    case.started += timedelta(hours=1)  # it was set back by an hour since
    assert abs((datetime.now(UTC) - case.begun).total_seconds()) < 60
