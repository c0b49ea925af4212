"""Commands in a guest: run, start, and what to do when the connection goes.

A command is only ever sent once. If the connection was dead before a session was open, a new one is made (an event says
so) and nothing was lost; if it broke later, `ConnectionLost` says that the command may have run.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from paramiko.channel import Channel

from harness import events
from harness.config import GuestSettings
from harness.errors import SysextError, Verdict
from harness.guest.background import Background
from harness.guest.connection import LOST, Connection, Locate, SessionRefused
from harness.guest.errors import CommandFailed, CommandTimeout, ConnectionLost, LoginRefused, Result, shown, tail
from harness.guest.quoting import command_line
from harness.guest.streams import Pump, Sink, exit_of
from harness.waiting import Deadline, sleep, wait_until

MAX_OUTPUT = 64 << 20
COMMAND_SECONDS = 60.0
"""How long a command may take if the caller gives no deadline: `timeouts.command`'s default."""
_KILL_GROUP = (
    # /bin/kill: the builtin of some shells (dash) takes no process group after `--`. kill(1) of BSD lists no `--` after a
    # signal, and older ones take it for a process; procps needs it, for without it it misreads the group's number.
    'd=--; [ "$(uname)" = Darwin ] && d=; '
    '/bin/kill -TERM $d "-$1" || exit 0; n=0; '
    'while [ $n -lt 10 ] && /bin/kill -0 $d "-$1"; do sleep 0.1; n=$((n+1)); done; /bin/kill -KILL $d "-$1"'
)
SUDO_REFUSED = (
    b"incorrect password attempt",
    b"is not in the sudoers file",
    b"no password was provided",
    b"Sorry, try again",
)


