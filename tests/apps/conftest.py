"""One simulated Mac per module, and the real app to put on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
