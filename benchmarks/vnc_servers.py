"""VNC servers that others wrote, started on the loopback interface for a benchmark: TigerVNC, x11vnc on Xvfb."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from harness.waiting import Deadline, wait_until

SERVERS = {"TigerVNC": ("Xvnc",), "x11vnc": ("x11vnc", "Xvfb")}
"""Name → programs it needs."""


@dataclass(frozen=True)
class Server:
    """One that listens. Attributes: the X display it shows, its port, its process."""

    display: str
    port: int
    process: subprocess.Popen[bytes]


def installed() -> list[str]:
    """The servers that can be started here."""
    return [name for name, programs in SERVERS.items() if all(shutil.which(program) for program in programs)]


@contextlib.contextmanager
def server(name: str, width: int, height: int, *, plain: bool = False) -> Iterator[Server]:
    """Start one without a password; a screen of 24 bits, black (`plain`) or X's old stipple, the hardest ground to pack."""
    ground = [] if plain else ["-retro"]
    with contextlib.ExitStack() as stack:
        port = _free_port()
        if name == "TigerVNC":
            argv = ["Xvnc", "-rfbport", str(port), "-localhost", "-geometry", f"{width}x{height}", "-depth", "24"]
            process, display = _x_server(stack, [*argv, "-SecurityTypes", "None", "-ac", *ground])
        else:
            _, display = _x_server(stack, ["Xvfb", "-screen", "0", f"{width}x{height}x24", "-ac", *ground])
            argv = ["x11vnc", "-display", display, "-rfbport", str(port), "-localhost", "-forever", "-shared", "-quiet"]
            process = _start(stack, [*argv, "-nopw"])

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, what=f"{name} to listen", deadline=Deadline.after(30), interval=0.05)
        yield Server(display, port, process)


def _x_server(stack: contextlib.ExitStack, argv: list[str]) -> tuple[subprocess.Popen[bytes], str]:
    read, write = os.pipe()
    with os.fdopen(read) as answer:
        try:
            process = _start(stack, [*argv, "-displayfd", str(write)], pass_fds=(write,))
        finally:
            os.close(write)
        return process, f":{answer.readline().strip()}"


def _start(stack: contextlib.ExitStack, argv: list[str], pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=pass_fds
    )

    def stop() -> None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    stack.callback(stop)
    return process


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
