"""The ways in which a newer release gets over an older one that is there, and may be running.

    pkg             the release's own package, or one made on the Mac with pkgbuild(1), through installer(8)
    pkg-preinstall  such a package, whose preinstall script stops the tunnel first (scutil(8) `--nc stop`)
    dmg             a disk image (hdiutil(1)), mounted, and the app copied from it over the one that runs
    updater         what in-app updaters do: quit, move aside, move in place; or the app file's own command
    delete-first    the app is deleted, then the new one copied

None of them starts the app again: the activation that follows does. Each looks afterwards whether the app that lies there is the
one that was meant, for `installer` may well succeed and leave a newer bundle alone (BundleIsVersionChecked, pkgbuild(1)). What was
made on the way is removed, whatever happens.
"""

from __future__ import annotations

import glob
import hashlib
import plistlib
import shlex
from pathlib import Path
from typing import Literal

from harness import events
from harness.apps.installing import (
    APPLICATIONS,
    app_path,
    install_bundle,
    place,
    remove_app,
    require_file,
    scratch_folder,
    set_quarantine,
    tidy,
)
from harness.bundles.app import AppBundle
from harness.config import AppFile, Release
from harness.errors import ProductFailure, SysextError, UsageError
from harness.guest import Guest
from harness.waiting import Deadline

Way = Literal["pkg", "pkg-preinstall", "dmg", "updater", "delete-first"]
PREINSTALL = """#!/bin/sh
# The tunnel is stopped before the files go; one that does not run is no reason not to install.
/usr/sbin/scutil --nc stop {name} || echo "no tunnel was stopped"
exit 0
"""
UPDATE = """
app=$1 new=$2 pid=$3 aside=$4
if [ "$pid" != 0 ]; then
  kill -TERM "$pid" 2>/dev/null; n=0
  while kill -0 "$pid" 2>/dev/null; do
    n=$((n+1)); if [ $n -gt 100 ]; then kill -KILL "$pid"; break; fi; sleep 0.1
  done
fi
mv -- "$app" "$aside" || exit 1
if mv -- "$new" "$app"; then rm -rf -- "$aside"; exit 0; fi
mv -- "$aside" "$app"; exit 1
"""
"""$1 the app, $2 the new one beside it, $3 the running app's process or 0, $4 where the old one goes meanwhile. A failure leaves
the old one in place.
"""
MOST_PLIST = 1 << 20
_SPECIAL = {**{char: f"[{char}]" for char in ".*+?()|{}[$"}, "^": r"\^", "\\": r"\\"}
"""What an extended regular expression would take for something else, and how it takes it for itself."""


def deliver(guest: Guest, bundle: AppBundle, how: Way, *, app: AppFile, release: Release, deadline: Deadline) -> str:
    """Put a release over the one that is in /Applications; returns its guest path.

    Args:
        guest: The Mac.
        bundle: The release on this host.
        how: The way.
        app: The app file: its updater, its configuration.
        release: Which release it is: its own package, if it has one.
        deadline: For all of it.

    Raises:
        UsageError: The app file's package is no file, or it names no configuration for a preinstall script to stop.
        CommandFailed: The Mac did not take it.
        EnvironmentFailure: macOS guards the app that is there.
        ProductFailure: It was taken, and what lies there is another build.
    """
    target = app_path(f"{APPLICATIONS}/{bundle.path.name}")
    with events.step("deliver", how=how, release=release.version, app=target):
        if how in ("pkg", "pkg-preinstall"):
            _package(guest, bundle, app, release, deadline, preinstall=how == "pkg-preinstall")
        elif how == "dmg":
            _disk_image(guest, bundle, target, deadline)
        elif how == "updater":
            _updater(guest, bundle, app, target, deadline)
        else:
            remove_app(guest, target, deadline=deadline)
            install_bundle(guest, bundle, deadline=deadline)
        if app.quarantine and how in ("dmg", "delete-first"):  # installer and updaters take the mark off
            set_quarantine(guest, target, deadline=deadline)
        expect_delivered(guest, bundle, target, how, deadline=deadline)
    return target


