"""Decides: which causes are proven, in which order, and what that makes of the input.

A cause is proven by a decisive sign; by a complaint in an excerpt, which people post because something is wrong; or by two
independent lesser signs where something else is proven already. What else matters: whether it explains the request's end or
something beside it, its severity, how near it is to a request, whether it is about the extension under test; and a cause
comes after those that outrank it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from harness.triage.catalog import BENIGN, Catalog, Cause, Sign
from harness.triage.history import Fact, History
from harness.triage.matching import Hits, Matcher
from harness.triage.report import CauseFound, SignSeen, TriageVerdict

EXCERPT: Final = 80
"""Log records up to which an input is an excerpt: something that a person chose because it shows the trouble."""
EXCERPT_LINES: Final = 1500
MAX_SIGNS: Final = 5
REFERENCE_TABLE: Final = 4
"""So many numbers of the request's error in one text are a list of them, not an event."""
_SOURCE_LINE: Final = re.compile(r"^\W{0,6}case\b|\breturn @?\"|^\W{0,6}(?:#define|//|\|)")
"""A line of a program or of a table, where it names an error: no event."""
_REACH: Final = {"run": 80.0, "request": 40.0, "product": 20.0, "machine": 0.0}
_SEVERITY: Final = {"fatal": 20.0, "degraded": 0.0, "benign": 0.0}
_DECISIVE, _COMPLAINT, _WEAK, _SUPPORTING = 3.0, 2.0, 1.5, 1.0


@dataclass
class Evidence:
    """What speaks for one cause."""

    cause: Cause
    signs: list[tuple[Sign, Hits, float]] = field(default_factory=list)
    score: float = 0.0
    why: list[str] = field(default_factory=list)
    ours: bool = False

    @property
    def strength(self) -> float:
        """That of its best sign."""
        return max((strength for _, _, strength in self.signs), default=0.0)

    @property
    def proven(self) -> bool:
        """By one sign alone."""
        return self.strength >= _WEAK


@dataclass
class Ranking:
    """The decision."""

    verdict: TriageVerdict
    causes: list[CauseFound]
    suspected: list[tuple[str, str]]


def rank(
    catalog: Catalog,
    matcher: Matcher,
    facts: Iterable[Fact],
    history: History,
    *,
    excerpt: bool,
    extension: str = "",
) -> Ranking:
    """Decide from all that was found.

    Args:
        catalog: The causes.
        matcher: Fed with everything.
        facts: What history and documents come to.
        history: Fed with everything.
        excerpt: Whether the input is one (see `EXCERPT`).
        extension: Bundle identifier of the extension under test, "" if not known.
    """
    by_name: dict[str, Hits] = {}
    ours: set[str] = set()
    for fact in facts:
        if extension and extension in fact.subject:
            ours.add(fact.name)
        by_name.setdefault(fact.name, Hits()).add(fact.unit, fact.offset)
    table = _reference_lines(catalog, matcher)
    evidence = [_evidence(cause, matcher, by_name, excerpt=excerpt, table=table) for cause in catalog.causes.values()]
    evidence = [item for item in evidence if item.signs]
    for item in evidence:
        item.ours = any(
            (sign.match == "fact" and sign.text in ours) or _names(extension, hits) for sign, hits, _ in item.signs
        )
    failures = [item for item in evidence if item.cause.id not in BENIGN]
    proven = [item for item in failures if item.proven]
    if proven:
        # What the harness itself saw and got over is told elsewhere; it does not become a cause by coming twice.
        proven += [item for item in failures if not item.proven and not item.cause.of_our_own and _concur(item)]
    suspected = [item for item in failures if item not in proven]
    for item in proven:
        _score(item, proven, history, by_name)
    proven.sort(key=lambda item: (-item.score, catalog.order[item.cause.id]))
    proven = _after_what_outranks_them(proven)
    lacks = [(item.cause.id, _lack(item, excerpt=excerpt)) for item in suspected]
    if proven:
        return Ranking("failure", [_found(item, proven) for item in proven], lacks)
    benign = [item for item in evidence if item.cause.id in BENIGN]
    if benign and not suspected:
        for item in benign:
            item.score = item.strength
        return Ranking("healthy", [_found(item, benign) for item in benign], [])
    return Ranking("inconclusive", [], lacks)


def _evidence(
    cause: Cause, matcher: Matcher, facts: Mapping[str, Hits], *, excerpt: bool, table: frozenset[tuple[str, int]]
) -> Evidence:
    item = Evidence(cause)
    for sign in cause.signs:
        hits = facts.get(sign.text) if sign.match == "fact" else matcher.hits.get(sign.key)
        if hits is None or (hits := _without(hits, table)) is None:
            continue
        if not all(text in matcher.met for text in sign.with_) or any(text in matcher.met for text in sign.absent):
            continue
        if sign.role == "decisive":
            strength = _DECISIVE
        elif sign.role == "complaint" and excerpt:
            strength = _WEAK if sign.weak else _COMPLAINT
        else:
            strength = _SUPPORTING
        item.signs.append((sign, hits, strength))
    return item


def _concur(item: Evidence) -> bool:
    return len({sign.key for sign, _, _ in item.signs}) >= 2 and len({_place(hits) for _, hits, _ in item.signs}) >= 2


def _place(hits: Hits) -> tuple[str, int]:
    unit, offset = hits.first[0]
    seen = unit.seen(offset)
    return seen.file, seen.line


