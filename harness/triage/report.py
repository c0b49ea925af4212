"""What triage answers: the findings as data, and the same said to people.

Everything quoted comes from files that nobody vouches for: control characters are made harmless before they are shown.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

WIDTH: Final = 100
MAX_SIGN_TEXT: Final = 400
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

TriageVerdict = Literal["failure", "healthy", "inconclusive"]


@dataclass(frozen=True)
class SignSeen:
    """One line that speaks for a cause.

    Attributes:
        file: The file or the archive's member it is in.
        line: Its number there, from 1; 0 where a file has no lines.
        time: As the log has it, ISO 8601; "" if it has none.
        process: Who said it; "" if not known.
        text: The line, at most 400 characters, harmless on a terminal.
        role: `decisive`, `complaint` or `supporting`.
        count: How often such a line occurs in the input.
    """

    file: str
    line: int
    time: str
    process: str
    text: str
    role: str = "decisive"
    count: int = 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": self.file,
            "line": self.line,
            "time": self.time,
            "process": self.process,
            "text": self.text,
            "role": self.role,
            "count": self.count,
        }


@dataclass(frozen=True)
class CauseFound:
    """A cause that the input proves.

    Attributes:
        code: Its code, see `docs/causes.md`.
        confidence: 0 to 1: how sure this answer is for this input.
        owner: Who can mend it.
        severity: `fatal`, `degraded` or `benign`.
        why: How it came to its place, in words.
    """

    code: str
    title: str
    confidence: float
    owner: str
    severity: str
    signs: tuple[SignSeen, ...]
    remedy: str
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "code": self.code,
            "title": self.title,
            "confidence": round(self.confidence, 2),
            "owner": self.owner,
            "severity": self.severity,
            "signs": [sign.as_dict() for sign in self.signs],
            "remedy": self.remedy,
            "why": self.why,
        }


@dataclass(frozen=True)
class Happening:
    """One step in an extension's history.

    `moment` is its place on the clock that all sources share, in seconds; None where it has none.
    """

    extension: str
    what: str
    time: str = ""
    version: str = ""
    file: str = ""
    line: int = 0
    moment: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "time": self.time,
            "extension": self.extension,
            "version": self.version,
            "what": self.what,
            "file": self.file,
            "line": self.line,
        }


@dataclass
class Triage:
    """The answer for one input (or for several that belong to one Mac).

    Attributes:
        input: What was looked at.
        kind: What it was found to be.
        verdict: `failure` (a cause is proven), `healthy` (signs of health and no cause), `inconclusive`.
        causes: Best first. Benign ones (`healthy`, `harmless-noise`) only when there is no failure.
        suspected: Causes with supporting signs only, and what each lacks.
        timeline: What happened to each extension, in order.
        coverage: What was read and what was not: counts, window, notes.
        simulated: The input comes from a simulated Mac.
    """

    input: str
    kind: str
    verdict: TriageVerdict
    causes: list[CauseFound] = field(default_factory=list)
    suspected: list[tuple[str, str]] = field(default_factory=list)
    timeline: list[Happening] = field(default_factory=list)
    coverage: dict[str, Any] = field(default_factory=dict)
    simulated: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the keys are stable."""
        return {
            "input": self.input,
            "kind": self.kind,
            "verdict": self.verdict,
            "causes": [cause.as_dict() for cause in self.causes],
            "suspected": [{"code": code, "lacks": lacks} for code, lacks in self.suspected],
            "timeline": [happening.as_dict() for happening in self.timeline],
            "coverage": self.coverage,
            "simulated": self.simulated,
        }

    def headline(self) -> str:
        """The answer on one line."""
        mark = "[SIMULATED] " if self.simulated else ""
        if self.verdict == "failure":
            best = self.causes[0]
            more = f" (and {len(self.causes) - 1} more)" if len(self.causes) > 1 else ""
            return f"{mark}{best.code}: {best.title}{more}"
        if self.verdict == "healthy":
            return f"{mark}healthy: {self.causes[0].title.lower() if self.causes else 'no failure found'}"
        reason = self.coverage.get("inconclusive", "no known sign of a failure or of health")
        return f"{mark}inconclusive: {reason}"


