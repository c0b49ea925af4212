"""The small outputs: scutil, sw_vers, csrutil, sysctl, ps, hdiutil, installer."""

from __future__ import annotations

import contextlib
import plistlib
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.formats import FormatError
from harness.formats.crash import parse_crash_report
from harness.formats.launchctl import parse_launchctl_print, parse_launchctl_services
from harness.formats.listing import parse_listing
from harness.formats.network import parse_nc_list, parse_nc_status
from harness.formats.system import (
    PS_COLUMNS,
    parse_boot_time,
    parse_csrutil,
    parse_hdiutil_attach,
    parse_installer,
    parse_ps,
    parse_sw_vers,
    parse_sysctl,
)

NC = """Available network connection services in the current set (*=enabled):
* (Disconnected)   E3A8F336-CCEB-4A29-B50A-FBAD41D84A71 PPP --> L2TP       "My "VPN""                       [PPP:L2TP]
* (Connected)      6fc5a4f6-0000-4000-8000-0123456789ab VPN (org.example.app) "Name [1] (x)"   [VPN:org.example.app]
  (Disconnected)   11111111-2222-3333-4444-555555555555 IPSec "Office"                              [IPSec]
* (Invalid) Work VPN [IPSec]
"""


def test_network_configurations() -> None:
    rows = parse_nc_list(NC)
    assert [(r.enabled, r.status, r.service_id, r.type, r.name) for r in rows] == [
        (True, "Disconnected", "E3A8F336-CCEB-4A29-B50A-FBAD41D84A71", "PPP:L2TP", 'My "VPN"'),
        (True, "Connected", "6FC5A4F6-0000-4000-8000-0123456789AB", "VPN:org.example.app", "Name [1] (x)"),
        (False, "Disconnected", "11111111-2222-3333-4444-555555555555", "IPSec", "Office"),
        (True, "Invalid", "", "IPSec", "Work VPN"),
    ]
    assert [r.connected for r in rows] == [False, True, False, False]
    assert rows[0].raw == NC.splitlines()[1]
    assert parse_nc_list(NC.splitlines()[0]) == ()


def test_network_status() -> None:
    assert parse_nc_status("Connected\nExtended Status <dictionary> {\n  Status : 2\n}\n") == "Connected"
    assert parse_nc_status("No service\n") is None
    assert parse_nc_status("\n") is None


def test_sw_vers(samples: dict[str, str]) -> None:
    version = parse_sw_vers("ProductName:\t\tmacOS\nProductVersion:\t\t15.5\nBuildVersion:\t\t24F74\n")
    assert (version.name, version.version, version.build, version.major) == ("macOS", "15.5", "24F74", 15)
    extra = parse_sw_vers(
        "ProductName: macOS\nProductVersion: 13.4.1\nProductVersionExtra: (c)\nBuildVersion: 22F770820d"
    )
    assert (extra.version, extra.major) == ("13.4.1", 13)
    assert parse_sw_vers(samples["fmt-058"]).version == "11.7.8"
    with pytest.raises(FormatError, match="ProductVersion"):
        parse_sw_vers("Linux")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("System Integrity Protection status: enabled.\n", "enabled"),
        ("System Integrity Protection status: disabled.\n", "disabled"),
        ("System Integrity Protection status: unknown (Custom Configuration).\n\nConfiguration:\n", "custom"),
        ("System Integrity Protection status: enabled (Custom Configuration).\n", "custom"),
        ("csrutil: command not found", "unknown"),
        ("", "unknown"),
    ],
)
def test_csrutil(text: str, state: str) -> None:
    assert parse_csrutil(text) == state


def test_sysctl() -> None:
    found = parse_sysctl(
        "kern.bootsessionuuid: 7871ABF2-F319-49C9-B9FD-884E994F3DF5\n"
        "kern.boottime: { sec = 1753515137, usec = 250000 } Sat Jul 26 07:32:17 2025\n"
        "hw.model = Mac16,1\nkern.version: Darwin\n  second line\n"
    )
    assert found["kern.bootsessionuuid"] == "7871ABF2-F319-49C9-B9FD-884E994F3DF5"
    assert found["hw.model"] == "Mac16,1"
    assert found["kern.version"] == "Darwin\n  second line"
    assert parse_boot_time(found["kern.boottime"]) == datetime(2025, 7, 26, 7, 32, 17, 250000, tzinfo=UTC)
    assert parse_boot_time("none") is None
    assert parse_boot_time("{ sec = 999999999999, usec = 0 }") is None


