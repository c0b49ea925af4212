"""Typing the administrator's password: only into a field that was seen to have the keyboard's focus, and hides what is typed.

Focus is seen as a ring of the accent colour around the field, as what a click into it has changed there, or as a caret that
blinks. Then one character is typed and must show up as a bullet before the others follow; if the window goes meanwhile, nothing
more is typed, for the keys would go to whatever stands behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness import events
from harness.screen import Box, Frame, Screen, Sighting
from harness.screen.frames import Pixels, same
from harness.waiting import Deadline

_ECHO = 5.0
"""Seconds within which a typed character must show up."""
_BLINK = 1.4
"""Seconds in which a caret blinks at least once: macOS's shows for about half a second, and hides as long."""
_COLOURFUL = 60
_EDGE = 24
"""Sum of the three channel differences that a field's edge has, at least, from its inside."""
_INK = 90
"""Sum of the three channel differences from the field's background, from which a pixel belongs to a character."""


@dataclass(frozen=True)
class Typed:
    """How it went.

    Attributes:
        frame: After the last key; None if the password was not typed to its end.
        why: In words, for the report; "" if it was typed.
        focus: How the focus was seen: "ring", "click", "caret"; "" if it was not.
        gone: The window went before all was typed.
    """

    frame: Frame | None
    why: str = ""
    focus: str = ""
    gone: bool = False


class _Gone(Exception):
    pass


