"""How a scenario was run, read back from its case file: a folder, one of its files, or an artifact that was downloaded.

    recorded = read_case(Path("macos-15.zip"), wanted="upgrade")

What is read may come from another host and is untrusted: sizes are bounded, an archive's names are never used as paths on this
host, nothing is unpacked.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import msgspec

from harness.errors import UsageError, Verdict
from harness.formats import FormatError
from harness.formats.records import Coverage
from harness.history.intervals import plural
from harness.reports.result import RESULT_NAME, CaseResult
from harness.triage.archives import opened_zip, zip_members

STREAM_NAME = "run.jsonl"
_MOST_LINE = 4 * 1024 * 1024
_MOST_STREAM = 512 * 1024 * 1024
_MOST_LINES = 1_000_000
"""Of a stream, and of all streams of a zip together; a scenario has some thousands."""
_MOST_RESULT = 4 * 1024 * 1024
_MOST_CASES = 20_000
_LISTED = 12
_STEPS = (b'"create machine"', b'"clone"', b'"machine-kept"', b'"same-mac"', b'"result"', b'"header"')


@dataclass(frozen=True)
class Recorded:
    """What a case file says of how its scenario was run, and what came of it.

    Attributes:
        place: The case file, as it was found: a path on this host, or one within an archive.
        folder: The case file's folder on this host; None for one in an archive.
        header: The attributes of the stream's header: scenario, nodeid, macos, provider, settings, …
        verdict: None: that run was cut off before its end.
        cause: Triage's first, or "".
        error: What the failure said.
        machine: The name of its last Mac, "" if there was none.
        kept: That Mac was kept.
        used: That Mac had been used by an earlier cycle, whose case file tells of its making.
        image_digest: `HOST/NAME@sha256:…` of what the Mac was cloned from, "" if only the name is known.
        run_key: What decided faults with a rate (simulated Macs), or "".
    """

    place: str
    folder: Path | None
    header: Mapping[str, Any]
    verdict: Verdict | None = None
    cause: str = ""
    error: str = ""
    machine: str = ""
    kept: bool = False
    used: bool = False
    image_digest: str = ""
    run_key: str = ""

    def text(self, key: str) -> str:
        """A text of the header; "" where it has none."""
        value = self.header.get(key)
        return value if isinstance(value, str) else ""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings it ran with, as the header has them; secrets are masked there."""
        value = self.header.get("settings")
        return value if isinstance(value, dict) else {}

    @property
    def simulated(self) -> bool:
        """Whether its Mac was a simulated one."""
        return self.header.get("simulated") is True

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than passed or skipped, or did not end at all."""
        return self.verdict not in (Verdict.PASSED, Verdict.SKIPPED)

    @property
    def told(self) -> str:
        """One line for a list."""
        outcome = self.verdict.value if self.verdict is not None else "cut off"
        cause = f" ({self.cause})" if self.cause else ""
        return f"{self.place}: {self.text('scenario')}, macOS {self.text('macos')}: {outcome}{cause}"


class _Lines(Protocol):
    def readline(self, size: int = -1, /) -> bytes: ...


@dataclass
class _Part:
    """What is read of one case so far, of either file."""

    header: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    cause: str = ""
    error: str = ""
    machine: str = ""
    kept: bool = False
    used: bool = False
    image_digest: str = ""
    run_key: str = ""

    def record(self, record: Mapping[str, Any]) -> None:
        """Take one line of the stream."""
        kind, name, attributes = record.get("type"), record.get("name"), record.get("attributes")
        if not isinstance(attributes, dict):
            return
        if kind == "header":
            self.header = attributes
        elif kind == "end" and name == "create machine":
            self.machine = _text(attributes.get("machine"))
            self.run_key = _text(attributes.get("run_key"))
            self.kept = False
        elif kind == "end" and name == "clone":
            self.image_digest = _text(attributes.get("image_digest"))
        elif kind == "event" and name == "machine-kept":
            self.machine = _text(attributes.get("machine")) or self.machine
            self.kept = True
        elif kind == "event" and name == "same-mac":
            self.machine = _text(attributes.get("machine"))
            self.used = True
        elif kind == "event" and name == "result":
            self.outcome(attributes)

    def outcome(self, result: Mapping[str, Any]) -> None:
        """Take what the run came to."""
        try:
            self.verdict = Verdict(_text(result.get("verdict")))
        except ValueError:
            return
        self.error = _text(result.get("error"))
        self.cause = _text(result.get("cause")) or self.cause

    def recorded(self, place: str, folder: Path | None) -> Recorded:
        """All of it.

        Raises:
            UsageError: There was no header: nobody knows what was run.
        """
        if not self.header:
            raise UsageError(
                f"the stream of a scenario run ({STREAM_NAME}) at {place}",
                seen="no header in it, or no such file",
                hint="name a case file: the folder with run.jsonl and result.json in it",
            )
        return Recorded(
            place=place,
            folder=folder,
            header=self.header,
            verdict=self.verdict,
            cause=self.cause,
            error=self.error,
            machine=self.machine,
            kept=self.kept,
            used=self.used,
            image_digest=self.image_digest,
            run_key=self.run_key,
        )


def read_case(path: Path, wanted: str = "") -> Recorded:
    """The case that a path means.

    Args:
        path: A case file's folder, its `run.jsonl` or `result.json`, a folder of case files, or a zip of such (as CI's
            artifacts are downloaded).
        wanted: Only cases whose place, scenario or node id has this in it.

    Raises:
        UsageError: There is none, or more than one that could be meant (they are listed), or it cannot be read.
    """
    cases = list(find_cases(path))
    if wanted:
        cases = [case for case in cases if any(wanted in one for one in _names(case, path))] or _none(cases, wanted)
    if len(cases) == 1:
        return cases[0]
    failed = [case for case in cases if case.failed]
    if len(failed) == 1:
        return failed[0]
    few = failed or cases
    listed = "\n  ".join(case.told for case in few[:_LISTED])
    more = f"\n  and {len(few) - _LISTED} more" if len(few) > _LISTED else ""
    raise UsageError(
        f"one case at {path}",
        seen=f"{len(cases)} cases, {len(failed)} of them failed:\n  {listed}{more}",
        hint="name one of these folders, or give --case with a part of its name",
    )


def find_cases(path: Path) -> Iterator[Recorded]:
    """Every case at a path, in the order of their names.

    Raises:
        UsageError: There is none, or it cannot be read.
    """
    try:
        if path.is_dir():
            yield from _in_folder(path)
        elif path.name in (STREAM_NAME, RESULT_NAME) and path.is_file():
            yield _in_case(path.parent)
        elif path.is_file() and zipfile.is_zipfile(path):
            yield from _in_zip(path)
        else:
            raise UsageError(
                f"a case file, a folder of case files or a zip of them at {path}",
                seen="another kind of file" if path.exists() else "no such file",
                hint="the summary of a run says where its case files are",
            )
    except OSError as error:
        raise UsageError(f"a readable case file at {path}", seen=str(error), hint="check the path") from error


def _names(case: Recorded, path: Path) -> tuple[str, str, str]:
    """What it may be called by; of its place only what lies below the path that was named."""
    below = case.place.removeprefix(str(path)).removeprefix(path.name)
    return below, case.text("scenario"), case.text("nodeid")


def _none(cases: list[Recorded], wanted: str) -> list[Recorded]:
    listed = "\n  ".join(case.told for case in cases[:_LISTED])
    raise UsageError(
        f"a case with {wanted!r} in its name", seen=f"{plural(len(cases), 'other')}:\n  {listed}", hint="check --case"
    )


def _in_folder(path: Path) -> Iterator[Recorded]:
    if (path / STREAM_NAME).is_file():
        yield _in_case(path)
        return
    streams = [stream for stream in _limited(path.rglob(STREAM_NAME)) if stream.is_file() and not stream.is_symlink()]
    for folder in _outermost(str(stream.parent) for stream in streams):
        yield _in_case(Path(folder))
    if not streams:
        zips = sorted(path.glob("*.zip"))
        hint = f"did you mean {zips[0]}?" if zips else "name an artifacts folder, a case file, or a file of one"
        raise UsageError(f"case files below {path}", seen=f"no {STREAM_NAME}", hint=hint)


def _outermost(folders: Iterable[str]) -> list[str]:
    """Without those inside of another: evidence holds a copy of its case's stream."""
    found: list[str] = []
    for folder in sorted(folders, key=lambda folder: folder.split("/")):
        if not found or not f"{folder}/".startswith(f"{found[-1]}/"):
            found.append(folder)
    return found


