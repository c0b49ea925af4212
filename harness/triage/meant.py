"""What a scenario brings about itself, in a case file's events: it is no sign of trouble.

    as wanted (STEP): NAME {…}          a connection that broke, or a screen that stood still, because the Mac was suspended
    step clone, to be compared, took …  and then `step clone took …` where the Mac's start takes its place, if the clone took long
                                        and not only as everything does on that host
    after sleep and wake: outcome …     how a scenario ended that had put its Mac to sleep before

So the signs that look for `event NAME`, for `step clone took` do not find them; those that want an absence before a failure do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

CUTTING: Final = frozenset(
    {"suspend and resume", "suspend", "sleep and wake", "display sleep", "wake display", "reboot", "shutdown", "stop"}
)
"""Steps in which the connections to a Mac break, for that is what they do."""
CUTS: Final = frozenset(
    {"log-gap", "reconnected", "screen-lost", "screen-unreachable", "screen updates stalled: pointer wiggled"}
)
"""Events, or what a `degraded` is about, that are no trouble in such a step."""
CUT_SECONDS: Final = 10.0
"""After such a step, in which its consequences may still be seen: who reads in the background finds out a little later."""
QUOTING: Final = frozenset({"survived", "unexpected-line"})
"""Events that repeat what was found in others."""
ABSENCES: Final = frozenset({"sleep and wake", "suspend and resume"})
"""Steps after which a Mac goes on as if nothing had been."""
SLOWER: Final = 2.0
"""A clone that took less than so many times what starting the same Mac took is slow as everything is on that host: both are Tart's
work, one right after the other, and the clone is the lesser of the two.
"""


class Meant:
    """Fed with all of a stream's records, in their order."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}
        self._last: tuple[str, datetime] | None = None
        self._absence = ""
        self._clone = ("", 0.0)

    def reads(self, record: dict[str, Any], text: str) -> str:
        """How `text`, which is what the record says, reads with what is known of the scenario's own doing."""
        kind, name = record.get("type"), record.get("name")
        if not isinstance(name, str):
            return text
        if name in QUOTING:
            return ""
        if name in CUTTING:
            self._step(record, name)
        elif name == "outcome" and self._absence and text:
            return f"after {self._absence}: {text}"
        elif kind == "event" and text and self._cut(name, record.get("attributes")) and (by := self._by(record)):
            return f"as wanted ({by}): {text.removeprefix('event ')}"
        elif name in ("clone", "start") and kind == "end" and record.get("outcome") == "ok":
            return self._compared(record, name, text)
        return text

    def _compared(self, record: dict[str, Any], name: str, text: str) -> str:
        attributes, seconds = record.get("attributes"), record.get("duration")
        if not isinstance(seconds, int | float):
            return text
        machine = str(attributes.get("machine", "")) if isinstance(attributes, dict) else ""
        if name == "clone":
            self._clone = (machine, float(seconds))
            return text.replace("step clone took", "step clone, to be compared, took", 1)
        (cloned, took), self._clone = self._clone, ("", 0.0)
        if cloned == machine and took >= SLOWER * seconds and took > 0:
            return f"step clone took {took:.1f} s, the Mac's start {seconds:.1f} s"
        return text

    def _step(self, record: dict[str, Any], name: str) -> None:
        key = str(record.get("id", ""))
        if record.get("type") == "start":
            if len(self._open) < 1000:
                self._open[key] = name
            return
        if record.get("type") != "end":
            return
        if name != "display sleep":  # it goes on until something wakes the display
            self._open.pop(key, None)
        if name == "wake display":
            self._open = {other: step for other, step in self._open.items() if step != "display sleep"}
        moment = _moment(record.get("time"))
        self._last = (name, moment) if moment is not None else None
        if name in ABSENCES and record.get("outcome") == "ok":
            self._absence = name

    @staticmethod
    def _cut(name: str, attributes: object) -> bool:
        about = attributes.get("what") if name == "degraded" and isinstance(attributes, dict) else name
        return isinstance(about, str) and about in CUTS

    def _by(self, record: dict[str, Any]) -> str:
        """The step that explains it, "" if none does."""
        if self._open:
            return next(reversed(self._open.values()))
        moment = _moment(record.get("time"))
        if self._last is None or moment is None:
            return ""
        step, ended = self._last
        return step if 0 <= (moment - ended).total_seconds() <= CUT_SECONDS else ""


def _moment(time: object) -> datetime | None:
    """One without a zone is UTC, as the stream says."""
    try:
        moment = datetime.fromisoformat(time) if isinstance(time, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
