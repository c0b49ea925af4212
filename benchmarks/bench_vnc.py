"""Seeing a screen of 2560×1600 over VNC: whole frames per second and CPU while nothing happens, beside vncdotool.

    python -m benchmarks.bench_vnc [--seconds 0.5] [--idle 21] [--plain]

On each VNC server installed (TigerVNC; x11vnc on Xvfb), a terminal wanders about; both clients take turns at fetching
whole frames, each asked for when the one before is there. Then nothing moves, and the CPU time of the client (all its
threads) is taken and extrapolated to a minute. Exit code 1 if we are slower than vncdotool, or take more than 2 % of a
core while nothing happens.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks import vnc_servers
from benchmarks.common import judge
from harness import events
from harness.screen import VncScreen
from harness.screen.rfb_encodings import RAW
from harness.screen.rfb_front import Front
from harness.screen.rfb_stream import Connection
from harness.waiting import Deadline, sleep

WIDTH, HEIGHT = 2560, 1600
OURS, RAW_OURS, THEIRS = "VncScreen, fresh frames", "Connection, whole, Raw", "vncdotool, whole, Raw"
ROUNDS = 24
_WANDER = """
i=0
while :; do
    i=$(( (i + 7) % 1200 ))
    printf '\\033[3;%d;%dt%d words on the move\\n' "$i" "$((i / 2))" "$i"
    sleep 0.02
done
"""


@dataclass
class Figures:
    """Of one client on one server: frames per second and CPU milliseconds per frame of each turn; idle per cent of a core."""

    rates: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    idle: float | None = None

    @property
    def rate(self) -> float:
        """The median: the host has better and worse moments, which all clients share."""
        return statistics.median(self.rates)

    def beside(self, other: Figures) -> float:
        """How many times the other's rate: the median over the rounds, in each of which both had their turn."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.rates, other.rates, strict=True))


@dataclass
class Table:
    """Server → client → figures."""

    rows: dict[str, dict[str, Figures]] = field(default_factory=dict)


