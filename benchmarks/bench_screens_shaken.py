"""Reading screenshots that were shaken: the same pictures as in `bench_screens`, resized, compressed, cropped, dimmed, blurred,
pasted elsewhere; what they show, and where, follows by geometry. And look-alikes: an approval with its telling words painted over.

What a reader knows must not hang on one picture's very pixels, and no damage may ever make it click what is not the button.
Each way of shaking has a fixed share of the pictures (all with --all), the same in each run. Prints a table per way; exits 1
at a single wrong click, or below the floors for windows and buttons over all ways; 2 if there are no pictures.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_screens import REAL, inside, real
from benchmarks.common import judge
from harness.screen import Box, Frame, RapidReader, Sighting, recognise
from harness.screen.sighting import PASSWORD

FLOOR = 0.9
SHARE = 3
"""One picture in so many is shaken in each way."""
_COUNTED = ("approve", "open-settings", "info", "switch", "use-password", "lock")

Picture = NDArray[np.uint8]
Row = dict[str, Any]


@dataclass
class Tally:
    """What was right of one way of shaking."""

    pictures: int = 0
    windows: int = 0
    buttons: int = 0
    of_buttons: int = 0
    advices: int = 0
    of_advices: int = 0
    wrong: int = 0
    seconds: float = 0.0
    misses: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Way:
    """A way of shaking: its name, and what it does to a picture and the boxes of its buttons (changed in place)."""

    name: str
    shake: Callable[[Picture, list[Row]], Picture]
    hard: bool = False
    """Told, but not in the floors: pixels that no screenshot has."""


# --- geometry


def _scaled(factor: float) -> Callable[[Picture, list[Row]], Picture]:
    def shake(picture: Picture, boxes: list[Row]) -> Picture:
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        out = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=how)
        for box in boxes:
            for key in ("x0", "y0", "x1", "y1"):
                box[key] = box[key] * factor
        return _picture(out)

    return shake


def _moved(boxes: list[Row], x: int, y: int) -> None:
    for box in boxes:
        box["x0"] += x
        box["x1"] += x
        box["y0"] += y
        box["y1"] += y


def _cropped(picture: Picture, boxes: list[Row]) -> Picture:
    """A margin of 2 % cut off on each side, less where a button would be touched."""
    height, width = picture.shape[:2]
    x, y = int(width * 0.02), int(height * 0.02)
    left = min([x, *(int(box["x0"]) - 8 for box in boxes)])
    top = min([y, *(int(box["y0"]) - 8 for box in boxes)])
    right = min([x, *(width - int(box["x1"]) - 8 for box in boxes)])
    bottom = min([y, *(height - int(box["y1"]) - 8 for box in boxes)])
    left, top, right, bottom = (max(0, value) for value in (left, top, right, bottom))
    _moved(boxes, -left, -top)
    return _picture(picture[top : height - bottom, left : width - right])


def _padded(ground: Callable[[int, int], Picture]) -> Callable[[Picture, list[Row]], Picture]:
    def shake(picture: Picture, boxes: list[Row]) -> Picture:
        height, width = picture.shape[:2]
        out = _shadowed(ground(height + 260, width + 420), 230, 110, width, height)
        out[110 : 110 + height, 230 : 230 + width] = picture
        _moved(boxes, 230, 110)
        return out

    return shake


def _shadowed(ground: Picture, x: int, y: int, width: int, height: int) -> Picture:
    """What a window at this place stands over, with the window's shadow on it."""
    shadow = np.zeros(ground.shape[:2], np.float32)
    shadow[y + 12 : y + height + 20, x : x + width] = 0.5
    shadow = cv2.GaussianBlur(shadow, (0, 0), 18).astype(np.float32)
    return _picture(ground * (1 - shadow)[..., None])


def _over(other: Picture) -> Callable[[int, int], Picture]:
    """A picture that has nothing to click, on a desktop, with the window in front of it."""

    def ground(height: int, width: int) -> Picture:
        out = _sky(height, width)
        part = other[: height - 40, : width - 60]
        out[40 : 40 + part.shape[0], 60 : 60 + part.shape[1]] = part
        return out

    return ground


def _flat(height: int, width: int) -> Picture:
    return np.full((height, width, 3), (52, 84, 110), np.uint8)


def _sky(height: int, width: int) -> Picture:
    down, across = np.mgrid[0:height, 0:width]
    tone = np.stack([40 + 120 * across / width, 60 + 90 * down / height, 140 + 80 * np.sin(across / 97 + down / 61)], 2)
    return _picture(tone)


