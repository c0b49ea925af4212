"""The picture that the harness looks at: whole updates only, shared between the thread that draws and those that look."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import events
from harness.screen.frames import Box, Frame, Pixels, Watcher
from harness.screen.rfb_encodings import around

_REMEMBERED = 256
"""Changed boxes that are remembered for `touched`."""
_MOST_STALE = 64
"""Places that a spare picture lacks, told one by one; more become one."""


class _Memory:
    """The memory of one picture, and whether somebody still looks into it.

    What is handed out is an array made from a lease, an object of its own. numpy holds on to it from each array and each view of it, and
    from whatever reads those (the array interface's rule: who gave the memory is kept as long as it is used). So the memory is free once the
    lease is gone, which is asked by a weak reference: nothing counts references, and an interpreter that is late to let go only costs memory.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self._leases: list[weakref.ref[_Lease]] = []

    @property
    def lent(self) -> bool:
        """Whether a view of it is still alive."""
        self._leases = [lease for lease in self._leases if lease() is not None]
        return bool(self._leases)

    def lend(self) -> Pixels:
        """All of it, read-only, whatever is done to the flags."""
        lease = _Lease(self.pixels)
        self._leases.append(weakref.ref(lease))
        return np.asarray(lease)


class _Lease:
    """See `_Memory`."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        shown = dict(pixels.__array_interface__)
        shown["data"] = (shown["data"][0], True)
        self.__array_interface__: dict[str, Any] = shown


class Front:
    """The newest picture. Half an update is never seen: one that breaks off in the middle leaves it as it was.

    Frames are handed out without a copy, and stay as they are: what comes next is drawn into the same memory only if nobody
    holds a frame of it any more, else into that of an older frame that has been let go, where only what has changed since is
    drawn. Memory: 3 bytes a pixel, as much again for the spare, and for each frame that somebody keeps.

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
        self._memory: _Memory | None = None
        self._spare: _Memory | None = None
        self._stale: list[Box] = []
        self._frame: Frame | None = None
        self._recent: list[tuple[int, Box]] = []
        self._watchers: list[Watcher] = []

    @property
    def there(self) -> bool:
        """Whether there has been a picture."""
        return self._memory is not None

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height); None before the first picture."""
        pixels = self.picture
        return (pixels.shape[1], pixels.shape[0]) if pixels is not None else None

    @property
    def watched(self) -> bool:
        """Whether somebody subscribed."""
        return bool(self._watchers)

    @property
    def picture(self) -> Pixels | None:
        """The newest pixels, to be read at once and only by the thread that draws; None before the first picture."""
        memory = self._memory
        return memory.pixels if memory is not None else None

    def frame(self) -> Frame | None:
        """The newest frame; the same one while nothing changes."""
        with self.news:
            if self._frame is None and self._memory is not None:
                self._frame = Frame(self._memory.lend(), self.serial, self.time)
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

    def apply(self, back: NDArray[np.uint8], regions: Sequence[Box], changed: Sequence[Box]) -> bool:
        """Bring an update of `back` (blue, green, red, unused) to the front; True when a pixel differs from before
        (or was changed and changed back by rectangles of the same update).

        Args:
            back: The server's screen, all of it. Apart from `changed` it is what it was the last time.
            regions: What the server has sent.
            changed: What of it is not as before.
        """
        with self.news:
            if self._memory is None or self._memory.pixels.shape[:2] != back.shape[:2]:
                if not regions:
                    return True  # only a new size: its pixels come with the next update
                self._memory = self._spare = self._frame = None  # the old one goes before the new one comes
                self._stale = []
                self._memory = _Memory(_converted(back))
                changed = [Box(0, 0, back.shape[1], back.shape[0])]
            elif changed:
                self._draw(back, changed)
            if regions:
                self.time = time.monotonic()
            if changed:
                self.serial += 1
                self._recent = [*self._recent, *((self.serial, box) for box in changed)][-_REMEMBERED:]
            watchers = tuple(self._watchers) if changed else ()
            frame = self.frame() if watchers else None
            self.news.notify_all()
        if frame is not None:
            for watcher in watchers:
                self._tell(watcher, frame, tuple(changed))
        return bool(changed)

    def _draw(self, back: NDArray[np.uint8], changed: Sequence[Box]) -> None:
        self._frame = None
        if self._memory is not None and not self._memory.lent:
            for box in changed:
                _convert(back, self._memory.pixels, box)
            self._stale += changed
        else:
            whole = Box(0, 0, back.shape[1], back.shape[0])
            boxes = [*changed, *self._stale]
            if self._spare is None or self._spare.lent:
                self._spare = _Memory(np.empty((whole.height, whole.width, 3), np.uint8))
                boxes = [whole]
            elif sum(box.area for box in boxes) > whole.area:
                boxes = [whole]
            for box in boxes:
                _convert(back, self._spare.pixels, box)
            self._memory, self._spare = self._spare, self._memory
            self._stale = list(changed)
        if len(self._stale) > _MOST_STALE:
            self._stale = [around(self._stale)]

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


def _convert(back: NDArray[np.uint8], front: Pixels, box: Box) -> None:
    import cv2

    area = np.s_[box.y0 : box.y1, box.x0 : box.x1]
    cv2.cvtColor(back[area], cv2.COLOR_BGRA2RGB, dst=front[area])
