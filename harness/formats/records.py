"""One record type for whatever a log, a post or a file says: what triage matches its signs against.

Every reader of a text or an archive gives these, whatever style it was in, so that a rule is written once. Texts are ""
and numbers 0 where a source has none; nothing is guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

LOG: Final = "log"
"""A log message."""
ACTIVITY: Final = "activity"
SIGNPOST: Final = "signpost"
STATE: Final = "state"
LOSS: Final = "loss"
"""Messages were lost here: absence proves nothing around it."""
BOOT: Final = "boot"
"""The system booted; what is before may have been purged."""
CLOCK: Final = "clock"
"""The wall clock was set: times on both sides do not compare."""
MARKER: Final = "marker"
"""Header lines, banners, fences, log-class lines: about the log, not in it."""
TEXT: Final = "text"
"""A line that has no log layout: prose, a bare message, an app's error line. One record a line."""
PARAGRAPH: Final = "paragraph"
"""Several consecutive TEXT lines once more, joined by newlines: for sentences that somebody's window wrapped. It comes
right after the last of them and counts no lines."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was said.

    Attributes:
        time: When; aware if the source names the zone (or another source of the same Mac does), naive if it does not, None
            if it has no date. A time without a date is in `clock`.
        order: Sorts the records of one source: (boot, ticks, line). `boot` counts the boots seen so far in it; ticks are
            Mach time where the source has it, else 0. Within one boot of one source this is the order to trust.
        boot: Boot session UUID in upper case, "" if not known.
        process: Name of the process ("sysextd").
        sender: Library or extension that logged, "" where it is not named (in text styles: where it is the process itself).
        level: `Default`, `Info`, `Debug`, `Error`, `Fault`; "" if not known.
        message: May have several lines and `<private>`.
        file: The file it is in, or the archive's member.
        line: Number of its first line there, from 1.
        lines: How many lines it spans; 0 for a record that repeats others (PARAGRAPH).
        kind: One of this module's constants.
        style: The layout it was in: `ndjson`, `json`, `default`, `compact`, `syslog`, `console`, `bsd`, `short`, `bare`, …
        clock: Seconds since midnight where only a time of day was given; None otherwise.
        process_uuid: LC_UUID of the process's executable (ndjson only), which a crash report shares.
    """

    time: datetime | None = None
    order: tuple[int, int, int] = (0, 0, 0)
    boot: str = ""
    process: str = ""
    pid: int = 0
    tid: int = 0
    sender: str = ""
    subsystem: str = ""
    category: str = ""
    level: str = ""
    message: str = ""
    file: str = ""
    line: int = 0
    lines: int = 1
    kind: str = LOG
    style: str = ""
    clock: float | None = None
    process_uuid: str = ""

    @property
    def zone_known(self) -> bool:
        """Whether `time` says its zone."""
        return self.time is not None and self.time.tzinfo is not None

    def line_at(self, offset: int) -> int:
        """The number of the line in the file in which the message's character `offset` is.

        ndjson keeps a message's newlines in one line of the file; elsewhere each is a line.
        """
        if self.style in ("ndjson", "json"):
            return self.line
        return self.line + self.message.count("\n", 0, offset)

    def text_at(self, offset: int, limit: int = 400) -> str:
        """The one line of the message in which `offset` is, at most `limit` characters."""
        start = self.message.rfind("\n", 0, offset) + 1
        end = self.message.find("\n", offset)
        return self.message[start : end if end >= 0 else None].strip()[:limit]

    def each_line(self) -> Iterator[Record]:
        """The record split at its message's newlines; the same process and time for each, its own line number."""
        if "\n" not in self.message:
            yield self
            return
        offset = 0
        for part in self.message.split("\n"):
            yield msgspec.structs.replace(self, message=part, line=self.line_at(offset), lines=1 if self.lines else 0)
            offset += len(part) + 1


MAX_EXAMPLES: Final = 20


@dataclass
class Coverage:
    """What of an input was read, and what it covers. Final once the records have been iterated over.

    `lines == sum(of.values())`: each line is in exactly one class.

    Attributes:
        of: Lines by class: `record`, `continuation`, `marker`, `blank`, `prose` (lines of TEXT), `document` (lines of a
            listing, a crash report, a property list: see `Source.documents`), `unparsed`.
        records: Records read, whether or not they were of interest.
        given: Records given out.
        examples: The first unparsed lines: (file, line, beginning).
        first: Earliest time of a log record; None without one. With `last` the window in which absence says something.
        last: Latest one.
        finished: Whether the log told its own end; None where its format has no such thing.
        lost: Messages that the log says it lost.
        truncated: Whether something was cut off (a limit of ours, a last line without its end, a damaged archive).
        boots: Boot UUIDs in the order of their first record.
        processes: Records per process name, of all that were read: tells "never ran" from "said nothing of interest".
        files: File names with the kind and the class counts of each.
        skipped: Members of an archive and files that were not read, with the reason (the first 200).
        notes: Remarks for a person: why something was not covered.
    """

    of: Counter[str] = field(default_factory=Counter)
    records: int = 0
    given: int = 0
    examples: list[tuple[str, int, str]] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None
    finished: bool | None = None
    lost: int = 0
    truncated: bool = False
    boots: list[str] = field(default_factory=list)
    processes: Counter[str] = field(default_factory=Counter)
    files: dict[str, FileCoverage] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        """Lines read."""
        return self.of.total()

    def odd(self, file: str, line: int, text: str) -> None:
        """Count an unparsed line and keep the first ones."""
        self.of["unparsed"] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append((file, line, text[:300]))

    def note(self, text: str) -> None:
        """Add a remark once."""
        if text not in self.notes and len(self.notes) < 200:
            self.notes.append(text)

    def skip(self, name: str, why: str) -> None:
        """Note a file that was not read."""
        if len(self.skipped) < 200:
            self.skipped.append((name, why))

    def saw(self, moment: datetime | None) -> None:
        """Widen the window by a record's time."""
        if moment is None:
            return
        for name, better in (("first", -1), ("last", 1)):
            known: datetime | None = getattr(self, name)
            if known is None:
                setattr(self, name, moment)
            elif (known.tzinfo is None) == (moment.tzinfo is None):
                if (moment > known) if better > 0 else (moment < known):
                    setattr(self, name, moment)
            elif known.tzinfo is None:  # a time whose zone is known outranks one that has none
                setattr(self, name, moment)


@dataclass
class FileCoverage:
    """One file or member: its kind, its size in lines, and its window."""

    kind: str
    of: Counter[str] = field(default_factory=Counter)
    first: datetime | None = None
    last: datetime | None = None
