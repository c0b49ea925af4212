"""The `tart` command: its short verbs, each with a deadline, its errors turned into ours.

`tart run` is no short verb: see `supervised.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import events
from harness.errors import EnvironmentFailure, UsageError, Verdict, WaitTimeout, verdict_of
from harness.machines.tart_output import VmRow, clip, explain, missing_vm, no_ip, parse_ip, parse_list
from harness.waiting import Deadline

CAPTURE_LIMIT = 4 * 1024 * 1024
"""Bytes kept of each stream; `list` with hundreds of images stays far below it."""

NOT_INHERITED = ("SYSEXT_GUEST__PASSWORD",)


@dataclass(frozen=True)
class Result:
    """What one command did."""

    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Both streams, stderr first: errors stand there, but for some that Tart prints on stdout."""
        return "\n".join(part for part in (self.stderr.strip(), self.stdout.strip()) if part)


class TartCli:
    """One `tart` executable with one TART_HOME.

    Args:
        executable: A name to find in PATH, or a path.
        home: TART_HOME, or None for Tart's own default (~/.tart), whatever this process's environment says.
        environment: More variables for every call.
    """

    def __init__(
        self, executable: str, *, home: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.executable = executable
        self.home = home
        self._environment = dict(environment or {})

    def derived(self, environment: Mapping[str, str]) -> TartCli:
        """The same with more variables."""
        return TartCli(self.executable, home=self.home, environment={**self._environment, **environment})

    def path(self) -> Path:
        """The executable.

        Raises:
            UsageError: There is none.
        """
        found = shutil.which(self.executable)
        if found is None:
            raise UsageError(
                f"the command {self.executable}",
                seen="not found" if "/" in self.executable else "not in PATH",
                hint="`brew install openai/tools/tart` on an Apple-silicon Mac, set tart.executable, or use "
                "--sysext-provider simulated",
            )
        return Path(found).absolute()

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a call. `CI` makes Tart print plain log lines and the VNC address; `TART_NO_AUTO_PRUNE`
        keeps a clone from deleting cached images behind our back.
        """
        environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        environment |= {"CI": "1", "TART_NO_AUTO_PRUNE": "1"}
        environment.pop("TART_HOME", None)  # what this process has must not redirect a lease made with another
        if self.home is not None:
            environment["TART_HOME"] = str(self.home)
        return environment | self._environment | dict(more or {})

    def call(
        self,
        verb: str,
        *arguments: str,
        deadline: Deadline,
        on_line: Callable[[str], None] | None = None,
        on_pid: Callable[[int | None], None] | None = None,
    ) -> Result:
        """Run one verb to its end.

        Args:
            verb: Its name.
            *arguments: Its arguments.
            deadline: Past it the command is interrupted (SIGINT, which Tart takes as a clean cancel), then killed.
            on_line: Told each line of stdout as it comes (progress).
            on_pid: Told its pid at the start and None at its end.

        Raises:
            UsageError: There is no such executable.
            WaitTimeout: It did not end in time; blamed on the environment.
        """
        argv = [str(self.path()), verb, *arguments]
        started = time.monotonic()
        try:
            process = subprocess.Popen(
                argv,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,  # Ctrl-C is ours to handle: we cancel it, in order
            )
        except OSError as error:
            if verdict_of(error) is Verdict.ENVIRONMENT_FAILURE:  # a full host, not a wrong name
                raise
            raise UsageError(
                f"an executable at {argv[0]}", seen=str(error), hint="set tart.executable to a `tart` that runs here"
            ) from error
        pump = _Pump(process, on_line)
        try:
            if on_pid is not None:
                on_pid(process.pid)
            if not pump.run(deadline):
                raise WaitTimeout(
                    f"`tart {verb}` to end",
                    elapsed=time.monotonic() - started,
                    attempts=1,
                    last=clip(pump.text()) or "no output",
                    hint="a slow download? pull the image beforehand with `tart pull`, or raise timeouts.clone"
                    if verb == "clone"
                    else "is another `tart` holding TART_HOME?",
                    blame=Verdict.ENVIRONMENT_FAILURE,
                )
        finally:
            if process.poll() is None:
                _end(process)
            pump.close()
            if on_pid is not None:
                on_pid(None)
        return Result(process.returncode, pump.stdout(), pump.stderr())

    def require_tart(self, deadline: Deadline, *, simulated: bool) -> None:
        """A simulated Mac must not pass for a real one because its `tart` was given for Tart: only that one knows `sim-faults`.

        Args:
            deadline: Of the question.
            simulated: It is known to be one, and called so: nothing is asked.

        Raises:
            UsageError: It is that one.
        """
        if not simulated and self.call("sim-faults", deadline=deadline.sub(30)).code == 0:
            raise UsageError(
                "Tart itself for the provider tart",
                seen=f"{self.executable} makes simulated Macs, whose results would be taken for a real Mac's",
                hint="use --sysext-provider simulated, or set tart.executable to Tart",
            )

    def version(self, deadline: Deadline) -> str:
        """`tart --version` ("2.35.0")."""
        result = self.call("--version", deadline=deadline)
        if result.code != 0:
            raise explain("--version", result.code, result.text)
        return result.stdout.strip()[:100]

    def list(self, deadline: Deadline) -> list[VmRow]:
        """All local VMs and cached images.

        Raises:
            EnvironmentFailure: It failed or printed something unknown.
        """
        result = self.call("list", "--format", "json", deadline=deadline)
        if result.code != 0:  # a VM that another process deletes at that moment can make it stumble
            events.event("degraded", what="`tart list` asked again", reason=clip(result.text))
            result = self.call("list", "--format", "json", deadline=deadline)
        if result.code != 0:
            raise explain("list", result.code, result.text)
        return parse_list(result.stdout)

    def clone(
        self, image: str, name: str, deadline: Deadline, *, on_pid: Callable[[int | None], None] | None = None
    ) -> None:
        """Clone `image` (pulled first if remote and not cached). An existing VM `name` would be **replaced without a
        word**: look at `list` first. Progress of a pull is events `pull-progress`, one per 10 %.

        Raises:
            UsageError: No such image, or not allowed to pull it.
            EnvironmentFailure, WaitTimeout: Anything else.
        """
        result = self.call("clone", image, name, deadline=deadline, on_line=_Progress(image), on_pid=on_pid)
        if result.code != 0:
            raise explain("clone", result.code, result.text, subject=image)

    def pull(self, image: str, deadline: Deadline) -> None:
        """Bring a remote image into Tart's cache. Progress is events `pull-progress`, one per 10 %.

        Raises:
            UsageError: No such image, or not allowed to pull it.
            EnvironmentFailure, WaitTimeout: Anything else.
        """
        result = self.call("pull", image, deadline=deadline, on_line=_Progress(image))
        if result.code != 0:
            raise explain("clone", result.code, result.text, subject=image)

    def digest(self, image: str, deadline: Deadline) -> str:
        """The content address of a pulled image (`HOST/NAME@sha256:…`), or "": a local VM has none, nor an image that is not
        in the cache. By the hidden verb `fqn`, as Orchard's workers ask.
        """
        result = self.call("fqn", image, deadline=deadline)
        lines = result.stdout.split() if result.code == 0 else []
        return lines[0] if len(lines) == 1 and re.fullmatch(r"[^\s@]{1,400}@sha256:[0-9a-f]{64}", lines[0]) else ""

    def set(self, name: str, *, cpu: int, memory_mb: int, display: str, deadline: Deadline) -> None:
        """Set the machine's hardware, and a MAC address of its own: the clone of a pulled image may have the image's,
        with that one's old DHCP leases. All in one call, since each `set` also resets what it is not given
        (display refit).

        Raises:
            UsageError: Less than the image needs.
        """
        result = self.call(
            "set",
            name,
            "--cpu",
            str(cpu),
            "--memory",
            str(memory_mb),
            "--display",
            display,
            "--random-mac",
            deadline=deadline,
        )
        if result.code != 0:
            raise explain("set", result.code, result.text, subject=name)

    def ip(self, name: str, resolver: str, deadline: Deadline) -> str | None:
        """What Tart takes for the machine's address now, or None. It may be a stale lease: Tart does not check. A
        failing look takes Tart a second.

        Args:
            name: The VM.
            resolver: "dhcp", "arp" or "agent".
            deadline: When to give up.

        Raises:
            EnvironmentFailure: It failed otherwise than for want of an address.
        """
        options = (
            () if resolver == "dhcp" else ("--resolver", resolver)
        )  # the default needs no option an old Tart lacks
        result = self.call("ip", name, *options, deadline=deadline)
        if result.code == 0:
            return parse_ip(result.stdout)
        if no_ip(result.text):
            return None
        raise explain("ip", result.code, result.text, subject=name)

    def stop(self, name: str, deadline: Deadline, *, grace: int = 10) -> bool:
        """Cut its power: SIGINT to its `tart run`, SIGKILL after `grace` seconds. False if it was not running.

        Raises:
            EnvironmentFailure, WaitTimeout: It failed.
        """
        result = self.call("stop", name, "--timeout", str(grace), deadline=deadline)
        if result.code != 0 and not ("is not running" in result.text or missing_vm(result.text)):
            raise explain("stop", result.code, result.text, subject=name)
        return result.code == 0

    def suspend(self, name: str, deadline: Deadline) -> None:
        """Ask for a suspend; returns at once. Whether it worked shows in the output of `tart run` only.

        Raises:
            EnvironmentFailure: It is not running, or this Tart cannot.
        """
        result = self.call("suspend", name, deadline=deadline)
        if result.code != 0:
            raise explain("suspend", result.code, result.text, subject=name)

    def delete(self, name: str, deadline: Deadline) -> bool:
        """Delete a stopped VM. False if there was none.

        Raises:
            EnvironmentFailure: It runs, or could not be deleted.
        """
        result = self.call("delete", name, deadline=deadline)
        if result.code != 0 and missing_vm(result.text):
            return False
        if result.code != 0:
            raise explain("delete", result.code, result.text, subject=name)
        return True


class _Progress:
    """Turns `pulling …` and `NN%` lines into events, one per 10 %."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._tenth = -1

    def __call__(self, line: str) -> None:
        if line.endswith("%") and line[:-1].isdecimal() and len(line) <= 4:
            percent = int(line[:-1])
            if percent // 10 != self._tenth:
                self._tenth = percent // 10
                events.event("pull-progress", image=self._image, percent=percent)
        elif line.startswith(("pulling ", "waiting for lock", "Error pulling image")):
            self._tenth = -1
            events.event("pull-progress", image=self._image, doing=line[:200])


class _Pump:
    """Reads both streams of a process until they end, each up to `CAPTURE_LIMIT` bytes."""

    def __init__(self, process: subprocess.Popen[bytes], on_line: Callable[[str], None] | None) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._streams = (process.stdout, process.stderr)
        self._kept = (bytearray(), bytearray())
        self._on_line = on_line
        self._line = b""

    def run(self, deadline: Deadline) -> bool:
        """True when the process ended, False when the deadline came first."""
        with selectors.DefaultSelector() as selector:
            for stream, kept in zip(self._streams, self._kept, strict=True):
                selector.register(stream, selectors.EVENT_READ, kept)
            while selector.get_map():
                # A look at the process now and then: a grandchild may hold the pipes open for long after it.
                ready = selector.select(min(0.5, deadline.remaining))
                for key, _ in ready:
                    self._read(selector, key)
                if not ready and self._process.poll() is not None:
                    return True
                if deadline.expired and self._process.poll() is None:
                    return False
        try:
            self._process.wait(deadline.remaining)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _read(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        piece = os.read(key.fd, 65536)
        if not piece:
            selector.unregister(key.fileobj)
            return
        kept: bytearray = key.data
        kept += piece[: max(0, CAPTURE_LIMIT - len(kept))]
        if self._on_line is not None and kept is self._kept[0]:
            *lines, self._line = (self._line + piece)[-CAPTURE_LIMIT:].split(b"\n")
            for line in lines:
                self._on_line(line.decode("utf-8", "replace").strip())

    def stdout(self) -> str:
        return self._kept[0].decode("utf-8", "replace")

    def stderr(self) -> str:
        return self._kept[1].decode("utf-8", "replace")

    def text(self) -> str:
        return f"{self.stderr()}\n{self.stdout()}"

    def close(self) -> None:
        for stream in self._streams:
            stream.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt, then kill."""
    for number, seconds in ((signal.SIGINT, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return
    raise EnvironmentFailure(f"process {process.pid} to end when killed", hint="restart this host")
