"""How fast files go to and from a guest: our `put` and `get` against `scp`, on the same sshd, in turns.

    python benchmarks/bench_sftp.py [--megabytes 200] [--rounds 3] [--minimum 0.8]

Prints MB/s (best of the rounds) and our speed divided by scp's; exit code 1 if a quotient is below the minimum. `put` and
`get` are measured with and without their checksum (`shasum -a 256` in the guest), which scp does not do; the quotient that
counts is that of the transfer alone.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.config import GuestSettings
from harness.guest import Guest
from harness.waiting import Deadline, wait_until


def start_sshd(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """An sshd of our own on a free loopback port."""
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, stdin=subprocess.DEVNULL
        )
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "UsePAM no\nStrictModes no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\nLogLevel ERROR\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL
    )

    def open_port() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    wait_until(open_port, what="sshd to listen", deadline=Deadline(20), interval=0.05)
    return process, port


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minimum", type=float, default=0.8)
    arguments = parser.parse_args()
    user = pwd.getpwuid(os.getuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="sysext-bench-") as name:
        folder = Path(name)
        server, port = start_sshd(folder)
        guest = Guest(
            lambda _: ("127.0.0.1", port),
            GuestSettings(user=user, key=folder / "user_key"),
            name="bench",
            folder=folder / "machine",
        )
        try:
            return measure(guest, folder, port, user, arguments)
        finally:
            guest.close()
            server.terminate()
            server.wait()


def measure(guest: Guest, folder: Path, port: int, user: str, arguments: argparse.Namespace) -> int:
    """Measure all ways in turns and print the table."""
    source, there, back = folder / "source", folder / "there", folder / "back"
    with source.open("wb") as target:
        for _ in range(arguments.megabytes):
            target.write(os.urandom(1 << 20))
    guest.connect(Deadline.after(30))
    options = ["-q", "-P", str(port), "-i", str(folder / "user_key"), "-o", "StrictHostKeyChecking=no"]
    options += ["-o", f"UserKnownHostsFile={folder}/known_hosts"]
    remote = f"{user}@127.0.0.1:{there}"

    def scp(*paths: str) -> None:
        subprocess.run(["scp", *options, *paths], check=True)

    def put(*, verify: bool) -> None:
        there.unlink(missing_ok=True)
        guest.put(source, str(there), verify=verify)

    def get(*, verify: bool) -> None:
        back.unlink(missing_ok=True)
        guest.get(str(there), back, verify=verify)

    ways: dict[str, Callable[[], None]] = {
        "scp up": lambda: scp(str(source), remote),
        "put": lambda: put(verify=False),
        "put with checksum": lambda: put(verify=True),
        "scp down": lambda: scp(remote, str(back)),
        "get": lambda: get(verify=False),
        "get with checksum": lambda: get(verify=True),
    }
    best: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for way, run in ways.items():
            started = time.monotonic()
            run()
            speed = arguments.megabytes / (time.monotonic() - started)
            best[way] = max(best.get(way, 0.0), speed)
    print(f"{arguments.megabytes} MiB, best of {arguments.rounds}\n{'way':<20}{'MiB/s':>8}{'/ scp':>8}")
    for way, speed in best.items():
        base = best["scp up" if way.startswith(("scp up", "put")) else "scp down"]
        print(f"{way:<20}{speed:>8.0f}{speed / base:>8.2f}")
    lowest = min(best["put"] / best["scp up"], best["get"] / best["scp down"])
    print(f"SFTP MB/s ÷ scp's: {lowest:.2f} (target ≥ {arguments.minimum})")
    return 0 if lowest >= arguments.minimum else 1


if __name__ == "__main__":
    sys.exit(main())
