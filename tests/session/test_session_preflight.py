"""The preflight of a scenario: what it tells, when it fails, and that no Mac is booted then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import events
from harness.bundles.releases import fetch_release, fetch_source
from harness.config import AppFile, Settings, load_app, load_settings
from harness.errors import EnvironmentFailure, UsageError, Verdict, verdict_of
from harness.evidence import CaseFolder
from harness.history.store import History, Selection
from harness.reports.result import CaseResult
from harness.reports.summary import summarise
from harness.session.case import Case
from harness.session.preflight import PreflightFailed, before_scenario, check
from harness.session.run import open_run

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "scenarios" / "apps" / "mitmproxy.toml"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app file with an upgrade that goes wrong: another build under the same version."""
    cache = load_settings(environ={}).cache_dir
    for version in ("0.4.0", "0.4.1"):
        try:
            fetch_source(f"pypi:mitmproxy_macos=={version}", cache, app_name="Mitmproxy Redirector")
        except EnvironmentFailure as error:
            pytest.skip(f"the releases cannot be fetched: {error}")
    text = APP.read_text(encoding="utf-8").replace("0.11.4", "0.4.0").replace("0.11.5", "0.4.1")
    path = tmp_path_factory.mktemp("broken") / "broken.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def product(broken: Path) -> AppFile:
    return load_app(broken)


def settings(**overrides: Any) -> Settings:
    return load_settings(environ={}, overrides={"provider": "simulated", **overrides})


@pytest.fixture
def case(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Case]:
    folder = CaseFolder(tmp_path / "run" / "case")
    made = Case(
        scenario="upgrade",
        nodeid="test_x.py::test_upgrade[macos15]",
        macos="15",
        attempt=1,
        settings=getattr(request, "param", None) or settings(),
        simulated=True,
        image="image",
        release="0.4.1",
        folder=folder,
        log=events.EventLog(folder.events_path),
        artifacts=tmp_path,
    )
    with events.use(made.log):
        yield made


def named(case: Case, name: str) -> list[dict[str, Any]]:
    return [record["attributes"] for record in events.read(case.folder.events_path) if record.get("name") == name]


def test_releases_that_are_fine(case: Case) -> None:
    before_scenario(case, load_app(APP), ("0.11.4", "0.11.5"))
    told = {(one["severity"], one["rule"], one["release"]) for one in case.preflight}
    assert told == {
        ("warning", "both-versions-raised", "0.11.5"),
        ("note", "mach-service-name", "0.11.4"),
        ("note", "mach-service-name", "0.11.5"),
    }
    assert [one["rule"] for one in named(case, "preflight-finding")] == ["both-versions-raised"] * 2
    before_scenario(case, load_app(APP), ("0.11.4", "0.11.5"))
    assert len(named(case, "preflight-finding")) == 2, "each is told once"
    result = case.close()
    assert result.verdict is Verdict.PASSED
    assert CaseResult.read(case.folder.path).preflight == result.preflight == tuple(case.preflight)


def test_an_upgrade_that_goes_wrong(case: Case, product: AppFile) -> None:
    with pytest.raises(PreflightFailed) as caught:
        before_scenario(case, product, ("0.4.0", "0.4.1"))
    assert verdict_of(caught.value) is Verdict.PRODUCT_FAILURE
    assert "version-raised" in caught.value.seen
    for word in ("sysext preflight --app-file", "--previous 0.4.0", "--sysext-no-preflight", "[preflight.off]"):
        assert word in caught.value.hint
    assert case.why is not None
    assert case.why.cause == "xpc-invalidated-after-upgrade"
    case.fail(caught.value)
    summary = summarise([case.close()])
    for text in (summary.text(), summary.markdown()):
        assert "preflight error version-raised (0.4.1)" in " ".join(text.split())


def test_what_is_walked_on_purpose_is_told_and_not_stopped(case: Case, product: AppFile) -> None:
    """A rebuild and a downgrade: the rules about upgrades know nothing that whoever asks for them does not."""
    older, newer = (product.release(version) for version in ("0.4.0", "0.4.1"))
    declared = newer.model_copy(update={"rebuild_of": older.version})
    rebuilt = product.model_copy(update={"releases": [older.model_copy(update={"rebuild_of": None}), declared]})
    before_scenario(case, rebuilt, ("0.4.0", "0.4.1"))
    assert "version-raised" in {one["rule"] for one in case.preflight if one["severity"] == "error"}
    case.preflight.clear()
    before_scenario(case, product, ("0.4.1", "0.4.0"))
    assert case.why is None


