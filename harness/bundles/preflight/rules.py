"""Rules and findings: the records, the catalog of `rules.toml`, and who judges which rule."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from harness.bundles.facts import CodeItem, Inspection
from harness.errors import HarnessError, UsageError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
Said = tuple[str, str]
"""What a judge yields: where (a path in the bundle), and what was expected and seen there, as one phrase."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: Its name: what is switched off in `sysext.toml`, what SARIF calls it.
        severity: Of its findings.
        about: One release, or an upgrade from one to another.
        title: What should be the case.
        why: What happens otherwise.
        causes: Codes that triage then names.
        fix: What to do.
        trust: It only matters where macOS checks who signed: with SIP off its findings are notes.
    """

    id: str
    severity: Severity
    title: str
    why: str
    causes: tuple[str, ...]
    fix: str
    about: Literal["release", "upgrade"] = "release"
    trust: bool = False

    @property
    def page(self) -> str:
        """Its page in this project."""
        return f"docs/rules/{self.id}.md"


@dataclass(frozen=True)
class Finding:
    """Something that is not as a rule wants it.

    Attributes:
        rule: Which rule.
        severity: The rule's, or less in a lane where it does not matter.
        where: The path in the bundle, `/` between its parts; "" is the app itself.
        what: What was expected and seen.
        release: Of which release ("0.11.5", or the app's name), where several are judged.
    """

    rule: Rule
    severity: Severity
    where: str
    what: str
    release: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the keys are stable."""
        return {
            "rule": self.rule.id,
            "severity": self.severity,
            "title": self.rule.title,
            "where": self.where,
            "what": self.what,
            "release": self.release,
            "why": self.rule.why,
            "causes": list(self.rule.causes),
            "fix": self.rule.fix,
            "page": self.rule.page,
        }

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        return f"{self.severity} {self.rule.id}{place}: {self.what}"


@dataclass(frozen=True)
class Subject:
    """One release, as the judges of single releases see it.

    Attributes:
        seen: What the inspection found.
        path: The unpacked app, for the few judges that look at files; None where there is none any more.
        oddities: Flags and permissions of the archive it came in (`archive_oddities`).
        macos: The versions it shall run on; empty: only what is wrong in itself.
        today: Seconds since 1970 by which profiles are judged.
    """

    seen: Inspection
    path: Path | None
    oddities: tuple[Said, ...]
    macos: tuple[str, ...]
    today: float


@dataclass(frozen=True)
class Upgrade:
    """Two releases, as the judges of upgrades see them."""

    old: Inspection
    new: Inspection

    def extensions(self) -> Iterator[tuple[CodeItem, CodeItem]]:
        """The extensions that both have, old and new."""
        known = {item.bundle_id: item for item in self.old.extensions}
        for item in self.new.extensions:
            if item.bundle_id in known:
                yield known[item.bundle_id], item

    def pairs(self) -> Iterator[tuple[CodeItem, CodeItem]]:
        """The app and its extensions, old and new."""
        yield self.old.app, self.new.app
        yield from self.extensions()


ReleaseJudge = Callable[[Subject], Iterable[Said]]
UpgradeJudge = Callable[[Upgrade], Iterable[Said]]
_Judge = TypeVar("_Judge", bound=Callable[..., Iterable[Said]])
_JUDGES: dict[str, Callable[..., Iterable[Said]]] = {}


def judges(rule: str) -> Callable[[_Judge], _Judge]:
    """Mark the function that judges a rule. It yields (where, what) for everything that is not as it should be."""

    def mark(function: _Judge) -> _Judge:
        if rule in _JUDGES:
            raise HarnessError(f"one judge of {rule}", seen="two")
        _JUDGES[rule] = function
        return function

    return mark


def judge_of(rule: Rule) -> Callable[..., Iterable[Said]]:
    """The function that judges a rule."""
    _load()
    return _JUDGES[rule.id]


def judged() -> frozenset[str]:
    """The rules that have a judge."""
    _load()
    return frozenset(_JUDGES)


@functools.cache
def _load() -> None:
    import importlib

    for name in ("layout", "signing", "entitlements", "profiles", "pairs"):
        importlib.import_module(f"harness.bundles.preflight.{name}")


@functools.cache
def load_rules() -> Mapping[str, Rule]:
    """All rules, by id, in their order."""
    text = (resources.files("harness.bundles.preflight") / "rules.toml").read_text(encoding="utf-8")
    return read_rules(text)


def read_rules(text: str) -> Mapping[str, Rule]:
    """Rules from TOML.

    Raises:
        HarnessError: It is not what it must be.
    """
    found: dict[str, Rule] = {}
    for entry in tomllib.loads(text).get("rule", []):
        unknown = set(entry) - set(Rule.__dataclass_fields__)
        if unknown or not {"id", "severity", "title", "why", "causes", "fix"} <= set(entry):
            raise HarnessError(f"a whole rule {entry.get('id')}", seen=f"keys {', '.join(sorted(entry))}")
        if entry["id"] in found or entry["severity"] not in SEVERITIES:
            raise HarnessError(f"a rule {entry['id']} once, of a known severity", seen=str(entry["severity"]))
        found[entry["id"]] = Rule(**{**entry, "causes": tuple(cast("list[str]", entry["causes"]))})
    return found


def check_switched_off(off: Mapping[str, str], *, origin: str = "preflight.off") -> None:
    """Rules that are switched off exist, and each has a reason.

    Raises:
        UsageError: One does not; names the nearest.
    """
    rules = load_rules()
    for rule, reason in off.items():
        if rule not in rules:
            near = difflib.get_close_matches(rule, rules, n=1, cutoff=0.4)
            raise UsageError(
                f"a rule of the preflight in {origin}",
                seen=f"'{rule}'",
                hint=f"did you mean '{near[0]}'?" if near else "docs/rules/README.md lists them",
            )
        if not reason.strip():
            raise UsageError(
                f"a reason why {rule} is switched off ({origin})",
                seen="an empty text",
                hint=f'write it as {rule} = "why this does not matter here"',
            )