class Shell:
    """The guest as a place to run commands in. Thread-safe; many commands share one connection.

    Args:
        locate: Tells where SSH listens (waits until it is known).
        settings: Who we are there.
        name: The machine's name, for messages and events.
        folder: Host folder that belongs to this machine: holds the pinned host key.
    """

    def __init__(self, locate: Locate, settings: GuestSettings, *, name: str, folder: Path) -> None:
        self.name = name
        self.settings = settings
        self.folder = folder
        self.locate = locate
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._serial = 0
        self._closed = False
        self._passwordless: bool | None = None

    @property
    def pin(self) -> Path:
        """The file with this machine's SSH host key."""
        return self.folder / "known_host"

    @property
    def connected(self) -> bool:
        """Whether there is a connection that is alive as far as is known."""
        connection = self._connection
        return connection is not None and connection.alive

    @property
    def reached(self) -> bool:
        """Whether the guest ever let us in."""
        return self._connection is not None

    @property
    def closed(self) -> bool:
        """Whether `close` was called (and `connect` not since)."""
        return self._closed

    def connect(self, deadline: Deadline) -> None:
        """Have a living connection, waiting until the guest lets us in.

        Raises:
            WaitTimeout: Blames the environment; carries the last reason.
            HostKeyChanged: At once.
            LoginRefused: Refused for 10 s on end (a Mac that is starting up may refuse for a moment).
        """
        self._closed = False
        with self._connecting(deadline):
            if not self.connected:
                self._connect(deadline)

    def close(self) -> None:
        """End the connection. Only `connect` makes a new one after this."""
        self._closed = True
        connection = self._connection
        if connection is not None:
            connection.close()

    def drop(self) -> None:
        """Give up the connection that there is, alive or not: the guest is elsewhere now. The next command makes a new one."""
        connection = self._connection
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def fresh_connection(self, deadline: Deadline) -> Connection:
        """One more connection, the caller's own: to see that logging in works. One try, no wait.

        Raises:
            ConnectionLost, LoginRefused, HostKeyChanged: It does not.
        """
        with self._connecting(deadline):
            self._serial += 1
            serial = self._serial
        return Connection.open(
            self.locate, self.settings, name=self.name, pin=self.pin, serial=serial, deadline=deadline
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        deadline: Deadline | None = None,
        check: bool = True,
        sudo: bool = False,
        input: bytes | Iterable[bytes] | None = None,  # noqa: A002 - subprocess.run's name for it
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        max_output: int = MAX_OUTPUT,
        stdout_to: Sink | None = None,
        quiet: bool = False,
    ) -> Result:
        """Run a command to its end; every word reaches it exactly as given, no shell interprets anything.

        Args:
            argv: The command and its arguments.
            deadline: When it is ended, in the guest too; None for 60 s from now.
            check: Raise if it does not end with 0.
            sudo: As root. The password goes by standard input, and only if sudo asks for one.
            input: Its standard input; empty if None.
            env: More environment variables (not for secrets: they are in the process list).
            cwd: The folder to run it in.
            max_output: Bytes of output after which it is ended.
            stdout_to: A file to write standard output to instead (`max_output` then counts what went there).
            quiet: Make no step of it (for polling).

        Raises:
            CommandFailed: With `check`, it did not end with 0; or it wrote too much.
            CommandTimeout: It was still running at the deadline.
            ConnectionLost: The way broke while it ran; it may have run.
        """
        deadline = deadline or Deadline.after(COMMAND_SECONDS)
        step = contextlib.nullcontext(None) if quiet else events.step("run", machine=self.name, command=shown(argv))
        with step as under_way:
            result = self._run(argv, deadline, sudo, input, env, cwd, max_output, stdout_to)
            if under_way is not None:
                under_way.note(exit_code=result.exit_code, stderr=tail(result.stderr)[-300:])
            return result.check(self.name) if check else result

    def script(
        self,
        text: str,
        *arguments: str,
        deadline: Deadline | None = None,
        check: bool = True,
        sudo: bool = False,
        input: bytes | Iterable[bytes] | None = None,  # noqa: A002
        quiet: bool = False,
        max_output: int = MAX_OUTPUT,
    ) -> Result:
        """Run shell text with /bin/sh, `arguments` as "$1" and so on. Otherwise as `run`."""
        return self.run(
            ["/bin/sh", "-c", text, "sh", *arguments],
            deadline=deadline,
            check=check,
            sudo=sudo,
            input=input,
            quiet=quiet,
            max_output=max_output,
        )

    def start(
        self,
        argv: Sequence[str],
        *,
        deadline: Deadline | None = None,
        sudo: bool = False,
        input: bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        on_line: Callable[[str], None] | None = None,
        keep: int = 1 << 20,
    ) -> Background:
        """Start a command and return while it runs.

        Args:
            argv: The command and its arguments.
            deadline: For starting it, not for its run.
            sudo: As root.
            input: Its standard input; closed after that.
            env: More environment variables.
            cwd: The folder to run it in.
            on_stdout: Called with each piece of output, in another thread.
            on_line: Called with each line of output, in another thread.
            keep: Bytes of each stream that `stdout_text` and `stderr_text` keep (the last ones).

        Raises:
            ConnectionLost: It could not be started.
        """
        deadline = deadline or Deadline.after(COMMAND_SECONDS)
        events.event("start", machine=self.name, command=shown(argv))
        connection, channel, prelude = self._launch(argv, deadline, sudo, env, cwd)
        return Background(
            self,
            connection,
            channel,
            tuple(argv),
            feed=prelude + (input or b""),
            sudo=sudo,
            on_stdout=on_stdout,
            on_line=on_line,
            keep=keep,
        )

    def kill_group(self, group: int, deadline: Deadline, *, sudo: bool) -> None:
        """End a process group in the guest: TERM, KILL after a second. Never raises for a guest that cannot be asked."""
        with contextlib.suppress(SysextError):
            self.run(
                ["/bin/sh", "-c", _KILL_GROUP, "sh", str(group)], deadline=deadline, sudo=sudo, check=False, quiet=True
            )

    def _run(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        sudo: bool,  # noqa: FBT001 - internal
        data: bytes | Iterable[bytes] | None,
        env: Mapping[str, str] | None,
        cwd: str | None,
        max_output: int,
        stdout_to: Sink | None,
    ) -> Result:
        started = time.monotonic()
        connection, channel, prelude = self._launch(argv, deadline, sudo, env, cwd)
        pump = Pump(channel, max_output=max_output, stdout_to=stdout_to)
        try:
            pump.feed(prelude, data)
            finished = pump.until_end(deadline)
            if not finished or pump.overflow:
                seconds = time.monotonic() - started
                self._end(connection, channel, pump.group, sudo=sudo)
                self._complain(argv, pump, seconds, overflow=pump.overflow)
            code, signal = exit_of(channel)
            if code is None:
                raise ConnectionLost(
                    f"`{shown(argv)}` to end on {self.name}",
                    seen=f"the connection broke after {time.monotonic() - started:.1f} s; it may or may not have run",
                    hint="did the guest reboot, crash or lose its network? see the end of `tart run`'s output",
                )
            if pump.failure is not None:
                raise pump.failure
        finally:
            connection.release(channel)
        result = Result(tuple(argv), code, bytes(pump.stdout), bytes(pump.stderr), time.monotonic() - started, signal)
        if sudo and code != 0 and any(mark in result.stderr for mark in SUDO_REFUSED):
            self._passwordless = None
            raise LoginRefused(
                f"sudo to take the password of {self.settings.user} on {self.name}",
                seen=tail(result.stderr),
                hint="check guest.password, and that the user is an administrator",
            )
        return result

    def _complain(self, argv: Sequence[str], pump: Pump, seconds: float, *, overflow: bool) -> None:
        result = Result(tuple(argv), -1, bytes(pump.stdout), bytes(pump.stderr), seconds)
        if overflow:
            raise CommandFailed(
                f"at most {pump.max_output:,} bytes of output from `{shown(argv)}` on {self.name}",
                seen="more; it was ended",
                hint="write it to a file in the guest and get that",
                result=result,
            )
        said = tail(result.stderr) or tail(result.stdout)
        raise CommandTimeout(
            f"`{shown(argv)}` to end on {self.name}",
            seen=f"still running after {seconds:.1f} s, ended; "
            + (f"it said: {said}" if said else "it had said nothing"),
            hint="does it wait for input or for a window? a slow host may need SYSEXT_TIMEOUT_FACTOR",
            result=result,
            blame=Verdict.ENVIRONMENT_FAILURE,
        )

    def _end(self, connection: Connection, channel: Channel, group: int | None, *, sudo: bool) -> None:
        if group is not None:
            self.kill_group(group, Deadline.after(10), sudo=sudo)
        if not channel.status_event.wait(0.5):
            connection.signal(channel, "TERM")
            connection.signal(channel, "KILL")

    def _launch(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        sudo: bool,  # noqa: FBT001
        env: Mapping[str, str] | None,
        cwd: str | None,
    ) -> tuple[Connection, Channel, bytes]:
        prefix: list[str] = []
        prelude = b""
        if sudo:
            if self._needs_no_password(deadline):
                prefix = ["sudo", "-n", "--"]
            else:
                # -k: never from a cached ticket, so the password line is certainly read and cannot reach the command.
                prefix = ["sudo", "-k", "-S", "-p", "", "--"]
                prelude = self.settings.reveal().encode() + b"\n"
        # First the number of the process group, to end it by: sshd starts each command as the leader of its own, and need
        # not take signals through the session (OpenSSH's does not for root, nor for what sudo has made root's).
        line = b"echo $$; " + command_line(argv, env=env, cwd=cwd, prefix=prefix)
        connection, channel = self.session(deadline)
        try:
            channel.settimeout(max(0.5, deadline.remaining))
            connection.request(channel, "exec", line, deadline)
        except LOST as error:
            connection.release(channel)
            raise ConnectionLost(
                f"`{shown(argv)}` to start on {self.name}",
                seen=f"{type(error).__name__}: {error}; it may or may not have run",
                hint="did the guest reboot, crash or lose its network?",
            ) from error
        return connection, channel, prelude

    def session(self, deadline: Deadline) -> tuple[Connection, Channel]:
        """A new SSH session, on a new connection if the present one is dead. Nothing was started on it yet."""
        while True:
            connection = self.living(deadline)
            try:
                return connection, connection.channel(deadline)
            except SessionRefused:
                if deadline.expired:
                    raise
                sleep(min(0.05, deadline.remaining))
            except ConnectionLost:
                if connection.alive or deadline.expired:
                    raise

    def living(self, deadline: Deadline) -> Connection:
        """The present connection, or a new one if it is dead.

        Raises:
            ConnectionLost: After `close`.
        """
        if self._closed:
            raise ConnectionLost(f"an open connection to {self.name}", seen="it was closed", hint="call connect first")
        with self._connecting(deadline):
            if self._connection is None or not self._connection.alive:
                self._connect(deadline)
            assert self._connection is not None
            return self._connection

    @contextlib.contextmanager
    def _connecting(self, deadline: Deadline) -> Iterator[None]:
        # One thread connects for all, with its own deadline; who has less time does not wait for it longer than that.
        if not self._lock.acquire(timeout=max(0.01, deadline.remaining)):
            raise ConnectionLost(
                f"a connection to {self.name}",
                seen="another thread was still trying to get one when the time was up",
                hint="did the guest reboot, crash or lose its network?",
            )
        try:
            yield
        finally:
            self._lock.release()

    def _connect(self, deadline: Deadline) -> None:
        before = self._connection
        refused_since: float | None = None
        last: ConnectionLost | None = None

        def attempt() -> Connection:
            nonlocal refused_since, last
            if self._closed:
                raise _Closed
            if last is not None and deadline.expired:
                raise last  # rather than "no time left"
            try:
                return self.fresh_connection(deadline.sub(30))
            except LoginRefused:
                now = time.monotonic()
                refused_since = now if refused_since is None else refused_since
                if now - refused_since > 10:
                    raise
                last = ConnectionLost(f"{self.settings.user} to be let in to {self.name}", seen="refused")
                raise last from None
            except ConnectionLost as error:
                last = error
                raise

        with events.step("connect", machine=self.name, again=before is not None) as step:
            try:
                self._connection = wait_until(
                    attempt,
                    what=f"SSH to let {self.settings.user} in to {self.name}",
                    deadline=deadline,
                    interval=0.5,
                    transient=(ConnectionLost,),
                    hint="is Remote Login on in the image, and guest.user/guest.password right?",
                    blame=Verdict.ENVIRONMENT_FAILURE,
                )
            except _Closed:
                raise ConnectionLost(f"a connection to {self.name}", seen="closed meanwhile", hint="") from None
            step.note(serial=self._connection.serial)
        if before is not None:
            before.close()
            events.event("reconnected", machine=self.name, serial=self._connection.serial)

    def _needs_no_password(self, deadline: Deadline) -> bool:
        if self._passwordless is None:
            probe = self.run(["sudo", "-k", "-n", "true"], deadline=deadline, check=False, quiet=True)
            if probe.exit_code == 127:
                probe.check(self.name)
            self._passwordless = probe.ok
        return self._passwordless


class _Closed(Exception):
    pass


def in_this_context(target: Callable[[], None], name: str) -> threading.Thread:
    """A daemon thread whose events belong to the step that made it."""
    context = contextvars.copy_context()
    return threading.Thread(target=lambda: context.run(target), name=name, daemon=True)


def unique(prefix: str) -> str:
    """A name that nobody else uses."""
    return f"{prefix}{os.urandom(6).hex()}"
