"""Channels: the ways in which a button that was seen can be pressed.

A step is tried twice by one channel, then handed to the next: pointer (`vnc`), accessibility (`ax`), then it has failed. Every
channel is given what was *seen*; whether its press had an effect is judged from the screen and the oracle, never by the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from harness.screen import Button, Screen, Sighting
from harness.waiting import Deadline


class Channel(Protocol):
    """One way to press a button.

    Attributes:
        name: "vnc", "ax", …: told in each step's event and in the report.
    """

    @property
    def name(self) -> str:
        """How the report calls it."""
        ...

    def available(self) -> str:
        """Why it cannot be used (the lane does not allow it, no right was granted …); empty where it can. Cheap, never raises."""
        ...

    def press(self, seen: Sighting, button: Button, deadline: Deadline) -> None:
        """Press the button of that window. Returning says nothing about an effect.

        Raises:
            HarnessError: The press could not be delivered; the walk goes on with the next channel.
            WaitTimeout: Not within the deadline.
        """
        ...


@runtime_checkable
class Draggable(Protocol):
    """A screen on which a window can be moved."""

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Press at one pixel, move, release at the other."""
        ...


class VncChannel:
    """The pointer of the hypervisor's VNC server: what a person's mouse does."""

    name = "vnc"

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def available(self) -> str:
        """Always: the screen is what everything else is seen on."""
        return ""

    def press(self, seen: Sighting, button: Button, deadline: Deadline) -> None:
        """Click its centre."""
        del seen, deadline
        self._screen.click(*button.centre)


def usable(channels: Sequence[Channel]) -> tuple[list[Channel], dict[str, str]]:
    """Those that can be used, in order; and why the others cannot, by name."""
    reasons = {channel.name: channel.available() for channel in channels}
    return [channel for channel in channels if not reasons[channel.name]], {k: v for k, v in reasons.items() if v}
