"""Files and folders to and from a real OpenSSH sshd."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from harness import events
from harness.errors import HarnessError, UsageError
from harness.guest import ChecksumMismatch, CommandFailed, ConnectionLost, NoSpace, NoSuchFile
from tests.support.guest_sshd import SUDO, Proxy, soon

BIG = 200 << 20


def sha(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


@pytest.fixture(scope="session")
def big(tmp_path_factory):
    """200 MB that no compression and no hole makes smaller, quickly made."""
    path = tmp_path_factory.mktemp("big") / "big.bin"
    block = os.urandom(1 << 20)
    with path.open("wb") as target:
        for number in range(BIG >> 20):
            target.write(number.to_bytes(8, "big") + block[8:])
    return path


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_200_mb_up_and_down_with_checksums(guest, big, tmp_path):
    there, back = tmp_path / "there.bin", tmp_path / "back.bin"
    told: list[tuple[int, int]] = []
    up = guest.put(big, str(there), deadline=soon(120), progress=lambda done, total: told.append((done, total)))
    assert (up.size, up.sha256, up.resumed_from) == (BIG, sha(there), 0)
    assert told[-1] == (BIG, BIG)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    down = guest.get(str(there), back, deadline=soon(120))
    assert (down.size, down.sha256) == (BIG, sha(back))
    assert sha(back) == sha(big)
    assert parts(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, 261119, 261120, 261121, 13_000_001])
def test_sizes_around_the_request_size(guest, tmp_path, size):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    guest.put(source, str(tmp_path / "there"), deadline=soon())
    guest.get(str(tmp_path / "there"), tmp_path / "back", deadline=soon())
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_permissions_are_kept_and_a_file_is_replaced_whole(guest, tmp_path):
    source, there = tmp_path / "source", tmp_path / "there"
    source.write_bytes(b"new")
    source.chmod(0o750)
    there.write_bytes(b"old, and longer")
    guest.put(source, str(there), deadline=soon())
    assert there.read_bytes() == b"new"
    assert stat.S_IMODE(there.stat().st_mode) == 0o750


@pytest.mark.parametrize("direction", ["put", "get"])
def test_a_connection_that_breaks_in_the_middle_is_resumed(sshd, tmp_path, big, direction):
    proxy = Proxy(sshd.port)
    log = events.EventLog()
    names: list[str] = []
    log.subscribe(lambda record: names.append(record["name"]) if record["type"] == "event" else None)
    try:
        with events.use(log), sshd.guest(tmp_path / "m", port=proxy.port) as guest:
            guest.connect(soon())
            proxy.cut_after = 90 << 20
            target = tmp_path / "copy.bin"
            if direction == "put":
                transfer = guest.put(big, str(target), deadline=soon(120))
            else:
                transfer = guest.get(str(big), target, deadline=soon(120))
            assert transfer.breaks == 1
            assert transfer.resumed_from > 20 << 20
            assert sha(target) == sha(big)
            assert "transfer-broken" in names
            assert "resumed" in names
            # What is resumed is not sent again.
            assert proxy._carried < BIG + (60 << 20)
    finally:
        proxy.close()


def test_without_resume_a_break_is_an_error_and_nothing_appears(sshd, tmp_path, big):
    proxy = Proxy(sshd.port)
    try:
        with sshd.guest(tmp_path / "m", port=proxy.port) as guest:
            guest.connect(soon())
            proxy.cut_after = 20 << 20
            with pytest.raises(ConnectionLost):
                guest.put(big, str(tmp_path / "there"), deadline=soon(60), resume=False)
            assert not (tmp_path / "there").exists()
    finally:
        proxy.close()


def test_a_part_of_other_content_is_not_continued(guest, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(600_000))
    seen: list[str] = []

    def spoil(done: int, total: int) -> None:
        seen.extend(parts(tmp_path))

    guest.put(source, str(tmp_path / "there"), deadline=soon(), progress=spoil)
    (part,) = set(seen)
    (tmp_path / part).write_bytes(b"\0" * 300_000)
    log = events.EventLog()
    names: list[str] = []
    log.subscribe(lambda record: names.append(record["name"]))
    with events.use(log):
        assert guest.put(source, str(tmp_path / "there"), deadline=soon()).resumed_from == 0
    assert "part-discarded" in names
    assert "transfer-damaged" not in names
    assert (tmp_path / "there").read_bytes() == source.read_bytes()


def test_a_part_of_the_same_content_is_continued(guest, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(600_000))
    seen: list[str] = []
    guest.put(source, str(tmp_path / "there"), deadline=soon(), progress=lambda *_: seen.extend(parts(tmp_path)))
    (tmp_path / seen[0]).write_bytes(source.read_bytes()[:300_000])
    assert guest.put(source, str(tmp_path / "there"), deadline=soon()).resumed_from == 300_000
    assert (tmp_path / "there").read_bytes() == source.read_bytes()


def test_damage_is_noticed(guest, sshd, tmp_path):
    sshd.stub("shasum", "echo " + "0" * 64 + "  x")
    source = tmp_path / "source"
    source.write_bytes(b"content")
    with pytest.raises(ChecksumMismatch):
        guest.put(source, str(tmp_path / "there"), deadline=soon())
    with pytest.raises(ChecksumMismatch):
        guest.get(str(source), tmp_path / "back", deadline=soon())
    assert not (tmp_path / "there").exists()
    assert not (tmp_path / "back").exists()
    assert parts(tmp_path) == []


def test_a_full_disk_is_said_before_anything_is_sent(guest, sshd, tmp_path):
    sshd.stub(
        "df", 'echo "Filesystem 1024-blocks Used Available Capacity Mounted on"; echo "map auto 9 9 2 99% /System/x y"'
    )
    (tmp_path / "source").write_bytes(bytes(5000))
    with pytest.raises(NoSpace, match="2,048 bytes free"):
        guest.put(tmp_path / "source", str(tmp_path / "there"), deadline=soon())


def test_a_disk_that_fills_up_on_the_way_is_said(guest, tmp_path):
    """On a real small file system, where this user may mount one."""
    small = tmp_path / "small"
    small.mkdir()
    import subprocess

    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        (tmp_path / "source").write_bytes(bytes(3 << 20))
        answers = [None]  # so that the look before the transfer finds nothing amiss
        real = guest.free_bytes
        guest.free_bytes = lambda *args, **kw: answers.pop() if answers else real(*args, **kw)
        with pytest.raises(NoSpace) as caught:
            guest.put(tmp_path / "source", str(small / "there"), deadline=soon())
        assert not (small / "there").exists()
        assert "there" in str(caught.value)
    finally:
        subprocess.run(["umount", "-l", small], check=False)


def test_the_deadline_ends_a_transfer(sshd, tmp_path, big):
    proxy = Proxy(sshd.port)
    try:
        with sshd.guest(tmp_path / "m", port=proxy.port, keepalive_seconds=30) as guest:
            guest.connect(soon())
            with pytest.raises(ConnectionLost, match="not done after"):
                freeze = lambda *_: setattr(proxy, "frozen", True)  # noqa: E731
                guest.put(big, str(tmp_path / "there"), deadline=soon(2), progress=freeze)
    finally:
        proxy.close()


def test_what_is_not_there_or_not_allowed_is_named(guest, tmp_path):
    with pytest.raises(NoSuchFile):
        guest.get(f"{tmp_path}/nothing", tmp_path / "x", deadline=soon())
    with pytest.raises(NoSuchFile):
        guest.read_bytes(f"{tmp_path}/nothing")
    with pytest.raises(NoSuchFile):
        guest.listdir(f"{tmp_path}/nothing")
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(NoSuchFile):
        guest.put(tmp_path / "source", f"{tmp_path}/no/folder", deadline=soon())
    with pytest.raises(UsageError):
        guest.put(tmp_path / "source", "relative/path", deadline=soon())
    with pytest.raises(UsageError):
        guest.get(str(tmp_path), tmp_path / "x", deadline=soon())


def test_read_bytes_is_bounded(guest, tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    assert len(guest.read_bytes(f"{tmp_path}/file", limit=1000)) == 1000
    with pytest.raises(CommandFailed):
        guest.read_bytes(f"{tmp_path}/file", limit=999)


def test_exists(guest, tmp_path):
    assert guest.exists(str(tmp_path))
    assert not guest.exists(f"{tmp_path}/nothing")


def test_files_of_root_come_and_go_through_sudo(guest, sshd, tmp_path):
    sshd.stub("sudo", SUDO)
    sshd.stub("chown", "exit 0")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(700_000))
    guest.put(source, str(tmp_path / "there"), deadline=soon(), sudo=True)
    calls = (sshd.stubs / "sudo-calls").read_text()
    assert "mv -f /tmp/sysext-" in calls
    guest.get(str(tmp_path / "there"), tmp_path / "back", deadline=soon(), sudo=True)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    with pytest.raises(NoSuchFile):
        guest.get(f"{tmp_path}/nothing", tmp_path / "x", deadline=soon(), sudo=True)


class TestTrees:
    def test_a_folder_goes_and_comes_back_as_it_was(self, guest, tmp_path):
        tree = tmp_path / "My App.app"
        (tree / "Contents/MacOS").mkdir(parents=True)
        (tree / "Contents/MacOS/My App").write_bytes(os.urandom(3 << 20))
        (tree / "Contents/MacOS/My App").chmod(0o755)
        (tree / "Contents/Info 'ü'.plist").write_bytes(b"<plist/>")
        (tree / "Contents/Current").symlink_to("MacOS")
        (tree / "empty").mkdir()
        there = tmp_path / "there/My App.app"
        there.parent.mkdir()
        guest.put_tree(tree, str(there), deadline=soon())
        guest.put_tree(tree, str(there), deadline=soon())  # replaces what is there
        guest.get_tree(str(there), tmp_path / "back", deadline=soon())
        for copy in (there, tmp_path / "back"):
            assert (copy / "Contents/MacOS/My App").read_bytes() == (tree / "Contents/MacOS/My App").read_bytes()
            assert stat.S_IMODE((copy / "Contents/MacOS/My App").stat().st_mode) == 0o755
            assert (copy / "Contents/Info 'ü'.plist").read_bytes() == b"<plist/>"
            assert (copy / "Contents/Current").readlink() == Path("MacOS")
            assert (copy / "empty").is_dir()
        assert sorted(path.name for path in there.parent.iterdir()) == ["My App.app"]

    def test_nothing_is_left_when_the_guest_cannot_unpack(self, guest, sshd, tmp_path):
        sshd.stub("tar", "cat > /dev/null; echo tar: no >&2; exit 1")
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/file").write_bytes(bytes(1 << 20))
        (tmp_path / "there").mkdir()
        with pytest.raises(CommandFailed, match="tar: no"):
            guest.put_tree(tmp_path / "tree", f"{tmp_path}/there/tree", deadline=soon())
        assert list((tmp_path / "there").iterdir()) == []

    @pytest.mark.parametrize("kind", ["up", "absolute", "link", "device"])
    def test_an_archive_of_a_hostile_guest_does_not_leave_the_folder(self, guest, sshd, tmp_path, kind):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            if kind == "link":
                link = tarfile.TarInfo("link")
                link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
                tar.addfile(link)
            name = {"up": "../evil", "absolute": str(tmp_path / "evil"), "link": "link/evil", "device": "null"}[kind]
            info = tarfile.TarInfo(name)
            if kind == "device":
                info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
            tar.addfile(info, io.BytesIO())
        (tmp_path / "outside").mkdir()
        (tmp_path / "evil.tar").write_bytes(archive.getvalue())
        sshd.stub("tar", f"cat {tmp_path}/evil.tar")
        (tmp_path / "target").mkdir()
        try:
            guest.get_tree("/somewhere", tmp_path / "target/copy", deadline=soon())
        except HarnessError:
            pass
        else:
            assert kind == "absolute"  # made relative, as tar does
        assert not (tmp_path / "evil").exists()
        assert not (tmp_path / "target/evil").exists()
        assert list((tmp_path / "outside").iterdir()) == []

    def test_a_folder_that_is_too_large_or_not_there(self, guest, tmp_path):
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/file").write_bytes(bytes(300_000))
        with pytest.raises(CommandFailed, match="at most"):
            guest.get_tree(str(tmp_path / "tree"), tmp_path / "back", deadline=soon(), max_bytes=100_000)
        with pytest.raises(NoSuchFile):
            guest.get_tree(f"{tmp_path}/nothing", tmp_path / "back", deadline=soon())
        assert not (tmp_path / "back").exists()
