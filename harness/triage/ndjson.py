"""The readers of JSON logs: ndjson by the block, and arrays of objects.

What is of interest is decided for a whole block at once, in as few steps per record as Python allows; a record that nobody
wants is never built. The counts are exact all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.formats import records
from harness.formats.logs_array import ObjectSplitter
from harness.formats.logs_markers import parse_marker
from harness.formats.logs_scan import Line, decode_block, decode_line, moment_of, record_of
from harness.formats.records import FileCoverage, Record
from harness.triage.reading import Blocks, Interest, Reading

_ALWAYS = frozenset(("lossEvent", "timesyncEvent"))


def read_ndjson(blocks: Blocks, file: str, reading: Reading, *, mandiant: bool = False) -> Iterator[Record]:
    """The records of an ndjson stream. Lines that are no record are given out as TEXT, and counted as unparsed."""
    kind = "mandiant" if mandiant else "ndjson"
    where = reading.begin(file, kind)
    reader = _Reader(file, reading, where, mandiant=mandiant)
    number = 0
    for block in blocks:
        count = block.count(b"\n") + (not block.endswith(b"\n"))
        found = decode_block(block, count, mandiant=mandiant)
        if found is not None and reader.plain(found):
            yield from reader.whole(found, number)
            number += count
            continue
        for line in block.removesuffix(b"\n").split(b"\n"):
            number += 1
            yield from reader.one(line, number)
    if blocks.open_end and reader.last_odd == number and number:
        reading.coverage.truncated = True
        reading.coverage.note(f"{file}: the last line is cut off")
    if blocks.cut:
        reading.coverage.truncated = True
        reading.coverage.note(f"{file}: {blocks.cut} overlong lines lost their end")
    # A stream has no end to tell, nor has what a simulated Mac or another decoder wrote.
    endless = mandiant or reader.streamed or file.endswith("simulated-log.ndjson")
    if reader.finished is not None or not endless:
        _finish(reading, file, finished=bool(reader.finished), claimed=reader.claimed, seen=reader.records)


class _Reader:
    def __init__(self, file: str, reading: Reading, where: FileCoverage, *, mandiant: bool) -> None:
        self.mandiant = mandiant
        self.file = file
        self.reading = reading
        self.where = where
        self.records = 0
        self.finished: bool | None = None
        self.claimed: int | None = None
        self.last_odd = 0
        self.streamed = False

    def plain(self, found: list[Line]) -> bool:
        """Whether every line is surely a record: the closing line has no timestamp, nor has what is none of the log's."""
        return None not in (stamps := [line.timestamp for line in found]) and "" not in stamps

    def whole(self, found: list[Line], before: int) -> Iterator[Record]:
        """The wanted records of a block in which every line is one; `before` lines came before it."""
        reading, coverage = self.reading, self.reading.coverage
        size = len(found)
        self.records += size
        coverage.records += size
        reading.count(self.where, "record", size)
        paths = [line.processImagePath or "" for line in found]
        counts = Counter(paths)
        names: Counter[str] = Counter()
        for path, seen in counts.items():
            names[path.rpartition("/")[2]] += seen
        reading.processes(names)
        reading.saw(self.where, moment_of(found[0].timestamp))
        reading.saw(self.where, moment_of(found[-1].timestamp))
        first = found[0].bootUUID
        one_boot = [line.bootUUID for line in found].count(first) == size
        if one_boot:
            reading.boot_of((first or "").upper())
        if reading.interest is None:
            wanted: list[int] | range = range(size)
        else:
            wanted = self.wanted(found, paths, counts, reading.interest)
        chosen = () if one_boot else frozenset(wanted)
        for index in wanted if one_boot else range(size):
            line = found[index]
            boot = reading.boot_of((line.bootUUID or "").upper())
            if not one_boot and index not in chosen:
                continue
            record = record_of(line, file=self.file, number=before + index + 1, boot=boot)
            reading.saw(self.where, record.time)
            coverage.given += 1
            if record.kind == records.LOSS:
                self._lost(record)
            yield record

    def wanted(self, found: list[Line], paths: list[str], counts: Counter[str], interest: Interest) -> list[int]:
        """The places in a block of what is of interest.

        Each question is asked of the block first: most have the answer no, and then no record is looked at.
        """
        places: set[int] = set()
        processes = {path for path in counts if path.rpartition("/")[2] in interest.processes}
        if processes:
            places.update([index for index, path in enumerate(paths) if path in processes])
        systems = [line.subsystem for line in found]
        subsystems = {name for name in set(systems) if name and interest.names_subsystem(name)}
        if subsystems:
            places.update([index for index, name in enumerate(systems) if name in subsystems])
        if interest.levels:
            levels = [line.messageType for line in found]
            for level in interest.levels:
                if level in levels:
                    places.update([index for index, name in enumerate(levels) if name == level])
        kinds = [line.eventType for line in found]
        if kinds.count("logEvent") != len(kinds):
            places.update([index for index, kind in enumerate(kinds) if kind in _ALWAYS])
        if interest.texts:
            places |= self.reading.texts.places([line.eventMessage or "" for line in found])
        return sorted(places)

    def one(self, raw: bytes, number: int) -> Iterator[Record]:
        """A line on its own."""
        reading = self.reading
        found = decode_block(raw, 1, mandiant=self.mandiant) if raw[:1] == b"{" else None
        line = found[0] if found else decode_line(raw)
        if line is not None and not (line.timestamp or line.eventMessage or line.eventType):
            if line.finished is not None:
                self.finished, self.claimed = bool(line.finished), line.count
                reading.count(self.where, "marker")
                return
            line = None
        if line is not None:
            boot = reading.boot_of((line.bootUUID or "").upper())
            record = record_of(line, file=self.file, number=number, boot=boot)
            self.records += 1
            reading.coverage.records += 1
            reading.count(self.where, "record")
            reading.processes(Counter([record.process]))
            reading.saw(self.where, record.time)
            if record.kind == records.LOSS:
                self._lost(record)
            if reading.wants(record):
                reading.coverage.given += 1
                yield record
            return
        text = raw.decode("utf-8", "replace").strip("\r\n\ufeff")
        if not text.strip():
            reading.count(self.where, "blank")
            return
        marker = parse_marker(text)
        if marker is not None:
            reading.count(self.where, "marker")
            self.streamed = self.streamed or text.startswith("Filtering the log data")
            if marker.boot:
                reading.boot_of(marker.boot)
            reading.coverage.lost += marker.lost
            yield self._line(text, number, marker.kind)
            return
        self.last_odd = number
        reading.odd(self.where, self.file, number, text)
        yield self._line(text, number, records.TEXT)

    def _line(self, text: str, number: int, kind: str) -> Record:
        self.reading.coverage.given += 1
        order = (self.reading.boot_number, 0, number)
        return Record(message=text[:20_000], file=self.file, line=number, kind=kind, style="bare", order=order)

    def _lost(self, record: Record) -> None:
        marker = parse_marker(record.message)
        self.reading.coverage.lost += marker.lost if marker is not None and marker.lost else 1


