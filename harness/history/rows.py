"""From case files to rows: what the history keeps of one scenario run.

A row is known by what the run itself says (scenario, kind of Mac, release, start, case file), never by where its files lie now:
the same run gives the same row, whether it comes from `result.json`, from `run.jsonl`, or from both, on whatever host.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import msgspec

from harness.errors import UsageError, Verdict
from harness.history.grouping import release_of, scenario_name

RESULT_NAME = "result.json"
STREAM_NAME = "run.jsonl"
_SCHEMA = 1
_MOST_RESULT = 4 * 1024 * 1024
_MOST_LINE = 16 * 1024 * 1024
_MOST_STREAM = 1024 * 1024 * 1024
_MOST_TEXT = 300
_MOST_FOLDERS = 200_000
_MOST_BUILDS = 1000
_HEX = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attempt of one scenario, as the history keeps it.

    Attributes:
        started: UTC.
        seconds: Wall time.
        cause: The code that triage put first; "" for none.
        run: The run (folder) it belongs to.
        case: The case file's name in it.
        host: The computer that ran it; "" if its files do not say.
        scenario: Its parameters included (`harness.history.grouping`).
        release: The one that the run says something about.
        cdhash: Of that release's app, where the stream says; so is `uuid`, of its executable.
        extension_cdhash: Of its system extension; so is `extension_uuid`.
        same_mac: On a Mac that another run had used before: the two are not independent.
        faults: Those injected, simulated Macs only: such runs are counted by themselves.
    """

    scenario: str
    nodeid: str = ""
    macos: str
    release: str
    image: str
    lane: str
    provider: str
    simulated: bool
    faults: str = ""
    verdict: Verdict
    cause: str = ""
    seconds: float
    started: datetime
    attempt: int = 1
    flaky: bool = False
    host: str = ""
    run: str = ""
    case: str = ""
    cdhash: str = ""
    uuid: str = ""
    extension_cdhash: str = ""
    extension_uuid: str = ""
    same_mac: bool = False
    known_issue: str = ""
    error: str = ""

    def __post_init__(self) -> None:
        """Texts are cut, and freed of what no database keeps.

        Raises:
            UsageError: A number that no run can have.
        """
        for one in fields(self):
            value = getattr(self, one.name)
            if type(value) is str and (len(value) > _MOST_TEXT or "\0" in value or not value.isascii()):
                clean = value[:_MOST_TEXT].replace("\0", "").encode("utf-8", errors="replace").decode("utf-8")
                object.__setattr__(self, one.name, clean)
        if not 0 <= self.seconds < 1e9 or not 1 <= self.attempt <= 1_000_000:
            raise UsageError(
                f"seconds and attempt of a run of {self.scenario}",
                seen=f"{self.seconds:g} and {self.attempt}",
                hint="the file is damaged",
            )

    @cached_property
    def id(self) -> str:
        """The same for the same run, and for no other: 128 bits of a digest."""
        return _digest(
            [
                *(self.scenario, self.nodeid, self.macos, self.release, self.image, self.lane, self.provider),
                *(self.simulated, self.faults, self.started_ms, self.attempt, self.run, self.case),
            ]
        )

    @property
    def content(self) -> str:
        """A digest of the outcome: the same run with another one has been altered, or judged anew."""
        return _digest([self.verdict.value, self.cause, self.error])

    @cached_property
    def started_ms(self) -> int:
        """Start in milliseconds since 1970."""
        return round(self.started.timestamp() * 1000)

    @property
    def day(self) -> int:
        """UTC day of the start, counted from 1970."""
        return self.started_ms // 86_400_000


class Outcome(Protocol):
    """What a row is made from: `harness.reports.result.CaseResult` is one, and so is what is read from its file here."""

    @property
    def scenario(self) -> str: ...  # noqa: D102
    @property
    def nodeid(self) -> str: ...  # noqa: D102
    @property
    def macos(self) -> str: ...  # noqa: D102
    @property
    def release(self) -> str: ...  # noqa: D102
    @property
    def image(self) -> str: ...  # noqa: D102
    @property
    def lane(self) -> str: ...  # noqa: D102
    @property
    def provider(self) -> str: ...  # noqa: D102
    @property
    def simulated(self) -> bool: ...  # noqa: D102
    @property
    def faults(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def verdict(self) -> Verdict: ...  # noqa: D102
    @property
    def cause(self) -> str: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def started(self) -> str: ...  # noqa: D102
    @property
    def attempt(self) -> int: ...  # noqa: D102
    @property
    def flaky(self) -> bool: ...  # noqa: D102
    @property
    def known_issue(self) -> str: ...  # noqa: D102
    @property
    def error(self) -> str: ...  # noqa: D102
    @property
    def case(self) -> str: ...  # noqa: D102


@dataclass
class Found:
    """What lay below the paths given.

    Attributes:
        rows: One per finished run, in the order found; a run that was met twice is there once.
        unfinished: Streams without an end: that process was killed. They say nothing about the app.
    """

    rows: list[Row] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)


