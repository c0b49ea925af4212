"""Whatever a user has, opened as one stream of records: `open_input(path)`.

    source = open_input(path, interest=Interest(processes={"sysextd"}, texts=("0xe00002d8",)))
    for record in source.records: ...       # one pass, streaming
    source.coverage, source.documents       # whole once the pass is over

The kind is found from the content, never from the name alone. A text may hold several things (prose, log lines, a
listing, a crash report): each line is accounted for in `source.coverage`. Documents met on the way (a listing, sysextd's
database, a crash report …) are parsed and in `source.documents`, each with its file and line.

Without `interest` every record is given out. With it, records of *log styles* that no interest names are counted (in
`coverage.records`, `.processes`, window, boots) but not given out: a gigabyte of log is read at the decoder's speed. TEXT, PARAGRAPH,
BOOT, CLOCK, LOSS and MARKER records are always given out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from harness.formats.records import Coverage, Record


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


@dataclass(frozen=True)
class Document:
    """Something that is no log, parsed.

    Attributes:
        kind: `listing`, `database`, `launchctl`, `launchctl-services`, `crash`, `panic`, `plist`, `manifest`, `result`, …
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
class Source:
    """One input, opened.

    Attributes:
        input: What the user named ("-" for standard input).
        kind: `ndjson`, `json`, `log-default`, `log-compact`, `log-syslog`, `console`, `text` (anything pasted: prose, mixed),
            `listing`, `database`, `launchctl`, `ips`, `crash`, `panic`, `plist`, `sysdiagnose`, `archive`, `logarchive`,
            `tracev3`, `case-file`, `folder`.
        records: To be iterated once.
        coverage: See `Coverage`; final after the iteration.
        documents: In the order in which they were met; complete after the iteration.
    """

    input: str
    kind: str
    records: Iterator[Record]
    coverage: Coverage = field(default_factory=Coverage)
    documents: list[Document] = field(default_factory=list)


def open_input(
    source: str | Path | bytes | BinaryIO, *, name: str | None = None, interest: Interest | None = None
) -> Source:
    """Open a file, a folder (a case file, a `.logarchive`), bytes or a binary stream.

    Args:
        source: Where it is; "-" is standard input.
        name: What to call it; the path's own by default.
        interest: See the module.

    Raises:
        UsageError: There is no such file, it is empty, or it cannot be read.
        FormatError: It is of a kind that nothing can be read from (a picture, an executable).
    """
    raise NotImplementedError
