"""One SSH connection to a guest: key pinned at first contact, login, keepalive, channels.

Known of paramiko 5: its keepalive asks for no answer, so a guest that hangs would go unnoticed; an `exit-signal` is not
read; `MAX_REQUEST_SIZE` and the default window make SFTP slow. All three are mended here.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import paramiko
from paramiko.channel import Channel
from paramiko.common import MSG_CHANNEL_REQUEST, cMSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST
from paramiko.message import Message

from harness import events
from harness.config import GuestSettings
from harness.errors import EnvironmentFailure, UsageError
from harness.guest.errors import ConnectionLost, HostKeyChanged, LoginRefused
from harness.waiting import Deadline

WINDOW = 4 << 20
"""Bytes in flight towards us on one session. Not more: paramiko's buffer is moved as a whole with each read from it."""
PACKET = 256 << 10
CHANNELS = 9
"""Sessions at once on one connection. sshd's default `MaxSessions` is 10 (sshd_config(5)); it frees a session's place a
moment after we have closed it, so a refusal may still come."""
NO_REASON = "Unable to open channel."
"""What paramiko's `open_channel` says when the guest refused and it does not know why."""
LOST: tuple[type[Exception], ...] = (paramiko.SSHException, EOFError, OSError)
"""What paramiko raises when the way is gone."""

logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False  # it logs a traceback for each dropped connection; we raise our own


class SessionRefused(ConnectionLost):
    """The guest gives no more sessions on this connection just now. Nothing was started."""


class EndpointLike(Protocol):
    """Where SSH listens."""

    @property
    def host(self) -> str:
        """A name or address."""

    @property
    def port(self) -> int:
        """A TCP port."""


Locate = Callable[[Deadline], EndpointLike | tuple[str, int]]
"""Finds out where the guest's SSH listens; asked anew for every connection, for a reboot may change it."""


def _handle_request(channel: Channel, message: Message) -> None:
    # RFC 4254 §6.10: string "exit-signal", boolean, string signal name, …
    if message.get_text() == "exit-signal":
        message.get_boolean()
        channel.exit_signal = message.get_text()  # type: ignore[attr-defined]
    message.rewind()
    message.get_int()  # the channel number, which the transport had read
    Channel._handle_request(channel, message)  # type: ignore[attr-defined]


class _Transport(paramiko.Transport):
    _channel_handler_table = {  # noqa: RUF012 - as in the base class
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_REQUEST: _handle_request,
    }

    def __init__(self, sock: socket.socket) -> None:
        self.answered = threading.Event()
        super().__init__(sock, default_window_size=WINDOW, default_max_packet_size=PACKET)

    def _parse_request_success(self, m: Message) -> None:
        self.answered.set()
        super()._parse_request_success(m)  # type: ignore[misc]

    def _parse_request_failure(self, m: Message) -> None:
        self.answered.set()
        super()._parse_request_failure(m)  # type: ignore[misc]

    def ping(self) -> None:
        """Ask for an answer: OpenSSH's own keepalive, which every server answers with success or failure."""
        message = Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)  # noqa: FBT003
        self._send_user_message(message)  # type: ignore[attr-defined]


