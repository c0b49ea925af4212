"""What the benchmarks share: run scenarios on simulated Macs in a scratch folder, and read what the machines wrote down."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.leading import leading, run_child

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "scenarios" / "apps" / "mitmproxy.toml"


@dataclass(frozen=True)
class Outcome:
    """One scenario run.

    Attributes:
        wall: Seconds of the scenario itself, from its case file: set-up, tear-down and evidence included.
        journal: The machine's own diary.
    """

    wall: float
    result: dict[str, Any]
    journal: list[dict[str, Any]]

    @property
    def delays(self) -> float:
        """Seconds that the guest took on purpose."""
        return sum(float(line["seconds"]) for line in self.journal if line["what"] == "delay")

    def between(self, drawn: str, hit: str) -> float | None:
        """Seconds from a prompt's pixels being on the screen to the click that hit a button of it."""
        start = next(
            (line["monotonic"] for line in self.journal if line["what"] == "prompt-drawn" and line["kind"] == drawn),
            None,
        )
        end = next(
            (line["monotonic"] for line in self.journal if line["what"] == "click" and line.get("hit") == hit), None
        )
        return float(end - start) if start is not None and end is not None else None


def run_scenario(name: str, macos: str, settings: Mapping[str, str], scratch: Path, **environment: str) -> Outcome:
    """Run one scenario in a pytest of its own.

    Raises:
        SystemExit: It failed: a benchmark of a failing run says nothing.
    """
    artifacts = Path(tempfile.mkdtemp(dir=scratch))
    environ = {
        **os.environ,
        **{f"SYSEXT_SIMULATED__{key.upper()}": value for key, value in settings.items()},
        "SYSEXT_SIM_JOURNAL_FOLDER": str(artifacts / "journal"),
        "SYSEXT_ARTIFACTS": str(artifacts),
        "SYSEXT_HISTORY__RECORD": "false",
        **environment,
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(ROOT / "scenarios"),
        "-q",
        "-k",
        name,
        "-p",
        "no:cacheprovider",
        "--timeout",
        "900",
    ]
    command += ["--sysext-app", str(APP), "--sysext-provider", "simulated", "--sysext-macos", macos, "--sysext-quiet"]
    said = artifacts / "output.txt"
    if run_child(command, cwd=ROOT, environment=environ, output=said, timeout=1000) != 0:
        raise SystemExit(f"{name} on macOS {macos} failed:\n{said.read_text(errors='replace')[-5000:]}")
    (path,) = artifacts.glob("*/*/result.json")
    result = json.loads(path.read_text())
    journal = [
        json.loads(line) for file in (artifacts / "journal").glob("*.jsonl") for line in file.read_text().splitlines()
    ]
    return Outcome(float(result["seconds"]), result, journal)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, as is all that was run meanwhile (see `leading`)."""
    with tempfile.TemporaryDirectory(prefix="sysext-bench-", ignore_cleanup_errors=True) as folder, leading():
        yield Path(folder)


def median(values: list[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def judge(name: str, value: float, limit: float, *, most: bool = True) -> bool:
    """Print a figure against its target; True when it is met."""
    good = value <= limit if most else value >= limit
    print(f"{name}: {value:.3f} (target {'≤' if most else '≥'} {limit}) {'ok' if good else 'NOT MET'}")
    return good
