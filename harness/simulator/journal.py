"""The simulator's own diary, one JSON object a line. Benchmarks and tests read it; the harness never does."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path


class FileJournal:
    """Appends to one file (see `interfaces.Journal`). Lines are whole: each is one write."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab", buffering=0)

    def write(self, what: str, **attributes: object) -> None:
        """One line: {"what", "monotonic", "time", …}; values that are no JSON are written as text."""
        line = {"what": what, "monotonic": time.monotonic(), "time": datetime.now(UTC).isoformat(), **attributes}
        if not self._file.closed:
            self._file.write(json.dumps(line, default=str, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Write no more; later lines are dropped."""
        self._file.close()


class MemoryJournal:
    """Keeps the lines in memory; for tests and for parts that run without a machine."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def write(self, what: str, **attributes: object) -> None:
        """See `FileJournal.write`."""
        self.lines.append({"what": what, "monotonic": time.monotonic(), **attributes})
