"""Put one release on one Mac, and take it off again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from harness import events
from harness.bundles.app import AppBundle
from harness.errors import EnvironmentFailure, UsageError
from harness.guest import CommandFailed, Guest
from harness.waiting import Deadline

APPLICATIONS = "/Applications"
QUARANTINE = "0181;{stamp:08x};Safari;{token}"
"""Value of com.apple.quarantine as a browser download has it: flags;time;agent;UUID (LaunchServices)."""
TIDY_SECONDS = 20.0
"""What putting things in order after a failure may take, whatever is left of the deadline."""
_REPLACE = 'rm -rf -- "$2" && mv -- "$1" "$2"'


def install_bundle(
    guest: Guest, bundle: AppBundle, *, deadline: Deadline, folder: str = APPLICATIONS, quarantine: bool = False
) -> str:
    """Copy an .app into `folder` as its installer would: staged, then moved in place as a whole; returns its guest path.

    An app of that name that is there is replaced, never merged into: a merged bundle is a broken signature. When it
    fails, what was there before still is, and nothing half-copied lies about.

    Args:
        guest: The Mac.
        bundle: What to install.
        deadline: For all of it.
        folder: `/Applications`, or elsewhere to test that it is refused there.
        quarantine: Set com.apple.quarantine, as on a downloaded app.

    Raises:
        UsageError: The target is not an .app below a folder.
        CommandFailed: The Mac did not take it.
        EnvironmentFailure: macOS guards the app that is there.
    """
    name = bundle.path.name
    target = app_path(str(PurePosixPath(folder) / name))
    with (
        events.step("install", app=name, version=f"{bundle.short}/{bundle.build}", into=folder, how="copy"),
        scratch_folder(guest, deadline) as scratch,
    ):
        guest.put_tree(bundle.path, f"{scratch}/{name}", deadline=deadline)
        place(guest, f"{scratch}/{name}", target, deadline)
        if quarantine:
            set_quarantine(guest, target, deadline=deadline)
    return target


def install_package(guest: Guest, package: Path, *, deadline: Deadline) -> None:
    """Install a .pkg with `installer`.

    Raises:
        UsageError: There is no such file.
        CommandFailed: `installer` did not take it.
    """
    require_file(package)
    with events.step("install", app=package.name, how="pkg"), scratch_folder(guest, deadline) as scratch:
        remote = f"{scratch}/{package.name}"
        guest.put(package, remote, deadline=deadline)
        guest.run(["installer", "-pkg", remote, "-target", "/"], deadline=deadline, sudo=True)


def install_disk_image(
    guest: Guest, image: Path, app_name: str, *, deadline: Deadline, folder: str = APPLICATIONS
) -> str:
    """Attach a .dmg, copy `app_name`.app out of it as a person would, detach; returns the guest path.

    An app that is there is replaced as a whole, and only once the new one was copied.

    Raises:
        UsageError: `app_name` is no file name, the target is not an .app below a folder, or there is no such image.
        CommandFailed: It cannot be attached, or holds no such app.
    """
    name = f"{app_name.removesuffix('.app')}.app"
    if "/" in name:
        raise UsageError("the name of an app in a disk image", seen=repr(app_name), hint="a name, not a path")
    target = app_path(str(PurePosixPath(folder) / name))
    require_file(image)
    with events.step("install", app=image.name, how="dmg"), scratch_folder(guest, deadline) as scratch:
        remote, mount = f"{scratch}/{image.name}", f"{scratch}/volume"
        guest.put(image, remote, deadline=deadline)
        guest.run(["mkdir", mount], deadline=deadline)
        guest.run(
            ["hdiutil", "attach", "-nobrowse", "-noautoopen", "-readonly", "-mountpoint", mount, remote],
            deadline=deadline,
        )
        try:
            place(guest, f"{mount}/{name}", target, deadline)
        finally:
            tidy(guest, ["hdiutil", "detach", mount, "-force"])
    return target


def set_quarantine(guest: Guest, path: str, *, deadline: Deadline) -> None:
    """Mark a file or bundle as downloaded: the attribute on it and on everything in it."""
    value = QUARANTINE.format(stamp=0x66000000, token="00000000-0000-0000-0000-000000000000")  # noqa: S106 - not a secret
    with _permitted(guest, path):
        guest.run(["xattr", "-w", "-r", "com.apple.quarantine", value, path], deadline=deadline, sudo=True)


def remove_app(guest: Guest, path: str, *, deadline: Deadline) -> None:
    """Delete an installed app. macOS then removes its extension, at the latest at the next boot (see docs/contracts.md).

    Raises:
        UsageError: The path is not an .app below a folder: nothing else is ever removed recursively.
    """
    app_path(path)
    with events.step("remove", app=path), _permitted(guest, path):
        guest.run(["rm", "-rf", path], deadline=deadline, sudo=True)


def app_path(path: str) -> str:
    """`path`, if it is one that may be replaced or removed as root: absolute, an .app with a name, below a folder.

    Raises:
        UsageError: It is not.
    """
    parts = path.split("/")
    good = len(parts) > 2 and not parts[0] and all(parts[1:]) and not {".", ".."} & set(parts) and "\0" not in path
    if not good or not path.endswith(".app") or parts[-1] == ".app":
        raise UsageError(
            "the path of an .app in the guest",
            seen=repr(path),
            hint="such as /Applications/Example.app, nothing relative",
        )
    return path


def require_file(path: Path) -> None:
    """That there is a file on this host.

    Raises:
        UsageError: There is none.
    """
    if not path.is_file():
        raise UsageError("a file to install from", seen=f"{path} is none", hint="check the path")


def place(guest: Guest, source: str, target: str, deadline: Deadline) -> None:
    """Copy beside the target first, then put the copy in its place: `ditto` into an app that is there would merge."""
    folder, _, name = target.rpartition("/")
    incoming = f"{folder}/.{name}.{events.current().new_id()}"
    guest.run(["mkdir", "-p", folder], deadline=deadline, sudo=True)
    try:
        with _permitted(guest, target):
            guest.run(["ditto", source, incoming], deadline=deadline, sudo=True)
            guest.script(_REPLACE, incoming, target, deadline=deadline, sudo=True)
    except BaseException:
        tidy(guest, ["rm", "-rf", incoming], sudo=True)
        raise


@contextlib.contextmanager
def _permitted(guest: Guest, target: str) -> Iterator[None]:
    """Root that may not touch an app is neither the product's failure nor ours: macOS 13 and later guard installed apps
    (App Management), from sessions over SSH too unless Remote Login users have Full Disk Access.
    """
    try:
        yield
    except CommandFailed as error:
        if error.result is None or b"Operation not permitted" not in error.result.stderr:
            raise
        raise EnvironmentFailure(
            f"{target} on {guest.name} to be ours to replace",
            seen=error.seen,
            hint="in the image, allow full disk access for Remote Login users (App Management guards installed apps)",
        ) from error


@contextlib.contextmanager
def scratch_folder(guest: Guest, deadline: Deadline) -> Iterator[str]:
    """A new folder in the guest, removed at the end."""
    folder = f"/private/tmp/sysext-install-{events.current().new_id()}"
    guest.run(["mkdir", folder], deadline=deadline)
    try:
        yield folder
    finally:
        tidy(guest, ["rm", "-rf", folder])


def tidy(guest: Guest, argv: list[str], *, sudo: bool = False) -> None:
    """Clean up with time of its own, and never in the way of the error that made it necessary."""
    try:
        guest.run(argv, deadline=Deadline.after(TIDY_SECONDS), sudo=sudo, check=False)
    except Exception as error:  # noqa: BLE001 - a disposable Mac; what counts is what went wrong before
        events.event("degraded", what=f"`{argv[0]}` could not clean up", reason=f"{type(error).__name__}: {error}")
