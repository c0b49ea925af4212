"""Making a timeline shorter: fewer frames, evenly over the time, and every picture that is left as it was."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from harness.screen.timeline import FrameRecord, MarkRecord

MOST_BOXES = 32


def thin(
    records: list[FrameRecord | MarkRecord],
    anchors: Mapping[int, int],
    enough: Callable[[list[FrameRecord | MarkRecord]], bool],
) -> tuple[list[FrameRecord | MarkRecord], dict[int, int]]:
    """Leave out frames until it is enough, evenly over the time: always the one whose going leaves the smallest gap. The first and the last stay; those of `anchors` (record number → weight) go after all
    others, the lightest first. What a frame had changed goes to the next one. Returns the rest, and the anchors left.
    """
    kept = list(records)
    for weight in (0, 1, 2):
        while not enough(kept):
            fewer = _fewer(kept, anchors, weight)
            if fewer is None:
                break
            kept = fewer
    left = {one.n for one in kept}
    return kept, {number: weight for number, weight in anchors.items() if number in left}


def _fewer(
    kept: list[FrameRecord | MarkRecord], anchors: Mapping[int, int], weight: int
) -> list[FrameRecord | MarkRecord] | None:
    """Without an eighth of the frames that may go; None if none may."""
    frames = [one for one in kept if isinstance(one, FrameRecord)]
    free = {number for number in range(1, len(frames) - 1) if anchors.get(frames[number].n, 0) <= weight}
    if not free:
        return None
    before, after = list(range(-1, len(frames) - 1)), list(range(1, len(frames) + 1))

    def gap(number: int) -> float:
        return frames[after[number]].t - frames[before[number]].t

    heap = [(gap(number), number) for number in free]
    heapq.heapify(heap)
    gone: set[int] = set()
    for _ in range(max(1, len(free) // 8)):
        while True:
            weighed, number = heapq.heappop(heap)
            if frames[number].n not in gone and weighed == gap(number):
                break
        gone.add(frames[number].n)
        earlier, later = before[number], after[number]
        after[earlier], before[later] = later, earlier
        for neighbour in (earlier, later):
            if neighbour in free and frames[neighbour].n not in gone:
                heapq.heappush(heap, (gap(neighbour), neighbour))
    fewer: list[FrameRecord | MarkRecord] = []
    pending: FrameRecord | None = None
    for one in kept:
        if isinstance(one, FrameRecord):
            whole = one if pending is None else _merged(pending, one)
            pending = whole if one.n in gone else None
            if pending is None:
                fewer.append(whole)
        else:
            fewer.append(one)
    return fewer


def _merged(one: FrameRecord, later: FrameRecord) -> FrameRecord:
    if later.whole:
        return later
    boxes = [*later.boxes, *one.boxes][:MOST_BOXES]
    return FrameRecord(
        n=later.n,
        t=later.t,
        time=later.time,
        serial=later.serial,
        size=later.size,
        boxes=boxes,
        tiles={**one.tiles, **later.tiles},
        whole=one.whole,
    )
