"""The machine's SSH door: an SSH server whose commands run in the guest's shell, with SFTP into the guest's disk.

Limits of OpenSSH's sshd on a Mac are kept: ten sessions per connection, six tries per login, root only by key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import asyncssh
from asyncssh.stream import SSHServerStreamSession

from harness.simulator import groups
from harness.simulator.addresses import listen_beside
from harness.simulator.disk import GuestDisk
from harness.simulator.faults import FaultSet, number
from harness.simulator.interfaces import CommandIO, Guest, Journal
from harness.simulator.sftp import DiskSFTPServer
from harness.simulator.shell import Background, run_script

if TYPE_CHECKING:
    from asyncssh.misc import MaybeAwait

MAX_SESSIONS = 10
VERSION = "OpenSSH_9.9"
SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "TERM": 15, "USR1": 30, "USR2": 31}
_USER_HOMES = {"root": "/var/root"}


def home_of(user: str) -> str:
    """A user's home folder."""
    return _USER_HOMES.get(user, f"/Users/{user}")


def login_environment(user: str) -> dict[str, str]:
    """What sshd gives a login."""
    return {
        "HOME": home_of(user),
        "LOGNAME": user,
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "PWD": home_of(user),
        "SHELL": "/bin/sh" if user == "root" else "/bin/zsh",
        "TMPDIR": "/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T/",
        "USER": user,
    }


class Door:
    """Opens and shuts on the one port that the machine holds for its whole life."""

    def __init__(self, holder: socket.socket, disk: GuestDisk, journal: Journal, faults: FaultSet) -> None:
        self.guest: Guest
        self.disk = disk
        self.journal = journal
        self._holder = holder
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._listener: socket.socket | None = None
        self.awake = asyncio.Event()
        self.awake.set()
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self._key: asyncssh.SSHKey | None = None
        self._drop = faults.active("env-ssh-drop")
        self._commands = 0
        logging.getLogger("asyncssh").setLevel(logging.CRITICAL)

    async def open(self) -> None:
        """Listen; the host key is made at the first boot."""
        if self._acceptor is not None:
            return
        if self._listener is None:
            self._listener = listen_beside(self._holder)
        self._acceptor = await asyncssh.listen(
            sock=self._listener.dup(),  # ours goes on listening when nobody accepts
            server_factory=lambda: _Server(self),
            server_host_keys=[self._host_key()],
            server_version=VERSION,
            encoding=None,
            gss_host=None,
            allow_pty=True,
            line_editor=False,
            agent_forwarding=False,
            login_timeout=120,
            keepalive_interval=0,
            # AES-GCM runs in the machine's own instructions; big windows keep transfers going
            encryption_algs=["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr"],
            compression_algs=["none"],
            window=8 * 1024 * 1024,
            max_pktsize=256 * 1024,
        )

    def shut(self) -> None:
        """Stop listening and cut every connection, without goodbye."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.awake.set()
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        self.cut()

    def hush(self) -> None:
        """The guest sleeps: what comes in waits, unanswered; connections stay, and nothing moves on them."""
        if self._acceptor is None:
            return
        self.awake.clear()
        self._acceptor.close()  # the listener stays, and nobody accepts
        self._acceptor = None
        for connection in self.connections:
            self._pause(connection, pause=True)

    async def wake(self) -> None:
        """It is awake: what waited is answered."""
        if self.awake.is_set():
            return
        self.awake.set()
        for connection in self.connections:
            self._pause(connection, pause=False)
        await self.open()

    @staticmethod
    def _pause(connection: asyncssh.SSHServerConnection, *, pause: bool) -> None:
        # asyncssh answers keep-alives by itself; only its transport can be made deaf
        transport = getattr(connection, "_transport", None)
        with contextlib.suppress(RuntimeError, AttributeError):
            (transport.pause_reading if pause else transport.resume_reading)()  # type: ignore[union-attr]

    def cut(self) -> None:
        """Cut every connection."""
        for connection in tuple(self.connections):
            connection.abort()
        self.connections.clear()

    def logged_in(self) -> None:
        """Tells the fault env-ssh-drop that somebody is in."""
        if self._drop is not None and "commands" not in self._drop.parameters:
            seconds, self._drop = number(self._drop, "after", 2), None
            asyncio.get_running_loop().call_later(seconds, self._drop_now)

    def command_began(self) -> None:
        """Tells the fault env-ssh-drop of a command."""
        self._commands += 1
        drop = self._drop
        if drop is not None and "commands" in drop.parameters and self._commands >= number(drop, "commands", 1):
            self._drop = None
            asyncio.get_running_loop().call_later(0.05, self._drop_now)

    def _drop_now(self) -> None:
        self.journal.write("fault", code="env-ssh-drop", connections=len(self.connections))
        self.cut()

    def _host_key(self) -> asyncssh.SSHKey:
        if self._key is None:
            path = self.disk.root / "private/etc/ssh/ssh_host_ed25519_key"
            if path.is_file():
                self._key = asyncssh.read_private_key(path)
            else:
                self._key = asyncssh.generate_private_key("ssh-ed25519", comment="root@simulated-mac")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._key.export_private_key())
                path.chmod(0o600)
                path.with_suffix(".pub").write_bytes(self._key.export_public_key())
        return self._key


class _Server(asyncssh.SSHServer):
    """One connection."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._connection: asyncssh.SSHServerConnection
        self._tries = 0
        self.sessions: set[_Session] = set()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._door.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        self._door.connections.discard(self._connection)
        for session in tuple(self.sessions):
            session.hang_up()

    def auth_completed(self) -> None:
        self._door.journal.write("ssh-login", user=self._connection.get_extra_info("username"))
        self._door.logged_in()

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - asyncssh's signature
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        self._tries += 1
        if self._tries >= 6:
            self._connection.abort()
            return False
        return username != "root" and self._door.guest.ssh_login(username, password)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        try:
            path = self._door.disk.path(f"{home_of(username)}/.ssh/authorized_keys")
            lines = path.read_text(errors="replace").splitlines() if path.stat().st_size < 1 << 20 else []
        except OSError:
            return False
        wanted = key.export_public_key("openssh").split()[:2]
        return any(wanted == line.split("#")[0].encode().split()[:2] for line in lines)

    def session_requested(self) -> Any:
        if len(self.sessions) >= MAX_SESSIONS:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")
        session = _Session(self._door, self)
        self.sessions.add(session)
        return session


