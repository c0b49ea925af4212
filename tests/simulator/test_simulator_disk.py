"""The border of a machine's disk: no name, link or archive leads out of it."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.simulator.disk import GuestDisk, make_skeleton, may_write

NAMES = st.sampled_from(["..", ".", "", "a", "b", "in", "out", "up", "loop", "tmp", "etc", "private", "Users", "é"])
PATHS = st.lists(NAMES, max_size=9).map("/".join) | st.text(max_size=30)


@pytest.fixture
def disk(tmp_path: Path) -> GuestDisk:
    root = tmp_path / "machine" / "disk"
    make_skeleton(root)
    (tmp_path / "secret").write_text("the host's")
    (root / "a").mkdir()
    (root / "a/b").write_text("inside")
    (root / "in").symlink_to("/a")  # absolute: means the guest's /a
    (root / "out").symlink_to(tmp_path)  # absolute: a host path that the guest does not have
    (root / "up").symlink_to("../../../../../../..")
    (root / "a/up").symlink_to("../../..")
    (root / "loop").symlink_to("loop")
    return GuestDisk(root)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, cwd=PATHS)
def test_no_path_leaves_the_disk(disk: GuestDisk, path: str, cwd: str) -> None:
    for resolve in (disk.path, disk.entry):
        try:
            found = resolve(path, "/" + cwd)
        except PermissionError:
            assert "\0" in path + cwd
            continue
        except OSError as error:
            assert error.errno in (errno.ELOOP, errno.ENAMETOOLONG)
            continue
        assert found == disk.root or disk.root in found.parents
        assert ".." not in found.parts
        if resolve == disk.path:
            real = Path(os.path.realpath(found))
            assert real == disk.root or disk.root in real.parents


def test_links_mean_the_guests_root(disk: GuestDisk) -> None:
    assert disk.path("/in/b").read_text() == "inside"
    (disk.root / "a/deep").symlink_to("/private/tmp")
    assert disk.path("/a/deep/x") == disk.root / "private/tmp/x"
    assert disk.path("/up/a/b").read_text() == "inside"
    assert disk.path("/a/up/in/b").read_text() == "inside"
    assert not disk.path("/out/secret").exists()
    assert disk.path("/tmp/x") == disk.root / "private/tmp/x"
    assert disk.guest(disk.path("/etc/hosts")) == "/private/etc/hosts"


def test_a_loop_of_links_is_an_error(disk: GuestDisk) -> None:
    with pytest.raises(OSError, match="symbolic") as caught:
        disk.path("/loop/x")
    assert caught.value.errno == errno.ELOOP


def test_entry_leaves_the_last_link_alone(disk: GuestDisk) -> None:
    assert disk.entry("/in").is_symlink()
    assert disk.entry("/in/b") == disk.root / "a/b"


def test_guest_names_only_what_lies_on_the_disk(disk: GuestDisk, tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        disk.guest(tmp_path / "secret")


def test_a_full_disk_refuses_until_something_is_deleted(tmp_path: Path) -> None:
    make_skeleton(tmp_path / "d")
    disk = GuestDisk(tmp_path / "d", full_after_bytes=1000)
    disk.wrote(900)
    assert not disk.full
    with pytest.raises(OSError, match="No space") as caught:
        disk.wrote(200)
    assert caught.value.errno == errno.ENOSPC
    assert disk.full
    disk.freed(500)
    assert not disk.full
    disk.wrote(100)


@pytest.mark.parametrize(
    ("user", "path", "may"),
    [
        ("admin", "/Users/admin/x", True),
        ("admin", "/Applications/X.app", True),
        ("admin", "/private/tmp/x", True),
        ("admin", "/Library/x", False),
        ("admin", "/Users/other/x", False),
        ("admin", "/Users/administrator", False),
        ("root", "/Library/x", True),
        ("root", "/System/Library/x", False),
    ],
)
def test_who_may_write_where(user: str, path: str, *, may: bool) -> None:
    assert may_write(user, path) is may


class TestCommandsStayInside:
    def test_shell_and_commands_through_links(self, bench, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("the host's")
        bench.sh(f"ln -s {tmp_path} /Users/admin/out; ln -s ../../../../../.. /Users/admin/up")
        for script in ("cat out/secret", "cat up/secret", "cat ../../../../secret", "ls out/", "grep -r host out/"):
            assert b"host's" not in bench.sh(script).stdout
        bench.sh("echo gone > up/new; echo gone > out/new; cp /etc/../tmp/x out/; rm -rf up/*")
        assert (tmp_path / "secret").exists()
        assert not (tmp_path / "new").exists()

    def test_tar_cannot_be_talked_out(self, bench, tmp_path: Path) -> None:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:

            def add(name: str, **fields: object) -> None:
                info = tarfile.TarInfo(name)
                for key, value in fields.items():
                    setattr(info, key, value)
                info.size = 4 if info.isreg() else 0
                archive.addfile(info, io.BytesIO(b"evil"))

            add("../../../../../escaped")
            add("/absolute")
            add("link", type=tarfile.SYMTYPE, linkname=str(tmp_path))
            add("link/through")
            add("hard", type=tarfile.LNKTYPE, linkname="../../../../secret")
            add("device", type=tarfile.CHRTYPE)
        (tmp_path / "secret").write_text("the host's")
        ran = bench.sh("mkdir x; tar -xf - -C x; find x", stdin=data.getvalue())
        assert b"Path contains '..'" in ran.stderr
        assert not (tmp_path / "through").exists()
        assert not list(tmp_path.rglob("escaped"))
        assert (bench.disk.root / "Users/admin/x/absolute").read_bytes() == b"evil"
        assert "x/device" not in ran.text
