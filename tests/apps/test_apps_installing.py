"""Installing on a simulated Mac: whole or not at all, nothing merged, nothing left behind, nothing else removed."""

from __future__ import annotations

import plistlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import events
from harness.apps import installing
from harness.bundles.app import AppBundle, open_app
from harness.errors import EnvironmentFailure, UsageError
from harness.guest import CommandFailed, Guest, Result
from harness.waiting import Deadline
from tests.support import bundle_builders

APP = "/Applications/Mitmproxy Redirector.app"


def _lines(guest: Guest, *argv: str, check: bool = True) -> list[str]:
    return guest.run(list(argv), check=check, deadline=Deadline.after(30)).text.splitlines()


def _build(guest: Guest, path: str) -> str:
    data = plistlib.loads(guest.run(["cat", f"{path}/Contents/Info.plist"], deadline=Deadline.after(30)).stdout)
    return str(data["CFBundleExecutable"])


@pytest.fixture(autouse=True)
def tidy(guest: Guest) -> object:
    """Each test begins without the app, and none leaves anything but an app behind."""
    guest.run(["rm", "-rf", APP], sudo=True, deadline=Deadline.after(30))
    yield
    assert [name for name in _lines(guest, "ls", "-A", "/private/tmp") if name.startswith("sysext-")] == []
    assert [name for name in _lines(guest, "ls", "-A", "/Applications") if name.startswith(".M")] == []


def test_a_bundle_arrives_whole(guest: Guest, newer: AppBundle, deadline: Deadline, tmp_path: Path) -> None:
    path = installing.install_bundle(guest, newer, deadline=deadline)
    assert path == APP
    guest.get_tree(path, tmp_path / newer.path.name, deadline=deadline)
    copy = open_app(tmp_path / newer.path.name)
    assert (copy.identifier, copy.short, copy.build) == (newer.identifier, newer.short, newer.build)
    theirs = {str(item.relative_to(newer.path)) for item in newer.path.rglob("*")}
    assert {str(item.relative_to(copy.path)) for item in copy.path.rglob("*")} == theirs
    for item in newer.path.rglob("*"):
        if item.is_file():
            assert (copy.path / item.relative_to(newer.path)).read_bytes() == item.read_bytes()
    assert (copy.executable.path.stat().st_mode & 0o111) != 0


def test_an_upgrade_leaves_no_stale_file(
    guest: Guest, older: AppBundle, newer: AppBundle, deadline: Deadline, tmp_path: Path
) -> None:
    fuller = tmp_path / older.path.name
    shutil.copytree(older.path, fuller, symlinks=True)
    (fuller / "Contents" / "Resources" / "only in the old one").mkdir(parents=True)
    (fuller / "Contents" / "Resources" / "only in the old one" / "file").write_text("stale")
    installing.install_bundle(guest, open_app(fuller), deadline=deadline)
    assert "only in the old one" in "\n".join(_lines(guest, "find", APP))

    installing.install_bundle(guest, newer, deadline=deadline)

    found = {line.removeprefix(APP).lstrip("/") for line in _lines(guest, "find", APP)} - {""}
    assert found == {str(item.relative_to(newer.path)) for item in newer.path.rglob("*")}


def test_what_was_left_half_way_by_another_run_is_not_merged_into(
    guest: Guest, newer: AppBundle, deadline: Deadline
) -> None:
    guest.run(["mkdir", "-p", f"{APP}.incoming/Contents/old"], sudo=True, deadline=deadline)
    installing.install_bundle(guest, newer, deadline=deadline)
    assert not [line for line in _lines(guest, "find", APP) if line.endswith("/old")]
    guest.run(["rm", "-rf", f"{APP}.incoming"], sudo=True, deadline=deadline)


def test_another_folder_is_made(guest: Guest, newer: AppBundle, deadline: Deadline) -> None:
    folder = "/Users/Shared/Some where/else"
    path = installing.install_bundle(guest, newer, deadline=deadline, folder=folder)
    assert path == f"{folder}/Mitmproxy Redirector.app"
    assert _build(guest, path) == "Mitmproxy Redirector"
    assert _lines(guest, "ls", "-A", folder) == ["Mitmproxy Redirector.app"]


