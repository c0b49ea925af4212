# ruff: noqa: T201 - what Tart prints
"""One running simulated Mac: power, network door, screen, signals. The whole of it lives in the `tart run` process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.simulator.addresses import LEASE_SECONDS, Forwards, Lease, Leases, address_of, reserve_port
from harness.simulator.agent import AGENT_PATH, NO_AGENT, AgentDoor
from harness.simulator.disk import GuestDisk, make_skeleton
from harness.simulator.faults import number
from harness.simulator.interfaces import CommandIO, Display, Fault, Guest, MacOSVersion
from harness.simulator.journal import FileJournal
from harness.simulator.posix.base import locate
from harness.simulator.settings import SimSettings, parse_display
from harness.simulator.ssh import Door, login_environment
from harness.simulator.store import STATE_FILE, VM, Store
from harness.simulator.words import passphrase

DEFAULT_DISPLAY = {"height": 768, "width": 1024}
IP_SECONDS = 60


@dataclass(frozen=True)
class RunOptions:
    """What `run` was asked for. `started` is when the process began, on the monotonic clock."""

    vnc_experimental: bool
    vnc: bool
    print_url: bool
    suspendable: bool
    resume: bool
    recovery: bool
    started: float


class Machine:
    """Everything that one `tart run` hosts. Also the `Power` of its guest."""

    def __init__(
        self, store: Store, settings: SimSettings, vm: VM, config: dict[str, Any], options: RunOptions
    ) -> None:
        assert vm.facts.macos is not None
        self.vm = vm
        self.settings = settings
        self.options = options
        self.macos: MacOSVersion = vm.facts.macos
        self.faults = settings.decided()
        self.mac: str = config["macAddress"]
        self.display_config: dict[str, Any] = config["display"]
        self.leases = Leases(store.home)
        self.forwards = Forwards(store.home)
        self.journal = FileJournal(_journal_path(vm, settings))
        full = self.faults.active("env-disk-full")
        limit = None if full is None else int(number(full, "after_mb", 0) * 1_000_000)
        make_skeleton(vm.root)
        self.disk = GuestDisk(vm.root, full_after_bytes=limit)
        self.ip = address_of(self.mac)
        self._port_holder = reserve_port(self.ip)
        self._stale_holder = None if self.faults.active("env-stale-ip") is None else reserve_port(self.ip)
        self.door = Door(self._port_holder, self.disk, self.journal, self.faults)
        self._end: asyncio.Future[int] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.guest: Guest
        self.display: Display
        self._rfb: Any = None
        self._agent: AgentDoor | None = None

    # --- life

    async def run(self) -> int:
        """Start, host, end; the exit code of `tart run`."""
        loop = asyncio.get_running_loop()
        self._end = loop.create_future()
        self.journal.write(
            "start",
            machine=self.vm.name,
            macos=self.macos.product,
            settings=self.settings.recorded(),
            faults=self.faults.codes,
            resume=self.options.resume,
        )
        early = loop.create_future()
        loop.add_signal_handler(signal.SIGINT, early.cancel)
        try:
            size, scale = self._display_size()
            await self._build(size, scale)
        except UsageError as error:
            print(f"Error: {error}", file=sys.stderr)
            return 64
        if early.done():
            print("CancellationError()", file=sys.stderr)
            return 1
        self._on_signals(loop)
        self._forward()
        await self._power_on()
        try:
            return await self._end
        finally:
            self._power_cut()

    async def _build(self, size: tuple[int, int], scale: int) -> None:
        from harness.simulator.display import build_display
        from harness.simulator.guest import build_guest

        desktop = build_display(
            macos=self.macos,
            size_points=size,
            scale=scale,
            appearance=self.settings.appearance,
            settings=self.settings,
            journal=self.journal,
        )
        self.display = desktop
        self.guest = build_guest(
            macos=self.macos,
            disk=self.disk,
            display=desktop,
            power=self,
            settings=self.settings,
            faults=self.faults,
            journal=self.journal,
            machine_name=self.vm.name,
            sip=self.vm.facts.sip,
        )
        model = getattr(self.guest, "model", self.guest)
        desktop.model = model
        self.door.guest = self.guest
        if self.options.vnc_experimental:
            from harness.simulator.display.rfb import RfbServer

            password = passphrase()
            self._rfb = RfbServer(desktop, password)
            self._vnc_url = f"vnc://:{password}@127.0.0.1:{await self._rfb.start()}"

    async def _power_on(self) -> None:
        # What the simulator itself took, which no Mac's power button does: benchmarks leave it out
        self.journal.write("power-on", start_cost_seconds=round(time.monotonic() - self.options.started, 4))
        if self.options.resume:
            print("restoring VM state from a snapshot...")
            state = json.loads((self.vm.folder / STATE_FILE).read_text() or "{}")
            print("resuming VM...")
            (self.vm.folder / STATE_FILE).unlink(missing_ok=True)
            self._spawn(self._resume(state))
        else:
            self._spawn(self._boot())
        if self.options.vnc_experimental:
            self._say_url(self._vnc_url)
        elif self.options.vnc:
            self._spawn(self._say_guest_url())
        self._agent = AgentDoor(self.vm.folder, self._agent_execute)
        await self._agent.open()

    async def _boot(self) -> None:
        await self.guest.boot()
        self._at_desktop()

    async def _resume(self, state: dict[str, Any]) -> None:
        """Go on where the snapshot was taken; a guest that cannot is booted, and the journal says so."""
        resume = getattr(self.guest, "resume", None)
        if resume is None or "guest" not in state:
            self.journal.write("resume-as-cold-boot", why="the guest has no snapshot")
            await self._boot()
            return
        await resume(state["guest"])
        self._at_desktop()

    def _at_desktop(self) -> None:
        self.journal.write("desktop")
        if self.vm.facts.agent:
            (self.vm.folder / "sim/agent-up").touch()
        freeze = self.faults.active("env-vnc-freeze")
        if freeze is not None:
            self._spawn(self._freeze_later(freeze))

    async def _freeze_later(self, fault: Fault) -> None:
        await asyncio.sleep(number(fault, "after", 0))
        self.journal.write("fault", code=fault.code)
        hard = number(fault, "hard", 0) != 0
        self.display.freeze(True, hard=hard)  # noqa: FBT003 - see interfaces.Display

    def _power_cut(self) -> None:
        self.journal.write("power-cut")
        for task in tuple(self._tasks):
            task.cancel()
        self.door.shut()
        self._port_holder.close()
        self.forwards.clear(self.ip, 22)
        for name in ("control.sock", "sim/agent-up", "sim/started"):
            (self.vm.folder / name).unlink(missing_ok=True)
        self.journal.close()

    def _finish(self, code: int, said: str = "") -> None:
        if self._end is not None and not self._end.done():
            if said:
                print(said)
            self._end.set_result(code)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A mistake in the simulator must not look like a hung guest: end as Tart does on an internal error.
            error = task.exception()
            self.journal.write("simulator-error", error=repr(error))
            import traceback

            traceback.print_exception(error, file=sys.stderr)
            self._finish(1)

    # --- screen

    def _display_size(self) -> tuple[tuple[int, int], int]:
        """Size in points, and the scale. `set --display` wins over the environment; `pt` (and no unit) are points."""
        scale = self.settings.scale
        if self.display_config != DEFAULT_DISPLAY:
            width, height = self.display_config["width"], self.display_config["height"]
            unit = self.display_config.get("unit", "")
        else:
            width, height, unit = parse_display(self.settings.display)
        if unit == "px":
            width, height = width // scale, height // scale
        if width < 800 or height < 600:
            raise UsageError(
                "a display of at least 800x600 points",
                seen=f"{width}x{height} points at scale {scale}",
                hint="give the size in points (1280x800pt), or twice the pixels at scale 2",
            )
        return (width, height), scale

    def _say_url(self, url: str) -> None:
        print(f"VNC server is running at {url}" if self.options.print_url else f"Opening {url}...")

    async def _say_guest_url(self) -> None:
        for _ in range(IP_SECONDS):
            found = self.leases.lookup(self.mac)
            if found:
                self._say_url(f"vnc://{found}")
                return
            await asyncio.sleep(1)
        print("IPNotFound()", file=sys.stderr)
        self._finish(1)

    # --- Power, as the guest has it

    async def network(self, up: bool) -> None:  # noqa: FBT001 - see interfaces.Power
        """The guest's network is up (it has a lease, the door opens) or down (all connections drop)."""
        self.journal.write("network", up=up)
        if not up:
            self.door.shut()
            if self._agent is not None:
                self._agent.drop()
            return
        now = int(time.time())
        stale = self.faults.active("env-stale-ip")
        if stale is not None and self._stale_holder is not None:
            old = address_of(self.mac, turn=1)
            self.forwards.set(old, 22, self.ip, self._stale_holder.getsockname()[1], self.vm.config_path)
            self.leases.grant(Lease(self.vm.name, old, self.mac, now + 2 * LEASE_SECONDS))
            self._spawn(self._forget_stale(old, number(stale, "seconds", 5)))
        self.leases.grant(Lease(self.vm.name, self.ip, self.mac, now + LEASE_SECONDS))
        await self.door.open()

    async def _forget_stale(self, old: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.leases.revoke(self.mac, old)
        self.forwards.clear(old, 22)
        if self._stale_holder is not None:
            self._stale_holder.close()
            self._stale_holder = None

    async def sleep(self, *, asleep: bool) -> None:
        """The guest sleeps, or is awake again."""
        self.journal.write("network-silent", asleep=asleep)
        if asleep:
            self.door.hush()
        else:
            await self.door.wake()

    def powered_off(self) -> None:
        """The guest has shut down by itself."""
        self._finish(0, "guest has stopped the virtual machine")

    def panicked(self, reason: str) -> None:
        """The guest has crashed; Tart still ends with 0."""
        self._finish(0, f"guest has stopped the virtual machine due to error: {reason}")

    def _forward(self) -> None:
        host, port = self._port_holder.getsockname()
        self.forwards.set(self.ip, 22, host, port, self.vm.config_path)

    # --- signals

    def _on_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        loop.add_signal_handler(signal.SIGUSR1, lambda: self._spawn(self._suspend()))
        loop.add_signal_handler(signal.SIGUSR2, self._asked_to_stop)

    def _interrupted(self) -> None:
        if self.faults.active("env-stop-needs-kill") is not None:
            self.journal.write("fault", code="env-stop-needs-kill")
            return
        self._finish(0, "Stopping VM...")

    def _asked_to_stop(self) -> None:
        # A macOS guest only asks its user whether to shut down; nobody answers, and the machine goes on.
        print("Requesting guest OS to stop...")
        self.journal.write("power-button")

    async def _suspend(self) -> None:
        if not self.options.suspendable:
            self._finish(
                1,
                "Failed to suspend the VM: Invalid virtual machine configuration. "
                "The virtual machine configuration does not support save and restore.",
            )
            return
        print("pausing VM to take a snapshot...")
        print("creating a snapshot...")
        snapshot = getattr(self.guest, "snapshot", None)
        state = {"guest": snapshot()} if snapshot is not None else {}
        (self.vm.folder / STATE_FILE).write_text(json.dumps(state))
        self._finish(0, "snapshot created successfully! shutting down the VM...")

    # --- the guest agent

    async def _agent_execute(self, argv: list[str], stdin: asyncio.StreamReader, send: Any) -> int:
        await self.door.awake.wait()  # a sleeping guest answers nothing
        user = getattr(self.guest, "console_user", None)
        if not self.vm.facts.agent or not user:
            await send(b"!", NO_AGENT.encode())
            return 1

        async def stdout(data: bytes) -> None:
            await send(b"o", data)

        async def stderr(data: bytes) -> None:
            await send(b"e", data)

        environment = login_environment(user) | {"PATH": AGENT_PATH}
        io = CommandIO(stdin, stdout, stderr, user, f"/Users/{user}", environment)
        if locate(self.guest, argv[0], io.cwd, AGENT_PATH) is None:
            said = f'Error: unknown (2): exec: "{argv[0]}": executable file not found in $PATH'
            await send(b"!", said.encode())
            return 1
        return await self.guest.execute(argv, io)


def _journal_path(vm: VM, settings: SimSettings) -> Path:
    """In the machine's folder; or, where a folder is set for it, there: the machine's is gone after `delete`."""
    if settings.journal_folder:
        return Path(settings.journal_folder) / f"{vm.name}.jsonl"
    return vm.folder / "simulator.jsonl"
