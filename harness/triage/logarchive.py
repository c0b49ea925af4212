"""`.logarchive`: what its headers say, and its entries through a decoder that is installed.

The headers tell, in milliseconds and anywhere: the Mac's build and model, its zone, its boots with their wall clocks, which
span of time each tracev3 file begins at, and so which files matter for a window. The entries need Apple's `log show` (on
macOS) or macos-UnifiedLogs' `unifiedlog_iterator` (in PATH); without one the coverage says so. A simulated Mac's archive
holds its log as ndjson in `Extra/`; it is read and called simulated.

What those who ran such decoders met is heeded: standard error goes to a file (a pipe that nobody drains ends in a deadlock);
links in the store are not followed and would give an empty answer, so they are said; of several archives in one tree the one
with the most files is the live one; times of 1970 are times that were never resolved; an empty answer with exit code 0 is no answer.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Final

from harness.formats import FormatError
from harness.formats.plists import load_plist, text_of
from harness.formats.records import Record
from harness.formats.tracev3 import (
    HEADER_BYTES,
    BootClock,
    TraceHeader,
    parse_timesync,
    parse_trace_header,
)
from harness.triage.ndjson import read_ndjson
from harness.triage.reading import Blocks, Readable, Reading

MAX_KEPT: Final = 8 << 30
"""Bytes of a store that are copied out of an archive for a decoder."""
DECODER_SECONDS: Final = 1800.0
MAX_TIMESYNC: Final = 16 << 20
FOLDERS: Final = ("Persist", "Special", "Signpost", "HighVolume", "timesync")
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}")
_MARGIN = timedelta(minutes=5)


@dataclass(frozen=True)
class TraceFile:
    """One tracev3 file: where it is, its size, its header, and when it begins by the wall clock."""

    path: str
    size: int
    header: TraceHeader
    begins: datetime | None


@dataclass
class ArchiveFacts:
    """What the headers of one archive say.

    Attributes:
        root: Its folder.
        files: tracev3 files, by their beginnings.
        boots: Boot clocks of all timesync files.
        info: The archive's Info.plist.
        damaged: Files whose header could not be read, and why.
        simulated: Whether a simulated Mac made it.
    """

    root: str
    files: list[TraceFile] = field(default_factory=list)
    boots: list[BootClock] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    simulated: bool = False

    @property
    def build(self) -> str:
        """The latest file's build: "24G84"; "" if there is none."""
        return next((file.header.build for file in reversed(self.files) if file.header.build), "")

    @property
    def model(self) -> str:
        """The Mac's model."""
        return next((file.header.model for file in reversed(self.files) if file.header.model), "")

    @property
    def zone(self) -> str:
        """Name of the zone in which it was last used."""
        return next((file.header.zone for file in reversed(self.files) if file.header.zone), "")

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """From the first file's beginning to the last clock reading; None if no clock fits."""
        begins = [file.begins for file in self.files if file.begins is not None]
        used = {file.header.boot_uuid for file in self.files}
        ends = [boot.last for boot in self.boots if boot.last is not None and boot.boot_uuid in used]
        if not begins:
            return None
        return min(begins), max([*begins, *ends])

    def settle(self) -> None:
        """Work the wall clocks out, once all headers and clocks are there."""
        clocks: dict[str, list[BootClock]] = {}
        for boot in self.boots:
            clocks.setdefault(boot.boot_uuid, []).append(boot)
        settled = []
        for file in self.files:
            known = clocks.get(file.header.boot_uuid, [])
            begins = next((at for clock in known if (at := clock.at(file.header.continuous)) is not None), None)
            settled.append(TraceFile(file.path, file.size, file.header, begins))
        self.files = sorted(settled, key=lambda file: (file.begins is None, file.begins or 0, file.path))

    def within(self, start: datetime, end: datetime) -> list[TraceFile]:
        """The files that may hold entries between two moments: a file goes until the next of its folder begins."""
        chosen = []
        for folder in {PurePosixPath(file.path).parent.name for file in self.files}:
            row = [file for file in self.files if PurePosixPath(file.path).parent.name == folder]
            for file, following in zip(row, [*row[1:], None], strict=True):
                if file.begins is None:
                    chosen.append(file)
                    continue
                until = following.begins if following is not None else None
                if file.begins <= end + _MARGIN and (until is None or until >= start - _MARGIN):
                    chosen.append(file)
        return sorted(chosen, key=lambda file: file.path)

    def add_trace(self, path: str, size: int, head: bytes) -> None:
        """Take a tracev3 file's beginning."""
        try:
            self.files.append(TraceFile(path, size, parse_trace_header(head), None))
        except FormatError as error:
            self.damaged.append((path, error.seen))

    def add_info(self, data: bytes) -> None:
        """Take the archive's Info.plist."""
        try:
            self.info = load_plist(data, "Info.plist of the log archive")
        except FormatError as error:
            self.damaged.append(("Info.plist", error.seen))

    def describe(self) -> str:
        """One line for people."""
        parts = [f"{len(self.files)} tracev3 files", f"{len({boot.boot_uuid for boot in self.boots})} boots"]
        if self.build or self.model:
            parts.append(f"{self.model} {self.build}".strip())
        if self.span is not None:
            first, last = self.span
            parts.append(f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC")
        if self.zone:
            parts.append(self.zone)
        if version := text_of(self.info.get("OSArchiveVersion")):
            parts.append(f"archive version {version}")
        return ", ".join(parts)


class Store:
    """Archives met while an input streams by, or found in a folder: headers are read, and kept for a decoder if there is one.

    Args:
        keep: Folder to copy the stores into; None if nothing would decode them.
    """

    def __init__(self, keep: Path | None) -> None:
        self.archives: dict[str, ArchiveFacts] = {}
        self.keep = keep
        self.kept = 0
        self.full = False

    def facts(self, root: str) -> ArchiveFacts:
        """The facts of the archive at that path."""
        if root not in self.archives and len(self.archives) >= 50:
            root = next(iter(self.archives))
        return self.archives.setdefault(root, ArchiveFacts(root))

    def take(self, name: str, size: int, stream: Readable) -> None:
        """Take a file of a store: its header at least."""
        root, inside = split_root(name)
        facts = self.facts(root)
        head = _read(stream, HEADER_BYTES if name.endswith(".tracev3") else MAX_TIMESYNC)
        if name.endswith(".tracev3"):
            facts.add_trace(inside, size, head)
        elif name.endswith(".timesync"):
            facts.boots += parse_timesync(head)
        elif name.endswith("Info.plist"):
            facts.add_info(head)
        if self.keep is not None:
            self._copy(root, inside, head, stream)

    def keeps(self, name: str) -> bool:
        """Whether a file (a string table) is of no use to us but to a decoder."""
        if self.keep is None:
            return False
        root, inside = split_root(name)
        return bool(root) and (inside.startswith("dsc/") or re.match(r"[0-9A-F]{2}/[0-9A-F]{30}$", inside) is not None)

    def _copy(self, root: str, inside: str, head: bytes, stream: Readable) -> None:
        parts = PurePosixPath(inside).parts
        if self.full or not parts or not all(_SAFE.fullmatch(part) for part in parts):
            return
        target = self.folder(root)
        target = target.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            piece = head
            while piece:
                self.kept += len(piece)
                if self.kept > MAX_KEPT:
                    self.full = True
                    return
                file.write(piece)
                piece = stream.read(1 << 20)

    def folder(self, root: str) -> Path:
        """Where an archive is kept for a decoder."""
        assert self.keep is not None
        return self.keep / f"{hashlib.sha256(root.encode('utf-8', 'replace')).hexdigest()[:12]}.logarchive"

    def live(self) -> ArchiveFacts | None:
        """The archive with the most files: others are leftovers of collections that broke off."""
        for facts in self.archives.values():
            facts.settle()
        return max(self.archives.values(), key=lambda facts: (len(facts.files), len(facts.boots)), default=None)


def split_root(name: str) -> tuple[str, str]:
    """("…/system_logs.logarchive", "Persist/1.tracev3"), also where the archive lost its name."""
    match = re.match(r"(.*?\.logarchive)/(.+)$", name)
    if match is not None:
        return match.group(1), match.group(2)
    parts = PurePosixPath(name).parts
    for index, part in enumerate(parts):
        if part in FOLDERS:
            return "/".join(parts[:index]), "/".join(parts[index:])
    return "/".join(parts[:-1]), parts[-1] if parts else ""


def is_archive(folder: Path) -> bool:
    """Whether a folder is a log archive, whatever its name."""
    if folder.suffix == ".logarchive":
        return True
    return (folder / "timesync").is_dir() and any(
        (folder / name).is_dir() for name in ("Persist", "Special", "HighVolume")
    )


def decoder() -> tuple[str, str] | None:
    """What decodes entries on this machine: ("log", path) or ("unifiedlog_iterator", path); None if nothing does."""
    if sys.platform == "darwin" and Path("/usr/bin/log").exists():
        return "log", "/usr/bin/log"
    found = shutil.which("unifiedlog_iterator")
    return ("unifiedlog_iterator", found) if found else None


def read_folder(
    folder: Path, name: str, reading: Reading, window: tuple[datetime, datetime] | None
) -> Iterator[Record]:
    """The records of an archive on disk, its facts as a document of kind `logarchive`."""
    store = Store(None)
    simulated: Path | None = None
    links = []
    for path in sorted(folder.rglob("*"))[:100_000]:
        inside = path.relative_to(folder).as_posix()
        if path.is_symlink():
            links.append(inside)
            continue
        if not path.is_file() or path.name.startswith("._"):
            continue
        if path.name == "simulated-log.ndjson":
            simulated = path
        elif path.suffix in (".tracev3", ".timesync") or inside == "Info.plist":
            with path.open("rb") as file:
                store.take(f"{name}.logarchive/{inside}", path.stat().st_size, file)
    if links:
        reading.coverage.note(f"{name}: links are not followed: {', '.join(links[:5])}")
    facts = store.live() or ArchiveFacts(name)
    facts.root = name
    facts.simulated = simulated is not None
    told(facts, reading)
    if simulated is not None:
        reading.coverage.note(f"{name}: a simulated Mac's log archive")
        with simulated.open("rb") as file:
            yield from read_ndjson(Blocks(file), f"{name}/Extra/simulated-log.ndjson", reading)
        return
    if facts.files:
        yield from decode(folder, facts, reading, window)


def told(facts: ArchiveFacts, reading: Reading) -> None:
    """Put an archive's facts where they are seen."""
    reading.document("logarchive", facts, facts.root)
    if facts.files or facts.boots:
        reading.coverage.note(f"{facts.root}: {facts.describe()}")
    for path, why in facts.damaged[:20]:
        reading.coverage.skip(f"{facts.root}/{path}", f"no header: {why}")


def decode(
    folder: Path, facts: ArchiveFacts, reading: Reading, window: tuple[datetime, datetime] | None
) -> Iterator[Record]:
    """The entries, by the decoder that is installed; a note if there is none or it gave nothing."""
    chosen = decoder()
    if chosen is None:
        size = sum(file.size for file in facts.files)
        reading.coverage.note(
            f"{facts.root}: the entries of {len(facts.files)} tracev3 files ({size:,} bytes) were not read: neither `log` nor"
            " `unifiedlog_iterator` is installed here. On a Mac: log show --archive PATH --style ndjson --info --debug"
        )
        return
    tool, path = chosen
    file = f"{facts.root} ({tool})"
    with tempfile.TemporaryDirectory(prefix="sysext-triage-") as scratch:
        argv = [path, "--mode", "log-archive", "--input", str(folder), "--format", "jsonl"]
        if tool == "log":
            argv = [path, "show", "--archive", str(folder), "--style", "ndjson", "--info", "--debug", "--loss"]
            if window is not None:
                argv += ["--start", f"{window[0]:%Y-%m-%d %H:%M:%S%z}", "--end", f"{window[1]:%Y-%m-%d %H:%M:%S%z}"]
        elif window is not None and facts.files:
            argv[4] = str(_part(folder, facts, window, Path(scratch)))
        before = reading.coverage.records
        with _running(argv, Path(scratch) / "errors") as (stream, result):
            yield from read_ndjson(Blocks(stream), file, reading, mandiant=tool != "log")
        errors = result.errors
    seen = reading.coverage.records - before
    if result.code == 65:
        reading.coverage.note(f"{file}: the archive is of a newer macOS than this one's `log` reads")
    elif result.code != 0:
        reading.coverage.truncated = True
        reading.coverage.note(f"{file}: ended with {result.code}: {errors[-300:]}")
    if not seen:
        reading.coverage.note(f"{file}: gave no entries; {errors[-300:] or 'and no reason'}")


def _part(folder: Path, facts: ArchiveFacts, window: tuple[datetime, datetime], scratch: Path) -> Path:
    """A folder with links to the whole but only the tracev3 files of the window, as real files' hard links or copies."""
    target = scratch / "part.logarchive"
    names = {file.path for file in facts.within(*window)}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file() or (path.suffix == ".tracev3" and inside not in names):
            continue
        copy = target / inside
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            copy.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, copy)
    target.mkdir(exist_ok=True)
    return target


@dataclass
class _Result:
    code: int = 0
    errors: str = ""


@contextmanager
def _running(argv: list[str], errors: Path) -> Iterator[tuple[Readable, _Result]]:
    """A decoder's standard output; it is ended when its time is up, and when nobody reads on."""
    result = _Result()
    with errors.open("wb") as sink:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sink)
        timer = threading.Timer(DECODER_SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None
            yield process.stdout, result
        except GeneratorExit:
            process.kill()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
            if process.poll() is None:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            timer.cancel()
            timer.join()
            result.code = process.returncode
            with errors.open("rb") as file:
                file.seek(max(0, errors.stat().st_size - 4000))
                result.errors = file.read().decode("utf-8", "replace").strip()


def _read(stream: Readable, size: int) -> bytes:
    pieces = []
    held = 0
    while held < size and (piece := stream.read(size - held)):
        pieces.append(piece)
        held += len(piece)
    return b"".join(pieces)