def test_a_failure_keeps_what_was_there(
    guest: Guest, newer: AppBundle, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    installing.install_bundle(guest, newer, deadline=deadline)
    before = _lines(guest, "find", APP)
    real = guest.run

    def run(argv: list[str], **options: object) -> object:
        if argv[0] == "ditto":
            real(argv, **options)  # type: ignore[arg-type]
            return real(["ditto", "/nowhere", "/private/tmp/x"], **options)  # type: ignore[arg-type]
        return real(argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(guest, "run", run)
    with pytest.raises(CommandFailed, match="ditto"):
        installing.install_bundle(guest, newer, deadline=deadline)
    monkeypatch.undo()
    assert _lines(guest, "find", APP) == before


def test_cleaning_up_never_hides_what_went_wrong(
    guest: Guest, newer: AppBundle, deadline: Deadline, monkeypatch: pytest.MonkeyPatch, seen: list[events.Record]
) -> None:
    real = guest.run

    def run(argv: list[str], **options: object) -> object:
        if argv[:2] == ["rm", "-rf"] and "sysext-install" in argv[2]:
            real(argv, **options)  # type: ignore[arg-type]
            raise OSError("the broom broke")
        if argv[0] == "ditto":
            raise CommandFailed("ditto to work", seen="no", hint="", result=None)
        return real(argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(guest, "run", run)
    with pytest.raises(CommandFailed, match="ditto to work"):
        installing.install_bundle(guest, newer, deadline=deadline)
    (told,) = [record for record in seen if record["name"] == "degraded"]
    assert "the broom broke" in told["attributes"]["reason"]


def test_an_app_that_macos_guards_is_the_environments_matter(
    guest: Guest, newer: AppBundle, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    installing.install_bundle(guest, newer, deadline=deadline)
    real = guest.run

    def run(argv: list[str], **options: object) -> object:
        """As App Management refuses it, to root too."""
        if argv[0] in ("rm", "/bin/sh", "xattr") and APP in argv:
            said = f"rm: {APP}/Contents/Info.plist: Operation not permitted\n".encode()
            return Result(tuple(argv), 1, b"", said, 0.1).check(guest.name)
        return real(argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(guest, "run", run)
    with pytest.raises(EnvironmentFailure, match="Operation not permitted") as caught:
        installing.install_bundle(guest, newer, deadline=deadline)
    assert "App Management" in caught.value.hint
    with pytest.raises(EnvironmentFailure, match="Operation not permitted"):
        installing.remove_app(guest, APP, deadline=deadline)
    with pytest.raises(EnvironmentFailure, match="Operation not permitted"):
        installing.set_quarantine(guest, APP, deadline=deadline)
    monkeypatch.undo()


def test_quarantine_is_set_on_the_bundle_and_all_in_it(guest: Guest, newer: AppBundle, deadline: Deadline) -> None:
    installing.install_bundle(guest, newer, deadline=deadline)
    attribute = ["xattr", "-p", "com.apple.quarantine"]
    plain = guest.run([*attribute, APP], check=False, deadline=deadline)
    assert plain.exit_code != 0
    installing.install_bundle(guest, newer, deadline=deadline, quarantine=True)
    for path in (APP, f"{APP}/Contents/Info.plist"):
        flags, stamp, agent, token = _lines(guest, *attribute, path)[0].split(";")
        assert (flags, agent, len(stamp), len(token)) == ("0181", "Safari", 8, 36)


def test_a_package(guest: Guest, newer: AppBundle, deadline: Deadline, tmp_path: Path) -> None:
    package = tmp_path / "Mitm proxy.pkg"
    package.write_bytes(bundle_builders.package(newer.path))
    installing.install_package(guest, package, deadline=deadline)
    assert _build(guest, APP) == "Mitmproxy Redirector"


def test_a_damaged_package(guest: Guest, deadline: Deadline, tmp_path: Path) -> None:
    package = tmp_path / "broken.pkg"
    package.write_bytes(b"xar!" + bytes(100))
    with pytest.raises(CommandFailed, match="installer"):
        installing.install_package(guest, package, deadline=deadline)


@pytest.fixture(scope="module")
def image(newer: AppBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("volume")
    shutil.copytree(newer.path, root / newer.path.name, symlinks=True)
    path = tmp_path_factory.mktemp("image") / "Mitm proxy.dmg"
    path.write_bytes(bundle_builders.udif(bundle_builders.HfsWriter(root, "Mitm").image()))
    return path


@pytest.mark.parametrize("name", ["Mitmproxy Redirector", "Mitmproxy Redirector.app"])
def test_a_disk_image(guest: Guest, newer: AppBundle, deadline: Deadline, image: Path, name: str) -> None:
    guest.run(["mkdir", "-p", f"{APP}/stale"], sudo=True, deadline=deadline)
    assert installing.install_disk_image(guest, image, name, deadline=deadline) == APP
    found = {line.removeprefix(APP).lstrip("/") for line in _lines(guest, "find", APP)} - {""}
    assert found == {str(item.relative_to(newer.path)) for item in newer.path.rglob("*")}
    assert "sysext-" not in guest.run(["hdiutil", "info"], check=False, deadline=deadline).text


def test_a_disk_image_without_that_app_changes_nothing(guest: Guest, deadline: Deadline, image: Path) -> None:
    guest.run(["mkdir", "-p", "/Applications/Other.app/Contents"], sudo=True, deadline=deadline)
    with pytest.raises(CommandFailed, match="ditto"):
        installing.install_disk_image(guest, image, "Other", deadline=deadline)
    assert _lines(guest, "ls", "/Applications/Other.app") == ["Contents"]
    installing.remove_app(guest, "/Applications/Other.app", deadline=deadline)
    assert "Other.app" not in _lines(guest, "ls", "/Applications")


def test_a_damaged_disk_image(guest: Guest, deadline: Deadline, tmp_path: Path) -> None:
    broken = tmp_path / "broken.dmg"
    broken.write_bytes(bytes(4096))
    with pytest.raises(CommandFailed, match="hdiutil"):
        installing.install_disk_image(guest, broken, "Other", deadline=deadline)


def test_an_app_is_removed_and_nothing_else(guest: Guest, newer: AppBundle, deadline: Deadline) -> None:
    before = _lines(guest, "ls", "-A", "/Applications")
    installing.install_bundle(guest, newer, deadline=deadline)
    installing.remove_app(guest, APP, deadline=deadline)
    assert _lines(guest, "ls", "-A", "/Applications") == before


def test_a_file_that_is_not_there(image_of_nothing: Guest, tmp_path: Path) -> None:
    for install in (
        lambda: installing.install_package(image_of_nothing, tmp_path / "nowhere.pkg", deadline=Deadline(1)),
        lambda: installing.install_disk_image(image_of_nothing, tmp_path / "nowhere.dmg", "A", deadline=Deadline(1)),
    ):
        with pytest.raises(UsageError, match="nowhere"):
            install()


HOSTILE = [
    "/", "/Applications", "/Applications/", "/Applications/../x.app", "/Applications/./x.app", "/x.app", "//x.app",
    "x.app", "a/b/x.app", "~/x.app", "/Applications/.app", "/Applications/x.app/", "/Applications/a\0b.app", "",
    "/Applications//x.app",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_paths_are_refused_before_anything_runs(path: str, image_of_nothing: Guest, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        installing.remove_app(image_of_nothing, path, deadline=Deadline(1))
    assert caught.value.hint
    if path.endswith(".app") and "/" in path.strip("/"):
        with pytest.raises(UsageError):
            installing.install_disk_image(image_of_nothing, tmp_path / "x.dmg", path, deadline=Deadline(1))


@pytest.mark.parametrize("name", ["../../Users/admin", "a/b", "..", ".", ""])
def test_hostile_names_of_apps_are_refused(name: str, image_of_nothing: Guest, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        installing.install_disk_image(
            image_of_nothing, tmp_path / "x.dmg", name, deadline=Deadline(1), folder="Here/.."
        )


@pytest.fixture
def image_of_nothing() -> Guest:
    """A guest that must not be asked anything."""

    class Untouchable:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"guest.{name} was used")

    return Untouchable()  # type: ignore[return-value]


@given(st.text(max_size=60).map(lambda text: f"/{text}.app") | st.text(max_size=60))
def test_what_may_be_removed_is_always_an_app_below_a_folder(text: str) -> None:
    try:
        path = installing.app_path(text)
    except UsageError:
        return
    assert path == text
    parts = Path(path).parts
    assert parts[0] == "/"
    assert len(parts) >= 3
    assert ".." not in parts
    assert parts[-1].endswith(".app")
    assert parts[-1] != ".app"
    assert str(Path(path)) == path
