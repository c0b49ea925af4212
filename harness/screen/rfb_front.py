"""The picture that the harness looks at: whole updates only, shared between the thread that draws and those that look."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness import events
from harness.screen.frames import Box, Frame, Pixels, Watcher

_REMEMBERED = 256
"""Changed boxes that are remembered for `touched`."""
_ROWS = 64
"""Rows compared at a time: a server that sends everything again has not changed everything."""


class Front:
    """The newest picture. Half an update is never seen: one that breaks off in the middle leaves it as it was.

    Memory: 3 bytes a pixel, and as much again for the frame handed out last.

    Attributes:
        news: Notified at each change; its lock guards everything here.
        serial: Counts the changes.
        time: On the monotonic clock, when the server sent pixels last; 0 before.
    """

    def __init__(self, log: events.EventLog) -> None:
        self.news = threading.Condition()
        self.serial = 0
        self.time = 0.0
        self._log = log
        self._pixels: Pixels | None = None
        self._frame: Frame | None = None
        self._recent: list[tuple[int, Box]] = []
        self._watchers: list[Watcher] = []

    @property
    def there(self) -> bool:
        """Whether there has been a picture."""
        return self._pixels is not None

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height); None before the first picture."""
        pixels = self._pixels
        return (pixels.shape[1], pixels.shape[0]) if pixels is not None else None

    @property
    def watched(self) -> bool:
        """Whether somebody subscribed."""
        return bool(self._watchers)

    def frame(self) -> Frame | None:
        """The newest frame: copied once per change, and not at all while nothing changes."""
        with self.news:
            if self._frame is None and self._pixels is not None:
                pixels = self._pixels.copy()
                pixels.setflags(write=False)
                self._frame = Frame(pixels, self.serial, self.time)
            return self._frame

    def touched(self, since: int, region: Box) -> bool:
        """Whether something in `region` has changed after the frame numbered `since`."""
        with self.news:
            return any(serial > since and box.overlaps(region) for serial, box in self._recent)

    def subscribe(self, callback: Watcher) -> Callable[[], None]:
        """See `VncScreen.subscribe`."""
        with self.news:
            self._watchers.append(callback)

        def stop() -> None:
            with self.news, contextlib.suppress(ValueError):
                self._watchers.remove(callback)

        return stop

    def apply(self, back: NDArray[np.uint8], regions: Sequence[Box]) -> bool:
        """Bring the drawn parts of `back` (blue, green, red, unused) to the front; True when a pixel differs from before."""
        with self.news:
            if self._pixels is None or self._pixels.shape[:2] != back.shape[:2]:
                if not regions:
                    return True  # only a new size: its pixels come with the next update
                self._pixels = None  # the old one goes before the new one comes
                self._pixels = _converted(back)
                changed = [Box(0, 0, back.shape[1], back.shape[0])]
            else:
                changed = [part for box in regions for part in _copy_changes(back, self._pixels, box)]
            if regions:
                self.time = time.monotonic()
            if changed:
                self.serial += 1
                self._frame = None
                self._recent = [*self._recent, *((self.serial, box) for box in changed)][-_REMEMBERED:]
            watchers = tuple(self._watchers) if changed else ()
            frame = self.frame() if watchers else None
            self.news.notify_all()
        if frame is not None:
            for watcher in watchers:
                self._tell(watcher, frame, tuple(changed))
        return bool(changed)

    def _tell(self, watcher: Watcher, frame: Frame, changed: tuple[Box, ...]) -> None:
        try:
            watcher(frame, changed)
        except Exception as error:  # noqa: BLE001 - a recorder never breaks a run
            with self.news, contextlib.suppress(ValueError):
                self._watchers.remove(watcher)
            self._log.event("subscriber-dropped", subscriber=repr(watcher), error=f"{type(error).__name__}: {error}")


def _converted(back: NDArray[np.uint8]) -> Pixels:
    import cv2

    return np.asarray(cv2.cvtColor(back, cv2.COLOR_BGRA2RGB), np.uint8)


def _copy_changes(back: NDArray[np.uint8], front: Pixels, box: Box) -> list[Box]:
    """Copy a box band by band; the parts that were different."""
    changed: list[Box] = []
    for top in range(box.y0, box.y1, _ROWS):
        bottom = min(top + _ROWS, box.y1)
        new = _converted(back[top:bottom, box.x0 : box.x1])
        old = front[top:bottom, box.x0 : box.x1]
        if np.array_equal(new, old):
            continue
        old[:] = new
        if changed and changed[-1].y1 == top:
            changed[-1] = changed[-1]._replace(y1=bottom)
        else:
            changed.append(Box(box.x0, top, box.x1, bottom))
    return changed
