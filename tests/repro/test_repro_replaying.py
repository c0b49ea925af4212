"""The plan of a replay: what comes from the case, what stays this host's, what is told to differ."""

from __future__ import annotations

import hashlib
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.replay import replay
from harness.config import AppFile, Release, Settings, load_app, load_settings
from harness.errors import UsageError, Verdict
from harness.repro import cases, processes, replaying
from harness.repro.cases import Recorded
from harness.repro.replaying import Changes, Replay, check_image, plan_replay, same_outcome, told_differences
from harness.repro.writing import app_table, as_toml, write_toml
from harness.waiting import timeout_factor

NODEID = "scenarios/test_x.py::test_upgrade[macos15]"
DIGEST = "ghcr.io/x/macos@sha256:" + "a" * 64
APP = """
name = "An App"
bundle_id = "com.example.app"
extension = {id = "com.example.app.ext", kind = "content-filter"}
releases = [{version = "1.0", source = "pypi:an_app==1.0"}, {version = "2.0", source = "build/*.zip"}]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout."""
    (tmp_path / "scenarios" / "apps").mkdir(parents=True)
    (tmp_path / "scenarios" / "test_x.py").write_text("")
    (tmp_path / "scenarios" / "apps" / "an.toml").write_text(APP)
    return tmp_path


def recorded(root: Path, *, ran_with: Settings | None = None, **changed: Any) -> Recorded:
    """A case of a run elsewhere, with the same app file."""
    ran_with = ran_with or Settings(
        provider="simulated",
        cache=Path("/elsewhere/cache"),
        simulated={"boot_seconds": 0.3, "faults": ["sysextd-crash:rate=0.5:seed=7"]},  # type: ignore[arg-type]
        timeouts={"ready": 7},  # type: ignore[arg-type]
    )
    header = {
        "scenario": "upgrade", "nodeid": NODEID, "macos": "15", "attempt": 1, "provider": ran_with.provider,
        "simulated": True, "image": "ghcr.io/x/macos:latest", "release": "2.0", "lane": "pristine",
        "app_file": {
            "path": "/builds/17/scenarios/apps/an.toml",
            "sha256": hashlib.sha256((root / "scenarios" / "apps" / "an.toml").read_bytes()).hexdigest(),
        },
        "settings": ran_with.model_dump(mode="json"), "timeout_factor": timeout_factor(), **changed.pop("header", {}),
    }  # fmt: skip
    told = {"run_key": "the key|1", "image_digest": DIGEST, "verdict": Verdict.PRODUCT_FAILURE, "cause": "a-cause"}
    return Recorded(header=header, **{"place": "case", "folder": None, **told, **changed})


def plan(root: Path, case: Recorded | None = None, host: Settings | None = None, **changes: Any) -> Replay:
    return plan_replay(case or recorded(root), host or Settings(), root=root, changes=Changes(**changes))


def as_settings(replay: Replay, tmp_path: Path) -> Settings:
    """The settings that the run will have."""
    return load_settings(replay.write(tmp_path / "replay.toml"), environ={})


def test_the_run_is_as_it_was(root: Path, tmp_path: Path) -> None:
    replay = plan(root, host=Settings(cache=Path("/here/cache")))
    found = as_settings(replay, tmp_path)

    assert replay.differences == []
    assert (replay.nodeid, replay.release, found.macos) == (NODEID, "2.0", ["15"])
    assert (found.provider, found.image, found.lane) == ("simulated", DIGEST, "pristine")
    assert (found.simulated.boot_seconds, found.timeouts.ready) == (0.3, 7)
    assert (found.simulated.faults, found.simulated.run_key) == (["sysextd-crash:rate=0.5:seed=7"], "the key|1")
    assert found.cache == Path("/here/cache")
    assert found.app == root / "scenarios" / "apps" / "an.toml"
    assert found.history.record is False


def test_what_belongs_to_this_host_is_not_taken_from_a_case(root: Path, tmp_path: Path) -> None:
    theirs = Settings(
        provider="simulated",
        tart={"executable": "/tmp/evil", "run_arguments": ["--dir=/"]},  # type: ignore[arg-type]
        simulated={"executable": "/tmp/evil", "home": "/tmp/evil"},  # type: ignore[arg-type]
        guest={"key": "/etc/shadow"},  # type: ignore[arg-type]
        screen={"pages": ["/etc/passwd"]},  # type: ignore[arg-type]
        this_mac={"disposable": True},  # type: ignore[arg-type]
        known_issues=[Path("/etc")],
    )
    replay = plan(root, recorded(root, ran_with=theirs))
    found = as_settings(replay, tmp_path)

    assert "evil" not in as_toml(replay.table)
    assert (found.tart.run_arguments, found.guest.key, found.screen.pages) == ([], None, [])
    assert (found.this_mac.disposable, found.known_issues) == (False, [Path("known_issues")])
    assert any("run_arguments" in line for line in told_differences(replay.differences))


