"""Archives that mean harm: nothing is ever written outside, nothing grows without bound."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bundles import BundleError, Limits, Sink
from harness.bundles.tarzip import extract_tar, extract_zip


def _member(
    name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, len(data)
    return member, data


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return path


def _sink(root: Path, **limits: int) -> Sink:
    root.mkdir(parents=True, exist_ok=True)
    return Sink(root, "evil", Limits(**limits))


HOSTILE = {
    "absolute": [_member("/etc/passwd", data=b"x")],
    "upwards": [_member("a/../../evil", data=b"x")],
    "link out": [_member("a", kind=tarfile.SYMTYPE, link="../../evil")],
    "absolute link": [_member("a", kind=tarfile.SYMTYPE, link="/tmp")],
    "through a link": [
        _member("a", kind=tarfile.SYMTYPE, link="."),
        _member("a/evil", data=b"x"),
    ],
    "through two links": [
        _member("d1/d2/up", kind=tarfile.SYMTYPE, link="../.."),
        _member("out", kind=tarfile.SYMTYPE, link="d1/d2/up/.."),
    ],
    "hard link out": [_member("a", kind=tarfile.LNKTYPE, link="../evil")],
    "hard link to nothing": [_member("a", kind=tarfile.LNKTYPE, link="b")],
    "hard link to a link": [
        _member("b", kind=tarfile.SYMTYPE, link="c"),
        _member("a", kind=tarfile.LNKTYPE, link="b"),
    ],
    "device": [_member("null", kind=tarfile.CHRTYPE)],
    "pipe": [_member("pipe", kind=tarfile.FIFOTYPE)],
    "file over a folder": [_member("a", kind=tarfile.DIRTYPE), _member("a", data=b"x")],
    "folder over a link": [_member("a", kind=tarfile.SYMTYPE, link="."), _member("a", kind=tarfile.DIRTYPE)],
    "deep": [_member("a/" * 100 + "b", data=b"x")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tar(name: str, tmp_path: Path) -> None:
    archive = _tar(tmp_path / "evil.tar", *HOSTILE[name])
    root = tmp_path / "in" / "side"
    before = set(tmp_path.rglob("*")) | {root, root.parent}
    with pytest.raises(BundleError):
        extract_tar(archive, _sink(root))
    after = {path for path in tmp_path.rglob("*") if root not in path.parents}
    assert after == before
    assert not Path("/etc/passwd").read_bytes().startswith(b"x")
    for path in root.rglob("*"):
        if path.is_symlink():
            assert Path(os.path.realpath(path)).is_relative_to(root)


@pytest.mark.parametrize("name", ["/absolute", "../up", "a/../../up", "a/b/../../../up"])
def test_hostile_zip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(BundleError):
        extract_zip(path, _sink(tmp_path / "in" / "side"))
    assert list((tmp_path / "in").rglob("*")) == [tmp_path / "in" / "side"]


def test_a_zip_with_a_link_out(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "../../etc")
    with pytest.raises(BundleError, match="leads out"):
        extract_zip(path, _sink(tmp_path / "in"))


def _zip_bomb(path: Path) -> Callable[[Sink], None]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(8 * 1024 * 1024))
    return lambda sink: extract_zip(path, sink)


def _tar_bomb(path: Path) -> Callable[[Sink], None]:
    with tarfile.open(path, "w:gz") as archive:
        member, data = _member("zeros", data=bytes(8 * 1024 * 1024))
        archive.addfile(member, io.BytesIO(data))
    return lambda sink: extract_tar(path, sink)


@pytest.mark.parametrize("make", [_zip_bomb, _tar_bomb])
def test_bombs_are_defused(make: Callable[[Path], Callable[[Sink], None]], tmp_path: Path) -> None:
    run = make(tmp_path / "bomb")
    root = tmp_path / "in"
    with pytest.raises(BundleError, match=r"bomb|at most"):
        run(_sink(root, total=1024 * 1024))
    assert sum(path.stat().st_size for path in root.rglob("*")) <= 1024 * 1024
    run(_sink(tmp_path / "allowed", total=16 * 1024 * 1024))  # the same is fine where there is room
    assert (tmp_path / "allowed" / "zeros").stat().st_size == 8 * 1024 * 1024


def test_too_many_entries(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "many.tar", *[_member(f"f{n}") for n in range(60)])
    with pytest.raises(BundleError, match="at most 50 entries"):
        extract_tar(archive, _sink(tmp_path / "in", entries=50))


def test_a_header_that_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 4 * 1024**3
    (tmp_path / "evil.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(BundleError):
        extract_tar(tmp_path / "evil.tar", _sink(tmp_path / "in"))


def test_permission_bits(tmp_path: Path) -> None:
    script, secret = tarfile.TarInfo("run"), tarfile.TarInfo("locked/secret")
    folder = tarfile.TarInfo("locked")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o555
    script.mode, secret.mode = 0o6755, 0o400
    archive = _tar(tmp_path / "a.tar", (script, b""), (folder, b""), (secret, b""))
    extract_tar(archive, _sink(tmp_path / "in"))
    assert stat.S_IMODE((tmp_path / "in/run").stat().st_mode) == 0o755  # no set-uid
    assert (tmp_path / "in/locked/secret").stat().st_mode & 0o600 == 0o600  # ours to delete again
    assert stat.S_IMODE((tmp_path / "in/locked").stat().st_mode) == 0o755


def test_a_later_entry_replaces_a_file_but_not_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    root = tmp_path / "in"
    sink = _sink(root)
    sink.file("a", 0o644, [b"first"])
    sink.file("a", 0o644, [b"second"])
    assert (root / "a").read_bytes() == b"second"
    (root / "b").symlink_to(target)  # as if somebody had put it there meanwhile
    sink.file("b", 0o644, [b"evil"])
    assert target.read_text() == "kept"


_NAMES = st.text(alphabet="ab./\\ \0é-", min_size=1, max_size=12)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.tuples(st.sampled_from("dflh"), _NAMES, _NAMES), max_size=12))
def test_whatever_the_names_nothing_leaves_the_folder(
    actions: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    root = outside / "x" / "y"
    sink = _sink(root)
    for what, name, other in actions:
        try:
            if what == "d":
                sink.directory(name)
            elif what == "f":
                sink.file(name, 0o755, [b"data"])
            elif what == "l":
                sink.symlink(name, other)
            else:
                sink.hardlink(name, other)
        except (BundleError, OSError):
            continue
    with contextlib.suppress(BundleError):
        sink.finish()
    assert [path.name for path in outside.iterdir()] == ["x"]
    assert [path.name for path in (outside / "x").iterdir()] == ["y"]