def read_paths(paths: Iterable[Path]) -> Found:
    """Rows from case files, folders of them (however deep), `run.jsonl` and `result.json` files.

    Raises:
        UsageError: A path that is missing, holds no run or cannot be read; names file and line.
    """
    found = Found()
    seen: set[str] = set()
    for path in paths:
        if path.is_dir():
            cases = list(_case_folders(path))
            for case in cases:
                _read_case(case, found, seen)
            if not cases:
                raise UsageError(
                    f"case files below {path}",
                    seen=f"no {RESULT_NAME} and no {STREAM_NAME}",
                    hint="name an artifacts folder, a case file or a file of one",
                )
        elif path.name in (STREAM_NAME, RESULT_NAME):
            _read_case(path.parent, found, seen, only=path)
        else:
            _read_file(path, found, seen)
    return found


def read_run(folder: Path) -> tuple[Found, tuple[str, ...]]:
    """The rows of a run that has just ended, and what could not be read: one damaged case file does not cost the others.

    Raises:
        UsageError: There are too many folders.
    """
    found = Found()
    seen: set[str] = set()
    damaged: list[str] = []
    for case in _case_folders(folder):
        try:
            _read_case(case, found, seen)
        except UsageError as error:
            damaged.append(str(error))
    return found, tuple(damaged)


def row_of(result: Outcome, *, host: str = "", about: Mapping[str, Any] | None = None) -> Row:
    """The row of a scenario's result.

    Args:
        result: Of one attempt.
        host: The computer that ran it.
        about: `cdhash`, `uuid`, `extension_cdhash`, `extension_uuid` and `same_mac`, as far as they are known.

    Raises:
        UsageError: Its start is no time.
    """
    run, case = _names(result.case)
    return Row(
        scenario=scenario_name(result.scenario, result.nodeid),
        nodeid=result.nodeid,
        macos=result.macos,
        release=release_of(result.release, result.nodeid),
        image=result.image,
        lane=result.lane,
        provider=result.provider,
        simulated=result.simulated,
        faults=",".join(sorted(result.faults)),
        verdict=result.verdict,
        cause=result.cause,
        seconds=float(result.seconds),
        started=moment(result.started, origin=f"the result of {result.scenario}"),
        attempt=result.attempt,
        flaky=result.flaky,
        host=host,
        run=run,
        case=case,
        known_issue=result.known_issue,
        error=result.error,
        **(about or {}),
    )


def moment(text: str, *, origin: str) -> datetime:
    """A time of ISO 8601, in UTC; one without a zone is UTC.

    Raises:
        UsageError: It is none.
    """
    try:
        time = datetime.fromisoformat(text)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if time.year < 1970:
            raise ValueError("before 1970")
    except (ValueError, OverflowError) as error:
        raise UsageError(f"a time in {origin}", seen=f"{text[:60]!r}: {error}", hint="the file is damaged") from error
    return time


def _case_folders(top: Path) -> Iterator[Path]:
    """Folders with a result or a stream; what lies below such a one (copies kept as evidence) is not another run."""
    for count, (here, folders, files) in enumerate(os.walk(top), 1):
        if count > _MOST_FOLDERS:
            raise UsageError(
                f"at most {_MOST_FOLDERS} folders below {top}", seen="more", hint="name the folders of runs"
            )
        folders.sort()
        if RESULT_NAME in files or STREAM_NAME in files:
            folders.clear()
            yield Path(here)


def _read_case(folder: Path, found: Found, seen: set[str], *, only: Path | None = None) -> None:
    """A case file: its result, and what only its stream says."""
    result_path, stream_path = folder / RESULT_NAME, folder / STREAM_NAME
    for path in [only] if only is not None else []:
        if not path.is_file():
            raise UsageError(f"a file at {path}", seen="no such file", hint="check the path")
    streams = _read_stream(stream_path) if stream_path.is_file() else []
    if result_path.is_file():
        about = streams[-1] if streams else _Stream(line=1)
        result = _read_result(result_path)
        row = row_of(result, host=about.host, about=about.about(release_of(result.release, result.nodeid)))
        _keep(row, found, seen)
        streams = streams[:-1]
    _keep_streams(streams, stream_path, found, seen)