@contextlib.contextmanager
def wandering(display: str) -> Iterator[None]:
    """A terminal that moves and writes, some fifty times a second."""
    argv = ["xterm", "-xrm", "XTerm*allowWindowOps: true", "-geometry", "120x40", "-e", "sh", "-c", _WANDER]
    process = subprocess.Popen(
        argv, env={**os.environ, "DISPLAY": display}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        sleep(1.0)
        yield
    finally:
        process.terminate()
        process.wait()


def rate(fetch: Callable[[], object], seconds: float, figures: Figures) -> None:
    """Fetch for so many seconds: one turn."""
    for _ in range(3):  # by then the quickest encoding has been found
        fetch()
    frames = 0
    began, cpu = time.monotonic(), time.process_time()
    while (took := time.monotonic() - began) < seconds:
        fetch()
        frames += 1
    figures.rates.append(frames / took)
    figures.cpus.append((time.process_time() - cpu) / max(1, frames) * 1000)


def whole_frames(port: int) -> tuple[Callable[[], object], Callable[[], None]]:
    """One whole frame after the other on one connection of ours, as RGB; and how to end it."""
    connection = Connection("127.0.0.1", port, None, encodings=(RAW,))
    front = Front(events.current())

    def fetch() -> object:
        connection.request(incremental=False)
        drawn = 0
        while drawn < WIDTH * HEIGHT:
            update = connection.read()
            if update is None:
                continue
            if update.layout and not update.regions:
                connection.prefer(layouts=False)  # as the reader does
            front.apply(connection.pixels, update.regions, update.changed)
            drawn += sum(box.area for box in update.regions)
            if not update.regions:
                connection.request(incremental=True)
        return front.frame()

    return fetch, connection.close


def fresh_frames(port: int) -> tuple[Callable[[], object], Callable[[], None]]:
    """As the harness looks: the whole screen, answered after it was asked for; and how to end it."""
    screen = VncScreen("127.0.0.1", port, None)
    return lambda: screen.frame(Deadline(20), fresh=True), screen.close


def their_frames(port: int) -> tuple[Callable[[], object], Callable[[], None]]:
    """One whole frame after the other by vncdotool; and how to end it."""
    from vncdotool import api

    client = api.connect(f"127.0.0.1::{port}", timeout=30)
    return lambda: client.refreshScreen(incremental=False), client.disconnect


def measure(name: str, seconds: float, idle: float, table: Table, *, plain: bool) -> None:
    """One server."""
    from vncdotool import api

    figures = table.rows[name] = {client: Figures() for client in (OURS, RAW_OURS, THEIRS)}
    with vnc_servers.server(name, WIDTH, HEIGHT, plain=plain) as server:
        with wandering(server.display):
            turns = [(OURS, fresh_frames), (RAW_OURS, whole_frames), (THEIRS, their_frames)]
            for number in range(ROUNDS):  # in turns, for the host has better and worse moments; each is first as often
                for client, connect in turns[number % 3 :] + turns[: number % 3]:
                    fetch, end = connect(server.port)
                    rate(fetch, seconds, figures[client])
                    end()
        with VncScreen("127.0.0.1", server.port, None, name=name) as screen:
            frame = screen.settle(Deadline(20), quiet=1.0)
            began, cpu = time.monotonic(), time.process_time()
            limit = Deadline(idle)
            while not limit.expired:  # somebody waits for news all the time, as the walks do
                frame = screen.wait_for_change(frame, limit) or frame
            figures[OURS].idle = 100 * (time.process_time() - cpu) / (time.monotonic() - began)
        client = api.connect(f"127.0.0.1::{server.port}", timeout=5)
        client.refreshScreen(incremental=False)
        began, cpu = time.monotonic(), time.process_time()
        limit = Deadline(5.0)
        while not limit.expired:
            with contextlib.suppress(TimeoutError):
                client.refreshScreen(incremental=True)
        figures[THEIRS].idle = 100 * (time.process_time() - cpu) / (time.monotonic() - began)
        client.disconnect()


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn; each client has 24 on each server")
    parser.add_argument(
        "--idle", type=float, default=21.0, help="seconds of the idle sample: more than a refresh apart"
    )
    parser.add_argument("--plain", action="store_true", help="a screen of one colour behind, instead of a stipple")
    arguments = parser.parse_args()
    servers = vnc_servers.installed() if shutil.which("xterm") else []
    if not servers:
        print("skipped: no VNC server and xterm here (Debian: tigervnc-standalone-server, x11vnc, xvfb, xterm)")
        return 0
    table = Table()
    for name in servers:
        measure(name, arguments.seconds, arguments.idle, table, plain=arguments.plain)
    print(
        f"{WIDTH}x{HEIGHT}, {'plain' if arguments.plain else 'stippled'}; rates: median (worst to best) of {ROUNDS} x {arguments.seconds:g} s in turns; "
        f"idle: {arguments.idle:g} s extrapolated"
    )
    print(
        f"{'server':<10}{'client':<26}{'frames/s':>9}{'worst to best':>16}{'CPU ms/frame':>14}{'idle %':>8}"
        f"{'idle CPU s/min':>16}"
    )
    good = True
    for name, clients in table.rows.items():
        for client, seen in clients.items():
            idle = f"{seen.idle:>8.2f}{0.6 * seen.idle:>16.2f}" if seen.idle is not None else ""
            spread = f"{min(seen.rates):.1f} to {max(seen.rates):.1f}"
            print(f"{name:<10}{client:<26}{seen.rate:>9.1f}{spread:>16}{statistics.median(seen.cpus):>14.1f}{idle}")
    for name, clients in table.rows.items():
        ours, raw, theirs = clients[OURS], clients[RAW_OURS], clients[THEIRS]
        good &= judge(f"{name}: fresh frames, ours / vncdotool", ours.beside(theirs), 1.0, most=False)
        good &= judge(f"{name}: whole frames, ours / vncdotool", raw.beside(theirs), 1.0, most=False)
        good &= judge(f"{name}: % of a core while nothing happens", ours.idle or 0.0, 2.0)
    return 0 if good else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # Twisted's thread in vncdotool keeps the interpreter from ending
