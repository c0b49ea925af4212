"""db.plist: the keys of posted databases, both plist forms, and what is none."""

from __future__ import annotations

import contextlib
import plistlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.formats import ExtensionState, FormatError
from harness.formats.database import parse_database

UNIQUE = "50FECB81-5E79-44EF-B57F-225878395F85"
EXTENSION: dict[str, Any] = {
    "identifier": "org.example.ext",
    "teamID": "S8XHQB96PW",
    "uniqueID": UNIQUE,
    "state": "activated_waiting_for_user",
    "categories": ["com.apple.system_extension.network_extension"],
    "bundleVersion": {"CFBundleShortVersionString": "2.0", "CFBundleVersion": "1"},
    "container": {"bundlePath": "/Applications/My App.app"},
    "originPath": "/Applications/My App.app/Contents/Library/SystemExtensions/org.example.ext.systemextension",
    "references": [{"appIdentifier": "org.example", "appRef": "file:///.file/id=1.2/", "teamID": "S8XHQB96PW"}],
    "stagedBundleURL": {"relative": f"file:///Library/SystemExtensions/{UNIQUE}/org.example%20ext.systemextension/"},
    "stagedCdhashes": {"C6210F78B1D3E33B21142DD81367A6502B0F60F0": {"cputype": 16777228, "cpusubtype": 0}},
    "additionalLaunchdPlistEntries": b"bplist00",
}
DATABASE: dict[str, Any] = {
    "version": 1,
    "bootUUID": "7871ABF2-F319-49C9-B9FD-884E994F3DF5",
    "developerMode": False,
    "extensions": [EXTENSION],
    "extensionPolicies": [{"allowedTeamIDs": ["T1"], "allowedExtensions": {"T2": ["a.b", "c.d"]}, "other": 1}],
}


@pytest.mark.parametrize("form", [plistlib.FMT_BINARY, plistlib.FMT_XML])
def test_everything(form: plistlib.PlistFormat) -> None:
    database = parse_database(plistlib.dumps(DATABASE, fmt=form))
    assert (database.version, database.boot_uuid, database.developer_mode) == (
        1,
        "7871ABF2-F319-49C9-B9FD-884E994F3DF5",
        False,
    )
    (entry,) = database.extensions
    assert (entry.identifier, entry.team, entry.unique_id) == ("org.example.ext", "S8XHQB96PW", UNIQUE)
    assert entry.state == ExtensionState.WAITING_FOR_USER
    assert entry.known
    assert (entry.short, entry.build, entry.categories) == ("2.0", "1", ("network_extension",))
    assert entry.bundle_path == "/Applications/My App.app"
    assert entry.origin_path.endswith("org.example.ext.systemextension")
    assert entry.staged_path == f"/Library/SystemExtensions/{UNIQUE}/org.example ext.systemextension"
    (staged,) = entry.staged_cdhashes
    assert (staged.cdhash, staged.cpu_type, staged.cpu_subtype) == (
        "c6210f78b1d3e33b21142dd81367a6502b0f60f0",
        16777228,
        0,
    )
    assert entry.launchd_entries
    assert entry.references[0].app_identifier == "org.example"
    (policy,) = database.policies
    assert policy.allowed_teams == ("T1",)
    assert policy.allowed_extensions == (("T2", ("a.b", "c.d")),)
    assert policy.keys == ("allowedExtensions", "allowedTeamIDs", "other")


def test_what_may_be_missing() -> None:
    """A posted entry has the container "$null", numbers for versions, and no launchd entries after a replacement."""
    odd = {"identifier": "a.b", "state": "activated_enabled", "container": "$null", "teamID": "-"}
    odd["bundleVersion"] = {"CFBundleShortVersionString": 5.5, "CFBundleVersion": 6273}
    database = parse_database(plistlib.dumps({"extensions": [odd, "nonsense"], "version": 1}))
    (entry,) = database.extensions
    assert (entry.bundle_path, entry.short, entry.build, entry.team) == ("", "5.5", "6273", "")
    assert not entry.launchd_entries
    assert (entry.staged_path, entry.staged_cdhashes, entry.references) == ("", (), ())
    assert database.policies == ()


def test_two_entries_and_a_leftover() -> None:
    rows = [
        {**EXTENSION, "state": "activated_enabled"},
        {**EXTENSION, "state": "activated_waiting_to_upgrade"},
        {**EXTENSION, "state": "terminated_waiting_to_uninstall_on_reboot"},
    ]
    database = parse_database(plistlib.dumps({**DATABASE, "extensions": rows}))
    assert len(database.of("org.example.ext")) == 2
    assert len(database.of("org.example.ext", leftovers=True)) == 3
    assert database.extensions[2].leftover


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"bplist00",
        b"not a plist",
        plistlib.dumps(DATABASE, fmt=plistlib.FMT_BINARY)[:-40],
        plistlib.dumps(DATABASE)[:-40],
        plistlib.dumps([1, 2]),
        plistlib.dumps({"something": "else"}),
        plistlib.dumps({"extensions": "text"}),
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaa">]><plist><dict><key>&a;</key></dict></plist>',
    ],
)
def test_what_is_no_database(data: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse_database(data)
    assert "db.plist" in error.value.expected
    assert error.value.seen


def test_a_posted_database(samples: dict[str, str]) -> None:
    database = parse_database(samples["fmt-033"].encode())
    (entry,) = database.extensions
    assert (entry.identifier, entry.short, entry.state) == (
        "com.objective-see.lulu.extension",
        "2.0.0",
        "activated_enabled",
    )
    assert entry.staged_path.startswith("/Library/SystemExtensions/B4A2DE3D-")
    assert not entry.launchd_entries


@given(st.data())
def test_damage_is_an_error_or_read(data: st.DataObject) -> None:
    raw = bytearray(plistlib.dumps(DATABASE, fmt=data.draw(st.sampled_from([plistlib.FMT_BINARY, plistlib.FMT_XML]))))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError):
        parse_database(bytes(raw))


_LEAF = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.binary(max_size=5)
_ANY = st.recursive(
    _LEAF.filter(lambda value: value is not None),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(EXTENSION)), _ANY, max_size=12), _ANY)
def test_wrong_types_everywhere(entry: dict[str, Any], policies: Any) -> None:
    database = {"extensions": [entry], "version": 1, "extensionPolicies": policies, "developerMode": policies}
    try:
        raw = plistlib.dumps(database, fmt=plistlib.FMT_BINARY)
    except (TypeError, ValueError, OverflowError):
        return
    (found,) = parse_database(raw).extensions
    assert isinstance(found.state, str)
