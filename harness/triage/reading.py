"""What all readers of one input share: what is wanted of it, what was met in it, and its bytes by whole lines."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from itertools import accumulate
from typing import Any, Final, Protocol

from ahocorasick_rs import AhoCorasick

from harness.formats import records
from harness.formats.records import Coverage, FileCoverage, Record

MAX_LINE: Final = 4 * 1024 * 1024
"""Bytes of a line; what is beyond is dropped, and said."""
BLOCK: Final = 1 << 16
"""Bytes: what is decoded at once should stay in the processor's cache; larger blocks are slower by a third."""
MAX_DOCUMENTS: Final = 2000
MAX_DOCUMENT_TEXT: Final = 200_000


class Readable(Protocol):
    """As much of a file as is needed."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; b"" at the end."""
        ...


@dataclass(frozen=True)
class Interest:
    """Which log records are wanted; a record is given out if any of these holds.

    Attributes:
        processes: Names of executables.
        subsystems: Subsystems, exact or as the beginning before a dot ("com.apple.sx" also names "com.apple.sx.x").
        texts: Case-sensitive parts of a message, in any process.
        levels: Levels that are always wanted ("Fault").
    """

    processes: frozenset[str] = frozenset()
    subsystems: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()
    levels: frozenset[str] = frozenset()

    def names_subsystem(self, subsystem: str) -> bool:
        """Whether the subsystem, or one that it is below, is wanted."""
        while subsystem:
            if subsystem in self.subsystems:
                return True
            subsystem = subsystem.rpartition(".")[0]
        return False


class Texts:
    """Looks for many texts at once: the time does not depend on how many they are."""

    # In no text that is looked for, so that nothing is found across two messages.
    _BETWEEN = "\0"

    def __init__(self, texts: tuple[str, ...]) -> None:
        wanted = [text for text in texts if text and self._BETWEEN not in text]
        self._finder = AhoCorasick(wanted) if wanted else None

    def places(self, messages: list[str]) -> set[int]:
        """Which of the messages have any of the texts."""
        if self._finder is None:
            return set()
        found = self._finder.find_matches_as_indexes(self._BETWEEN.join(messages))
        if not found:
            return set()
        ends = list(accumulate(len(message) + 1 for message in messages))
        return {bisect_right(ends, start) for _, start, _ in found}

    def within(self, message: str) -> bool:
        """Whether a message has any of them."""
        return self._finder is not None and bool(self._finder.find_matches_as_indexes(message))


@dataclass(frozen=True)
class Document:
    """Something that is no log, parsed.

    Attributes:
        kind: `listing`, `database`, `launchctl`, `launchctl-services`, `crash`, `panic`, `plist`, `json`, `text`.
        value: `Listing`, `ExtensionDatabase`, `Job` (None: launchd does not know it), tuple of `Service`, `CrashReport`, or
            plain data.
        file: Its file or member.
        line: First line of it there, from 1; 0 for a binary one.
        lines: How many lines.
        text: The text as it was, at most 200,000 characters ("" for a binary one): signs are quoted from it.
    """

    kind: str
    value: Any
    file: str
    line: int = 1
    lines: int = 1
    text: str = ""


