"""A command that runs in the guest while we do something else."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from paramiko.channel import Channel

from harness import events
from harness.errors import Verdict
from harness.guest.connection import Connection
from harness.guest.errors import CommandTimeout, ConnectionLost, Result, shown
from harness.guest.streams import PIECE, Pump, exit_of
from harness.waiting import Deadline

if TYPE_CHECKING:
    from harness.guest.shell import Shell

LONGEST_LINE = 4 << 20


class Background:
    """A command under way. It lives as long as its connection; `lost` tells when that has gone.

    Attributes:
        argv: The command.
        started: Of the monotonic clock.
    """

    def __init__(
        self,
        shell: Shell,
        connection: Connection,
        channel: Channel,
        argv: tuple[str, ...],
        *,
        feed: bytes,
        sudo: bool,
        on_stdout: Callable[[bytes], None] | None,
        on_line: Callable[[str], None] | None,
        keep: int,
    ) -> None:
        self.argv = argv
        self.started = time.monotonic()
        self._shell = shell
        self._connection = connection
        self._channel = channel
        self._sudo = sudo
        self._on_stdout = on_stdout
        self._on_line = on_line
        self._keep = keep
        self._lock = threading.Lock()
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._line = bytearray()
        self._code: int | None = None
        self._signal: str | None = None
        self._lost = False
        self._ended = threading.Event()
        self._seconds = 0.0
        self._pump = Pump(channel, max_output=1 << 62)
        self._pump.feed(feed, None)
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=lambda: context.run(self._work), name=f"ssh-{argv[0].rsplit('/', 1)[-1]}", daemon=True
        )
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether its connection broke, so that nothing is known of its end."""
        return self._lost

    @property
    def stdout_text(self) -> str:
        """What it wrote last to standard output."""
        with self._lock:
            return self._stdout.decode("utf-8", errors="replace")

    @property
    def stderr_text(self) -> str:
        """What it wrote last to standard error."""
        with self._lock:
            return self._stderr.decode("utf-8", errors="replace")

    @property
    def running(self) -> bool:
        """Whether it has not ended yet, as far as is known."""
        return not self._ended.is_set()

    def poll(self) -> int | None:
        """Its exit code, None while it runs.

        Raises:
            ConnectionLost: Its connection broke.
        """
        if not self._ended.is_set():
            return None
        if self._lost:
            raise ConnectionLost(
                f"`{shown(self.argv)}` on {self._shell.name} to be still within reach",
                seen=f"the connection broke {self._seconds:.1f} s after its start",
                hint="did the guest reboot, crash or lose its network?",
            )
        return self._code

    def wait_for_exit(self, seconds: float) -> None:
        """Wait up to so many seconds for its end: a `pause` for `wait_until`."""
        self._ended.wait(seconds)

    def wait(self, deadline: Deadline) -> Result:
        """Its result, once it has ended. It goes on if the deadline comes first: call `stop`.

        Raises:
            CommandTimeout: It still runs.
            ConnectionLost: Its connection broke.
        """
        if not self._ended.wait(deadline.remaining):
            raise CommandTimeout(
                f"`{shown(self.argv)}` to end on {self._shell.name}",
                seen=f"still running after {time.monotonic() - self.started:.1f} s",
                hint="does it wait for input or for a window?",
                blame=Verdict.ENVIRONMENT_FAILURE,
            )
        code = self.poll()
        assert code is not None
        with self._lock:
            return Result(self.argv, code, bytes(self._stdout), bytes(self._stderr), self._seconds, self._signal)

    def stop(self, deadline: Deadline) -> None:
        """End it: TERM, then KILL after 2 s; never raises for a connection that is gone."""
        if self._ended.is_set():
            return
        group = self._pump.group
        if group is not None and self._connection.alive:
            self._shell.kill_group(group, deadline.sub(10), sudo=self._sudo)
        if not self._ended.wait(min(2.0, deadline.remaining)):
            self._connection.signal(self._channel, "TERM")
            self._connection.signal(self._channel, "KILL")
            self._ended.wait(min(2.0, deadline.remaining))
        if not self._ended.is_set():
            self._channel.close()
            self._ended.wait(5.0)
        events.event("stopped", machine=self._shell.name, command=shown(self.argv))

    def _work(self) -> None:
        pump = self._pump
        try:
            while True:
                moved = pump.step()
                if pump.stdout:
                    self._deliver(bytes(pump.stdout))
                    pump.stdout.clear()
                if pump.stderr:
                    with self._lock:
                        self._stderr += pump.stderr
                        del self._stderr[: -self._keep]
                    pump.stderr.clear()
                if not moved:
                    if pump.drained:
                        break
                    pump.wait(5.0)
            self._channel.status_event.wait(5.0)
        except Exception as error:  # noqa: BLE001 - a callback that fails ends the watching, and is told
            events.event("background-failed", command=shown(self.argv), error=f"{type(error).__name__}: {error}")
        finally:
            if self._line and self._on_line is not None:
                with contextlib.suppress(Exception):  # whoever waits for the end must hear of it
                    self._on_line(self._line.decode("utf-8", errors="replace"))
            self._code, self._signal = exit_of(self._channel)
            self._lost = self._code is None
            self._seconds = time.monotonic() - self.started
            self._connection.release(self._channel)
            self._ended.set()

    def _deliver(self, piece: bytes) -> None:
        with self._lock:
            self._stdout += piece
            del self._stdout[: -self._keep]
        for start in range(0, len(piece), PIECE) if self._on_stdout is not None else ():
            assert self._on_stdout is not None
            self._on_stdout(piece[start : start + PIECE])
        if self._on_line is None:
            return
        self._line += piece
        *lines, rest = self._line.split(b"\n")
        for line in lines:
            self._on_line(line.decode("utf-8", errors="replace"))
        self._line = bytearray(rest if len(rest) <= LONGEST_LINE else b"")
