"""Scenarios run in a pytest of their own, on simulated Macs, as a user would run them.

Most of such a run is waiting. A test that only looks at a finished run takes it as `ran`, from an `Order` among its
parameters: then it is begun while the test before it is still running, and there are two at a time in each worker.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness import events
from harness.config import load_settings
from harness.reports.result import CaseResult, read_results

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "scenarios" / "apps" / "mitmproxy.toml"
SYSEXT = Path(sys.executable).with_name("sysext")


@dataclass(frozen=True)
class Order:
    """A scenario, and what it is run with."""

    name: str
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    code: int
    output: str
    house: House

    @property
    def artifacts(self) -> Path:
        return self.house.folder / "artifacts"

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
    """A scratch home for simulated Macs: its own TART_HOME, leases, slots and artifacts; downloads and readings are shared.

    With shared leases another run would clean up after one that a test has just killed.
    """

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SYSEXT_", "PYTEST_"))}
        return {
            **inherited,
            "SYSEXT_PROVIDER": "simulated",
            "SYSEXT_SIMULATED__HOME": str(self.folder / "tart"),
            "SYSEXT_ARTIFACTS": str(self.folder / "artifacts"),
            "SYSEXT_CACHE": str(self._cache()),
            "SYSEXT_HISTORY__RECORD": "false",
            "PYTEST_XDIST_WORKER_COUNT": "2",  # for the reader of screens: others want the cores, too
        }

    def _cache(self) -> Path:
        cache, shared = self.folder / "cache", load_settings(environ={}).cache_dir
        for name in ("apps", "sources", "locks", "readings"):
            (shared / name).mkdir(parents=True, exist_ok=True)
            if not (cache / name).exists():
                cache.mkdir(parents=True, exist_ok=True)
                (cache / name).symlink_to(shared / name, target_is_directory=True)
        return cache

    def command(self, *arguments: str, macos: str = "15") -> list[str]:
        return [
            sys.executable, "-m", "pytest", str(ROOT / "scenarios"), "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest", "--timeout", "240",
            "--sysext-app", str(APP), "--sysext-macos", macos, "--sysext-quiet", *arguments,
        ]  # fmt: skip

    def begin(self, order: Order) -> subprocess.Popen[bytes]:
        """Start a run; `end` waits for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                self.command("-k", order.name, *order.arguments),
                env={**self.environment, **order.environment},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def end(self, process: subprocess.Popen[bytes]) -> Ran:
        code = process.wait(timeout=280)
        return Ran(code, (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace"), self)

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


class Runs:
    """The runs that tests ordered, by test: each is begun once."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._begun: dict[str, tuple[House, subprocess.Popen[bytes]]] = {}

    def begin(self, item: pytest.Item) -> None:
        callspec = getattr(item, "callspec", None)
        order = callspec.params.get("ran") if callspec is not None else None
        if isinstance(order, Order) and item.nodeid not in self._begun:
            house = House(self._folders.mktemp("house"))
            self._begun[item.nodeid] = house, house.begin(order)

    def end(self, item: pytest.Item) -> Ran:
        house, process = self._begun[item.nodeid]
        return house.end(process)

    def close(self) -> None:
        """What was begun for a test that never came (-x, Ctrl-C) deletes its Mac and ends."""
        unfinished = [process for _, process in self._begun.values() if process.poll() is None]
        for process in unfinished:
            process.terminate()
        for process in unfinished:
            process.wait(timeout=60)


_NEXT = pytest.StashKey[pytest.Item | None]()


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    item.stash[_NEXT] = nextitem


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory)
    yield runs
    runs.close()


@pytest.fixture(autouse=True)
def _begin_ahead(request: pytest.FixtureRequest, runs: Runs) -> None:
    for item in (request.node, request.node.stash[_NEXT]):
        if item is not None:
            runs.begin(item)


@pytest.fixture
def ran(request: pytest.FixtureRequest, runs: Runs, _begin_ahead: None) -> Ran:
    """The finished run of the `Order` that the test has as its parameter `ran` (indirect)."""
    return runs.end(request.node)


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
            stdin=subprocess.DEVNULL,
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
