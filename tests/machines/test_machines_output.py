"""What Tart prints, and what we make of it. The texts are Tart's own."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import EnvironmentFailure, HarnessError, SysextError, UsageError, Verdict
from harness.events import SECRETS
from harness.machines.base import EndReason
from harness.machines.tart_output import (
    TEXT_LIMIT,
    UnreadableOutput,
    clip,
    end_hint,
    explain,
    missing_vm,
    parse_end,
    parse_ip,
    parse_list,
    parse_vnc,
)

NEWER = """[
  {
    "Accessed" : "2026-08-04T10:11:12Z",
    "Disk" : 50,
    "Name" : "ghcr.io\\/cirruslabs\\/macos-tahoe-base:latest",
    "Running" : false,
    "Size" : 27,
    "Source" : "OCI",
    "State" : "stopped"
  }
]
"""


def test_list_of_both_generations():
    (row,) = parse_list(NEWER)
    assert (row.name, row.source, row.state, row.accessed) == (
        "ghcr.io/cirruslabs/macos-tahoe-base:latest",
        "OCI",
        "stopped",
        "2026-08-04T10:11:12Z",
    )
    assert (row.disk_gb, row.size_gb, row.local) == (50, 27, False)
    (row,) = parse_list(
        '[{"Source":"local","Name":"a","Disk":50,"Size":25,"SizeOnDisk":24,"Running":true,"State":"running"}]'
    )
    assert (row.state, row.accessed, row.local, row.size_gb) == ("running", "", True, 25)
    (row,) = parse_list('[{"Source":"local","Name":"a","SizeOnDisk":24,"Running":true}]')
    assert (row.state, row.size_gb) == ("running", 24)
    assert parse_list("[\n\n]") == []


@pytest.mark.parametrize("text", ["", "\n", "Source Name Disk", "{}", "[1]", '[{"Source":"local"}]', "[" * 100000])
def test_list_that_is_none_is_an_error_and_not_an_empty_list(text):
    with pytest.raises(UnreadableOutput) as caught:
        parse_list(text)
    assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE
    assert len(str(caught.value)) < 3 * TEXT_LIMIT


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda c: st.lists(c, max_size=4)
)


@settings(max_examples=40)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"Name": st.text(min_size=1), "State": st.sampled_from(["running", "stopped", "suspended"])},
            optional=dict.fromkeys(("Source", "Disk", "Size", "SizeOnDisk", "Accessed", "Running", "New"), _JSON),
        )
    )
)
def test_list_keeps_names_and_states_whatever_else_comes(rows):
    parsed = parse_list(json.dumps(rows))
    assert [(row.name, row.state) for row in parsed] == [(row["Name"], row["State"]) for row in rows]


@given(st.text())
def test_parsers_survive_any_text(text):
    for parse in (parse_vnc, parse_ip, missing_vm, clip):
        parse(text)
    assert isinstance(explain("clone", 1, text), SysextError)
    parse_end(text, 0, announced=True)
    with contextlib.suppress(UnreadableOutput):
        parse_list(text)


def test_vnc_line():
    found = parse_vnc("VNC server is running at vnc://:abandon-ability-able-about@127.0.0.1:50123\n")
    assert (found.host, found.port, found.password) == ("127.0.0.1", 50123, "abandon-ability-able-about")
    assert "abandon" not in repr(found) + str(found)
    assert parse_vnc("x\nOpening vnc://:a-b-c-d@127.0.0.1:5901...\n").port == 5901
    assert parse_vnc("vnc://user:a-b@[::1]:5901 (new words)\n").host == "::1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "VNC server is running at vnc://192.168.64.3\n",  # --vnc: the guest's own, no password
        "VNC server is running at vnc://:a-b-c-d@127.0.0.1:501",  # still being written
        "vnc://:a@127.0.0.1:0\n",
        "vnc://:a@127.0.0.1:65536\n",
    ],
)
def test_no_vnc_line(text):
    assert parse_vnc(text) is None


_WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=8)


@given(st.lists(_WORD, min_size=4, max_size=4), st.integers(1, 65535), st.text(max_size=40))
def test_vnc_line_torn_at_any_point_is_whole_or_nothing(words, port, before):
    line = f"{before}\nVNC server is running at vnc://:{'-'.join(words)}@127.0.0.1:{port}\n"
    whole = parse_vnc(line)
    assert (whole.password, whole.port) == ("-".join(words), port)
    for cut in range(len(line)):
        assert parse_vnc(line[:cut]) in (None, whole)


def test_ip():
    assert parse_ip("192.168.64.7\n") == "192.168.64.7"
    assert parse_ip("note\n192.168.64.7\n\n") == "192.168.64.7"
    assert parse_ip("192.168.64\n") is None
    assert parse_ip("") is None


LIMIT = "The number of VMs exceeds the system limit (other running VMs: a, b)"
KEYCHAIN = 'Error Domain=VZErrorDomain Code=-9 "The virtual machine encountered a security error." UserInfo={}'
OTHER = 'Error Domain=VZErrorDomain Code=2 "Failed to lock auxiliary storage." UserInfo={}'


@pytest.mark.parametrize(
    ("text", "code", "announced", "reason"),
    [
        ("guest has stopped the virtual machine", 0, True, EndReason.POWER_OFF),
        ("guest has stopped the virtual machine due to error: Error Domain=…", 0, True, EndReason.PANIC),
        (
            "virtual machine's network attachment <VZNAT> has been disconnected with error: x",
            0,
            True,
            EndReason.NETWORK_LOST,
        ),
        ('RuntimeFailed(why: "Softnet process terminated prematurely")', 1, True, EndReason.NETWORK_LOST),
        ("Stopping VM...", 0, True, EndReason.STOPPED),
        ("Stopping VM...\nguest has stopped the virtual machine", 0, True, EndReason.STOPPED),
        ("Stopping VM...", -9, True, EndReason.KILLED),
        ("", 143, True, EndReason.KILLED),
        ("", -15, True, EndReason.KILLED),
        (
            "creating a snapshot...\nsnapshot created successfully! shutting down the VM...",
            0,
            True,
            EndReason.SUSPENDED,
        ),
        ("Failed to suspend the VM: Invalid virtual machine configuration. …", 1, True, EndReason.UNKNOWN),
        (LIMIT, 1, False, EndReason.VM_LIMIT),
        ("The number of VMs exceeds the system limit", 1, False, EndReason.VM_LIMIT),
        (KEYCHAIN, 1, False, EndReason.KEYCHAIN),
        ("Unexpected error: SecKeyCreateRandomKey_ios failed", 1, False, EndReason.KEYCHAIN),
        (OTHER, 1, False, EndReason.START_FAILED),
        ("CancellationError()", 1, False, EndReason.START_FAILED),
        ("", 1, True, EndReason.UNKNOWN),
        ("", 0, True, EndReason.UNKNOWN),
    ],
)
def test_end_reason(text, code, announced, reason):
    end = parse_end(f"VNC server is running at vnc://:a-b-c-d@127.0.0.1:1\n{text}\n", code, announced=announced)
    assert (end.reason, end.exit_code) == (reason, code)
    assert "vnc://" not in end.text
    assert end.text == text
    assert end_hint(end)


def test_hint_of_the_general_start_error_names_the_keychain_only_there():
    internal = parse_end('Error Domain=VZErrorDomain Code=1 "Internal Virtualization error."', 1, announced=False)
    assert internal.reason is EndReason.START_FAILED
    assert "unlock-keychain" in end_hint(internal)
    assert "unlock-keychain" not in end_hint(parse_end("something else", 1, announced=False))


def test_end_text_is_bounded_and_masked():
    secret = SECRETS.add("hunter2-of-the-end-test")
    end = parse_end("x" * 50_000 + secret, 1, announced=False)
    assert len(end.text) <= TEXT_LIMIT
    assert secret not in end.text


@pytest.mark.parametrize(
    ("verb", "code", "text", "kind", "words"),
    [
        ("clone", 2, 'the specified VM "x" does not exist', UsageError, "tart list"),
        ("delete", 2, 'the specified VM "x" does not exist', EnvironmentFailure, "clean-up"),
        (
            "clone",
            1,
            'Error: UnexpectedHTTPStatusCode(when: "pulling manifest", code: 404, details: "…")',
            UsageError,
            "image that exists",
        ),
        (
            "clone",
            1,
            'Error: UnexpectedHTTPStatusCode(when: "auth", code: 401, details: "")',
            UsageError,
            "tart login",
        ),
        (
            "clone",
            1,
            'Error: UnexpectedHTTPStatusCode(when: "pulling disk", code: 503, details: "")',
            EnvironmentFailure,
            "registry",
        ),
        ("clone", 1, "failed to parse remote name: a//b", UsageError, "NAMESPACE"),
        (
            "clone",
            1,
            "VM is missing some of its files (config.json, disk.img or nvram.bin)",
            EnvironmentFailure,
            "in part",
        ),
        ("clone", 1, 'Error Domain=NSPOSIXErrorDomain Code=28 "No space left on device"', EnvironmentFailure, "prune"),
        ("list", 1, "TART_HOME is invalid: /x does not exist, yet we can't create it: …", UsageError, "tart.home"),
        (
            "set",
            1,
            "Error: LessThanMinimalResourcesError: VM should have 4 CPU cores at minimum (requested 1)",
            UsageError,
            "tart.cpu",
        ),
        ("ip", 64, "Error: Unknown option '--resolver'\nUsage: tart ip <name>", HarnessError, "upgrade"),
        ("set", 64, "Error: something else\nUsage: tart set", HarnessError, "upgrade"),
        ("start", 1, LIMIT, EnvironmentFailure, "at most two"),
        ("start", 1, KEYCHAIN, EnvironmentFailure, "unlock-keychain"),
        ("stop", 1, OTHER, EnvironmentFailure, "left-over"),
        ("delete", 1, 'VM "x" is running', EnvironmentFailure, "by hand"),
        ("clone", 1, "", EnvironmentFailure, "printed nothing"),
    ],
)
def test_errors_of_tart_become_ours(verb, code, text, kind, words):
    error = explain(verb, code, text, subject="x")
    assert type(error) is kind
    assert words in str(error)
    assert error.hint
    assert text.splitlines()[0] in str(error) if text else True
