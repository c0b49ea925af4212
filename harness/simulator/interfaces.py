"""What the parts of the simulated Mac expect of one another.

    tart.py / runner.py      a `tart` executable; `tart run` is one process that hosts everything below
    ssh.py, shell.py, posix/ the network door: SSH + SFTP into the machine's own disk folder, a small shell
    guest/                   the operating system inside: sysextd, launchd, NE, unified log, macOS's own commands, apps
    display/                 what a person would see: a drawn desktop, and the VNC server that shows it

Points are what windows are laid out in; pixels = points × scale.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True)
class MacOSVersion:
    """One macOS release as the simulator knows it ("15", "15.5", "24F74")."""

    major: str
    product: str
    build: str
    darwin: str

    @property
    def generation(self) -> int:
        """13, 14, 15 or 26: which look and which wording."""
        return int(self.major)


@dataclass(frozen=True)
class Fault:
    """One injected fault. `code` is a cause code, or `env-…` for the environment's own."""

    code: str
    rate: float = 1.0
    seed: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)


class Faults(Protocol):
    """The faults of one machine; each was decided once, from (seed, run key), so a run can be repeated."""

    def asked_for(self, version: str) -> None:
        """An activation of this version of the extension was requested: faults may begin with a version."""

    def active(self, code: str) -> Fault | None:
        """The fault, if this machine has it."""

    def at(self, code: str, occasion: str) -> Fault | None:
        """The fault, if this machine has it at that occasion (a replacement): decided anew for each."""


class Journal(Protocol):
    """The simulator's own diary (`simulator.jsonl` in the machine's folder): the delays it made, when a prompt's pixels
    were put on screen, which clicks landed where. Benchmarks read it; the harness never does.
    """

    def write(self, what: str, **attributes: object) -> None:
        """One line: {"what", "monotonic", "time", …}."""


class Disk(Protocol):
    """The machine's disk: guest paths to host paths below one folder. Never leaves it, not through links either."""

    root: Path

    def path(self, guest_path: str, cwd: str = "/") -> Path:
        """Where a guest path lives on the host. `/tmp`, `/var`, `/etc` lead to `/private/…` as on a Mac.

        Raises:
            PermissionError: The path would leave the disk.
        """

    def guest(self, host_path: Path) -> str:
        """The reverse."""

    @property
    def full(self) -> bool:
        """True while the disk is full (fault env-disk-full): writers must fail with ENOSPC."""


class Stage(enum.StrEnum):
    """What the display shows as a whole."""

    OFF = "off"
    BOOT = "boot"
    LOGIN = "login"
    DESKTOP = "desktop"
    ASLEEP = "asleep"
    LOCKED = "locked"


class AlertKind(enum.StrEnum):
    """The alerts that the guest can raise."""

    EXTENSION = "extension"  # "System Extension Blocked" (13, 14), "would like to use a new network extension" (15, 26)
    PROXY = "ne-proxy-consent"
    VPN = "ne-vpn-consent"
    FILTER = "ne-filter-consent"
    NOTICE = "notice"  # an app's own modal alert: title, text, one button "OK"
    ADMINISTRATOR = "administrator"  # asks for a password, for what the app is about to do: a window of SecurityAgent


@dataclass(frozen=True)
class Alert:
    """An alert to show. `on_button` is called (in the loop) with the exact text of the button that was pressed.

    For EXTENSION, "Open System Settings" also opens Settings at the right page: the desktop does that itself. For ADMINISTRATOR,
    `text` is what the app is trying to modify, and the button is "OK" once the password was right, else "Cancel".
    """

    kind: AlertKind
    app_name: str
    extension_kind: str = "network"  # network | driver | endpoint security
    text: str = ""
    on_button: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True)
class PendingExtension:
    """An extension as the Settings pages list it."""

    identifier: str
    app_name: str
    kind: str  # network | driver | endpoint security
    waiting: bool  # asks for approval
    enabled: bool


class GuestModel(Protocol):
    """What the desktop asks of the guest."""

    def extensions(self) -> Sequence[PendingExtension]:
        """What Settings would list now."""

    def check_password(self, password: str) -> bool:
        """Whether that is the console user's password."""

    def allow(self, identifier: str) -> None:
        """The user approved it (13/14: Allow button; 15/26: switch on), authenticated."""

    def disallow(self, identifier: str) -> None:
        """The user switched it off, authenticated."""

    def remove(self, identifier: str) -> None:
        """The user removed it (15/26: the menu of its row), authenticated."""


