"""The guest's network as programs in it meet it: a few names that resolve, a few pages that answer, and the extensions in between.

No real network: what answers is built in. A flow passes each connected configuration that covers its kind; its provider counts it (a
log line, and a counter file where the app's behaviour names one). Where the provider cannot be handed the flow, the flow is held.
What a provider logs, and that a flow is held rather than refused, is assumed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import zlib
from typing import TYPE_CHECKING

from harness.simulator.guest.processes import GuestProcess

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest
    from harness.simulator.guest.network_extension import Configuration

TCP, DNS = "tcp", "dns"
COVERS = {
    "transparent-proxy": frozenset({TCP}),
    "vpn": frozenset({TCP, DNS}),
    "filter": frozenset({TCP}),
    "dns-proxy": frozenset({DNS}),
}
"""Which flows a kind of configuration is handed."""
_SUCCESS = "<HTML><HEAD><TITLE>Success</TITLE></HEAD><BODY>Success</BODY></HTML>\n"
PAGES: dict[tuple[str, str], str] = {
    ("captive.apple.com", "/hotspot-detect.html"): _SUCCESS,
    ("captive.apple.com", "/"): _SUCCESS,
    ("www.apple.com", "/library/test/success.html"): _SUCCESS,
    ("www.apple.com", "/"): "<!DOCTYPE html><html><head><title>Apple</title></head><body></body></html>\n",
    ("apple.com", "/"): "<!DOCTYPE html><html><head><title>Apple</title></head><body></body></html>\n",
    ("example.com", "/"): "<!doctype html><html><head><title>Example Domain</title></head><body></body></html>\n",
    ("www.example.com", "/"): "<!doctype html><html><head><title>Example Domain</title></head><body></body></html>\n",
}
NAMES = frozenset(host for host, _path in PAGES) | {"gateway.push.apple.com", "deviceenrollment.apple.com"}


class Traffic:
    """All flows of one boot."""

    def __init__(self, guest: MacGuest) -> None:
        self._guest = guest
        self._passed_by: set[str] = set()
        """Providers that are handed no flow, though their sessions run (fault proxy-dead-after-wake)."""

    async def look_up(self, name: str, client: GuestProcess | None) -> str | None:
        """Its address, "" where there is none; None: no answer comes."""
        if name == "localhost":
            return "127.0.0.1"
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(name))
        if not self._flow(DNS, name, 53, client):
            return None
        name = name.rstrip(".").lower()
        return f"198.51.100.{1 + zlib.crc32(name.encode()) % 250}" if name in NAMES else ""

    async def connect(self, host: str, port: int, client: GuestProcess | None) -> bool:
        """Whether a connection to a known host gets through; False: nothing ever comes back."""
        return self._flow(TCP, host, port, client)

    def woken(self) -> None:
        """After a sleep: with the fault, sessions run on and their providers are handed nothing more."""
        if self._guest.faults.active("proxy-dead-after-wake") is None:
            return
        for configuration in self._guest.network.configurations:
            if configuration.status == "Connected" and self._guest.fault("proxy-dead-after-wake"):
                self._passed_by.add(configuration.provider)

    def started(self, configuration: Configuration) -> None:
        """A session has begun anew."""
        self._passed_by.discard(configuration.provider)

    def clear(self) -> None:
        """Power-off."""
        self._passed_by.clear()

    def _flow(self, kind: str, host: str, port: int, client: GuestProcess | None) -> bool:
        for configuration in self._guest.network.configurations:
            if configuration.status != "Connected" or kind not in COVERS.get(configuration.kind, frozenset()):
                continue
            if configuration.provider in self._passed_by:
                fault = self._guest.fault("proxy-dead-after-wake")
                if fault is not None and fault.parameters.get("flows") == "held":
                    return False
                continue
            if not self._handed(configuration, host, port, client):
                return False
        return True

    def _handed(self, configuration: Configuration, host: str, port: int, client: GuestProcess | None) -> bool:
        guest = self._guest
        provider = guest.network.provider(configuration)
        reachable = any(entry.launchd_entries for entry in guest.sysextd.database.live(configuration.provider))
        if provider is None or not reachable:
            return False
        behaviour = guest.apps.behaviour(configuration.app_identifier)
        message = str(behaviour.traffic.get("message", "handleNewFlow: {host}:{port} from {client}"))
        text = message.format(host=host, port=port, client=client.name if client is not None else "?")
        guest.log.emit(
            provider,
            text,
            subsystem=behaviour.log_subsystem or configuration.provider,
            category="extension",
            level="Debug",
        )
        counter = behaviour.traffic.get("counter")
        if counter and not guest.disk.full:
            path = guest.disk.path(str(counter))
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                number = int(path.read_text())
            except (OSError, ValueError):
                number = 0
            path.write_text(f"{number + 1}\n")
        return True
