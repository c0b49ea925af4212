"""What a delivery asks of the app file, and what it says to the Mac: no Mac needed."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.apps import delivery
from harness.config import AppFile, Release
from harness.errors import UsageError
from harness.waiting import Deadline


def release(**more: Any) -> Release:
    return Release(version="0.11.5", source="pypi:x==1", **more)


def test_a_shipped_package_is_found_beside_the_app_file(app: AppFile, tmp_path: Path) -> None:
    here = app.model_copy(update={"path": tmp_path / "app.toml"})
    (tmp_path / "dist").mkdir()
    assert delivery.shipped_package(here, release()) is None
    with pytest.raises(UsageError, match="a file"):
        delivery.shipped_package(here, release(pkg="dist/Example.pkg"))
    with pytest.raises(UsageError, match="0 files"):
        delivery.shipped_package(here, release(pkg="dist/*.pkg"))
    (tmp_path / "dist" / "Example.pkg").write_bytes(b"xar!")
    assert delivery.shipped_package(here, release(pkg="dist/*.pkg")) == tmp_path / "dist" / "Example.pkg"
    (tmp_path / "dist" / "Other.pkg").write_bytes(b"xar!")
    with pytest.raises(UsageError, match="2 files"):
        delivery.shipped_package(here, release(pkg="dist/*.pkg"))


@pytest.mark.parametrize("name", ["tunnel", "it's mine", 'a "b" $(c) `d`', "-x; rm -rf /"])
def test_the_preinstall_script_says_only_what_it_should(name: str) -> None:
    text = delivery.PREINSTALL.format(name=shlex.quote(name))
    (line,) = [line for line in text.splitlines() if "scutil" in line]
    assert shlex.split(line)[:4] == ["/usr/sbin/scutil", "--nc", "stop", name]


def test_a_process_is_only_a_number() -> None:
    bundle: Any = SimpleNamespace(executable=SimpleNamespace(path=Path("/x/My (App)+")))

    @dataclasses.dataclass
    class Told:
        text: str
        asked: list[str] = dataclasses.field(default_factory=list)

        def run(self, argv: list[str], **_: object) -> Any:
            self.asked = argv
            return SimpleNamespace(text=self.text)

    for text, wanted in (("", 0), ("123\n456\n", 123), ("none\n", 0)):
        told: Any = Told(text)
        assert delivery.running_pid(told, bundle, "/Applications/My (App)+.app", Deadline(5)) == wanted
        assert told.asked[2] == "^/Applications/My [(]App[)][+][.]app/Contents/MacOS/My [(]App[)][+]( |$)"


@pytest.mark.parametrize("name", ["My (App)+", "a[beta]", "a^b$c", "b\\d*", "x{2}|y?"])
def test_only_the_app_itself_is_its_process(name: str) -> None:
    """As grep -E reads it, which is the expression that pgrep takes."""
    bundle: Any = SimpleNamespace(executable=SimpleNamespace(path=Path("/x") / name))
    asked: list[str] = []

    def run(argv: list[str], **_: object) -> Any:
        asked[:] = argv
        return SimpleNamespace(text="")

    guest: Any = SimpleNamespace(run=run)
    delivery.running_pid(guest, bundle, "/Applications/A.app", Deadline(5))
    path = f"/Applications/A.app/Contents/MacOS/{name}"
    lines = [path, f"{path} --wait", f"{path} Helper", f"{path}Helper", f"/bin/sh {path}", path[:-1]]
    found = subprocess.run(
        ["grep", "-nE", asked[2]], input="\n".join(lines), capture_output=True, text=True, check=False
    ).stdout
    assert [int(line.partition(":")[0]) for line in found.splitlines()] == [1, 2, 3]
