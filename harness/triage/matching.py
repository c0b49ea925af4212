"""Finds the signs of all causes in whatever is fed to it, one text at a time, in one pass and bounded memory.

Each distinct expression is tried once per text, and only where a part that any match of it must have is there.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from harness.formats import records
from harness.formats.records import Record
from harness.triage.catalog import Catalog, Sign, fold
from harness.triage.inputs import Document
from harness.triage.report import SignSeen, harmless

MAX_TEXT: Final = 16 * 1024
"""Characters of one message that are looked at: its beginning and its end."""
MAX_HITS: Final = 4
"""Hits kept per sign, besides their number."""
MAX_DOCUMENT_LINES: Final = 4000


_CHANGES: Final = re.compile(
    r"^\W{0,6}(?:Fixed|Improved|Changed|Resolved)(?::| (?:an?|the|some|issues?|bugs?|crash\w*)\b)", re.IGNORECASE
)
"""A line of a list of changes: it names troubles that are over."""


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One text to look at: a log message, a line of a post, a paragraph, a line of a document.

    Attributes:
        text: Folded (see `catalog.fold`).
        place: `log`, `text`, `crash`, `document`, or `observed`: what the harness itself saw (see `observed`).
        starts: For each of its lines, where it begins in `text`; with `numbers` the way back to the file.
        order: Rises through the input.
        moment: Its time on the clock that all sources share (see `clocks`), in seconds; None where it has no place there.
        low: `text` in lower case.
    """

    text: str
    place: str
    file: str = ""
    starts: tuple[int, ...] = (0,)
    numbers: tuple[int, ...] = (0,)
    lines: tuple[str, ...] = ()
    time: datetime | None = None
    clock: float | None = None
    process: str = ""
    pid: int = 0
    boot: tuple[int, str] = (0, "")
    order: int = 0
    repeats: bool = False
    moment: float | None = None
    low: str = ""

    def seen(self, offset: int = 0, role: str = "decisive") -> SignSeen:
        """The line in which `offset` is, as a sign."""
        index = max(0, bisect.bisect_right(self.starts, offset) - 1)
        text = self.lines[index] if index < len(self.lines) else self.text
        return SignSeen(
            file=harmless(self.file, 200),
            line=self.numbers[index] if index < len(self.numbers) else 0,
            time=self.when,
            process=harmless(self.process, 80),
            text=harmless(text),
            role=role,
        )

    @property
    def when(self) -> str:
        """Its time as a text: ISO 8601, or the time of day, or nothing."""
        if self.time is not None:
            return self.time.isoformat(sep=" ", timespec="milliseconds")
        if self.clock is not None:
            hours, rest = divmod(self.clock, 3600)
            return f"{int(hours):02d}:{int(rest // 60):02d}:{rest % 60:06.3f}"
        return ""

    @property
    def seconds(self) -> float | None:
        """A number that grows with time within one input, where it has times; None otherwise."""
        if self.moment is not None:
            return self.moment
        if self.time is not None:
            return self.time.timestamp() if self.time.tzinfo else self.time.replace(tzinfo=UTC).timestamp()
        return self.clock


_LAUNCHD: Final = frozenset({"launchd", "com.apple.xpc.launchd"})
_PLACES: Final = {"crash": "crash", "panic": "crash"}


def unit_of(record: Record, order: int, moment: float | None = None) -> Unit:
    """A record as something to look at. `moment`: its place on the shared clock (see `Unit`)."""
    message = record.message
    if record.sender and record.process in _LAUNCHD:  # the job that a line of launchd is about stands where senders do
        message = f"({record.sender}) {message}"
    text, starts, numbers, lines = _unfold(message, record.line, one=record.style in ("ndjson", "json"))
    is_text = record.kind in (records.TEXT, records.PARAGRAPH)
    return Unit(
        text=text,
        place="text" if is_text else "log",
        file=record.file,
        starts=starts,
        numbers=numbers,
        lines=lines,
        time=record.time,
        clock=record.clock,
        process=record.process,
        pid=record.pid,
        boot=(record.order[0], record.boot),
        order=order,
        repeats=record.kind == records.PARAGRAPH,
        moment=moment,
        low=text.lower(),
    )


def units_of(document: Document, order: int) -> Iterator[Unit]:
    """The lines of a document (a listing, a crash report …); nothing for a binary one."""
    place = _PLACES.get(document.kind, "document")
    for number, line in enumerate(document.text.split("\n", MAX_DOCUMENT_LINES)[:MAX_DOCUMENT_LINES]):
        if line.strip():
            text = fold(_cut(line))
            yield Unit(
                text=text,
                place=place,
                file=document.file,
                numbers=(document.line + number if document.line else 0,),
                lines=(line.strip()[:2000],),
                order=order,
                low=text.lower(),
            )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT * 3 // 4] + " … " + text[-MAX_TEXT // 4 :]


