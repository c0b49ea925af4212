"""Where the pointer waits while a prompt is waited for: where its button was the last time, so that the click needs no way there.

A pointer must have rested for a moment before a press counts (`screen.rfb.CLICK`); a pointer that rests there already has. Nothing
is pressed here, and nothing is pressed elsewhere because of it: that is decided by the frame with the prompt in it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

from harness import events
from harness.screen import Box, Frame, Screen, ScreenError, Sighting
from harness.screen.frames import same
from harness.screen.needles import Needles

AROUND = 64
"""Pixels around the pointer in which something that reacts to it, or the pointer itself drawn by the server, is noticed."""
_SPOILT: set[tuple[str, tuple[int, int], tuple[int, int]]] = set()
"""(kind of Mac, size of the screen, place) where the pointer was in the way, in this process."""


@runtime_checkable
class Parkable(Protocol):
    """A screen whose pointer can be put somewhere beforehand."""

    def park(self, x: int, y: int) -> None:
        """Put the pointer there and press nothing; a click there then waits only for what is left of its pause.

        Raises:
            ScreenError: Not connected.
        """
        ...

    def leave(self) -> None:
        """Take the pointer to where it is in nobody's way.

        Raises:
            ScreenError: Not connected.
        """
        ...


class Parking:
    """Parks the pointer for one wait after the other.

    It parks only if a prompt of a wanted class is known by its pixels on a screen of this size, and where that stood nothing has
    changed since the mark (no window has come up). If something changes around the resting pointer that is not the prompt (a
    window that reacts to it, a pointer that the server draws into the picture), it leaves, an event says so, and it
    does not park there again.
    """

    def __init__(self, screen: Screen, needles: Needles | None) -> None:
        self._screen = screen
        self._needles = needles
        self._at: tuple[int, int] | None = None
        self._window = ""
        self._before: Frame | None = None

    @property
    def parked(self) -> bool:
        """Whether the pointer waits somewhere now."""
        return self._at is not None

    def begin(self, frame: Frame, kinds: Collection[str]) -> None:
        """A prompt of one of these classes is waited for, and is not in this frame."""
        marked = self._screen.marked
        if self._needles is None or marked is None or self.parked or not isinstance(self._screen, Parkable):
            return
        for spot in self._needles.spots(frame.size, kinds):
            if self._spoilt(frame, spot.at) in _SPOILT or not same(marked, frame, spot.place):
                continue
            try:
                self._screen.park(*spot.at)
            except ScreenError as error:
                events.event("degraded", what="the pointer was not put where the button will be", reason=str(error))
                return
            self._at, self._window, self._before = spot.at, spot.window, frame
            events.event("pointer-parked", window=spot.window, at=list(spot.at))
            return

    def look(self, frame: Frame) -> None:
        """In this frame, later than that of `begin`, there is no prompt: has anything happened where the pointer is?"""
        if self._at is None or self._before is None:
            return
        x, y = self._at
        around = Box(x - AROUND, y - AROUND, x + AROUND, y + AROUND).padded(0, frame.size)
        if not same(self._before, frame, around):
            self._leave("something has changed around it that is not the prompt")

    def end(self, seen: Sighting | None, *, known: bool) -> None:
        """The wait is over. Where a prompt was found, the pointer stays for the click.

        Args:
            seen: What was found.
            known: It was known by its pixels. One that should have been, and had to be read: the pointer was in the way.
        """
        if self._at is None or self._before is None:
            return
        if seen is None:
            self._leave("")
        elif not known and seen.window == self._window and any(button.centre == self._at for button in seen.buttons):
            self._spoil("the prompt was not known by its pixels while the pointer was there")
        self._at = self._before = None

    def _leave(self, reason: str) -> None:
        if reason:
            self._spoil(reason)
        self._at = self._before = None
        if isinstance(self._screen, Parkable):
            try:
                self._screen.leave()
            except ScreenError as error:
                events.event("degraded", what="the pointer was not taken away", reason=str(error))

    def _spoil(self, reason: str) -> None:
        if self._at is not None and self._before is not None:
            _SPOILT.add(self._spoilt(self._before, self._at))
            events.event("degraded", what="the pointer does not wait at the prompt's button", reason=reason)

    def _spoilt(self, frame: Frame, at: tuple[int, int]) -> tuple[str, tuple[int, int], tuple[int, int]]:
        return (self._needles.origin if self._needles is not None else "", frame.size, at)
