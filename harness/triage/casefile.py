"""A case file as an input: which of its files are read, in which order, and why the others are not.

    result.json, manifest.json                       what was tested, what is missing and why: documents
    staged-copy.json                                 the builds of what was installed and of the copy that macOS runs: a document
    evidence/NN-…/                                   state (listing, database, launchd), crash reports, small texts
    evidence/NN-…/log.ndjson, log-stream.ndjson      the log; a record that is in several is given out once
    evidence/NN-…/sysdiagnose.tar.gz, …logarchive.tar    its documents; its log only where there is no other

The log of one Mac is collected several times over (streamed, sliced at each collection, archived): the same record is known by
its boot, its ticks, its thread and its text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.formats.records import Record
from harness.triage.members import role_of
from harness.triage.reading import Reading

MAX_JSON: Final = 32 << 20
MAX_FILES: Final = 20_000
MAX_REMEMBERED: Final = 3_000_000
_LOGS = re.compile(r"log(?:-stream)?(?:-\d+)?\.ndjson")


@dataclass
class CasePlan:
    """The files of a case file, in the order in which they are read. Paths are relative to it, with `/`.

    Attributes:
        root: The case file.
        states: Listings, databases, launchd prints, reports, small texts.
        logs: The log, in ndjson.
        archives: sysdiagnoses and log archives.
        items: Manifest items by their paths: what each is, and whether it is whole.
    """

    root: Path
    states: list[tuple[str, str]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)


def is_case_file(folder: Path) -> bool:
    """Whether a folder is a case file."""
    manifest = folder / "manifest.json"
    return manifest.is_file() and ((folder / "evidence").is_dir() or (folder / "run.jsonl").is_file())


def plan(folder: Path, reading: Reading) -> CasePlan:
    """What to read of a case file; documents `manifest` and `result` are added, what is missing is noted."""
    found = CasePlan(folder)
    for kind, file in (("manifest", "manifest.json"), ("result", "result.json"), ("staged", "staged-copy.json")):
        value = _json(folder / file, reading)
        if value is not None:
            reading.document(kind, value, file)
    manifest = next((document.value for document in reading.documents if document.kind == "manifest"), None)
    collections = manifest.get("collections") if isinstance(manifest, dict) else None
    for collection in collections if isinstance(collections, list) else ():
        for item in collection.get("items", ()) if isinstance(collection, dict) else ():
            if not isinstance(item, dict):
                continue
            path = item.get("path")
            if isinstance(path, str):
                found.items[path] = item
            status = item.get("status")
            if status in ("missing", "failed", "partial"):
                reading.coverage.note(f"{str(item.get('name'))[:100]}: {status}: {str(item.get('why'))[:200]}")
    for path in sorted(folder.rglob("*"))[:MAX_FILES]:
        if path.is_symlink() or not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if name.startswith(("frames/", "screen", "machine/")) or path.name in (
            "manifest.json",
            "result.json",
            "staged-copy.json",
            "run.jsonl",
        ):
            continue
        if _LOGS.fullmatch(path.name):
            found.logs.append(name)
        elif path.name.endswith((".tar.gz", ".tgz", ".logarchive.tar", ".tar")):
            found.archives.append(name)
        elif role := role_of(name, loose=False):
            found.states.append((name, role))
    # The slice first: it holds what was before the stream began, and info and debug messages.
    found.logs.sort(key=lambda name: (not name.startswith("evidence/"), name))
    return found


class Seen:
    """Records already given out."""

    def __init__(self) -> None:
        self._keys: set[int] = set()
        self.repeated = 0

    def fresh(self, records: Iterator[Record]) -> Iterator[Record]:
        """Those of the records that were not seen yet. A record without ticks is always fresh."""
        keys = self._keys
        for record in records:
            if record.order[1]:
                key = hash((record.boot, record.order[1], record.pid, record.tid, record.message))
                if key in keys:
                    self.repeated += 1
                    continue
                if len(keys) < MAX_REMEMBERED:
                    keys.add(key)
            yield record


def _json(path: Path, reading: Reading) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError("too large")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reading.coverage.note(f"{path.name} cannot be read: {error}")
        return None
    return value if isinstance(value, dict) else None
