"""`inspect_app` and `sysext inspect` on the real app, whole and altered."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bundles.failures import BundleError
from harness.bundles.inspection import inspect_app, inspect_file
from harness.cli import cli
from harness.cli.inspect import inspect
from harness.errors import UsageError

EXTENSION = "org.mitmproxy.macos-redirector.network-extension"
EXTENSION_PATH = f"Contents/Library/SystemExtensions/{EXTENSION}.systemextension"
SEALED = (
    "Contents/MacOS/Mitmproxy Redirector",
    f"{EXTENSION_PATH}/Contents/MacOS/{EXTENSION}",
    "Contents/Info.plist",
    f"{EXTENSION_PATH}/Contents/Info.plist",
    "Contents/Resources/AppIcon.icns",
    "Contents/Resources/Assets.car",
    "Contents/_CodeSignature/CodeResources",
    f"{EXTENSION_PATH}/Contents/_CodeSignature/CodeResources",
    "Contents/embedded.provisionprofile",
    f"{EXTENSION_PATH}/Contents/embedded.provisionprofile",
    "Contents/CodeResources",
)


@pytest.fixture
def copy(app_0115: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(app_0115, tmp_path / app_0115.name, symlinks=True))


@pytest.fixture(scope="module")
def altered(app_0115: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that property tests alter and put right again."""
    return Path(shutil.copytree(app_0115, tmp_path_factory.mktemp("altered") / app_0115.name, symlinks=True))


def _codes(path: Path) -> set[str]:
    return {problem.code for problem in inspect_app(path).problems}


def test_the_real_app(app_0115: Path) -> None:
    seen = inspect_app(app_0115)
    assert seen.problems == ()
    (extension,) = seen.extensions
    assert (seen.app.kind, extension.kind, seen.others) == ("app", "system-extension", ())
    assert (seen.app.bundle_id, seen.app.version, seen.app.build, seen.app.package_type) == (
        *("org.mitmproxy.macos-redirector", "2.0", "1"),
        "APPL",
    )
    assert (extension.bundle_id, extension.package_type, extension.path) == (EXTENSION, "SYSX", EXTENSION_PATH)
    cdhashes = {(item.kind, part.arch): part.cdhash for item in seen.items() for part in item.slices}
    assert cdhashes == {
        ("app", "x86_64"): "6d62ff36bb1e53278a6ea276178a33ea0504615e",
        ("app", "arm64"): "e00b8d1c973e18f88abbfcbb86abf8a3af62aa11",
        ("system-extension", "x86_64"): "1a88b066b4c518f716c586071b7d4863ff72b1fa",
        ("system-extension", "arm64"): "748ee256b2e991d606758aaa9e558c71ffe0b51c",
    }
    assert seen.ticket is not None
    assert seen.ticket.verified is True
    assert set(seen.ticket.cdhashes) == set(cdhashes.values())
    for item in seen.items():
        assert item.resources is not None
        assert item.resources.ok
        assert item.profile is not None
        assert item.profile.verified is True
        for part in item.slices:
            assert (part.team, part.page_hash_ok, part.hardened) == ("S8XHQB96PW", True, True)
            assert set(part.slots.values()) == {"ok"}
            assert part.cms is not None
            assert (part.cms.trusted, part.cms.signature_ok, part.cms.cdhash_attr_ok) == (True, True, True)
            assert part.cms.authority == "developer-id"
            assert part.cms.leaf is not None
            assert part.cms.leaf.sha1 in item.profile.certificates


def test_reading_only(app_0115: Path) -> None:
    seen = inspect_app(app_0115, verify=False)
    assert seen.problems == ()
    assert seen.ticket is not None
    assert (seen.verified, seen.ticket.verified, seen.app.resources) == (False, None, None)
    assert [part.page_hash_ok for part in seen.app.slices] == [None, None]
    assert seen.app.slices[1].cdhash == "e00b8d1c973e18f88abbfcbb86abf8a3af62aa11"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(SEALED), at=st.integers(0, 1 << 40), mask=st.integers(1, 255))
