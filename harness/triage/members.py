"""Which files of an archive or a folder are of use, by their base names, and how each is read.

A sysdiagnose has hundreds of files, and what a Mac's are called differs by release: nothing here depends on a folder.
Names as in public descriptions of sysdiagnose, and those that this project's evidence has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from harness.formats import FormatError, records
from harness.formats.crash import parse_crash_report
from harness.formats.database import parse_database
from harness.formats.launchctl import parse_launchctl_services
from harness.formats.plists import load_plist
from harness.formats.records import Record
from harness.triage.archives import MAX_DOCUMENT
from harness.triage.detect import HEAD, sniff, text_kind
from harness.triage.ndjson import read_array, read_ndjson
from harness.triage.reading import Blocks, Readable, Reading
from harness.triage.texts import read_text

_ROLES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), role)
    for pattern, role in (
        (r"\._.*|(?:run|timeline)\.jsonl|(?:manifest|result)\.json", ""),  # this project's own records
        (r".*\.(?:ips|crash|panic)(?:\.synced)?", "report"),
        (r"db\.plist", "database"),
        (r"SystemVersion\.plist|com\.apple\.networkextension(?:\.\w+)?\.plist|.*-Info-\w+\.plist", "plist"),
        (r"systemextensionsctl.*|sysext(?:ensions?)?[-_ ]?list.*\.txt|system[-_ ]?extensions?\.txt", "listing"),
        (r"launchctl.*\.txt|launchctl[-_].*", "launchctl"),
        (r"(?:simulated-)?log(?:-stream|[-_]show|s)?\d{0,3}\.(?:ndjson|jsonl|json|txt|log)|.*\.ndjson", "log"),
        (r"system_?logs?\.(?:txt|log|json)|unified_?log.*\.(?:txt|log|json)|sysextd.*\.(?:txt|log)", "log"),
        (r"csrutil.*\.txt|scutil.*\.txt|codesign-.*\.txt|spctl.*\.txt|profiles.*\.txt", "text"),
        (
            r"oslog_archive_error\.log|sysdiagnose\.log|ps\.txt|boot\.txt|sw_vers\.txt|date\.txt|shutdown(?:\.\d+)?\.log",
            "kept",
        ),
        (r".*\.(?:tar|tgz|zip|7z|aar|yaa|xz|bz2)|.*\.(?:tar|ips|txt|log)\.gz", "nested"),
    )
)
_LOOSE = re.compile(r".*\.(?:txt|log|ndjson|jsonl|json|out|md|text|plist)|[^.]{1,100}", re.IGNORECASE)
_ARCHIVE = re.compile(r"(?:^|/)(?:[^/]+\.logarchive)/(.+)$")
_STORE = re.compile(
    r"(?:^|.*/)(?:(?:Persist|Special|Signpost|HighVolume)/[^/]+\.tracev3|logdata\.LiveData\.tracev3|timesync/[^/]+\.timesync)$"
)


def role_of(name: str, *, loose: bool) -> str:
    """What a file is for: `report`, `database`, `plist`, `listing`, `launchctl`, `log`, `text`, `kept`, `nested`, `store` (of a
    log archive), `archive-info`, `simulated-log`; "" for none.

    Args:
        name: Its path in the archive.
        loose: Whether any text is of use: in an archive somebody made by hand, not in a sysdiagnose.
    """
    base = PurePosixPath(name).name
    if base.startswith("._"):
        return ""
    if base == "simulated-log.ndjson":
        return "simulated-log"
    if _STORE.match(name):
        return "store"
    if _ARCHIVE.search(name):
        return "archive-info" if base == "Info.plist" else ""
    for pattern, role in _ROLES:
        if pattern.fullmatch(base):
            return role
    if loose and _LOOSE.fullmatch(base):
        return "text"
    return ""


def looks_like_sysdiagnose(name: str) -> bool:
    """Whether the first folder's name is a sysdiagnose's, or the file one that only those have."""
    top = name.partition("/")[0]
    return top.startswith(("sysdiagnose", "IN_PROGRESS_sysdiagnose")) or PurePosixPath(name).name == "sysdiagnose.log"


def read_member(name: str, stream: Readable, role: str, reading: Reading) -> Iterator[Record]:
    """The records of a file, its documents added to the reading."""
    if role == "launchctl" and "list" in PurePosixPath(name).name:
        text = _whole(name, stream, reading).decode("utf-8", "replace")
        _keep(name, "launchctl-services", parse_launchctl_services(text), text, reading)
    elif role in ("log", "simulated-log", "text", "listing", "launchctl"):
        yield from read_content(name, stream, reading, quiet=role in ("launchctl",))
    elif role == "report":
        _report(name, _whole(name, stream, reading), reading)
    elif role in ("database", "plist"):
        _plist(name, _whole(name, stream, reading), reading)
    elif role == "kept":
        text = _whole(name, stream, reading).decode("utf-8", "replace")
        _keep(name, "text", text, text, reading)


def read_content(name: str, stream: Readable, reading: Reading, *, quiet: bool = False) -> Iterator[Record]:
    """A text or JSON file of whatever kind. With `quiet` its prose is not given out."""
    head = read_head(stream)
    kind = sniff(head)
    blocks = Blocks(stream, head)
    if kind in ("ndjson", "mandiant"):
        found = read_ndjson(blocks, name, reading, mandiant=kind == "mandiant")
    elif kind == "json":
        found = read_array(blocks, name, reading)
    elif kind == "text":
        found = read_text(blocks, name, reading, text_kind(head))
    elif kind == "plist":
        _plist(name, head + _whole(name, stream, reading), reading)
        return
    else:
        if kind != "empty":
            reading.coverage.skip(name, f"no text: {kind}")
        return
    for record in found:
        if not (quiet and record.kind in (records.TEXT, records.PARAGRAPH)):
            yield record


def read_head(stream: Readable, size: int = HEAD) -> bytes:
    """The beginning of a stream, also of one that gives less at a time."""
    pieces = []
    held = 0
    while held < size and (piece := stream.read(size - held)):
        pieces.append(piece)
        held += len(piece)
    return b"".join(pieces)


def _whole(name: str, stream: Readable, reading: Reading) -> bytes:
    data = read_head(stream, MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        reading.coverage.truncated = True
        reading.coverage.note(f"{name}: only its first {MAX_DOCUMENT:,} bytes were read")
        return data[:MAX_DOCUMENT]
    return data


def _report(name: str, data: bytes, reading: Reading) -> None:
    text = data.decode("utf-8", "replace")
    try:
        report = parse_crash_report(text)
    except FormatError as error:
        reading.coverage.skip(name, f"no crash report: {error.seen}")
        return
    kind = "panic" if report.panic else "crash"
    _keep(name, kind, report, text, reading)


def _plist(name: str, data: bytes, reading: Reading) -> None:
    try:
        value = load_plist(data, name)
        if isinstance(value.get("extensions"), list):
            reading.document("database", parse_database(data), name)
        else:
            reading.document("plist", value, name)
    except FormatError as error:
        reading.coverage.skip(name, f"no property list: {error.seen}")
        return
    if not data.startswith(b"bplist"):
        where = reading.begin(name, "plist")
        reading.count(where, "document", data.count(b"\n") + (not data.endswith(b"\n")))
    else:
        reading.begin(name, "plist")


def _keep(name: str, kind: str, value: object, text: str, reading: Reading) -> None:
    lines = text.count("\n") + (not text.endswith("\n") and bool(text))
    where = reading.begin(name, kind)
    reading.count(where, "document", lines)
    reading.document(kind, value, name, 1, lines, text)
