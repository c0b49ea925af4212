"""`sysext signoff`: from a history and a release's files to reports and an exit code."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.bundles.releases import fetch_release
from harness.cli import main
from harness.config import load_app, load_settings
from harness.errors import EnvironmentFailure, Verdict
from harness.history.rows import Row
from harness.history.store import History
from harness.reports.signoff.config import load_signoff
from harness.reports.signoff.evidence import Build, builds_of

Sysext = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "scenarios" / "apps" / "mitmproxy.toml"
DEMANDS = """
[[item]]
id = "activation"
scenarios = ["first activation"]
macos = ["15"]
maximum_rate = 0.05

[[preflight]]
id = "files"
"""


@pytest.fixture(scope="module")
def builds() -> tuple[Build, ...]:
    app = load_app(APP)
    try:
        bundle = fetch_release(app.release("0.11.5"), app, load_settings(environ={}).cache_dir)
        fetch_release(app.release("0.11.4"), app, load_settings(environ={}).cache_dir)
    except EnvironmentFailure as error:
        pytest.skip(f"the releases cannot be fetched: {error}")
    return builds_of(bundle, app.extension.id)


@pytest.fixture
def sysext(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Sysext:
    monkeypatch.setenv("SYSEXT_HISTORY__URL", f"sqlite:///{tmp_path / 'history.sqlite'}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "signoff.toml").write_text(DEMANDS)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sysext", "signoff", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def fill(tmp_path: Path, builds: tuple[Build, ...]) -> Callable[..., None]:
    app, extension = builds

    def add(count: int, *, first: int = 0, **more: object) -> None:
        row = Row(
            scenario="first activation", nodeid="t.py::test_first_activation[macos15]", macos="15", release="0.11.5",
            image="i", lane="pristine", provider="tart", simulated=False, verdict=Verdict.PASSED, seconds=9.0,
            started=datetime.now(UTC), cdhash=app.cdhashes["arm64"], uuid=app.uuids["arm64"],
            extension_cdhash=extension.cdhashes["arm64"], extension_uuid=extension.uuids["arm64"], case="c",
        )  # fmt: skip
        history = History(f"sqlite:///{tmp_path / 'history.sqlite'}")
        values = [
            {"run": f"r{number}", "started": row.started - timedelta(minutes=number), **more}
            for number in range(first, first + count)
        ]
        history.add([dataclasses.replace(row, **one) for one in values])  # type: ignore[arg-type]
        history.close()

    return add


GIVEN = ("--release", "0.11.5", "--app", APP)


def test_a_release_is_signed_off_and_the_file_verified(
    sysext: Sysext, fill: Callable[..., None], tmp_path: Path
) -> None:
    fill(59)
    code, out, err = sysext(*GIVEN, "--out", "reports/new")
    assert (code, err) == (0, "")
    assert out.startswith("SIGNED OFF: 2 items, all met\n")
    folder = tmp_path / "reports" / "new"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"signoff-0.11.5.{form}" for form in ("html", "json", "md", "pdf")
    ]
    data = json.loads((folder / "signoff-0.11.5.json").read_text())
    assert data["signed_off"] is True
    assert data["evidence"]["builds"][0]["identifier"] == "org.mitmproxy.macos-redirector"
    assert any(one["rule"] == "mach-service-name" for one in data["evidence"]["checked"][0]["findings"])

    path = folder / "signoff-0.11.5.json"
    code, out, _ = sysext("--verify", path, "--against-history", "--app", APP)
    assert code == 0, out
    assert "every run compared with the history" in out
    assert out.rstrip().endswith(": whole")

    fill(1, first=-30)  # what came later is nobody's business
    assert sysext("--verify", path, "--against-history", "--demands", "signoff.toml")[0] == 0
    (tmp_path / "lax.toml").write_text(DEMANDS.replace("0.05", "0.5"))
    code, out, _ = sysext("--verify", path, "--demands", "lax.toml")
    assert code == 1
    assert "WRONG: what is demanded is something else than the file's: item" in out
    fill(1, first=500, verdict=Verdict.PRODUCT_FAILURE)  # what was there before is
    code, out, _ = sysext("--verify", path, "--against-history")
    assert code == 1
    assert "1 of them failed, are in the history and not in the file" in out
    other = ("--url", f"sqlite:///{tmp_path / 'other.sqlite'}")
    assert sysext("--verify", path, "--against-history", *other)[0] == 2  # there is none
    History(other[1]).close()
    code, out, _ = sysext("--verify", path, "--against-history", *other)
    assert code == 1
    assert "is not in the history" in out
    assert "and 9 more" in out
    path.write_text(path.read_text().replace('"verdict": "passed"', '"verdict": "product-failure"', 1))
    code, out, _ = sysext("--verify", path)
    assert code == 1
    assert out.rstrip().endswith("NOT whole")


def test_the_four_refusals(sysext: Sysext, fill: Callable[..., None], tmp_path: Path) -> None:
    fill(34, simulated=True, provider="simulated")
    fill(10, first=100, cdhash="b0" * 20)
    fill(10, first=200)
    with (tmp_path / "signoff.toml").open("a") as file:
        file.write('[[waiver]]\nitem = "activation"\nwho = "A"\nwhy = "b"\nuntil = 2020-01-01\n')
    code, out, _ = sysext(*GIVEN)
    assert code == 1
    assert "49 clean runs missing" in out
    assert "left out: 34 runs of simulated Macs" in out
    assert f"left out: 10 runs of another build: app cdhash {'b0' * 20}" in out
    assert "waiver: does not hold, expired on 2020-01-01" in out
    assert not (tmp_path / "reports").exists()


def test_a_misspelt_scenario_is_told(sysext: Sysext, fill: Callable[..., None], tmp_path: Path) -> None:
    fill(1)
    (tmp_path / "signoff.toml").write_text(DEMANDS.replace('"first activation"', '"first activatoin", "first *"'))
    code, _, err = sysext(*GIVEN)
    assert code == 1
    assert err == (
        "sysext: no run of 'first activatoin' is in the history, of any release; did you mean 'first activation'?\n"
    )


def test_what_other_releases_ran_and_this_one_did_not(
    sysext: Sysext, fill: Callable[..., None], tmp_path: Path
) -> None:
    """A wildcard means what ran; who runs less than before is told."""
    fill(1)
    older = {"release": "0.11.4", "scenario": "first sleep"}
    fill(1, first=10, **older)
    fill(1, first=20, macos="26", **older)  # nobody demands it there
    fill(1, first=30, release="0.11.4", scenario="first activation")
    paths = "upgrade path [{}->{}-pkg-running]"
    fill(1, first=40, release="0.11.4", scenario=paths.format("0.11.1", "0.11.4"))
    fill(1, first=50, scenario=paths.format("0.11.4", "0.11.5"))
    demands = '[[item]]\nid = "a"\nscenarios = ["first *", "upgrade path"]\nmacos = ["15"]\n'
    (tmp_path / "signoff.toml").write_text(demands)
    _, _, err = sysext(*GIVEN)
    assert err == "sysext: other releases ran, and 0.11.5 did not: first sleep on macOS 15 (0.11.4)\n"


def test_a_rehearsal_is_no_sign_off(sysext: Sysext, fill: Callable[..., None], tmp_path: Path) -> None:
    fill(59, simulated=True, provider="simulated")
    code, out, _ = sysext(*GIVEN, "--rehearsal", "--out", "x", "--format", "json,md")
    assert code == 1
    assert out.startswith("REHEARSAL, not a sign-off: all items would be met")
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["rehearsal-0.11.5.json", "rehearsal-0.11.5.md"]
    code, out, _ = sysext("--verify", "x/rehearsal-0.11.5.json", "--against-history")
    assert code == 0, out
    assert "REHEARSAL" in out


def test_simulated_runs_cannot_be_allowed(sysext: Sysext, fill: Callable[..., None]) -> None:
    fill(59, simulated=True, provider="simulated")
    code, _, err = sysext(*GIVEN, "--allow-simulated")
    assert code == 2
    assert "--allow-simulated" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--release"),
        (("--release", "9.9", "--app", APP), "it lists 0.11.1"),
        (("--release", "0.11.5"), "--app"),
        ((*GIVEN, "--format", "doc"), "known: md, html, pdf, json"),
        ((*GIVEN, "--format", ""), "a list of reports"),
        ((*GIVEN, "--demands", "none.toml"), "none.toml"),
        ((*GIVEN, "--out", "signoff.toml"), "a folder at signoff.toml"),
        ((*GIVEN, "--out", "signoff.toml/x"), "signoff.toml/x"),
        ((*GIVEN, "--against-history"), "--verify"),
        (GIVEN, "a history at"),
        (("--verify", "signoff.toml"), "JSON at signoff.toml"),
        (("--verify", "nothing.json"), "nothing.json"),
    ],
)
def test_unusable_input(
    sysext: Sysext, tmp_path: Path, arguments: tuple[object, ...], said: str, fill: Callable[..., None]
) -> None:
    if arguments and arguments is not GIVEN:
        fill(1)
    before = sorted(tmp_path.iterdir())
    code, out, err = sysext(*arguments)
    assert code == 2
    assert out == ""
    assert said in err
    assert sorted(tmp_path.iterdir()) == before  # nothing half-done


def test_the_example_of_the_page_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "signoff.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    path = tmp_path / "signoff.toml"
    path.write_text(example, encoding="utf-8")
    file = load_signoff(path)
    assert file.item
    assert file.preflight
    assert file.manual
    assert file.waiver
    for name in ("first activation", "upgrade path"):  # scenarios that there are
        assert any(name.replace(" ", "_") in one.read_text() for one in (ROOT / "scenarios").glob("test_*.py"))
