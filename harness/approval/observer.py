"""Looking: which window is in front now, found by the cheapest rung that answers; every rung, its score and cost are events.

The ladder: where the frame has changed → a needle there (a prompt answered before is known by its pixels) → the screen settles →
text is read where it has changed → all of it is read. `look` takes a frame as it is; `watch` also waits for it to settle.
"""

from __future__ import annotations

import contextvars
import dataclasses
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from harness import events
from harness.approval.past import LISTS, LOCKED, NAMED, Page
from harness.screen import Box, Catalog, Frame, Reader, Screen, Sighting, changed_regions, is_black, recognise, save_png
from harness.screen.needles import Found, Needles, why_not
from harness.waiting import Deadline

_UNKNOWN = ("other", "other-alert")
_MOST_PICTURES = 400
CONFIRM = 0.05
"""Seconds for which a needle must stay where it was found, if that is not where it was learned, pixel by pixel: a window that
is still moving or fading in is not clicked."""
CALM = 0.08
"""Seconds without a change after which text is read: reading costs more than that, and a window half faded in reads badly."""
RESTLESS = 0.6
"""Seconds after which it is read all the same, calm or not."""
_RESTARTS = 20
_REMEMBERED = 8


class Observer:
    """Eyes on one screen, for one app.

    Args:
        folder: Pictures of the key steps go there.
        needles: Prompts that were answered before; None: every window is read.
        other_names: What macOS may list the extension under instead of the app's name (its developer).
        ours: Whether a sighting is about our app; what is not is looked past: another app's alert beside or before ours.
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
        needles: Needles | None = None,
        other_names: Sequence[str] = (),
        ours: Callable[[Sighting], bool] = lambda _: True,
    ) -> None:
        self.screen = screen
        self.reader = reader
        self.app_name = app_name
        self.kind = extension_kind.replace(" ", "-")
        self.folder = folder
        self.catalog = catalog
        self.needles = needles
        self.other_names = tuple(other_names)
        self.ours = ours
        self.foreign: Sighting | None = None
        """Another app's prompt that was on the last frame that was read."""
        self._pictures: list[Path] = []
        self._names: set[Path] = set()
        self._writing: list[tuple[Path, str, Future[bool]]] = []
        self._writer: ThreadPoolExecutor | None = None
        self._last: tuple[str, ...] = ()
        self._rungs: dict[str, tuple[object, ...]] = {}
        self._black = False
        self._known: deque[tuple[Sighting, Found]] = deque(maxlen=_REMEMBERED)
        self._used: list[str] = []
        self._answered: deque[Sighting] = deque(maxlen=_REMEMBERED)

    # --- looking

    def warm_up(self) -> None:
        """Read the needles, so that the first look finds them in memory."""
        if self.needles is not None:
            self.needles.load()

    def look(
        self,
        frame: Frame,
        *,
        before: Frame | None = None,
        full: bool = False,
        kinds: Collection[str] | None = None,
        ignore: Collection[str] = (),
    ) -> Sighting | None:
        """What known window is in the frame. Looked at is where it changed since `before`, then where it changed since the
        mark, then (if `full`) all of it; each first for needles. A sighting of one of `kinds` (any known one by default) ends
        the ladder; windows of `ignore` are looked past.
        """
        if self._is_black(frame):
            return None
        regions, whole = self._regions(frame, before)
        self.foreign = None
        foreign: Sighting | None = None
        for rung in dict.fromkeys(name for name, _ in regions):
            here = [(name, box) for name, box in regions if name == rung]
            seen = self._needle_or_read(frame, here, kinds, ignore, whole=False)
            if seen is not None and self.ours(seen):
                return seen
            foreign = foreign or seen
        if foreign is not None or (not whole and not full):
            return foreign
        seen = self._needle_or_read(frame, [], kinds, ignore, whole=True)
        if seen is not None and regions:
            events.event("degraded", what="a window was found only by looking at the whole screen", reason=seen.window)
        return seen

    def watch(
        self, frame: Frame, deadline: Deadline, *, kinds: Collection[str] | None = None, ignore: Collection[str] = ()
    ) -> tuple[Frame, Sighting | None]:
        """As `look`, at where the frame has changed since the mark, but a needle that was not found quite as it was
        learned must stay for a moment, and text is read once the screen is calm. Returns the frame that was looked at in the end, too.
        """
        for _ in range(_RESTARTS):
            if self._is_black(frame):
                return frame, None
            regions, whole = self._regions(frame, None)
            boxes = [box for _, box in regions]
            if not boxes and not whole:
                return frame, None
            found = self._needle(frame, boxes, kinds, ignore, whole=whole)
            if found is not None and found.settled:
                return frame, found.sighting
            if found is not None and self.needles is not None:
                later = self.screen.wait_for_change(frame, deadline.sub(CONFIRM))
                if later is None:
                    return frame, found.sighting
                if self.needles.still(found, later):
                    seen = dataclasses.replace(found.sighting, frame=later)
                    self._known.append((seen, found))
                    return later, seen
                frame = later
                continue
            started = time.monotonic()
            calm = self.screen.settle(deadline.sub(RESTLESS), quiet=CALM, region=_around(boxes))
            self._tell("settle", None, started, found=calm.serial == frame.serial)
            if calm.serial != frame.serial:
                frame = calm
                regions, whole = self._regions(frame, None)
            return frame, self._needle_or_read(frame, regions, kinds, ignore, whole=whole)
        return frame, None

    def read_all(self, frame: Frame, *, ignore: Collection[str] = ()) -> Sighting | None:
        """Read the whole frame, whatever has changed."""
        self.foreign = None
        return self._recognise(frame, frame.box, "full-frame", ignore)

    def knew(self, seen: Sighting | None) -> bool:
        """Whether a sighting was known by its pixels, not read."""
        return any(sighting is seen for sighting, _ in self._known)

    def newest(self, deadline: Deadline) -> Frame:
        """The newest frame."""
        return self.screen.frame(deadline)

    # --- learning

    def pressed(self, seen: Sighting, *, worked: bool) -> None:
        """A button of this window was clicked; whether that had an effect on the screen. Learned is it only when `proved`."""
        found = next((found for sighting, found in self._known if sighting is seen), None)
        if self.needles is None:
            return
        if found is not None:
            self._used.append(found.needle)
            if worked:
                self.needles.used(found)
            else:
                self._refuse("nothing came of a click that it led to")
        elif worked and not why_not(seen):
            self._answered.append(seen)

    def proved(self) -> None:
        """What was pressed since the last verdict led to what was wanted: those windows become needles."""
        answered, self._answered = tuple(self._answered), deque(maxlen=_REMEMBERED)
        self._used.clear()
        if self.needles is not None:
            for seen in answered:
                self.needles.learn(seen)

    def disproved(self, reason: str) -> None:
        """It did not: nothing is learned, and the needles that had a part in it are not trusted any more."""
        self._answered.clear()
        self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        used, self._used = dict.fromkeys(self._used), []
        if self.needles is not None:
            for key in used:
                self.needles.refuse(key, reason)
        self._known.clear()

    # --- pictures

    @property
    def frames(self) -> list[Path]:
        """The pictures so far, all written."""
        self._flush()
        return self._pictures

    def keep(self, frame: Frame, name: str) -> Path | None:
        """Save a frame as PNG; None if there are too many. It is written by a thread of its own, for that takes as long as
        looking does; `frames` waits for it. A disk that does not take it is an event.
        """
        self._flush()
        if len(self._names) >= _MOST_PICTURES:
            return None
        number = len(self._pictures) + 1
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40]
        path = self.folder / f"{number:03}-{slug}.png"
        while path.exists() or path in self._names:
            number += 1
            path = self.folder / f"{number:03}-{slug}.png"
        self._names.add(path)
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        context = contextvars.copy_context()
        self._writing.append((path, name, self._writer.submit(context.run, _save, frame, path)))
        return path

    def _flush(self) -> None:
        """Wait for the pictures under way, and attach them to the step that is under way now."""
        writing, self._writing = self._writing, []
        for path, name, future in writing:
            if future.result():
                self._pictures.append(path)
                events.attach(path, name, "image/png")

    # --- the rungs

    def _is_black(self, frame: Frame) -> bool:
        black = is_black(frame)
        if black and not self._black:
            events.event("black-screen", hint="display asleep, or booting")
        self._black = black
        return black

    def _regions(self, frame: Frame, before: Frame | None) -> tuple[list[tuple[str, Box]], bool]:
        """Where to look, with the rung's name; and whether all of it must be looked at."""
        started = time.monotonic()
        whole = before is None and self.screen.marked is None
        regions: list[tuple[str, Box]] = []
        for rung, base in (("changed-by-action", before), ("changed-since-mark", self.screen.marked)):
            if base is None:
                continue
            for region in changed_regions(base, frame)[:3]:
                if region.area > 0.8 * frame.size[0] * frame.size[1]:
                    whole = True
                    continue
                padded = region.padded(6, frame.size)
                if all(padded != box for _, box in regions):
                    regions.append((rung, padded))
        if regions:
            self._tell("changed-region", None, started, found=True, regions=[list(box) for _, box in regions])
        return regions, whole

    def _needle(
        self,
        frame: Frame,
        boxes: list[Box],
        kinds: Collection[str] | None,
        ignore: Collection[str],
        *,
        whole: bool,
    ) -> Found | None:
        if self.needles is None or not self.needles.load():
            return None
        started = time.monotonic()
        found = self.needles.find(frame, [*boxes, frame.box] if whole else boxes, kinds=kinds, ignore=ignore)
        self._tell("needle", found.score if found else None, started, found=found.sighting.window if found else None)
        if found is None:
            return None
        self._known.append((found.sighting, found))
        mark = (found.sighting.window, found.needle)
        if mark != self._last:
            self._last = mark
            events.event(
                "needle-used",
                window=found.sighting.window,
                needle=found.needle,
                place=list(found.place),
                score=round(found.score, 4),
            )
            self._sighted(found.sighting, "needle", found.place, started)
        return found

    def _needle_or_read(
        self,
        frame: Frame,
        regions: list[tuple[str, Box]],
        kinds: Collection[str] | None,
        ignore: Collection[str],
        *,
        whole: bool,
    ) -> Sighting | None:
        found = self._needle(frame, [box for _, box in regions], kinds, ignore, whole=whole)
        if found is not None:
            return found.sighting
        foreign: Sighting | None = None
        for rung, region in [*regions, ("full-frame", frame.box)] if whole else regions:
            seen = self._recognise(frame, region, rung, ignore)
            if seen is not None and (kinds is None or seen.window in kinds):
                if self.ours(seen):
                    return seen
                foreign = foreign or seen
        return foreign

    def _recognise(self, frame: Frame, region: Box, rung: str, ignore: Collection[str]) -> Sighting | None:
        started = time.monotonic()
        page = Page(self.reader)

        def read(reader: Reader, where: Box = region) -> Sighting:
            """By the app's name; a list that does not have it, by the other names."""
            first: Sighting | None = None
            for name in (self.app_name, *self.other_names):
                seen = recognise(
                    frame, reader, self.catalog, where, app_name=name, extension_kind=self.kind, ignore=ignore
                )
                if seen.window not in LISTS or seen.advice is not None:
                    return first if first is not None and seen.window != first.window else seen
                first = first or seen
            assert first is not None
            return first

        seen = read(page)
        if seen.window in NAMED and seen.app_name is None:  # what has changed may end in the middle of a window
            seen = read(page, region.padded(max(seen.box.width, seen.box.height), frame.size))
        if (
            seen.window == LOCKED and seen.button("lock") is None
        ):  # whether "Allow" is dead is told by the lock, at its bottom
            seen = read(page, frame.box)
        if seen.window not in _UNKNOWN and not self.ours(seen):  # ours may stand beside it, or peep out from under it
            self.foreign = seen
            past = read(page.without(seen.box))
            seen = past if past.window not in _UNKNOWN and self.ours(past) else seen
        self._tell(rung, seen.confidence, started, found=None if seen.window in _UNKNOWN else seen.window)
        mark = (seen.window, seen.app_name or "", seen.text, rung)
        if mark != self._last:
            self._last = mark
            self._sighted(seen, rung, region, started)
        return None if seen.window in _UNKNOWN else seen

    def _sighted(self, seen: Sighting, rung: str, region: Box, started: float) -> None:
        events.event(
            "sighting",
            window=seen.window,
            app_name=seen.app_name,
            text=seen.text,
            rung=rung,
            region=list(region),
            box=list(seen.box),
            buttons=[[button.text, button.role, *button.box] for button in seen.buttons[:16]],
            cost=round(time.monotonic() - started, 3),
            why=seen.why,
            advice=[seen.advice.text, *seen.advice.centre] if seen.advice else None,
            confidence=round(seen.confidence, 2),
        )

    def _tell(self, rung: str, score: float | None, started: float, *, found: object, **more: object) -> None:
        """One rung of the ladder, with what it cost; the same again and again is told once."""
        mark = (found, str(more))
        if self._rungs.get(rung) == mark:
            return
        self._rungs[rung] = mark
        events.event(
            "rung",
            rung=rung,
            score=None if score is None else round(score, 4),
            seconds=round(time.monotonic() - started, 4),
            found=found,
            **more,
        )


def _around(boxes: list[Box]) -> Box | None:
    if not boxes:
        return None
    result = boxes[0]
    for box in boxes[1:]:
        result = result.union(box)
    return result


def _save(frame: Frame, path: Path) -> bool:
    try:
        save_png(frame.pixels, path)
    except OSError as error:
        events.event("degraded", what="a frame could not be saved", reason=str(error))
        return False
    return True
