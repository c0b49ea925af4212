"""A text that was read once and is looked at more than once: for another name, or with a window left out."""

from __future__ import annotations

from harness.approval.routes import PROMPTS
from harness.screen import Box, Frame, Reader, TextLine

LISTS = (
    "settings-extensions-sheet",
    "settings-privacy-security",
    "prefs-security-privacy",
    "settings-login-items-extensions",
)
"""Windows that list extensions by a name: the app's, or its developer's."""

LOCKED = "prefs-security-privacy"
"""The window with a lock: macOS 12."""
NAMED = (*PROMPTS, "ne-proxy-consent", "ne-vpn-consent", "ne-filter-consent")
"""Windows that name the app that they are about. Where no name could be read, the window was not seen whole."""


class Page:
    """A `Reader` that reads each region once, and may leave a part out.

    Args:
        reader: Does the reading.
        hidden: Lines whose middle lies in one of these boxes are not there.
    """

    def __init__(
        self, reader: Reader, hidden: tuple[Box, ...] = (), read: dict[Box, list[TextLine]] | None = None
    ) -> None:
        self._reader = reader
        self._hidden = hidden
        self._read = read if read is not None else {}

    def warm_up(self) -> None:
        """See `Reader`."""
        self._reader.warm_up()

    def read(self, frame: Frame, region: Box | None = None) -> list[TextLine]:
        """See `Reader`; always of the same frame."""
        region = region or frame.box
        if region not in self._read:
            self._read[region] = self._reader.read(frame, region)
        return [line for line in self._read[region] if not any(_inside(line.box.centre, box) for box in self._hidden)]

    def without(self, box: Box) -> Page:
        """The same without what stands in a box."""
        return Page(self._reader, (*self._hidden, box), self._read)


def _inside(point: tuple[int, int], box: Box) -> bool:
    return box.x0 <= point[0] < box.x1 and box.y0 <= point[1] < box.y1
