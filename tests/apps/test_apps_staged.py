"""The staged copy compared with what was installed: copies laid out in a simulated Mac as sysextd lays them out."""

from __future__ import annotations

import plistlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import events
from harness.apps.oracle import DATABASE
from harness.apps.staged import FOLDER, StagedCopyWrong, check_staged, expect_staged, parse_flags
from harness.bundles.app import AppBundle, SystemExtensionBundle
from harness.config import AppFile
from harness.guest import Guest
from harness.waiting import Deadline

UUID = "4F5DAC81-7ACD-42C8-95F5-0A4CDE8C4701"
Stage = Callable[..., str]


@pytest.fixture
def installed(newer: AppBundle, app: AppFile) -> SystemExtensionBundle:
    return newer.require_extension(app.extension.id)


@pytest.fixture
def stage(guest: Guest, tmp_path: Path, deadline: Deadline) -> Iterator[Stage]:
    """Lay out a staged copy and a db.plist that names it; returns the copy's path."""
    folder = f"{FOLDER}/{UUID}"

    def make(
        copy: SystemExtensionBundle,
        *,
        version: tuple[str, str] = ("2.0", "1"),
        cdhashes: tuple[str, ...] = (),
        files: bool = True,
    ) -> str:
        path = f"{folder}/{copy.path.name}"
        if files:
            guest.run(["mkdir", "-p", folder], deadline=deadline, sudo=True)
            guest.put_tree(copy.path, path, deadline=deadline, sudo=True)
        entry: dict[str, Any] = {
            "identifier": copy.identifier,
            "teamID": "S8XHQB96PW",
            "uniqueID": UUID,
            "state": "activated_enabled",
            "categories": ["com.apple.system_extension.network_extension"],
            "bundleVersion": dict(zip(("CFBundleShortVersionString", "CFBundleVersion"), version, strict=True)),
        }
        if cdhashes:
            entry["stagedCdhashes"] = {value: {"cputype": 1, "cpusubtype": 0} for value in cdhashes}
        local = tmp_path / "db.plist"
        local.write_bytes(plistlib.dumps({"version": 1, "bootUUID": UUID, "extensions": [entry]}))
        guest.put(local, DATABASE, deadline=deadline, sudo=True)
        return path

    yield make
    guest.run(["rm", "-rf", folder, DATABASE], deadline=deadline, sudo=True)


def codes(guest: Guest, extension: SystemExtensionBundle, deadline: Deadline, **more: bool) -> list[str]:
    return [problem.code for problem in check_staged(guest, extension, deadline=deadline, **more).problems]


def test_the_same_copy(guest: Guest, stage: Stage, installed: SystemExtensionBundle, deadline: Deadline) -> None:
    path = stage(installed)
    found = check_staged(guest, installed, deadline=deadline)
    assert (found.path, found.how, found.problems, found.stale) == (path, "files", (), False)
    assert found.staged == found.installed == {p.arch: (p.uuid, p.cdhash) for p in installed.executable.slices}
    assert expect_staged(guest, installed, deadline=deadline) == found


def test_an_older_copy_under_the_same_version(
    guest: Guest,
    stage: Stage,
    installed: SystemExtensionBundle,
    older: AppBundle,
    deadline: Deadline,
    seen: list[events.Record],
) -> None:
    old = older.require_extension(installed.identifier)
    stage(old)
    found = check_staged(guest, installed, deadline=deadline)
    assert [problem.code for problem in found.problems] == ["staged-version", "staged-stale", "staged-stale"]
    assert found.stale
    assert {uuid for uuid, _ in found.staged.values()} == set(old.executable.uuids.values())
    with pytest.raises(StagedCopyWrong) as caught:
        expect_staged(guest, installed, deadline=deadline)
    assert old.executable.uuids["arm64"] in caught.value.seen
    assert installed.executable.uuids["arm64"] in caught.value.seen
    assert {record["attributes"]["code"] for record in seen if record["name"] == "staged-copy"} == {
        "staged-version",
        "staged-stale",
    }


def test_the_database_alone_tells_the_right_copy_but_never_a_wrong_one(
    guest: Guest, stage: Stage, installed: SystemExtensionBundle, older: AppBundle, deadline: Deadline
) -> None:
    stage(installed, cdhashes=tuple(installed.executable.cdhashes.values()))
    assert check_staged(guest, installed, deadline=deadline).how == "database"
    assert check_staged(guest, installed, deadline=deadline, files=True).how == "files"
    old = older.require_extension(installed.identifier)
    stage(old, cdhashes=tuple(old.executable.cdhashes.values()))
    assert check_staged(guest, installed, deadline=deadline).how == "files"
    assert "staged-stale" in codes(guest, installed, deadline)


def test_a_damaged_copy(guest: Guest, stage: Stage, installed: SystemExtensionBundle, deadline: Deadline) -> None:
    path = stage(installed)
    plist = f"{path}/Contents/Info.plist"
    guest.script('printf "<!-- x -->" >> "$1"', plist, deadline=deadline, sudo=True)
    assert "staged-damaged" in codes(guest, installed, deadline)


def test_immutable_flags(
    guest: Guest,
    stage: Stage,
    installed: SystemExtensionBundle,
    deadline: Deadline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The simulated disk keeps no flags: the listing is one as a Mac prints it."""
    path = stage(installed)
    listing = f"{path}/Contents:\n-rw-r--r--  1 root  wheel  uchg 1234 Jan 29 09:41 Info.plist\n"
    real = guest.run

    def run(argv: list[str], **more: Any) -> Any:
        if argv[0] != "ls":
            return real(argv, **more)
        return real(["printf", "%s", listing], **more)

    monkeypatch.setattr(guest, "run", run)
    (problem,) = check_staged(guest, installed, deadline=deadline).problems
    assert (problem.code, problem.where) == ("staged-immutable", f"{path}/Contents/Info.plist")
    expect_staged(guest, installed, deadline=deadline)  # it works today


def test_no_copy(guest: Guest, stage: Stage, installed: SystemExtensionBundle, deadline: Deadline) -> None:
    stage(installed, files=False)
    assert codes(guest, installed, deadline) == ["staged-missing"]
    stage(installed, version=("1.0", "1"))
    assert codes(guest, installed, deadline) == ["staged-missing"], "of another version only"
    guest.run(["rm", DATABASE], deadline=deadline, sudo=True)
    with pytest.raises(StagedCopyWrong):
        expect_staged(guest, installed, deadline=deadline)


LISTING = """\
total 16
drwxr-xr-x  3 root  wheel  -    96 Jan 29 09:41 Contents

/L/x/Contents:
total 8
-rw-r--r--@ 1 root  wheel  schg,hidden 1234 29 Jan 09:41 Info.plist
-rwxr-xr-x  1 root  wheel  compressed 99 Jan 29 2025 a file
lrwxr-xr-x  1 root  wheel  uchg   4 Jan 29 09:41 Current -> A
"""


def test_flags_in_a_listing() -> None:
    assert list(parse_flags(LISTING, "/L/x")) == [
        ("/L/x/Contents/Info.plist", "schg,hidden"),
        ("/L/x/Contents/Current", "uchg"),
    ]


@given(st.text(max_size=200) | st.lists(st.sampled_from(LISTING.splitlines()), max_size=9).map("\n".join))
def test_any_listing_is_read(text: str) -> None:
    for place, flags in parse_flags(text, "/top"):
        assert place.startswith("/")
        assert re.fullmatch(r"[a-z,]+", flags)
