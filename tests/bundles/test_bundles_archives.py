"""Every container a release comes in, built around the real app: what comes out is what went in."""

from __future__ import annotations

import errno
import os
import plistlib
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.bundles import BundleError, Kind, detect_kind, extract, open_app, unpack
from harness.errors import EnvironmentFailure, UsageError
from tests.support import bundle_builders as builders

NAME = "Mitmproxy Redirector"
APP = f"{NAME}.app"


def _tar(mode: str) -> Callable[[Path, Path], None]:
    def make(app: Path, target: Path) -> None:
        quick = {"w:xz": {"preset": 0}, "w:gz": {"compresslevel": 1}}.get(mode, {})
        with tarfile.open(target, mode, **quick) as archive:  # type: ignore[call-overload]
            archive.add(app, app.name)

    return make


def _zip(app: Path, target: Path) -> None:
    """As `ditto -c -k` makes them: links and permission bits in the external attributes, AppleDouble files beside."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for parent, folders, files in os.walk(app):
            for name in folders + files:
                path = Path(parent) / name
                info = zipfile.ZipInfo(str(path.relative_to(app.parent)) + ("/" if path.is_dir() else ""))
                info.external_attr = path.lstat().st_mode << 16
                info.create_system = 3
                if path.is_symlink():
                    info.filename = info.filename.rstrip("/")
                    archive.writestr(info, str(path.readlink()))
                elif path.is_dir():
                    archive.writestr(info, b"")
                else:
                    archive.writestr(info, path.read_bytes())
        archive.writestr(f"__MACOSX/._{app.name}", b"\0\5\x16\7")


def _zip_of_tar(app: Path, target: Path) -> None:
    inner = target.with_suffix(".inner")
    _tar("w:xz")(app, inner)
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(inner, "release/app.tar.xz")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (_tar("w"), Kind.TAR),
        (_tar("w:gz"), Kind.TAR),
        (_tar("w:bz2"), Kind.TAR),
        (_tar("w:xz"), Kind.TAR),
        (_zip, Kind.ZIP),
        (_zip_of_tar, Kind.ZIP),
    ],
    ids=["tar", "tar.gz", "tar.bz2", "tar.xz", "zip", "zip of tar"],
)
def test_round_trip(make: Callable[[Path, Path], None], kind: Kind, small_app: Path, tmp_path: Path) -> None:
    archive = tmp_path / "release.bin"  # the name says nothing
    make(small_app, archive)
    assert detect_kind(archive) is kind
    found = unpack(archive, tmp_path / "out", NAME)
    assert found == tmp_path / "out" / APP
    assert builders.snapshot(found) == builders.snapshot(small_app)
    assert _names(tmp_path / "out") == [APP]
    assert open_app(found).require_extension().short == "2.0"


def test_a_wheel_with_a_tar_in_it(wheel_0115: Path, app_0115: Path, tmp_path: Path) -> None:
    assert detect_kind(wheel_0115) is Kind.WHEEL
    named = unpack(wheel_0115, tmp_path / "named", APP)
    unnamed = unpack(wheel_0115, tmp_path / "unnamed")  # the other app in the wheel has no extension
    assert builders.snapshot(named) == builders.snapshot(unnamed) == builders.snapshot(app_0115)


@pytest.mark.parametrize("name", ["Mitmproxy Redirector.app.tar", "release.bin"])
def test_an_archive_that_begins_inside_the_app(name: str, small_app: Path, tmp_path: Path) -> None:
    """As the wheels of 2023 have it: no folder named `.app` at all. The name is the archive's, or Info.plist's."""
    archive = tmp_path / name
    with tarfile.open(archive, "w") as tar:
        tar.add(small_app, ".")
    info = plistlib.loads((small_app / "Contents" / "Info.plist").read_bytes())
    assert info["CFBundleName"] == NAME
    found = unpack(archive, tmp_path / "out", NAME)
    assert found.name == APP
    assert builders.snapshot(found) == builders.snapshot(small_app)
    shutil.copytree(small_app, tmp_path / "plain", symlinks=True)  # and a folder that lost its ending
    assert builders.snapshot(unpack(tmp_path / "plain", tmp_path / "out", NAME)) == builders.snapshot(small_app)


def test_from_a_folder_and_from_the_app_itself(small_app: Path, tmp_path: Path) -> None:
    assert detect_kind(small_app) is Kind.APP
    assert detect_kind(small_app.parent) is Kind.FOLDER
    for source in (small_app, small_app.parent):
        found = unpack(source, tmp_path / "out", NAME)
        assert builders.snapshot(found) == builders.snapshot(small_app)
    assert small_app.is_dir()  # copied, not moved


def test_an_older_unpacking_is_replaced(small_app: Path, tmp_path: Path) -> None:
    stale = tmp_path / "out" / APP / "Contents" / "stale"
    stale.parent.mkdir(parents=True)
    stale.touch()
    found = unpack(small_app, tmp_path / "out")
    assert builders.snapshot(found) == builders.snapshot(small_app)


def test_wrong_name_and_several_apps_name_what_is_there(small_app: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Other\.app") as error:
        unpack(small_app.parent, tmp_path / "out", "Other")
    assert APP in error.value.seen
    shutil.copytree(small_app, small_app.with_name("Second.app"), symlinks=True)
    with pytest.raises(UsageError, match="one app") as error:
        unpack(small_app.parent, tmp_path / "out")
    assert "Second.app" in error.value.seen
    assert _names(tmp_path / "out") == []


@pytest.mark.parametrize("make", [_tar("w:gz"), _tar("w"), _zip, _zip_of_tar], ids=["tar.gz", "tar", "zip", "nested"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.97])
def test_truncated_leaves_nothing_behind(
    make: Callable[[Path, Path], None], keep: float, small_app: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "release.bin"
    make(small_app, archive)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(UsageError):
        unpack(archive, tmp_path / "out", NAME)
    assert _names(tmp_path / "out") == []


def test_a_truncated_tar_in_a_whole_wheel_says_so(wheel_0115: Path, tmp_path: Path) -> None:
    """Not "no app in it": the user must hear that it is damaged."""
    inner = f"mitmproxy_macos/{APP}.tar"
    with zipfile.ZipFile(wheel_0115) as old, zipfile.ZipFile(tmp_path / "x.whl", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[:400_000] if name == inner else old.read(name))
    with pytest.raises(BundleError, match="whole archive") as error:
        unpack(tmp_path / "x.whl", tmp_path / "out", NAME)
    assert f"{APP}.tar" in error.value.expected


@pytest.mark.parametrize("content", [b"", b"\0" * 4000, b"just text\n" * 50, b"\x1f\x8b"], ids=repr)
def test_what_is_no_archive(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "release.zip"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        unpack(path, tmp_path / "out", NAME)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        unpack(tmp_path / "none.zip", tmp_path / "out")


def test_an_encrypted_zip_is_refused(small_app: Path, tmp_path: Path) -> None:
    if shutil.which("7z") is None:
        pytest.skip("7z (p7zip-full) is not installed")
    archive = tmp_path / "secret.zip"
    subprocess.run(["7z", "a", "-pword", str(archive), str(small_app)], check=True, capture_output=True)
    with pytest.raises(BundleError, match="encrypted"):
        unpack(archive, tmp_path / "out", NAME)


def test_extract_gives_everything(wheel_0115: Path, tmp_path: Path) -> None:
    into = tmp_path / "all"
    into.mkdir()
    extract(wheel_0115, into)
    with zipfile.ZipFile(wheel_0115) as archive:
        files = {name for name in archive.namelist() if not name.endswith("/")}
    assert {str(path.relative_to(into)) for path in into.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("form", ["tar", "zip", "pkg", "dmg", "folder"])
def test_a_full_disk_is_not_the_archive_s_fault(
    form: str, small_app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "release"
    if form == "tar":
        _tar("w:gz")(small_app, archive)
    elif form == "zip":
        _zip(small_app, archive)
    elif form == "pkg":
        archive.write_bytes(builders.package(small_app))
    elif form == "dmg":
        archive.write_bytes(builders.udif(builders.HfsWriter(small_app.parent, "R").image()))
    else:
        archive = small_app

    really = os.open

    def full(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr("harness.bundles.sink.os.open", full)
    try:
        with pytest.raises(EnvironmentFailure, match="No space left"):
            unpack(archive, tmp_path / "out", NAME)
    finally:
        monkeypatch.undo()
    assert _names(tmp_path / "out") == []