def _read_file(path: Path, found: Found, seen: set[str]) -> None:
    """A file of another name: its beginning says which of the two it is."""
    try:
        with path.open("rb") as file:
            start = file.read(4096).lstrip()
    except OSError as error:
        raise UsageError(f"a readable file at {path}", seen=str(error), hint="check the path") from error
    first = start.split(b"\n", 1)[0].strip()
    if first.startswith(b"{") and b'"type"' in first:
        _keep_streams(_read_stream(path), path, found, seen)
    else:
        _keep(row_of(_read_result(path)), found, seen)


def _keep_streams(streams: Iterable[_Stream], path: Path, found: Found, seen: set[str]) -> None:
    for stream in streams:
        row = stream.row(path)
        if row is None:
            found.unfinished.append(path)
        else:
            _keep(row, found, seen)


def _keep(row: Row, found: Found, seen: set[str]) -> None:
    if row.id not in seen:
        seen.add(row.id)
        found.rows.append(row)


class _Cause(msgspec.Struct):
    code: str = ""


class _Why(msgspec.Struct):
    verdict: str = ""
    causes: list[_Cause] = []  # msgspec copies it


class _Result(msgspec.Struct):
    """Of `result.json` what is of use here."""

    scenario: str
    nodeid: str
    macos: str
    image: str
    lane: str
    provider: str
    simulated: bool
    release: str
    verdict: Verdict
    started: str
    error: str = ""
    seconds: float = 0.0
    attempt: int = 1
    flaky: bool = False
    faults: tuple[str, ...] = ()
    case: str = ""
    why: _Why | None = None
    known_issue: str = ""
    schema: int = _SCHEMA

    @property
    def cause(self) -> str:
        """As `CaseResult.cause` has it."""
        return self.why.causes[0].code if self.why and self.why.verdict == "failure" and self.why.causes else ""


def _read_result(path: Path) -> _Result:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_RESULT + 1)
    except OSError as error:
        raise UsageError(f"a scenario result at {path}", seen=str(error), hint="check the path") from error
    if len(text) > _MOST_RESULT:
        raise UsageError(f"a scenario result at {path}", seen="more than 4 MiB", hint="not one of ours: leave it out")
    try:
        try:
            result = msgspec.json.decode(text, type=_Result)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, ValueError):  # lone surrogates
            result = msgspec.convert(json.loads(text.decode("utf-8", errors="replace")), _Result)
    except json.JSONDecodeError as error:
        raise UsageError(f"JSON at {path}:{error.lineno}", seen=error.msg, hint="the file is damaged") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"a scenario result at {path}", seen=str(error), hint="not one of ours, or damaged") from error
    if result.schema > _SCHEMA:
        raise UsageError(
            f"a scenario result of schema {_SCHEMA} or older at {path}",
            seen=f"schema {result.schema}",
            hint="read it with the newer sysext-harness that wrote it",
        )
    return result


class _Record(msgspec.Struct):
    """Of a line of the stream only what is of use here."""

    type: str
    name: str = ""
    time: str = ""
    attributes: dict[str, Any] = {}  # msgspec copies it


_DECODER = msgspec.json.Decoder(_Record)


