"""pkgbuild, installer and hdiutil of the simulated Mac, against their manual pages and 7-Zip."""

from __future__ import annotations

import asyncio
import plistlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bundles.diskimage import DiskImage
from harness.bundles.package import read_package
from harness.formats.system import parse_installer
from harness.simulator.flatpackage import PackagedBundle, bundles_of, write_package
from harness.simulator.volume import FORMATS, write_image

Run = Callable[[Any], None]
GUARD = "/Applications/Example Guard.app"
BUILD = "pkgbuild --component '/tmp/new/Example Guard.app' --install-location /Applications"


def versions(root: Path) -> str:
    return str(plistlib.loads((root / "Contents/Info.plist").read_bytes())["CFBundleShortVersionString"])


def new_release(
    mac: Any, rig: ModuleType, version: str = "2.0", build: str = "2", where: str = "/tmp/new/Example Guard.app"
) -> Path:
    root: Path = rig.write_app(
        mac.guest.disk.root, path=where.replace("/tmp", "/private/tmp"), short=version, build=build
    )
    return root


def scripts(mac: Any, **texts: str) -> None:
    folder = mac.guest.disk.path("/tmp/scripts")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)


def test_a_package_built_in_the_guest_replaces_the_app_as_a_whole(
    new_mac: Any, rig: ModuleType, run_async: Run
) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            new_release(mac, rig)
            leftover = mac.guest.disk.path(f"{GUARD}/Contents/only-in-the-old")
            leftover.write_text("x")
            built = await mac.run(f"{BUILD} /tmp/guard.pkg")
            assert built.code == 0, built.err
            assert built.out.splitlines() == [
                "pkgbuild: Adding component at /private/tmp/new/Example Guard.app",
                "pkgbuild: Wrote package to /tmp/guard.pkg",
            ]
            assert (await mac.run("installer -pkg /tmp/guard.pkg -target /")).code == 1  # root only
            done = await mac.run("installer -pkg /tmp/guard.pkg -target /", root=True)
            assert parse_installer(done.out).succeeded
            assert done.out.splitlines()[-1] == "installer: The install was successful."
            assert versions(mac.guest.disk.path(GUARD)) == "2.0"
            assert not leftover.exists()
            info = await mac.run("pkgutil --pkg-info com.example.guard")
            assert "version: 2\n" in info.out
            assert "location: Applications" in info.out
            assert (await mac.run(["pkgutil", "--pkgs=com\\.example\\..*"])).out == "com.example.guard\n"
            again = await mac.run("installer -pkg /tmp/guard.pkg -target /", root=True)
            assert "installer: Upgrading at base path /" in again.out
            assert again.out.splitlines()[-1] == "installer: The upgrade was successful."
            assert (await mac.run("pkgutil --forget com.example.guard")).code == 1
            assert (await mac.run("pkgutil --forget com.example.guard", root=True)).code == 0
            assert (await mac.run("pkgutil --pkgs")).out == ""
            assert not list(mac.guest.disk.path("/Applications").glob(".*"))

    run_async(body)


def test_a_newer_bundle_is_left_alone_and_the_install_succeeds_all_the_same(
    new_mac: Any, rig: ModuleType, run_async: Run
) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            new_release(mac, rig, "0.9", "1")
            scripts(mac, postinstall="echo ran > /tmp/ran")
            assert (await mac.run(f"{BUILD} --scripts /tmp/scripts /tmp/old.pkg")).code == 0
            done = await mac.run("installer -pkg /tmp/old.pkg -target / -dumplog", root=True)
            assert done.code == 0
            assert versions(mac.guest.disk.path(GUARD)) == "1.0"
            assert mac.guest.disk.path("/tmp/ran").read_text() == "ran\n"  # as posted: the scripts run
            line = (
                "Skipping component “com.example.guard” (0.9-1-*) because the version 1.0-1-* is already installed at"
            )
            assert line in done.err
            assert line in mac.guest.disk.path("/var/log/install.log").read_text()
            # A component property list can switch that off
            rows = [
                {
                    "RootRelativeBundlePath": "Example Guard.app",
                    "BundleIsVersionChecked": False,
                    "BundleOverwriteAction": "upgrade",
                }
            ]
            mac.guest.disk.path("/tmp/rows.plist").write_bytes(plistlib.dumps(rows))
            assert (await mac.run("pkgbuild --analyze --root /tmp/new /tmp/made.plist")).code == 0
            made = plistlib.loads(mac.guest.disk.path("/tmp/made.plist").read_bytes())
            assert [(row["RootRelativeBundlePath"], row["BundleIsVersionChecked"]) for row in made] == [
                ("Example Guard.app", True)
            ]
            words = "--identifier x.y --version 3 --install-location /Applications --quiet"
            built = await mac.run(f"pkgbuild --root /tmp/new --component-plist /tmp/rows.plist {words} /tmp/down.pkg")
            assert (built.code, built.out) == (0, "")
            assert (await mac.run("installer -pkg /tmp/down.pkg -target /", root=True)).code == 0
            assert versions(mac.guest.disk.path(GUARD)) == "0.9"

    run_async(body)


