"""Apps and extensions read off the disk: known truths of real releases, and every way to be no app."""

from __future__ import annotations

import contextlib
import plistlib
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bundles import BundleError, open_app, read_executable
from harness.bundles.macho import is_macho, read_slices
from harness.bundles.signature import read_signature
from harness.errors import UsageError

EXTENSION = "org.mitmproxy.macos-redirector.network-extension"
INNER = f"Contents/Library/SystemExtensions/{EXTENSION}.systemextension"


def test_known_truths_of_0115(app_0115: Path) -> None:
    app = open_app(app_0115)
    assert (app.name, app.identifier, app.short, app.build) == (
        "Mitmproxy Redirector",
        "org.mitmproxy.macos-redirector",
        "2.0",
        "1",
    )
    assert app.team == "S8XHQB96PW"
    assert app.minimum_os == "12.0"
    assert app.executable.uuids == {
        "x86_64": "F152C3A9-EE0C-30E7-896E-C5957E77BA31",
        "arm64": "8F0B81E2-C5B8-37F5-B8FF-533857442CA3",
    }
    assert app.executable.cdhashes == {
        "x86_64": "6d62ff36bb1e53278a6ea276178a33ea0504615e",
        "arm64": "e00b8d1c973e18f88abbfcbb86abf8a3af62aa11",
    }
    assert app.entitlements["com.apple.developer.system-extension.install"] is True


def test_known_truths_of_its_extension(app_0115: Path) -> None:
    extension = open_app(app_0115).require_extension()
    assert (extension.identifier, extension.short, extension.build) == (EXTENSION, "2.0", "1")
    assert extension.package_type == "SYSX"
    assert extension.kinds == ("transparent-proxy", "app-proxy")
    assert extension.category == "network_extension"
    assert extension.provider_classes == {
        "com.apple.networkextension.app-proxy": (
            "org_mitmproxy_macos_redirector_network_extension.TransparentProxyProvider"
        )
    }
    assert extension.mach_service == ""
    assert extension.app_groups == ()
    assert extension.usage_description == "Redirect traffic to mitmproxy"
    assert extension.team == "S8XHQB96PW"
    assert "com.apple.developer.system-extension.install" not in extension.entitlements
    assert extension.executable.cdhashes == {
        "x86_64": "1a88b066b4c518f716c586071b7d4863ff72b1fa",
        "arm64": "748ee256b2e991d606758aaa9e558c71ffe0b51c",
    }
    for part in extension.executable.slices:
        assert (part.min_os, part.sdk) == ("12.0", "14.5")
        assert part.flags == 0x10000
        assert part.hardened
        assert part.signature is not None
        assert part.signature.best.runtime == "14.5.0"
        assert part.signature.best.page_size == 4096
        assert not part.signature.adhoc


def test_an_upgrade_changes_version_and_every_uuid(app_0114: Path, app_0115: Path) -> None:
    old, new = open_app(app_0114), open_app(app_0115)
    assert (old.short, new.short) == ("1.0", "2.0")
    for before, after in (
        (old.executable, new.executable),
        (old.require_extension().executable, new.require_extension().executable),
    ):
        assert before.archs == after.archs
        assert not set(before.uuids.values()) & set(after.uuids.values())
        assert not set(before.cdhashes.values()) & set(after.cdhashes.values())


def test_asking_for_another_extension_names_what_is_there(app_0115: Path) -> None:
    app = open_app(app_0115)
    assert app.require_extension(EXTENSION).identifier == EXTENSION
    with pytest.raises(UsageError, match=r"org\.example\.none") as error:
        app.require_extension("org.example.none")
    assert EXTENSION in error.value.seen


def test_no_extension_and_two(small_app: Path) -> None:
    shutil.copytree(small_app / INNER, small_app / "Contents/Library/SystemExtensions/second.systemextension")
    both = open_app(small_app)
    assert len(both.extensions) == 2
    with pytest.raises(UsageError, match="one system extension"):
        both.require_extension()
    shutil.rmtree(small_app / "Contents/Library/SystemExtensions")
    with pytest.raises(UsageError, match="a system extension"):
        open_app(small_app).require_extension()


def _no_bundle(app: Path) -> None:
    shutil.rmtree(app)


def _a_file(app: Path) -> None:
    shutil.rmtree(app)
    app.write_text("not a folder")


def _no_info(app: Path) -> None:
    (app / "Contents/Info.plist").unlink()


def _torn_info(app: Path) -> None:
    (app / "Contents/Info.plist").write_bytes((app / "Contents/Info.plist").read_bytes()[:300])


def _no_executable(app: Path) -> None:
    (app / "Contents/MacOS/Mitmproxy Redirector").unlink()


def _torn_executable(app: Path) -> None:
    path = app / "Contents/MacOS/Mitmproxy Redirector"
    path.write_bytes(path.read_bytes()[:-5000])


def _empty_executable(app: Path) -> None:
    (app / "Contents/MacOS/Mitmproxy Redirector").write_bytes(b"")


def _script(app: Path) -> None:
    (app / "Contents/MacOS/Mitmproxy Redirector").write_text("#!/bin/sh\n")


def _outward_link(app: Path) -> None:
    path = app / "Contents/MacOS/Mitmproxy Redirector"
    shutil.copy(path, app.parent / "elsewhere")
    path.unlink()
    path.symlink_to(app.parent / "elsewhere")