class PasswordTyper:
    """Types on one screen.

    Args:
        user: Typed where a sheet has an empty field for the administrator's name.
    """

    def __init__(self, screen: Screen, password: str, user: str) -> None:
        self._screen = screen
        self._password = password
        self._user = user

    def type_into(self, seen: Sighting, deadline: Deadline) -> Typed:
        """Fill in the fields of a password window. `Return` is never struck: which button confirms is seen, not assumed."""
        try:
            return self._fill_in(seen, deadline)
        except _Gone:
            return Typed(None, "the password window went before all was typed", gone=True)

    def _fill_in(self, seen: Sighting, deadline: Deadline) -> Typed:
        if seen.field is None:
            return Typed(None, "the window has no field for a password in sight")
        right = max([button.box.x1 for button in seen.buttons] + [seen.field.x1])
        with events.step("enter password", window=seen.window) as step:
            name = next((line for line in seen.lines if line.text.strip().casefold() in ("user name", "name")), None)
            if name is not None:
                inside = inside_of(seen.frame, name.box, right)
                focus = self._focus(seen, inside, name.box.centre, deadline)
                if not focus:
                    return Typed(None, "the field for the user's name was not seen to take the focus")
                before = self._screen.frame(deadline)
                self._screen.type_text(self._user)
                if self._differs(before, inside, deadline.sub(_ECHO)) is None:
                    return Typed(None, "the field for the user's name did not take the keys")
            inside = inside_of(seen.frame, seen.field, right)
            target = (seen.field.x0 + 4, (seen.field.y0 + seen.field.y1) // 2)
            focus = self._focus(seen, inside, target, deadline)
            step.note(focus=focus)
            if not focus:
                return Typed(None, "the password field was not seen to take the focus")
            typed = self._type(seen, inside, deadline)
            step.note(typed=typed.frame is not None)
        return Typed(typed.frame, typed.why, focus)

    def _focus(self, seen: Sighting, inside: Box, target: tuple[int, int], deadline: Deadline) -> str:
        """Click into a field, at most twice, until its focus is seen."""
        for _ in range(2):
            before = self._screen.frame(deadline)
            self._still_there(seen, before)
            self._screen.click(*target)
            after = self._screen.settle(deadline.sub(1.0), quiet=0.1)
            self._still_there(seen, after)
            if has_ring(after, inside):
                return "ring"
            if _thick(before, after, _around(inside)):
                return "click"
            later = after
            blink = deadline.sub(_BLINK)
            while (later := self._screen.wait_for_change(later, blink) or after) is not after:
                if _thick(after, later, inside):
                    return "caret"
        return ""

    def _type(self, seen: Sighting, inside: Box, deadline: Deadline) -> Typed:
        self._screen.chord("command", "a")
        frame = self._screen.settle(deadline.sub(0.5), quiet=0.05)
        for index, part in enumerate(_parts(self._password)):
            self._still_there(seen, frame)
            if part != self._password:
                events.SECRETS.spare(part)  # nothing is written of it; masked is the whole
            self._screen.type_text(part, secret=True)
            if index == 0:
                echo = self._differs(frame, inside, deadline.sub(_ECHO))
                if echo is None:
                    return Typed(None, "the password field did not take the keys")
                self._still_there(seen, echo)
                frame = self._screen.settle(deadline.sub(0.5), quiet=0.05)
                if not count_bullets(frame, inside):
                    self._clear()
                    return Typed(None, "the field shows what is typed: it is not one for a password")
            else:
                frame = self._screen.frame(deadline)
        wanted = 2 if len(self._password) > 1 else 1
        more = deadline.sub(_ECHO)
        frame = self._screen.settle(deadline.sub(0.5), quiet=0.05)
        while count_bullets(frame, inside) < wanted:
            later = self._screen.wait_for_change(frame, more)
            if later is None:
                self._clear()
                return Typed(None, "the password field took the first key only")
            frame = later
            self._still_there(seen, frame)
        return Typed(frame)

    def _still_there(self, seen: Sighting, now: Frame) -> None:
        if seen.title is not None and not same(now, seen.frame, seen.title):
            raise _Gone

    def _clear(self) -> None:
        self._screen.chord("command", "a")
        self._screen.key("backspace")

    def _differs(self, before: Frame, inside: Box, deadline: Deadline) -> Frame | None:
        frame = before
        while True:
            later = self._screen.wait_for_change(frame, deadline)
            if later is None:
                return None
            if not same(before, later, inside):
                return later
            frame = later


def _parts(password: str) -> list[str]:
    """The first character, then a few at a time: between them it is seen whether the window is still there."""
    return [password[:1], *(password[index : index + 4] for index in range(1, len(password), 4))]


def inside_of(frame: Frame, text: Box, right: int) -> Box:
    """The inside of a text field, without its edge, from a line of text in it (its placeholder, or a place where one would be).

    The field is as high as the colour behind the text goes up and down; where it has no edge, as a line of text needs.
    """
    height = text.height
    first = min(text.x1 + height if text.width < 6 * height else text.x1 - 2 * height, right - height // 2)
    # In three places: one of them may stand on a bullet.
    spans = [_span(frame, x, text) for x in (first, first + height // 3, first + 2 * height // 3)]
    top, bottom = max(spans, key=lambda span: span[1] - span[0])
    return Box(max(0, text.x0 - height // 3), top, right, bottom)


def _span(frame: Frame, x: int, text: Box) -> tuple[int, int]:
    """How far up and down from a line of text the colour at one place goes."""
    height = text.height
    middle = (text.y0 + text.y1) // 2
    most = max(6, round(1.1 * height))
    column = frame.crop(Box(x - 1, middle - most, x + 2, middle + most + 1)).astype(int)
    if column.shape[0] < 2 * most or column.shape[1] == 0:
        return middle - most // 2, middle + most // 2
    inks = np.abs(column - np.median(column[most - 2 : most + 3].reshape(-1, 3), axis=0)).sum(axis=2).max(axis=1)
    edges = np.flatnonzero(inks > _EDGE)
    above, below = edges[edges < most], edges[edges > most]
    top = int(above[-1]) + 1 - most if above.size else -(most * 2 // 3)
    bottom = int(below[0]) - most if below.size else most * 2 // 3
    return max(0, middle + top), middle + bottom


def _around(inside: Box) -> Box:
    """With the edge and the ring around it, not as far as the next field."""
    by = max(3, inside.height // 4)
    return Box(max(0, inside.x0 - by), max(0, inside.y0 - by), inside.x1 + by, inside.y1 + by)


def has_ring(frame: Frame, inside: Box) -> bool:
    """Whether there are long lines of an accent colour right above and below a field's inside: the ring of its focus."""
    pixels = frame.crop(_around(inside)).astype(int)
    if pixels.shape[0] < 6 or pixels.shape[1] < 12:
        return False
    colourful = (pixels.max(axis=2) - pixels.min(axis=2)) > _COLOURFUL
    long = colourful.sum(axis=1) > 0.5 * pixels.shape[1]
    third = len(long) // 3
    return bool(long[:third].any() and long[-third:].any() and not long[len(long) // 2])


def _thick(before: Frame, after: Frame, inside: Box) -> bool:
    """Whether what has changed in the inside is at least as high as a caret."""
    if before.size != after.size:
        return False
    changed = np.any(before.crop(inside) != after.crop(inside), axis=2).any(axis=1)
    rows = np.flatnonzero(changed)
    return bool(rows.size) and int(rows[-1] - rows[0]) >= 0.3 * (inside.y1 - inside.y0)


def count_bullets(frame: Frame, inside: Box) -> int:
    """How many bullets stand in a field, from the left; 0 if what stands there first is none."""
    import cv2

    cut = max(1, inside.height // 8)
    row: Pixels = frame.crop(Box(inside.x0, inside.y0 + cut, inside.x1, inside.y1 - cut))
    if row.shape[0] < 6 or row.shape[1] < 8:
        return 0
    background = np.median(row.reshape(-1, 3), axis=0).astype(int)
    ink = (np.abs(row.astype(int) - background).sum(axis=2) > _INK).astype(np.uint8)
    total, _, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    found = 0
    for x, _y, width, tall, area in sorted(tuple(map(int, stats[index])) for index in range(1, total)):
        if x == 0 or x + width == row.shape[1] or area < 4 or width < 0.3 * tall:
            continue  # the field's edge, specks, a caret
        if not 0.6 <= width / tall <= 1.7 or tall > 0.5 * row.shape[0] or area < 0.62 * width * tall:
            return found
        found += 1
    return found