@dataclass
class Reading:
    """The state of reading one input, over all of its files.

    Attributes:
        interest: None: everything is wanted.
        zone: The zone of this Mac's wall clock, once a source named exactly one; naive times take it.
        live: Whether anything is counted into `coverage.records` (False while only looking).
    """

    interest: Interest | None = None
    coverage: Coverage = field(default_factory=Coverage)
    documents: list[Document] = field(default_factory=list)
    zone: tzinfo | None = None
    _zones: set[Any] = field(default_factory=set)
    _boots: dict[str, int] = field(default_factory=dict)
    _wanted: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    texts: Texts = field(init=False)
    boot_number: int = 0

    def __post_init__(self) -> None:
        self.texts = Texts(self.interest.texts if self.interest is not None else ())

    def begin(self, file: str, kind: str) -> FileCoverage:
        """Note that a file is being read; its own counts go into what this returns."""
        found = self.coverage.files.get(file)
        if found is None:
            found = FileCoverage(kind)
            if len(self.coverage.files) < 5000:
                self.coverage.files[file] = found
        return found

    def count(self, where: FileCoverage, name: str, number: int = 1) -> None:
        """Count lines of a class."""
        self.coverage.of[name] += number
        where.of[name] += number

    def odd(self, where: FileCoverage, file: str, line: int, text: str) -> None:
        """Count an unparsed line."""
        where.of["unparsed"] += 1
        self.coverage.odd(file, line, text)

    def saw(self, where: FileCoverage, moment: datetime | None) -> None:
        """Widen the windows; learn the zone."""
        if moment is None:
            return
        self.coverage.saw(moment)
        for name, earlier in (("first", True), ("last", False)):
            known: datetime | None = getattr(where, name)
            if known is None or (
                (known.tzinfo is None) == (moment.tzinfo is None)
                and ((moment < known) if earlier else (moment > known))
            ):
                setattr(where, name, moment)
        offset = moment.utcoffset()
        if offset is not None and offset not in self._zones:
            self._zones.add(offset)
            self.zone = moment.tzinfo if len(self._zones) == 1 else None

    def localised(self, moment: datetime | None) -> datetime | None:
        """A naive time with this Mac's zone, if that is known; any other as it is."""
        if moment is not None and moment.tzinfo is None and self.zone is not None:
            return moment.replace(tzinfo=self.zone)
        return moment

    def boot_of(self, uuid: str) -> int:
        """The number of a boot in this input, from its UUID; "" is the one before."""
        if not uuid:
            return self.boot_number
        number = self._boots.get(uuid)
        if number is None:
            number = self._boots[uuid] = len(self._boots) + 1
            if len(self.coverage.boots) < 1000:
                self.coverage.boots.append(uuid)
        self.boot_number = number
        return number

    def wants(self, record: Record) -> bool:
        """Whether a record is of interest."""
        interest = self.interest
        if interest is None or record.kind not in (records.LOG, records.ACTIVITY, records.SIGNPOST, records.STATE):
            return True
        if record.style == "bare":
            return True
        key = (record.process, record.subsystem, record.level)
        known = self._wanted.get(key)
        if known is None:
            known = (
                record.process in interest.processes
                or record.level in interest.levels
                or interest.names_subsystem(record.subsystem)
            )
            if len(self._wanted) < 100_000:
                self._wanted[key] = known
        return known or self.texts.within(record.message)

    def document(self, kind: str, value: Any, file: str, line: int = 0, lines: int = 0, text: str = "") -> None:
        """Keep a document; beyond a number nobody needs they are only counted."""
        if len(self.documents) < MAX_DOCUMENTS:
            self.documents.append(Document(kind, value, file, line, lines, text[:MAX_DOCUMENT_TEXT]))
        else:
            self.coverage.note(f"more than {MAX_DOCUMENTS} documents: the rest was not kept")

    def processes(self, counts: Counter[str]) -> None:
        """Add to the records per process, of which there may be many but not endlessly many."""
        if len(self.coverage.processes) < 20_000:
            self.coverage.processes.update(counts)


class Blocks:
    """A stream as blocks of whole lines: each ends with a newline, the last maybe not.

    Attributes:
        cut: Lines that were longer than `MAX_LINE` and lost their end.
        open_end: Whether the last line has no newline.
        size: Bytes given out so far.
    """

    def __init__(self, stream: Readable, head: bytes = b"", block: int = BLOCK) -> None:
        self._stream = stream
        self._rest = head
        self._block = block
        self.cut = 0
        self.open_end = False
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        pieces = [self._rest] if self._rest else []
        held = len(self._rest)
        self._rest = b""
        dropping = False
        read, size = self._stream.read, self._block
        fresh = b"".join(pieces)
        pieces.clear()
        held = 0
        while True:
            if not fresh:
                fresh = read(size)
                if not fresh:
                    break
            if dropping:
                end = fresh.find(b"\n")
                if end < 0:
                    fresh = b""
                    continue
                dropping = False
                fresh = fresh[end:]  # its newline ends the line that was cut
            end = fresh.rfind(b"\n") + 1
            if end:
                pieces.append(fresh[:end])
                whole = b"".join(pieces) if len(pieces) > 1 else pieces[0]
                pieces = [fresh[end:]] if end < len(fresh) else []
                held = len(fresh) - end
                self.size += len(whole)
                yield whole
            else:
                pieces.append(fresh)
                held += len(fresh)
            fresh = b""
            if held > MAX_LINE:
                self.cut += 1
                pieces = [b"".join(pieces)[:MAX_LINE]]
                held = MAX_LINE
                dropping = True
        if pieces:
            last = b"".join(pieces)
            self.open_end = True
            self.size += len(last)
            yield last
