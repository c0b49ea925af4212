"""What recording the screen costs: on the thread that delivers frames, in CPU, on disk, and from a prompt's pixels to the click.

time that delivering a frame takes                         median ≤ 1 ms
CPU of recording a change ÷ CPU of writing the frame       ≤ 0.5 (a whole PNG by `save_png`, 2560×1600, in the same run)
disk of the recording ÷ disk of whole PNGs                 ≤ 0.5
prompt's pixels → click, with recording − without          median ≤ 0.1 s (simulated Mac, 2560×1600)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.bench_scenario import ALERT, BUTTON, SCENARIO
from benchmarks.common import judge, median, run_scenario, scratch_folder
from harness.screen.frames import Box, Frame, save_png
from harness.screen.recording import ScreenRecorder
from harness.screen.timeline import Recording

SIZE = (2560, 1600)
CHANGES = 40
ALERT_BOX = Box(1020, 240, 1540, 760)
PAIRS = 3


def main() -> int:
    """Run, print, judge."""
    with scratch_folder() as scratch:
        good = cost(scratch)
        good &= reaction(scratch)
    return 0 if good else 1


def cost(scratch: Path) -> bool:
    """An alert comes and goes over a photograph-like background, its text another each time; a clock ticks."""
    random = np.random.default_rng(1)
    background = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
    background[:] = (np.linspace(0, 220, SIZE[0])[None, :, None] + random.integers(0, 12, background.shape)).astype(
        np.uint8
    )
    frames: list[tuple[Frame, tuple[Box, ...]]] = [(Frame(background, 0, time.monotonic()), (Box(0, 0, *SIZE),))]
    for serial in range(1, CHANGES + 1):
        pixels = background.copy()
        boxes = [Box(2400, 0, 2560, 48)]
        pixels[8:40, 2420:2540] = random.integers(0, 2, (32, 120, 1), np.uint8) * 255
        if serial % 2:
            pixels[ALERT_BOX.y0 : ALERT_BOX.y1, ALERT_BOX.x0 : ALERT_BOX.x1] = 238
            pixels[400:460, 1080:1480] = random.integers(0, 2, (60, 400, 1), np.uint8) * 230
        boxes.append(ALERT_BOX)
        frames.append((Frame(pixels, serial, time.monotonic()), tuple(boxes)))
    delivered: list[float] = []
    folder = scratch / "recording"
    with ScreenRecorder(folder, pace=0.0) as recorder:
        for frame, boxes_now in frames:
            started = time.perf_counter()
            recorder.show(frame, boxes_now)
            recorder.note({"type": "event", "name": "sighting", "attributes": {"window": "alert-blocked"}})
            delivered.append(time.perf_counter() - started)
            while recorder._queue:  # one at a time, so that none gives way to the next
                time.sleep(0.001)
    end = Recording.load(folder).end
    assert end is not None
    started_cpu = time.thread_time()
    for frame, _ in frames:
        save_png(frame.pixels, scratch / "whole" / f"{frame.serial:03}.png")
    whole_cpu = (time.thread_time() - started_cpu) / len(frames)
    whole_bytes = sum(path.stat().st_size for path in (scratch / "whole").iterdir())
    cpu, size = end.data["cpu_seconds"] / len(frames), end.data["bytes"]
    print(f"{len(frames)} frames of {SIZE[0]}×{SIZE[1]}, {end.data['frames']} recorded")
    print(f"{'':24}{'CPU ms/frame':>14}{'MB':>8}")
    print(f"{'recording':24}{cpu * 1000:14.1f}{size / 1e6:8.1f}")
    print(f"{'whole PNGs':24}{whole_cpu * 1000:14.1f}{whole_bytes / 1e6:8.1f}")
    good = judge("delivering a frame (median, ms)", median(delivered) * 1000, 1.0)
    good &= judge("CPU, recording ÷ whole PNG", cpu / whole_cpu, 0.5)
    return judge("disk, recording ÷ whole PNGs", size / whole_bytes, 0.5) and good


def reaction(scratch: Path) -> bool:
    """From the prompt's pixels on the screen to the click that hits its button, with and without."""
    seconds: dict[str, list[float]] = {"true": [], "false": []}
    settings = {"display": "2560x1600px"}
    run_scenario(SCENARIO, "15", settings, scratch)  # what is read is remembered from here on
    for _ in range(PAIRS):
        for recording, found in seconds.items():
            outcome = run_scenario(SCENARIO, "15", settings, scratch, SYSEXT_EVIDENCE__RECORDING=recording)
            took = outcome.between(ALERT, BUTTON)
            if took is None:
                raise SystemExit(f"no click on '{BUTTON}' in the diary")
            found.append(took)
    for recording, found in seconds.items():
        print(f"prompt → click, recording {recording:5}: {' '.join(f'{one:.3f}' for one in found)} s")
    return judge(
        "recording's share of prompt → click (median, s)", median(seconds["true"]) - median(seconds["false"]), 0.1
    )


if __name__ == "__main__":
    sys.exit(main())
