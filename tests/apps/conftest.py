"""One simulated Mac per module, and the real app to put on it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness import events
from harness.bundles.app import AppBundle
from harness.bundles.releases import fetch_release
from harness.config import AppFile, Settings, load_app, load_settings
from harness.errors import SysextError
from harness.guest import Guest
from harness.machines import provider_for
from harness.waiting import Deadline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def app() -> AppFile:
    return load_app(ROOT / "scenarios" / "apps" / "mitmproxy.toml")


def _bundle(app: AppFile, version: str) -> AppBundle:
    try:
        return fetch_release(app.release(version), app, load_settings(environ={}).cache_dir)
    except SysextError as error:
        pytest.skip(f"the release cannot be fetched: {error}")


@pytest.fixture(scope="session")
def older(app: AppFile) -> AppBundle:
    return _bundle(app, "0.11.4")


@pytest.fixture(scope="session")
def newer(app: AppFile) -> AppBundle:
    return _bundle(app, "0.11.5")


@pytest.fixture(scope="session")
def bundle_builders() -> ModuleType:
    """The writers of packages and disk images that the tests of the bundles have."""
    spec = importlib.util.spec_from_file_location(
        "bundle_builders_for_apps", ROOT / "tests" / "bundles" / "builders.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def quick_settings(folder: Path, **overrides: object) -> Settings:
    return load_settings(
        environ={},
        overrides={
            "provider": "simulated",
            "cache": folder / "cache",
            "simulated.home": folder / "tart",
            "simulated.boot_seconds": 0.1,
            "simulated.login_seconds": 0.1,
            "simulated.prompt_seconds": 0.1,
            "simulated.activation_seconds": 0.1,
            **overrides,
        },
    )


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A simulated macOS 15 that the module shares."""
    folder = tmp_path_factory.mktemp("mac")
    settings = quick_settings(folder)
    machine = provider_for(settings).create(
        image=settings.image_for("15"),
        macos="15",
        purpose="apps",
        folder=folder / "machine",
        deadline=Deadline.after(60),
    )
    made = Guest(machine.ssh_endpoint, settings.guest, name=machine.name, folder=folder)
    with machine, made:
        made.connect(Deadline.after(60))
        made.wait_ready(Deadline.after(60))
        yield made


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(60)


@pytest.fixture
def seen() -> Iterator[list[events.Record]]:
    """The events of the test."""
    records: list[events.Record] = []
    log = events.EventLog()
    log.subscribe(records.append)
    with events.use(log):
        yield records