def read_array(blocks: Blocks, file: str, reading: Reading) -> Iterator[Record]:
    """The records of `log show --style json`, or of any stream of JSON objects that span lines.

    A line belongs to the object that ends in it, or else to the one that it is within.
    """
    where = reading.begin(file, "json")
    splitter = ObjectSplitter()
    number = 0
    total = 0
    closed = False
    for block in blocks:
        for raw in block.removesuffix(b"\n").split(b"\n"):
            number += 1
            inside = splitter.depth > 0
            objects = splitter.feed(raw, number)
            if not objects and not inside and not splitter.depth:
                text = raw.decode("utf-8", "replace").strip("\r\ufeff")
                bare = text.strip()
                if not bare:
                    reading.count(where, "blank")
                elif not bare.strip("[], \t") or parse_marker(text) is not None:
                    reading.count(where, "marker")
                    closed = closed or bare.endswith("]")
                else:
                    reading.odd(where, file, number, text)
                    reading.coverage.given += 1
                    yield Record(message=text[:20_000], file=file, line=number, kind=records.TEXT, style="bare",
                                 order=(reading.boot_number, 0, number))  # fmt: skip
                continue
            if not objects:
                reading.count(where, "continuation" if inside else "record")
                continue
            reading.count(where, "continuation" if inside else "record")
            closed = closed or raw.rstrip().endswith(b"]")
            for found in objects:
                line = decode_line(found.data) if found.data else None
                if line is None or not (line.timestamp or line.eventMessage or line.eventType):
                    if line is None or line.finished is None:
                        reading.coverage.note(f"{file}: an object that is no log record at line {found.line}")
                    continue
                boot = reading.boot_of((line.bootUUID or "").upper())
                record = record_of(line, file=file, number=found.line, boot=boot, lines=found.lines, style="json")
                total += 1
                reading.coverage.records += 1
                reading.processes(Counter([record.process]))
                reading.saw(where, record.time)
                if reading.wants(record):
                    reading.coverage.given += 1
                    yield record
    rest = splitter.rest()
    if rest is not None:
        reading.coverage.truncated = True
        reading.coverage.note(f"{file}: the object that begins at line {rest.line} is cut off")
    _finish(reading, file, finished=closed and rest is None, claimed=None, seen=total)


def _finish(reading: Reading, file: str, *, finished: bool, claimed: int | None, seen: int) -> None:
    """A log that told its end stays finished only if every other one of the input did."""
    coverage = reading.coverage
    coverage.finished = finished if coverage.finished is None else coverage.finished and finished
    if claimed is not None and claimed != seen:
        coverage.note(f"{file}: the log says {claimed} records, {seen} were read")
    if not finished and seen:
        coverage.note(f"{file}: no closing record: the log was cut short")