def test_a_password_is_in_the_environment_and_nowhere_else(root: Path, tmp_path: Path) -> None:
    host = Settings(guest={"password": "open-sesame"})  # type: ignore[arg-type]
    replay = plan(root, host=host)
    path = replay.write(tmp_path / "replay.toml")

    assert "open-sesame" not in path.read_text() + repr(replay) + replay.shown(path, tmp_path)
    assert replay.environment({})["SYSEXT_GUEST__PASSWORD"] == "open-sesame"


def test_no_variable_of_this_shell_changes_it(root: Path) -> None:
    replay = plan(root)
    environ = {
        "PATH": "/bin", "SYSEXT_MACOS": "26", "SYSEXT_SIMULATED__FAULTS": "x", "SYSEXT_FAULT": "x", "SYSEXT_IMAGE": "x",
        "SYSEXT_CACHE": "/c", "SYSEXT_TART__HOME": "/t", "SYSEXT_TIMEOUT_FACTOR": "2", "SYSEXT_CONFIG": "x",
    }  # fmt: skip

    assert set(replay.environment(environ)) == {"PATH", "SYSEXT_CACHE", "SYSEXT_TART__HOME", "SYSEXT_TIMEOUT_FACTOR"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"release": "1.0"}, "changed as asked: release: was 2.0, now 1.0"),
        ({"macos": "26"}, "changed as asked: macOS: was 15, now 26"),
        ({"provider": "tart"}, "changed as asked: provider: was simulated, now tart"),
        ({"image": "mine"}, f"changed as asked: image: was {DIGEST}, now mine"),
    ],
)
def test_a_change_is_made_and_told(root: Path, tmp_path: Path, changes: dict[str, str], told: str) -> None:
    replay = plan(root, **changes)
    found = as_settings(replay, tmp_path)

    assert told_differences(replay.differences)[0] == told
    for key, value in changes.items():
        now = {"release": replay.release, "macos": found.macos[0], "provider": found.provider, "image": found.image}[
            key
        ]
        assert now == value


def test_another_macos_is_another_test_and_another_image(root: Path) -> None:
    replay = plan(root, macos="26")

    assert replay.nodeid == "scenarios/test_x.py::test_upgrade[macos26]"
    assert replay.table["image"] == Settings().tart.images["26"]


def test_real_macs_get_no_faults(root: Path) -> None:
    replay = plan(root, provider="tart")

    assert replay.table["simulated"]["faults"] == []
    assert any("only simulated Macs have them" in line for line in told_differences(replay.differences))


@pytest.mark.parametrize("cycle", ["[macos15-cycle7]", "[cycle7-macos15]"])
def test_a_cycle_is_replayed_as_the_scenario(root: Path, cycle: str) -> None:
    case = recorded(root, header={"nodeid": f"scenarios/test_x.py::test_upgrade{cycle}"}, run_key="x-cycle7|1")

    replay = plan(root, case)

    assert replay.nodeid == NODEID
    assert replay.table["simulated"]["run_key"] == "x-cycle7|1"


def test_other_parameters_stay(root: Path) -> None:
    case = recorded(root, header={"nodeid": "scenarios/test_x.py::test_up[macos15-1.0->2.0-pkg-running-cycle3]"})

    assert plan(root, case).nodeid == "scenarios/test_x.py::test_up[macos15-1.0->2.0-pkg-running]"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"image_digest": ""}, "only its name is known"),
        ({"used": True}, "now a fresh one"),
        ({"header": {"app_file": {"path": "x/an.toml", "sha256": "0" * 64}}}, "its content differs"),
        ({"header": {"app_file": {}, "app": "An App"}}, None),
        ({"header": {"harness": "0.0.1"}}, "sysext-harness: was 0.0.1"),
        ({"header": {"timeout_factor": 77}}, "SYSEXT_TIMEOUT_FACTOR: was 77"),
        ({"header": {"settings": {"provider": "simulated", "future": 1}}}, "setting future: was 1, now none"),
        ({"header": {"settings": {"timeouts": {"naps": 1}}}}, "setting timeouts.naps"),
    ],
)
def test_what_differs_is_told(root: Path, changed: dict[str, Any], told: str | None) -> None:
    if told is None:
        with pytest.raises(UsageError, match="--app FILE"):
            plan(root, recorded(root, **changed))
        return
    assert any(told in line for line in told_differences(plan(root, recorded(root, **changed)).differences))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"nodeid": "--pdb"}, "nodeid"),
        ({"nodeid": "scenarios/test_x.py"}, "node id"),
        ({"nodeid": "../test_x.py::test_y"}, "node id"),
        ({"nodeid": "/etc/passwd::test_y"}, "node id"),
        ({"nodeid": "scenarios/test_gone.py::test_y"}, "no such file"),
        ({"nodeid": "scenarios/test_x.py::test_\x1b[2J"}, "nodeid"),
        ({"nodeid": 7}, "nodeid"),
        ({"release": "-c evil"}, "release"),
        ({"release": "3.0"}, "release 3.0"),
        ({"image": "--insecure"}, "image"),
        ({"macos": ""}, "macos"),
        ({"settings": None}, "settings"),
        ({"settings": {"macos": ["9"]}}, None),
        ({"settings": {"timeouts": {"ready": "soon"}}}, "usable settings"),
    ],
)
def test_a_case_that_cannot_be_run_is_refused(root: Path, header: dict[str, Any], words: str | None) -> None:
    with pytest.raises(UsageError, match=words or "usable settings"):
        plan(root, recorded(root, header=header, image_digest="" if "image" in header else DIGEST))