def test_ps_of_this_very_machine() -> None:
    """The columns are POSIX's: this host's own ps speaks them too."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()", "an  argument"], stdin=subprocess.PIPE
    )
    try:
        text = subprocess.run(["ps", "-axww", "-o", PS_COLUMNS], capture_output=True, text=True, check=True).stdout
    finally:
        child.communicate()
    found = {line.pid: line for line in parse_ps(text)}
    assert found[child.pid].command.endswith("an  argument")
    assert len(found) == len(text.splitlines())


def test_ps() -> None:
    (one, two) = parse_ps("  PID  PPID USER STAT COMMAND\n    1     0 root Ss /sbin/launchd\n  99 1 _x Z+ (sysextd)\n")
    assert (one.pid, one.ppid, one.user, one.state, one.command) == (1, 0, "root", "Ss", "/sbin/launchd")
    assert (one.zombie, two.zombie) == (False, True)


def test_hdiutil() -> None:
    entities = [
        {"content-hint": "GUID_partition_scheme", "dev-entry": "/dev/disk4", "potentially-mountable": False},
        {"content-hint": "Apple_HFS", "dev-entry": "/dev/disk4s1", "mount-point": "/Volumes/My App"},
    ]
    data = plistlib.dumps({"system-entities": entities})
    image = parse_hdiutil_attach(b"Checksumming...\n" + data)
    assert (image.device, image.mount_points) == ("/dev/disk4", ("/Volumes/My App",))
    for bad in (b"", b"hdiutil: attach failed - no mountable file systems", plistlib.dumps({"system-entities": []})):
        with pytest.raises(FormatError):
            parse_hdiutil_attach(bad)


def test_installer() -> None:
    good = parse_installer(
        "installer: Package name is My App\ninstaller: Installing at base path /\ninstaller: The install was successful.\n"
    )
    assert (good.succeeded, good.package, good.errors) == (True, "My App", ())
    assert parse_installer("installer: The upgrade was successful.").succeeded
    bad = parse_installer(
        "installer: Package name is My App\ninstaller: The install failed. (The Installer encountered an error.)\n"
    )
    assert not bad.succeeded
    assert len(bad.errors) == 1
    assert not parse_installer("").succeeded
    assert not parse_installer("installer: Error - the package path specified was invalid: 'x'.").succeeded


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    parse_nc_list(text)
    parse_nc_list(f"* (Connected) {text}")
    parse_nc_status(text)
    assert parse_csrutil(text) in ("enabled", "disabled", "custom", "unknown")
    parse_sysctl(text)
    parse_boot_time(text)
    parse_ps(text)
    parse_installer(text)
    try:
        parse_sw_vers(text)
    except FormatError as error:
        assert error.seen
    try:
        parse_hdiutil_attach(text.encode("utf-8", "surrogatepass"))
    except FormatError as error:
        assert error.seen


@pytest.mark.timeout(60)
def test_no_text_takes_forever() -> None:
    """What would drive a careless pattern into trying everything: long runs of blanks, brackets and braces."""
    for piece in (" ", "[", "= {", "* (A) ", "Abc: ", "\t*", "a (", '"', "(1/1) ["):
        text = piece * (400_000 // len(piece))
        for form in (text, f"Process: x{text}", f"* (A) {text}", f"{text}\n" * 2, text.replace("A", "\n")):
            parse_nc_list(form)
            parse_ps(form)
            parse_sysctl(form)
            parse_installer(form)
            parse_csrutil(form)
            parse_listing(form)
            parse_launchctl_print(form)
            parse_launchctl_services(form)
            with contextlib.suppress(FormatError):
                parse_crash_report(form)