def _executable_name_with_path(app: Path) -> None:
    place = app / "Contents/Info.plist"
    info = plistlib.loads(place.read_bytes())
    info["CFBundleExecutable"] = "../../../elsewhere"
    place.write_bytes(plistlib.dumps(info))


def _torn_extension(app: Path) -> None:
    path = app / INNER / "Contents/MacOS" / EXTENSION
    path.write_bytes(path.read_bytes()[:1_000_000])


def _outward_extension(app: Path) -> None:
    shutil.move(app / INNER, app.parent / "away.systemextension")
    (app / INNER).symlink_to(app.parent / "away.systemextension")


@pytest.mark.parametrize(
    "spoil",
    [
        _no_bundle,
        _a_file,
        _no_info,
        _torn_info,
        _no_executable,
        _torn_executable,
        _empty_executable,
        _script,
        _outward_link,
        _executable_name_with_path,
        _torn_extension,
        _outward_extension,
    ],
)
def test_a_spoilt_app_is_a_usage_error(small_app: Path, spoil: object) -> None:
    assert open_app(small_app).extensions
    assert callable(spoil)
    spoil(small_app)
    with pytest.raises(UsageError) as error:
        open_app(small_app)
    assert error.value.expected
    assert error.value.seen


def test_driver_and_endpoint_security_are_told_apart(small_app: Path) -> None:
    folder = small_app / "Contents/Library/SystemExtensions"
    flat = folder / "org.example.driver.dext"
    flat.mkdir()
    executable = small_app / INNER / "Contents/MacOS" / EXTENSION
    shutil.copy(executable, flat / "driver")
    info = {"CFBundleIdentifier": "org.example.driver", "CFBundleExecutable": "driver", "CFBundlePackageType": "DEXT"}
    (flat / "Info.plist").write_bytes(plistlib.dumps(info))
    place = small_app / INNER / "Contents/Info.plist"
    other = plistlib.loads(place.read_bytes())
    del other["NetworkExtension"]
    other["NSEndpointSecurityEarlyBoot"] = True
    place.write_bytes(plistlib.dumps(other, fmt=plistlib.FMT_BINARY))
    app = open_app(small_app)
    found = {extension.identifier: (extension.kind, extension.category) for extension in app.extensions}
    assert found == {
        "org.example.driver": ("driver", "driver_extension"),
        EXTENSION: ("endpoint-security", "endpoint_security"),
    }


def test_fat_headers_that_lie(app_0115: Path) -> None:
    data = (app_0115 / "Contents/MacOS/Mitmproxy Redirector").read_bytes()
    slices = read_slices(data)
    assert [part.arch for part in slices] == ["x86_64", "arm64"]
    thin = data[slices[1].offset : slices[1].offset + slices[1].size]
    (alone,) = read_slices(thin)
    assert (alone.arch, alone.uuid, alone.offset) == ("arm64", slices[1].uuid, 0)
    wide = struct.pack(">IIiiQQII", 0xCAFEBABF, 1, 0x0100000C, 0, 64, len(thin), 0, 0).ljust(64, b"\0") + thin
    assert read_slices(wide)[0].uuid == slices[1].uuid
    overlapping = bytearray(data)
    overlapping[28:48] = overlapping[8:28]
    with pytest.raises(BundleError, match="overlaps"):
        read_slices(bytes(overlapping))
    many = bytearray(data)
    many[4:8] = struct.pack(">I", 33)
    with pytest.raises(BundleError, match="33 slices"):
        read_slices(bytes(many))
    assert not is_macho(b"\xca\xfe\xba\xbe\0\0\x1f\x34")  # a Java class


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_is_read_or_refused_but_never_crashes(app_0115: Path, data: st.DataObject) -> None:
    whole = (app_0115 / "Contents/MacOS/Mitmproxy Redirector").read_bytes()
    part = bytearray(whole[16384 : 16384 + 1495408][:200_000])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, 4096))
        part[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BundleError):
        read_slices(bytes(part))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_signature_is_read_or_refused_but_never_crashes(app_0115: Path, data: st.DataObject) -> None:
    path = app_0115 / "Contents/MacOS/Mitmproxy Redirector"
    whole = path.read_bytes()
    first = read_slices(whole)[0]
    assert first.signature is not None
    start = first.offset + first.signature[0]
    blob = bytearray(whole[start : start + first.signature[1]])
    end = data.draw(st.integers(0, len(blob)))
    for _ in range(data.draw(st.integers(0, 5))):
        blob[data.draw(st.integers(0, 400))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BundleError):
        read_signature(bytes(blob[:end]))


@given(st.binary(max_size=300))
def test_any_bytes_are_no_executable(data: bytes) -> None:
    try:
        read_slices(data)
    except BundleError as error:
        assert error.seen


def test_reading_holds_no_file_open_after_an_error(tmp_path: Path, app_0115: Path) -> None:
    path = tmp_path / "torn"
    path.write_bytes((app_0115 / "Contents/MacOS/Mitmproxy Redirector").read_bytes()[:2_000_000])
    with pytest.raises(BundleError) as error:
        read_executable(path)
    assert error.value.__traceback__ is not None  # frames still alive: an mmap they held would have failed to close
    assert "torn" in str(error.value)