def _limited(paths: Iterable[Path]) -> Iterator[Path]:
    for count, path in enumerate(paths):
        if count >= _MOST_CASES:
            raise UsageError(f"at most {_MOST_CASES} cases", seen="more", hint="name a smaller folder")
        yield path


def _in_case(folder: Path) -> Recorded:
    part = _Part()
    stream = folder / STREAM_NAME
    if stream.is_file():
        with stream.open("rb") as file:
            _read_stream(file, part, str(stream))
    result = folder / RESULT_NAME
    if result.is_file():
        _take_result(part, result.read_bytes() if result.stat().st_size <= _MOST_RESULT else b"", str(result))
    return part.recorded(str(folder), folder.absolute())


def _in_zip(path: Path) -> Iterator[Recorded]:
    parts: dict[str, _Part] = {}
    coverage = Coverage()
    lines = 0
    try:
        for member in zip_members(opened_zip(path, path.name), coverage):
            name = PurePosixPath(member.name)
            if name.name not in (STREAM_NAME, RESULT_NAME):
                continue
            part = parts.setdefault(str(name.parent), _Part())
            if len(parts) > _MOST_CASES:
                raise UsageError(f"at most {_MOST_CASES} cases in {path}", seen="more", hint="unpack a part of it")
            origin = f"{path}: {member.name}"
            if name.name == STREAM_NAME:
                lines = _read_stream(_Pieces(member.stream.read), part, origin, lines)
            else:
                _take_result(part, member.stream.read(_MOST_RESULT), origin)
    except FormatError as error:
        raise UsageError(error.expected, seen=error.seen, hint="download it again") from error
    if not any(part.header for part in parts.values()):
        raise UsageError(f"case files in {path}", seen=f"no {STREAM_NAME}", hint="is it the artifact of another job?")
    for inner in _outermost(inner for inner, part in parts.items() if part.header):
        yield parts[inner].recorded(f"{path.name}:{inner}", None)


