"""Whatever a user has, opened as one stream of records: `open_input(path)`.

    source = open_input(path, interest=Interest(processes=frozenset({"sysextd"}), texts=("0xe00002d8",)))
    for record in source.records: ...       # one pass, streaming
    source.coverage, source.documents       # whole once the pass is over

The kind is found from the content, never from the name alone. A text may hold several things (prose, log lines, a
listing, a crash report): each line is accounted for in `source.coverage`. Documents met on the way (a listing, sysextd's
database, a crash report …) are parsed and in `source.documents`, each with its file and line; their lines are no records.

Without `interest` every record is given out. With it, log records that it does not name are counted (in `coverage.records`,
`.processes`, the window, the boots) but not given out: a gigabyte of log is read at the decoder's speed. TEXT, PARAGRAPH,
BOOT, CLOCK, LOSS and MARKER records are always given out, and so are pasted lines with no more than a process's name.

Records come file by file, within a file in its order; to see several files as one log, sort by `time`, within one boot of one
Mac by `order`. Pasted text in which a log line is followed by a line without a head takes that for a part of its message:
match a message's lines one by one (`Record.each_line`) where the process matters.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from harness.errors import SysextError, UsageError
from harness.formats import FormatError
from harness.formats.failures import excerpt
from harness.formats.records import Coverage, Record
from harness.triage import casefile, logarchive
from harness.triage.archives import MOST, Bounded, Member, opened_zip, tar_members, tar_names, unpacked, zip_members
from harness.triage.detect import sniff, text_kind
from harness.triage.logarchive import Store
from harness.triage.members import looks_like_sysdiagnose, read_content, read_head, read_member, role_of
from harness.triage.merging import boot_order, boots_in, merged
from harness.triage.reading import Document, Interest, Readable, Reading

__all__ = ["Coverage", "Document", "Interest", "Record", "Source", "Window", "open_input"]

Window = tuple[datetime, datetime]
MAX_FOLDER: Final = 20_000
_BINARY_HINT = "give a log, a sysdiagnose, a crash report, a listing, or a folder with such files"


@dataclass
class Source:
    """One input, opened.

    Attributes:
        input: What the user named ("-" for standard input).
        kind: `ndjson`, `mandiant`, `json`, `log-default`, `log-compact`, `log-syslog`, `console`, `text` (anything pasted: prose,
            mixed), `listing`, `database`, `launchctl`, `ips`, `crash`, `panic`, `plist`, `sysdiagnose`, `archive`, `logarchive`,
            `tracev3`, `case-file`, `folder`.
        records: To be iterated once.
        coverage: See `Coverage`; final after the iteration.
        documents: In the order in which they were met; complete after the iteration. Besides the kinds of `Document`:
            `logarchive` (`ArchiveFacts`), `manifest` and `result` (a case file's own), `text` (small texts kept as they are).
    """

    input: str
    kind: str
    records: Iterator[Record]
    coverage: Coverage = field(default_factory=Coverage)
    documents: list[Document] = field(default_factory=list)

    def drain(self) -> list[Record]:
        """All records that are left, for small inputs."""
        return list(self.records)


def open_input(
    source: str | Path | bytes | BinaryIO,
    *,
    name: str | None = None,
    interest: Interest | None = None,
    window: Window | None = None,
) -> Source:
    """Open a file, a folder (a case file, a `.logarchive`, an unpacked sysdiagnose), bytes or a binary stream.

    Args:
        source: Where it is; "-" is standard input.
        name: What to call it; the path's own by default.
        interest: See the module.
        window: Of a log archive, decode only what may be between these two moments.

    Raises:
        UsageError: There is no such file, it is empty, or it cannot be read.
        FormatError: It is of a kind that nothing can be read from (a picture, an executable).
    """
    reading = Reading(interest)
    if isinstance(source, bytes):
        return _stream(io.BytesIO(source), name or "(bytes)", reading, len(source), window, None)
    if isinstance(source, str | Path):
        if str(source) == "-":
            return _stream(sys.stdin.buffer, name or "-", reading, None, window, None)
        path = Path(source)
        try:
            if path.is_dir():
                return _folder(path, name or str(source), reading, window)
            if not path.exists():
                raise UsageError(f"a file or folder {source}", seen="there is none", hint="check the path")
            file = path.open("rb")
            size = path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise UsageError(
                f"{source} to be readable", seen=error.strerror or str(error), hint="check its permissions"
            ) from error
        try:
            return _stream(file, name or str(source), reading, size, window, path)
        except BaseException:
            file.close()
            raise
    return _stream(source, name or str(getattr(source, "name", "(stream)")), reading, None, window, None)


def _stream(
    stream: BinaryIO,
    name: str,
    reading: Reading,
    size: int | None,
    window: Window | None,
    path: Path | None,
    *,
    logs: bool = True,
    prefix: str = "",
) -> Source:
    try:
        head = read_head(stream)
    except OSError as error:
        raise UsageError(f"{name} to be readable", seen=error.strerror or str(error), hint="is it whole?") from error
    kind = sniff(head)
    if kind == "empty":
        raise UsageError(
            f"something to read in {name}",
            seen="nothing" if not head else "blank lines only",
            hint="an empty `log show` means that it had no access to the log: run it with sudo",
        )
    short = Path(name).name or name
    if kind in ("binary", "yaa"):
        raise FormatError(f"text, a log or an archive in {name}", seen=excerpt(head[:24].hex()), hint=_BINARY_HINT)
    plain: Readable = Bounded(stream, MOST)
    if kind in ("gzip", "bzip2", "xz"):
        packed = unpacked(kind, stream, head, size)
        inner = read_head(packed)
        if not inner:
            raise UsageError(
                f"{name} to be a whole {kind} file", seen=packed.why or "nothing in it", hint="copy it once more"
            )
        kind, head, plain, path = sniff(inner), inner, packed, None
        if kind in ("gzip", "zip", "bzip2", "xz", "yaa", "binary", "empty"):
            raise FormatError(f"text, a log or a tar in {name}", seen=f"{kind} within", hint="unpack it once by hand")
    if kind == "tar":
        whole = _Reread(head, plain)
        return _finished(
            name, "archive", _tar(whole, reading, window, logs=logs, prefix=prefix), reading, stream, top=_top(head)
        )
    if kind == "zip":
        if path is None and not stream.seekable():
            raise UsageError(
                f"{name} as a file", seen="a zip that streams", hint="a zip is read from its end: save it first"
            )
        members = zip_members(opened_zip(path or stream, name), reading.coverage)
        records = _members(members, reading, window, logs=logs, prefix=prefix)
        return _finished(name, "archive", records, reading, stream)
    if kind == "tracev3":
        return _finished(name, "tracev3", _trace(head, short, size, reading), reading, stream)
    if kind == "utf-16":
        text = _Utf8(plain, head)
        head, plain = read_head(text), text
        kind = sniff(head)
    if kind == "text" and b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        plain, head = _Newlines(plain), head.replace(b"\r", b"\n")
    if kind == "text":
        kind = text_kind(head)
    elif kind == "plist":
        records = read_member(short, _Reread(head, plain), "database", reading)
        source = _finished(name, "plist", records, reading, stream)
        first = list(source.records)  # it is small, and its kind is known only now
        if any(document.kind == "database" for document in reading.documents):
            source.kind = "database"
        if not reading.documents:
            raise FormatError(f"a property list in {name}", seen=excerpt(head[:24].hex()), hint=_BINARY_HINT)
        source.records = iter(first)
        return source
    records = read_content(short, _Reread(head, plain), reading)
    return _finished(name, kind, records, reading, stream, bounded=plain)


def _finished(
    name: str,
    kind: str,
    records: Iterator[Record],
    reading: Reading,
    stream: BinaryIO,
    *,
    top: str = "",
    bounded: object = None,
) -> Source:
    if looks_like_sysdiagnose(top):
        kind = "sysdiagnose"

    def closing() -> Iterator[Record]:
        try:
            yield from records
            if why := getattr(bounded, "why", ""):
                reading.coverage.truncated = True
                reading.coverage.note(f"{name}: {why}")
        finally:
            if stream is not sys.stdin.buffer:
                stream.close()

    return Source(name, kind, closing(), reading.coverage, reading.documents)


def _tar(stream: Readable, reading: Reading, window: Window | None, *, logs: bool, prefix: str) -> Iterator[Record]:
    yield from _members(tar_members(stream, reading.coverage), reading, window, logs=logs, prefix=prefix)
    if why := getattr(stream, "why", ""):
        reading.coverage.truncated = True
        reading.coverage.note(f"the archive: {why}")


def _members(
    members: Iterator[Member], reading: Reading, window: Window | None, *, logs: bool, prefix: str
) -> Iterator[Record]:
    """The records of an archive's files. Without `logs` only its documents are read."""
    with tempfile.TemporaryDirectory(prefix="sysext-triage-") as scratch:
        store = Store(Path(scratch) if logs and logarchive.decoder() is not None else None)
        simulated = False
        loose: bool | None = None
        for member in members:
            if loose is None or (loose and looks_like_sysdiagnose(member.name)):
                loose = not looks_like_sysdiagnose(member.name) and ".logarchive/" not in member.name
            name = prefix + member.name
            role = role_of(name, loose=loose)
            if role == "nested":
                reading.coverage.skip(name, "an archive within the archive: open it by itself")
            elif role == "store" or (role == "archive-info"):
                store.take(name, member.size, member.stream)
            elif role == "simulated-log":
                simulated = True
                if logs:
                    yield from read_member(name, member.stream, role, reading)
            elif role == "log" and not logs:
                reading.coverage.skip(name, "the log was read from another file")
            elif role:
                yield from read_member(name, member.stream, role, reading)
            elif store.keeps(name):
                store.take(name, member.size, member.stream)
            if why := getattr(member.stream, "why", ""):
                reading.coverage.truncated = True
                reading.coverage.note(f"{name}: {why}")
        facts = store.live()
        if facts is not None and (facts.files or facts.boots or facts.info):
            facts.simulated = simulated
            logarchive.told(facts, reading)
            if facts.files and logs and not simulated:
                folder = store.folder(facts.root) if store.keep is not None else Path(scratch)
                yield from logarchive.decode(folder, facts, reading, window)
        if simulated:
            reading.coverage.note("a simulated Mac's log archive")


def _trace(head: bytes, name: str, size: int | None, reading: Reading) -> Iterator[Record]:
    facts = logarchive.ArchiveFacts(name)
    facts.add_trace(name, size or len(head), head)
    facts.settle()
    logarchive.told(facts, reading)
    reading.coverage.note("a single tracev3 file: its strings are elsewhere; give the whole .logarchive")
    return iter(())


def _folder(path: Path, name: str, reading: Reading, window: Window | None) -> Source:
    if logarchive.is_archive(path):
        records = logarchive.read_folder(path, path.name, reading, window)
        return Source(name, "logarchive", records, reading.coverage, reading.documents)
    if casefile.is_case_file(path):
        return Source(name, "case-file", _case(path, reading, window), reading.coverage, reading.documents)
    files = [file for file in sorted(path.rglob("*"))[:MAX_FOLDER] if file.is_file() and not file.is_symlink()]
    sysdiagnose = looks_like_sysdiagnose(path.name) or any(file.name == "sysdiagnose.log" for file in files)
    if not any(role_of(file.relative_to(path).as_posix(), loose=not sysdiagnose) for file in files):
        raise UsageError(
            f"files of use in the folder {name}",
            seen=f"none of its {len(files)} files is one" if files else "it is empty",
            hint=_BINARY_HINT,
        )
    kind = "sysdiagnose" if sysdiagnose else "folder"
    return Source(
        name, kind, _files(path, files, reading, window, loose=not sysdiagnose), reading.coverage, reading.documents
    )


def _files(root: Path, files: list[Path], reading: Reading, window: Window | None, *, loose: bool) -> Iterator[Record]:
    """The files of a folder, as an archive's are; archives of logs in it as such."""
    archives = sorted(
        {parent for file in files for parent in file.parents if parent.suffix == ".logarchive" and parent != root}
    )
    for file in files:
        name = file.relative_to(root).as_posix()
        if any(archive in file.parents for archive in archives):
            continue
        role = role_of(name, loose=loose)
        if role == "nested":
            reading.coverage.skip(name, "an archive in the folder: open it by itself")
        elif role and role != "store":
            with file.open("rb") as stream:
                yield from read_member(name, stream, role, reading)
    if archives:
        live = max(archives, key=lambda folder: sum(1 for _ in folder.rglob("*")))
        yield from logarchive.read_folder(live, live.relative_to(root).as_posix(), reading, window)


def _case(path: Path, reading: Reading, window: Window | None) -> Iterator[Record]:
    found = casefile.plan(path, reading)
    seen = casefile.Seen()
    for name, role in found.states:
        with (path / name).open("rb") as stream:
            yield from read_member(name, stream, role, reading)
    yield from seen.fresh(_logs(path, found.logs, reading))
    for name in found.archives:
        logged = reading.coverage.records > 0
        if logged and name.endswith(".logarchive.tar"):
            reading.coverage.skip(name, "the log was read from another file")
            continue
        file = (path / name).open("rb")
        size = (path / name).stat().st_size
        try:
            inner = _stream(file, name, reading, size, window, path / name, logs=not logged, prefix=f"{name}/")
        except SysextError as error:
            file.close()
            reading.coverage.skip(name, f"{error.expected}: {error.seen}")
            continue
        yield from seen.fresh(inner.records)
    if seen.repeated:
        reading.coverage.note(f"{seen.repeated} records were in more than one file: given out once")


def _logs(path: Path, names: list[str], reading: Reading) -> Iterator[Record]:
    """The logs of a case file as one (see `merging`): all are of one Mac, and each has what another has not."""
    order = boot_order([boots_in(path / name) for name in names])
    for boot in order:
        reading.boot_of(boot)
    with contextlib.ExitStack() as files:
        streams = [files.enter_context((path / name).open("rb")) for name in names]
        both = zip(names, streams, strict=True)
        yield from merged([read_member(name, stream, "log", reading) for name, stream in both], order)


def _top(head: bytes) -> str:
    """The name of a tar's first member, as far as its beginning tells."""
    return next((member for member in tar_names(head)), "")


class _Reread:
    """What was read to look at it, and then the rest."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    @property
    def why(self) -> str:
        """Why the stream ended before its end."""
        return str(getattr(self._stream, "why", ""))

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        if self._head:
            piece = self._head if size < 0 else self._head[:size]
            self._head = self._head[len(piece) :]
            return piece
        return self._stream.read(size)


class _Utf8:
    """A UTF-16 stream as UTF-8."""

    def __init__(self, stream: Readable, head: bytes) -> None:
        self._stream = stream
        self._head = head
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")

    def read(self, size: int = -1, /) -> bytes:
        """Some bytes; b"" at the end."""
        while True:
            piece, self._head = (self._head or self._stream.read(max(size, 4096))), b""
            text = self._decoder.decode(piece, final=not piece)
            if text or not piece:
                return text.encode("utf-8", "replace")


class _Newlines:
    """A text with nothing but carriage returns, as some programs still copy it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        return self._stream.read(size).replace(b"\r", b"\n")