def _reference_lines(catalog: Catalog, matcher: Matcher) -> frozenset[tuple[str, int]]:
    """Lines of texts that list the request's errors: they tell of no event."""
    numbers: dict[str, set[str]] = {}
    lines: dict[str, set[tuple[str, int]]] = {}
    code: set[tuple[str, int]] = set()
    for cause in catalog.causes.values():
        for sign in cause.signs:
            if sign.match == "request-error" and (hits := matcher.hits.get(sign.key)):
                for unit, offset in hits.first:
                    if unit.place != "log":
                        numbers.setdefault(unit.file, set()).add(sign.text)
                        seen = unit.seen(offset)
                        lines.setdefault(unit.file, set()).add((unit.file, seen.line))
                        if _SOURCE_LINE.search(seen.text):
                            code.add((unit.file, seen.line))
    return frozenset(code).union(
        line for file, several in numbers.items() if len(several) >= REFERENCE_TABLE for line in lines[file]
    )


def _without(hits: Hits, lines: frozenset[tuple[str, int]]) -> Hits | None:
    if not lines:
        return hits
    kept = [(unit, offset) for unit, offset in hits.first if (unit.file, unit.seen(offset).line) not in lines]
    return Hits(hits.count, kept, hits.last) if kept else None


def _score(item: Evidence, proven: list[Evidence], history: History, facts: Mapping[str, Hits]) -> None:
    cause = item.cause
    best = max(item.signs, key=lambda each: each[2])
    item.score = best[2] * 20 + _REACH[cause.reach] + _SEVERITY[cause.severity]
    item.why.append(f"{best[0].role} sign")
    if len(item.signs) > 1:
        item.score += min(len(item.signs) - 1, 3)
        item.why.append(f"{len(item.signs)} different signs")
    if any(_near(hits, history) for _, hits, _ in item.signs):
        item.score += 5
        item.why.append("near a request")
    if any(sign.heavy for sign, _, _ in item.signs):
        item.score += 15
        item.why.append("the beginning of a chain of consequences")
    if not item.proven:
        item.score -= 40
        item.why.append("likely at most: lesser signs concur")
    if item.ours:
        item.score += 15
        item.why.append("names the extension under test")
    if any(name in facts for name in cause.over_by):
        item.score -= 40
        item.why.append("a later request got past it")
    others = [
        other
        for other in proven
        if other is not item and other.cause.reach == "request" and other.strength >= _DECISIVE
    ]
    if cause.foreign and others and not item.ours:
        item.score -= 30
        item.why.append(f"may be another product's process, and {others[0].cause.id} explains the request")
    above = [other for other in proven if other is not item and _outranks(other, item)]
    if above:
        item.score -= 60
        item.why.append(f"a consequence of {', '.join(other.cause.id for other in above)}")
    item.why.append(f"{cause.severity}, explains the {cause.reach}")


def _outranks(one: Evidence, other: Evidence) -> bool:
    """Whether `other` is only a consequence of `one`: not where `one` is itself no more than likely, and `other` certain."""
    return other.cause.id in one.cause.outranks and (one.proven or not other.proven)


def _names(extension: str, hits: Hits) -> bool:
    return bool(extension) and any(extension in unit.text or extension == unit.process for unit, _ in hits.first)


def _near(hits: Hits, history: History) -> bool:
    return any(history.near_request(unit.seconds) for unit, _ in hits.first)


def _after_what_outranks_them(ordered: list[Evidence]) -> list[Evidence]:
    result: list[Evidence] = []
    waiting = list(ordered)
    while waiting:
        codes = {item.cause.id: item for item in waiting}
        for item in waiting:
            if not any(_outranks(other, item) for code, other in codes.items() if code != item.cause.id):
                result.append(item)
                waiting.remove(item)
                break
        else:  # the catalog has no circles, so this is only for safety
            result.extend(waiting)
            break
    return result


def _lack(item: Evidence, *, excerpt: bool) -> str:
    sign = item.signs[0][0]
    if sign.role == "complaint" and not excerpt:
        return "such lines occur in the logs of sound machines too, and nothing else here says that something failed"
    return "only supporting signs: such a line alone proves nothing"


def _found(item: Evidence, among: list[Evidence]) -> CauseFound:
    cause = item.cause
    confidence = {_DECISIVE: 0.9, _COMPLAINT: 0.7, _WEAK: 0.5}.get(item.strength, 0.4)
    if cause.confidence in ("dts", "maintainer"):
        confidence += 0.05
    if any(cause.id in other.cause.outranks for other in among):
        confidence -= 0.2
    signs: list[SignSeen] = []
    seen: set[tuple[str, int, str]] = set()
    for sign, hits, _ in sorted(item.signs, key=lambda each: -each[2]):
        for unit, offset in hits.first:
            place = unit.seen(offset, sign.role)
            key = (place.file, place.line, place.text)
            if key not in seen and len(signs) < MAX_SIGNS:
                seen.add(key)
                signs.append(replace(place, count=hits.count if unit is hits.first[0][0] else 1))
    return CauseFound(
        code=cause.id,
        title=cause.title,
        confidence=confidence,
        owner=cause.owner,
        severity=cause.severity,
        signs=tuple(signs),
        remedy=cause.remedy,
        why="; ".join(item.why),
    )


def is_excerpt(records: int, lines: int) -> bool:
    """Whether an input is an excerpt rather than a log."""
    return records <= EXCERPT and lines <= EXCERPT_LINES