def test_scripts_run_as_root_with_installers_arguments_and_can_stop_it(
    new_mac: Any, rig: ModuleType, run_async: Run
) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            new_release(mac, rig)
            told = 'echo "$(whoami) $# $1 $2 $3 $4 $PACKAGE_PATH $(basename "$0")" >> /tmp/told; ls "$(dirname "$0")"'
            scripts(mac, preinstall=told + "; test -d /tmp/new", postinstall=told + "; exit 3", helper="true")
            built = await mac.run(f"{BUILD} --identifier a.b --version 7 --scripts /tmp/scripts /tmp/guard.pkg")
            assert "pkgbuild: Adding top-level preinstall script" in built.out
            done = await mac.run("installer -pkg guard.pkg -target /", root=True)
            assert done.code == 1
            assert "specified was invalid" in done.err  # not in the working folder
            done = await mac.run("installer -pkg /tmp/guard.pkg -target /", root=True)
            assert done.code == 1
            assert done.out.splitlines()[-1].endswith(
                "An error occurred while running scripts from the package “guard.pkg”.)"
            )
            path = "/private/tmp/guard.pkg"
            assert mac.guest.disk.path("/tmp/told").read_text().splitlines() == [
                f"root 4 {path} /Applications / / {path} {name}" for name in ("preinstall", "postinstall")
            ]
            log = mac.guest.disk.path("/var/log/install.log").read_text()
            assert "package_script_service[513]: ./preinstall: helper" in log
            assert (await mac.run("pkgutil --pkgs")).out == ""
            assert versions(mac.guest.disk.path(GUARD)) == "2.0"  # the payload was there before the postinstall
            mac.guest.disk.path("/tmp/scripts/preinstall").write_text("#!/bin/sh\nexit 1\n")
            new_release(mac, rig, "3.0", "3")
            assert (await mac.run(f"{BUILD} --scripts /tmp/scripts /tmp/no.pkg")).code == 0
            assert (await mac.run("installer -pkg /tmp/no.pkg -target /", root=True)).code == 1
            assert versions(mac.guest.disk.path(GUARD)) == "2.0"
            assert not list(mac.guest.disk.path("/tmp").glob("PKInstallSandbox*"))

    run_async(body)


def test_an_app_that_its_user_moved_is_followed(new_mac: Any, rig: ModuleType, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            new_release(mac, rig)
            moved = "/Users/admin/Applications/Example Guard.app"
            mac.guest.disk.path("/Users/admin/Applications").mkdir()
            mac.guest.disk.path(GUARD).rename(mac.guest.disk.path(moved))
            assert (await mac.run(f"{BUILD} /tmp/guard.pkg")).code == 0
            assert (await mac.run("installer -pkg /tmp/guard.pkg -target /", root=True)).code == 0
            assert not mac.guest.disk.path(GUARD).exists()
            assert versions(mac.guest.disk.path(moved)) == "2.0"
            shutil.rmtree(mac.guest.disk.path(moved))
            assert (await mac.run("installer -pkg /tmp/guard.pkg -target /", root=True)).code == 0
            assert versions(mac.guest.disk.path(GUARD)) == "2.0"

    run_async(body)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pkgbuild /tmp/x.pkg", "exactly one of"),
        ("pkgbuild --component /tmp/none.app /tmp/x.pkg", "does not exist"),
        ("pkgbuild --component /tmp /tmp/x.pkg", "only bundles"),
        ("pkgbuild --root /tmp --install-location /opt /tmp/x.pkg", "No package identifier"),
        (f"pkgbuild --component '{GUARD}' /System/x.pkg", "Cannot write"),
        (f"pkgbuild --component '{GUARD}' --root /tmp /tmp/x.pkg", "exactly one of"),
        (f"pkgbuild --component '{GUARD}' --nonsense /tmp/x.pkg", "unrecognized"),
    ],
)
def test_pkgbuild_refuses(new_mac: Any, run_async: Run, words: str, said: str) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            done = await mac.run(words)
            assert done.code != 0
            assert said in done.err
            assert not mac.guest.disk.path("/tmp/x.pkg").exists()

    run_async(body)


