"""The manifest: what was to be collected, what came, what is missing and why.

It is written before anything is collected (everything "missing: not reached yet") and again after each item, each time as
a whole: whatever ends the process, the file on disk says the truth.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness import events
from harness.errors import HarnessError
from harness.events import SECRETS

SCHEMA = 1
Status = Literal["ok", "missing", "partial", "failed"]
NOT_REACHED = "not reached: the collection ended before it"
_BALLAST = 256 << 10


@dataclass
class Item:
    """One piece of evidence.

    Attributes:
        name: What it is ("systemextensionsctl list").
        source: The command or place it comes from.
        path: Relative to the case file; None if there is no file.
        bytes: Its size.
        sha256: Of the file as it is in the case file.
        started: UTC, ISO 8601; None if it was not begun.
        seconds: How long it took.
        status: ok; partial (a file is there, but not all of it); failed (tried, no file); missing (not tried or not there).
        why: The reason, where it is not ok; a remark where it is.
    """

    name: str
    source: str
    path: str | None = None
    bytes: int = 0
    sha256: str | None = None
    started: str | None = None
    seconds: float = 0.0
    status: Status = "missing"
    why: str = NOT_REACHED


@dataclass
class Collection:
    """One time that evidence was collected."""

    id: str
    reason: str
    machine: str
    started: str
    since: str
    finished: str | None = None
    items: list[Item] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every item is there."""
        return self.finished is not None and all(item.status == "ok" for item in self.items)

    @property
    def gaps(self) -> list[Item]:
        """The items that are not ok."""
        return [item for item in self.items if item.status != "ok"]


class Manifest:
    """The manifest of a case file.

    Args:
        path: `manifest.json`; read if it is there.

    Raises:
        HarnessError: The file is there but is no manifest.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent
        self.collections: list[Collection] = []
        self._ballast = path.with_name(".manifest-room")
        if path.exists():
            self._read()

    def begin(self, collection: Collection) -> None:
        """Add a collection, all its items planned, and write it down."""
        # Kept free for the manifest itself, should the disk fill up on the way.
        with contextlib.suppress(OSError):
            self._ballast.write_bytes(bytes(_BALLAST))
        self.collections.append(collection)
        self.save()

    def finish(self, collection: Collection) -> None:
        """Note that a collection has come to its end."""
        collection.finished = now()
        self.break_off()

    def break_off(self) -> None:
        """Write down how far a collection came that did not come to its end."""
        self.save()
        self._ballast.unlink(missing_ok=True)

    def save(self) -> None:
        """Write the file as a whole. On a full disk the room kept for it is used; if even that fails, an event says so."""
        data = json.dumps(
            SECRETS.mask_all({"schema": SCHEMA, "collections": [asdict(one) for one in self.collections]}),
            ensure_ascii=False,
            indent=1,
        ).encode("utf-8", errors="replace")
        try:
            self._write(data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._ballast.unlink(missing_ok=True)
            try:
                self._write(data)
            except OSError as again:
                events.event("manifest-not-written", path=str(self.path), error=str(again))

    def seal(self, item: Item, file: Path | None) -> None:
        """Note a file's path, size and checksum in an item."""
        if file is None or not file.is_file():
            return
        item.path = file.relative_to(self.folder).as_posix()
        with file.open("rb") as source:
            item.sha256 = hashlib.file_digest(source, "sha256").hexdigest()
        item.bytes = file.stat().st_size

    def verify(self) -> list[str]:
        """What of the manifest does not hold: files that are gone or have another checksum. Empty if all is well."""
        wrong = []
        for collection in self.collections:
            for item in collection.items:
                if item.path is None:
                    continue
                file = self.folder / item.path
                if not file.is_file():
                    wrong.append(f"{item.path}: gone")
                    continue
                with file.open("rb") as source:
                    if hashlib.file_digest(source, "sha256").hexdigest() != item.sha256:
                        wrong.append(f"{item.path}: another checksum")
        return wrong

    def describe(self) -> str:
        """For people: a line per collection, and one for each thing that is not there."""
        lines = []
        for one in self.collections:
            good = sum(item.status == "ok" for item in one.items)
            state = "" if one.finished else ", broken off"
            lines.append(f"{one.id} ({one.reason}{state}): {good} of {len(one.items)}")
            lines += [f"  {item.status}: {item.name}: {item.why}" for item in one.gaps]
        return "\n".join(lines)

    def item(self, name: str) -> Item | None:
        """The last item of that name."""
        for collection in reversed(self.collections):
            for item in reversed(collection.items):
                if item.name == name:
                    return item
        return None

    def _write(self, data: bytes) -> None:
        temporary = self.path.with_name(f".{self.path.name}.new")
        try:
            with temporary.open("wb") as target:
                target.write(data)
                target.flush()
                os.fsync(target.fileno())
            temporary.replace(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _read(self) -> None:
        try:
            data: Any = json.loads(self.path.read_bytes())
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']}")
            for one in data["collections"]:
                items = [Item(**item) for item in one.pop("items")]
                self.collections.append(Collection(**one, items=items))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise HarnessError(
                f"a manifest at {self.path}", seen=f"{type(error).__name__}: {error}", hint="move the file away"
            ) from error


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
