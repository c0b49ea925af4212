"""A line per step while a run goes on: what began, what ended, how long it took."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from harness.events import Record

Write = Callable[[str], None]
"""Takes one finished line, without its line end."""

_SHOWN = 160
_PLUMBING = frozenset({"run", "start", "read"})
"""Steps that only serve another one: shown when they fail."""


class ConsoleReader:
    """Turns records into lines; subscribe it to an `EventLog`.

    Lines of concurrent runs stay tellable apart by their prefix. Steps deeper than `depth` are left out, unless they
    fail: where it broke is always shown.

    Args:
        write: Where lines go; called under a lock, one line a call.
        prefix: Stands before each line ("26 first-activation").
        depth: How many levels of nesting to show.
        events: Also show instants (fallbacks, reconnects).
    """

    def __init__(self, write: Write, *, prefix: str = "", depth: int = 3, events: bool = True) -> None:
        self._write = write
        self._prefix = f"{prefix} " if prefix else ""
        self._most = depth
        self._events = events
        self._depths: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, record: Record) -> None:
        """Take one record."""
        with self._lock:
            line = self._line(record)
            if line is not None:
                self._write(self._prefix + line)

    def _line(self, record: Record) -> str | None:
        kind = record.get("type")
        name = _tame(str(record.get("name", "")))
        if kind in ("start", "end") and name in _PLUMBING and record.get("outcome") != "failed":
            return None
        if kind == "start":
            depth = self._depths.get(str(record.get("parent")), -1) + 1
            self._depths[str(record["id"])] = depth
            return f"{'  ' * depth}▶ {name}{_details(record)}" if depth < self._most else None
        if kind == "end":
            depth = self._depths.pop(str(record["id"]), 0)
            seconds = f"{float(record.get('duration', 0.0)):.1f} s"
            if record.get("outcome") == "ok":
                return f"{'  ' * depth}✓ {name}  {seconds}" if depth < self._most else None
            error = record.get("error") or {}
            text = _tame(str(error.get("text", "")).split("\n", 1)[0])
            return f"{'  ' * min(depth, self._most)}✗ {name}  {seconds}  {error.get('type', '?')}: {text}"
        if kind == "event" and self._events:
            depth = self._depths.get(str(record.get("parent")), -1) + 1
            return f"{'  ' * depth}· {name}{_details(record)}" if depth < self._most else None
        return None


class LiveFile:
    """Lines of many processes in one file: each is one `write` to an append-only descriptor, so none is torn.

    pytest-xdist's workers own no terminal: they write here, and the process that does shows it with `follow`.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def __call__(self, line: str) -> None:
        """Add a line."""
        os.write(self._descriptor, (line + "\n").encode(errors="replace"))

    def close(self) -> None:
        """Close it; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Follower:
    """Shows what others append to a `LiveFile`: a thread of its own until `stop`, which shows the rest first.

    Use it as a context manager, or `start` and `stop`.
    """

    def __init__(self, path: Path, write: Write, *, interval: float = 0.2) -> None:
        self._path = path
        self._write = write
        self._interval = interval
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._rest = b""

    def start(self) -> None:
        """Begin; lines that are there already are shown too."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._thread = threading.Thread(target=self._run, name="sysext-live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Show what is still there, then end."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Follower:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def _run(self) -> None:
        with self._path.open("rb") as file:
            while not self._ended.wait(self._interval):
                self._show(file)
            self._show(file)
        if self._rest:
            self._write(self._rest.decode(errors="replace"))

    def _show(self, file: IO[bytes]) -> None:
        *lines, self._rest = (self._rest + file.read()).split(b"\n")
        for line in lines:
            self._write(line.decode(errors="replace"))


def _details(record: Record) -> str:
    attributes = record.get("attributes") or {}
    text = " ".join(f"{key}={_tame(str(value))}" for key, value in attributes.items() if value not in (None, ""))
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 1] + "…"
    return f"  ({text})" if text else ""


def _tame(text: str) -> str:
    """One line without control characters: names may carry what a guest printed."""
    return "".join(char if char.isprintable() else " " for char in text[:2000])
