"""The VNC client against QEMU's VNC server: a whole PC, in whose boot sector a program of ours tells what arrived.

The program echoes keys on the screen and writes them to QEMU's debug port; a mouse handler adds up the mouse's movements
and writes, whenever a button goes down or up, the buttons (128 + mask) and where the pointer then is from where it began.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from harness.screen import ScreenError, VncScreen
from harness.screen.rfb_encodings import RAW, ZLIB, ZRLE
from harness.waiting import Deadline, wait_until

PASSWORD = "a-w0rd,longer-than-eight"
READY = b"+"
# 16-bit real mode, loaded to 0x7c00. The BIOS services are the classic ones: int 15h/C2 for the PS/2 mouse, int 16h for
# keys, int 10h for the screen.
PROGRAM = bytes.fromhex(
    "31c0 8ed8 8ec0 8ed0 bc007c fb"  #  xor ax,ax; ds, es, ss = ax; sp = 0x7c00; sti
    "b805c2 b703 cd15"  #               mouse: initialise, packets of three bytes
    "b807c2 bb3b7c cd15"  #             mouse: handler at 0x7c3b
    "b800c2 b701 cd15"  #               mouse: enable
    "b02b e6e9"  #                      tell "+": ready
    "30e4 cd16"  #               again: wait for a key
    "3c0d 7502 b00a"  #                 Return counts as a line feed
    "e6e9"  #                           tell the character
    "b40e bb0700 cd10"  #               draw it
    "ebeb"  #                           jmp again
    "55 89e5 50 53 1e 31c0 8ed8"  # handler: push bp, ax, bx, ds; ds = 0
    "8a5e0c"  #                         bl = status
    "0fb6460a f6c310 7402 b4ff 0106907c"  # x += movement, its sign in bit 4 of the status
    "0fb64608 f6c320 7402 b4ff 2906927c"  # y -= movement (the mouse counts upwards), its sign in bit 5
    "80e307 3a1e947c 741c"  #           buttons as before: nothing to tell
    "881e947c b080 08d8 e6e9"  #        tell 0x80 + buttons
    "a1907c e6e9 88e0 e6e9"  #          tell x
    "a1927c e6e9 88e0 e6e9"  #          tell y
    "1f 5b 58 5d cb"  #                 pop ds, bx, ax, bp; lret
    "0000 0000 00"  #                   x, y, buttons
)


@dataclass
class Guest:
    port: int
    told: Path

    @property
    def typed(self) -> str:
        return "".join(chr(byte) for byte in self._split()[0])

    @property
    def buttons(self) -> list[tuple[int, int, int]]:
        """(buttons, x, y) at each change."""
        return self._split()[1]

    def _split(self) -> tuple[bytes, list[tuple[int, int, int]]]:
        data = self.told.read_bytes().partition(READY)[2]
        typed, buttons, at = bytearray(), [], 0
        while at < len(data):
            if data[at] < 0x80:
                typed.append(data[at])
                at += 1
            else:
                if at + 5 <= len(data):
                    buttons.append((data[at] & 7, *struct.unpack("<hh", data[at + 1 : at + 5])))
                at += 5
        return bytes(typed), buttons


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")
    folder = tmp_path_factory.mktemp("qemu")
    (folder / "boot.img").write_bytes((PROGRAM.ljust(510, b"\0") + b"\x55\xaa").ljust(1440 << 10, b"\0"))
    (folder / "password").write_text(PASSWORD)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [
        "qemu-system-x86_64",
        "-machine",
        "pc,accel=tcg",
        "-m",
        "16",
        "-nodefaults",
        "-no-user-config",
        "-vga",
        "std",
    ]
    argv += ["-drive", f"file={folder}/boot.img,format=raw,if=floppy", "-debugcon", f"file:{folder}/told"]
    argv += ["-object", f"secret,id=word,file={folder}/password"]
    argv += ["-vnc", f"127.0.0.1:{port - 5900},password-secret=word"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        made = Guest(port, folder / "told")
        wait_until(
            lambda: made.told.exists() and READY in made.told.read_bytes(),
            what="the boot sector to run",
            deadline=Deadline(60),
            fail_if=lambda _: (folder / "log").read_text() if process.poll() is not None else None,
        )
        yield made
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def test_what_is_typed_arrives_in_the_guest_and_on_the_screen(guest: Guest) -> None:
    with VncScreen("127.0.0.1", guest.port, PASSWORD, name="qemu") as screen:
        before = screen.frame(Deadline(20))
        assert before.size == (720, 400)  # VGA's text mode
        typed = len(guest.typed)
        text = "aZ!9 ~_\"'\\|<Xx\n"
        screen.type_text(text)
        wait_until(lambda: guest.typed[typed:], lambda seen: seen == text, what="the text", deadline=Deadline(20))
        after = screen.frame(Deadline(20), fresh=True)
        assert (after.pixels != before.pixels).any()


def test_clicks_arrive_where_they_were_meant(guest: Guest) -> None:
    with VncScreen("127.0.0.1", guest.port, PASSWORD, name="qemu") as screen:
        screen.frame(Deadline(20))
        # A mouse tells movements only: the places of two clicks are compared.
        begun = len(guest.buttons)
        for number, (x, y) in enumerate(((600, 100), (420, 230)), start=1):
            screen.click(x, y)
            wait_until(
                lambda: len(guest.buttons) - begun,
                lambda told, number=number: told >= 2 * number,
                what=f"click {number}",
                deadline=Deadline(20),
            )
        one, up, two, last = guest.buttons[begun:]
        assert [buttons for buttons, _, _ in (one, up, two, last)] == [1, 0, 1, 0]
        assert up[1:] == one[1:]
        assert (two[1] - one[1], two[2] - one[2]) == (420 - 600, 230 - 100)


def test_every_encoding_shows_the_same_picture(guest: Guest) -> None:
    pictures = []
    for encodings in ((RAW,), (ZLIB,), (ZRLE,), None):
        with VncScreen("127.0.0.1", guest.port, PASSWORD, name="qemu", encodings=encodings) as screen:
            frame = screen.frame(Deadline(20), fresh=True)
            # The cursor of the text blinks, in the lowest lines of some row of characters.
            pictures.append(frame.pixels[: 16 * 2])
    assert pictures[0].any()
    for picture in pictures[1:]:
        assert np.array_equal(picture, pictures[0])


def test_a_wrong_password_is_told(guest: Guest) -> None:
    with VncScreen("127.0.0.1", guest.port, "wrong", name="qemu") as screen, pytest.raises(ScreenError) as failed:
        screen.frame(Deadline(60))
    assert "password" in str(failed.value)