class Connection:
    """One transport. Made by `open`; once it is dead it stays dead, and a new one is made.

    Attributes:
        serial: Which connection to this guest it is, from 1.
    """

    def __init__(self, transport: _Transport, *, name: str, serial: int, keepalive: float) -> None:
        self._transport = transport
        self.name = name
        self.serial = serial
        self.opened = time.monotonic()
        self._places = threading.BoundedSemaphore(CHANNELS)
        self._closing = threading.Event()
        context = contextvars.copy_context()
        self._watchdog = threading.Thread(
            target=lambda: context.run(self._watch, keepalive), name=f"ssh-watchdog-{name}-{serial}", daemon=True
        )
        self._watchdog.start()

    @classmethod
    def open(
        cls, locate: Locate, settings: GuestSettings, *, name: str, pin: Path, serial: int, deadline: Deadline
    ) -> Connection:
        """Connect and log in.

        Args:
            locate: Where to.
            settings: Who, and with what.
            name: The machine's, for messages.
            pin: The file that holds this machine's host key; written at first contact.
            serial: Which connection it is.
            deadline: For all of it.

        Raises:
            ConnectionLost: Nothing listens, or it is no SSH server, or it went away.
            LoginRefused: The credentials are not taken.
            HostKeyChanged: The key is not the pinned one.
        """
        endpoint = locate(deadline)
        host, port = endpoint if isinstance(endpoint, tuple) else (endpoint.host, endpoint.port)
        what = f"an SSH connection to {name} at {host}:{port}"
        if deadline.expired:
            raise ConnectionLost(what, seen="no time left to try", hint="raise timeouts.ssh")
        try:
            sock = socket.create_connection((host, port), timeout=max(0.1, deadline.remaining))
        except OSError as error:
            raise ConnectionLost(
                what, seen=str(error) or type(error).__name__, hint="is the guest up, and Remote Login on?"
            ) from error
        _tune(sock, settings.keepalive_seconds)
        transport = _Transport(sock)
        try:
            limit = max(0.5, deadline.remaining)
            transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = limit
            transport.start_client(timeout=limit)
            _check_pin(transport.get_remote_server_key(), pin, name=name, host=host, port=port)
            _login(transport, settings, name)
        except paramiko.AuthenticationException as error:
            transport.close()
            raise LoginRefused(
                f"{settings.user} to be let in to {name}",
                seen=str(error),
                hint="check guest.user, guest.password, guest.key",
            ) from error
        except LOST as error:
            transport.close()
            raise ConnectionLost(
                what, seen=f"{type(error).__name__}: {error}", hint="the guest may still be starting up"
            ) from error
        except BaseException:
            transport.close()
            raise
        return cls(transport, name=name, serial=serial, keepalive=settings.keepalive_seconds)

    @property
    def alive(self) -> bool:
        """Whether it can still be used, as far as is known."""
        return self._transport.is_active()

    def channel(self, deadline: Deadline) -> Channel:
        """A new session. Give it back with `release`.

        Raises:
            ConnectionLost: The connection is dead; nothing was started.
            SessionRefused: The guest has too many sessions open; nothing was started.
            EnvironmentFailure: We have.
        """
        if not self._places.acquire(timeout=max(0.01, deadline.remaining)):
            raise EnvironmentFailure(
                f"one of {CHANNELS} SSH sessions on {self.name} to be free",
                seen="all are in use",
                hint="stop background commands that are no longer needed",
            )
        try:
            channel = self._transport.open_channel("session", timeout=max(0.5, deadline.remaining))
        except paramiko.ChannelException as error:
            self._places.release()
            raise SessionRefused(
                f"an SSH session on {self.name}", seen=str(error), hint="is MaxSessions of the guest's sshd below 10?"
            ) from error
        except LOST as error:
            self._places.release()
            # paramiko has one place for a refusal's reason: of two that come at once, the second thread finds it empty.
            kind = SessionRefused if str(error) == NO_REASON and self._transport.is_active() else ConnectionLost
            raise kind(f"an SSH session on {self.name}", seen=f"{type(error).__name__}: {error}", hint="") from error
        channel.exit_signal = None  # type: ignore[attr-defined]
        return channel

    def request(self, channel: Channel, kind: str, what: str | bytes, deadline: Deadline) -> None:
        """Start a command ("exec") or a subsystem in a session. paramiko's own ways wait for the answer without end, and a
        guest may answer our keepalives but not this.

        Raises:
            TimeoutError: No answer by the deadline; it may have started.
            SSHException, EOFError, OSError: It was refused, or the way is gone.
        """
        message = Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string(kind)
        message.add_boolean(True)  # noqa: FBT003
        message.add_string(what)
        inner: Any = channel
        inner._event_pending()
        if channel.closed:  # it may have been closed before we began to wait
            raise paramiko.SSHException("Channel closed.")
        inner.transport._send_user_message(message)
        if not inner.event.wait(max(0.5, deadline.remaining)):
            raise TimeoutError(f"the guest did not answer the request for {kind}")
        inner._wait_for_event()

    def release(self, channel: Channel) -> None:
        """Close a session and free its place."""
        with contextlib.suppress(*LOST):
            channel.close()
        with contextlib.suppress(ValueError):
            self._places.release()

    def signal(self, channel: Channel, name: str) -> None:
        """Ask the guest to send a signal ("TERM", "KILL") to what the session runs (RFC 4254 §6.9); sshd sends it to the
        whole process group. Says nothing if it does not work: the caller looks at what happened.
        """
        message = Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)  # noqa: FBT003
        message.add_string(name)
        with contextlib.suppress(*LOST):
            if not channel.closed:
                self._transport._send_user_message(message)  # type: ignore[attr-defined]

    def close(self) -> None:
        """End it. May be called twice."""
        self._closing.set()
        with contextlib.suppress(*LOST):
            self._transport.close()

    def _watch(self, keepalive: float) -> None:
        while not self._closing.wait(keepalive) and self._transport.is_active():
            self._transport.answered.clear()
            try:
                self._transport.ping()
            except LOST:
                return
            if not self._wait_for_answer(3 * keepalive) and self._transport.is_active() and not self._closing.is_set():
                events.event("guest-silent", machine=self.name, seconds=round(3 * keepalive, 1))
                self._transport.close()
                return

    def _wait_for_answer(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._transport.answered.wait(0.5) or self._closing.is_set() or not self._transport.is_active():
                return True
        return False


def _tune(sock: socket.socket, keepalive: float) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Unsent data to a dead peer would otherwise block a sender for a quarter of an hour.
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, int(4000 * keepalive))


