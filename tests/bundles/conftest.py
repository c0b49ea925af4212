"""Real releases, fetched once per host by pip, and the builders of other containers around them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from harness.bundles.macho import read_slices

APP = "Mitmproxy Redirector.app"


def _wheel(version: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sysext" / "tests"
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / f"mitmproxy_macos-{version}-py3-none-any.whl"
    with (cache / "wheels.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wheel.exists():
            fresh = cache / f"fetching-{os.getpid()}"
            try:
                done = subprocess.run(
                    [
                        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
                        *("--disable-pip-version-check", "--dest", str(fresh), f"mitmproxy_macos=={version}"),
                    ],
                    capture_output=True,
                    text=True,
                    timeout=240,
                    check=False,
                )
                if done.returncode:
                    pytest.skip(f"the package index cannot be reached: {done.stderr[-300:]}")
                (fresh / wheel.name).rename(wheel)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return wheel


@pytest.fixture(scope="session")
def wheel_0114() -> Path:
    return _wheel("0.11.4")


@pytest.fixture(scope="session")
def wheel_0115() -> Path:
    return _wheel("0.11.5")


def _unpacked(wheel: Path, into: Path) -> Path:
    """Unpacked with the standard library, as a judge of our own unpacking."""
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(f"mitmproxy_macos/{APP}.tar") as inner,
        tarfile.open(fileobj=inner) as tar,
    ):
        tar.extractall(into, filter="data")
    return into / APP


@pytest.fixture(scope="session")
def app_0114(wheel_0114: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _unpacked(wheel_0114, tmp_path_factory.mktemp("app-0.11.4"))


@pytest.fixture(scope="session")
def app_0115(wheel_0115: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _unpacked(wheel_0115, tmp_path_factory.mktemp("app-0.11.5"))


@pytest.fixture
def small_app(tmp_path: Path, app_0115: Path) -> Path:
    """The real app, a copy to alter: thinned to arm64 (quicker), with links inside as frameworks have them."""
    copy = tmp_path / "source" / APP
    shutil.copytree(app_0115, copy, symlinks=True)
    for path in copy.rglob("MacOS/*"):
        data = path.read_bytes()
        part = next(part for part in read_slices(data) if part.arch == "arm64")
        path.write_bytes(data[part.offset : part.offset + part.size])
    (copy / "Contents" / "Frameworks" / "A").mkdir(parents=True)
    (copy / "Contents" / "Frameworks" / "A" / "data").write_text("x" * 5000)
    (copy / "Contents" / "Frameworks" / "Current").symlink_to("A")
    (copy / "Contents" / "Frameworks" / "data").symlink_to("Current/data")
    return copy
