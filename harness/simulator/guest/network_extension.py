"""NetworkExtension: saved configurations, the consent to save one, sessions (tunnels), and the extensions' own processes."""

from __future__ import annotations

import asyncio
import contextlib
import plistlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.simulator.guest import others
from harness.simulator.guest.crash_reports import write_crash_report
from harness.simulator.guest.extension_database import ENABLED, ENABLING, Entry
from harness.simulator.guest.launchd import RELAUNCH_SECONDS, Job
from harness.simulator.guest.processes import GuestProcess
from harness.simulator.interfaces import Alert, AlertKind

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

STORE = "/Library/Preferences/com.apple.networkextension.plist"
KINDS = {
    "transparent-proxy": (AlertKind.PROXY, "com.apple.networkextension.app-proxy", "NESMTransparentProxySession"),
    "vpn": (AlertKind.VPN, "com.apple.networkextension.packet-tunnel", "NESMVPNSession"),
    "filter": (AlertKind.FILTER, "com.apple.networkextension.filter-data", "NESMFilterSession"),
    # That saving one asks as a proxy's does is assumed
    "dns-proxy": (AlertKind.PROXY, "com.apple.networkextension.dns-proxy", "NESMDNSProxySession"),
}
CONNECTED, CONNECTING, DISCONNECTED = "Connected", "Connecting", "Disconnected"


class ConfigurationError(Exception):
    """Saving or starting failed; the text is the NSError as an app prints it."""


@dataclass(eq=False)
class Configuration:
    """A saved configuration. `status` is the session's."""

    name: str
    kind: str
    app_identifier: str
    provider: str
    service_id: str
    enabled: bool = True
    status: str = DISCONNECTED