def _terminal(height: int, width: int) -> Picture:
    """A window full of text."""
    out = np.full((height, width, 3), 24, np.uint8)
    words = "Sep 12 10:04:11 sysextd[311]: client activation request for com.example.agent.network: allow, not now, OK"
    for number, y in enumerate(range(26, height, 30)):
        place = (14 - 60 * (number % 3), y)
        cv2.putText(out, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (190, 200, 190), 1, cv2.LINE_AA)
    return out


def _on_a_desktop(picture: Picture, boxes: list[Row]) -> Picture:
    """In the lower right of a whole 2x screen."""
    out = _sky(1600, 2560)
    height, width = picture.shape[:2]
    x, y = 2560 - width - 40, 1600 - height - 60
    out = _shadowed(out, x, y, width, height)
    out[y : y + height, x : x + width] = picture
    _moved(boxes, x, y)
    return out


def _turned(picture: Picture, boxes: list[Row]) -> Picture:
    """Photographed off a screen: turned by half a degree, darker at the rim, grainy, compressed."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0.5, 0.97)
    out = cv2.warpAffine(picture, matrix, (width, height), borderValue=(30, 30, 30))
    for box in boxes:
        corners = np.array([[box["x0"], box["y0"], 1], [box["x1"], box["y1"], 1]], float) @ matrix.T
        (box["x0"], box["y0"]), (box["x1"], box["y1"]) = corners.tolist()
    down, across = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    out = _picture(out * (1 - 0.2 * (down**2 + across**2))[..., None])
    return _jpeg(70)(_grain(5)(out, boxes), boxes)


# --- colours and damage


def _picture(values: NDArray[Any]) -> Picture:
    return np.ascontiguousarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _jpeg(quality: int) -> Callable[[Picture, list[Row]], Picture]:
    def shake(picture: Picture, _boxes: list[Row]) -> Picture:
        done, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        read = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert read is not None
        return np.ascontiguousarray(read[:, :, ::-1]).astype(np.uint8)

    return shake


def _gamma(power: float) -> Callable[[Picture, list[Row]], Picture]:
    return lambda picture, _: _picture(255 * (picture / 255.0) ** power)


def _tinted(picture: Picture, _boxes: list[Row]) -> Picture:
    return _picture(picture * np.array([1.02, 0.98, 0.93]) + np.array([3, 0, -4]))


def _pale(picture: Picture, _boxes: list[Row]) -> Picture:
    return _picture(picture * 0.8 + 30)


def _dimmed(picture: Picture, _boxes: list[Row]) -> Picture:
    return _picture(picture * 0.7)


def _blurred(picture: Picture, _boxes: list[Row]) -> Picture:
    return _picture(cv2.GaussianBlur(picture, (0, 0), 1.0))


def _grain(sigma: float) -> Callable[[Picture, list[Row]], Picture]:
    def shake(picture: Picture, _boxes: list[Row]) -> Picture:
        random = np.random.default_rng(picture.size)
        return _picture(picture + random.normal(0, sigma, picture.shape))

    return shake


def _palette(picture: Picture, _boxes: list[Row]) -> Picture:
    """As few colours as a GIF has."""
    return _picture(picture // 8 * 8 + 4)


# --- what people draw on pictures


def _boxed(picture: Picture, boxes: list[Row]) -> Picture:
    """A red frame around each button."""
    out = np.array(picture)
    for box in boxes:
        corners = (int(box["x0"]) - 7, int(box["y0"]) - 7), (int(box["x1"]) + 7, int(box["y1"]) + 7)
        cv2.rectangle(out, *corners, (235, 40, 40), 5, cv2.LINE_AA)
    return out


def _arrowed(picture: Picture, boxes: list[Row]) -> Picture:
    """An arrow from the upper left to each button's corner, over whatever is there."""
    out = np.array(picture)
    for box in boxes:
        end = int(box["x0"]) - 2, int(box["y0"]) - 2
        cv2.arrowedLine(out, (max(0, end[0] - 160), max(0, end[1] - 110)), end, (250, 60, 60), 7, cv2.LINE_AA)
    return out


def _spotlit(picture: Picture, boxes: list[Row]) -> Picture:
    """Everything darkened but the buttons and what is near them."""
    out = picture * 0.55
    for box in boxes:
        part = (
            slice(max(0, int(box["y0"]) - 25), int(box["y1"]) + 25),
            slice(max(0, int(box["x0"]) - 25), int(box["x1"]) + 25),
        )
        out[part] = picture[part]
    return _picture(out)


def _pointed(picture: Picture, boxes: list[Row]) -> Picture:
    """The pointer over the lower right corner of each button."""
    out = np.array(picture)
    for box in boxes:
        x, y = int(box["x1"]) - 6, int(box["y1"]) - 6
        shape = np.array([[0, 0], [0, 30], [8, 23], [14, 35], [19, 33], [13, 21], [22, 21]]) + np.array([x, y])
        cv2.fillPoly(out, [shape], (10, 10, 10), cv2.LINE_AA)
        cv2.polylines(out, [shape], isClosed=True, color=(250, 250, 250), thickness=2, lineType=cv2.LINE_AA)
    return out


