"""The event stream: everything a run did, one JSON object a line, secrets masked at the sink.

Console lines, Allure steps, JUnit, the summary and the history are only readers of this stream.

A line is one of
    {"type": "start", "id", "parent", "name", "time", "attributes"}
    {"type": "end",   "id", "parent", "name", "time", "duration", "outcome": "ok"|"failed", "error"?, "attributes", "attachments"}
    {"type": "event", "id", "parent", "name", "time", "attributes"}
    {"type": "header", "schema", "time", "attributes"}
Times are UTC, ISO 8601 with microseconds; durations are seconds of the monotonic clock, there also when the step raised.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

SCHEMA = 1
Record = dict[str, Any]
Subscriber = Callable[[Record], None]


class Secrets:
    """Texts that must never reach a sink. Thread-safe; the longest is replaced first, so that no tail of it stays."""

    MASK = "***"

    def __init__(self) -> None:
        self._values: list[str] = []
        self._spared: set[str] = set()
        self._lock = threading.Lock()

    def add(self, value: str) -> str:
        """Mask `value` from now on; returns it, so that it can be wrapped around an expression. Under 4 characters it
        is only masked where it stands alone as a whole JSON string or word, for "a" must not blot out the report.
        """
        with self._lock:
            if value and value not in self._values and value not in self._spared:
                self._values.append(value)
                self._values.sort(key=len, reverse=True)
        return value

    def spare(self, value: str) -> str:
        """Never mask `value`, whoever adds it: a password that everybody knows and that is also an ordinary word (admin)
        would blot out paths and names. Returns it.
        """
        with self._lock:
            self._spared.add(value)
            if value in self._values:
                self._values.remove(value)
        return value

    def mask(self, text: str) -> str:
        """`text` with every secret replaced."""
        for value in tuple(self._values):
            if len(value) >= 4 and value in text:
                text = text.replace(value, self.MASK)
            elif value == text:
                text = self.MASK
        return text

    def mask_all(self, value: Any) -> Any:
        """`value` (JSON-like; other objects by `str`) with every secret in it replaced, keys included."""
        if isinstance(value, str):
            return self.mask(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {self.mask(str(key)): self.mask_all(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.mask_all(item) for item in value]
        return self.mask(str(value))


SECRETS = Secrets()
"""The process's secrets: whoever learns one (a VNC line, a password setting) adds it here at once."""


@dataclass
class Step:
    """A step under way. `note` adds attributes to its end line; `attach` names a file that belongs to it."""

    id: str
    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    attachments: list[dict[str, str]] = field(default_factory=list)

    def note(self, **attributes: Any) -> None:
        """Add to what the step's end line says."""
        self.attributes.update(attributes)

    def attach(self, path: Path, name: str = "", mime: str = "") -> None:
        """Name a file that shows what happened; readers (Allure, the trace page) pick it up."""
        self.attachments.append({"path": str(path), "name": name or path.name, "mime": mime})


