"""`tart run` for real: a process, its lock and signals, the SSH and VNC doors, reboot, faults."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
import pytest

from harness.simulator.addresses import Forwards, Leases
from harness.simulator.images import find_image, parse_remote
from harness.simulator.store import VM, Store
from harness.waiting import Deadline, wait_until

IMAGE = "ghcr.io/cirruslabs/macos-sequoia-{}:latest"
QUICK = {
    f"SYSEXT_SIM_{name}_SECONDS": "0.05"
    for name in ("BOOT", "LOGIN", "PROMPT", "SETTLE", "SHUTDOWN", "ACTIVATION", "SYSDIAGNOSE")
} | {"SYSEXT_SIM_VM_LIMIT": "9"}


@dataclass
class Mac:
    """One `tart run` under test."""

    bench: TartBench
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    clients: list[paramiko.SSHClient] = field(default_factory=list)

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def printed_line(self, pattern: str) -> re.Match[str]:
        return wait_until(
            lambda: re.search(pattern, self.printed, re.M), what=f"{pattern} in the output", deadline=Deadline.after(30)
        )  # type: ignore[return-value]

    def end(self) -> int:
        return self.process.wait(timeout=30)

    def address(self) -> tuple[str, int]:
        """As `tart ip` and `tart sim-forward` tell it, without starting them (one test does)."""
        store = Store(self.bench.home)
        mac = VM(self.name, self.bench.home / "vms" / self.name).config()["macAddress"]

        def look() -> tuple[str, int] | None:
            ip = Leases(store.home).lookup(mac)
            found = Forwards(store.home).of(ip, 22) if ip else None
            return found if found and found[1] != 22 else None

        found = wait_until(look, what=f"the address of {self.name}", deadline=Deadline.after(30), interval=0.02)
        assert found is not None
        return found

    def connect(self, password: str = "admin", **more: object) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())

        def attempt() -> paramiko.SSHClient:
            client.connect(
                *self.address(), username="admin", password=password, allow_agent=False, look_for_keys=False, timeout=10,
                **more,  # type: ignore[arg-type]
            )  # fmt: skip
            return client

        self.clients.append(client)
        return wait_until(
            attempt, what="SSH", deadline=Deadline.after(30), interval=0.05,
            transient=(OSError, paramiko.SSHException) if password == "admin" else (ConnectionError,),
        )  # fmt: skip

    def journal(self) -> list[dict[str, object]]:
        path = self.bench.home / "vms" / self.name / "simulator.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]


class TartBench:
    """A TART_HOME, and everything started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.started: list[Mac] = []

    def _environment(self, env: dict[str, str]) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SYSEXT_") and key != "CI"}
        return clean | QUICK | {"TART_HOME": str(self.home)} | env

    def __call__(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness.simulator.tart", *words]
        environment = self._environment(env or {})
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)

    def run(self, name: str, *more: str, flavour: str = "vanilla", env: dict[str, str] | None = None) -> Mac:
        if not (self.home / "vms" / name).exists():
            self.clone(flavour, name)
        log = self.folder / f"{name}-{len(self.started)}.log"
        command = [sys.executable, "-m", "harness.simulator.tart", "run", name, "--no-graphics", *more]
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=self._environment(env or {}), stdout=file, stderr=subprocess.STDOUT)
        mac = Mac(self, name, process, log)
        self.started.append(mac)
        return mac

    def clone(self, flavour: str, name: str) -> None:
        remote = parse_remote(IMAGE.format(flavour))
        assert remote is not None
        image = find_image(remote)
        assert image is not None
        store = Store(self.home)
        store.clone(store.add_image(remote, image), name)

    def state(self, name: str) -> str:
        return Store(self.home).find(name).state

    def close(self) -> None:
        for mac in self.started:
            for client in mac.clients:
                client.close()
            if mac.process.poll() is None:
                mac.process.kill()
            mac.process.wait()


@pytest.fixture
def tart(tmp_path: Path) -> Iterator[TartBench]:
    bench = TartBench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mac]:
    """One machine for the tests that leave it as it was (an image with the guest agent)."""
    bench = TartBench(tmp_path_factory.mktemp("shared"))
    mac = bench.run("shared", "--vnc-experimental", flavour="base")
    mac.connect()
    yield mac
    bench.close()


