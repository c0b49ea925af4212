"""What a Mac logged while a scenario passed, and nobody expected: proven causes, and fatal lines of the daemons concerned.

What is expected stands in `expected.toml`, each with its reason. The scenario's own window is its streamed log, from boot on.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Final

from harness.errors import UsageError
from harness.formats import records
from harness.formats.records import Record
from harness.triage.catalog import load_catalog
from harness.triage.inputs import open_input
from harness.triage.matching import Matcher
from harness.triage.observed import PLACE, observe
from harness.triage.report import harmless

LOG_NAMES: Final = ("log-stream.ndjson", "log.ndjson")
MOST: Final = 20
"""Told per scenario; more say no more."""
MAX_BYTES: Final = 64 << 20
"""Of streamed log, some 25 MB a second; what is larger is not looked through (and that is told)."""


@dataclass(frozen=True)
class Unexpected:
    """One thing that nobody expected.

    Attributes:
        what: The cause's code, or `fatal line`.
        text: The line.
        count: How often such a line came.
        alarm: Whether it would fail something; False for what only is told, such as a known noise.
        title: Of the cause.
    """

    what: str
    process: str
    time: str
    text: str
    count: int = 1
    alarm: bool = True
    title: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {
            "what": self.what,
            "process": self.process,
            "time": self.time,
            "text": self.text,
            "count": str(self.count),
        }


@dataclass(frozen=True)
class _Expected:
    reason: str
    scenario: str = "*"
    cause: str = ""
    text: re.Pattern[str] | None = None


@dataclass(frozen=True)
class _Rules:
    processes: frozenset[str]
    fatal: re.Pattern[str]
    expected: tuple[_Expected, ...]

    def allows(self, scenario: str, what: str, text: str) -> bool:
        """Whether it is expected there."""
        return any(
            fnmatchcase(scenario.casefold(), one.scenario.casefold())
            and (not one.cause or fnmatchcase(what, one.cause))
            and (one.text is None or one.text.search(text) is not None)
            for one in self.expected
        )


@functools.cache
def load_rules() -> _Rules:
    """`expected.toml`.

    Raises:
        UsageError: It has an unknown key, or an entry without a reason.
    """
    data = tomllib.loads(resources.files("harness.triage").joinpath("expected.toml").read_text(encoding="utf-8"))
    return rules_from(data)


def rules_from(data: dict[str, Any]) -> _Rules:
    """The same from a table (see `load_rules`)."""
    expected = []
    for entry in data["expected"]:
        unknown = set(entry) - {"scenario", "cause", "text", "reason"}
        if unknown or not entry.get("reason") or not (entry.get("cause") or entry.get("text")):
            raise UsageError(
                "an entry of expected.toml with a reason, and a cause or text",
                seen=str(entry)[:300],
                hint=f"unknown: {', '.join(sorted(unknown))}" if unknown else "",
            )
        text = re.compile(entry["text"], re.IGNORECASE) if entry.get("text") else None
        expected.append(_Expected(entry["reason"], entry.get("scenario", "*"), entry.get("cause", ""), text))
    watch = data["watch"]
    return _Rules(
        frozenset(watch["processes"]), re.compile("|".join(f"(?:{part})" for part in watch["fatal"])), tuple(expected)
    )


def unexpected_lines(folder: Path, *, scenario: str, extension_id: str = "") -> list[Unexpected]:
    """What was logged during the scenario of this case file and is not expected, at most `MOST`.

    Raises:
        FormatError: The log cannot be read.
    """
    from harness.triage.engine import triage

    log = next((folder / name for name in LOG_NAMES if (folder / name).is_file()), None)
    if log is None or log.stat().st_size == 0:
        return []
    if log.stat().st_size > MAX_BYTES:
        text = f"not looked through: {log.stat().st_size >> 20} MiB of log"
        return [Unexpected("not covered", "", "", text)]
    rules = load_rules()
    found: list[Unexpected] = []
    answer = triage([log], extension_id=extension_id or None)
    for cause in answer.causes:
        alarm = cause.severity == "fatal"
        # A complaint proves nothing in a whole log, so it is no alarm. What only troubles is told where it is about the
        # product: how a request ended, the scenario has seen itself.
        signs = [each for each in cause.signs if each.role == "decisive" or not alarm]
        if not signs or not (alarm or troubles_only(cause.code)):
            continue
        sign = signs[0]
        if not any(rules.allows(scenario, cause.code, each.text) for each in cause.signs):
            found.append(
                Unexpected(cause.code, sign.process, sign.time, sign.text, sign.count, alarm=alarm, title=cause.title)
            )
    found += [noise for noise in suspected(answer.suspected) if not rules.allows(scenario, noise.what, noise.text)]
    said = [item.text for item in found]
    found += [item for item in fatal_lines(open_input(log).records, rules, scenario) if item.text not in said]
    return found[:MOST]


def troubles_only(code: str) -> bool:
    """Whether a cause is about the product, and fails nothing by itself."""
    cause = load_catalog().get(code)
    return cause.severity == "degraded" and cause.reach == "product"


def suspected(found: Sequence[tuple[str, str]]) -> list[Unexpected]:
    """Of the suspected causes (code, why no more than that) those that only trouble the product, to be told."""
    catalog = load_catalog()
    return [
        Unexpected(code, "", "", f"suspected only: {lack}", alarm=False, title=catalog.get(code).title)
        for code, lack in found
        if code in catalog.causes and troubles_only(code)
    ]


def survived(folder: Path) -> list[Unexpected]:
    """What the harness saw of its own environment in this case file and got over, once for each cause (see
    `causes/harness-run.toml`): the supporting signs, for a decisive one is why a run ended.
    """
    catalog = load_catalog()
    matcher = Matcher(catalog)
    for unit in observe(folder).units:
        matcher.feed(unit)
    found = []
    for cause in catalog.causes.values():
        signs = [sign for sign in cause.signs if sign.only == {PLACE} and sign.role == "supporting"]
        hits = [matcher.hits[sign.key] for sign in signs if sign.key in matcher.hits]
        if hits and cause.owner == "environment":
            unit, offset = hits[0].first[0]
            seen = unit.seen(offset)
            count = sum(each.count for each in hits)
            found.append(Unexpected(cause.id, "harness", seen.time, seen.text, count, alarm=False, title=cause.title))
    return found[:MOST]


def fatal_lines(log: Any, rules: _Rules, scenario: str) -> Sequence[Unexpected]:
    """Lines of the daemons concerned that are a fault, or say that something died; the same line once, with its count."""
    seen: dict[str, tuple[Record, int]] = {}
    for record in log:
        if record.kind != records.LOG or record.process not in rules.processes:
            continue
        if record.level != "Fault" and rules.fatal.search(record.message) is None:
            continue
        if rules.allows(scenario, "fatal line", record.message):
            continue
        key = re.sub(r"\d+", "0", record.message)[:300]
        first, count = seen.get(key, (record, 0))
        if count or len(seen) < MOST:
            seen[key] = (first, count + 1)
    return [
        Unexpected(
            "fatal line",
            first.process,
            first.time.isoformat() if first.time else "",
            harmless(first.message),
            count,
        )
        for first, count in seen.values()
    ]