def expect_delivered(guest: Guest, bundle: AppBundle, target: str, how: Way, *, deadline: Deadline) -> None:
    """The app at `target` is this build: its versions, and its executable byte for byte.

    Raises:
        ProductFailure: It is not.
    """
    versions = _versions(guest, target, deadline)
    wanted = (bundle.short, bundle.build)
    executable = f"{target}/Contents/MacOS/{bundle.executable.path.name}"
    ours = _sha256(bundle.executable.path)
    theirs = ""
    if versions == wanted:
        theirs = guest.run(["shasum", "-a", "256", executable], deadline=deadline, check=False).text.split(" ")[0]
    if versions == wanted and theirs == ours:
        return
    seen = f"{versions[0]} ({versions[1]})" if versions != wanted else f"another executable: SHA-256 {theirs or 'none'}"
    raise ProductFailure(
        f"{target} on {guest.name} to be {wanted[0]} ({wanted[1]}) after the delivery by {how}",
        seen=seen,
        hint="installer leaves a newer app alone unless its package says otherwise (BundleIsVersionChecked, pkgbuild(1))",
    )


def running_pid(guest: Guest, bundle: AppBundle, target: str, deadline: Deadline) -> int:
    """The process of the app at `target`, 0 if none runs."""
    executable = f"{target}/Contents/MacOS/{bundle.executable.path.name}"
    pattern = (
        "^" + "".join(_SPECIAL.get(char, char) for char in executable) + "( |$)"
    )  # not its helper of a longer name
    found = guest.run(["pgrep", "-f", pattern], deadline=deadline, check=False).text.split()
    return int(found[0]) if found and found[0].isdigit() else 0


def shipped_package(app: AppFile, release: Release) -> Path | None:
    """The package that the app file names for a release; None if it names none.

    Raises:
        UsageError: There is none of that name, or more than one.
    """
    if release.pkg is None:
        return None
    pattern = str(app.path.parent / release.pkg)
    found = [Path(name) for name in glob.glob(pattern)] if glob.has_magic(pattern) else [Path(pattern)]  # noqa: PTH207
    if len(found) != 1:
        raise UsageError(
            f"one package for {release.version}: {release.pkg}",
            seen=f"{len(found)} files",
            hint=f"mend `pkg` in {app.path}",
        )
    require_file(found[0])
    return found[0]


def _package(
    guest: Guest, bundle: AppBundle, app: AppFile, release: Release, deadline: Deadline, *, preinstall: bool
) -> None:
    shipped = None if preinstall else shipped_package(app, release)
    with scratch_folder(guest, deadline) as scratch:
        package = f"{scratch}/update.pkg"
        if shipped is not None:
            guest.put(shipped, package, deadline=deadline)
        else:
            _build_package(guest, bundle, app, scratch, package, deadline, preinstall=preinstall)
        guest.run(["installer", "-pkg", package, "-target", "/"], deadline=deadline, sudo=True)
        events.event(
            "package-installed", shipped=shipped.name if shipped else None, built=shipped is None, preinstall=preinstall
        )
        if preinstall:
            listed = guest.run(["scutil", "--nc", "list"], deadline=deadline, check=False).text
            line = next((row for row in listed.splitlines() if f'"{app.configuration}"' in row), "not listed")
            events.event("after-preinstall", configuration=app.configuration, listed=line.strip()[:200])
            if "(Connected)" in line:
                events.event(
                    "degraded",
                    what=f"the preinstall script has not stopped {app.configuration}: this is as by any package",
                    reason=line.strip()[:200],
                )