def run(client: paramiko.SSHClient, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    channel_in, out, err = client.exec_command(command, timeout=30)
    channel_in.write(stdin)
    channel_in.channel.shutdown_write()
    output, errors = out.read(), err.read()
    return out.channel.recv_exit_status(), output, errors


class TestSsh:
    def test_commands(self, shared: Mac) -> None:
        client = shared.connect()
        assert run(client, "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
        assert run(client, "cat; pwd; echo $HOME $USER", b"\x00\xff in\n") == (
            0,
            b"\x00\xff in\n/Users/admin\n/Users/admin admin\n",
            b"",
        )
        assert run(client, "sw_vers -productVersion")[1] == b"15.6.1\n"
        assert run(client, "nosuch")[0] == 127

    def test_a_wrong_password_does_not_let_in(self, shared: Mac) -> None:
        with pytest.raises(paramiko.AuthenticationException):
            shared.connect(password="wrong")

    def test_a_key_lets_in(self, shared: Mac) -> None:
        key = paramiko.RSAKey.generate(2048)
        host, port = shared.address()
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        options: dict[str, object] = {"username": "admin", "pkey": key, "allow_agent": False, "look_for_keys": False}
        with pytest.raises(paramiko.SSHException):
            client.connect(host, port, **options)  # type: ignore[arg-type]
        run(
            shared.connect(),
            "mkdir -p .ssh; cat > .ssh/authorized_keys",
            f"{key.get_name()} {key.get_base64()} me\n".encode(),
        )
        client.connect(host, port, **options)  # type: ignore[arg-type]
        assert run(client, "whoami")[1] == b"admin\n"
        client.close()

    def test_streams_as_it_is_produced_and_ends_with_the_channel(self, shared: Mac) -> None:
        client = shared.connect()
        channel = client.get_transport().open_session()  # type: ignore[union-attr]
        channel.exec_command("echo first; sleep 300; echo never")
        channel.settimeout(20)
        assert channel.recv(100) == b"first\n"
        assert run(client, "pgrep -x sleep")[0] == 0
        channel.close()
        wait_until(
            lambda: run(client, "pgrep -x sleep")[0], lambda c: c == 1, what="sleep to end", deadline=Deadline.after(20)
        )

    def test_a_background_job_outlives_its_channel(self, shared: Mac) -> None:
        client = shared.connect()
        code, out, _ = run(client, "nohup sleep 251 > /dev/null 2>&1 & echo $!")
        assert code == 0
        assert int(out) > 1
        assert b"sleep 251" in run(client, "ps ax -o command")[1]
        assert run(client, "pkill -f 'sleep 251'; sleep 0.1; pgrep -f 'sleep 251'")[0] == 1

    def test_a_process_group_can_be_ended(self, shared: Mac) -> None:
        client = shared.connect()
        channel = client.get_transport().open_session()  # type: ignore[union-attr]
        channel.exec_command("echo $$; (sleep 261 > /dev/null 2>&1 &) ; sudo sh -c 'echo $$; sleep 262 | cat'")
        channel.settimeout(20)
        output = channel.makefile()
        group, inner = (output.readline().strip() for _ in range(2))
        assert int(group) != int(inner)
        assert run(client, f"kill -0 -- -{group}; ps -p {group} -o comm=; pgrep -f '^[^ ]*sleep 26[12]' | wc -l")[
            1
        ].split() == [b"/bin/zsh", b"2"]
        assert run(client, f"/bin/kill -TERM -{group}")[0] == 0  # as on any BSD, without --
        assert channel.recv_exit_status() == -1  # ended by a signal: there is no code
        gone = "pgrep -f 'sleep 26[12]'"
        wait_until(lambda: run(client, gone)[0], lambda c: c == 1, what="all to end", deadline=Deadline.after(20))
        code, _, said = run(client, f"/bin/kill -0 -- -{group}")
        assert (code, said) == (1, f"kill: -{group}: No such process\n".encode())

    def test_ten_sessions_and_no_more(self, shared: Mac) -> None:
        client = shared.connect()
        transport = client.get_transport()
        assert transport is not None
        channels = [transport.open_session() for _ in range(10)]
        with pytest.raises(paramiko.ChannelException):
            transport.open_session()
        for channel in channels:
            channel.close()

    def test_a_reader_that_waits_holds_the_writer_up(self, shared: Mac) -> None:
        client = shared.connect()
        channel = client.get_transport().open_session(window_size=65536)  # type: ignore[union-attr]
        channel.exec_command("dd if=/dev/zero bs=1m count=40 2>/dev/null")
        channel.settimeout(30)
        total = 0
        while data := channel.recv(1 << 20):
            total += len(data)
        assert total == 40 << 20


class TestSftp:
    def test_there_and_back_with_offsets(self, shared: Mac) -> None:
        data = os.urandom(3_000_000)
        sftp = shared.connect().open_sftp()
        with sftp.open("/tmp/blob", "wb") as file:
            file.set_pipelined(True)
            file.write(data[:2_000_000])
        with sftp.open("/tmp/blob", "r+b") as file:
            file.seek(2_000_000)
            file.write(data[2_000_000:])
        with sftp.open("/tmp/blob", "rb") as file:
            file.seek(1_000_000)
            assert file.read(1_500_000) == data[1_000_000:2_500_000]
        digest = run(shared.clients[-1], "shasum -a 256 /tmp/blob")[1].split()[0].decode()
        assert digest == hashlib.sha256(data).hexdigest()
        back = io.BytesIO()
        sftp.getfo("/tmp/blob", back)
        assert back.getvalue() == data
        sftp.posix_rename("/tmp/blob", "/tmp/renamed")
        assert sftp.stat("/tmp/renamed").st_size == len(data)
        sftp.remove("/tmp/renamed")
        with pytest.raises(FileNotFoundError):
            sftp.stat("/tmp/renamed")

    def test_its_border_and_rights(self, shared: Mac) -> None:
        sftp = shared.connect().open_sftp()
        assert sftp.normalize(".") == "/Users/admin"
        assert "etc" in sftp.listdir("/")
        sftp.symlink("/../../../../../../", "/Users/admin/escape")
        assert sorted(sftp.listdir("/Users/admin/escape")) == sorted(sftp.listdir("/"))
        assert sftp.lstat("/Users/admin/escape").st_mode & 0o170000 == 0o120000
        sftp.remove("/Users/admin/escape")
        with pytest.raises(PermissionError):
            sftp.open("/Library/x", "w")
        with pytest.raises(FileNotFoundError):
            sftp.open(f"../../../../..{shared.bench.home}/vms/shared/config.json")

    @pytest.mark.skipif(shutil.which("sftp") is None, reason="OpenSSH's sftp is not installed (apt: openssh-client)")
    def test_openssh_client(self, shared: Mac, tmp_path: Path) -> None:
        host, port = shared.address()
        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        run(shared.connect(), "mkdir -p .ssh; cat > .ssh/authorized_keys", key.with_suffix(".pub").read_bytes())
        (tmp_path / "up").write_bytes(os.urandom(500_000))
        options = [
            "-i",
            str(key),
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            f"UserKnownHostsFile={tmp_path}/known",
            "-o",
            "IdentitiesOnly=yes",
        ]
        batch = f"put {tmp_path}/up up\nget up {tmp_path}/down\nls -l\n"
        done = subprocess.run(
            ["sftp", "-b", "-", "-P", str(port), *options, f"admin@{host}"], input=batch.encode(), capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
        ssh = subprocess.run(
            ["ssh", "-p", str(port), *options, f"admin@{host}", "echo ok; exit 5"],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (ssh.returncode, ssh.stdout) == (5, b"ok\n")


class TestRun:
    def test_a_normal_life(self, tart: TartBench) -> None:
        mac = tart.run("a", "--vnc-experimental")
        line = mac.printed_line(r"^VNC server is running at vnc://:([a-z]+-[a-z]+-[a-z]+-[a-z]+)@127\.0\.0\.1:(\d+)\n")
        with socket.create_connection(("127.0.0.1", int(line[2])), timeout=20) as vnc:
            assert vnc.recv(12) == b"RFB 003.008\n"
        assert tart.state("a") == "running"
        second = tart("run", "a", "--no-graphics")
        assert (second.returncode, second.stderr) == (2, 'VM "a" is already running!\n')
        assert tart("delete", "a").stderr == 'VM "a" is running\n'
        ip = tart("ip", "a", "--wait", "30").stdout.strip()
        host, port = mac.address()
        assert tart("sim-forward", ip, "22").stdout == f"{host}:{port}\n"
        assert tart("sim-forward", ip, "80").stdout == f"{ip}:80\n"
        client = mac.connect()
        assert run(client, "csrutil status")[1] == b"System Integrity Protection status: enabled.\n"
        run(client, "echo kept > kept; echo lost > /tmp/x")
        assert tart("stop", "a").returncode == 0
        assert mac.end() == 0
        assert mac.printed.splitlines()[1:] == ["Stopping VM..."]
        assert tart.state("a") == "stopped"
        assert tart("stop", "a").returncode == 2
        assert tart("clone", "a", "b").returncode == 0
        assert (tart.home / "vms/b/disk/Users/admin/kept").read_text() == "kept\n"
        settings = json.loads((tart.home / "vms/a/sim/settings.json").read_text())
        assert settings["boot_seconds"] == 0.05

    def test_reboot_keeps_process_port_and_key(self, tart: TartBench) -> None:
        mac = tart.run("a", "--vnc-experimental")
        client = mac.connect()
        key = client.get_transport().get_remote_server_key()  # type: ignore[union-attr]
        before = run(client, "sysctl -n kern.bootsessionuuid")[1]
        printed, address = mac.printed, mac.address()
        run(client, "sudo shutdown -r now")
        wait_until(
            lambda: client.get_transport().is_active(), lambda up: not up, what="the drop", deadline=Deadline.after(20)
        )  # type: ignore[union-attr]
        again = mac.connect()
        assert mac.address() == address
        assert run(again, "sysctl -n kern.bootsessionuuid")[1] != before
        assert again.get_transport().get_remote_server_key() == key  # type: ignore[union-attr]
        assert mac.printed == printed
        assert mac.process.poll() is None
        with contextlib.suppress(paramiko.SSHException, OSError):
            run(again, "sudo shutdown -h now")
        assert mac.end() == 0
        assert mac.printed.splitlines()[1:] == ["guest has stopped the virtual machine"]

    def test_a_fresh_clone_has_its_own_host_key(self, tart: TartBench) -> None:
        keys = {
            mac.connect().get_transport().get_remote_server_key().asbytes() for mac in (tart.run("a"), tart.run("b"))
        }  # type: ignore[union-attr]
        assert len(keys) == 2

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -15), (signal.SIGKILL, -9)])
    def test_killed(self, tart: TartBench, number: int, code: int) -> None:
        mac = tart.run("a")
        mac.connect()
        mac.process.send_signal(number)
        assert mac.end() == code
        assert mac.printed == ""
        assert tart.state("a") == "stopped"
        assert tart("delete", "a").returncode == 0

    def test_suspend_and_resume(self, tart: TartBench) -> None:
        mac = tart.run("a", "--suspendable")
        mac.connect()
        assert tart("suspend", "a").returncode == 0
        assert mac.end() == 0
        assert mac.printed.splitlines() == [
            "pausing VM to take a snapshot...", "creating a snapshot...", "snapshot created successfully! shutting down the VM...",
        ]  # fmt: skip
        assert tart.state("a") == "suspended"
        again = tart.run("a")
        again.connect()
        assert again.printed.splitlines() == ["restoring VM state from a snapshot...", "resuming VM..."]
        assert tart.state("a") == "running"
        again.process.send_signal(signal.SIGUSR1)  # a resumed machine can be suspended again
        assert again.end() == 0
        assert tart("stop", "a").returncode == 0
        assert tart.state("a") == "stopped"

    def test_suspend_without_the_flag_loses_the_machine(self, tart: TartBench) -> None:
        mac = tart.run("a")
        mac.connect()
        tart("suspend", "a")
        assert mac.end() == 1
        assert mac.printed.startswith("Failed to suspend the VM: Invalid virtual machine configuration.")
        assert tart.state("a") == "stopped"

    def test_asked_to_stop_goes_on(self, tart: TartBench) -> None:
        mac = tart.run("a")
        mac.connect()
        mac.process.send_signal(signal.SIGUSR2)
        mac.printed_line("Requesting guest OS to stop...")
        assert run(mac.connect(), "echo on")[1] == b"on\n"

    def test_the_limit(self, tart: TartBench) -> None:
        limit = {"SYSEXT_SIM_VM_LIMIT": "2"}
        for name in ("a", "b"):
            tart.run(name, env=limit).connect()
        third = tart.run("c", env=limit)
        assert third.end() == 1
        assert third.printed == "The number of VMs exceeds the system limit (other running VMs: a, b)\n"
        foreign = tart.run("c", env={"SYSEXT_SIM_VM_LIMIT": "3", "SYSEXT_SIM_FOREIGN_VMS": "1"})
        assert foreign.end() == 1
        tart("stop", "a")
        tart.run("c", env=limit).connect()

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--vnc", "--vnc-experimental"], "--vnc and --vnc-experimental are mutually exclusive"),
            (["--graphics"], "--graphics and --no-graphics are mutually exclusive"),
            (["--net-host", "--net-softnet"], "--net-bridged, --net-softnet and --net-host are mutually exclusive"),
            (["--suspendable", "--no-keyboard"], "--no-keyboard cannot be used with --suspendable"),
        ],
    )
    def test_flags_that_exclude_one_another(self, tart: TartBench, flags: list[str], said: str) -> None:
        mac = tart.run("a", *flags)
        assert mac.end() == 64
        assert mac.printed.startswith(f"Error: {said}\nUsage: tart run ")


