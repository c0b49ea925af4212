"""Looking: which window is in front now, found by the cheapest rung that answers; every look is an event and a picture."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from pathlib import Path

from harness import events
from harness.screen import Box, Catalog, Frame, Reader, Screen, Sighting, changed_regions, is_black, recognise, save_png
from harness.waiting import Deadline

_UNKNOWN = ("other", "other-alert")
_MOST_PICTURES = 400


class Observer:
    """Eyes on one screen, for one app.

    Args:
        folder: Pictures of the key steps go there.
    """

    def __init__(
        self,
        *,
        screen: Screen,
        reader: Reader,
        app_name: str,
        extension_kind: str,
        folder: Path,
        catalog: Catalog | None = None,
    ) -> None:
        self.screen = screen
        self.reader = reader
        self.app_name = app_name
        self.kind = extension_kind.replace(" ", "-")
        self.folder = folder
        self.catalog = catalog
        self.frames: list[Path] = []
        self._last: tuple[str, ...] = ()
        self._black = False

    def look(
        self,
        frame: Frame,
        *,
        before: Frame | None = None,
        full: bool = False,
        kinds: Collection[str] | None = None,
        ignore: Collection[str] = (),
    ) -> Sighting | None:
        """What known window is in the frame. Rungs: where it changed since `before`, where it changed since the mark, and
        (if `full`) all of it. A sighting of one of `kinds` (any known one by default) ends the ladder; windows of `ignore`
        are looked past.
        """
        if is_black(frame):
            if not self._black:
                events.event("black-screen", hint="display asleep, or booting")
            self._black = True
            return None
        self._black = False
        tried: list[Box] = []
        whole = full or (before is None and self.screen.marked is None)
        for rung, base in (("changed-by-action", before), ("changed-since-mark", self.screen.marked)):
            if base is None:
                continue
            for region in changed_regions(base, frame)[:3]:
                if region.width * region.height > 0.8 * frame.size[0] * frame.size[1]:
                    whole = True
                    continue
                padded = region.padded(6, frame.size)
                if padded in tried:
                    continue
                tried.append(padded)
                seen = self._recognise(frame, padded, rung, ignore)
                if seen is not None and (kinds is None or seen.window in kinds):
                    return seen
        if whole:
            seen = self._recognise(frame, frame.box, "full-frame", ignore)
            if seen is not None and (kinds is None or seen.window in kinds):
                return seen
        return None

    def keep(self, frame: Frame, name: str) -> Path | None:
        """Save a frame as PNG; None if there are too many or the disk does not take it (an event says so)."""
        if len(self.frames) >= _MOST_PICTURES:
            return None
        number = len(self.frames) + 1
        path = self.folder / f"{number:03}-{re.sub(r'[^a-z0-9]+', '-', name.lower())[:40]}.png"
        while path.exists():
            number += 1
            path = self.folder / f"{number:03}-{re.sub(r'[^a-z0-9]+', '-', name.lower())[:40]}.png"
        try:
            save_png(frame.pixels, path)
        except OSError as error:
            events.event("degraded", what="a frame could not be saved", reason=str(error))
            return None
        self.frames.append(path)
        events.attach(path, name, "image/png")
        return path

    def newest(self, deadline: Deadline) -> Frame:
        """The newest frame."""
        return self.screen.frame(deadline)

    def _recognise(self, frame: Frame, region: Box, rung: str, ignore: Collection[str]) -> Sighting | None:
        started = time.monotonic()
        seen = recognise(
            frame,
            self.reader,
            self.catalog,
            region,
            app_name=self.app_name,
            extension_kind=self.kind,
            ignore=ignore,
        )
        mark = (seen.window, seen.app_name or "", seen.text, rung)
        if mark != self._last:
            self._last = mark
            events.event(
                "sighting",
                window=seen.window,
                app_name=seen.app_name,
                text=seen.text,
                rung=rung,
                region=list(region),
                cost=round(time.monotonic() - started, 3),
                why=seen.why,
                advice=[seen.advice.text, *seen.advice.centre] if seen.advice else None,
                confidence=round(seen.confidence, 2),
            )
        return None if seen.window in _UNKNOWN else seen
