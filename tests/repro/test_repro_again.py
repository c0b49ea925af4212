"""A run of simulated Macs, replayed: an intermittent fault decides as it did, the Mac of a failure is kept and reached."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.config import load_settings
from harness.reports.result import CaseResult, read_results
from harness.simulator.faults import decide
from harness.simulator.interfaces import Fault

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "scenarios" / "apps" / "mitmproxy.toml"
SYSEXT = Path(sys.executable).with_name("sysext")
CODE = "extension-not-found"
TEST = "scenarios/test_quick.py::test_is_asked"
SCENARIO = """
def test_is_asked(mac):
    mac.install()
    mac.activate()
    mac.expect_state("activated_waiting_for_user")
"""


def seed_for(failing: str, passing: str) -> int:
    """A seed by which a fault of rate 0.5 strikes the one and not the other."""
    keys = [f"{TEST}[macos{macos}]|1" for macos in (failing, passing)]
    return next(
        seed for seed in range(1000) if [decide(Fault(CODE, 0.5, seed, {}), key) for key in keys] == [True, False]
    )


@dataclass
class House:
    """A checkout with one quick scenario, and a place of its own for simulated Macs."""

    root: Path

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SYSEXT_", "PYTEST_"))}
        return {
            **inherited,
            "SYSEXT_CACHE": str(self.root / "cache"),
            "SYSEXT_SIMULATED__HOME": str(self.root / "tart"),
            "SYSEXT_ARTIFACTS": str(self.root / "artifacts"),
            "PYTEST_XDIST_WORKER_COUNT": "2",
            **more,
        }

    def begin(self, *command: str | Path, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.root,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def sysext(self, *arguments: str | Path) -> tuple[int, str]:
        return self.end(self.begin(SYSEXT, *arguments))

    @staticmethod
    def end(process: subprocess.Popen[str]) -> tuple[int, str]:
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    def results(self) -> dict[str, CaseResult]:
        found, problems = read_results(self.root / "artifacts")
        assert problems == []
        return {result.macos: result for result in found}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """With the original run in it: it fails on macOS 15 and passes on 26, by chance."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "scenarios" / "apps").mkdir(parents=True)
    (root / "scenarios" / "test_quick.py").write_text(SCENARIO)
    (root / "scenarios" / "apps" / "mitmproxy.toml").write_bytes(APP.read_bytes())
    (root / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -p no:xdist --import-mode=importlib\n")
    shared = load_settings(environ={}).cache_dir
    (root / "cache").mkdir()
    for name in ("apps", "sources", "locks"):
        (shared / name).mkdir(parents=True, exist_ok=True)
        (root / "cache" / name).symlink_to(shared / name, target_is_directory=True)
    house = House(root)
    short = {
        f"SYSEXT_SIMULATED__{name}_SECONDS": "0.1" for name in ("BOOT", "LOGIN", "PROMPT", "SHUTDOWN", "ACTIVATION")
    }
    code, output = house.end(
        house.begin(
            *(sys.executable, "-m", "pytest", "scenarios", "-q", "--sysext-app", "scenarios/apps/mitmproxy.toml"),
            *("--sysext-provider", "simulated", "--sysext-macos", "15,26", "--sysext-quiet"),
            *("--sysext-fault", f"{CODE}:rate=0.5:seed={seed_for('15', '26')}"),
            SYSEXT_EVIDENCE__SYSDIAGNOSE="false",
            SYSEXT_EVIDENCE__RECORDING="false",
            SYSEXT_HISTORY__RECORD="false",
            **short,
        )
    )
    assert code == 1, output
    return house


@pytest.mark.timeout(900)  # five processes and two Macs, on a host that may be busy
def test_replayed_as_it_was(house: House) -> None:
    results = house.results()
    assert {macos: result.verdict.value for macos, result in results.items()} == {
        "15": "product-failure",
        "26": "passed",
    }
    assert all("@sha256:" in result.image_digest for result in results.values())
    cases = {macos: house.root / "artifacts" / result.case for macos, result in results.items()}

    under_way = {macos: house.begin(SYSEXT, "replay", case) for macos, case in cases.items()}
    ended = {macos: house.end(process) for macos, process in under_way.items()}

    for macos, (code, output) in ended.items():
        assert code == 0, output
        assert "the same as before" in output
        assert "nothing differs from that run" in output
        assert "SIMULATED" in output, macos
    again = {
        path.parent.name: CaseResult.read(path) for path in (house.root / "artifacts").glob("replay-*/*/*/result.json")
    }
    assert {name: result.verdict for name, result in again.items()} == {
        case.name: results[macos].verdict for macos, case in cases.items()
    }
    assert {result.image for result in again.values()} == {result.image_digest for result in results.values()}
    # The failing one's Mac is there to be looked at, the other's is not.
    assert "its Mac is kept" in ended["15"][1]
    assert "its Mac is kept" not in ended["26"][1]
    (kept,) = (path.parent for path in (house.root / "artifacts").glob("replay-*/*/*macos15/result.json"))
    code, output = house.sysext("attach", kept)
    assert code == 0, output
    assert "(a SIMULATED Mac) is kept and runs." in output
    assert "StrictHostKeyChecking=yes" in output
    assert f"product-failure: {results['15'].cause}" in output
    assert house.sysext("attach", kept, "--delete")[1].endswith("is deleted\n")
    assert house.sysext("attach", kept)[0] == 1
    assert list((house.root / "tart" / "vms").iterdir()) == []