class TestAgent:
    def test_exec(self, shared: Mac) -> None:
        tart = shared.bench
        wait_until(
            lambda: tart("exec", "shared", "true").returncode,
            lambda c: c == 0,
            what="the agent",
            deadline=Deadline.after(20),
        )
        ran = tart("exec", "shared", "/bin/bash", "-c", "echo out; echo err >&2; exit 6")
        assert (ran.returncode, ran.stdout, ran.stderr) == (6, "out\n", "err\n")
        missing = tart("exec", "shared", "nosuch")
        assert (missing.returncode, missing.stderr) == (
            1,
            'Error: unknown (2): exec: "nosuch": executable file not found in $PATH\n',
        )

    def test_no_agent_in_vanilla(self, tart: TartBench) -> None:
        tart.run("a").connect()
        ran = tart("exec", "a", "true")
        assert ran.returncode == 1
        assert "GRPC.GRPCConnectionPoolError error 1.), is the Tart Guest Agent running?" in ran.stderr


class TestFaults:
    def fault(self, tart: TartBench, text: str, *more: str) -> Mac:
        return tart.run("a", *more, env={"SYSEXT_SIM_FAULTS": text})

    def test_hung_boot(self, tart: TartBench) -> None:
        mac = self.fault(tart, "env-hung-boot")
        wait_until(lambda: tart.state("a"), lambda s: s == "running", what="running", deadline=Deadline.after(20))
        ran = tart("ip", "a", "--wait", "2")
        assert (ran.returncode, ran.stderr) == (1, "no IP address found\n")
        assert mac.process.poll() is None

    def test_stale_ip(self, tart: TartBench) -> None:
        mac = self.fault(tart, "env-stale-ip:seconds=3")
        stale = mac.address()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(stale, timeout=5)
        right = wait_until(mac.address, lambda a: a != stale, what="the right address", deadline=Deadline.after(20))
        socket.create_connection(right, timeout=5).close()
        assert tart("ip", "a").stdout.strip() == right[0]

    def test_ssh_drop(self, tart: TartBench) -> None:
        mac = self.fault(tart, "env-ssh-drop:commands=2")
        client = mac.connect()
        assert run(client, "echo one")[1] == b"one\n"
        with contextlib.suppress(paramiko.SSHException, OSError):
            run(client, "sleep 30")
        wait_until(
            lambda: client.get_transport().is_active(), lambda up: not up, what="the drop", deadline=Deadline.after(20)
        )  # type: ignore[union-attr]
        assert run(mac.connect(), "echo again")[1] == b"again\n"

    def test_start_failures(self, tart: TartBench) -> None:
        keychain = self.fault(tart, "env-keychain")
        assert keychain.end() == 1
        assert keychain.printed.startswith("Error Domain=VZErrorDomain Code=-9 ")
        limit = self.fault(tart, "env-vm-limit")
        assert limit.end() == 1
        assert limit.printed == "The number of VMs exceeds the system limit\n"
        other = self.fault(tart, "env-keychain:form=seckey")
        assert other.end() == 1
        assert "SecKeyCreateRandomKey_ios failed" in other.printed

    def test_disk_full(self, tart: TartBench) -> None:
        mac = self.fault(tart, "env-disk-full:after_mb=1")
        client = mac.connect()
        sftp = client.open_sftp()
        with pytest.raises(OSError, match="No space left"), sftp.open("/tmp/big", "wb") as file:
            file.set_pipelined(False)
            for _ in range(100):
                file.write(bytes(32768))
        assert b"No space left on device" in run(client, "cp /private/tmp/big /tmp/other")[2]

    def test_stop_needs_kill(self, tart: TartBench) -> None:
        mac = self.fault(tart, "env-stop-needs-kill")
        mac.connect()
        assert tart("stop", "a", "--timeout", "1").returncode == 0
        assert mac.end() == -9

    def test_vnc_freeze(self, tart: TartBench) -> None:
        mac = self.fault(tart, "env-vnc-freeze", "--vnc-experimental")
        frozen = {"what": "fault", "code": "env-vnc-freeze"}
        wait_until(
            mac.journal,
            lambda j: any(frozen.items() <= line.items() for line in j),
            what="it",
            deadline=Deadline.after(30),
        )
        assert mac.process.poll() is None

    def test_slow_clone(self, tart: TartBench) -> None:
        tart.clone("base", "x")
        began = time.monotonic()
        assert tart("clone", "x", "y", env={"SYSEXT_SIM_FAULTS": "env-slow-clone:seconds=1.5"}).returncode == 0
        assert time.monotonic() - began >= 1.5