def harmless(text: str, limit: int = MAX_SIGN_TEXT) -> str:
    """`text` for a terminal: on one line, control characters shown as escapes, not longer than `limit`."""
    flat = " ".join(text.replace("\n", " ").replace("\t", " ").split())
    flat = _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", flat)
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def as_text(found: Triage, *, verbose: bool = False) -> str:
    """For people: the answer first, then the history, the signs, what to do, what was not covered. 100 columns."""
    lines = [harmless(found.input, WIDTH), _fold(found.headline(), "  ")]
    for number, cause in enumerate(found.causes, 1):
        lines += ["", _fold(f"{number}. {cause.code} ({cause.severity}, {cause.owner}, {cause.confidence:.0%} sure)")]
        lines.append(_fold(cause.title, "   "))
        for sign in cause.signs:
            lines.extend(_sign(sign))
        lines.append(_fold(f"What to do: {cause.remedy}", "   "))
        if verbose and cause.why:
            lines.append(_fold(f"Why here: {cause.why}", "   "))
    if found.timeline:
        lines += ["", "History"]
        lines.extend(_history(found.timeline))
    lines.extend(_fold(f"clock: {harmless(str(said))}", "   ") for said in found.coverage.get("clocks", []))
    if found.suspected and (verbose or found.verdict == "inconclusive"):
        lines += ["", "Suspected, not proven"]
        lines.extend(_fold(f"{code}: {lacks}", "   ") for code, lacks in found.suspected)
    notes = found.coverage.get("notes", [])
    lines += ["", _fold("Read: " + str(found.coverage.get("summary", "nothing")))]
    lines.extend(_fold(f"not covered: {harmless(str(note))}", "   ") for note in notes)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def as_github(found: Triage) -> str:
    """Annotations for a GitHub Actions log: an error per proven cause, a notice otherwise."""
    lines = []
    if found.verdict != "failure":
        return f"::notice title=sysext triage::{_escape(found.headline())}\n"
    for cause in found.causes:
        level = "error" if cause.severity == "fatal" else "warning"
        where = ""
        if cause.signs and cause.signs[0].line:
            name = _escape(cause.signs[0].file).replace(",", "%2C").replace(":", "%3A")
            where = f"file={name},line={cause.signs[0].line},"
        sign = f" | {cause.signs[0].text}" if cause.signs else ""
        lines.append(f"::{level} {where}title={cause.code}::{_escape(f'{cause.title}{sign}. {cause.remedy}')}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return harmless(text, 2000).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _sign(sign: SignSeen) -> Iterator[str]:
    name = harmless(sign.file, 4000)
    place = name if len(name) <= 56 else "…" + name[-55:]
    if sign.line:
        place += f":{sign.line}"
    head = "   | " + " ".join(part for part in (place, sign.time, sign.process) if part)
    if sign.count > 1:
        head += f" ({sign.count} times)"
    yield head[:WIDTH]
    yield from textwrap.wrap(sign.text, WIDTH, initial_indent="   |   ", subsequent_indent="   |   ") or ["   |"]


def _history(timeline: Sequence[Happening]) -> Iterator[str]:
    extension = None
    for happening in timeline:
        if happening.extension != extension:
            extension = happening.extension
            yield _fold(harmless(extension or "(no extension named)"), "   ")
        version = f" {happening.version}" if happening.version else ""
        yield _fold(f"{happening.time or '-'}{version} {harmless(happening.what)}".strip(), "      ")


def _fold(text: str, indent: str = "") -> str:
    flat = _CONTROL.sub("", text)
    return "\n".join(textwrap.wrap(flat, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")) or indent
