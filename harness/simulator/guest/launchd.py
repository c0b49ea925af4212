"""launchd: jobs with their processes, started again when they die; and what `launchctl print` says of them."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.simulator.guest.processes import GuestProcess

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

RELAUNCH_SECONDS = 0.2
"""How soon a dead job is started again here. A real launchd lets ten seconds pass between two starts of a crashing job."""


@dataclass(eq=False)
class Job:
    """One job.

    Attributes:
        endpoints: Mach service names, or None when its print has no `endpoints` block at all.
        submitted_by: "sysextd" for extensions; "" for a job with a property list of its own.
        keep_alive: Whether launchd starts it again when it ends.
        on_start: Called with each new process.
    """

    label: str
    program: str
    domain: str = "system"
    type: str = "LaunchDaemon"
    user: str = "root"
    endpoints: tuple[str, ...] | None = ()
    submitted_by: str = ""
    managed_by: str = ""
    keep_alive: bool = True
    arguments: tuple[str, ...] = ()
    on_start: Callable[[GuestProcess], None] | None = None
    process: GuestProcess | None = None
    runs: int = 0
    last_exit_code: str = "(never exited)"
    last_exit_reason: str = ""
    last_signal: int = 0
    state: str = "not running"
    spawn_refused: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Launchd:
    """All jobs of one boot."""

    def __init__(self, guest: MacGuest) -> None:
        self._guest = guest
        self.jobs: dict[str, Job] = {}
        self.revive: dict[str, dict[str, Any]] = {}
        """While a suspended machine goes on: what its jobs were."""

    def get(self, domain: str, label: str) -> Job | None:
        """The job of that label in that domain."""
        job = self.jobs.get(label)
        return job if job is not None and _same_domain(job.domain, domain) else None

    def register(self, job: Job, *, start: bool = True) -> Job:
        """Add a job (replacing one of that label) and start it."""
        old = self.jobs.get(job.label)
        if old is not None:
            self.remove(old.label)
        self.jobs[job.label] = job
        if start:
            self.start(job)
        return job

    def remove(self, label: str) -> None:
        """Take a job away and end its process."""
        job = self.jobs.pop(label, None)
        if job is None:
            return
        for task in list(job.tasks):
            task.cancel()
        if job.process is not None:
            job.process.on_end = None
            self._guest.processes.kill(job.process.pid, 15)
            job.process = None

    def start(self, job: Job) -> None:
        """Start its process now, unless it has one."""
        if job.process is not None or job.label not in self.jobs:
            return
        was = self.revive.pop(job.label, None)
        if was is not None:
            self._revive(job, was)
            return
        job.runs += 1
        if job.spawn_refused:
            job.last_exit_code = "(never exited)" if job.runs == 1 else job.last_exit_code
            job.last_exit_reason = "OS_REASON_EXEC"
            job.state = "spawn scheduled"
            self.again(job, 10 * RELAUNCH_SECONDS)
            return
        name = job.program.rsplit("/", 1)[-1]
        process = self._guest.processes.spawn(name, job.program, job.user, job.arguments)
        process.on_end = lambda signal: self.ended(job, signal=signal)
        job.process = process
        job.state = "running"
        if job.on_start is not None:
            job.on_start(process)

    def _revive(self, job: Job, was: dict[str, Any]) -> None:
        """Its process is there again, as it was."""
        job.runs, job.last_exit_code, job.last_exit_reason = int(was["runs"]), str(was["exit"]), str(was["reason"])
        job.last_signal, job.keep_alive = int(was["signal"]), bool(was["keep_alive"])
        name = job.program.rsplit("/", 1)[-1]
        process = self._guest.processes.spawn(name, job.program, job.user, job.arguments, pid=int(was["pid"]))
        process.on_end = lambda signal: self.ended(job, signal=signal)
        job.process, job.state = process, "running"
        if job.on_start is not None:
            job.on_start(process)

    def ended(self, job: Job, *, signal: int = 0, code: int = 0) -> None:
        """Its process has ended, by a signal or with an exit code; started again if it is kept alive."""
        pid = job.process.pid if job.process is not None else 0
        if job.process is not None:
            self._guest.processes.remove(job.process.pid)
            job.process = None
        job.last_signal = signal
        job.last_exit_code = f"{code}" if not signal else "0"
        if signal:
            job.last_exit_reason = (
                f"OS_REASON_SIGNAL | (SIG{_SIGNALS.get(signal, signal)})" if signal in (9, 15) else ""
            )
        launchd = self._guest.processes.get(1)
        if launchd is not None and pid:
            how = (
                f"exited due to SIG{_SIGNALS.get(signal, signal)} | sent by {'exc handler' if signal in (5, 6, 11) else 'user'}"
                if signal
                else f"exited with exit code: {code}"
            )
            self._guest.log.emit(
                launchd, f"[{job.domain}/{job.label} [{pid}]:] {how}, ran for {self._guest.clock.uptime() * 1000:.0f}ms"
            )
        if job.label not in self.jobs:
            return
        if job.keep_alive:
            job.state = "spawn scheduled"
            self.again(job, RELAUNCH_SECONDS)
        else:
            job.state = "exited" if job.submitted_by else "not running"

    def again(self, job: Job, seconds: float) -> None:
        """Start the job after so many seconds."""

        async def later() -> None:
            await self._guest.delay("relaunch", seconds)
            self.start(job)

        task = self._guest.spawn(later())
        job.tasks.add(task)
        task.add_done_callback(job.tasks.discard)

    def clear(self) -> None:
        """Power-off."""
        for label in list(self.jobs):
            job = self.jobs.pop(label)
            if job.process is not None:
                job.process.on_end = None

    def print_job(self, job: Job) -> str:
        """What `launchctl print DOMAIN/LABEL` shows, tabs as indentation."""
        generation = self._guest.macos.generation
        running = job.process is not None
        body: list[str] = [f"active count = {2 if running else 0}"]
        if job.submitted_by:
            submitter = self._guest.processes.named(job.submitted_by)
            body.append(f"path = (submitted by {job.submitted_by}.{submitter[0].pid if submitter else 0})")
        else:
            body.append(f"path = /System/Library/LaunchDaemons/{job.label}.plist")
        body.append(f"type = {job.type}")
        if job.managed_by and generation >= 26:
            body.append(f"managed_by = {job.managed_by}")
        body += [f"state = {job.state}", ""]
        body.append(f"program = {job.program}")
        body += [*_block("arguments", [job.program, *job.arguments]), ""]
        body += [*_block("default environment", ["PATH => /usr/bin:/bin:/usr/sbin:/sbin"]), ""]
        body += [*_block("environment", [f"XPC_SERVICE_NAME => {job.label}"]), ""]
        body.append(f"domain = {job.domain}" + (" [100007]" if job.domain != "system" else ""))
        if job.domain != "system":
            body.append("asid = 100007")
        body += ["minimum runtime = 10"] + (["base minimum runtime = 10"] if generation >= 15 else [])
        body += ["exit timeout = 5", f"runs = {job.runs}"]
        if job.process is not None:
            body.append(f"pid = {job.process.pid}")
        body.append("immediate reason = " + ("semaphore" if job.runs > 1 else "speculative"))
        body += [
            "forks = 0",
            f"execs = {1 if running else 0}",
            f"initialized = {int(running)}",
            f"trampolined = {int(running)}",
        ]
        body += ["started suspended = 0", "proxy started suspended = 0"]
        if generation >= 26:
            body += [
                "checked allocations = 0 (queried = 1)",
                "checked allocations reason = no host",
                "checked allocations flags = 0x0",
            ]
        if job.last_signal and not running:
            body.append(
                f"last terminating signal = {_SIGNAL_WORDS.get(job.last_signal, str(job.last_signal))}: {job.last_signal}"
            )
        else:
            body.append(f"last exit code = {job.last_exit_code}")
        if job.last_exit_reason:
            body.append(f"last exit reason = {job.last_exit_reason}")
        body.append("")
        if job.submitted_by:
            body += [*_block("semaphores", ["successful exit => 0"]), ""]
        if job.endpoints:
            body += [*_block("endpoints", self._endpoints(job)), ""]
        body += [
            "spawn type = " + ("adaptive (6)" if not job.submitted_by else "interactive (4)"),
            "jetsam priority = 40",
        ]
        body += ["jetsam memory limit (active) = (unlimited)", "jetsam memory limit (inactive) = (unlimited)"]
        body.append("jetsamproperties category = daemon")
        if job.submitted_by:
            body.append("submitted job. ignore execute allowed")
        body += ["jetsam thread limit = 32", "cpumon = default"]
        if generation >= 13:
            body.append(f"job state = {'running' if running else 'exited'}")
        body += [
            "",
            "properties = supports transactions | runatload | resolve program"
            + (" | has LWCR" if generation >= 14 else ""),
        ]
        return (
            "\n".join([f"{job.domain}/{job.label} = {{", *(f"\t{line}" if line else "" for line in body), "}"]) + "\n"
        )

    def _endpoints(self, job: Job) -> list[str]:
        lines: list[str] = []
        for name in job.endpoints or ():
            port = 0x3000 + (zlib.crc32(f"{name}{self._guest.clock.boot_uuid}".encode()) & 0xFFF00) + 3
            lines += _block(
                f'"{name}"',
                [
                    f"port = {port:#x}",
                    f"active = {int(job.process is not None)}",
                    "managed = 1",
                    "reset = 0",
                    "hide = 0",
                    "watching = 0",
                ],
            )
        return lines

    def print_domain(self, domain: str) -> str:
        """What `launchctl print system` shows: services with pid and last status, endpoints, disabled services."""
        services = []
        endpoints: list[str] = []
        for job in self.jobs.values():
            if not _same_domain(job.domain, domain):
                continue
            pid = job.process.pid if job.process is not None else 0
            services.append(f"{pid:>8} {_status(job):>6} \t{job.label}")
            endpoints += self._endpoints(job)
        body = [
            f"type = {'system' if domain == 'system' else 'login'}",
            "handle = 0",
            "active count = 800",
            "service count = 403",
        ]
        body += ["active service count = 192", "maximum allowed shutdown time = 65 s", ""]
        body += [*_block("services", services), ""]
        body += [*_block("endpoints", endpoints), ""]
        body += _block("disabled services", [])
        return "\n".join([f"{domain} = {{", *(f"\t{line}" if line else "" for line in body), "}"]) + "\n"

    def list_text(self, domain: str) -> str:
        """What `launchctl list` shows."""
        rows = ["PID\tStatus\tLabel"]
        for job in self.jobs.values():
            if _same_domain(job.domain, domain):
                pid = str(job.process.pid) if job.process is not None else "-"
                rows.append(f"{pid}\t{'0' if _status(job) == '-' else _status(job)}\t{job.label}")
        return "\n".join(rows) + "\n"


_SIGNALS = {9: "KILL", 15: "TERM", 6: "ABRT", 5: "TRAP", 11: "SEGV", 1: "HUP", 2: "INT"}
_SIGNAL_WORDS = {
    9: "Killed",
    15: "Terminated",
    6: "Abort trap",
    5: "Trace/BPT trap",
    11: "Segmentation fault",
    1: "Hangup",
    2: "Interrupt",
}


def _same_domain(one: str, other: str) -> bool:
    return one == other or (
        one.startswith("gui/") and (other == "login/100007" or other == f"user/{one.partition('/')[2]}")
    )


def _status(job: Job) -> str:
    if job.last_signal:
        return f"-{job.last_signal}"
    return "-" if job.last_exit_code.startswith("(") else job.last_exit_code.split(":", maxsplit=1)[0]


def _block(name: str, lines: list[str]) -> list[str]:
    return [f"{name} = {{", *(f"\t{line}" for line in lines), "}"]