class _Pieces:
    """Lines of a stream that only gives pieces."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._held = b""
        self._at = 0

    def readline(self, size: int = -1, /) -> bytes:
        parts: list[bytes] = []
        left = size
        while left > 0:
            if self._at >= len(self._held):
                self._held, self._at = self._read(1 << 18), 0
                if not self._held:
                    break
            # What is held is never copied as a whole: a piece of nothing but line ends has very many of them.
            end = self._held.find(b"\n", self._at, self._at + left) + 1
            stop = end or min(len(self._held), self._at + left)
            parts.append(self._held[self._at : stop])
            left -= stop - self._at
            self._at = stop
            if end:
                break
        return b"".join(parts)


def _read_stream(lines: _Lines, part: _Part, origin: str, before: int = 0) -> int:
    """The lines that count; those of a killed process may be torn at the end, and a line too long is of no interest. Gives the
    number of all lines, those `before` included.
    """
    read, count = 0, before
    whole = True
    while line := lines.readline(_MOST_LINE):
        read += len(line)
        count += 1
        if read > _MOST_STREAM or count > _MOST_LINES:
            raise UsageError(
                f"a scenario's stream at {origin}",
                seen=f"more than {_MOST_STREAM:,} bytes or {_MOST_LINES:,} lines",
                hint="not ours",
            )
        begins, whole = whole, line.endswith(b"\n")
        if not begins or not any(word in line for word in _STEPS):
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            part.record(record)
    return count


def _take_result(part: _Part, data: bytes, origin: str) -> None:
    """What `result.json` says; the stream's own word stays where that file is damaged."""
    try:
        result = CaseResult.from_json(data, origin=origin)
    except (UsageError, msgspec.MsgspecError):
        return
    part.verdict, part.cause, part.error = result.verdict, result.cause, result.error
    part.image_digest = part.image_digest or result.image_digest


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