def _check_pin(key: paramiko.PKey, pin: Path, *, name: str, host: str, port: int) -> None:
    line = f"{key.get_name()} {key.get_base64()}"
    try:
        pinned = pin.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        pin.parent.mkdir(parents=True, exist_ok=True)
        temporary = pin.with_name(f".{pin.name}.{os.getpid()}.{threading.get_ident()}")
        temporary.write_text(line + "\n", encoding="ascii")
        temporary.replace(pin)
        events.event("host-key-pinned", machine=name, key=key.get_name(), fingerprint=key.fingerprint)
        return
    if pinned != line:
        raise HostKeyChanged(
            f"the SSH host key of {name} at {host}:{port} to be the one of first contact",
            seen=f"another key ({key.get_name()} {key.fingerprint})",
            hint=f"the address may now belong to another machine; if this is meant to be a new one, remove {pin}",
        )


def _login(transport: paramiko.Transport, settings: GuestSettings, name: str) -> None:
    refused: paramiko.AuthenticationException | None = None
    if settings.key is not None:
        key = _load_key(settings.key)
        try:
            transport.auth_publickey(settings.user, key)
        except paramiko.AuthenticationException as error:
            refused = error
        if transport.is_authenticated():
            return
    password = settings.reveal()
    try:
        transport.auth_password(settings.user, password)
    except paramiko.AuthenticationException as error:
        raise (refused or error) from None
    if refused is not None:
        events.event("degraded", what=f"logged in to {name} by password", reason=f"the key was refused: {refused}")


def _load_key(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path.expanduser())
    except (OSError, ValueError, paramiko.SSHException, paramiko.UnknownKeyType) as error:  # type: ignore[attr-defined]
        raise UsageError(
            f"a private SSH key without a passphrase at {path}", seen=str(error) or repr(error), hint="check guest.key"
        ) from error
