"""Finding the address at which a guest's SSH server really answers.

Tart takes an address from a lease file and checks nothing: it can be that of an earlier boot. So an address counts only
once an SSH banner was read from it, and Tart is asked again until one does.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness import events
from harness.errors import EnvironmentFailure, WaitTimeout
from harness.machines.base import Endpoint
from harness.machines.tart_output import NETWORK_PRIVACY_HINT, NO_IP_HINT
from harness.waiting import Deadline

PROBE_SECONDS = 3.0
HASTE_SECONDS = 0.35
PATIENT_SECONDS = 2.0
"""`tart ip` answers at once when it knows an address, and sleeps a second before it says that it knows none. So it is cut
short after `HASTE_SECONDS` (SIGINT is a clean cancel) and asked again, with growing patience, for a loaded host may be slow to
answer; from `PATIENT_SECONDS` on it is left to end by itself.
"""


@dataclass(frozen=True)
class Look:
    """One look for the guest: where it answers, or what was tried."""

    endpoint: Endpoint | None = None
    tried: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        return str(self.endpoint) if self.endpoint is not None else "; ".join(self.tried) or "nothing tried"


def resolvers(run_arguments: Sequence[str]) -> tuple[str, ...]:
    """Which of Tart's resolvers can work, in the order to ask them: DHCP leases do not show bridged guests, ARP does not
    show those behind softnet.
    """
    if any(argument.startswith("--net-bridged") for argument in run_arguments):
        return ("agent", "arp")
    if any(argument.startswith("--net-softnet") for argument in run_arguments):
        return ("dhcp", "agent")
    return ("dhcp", "agent", "arp")


def probe(endpoint: Endpoint, seconds: float = PROBE_SECONDS) -> str | None:
    """Whether an SSH server answers there: None if so, else what happened."""
    until = time.monotonic() + seconds
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=max(0.05, seconds)) as connection:
            received = b""
            # RFC 4253 §4.2: lines may come before the one that starts with "SSH-".
            while len(received) < 4096:
                connection.settimeout(max(0.05, until - time.monotonic()))
                piece = connection.recv(256)
                if not piece:
                    return "closed before a banner" if not received else f"no SSH banner: {received[:60]!r}"
                received += piece
                if received.startswith(b"SSH-") or b"\nSSH-" in received:
                    return None
                if time.monotonic() > until:
                    break
            return f"no SSH banner: {received[:60]!r}"
    except TimeoutError:
        return "timed out"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


class AddressFinder:
    """Looks for one machine's SSH door again and again.

    Args:
        ask: `ask(resolver, deadline)` → the address Tart names, or None.
        door: `door(address, deadline)` → the endpoint to connect to for that address.
        order: The resolvers; the first is the usual one.
        again: Seconds after which Tart is asked anew while an address does not answer.
        patience: Seconds for which only the usual resolver is asked: the others cost a second each, and while a guest
            boots none can answer.
    """

    def __init__(
        self,
        ask: Callable[[str, Deadline], str | None],
        door: Callable[[str, Deadline], Endpoint],
        *,
        order: Sequence[str],
        again: float,
        patience: float,
    ) -> None:
        self._ask = ask
        self._door = door
        self._order = tuple(order)
        self._again = again
        self._patience = patience
        self._began = time.monotonic()
        self._asked: float | None = None
        self._candidates: dict[str, tuple[str, Endpoint]] = {}
        self._silent: set[str] = set()
        self._notes: list[str] = []
        self._haste = HASTE_SECONDS

    def look(self, deadline: Deadline) -> Look:
        """Ask (if it is time to) and knock at every address known."""
        tried: list[str] = []
        if self._asked is None or not self._candidates or time.monotonic() - self._asked >= self._again:
            tried += self._resolve(deadline)
            self._asked = time.monotonic()
        for address, (resolver, endpoint) in self._candidates.items():
            trouble = probe(endpoint, min(PROBE_SECONDS, max(0.1, deadline.remaining)))
            if trouble is None:
                self._report(resolver, address)
                return Look(endpoint)
            self._silent.add(address)
            tried.append(f"{resolver} says {address}, {endpoint}: {trouble}")
        return Look(tried=tuple(tried))

    def _resolve(self, deadline: Deadline) -> list[str]:
        notes: list[str] = []
        found: dict[str, tuple[str, Endpoint]] = {}
        patient = time.monotonic() - self._began < self._patience
        for resolver in self._order[:1] if patient else self._order:
            if found and resolver != self._order[0] and not self._silent & found.keys():
                break
            try:
                address = self._ask_hastily(resolver, deadline)
                if address is None:
                    notes.append(f"{resolver}: no address")
                elif address not in found:
                    found[address] = (resolver, self._door(address, deadline))
            except EnvironmentFailure as error:
                notes.append(f"{resolver}: {error.seen or error}")
            except WaitTimeout as error:
                # The deadline cut the question short; what was learned before tells more.
                return [*self._notes, f"{resolver}: {error.what} {error.seen}"]
        self._candidates = found
        self._notes = notes
        return notes

    def _ask_hastily(self, resolver: str, deadline: Deadline) -> str | None:
        if resolver != self._order[0] or self._haste >= PATIENT_SECONDS:
            return self._ask(resolver, deadline)
        try:
            return self._ask(resolver, deadline.sub(self._haste))
        except WaitTimeout:
            if deadline.expired:
                raise
            self._haste *= 1.3
            return None

    def _report(self, resolver: str, address: str) -> None:
        stale = sorted(self._silent - {address})
        if stale:
            events.event("stale-address", silent=stale, answers=address)
        if resolver != self._order[0]:
            events.event("resolver-fallback", usual=self._order[0], used=resolver, address=address)


def hint_for(look: object) -> str:
    """What a person should do about a guest that was not found."""
    tried = "; ".join(look.tried) if isinstance(look, Look) else ""
    if os.strerror(errno.EHOSTUNREACH) in tried:
        return NETWORK_PRIVACY_HINT
    if "says" not in tried:
        return NO_IP_HINT
    return "is Remote Login on in the image? See the frames: did it boot to the desktop?"