def _turned_over(picture: Picture, _boxes: list[Row]) -> Picture:
    """Light for dark, each colour staying what it is."""
    high = picture.max(axis=2, keepdims=True).astype(int)
    low = picture.min(axis=2, keepdims=True).astype(int)
    return _picture(picture.astype(int) + 255 - high - low)


def _twice(picture: Picture, _boxes: list[Row]) -> Picture:
    """Scaled down and up again, as pictures on web pages are."""
    half = cv2.resize(picture, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    return _picture(cv2.resize(half, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR))


WAYS = (
    Way("as it is", lambda picture, _: picture),
    Way("0.5x", _scaled(0.5)),
    Way("0.75x", _scaled(0.75)),
    Way("1.25x", _scaled(1.25)),
    Way("1.5x", _scaled(1.5)),
    Way("2x", _scaled(2.0)),
    Way("jpeg 80", _jpeg(80)),
    Way("jpeg 60", _jpeg(60)),
    Way("jpeg 40", _jpeg(40)),
    Way("0.5x, jpeg 80", lambda picture, boxes: _jpeg(80)(_scaled(0.5)(picture, boxes), boxes)),
    Way("cropped", _cropped),
    Way("on one colour", _padded(_flat)),
    Way("on a picture", _padded(_sky)),
    Way("on a terminal", _padded(_terminal)),
    Way("on a big desktop", _on_a_desktop),
    Way("gamma 0.8", _gamma(0.8)),
    Way("gamma 1.25", _gamma(1.25)),
    Way("tinted", _tinted),
    Way("pale", _pale),
    Way("dimmed", _dimmed),
    Way("blurred", _blurred),
    Way("32 tones", _palette),
    Way("0.4x", _scaled(0.4)),
    Way("scaled twice", _twice),
    Way("red boxes", _boxed),
    Way("arrows", _arrowed),
    Way("spotlit", _spotlit),
    Way("pointer on it", _pointed),
    Way("light for dark", _turned_over),
    Way("grainy", _grain(4), hard=True),
    Way("photographed", _turned, hard=True),
)


# --- look-alikes


def look_alikes(seen: Sighting, frame: Frame, row: Row) -> Iterator[tuple[str, Picture]]:
    """The picture of an approval with the words painted over that make it one: nothing of it may be clicked."""
    boxes = [button["x0"] for button in row["buttons"]]
    if not boxes or seen.advice is None or row["advice"] is None:
        return
    own = seen.advice
    partners = [button.box for button in seen.buttons if button is not own and button.role in ("ok", "deny", "cancel")]
    if partners:
        yield "partner painted over", _painted(frame, partners)
    if seen.title is not None:
        words = _painted(frame, [line.box for line in seen.lines if line.box.overlaps(seen.title)])
        yield "title painted over", np.array(words)
        other = _written(words, seen.title, "“Notes” Would Like to Access Files in Your Documents Folder")
        yield "another title", other
        if seen.window != PASSWORD:
            yield "another in front", _in_front(np.array(frame.pixels), other, seen.title)
    kept = [button.box for button in seen.buttons]
    rest = [line.box for line in seen.lines if not any(line.box.overlaps(box) for box in kept)]
    if rest:
        yield "only buttons left", _painted(frame, rest)
    yield "button painted over", _painted(frame, [own.box])


def _painted(frame: Frame, boxes: list[Box]) -> Picture:
    out = np.array(frame.crop(frame.box))
    for box in boxes:
        wide = box.padded(2, frame.size)
        rim = np.concatenate([out[wide.y0, wide.x0 : wide.x1], out[wide.y1 - 1, wide.x0 : wide.x1]])
        out[wide.y0 : wide.y1, wide.x0 : wide.x1] = np.median(rim, axis=0)
    return out


def _in_front(picture: Picture, other: Picture, title: Box) -> Picture:
    """Another alert over the lower part of one: the title stays in sight, its buttons do not."""
    height, width = picture.shape[:2]
    y = title.y1 + 12
    out = np.full((y + height + 20, width, 3), (60, 80, 100), np.uint8)
    out[:height] = picture
    out = _shadowed(out, 0, y, width, height)
    out[y : y + height] = other
    return out


def _written(picture: Picture, place: Box, words: str) -> Picture:
    dark = int(np.median(picture[place.y0 : place.y1, place.x0 : place.x1])) < 128
    colour = (240, 240, 240) if dark else (20, 20, 20)
    pieces = words.replace("“", '"').replace("”", '"').split()
    half = len(pieces) // 2
    for number, text in enumerate((" ".join(pieces[:half]), " ".join(pieces[half:]))):
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 2)
        x, y = max(4, (place.x0 + place.x1 - width) // 2), place.y0 + (number + 1) * (height + 8)
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, 2, cv2.LINE_AA)
    return picture