@dataclass
class _Stream:
    """One run's part of a stream file, from its header on."""

    line: int
    header: dict[str, Any] = field(default_factory=dict)
    time: str = ""
    result: dict[str, Any] | None = None
    builds: dict[str, dict[str, str]] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)  # releases of which there was more than one build
    same_mac: bool = False

    @property
    def host(self) -> str:
        return str(self.header.get("host", ""))

    def about(self, release: str) -> dict[str, Any]:
        """What only the stream says: of that release's build (an older one, which it was upgraded from, is not meant), and of its
        Mac. Where two builds of it were installed nobody can say which one the outcome is of: then neither is told.
        """
        name = release if release in self.builds or release in self.unsure else ""
        build = {} if name in self.unsure else self.builds.get(name, {})
        return {**build, "same_mac": self.same_mac}

    def note(self, record: _Record) -> None:
        attributes = record.attributes
        if record.type == "event" and record.name == "result":
            self.result = attributes
        self.same_mac = self.same_mac or record.name == "same-mac"
        if record.name != "app build" or attributes.get("app", self.header.get("app")) != self.header.get("app"):
            return  # or of another product, installed beside the one under test
        release = str(attributes.get("release", ""))
        if len(self.builds) >= _MOST_BUILDS and release not in self.builds:
            return
        of = self.builds.setdefault(release, {})
        part = "extension_" if attributes.get("part") == "extension" else ""
        for key, pattern in (("cdhash", _HEX), ("uuid", _UUID)):
            text = str(attributes.get(key, ""))
            value = text.lower() if pattern.fullmatch(text) else ""
            if of.setdefault(part + key, value) != value:
                self.unsure.add(release)

    def row(self, path: Path) -> Row | None:
        """None if it has no end."""
        if self.result is None:
            return None
        origin = f"{path}:{self.line}"
        texts: dict[str, Any] = {}
        for key in ("scenario", "nodeid", "macos", "release", "image", "lane", "provider"):
            value = self.header.get(key)
            if not isinstance(value, str):
                raise UsageError(f"'{key}' in the header at {origin}", seen=repr(value)[:60], hint="not a run's stream")
            texts[key] = value
        simulated, attempt = self.header.get("simulated"), self.header.get("attempt", 1)
        seconds = self.result.get("seconds", 0.0)
        whole = type(attempt) is int and type(seconds) in (int, float) and abs(seconds) < 1e9
        if not isinstance(simulated, bool) or not whole:
            raise UsageError(
                f"whole facts of a run at {origin}", seen="simulated, attempt or seconds is of another kind"
            )
        try:
            verdict = Verdict(str(self.result.get("verdict")))
        except ValueError as error:
            raise UsageError(f"a verdict of the run at {origin}", seen=str(error), hint="not a run's stream") from error
        run, case = _names(str(self.header.get("case") or path.absolute().parent))
        settings = self.header.get("settings")
        behaviour = settings.get("simulated") if simulated and isinstance(settings, dict) else None
        faults = behaviour.get("faults", []) if isinstance(behaviour, dict) else []
        texts["scenario"] = scenario_name(texts["scenario"], texts["nodeid"])
        texts["release"] = release_of(texts["release"], texts["nodeid"])
        return Row(
            **texts,
            simulated=simulated,
            faults=",".join(sorted(str(fault) for fault in faults)) if isinstance(faults, list) else "",
            verdict=verdict,
            cause=str(self.result.get("cause", "")),
            seconds=float(seconds),
            started=moment(str(self.header.get("started") or self.time), origin=origin),
            attempt=attempt,
            flaky=attempt > 1 and verdict is Verdict.PASSED,
            host=self.host,
            run=run,
            case=case,
            **self.about(texts["release"]),
            error=str(self.result.get("error", "")),
        )


def _read_stream(path: Path) -> list[_Stream]:
    """The runs of a stream file. A torn last line, of a killed process, ends it; any other bad line is an error."""
    streams: list[_Stream] = []
    try:
        if path.stat().st_size > _MOST_STREAM:
            raise UsageError(f"a run's stream at {path}", seen="more than 1 GiB", hint="not one of ours")
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MOST_LINE):
                number += 1
                if not line.strip():
                    continue
                try:
                    record = _decoded(line)
                except (ValueError, RecursionError) as error:
                    if not line.endswith(b"\n") and len(line) < _MOST_LINE:
                        break
                    raise UsageError(
                        f"a JSON record at {path}:{number}", seen=str(error), hint="the file is damaged; leave it out"
                    ) from error
                if record.type == "header":
                    streams.append(_Stream(number, record.attributes, record.time))
                elif not streams:
                    raise UsageError(
                        f"a header at {path}:{number}", seen=f"a record of type {record.type[:30]!r}",
                        hint="not the stream of a run, or its beginning is missing",
                    )  # fmt: skip
                else:
                    streams[-1].note(record)
    except OSError as error:
        raise UsageError(f"a readable file at {path}", seen=str(error), hint="check the path") from error
    if not streams:
        raise UsageError(f"the stream of a run at {path}", seen="no header", hint="the file is empty, or damaged")
    return streams


def _decoded(line: bytes) -> _Record:
    """Quickly; or, for names of a guest that are no UTF-8 (lone surrogates), as Python's reader has it.

    Raises:
        ValueError: It is no record.
    """
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, ValueError):
        return msgspec.convert(json.loads(line.decode("utf-8", errors="replace")), _Record)


def _names(case: str) -> tuple[str, str]:
    """Run and case file, the last two parts of its path."""
    parts = [part for part in case.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return (parts[-2] if len(parts) > 1 else "", parts[-1] if parts else "")


def _digest(values: list[object]) -> str:
    text = json.dumps(values, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