def test_each_release_alone_is_fine(case: Case, product: AppFile) -> None:
    before_scenario(case, product, ("0.4.1",))
    assert {one["severity"] for one in case.preflight} == {"note"}


@pytest.mark.parametrize("case", [settings(**{"preflight.enforce": False})], indirect=True)
def test_told_and_gone_on(case: Case, product: AppFile) -> None:
    before_scenario(case, product, ("0.4.0", "0.4.1"))
    assert "version-raised" in {one["rule"] for one in case.preflight}
    (told,) = named(case, "degraded")
    assert "version-raised" in told["reason"]


@pytest.mark.parametrize("case", [settings(**{"preflight.enforce": False})], indirect=True)
def test_trouble_with_judging_stops_nothing_then(case: Case, product: AppFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.session.preflight.inspected", lambda _: 1 / 0)
    assert check(case, product, "0.4.1") is None
    (told,) = named(case, "degraded")
    assert "ZeroDivisionError" in told["reason"]


@pytest.mark.parametrize("case", [settings(**{"preflight.enabled": False})], indirect=True)
def test_switched_off_as_a_whole(case: Case, product: AppFile) -> None:
    before_scenario(case, product, ("0.4.0", "0.4.1"))
    assert check(case, product, "0.4.1", previous="0.4.0") is None
    assert case.preflight == []


@pytest.mark.parametrize(
    "case", [settings(**{"preflight.off": {"version-raised": "a test of what happens then"}})], indirect=True
)
def test_one_rule_switched_off(case: Case, product: AppFile) -> None:
    before_scenario(case, product, ("0.4.0", "0.4.1"))
    assert {one["reason"] for one in named(case, "preflight-off")} == {"a test of what happens then"}


def test_an_unknown_rule_is_told_before_anything_starts(tmp_path: Path) -> None:
    overrides = {"provider": "simulated", "app": APP, "artifacts": tmp_path, "preflight.off": {"version-risen": "x"}}
    with pytest.raises(UsageError, match="preflight") as caught:
        open_run(overrides, config=None, release=None, folder=tmp_path / "run")
    assert "version-raised" in caught.value.hint


def test_no_mac_is_booted(broken: Path, tmp_path: Path) -> None:
    """The whole way: pytest, the scenario, the provider."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SYSEXT_", "PYTEST_"))}
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                str(ROOT / "scenarios"),
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:xdist",
            ),
            *("-p", "no:hypothesispytest", "-k", "test_upgrade_with_the_extension_running", "--sysext-quiet"),
            *("--sysext-app", str(broken), "--sysext-macos", "15"),
        ],
        env={
            **inherited,
            "SYSEXT_PROVIDER": "simulated",
            "SYSEXT_SIMULATED__HOME": str(tmp_path / "tart"),
            "SYSEXT_ARTIFACTS": str(tmp_path / "artifacts"),
            "SYSEXT_HISTORY__URL": f"sqlite:///{tmp_path / 'history.sqlite'}",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-1000:]
    assert "to pass the preflight, as an upgrade from 0.4.0" in done.stdout
    (path,) = (tmp_path / "artifacts").rglob("result.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["verdict"] == "product-failure"
    assert result["why"]["headline"].startswith("preflight: version-raised")
    vms = tmp_path / "tart" / "vms"
    assert not vms.is_dir() or list(vms.iterdir()) == []
    names = {record.get("name") for record in events.read(path.with_name("run.jsonl"))}
    assert "preflight" in names
    assert not names & {"boot", "clone"}
    history = History(f"sqlite:///{tmp_path / 'history.sqlite'}")
    (row,) = history.runs(Selection(simulated=True))
    history.close()
    files = fetch_release(load_app(broken).release("0.4.1"), load_app(broken), load_settings(environ={}).cache_dir)
    assert row["cdhash"] == files.executable.cdhashes["arm64"]  # no Mac had it, and still it failed
    assert row["extension_uuid"] == files.require_extension().executable.uuids["arm64"].lower()
