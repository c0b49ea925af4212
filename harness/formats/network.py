"""`scutil --nc list` and `scutil --nc status NAME`: the network configurations apps have saved, and how they stand.

A row as macOS prints it, padded with blanks:
    * (Connected)      9B33EDB3-…-BC8C08E05BE4 VPN (com.example.app) "Name"   [VPN:com.example.app]
The star means enabled. Status words: Connected, Connecting, Disconnected, Disconnecting, Invalid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEXT = 1024 * 1024
MAX_NAME = 500
_START = re.compile(r"^\s*(\*?)\s*\(([A-Za-z ]{1,30})\)\s+(.*)$")
_ID = re.compile(r"^([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\s+(.*)$")


@dataclass(frozen=True)
class NetworkConfiguration:
    """One row.

    Attributes:
        enabled: The star.
        status: As printed: "Connected", "Disconnected", …
        service_id: Its UUID; "" if the row has none.
        type: What stands in the last bracket: "VPN:com.example.app", "PPP:L2TP", "IPSec".
        name: What the user and the approval see.
        raw: The line as it was.
    """

    enabled: bool
    status: str
    service_id: str
    type: str
    name: str
    raw: str

    @property
    def connected(self) -> bool:
        """Whether the tunnel is up."""
        return self.status == "Connected"


def parse_nc_list(text: str) -> tuple[NetworkConfiguration, ...]:
    """The configurations of the current set. Never raises; lines that are no rows are left out."""
    found = []
    for line in text[:MAX_TEXT].splitlines():
        start = _START.match(line[:4000])
        if start is None:
            continue
        rest = start.group(3)
        service_id = ""
        if match := _ID.match(rest):
            service_id, rest = match.group(1).upper(), match.group(2)
        kind = ""
        rest = rest.rstrip()
        if rest.endswith("]") and "[" in rest:
            rest, _, kind = rest[:-1].rpartition("[")
        first, last = rest.find('"'), rest.rfind('"')
        name = rest[first + 1 : last] if 0 <= first < last else rest.strip()
        found.append(
            NetworkConfiguration(
                enabled=start.group(1) == "*",
                status=start.group(2).strip(),
                service_id=service_id,
                type=kind,
                name=name[:MAX_NAME],
                raw=line,
            )
        )
    return tuple(found)


def parse_nc_status(text: str) -> str | None:
    """The first line of `scutil --nc status NAME` ("Connected"); None for "No service" and for nothing."""
    for line in text[:MAX_TEXT].splitlines():
        if line.strip():
            return None if line.strip().lower().startswith("no service") else line.strip()[:60]
    return None