def _unfold(message: str, line: int, *, one: bool) -> tuple[str, tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
    if "\n" not in message:
        text = fold(_cut(message))
        return text, (0,), (line,), (text,)
    parts: list[str] = []
    starts: list[int] = []
    numbers: list[int] = []
    at = 0
    for number, part in enumerate(_cut(message).split("\n")):
        folded = fold(part)
        if folded:
            starts.append(at)
            numbers.append(line if one else line + number)
            parts.append(folded)
            at += len(folded) + 1
    return " ".join(parts), tuple(starts) or (0,), tuple(numbers) or (line,), tuple(parts)


@dataclass
class Hits:
    """Where one sign was met. The first few and the last are kept."""

    count: int = 0
    first: list[tuple[Unit, int]] = field(default_factory=list)
    last: tuple[Unit, int] | None = None

    def add(self, unit: Unit, offset: int) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < MAX_HITS:
            self.first.append((unit, offset))
        self.last = (unit, offset)


class Matcher:
    """Looks for every sign of a catalog.

    Attributes:
        hits: By the sign's key.
        met: Expressions of `with` and `absent` that occurred somewhere.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.hits: dict[str, Hits] = {}
        self.met: set[str] = set()
        self._table = _table(catalog)
        self._seen_lines: set[tuple[str, str, int]] = set()

    def feed(self, unit: Unit) -> None:
        """Look at one text."""
        table, low = self._table, unit.low
        grams = {low[at : at + _GRAM] for at in range(len(low) - _GRAM + 1)}
        grams &= table.grams.keys()
        wanted = dict(table.always)
        for gram in grams:
            for needle, patterns in table.grams[gram]:
                if needle in low:
                    wanted.update(patterns)
        for pattern in wanted.values():
            if pattern.remember and not pattern.signs and pattern.text in self.met:
                continue
            found = pattern.compiled.search(unit.text)
            if found is None:
                continue
            if pattern.remember and unit.place != "observed":
                self.met.add(pattern.text)
            for sign, unless in pattern.signs:
                if unit.place == "observed" and not sign.only:
                    continue
                if sign.process and unit.process and unit.process not in sign.process:
                    continue
                if sign.only and unit.place not in sign.only:
                    continue
                if any(other.search(unit.text) for other in unless):
                    continue
                self._hit(sign, unit, found.start())

    def _hit(self, sign: Sign, unit: Unit, offset: int) -> None:
        if unit.place == "text":  # a paragraph repeats the lines it is made of
            seen = unit.seen(offset)
            if _CHANGES.search(seen.text):
                return
            place = (sign.key, seen.file, seen.line)
            if place in self._seen_lines:
                return
            if len(self._seen_lines) < 100_000:
                self._seen_lines.add(place)
        self.hits.setdefault(sign.key, Hits()).add(unit, offset)


@dataclass
class _Pattern:
    text: str
    compiled: re.Pattern[str]
    signs: list[tuple[Sign, tuple[re.Pattern[str], ...]]] = field(default_factory=list)
    remember: bool = False


_GRAM: Final = 3
_COMMON: Final = {letter: rank for rank, letter in enumerate("zqxjkvbpygfwmucldrhsnioate ")}


@dataclass
class _Table:
    """All expressions of a catalog, and the way from a piece of text to those that could match it."""

    grams: dict[str, list[tuple[str, dict[int, _Pattern]]]]
    always: list[tuple[int, _Pattern]]


@functools.lru_cache(maxsize=4)
def _table(catalog: Catalog) -> _Table:
    patterns: dict[str, _Pattern] = {}

    def pattern(text: str) -> _Pattern:
        if text not in patterns:
            patterns[text] = _Pattern(text, re.compile(text, re.IGNORECASE))
        return patterns[text]

    for cause in catalog.causes.values():
        for sign in cause.signs:
            if (expression := sign.pattern) is not None:
                unless = tuple(re.compile(text, re.IGNORECASE) for text in sign.unless)
                pattern(expression).signs.append((sign, unless))
            for text in (*sign.with_, *sign.absent):
                pattern(text).remember = True
    always: list[tuple[int, _Pattern]] = []
    needles: dict[str, dict[int, _Pattern]] = {}
    for number, each in enumerate(patterns.values()):
        wanted = needed(each.text)
        if not wanted:
            always.append((number, each))
        for needle in wanted:
            needles.setdefault(needle, {})[number] = each
    grams: dict[str, list[tuple[str, dict[int, _Pattern]]]] = {}
    for needle, several in needles.items():
        grams.setdefault(_rarest(needle), []).append((needle, several))
    return _Table(grams, always)


def _rarest(needle: str) -> str:
    pieces = [needle[at : at + _GRAM] for at in range(len(needle) - _GRAM + 1)]
    return min(pieces, key=lambda piece: sum(_COMMON.get(letter, 8) for letter in piece))


_PARSER: Any = getattr(re, "_parser")  # noqa: B009 - the standard library's own parser; there is no public one


def needed(expression: str) -> frozenset[str]:
    """Lower-case texts of which any match of the expression (case aside) has at least one; empty where none is sure."""
    return _needed(_PARSER.parse(expression, re.IGNORECASE))


def _needed(tree: Iterable[Any]) -> frozenset[str]:
    candidates: list[frozenset[str]] = []
    run = ""
    for operation, argument in tree:
        name = str(operation)
        if name == "LITERAL" and chr(argument).isascii():
            run += chr(argument).lower()
            continue
        if run:
            candidates.append(frozenset({run}))
            run = ""
        if name == "SUBPATTERN":
            candidates.append(_needed(argument[-1]))
        elif name == "BRANCH":
            parts = [_needed(branch) for branch in argument[1]]
            if all(parts):
                candidates.append(frozenset().union(*parts))
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT") and argument[0] >= 1:
            candidates.append(_needed(argument[2]))
    if run:
        candidates.append(frozenset({run}))
    good = [candidate for candidate in candidates if candidate and min(map(len, candidate)) >= 3]
    return max(good, key=lambda candidate: (min(map(len, candidate)), -len(candidate)), default=frozenset())
