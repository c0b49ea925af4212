"""Scenarios run in a pytest of their own, on simulated Macs, as a user would run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import events
from harness.reports.result import CaseResult, read_results

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "scenarios" / "apps" / "mitmproxy.toml"
SYSEXT = Path(sys.executable).with_name("sysext")


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    code: int
    output: str
    artifacts: Path

    @property
    def results(self) -> list[CaseResult]:
        results, problems = read_results(self.artifacts)
        assert problems == []
        return results

    def case(self, index: int = -1) -> Path:
        return self.artifacts / self.results[index].case

    def manifest(self, index: int = -1) -> dict[str, object]:
        data = json.loads((self.case(index) / "manifest.json").read_text(encoding="utf-8"))
        assert isinstance(data, dict)
        return data

    def events(self, index: int = -1) -> list[events.Record]:
        return list(events.read(self.case(index) / "run.jsonl"))


@dataclass(frozen=True)
class House:
    """A scratch home for simulated Macs: its own TART_HOME, leases and artifacts; downloads are shared."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SYSEXT_", "PYTEST_"))}
        return {
            **inherited,
            "SYSEXT_PROVIDER": "simulated",
            "SYSEXT_SIMULATED__HOME": str(self.folder / "tart"),
            "SYSEXT_ARTIFACTS": str(self.folder / "artifacts"),
        }

    def command(self, *arguments: str, macos: str = "15") -> list[str]:
        return [
            sys.executable, "-m", "pytest", str(ROOT / "scenarios"), "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "240",
            "--sysext-app", str(APP), "--sysext-macos", macos, "--sysext-quiet", *arguments,
        ]  # fmt: skip

    def scenario(self, name: str, *arguments: str, macos: str = "15", timeout: float = 280, **environment: str) -> Ran:
        done = subprocess.run(
            self.command("-k", name, *arguments, macos=macos),
            env={**self.environment, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout + done.stderr, self.folder / "artifacts")

    def sysext(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SYSEXT, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def machines(self) -> list[str]:
        folder = self.folder / "tart" / "vms"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def processes(self) -> list[int]:
        """The simulated Macs of this house that run now."""
        found = []
        for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else []:
            if not entry.name.isdigit():
                continue
            try:
                variables = (entry / "environ").read_bytes()
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"run" in words and f"TART_HOME={self.folder / 'tart'}".encode() in variables:
                found.append(int(entry.name))
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def start(house: House) -> Callable[..., subprocess.Popen[bytes]]:
    """Start a run without waiting for it; ended at the end of the test whatever happens."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            house.command(*arguments),
            env=house.environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running.append(process)
        return process

    yield begin  # type: ignore[misc]
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    house.sysext("gc", "--provider", "simulated")
