"""Reading screenshots: is each window known for what it is, is the right button found, is nothing else ever advised?

Over the real pictures in `bench/screens/dev` of the shared folder beside the project (or the folder given), which are
judged by their index; over drawn ones where those are absent, and says so. Beside it, in the same run, the plain way: all
text of the picture read, and the button clicked whose words are looked for, wherever they stand.

Exits 1 below 95 % of windows or buttons, or at a single wrong click; 2 if there is nothing to read.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, judge
from harness.screen import Frame, RapidReader, Sighting, recognise
from harness.screen.ocr import TextLine
from harness.screen.pictures import load_picture
from harness.screen.text import alike

REAL = ROOT.parent / "shared" / "bench" / "screens" / "dev"
FLOOR = 0.95
_COUNTED = ("approve", "open-settings", "info", "switch", "use-password", "lock")
_PLAIN = (
    "Allow",
    "Open System Settings",
    "Open Security Preferences",
    "Use Password…",
    "Permitir",
    "Erlauben",
    "Autoriser",
)
"""What the plain way looks for."""


@dataclass
class Tally:
    """What was right; `misses` in words."""

    windows: int = 0
    buttons: int = 0
    of_buttons: int = 0
    advices: int = 0
    pictures: int = 0
    wrong: int = 0
    plain_wrong: int = 0
    plain_right: int = 0
    misses: list[str] = field(default_factory=list)
    reading: list[float] = field(default_factory=list)
    knowing: list[float] = field(default_factory=list)


class Timed(RapidReader):
    """Remembers how long the last reading took, and what it was."""

    seconds = 0.0
    lines: list[TextLine]

    def read(self, frame: Frame, region: Any = None) -> list[TextLine]:
        """See `Reader`."""
        started = time.perf_counter()
        self.lines = super().read(frame, region)
        self.seconds = time.perf_counter() - started
        return self.lines


def real(folder: Path) -> Iterator[tuple[dict[str, Any], Frame]]:
    """The index's rows with their pictures."""
    for line in (folder / "index.jsonl").read_text(encoding="utf-8").splitlines():
        if line.strip():
            row = json.loads(line)
            yield row, load_picture(folder / row["file"])


def drawn() -> Iterator[tuple[dict[str, Any], Frame]]:
    """The simulated desktop's windows, at both scales; the whole screen each time."""
    from harness.simulator.display import gallery

    windows = {"ne-proxy-consent": "Allow", "ne-filter-consent": "Allow", "notice": None}
    for version in ("13", "15"):
        for scale in (1, 2):
            for name, text in windows.items():
                desktop = gallery.desktop(version, scale=scale)
                dict(gallery.scenes(version))[name](desktop)
                frame = Frame(np.asarray(gallery.picture(desktop)), 0, 0.0)
                buttons = []
                if text is not None:
                    found = [
                        control
                        for window in desktop._stack()
                        for control in getattr(window, "controls", [])
                        if control.text == text
                    ]
                    box = [round(value * scale) for value in found[0].box]
                    buttons = [
                        {"text": text, "role": "approve", "x0": box[0], "y0": box[1], "x1": box[2], "y1": box[3]}
                    ]
                window = "other" if name == "notice" else name
                row = {"file": f"{version}-{scale}x-{name}", "window": window, "buttons": buttons, "advice": text}
                yield row, frame


def inside(point: tuple[int, int], box: dict[str, Any]) -> bool:
    """Whether a click lands in a labelled button."""
    return bool(box["x0"] <= point[0] <= box["x1"] and box["y0"] <= point[1] <= box["y1"])


def count(row: dict[str, Any], seen: Sighting, reader: Timed, tally: Tally) -> None:
    """Judge one picture."""
    refused = ("deny", "ok", "cancel")
    target = next((b for b in row["buttons"] if b["text"] == row["advice"] and b["role"] not in refused), None)
    advice = seen.advice.centre if seen.advice else None
    plain = next((line.box.centre for line in reader.lines for text in _PLAIN if alike(line.text, text)), None)
    if plain is not None:
        hit = target is not None and inside(plain, target)
        tally.plain_right += hit
        tally.plain_wrong += not hit
    problems = []
    if advice is not None and (target is None or not inside(advice, target)):
        tally.wrong += 1
        problems.append(f"WRONG CLICK on {seen.advice.text if seen.advice else ''!r}")
    if "without a model" not in row.get("note", ""):  # else judged for wrong clicks only
        tally.pictures += 1
        tally.windows += seen.window == row["window"]
        if seen.window != row["window"]:
            problems.append(f"{seen.window} instead of {row['window']}")
        for button in row["buttons"]:
            if button["role"] in _COUNTED:
                found = any(inside(other.centre, button) for other in seen.buttons)
                tally.of_buttons += 1
                tally.buttons += found
                if not found:
                    problems.append(f"{button['text']!r} not found")
        right = advice is None if target is None else advice is not None and inside(advice, target)
        tally.advices += right
        if not right and not problems:
            problems.append(f"no advice: {seen.why}")
    if problems:
        tally.misses.append(f"{row['file']}: {'; '.join(problems)}")


def main() -> int:
    """Read, judge, print."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else REAL
    if (folder / "index.jsonl").exists():
        pictures = real(folder)
        print(f"real pictures: {folder.name}")
    elif len(sys.argv) > 1:
        print(f"no index.jsonl in {folder}", file=sys.stderr)
        return 2
    else:
        pictures = drawn()
        print("drawn pictures: the real ones are absent, so this says nothing about a real Mac")
    reader = Timed()
    reader.warm_up()
    tally = Tally()
    print(f"{'picture':28} {'pixels':>11} {'read s':>7} {'know s':>7}  window")
    for row, frame in pictures:
        started = time.perf_counter()
        seen = recognise(frame, reader)
        took = time.perf_counter() - started
        tally.reading.append(reader.seconds)
        tally.knowing.append(took - reader.seconds)
        count(row, seen, reader, tally)
        size = f"{frame.size[0]}x{frame.size[1]}"
        print(f"{row['file']:28} {size:>11} {reader.seconds:7.2f} {took - reader.seconds:7.3f}  {seen.window}")
    if not tally.pictures:
        return 2
    for miss in tally.misses:
        print(f"miss: {miss}")
    print(
        f"plain search for the words: {tally.plain_right} right, {tally.plain_wrong} wrong clicks; "
        f"here: {tally.advices}/{tally.pictures} right, {tally.wrong} wrong"
    )
    print(
        f"median seconds: reading {statistics.median(tally.reading):.2f}, knowing {statistics.median(tally.knowing):.3f}"
    )
    good = judge("share of windows known", tally.windows / tally.pictures, FLOOR, most=False)
    good &= judge("share of buttons found", tally.buttons / max(1, tally.of_buttons), FLOOR, most=False)
    good &= judge("wrong clicks", tally.wrong, 0)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
