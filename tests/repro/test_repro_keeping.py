"""Kept Macs: found, described, put away."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness import events
from harness.cli.attach import attach, describe
from harness.config import GuestSettings, Settings
from harness.errors import UsageError
from harness.machines.base import Endpoint, VncEndpoint
from harness.machines.leases import Door, LeaseFile, Leases
from harness.machines.tart_cli import TartCli
from harness.repro.keeping import find_kept, put_away

NAME = "sysext-upgrade-15-0123abcd"
SECRET = "raven-table-kiwi"
STUB = """#!/bin/sh
# A stand-in for tart: one VM, whose state is in the file `state` beside it.
here=$(dirname "$0")
case $1 in
list) state=$(cat "$here/state"); [ "$state" = absent ] && echo "[]" && exit 0
      echo "[{\\"Source\\": \\"local\\", \\"Name\\": \\"$(cat "$here/name")\\", \\"State\\": \\"$state\\", \\"Disk\\": 50, \\"Size\\": 20}]";;
ip) cat "$here/ip";;
stop) echo stopped > "$here/state";;
delete) echo absent > "$here/state";;
esac
"""


@pytest.fixture
def tart(tmp_path: Path) -> Path:
    """The folder of the stand-in."""
    folder = tmp_path / "tart"
    folder.mkdir()
    (folder / "tart").write_text(STUB)
    (folder / "tart").chmod(0o755)
    (folder / "name").write_text(NAME)
    (folder / "state").write_text("running")
    (folder / "ip").write_text("127.0.0.9\n")
    return folder


@pytest.fixture
def ssh() -> Iterator[Endpoint]:
    """A port that says what an SSH server says."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"SSH-2.0-stub\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield Endpoint("127.0.0.1", server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache")


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "upgrade-macos15"
    log = events.EventLog(
        folder / "run.jsonl", scenario="upgrade", macos="15", release="2.0", image="i:latest", nodeid="x::y"
    )
    with events.use(log), events.step("create machine") as step:
        step.note(machine=NAME)
    log.event("machine-kept", machine=NAME)
    log.event("result", verdict="product-failure", error="it broke\nmore", cause="a-cause")
    log.close()
    (folder / "machine").mkdir()
    (folder / "machine" / "known_host").write_text("ssh-ed25519 AAAAC3Nz\n")
    return folder


@pytest.fixture
def lease(tart: Path, settings: Settings, case: Path, ssh: Endpoint) -> LeaseFile:
    """Of a Mac that was kept."""
    cli = TartCli(str(tart / "tart"), home=tart)
    lease = Leases(settings.cache_dir / "leases").open(
        name=NAME, provider="tart", simulated=False, image="i", cli=cli, folder=case / "machine"
    )
    lease.update(kept=True, door=Door.of(ssh, VncEndpoint("127.0.0.1", 5901, SECRET), user="admin"))
    return lease


@pytest.mark.parametrize("target", ["case", "run.jsonl", NAME, "upgrade-15"])
def test_by_its_case_or_its_name(lease: LeaseFile, case: Path, settings: Settings, ssh: Endpoint, target: str) -> None:
    where = {"case": str(case), "run.jsonl": str(case / "run.jsonl")}.get(target, target)

    kept = find_kept(where, settings)

    assert (kept.name, kept.state, kept.ssh, kept.trouble) == (NAME, "running", ssh, "")
    assert kept.case is not None
    assert kept.case.cause == "a-cause"


def test_ssh_trusts_the_pinned_key_only(lease: LeaseFile, case: Path, settings: Settings, ssh: Endpoint) -> None:
    command = find_kept(NAME, settings).ssh_command(settings.guest)

    assert (command[0], command[-1]) == ("ssh", f"admin@{ssh.host}")
    assert {"StrictHostKeyChecking=yes", f"HostKeyAlias={NAME}", "PubkeyAuthentication=no"} <= set(command)
    assert (case / "machine" / "known_hosts").read_text() == f"{NAME} ssh-ed25519 AAAAC3Nz\n"


def test_a_key_of_ones_own(lease: LeaseFile, settings: Settings) -> None:
    command = find_kept(NAME, settings).ssh_command(GuestSettings(key=Path("/k/id")))

    assert 'IdentityFile="/k/id"' in command
    assert "PubkeyAuthentication=no" not in command


def test_without_a_pinned_key_nothing_is_compared(lease: LeaseFile, case: Path, settings: Settings) -> None:
    (case / "machine" / "known_host").unlink()

    assert "StrictHostKeyChecking=accept-new" in find_kept(NAME, settings).ssh_command(settings.guest)


def test_the_lease_is_for_its_owner_and_shows_no_password(lease: LeaseFile, settings: Settings) -> None:
    assert lease.path.stat().st_mode & 0o077 == 0
    assert SECRET not in repr(lease.lease) + repr(find_kept(NAME, settings))


def test_the_password_is_told_only_if_asked(lease: LeaseFile, case: Path, settings: Settings) -> None:
    kept = find_kept(str(case), settings)
    without, with_it = ("\n".join(describe(kept, settings, target="x", password=shown)) for shown in (False, True))

    assert SECRET not in without
    assert "vnc://127.0.0.1:5901" in without
    assert f"vnc://:{SECRET}@127.0.0.1:5901" in with_it


def test_what_it_says(lease: LeaseFile, case: Path, settings: Settings) -> None:
    lines = describe(
        find_kept(str(case), settings),
        settings,
        target=str(case),
        password=False,
        now=datetime.now(UTC) + timedelta(hours=3),
    )

    text = "\n".join(lines)
    assert lines[0] == f"{NAME} is kept and runs."
    for part in (
        "upgrade, macOS 15, release 2.0",
        "product-failure: a-cause",
        "it broke",
        "(3 h ago)",
        str(case),
        "--delete",
    ):
        assert part in text
    assert "more" not in text


def test_an_address_that_has_changed_is_asked_for(
    lease: LeaseFile, tart: Path, settings: Settings, ssh: Endpoint
) -> None:
    lease.update(door=Door.of(Endpoint("127.0.0.1", 1), None, user="admin"))
    (tart / "ip").write_text("127.0.0.1\n")

    kept = find_kept(NAME, settings.model_copy(update={"guest": GuestSettings(ssh_port=ssh.port)}))

    assert kept.ssh == ssh
    assert kept.vnc_url(password=True) == ""


@pytest.mark.parametrize(
    ("state", "word"), [("stopped", "is stopped"), ("suspended", "is suspended"), ("absent", "no longer there")]
)
def test_one_that_does_not_run(
    lease: LeaseFile, tart: Path, case: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, state: str, word: str
) -> None:
    (tart / "state").write_text(state)
    monkeypatch.setenv("SYSEXT_CACHE", str(settings.cache_dir))

    done = CliRunner().invoke(attach, [str(case), "--ssh"])

    assert done.exit_code == 1
    assert word in done.output
    assert f"sysext replay {case}" in done.output
    assert ("start it with" in done.output) is (state != "absent")


def test_one_that_was_put_away(case: Path, settings: Settings) -> None:
    kept = find_kept(str(case), settings)

    assert kept.state == "gone"
    assert describe(kept, settings, target="x", password=False)[0] == f"{NAME} was put away."


def test_put_away(lease: LeaseFile, tart: Path, settings: Settings) -> None:
    kept = find_kept(NAME, settings)

    assert put_away(kept, settings)
    assert not lease.path.exists()
    assert (tart / "state").read_text().strip() == "absent"
    assert not put_away(kept, settings)


def test_one_in_use_is_left_alone(lease: LeaseFile, tart: Path, settings: Settings) -> None:
    lease.update(kept=False)

    with pytest.raises(UsageError, match="in use by process"):
        put_away(find_kept(NAME, settings), settings)
    assert (tart / "state").read_text() == "running"
    assert "in use, not kept" in describe(find_kept(NAME, settings), settings, target="x", password=False)[0]


def test_names_that_mean_nothing_or_too_much(lease: LeaseFile, tart: Path, settings: Settings) -> None:
    cli = TartCli(str(tart / "tart"), home=tart)
    Leases(settings.cache_dir / "leases").open(name=f"{NAME}2", provider="tart", simulated=False, image="i", cli=cli)

    with pytest.raises(UsageError, match="no Macs of that name"):
        find_kept("nothing", settings)
    with pytest.raises(UsageError, match="2 Macs of that name"):
        find_kept("upgrade", settings)
    assert find_kept(NAME, settings).name == NAME


def test_a_scenario_without_a_mac(tmp_path: Path, settings: Settings) -> None:
    events.EventLog(tmp_path / "run.jsonl", scenario="x").close()

    with pytest.raises(UsageError, match="sysext replay"):
        find_kept(str(tmp_path), settings)


def test_the_case_of_a_later_cycle_on_the_same_mac(lease: LeaseFile, case: Path, settings: Settings) -> None:
    first = case.with_name("earlier-macos15")
    case.rename(first)
    lease.update(folder=str(first / "machine"))
    text = (first / "run.jsonl").read_text()
    (first / "run.jsonl").write_text(
        "".join(line for line in text.splitlines(keepends=True) if "machine-kept" not in line)
    )
    log = events.EventLog(case / "run.jsonl", scenario="upgrade, later")
    log.event("same-mac", machine=NAME)
    log.event("machine-kept", machine=NAME)
    log.close()

    kept = find_kept(NAME, settings)

    assert kept.case is not None
    assert kept.case.text("scenario") == "upgrade, later"


@pytest.mark.parametrize("options", [["--ssh", "--vnc"], ["--ssh", "--delete"]])
def test_one_thing_at_a_time(case: Path, options: list[str]) -> None:
    done = CliRunner().invoke(attach, [str(case), *options])

    assert isinstance(done.exception, UsageError)


def test_ssh_is_what_it_becomes(
    lease: LeaseFile, case: Path, settings: Settings, ssh: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def execvp(_file: str, command: list[str]) -> None:
        ran.append(command)
        raise click.exceptions.Exit(0)

    monkeypatch.setenv("SYSEXT_CACHE", str(settings.cache_dir))
    monkeypatch.setattr("os.execvp", execvp)
    done = CliRunner().invoke(attach, [str(case), "--ssh"])

    assert done.exit_code == 0
    assert ran[0][:3] == ["ssh", "-p", str(ssh.port)]
    assert SECRET not in done.output


@pytest.mark.skipif(sys.platform == "darwin", reason="opens the viewer there")
def test_vnc_to_a_pipe_shows_no_password(
    lease: LeaseFile, case: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSEXT_CACHE", str(settings.cache_dir))

    outputs = [CliRunner().invoke(attach, [str(case), "--vnc", *more]).output for more in ([], ["--show-password"])]

    assert outputs == ["vnc://127.0.0.1:5901\n", f"vnc://:{SECRET}@127.0.0.1:5901\n"]


def test_an_old_lease_has_no_door(lease: LeaseFile, settings: Settings) -> None:
    data = json.loads(lease.path.read_text())
    del data["door"]
    lease.path.write_text(json.dumps(data))

    kept = find_kept(NAME, settings)

    assert (kept.since, kept.door, kept.vnc_url(password=True)) == (None, None, "")