class _Session(SSHServerStreamSession[bytes]):
    """One channel: a command, a shell, or SFTP."""

    def __init__(self, door: Door, server: _Server) -> None:
        super().__init__(None, self._make_sftp, 3)  # type: ignore[arg-type]  # it is a server channel
        self._door = door
        self._server = server
        self._user = ""
        self._stdin: asyncio.StreamReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._signal = 0
        self._gone = False
        self._tty = False

    def _make_sftp(self, chan: asyncssh.SSHServerChannel[bytes]) -> MaybeAwait[asyncssh.SFTPServer]:
        user = chan.get_extra_info("username")
        self._door.journal.write("sftp", user=user)
        return DiskSFTPServer(chan, self._door.disk, user, home_of(user), self._writable)

    # --- what the client asks for

    def pty_requested(self, term_type: str | None, term_size: Any, term_modes: Any) -> bool:  # noqa: ARG002
        self._tty = True
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:  # noqa: ARG002 - asyncssh's signature
        return True

    def session_started(self) -> None:
        chan = self._chan
        assert chan is not None
        if chan.get_subsystem() == "sftp":
            super().session_started()
            return
        self._user = chan.get_extra_info("username")
        self._stdin = asyncio.StreamReader(limit=256 * 1024)
        self._stdin.set_transport(chan)  # type: ignore[arg-type]  # it pauses and resumes as a transport does
        self._door.command_began()
        self._task = asyncio.get_running_loop().create_task(self._serve(chan.get_command()))

    def data_received(self, data: bytes, datatype: Any) -> None:
        if self._stdin is None:
            super().data_received(data, datatype)
        elif self._tty and b"\x03" in data:
            self.signal_received("INT")
        else:
            self._stdin.feed_data(data.replace(b"\r", b"\n") if self._tty else data)

    def eof_received(self) -> bool:
        if self._stdin is None:
            return bool(super().eof_received())
        self._stdin.feed_eof()
        return True

    def signal_received(self, signal: str) -> None:
        if self._task is None:
            return
        self._signal = SIGNALS.get(signal, 0)
        if self._signal:
            self._task.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writable.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.hang_up()
        super().connection_lost(exc)

    def hang_up(self) -> None:
        """The client is gone: the command ends as by SIGHUP/SIGPIPE; what it left in the background goes on."""
        self._gone = True
        self._server.sessions.discard(self)
        self._writable.set()
        if self._stdin is not None:
            self._stdin.feed_eof()
        if self._task is not None:
            self._task.cancel()

    # --- running it

    async def _write(self, data: bytes, datatype: int | None) -> None:
        if self._gone or self._chan is None or self._chan.is_closing():
            raise BrokenPipeError
        if not self._door.awake.is_set():
            await self._door.awake.wait()
        if self._tty:
            data = data.replace(b"\n", b"\r\n")
        self._chan.write(data, datatype)
        if not self._writable.is_set():
            await self._writable.wait()

    async def _stdout(self, data: bytes) -> None:
        await self._write(data, None)

    async def _stderr(self, data: bytes) -> None:
        await self._write(data, None if self._tty else asyncssh.EXTENDED_DATA_STDERR)

    async def _serve(self, command: str | bytes | None) -> None:
        assert self._stdin is not None
        chan = cast("asyncssh.SSHServerChannel[bytes]", self._chan)
        environment = login_environment(self._user)
        peer = chan.get_extra_info("peername") or ("127.0.0.1", 0)
        environment["SSH_CLIENT"] = f"{peer[0]} {peer[1]} 22"
        environment["SSH_CONNECTION"] = f"{peer[0]} {peer[1]} {chan.get_extra_info('sockname')[0]} 22"
        home = home_of(self._user)
        process = self._lead()
        io = CommandIO(self._stdin, self._stdout, self._stderr, self._user, home, environment, tty=self._tty)
        background: Background = set()
        code = 255
        try:
            if command is None:
                code = await self._interactive(io, background)
            else:
                text = command if isinstance(command, str) else command.decode("utf-8", "surrogateescape")
                code = await run_script(self._door.guest, io, text, background=background)
            if background:  # they still hold the channel's streams; sshd waits for them as well
                await asyncio.wait(background)
        except asyncio.CancelledError:
            if self._gone:
                return
            group = groups.current()
            number = self._signal or (group.signal if group else 0) or (process.signal if process else 0)
            if number in SIGNALS.values():
                name = next(name for name, n in SIGNALS.items() if n == number)
                chan.exit_with_signal(name, core_dumped=False)
                return
        except (BrokenPipeError, ConnectionError):
            code = 141
        except Exception as error:  # noqa: BLE001 - a mistake in a simulated command must be seen, not hang the channel
            self._door.journal.write("simulator-error", command=str(command)[:500], error=repr(error))
            await self._stderr(f"simulator error: {error!r}\n".encode())
            code = 255
        finally:
            self._server.sessions.discard(self)
            if process is not None:
                self._door.guest.processes.remove(process.pid)  # type: ignore[attr-defined]
        await self._door.awake.wait()
        if not self._gone:
            chan.exit(code & 0xFF)

    def _lead(self) -> Any:
        """Put the session's shell into the process table, as the leader of its own process group."""
        processes = getattr(self._door.guest, "processes", None)
        task = asyncio.current_task()
        if processes is None or task is None:
            return None
        process = processes.spawn("zsh", "/bin/zsh", self._user, (), task=task)
        groups.lead(process.pid, task)
        return process

    async def _interactive(self, io: CommandIO, background: Background) -> int:
        """A login shell: line by line. Without editing; a person's `ssh` gets an echo from here."""
        code = 0
        while True:
            if self._tty:
                await io.stdout(f"{io.user}@Simulated-Mac {Path(io.cwd).name or '/'} % ".encode())
            line = await io.stdin.readline()
            if not line:
                return code
            text = line.decode("utf-8", "surrogateescape")
            if self._tty:
                await io.stdout(line)
            if text.strip() in ("exit", "logout"):
                return code
            code = await run_script(self._door.guest, io, text, background=background, keep=True)
