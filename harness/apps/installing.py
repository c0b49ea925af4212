"""Put one release on one Mac, and take it off again."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath

from harness import events
from harness.bundles.app import AppBundle
from harness.errors import UsageError
from harness.guest import Guest
from harness.waiting import Deadline

APPLICATIONS = "/Applications"
QUARANTINE = "0181;{stamp:08x};Safari;{token}"
"""Value of com.apple.quarantine as a browser download has it: flags;time;agent;UUID (LaunchServices)."""


def install_bundle(
    guest: Guest, bundle: AppBundle, *, deadline: Deadline, folder: str = APPLICATIONS, quarantine: bool = False
) -> str:
    """Copy an .app into `folder` as its installer would: staged, then moved in place as a whole; returns its guest path.

    An app of that name that is there is replaced, never merged into: a merged bundle is a broken signature.

    Args:
        guest: The Mac.
        bundle: What to install.
        deadline: For all of it.
        folder: `/Applications`, or elsewhere to test that it is refused there.
        quarantine: Set com.apple.quarantine, as on a downloaded app.
    """
    target = str(PurePosixPath(folder) / bundle.path.name)
    with events.step(
        "install", app=bundle.path.name, version=f"{bundle.short}/{bundle.build}", into=folder, how="copy"
    ):
        staging = f"/private/tmp/sysext-install-{events.current().new_id()}"
        guest.run(["mkdir", "-p", staging], deadline=deadline)
        try:
            guest.put_tree(bundle.path, f"{staging}/{bundle.path.name}", deadline=deadline)
            guest.run(["mkdir", "-p", folder], deadline=deadline, sudo=True)
            incoming = f"{target}.incoming"
            guest.run(["ditto", f"{staging}/{bundle.path.name}", incoming], deadline=deadline, sudo=True)
            quoted, arriving = shlex.quote(target), shlex.quote(incoming)
            guest.run(["/bin/sh", "-c", f"rm -rf {quoted} && mv {arriving} {quoted}"], deadline=deadline, sudo=True)
        finally:
            guest.run(["rm", "-rf", staging], deadline=deadline, check=False)
        if quarantine:
            set_quarantine(guest, target, deadline=deadline)
    return target


def install_package(guest: Guest, package: Path, *, deadline: Deadline) -> None:
    """Install a .pkg with `installer`."""
    with events.step("install", app=package.name, how="pkg"):
        remote = f"/private/tmp/{package.name}"
        guest.put(package, remote, deadline=deadline)
        try:
            guest.run(["installer", "-pkg", remote, "-target", "/"], deadline=deadline, sudo=True)
        finally:
            guest.run(["rm", "-f", remote], deadline=deadline, check=False)


def install_disk_image(
    guest: Guest, image: Path, app_name: str, *, deadline: Deadline, folder: str = APPLICATIONS
) -> str:
    """Attach a .dmg, copy `app_name`.app out of it as a person would, detach; returns the guest path."""
    with events.step("install", app=image.name, how="dmg"):
        remote = f"/private/tmp/{image.name}"
        mount = f"/private/tmp/sysext-mount-{events.current().new_id()}"
        target = str(PurePosixPath(folder) / f"{app_name}.app")
        guest.put(image, remote, deadline=deadline)
        guest.run(["mkdir", "-p", mount], deadline=deadline)
        attached = False
        try:
            guest.run(
                ["hdiutil", "attach", "-nobrowse", "-noautoopen", "-readonly", "-mountpoint", mount, remote],
                deadline=deadline,
            )
            attached = True
            guest.run(["rm", "-rf", target], deadline=deadline, sudo=True)
            guest.run(["ditto", f"{mount}/{app_name}.app", target], deadline=deadline, sudo=True)
        finally:
            if attached:
                guest.run(["hdiutil", "detach", mount, "-force"], deadline=deadline, check=False)
            guest.run(["rm", "-rf", remote], deadline=deadline, check=False)
    return target


def set_quarantine(guest: Guest, path: str, *, deadline: Deadline) -> None:
    """Mark a file or bundle as downloaded."""
    value = QUARANTINE.format(stamp=0x66000000, token="00000000-0000-0000-0000-000000000000")  # noqa: S106 - not a secret
    guest.run(["xattr", "-w", "-r", "com.apple.quarantine", value, path], deadline=deadline, sudo=True)


def remove_app(guest: Guest, path: str, *, deadline: Deadline) -> None:
    """Delete an installed app. macOS then removes its extension, at the latest at the next boot (see docs/contracts.md).

    Raises:
        UsageError: The path is not an .app below a folder: nothing else is ever removed recursively.
    """
    if not path.endswith(".app") or path.count("/") < 2 or ".." in PurePosixPath(path).parts:
        raise UsageError("the path of an installed .app", seen=path)
    with events.step("remove", app=path):
        guest.run(["rm", "-rf", path], deadline=deadline, sudo=True)
