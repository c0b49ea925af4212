"""How apps behave: a file per app says what it does when it is started; this runs it.

Behaviour files are TOML, matched by bundle identifier (`*` for any other app); a folder of one's own goes before the ones
that come with the simulator.

    bundle = "com.example.app"
    log_subsystem = "com.example"        # of its own log lines
    [launch]        argument_prefix, refusal    without such an argument: a modal alert with that text, then exit 1
    [activation]    extension (the only one by default), conflict = "replace" | "cancel",
                    deactivate_argument: started with this argument, the app asks for deactivation instead, for which macOS
                    asks for an administrator's password, and ends
    [configuration] kind = "transparent-proxy" | "vpn" | "filter" | "dns-proxy", name, start,
                    consent = false: nobody is asked (a managed one)
    [traffic]       counter: guest path of a file in which the extension counts the flows it is handed; message: what it logs of each
    [end]           stays = true | false
    [signing]       team, entitlements    for bundles whose executable is no Mach-O (tests)
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.simulator.guest.crash_reports import write_crash_report
from harness.simulator.guest.installed import InstalledApp, InstalledExtension, read_app
from harness.simulator.guest.network_extension import KINDS, ConfigurationError
from harness.simulator.guest.processes import GuestProcess
from harness.simulator.guest.replacing import connections_broken
from harness.simulator.guest.requests import AppLeft, SystemExtensionError
from harness.simulator.interfaces import Alert, AlertKind, CommandIO

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

Write = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Behaviour:
    """One behaviour file."""

    bundle: str
    log_subsystem: str = ""
    launch: dict[str, Any] = field(default_factory=dict)
    activation: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    signing: dict[str, Any] = field(default_factory=dict)
    traffic: dict[str, Any] = field(default_factory=dict)


def load_behaviours(own: Path | None = None) -> list[Behaviour]:
    """All behaviours, the ones of `own` first, the one for any app last.

    Raises:
        ValueError: A file has an unknown key or names no bundle.
        tomllib.TOMLDecodeError: A file is not TOML.
    """
    folders = [
        folder for folder in (own, Path(__file__).parent / "behaviours") if folder is not None and folder.is_dir()
    ]
    found: list[Behaviour] = []
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            unknown = set(data) - set(Behaviour.__dataclass_fields__)
            if unknown or not data.get("bundle"):
                raise ValueError(
                    f"{path.name}: unknown {', '.join(sorted(unknown))}" if unknown else f"{path.name}: no bundle"
                )
            found.append(Behaviour(**data))
    return sorted(found, key=lambda behaviour: behaviour.bundle == "*")


class Apps:
    """Starts apps."""

    def __init__(self, guest: MacGuest, behaviours: list[Behaviour]) -> None:
        self._guest = guest
        self._behaviours = behaviours
        self._running: dict[int, tuple[str, list[str], _Run]] = {}

    def behaviour(self, identifier: str) -> Behaviour:
        """The behaviour of that bundle."""
        return next((item for item in self._behaviours if item.bundle in (identifier, "*")), Behaviour("*"))

    def read(self, guest_path: str) -> InstalledApp:
        """The app at a path, signed as its bundle (or, for a test's bundle, its behaviour) says.

        Raises:
            FileNotFoundError, ValueError: It is no readable bundle.
        """
        app = read_app(self._guest.disk, guest_path)
        if not app.readable_signature:
            signing = self.behaviour(app.identifier).signing
            if signing:
                app = read_app(self._guest.disk, guest_path, assumed=signing)
        return app

    def snapshot(self) -> list[dict[str, Any]]:
        """What runs, and where each of it is, as JSON values."""
        return [
            {"path": path, "arguments": arguments, "pid": pid, "user": run.user, "stage": run.stage}
            for pid, (path, arguments, run) in self._running.items()
            if self._guest.processes.get(pid) is not None
        ]

    def resume(self, apps: list[dict[str, Any]]) -> None:
        """Have them go on where they were."""
        for item in apps:
            path, arguments = str(item["path"]), [str(word) for word in item["arguments"]]
            try:
                executable = self.read(path).executable
            except (OSError, ValueError):
                continue
            self._guest.spawn(
                self._guest.run_app(
                    path,
                    executable,
                    arguments,
                    None,
                    user=str(item["user"]),
                    pid=int(item["pid"]),
                    stage=str(item["stage"]),
                )
            )

    async def run(
        self, path: str, arguments: list[str], process: GuestProcess, io: CommandIO | None, stage: str = ""
    ) -> int:
        """Run an app to its end; its exit code. `io` is None when it was started by `open`: what it prints is lost. `stage` is
        where it was when the machine was suspended.

        Raises:
            FileNotFoundError, ValueError: It is no readable bundle.
        """
        app = self.read(path)

        async def error(text: str) -> None:
            if io is not None:
                await io.stderr(f"{text}\n".encode())

        run = _Run(self._guest, app, self.behaviour(app.identifier), process, error)
        self._running[process.pid] = (path, arguments, run)
        try:
            return await run.to_end(arguments, stage)
        finally:
            self._running.pop(process.pid, None)


class _Run:
    """One started app; is its own delegate."""

    def __init__(
        self, guest: MacGuest, app: InstalledApp, behaviour: Behaviour, process: GuestProcess, error: Write
    ) -> None:
        self._guest = guest
        self._app = app
        self._behaviour = behaviour
        self._process = process
        self._error = error
        self.stage = ""
        """How far it is: "asking", "configuring" or "staying"; "" before that."""

    @property
    def user(self) -> str:
        """Whose process it is."""
        return self._process.user

    def needs_approval(self) -> None:
        """Delegate: the user has to approve."""
        self._log("requestNeedsUserApproval")
        if self._guest.fault("host-component-crash"):
            self._guest.spawn(self._crash())

    async def _crash(self) -> None:
        """Fault host-component-crash: what drives the activation dies on a queue of its own; the request goes on without it."""
        await asyncio.sleep(0.2)
        if self._guest.processes.get(self._process.pid) is not self._process:
            return
        write_crash_report(
            self._guest, self._process, bundle_id=self._app.identifier, team=self._app.team, queue="com.apple.root.default-qos",
            symbols=("closure #1 in AgentConnection.receive(_:)", "thunk for @escaping @callee_guaranteed () -> ()"),
        )  # fmt: skip
        self._guest.processes.kill(self._process.pid, 11)

    def replace(self, old: str, new: str) -> bool:
        """Delegate: another version is there."""
        self._log(f"actionForReplacingExtension: {old} -> {new}")
        return bool(self._behaviour.activation.get("conflict", "replace") == "replace")

    async def to_end(self, arguments: list[str], resumed: str = "") -> int:
        prefix = str(self._behaviour.launch.get("argument_prefix", ""))
        if prefix and not (arguments and arguments[-1].startswith(prefix)):
            await self._refuse(str(self._behaviour.launch.get("refusal", "This app cannot be started like this.")))
            return 1
        if self._guest.console_user == "root":
            await self._error("no window server session: nobody is logged in")
            return 1
        extension = self._extension()
        if extension is None and not self._app.extensions and not self._behaviour.activation.get("extension"):
            return await self._stay()
        wanted = str(self._behaviour.activation.get("extension", "")) or (extension.identifier if extension else "")
        leave = self._behaviour.activation.get("deactivate_argument")
        try:
            if leave and leave in arguments:
                return await self._guest.sysextd.deactivate(self._process, self._app, wanted)
            self.stage = "asking"
            result = 0
            if resumed in ("", "asking"):
                ask = self._guest.sysextd.rejoin if resumed else self._guest.sysextd.activate
                result = await ask(self._process, self._app, wanted, self)
        except AppLeft:
            return 0
        except SystemExtensionError as failure:
            self._log(f"Activation failed: {failure}", "Error")
            await self._error(f"Error: {failure}")
            return 1
        if resumed in ("", "asking"):
            self._log(f"request:didFinishWithResult: {result}")
        self.stage = "configuring"
        if connections_broken(self._guest, wanted):
            return await self._cannot_connect(wanted)
        if self._behaviour.configuration and resumed != "staying":
            try:
                await self._configure(extension)
            except ConfigurationError as failure:
                self._log(f"Saving the configuration failed: {failure}", "Error")
                await self._error(f"Error: {failure}")
                return 1
        return await self._stay() if self._behaviour.end.get("stays", True) else 0

    def _extension(self) -> InstalledExtension | None:
        wanted = str(self._behaviour.activation.get("extension", ""))
        if wanted:
            return self._app.extension(wanted)
        return self._app.extensions[0] if self._app.extensions else None

    async def _configure(self, extension: InstalledExtension | None) -> None:
        wish = self._behaviour.configuration
        kind = str(wish.get("kind", "transparent-proxy"))
        if kind not in KINDS:
            raise ConfigurationError(f'Error Domain=NEVPNErrorDomain Code=1 "configuration is invalid: {kind}"')
        name = str(wish.get("name", self._app.name))
        provider = extension.identifier if extension is not None else ""
        network = self._guest.network
        ask = bool(wish.get("consent", True))
        await network.save(self._process, self._app.name, self._app.identifier, kind, name, provider, ask=ask)
        if wish.get("start", True):
            await network.start(name, self._process)

    async def _cannot_connect(self, identifier: str) -> int:
        """Fault xpc-invalidated-after-upgrade: the app talks to its extension, and each connection is dropped at once."""
        service = self._guest.sysextd.database.live(identifier)[0].service
        for _try in range(3):
            self._log(f"NSXPCConnection to service named {service} was invalidated from this process.", "Error")
            await asyncio.sleep(0.02)
        await self._error(
            f'Error: Error Domain=NSCocoaErrorDomain Code=4099 "The connection to service named {service} was invalidated."'
        )
        return 1

    async def _stay(self) -> int:
        self.stage = "staying"
        await asyncio.Event().wait()
        return 0

    async def _refuse(self, text: str) -> None:
        closed = asyncio.Event()
        shown = self._guest.display.show(
            Alert(AlertKind.NOTICE, self._app.name, text=text, on_button=lambda _text: closed.set())
        )
        try:
            await closed.wait()
        except asyncio.CancelledError:
            self._guest.display.dismiss(shown)
            raise

    def _log(self, message: str, level: str = "Default") -> None:
        self._guest.log.emit(
            self._process,
            message,
            subsystem=self._behaviour.log_subsystem or self._app.identifier,
            category="app",
            level=level,
        )