@pytest.mark.parametrize(
    "name",
    [
        "artifacts/night/test_evil.py",
        "night/test_evil.py",
        ".venv/lib/test_evil.py",
        "tools/release.py",
        "@args/test_evil.py",
    ],
)
def test_only_a_scenario_of_the_checkout_is_run(root: Path, name: str) -> None:
    """pytest runs the file that a node id names: never one that came with the case, and no other program of the checkout."""
    (root / name).parent.mkdir(parents=True)
    (root / name).write_text("raise SystemExit")
    case = recorded(root, header={"nodeid": f"{name}::test_x"}, folder=root / "night" / "run" / "case")
    with pytest.raises(UsageError, match=r"a scenario of this checkout|node id"):
        plan_replay(case, Settings(artifacts=root / "artifacts"), root=root)


def test_a_case_beside_the_scenarios_is_replayed(root: Path) -> None:
    for folder in (root / "artifacts" / "run" / "case", root / "night" / "case", root.parent / "elsewhere"):
        assert plan(root, recorded(root, folder=folder)).nodeid == NODEID


@pytest.mark.parametrize("path", ["night/evil.toml", "x/../../evil.toml", "artifacts/evil.toml"])
def test_no_app_file_that_came_with_the_case(root: Path, path: str) -> None:
    """It names programs that are run in the guest, and addresses that are asked."""
    evil = APP.replace("An App", "Evil")
    (root / "x").mkdir()
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(evil)
    case = recorded(
        root,
        header={"app_file": {"path": path, "sha256": hashlib.sha256(evil.encode()).hexdigest()}},
        folder=root / "night" / "case",
    )
    with pytest.raises(UsageError, match="--app FILE"):
        plan_replay(case, Settings(artifacts=root / "artifacts"), root=root)


def test_a_real_image_that_nobody_here_named_is_asked_for(root: Path) -> None:
    real = Settings(provider="tart")
    evil = "evil.example/x/macos@sha256:" + "b" * 64
    header = {"image": "evil.example/x/macos:latest"}
    case = recorded(root, ran_with=real, header=header, image_digest=evil)
    with pytest.raises(UsageError, match=f"--image {evil}"):
        plan(root, case)
    assert plan(root, case, image=evil).table["image"] == evil
    own = Settings().tart.images["15"]
    with pytest.raises(UsageError, match="one image"):
        plan(root, recorded(root, ran_with=real, header={"image": own}, image_digest=evil))
    digest = own.rpartition(":")[0] + "@sha256:" + "c" * 64
    assert (
        plan(root, recorded(root, ran_with=real, header={"image": own}, image_digest=digest)).table["image"] == digest
    )


@pytest.mark.parametrize("key", ["a\x00b", "x" * 501])
def test_a_run_key_that_no_environment_takes_is_refused(root: Path, key: str) -> None:
    with pytest.raises(UsageError, match="usable settings"):
        plan(root, recorded(root, run_key=key))


def test_what_the_projects_own_options_change_is_outdone_or_told(root: Path, tmp_path: Path) -> None:
    """`addopts = --sysext-provider tart --sysext-fault x` wins over a settings file."""
    replay = plan(root)
    command = replay.command(tmp_path / "r.toml", tmp_path / "a")
    assert {"--sysext-provider=simulated", f"--sysext-image={DIGEST}", "--sysext-macos=15", "--sysext-repeat=1"} <= set(
        command
    )
    made = Settings.model_validate(replay.table).model_dump(mode="json")
    assert replay.overridden(made) == []
    made["simulated"]["faults"] = ["x"]
    (told,) = replay.overridden(made)
    assert "simulated.faults: was ['sysextd-crash:rate=0.5:seed=7'], now ['x']" in str(told)


