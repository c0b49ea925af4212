"""`pmset -g log` and `pmset -g assertions`: when a Mac slept, woke, and what keeps it awake. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}) ([A-Za-z][A-Za-z ]{1,30}?)(?:\s*\t| {2,})\s*(.*?)\s*$")
_MOST_LINES = 200_000
_LONGEST = 4000

SLEEP = "Sleep"
WAKES = ("Wake", "DarkWake")


@dataclass(frozen=True)
class PowerEvent:
    """One line of the log.

    Attributes:
        time: With the Mac's own offset from UTC.
        domain: "Sleep", "Wake", "DarkWake", "Notification", "Assertions", …
        text: What it says.
    """

    time: datetime
    domain: str
    text: str

    @property
    def fell_asleep(self) -> bool:
        """Whether the system began to sleep (powerd: `Entering Sleep state due to '…'`)."""
        return self.domain == SLEEP and "entering sleep" in self.text.casefold()

    @property
    def woke(self) -> bool:
        """Whether a person would find it awake: a DarkWake leaves the display off, and goes back to sleep."""
        return self.domain == "Wake"


def parse_pmset_log(text: str) -> list[PowerEvent]:
    """The dated lines of `pmset -g log`, in their order. All others (header, totals, continuations) say nothing that is of
    use here; a damaged line is left out.
    """
    found: list[PowerEvent] = []
    for line in text.splitlines()[-_MOST_LINES:]:
        match = _LINE.match(line[:_LONGEST])
        if match is None:
            continue
        try:
            time = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S %z")
        except ValueError:
            continue
        found.append(PowerEvent(time, match[2].strip(), match[3]))
    return found