class EventLog:
    """One run's stream: a file of JSON lines, and whoever subscribed.

    Thread-safe. A subscriber that raises is dropped and the fact recorded: a reader never breaks a run.

    Args:
        path: The JSONL file (appended to), or None to only feed subscribers.
        secrets: What to mask; the process's by default.
        **attributes: Go to the header line (scenario, provider, machine, …).
    """

    def __init__(self, path: Path | None = None, *, secrets: Secrets = SECRETS, **attributes: Any) -> None:
        self.path = path
        self.secrets = secrets
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._subscribers: list[Subscriber] = []
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A guest's names may be no UTF-8 (lone surrogates here): "\\udcff" in a file of JSON is what JSON has for them.
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
        self._write({"type": "header", "schema": SCHEMA, "time": _now(), "attributes": attributes})

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with each (masked) record from now on; returns the way to stop it."""
        with self._lock:
            self._subscribers.append(subscriber)

        def stop() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._subscribers.remove(subscriber)

        return stop

    def event(self, name: str, **attributes: Any) -> None:
        """Record something that happened at an instant."""
        parent = _STEP.get()
        self._write(
            {
                "type": "event",
                "id": self._next_id(),
                "parent": parent.id if parent else None,
                "name": name,
                "time": _now(),
                "attributes": attributes,
            }
        )

    @contextlib.contextmanager
    def step(self, name: str, **attributes: Any) -> Iterator[Step]:
        """Record something that takes time. Nested steps know their parent; the end line is written also on failure."""
        parent = _STEP.get()
        step = Step(self._next_id(), name, dict(attributes))
        base: Record = {"id": step.id, "parent": parent.id if parent else None, "name": name}
        self._write({"type": "start", **base, "time": _now(), "attributes": attributes})
        started = time.monotonic()
        token = _STEP.set(step)
        outcome: Record = {"outcome": "ok"}
        try:
            yield step
        except BaseException as error:
            outcome = {"outcome": "failed", "error": {"type": type(error).__name__, "text": str(error)[:4000]}}
            raise
        finally:
            _STEP.reset(token)
            self._write(
                {
                    "type": "end",
                    **base,
                    "time": _now(),
                    "duration": round(time.monotonic() - started, 6),
                    **outcome,
                    "attributes": step.attributes,
                    "attachments": step.attachments,
                }
            )

    def close(self) -> None:
        """Close the file. Later records still reach subscribers."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def new_id(self) -> str:
        """A short word, unique in the world for all practical purposes: for temporary names."""
        return uuid.uuid4().hex[:12]

    def _next_id(self) -> str:
        return f"{next(self._ids):x}"

    def _write(self, record: Record) -> None:
        masked: Record = self.secrets.mask_all(record)
        with self._lock:
            if self._file is not None:
                try:
                    self._file.write(json.dumps(masked, ensure_ascii=False) + "\n")
                    self._file.flush()
                except OSError as error:  # a full disk must not turn a passing scenario red; readers still hear of it
                    self._file = None
                    masked = {**masked, "attributes": {**masked.get("attributes", {}), "event_log_lost": str(error)}}
            for subscriber in tuple(self._subscribers):
                try:
                    subscriber(masked)
                except Exception as error:  # noqa: BLE001 - a reader never breaks a run
                    self._subscribers.remove(subscriber)
                    self.event("subscriber-dropped", subscriber=repr(subscriber), error=str(error))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


_STEP: contextvars.ContextVar[Step | None] = contextvars.ContextVar("sysext_step", default=None)
_LOG: contextvars.ContextVar[EventLog | None] = contextvars.ContextVar("sysext_event_log", default=None)
_NOWHERE = EventLog()


def current() -> EventLog:
    """The event log of this context; one that goes nowhere if none was set. A new thread starts with none: run it in
    `contextvars.copy_context()` if its events belong to the step that started it.
    """
    return _LOG.get() or _NOWHERE


@contextlib.contextmanager
def use(log: EventLog) -> Iterator[EventLog]:
    """Make `log` the current event log inside the block."""
    token = _LOG.set(log)
    try:
        yield log
    finally:
        _LOG.reset(token)


def step(name: str, **attributes: Any) -> contextlib.AbstractContextManager[Step]:
    """`EventLog.step` on the current log."""
    return current().step(name, **attributes)


def event(name: str, **attributes: Any) -> None:
    """`EventLog.event` on the current log."""
    current().event(name, **attributes)


def attach(path: Path, name: str = "", mime: str = "") -> None:
    """Attach a file to the step under way, or record it as an event if there is none."""
    under_way = _STEP.get()
    if under_way is not None:
        under_way.attach(path, name, mime)
    else:
        event("attachment", path=str(path), attachment_name=name or path.name, mime=mime)


def read(path: Path) -> Iterator[Record]:
    """The records of a stream file; a torn last line (the process was killed) is left out."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict):
                yield record