def test_a_place_with_control_characters_is_a_comment_all_the_same(root: Path, tmp_path: Path) -> None:
    replay = plan(root, recorded(root, place="a\x00\x1b[2J\nb = 1"))
    assert "b" not in tomllib.loads(replay.write(tmp_path / "r.toml").read_text())


def test_a_strange_digest_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="digest"):
        plan(root, recorded(root, image_digest="--insecure"))


def test_the_same_content_under_another_name_is_the_app_file(root: Path) -> None:
    apps = root / "scenarios" / "apps"
    (apps / "other.toml").write_text((apps / "an.toml").read_text())
    (apps / "an.toml").write_text(APP.replace("An App", "Another App"))
    case = recorded(root, header={"app_file": {"path": "an.toml", "sha256": hashlib.sha256(APP.encode()).hexdigest()}})

    replay = plan(root, case)

    assert replay.app.path.name == "other.toml"
    assert replay.differences == []


def test_an_image_that_is_gone_is_taken_by_its_name_and_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    nothing = False

    class Provider:
        def check(self, image: str) -> None:
            asked.append(image)
            if "@" in image or nothing:
                raise UsageError("an image", seen="404 manifest unknown")

    monkeypatch.setattr("harness.machines.provider_for", lambda _settings: Provider())
    replay = plan(root)
    check_image(replay, Settings())

    assert asked == [DIGEST, "ghcr.io/x/macos:latest"]
    assert replay.table["image"] == "ghcr.io/x/macos:latest"
    assert "404 manifest unknown" in told_differences(replay.differences)[0]
    nothing = True
    with pytest.raises(UsageError, match="404"):
        check_image(plan(root), Settings())


def test_the_command_pins_release_and_settings(root: Path, tmp_path: Path) -> None:
    command = plan(root).command(tmp_path / "r.toml", tmp_path / "a", keep="first")

    assert command[:3] == ["-m", "pytest", NODEID]
    assert "--sysext-release=2.0" in command
    assert command[command.index("--sysext-keep") + 1] == "first"


@pytest.mark.parametrize(
    ("verdict", "cause", "same"),
    [
        (Verdict.PRODUCT_FAILURE, "a-cause", True),
        (Verdict.PRODUCT_FAILURE, "", True),
        (Verdict.PRODUCT_FAILURE, "another", False),
        (Verdict.PASSED, "", False),
    ],
)
def test_the_same_or_not(root: Path, verdict: Verdict, cause: str, same: bool) -> None:
    assert same_outcome(recorded(root), verdict, cause) is same


VALUE = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


def _without_empty(value: Any) -> Any:
    """TOML text leaves empty tables out, but for those in lists."""
    if isinstance(value, dict):
        return {
            key: _without_empty(item)
            for key, item in value.items()
            if not (isinstance(item, dict) and not _without_empty(item))
        }
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), VALUE, max_size=5))
def test_written_tables_are_read_back(table: dict[str, Any]) -> None:
    read = tomllib.loads(as_toml(table))

    assert _without_empty(read) == _without_empty(table)


def test_an_app_file_written_elsewhere_has_the_same_sources(root: Path, tmp_path: Path) -> None:
    app = load_app(root / "scenarios" / "apps" / "an.toml")
    more = [*app.releases, Release(version="3.0", source="https://example.com/a.zip", sha256="0" * 64)]
    again: AppFile = load_app(write_toml(tmp_path / "elsewhere" / "new.toml", app_table(app, more), "two\nlines"))

    assert [release.source for release in again.releases] == [
        "pypi:an_app==1.0",
        str(root / "scenarios" / "apps" / "build/*.zip"),
        "https://example.com/a.zip",
    ]
    assert again.model_copy(update={"path": app.path, "releases": app.releases}) == app


def test_what_could_not_be_run_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest refuses before the scenario: exit code 2, for 1 would say that it ended otherwise; and no folder stays."""
    for name in [name for name in os.environ if name.startswith("SYSEXT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(root)
    case = recorded(root, header={"simulated": False}, ran_with=Settings(provider="simulated"))
    monkeypatch.setattr(cases, "read_case", lambda *_: case)
    monkeypatch.setattr(replaying, "check_image", lambda *_: None)
    made: list[bool] = []

    def refused(*_: object, **__: object) -> int:
        made.append(any(root.glob("artifacts/replay-*/replay.toml")))
        return 4

    monkeypatch.setattr(processes, "run_pytest", refused)
    done = CliRunner().invoke(replay, ["case", "--root", str(root)])
    assert made == [True]
    assert isinstance(done.exception, UsageError)
    assert "pytest ended with 4" in str(done.exception)
    assert not (root / "artifacts").exists()
    assert CliRunner().invoke(replay, ["case", "--provider", "moon"]).exit_code == 2
