"""The short verbs, against the stub."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from harness.errors import EnvironmentFailure, UsageError, Verdict, WaitTimeout
from harness.machines.processes import birth
from harness.machines.tart_cli import TartCli
from harness.waiting import Deadline

IMAGE = "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest"


def test_no_executable(tmp_path, deadline):
    for name in ("no-such-tart", str(tmp_path / "tart")):
        with pytest.raises(UsageError, match="--sysext-provider simulated"):
            TartCli(name).list(deadline)


def test_file_that_is_no_program(tmp_path, deadline):
    path = tmp_path / "tart"
    path.write_bytes(b"\x7fELF but not really")
    path.chmod(0o755)
    with pytest.raises(UsageError, match=r"tart\.executable"):
        TartCli(str(path)).list(deadline)


def test_every_call_has_the_environment_that_tart_needs(stub, deadline, monkeypatch):
    monkeypatch.setenv("SYSEXT_GUEST__PASSWORD", "secret-of-the-guest")
    monkeypatch.delenv("CI", raising=False)
    stub.cli().derived({"EXTRA": "yes"}).list(deadline)
    (environment,) = stub.environments()
    assert environment == {"CI": "1", "TART_NO_AUTO_PRUNE": "1", "SYSEXT_GUEST__PASSWORD": None, "EXTRA": "yes"}


def test_list_of_an_old_tart(stub, deadline):
    stub.told(version="2.30.6")
    cli = stub.cli()
    assert cli.version(deadline) == "2.30.6"
    assert [(row.name, row.state, row.accessed) for row in cli.list(deadline)] == [(IMAGE, "stopped", "")]
    stub.told()
    assert cli.list(deadline)[0].accessed == "2026-08-04T10:11:12Z"


def test_empty_list(stub, deadline):
    stub.told(images=[])
    assert stub.cli().list(deadline) == []


def test_pull_progress_is_told_in_tens(stub, deadline, seen):
    stub.told(remote=["ghcr.io/a/b:c"])
    pids: list[int | None] = []
    stub.cli().clone("ghcr.io/a/b:c", "vm", deadline, on_pid=pids.append)
    told = [record["attributes"] for record in seen if record["name"] == "pull-progress"]
    assert [event["percent"] for event in told if "percent" in event] == [0, 10, 55, 100]
    assert [event["doing"] for event in told if "doing" in event] == [
        "pulling manifest...",
        "pulling disk (14.3 GB compressed)...",
        "pulling NVRAM...",
    ]
    assert len(pids) == 2
    assert isinstance(pids[0], int)
    assert pids[1] is None


def test_a_command_that_hangs_is_ended(stub, deadline):
    stub.told(clone_seconds=60)
    pids: list[int | None] = []
    with pytest.raises(WaitTimeout, match=r"(?s)tart clone.*tart pull") as caught:
        stub.cli().clone(IMAGE, "vm", Deadline(1.0), on_pid=pids.append)
    assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE
    assert pids[0] is not None
    assert not psutil.pid_exists(pids[0])


def test_a_grandchild_that_holds_the_pipes_does_not_hold_us(tmp_path, deadline):
    path = tmp_path / "tart"
    path.write_text('#!/bin/sh\nsleep 20 &\necho $! > "$TART_HOME/pid"\necho 2.35.0\n')
    path.chmod(0o755)
    assert TartCli(str(path), home=tmp_path).version(deadline) == "2.35.0"
    child = int((tmp_path / "pid").read_text())
    assert birth(child) is not None  # so it was not its end that we waited for
    os.kill(child, signal.SIGKILL)


def test_ip(stub, deadline):
    cli = stub.cli()
    cli.clone(IMAGE, "vm", deadline)
    stub.told(ip={"dhcp": [None, "192.168.64.9"], "agent": ["192.168.64.10"]})
    assert [cli.ip("vm", "dhcp", deadline), cli.ip("vm", "dhcp", deadline)] == [None, "192.168.64.9"]
    assert cli.ip("vm", "agent", deadline) == "192.168.64.10"
    assert stub.calls("ip") == [["ip", "vm"], ["ip", "vm"], ["ip", "vm", "--resolver", "agent"]]
    with pytest.raises(EnvironmentFailure, match="does not exist"):
        cli.ip("other", "dhcp", deadline)


def test_stop_and_delete_of_what_is_not_there(stub, deadline):
    cli = stub.cli()
    cli.clone(IMAGE, "vm", deadline)
    assert cli.stop("vm", deadline) is False
    assert cli.stop("other", deadline) is False
    assert cli.delete("vm", deadline) is True
    assert cli.delete("vm", deadline) is False
    assert stub.vms() == []


def test_set_says_all_at_once(stub, deadline):
    cli = stub.cli()
    cli.clone(IMAGE, "vm", deadline)
    cli.set("vm", cpu=4, memory_mb=8192, display="1920x1080px", deadline=deadline)
    assert stub.calls("set") == [
        ["set", "vm", "--cpu", "4", "--memory", "8192", "--display", "1920x1080px", "--random-mac"]
    ]


def test_output_that_is_no_utf8_and_very_long(stub, tmp_path, deadline):
    path = tmp_path / "noisy"
    path.write_text("#!/bin/sh\nhead -c 6000000 /dev/zero\nprintf '\\377\\n' >&2\nexit 3\n")
    path.chmod(0o755)
    result = TartCli(str(path)).call("list", deadline=deadline)
    assert (result.code, len(result.stdout), result.stderr) == (3, 4 * 1024 * 1024, "\ufffd\n")
