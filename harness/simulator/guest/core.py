"""The simulated macOS as a whole: boot, login, commands, shutdown. Everything runs in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import plistlib
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from harness.simulator.guest import others, snapshots
from harness.simulator.guest.accounts import Accounts
from harness.simulator.guest.apps import Apps, load_behaviours
from harness.simulator.guest.clock import GuestClock
from harness.simulator.guest.crash_reports import write_crash_report
from harness.simulator.guest.installed import app_of_path
from harness.simulator.guest.launchd import Job, Launchd
from harness.simulator.guest.management import Management
from harness.simulator.guest.network_extension import Extensions, NetworkExtension
from harness.simulator.guest.processes import GuestProcess, ProcessTable
from harness.simulator.guest.sessions import NOBODY, Sessions
from harness.simulator.guest.sleeping import Sleep
from harness.simulator.guest.snapshots import LOG_STORE
from harness.simulator.guest.sysextd import PATH as SYSEXTD
from harness.simulator.guest.sysextd import Sysextd
from harness.simulator.guest.traffic import Traffic
from harness.simulator.guest.unified_log import UnifiedLog
from harness.simulator.interfaces import (
    Command,
    CommandIO,
    Disk,
    Display,
    Fault,
    Faults,
    Journal,
    MacOSVersion,
    PendingExtension,
    Power,
    Stage,
)
from harness.simulator.settings import SimSettings

GuestCommand = Callable[["MacGuest", CommandIO, list[str]], Awaitable[int]]
USER = "admin"
PASSWORD = "admin"  # noqa: S105 - what every public macOS VM image has
UID = 501
BIN_FOLDERS = ("/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/libexec/", "/usr/local/bin/")
STATE = "/private/var/db/.simulated-state.json"
INSTALL_LOG = "/private/var/log/install.log"
BOOT_CHATTER = 40
"""Lines of other daemons while the system comes up."""
CHATTER_SECONDS = 0.8
"""How often some other daemon logs a line."""
HARDWARE = "VirtualMac2,1"
_SETTINGS = "x-apple.systempreferences:com.apple"


def _settings_page(generation: int, *, elsewhere: bool) -> str:
    """The URL of the page where network extensions are approved, or of another one."""
    if elsewhere:
        return f"{_SETTINGS}.preference.network"
    if generation >= 15:
        return f"{_SETTINGS}.ExtensionsPreferences?extensionPointIdentifier=com.apple.system_extension.network_extension.extension-point"
    return f"{_SETTINGS}.preference.security?{'Security' if generation >= 13 else 'General'}"


_DAEMONS = {
    "logd": "/usr/libexec/logd",
    "runningboardd": "/usr/libexec/runningboardd",
    "kernelmanagerd": "/usr/libexec/kernelmanagerd",
    "WindowServer": "/System/Library/PrivateFrameworks/SkyLight.framework/Versions/A/Resources/WindowServer",
    "mDNSResponder": "/usr/sbin/mDNSResponder",
    "trustd": "/usr/libexec/trustd",
    "cfprefsd": "/usr/sbin/cfprefsd",
    "powerd": "/System/Library/CoreServices/powerd.bundle/powerd",
    "symptomsd": "/System/Library/PrivateFrameworks/SymptomEvaluator.framework/Support/symptomsd",
    "tccd": "/System/Library/PrivateFrameworks/TCC.framework/Support/tccd",
    "locationd": "/usr/libexec/locationd",
    "syspolicyd": "/usr/libexec/syspolicyd",
    "amfid": "/usr/libexec/amfid",
    "authd": "/System/Library/Frameworks/Security.framework/Versions/A/XPCServices/authd.xpc/Contents/MacOS/authd",
    "nehelper": "/usr/libexec/nehelper",
    "nesessionmanager": "/usr/libexec/nesessionmanager",
}


class MacGuest:
    """See `interfaces.Guest`, `GuestModel` and `CommandRunner`: it is all three.

    Attributes:
        processes: The process table (ps, kill, pgrep read it).
        mounts: Mount point to device of attached disk images.
        console_user: Owner of /dev/console: "root" until somebody is logged in.
        clock: Guest time, zone, boot session UUID.
        hardware: The hardware model as `sysctl hw.model` prints it.
    """

    def __init__(
        self,
        *,
        macos: MacOSVersion,
        disk: Disk,
        display: Display,
        power: Power,
        settings: SimSettings,
        faults: Faults,
        journal: Journal,
        machine_name: str,
        sip: bool,
        commands: dict[str, GuestCommand],
    ) -> None:
        self.macos = macos
        self.disk = disk
        self.display = display
        self.power = power
        self.settings = settings
        self.faults = faults
        self.journal = journal
        self.machine_name = machine_name
        self.sip = sip
        self.hardware = HARDWARE
        self.console_user = NOBODY
        self.clock = GuestClock()
        self.processes = ProcessTable(machine_name)
        self.log = UnifiedLog(self.clock, machine_name)
        self.launchd = Launchd(self)
        self.sysextd = Sysextd(self)
        self.network = NetworkExtension(self)
        self.extension_jobs = Extensions(self)
        self.apps = Apps(self, load_behaviours(settings.behaviours_folder))
        self.state: dict[str, str] = {}
        self.mounts: dict[str, str] = {}
        self.settings_url = ""
        self._commands = commands
        self._tasks: set[asyncio.Task[Any]] = set()
        self._power_task: asyncio.Task[None] | None = None
        self.accounts = Accounts(disk, USER, PASSWORD)
        self.sessions = Sessions(self, USER)
        self.sleep = Sleep(self)
        self.traffic = Traffic(self)
        self.management = Management(self)
        self._faults_seen: set[str] = set()

    # --- power

    async def boot(self) -> None:
        """From power-on to the desktop; returns when the console user is there. A hung boot never returns."""
        self.display.set_stage(Stage.BOOT)
        self.sessions.clear()
        self._load_state()
        self.accounts.load()
        self.sleep.booted()
        if not len(self.log):
            self.log.load(self.disk.path(LOG_STORE))
        self.clock.booted()
        self.log.begin_boot()
        self._system_files()
        await self.delay("boot", self.settings.boot_seconds)
        if self.fault("env-hung-boot"):
            await asyncio.Event().wait()
        self.start_daemons()
        await self.power.network(up=True)
        self.display.set_stage(Stage.LOGIN)
        await self.delay("login", self.settings.login_seconds)
        user = self.sessions.automatic()
        if user is not None:
            self._log_in(user)
        self.journal.write("booted", boot_uuid=self.clock.boot_uuid)

    def snapshot(self) -> dict[str, Any]:
        """What a suspended machine must remember, as JSON values; `resume` goes on from it."""
        with contextlib.suppress(OSError):
            self.log.save(self.disk.path(LOG_STORE), everything=True)
        return snapshots.take(self)

    async def resume(self, state: dict[str, Any]) -> None:
        """Go on after a suspend, in a new host process: no boot delay, the same boot session, the same processes."""
        self._load_state()
        self.accounts.load()
        self.sleep.booted()
        await snapshots.restore(self, state)

    def request_stop(self) -> None:
        """The power button was pressed: an orderly shutdown begins."""
        self.later(self.shut_down())

    async def shut_down(self) -> None:
        """An orderly shutdown, ends with `Power.powered_off`."""
        await self._stop_everything()
        self.power.powered_off()

    async def restart(self) -> None:
        """Reboot: connections drop, a new boot session begins."""
        await self._stop_everything()
        await self.boot()

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a power transition, once the command that asked for it has answered. Only one at a time."""
        if self._power_task is not None and not self._power_task.done():
            work.close()
            return

        async def after_answer() -> None:
            await asyncio.sleep(0.05)
            await work

        self._power_task = asyncio.get_running_loop().create_task(after_answer())
        self._power_task.add_done_callback(self._finished)

    async def _stop_everything(self) -> None:
        self.journal.write("going-down", boot_uuid=self.clock.boot_uuid)
        await self.power.network(up=False)
        for task in list(self._tasks):
            if task is not asyncio.current_task() and task is not self._power_task:
                task.cancel()
        self.launchd.clear()
        self.processes.clear()
        self.sysextd.went_down()
        for mount_point in list(self.mounts):
            self.unmount(mount_point)
        self.sessions.clear()
        self.sleep.went_down()
        self.traffic.clear()
        self.display.set_stage(Stage.OFF)
        with contextlib.suppress(OSError):
            if not self.disk.full:
                self.log.save(self.disk.path(LOG_STORE))
        await self.delay("shutdown", self.settings.shutdown_seconds)

    def _system_files(self) -> None:
        """Files that every Mac has and that scripts read."""
        version = {
            "ProductName": "macOS",
            "ProductVersion": self.macos.product,
            "ProductBuildVersion": self.macos.build,
        }
        files = {
            "/System/Library/CoreServices/SystemVersion.plist": plistlib.dumps(version),
            INSTALL_LOG: f"{self.clock.now().strftime('%Y-%m-%d %H:%M:%S%z')[:-2]} {self.machine_name} "
            f"installer[1]: macOS {self.macos.product} ({self.macos.build})\n".encode(),
        }
        for name, content in files.items():
            path = self.disk.path(name)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def start_daemons(self, *, resumed: bool = False) -> None:
        """Processes of the system, at boot; or the same ones again, after a suspend."""
        kernel = self.processes.spawn("kernel", "/System/Library/Kernels/kernel.release.vmapple", pid=0)
        self.processes.spawn("launchd", "/sbin/launchd", pid=1, parent=0)
        if not resumed:
            self.log.emit(kernel, f"=== system boot: {self.clock.boot_uuid}", level="Default")
        for name, path in _DAEMONS.items():
            self.launchd.register(Job(label=f"com.apple.{name}", program=path, endpoints=(f"com.apple.{name}.xpc",)))
        self.network.load()
        sysextd = Job("com.apple.sysextd", SYSEXTD, endpoints=("com.apple.sysextd",), on_start=self._sysextd_started)
        self.launchd.register(sysextd)
        self.management.register()
        if not resumed:
            others.put_there(self)
            self.sysextd.boot()
        self.launchd.register(Job("com.openssh.sshd", "/usr/sbin/sshd", endpoints=None, keep_alive=False), start=False)
        for _ in range(0 if resumed else BOOT_CHATTER):
            self._chat()
        self.spawn(self._chatter())

    def _sysextd_started(self, process: GuestProcess) -> None:
        self.sysextd.started(process)
        was = process.on_end

        def ended(signal: int) -> None:
            self.sysextd.died()
            if was is not None:
                was(signal)

        process.on_end = ended

    def _log_in(self, user: str) -> None:
        self.sessions.log_in(user)
        self.remember("boot_uuid", self.clock.boot_uuid)
        wanted = self.settings.variations.get("settings")
        if wanted != "closed":  # somebody has it open already
            self.open_settings(_settings_page(self.macos.generation, elsewhere=wanted == "elsewhere"))

    # --- the parts' helpers

    async def delay(self, name: str, seconds: float) -> None:
        """One of the guest's own delays; the journal learns of each, so that the harness's overhead can be told."""
        if seconds > 0:
            self.journal.write("delay", name=name, seconds=seconds)
            await asyncio.sleep(seconds)
        await self.sleep.awake.wait()

    def fault(self, code: str) -> Fault | None:
        """The fault, if this machine has it. The journal learns once that it came to bear."""
        fault = self.faults.active(code)
        if fault is not None and code not in self._faults_seen:
            self._faults_seen.add(code)
            self.journal.write("fault", code=code)
        return fault

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in the background until it ends or the guest goes down."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.journal.write("simulator-error", error=repr(task.exception()))

    def daemon(self, name: str) -> GuestProcess:
        """The process of a system daemon; started by launchd if it is not there just now."""
        found = self.processes.named(name)
        if found:
            return found[0]
        job = self.launchd.jobs.get(f"com.apple.{name}")
        if job is not None:
            self.launchd.start(job)
            if job.process is not None:
                return job.process
        return GuestProcess(0, name, _DAEMONS.get(name, f"/usr/libexec/{name}"), "root")

    agent = daemon

    def unmount(self, mount_point: str) -> None:
        """Take an attached disk image away."""
        self.mounts.pop(mount_point, None)
        shutil.rmtree(self.disk.path(mount_point), ignore_errors=True)

    def open_settings(self, url: str) -> None:
        """System Settings is opened (at a URL, or at its front page): a window on the display, a process in the table."""
        self.settings_started()
        self.settings_url = url
        self.display.open_settings(url)

    @property
    def settings_name(self) -> str:
        """What the app is called: System Preferences until macOS 12."""
        return "System Settings" if self.macos.generation >= 13 else "System Preferences"

    def settings_started(self) -> None:
        """System Settings runs, unless it already did; killing its process closes its window."""
        name = self.settings_name
        if not self.processes.named(name):
            process = self.processes.spawn(
                name, f"/System/Applications/{name}.app/Contents/MacOS/{name}", self.console_user
            )
            process.on_end = lambda _signal: self.display.quit_settings()

    def close_settings(self) -> None:
        """System Settings is told to quit."""
        for process in self.processes.named(self.settings_name):
            self.processes.remove(process.pid)
        self.display.quit_settings()

    def crash_daemon(self, label: str, *, queue: str) -> None:
        """A system daemon crashes: report, its clients lose it, launchd starts it again."""
        job = self.launchd.jobs.get(label)
        if job is None or job.process is None:
            return
        process = job.process
        write_crash_report(
            self,
            process,
            queue=queue,
            symbols=("specialized ExtensionManager.activate(_:)", "closure #1 in ExtensionManager.handle(_:)"),
        )
        self.sysextd.died()
        process.on_end = None
        self.launchd.ended(job, signal=5)

    def remember(self, key: str, value: str) -> None:
        """Keep a small fact on the guest's disk: what happened once per machine must not happen again after a reboot."""
        self.state[key] = value
        if not self.disk.full:
            with contextlib.suppress(OSError):
                path = self.disk.path(STATE)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(self.state), encoding="utf-8")

    def _load_state(self) -> None:
        try:
            data = json.loads(self.disk.path(STATE).read_text(encoding="utf-8"))
            self.state = {str(key): str(value) for key, value in data.items()}
        except (OSError, ValueError, AttributeError):
            self.state = {}

    async def _chatter(self) -> None:
        while True:
            await self.sleep.awake.wait()
            self._chat()
            await asyncio.sleep(CHATTER_SECONDS)

    def _chat(self) -> None:
        name, sender, subsystem, category, level, text = self.log.chatter()
        process = next(iter(self.processes.named(name)), None)
        if process is not None:
            self.log.emit(process, text, subsystem=subsystem, category=category, level=level, sender=sender)

    # --- GuestModel: what the desktop asks

    def extensions(self) -> Sequence[PendingExtension]:
        """What Settings lists."""
        return self.sysextd.pending()

    def check_password(self, password: str) -> bool:
        """Whether that is the console user's password."""
        return self.accounts.check(self.console_user, password)

    def console(self) -> tuple[str, bool]:
        """Who is at the console, and whether that is an administrator."""
        account = self.accounts.get(self.console_user)
        return self.console_user, account is not None and account.administrator

    def authenticate(self, name: str, password: str) -> bool:
        """Whether these are an administrator's name and password."""
        account = self.accounts.get(name)
        return account is not None and account.administrator and self.accounts.check(name, password)

    def refused(self, pane: str) -> None:
        """Somebody pressed Cancel where an administrator was asked for; authd's line is that of the posted logs, and which client it
        names is assumed for all panes but the VPN one.
        """
        client = f"/System/Library/ExtensionKit/Extensions/{'LoginItems' if 'Login' in pane else 'SecurityPrivacyExtension'}.appex"
        self.log.emit(
            self.daemon("authd"),
            f"Failed to authorize 'system.preferences' by client '{client}' for authorization created by '{client}' (-60006) (engine 881)",
            subsystem="com.apple.Authorization", category="authd", level="Error",
        )  # fmt: skip

    def user_activity(self, kind: str) -> bool:
        """Somebody touched keyboard or mouse: whether that only woke something."""
        return self.sleep.user_activity(kind)

    def unlocked(self) -> None:
        """The password at the lock screen was right."""
        self.sleep.unlock()

    def allow(self, identifier: str) -> None:
        """The user approved it."""
        self.journal.write("approved", identifier=identifier)
        self.sysextd.allow(identifier)

    def disallow(self, identifier: str) -> None:
        """The user switched it off."""
        self.journal.write("switched-off", identifier=identifier)
        self.sysextd.disallow(identifier)

    def remove(self, identifier: str) -> None:
        """The user removed it."""
        self.journal.write("removed", identifier=identifier)
        self.sysextd.remove(identifier)

    # --- commands

    def ssh_login(self, user: str, password: str) -> bool:
        """Whether that password lets that user in."""
        return self.accounts.check(user, password)

    async def execute(self, argv: list[str], io: CommandIO) -> int:
        """Run one command to its end; its exit code, 127 when there is none of the name. See `CommandRunner`."""
        if not argv or not argv[0]:
            return 0
        word = argv[0]
        name = word
        for folder in BIN_FOLDERS:
            if word.startswith(folder):
                name = word[len(folder) :]
        command = self._command(name) if "/" not in name else None
        if command is not None:
            return await self._in_process(name, word if "/" in word else f"/usr/bin/{name}", argv, io, command)
        if "/" in word:
            return await self._from_disk(word, argv, io)
        for folder in (*io.environment.get("PATH", "").split(":"),):
            if folder.startswith("/") and folder + "/" not in BIN_FOLDERS[:4]:
                with contextlib.suppress(OSError):
                    if self.disk.path(f"{folder}/{word}").is_file():
                        return await self._from_disk(f"{folder}/{word}", argv, io)
        await io.stderr(f"zsh: command not found: {word}\n".encode())
        return 127

    def may_open(self, io: CommandIO) -> bool:
        """Whether Launch Services serves a command: somebody is at the console, and it is that user's, or root's."""
        return self.console_user != NOBODY and (io.root or io.user == self.console_user)

    def has_command(self, name: str) -> bool:
        """Whether there is a command of that bare name (`which`, `command -v`)."""
        return self._command(name) is not None

    def _command(self, name: str) -> Callable[[Any, CommandIO, list[str]], Awaitable[int]] | None:
        own = self._commands.get(name)
        return own if own is not None else _posix().get(name)

    async def _from_disk(self, word: str, argv: list[str], io: CommandIO) -> int:
        try:
            host = self.disk.path(word, io.cwd)
            guest_path = self.disk.guest(host)
        except OSError:
            host, guest_path = Path("/nonexistent"), ""
        if not guest_path or not host.is_file():
            await io.stderr(f"zsh: no such file or directory: {word}\n".encode())
            return 127
        if not os.access(host, os.X_OK) or not host.stat().st_mode & 0o111:
            await io.stderr(f"zsh: permission denied: {word}\n".encode())
            return 126
        with host.open("rb") as file:
            start = file.read(128)
        app = app_of_path(guest_path)
        if app is not None and guest_path.startswith(f"{app}/Contents/MacOS/"):
            return await self.run_app(app, guest_path, argv[1:], io, user=io.user)
        if start.startswith(b"#!"):
            interpreter = start[2:].split(b"\n")[0].decode("utf-8", "replace").split() or ["/bin/sh"]
            return await self.execute([*interpreter, guest_path, *argv[1:]], io)
        await io.stderr(f"zsh: exec format error: {word}\n".encode())
        return 126

    async def run_app(
        self,
        app: str,
        executable: str,
        arguments: list[str],
        io: CommandIO | None,
        *,
        user: str,
        pid: int | None = None,
        stage: str = "",
    ) -> int:
        """Run an app's main executable to its end, as a process of its own. `pid` and `stage`: it goes on after a suspend."""

        async def run() -> int:
            try:
                return await self.apps.run(app, arguments, process, io, stage)
            except (OSError, ValueError) as error:
                if io is not None:
                    await io.stderr(f"{executable}: {error}\n".encode())
                return 1

        process = self.processes.spawn(executable.rsplit("/", 1)[-1], executable, user, tuple(arguments), pid=pid)
        return await self._supervised(process, run())

    async def _in_process(
        self,
        name: str,
        path: str,
        argv: list[str],
        io: CommandIO,
        command: Callable[[Any, CommandIO, list[str]], Awaitable[int]],
    ) -> int:
        process = self.processes.spawn(name, path, io.user, tuple(argv[1:]))

        async def run() -> int:
            try:
                return await command(self, io, argv)
            except OSError as error:
                text = os.strerror(error.errno) if error.errno else str(error)
                with contextlib.suppress(OSError):
                    await io.stderr(f"{name}: {text}\n".encode())
                return 1
            except (UnicodeError, ValueError, KeyError, TypeError) as error:  # a mistake of the simulator's own
                self.journal.write("simulator-error", command=argv, error=repr(error))
                with contextlib.suppress(OSError):
                    await io.stderr(f"{name}: internal error of the simulator: {error!r}\n".encode())
                return 70

        return await self._supervised(process, run())

    async def _supervised(self, process: GuestProcess, work: Coroutine[Any, Any, int]) -> int:
        task: asyncio.Task[int] = asyncio.get_running_loop().create_task(work)
        process.task = task
        try:
            return await task
        except asyncio.CancelledError:
            if process.signal and task.cancelled():
                return 128 + process.signal  # killed by another command, while ours goes on
            task.cancel()
            raise
        finally:
            self.processes.remove(process.pid)


def _posix() -> dict[str, Command]:
    from harness.simulator.posix import COMMANDS

    return COMMANDS
