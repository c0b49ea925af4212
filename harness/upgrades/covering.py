"""Few rows that still have every pair: pairwise covering of a matrix with combinations that cannot be (covertable, Apache-2.0)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import covertable

from harness.errors import UsageError

Row = dict[str, Any]
Allowed = Callable[[Row], bool]
MOST_ROWS = 100_000
"""Rows of a full matrix that are looked at; a larger one is the user's mistake, and never cut off in silence."""


def full(factors: Mapping[str, Sequence[Any]], allowed: Allowed) -> list[Row]:
    """Every allowed combination, the last factor turning fastest.

    Raises:
        UsageError: More than `MOST_ROWS` would have to be looked at.
    """
    if (size := math.prod(len(values) for values in factors.values())) > MOST_ROWS:
        raise UsageError(
            f"a matrix of at most {MOST_ROWS} combinations", seen=f"{size}", hint="name fewer releases, ways or states"
        )
    rows = (dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values()))
    return [row for row in rows if allowed(row)]


def pairwise(factors: Mapping[str, Sequence[Any]], allowed: Allowed, *, strength: int = 2) -> list[Row]:
    """Rows that contain each pair of values (each value, for `strength=1`) that any allowed combination contains; the
    same rows each time, in the order of the full matrix.

    The library's rows are checked: what it left out is added, so that the promise does not hang on it.
    """
    everything = full(factors, allowed)
    if len(factors) <= strength or len(everything) <= 2:
        return everything if strength > 1 else _covering(everything, [], strength)
    numbered = {name: list(range(len(values))) for name, values in factors.items()}
    legal = {_numbers(factors, row) for row in everything}
    rule = {
        "operator": "fn",
        "requires": list(factors),
        "evaluate": lambda row: tuple(row[name] for name in factors) in legal,
    }
    found = covertable.make(numbered, strength=strength, constraints=[rule]) if strength > 1 else []
    rows = [{name: factors[name][row[name]] for name in factors} for row in found]
    return _covering(everything, [row for row in rows if allowed(row)], strength)


def pairs_of(row: Row, strength: int = 2) -> set[tuple[tuple[str, Any], ...]]:
    """The combinations of that many values that a row contains."""
    return set(itertools.combinations(sorted(row.items(), key=lambda item: item[0]), strength))


def _covering(everything: Sequence[Row], begun: Sequence[Row], strength: int) -> list[Row]:
    """`begun`, and of `everything` what is still missing, the most useful first."""
    missing: set[tuple[tuple[str, Any], ...]] = set().union(*(pairs_of(row, strength) for row in everything))
    chosen: list[Row] = []
    for row in begun:
        news = pairs_of(row, strength) & missing
        if news:
            chosen.append(row)
            missing -= news
    while missing:
        best = max(everything, key=lambda row: len(pairs_of(row, strength) & missing))
        chosen.append(best)
        missing -= pairs_of(best, strength)
    return [row for row in everything if row in chosen]


def _numbers(factors: Mapping[str, Sequence[Any]], row: Row) -> tuple[int, ...]:
    return tuple(list(factors[name]).index(row[name]) for name in factors)