def test_installer_refuses_what_is_no_package_and_other_volumes(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            mac.guest.disk.path("/tmp/bad.pkg").write_bytes(b"xar!" + bytes(100))
            bad = await mac.run("installer -pkg /tmp/bad.pkg -target /", root=True)
            assert bad.code == 1
            assert "The install failed." in bad.out
            other = await mac.run("installer -pkg /tmp/bad.pkg -target /Volumes/none", root=True)
            assert (other.code, "locate volume" in other.err) == (1, True)

    run_async(body)


def test_an_image_made_in_the_guest_is_attached_copied_from_and_detached(
    new_mac: Any, rig: ModuleType, run_async: Run
) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            root = new_release(mac, rig)
            made = await mac.run(
                ["hdiutil", "create", "-volname", "Guard 2", "-srcfolder", "/tmp/new", "-format", "UDZO", "/tmp/guard"]
            )
            assert (made.code, made.out) == (0, "created: /private/tmp/guard.dmg\n"), made.err
            assert (await mac.run("hdiutil create -srcfolder /tmp/new /tmp/guard.dmg")).err.endswith("File exists\n")
            assert (await mac.run("hdiutil create -srcfolder /tmp/none /tmp/o.dmg")).code == 1
            attached = await mac.run("hdiutil attach -nobrowse /tmp/guard.dmg")
            device, _hint, mount = attached.out.splitlines()[-1].split("\t")
            assert mount == "/Volumes/Guard 2"
            assert (await mac.run(["ditto", f"{mount}/Example Guard.app", "/tmp/copy.app"])).code == 0
            same = subprocess.run(["diff", "-r", str(root), str(mac.guest.disk.path("/tmp/copy.app"))], check=False)
            assert same.returncode == 0
            running = mac.start([f"{mount}/Example Guard.app/Contents/MacOS/Example Guard"])
            await mac.until(lambda: mac.guest.processes.named("Example Guard"), "the app runs from the image")
            busy = await mac.run(["hdiutil", "detach", mount])
            assert (busy.code, "Resource busy" in busy.err) == (16, True)
            assert (await mac.run(["hdiutil", "detach", "-force", device.strip()])).code == 0
            assert not mac.guest.disk.path(mount).exists()
            running.cancel()
            await asyncio.wait([running])

    run_async(body)


NAMES = st.text(alphabet="aZäß語-_ .0", min_size=1, max_size=30).filter(lambda name: name.strip(". "))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(NAMES, st.binary(max_size=9000), max_size=40), form=st.sampled_from(sorted(FORMATS)))
def test_what_is_written_is_read_back(tmp_path: Path, files: dict[str, bytes], form: str) -> None:
    room = tmp_path / str(abs(hash((form, tuple(files)))))
    shutil.rmtree(room, ignore_errors=True)
    source = room / "source/X.app/Contents"
    source.mkdir(parents=True)
    unique = {name.casefold(): name for name in files}  # HFS+ tells no case apart
    for name in unique.values():
        (source / name).write_bytes(files[name])
    (source / "link").symlink_to("elsewhere")
    write_image(room / "x.dmg", room / "source", "Volume ä", form)
    image = DiskImage(room / "x.dmg")
    assert image.volume_name == "Volume ä"
    (room / "out").mkdir()
    image.extract(room / "out")
    bundle = PackagedBundle("X.app", "a.b", "1", "2", relocatable=False)
    write_package(
        room / "x.pkg", [("X.app", room / "source/X.app")], [bundle], identifier="i", version="v", location="/L"
    )
    package = read_package(room / "x.pkg")
    assert bundles_of(room / "x.pkg") == (bundle,)
    (room / "unpacked").mkdir()
    package.extract(room / "unpacked")
    for copy in (room / "out/X.app/Contents", room / "unpacked/L/X.app/Contents"):
        assert {path.name: path.read_bytes() for path in copy.iterdir() if not path.is_symlink()} == {
            name: files[name] for name in unique.values()
        }
        assert (copy / "link").readlink() == Path("elsewhere")


def test_seven_zip_takes_a_large_volume(tmp_path: Path) -> None:
    if shutil.which("7z") is None:
        pytest.skip("7z is not installed")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(900):
        (source / f"a file with quite a long name, number {number}").write_text(str(number))
    write_image(tmp_path / "x.dmg", source, "Large")
    done = subprocess.run(["7z", "t", str(tmp_path / "x.dmg")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Files: 900" in done.stdout