def test_any_flipped_byte_is_found(altered: Path, name: str, at: int, mask: int) -> None:
    path = altered / name
    original = path.read_bytes()
    data = bytearray(original)
    data[at % len(data)] ^= mask
    path.write_bytes(data)
    try:
        assert inspect_app(altered).problems, f"byte {at % len(data)} of {name}"
    finally:
        path.write_bytes(original)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(SEALED[:2]), at=st.integers(0, 1 << 40), mask=st.integers(1, 255), arch=st.sampled_from((0, 1))
)
def test_any_flipped_byte_of_a_signature_is_found(altered: Path, name: str, at: int, mask: int, arch: int) -> None:
    """As above, where it is hardest: superblob, code directory, CMS message, and the zeros behind it."""
    path = altered / name
    original = path.read_bytes()
    data = bytearray(original)
    from harness.bundles.macho import read_slices

    part = read_slices(original)[arch]
    assert part.signature is not None
    data[part.offset + part.signature[0] + at % part.signature[1]] ^= mask
    path.write_bytes(data)
    try:
        assert inspect_app(altered).problems
    finally:
        path.write_bytes(original)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from((*SEALED, "Contents/PkgInfo")), cut=st.integers(1, 1 << 40))
def test_truncated_parts_are_told_not_raised(altered: Path, name: str, cut: int) -> None:
    path = altered / name
    original = path.read_bytes()
    path.write_bytes(original[: len(original) - 1 - cut % len(original)])
    try:
        problems = inspect_app(altered).problems
        assert problems or name.endswith("PkgInfo")
    finally:
        path.write_bytes(original)


def test_what_a_careless_build_does(copy: Path, app_0114: Path) -> None:
    """Each alteration has its own word."""
    info = copy / "Contents/Info.plist"
    original = info.read_bytes()
    info.write_bytes(plistlib.dumps({**plistlib.loads(original), "CFBundleVersion": "2"}))
    assert _codes(copy) == {"slot-differs"}
    info.write_bytes(original[:100])
    assert {"info-unreadable", "executable-missing", "slot-differs"} <= _codes(copy)
    info.write_bytes(original)
    (copy / "Contents/Resources/new").write_text("x")
    (copy / "Contents/Resources/Assets.car").unlink()
    assert _codes(copy) == {"resource-added", "resource-missing"}
    shutil.rmtree(copy / EXTENSION_PATH)
    shutil.copytree(app_0114 / EXTENSION_PATH, copy / EXTENSION_PATH)
    seen = inspect_app(copy)
    assert {problem.where for problem in seen.problems if problem.code == "resource-altered"} >= {
        f"{EXTENSION_PATH}/Contents/MacOS/{EXTENSION}"
    }
    assert seen.ticket is not None
    assert not any(seen.ticket.covers(part.cdhash) for part in seen.extensions[0].slices), "another build's"
    shutil.rmtree(copy / "Contents/_CodeSignature")
    assert {"resources-missing", "slot-missing"} <= _codes(copy)
    (copy / "Contents/MacOS/Mitmproxy Redirector").unlink()
    assert "executable-missing" in _codes(copy)


def test_a_library_inside_is_code_of_its_own(copy: Path) -> None:
    folder = copy / "Contents/Frameworks"
    folder.mkdir()
    shutil.copyfile(copy / "Contents/MacOS/Mitmproxy Redirector", folder / "helper")
    (copy / "Contents/Resources/java.class").write_bytes(bytes.fromhex("cafebabe00000034") + bytes(40))
    seen = inspect_app(copy)
    assert [(item.path, item.kind) for item in seen.others] == [("Contents/Frameworks/helper", "helper")]
    assert {(problem.code, problem.where) for problem in seen.problems if "helper" in problem.where} >= {
        ("resource-added", "Contents/Frameworks/helper"),
        ("slot-missing", "Contents/Frameworks/helper (arm64)"),
    }
    assert not any("java" in item.path for item in seen.items())


def test_frameworks_and_xpc_services_are_found_where_they_are(copy: Path) -> None:
    base = copy / "Contents/Frameworks/Some.framework/Versions/B"
    (base / "Resources").mkdir(parents=True)
    (base.parent / "Current").symlink_to("B")
    (base.parents[1] / "Some").symlink_to("Versions/Current/Some")
    (base.parents[1] / "Resources").symlink_to("Versions/Current/Resources")
    executable = copy / "Contents/MacOS/Mitmproxy Redirector"
    plist = {"CFBundleExecutable": "Some", "CFBundleIdentifier": "org.some", "CFBundlePackageType": "FMWK"}
    (base / "Resources/Info.plist").write_bytes(plistlib.dumps(plist))
    shutil.copyfile(executable, base / "Some")
    service = copy / "Contents/XPCServices/S.xpc/Contents"
    (service / "MacOS").mkdir(parents=True)
    (service / "Info.plist").write_bytes(
        plistlib.dumps({**plist, "CFBundlePackageType": "XPC!"}, fmt=plistlib.FMT_BINARY)
    )
    shutil.copyfile(executable, service / "MacOS/Some")
    found = {item.path: (item.kind, item.package_type, item.executable) for item in inspect_app(copy).others}
    assert found == {
        "Contents/Frameworks/Some.framework": (
            *("framework", "FMWK"),
            "Contents/Frameworks/Some.framework/Versions/B/Some",
        ),
        "Contents/XPCServices/S.xpc": ("xpc", "XPC!", "Contents/XPCServices/S.xpc/Contents/MacOS/Some"),
    }