class NetworkExtension:
    """nehelper (what is saved) and nesessionmanager (what runs)."""

    def __init__(self, guest: MacGuest) -> None:
        self._guest = guest
        self.configurations: list[Configuration] = []
        self._saving = asyncio.Lock()

    def load(self) -> None:
        """Read what earlier boots saved."""
        self.configurations = []
        try:
            saved = plistlib.loads(self._guest.disk.path(STORE).read_bytes())["SimulatedConfigurations"]
            for item in saved:
                self.configurations.append(
                    Configuration(
                        item["name"], item["kind"], item["app"], item["provider"], item["id"], bool(item["enabled"])
                    )
                )
        except Exception:  # noqa: BLE001 - absent or damaged: no configurations, as on a fresh Mac
            self.configurations = []

    def resume(self, statuses: dict[str, str]) -> None:
        """The sessions as they were when the machine was suspended, by service ID."""
        for configuration in self.configurations:
            was = statuses.get(configuration.service_id, DISCONNECTED)
            configuration.status = was
            if was == CONNECTING:
                self._guest.spawn(self._connect(configuration, _session(configuration)))

    def find(self, name: str) -> Configuration | None:
        """By name or by service ID."""
        return next((item for item in self.configurations if name in (item.name, item.service_id)), None)

    async def save(
        self,
        client: GuestProcess,
        app_name: str,
        app_identifier: str,
        kind: str,
        name: str,
        provider: str,
        *,
        ask: bool = True,
    ) -> Configuration:
        """Save a configuration; the user is asked once, an unchanged one is not asked for again. One at a time: who
        comes second meets what the first has saved. `ask` False: it is managed, and nobody is asked.

        Raises:
            ConfigurationError: Refused by the user, or the store failed.
        """
        async with self._saving:
            return await self._save(
                client,
                app_name,
                Configuration(name, kind, app_identifier, provider, str(uuid.uuid4()).upper()),
                ask=ask,
            )

    async def _save(
        self, client: GuestProcess, app_name: str, configuration: Configuration, *, ask: bool
    ) -> Configuration:
        name = configuration.name
        guest = self._guest
        helper = guest.daemon("nehelper")
        guest.log.emit(client, "Sending load command to nehelper", subsystem="com.apple.networkextension")
        if guest.fault("ne-preferences-save-failed"):
            guest.log.emit(
                client, "failed to make changes in SCPreferences", subsystem="com.apple.networkextension", level="Error"
            )
            raise ConfigurationError(
                'Error Domain=NEVPNErrorDomain Code=5 "permission denied" UserInfo={NSLocalizedDescription=permission denied} failed to make changes in SCPreferences'
            )
        known = self.find(name)
        if known is not None and _same(known, configuration):
            guest.log.emit(
                helper, f"Configuration {name} is unchanged, not saved", subsystem="com.apple.networkextension"
            )
            known.enabled = True
            return known
        guest.log.emit(
            helper,
            f"Saving configuration {name} with existing signature (null)",
            subsystem="com.apple.networkextension",
        )
        answer = await self._ask(configuration.kind, app_name) if ask else "Allow"
        if answer != "Allow":
            guest.log.emit(
                helper, f"User denied configuration {name}", subsystem="com.apple.networkextension", level="Error"
            )
            raise ConfigurationError(
                'Error Domain=NEVPNErrorDomain Code=5 "permission denied" UserInfo={NSLocalizedDescription=permission denied}'
            )
        self.configurations = [item for item in self.configurations if item.name != name] + [configuration]
        self._store()
        guest.log.emit(
            client,
            f"Adding {configuration.service_id} to the loaded configurations",
            subsystem="com.apple.networkextension",
        )
        return configuration

    async def _ask(self, kind: str, app_name: str) -> str:
        guest = self._guest
        await guest.delay("consent", guest.settings.prompt_seconds)
        agent = guest.agent("UserNotificationCenter")
        guest.log.emit(agent, f"Received CFUserNotification request from nehelper[{guest.daemon('nehelper').pid}]",
                       subsystem="com.apple.UserNotificationCenter", category="default")  # fmt: skip
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def pressed(text: str) -> None:
            if not answered.done():
                answered.set_result(text)

        shown = guest.display.show(Alert(KINDS[kind][0], app_name, on_button=pressed))
        try:
            return await answered
        except asyncio.CancelledError:
            guest.display.dismiss(shown)
            raise

    async def start(self, name: str, client: GuestProcess) -> Configuration:
        """Start the tunnel of a configuration; it connects after the settle delay if its provider runs.

        Raises:
            ConfigurationError: There is no such configuration.
        """
        configuration = self.find(name)
        if configuration is None:
            raise ConfigurationError('Error Domain=NEVPNErrorDomain Code=1 "configuration is invalid"')
        session = _session(configuration)
        self._session_log(f"{session}: Received a start command from {client.name}[{client.pid}]")
        if configuration.status in (CONNECTED, CONNECTING) and self.provider(configuration) is not None:
            self._session_log(
                f"{session}: Skip a start command from {client.name}[{client.pid}]: session in state {configuration.status.lower()}"
            )
            return configuration
        self._session_log(f"Registering session {session}")
        self._session_log(f"{session}: Resetting VPN On Demand")
        self._session_log(
            f"Found {1 if self.provider(configuration) else 0} registrations for {configuration.provider} ({KINDS[configuration.kind][1]})"
        )
        configuration.status = CONNECTING
        self._guest.spawn(self._connect(configuration, session))
        return configuration

    async def _connect(self, configuration: Configuration, session: str) -> None:
        guest = self._guest
        await guest.delay("settle", guest.settings.settle_seconds)
        if configuration.status != CONNECTING:
            return
        if guest.fault("ne-provider-start-timeout"):
            self._session_log(f"{session}: State timer (60 seconds) fired", "Error")
            configuration.status = DISCONNECTED
            return
        provider = await self._provider_up(configuration)
        crashing = (
            guest.faults.active("extension-crash") is not None
        )  # it dies while it starts: never a moment connected
        if configuration.status != CONNECTING:
            return
        if provider is None or crashing:
            self._session_log(f"{session}: status changed to disconnected, last stop reason Plugin failed", "Error")
            configuration.status = DISCONNECTED
            return
        guest.log.emit(
            provider,
            "Signature check failed: code failed to satisfy specified code requirement(s)",
            subsystem="com.apple.networkextension",
            level="Error",
        )  # a red herring that every working extension prints
        subsystem = guest.apps.behaviour(configuration.app_identifier).log_subsystem or configuration.provider
        guest.log.emit(provider, "startProxy", subsystem=subsystem, category="extension")
        self._session_log(f"{session}: status changed to connected")
        configuration.status = CONNECTED
        guest.traffic.started(configuration)

    def stop(self, configuration: Configuration) -> None:
        """Stop its tunnel."""
        if configuration.status != DISCONNECTED:
            configuration.status = DISCONNECTED
            session = _session(configuration)
            self._session_log(f"{session}: status changed to disconnected, last stop reason None")

    def provider_gone(self, identifier: str) -> None:
        """An extension's process ended: its sessions end with it."""
        for configuration in self.configurations:
            if configuration.provider == identifier:
                self.stop(configuration)

    def provider_died(self, identifier: str) -> None:
        """An extension's process died by itself: its running sessions start anew with the process that launchd starts
        (assumed: the posted logs do not show this).
        """
        for configuration in self.configurations:
            if configuration.provider == identifier and configuration.status != DISCONNECTED:
                self.stop(configuration)
                configuration.status = CONNECTING
                self._guest.spawn(self._connect(configuration, _session(configuration)))

    def will_sleep(self) -> None:
        """The system is about to sleep: each provider is told (NEProvider's `sleep`; the wording is assumed)."""
        self._tell_providers("sleep")

    def has_woken(self) -> None:
        """The system is awake again: each provider is told (NEProvider's `wake`)."""
        self._tell_providers("wake")
        self._guest.traffic.woken()

    def _tell_providers(self, what: str) -> None:
        for configuration in self.configurations:
            provider = self.provider(configuration) if configuration.status == CONNECTED else None
            if provider is not None:
                subsystem = (
                    self._guest.apps.behaviour(configuration.app_identifier).log_subsystem or configuration.provider
                )
                self._guest.log.emit(provider, what, subsystem=subsystem, category="extension")

    def forget(self, identifier: str) -> None:
        """The extension was uninstalled: its configurations go too."""
        self.provider_gone(identifier)
        self.configurations = [item for item in self.configurations if item.provider != identifier]
        self._store()

    async def _provider_up(self, configuration: Configuration) -> GuestProcess | None:
        """The provider's process, given launchd a while to start it."""
        for _ in range(20):
            provider = self.provider(configuration)
            if provider is not None:
                return provider
            await asyncio.sleep(RELAUNCH_SECONDS / 2)
        return None

    def provider(self, configuration: Configuration) -> GuestProcess | None:
        """The process that serves a configuration; None: there is none just now."""
        for entry in self._guest.sysextd.database.live(configuration.provider):
            job = self._guest.launchd.jobs.get(entry.label)
            if job is not None and job.process is not None:
                return job.process
        return None

    def _session_log(self, message: str, level: str = "Default") -> None:
        self._guest.log.emit(
            self._guest.daemon("nesessionmanager"), message, subsystem="com.apple.networkextension", category="", level=level,
            sender="/System/Library/Frameworks/NetworkExtension.framework/Versions/A/NetworkExtension",
        )  # fmt: skip

    def _store(self) -> None:
        if self._guest.disk.full:
            return
        items: list[dict[str, Any]] = [
            {
                "name": c.name,
                "kind": c.kind,
                "app": c.app_identifier,
                "provider": c.provider,
                "id": c.service_id,
                "enabled": c.enabled,
            }
            for c in self.configurations
        ]
        path = self._guest.disk.path(STORE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plistlib.dumps({"SimulatedConfigurations": items, "Version": 2}, fmt=plistlib.FMT_BINARY))


