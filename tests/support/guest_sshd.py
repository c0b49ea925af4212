"""A real OpenSSH sshd for tests: own port, own keys, this user; and a TCP proxy that cuts connections."""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness.config import GuestSettings
from harness.guest import Guest
from harness.waiting import Deadline

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
USER = pwd.getpwuid(os.getuid()).pw_name


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Sshd:
    """One server. `stubs` comes first in the PATH of what it runs."""

    def __init__(self, folder: Path, *, options: str = "") -> None:
        if not Path(SSHD).exists():
            pytest.skip("no sshd here: apt install openssh-server")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.stubs = folder / "stubs"
        self.stubs.mkdir(exist_ok=True)
        self.key = folder / "user_key"
        if not self.key.exists():
            self.new_key(self.key)
            shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.host_key = folder / "host_key"
        if not self.host_key.exists():
            self.new_key(self.host_key)
        self.options = options
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @staticmethod
    def new_key(path: Path) -> None:
        path.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL
        )

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # OpenSSH's privilege separation wants it
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nUsePAM no\nStrictModes no\nPidFile none\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            # HOME: the startup files of the user who runs the tests are no part of them.
            f"Subsystem sftp internal-sftp\nSetEnv HOME={self.folder} PATH={self.stubs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n"
            f"LogLevel ERROR\n{self.options}"
        )
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                if probe.recv(3) == b"SSH":
                    return
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < until, "sshd did not come up"
            time.sleep(0.02)

    def stop(self) -> None:
        """The listener and all its sessions."""
        if self.process is None:
            return
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.kill()
        self.process.wait()
        self.process = None

    def stub(self, name: str, text: str) -> Path:
        """Put a command first in the guest's PATH."""
        path = self.stubs / name
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}")
        path.chmod(0o755)
        return path

    def settings(self, **changes: object) -> GuestSettings:
        values: dict[str, object] = {"user": USER, "password": "opensesame", "key": self.key, "keepalive_seconds": 5.0}
        return GuestSettings(**{**values, **changes})  # type: ignore[arg-type]

    def guest(self, folder: Path, *, port: int | None = None, **changes: object) -> Guest:
        guest = Guest(
            lambda _deadline: ("127.0.0.1", port or self.port), self.settings(**changes), name="vm-test", folder=folder
        )
        guest.log_command = str(self.stubs / "log")
        return guest


SUDO = """#!/bin/bash
# Like sudo with a password: -n refuses, -S reads one line of standard input, three tries, byte by byte.
state=$(dirname "$0")
nopass=; [ -e "$state/sudo-nopasswd" ] && nopass=1
ask=; non=
while [ $# -gt 0 ]; do case "$1" in
  -k) ;; -S) ask=1 ;; -n) non=1 ;; -p) shift ;; --) shift; break ;; -*) echo "sudo: bad option $1" >&2; exit 64 ;; *) break ;;
esac; shift; done
echo "$*" >> "$state/sudo-calls"
if [ -z "$nopass" ]; then
  [ -n "$non" ] && { echo "sudo: a password is required" >&2; exit 1; }
  tries=0
  while :; do
    IFS= read -r line || { echo "sudo: no password was provided" >&2; exit 1; }
    [ "$line" = opensesame ] && break
    tries=$((tries+1)); echo "Sorry, try again." >&2
    [ $tries -ge 3 ] && { echo "sudo: 3 incorrect password attempts" >&2; exit 1; }
  done
fi
export STUB_SUDO=1
exec "$@"
"""


class Proxy:
    """A TCP proxy in front of a port. `cut` ends all connections; `cut_after` does so once after so many bytes."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.cut_after: int | None = None
        self.refuse = False
        self.frozen = False
        self.connections = 0
        self._carried = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            if self.refuse:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        chooser = selectors.DefaultSelector()
        try:
            chooser.register(client, selectors.EVENT_READ, server)
            chooser.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in chooser.select(0.2):
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    while self.frozen:
                        time.sleep(0.02)
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    key.data.sendall(data)
                    self._carried += len(data)
                    if self.cut_after is not None and self._carried >= self.cut_after:
                        self.cut_after = None
                        self.cut()
                        return
        except (OSError, ValueError):
            return
        finally:
            chooser.close()
            client.close()
            server.close()

    def cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()
        self.frozen = False
        self.cut()


def soon(seconds: float = 30) -> Deadline:
    return Deadline.after(seconds)
