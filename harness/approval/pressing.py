"""Pressing a button that was seen, and seeing what came of it: twice by one channel, then by the next, then no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness import events
from harness.approval.channels import Channel, Draggable
from harness.approval.observer import Observer
from harness.approval.records import Step
from harness.errors import HarnessError
from harness.screen import Box, Button, Frame, Screen, Sighting, changed_regions
from harness.screen.frames import same
from harness.waiting import Deadline

TRIES = 2
"""How often one step is tried by one channel."""
EFFECT = 5.0
"""Seconds within which a click must change what was clicked."""
REFUSED = 2.0
"""Seconds after which an alert that reacted to a click, but is still there, counts as staying."""


@dataclass(frozen=True)
class Press:
    """What became of a press.

    Attributes:
        kind: "effect": something has changed; "nothing": it has not; "moved": the button is not where it was seen, nothing was
            pressed; "failed": the channel could not press; "exhausted": no channel has a try left, nothing was pressed.
        before: The frame right before it.
        step: What was done, unless nothing was.
    """

    kind: Literal["effect", "nothing", "moved", "failed", "exhausted"]
    before: Frame
    step: Step | None = None


class Presser:
    """Presses by the first channel that has a try left for that button.

    Args:
        channels: In order of preference.
    """

    def __init__(self, screen: Screen, observer: Observer, channels: Sequence[Channel]) -> None:
        self.screen = screen
        self.observer = observer
        self.channels = tuple(channels)
        self._told: set[str] = set()
        self._moved: Counter[str] = Counter()

    def press(
        self, seen: Sighting, button: Button, deadline: Deadline, tries: Counter[str], *, fresh: Frame | None = None
    ) -> Press:
        """Press a button that is still where it was seen, and wait for what comes of it.

        Args:
            seen: The window.
            button: One of its buttons.
            deadline: For all of it.
            tries: Counts the tries per button and channel; whoever calls keeps it for as long as tries shall count.
            fresh: A frame that is newer than the sighting's; the present one by default.
        """
        now = fresh or self.screen.frame(deadline)
        if not same(now, seen.frame, button.box):
            return Press("moved", now)
        key = _key(seen, button)
        channel = self._channel(key, tries)
        if channel is None:
            return Press("exhausted", now)
        mark = f"{key}/{channel.name}"
        tries[mark] += 1
        step = Step("click", seen.window, button.text, button.centre, channel.name)
        with events.step(
            "press",
            window=seen.window,
            app_name=seen.app_name,
            button=button.text,
            role=button.role,
            at=list(button.centre),
            channel=channel.name,
            attempt=tries[mark],
        ) as record:
            try:
                channel.press(seen, button, deadline)
            except HarnessError as error:
                tries[mark] = TRIES  # it says itself that it cannot: the next channel's turn
                record.note(effect=False)
                events.event("degraded", what=f"the channel '{channel.name}' did not press", reason=str(error))
                return Press("failed", now)
            self.observer.keep(now, f"{seen.window}-{button.role}")
            after = self.gone(now, seen, deadline.sub(EFFECT))
            record.note(effect=after is not None)
        self.observer.pressed(seen, worked=after is not None)
        return Press("effect" if after is not None else "nothing", now, step)

    def tried(self, seen: Sighting, button: Button, tries: Counter[str]) -> bool:
        """Whether a button was pressed before."""
        return any(tries[f"{_key(seen, button)}/{channel.name}"] for channel in self.channels)

    def _channel(self, key: str, tries: Counter[str]) -> Channel | None:
        for index, channel in enumerate(self.channels):
            if tries[f"{key}/{channel.name}"] >= TRIES:
                continue
            reason = channel.available()
            if reason:
                if channel.name not in self._told:
                    self._told.add(channel.name)
                    events.event("channel-unavailable", channel=channel.name, reason=reason)
                continue
            if index:
                events.event(
                    "degraded",
                    what=f"pressed by the channel '{channel.name}'",
                    reason=f"{TRIES} tries by '{self.channels[0].name}' did not help: {key}",
                )
            return channel
        return None

    def move_aside(self, seen: Sighting, deadline: Deadline) -> bool:
        """Drag another app's alert to the screen's left edge, by its empty part above the title, away from what it covers. None
        of its buttons is touched. True if it went. At most twice for each: the second time to the right edge, should something
        of ours have come up where it went.

        That alerts can be moved by their background: assumed of all generations.
        """
        key = f"{seen.window}/{seen.app_name}"
        if seen.title is None or self._moved[key] >= TRIES or not isinstance(self.screen, Draggable):
            return False
        self._moved[key] += 1
        height = seen.title.height
        grip = (seen.title.centre[0], max(0, seen.title.y0 - height // 2))
        if any(
            button.box.padded(height, seen.frame.size).overlaps(Box(*grip, grip[0] + 1, grip[1] + 1))
            for button in seen.buttons
        ):
            return False
        before = self.screen.frame(deadline)
        if not same(before, seen.frame, seen.title):
            return False
        by = height - seen.box.x0 if self._moved[key] == 1 else before.size[0] - height - seen.box.x1
        self.screen.drag(grip, (grip[0] + by, grip[1]))
        went = self.gone(before, seen, deadline.sub(EFFECT)) is not None
        events.event("moved-aside", window=seen.window, app_name=seen.app_name, went=went)
        return went

    def changed(self, before: Frame, box: Box, deadline: Deadline) -> Frame | None:
        """The first frame in which `box`, or something as big as a window, is not as it was before; None if there is none
        within the deadline.
        """
        frame = before
        while True:
            later = self.screen.wait_for_change(frame, deadline)
            if later is None:
                return None
            if not same(before, later, box) or changed_regions(before, later):
                return later
            frame = later

    def gone(self, before: Frame, seen: Sighting, deadline: Deadline) -> Frame | None:
        """The frame that shows what a click did: an alert's title has changed (it is gone); in Settings, anything.

        An alert that stays, but has answered in another way (a cleared field), is waited for only `REFUSED` seconds.
        """
        if seen.title is None:
            return self.changed(before, seen.box, deadline)
        frame = before
        answered: Deadline | None = None
        while True:
            later = self.screen.wait_for_change(frame, answered or deadline)
            if later is None:
                return frame if answered is not None else None
            if not same(before, later, seen.title):
                return later
            if answered is None and not same(before, later, seen.box):
                answered = deadline.sub(REFUSED)
            frame = later


def _key(seen: Sighting, button: Button) -> str:
    return f"{seen.window}/{button.role}/{button.text}"
