"""Code that others made and published: other signers, tools and linkers than the one app's. Fetched once per host by npm and pip."""

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

from harness.bundles.inspection import inspect_app, inspect_file
from harness.bundles.inspection_text import as_text, item_text


def _fetched(name: str, command: list[str], folder: Path) -> Path:
    """A published file, from the cache or fetched by its registry's own client."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sysext" / "tests"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / name
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    with (cache / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            folder.mkdir()
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    timeout=200,
                    check=False,
                    stdin=subprocess.DEVNULL,
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"{command[0]} takes too long to fetch {name}")
            if done.returncode or not (folder / name).exists():
                pytest.skip(f"the registry cannot be reached: {done.stderr[-300:]}")
            shutil.copyfile(folder / name, cache / f"{name}.new")
            (cache / f"{name}.new").rename(kept)
    return kept


def _npm(package: str, version: str, folder: Path) -> Path:
    """The content of an npm package, unpacked; nothing of it runs."""
    file = f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"
    command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package}@{version}"]
    with tarfile.open(_fetched(file, command, folder / "fetched")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return folder / "unpacked" / "package"


def test_an_app_that_nobody_signed(tmp_path: Path) -> None:
    """terminal-notifier.app of 2018, x86_64 only."""
    package = _npm("node-notifier", "10.0.1", tmp_path)
    seen = inspect_app(package / "vendor/mac.noindex/terminal-notifier.app")
    assert (seen.app.bundle_id, seen.app.archs, seen.app.signed) == (
        "nl.superalloy.oss.terminal-notifier",
        ("x86_64",),
        False,
    )
    assert [problem.code for problem in seen.problems] == ["unsigned"]
    assert (seen.ticket, seen.app.profile, seen.app.resources) == (None, None, None)
    assert "not signed" in as_text(seen)


def test_a_universal_library_signed_by_the_linker(tmp_path: Path) -> None:
    """Only its arm64 slice is: macOS runs no other there."""
    item, problems = inspect_file(_npm("fsevents", "2.3.3", tmp_path) / "fsevents.node")
    assert (item.kind, item.archs) == ("library", ("x86_64", "arm64"))
    assert [problem.code for problem in problems] == ["unsigned", "adhoc"]
    part = item.slices[1]
    assert (part.adhoc, part.page_hash_ok, part.cdhash, hex(part.flags)) == (
        *(True, True),
        "8c4bc119d234ef99eb186d1f92dc1882732fda60",
        "0x20002",
    )
    assert "linker-signed" in item_text(item, problems, verified=True)


def test_a_developer_id_of_another_team_and_tool(tmp_path: Path) -> None:
    """A command-line tool, notarized but (as tools are) without a stapled ticket; its two slices name themselves apart."""
    item, problems = inspect_file(_npm("@sentry/cli-darwin", "3.8.0", tmp_path) / "bin/sentry-cli")
    assert problems == ()
    assert (item.kind, item.archs) == ("helper", ("x86_64", "arm64"))
    assert item.slices[0].identifier != item.slices[1].identifier
    for part in item.slices:
        assert (part.team, part.hardened, part.page_hash_ok) == ("97JCY7859U", True, True)
        assert set(part.slots.values()) == {"ok"}
        assert part.cms is not None
        assert (part.cms.authority, part.cms.signature_ok) == ("developer-id", True)
        assert part.cms.timestamp is not None
        assert part.cms.timestamp.ok


def test_qts_libraries(tmp_path: Path) -> None:
    name = "shiboken6-6.11.3-cp310-abi3-macosx_13_0_universal2.whl"
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "."),
        *("--disable-pip-version-check", "--platform", "macosx_13_0_universal2", "--python-version", "3.12"),
        "shiboken6==6.11.3",
    ]
    with zipfile.ZipFile(_fetched(name, command, tmp_path / "fetched")) as wheel:
        wheel.extractall(tmp_path / "wheel")
    seen = {path.name: inspect_file(path)[0] for path in (tmp_path / "wheel/shiboken6").glob("*.dylib")}
    (library,) = seen.values()
    assert (library.kind, library.archs) == ("library", ("x86_64", "arm64"))
    assert [part.page_hash_ok for part in library.slices] == [None, True]
    assert {part.platform for part in library.slices} == {"macos"}


@pytest.mark.parametrize("version", ["0.4.0"])
def test_an_older_release_of_the_app(version: str, tmp_path: Path) -> None:
    """The first ones held a folder, no archive."""
    from harness.bundles.sources import opened

    name = f"mitmproxy_macos-{version}-py3-none-any.whl"
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "."),
        *("--disable-pip-version-check", "--ignore-requires-python", f"mitmproxy_macos=={version}"),
    ]
    with opened(str(_fetched(name, command, tmp_path / "fetched"))) as app:
        seen = inspect_app(app)
    assert len(seen.extensions) == 1
    for item in seen.items():
        for part in item.slices:
            assert part.page_hash_ok
            assert part.cms is not None
            assert (part.cms.trusted, part.cms.signature_ok) == (True, True)