# --- judging


def count(row: Row, seen: Sighting, tally: Tally) -> None:
    """Judge one shaken picture by its row."""
    refused = ("deny", "ok", "cancel")
    target = next((b for b in row["buttons"] if b["text"] == row["advice"] and b["role"] not in refused), None)
    problems = []
    if seen.advice is not None and (target is None or not inside(seen.advice.centre, target)):
        tally.wrong += 1
        problems.append(f"WRONG CLICK on {seen.advice.text!r} at {seen.advice.centre}: {seen.why}")
    if "without a model" not in row.get("note", ""):
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
        if target is not None:
            tally.of_advices += 1
            tally.advices += seen.advice is not None and inside(seen.advice.centre, target)
            if seen.advice is None:
                problems.append(f"no advice: {seen.why}")
    if problems:
        tally.misses.append(f"{row['file']}: {'; '.join(problems)}")


def chosen(way: str, file: str, *, everything: bool) -> bool:
    """Whether a picture is among those that are shaken in this way: the same in each run."""
    return everything or zlib.crc32(f"{way} {file}".encode()) % SHARE == 0


def main() -> int:
    """Shake, read, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=REAL)
    parser.add_argument(
        "--all", action="store_true", help="shake every picture in every way (five minutes on two cores)"
    )
    parser.add_argument("--way", action="append", help="only this way (can be given more than once)")
    parser.add_argument("--memory", type=Path, help="a folder that keeps what was read, for a next run")
    options = parser.parse_args()
    if not (options.folder / "index.jsonl").exists():
        print(f"no index.jsonl in {options.folder}", file=sys.stderr)
        return 2
    reader = RapidReader(options.memory)
    pictures = list(real(options.folder))
    tallies: dict[str, Tally] = {}
    print(f"{'way':22} {'pictures':>8} {'windows':>8} {'buttons':>8} {'advice':>8} {'wrong':>6} {'s each':>7}")
    nothing = next((np.array(frame.pixels) for row, frame in pictures if row["window"] == "other"), None)
    ways = [*WAYS, *([Way("over another window", _padded(_over(nothing)))] if nothing is not None else [])]
    for way in ways:
        if options.way and way.name not in options.way:
            continue
        tally = tallies[way.name] = Tally()
        for row, frame in pictures:
            if chosen(way.name, row["file"], everything=options.all):
                row = copy.deepcopy(row)
                shaken = Frame(way.shake(np.array(frame.crop(frame.box)), row["buttons"]), 0, 0.0)
                started = time.perf_counter()
                seen = recognise(shaken, reader)
                tally.seconds += time.perf_counter() - started
                count(row, seen, tally)
        _tell(way.name, tally)
    for row, frame in pictures:
        if options.way and not any("left" in name or "painted" in name or "title" in name for name in options.way):
            break
        for name, picture in look_alikes(recognise(frame, reader), frame, row):
            tally = tallies.setdefault(name, Tally())
            seen = recognise(Frame(picture, 0, 0.0), reader)
            tally.pictures += 1
            if seen.advice is not None:
                tally.wrong += 1
                tally.misses.append(f"{row['file']}: WRONG CLICK on {seen.advice.text!r} in {seen.window}: {seen.why}")
    for name in tallies:
        if name not in {way.name for way in ways}:
            print(f"{name:22} {tallies[name].pictures:8} {'':26} {tallies[name].wrong:6}")
    floors = [tallies[way.name] for way in ways if way.name in tallies and not way.hard]
    shown = sum(tally.pictures for tally in floors)
    if not shown:
        return 2
    good = judge("share of windows known", sum(tally.windows for tally in floors) / shown, FLOOR, most=False)
    buttons = sum(tally.of_buttons for tally in floors)
    good &= judge("share of buttons found", sum(tally.buttons for tally in floors) / max(1, buttons), FLOOR, most=False)
    good &= judge("wrong clicks", sum(tally.wrong for tally in tallies.values()), 0)
    return 0 if good else 1


def _tell(name: str, tally: Tally) -> None:
    each = tally.seconds / max(1, tally.pictures)
    print(
        f"{name:22} {tally.pictures:8} {tally.windows:8} {f'{tally.buttons}/{tally.of_buttons}':>8} "
        f"{f'{tally.advices}/{tally.of_advices}':>8} {tally.wrong:6} {each:7.2f}"
    )
    for miss in tally.misses:
        print(f"    {miss}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
