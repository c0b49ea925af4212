"""From a prompt's pixels on the screen to the click: learned needle, first sight, and how others find a button.

All on the same frames of one simulated display (2560×1600 pixels, scale 2), in one run
(but in the first way, the prompt's OK is pressed, so that nothing else comes up):

- scenario's path: `wait_for_prompt`, then the press with which an approval begins, as in `expect_prompt` and `approve`; the
  prompt was approved before, so the pointer rests where its button was     median ≤ 0.25 s
- needle, pointer elsewhere: the same prompt answered by its other button: 0.1 s more, for the pointer has to go there
- first sight: read, where the screen has changed                    median ≤ 1.2 s
- full-frame OCR: the whole frame is read again and again until the prompt is in it, then clicked
- pyautogui `locate`: its search for the button's picture on the frames that our VNC client delivers, then the same click
- pyautogui `locateOnScreen`: its own loop, on an X display (Xvfb) of the same size that shows the same pixels, and its own click

The scenario's path must be at least five times as fast as the reading of all frames and as `locateOnScreen`, on the display and
in whole scenarios. Clicks are timed by who gets them (the display's diary: the press), except `locateOnScreen`'s, which counts
when its call returns. Our own click lets the pointer rest for 0.1 s before the press on purpose (faster ones get lost on real
Macs); "where is it" is the same without transport and click.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, judge, median, run_scenario, scratch_folder
from harness.approval import Approver
from harness.approval.observer import Observer
from harness.screen import Frame, RapidReader, VncScreen, changed_regions, recognise, save_png
from harness.screen.needles import Needles
from harness.waiting import Deadline, sleep

APP = "Mitmproxy Redirector"
PASSWORD = "sesame12"
SCENARIO = "test_first_activation_through_the_prompt"
NEEDLE, FIRST, TIMES = 0.25, 1.2, 5.0
LIMIT = 120.0
NORMAL = "needle, scenario's path"


# --- the display, in a process of its own as a simulated Mac's is


def serve(version: str) -> None:
    """A simulated desktop: its port, then its diary on stdout; commands on stdin: show, clear."""
    from harness.simulator.display import build_display
    from harness.simulator.display.gallery import VERSIONS, StillModel
    from harness.simulator.display.rfb import RfbServer
    from harness.simulator.interfaces import Alert, AlertKind, Stage

    class Diary:
        def write(self, what: str, **attributes: object) -> None:
            print(json.dumps({"what": what, "monotonic": time.monotonic(), **attributes}), flush=True)

    async def run() -> None:
        desktop = build_display(
            macos=VERSIONS[version],
            size_points=(1280, 800),
            scale=2,
            appearance="light",
            settings=None,
            journal=Diary(),
        )
        desktop.model = StillModel(APP)
        desktop.set_stage(Stage.DESKTOP)
        Diary().write("port", port=await RfbServer(desktop, PASSWORD).start())
        shown: list[int] = []
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip() == "show":
                shown.append(desktop.show(Alert(AlertKind.EXTENSION, APP)))
            elif shown:
                desktop.dismiss(shown.pop())
                desktop.quit_settings()
            Diary().write("done")

    asyncio.run(run())


class Display:
    """The other end of `serve`."""

    def __init__(self, version: str) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bench_locate", "--serve", version],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: list[dict[str, Any]] = []
        self._news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        port = int(self.wait_for("port", 0)["port"])
        self.screen = VncScreen("127.0.0.1", port, PASSWORD, name="display")
        self.screen.frame(Deadline(LIMIT))

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            with self._news:
                self._lines.append(json.loads(line))
                self._news.notify_all()

    def say(self, command: str) -> int:
        """Send a command; returns where the diary stands."""
        assert self._child.stdin is not None
        mark = len(self._lines)
        self._child.stdin.write(command + "\n")
        self._child.stdin.flush()
        return mark

    def wait_for(self, what: str, since: int) -> dict[str, Any]:
        """The first line of that kind since a mark."""

        def line() -> dict[str, Any] | None:
            return next((line for line in self._lines[since:] if line["what"] == what), None)

        with self._news:
            self._news.wait_for(lambda: line() is not None, LIMIT)
            found = line()
        if found is None:
            raise SystemExit(f"the display never wrote '{what}'")
        return found

    def clear(self) -> None:
        """Take the prompt away, and see that it has gone."""
        self.wait_for("done", self.say("clear"))
        self.screen.frame(Deadline(LIMIT), fresh=True)

    def close(self) -> None:
        """End it."""
        self.screen.close()
        self._child.terminate()
        self._child.wait()


# --- ways to find a button


class Way:
    """One way from pixels to click. `locate` alone is timed too: frame in hand → where to click."""

    role, text = "ok", "OK"
    """The button."""

    def __init__(self, display: Display, scratch: Path) -> None:
        self.display = display
        self.screen = display.screen
        self.scratch = scratch

    def prepare(self) -> None:
        """Before the prompt comes."""

    def until_clicked(self) -> None:
        """Wait for the prompt and click its button."""
        frame = self.screen.frame(Deadline(LIMIT))
        while True:
            at = self.locate(frame)
            if at is not None:
                self.screen.click(*at)
                return
            frame = self.screen.frame(Deadline(LIMIT))

    def locate(self, frame: Frame) -> tuple[int, int] | None:
        """Where to click in a frame, None if it is not there."""
        raise NotImplementedError


class Ladder(Way):
    """Ours. With a needle folder that fills, or (`fresh`) a new one each time."""

    def __init__(self, display: Display, scratch: Path, reader: RapidReader, *, fresh: bool) -> None:
        super().__init__(display, scratch)
        self.fresh = fresh
        self.reader = reader
        self.made = 0
        self.prepare()

    def prepare(self) -> None:
        """See `Way`."""
        self.made += 1
        reader = RapidReader() if self.fresh else self.reader
        if self.fresh:
            reader._engine = self.reader._engine  # loaded at boot, as in a scenario; what it read is not remembered
        self.approver = Approver(
            screen=self.screen,
            reader=reader,
            app_name=APP,
            extension_kind="network",
            generation=15,
            password="never typed",
            user="admin",
            oracle=lambda: None,
            guest_open=lambda _url: None,
            quit_settings=lambda: None,
            folder=self.scratch / "frames",
            needles=self._needles(),
        )

    def _needles(self) -> Needles | None:
        return None if self.fresh else Needles(self.scratch / "needles", origin="simulated-bench", app_name=APP)

    def until_clicked(self) -> None:
        """See `Way`."""
        if self.approver.wait_for_prompt(Deadline(LIMIT)) is None:
            raise SystemExit("our own ladder saw no prompt")
        self.approver.close_prompt(Deadline(LIMIT))

    def locate(self, frame: Frame) -> tuple[int, int] | None:
        """See `Way`."""
        reader = self.approver.reader
        if isinstance(reader, RapidReader):
            reader._cache.clear()
        observer = Observer(
            screen=self.screen,
            reader=reader,
            app_name=APP,
            extension_kind="network",
            folder=self.scratch,
            needles=self._needles(),
        )
        observer.warm_up()
        started = time.monotonic()
        seen = observer.look(frame)
        self.took = time.monotonic() - started
        button = seen.button(self.role) if seen is not None else None
        return button.centre if button is not None else None


class Normal(Ladder):
    """Ours, as in a scenario: the button that leads to the approval."""

    role, text = "open-settings", "Open System Settings"

    def until_clicked(self) -> None:
        """See `Way`. What `approve_in_settings` does with the prompt that was waited for; not the walk that follows."""
        seen = self.approver.wait_for_prompt(Deadline(LIMIT))
        button = seen.button(self.role) if seen is not None else None
        if seen is None or button is None:
            raise SystemExit("our own ladder saw no prompt")
        self.approver.presser.press(seen, button, Deadline(LIMIT), Counter())
        self.approver.observer.proved()


class WholeFrame(Way):
    """Read all of it, each time."""

    def __init__(self, display: Display, scratch: Path, reader: RapidReader) -> None:
        super().__init__(display, scratch)
        self.reader = reader

    def locate(self, frame: Frame) -> tuple[int, int] | None:
        """See `Way`."""
        self.reader._cache.clear()
        seen = recognise(frame, self.reader, app_name=APP)
        button = seen.button("ok")
        return button.centre if button is not None else None


class Pyscreeze(Way):
    """pyautogui's search on our frames: no screenshot to pay for."""

    def __init__(self, display: Display, scratch: Path, button: Path) -> None:
        super().__init__(display, scratch)
        from PIL import Image

        self.button = Image.open(button).convert("RGB")

    def locate(self, frame: Frame) -> tuple[int, int] | None:
        """See `Way`."""
        import pyscreeze  # type: ignore[import-untyped, unused-ignore]
        from PIL import Image

        with contextlib.suppress(pyscreeze.ImageNotFoundException):
            box = pyscreeze.locate(self.button, Image.fromarray(frame.pixels))
            if box is not None:
                return int(box.left + box.width // 2), int(box.top + box.height // 2)
        return None


def measure(way: Way, count: int) -> list[float]:
    """Seconds from pixels to click, `count` times."""
    seconds = []
    for _ in range(count):
        way.prepare()
        way.screen.mark()
        walker = threading.Thread(target=way.until_clicked)
        walker.start()
        sleep(random.uniform(0.4, 0.9))
        mark = way.display.say("show")
        drawn = way.display.wait_for("prompt-drawn", mark)
        click = way.display.wait_for("click", mark)
        walker.join(LIMIT)
        if click["hit"] != f"alert/extension/{way.text}":
            raise SystemExit(f"{type(way).__name__} clicked {click['hit']}")
        seconds.append(click["monotonic"] - drawn["monotonic"])
        way.display.clear()
    return seconds


def locating(way: Way, frame: Frame, count: int) -> list[float]:
    """Seconds from a frame in hand to where to click."""
    seconds = []
    for _ in range(count):
        started = time.monotonic()
        at = way.locate(frame)
        seconds.append(getattr(way, "took", 0.0) or time.monotonic() - started)
        if at is None:
            raise SystemExit(f"{type(way).__name__} did not find it")
    return seconds


# --- pyautogui on an X display


@contextlib.contextmanager
def x_display(width: int, height: int) -> Iterator[str]:
    """An Xvfb of that size; yields its name."""
    read, write = os.pipe()
    child = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as answer:
            number = answer.readline().strip()
        if not number:
            raise SystemExit("Xvfb did not start")
        yield f":{number}"
    finally:
        child.terminate()
        child.wait()


def on_x(folder: Path, count: int) -> None:
    """In a process of its own (pyautogui connects when imported): show the prompt, `locateOnScreen` in a loop, click."""
    from PIL import Image

    from harness.screen.desktop_driver import _import_pyautogui

    gui = _import_pyautogui()
    gui.FAILSAFE, gui.PAUSE = False, 0
    from Xlib import X  # type: ignore[import-untyped, unused-ignore]
    from Xlib import display as xdisplay

    before, after = (Image.open(folder / name).convert("RGB") for name in ("before.png", "after.png"))
    x0, y0, x1, y1 = json.loads((folder / "region.json").read_text())
    painter = xdisplay.Display()
    root = painter.screen().root
    context = root.create_gc()

    def paint(picture: Any, x: int, y: int) -> None:
        pixels = np.asarray(picture)
        width, height = picture.size
        wire = np.zeros((height, width, 4), np.uint8)
        wire[:, :, :3] = pixels[:, :, ::-1]
        rows = max(1, 200_000 // (width * 4))  # a request is 256 KiB at most
        for top in range(0, height, rows):
            part = wire[top : top + rows]
            root.put_image(context, x, y + top, width, len(part), X.ZPixmap, 24, 0, part.tobytes())
        painter.sync()

    paint(before, 0, 0)
    drawn = 0.0

    def show() -> None:
        nonlocal drawn
        sleep(random.uniform(0.4, 0.9))
        paint(after.crop((x0, y0, x1, y1)), x0, y0)
        drawn = time.monotonic()

    seconds = []
    for _ in range(count):
        paint(before.crop((x0, y0, x1, y1)), x0, y0)
        thread = threading.Thread(target=show)
        thread.start()
        while True:
            try:
                box = gui.locateOnScreen(str(folder / "button.png"))
            except gui.ImageNotFoundException:
                box = None
            if box is not None:
                break
        gui.click(*gui.center(box))
        clicked = time.monotonic()
        thread.join()
        seconds.append(clicked - drawn)
    print(json.dumps(seconds))


def pyautogui_loop(folder: Path, size: tuple[int, int], count: int) -> list[float]:
    """`on_x` in its own process."""
    keys = folder / "xauthority"  # python-xlib wants one, and be it empty
    keys.touch()
    with x_display(*size) as name:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.bench_locate", "--on-x", str(folder), "--count", str(count)],
            cwd=ROOT,
            env={**os.environ, "DISPLAY": name, "XDG_SESSION_TYPE": "x11", "XAUTHORITY": str(keys)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"pyautogui on {name}: {done.stderr[-1500:]}")
    return [float(value) for value in json.loads(done.stdout.strip().splitlines()[-1])]


# --- the run


def pictures(display: Display, reader: RapidReader, folder: Path) -> Frame:
    """The frames that all are compared on, and the picture of the button; returns the frame with the prompt."""
    screen = display.screen
    before = screen.settle(Deadline(LIMIT), quiet=0.5)
    screen.mark()
    mark = display.say("show")
    display.wait_for("prompt-drawn", mark)
    after = screen.settle(Deadline(LIMIT), quiet=0.5)
    region = changed_regions(before, after)[0].padded(8, after.size)
    seen = recognise(after, reader, region=region, app_name=APP)
    button = seen.button("ok")
    if button is None:
        raise SystemExit(f"the prompt was not read: {seen.text}")
    folder.mkdir()
    save_png(before.pixels, folder / "before.png")
    save_png(after.pixels, folder / "after.png")
    save_png(np.ascontiguousarray(after.crop(button.box.padded(10, after.size))), folder / "button.png")
    (folder / "region.json").write_text(json.dumps(list(region)))
    return after


def in_scenarios(scratch: Path, count: int) -> tuple[float, float]:
    """A whole scenario on a simulated Mac: (first sight, median of the next ones), seconds."""
    settings = {"display": "2560x1600px", "scale": "2"}
    taken = []
    for _ in range(count + 1):
        outcome = run_scenario(
            SCENARIO, "15", settings, scratch, SYSEXT_CACHE=str(scratch / "cache"), SYSEXT_REMEMBER_READINGS="false"
        )
        seconds = outcome.between("extension", "alert/extension/Open System Settings")
        if seconds is None:
            raise SystemExit("no click in the Mac's diary")
        taken.append(seconds)
    return taken[0], median(taken[1:])


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", metavar="MACOS")
    parser.add_argument("--on-x", type=Path, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=7, help="clicks per way (default 7)")
    parser.add_argument("--scenarios", type=int, default=2, help="whole scenarios with a needle (default 2; 0: none)")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    if options.on_x:
        on_x(options.on_x, options.count)
        return 0
    few = max(3, options.count // 2)
    rows: dict[str, tuple[list[float], list[float]]] = {}
    with scratch_folder() as scratch:
        reader = RapidReader()
        reader.warm_up()
        display = Display("15")
        try:
            frame = pictures(display, reader, scratch / "same")
            known = Normal(display, scratch, reader, fresh=False)
            ways: dict[str, tuple[Way, int]] = {
                NORMAL: (known, options.count),
                "needle, pointer elsewhere": (Ladder(display, scratch, reader, fresh=False), options.count),
                "first sight": (Ladder(display, scratch, reader, fresh=True), few),
                "full-frame OCR": (WholeFrame(display, scratch, reader), few),
            }
            with contextlib.suppress(ImportError):
                ways["pyautogui locate, our frames"] = (
                    Pyscreeze(display, scratch, scratch / "same" / "button.png"),
                    options.count,
                )
            display.clear()
            measure(known, 1)  # it is learned from this one
            still: dict[str, list[float]] = {}
            clicks: dict[str, list[float]] = {name: [] for name in ways}
            for name, (way, count) in ways.items():
                clicks[name] = measure(way, count)
            known.screen.mark()
            display.wait_for("prompt-drawn", display.say("show"))
            frame = known.screen.settle(Deadline(LIMIT), quiet=0.5)
            for name, (way, count) in ways.items():
                still[name] = locating(way, frame, count)
            rows = {name: (clicks[name], still[name]) for name in ways}
        finally:
            display.close()
        if shutil.which("Xvfb"):
            rows["pyautogui locateOnScreen, Xvfb"] = (pyautogui_loop(scratch / "same", frame.size, options.count), [])
        scenario = in_scenarios(scratch, options.scenarios) if options.scenarios else None
    print(f"{'way':32} {'pixels → click, median (worst)':>32} {'frame → place, median':>24}")
    for name, (clicked, located) in rows.items():
        place = f"{median(located) * 1000:.1f} ms" if located else "–"
        print(f"{name:32} {median(clicked):>22.3f} ({max(clicked):.3f}) s {place:>24}")
    print(f"load of this machine meanwhile: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    good = judge("pixels → click, scenario's path (median, seconds)", median(rows[NORMAL][0]), NEEDLE)
    good &= judge("pixels → click, first sight (median, seconds)", median(rows["first sight"][0]), FIRST)
    if scenario is not None:
        first, again = scenario
        good &= judge("in a scenario, first sight (seconds)", first, FIRST)
        good &= judge("in a scenario, needle (median, seconds)", again, NEEDLE)
    for other in ("full-frame OCR", "pyautogui locateOnScreen, Xvfb"):
        if other not in rows:
            print(f"{other}: not measured here")
            good = False
            continue
        theirs = median(rows[other][0])
        good &= judge(f"{other} ÷ scenario's path, pixels → click", theirs / median(rows[NORMAL][0]), TIMES, most=False)
        if scenario is not None:
            good &= judge(f"{other} ÷ a whole scenario's, pixels → click", theirs / scenario[1], TIMES, most=False)
        elsewhere = theirs / median(rows["needle, pointer elsewhere"][0])
        print(f"{other} ÷ needle with the pointer elsewhere: {elsewhere:.3f} (no target: 0.1 s of it is the rest)")
    if "pyautogui locate, our frames" in rows:
        ratio = median(rows["pyautogui locate, our frames"][1]) / median(rows[NORMAL][1])
        good &= judge("pyautogui locate ÷ needle, frame → place", ratio, TIMES, most=False)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