@dataclass
class AxElement:
    """A part of a window as the accessibility interface shows it.

    Attributes:
        role: "window", "sheet", "button", "static text", "text field", "checkbox", as System Events names its classes.
        name: Of a window its title, of a button its text; None where macOS has none.
        value: Of a static text its text.
        press: What AXPress does.
    """

    role: str
    name: str | None = None
    value: str | None = None
    children: list[AxElement] = field(default_factory=list)
    press: Callable[[], None] | None = None


@dataclass
class AxProcess:
    """A process that has, or could have, windows."""

    name: str
    windows: list[AxElement] = field(default_factory=list)
    frontmost: bool = False


class Display(Protocol):
    """What the guest asks of the desktop. All calls are made in the event loop's thread."""

    def set_stage(self, stage: Stage) -> None:
        """Change what is shown as a whole; leaving DESKTOP closes all windows."""

    def show(self, alert: Alert) -> int:
        """Put an alert on screen (in front); returns its id. Journals `prompt-drawn` once its pixels are in the frame."""

    def dismiss(self, alert_id: int) -> None:
        """Take an alert away."""

    def open_settings(self, url: str) -> None:
        """`open x-apple.systempreferences:…`: open Settings at that page; an unknown page opens Settings at its front page."""

    def quit_settings(self) -> None:
        """Close the Settings window if it is open."""

    def accessible(self) -> Sequence[AxProcess]:
        """The processes with windows on the screen, as the accessibility interface shows them now."""

    def freeze(self, frozen: bool, *, hard: bool = False) -> None:  # noqa: FBT001 - a state, named by the verb
        """Stop (or go on) sending framebuffer updates (fault env-vnc-freeze); input still works. A full request revives
        them unless `hard`.
        """


@dataclass
class Process:
    """A process that runs inside the guest, as `ps` and `kill` know it."""

    pid: int
    name: str
    path: str
    user: str
    arguments: Sequence[str] = ()
    task: asyncio.Task[object] | None = None


@dataclass
class CommandIO:
    """One command's world: who runs it, where, and its three streams."""

    stdin: asyncio.StreamReader
    stdout: Callable[[bytes], Awaitable[None]]
    stderr: Callable[[bytes], Awaitable[None]]
    user: str
    cwd: str
    environment: dict[str, str]
    tty: bool = False

    @property
    def root(self) -> bool:
        """Runs as root."""
        return self.user == "root"


Command = Callable[["CommandRunner", CommandIO, list[str]], Awaitable[int]]
"""`await command(runner, io, argv)` → exit code. argv[0] is the name it was called by."""


class CommandRunner(Protocol):
    """Runs one command (argv, already split by the shell) and returns its exit code; 127 when there is none of the name."""

    disk: Disk

    async def execute(self, argv: list[str], io: CommandIO) -> int:
        """Run it to its end. Cancelling the task ends the command."""


class Power(Protocol):
    """What the guest can ask of the machine that carries it (runner.py)."""

    async def network(self, up: bool) -> None:  # noqa: FBT001 - a state, named by the verb
        """Bring the SSH door up or down; down drops all connections."""

    async def sleep(self, *, asleep: bool) -> None:
        """The guest sleeps (the network door is silent: nothing is refused, nothing answered) or is awake again."""

    def powered_off(self) -> None:
        """The guest has shut down: `tart run` prints its line and ends with 0."""

    def panicked(self, reason: str) -> None:
        """The guest has crashed: `tart run` prints its line and ends."""


class Guest(Protocol):
    """The operating system inside, as the runner sees it. It is also the `CommandRunner` of its shells."""

    macos: MacOSVersion
    disk: Disk

    async def boot(self) -> None:
        """From power-on to the desktop; returns when the console user is there. A hung boot never returns."""

    async def shut_down(self) -> None:
        """An orderly shutdown, ends with `Power.powered_off`."""

    async def execute(self, argv: list[str], io: CommandIO) -> int:
        """See `CommandRunner`."""

    def ssh_login(self, user: str, password: str) -> bool:
        """Whether that password lets that user in."""
