"""`signoff.toml`: what must be so before a release is signed off. `docs/signoff.md` explains it with an example."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from harness.bundles.preflight import load_rules
from harness.config import Lane, MacOS, Table, load_table
from harness.errors import UsageError

FILE_NAME = "signoff.toml"
HINT = "see docs/signoff.md"
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Word = Annotated[str, Field(min_length=1, max_length=300)]
Link = Annotated[str, Field(max_length=1000, pattern=r"^(https?://\S*|[^:\s][^:\x00-\x1f\x7f]*)?$")]
"""An address or a path; nothing that a page would run."""


def _a_day(value: object) -> object:
    """A number is a number of seconds for pydantic, and so `on = 2026` would be a day in 1970."""
    if isinstance(value, int | float):
        raise ValueError("a day is written 2026-12-05")
    return value


Day = Annotated[date, BeforeValidator(_a_day)]
Correction = Literal["none", "bonferroni"]
Per = Literal["scenario", "macos", "item"]


class Item(Table):
    """Scenarios that must have run often enough, and failed seldom enough.

    Attributes:
        id: Its name, for waivers and reports.
        scenarios: Names as `sysext history` shows them; `*` and `?` are wildcards, and a name without parameters means all of
            them.
        macos: Each of these versions must be there.
        lane: None for the file's.
        per: What must reach the numbers by itself: each scenario on each macOS, each macOS, or the item as a whole. Whichever it
            is, each entry of `scenarios` must have run on each macOS.
        minimum_runs: Of each such part.
        maximum_rate: The failure rate that must be excluded, 0.05 for 5 %. Without one, no run may fail.
        confidence: How surely; None for the file's.
        freshness_days: Older runs do not count; None for the file's.
        images: Patterns of image names; empty for any.
        providers: Where the Macs came from; empty for any real one.
    """

    id: Id
    title: str = Field(default="", max_length=300)
    scenarios: list[Word] = Field(min_length=1, max_length=200)
    macos: list[MacOS] = Field(min_length=1)
    lane: Lane | None = None
    per: Per = "scenario"
    minimum_runs: int = Field(default=1, ge=1, le=1_000_000)
    maximum_rate: float | None = Field(default=None, ge=0.0001, lt=1)
    confidence: float | None = Field(default=None, ge=0.5, lt=1)
    freshness_days: int | None = Field(default=None, ge=1, le=3650)
    images: list[Word] = Field(default_factory=list)
    providers: list[Word] = Field(default_factory=list)


class PreflightItem(Table):
    """Rules of the preflight that the release's files must pass.

    Attributes:
        rules: Names of rules; `*` and `?` are wildcards.
        previous: Releases from which the upgrade is judged; `previous` is the one before it in the app file.
        macos: The versions it shall run on.
        warnings: Warnings count like errors.
    """

    id: Id
    title: str = Field(default="", max_length=300)
    rules: list[Word] = Field(default_factory=lambda: ["*"], min_length=1)
    previous: list[Word] = Field(default_factory=lambda: ["previous"])
    macos: list[MacOS] = Field(default_factory=list)
    warnings: bool = False


class ManualItem(Table):
    """Something that a person does and answers for with a name.

    Attributes:
        done_by: Who; empty while nobody has.
        on: The day it was done (or a time).
        release: Which release it was done with: must be the one that is signed off.
        cdhash: Of the app that it was done with (`codesign -dvvv` says it): must be of that release's; empty where nobody
            looked.
        evidence: An address or path that shows it.
    """

    id: Id
    title: str = Field(default="", max_length=300)
    done_by: str = Field(default="", max_length=300)
    on: Day | None = None
    release: str = Field(default="", max_length=300)
    cdhash: str = Field(default="", pattern=r"^([0-9a-fA-F]{40}|[0-9a-fA-F]{64})?$")
    note: str = Field(default="", max_length=2000)
    evidence: Link = ""


class Waiver(Table):
    """Somebody's word that an item need not be met.

    Attributes:
        item: Its id.
        until: The last (UTC) day on which it holds.
        release: For this one only; empty for any.
    """

    item: Id
    who: Word
    why: Text
    until: Day
    release: str = Field(default="", max_length=300)


class SignOffFile(Table):
    """All of `signoff.toml`.

    Attributes:
        name: A heading.
        correction: `none`, or `bonferroni`: all bounds hold at once.
        case_link: Where a case file is found; `{run}` and `{case}` are replaced.
    """

    name: str = Field(default="", max_length=300)
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    freshness_days: int = Field(default=30, ge=1, le=3650)
    lane: Lane = "pristine"
    correction: Correction = "none"
    case_link: Link = "artifacts/{run}/{case}"
    item: list[Item] = Field(default_factory=list, max_length=500)
    preflight: list[PreflightItem] = Field(default_factory=list, max_length=100)
    manual: list[ManualItem] = Field(default_factory=list, max_length=500)
    waiver: list[Waiver] = Field(default_factory=list, max_length=500)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = self.ids()
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise ValueError(f"each item has an id of its own; there are two of {', '.join(twice)}")
        if not ids:
            raise ValueError("nothing is demanded: write an [[item]], a [[preflight]] or a [[manual]]")
        for waiver in self.waiver:
            if waiver.item not in ids:
                raise ValueError(f"a waiver of {waiver.item}, which is no item; {_nearest(waiver.item, ids)}")
        return self

    def ids(self) -> list[str]:
        """Of all items, in the order of the report."""
        return [*(one.id for one in self.item), *(one.id for one in self.preflight), *(one.id for one in self.manual)]


def load_signoff(path: Path) -> SignOffFile:
    """Read a `signoff.toml`.

    Raises:
        UsageError: It is missing, not TOML, or says something unknown (names the nearest) or wrong.
    """
    try:
        file = load_table(path, SignOffFile, hint=HINT)
    except UsageError as error:
        if path.exists():
            raise
        raise UsageError(
            f"what is demanded of a release, in {path}",
            seen=error.seen,
            hint="docs/signoff.md has an example to begin with; --demands FILE names another",
        ) from error
    for check in file.preflight:
        for rule in check.rules:
            _known_rule(check, rule, path)
    return file


def from_dict(data: object, *, origin: str) -> SignOffFile:
    """The same from what a report kept of it.

    Raises:
        UsageError: It is none.
    """
    from pydantic import ValidationError

    try:
        return SignOffFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"a whole sign-off in {origin}",
            seen=f"'{where}': {first['msg']}",
            hint="the file was altered, or is damaged",
        ) from error


@lru_cache(maxsize=100_000)
def fits(pattern: str, name: str) -> bool:
    """Whether a pattern means a name. `*` and `?` are wildcards; everything else is taken as it is written. A pattern without
    parameters (`upgrade path`) means those with parameters (`upgrade path [0.11.4->0.11.5-pkg-running]`), too.
    """
    if pattern == name or _glob(pattern, name):
        return True
    return " [" not in pattern and _glob(f"{pattern} [*]", name)


def _glob(pattern: str, name: str) -> bool:
    """In time that grows with the product of their lengths: a regular expression's may grow with a power of the first."""
    at, star, mark = 0, -1, 0
    place = 0
    while place < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[place]):
            at += 1
            place += 1
        elif star >= 0:
            mark += 1
            at, place = star + 1, mark
        else:
            return False
    return pattern[at:].strip("*") == ""


def _known_rule(check: PreflightItem, pattern: str, path: Path) -> None:
    rules = load_rules()
    found = [rule for rule in rules.values() if fits(pattern, rule.id)]
    if not found:
        raise UsageError(
            f"a rule of the preflight in {path}, preflight {check.id}",
            seen=f"'{pattern}'",
            hint=_nearest(pattern, rules),
        )
    if not check.previous and all(rule.about == "upgrade" for rule in found):
        raise UsageError(
            f"`previous` in {path}, preflight {check.id}", seen="none", hint=f"'{pattern}' is about upgrades: give one"
        )


def _nearest(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)[:600]}"