def _build_package(
    guest: Guest, bundle: AppBundle, app: AppFile, scratch: str, package: str, deadline: Deadline, *, preinstall: bool
) -> None:
    """Make a package of the app, on the Mac. The copy it is made of is gone before it is installed: installer would take it for the
    app to be updated, wherever it lies (BundleIsRelocatable, pkgbuild(1)).
    """
    source = f"{scratch}/{bundle.path.name}"
    guest.put_tree(bundle.path, source, deadline=deadline)
    words = ["pkgbuild", "--component", source, "--install-location", APPLICATIONS]
    words += ["--identifier", f"{app.bundle_id}.pkg", "--version", bundle.build]
    if preinstall:
        if app.configuration is None:
            raise UsageError(
                f"`configuration` in {app.path}",
                seen="none",
                hint="without one there is no tunnel for a script to stop",
            )
        scripts = f"{scratch}/scripts"
        text = PREINSTALL.format(name=shlex.quote(app.configuration))
        guest.script(
            'mkdir -- "$1" && cat > "$1/preinstall" && chmod 755 "$1/preinstall"',
            scripts,
            input=text.encode(),
            deadline=deadline,
        )
        words += ["--scripts", scripts]
    guest.run([*words, package], deadline=deadline)
    guest.run(["rm", "-rf", source], deadline=deadline)


def _disk_image(guest: Guest, bundle: AppBundle, target: str, deadline: Deadline) -> None:
    with scratch_folder(guest, deadline) as scratch:
        content, image, mount = f"{scratch}/content", f"{scratch}/update.dmg", f"{scratch}/volume"
        guest.run(["mkdir", content, mount], deadline=deadline)
        guest.put_tree(bundle.path, f"{content}/{bundle.path.name}", deadline=deadline)
        volume = ["-volname", bundle.name, "-format", "UDZO"]
        guest.run(["hdiutil", "create", "-srcfolder", content, *volume, image], deadline=deadline)
        attach = ["hdiutil", "attach", "-nobrowse", "-noautoopen", "-readonly", "-mountpoint", mount, image]
        guest.run(attach, deadline=deadline)
        try:
            place(guest, f"{mount}/{bundle.path.name}", target, deadline)
        finally:
            tidy(guest, ["hdiutil", "detach", mount, "-force"])


def _updater(guest: Guest, bundle: AppBundle, app: AppFile, target: str, deadline: Deadline) -> None:
    """The app file's command, or the default one: the new app is laid beside the old one, on the same volume, and moved."""
    pid = running_pid(guest, bundle, target, deadline)
    token = events.current().new_id()
    folder, _, name = target.rpartition("/")
    beside, aside = f"{folder}/.{name}.new-{token}", f"{folder}/.{name}.old-{token}"
    with scratch_folder(guest, deadline) as scratch:
        new = f"{scratch}/{bundle.path.name}"
        guest.put_tree(bundle.path, new, deadline=deadline)
        if app.updater.command:
            values = {"{app}": target, "{new}": new, "{pid}": str(pid)}
            words = [_filled(word, values) for word in app.updater.command]
            guest.run(words, deadline=deadline, sudo=app.updater.sudo)
            return
        try:
            guest.run(["ditto", new, beside], deadline=deadline, sudo=True)
            guest.script(UPDATE, target, beside, str(pid), aside, deadline=deadline, sudo=True)
        except BaseException:
            tidy(guest, ["rm", "-rf", beside], sudo=True)
            raise


def _filled(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _versions(guest: Guest, target: str, deadline: Deadline) -> tuple[str, str]:
    """(short, build) of the app that lies there; empty where it cannot be read."""
    try:
        data = guest.read_bytes(f"{target}/Contents/Info.plist", limit=MOST_PLIST, deadline=deadline)
        info = plistlib.loads(data)
        return str(info.get("CFBundleShortVersionString", "")), str(info.get("CFBundleVersion", ""))
    except (SysextError, ValueError, AttributeError, plistlib.InvalidFileException) as error:
        events.event("degraded", what=f"{target}/Contents/Info.plist could not be read", reason=str(error)[:300])
        return "", ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
