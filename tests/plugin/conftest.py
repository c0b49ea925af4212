"""pytest projects of their own, run in a process of their own, on stub Macs: what a user of the plugin sees.

The stub stands where `harness.session.mac` and the providers are, so that nothing is booted; all else is the real thing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.reports.result import CaseResult, read_results

STUB = """
import dataclasses, sys, types
from pathlib import Path

import harness.machines
import harness.session.run
from harness.errors import EnvironmentFailure, UsageError
from harness.events import SECRETS

JOURNAL = Path(__file__).parent / "journal.txt"

def journal(line):
    with JOURNAL.open("a") as file:
        file.write(line + "\\n")

class StubMachine:
    def __init__(self, image, folder):
        self.name, self.image, self.folder = "stub-" + folder.parent.name, image, folder
        self.there = True
    def mark_bad(self, reason): journal(f"bad {self.name}")
    def stop(self, deadline): journal(f"stop {self.name}")
    def delete(self):
        self.there = False
        journal(f"delete {self.name}")
        if (Path(__file__).parent / "undeletable").exists():
            (Path(__file__).parent / "undeletable").unlink()
            raise EnvironmentFailure("the machine to go", seen="it stays")
    def keep(self):
        journal(f"keep {self.name}")
        return f"{self.name} is kept.\\n  vnc://:{SECRETS.add('vnc-pass-word')}@127.0.0.1:5901"

class StubProvider:
    name, simulated = "stub", True
    def describe(self): return {"provider": "stub"}
    def check(self, image): pass
    def wait_for_slot(self, deadline): pass
    def create(self, *, image, macos, purpose, folder, deadline, environment):
        journal(f"create {macos} {environment['SYSEXT_SIM_RUN_KEY']}")
        folder.mkdir(parents=True)
        return StubMachine(image, folder)

class StubMac:
    def __init__(self, machine, *, settings, app, case, reader, release):
        self.machine, self.case, self.name = machine, case, machine.name
    def bring_up(self):
        self.case.log.event("brought up", mac=self.name)
        if (Path(__file__).parent / "hung boot").exists():
            raise EnvironmentFailure("a booted Mac", seen="a black screen", hint="look at it")
    def collect(self, reason):
        journal(f"collect {self.name} there={self.machine.there}: {reason}")
    def close(self): journal(f"close {self.name}")

module = types.ModuleType("harness.session.mac")
module.Mac = StubMac
module.machine_folder = lambda case: case.folder.path / "machine"
sys.modules["harness.session.mac"] = module
harness.machines.provider_for = lambda settings: StubProvider()
harness.session.run.Run.reader = property(lambda self: None)

import harness.bundles.releases
class StubBundle:
    def require_extension(self, identifier): pass
harness.bundles.releases.fetch_release = lambda release, app, cache: StubBundle()
"""
APP = """
name = "Example"
bundle_id = "com.example.app"
[extension]
id = "com.example.app.extension"
kind = "content-filter"
[[releases]]
version = "1"
source = "one.zip"
[[releases]]
version = "2"
source = "two.zip"
"""


@dataclass
class Project:
    """A folder with scenarios."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def environ(self) -> dict[str, str]:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SYSEXT_", "PYTEST_", "GITHUB_", "COLUMNS")) and key != "CI"
        }
        # The releases of this app file are no files at all: there is nothing to judge.
        fixed = {"SYSEXT_PROVIDER": "simulated", "SYSEXT_PREFLIGHT__ENABLED": "false", "COLUMNS": "120"}
        fixed["SYSEXT_HISTORY__RECORD"] = "false"  # the user's own history is not ours to write to
        return {**inherited, **fixed, **self.environment}

    def command(self, *arguments: str, app: bool = True) -> list[str]:
        given = ["--sysext-app", str(self.folder / "app.toml")] if app else []
        return [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:hypothesispytest",
                "-c",
                "pytest.ini",
            ),
            *given,
            *arguments,
        ]

    def run(self, *arguments: str, app: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, app=app),
            cwd=self.folder,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def scenario(self, text: str, name: str = "test_it.py") -> None:
        (self.folder / name).write_text("import pytest\nfrom harness.errors import *\n" + text, encoding="utf-8")

    def results(self) -> list[CaseResult]:
        results, problems = read_results(self.artifacts)
        assert problems == []
        return results

    def runs(self) -> list[Path]:
        return sorted(self.artifacts.iterdir()) if self.artifacts.is_dir() else []

    def journal(self) -> list[str]:
        path = self.folder / "journal.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "conftest.py").write_text(STUB, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n", encoding="utf-8")
    (tmp_path / "app.toml").write_text(APP, encoding="utf-8")
    return Project(tmp_path)
