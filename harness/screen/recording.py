"""`ScreenRecorder`: writes down what a screen shows and what was recognised and clicked on it.

It works off the hot path: whoever delivers a frame or an event only puts it into a short queue, where a later frame takes
the place of one that was not written yet. Its own thread compares, encodes and writes tiles that changed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from harness import events
from harness.screen.frames import Box, Frame, Pixels, Screen
from harness.screen.thinning import MOST_BOXES, thin
from harness.screen.timeline import (
    SCHEMA,
    TILE,
    TILES,
    TIMELINE,
    EndRecord,
    FrameRecord,
    Header,
    MarkRecord,
    encode,
    tile_name,
)
from harness.waiting import Deadline

PACE = 0.2
"""Seconds between two frames, unless something was recognised or clicked in between: then both are kept."""
LAG = 0.3
"""Seconds by which the writing lags behind: at the moment that a prompt comes up, the CPU is wanted elsewhere."""
_MOST_PACE = 10.0
_MOST_QUEUED_FRAMES = 4
_MOST_QUEUED = 256
_MOST_MARKS = 10_000
_LONGEST_TYPING = 60.0
_CLOSE_SECONDS = 15.0
_TEXT = 300

_STEPS: dict[str, tuple[str, ...]] = {
    "press": ("window", "app_name", "button", "role", "at", "attempt", "channel"),
    "click": ("x", "y"),
    "scroll": ("x", "y", "lines"),
    "type": (),
    "open Settings": (),
    "reboot": (),
    "collect-evidence": ("reason",),
}
"""Steps whose begin is noted, with these of their attributes: never what was typed."""
_EVENTS: dict[str, tuple[str, ...]] = {
    "sighting": ("window", "app_name", "text", "rung", "region", "box", "buttons", "advice", "why", "confidence"),
    "prompt-missing": ("state", "waited"),
    "approved": ("route", "approvable"),
    "approvable": ("approvable", "why"),
    "black-screen": ("hint",),
    "screen-connected": ("size",),
    "screen-lost": ("reason",),
    "degraded": ("what", "reason"),
    "killed": ("what",),
}
ANCHORS = {"press": 2, "click": 2, "sighting": 1}
"""Marks whose frames outlast thinning, those of clicks longest."""


@dataclass
class _Picture:
    at: float
    frame: Frame
    boxes: tuple[Box, ...] | None
    """None: look everywhere."""


@dataclass
class _Note:
    at: float
    what: str
    data: dict[str, Any]


class ScreenRecorder:
    """Records one screen into a folder. Never raises into those who deliver; what it could not do is an event.

    Args:
        folder: Gets `timeline.jsonl` and `tiles/`; made if need be. Must hold no recording yet.
        most_bytes: How much it may take. Beyond that frames are thinned out evenly over the time, an event each time;
            the first, the last, and those with sightings and clicks stay longest.
        machine, simulated, labels: What the recording is of, for who watches it.

    Raises:
        OSError: The folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        most_bytes: int = 100 << 20,
        machine: str = "",
        simulated: bool = False,
        labels: Mapping[str, str] | None = None,
        pace: float = PACE,
    ) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self.pace = pace
        self._lag = min(LAG, pace * LAG / PACE)
        self.lost: Counter[str] = Counter()
        self._log = events.current()
        self._wake = threading.Condition()
        self._queue: deque[_Picture | _Note] = deque()
        self._held: _Picture | None = None
        self._typing: dict[str, float] = {}
        self._closing = False
        self._unsubscribe: list[Callable[[], None]] = []
        self._started = time.monotonic()
        # The writer's own from here on.
        self._records: list[FrameRecord | MarkRecord] = []
        self._anchors: dict[int, int] = {}
        self._anchor_next = 0
        self._number = 0
        self._marks = 0
        self._shown: dict[int, str] = {}
        self._pixels: Pixels | None = None
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._line_bytes = 0
        self._torn = False
        self._last_written = 0.0
        self._cpu = 0.0
        self._thinned = 0
        (folder / TILES).mkdir(parents=True, exist_ok=True)
        self._header = Header(
            schema=SCHEMA,
            time=_utc(),
            machine=machine[:_TEXT],
            simulated=simulated,
            labels={str(key)[:_TEXT]: events.SECRETS.mask(str(value))[:_TEXT] for key, value in (labels or {}).items()},
        )
        self._file: IO[bytes] = (folder / TIMELINE).open("xb", buffering=0)
        self._append(encode(self._header))
        self._thread = threading.Thread(target=self._run, name=f"recorder-{machine}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # --- for those who deliver: quick, never raising

    def follow(self, screen: Screen, log: events.EventLog | None = None) -> None:
        """Record `screen` from now on, and what `log` (the current one by default) says of it, until `close`."""
        log = log or self._log
        self._unsubscribe.append(log.subscribe(self.note))
        self._unsubscribe.append(screen.subscribe(self.show))
        with contextlib.suppress(Exception):  # not connected yet: then the first picture is delivered
            present = screen.wait_for_change(None, Deadline(0))
            if present is not None:
                self.show(present, (present.box,))

    def show(self, frame: Frame, changed: tuple[Box, ...]) -> None:
        """Take a frame: a subscriber of `Screen`."""
        with self._wake:
            if self._closing:
                return
            picture = _Picture(time.monotonic(), frame, changed)
            if self._typing:
                if time.monotonic() - min(self._typing.values()) < _LONGEST_TYPING:
                    # Key by key nobody needs to see: it would only tell the rhythm of a password.
                    self._held = _joined(self._held, picture)
                    return
                self._typing.clear()
            self._enqueue(picture)

    def note(self, record: events.Record) -> None:
        """Take a record of the event stream: a subscriber of `EventLog`. Most are none of its business."""
        kind, name = record.get("type"), str(record.get("name"))
        if kind == "end":
            if name == "type":
                self._typed(str(record.get("id")))
            return
        wanted = _STEPS.get(name) if kind == "start" else _EVENTS.get(name) if kind == "event" else None
        if wanted is None:
            return
        attributes = record.get("attributes") or {}
        data = {key: _short(attributes[key]) for key in wanted if attributes.get(key) is not None}
        with self._wake:
            if self._closing:
                return
            if name == "type":
                self._typing[str(record.get("id"))] = time.monotonic()
            if len(self._queue) >= _MOST_QUEUED:
                self.lost["marks"] += 1
                return
            self._queue.append(_Note(time.monotonic(), name, data))
            self._wake.notify_all()

    def close(self, deadline: Deadline | None = None) -> None:
        """Write what is queued and end. Can be called twice; never raises."""
        for stop in self._unsubscribe:
            with contextlib.suppress(Exception):
                stop()
        self._unsubscribe.clear()
        with self._wake:
            if self._held is not None:
                self._enqueue(replace(self._held, boxes=_around(self._held.boxes)))
                self._held = None
            self._closing = True
            self._wake.notify_all()
        self._thread.join((deadline or Deadline.after(_CLOSE_SECONDS)).remaining)
        if self._thread.is_alive():
            self._log.event("degraded", what="the screen's recording was cut short", reason="its writer did not end")

    def _typed(self, step: str) -> None:
        with self._wake:
            self._typing.pop(step, None)
            if not self._typing and self._held is not None and not self._closing:
                self._enqueue(replace(self._held, boxes=_around(self._held.boxes)))
                self._held = None

    def _enqueue(self, picture: _Picture) -> None:
        """Called with the lock held."""
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _Picture):
            self._queue[-1] = _joined(last, picture)
            self.lost["coalesced"] += 1
        elif sum(isinstance(one, _Picture) for one in self._queue) >= _MOST_QUEUED_FRAMES:
            # A frame is large: the newest of those that wait gives way, though there are marks between.
            place = max(place for place, one in enumerate(self._queue) if isinstance(one, _Picture))
            waiting = self._queue[place]
            assert isinstance(waiting, _Picture)
            del self._queue[place]
            self._queue.append(_joined(waiting, picture))
            self.lost["coalesced"] += 1
        else:
            self._queue.append(picture)
        self._wake.notify_all()

    # --- the writer

    def _run(self) -> None:
        _give_way()
        failed = ""
        while True:
            item = self._next()
            if item is None:
                break
            began = time.thread_time()
            try:
                if isinstance(item, _Picture):
                    self._write_picture(item)
                else:
                    self._write_mark(item)
                self._bound()
            except Exception as error:  # noqa: BLE001 - a recording never breaks a run; it goes on with the next frame
                self.lost["failed"] += 1
                if isinstance(item, _Picture):
                    self._pixels = None  # what had changed in it is to be found again: the next one is kept as a whole
                text = f"{type(error).__name__}: {error}"
                if text != failed:
                    failed = text
                    self._log.event("degraded", what="a frame of the recording was lost", reason=text)
                self.pace = min(_MOST_PACE, max(self.pace, PACE) * 2)
            self._cpu += time.thread_time() - began
        self._finish()

    def _next(self) -> _Picture | _Note | None:
        with self._wake:
            while True:
                if self._queue:
                    first = self._queue[0]
                    due = first.at + self._lag
                    if len(self._queue) == 1 and isinstance(first, _Picture):
                        due = max(due, self._last_written + self.pace)
                    wait = due - time.monotonic()
                    if wait <= 0 or self._closing:
                        return self._queue.popleft()
                    self._wake.wait(wait)
                elif self._closing:
                    return None
                else:
                    self._wake.wait()

    def _write_picture(self, item: _Picture) -> None:
        pixels = item.frame.pixels
        width, height = item.frame.size
        before = self._pixels
        whole = before is None or before.shape != pixels.shape
        names: dict[int, str] = {}
        boxes = [item.frame.box] if whole or item.boxes is None else list(item.boxes)
        for number in _tiles_under(boxes, width, height):
            part = _tile(pixels, number)
            if not whole and before is not None and np.array_equal(part, _tile(before, number)):
                continue
            name = self._store(part)
            if whole or self._shown.get(number) != name:
                names[number] = name
        self._last_written = time.monotonic()
        if not names:
            self._pixels = pixels
            return
        record = FrameRecord(
            n=self._number + 1,
            t=round(max(0.0, item.frame.time - self._started), 4),
            time=_utc(item.frame.time),
            serial=item.frame.serial,
            size=(width, height),
            boxes=[(box.x0, box.y0, box.x1, box.y1) for box in boxes[:MOST_BOXES]],
            tiles={str(number): name for number, name in names.items()},
            whole=whole,
        )
        self._append(encode(record))
        self._number += 1
        self._records.append(record)
        self._shown = names if whole else {**self._shown, **names}
        self._pixels = pixels
        if self._anchor_next:
            self._anchors[record.n] = self._anchor_next
            self._anchor_next = 0

    def _write_mark(self, item: _Note) -> None:
        if self._marks >= _MOST_MARKS:
            self.lost["marks"] += 1
            return
        record = MarkRecord(
            n=self._number + 1,
            t=round(max(0.0, item.at - self._started), 4),
            time=_utc(item.at),
            what=item.what,
            data=item.data,
        )
        self._append(encode(record))
        self._number += 1
        self._marks += 1
        self._records.append(record)
        weight = ANCHORS.get(item.what, 0)
        if weight:
            shown = next((one.n for one in reversed(self._records) if isinstance(one, FrameRecord)), None)
            if shown is not None:
                self._anchors[shown] = max(weight, self._anchors.get(shown, 0))
            self._anchor_next = max(self._anchor_next, weight - 1)  # what a click did is worth as much as a sighting

    def _store(self, part: Pixels) -> str:
        """Keep a tile's pixels unless they are there already; returns their name."""
        import cv2

        part = np.ascontiguousarray(part)
        name = tile_name(part)
        if name in self._sizes:
            return name
        done, data = cv2.imencode(".png", np.ascontiguousarray(part[:, :, ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not done:
            raise OSError("a tile could not be encoded as PNG")
        path = self.folder / TILES / f"{name}.png"
        try:
            path.write_bytes(data.tobytes())
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._sizes[name] = int(data.size)
        self._bytes += int(data.size)
        return name

    def _append(self, line: bytes) -> None:
        if self._torn:  # a line that was cut must not swallow this one
            line = b"\n" + line
        self._torn = True
        if self._file.write(line) != len(line):
            raise OSError("the disk took only a part of a line")
        self._torn = False
        self._line_bytes += len(line)

    def _bound(self) -> None:
        if self._bytes + self._line_bytes <= self.most_bytes:
            return
        frames = sum(isinstance(one, FrameRecord) for one in self._records)
        before = self._bytes + self._line_bytes
        self._records, self._anchors = thin(
            self._records, self._anchors, lambda kept: self._weight(kept) <= self.most_bytes * 7 // 10
        )
        self._replace()
        left = sum(isinstance(one, FrameRecord) for one in self._records)
        self._thinned += frames - left
        self._log.event(
            "recording-thinned",
            reason=f"it reached its bound of {self.most_bytes / 1e6:.0f} MB",
            frames=left,
            dropped=frames - left,
            freed=before - self._bytes - self._line_bytes,
        )
        if (
            self._bytes + self._line_bytes > self.most_bytes * 9 // 10
        ):  # hardly any room was made: fewer frames from now on
            self.pace = min(_MOST_PACE, max(self.pace, PACE) * 2)

    def _weight(self, kept: list[FrameRecord | MarkRecord]) -> int:
        used = {name for one in kept if isinstance(one, FrameRecord) for name in one.tiles.values()}
        return sum(self._sizes.get(name, 0) for name in used | set(self._shown.values())) + self._line_bytes // 2

    def _replace(self) -> None:
        """Write the thinned timeline as a whole, then remove the tiles that nothing names any more."""
        path = self.folder / TIMELINE
        scratch = path.with_name(f".{TIMELINE}.new")
        data = b"".join([encode(self._header), *(encode(record) for record in self._records)])
        try:
            scratch.write_bytes(data)
            file = scratch.open("ab", buffering=0)
            scratch.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                scratch.unlink()
            raise
        self._file.close()
        self._file, self._line_bytes, self._torn = file, len(data), False
        used = {name for one in self._records if isinstance(one, FrameRecord) for name in one.tiles.values()}
        for name in set(self._sizes) - used - set(self._shown.values()):
            with contextlib.suppress(OSError):
                (self.folder / TILES / f"{name}.png").unlink()
            self._bytes -= self._sizes.pop(name)

    def _finish(self) -> None:
        frames = sum(isinstance(one, FrameRecord) for one in self._records)
        data = {
            "frames": frames,
            "marks": self._marks,
            "bytes": self._bytes + self._line_bytes,
            "thinned": self._thinned,
            "cpu_seconds": round(self._cpu, 3),
            **dict(self.lost),
        }
        now = time.monotonic() - self._started
        with contextlib.suppress(OSError):
            self._append(encode(EndRecord(n=self._number + 1, t=round(now, 4), time=_utc(), data=data)))
        with contextlib.suppress(OSError):
            self._file.close()
        self._log.event("screen-recorded", folder=str(self.folder), **data)


def _joined(one: _Picture | None, later: _Picture) -> _Picture:
    """The later of two pictures, changed where both were."""
    if one is None:
        return later
    if one.boxes is None or later.boxes is None or one.frame.size != later.frame.size:
        return _Picture(one.at, later.frame, None)
    boxes = tuple(dict.fromkeys((*one.boxes, *later.boxes)))
    return _Picture(one.at, later.frame, boxes if len(boxes) <= 4 * MOST_BOXES else None)


def _around(boxes: tuple[Box, ...] | None) -> tuple[Box, ...] | None:
    """One box instead of one for each key that was struck."""
    return (functools.reduce(Box.union, boxes),) if boxes else boxes


def _tiles_under(boxes: list[Box], width: int, height: int) -> list[int]:
    columns, rows = -(-width // TILE), -(-height // TILE)
    found: set[int] = set()
    for box in boxes:
        if box.x1 <= box.x0 or box.y1 <= box.y0:
            continue
        xs = range(max(0, box.x0 // TILE), min(columns, -(-box.x1 // TILE)))
        ys = range(max(0, box.y0 // TILE), min(rows, -(-box.y1 // TILE)))
        found.update(y * columns + x for y in ys for x in xs)
    return sorted(found)


def _tile(pixels: Pixels, number: int) -> Pixels:
    y, x = divmod(number, -(-pixels.shape[1] // TILE))
    return pixels[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE]


def _short(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _TEXT else value[: _TEXT - 1] + "…"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple) and depth < 2:
        return [_short(item, depth + 1) for item in value[:24]]
    return str(value)[:_TEXT]


def _utc(at: float | None = None) -> str:
    """The time of day now, or at a moment of the monotonic clock that was a short while ago."""
    ago = 0.0 if at is None else max(0.0, time.monotonic() - at)
    return (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(timespec="milliseconds")


def _give_way() -> None:
    """On Linux a thread has a niceness of its own: those who look for the prompt go first."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
