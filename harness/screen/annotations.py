"""What to draw over a recorded picture: the window that was recognised, its buttons, what was clicked; and how to say it.

Made from the marks of a timeline, which may be anybody's: whatever does not fit is left out.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Literal, NamedTuple

from harness.screen.frames import Box
from harness.screen.timeline import MOST_SIDE, FrameRecord, MarkRecord

Kind = Literal["window", "button", "advice", "click"]
ACT_SECONDS = 0.7
"""A click stays in sight for so long at least, in the recording's time."""
_GONE = 0.3
"""A window has gone when so much of it has changed."""
_MOST_SHAPES = 24
_TEXT = 80


class Shape(NamedTuple):
    """Something to draw, in pixels of the picture; a click is a point: its box is empty."""

    kind: Kind
    box: Box
    text: str = ""


class Annotator:
    """Fed with a recording's records in order, knows what holds after each."""

    def __init__(self) -> None:
        self._seen: tuple[Shape, ...] = ()
        self._done: tuple[Shape, ...] = ()
        self._done_at = 0.0

    def feed(self, record: FrameRecord | MarkRecord) -> tuple[Shape, ...]:
        """What is to be drawn after `record`."""
        if self._done and record.t - self._done_at > ACT_SECONDS:
            self._done = ()
        if isinstance(record, FrameRecord):
            if record.whole or (self._seen and _covered(self._seen[0].box, record.boxes) > _GONE):
                self._seen = ()
        elif record.what == "sighting":
            self._seen = _sighting(record.data)
        elif shapes := _act(record):
            self._done, self._done_at = shapes, record.t
        return (*self._seen, *self._done)


def said(record: MarkRecord) -> str:
    """A mark in one line, for people."""
    data = record.data
    if record.what == "sighting":
        text = f"sees {_text(data.get('window'))}"
        if data.get("app_name"):
            text += f" of {_text(data['app_name'])}"
        advice = _advice(data)
        return f"{text}, would click “{_text(advice[0])}”" if advice else text
    if record.what == "press":
        text = f"presses “{_text(data.get('button'))}” in {_text(data.get('window'))}"
        attempt, channel = data.get("attempt"), data.get("channel")
        text += f", attempt {attempt}" if isinstance(attempt, int) and attempt > 1 else ""
        return text + (f", by {_text(channel)}" if channel else "")
    if record.what == "click":
        return f"clicks at {_text(data.get('x'))}, {_text(data.get('y'))}"
    if record.what == "type":
        return "types"
    rest = ", ".join(f"{key} {_text(value)}" for key, value in list(data.items())[:4])
    return f"{_text(record.what)}: {rest}" if rest else _text(record.what)


def plain(text: str, most: int) -> str:
    """Text of a stranger on one line: no control characters, nothing that turns its direction, cut at `most`."""
    clean = "".join(char if unicodedata.category(char)[0] != "C" else " " for char in text[: most * 4])
    clean = " ".join(clean.split())
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def _sighting(data: dict[str, Any]) -> tuple[Shape, ...]:
    shapes: list[Shape] = []
    window = _box(data.get("box")) or _box(data.get("region"))
    if window is not None:
        name = _text(data.get("window"))
        app = f" · {_text(data['app_name'])}" if data.get("app_name") else ""
        shapes.append(Shape("window", window, name + app))
    advice = _advice(data)
    buttons = data.get("buttons")
    for button in buttons if isinstance(buttons, list) else ():
        if isinstance(button, list) and len(button) >= 6:
            place = _box(button[2:6])
            if place is not None and len(shapes) < _MOST_SHAPES:
                wanted = advice is not None and place.centre == (advice[1], advice[2])
                shapes.append(Shape("advice" if wanted else "button", place, _text(button[1])))
    if advice is not None and not any(shape.kind == "advice" for shape in shapes):
        _, x, y = advice
        shapes.append(Shape("advice", Box(x - 12, y - 8, x + 12, y + 8), _text(advice[0])))
    return tuple(shapes)


def _act(record: MarkRecord) -> tuple[Shape, ...]:
    data = record.data
    if record.what == "press":
        at = data.get("at")
        point = _point(*at[:2]) if isinstance(at, list) and len(at) >= 2 else None
        text = _text(data.get("role") or data.get("button"))
    elif record.what == "click":
        point, text = _point(data.get("x"), data.get("y")), ""
    else:
        return ()
    return (Shape("click", Box(*point, *point), text),) if point is not None else ()


def _advice(data: dict[str, Any]) -> tuple[str, int, int] | None:
    advice = data.get("advice")
    if not isinstance(advice, list) or len(advice) < 3:
        return None
    point = _point(advice[1], advice[2])
    return (str(advice[0]), *point) if point is not None else None


def _point(x: Any, y: Any) -> tuple[int, int] | None:
    if type(x) is not int or type(y) is not int or not (0 <= x <= MOST_SIDE and 0 <= y <= MOST_SIDE):
        return None
    return x, y


def _box(value: Any) -> Box | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    start, end = _point(value[0], value[1]), _point(value[2], value[3])
    return Box(*start, *end) if start and end and start[0] < end[0] and start[1] < end[1] else None


def _text(value: Any) -> str:
    return plain(value if isinstance(value, str) else str(value), _TEXT)


def _covered(box: Box, changed: list[tuple[int, int, int, int]]) -> float:
    """How much of `box` lies under the changed boxes; where they overlap each other, too much."""
    area = box.area
    total = 0
    for x0, y0, x1, y1 in changed:
        width, height = min(box.x1, x1) - max(box.x0, x0), min(box.y1, y1) - max(box.y0, y0)
        total += max(0, width) * max(0, height)
    return total / area if area else 0.0
