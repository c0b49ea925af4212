"""A simulated guest without a hull: a fake screen and fake power, its own clock running fast."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import plistlib
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType

import pytest

from harness.simulator.disk import PRIVATE, GuestDisk
from harness.simulator.faults import FaultSet, parse_faults
from harness.simulator.guest import MacGuest, build_guest
from harness.simulator.images import VERSIONS
from harness.simulator.interfaces import Alert, AlertKind, CommandIO, MacOSVersion, Stage
from harness.simulator.journal import MemoryJournal
from harness.simulator.settings import SimSettings

APP_ID = "com.example.guard"
EXTENSION_ID = "com.example.guard.extension"
APP = "/Applications/Example Guard.app"
MACOS = {version.major: version for version in VERSIONS.values()}
FAST = SimSettings(
    boot_seconds=0.01,
    login_seconds=0.01,
    prompt_seconds=0.02,
    settle_seconds=0.02,
    shutdown_seconds=0.01,
    activation_seconds=0.04,
    sysdiagnose_seconds=0.02,
)
BEHAVIOUR = f"""
bundle = "{APP_ID}"
log_subsystem = "com.example.guard"
[activation]
deactivate_argument = "--deactivate"
[configuration]
kind = "transparent-proxy"
name = "guard"
[end]
stays = false
[signing]
team = "TEAM123456"
entitlements = {{ "com.apple.developer.system-extension.install" = true }}
"""


class FakeDisplay:
    """Remembers what it was asked to show."""

    def __init__(self) -> None:
        self.stage = Stage.OFF
        self.alerts: dict[int, Alert] = {}
        self.shown: list[Alert] = []
        self.urls: list[str] = []
        self.settings_closed = 0

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage
        if stage not in (Stage.DESKTOP, Stage.ASLEEP, Stage.LOCKED):
            self.alerts.clear()

    def show(self, alert: Alert) -> int:
        self.shown.append(alert)
        self.alerts[len(self.shown)] = alert
        return len(self.shown)

    def dismiss(self, alert_id: int) -> None:
        self.alerts.pop(alert_id, None)

    def open_settings(self, url: str) -> None:
        self.urls.append(url)

    def quit_settings(self) -> None:
        self.settings_closed += 1

    def freeze(self, frozen: bool) -> None:
        del frozen

    def press(self, text: str, kind: AlertKind | None = None) -> None:
        """Press a button of the alert in front (of that kind)."""
        number, alert = next((n, a) for n, a in reversed(self.alerts.items()) if kind in (None, a.kind))
        del self.alerts[number]
        alert.on_button(text)


class FakePower:
    def __init__(self) -> None:
        self.up: list[bool] = []
        self.slept: list[bool] = []
        self.off = 0

    async def network(self, up: bool) -> None:
        self.up.append(up)

    async def sleep(self, *, asleep: bool) -> None:
        self.slept.append(asleep)

    def powered_off(self) -> None:
        self.off += 1

    def panicked(self, reason: str) -> None:
        raise AssertionError(reason)


@dataclasses.dataclass
class Output:
    code: int
    out: str
    err: str
    raw: bytes


class Mac:
    """A booted guest and short ways to use it."""

    def __init__(self, guest: MacGuest, display: FakeDisplay, power: FakePower, journal: MemoryJournal) -> None:
        self.guest = guest
        self.display = display
        self.power = power
        self.journal = journal

    async def run(self, command: str | list[str], *, root: bool = False, stdin: bytes = b"") -> Output:
        """Run one command to its end."""
        out: list[bytes] = []
        err: list[bytes] = []
        code = await self.guest.execute(
            shlex.split(command) if isinstance(command, str) else command, self.io(out, err, root=root, stdin=stdin)
        )
        return Output(
            code, b"".join(out).decode("utf-8", "replace"), b"".join(err).decode("utf-8", "replace"), b"".join(out)
        )

    def io(self, out: list[bytes], err: list[bytes], *, root: bool = False, stdin: bytes = b"") -> CommandIO:
        reader = asyncio.StreamReader()
        reader.feed_data(stdin)
        reader.feed_eof()

        async def to_out(data: bytes) -> None:
            out.append(data)

        async def to_err(data: bytes) -> None:
            err.append(data)

        return CommandIO(reader, to_out, to_err, "root" if root else "admin", "/Users/admin", {"PATH": "/usr/bin:/bin"})

    def start(self, command: list[str]) -> asyncio.Task[Output]:
        """Run one command in the background."""
        return asyncio.get_running_loop().create_task(self.run(command))

    async def until(self, condition: Callable[[], object], what: str = "", seconds: float = 5) -> None:
        """Let the guest go on until the condition holds."""
        for _ in range(int(seconds / 0.005)):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"never came: {what or condition}; alerts {self.display.shown}, entries {self.states()}")

    def states(self) -> list[tuple[str, str]]:
        """(version, state) of the entries of the example extension."""
        return [
            (entry.version, entry.state) for entry in self.guest.sysextd.database if entry.identifier == EXTENSION_ID
        ]

    def messages(self) -> list[str]:
        """What has been logged, oldest first."""
        return [record.message for record in self.guest.log.between()]

    async def launch(self, *arguments: str) -> asyncio.Task[Output]:
        """Start the example app and let it come as far as its first wait."""
        return self.start([f"{APP}/Contents/MacOS/Example Guard", *arguments])

    async def enabled(self) -> Output:
        """Activate the example app through its dialog and approve everything."""
        task = await self.launch()
        await self.until(
            lambda: any(alert.kind is AlertKind.EXTENSION for alert in self.display.alerts.values()), "the dialog"
        )
        self.display.press("Open System Settings", AlertKind.EXTENSION)
        self.guest.allow(EXTENSION_ID)
        await self.until(
            lambda: task.done() or any(a.kind is AlertKind.PROXY for a in self.display.alerts.values()), "consent"
        )
        if not task.done():
            self.display.press("Allow", AlertKind.PROXY)
        return await task

    async def reboot(self) -> None:
        """Restart, and wait for the desktop."""
        await self.guest.restart()


def write_app(
    disk: Path,
    *,
    path: str = APP,
    short: str = "1.0",
    build: str = "1",
    info: dict[str, object] | None = None,
    kind: dict[str, object] | None = None,
) -> Path:
    """Put the example app on a disk; its executables are no Mach-O files, so its behaviour file signs it."""
    root = disk / path.lstrip("/")
    shutil.rmtree(root, ignore_errors=True)
    extension = root / f"Contents/Library/SystemExtensions/{EXTENSION_ID}.systemextension"
    base = {"CFBundleShortVersionString": short, "CFBundleVersion": build}
    host = {
        **base,
        "CFBundleIdentifier": APP_ID,
        "CFBundleName": "Example Guard",
        "CFBundleExecutable": "Example Guard",
        **(info or {}),
    }
    inner: dict[str, object] = {
        **base,
        "CFBundleIdentifier": EXTENSION_ID,
        "CFBundleName": "extension",
        "CFBundleExecutable": EXTENSION_ID,
        "CFBundlePackageType": "SYSX",
        "NetworkExtension": {
            "NEMachServiceName": "TEAM123456.com.example.guard",
            "NEProviderClasses": {"com.apple.networkextension.app-proxy": "x.Provider"},
        },
    }
    inner = inner if kind is None else {key: value for key, value in {**inner, **kind}.items() if value is not None}
    for bundle, plist in ((root, host), (extension, inner)):
        (bundle / "Contents/MacOS").mkdir(parents=True)
        (bundle / "Contents/Info.plist").write_bytes(plistlib.dumps(plist))
        executable = bundle / "Contents/MacOS" / str(plist["CFBundleExecutable"])
        executable.write_bytes(f"not a Mach-O file {short}".encode())
        executable.chmod(0o755)
    return root


@pytest.fixture(scope="session")
def rig() -> ModuleType:
    """This module: its constants and `write_app`."""
    return sys.modules[__name__]


MacFactory = Callable[..., contextlib.AbstractAsyncContextManager[Mac]]


@pytest.fixture
def disk_root(tmp_path: Path) -> Path:
    """A small disk: only the folders that these tests touch (many folders are slow to make and to delete)."""
    root = tmp_path / "disk"
    for folder in (
        "Applications",
        "Library/SystemExtensions",
        "private/tmp",
        "private/var/tmp",
        "private/var/db",
        "private/etc",
        "Users/admin",
    ):
        (root / folder).mkdir(parents=True)
    for name in PRIVATE:
        (root / name).symlink_to(f"private/{name}")
    return root


@pytest.fixture
def new_mac(tmp_path: Path, disk_root: Path) -> MacFactory:
    """`async with new_mac(macos="15", faults="code") as mac:` a booted Mac with the example app in /Applications."""
    behaviours = tmp_path / "behaviours"
    behaviours.mkdir()
    (behaviours / "example.toml").write_text(BEHAVIOUR)

    @contextlib.asynccontextmanager
    async def make(
        *,
        macos: str | MacOSVersion = "15",
        faults: str = "",
        sip: bool = True,
        boot: bool = True,
        app: bool = True,
        **settings: float,
    ) -> AsyncIterator[Mac]:
        if app and not (disk_root / APP.lstrip("/")).exists():
            write_app(disk_root)
        display, power, journal = FakeDisplay(), FakePower(), MemoryJournal()
        guest = build_guest(
            macos=MACOS[macos] if isinstance(macos, str) else macos,
            disk=GuestDisk(disk_root),
            display=display,
            power=power,
            settings=dataclasses.replace(FAST, behaviours=str(behaviours), **settings),  # type: ignore[arg-type]
            faults=FaultSet(parse_faults(faults), "key"),
            journal=journal,
            machine_name="test-mac",
            sip=sip,
        )
        mac = Mac(guest, display, power, journal)
        if boot:
            await guest.boot()
        try:
            yield mac
        finally:
            await guest._stop_everything()
        errors = [line for line in journal.lines if line["what"] == "simulator-error"]
        assert not errors, errors

    return make


def drive(work: Callable[[], Awaitable[None]]) -> None:
    """Run an async test body."""

    async def bounded() -> None:
        await asyncio.wait_for(work(), 30)

    asyncio.run(bounded())


@pytest.fixture
def run_async() -> Callable[[Callable[[], Awaitable[None]]], None]:
    return drive


def _wheel(version: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sysext" / "tests"
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / f"mitmproxy_macos-{version}-py3-none-any.whl"
    with (cache / "wheels.lock").open("a") as lock:  # the same cache and lock as the bundles' tests
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wheel.exists():
            fresh = cache / f"fetching-{os.getpid()}"
            words = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--dest",
                str(fresh),
            ]
            try:
                done = subprocess.run(
                    [*words, f"mitmproxy_macos=={version}"], capture_output=True, text=True, timeout=240, check=False
                )
                if done.returncode:
                    pytest.skip(f"the package index cannot be reached: {done.stderr[-300:]}")
                (fresh / wheel.name).rename(wheel)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return wheel


@pytest.fixture(scope="session")
def redirector() -> Callable[[str, Path], Path]:
    """Put the real Mitmproxy Redirector of a version into a folder; returns the .app."""

    def unpack(version: str, into: Path) -> Path:
        name = "Mitmproxy Redirector.app"
        shutil.rmtree(into / name, ignore_errors=True)
        with (
            zipfile.ZipFile(_wheel(version)) as archive,
            archive.open(f"mitmproxy_macos/{name}.tar") as inner,
            tarfile.open(fileobj=inner) as tar,
        ):
            tar.extractall(into, filter="data")
        return into / name

    return unpack
