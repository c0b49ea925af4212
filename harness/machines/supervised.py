"""One `tart run`: our child, its output in a file, its VNC line read and struck out, its end understood."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import events
from harness.errors import UsageError, Verdict, verdict_of
from harness.events import SECRETS
from harness.machines.base import End, VncEndpoint
from harness.machines.tart_output import parse_end, parse_vnc

OUTPUT_LIMIT = 256 * 1024
"""Bytes of output looked at: a normal run prints a few hundred."""


class SupervisedRun:
    """A `tart run` under way.

    It leads a process group of its own, so that Ctrl-C in the terminal reaches the harness only. Its output goes to a
    file rather than a pipe: a kept machine writes on when we are gone. The password in that file is overwritten as soon
    as it was read.

    Args:
        argv: The whole command.
        environment: All of it.
        output: The file; appended to.
        inherit: Descriptors to hand down (the slot).

    Raises:
        UsageError: It cannot be executed.
    """

    def __init__(
        self, argv: Sequence[str], *, environment: Mapping[str, str], output: Path, inherit: Sequence[int] = ()
    ) -> None:
        self.output = output
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._start = os.fstat(descriptor).st_size
            self._process = subprocess.Popen(
                list(argv),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(inherit),
                process_group=0,
            )
        except OSError as error:
            if verdict_of(error) is Verdict.ENVIRONMENT_FAILURE:  # a full host, not a wrong name
                raise
            raise UsageError(f"an executable at {argv[0]}", seen=str(error)) from error
        finally:
            os.close(descriptor)
        self.pid = self._process.pid
        self._lock = threading.Lock()
        self._vnc: VncEndpoint | None = None
        self._end: End | None = None

    def vnc(self) -> VncEndpoint | None:
        """Its VNC server, once it was announced."""
        with self._lock:
            if self._vnc is None:
                base, raw = self._read()
                found = parse_vnc(raw.decode("utf-8", "replace"))
                if found is not None:
                    if found.password:
                        SECRETS.add(found.password)
                        self._strike_out(base, raw, found.password.encode())
                    self._vnc = found
            return self._vnc

    def end(self) -> End | None:
        """How it ended, or None while it runs."""
        if self._end is None:
            code = self._process.poll()
            if code is None:
                return None
            announced = self.vnc() is not None
            self._end = parse_end(self.text(), code, announced=announced)
            events.event("vm-process-ended", pid=self.pid, reason=self._end.reason.value, exit_code=code)
        return self._end

    def running(self) -> bool:
        """Whether it is alive."""
        return self._process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False if it did not come."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def interrupt(self) -> None:
        """What `tart stop` does: SIGINT to the process, which cuts the VM's power and ends in order."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to it and its helpers; the VM goes with it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(10)

    def text(self) -> str:
        """What it printed, masked."""
        return SECRETS.mask(self._read()[1].decode("utf-8", "replace"))

    def _read(self) -> tuple[int, bytes]:
        """Where in the file the piece begins, and the piece."""
        try:
            with self.output.open("rb") as file:
                file.seek(0, os.SEEK_END)
                base = max(self._start, file.tell() - OUTPUT_LIMIT)
                file.seek(base)
                return base, file.read(OUTPUT_LIMIT)
        except OSError:
            return self._start, b""

    def _strike_out(self, base: int, raw: bytes, password: bytes) -> None:
        # Same length, in place: the child goes on appending. Not through the child's own descriptor, for on Linux a
        # pwrite on an appending descriptor appends.
        with contextlib.suppress(OSError):
            descriptor = os.open(self.output, os.O_WRONLY | os.O_CLOEXEC)
            try:
                at = raw.find(password)
                while at >= 0:
                    os.pwrite(descriptor, b"*" * len(password), base + at)
                    at = raw.find(password, at + len(password))
            finally:
                os.close(descriptor)
