"""The little language of `--sysext-upgrade`.

    expressions = expression *( ";" expression )
    expression  = step-group *( "then" step-group ) [ "pairwise" | "full" ]
    step-group  = releases [ "rebuilt" ] [ "via" hows ] [ "while" states ]
    releases    = release "->" release *( "->" release ) | "previous" | "rebuilt" | "chain" | "matrix"
    release     = a version of the app file | "latest" | "previous" | "oldest" | "all"
    hows        = "any" | how *( "," how )            pkg, dmg, updater, delete-first, pkg-preinstall
    states      = "any" | state *( "," state )        running, waiting, disabled, dismissed, never, asleep, second-user

`latest` is the release under test, `previous` the one before it, `all` each one before it. Where nothing is said, the way is
`pkg` and the state is `running`. Parsing needs no app file and is exact: `str` of what was parsed parses to the same.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from harness.config import AppFile
from harness.errors import UsageError
from harness.upgrades.covering import MOST_ROWS, Row, full, pairwise
from harness.upgrades.paths import How, Relation, State, Step, UpgradePath, impossible, relation

Words = TypeVar("Words", bound=StrEnum)
ALIASES: Final = ("latest", "previous", "oldest", "all")
KINDS: Final = ("previous", "rebuilt", "chain", "matrix")
MODES: Final = ("full", "pairwise")
RESERVED: Final = frozenset({*ALIASES, *KINDS, *MODES, "any", "via", "while", "then"})
MOST_PATHS: Final = 2000
"""More upgrades than that in one run are a mistake."""
MOST_TEXT: Final = 10_000
HINT: Final = (
    'such as "0.11.4->0.11.5 via pkg while running", "all->latest via any pairwise", "matrix"; docs/upgrades.md has all'
)


@dataclass(frozen=True)
class Group:
    """Releases, ways and states that are multiplied with one another.

    Attributes:
        releases: As written: versions and words; a single word of `KINDS` stands for pairs of the app file.
        rebuilt: Only pairs of which one is a rebuild of the other.
    """

    releases: tuple[str, ...]
    rebuilt: bool = False
    hows: tuple[How, ...] = (How.PKG,)
    states: tuple[State, ...] = (State.RUNNING,)

    def __str__(self) -> str:
        return (
            "->".join(self.releases)
            + (" rebuilt" if self.rebuilt else "")
            + f" via {_listed(self.hows, How)} while {_listed(self.states, State)}"
        )


@dataclass(frozen=True)
class Expression:
    """One expression: groups walked one after the other, and how many of their combinations are taken."""

    groups: tuple[Group, ...]
    mode: str = "full"

    def __str__(self) -> str:
        return " then ".join(str(group) for group in self.groups) + (" pairwise" if self.mode == "pairwise" else "")


def parse(text: str) -> tuple[Expression, ...]:
    """Read expressions, separated by `;`.

    Raises:
        UsageError: It is none; says where, and names the nearest word.
    """
    if len(text) > MOST_TEXT:
        raise UsageError("an upgrade expression", seen=f"{len(text)} characters", hint=HINT)
    parts = [part.strip() for part in text.split(";")]
    found = tuple(_Parser(part).expression() for part in parts if part)
    if not found:
        raise UsageError("an upgrade expression", seen=repr(text), hint=HINT)
    return found


def select(app: AppFile, texts: Iterable[str], *, latest: str | None = None) -> list[UpgradePath]:
    """The paths that expressions mean with this app file, each once, in their order.

    What cannot be (an updater of an app that was never started) is left out where a list or `any` named it.

    Args:
        app: The product.
        texts: Expressions.
        latest: The release under test; the app file's last by default.

    Raises:
        UsageError: An expression cannot be read, names no release of the app file, or nothing of it can be walked.
    """
    found: dict[str, UpgradePath] = {}
    for text in texts:
        for expression in parse(text):
            paths, reasons = _meant(app, expression, app.release(latest).version)
            if not paths:
                raise UsageError(
                    f"an upgrade that '{expression}' means",
                    seen=f"none is possible: {_some(reasons)}" if reasons else "none",
                    hint=HINT,
                )
            found.update((str(path), path) for path in paths)
    if len(found) > MOST_PATHS:
        raise UsageError(f"at most {MOST_PATHS} upgrades", seen=str(len(found)), hint="add `pairwise`")
    return list(found.values())


def _some(reasons: Sequence[str], most: int = 5) -> str:
    different = list(dict.fromkeys(reasons))
    more = f"; and {len(different) - most} more" if len(different) > most else ""
    return "; ".join(different[:most]) + more


def default_paths(app: AppFile, *, latest: str | None = None) -> list[UpgradePath]:
    """A small choice for every run: each way and each state once with the newest upgrade, one rebuild and one downgrade.

    Empty when the app file lists no older release.
    """
    newest = app.release(latest).version
    names = [release.version for release in app.releases]
    if names.index(newest) == 0:
        return []
    older = names[names.index(newest) - 1]
    factors: dict[str, Sequence[object]] = {"how": list(How), "state": list(State)}
    rows = pairwise(
        factors, lambda row: impossible(app, Step(older, newest, row["how"], row["state"])) is None, strength=1
    )
    paths = [UpgradePath((Step(older, newest, row["how"], row["state"]),)) for row in rows]
    more = [Step(newest, older, How.DMG), *(Step(*pair, How.PKG) for pair in _rebuilds(app)[:1])]
    return paths + [UpgradePath((step,)) for step in more if impossible(app, step) is None]


class _Parser:
    """One expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = _words(text)
        self._at = 0

    def expression(self) -> Expression:
        groups = [self._group()]
        while self._take("then"):
            groups.append(self._group())
        mode = next((mode for mode in MODES if self._take(mode)), "full")
        if self._at < len(self._words):
            wanted = ["via", "while", "then", "rebuilt", *MODES]
            raise self._wrong(f"one of {', '.join(wanted)}, or the end", wanted)
        return Expression(tuple(groups), mode)

    def _group(self) -> Group:
        releases = [self._release(first=True)]
        while self._take("->"):
            releases.append(self._release(first=False))
        if len(releases) == 1 and releases[0] not in KINDS:
            raise self._wrong(f"'->' and a release after '{releases[0]}'", ["->", *KINDS], near=releases[0])
        if len(releases) > 1:
            for word in ("rebuilt", "chain", "matrix"):
                if word in releases:
                    raise self._wrong(f"releases around '->', not '{word}'", ALIASES, near=word)
        rebuilt = len(releases) > 1 and self._take("rebuilt")
        whole = releases == ["matrix"]
        hows = self._list("via", How, tuple(How) if whole else (How.PKG,))
        states = self._list("while", State, tuple(State) if whole else (State.RUNNING,))
        return Group(tuple(releases), rebuilt, hows, states)

    def _release(self, *, first: bool) -> str:
        word = self._peek()
        if word is None or word in ("->", ",") or (word in RESERVED and word not in ALIASES and word not in KINDS):
            what = "a release, or one of " + ", ".join((*ALIASES, *(KINDS if first else ())))
            raise self._wrong(what, [*ALIASES, *KINDS])
        self._at += 1
        return word

    def _list(self, keyword: str, kind: type[Words], default: tuple[Words, ...]) -> tuple[Words, ...]:
        if not self._take(keyword):
            return default
        found: list[Words] = []
        known = [member.value for member in kind]
        while True:
            word = self._peek()
            if word == "any" and not found:
                self._at += 1
                return tuple(kind)
            if word not in known:
                raise self._wrong(f"one of {', '.join(known)} after '{keyword}', or any", [*known, "any"])
            self._at += 1
            if kind(word) not in found:
                found.append(kind(word))
            if not self._take(","):
                return tuple(member for member in kind if member in found)

    def _peek(self) -> str | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def _take(self, word: str) -> bool:
        if self._peek() == word:
            self._at += 1
            return True
        return False

    def _wrong(self, expected: str, known: Sequence[str], *, near: str | None = None) -> UsageError:
        word = near if near is not None else self._peek()
        seen = f"'{word}'" if word is not None else "the end"
        close = difflib.get_close_matches(word or "", known, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close and close[0] != word else HINT
        return UsageError(f"{expected} in the upgrade expression '{self._text}'", seen=seen, hint=hint)


def _words(text: str) -> list[str]:
    """Words, arrows and commas; an arrow needs no blanks around it, and a version may hold dashes."""
    return [word for word in re.split(r"(->|,)|\s+", text) if word]


def _listed(members: Sequence[StrEnum], kind: type[StrEnum]) -> str:
    return "any" if tuple(members) == tuple(kind) else ",".join(members)


def _meant(app: AppFile, expression: Expression, latest: str) -> tuple[list[UpgradePath], list[str]]:
    """The paths of an expression, and why combinations of it were left out."""
    reasons: list[str] = []
    if any(group.releases == ("matrix",) for group in expression.groups):
        if len(expression.groups) > 1:
            raise UsageError("'matrix' to stand alone", seen=f"'{expression}'", hint=HINT)
        return _matrix(app, expression, latest), reasons
    chains = [_chains(app, group, latest) for group in expression.groups]
    factors: dict[str, Sequence[object]] = {}
    for number, (group, choice) in enumerate(zip(expression.groups, chains, strict=True)):
        factors |= {f"releases{number}": choice, f"how{number}": group.hows, f"state{number}": group.states}
    made: dict[int, UpgradePath] = {}

    def path_of(row: Row) -> UpgradePath | None:
        steps: list[Step] = []
        for number in range(len(expression.groups)):
            chain: tuple[str, ...] = row[f"releases{number}"]
            steps += [
                Step(one, other, row[f"how{number}"], row[f"state{number}"]) for one, other in itertools.pairwise(chain)
            ]
        for step in steps:
            why = impossible(app, step)
            if why is not None:
                reasons.append(f"{step}: {why}")
                return None
        try:
            return UpgradePath(tuple(steps))
        except UsageError as error:
            reasons.append(f"{error.expected}, seen {error.seen}")
            return None

    rows = (pairwise if expression.mode == "pairwise" else full)(factors, lambda row: path_of(row) is not None)
    for number, row in enumerate(rows):
        path = path_of(row)
        assert path is not None
        made[number] = path
    return list(made.values()), reasons


def _matrix(app: AppFile, expression: Expression, latest: str) -> list[UpgradePath]:
    """Every way and state with the newest upgrade, and all other relations so that each meets each way and each state.

    With `pairwise`, the newest upgrade is thinned out like the others.
    """
    (group,) = expression.groups
    names = [release.version for release in app.releases]
    place = names.index(latest)
    if place == 0:
        return []
    newest = (names[place - 1], latest)
    others: list[tuple[str, ...]] = [(older, latest) for older in names[: place - 1]]
    others += [pair for pair in _rebuilds(app) if pair not in others and pair != newest]
    others += [(latest, latest), (latest, names[place - 1])]
    if place > 1:
        others.append(tuple(names[: place + 1]))

    def allowed(row: Row) -> bool:
        chain: tuple[str, ...] = row["releases"]
        steps = [Step(*pair, row["how"], row["state"]) for pair in itertools.pairwise(chain)]
        return all(impossible(app, step) is None for step in steps)

    ways = {"how": group.hows, "state": group.states}
    if expression.mode == "pairwise":
        rows = pairwise({"releases": [newest, *others], **ways}, allowed)
    else:
        rows = full({"releases": [newest], **ways}, allowed) + pairwise({"releases": others, **ways}, allowed)
    return [
        UpgradePath(tuple(Step(*pair, row["how"], row["state"]) for pair in itertools.pairwise(row["releases"])))
        for row in rows
    ]


def _chains(app: AppFile, group: Group, latest: str) -> list[tuple[str, ...]]:
    """The chains of releases that a group names, words resolved."""
    names = [release.version for release in app.releases]
    place = names.index(latest)
    if group.releases == ("previous",):
        return [(_before(app, latest), latest)]
    if group.releases == ("rebuilt",):
        return _require_rebuilds(app, _rebuilds(app))
    if group.releases == ("chain",):
        _before(app, latest)
        return [tuple(names[: place + 1])]
    choices = [_named(app, word, latest) for word in group.releases]
    if (size := math.prod(len(choice) for choice in choices)) > MOST_ROWS:  # before they are made
        raise UsageError(f"at most {MOST_ROWS} chains of releases", seen=f"{size} in '{group}'"[:300], hint=HINT)
    chains: list[tuple[str, ...]] = list(itertools.product(*choices))
    if group.rebuilt:
        twins = set(_rebuilds(app))
        chains = [
            twin
            for chain in chains
            for twin in twins
            if len(chain) == 2 and (chain == twin or (chain[0] == chain[1] == twin[1]))
        ]
        return _require_rebuilds(app, sorted(set(chains)))
    return chains


def _named(app: AppFile, word: str, latest: str) -> list[str]:
    names = [release.version for release in app.releases]
    if word in names:  # a release that is really called that goes first
        return [word]
    if word == "latest":
        return [latest]
    if word == "previous":
        return [_before(app, latest)]
    if word == "oldest":
        return [names[0]]
    if word == "all":
        _before(app, latest)
        return names[: names.index(latest)]
    return [app.release(word).version]


def _before(app: AppFile, latest: str) -> str:
    names = [release.version for release in app.releases]
    place = names.index(latest)
    if place == 0:
        raise UsageError(
            f"a release before {latest} in {app.path}",
            seen="it is the first one listed",
            hint="list an older release in the app file",
        )
    return names[place - 1]


def _rebuilds(app: AppFile) -> list[tuple[str, str]]:
    """Pairs (older, newer) of the app file of which the newer one is a rebuild of the older."""
    return [(release.rebuild_of, release.version) for release in app.releases if release.rebuild_of is not None]


def _require_rebuilds(app: AppFile, pairs: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    if not pairs:
        known = ", ".join(f"{one}->{other}" for one, other in _rebuilds(app)) or "no rebuild at all"
        raise UsageError(
            f"a rebuild (other content under the same version) that is meant, in {app.path}",
            seen=f"it lists {known}",
            hint="set `rebuild_of` of the release that was built again",
        )
    return [pair for pair in pairs if relation(app, *pair) is Relation.REBUILD]
