"""The reader of texts: logs in any text style, and whatever people paste between them. One pass, line by line.

Each line is in exactly one class: `record` (it begins one), `continuation` (it goes on with one), `marker`, `blank`,
`document` (a listing, a report …), `prose` (anything else). Nothing is dropped: what is in no document and begins no log
record is a TEXT record of its own.

A line without a head that follows a log line directly belongs to it: messages have newlines. In a text that is a log and
nothing else, it does so across empty lines too, unless it reads like a sentence; where people write between the lines, an
empty line ends the message.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from harness.formats import records
from harness.formats.logs_array import decode_object, record_from_json
from harness.formats.logs_markers import parse_marker
from harness.formats.logs_scan import decode_line, line_of, record_of
from harness.formats.logs_text import Head, parse_head
from harness.formats.records import Record
from harness.triage.blocks import Block, is_prose, opening
from harness.triage.reading import Blocks, Reading

MAX_MESSAGE: Final = 256 * 1024
"""Characters of a message with all its lines; what is beyond is dropped, its lines are counted."""
MAX_PARAGRAPH: Final = 64 * 1024
STAMPED: Final = frozenset(
    ("default", "compact", "nslog", "syslog", "short", "console", "bsd", "dated", "stamped", "app", "clock")
)
_QUOTED = re.compile(r"(?:>\s?){1,4}")


def read_text(blocks: Blocks, file: str, reading: Reading, kind: str = "text") -> Iterator[Record]:
    """The records of a text."""
    reader = _Text(file, reading, kind)
    for block in blocks:
        for raw in block.removesuffix(b"\n").split(b"\n"):
            reader.line(raw)
        if reader.out:
            yield from reader.out
            reader.out.clear()
        reader.tally()
    reader.end()
    yield from reader.out
    if blocks.cut:
        reading.coverage.truncated = True
        reading.coverage.note(f"{file}: {blocks.cut} overlong lines lost their end")


class _Text:
    def __init__(self, file: str, reading: Reading, kind: str) -> None:
        self.file = file
        self.reading = reading
        self.where = reading.begin(file, kind)
        self.out: list[Record] = []
        self.number = 0
        self.mixed = False
        self.head: Head | None = None
        self.head_line = 0
        self.more: list[str] = []
        self.size = 0
        self.span = 1
        self.blanks = 0
        self.paragraph: list[str] = []
        self.paragraph_line = 0
        self.paragraph_size = 0
        self.block: Block | None = None
        self.names: Counter[str] = Counter()
        self.naive = False

    def line(self, raw: bytes) -> None:
        """Take the next line."""
        self.number += 1
        text = raw.decode("utf-8", "replace")
        if text.endswith("\r"):
            text = text[:-1]
        if self.number == 1:
            text = text.lstrip("\ufeff")
        self.text(text)

    def text(self, text: str) -> None:
        """The line, decoded; again for lines that a block gave back."""
        if self.block is not None:
            if self.block.take(self.bare(text)):
                if self.block.done:
                    self.close()
                return
            self.close()
        if not text or text.isspace():
            self.reading.count(self.where, "blank")
            self.blanks += 1
            if self.head is None or self.mixed or self.head.style not in STAMPED:
                self.flush()
            self.end_paragraph()
            return
        first = text[0]
        stamped = first.isdigit()
        head = parse_head(text) if stamped else None
        if head is None or "=== " in text or "lost " in text:
            marker = parse_marker(text)
            if marker is not None:
                self.marker(text, marker.kind, marker.boot, marker.lost)
                return
        if head is None:
            kind = opening(self.bare(text))
            if kind and not (self.open_message and self.within(kind, text)):
                self.flush()
                self.end_paragraph()
                self.block = Block(kind, self.number)
                self.block.take(self.bare(text))
                if self.block.done:
                    self.close()
                return
        if (head is None and not stamped) or head is None:
            head = parse_head(text)
        if head is not None:
            self.flush()
            self.end_paragraph()
            self.head, self.head_line, self.span, self.blanks = head, self.number, 1, 0
            self.reading.count(self.where, "record")
            return
        if self.continues(text):
            self.reading.count(self.where, "continuation")
            self.span += 1 + self.blanks
            if self.size < MAX_MESSAGE:
                self.more += [""] * self.blanks
                self.more.append(text)
                self.size += len(text) + 1
            self.blanks = 0
            return
        self.flush()
        self.prose(text)

    @property
    def open_message(self) -> bool:
        """Whether the line before belongs to a log record that can go on."""
        return self.head is not None and self.head.style in STAMPED and not self.blanks

    def within(self, kind: str, text: str) -> bool:
        """Whether what looks like a block is rather a part of the message: those hold braces and assignments, too."""
        return kind in ("json", "openstep", "xml") or (kind == "launchctl" and not text.rstrip().endswith("{"))

    def bare(self, text: str) -> str:
        """Without the marks of a quotation."""
        return text[match.end() :] if text[0:1] == ">" and (match := _QUOTED.match(text)) else text

    def continues(self, text: str) -> bool:
        """Whether a line without a head goes on with the message before it."""
        if self.head is None:
            return False
        if self.head.style not in STAMPED:  # a bare line: only what is indented below it
            return not self.blanks and text[0].isspace()
        if not self.blanks:
            return True
        return not self.mixed and not is_prose(text)

    def prose(self, text: str) -> None:
        """A line of no log."""
        self.mixed = True
        self.blanks = 0
        self.reading.count(self.where, "prose")
        self.reading.coverage.given += 1
        self.out.append(
            Record(
                message=text[:MAX_MESSAGE],
                file=self.file,
                line=self.number,
                order=(self.reading.boot_number, 0, self.number),
                kind=records.TEXT,
                style="bare",
            )
        )
        if self.paragraph_size > MAX_PARAGRAPH:
            self.end_paragraph()
        if not self.paragraph:
            self.paragraph_line = self.number
        self.paragraph.append(text[:MAX_PARAGRAPH])
        self.paragraph_size += len(text)

    def end_paragraph(self) -> None:
        """Give the lines of the paragraph once more, as one."""
        if len(self.paragraph) > 1:
            self.reading.coverage.given += 1
            self.out.append(
                Record(
                    message="\n".join(self.paragraph),
                    file=self.file,
                    line=self.paragraph_line,
                    lines=0,
                    order=(self.reading.boot_number, 0, self.paragraph_line),
                    kind=records.PARAGRAPH,
                    style="bare",
                )
            )
        self.paragraph, self.paragraph_size = [], 0

    def marker(self, text: str, kind: str, boot: str, lost: int) -> None:
        """A line about the log."""
        self.flush()
        self.end_paragraph()
        self.blanks = 0
        reading = self.reading
        reading.count(self.where, "marker")
        reading.coverage.lost += lost
        if kind == records.BOOT:
            reading.boot_of(boot or f"boot {self.number}")
        head = parse_head(text)
        reading.coverage.given += 1
        self.out.append(
            Record(
                time=reading.localised(head.time) if head else None,
                boot=boot,
                message=text[:4000],
                file=self.file,
                line=self.number,
                order=(reading.boot_number, 0, self.number),
                kind=kind,
                style="bare",
            )
        )

    def flush(self) -> None:
        """Give out the log record that was under way."""
        head = self.head
        if head is None:
            return
        self.head = None
        reading = self.reading
        reading.coverage.records += 1
        self.names[head.process] += 1
        message = head.message
        if self.more:
            message = "\n".join((message, *self.more))
            self.more = []
        self.size = 0
        record = Record(
            time=reading.localised(head.time),
            clock=head.clock,
            order=(reading.boot_number, 0, self.head_line),
            process=head.process,
            pid=head.pid,
            tid=head.tid,
            sender=head.sender,
            subsystem=head.subsystem,
            category=head.category,
            level=head.level,
            message=message,
            file=self.file,
            line=self.head_line,
            lines=self.span,
            kind=head.kind,
            style=head.style,
        )
        if record.time is not None:
            reading.saw(self.where, record.time)
            if record.time.tzinfo is None:
                self.naive = True
        if reading.wants(record):
            reading.coverage.given += 1
            self.out.append(record)

    def close(self) -> None:
        """The block is over: a document, log records, or lines of text after all."""
        block = self.block
        if block is None:
            return
        self.block = None
        blanks = block.trim()
        found = block.finish()
        if found is not None and found.kind == "json" and block.kind == "json" and self.records_of(block):
            found = None
        elif found is not None and (found.kind != "json" or len(block.lines) > 1):
            self.reading.count(self.where, "document", len(block.lines))
            self.reading.document(found.kind, found.value, self.file, block.first, len(block.lines), block.text)
            self.blanks = 0
        else:
            here = self.number
            for offset, text in enumerate(block.lines):
                self.number = block.first + offset
                if text.strip():
                    self.prose(text)
                else:
                    self.reading.count(self.where, "blank")
                    self.end_paragraph()
            self.number = here
        if blanks:
            self.reading.count(self.where, "blank", blanks)
            self.blanks = blanks
            self.end_paragraph()

    def records_of(self, block: Block) -> bool:
        """Whether the JSON object is a log record, or the log's end; if so it is given out."""
        data = block.text.encode("utf-8", "replace")
        value = decode_object(data)
        if value is None:
            return False
        line = decode_line(data) if len(block.lines) == 1 else None
        if line is not None and not line.timestamp and line.finished is not None:
            self.reading.count(self.where, "marker")
            coverage = self.reading.coverage
            coverage.finished = bool(line.finished) if coverage.finished is None else coverage.finished
            return True
        plain = record_from_json(value)
        if plain is None:
            return False
        found = line_of(plain)
        boot = self.reading.boot_of((found.bootUUID or "").upper())
        record = record_of(
            found,
            file=self.file,
            number=block.first,
            boot=boot,
            lines=len(block.lines),
            style="ndjson" if len(block.lines) == 1 else "json",
        )
        self.reading.count(self.where, "record")
        if len(block.lines) > 1:
            self.reading.count(self.where, "continuation", len(block.lines) - 1)
        self.reading.coverage.records += 1
        self.names[record.process] += 1
        self.reading.saw(self.where, record.time)
        if self.reading.wants(record):
            self.reading.coverage.given += 1
            self.out.append(record)
        return True

    def tally(self) -> None:
        """Hand the counts per process over."""
        self.reading.processes(self.names)
        self.names = Counter()

    def end(self) -> None:
        """The input is over."""
        if self.block is not None:
            if self.block.kind in ("json", "ips", "xml", "openstep") and not self.block.done:
                self.reading.coverage.truncated = True
            self.close()
        self.flush()
        self.end_paragraph()
        self.tally()
        if self.naive:
            self.reading.coverage.note(f"{self.file}: its times name no zone: they compare only among themselves")
