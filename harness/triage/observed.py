"""What the harness itself saw: the events of a case file (`run.jsonl`), as texts to look for signs in.

Only signs that ask for this place (`only = ["observed"]`) are looked for in it: an error that quotes a log is no log, and no log can
be taken for an observation of ours. The forms:

    outcome VERDICT TYPE: text          how the scenario ended
    event NAME {attributes}             something that happened
    step NAME took 12.3 s {attributes}  a step that ended well

What a scenario brings about itself reads differently: see `meant`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeGuard

from harness import events
from harness.formats import records
from harness.formats.records import Record
from harness.triage.catalog import fold
from harness.triage.clocks import HostClock
from harness.triage.matching import Unit
from harness.triage.meant import Meant

PLACE: Final = "observed"
STREAM: Final = "run.jsonl"
OUTCOME: Final = "outcome"
"""The event that says how the scenario ended; written before its case file is triaged."""
APP_SAID: Final = frozenset({"ActivationFailed"})
"""Errors of the harness that quote what the app under test said."""
CLOCK: Final = "clock"
"""The event of a comparison of the Mac's clock with the host's: `ahead`, `within` (seconds), `boot_session`."""
HAPPENINGS: Final = {
    "reboot": "rebooted it",
    "prompt-missing": "no prompt on the screen",
    "wait for prompt": "waited for the prompt",
    "approve in Settings": "approved in Settings",
    "answer prompt": "answered the prompt",
    "clock-jump": "suspended and resumed it",
}
LADDER: Final = "recovery ladder"
"""The step in which the harness tries what heals a failure (docs/upgrades.md): it comes after that failure, and tells nothing of it."""
MAX_HAPPENED: Final = 200
MAX_EVENTS: Final = 100_000
MAX_TEXT: Final = 2000
_HINT = "\nHint:"


@dataclass
class Observed:
    """What a case file's events come to.

    Attributes:
        prompt_seen: Whether the prompt came (False: it was waited for in vain; None: nobody knows).
        said: What the app said when its request failed, as records.
        units: The events as texts.
        clocks: When the Mac's clock was compared with the host's.
        happened: What belongs into the history: (when by the host's clock, what, line).
        healing: When the harness began to try what heals the failure, by the host's clock. What the Mac logged from then on, a
            success above all, is not about the failure.
    """

    prompt_seen: bool | None = None
    said: list[Record] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    clocks: list[HostClock] = field(default_factory=list)
    happened: list[tuple[datetime, str, int]] = field(default_factory=list)
    healing: datetime | None = None


def observe(folder: Path) -> Observed:
    """Read the events of a case file; nothing where it is none. Torn and foreign lines are left out."""
    stream = folder / STREAM
    found = Observed()
    if not stream.is_file():
        return found
    said: dict[str, Record] = {}
    ended = ""
    meant = Meant()
    ladder = ""
    for number, record in enumerate(itertools.islice(events.read(stream), MAX_EVENTS), 1):
        _on_the_clock(record, number, found)
        if record.get("name") == LADDER:
            ladder = str(record.get("id", "")) if record.get("type") == "start" else ""
            found.healing = found.healing or _moment(record.get("time"))
        if ladder:
            continue
        error, attributes = record.get("error"), record.get("attributes")
        if record.get("name") == "prompt-missing":
            found.prompt_seen = False
        elif record.get("name") == "wait for prompt" and isinstance(attributes, dict) and attributes.get("window"):
            found.prompt_seen = True if found.prompt_seen is None else found.prompt_seen
        if isinstance(error, dict) and str(error.get("type")) in APP_SAID:
            text = str(error.get("text", ""))[:4000].split(_HINT)[0]
            said.setdefault(text, Record(kind=records.TEXT, message=text, file=STREAM, line=number, style="ndjson"))
        text = _said(record)
        if text := meant.reads(record, text):
            ended = text if record.get("name") == OUTCOME else ended
            found.units.append(_unit(text, number, record.get("time")))
    found.said = list(said.values())
    if not ended:
        found.units.extend(_result(folder / "result.json"))
    return found


def _on_the_clock(record: dict[str, Any], line: int, found: Observed) -> None:
    """Take in what tells of clocks, and what a history of the extension should show besides the Mac's own log."""
    name, attributes = str(record.get("name", "")), record.get("attributes")
    at = _moment(record.get("time"))
    if at is None:
        return
    if name == CLOCK and isinstance(attributes, dict):
        ahead, within, boot = attributes.get("ahead"), attributes.get("within"), attributes.get("boot_session")
        if _is_number(ahead) and _is_number(within):
            session = boot.upper()[:36] if isinstance(boot, str) else ""
            found.clocks.append(HostClock(at.timestamp(), float(ahead), abs(float(within)), session))
    elif name in HAPPENINGS and record.get("type") in ("event", "end") and len(found.happened) < MAX_HAPPENED:
        failed = " (failed)" if record.get("outcome") == "failed" else ""
        found.happened.append((at, f"the harness: {HAPPENINGS[name]}{failed}", line))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e10 < value < 1e10


def _said(record: dict[str, Any]) -> str:
    """An event in the form that signs know; "" for one that says nothing."""
    kind, name, attributes = record.get("type"), str(record.get("name", ""))[:100], record.get("attributes")
    if kind == "event" and name == OUTCOME and isinstance(attributes, dict):
        return _outcome(attributes.get("verdict"), attributes.get("error_type"), attributes.get("error"))
    if kind == "event":
        return f"event {name} {_json(attributes)}"
    duration = record.get("duration")
    if kind == "end" and record.get("outcome") == "ok" and isinstance(duration, int | float):
        return f"step {name} took {duration:.1f} s {_json(attributes)}"
    return ""


def _outcome(verdict: object, error_type: object, error: object) -> str:
    text = str(error or "")[:MAX_TEXT].split(_HINT)[0]  # what a hint speaks of has not been seen
    return f"{OUTCOME} {str(verdict)[:40]} {str(error_type or '')[:60]}: {text}"


def _result(path: Path) -> Iterator[Unit]:
    """The same from the result of a case file whose stream does not say it."""
    try:
        data = json.loads(path.read_bytes()[: 4 << 20])
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(data, dict) and data.get("verdict"):
        yield _unit(_outcome(data["verdict"], "", data.get("error")), 0, None, path.name)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:MAX_TEXT]


def _unit(text: str, line: int, time: object, file: str = STREAM) -> Unit:
    text = fold(text[: 2 * MAX_TEXT])
    return Unit(
        text=text,
        place=PLACE,
        file=file,
        numbers=(line,),
        lines=(text,),
        time=_moment(time),
        process="harness",
        low=text.lower(),
    )


def _moment(time: object) -> datetime | None:
    """Its moment; one without a zone is UTC, as the stream says."""
    try:
        moment = datetime.fromisoformat(time) if isinstance(time, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
