"""`sysext repro` on simulated Macs: chance falls anew in each cycle, the cause is named, the Mac is kept and
reached, each cycle can be replayed; and one Mac for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.config import load_settings
from harness.events import read
from harness.reports.result import CaseResult
from harness.simulator.faults import decide
from harness.simulator.interfaces import Fault

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "scenarios" / "apps" / "mitmproxy.toml"
SYSEXT = Path(sys.executable).with_name("sysext")
CODE = "extension-not-found"
TEST = "scenarios/test_quick.py::test_is_asked"
SCENARIO = """
from harness.waiting import Deadline

def test_is_asked(mac):
    mac.install()
    assert mac.activate().wait_until_requested(Deadline.after(60)) == "activated_waiting_for_user"
"""


@dataclass
class House:
    """A checkout with one quick scenario, and a place of its own for simulated Macs."""

    root: Path

    def begin(self, *command: str | Path) -> subprocess.Popen[str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SYSEXT_", "PYTEST_"))}
        short = {
            f"SYSEXT_SIMULATED__{name}_SECONDS": "0.1" for name in ("BOOT", "LOGIN", "PROMPT", "SHUTDOWN", "ACTIVATION")
        }
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.root,
            env={
                **inherited,
                **short,
                "SYSEXT_CACHE": str(self.root / "cache"),
                "SYSEXT_SIMULATED__HOME": str(self.root / "tart"),
                "SYSEXT_ARTIFACTS": str(self.root / "artifacts"),
                "SYSEXT_EVIDENCE__SYSDIAGNOSE": "false",
                "SYSEXT_EVIDENCE__RECORDING": "false",
                "SYSEXT_HISTORY__RECORD": "false",
                "SYSEXT_APP": "scenarios/apps/mitmproxy.toml",
                "SYSEXT_PROVIDER": "simulated",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @staticmethod
    def end(process: subprocess.Popen[str]) -> tuple[int, str]:
        output, _ = process.communicate(timeout=280)
        return process.returncode, output

    def run(self, *command: str | Path) -> tuple[int, str]:
        return self.end(self.begin(*command))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
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
    return House(root)


def run_keys(case: str) -> list[str]:
    """What decided the faults of the Macs that were made for this case."""
    return [
        record["attributes"]["run_key"]
        for record in read(Path(case) / "run.jsonl")
        if record["type"] == "end" and "run_key" in record["attributes"]
    ]


@pytest.mark.timeout(900)  # seven processes and four Macs, on a host that may be busy
def test_a_rare_failure_is_found_its_mac_kept_and_both_cycles_replayed_as_they_were(house: House) -> None:
    """One run for all of it: repeated until it fails, the cause named, the Mac reached; then the failing cycle once more, which
    fails again, and the clean one, which is clean again.
    """
    keys = [f"{TEST}[macos15-cycle{number}]|1" for number in (1, 2)]
    seed = next(
        seed for seed in range(1000) if [decide(Fault(CODE, 0.5, seed, {}), key) for key in keys] == [False, True]
    )
    report = house.root / "report.json"
    try:
        code, output = house.run(
            *(SYSEXT, "repro", "is_asked", "--until-fail", "--json", report, "--sysext-macos", "15"),
            *("--sysext-fault", f"{CODE}:rate=0.5:seed={seed}"),
        )
        data = json.loads(report.read_text())
        assert code == 1, output
        assert (data["answer"], data["runs"], data["failures"]) == ("failing", 2, 1)
        assert [row["code"] for row in data["causes"]] == [CODE]
        assert data["simulated"] is True
        clean, failed = data["cycles"]
        assert (clean["kept"], failed["kept"]) == (False, True)
        assert f"cycle 2 FAILED (its Mac is kept): {CODE}" in output
        assert f"sysext attach {failed['case']}" in output
        assert "ssh -p " in output
        assert "vnc://:***@" in output, "a password goes to a terminal only"
        assert "SIMULATED" in output
        assert [run_keys(cycle["case"]) for cycle in data["cycles"]] == [[key] for key in keys]

        attached = house.begin(SYSEXT, "attach", failed["case"])
        replays = {
            verdict: house.begin(SYSEXT, "replay", one["case"])
            for verdict, one in (("passed", clean), ("failed", failed))
        }
        code, said = house.end(attached)
        assert code == 0, said
        assert "(a SIMULATED Mac) is kept and runs." in said
        assert "StrictHostKeyChecking=yes" in said
        assert f"product-failure: {CODE}" in said
        for verdict, process in replays.items():
            code, said = house.end(process)
            assert code == 0, said
            assert "the same as before" in said
            assert "nothing differs from that run" in said
            assert "was not to" not in said
            assert "SIMULATED" in said
            assert ("its Mac is kept" in said) is (verdict == "failed")
    finally:
        code, said = house.run(SYSEXT, "gc", "--include-kept")
    assert "2 removed" in said
    again = [CaseResult.read(path) for path in (house.root / "artifacts").glob("replay-*/*/*/result.json")]
    assert sorted(result.verdict.value for result in again) == ["passed", "product-failure"]
    was = CaseResult.read(Path(failed["case"]) / "result.json")
    assert "@sha256:" in was.image_digest
    assert {result.image for result in again} == {was.image_digest}


def test_one_mac_for_all_cycles(house: House) -> None:
    """The product is removed in between, and the oracle agrees; the second cycle finds a Mac as the first one did."""
    code, output = house.run(
        *(sys.executable, "-m", "pytest", "scenarios", "-q", "--sysext-macos", "15", "--sysext-quiet"),
        *("--sysext-repeat", "2", "--sysext-same-mac"),
    )
    assert code == 0, output
    (run,) = [
        folder
        for folder in (house.root / "artifacts").iterdir()
        if not ((folder / "repro.json").exists() or folder.name.startswith("replay-"))
    ]
    cases = sorted(run.glob("*/run.jsonl"), key=lambda path: path.stat().st_mtime)
    streams = [list(read(path)) for path in cases]
    assert len(streams) == 2
    names = [[one["name"] for one in stream if one["type"] in ("end", "event")] for stream in streams]
    assert ["create machine" in each for each in names] == [True, False]
    assert ["same-mac" in each for each in names] == [False, True]
    states = [one["attributes"]["state"] for one in streams[0] if one.get("name") == "extension-state"]
    assert states[-1] is None, "clean before it is handed on"
    assert "on the Mac of the cycle before" in output
    assert list((house.root / "tart" / "vms").iterdir()) == [], "put away at the end"