class Extensions:
    """The processes of enabled extensions, as launchd jobs; and the faults they have at run time."""

    def __init__(self, guest: MacGuest) -> None:
        self._guest = guest

    def launch(self, entry: Entry) -> None:
        """Register the job of an enabled extension and start it."""
        guest = self._guest
        job = Job(
            label=entry.label,
            program=f"{entry.staged}/{'' if entry.kind == 'driver' else 'Contents/MacOS/'}{entry.executable}",
            type="Submitted" if entry.kind == "network" else "LaunchDaemon",
            endpoints=(entry.service,) if entry.launchd_entries else None,
            submitted_by="sysextd",
            managed_by="com.apple.sysextd",
            on_start=lambda process: self._started(entry, process),
        )
        job.spawn_refused = not entry.foreign and guest.fault("killed-at-exec") is not None
        idle = not entry.foreign and (guest.fault("extension-not-running") is not None or self._too_many(entry))
        guest.launchd.register(job, start=not idle)
        if job.spawn_refused:
            self._refused(entry, job)

    def _too_many(self, entry: Entry) -> bool:
        """Fault network-extension-count-limit. No limit is documented; the number is the fault's own."""
        fault = self._guest.faults.active("network-extension-count-limit")
        if fault is None or entry.kind != "network":
            return False
        jobs = self._guest.launchd.jobs
        beside = [
            other
            for other in self._guest.sysextd.database
            if other.kind == "network"
            and other.identifier != entry.identifier
            and other.label in jobs
            and jobs[other.label].process
        ]
        too_many = len(beside) >= int(fault.parameters.get("most", "5"))
        return too_many and self._guest.fault("network-extension-count-limit") is not None

    def stop(self, entry: Entry) -> None:
        """Take the job away; the old label vanishes."""
        self._guest.launchd.remove(entry.label)
        self._guest.network.provider_gone(entry.identifier)

    def _started(self, entry: Entry, process: GuestProcess) -> None:
        guest = self._guest
        if not guest.launchd.revive:  # it is new, not there again
            self._says_hello(process)
        was = process.on_end

        def ended(signal: int) -> None:
            guest.network.provider_died(entry.identifier)
            if was is not None:
                was(signal)

        process.on_end = ended
        if entry.foreign:
            others.says_hello(guest, entry, process)
            return
        if guest.fault("app-group-profile-mismatch"):
            self._unsure_of_groups(entry)
        if guest.fault("es-no-full-disk-access"):
            guest.spawn(self._no_client(entry, process))
        fault = guest.fault("extension-crash")
        if fault is not None:
            seconds = float(fault.parameters.get("every", "0.4"))
            limit = int(fault.parameters.get("count", "8"))
            guest.spawn(self._crash(entry, process, seconds, limit))

    def _says_hello(self, process: GuestProcess) -> None:
        self._guest.log.emit(
            process, f"[0x{0x600000268000 + (process.pid << 4):x}] activating connection: mach=true listener=true peer=false name=com.apple.networkextension.provider.matching",
            subsystem="com.apple.xpc", category="connection", sender="/usr/lib/system/libxpc.dylib",
        )  # fmt: skip

    def _unsure_of_groups(self, entry: Entry) -> None:
        """Trustd's complaint about an app group, over and over; nothing follows from it."""
        for _ in range(12):
            self._guest.log.emit(
                self._guest.daemon("trustd"),
                f'Entitlement com.apple.security.application-groups=("{entry.team}.{entry.app_identifier}") is ignored because of '
                "invalid application signature or incorrect provisioning profile",
                subsystem="com.apple.securityd", category="SecTask", level="Error",
                sender="/System/Library/Frameworks/Security.framework/Versions/A/Security",
            )  # fmt: skip

    async def _no_client(self, entry: Entry, process: GuestProcess) -> None:
        """The extension is an Endpoint Security client as well, gets none for want of Full Disk Access, and ends."""
        await asyncio.sleep(0.1)
        job = self._guest.launchd.jobs.get(entry.label)
        if job is None or job.process is not process:
            return
        library = "/usr/lib/libEndpointSecurity.dylib"
        for text in (
            "Failed to open service: 0xe00002d8: Caller lacks TCC authorization for Full Disk Access",
            "Failed to create an Endpoint Security client: ES_NEW_CLIENT_RESULT_ERR_NOT_PERMITTED",
        ):
            self._guest.log.emit(
                process, text, subsystem="com.apple.EndpointSecurity", category="client", level="Error", sender=library
            )
            library = ""
        if job.runs >= 8:
            job.keep_alive = False
        self._guest.network.provider_gone(entry.identifier)
        self._guest.launchd.ended(job, code=1)

    async def _crash(self, entry: Entry, process: GuestProcess, seconds: float, limit: int) -> None:
        await asyncio.sleep(seconds)
        job = self._guest.launchd.jobs.get(entry.label)
        if job is None or job.process is not process or entry.state not in (ENABLED, ENABLING):
            return
        write_crash_report(
            self._guest, process, slice_uuid=_slice_uuid(entry), bundle_id=entry.identifier, version=(entry.short, entry.build), team=entry.team,
            symbols=(f"{entry.executable}.TransparentProxyProvider.startProxy(options:completionHandler:)", "main"),
        )  # fmt: skip
        self._guest.network.provider_gone(entry.identifier)
        if job.runs >= limit:
            job.keep_alive = False
        self._guest.launchd.ended(job, signal=5)

    def _refused(self, entry: Entry, job: Job) -> None:
        guest = self._guest
        kernel = guest.daemon("kernel")
        guest.log.emit(
            kernel,
            f"mac_vnode_check_signature: {job.program}: code signature validation failed fatally: When validating {job.program}:\n"
            "  Code has restricted entitlements, but the validation of its code signature failed.\nUnsatisfied Entitlements: ",
            level="Error", sender="/System/Library/Extensions/AppleMobileFileIntegrity.kext/Contents/MacOS/AppleMobileFileIntegrity",
        )  # fmt: skip
        ghost = guest.processes.spawn(job.program.rsplit("/", 1)[-1], job.program)
        guest.processes.remove(ghost.pid)
        write_crash_report(
            guest,
            ghost,
            slice_uuid=_slice_uuid(entry),
            bundle_id=entry.identifier,
            version=(entry.short, entry.build),
            team=entry.team,
            at_exec=True,
        )


def _session(configuration: Configuration) -> str:
    """A session as nesessionmanager names it."""
    return f"{KINDS[configuration.kind][2]}[Primary Tunnel:{configuration.name}:{configuration.service_id}:(null)]"


def _same(one: Configuration, other: Configuration) -> bool:
    return (one.kind, one.app_identifier, one.provider) == (other.kind, other.app_identifier, other.provider)


def _slice_uuid(entry: Entry) -> str:
    with contextlib.suppress(StopIteration):
        return next(item.uuid for item in entry.slices if item.arch.startswith("arm64"))
    return entry.slices[0].uuid if entry.slices else ""


__all__ = [
    "CONNECTED",
    "DISCONNECTED",
    "KINDS",
    "RELAUNCH_SECONDS",
    "Configuration",
    "ConfigurationError",
    "Extensions",
    "NetworkExtension",
]
