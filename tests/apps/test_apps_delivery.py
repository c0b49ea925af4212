"""The ways in which a newer release gets over an older one, on a simulated Mac: the right build lies there, nothing else is left."""

from __future__ import annotations

import plistlib
from typing import Any, get_args

import pytest

from harness import events
from harness.apps import delivery, installing
from harness.bundles.app import AppBundle
from harness.config import AppFile, Release, UpdaterSpec
from harness.errors import ProductFailure, UsageError
from harness.guest import CommandFailed, Guest
from harness.waiting import Deadline

APP = "/Applications/Mitmproxy Redirector.app"


def _version(guest: Guest) -> str:
    data = plistlib.loads(guest.run(["cat", f"{APP}/Contents/Info.plist"], deadline=Deadline.after(30)).stdout)
    return f"{data['CFBundleShortVersionString']} ({data['CFBundleVersion']})"


def _release(version: str = "0.11.5", **more: Any) -> Release:
    return Release(version=version, source="pypi:x==1", **more)


@pytest.fixture(autouse=True)
def old_one(guest: Guest, older: AppBundle, deadline: Deadline) -> Any:
    """Each test begins with the older release, and none leaves anything but an app behind."""
    installing.install_bundle(guest, older, deadline=deadline)
    yield
    left = guest.run(["ls", "-A", "/private/tmp"], deadline=Deadline.after(30)).text.splitlines()
    assert [name for name in left if name.startswith("sysext-")] == []
    beside = guest.run(["ls", "-A", "/Applications"], deadline=Deadline.after(30)).text.splitlines()
    assert [name for name in beside if name.startswith(".M")] == []
    volumes = guest.run(["hdiutil", "info"], check=False, deadline=Deadline.after(30)).text
    assert "/private/tmp/sysext-" not in volumes


@pytest.mark.parametrize("how", get_args(delivery.Way))
def test_the_newer_release_lies_there(
    guest: Guest, newer: AppBundle, app: AppFile, how: Any, deadline: Deadline, seen: list[events.Record]
) -> None:
    before = _version(guest)
    assert delivery.deliver(guest, newer, how, app=app, release=_release(), deadline=deadline) == APP
    assert _version(guest) == f"{newer.short} ({newer.build})" != before
    begun = [record for record in seen if record["type"] == "start" and record["name"] == "deliver"]
    assert [record["attributes"]["how"] for record in begun] == [how]


def test_a_package_leaves_a_newer_app_and_that_is_noticed(
    guest: Guest, older: AppBundle, newer: AppBundle, app: AppFile, deadline: Deadline
) -> None:
    installing.install_bundle(guest, newer, deadline=deadline)
    with pytest.raises(ProductFailure) as caught:
        delivery.deliver(guest, older, "pkg", app=app, release=_release("0.11.4"), deadline=deadline)
    assert "BundleIsVersionChecked" in caught.value.hint
    assert f"{newer.short} ({newer.build})" in caught.value.seen


def test_another_executable_of_the_same_version_is_noticed(
    guest: Guest, older: AppBundle, app: AppFile, deadline: Deadline
) -> None:
    guest.script(f'printf x >> "{APP}/Contents/MacOS/{older.executable.path.name}"', sudo=True, deadline=deadline)
    with pytest.raises(ProductFailure, match="another executable"):
        delivery.expect_delivered(guest, older, APP, "dmg", deadline=deadline)


def test_an_updater_that_fails_leaves_the_old_app(
    guest: Guest, older: AppBundle, newer: AppBundle, app: AppFile, deadline: Deadline
) -> None:
    failing = app.model_copy(update={"updater": UpdaterSpec(command=["/bin/sh", "-c", "echo no room >&2; exit 3"])})
    with pytest.raises(CommandFailed, match="no room"):
        delivery.deliver(guest, newer, "updater", app=failing, release=_release(), deadline=deadline)
    assert _version(guest) == f"{older.short} ({older.build})"


def test_an_updater_that_forgets_its_work_is_noticed(
    guest: Guest, newer: AppBundle, app: AppFile, deadline: Deadline
) -> None:
    idle = app.model_copy(update={"updater": UpdaterSpec(command=["true"])})
    with pytest.raises(ProductFailure, match="after the delivery by updater"):
        delivery.deliver(guest, newer, "updater", app=idle, release=_release(), deadline=deadline)


def test_the_app_files_own_updater_gets_app_new_and_pid(
    guest: Guest, newer: AppBundle, app: AppFile, deadline: Deadline
) -> None:
    script = 'rm -rf "$1" && mv "$2" "$1" && echo "pid $3" > /private/tmp/updater-was-here'
    command = ["/bin/sh", "-c", script, "updater", "{app}", "{new}", "{pid}"]
    own = app.model_copy(update={"updater": UpdaterSpec(command=command, sudo=True)})
    delivery.deliver(guest, newer, "updater", app=own, release=_release(), deadline=deadline)
    assert _version(guest) == f"{newer.short} ({newer.build})"
    assert guest.run(["cat", "/private/tmp/updater-was-here"], deadline=deadline).text == "pid 0\n"


def test_no_preinstall_without_a_configuration(
    guest: Guest, newer: AppBundle, app: AppFile, deadline: Deadline
) -> None:
    bare = app.model_copy(update={"configuration": None})
    with pytest.raises(UsageError, match="configuration"):
        delivery.deliver(guest, newer, "pkg-preinstall", app=bare, release=_release(), deadline=deadline)
