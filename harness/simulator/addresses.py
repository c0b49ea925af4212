"""Addresses of simulated Macs: a loopback address each, a DHCP lease file as on a Mac, and the table of open doors.

On Linux all of 127.0.0.0/8 is loopback, so each machine has an address of its own, made from its MAC address; elsewhere
all have 127.0.0.1. The guest's port 22 is some free port of the host: `forward_of` tells which.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness.simulator import locks
from harness.simulator.store import TartError

LEASE_SECONDS = 86400


@dataclass(frozen=True)
class Lease:
    """One block of the lease file. `expires` in seconds since 1970."""

    name: str
    ip: str
    mac: str
    expires: int

    def block(self) -> str:
        """As bootpd writes it: octets without leading zeros, the expiry in hexadecimal."""
        mac = "1," + ":".join(f"{int(octet, 16):x}" for octet in self.mac.split(":"))
        return (
            f"{{\n\tname={self.name}\n\tip_address={self.ip}\n\thw_address={mac}\n"
            f"\tidentifier={mac}\n\tlease=0x{self.expires:x}\n}}\n"
        )


def address_of(mac: str, *, turn: int = 0) -> str:
    """The address that a machine with that MAC has; another one for each `turn`."""
    if sys.platform != "linux":
        return "127.0.0.1"
    digest = hashlib.sha256(f"{mac}|{turn}".encode()).digest()
    return f"127.{64 + digest[0] % 128}.{digest[1]}.{1 + digest[2] % 254}"


class Leases:
    """The lease file of one TART_HOME (a Mac has /var/db/dhcpd_leases)."""

    def __init__(self, home: Path) -> None:
        self.path = home / "sim/dhcpd_leases"
        self._lock = home / "sim/dhcpd_leases.lock"

    def read(self) -> list[Lease]:
        """All leases.

        Raises:
            TartError: The file is malformed.
        """
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return []
        leases = []
        for block in re.findall(r"\{([^}]*)\}", text):
            values = dict(line.strip().split("=", 1) for line in block.split("\n") if "=" in line)
            try:
                mac = ":".join(f"{int(octet, 16):02x}" for octet in values["hw_address"].split(",", 1)[1].split(":"))
                leases.append(Lease(values.get("name", ""), values["ip_address"], mac, int(values["lease"], 16)))
            except (KeyError, ValueError, IndexError):
                raise TartError(f'Error: UnexpectedFormat(name: "hw_address", message: "{block.strip()}")') from None
        return leases

    def grant(self, lease: Lease) -> None:
        """Write a lease; one of the same MAC and address is replaced, others of the MAC stay until they expire."""
        self._rewrite(lambda old: (old.mac, old.ip) == (lease.mac, lease.ip), lease)

    def revoke(self, mac: str, ip: str) -> None:
        """Take a lease away."""
        self._rewrite(lambda old: (old.mac, old.ip) == (mac, ip), None)

    def lookup(self, mac: str) -> str | None:
        """The address of that MAC: of the unexpired lease that expires last."""
        now = time.time()
        found = [lease for lease in self.read() if lease.mac == mac and lease.expires > now]
        return max(found, key=lambda lease: lease.expires).ip if found else None

    def _rewrite(self, drop: object, new: Lease | None) -> None:
        assert callable(drop)
        with locks.exclusive(self._lock):
            now = time.time()
            kept = [lease for lease in self.read() if lease.expires > now and not drop(lease)]
            text = "".join(lease.block() for lease in [*kept, *([new] if new else [])])
            fresh = self.path.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(self.path)


class Forwards:
    """Which host address stands for a guest's address and port. One file each; a dead machine's counts for nothing."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "sim/forwards"

    def _file(self, ip: str, port: int) -> Path:
        return self.folder / f"{ip.replace('/', '_')}_{port}.json"

    def set(self, ip: str, port: int, host: str, host_port: int, config: Path) -> None:
        """Say it; `config` is the config.json whose lock shows that the machine still runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(ip, port)
        fresh = file.with_suffix(f".{host_port}")
        fresh.write_text(json.dumps({"host": host, "port": host_port, "config": str(config)}))
        fresh.replace(file)

    def clear(self, ip: str, port: int) -> None:
        """Take it back."""
        self._file(ip, port).unlink(missing_ok=True)

    def of(self, ip: str, port: int) -> tuple[str, int]:
        """Where to connect to; the guest's own address and port if nothing forwards."""
        try:
            data = json.loads(self._file(ip, port).read_text())
        except (FileNotFoundError, ValueError):
            return ip, port
        if locks.holder(Path(data["config"])) is None:
            return ip, port
        return data["host"], data["port"]


def reserve_port(ip: str) -> socket.socket:
    """A socket that holds a free port without listening: whoever connects is refused, nobody else can have the port.

    On Linux a listener may be put beside it (both with SO_REUSEADDR) and taken away again.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((ip, 0))
    return holder


def listen_beside(holder: socket.socket) -> socket.socket:
    """A listening socket on the port that `holder` holds."""
    if sys.platform != "linux":  # elsewhere two sockets cannot share it: give the port up for the listener
        address = holder.getsockname()
        holder.close()
    else:
        address = holder.getsockname()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(64)
    listener.settimeout(0)
    return listener
