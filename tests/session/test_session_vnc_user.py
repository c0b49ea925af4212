"""The account for Apple's Screen Sharing comes from the settings, and gets the harness in."""

from __future__ import annotations

import hashlib
import secrets
import socket
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks import rfb_words as words
from benchmarks.rfb_serving import listening, read
from harness.config import load_settings
from harness.machines.base import VncEndpoint
from harness.machines.tart import TartMachine
from harness.machines.tart_output import parse_vnc
from harness.session.mac import Mac
from harness.waiting import Deadline

HYPERVISORS = "one-two-three"


def doors(account: tuple[bytes, bytes], used: list[int]):
    """A server that offers an account's door (30) and a password's (2), lets that account in, and notes which was taken."""

    def serve(client: socket.socket) -> None:
        client.sendall(b"RFB 003.889\n")
        read(client, 12)
        client.sendall(b"\x02\x1e\x02")
        used.append(read(client, 1)[0])
        if used[-1] == 2:
            client.sendall(bytes(16))
            read(client, 16)
        else:
            private = 2 + secrets.randbelow(words.PRIME - 4)
            public = pow(2, private, words.PRIME).to_bytes(128, "big")
            client.sendall(struct.pack(">HH", 2, 128) + words.PRIME.to_bytes(128, "big") + public)
            sealed, theirs = read(client, 128), int.from_bytes(read(client, 128), "big")
            key = hashlib.md5(pow(theirs, private, words.PRIME).to_bytes(128, "big")).digest()
            opener = Cipher(algorithms.AES(key), modes.ECB()).decryptor()
            plain = opener.update(sealed) + opener.finalize()
            said = (plain[:64].partition(b"\0")[0], plain[64:].partition(b"\0")[0])
            if said != account:
                client.sendall(struct.pack(">II", 1, 2) + b"no")
                return
        client.sendall(bytes(4))
        read(client, 1)
        client.sendall(words.server_init(8, 4))
        client.sendall(words.update(words.rectangle(0, 0, 8, 4, 0, bytes([7]) * 128)))
        while client.recv(4096):
            pass

    return serve


def announced(settings, line: str) -> VncEndpoint:
    """What a machine of Tart tells when `tart run` has printed that."""
    machine = TartMachine.__new__(TartMachine)
    machine.name = "vm-a"
    machine.folder = Path()
    machine._run = SimpleNamespace(vnc=lambda: parse_vnc(line), end=lambda: None)
    machine._owner = SimpleNamespace(settings=settings)
    machine._ended = lambda: None
    return machine.vnc_endpoint(Deadline(10))


@pytest.mark.parametrize("user", ["", "tester"])
def test_the_account_of_the_settings_is_shown(tmp_path: Path, user: str) -> None:
    settings = load_settings(
        environ={}, overrides={"cache": tmp_path, "guest": {"password": "gast-wort", "vnc_user": user}}
    )
    used: list[int] = []
    with listening(doors((b"tester", b"gast-wort"), used)) as port:
        vnc = announced(settings, f"VNC server is running at vnc://:{HYPERVISORS}@127.0.0.1:{port}\n")
        assert (vnc.user, vnc.password) == ((user, "gast-wort") if user else ("", HYPERVISORS))
        assert "gast-wort" not in repr(vnc)
        mac = Mac.__new__(Mac)
        mac.name = "vm-a"
        mac.machine = SimpleNamespace(own_display=False, vnc_endpoint=lambda _: vnc)
        mac.settings = settings
        screen = mac._open_screen(Deadline(20))
        try:
            assert screen.frame(Deadline(20)).size == (8, 4)
        finally:
            screen.close()
    assert set(used) == {30 if user else 2}


def test_a_user_in_the_line_of_tart_is_kept() -> None:
    settings = load_settings(environ={}, overrides={})
    vnc = announced(settings, "Opening vnc://maria:pass-word@192.168.64.7:5900...\n")
    assert (vnc.user, vnc.password, vnc.host) == ("maria", "pass-word", "192.168.64.7")
