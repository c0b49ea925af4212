"""Unusable input: one clear error, a usage exit code, and nothing started or left behind."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from harness.bundles.releases import fetch_release
from harness.config import load_app, load_settings
from harness.machines import provider_for
from harness.waiting import Deadline

from .conftest import APP, ROOT, House  # type: ignore[import-not-found]

USAGE = 4
"""pytest's exit code for a usage error."""


def _run(house: House, *arguments: str, app: Path = APP, **environment: str) -> subprocess.CompletedProcess[str]:
    command = house.command("-k", "test_first_activation_through_the_prompt", *arguments)
    command[command.index("--sysext-app") + 1] = str(app)
    return subprocess.run(
        command,
        env={**house.environment, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _expect(house: House, done: subprocess.CompletedProcess[str], *words: str) -> None:
    text = done.stdout + done.stderr
    assert done.returncode == USAGE, text[-3000:]
    for word in words:
        assert word in text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert house.machines() == []
    assert house.processes() == []


def _app(house: House, source: str) -> Path:
    text = APP.read_text(encoding="utf-8")
    text = text[: text.index("# Oldest first")] + text[text.index("# It wants one argument") :]
    path = house.folder / "app.toml"
    path.write_text(text + f'\n[[releases]]\nversion = "1"\nsource = "{source}"\n', encoding="utf-8")
    return path


def test_a_missing_app_file(house: House) -> None:
    _expect(house, _run(house, app=house.folder / "nowhere.toml"), "nowhere.toml", "Hint")


def test_a_bundle_without_an_extension(house: House) -> None:
    app = load_app(APP)
    real = fetch_release(app.release(), app, load_settings(environ={}).cache_dir)
    bare = house.folder / real.path.name
    shutil.copytree(real.path, bare, symlinks=True)
    shutil.rmtree(bare / "Contents" / "Library")
    archive = house.folder / "bare.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(bare, bare.name)
    _expect(
        house, _run(house, app=_app(house, str(archive))), "a system extension", "Contents/Library/SystemExtensions"
    )


def test_a_truncated_wheel(house: House) -> None:
    whole = house.folder / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("mitmproxy_macos/Mitmproxy Redirector.app/Contents/Info.plist", "x" * 100_000)
    torn = house.folder / "mitmproxy_macos-1-py3-none-any.whl"
    torn.write_bytes(whole.read_bytes()[:-40])
    _expect(house, _run(house, app=_app(house, str(torn))), torn.name)


def test_an_unknown_image(house: House) -> None:
    _expect(house, _run(house, "--sysext-image", "ghcr.io/cirruslabs/macos-cheetah-vanilla:latest"), "macos-cheetah")


def test_no_free_slot(house: House, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    settings = load_settings(
        overrides={"provider": "simulated", "simulated.slots": 1, "cache": cache, "simulated.home": tmp_path / "tart"},
        environ={},
    )
    machine = provider_for(settings).create(
        image=settings.image_for("15"), macos="15", purpose="holder", folder=tmp_path / "held", deadline=Deadline(60)
    )
    with machine:
        done = _run(house, SYSEXT_CACHE=cache, SYSEXT_SIMULATED__SLOTS="1", SYSEXT_TIMEOUTS__SLOT="0")
        text = done.stdout + done.stderr
        assert done.returncode == USAGE, text[-3000:]
        assert "slot" in text
        assert "Traceback" not in text
        assert house.machines() == [machine.name]
    assert house.machines() == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--sysext-provider", "vmware"), "provider"),
        (("--sysext-macos", "11"), "macos"),
        (("--sysext-fault", "no-such-fault"), "no-such-fault"),
        (("--sysext-provider", "tart", "--sysext-fault", "sysextd-crash"), "simulated"),
        (("--sysext-release", "9.9.9"), "9.9.9"),
    ],
)
def test_wrong_options(house: House, arguments: tuple[str, ...], word: str) -> None:
    _expect(house, _run(house, *arguments), word)


def test_the_command_ends_with_2(house: House) -> None:
    for arguments in (
        ("app", "nowhere.toml"),
        ("gc", "--provider", "vmware"),
        ("gcc",),
        ("report", str(house.folder / "none")),
    ):
        done = house.sysext(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stderr