def test_what_cannot_be_inspected(tmp_path: Path) -> None:
    (tmp_path / "Empty.app").mkdir()
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "Empty.app", tmp_path / "file", tmp_path / "none"):
        with pytest.raises(BundleError):
            inspect_app(path)
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(BundleError):
            inspect_file(path)


def test_property_lists_that_never_end(copy: Path) -> None:
    """A binary list may hold itself; one in XML may be very deep."""
    endless = bytes.fromhex("62706c6973743030d101025161d1010308") + b"\x00" * 40
    deep = b"<plist><dict>" + b"<key>a</key><dict>" * 5000 + b"</dict>" * 5000 + b"</dict></plist>"
    for data in (endless, deep):
        (copy / "Contents/Info.plist").write_bytes(data)
        seen = inspect_app(copy)
        assert "info-unreadable" in {problem.code for problem in seen.problems}
        json.dumps(seen.as_dict())


def test_the_command_shows_everything(app_0115: Path, wheel_0115: Path) -> None:
    for source in (app_0115, wheel_0115):
        done = CliRunner().invoke(inspect, [str(source)])
        assert done.exit_code == 0, done.output
        assert max(map(len, done.output.splitlines())) <= 100
        for word in (
            *("8F0B81E2-C5B8-37F5-B8FF-533857442CA3", "748ee256b2e991d606758aaa9e558c71ffe0b51c", "SYSX", "S8XHQB96PW"),
            *("Developer ID Application: Maximilian Hils", "Apple Root CA", "2025-02-17 11:47:35", "hardened runtime"),
            *("Redirect traffic to mitmproxy", "TransparentProxyProvider", "transparent-proxy", "until 2041-08-17"),
            *("verified; it covers", "7 sealed, intact", "AppIcon.icns", "nothing odd", "the same", "macOS 12.0"),
        ):
            assert word in done.output, word


def test_the_command_in_json(app_0115: Path) -> None:
    done = CliRunner().invoke(inspect, [str(app_0115), "--format", "json"])
    found = json.loads(done.output)
    assert found["app"]["slices"][1]["cms"]["timestamp"]["time"] == "2025-02-17T11:47:35+00:00"
    assert found["extensions"][0]["info"]["CFBundlePackageType"] == "SYSX"
    assert (len(found["ticket"]["cdhashes"]), found["problems"], found["verified"]) == (4, [], True)
    file = app_0115 / "Contents/MacOS/Mitmproxy Redirector"
    found = json.loads(CliRunner().invoke(inspect, [str(file), "--format", "json"]).output)
    assert {problem["code"] for problem in found["problems"]} == {"slot-missing"}, (
        "its bundle's files are not looked at"
    )


def test_the_command_tells_what_does_not_hold(copy: Path) -> None:
    data = bytearray((copy / SEALED[1]).read_bytes())
    data[20000] ^= 1
    (copy / SEALED[1]).write_bytes(data)
    (copy / "Contents/Resources/\x1b[31mred").write_text("x")
    Path(os.fsdecode(bytes(copy) + b"/Contents/Resources/\xff")).write_text("x")
    assert CliRunner().invoke(inspect, [str(copy), "--format", "json"]).exit_code == 0
    done = CliRunner().invoke(inspect, [str(copy)])
    assert done.exit_code == 0
    assert "PAGES DIFFER" in done.output
    assert "resource-altered" in done.output
    assert "\x1b" not in done.output, "names from a bundle send nothing to the terminal"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere"],
        ["pypi:no version"],
        ["http://example.org/x.zip"],
        ["https://example.org/x.zip"],
        [__file__],
        [".", "--sha256", "12"],
    ],
)
def test_what_the_command_cannot_read(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["inspect", *arguments])
    assert isinstance(done.exception, UsageError)  # `main` makes 2 of it
    assert done.exception.seen
    assert done.output == ""
