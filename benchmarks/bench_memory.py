"""Ten simulated Macs at once on this host: do they all come up, and what memory does one take?

proportional set size per simulated Mac (shared pages counted once), target ≤ 150 MB
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.common import judge, median, scratch_folder

COUNT = 10
IMAGES = ("ventura", "sonoma", "sequoia", "tahoe")
TART = str(Path(sys.executable).with_name("sysext-simulated-tart"))


def main() -> int:
    """Boot them, weigh them, stop them."""
    with scratch_folder() as scratch:
        environ = {**os.environ, "TART_HOME": str(scratch), "SYSEXT_SIM_VM_LIMIT": str(COUNT), "CI": "1"}
        processes: list[subprocess.Popen[bytes]] = []
        started = time.monotonic()
        try:
            for number in range(COUNT):
                image = f"ghcr.io/cirruslabs/macos-{IMAGES[number % len(IMAGES)]}-vanilla:latest"
                subprocess.run([TART, "clone", image, f"mac{number}"], env=environ, check=True, capture_output=True)
                command = [TART, "run", f"mac{number}", "--no-graphics", "--vnc-experimental"]
                with (scratch / f"mac{number}.out").open("wb") as sink:
                    processes.append(subprocess.Popen(command, env=environ, stdout=sink, stderr=sink))
            waiting = set(range(COUNT))
            while waiting and time.monotonic() - started < 120:
                waiting = (
                    {n for n in waiting if '"desktop"' not in (scratch / f"vms/mac{n}/simulator.jsonl").read_text()}
                    if all((scratch / f"vms/mac{n}/simulator.jsonl").exists() for n in waiting)
                    else waiting
                )
                time.sleep(0.2)
            up = time.monotonic() - started
            weights = [psutil.Process(process.pid).memory_full_info() for process in processes]
            shares = [getattr(weight, "pss", weight.rss) / 1e6 for weight in weights]
            print(f"{COUNT - len(waiting)} of {COUNT} booted to the desktop in {up:.1f} s; total {sum(shares):.0f} MB")
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=20)
    good = judge("simulated Macs that did not boot", len(waiting), 0)
    good &= judge("MB per simulated Mac (median)", median(shares), 150)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
