"""How the VNC client gets in: versions, security types, Apple's accounts. A small server of our own answers for real."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import socket
import struct
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import rfb_words as words
from benchmarks.rfb_serving import listening, read, says
from harness import events
from harness.screen import ScreenError, VncScreen, rfb_reader
from harness.screen.rfb_stream import AuthenticationFailed, Connection, Refused
from harness.screen.vncauth import answer_apple
from harness.waiting import Deadline


class AppleServer:
    """Screen Sharing's door as publicly described: 003.889, type 30, Diffie-Hellman, MD5, AES-128-ECB.

    Its `account` gets in; what it decrypted is kept in `seen`.
    """

    def __init__(
        self, account: tuple[bytes, bytes], *, banner: bytes = b"RFB 003.889\n", types: bytes = b"\x1e\x21\x24"
    ) -> None:
        self.account = account
        self.banner = banner
        self.types = types
        self.seen: list[tuple[bytes, bytes]] = []
        self.spoken: list[bytes] = []

    def serve(self, client: socket.socket) -> None:
        client.sendall(self.banner)
        self.spoken.append(read(client, 12))
        client.sendall(bytes([len(self.types)]) + self.types)
        if read(client, 1) != b"\x1e":
            return
        private = 2 + secrets.randbelow(words.PRIME - 4)
        public = pow(2, private, words.PRIME).to_bytes(128, "big")
        client.sendall(struct.pack(">HH", 2, 128) + words.PRIME.to_bytes(128, "big") + public)
        sealed, theirs = read(client, 128), int.from_bytes(read(client, 128), "big")
        key = hashlib.md5(pow(theirs, private, words.PRIME).to_bytes(128, "big")).digest()
        opener = Cipher(algorithms.AES(key), modes.ECB()).decryptor()
        plain = opener.update(sealed) + opener.finalize()
        self.seen.append((plain[:64].partition(b"\0")[0], plain[64:].partition(b"\0")[0]))
        if self.seen[-1] != self.account:
            reason = b"Authentication failed"
            client.sendall(struct.pack(">II", 1, len(reason)) + reason)
            return
        client.sendall(struct.pack(">I", 0))
        read(client, 1)
        client.sendall(words.server_init(8, 4, name=b"guest"))
        client.sendall(words.update(words.rectangle(0, 0, 8, 4, 0, bytes(range(128)))))
        with contextlib.suppress(OSError):
            while client.recv(4096):
                pass


def test_an_account_gets_into_apples_screen_sharing() -> None:
    server = AppleServer((b"admin", "gehe\u00fcim".encode()))
    with listening(server.serve) as port, VncScreen("127.0.0.1", port, "gehe\u00fcim", user="admin") as screen:
        frame = screen.frame(Deadline(20))
    assert server.seen == [(b"admin", "gehe\u00fcim".encode())]
    assert server.spoken == [b"RFB 003.008\n"]
    assert frame.pixels[0, 1].tolist() == [6, 5, 4]


def test_the_small_apple_server_lets_another_client_in_too(tmp_path) -> None:
    """That it means the same as others by the description, and not only the same as ours."""
    server = AppleServer((b"admin", b"secret-word"))
    with listening(server.serve) as port:
        command = [
            sys.executable,
            "-c",
            "from vncdotool.command import vncdo; vncdo()",
            "-s",
            f"127.0.0.1::{port}",
            "-u",
            "admin",
            "-p",
            "secret-word",
        ]
        subprocess.run([*command, "capture", str(tmp_path / "shot.png")], capture_output=True, timeout=60, check=False)
    assert server.seen[0] == (b"admin", b"secret-word")


def test_a_wrong_account_is_told_with_the_servers_reason() -> None:
    server = AppleServer((b"admin", b"right"))
    with listening(server.serve) as port, pytest.raises(AuthenticationFailed) as refused:
        Connection("127.0.0.1", port, "wrong-one", user="admin")
    assert "account" in str(refused.value)
    assert "Authentication failed" in str(refused.value)
    assert "wrong-one" not in str(refused.value)


@pytest.mark.parametrize(
    ("offered", "user", "password", "chosen"),
    [
        ([30, 2, 1], "admin", "pw", 30),
        ([30, 2, 1], None, "pw", 2),
        ([30, 2, 1], "admin", None, 1),
        ([30, 33, 1], None, None, 1),
        ([2, 1], "admin", "pw", 2),
    ],
)
def test_the_strongest_type_that_we_know_words_for_is_chosen(
    offered: list[int], user: str | None, password: str | None, chosen: int
) -> None:
    stream = words.greeting(auth=chosen, offered=offered) + words.server_init(8, 4)
    with listening(says(stream)) as port:
        connection = Connection("127.0.0.1", port, password, user=user)
        connection.close()
    assert connection.security == chosen


@pytest.mark.parametrize("version", ["003.003", "003.005", "003.007", "003.008", "003.889", "004.001", "005.000"])
@pytest.mark.parametrize("auth", [words.NONE, words.VNC])
def test_versions_and_types_go_together(version: str, auth: int) -> None:
    agreed = {"003.005": "003.003"}.get(version, version)
    stream = words.greeting(agreed, auth).replace(f"RFB {agreed}".encode(), f"RFB {version}".encode(), 1)
    with listening(says(stream + words.server_init(8, 4))) as port:
        connection = Connection("127.0.0.1", port, "pw")
        connection.close()
    assert connection.size == (8, 4)


UNSOUND = {
    "short": (2, b"\xff" * 32, b"\x07" * 32),
    "even": (2, b"\xff" * 127 + b"\xfe", b"\x07" * 128),
    "leading zeros": (2, bytes(120) + b"\xff" * 8, bytes(120) + b"\x07" * 8),
    "key one": (2, b"\xff" * 128, bytes(127) + b"\x01"),
    "key beyond": (2, b"\xff" * 128, b"\xff" * 128),
    "generator one": (1, b"\xff" * 128, b"\x07" * 128),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_parameters_that_hide_nothing_are_refused(case: str) -> None:
    generator, prime, key = UNSOUND[case]
    with pytest.raises(ScreenError):
        answer_apple(generator, prime, key, "admin", "secret")


@pytest.mark.parametrize(("user", "password"), [("u" * 64, "hush-hush"), ("u", "\u00fc" * 32)])
def test_what_does_not_fit_is_not_cut_off(user: str, password: str) -> None:
    with pytest.raises(ScreenError) as refused:
        answer_apple(2, b"\xff" * 128, b"\x07" * 128, user, password)
    assert password not in str(refused.value)


def test_a_server_that_refuses_everybody_is_tried_again() -> None:
    reason = b"Too many connections"
    refusal = b"RFB 003.008\n\0" + struct.pack(">I", len(reason)) + reason
    good = words.hello() + words.update(words.rectangle(0, 0, 8, 4, 0, bytes(128)))
    told: list[dict] = []
    log = events.EventLog()
    log.subscribe(told.append)
    with listening(says(refusal, refusal, good)) as port, events.use(log), VncScreen("127.0.0.1", port, None) as screen:
        assert screen.frame(Deadline(30)).size == (8, 4)
    reasons = [record["attributes"]["reason"] for record in told if record["name"] == "screen-unreachable"]
    assert len(reasons) == 1  # the same trouble is told once
    assert "Too many connections" in reasons[0]


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rfb_reader, "REFUSALS", 2)
    reason = b"Go away"
    with (
        listening(says(b"RFB 003.008\n\0" + struct.pack(">I", len(reason)) + reason)) as port,
        VncScreen("127.0.0.1", port, None, name="vm") as screen,
        pytest.raises(ScreenError) as failed,
    ):
        screen.frame(Deadline(250))  # far longer than two tries take: it ends because they are over
    assert "Go away" in str(failed.value)


def test_a_reason_of_any_length_takes_little_memory() -> None:
    with (
        listening(says(b"RFB 003.003\n" + bytes(4) + struct.pack(">I", 0xFFFFFFFF) + b"x" * 100_000)) as port,
        pytest.raises(Refused) as refused,
    ):
        Connection("127.0.0.1", port, None)
    assert len(str(refused.value)) < 5000


@settings(max_examples=60, deadline=None)
@given(
    generator=st.integers(0, 0xFFFF),
    prime=st.binary(max_size=520),
    key=st.binary(max_size=520),
    user=st.text(max_size=70),
    password=st.text(max_size=70),
)
def test_any_parameters_lead_to_an_answer_or_an_error_of_ours(
    generator: int, prime: bytes, key: bytes, user: str, password: str
) -> None:
    with contextlib.suppress(ScreenError):
        assert len(answer_apple(generator, prime, key, user, password)) == 128 + len(prime)
