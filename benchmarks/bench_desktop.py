"""How fast the desktop driver sees: pictures a second against pyautogui's own `screenshot`, and what looking costs while nothing
changes. On an X display of its own: `python -m benchmarks.bench_desktop`. Exits 1 if it is not at least three times as fast.

Here and only here the two are timed: on macOS pyautogui starts a program for each picture as well, but nobody has measured it.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

FLOOR = 3.0
"""How many times faster than pyautogui's own pictures."""
SECONDS = 4.0
SIZE = "1920x1080x24"


def rate(look: Callable[[], object]) -> float:
    """Looks a second."""
    look()
    times: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        begun = time.perf_counter()
        look()
        times.append(time.perf_counter() - begun)
    return 1 / statistics.median(times)


def measure() -> None:
    """In a process that has the display."""
    from harness.screen.desktop import DesktopScreen
    from harness.waiting import Deadline

    with DesktopScreen(name="bench") as screen:
        gui = screen._driver._gui  # type: ignore[attr-defined]
        found = {"own, nothing changes": rate(lambda: screen.frame(Deadline(10)))}
        flip = iter(range(10**9))

        def changed() -> object:  # every picture is another one, as far as the driver knows
            screen._driver._raw = b""  # type: ignore[attr-defined]
            next(flip)
            return screen.frame(Deadline(10))

        found["own, each one new"] = rate(changed)
        found["pyautogui.screenshot"] = rate(gui.screenshot)
        cpu, wall = time.process_time(), time.perf_counter()
        screen.wait_for_change(screen.frame(Deadline(10)), Deadline(10.0))
        found["% of a core while nothing changes"] = 100 * (time.process_time() - cpu) / (time.perf_counter() - wall)
    print(json.dumps(found))


def main() -> int:
    """Start a display, measure there, print the table."""
    for program in ("Xvfb", "scrot"):
        if shutil.which(program) is None:
            print(f"{program} is not installed")
            return 1
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-screen", "0", SIZE, "-nolisten", "tcp", "-displayfd", str(write)],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as answer:
            display = f":{answer.readline().strip()}"
        environment = {**os.environ, "DISPLAY": display, "XDG_SESSION_TYPE": "x11"}
        done = subprocess.run(
            [sys.executable, "-c", "from benchmarks.bench_desktop import measure; measure()"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        server.terminate()
        server.wait(10)
    found = json.loads(done.stdout)
    print(f"{SIZE}, one process, median of {SECONDS:g} s each")
    for name, value in found.items():
        unit = "%" if name.startswith("%") else "pictures/s"
        print(f"  {name:36} {value:10.1f} {unit}")
    times = found["own, each one new"] / found["pyautogui.screenshot"]
    print(f"  own ÷ pyautogui: {times:.1f} (floor {FLOOR:g})")
    return 0 if times >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
