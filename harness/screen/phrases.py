"""Phrases with holes, found in squashed text, with a bounded number of wrong letters in their long parts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.screen.text import mistakes_allowed, occurrences, parts_of, squash

_HOLE = re.compile(r"\{(\w+|\*)\}")
LONGEST_HOLE = 80
"""Characters that a hole may hold."""
_TRIES = 6


@dataclass(frozen=True)
class Found:
    """Where a phrase was found in a text.

    Attributes:
        holes: (start, end) of what stood in each named hole.
        mistakes: Wrong letters altogether.
    """

    start: int
    end: int
    holes: dict[str, tuple[int, int]]
    mistakes: int


class Phrase:
    """A text with holes, compared squashed (see `text.squash`).

    `{name}` holds one character at least and 80 at most; `{*}` likewise or nothing, and is not kept.

    Raises:
        ValueError: Two holes stand side by side, or there is no text but holes.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        pieces = _HOLE.split(text)  # literal, hole, literal, hole, …, literal
        self._literals = [squash(piece) for piece in pieces[::2]]
        self._holes = pieces[1::2]
        if not any(self._literals):
            raise ValueError(f"{text!r}: a phrase needs some text of its own")
        if not all(self._literals[1:-1]):
            raise ValueError(f"{text!r}: two holes side by side")
        longest = max(self._literals, key=len)
        self._parts = parts_of(longest)

    def __repr__(self) -> str:
        return f"Phrase({self.text!r})"

    @property
    def begins_with_hole(self) -> bool:
        """Whether anything may stand before its own first letter."""
        return not self._literals[0]

    @property
    def ends_with_hole(self) -> bool:
        """Whether anything may stand after its own last letter."""
        return not self._literals[-1]

    @property
    def strength(self) -> int:
        """How many letters of its own it has."""
        return sum(map(len, self._literals))

    def possible_in(self, text: str) -> bool:
        """A quick test: False where it certainly does not stand."""
        return any(part in text for part in self._parts)

    def match(self, text: str) -> Found | None:
        """The phrase at the beginning of a squashed text."""
        return self._find(text, anywhere=False)

    def search(self, text: str) -> Found | None:
        """The phrase anywhere in a squashed text."""
        return self._find(text, anywhere=True)

    def _find(self, text: str, *, anywhere: bool) -> Found | None:
        if not self.possible_in(text):
            return None
        if not self._literals[0]:
            return self._rest(text, 0, 0, 0, {}, anywhere=anywhere)
        for tried, (start, end, mistakes) in enumerate(
            occurrences(self._literals[0], self._window(text, anywhere=anywhere))
        ):
            if tried >= _TRIES:
                return None
            if not anywhere and start > mistakes:
                return None  # the next ones stand later still
            found = self._rest(text, 1, start, end, {}, mistakes, anywhere=anywhere)
            if found is not None:
                return found
        return None

    def _window(self, text: str, *, anywhere: bool) -> str:
        if anywhere:
            return text
        return text[: len(self._literals[0]) + mistakes_allowed(self._literals[0])]

    def _rest(
        self,
        text: str,
        index: int,
        start: int,
        position: int,
        holes: dict[str, tuple[int, int]],
        mistakes: int = 0,
        *,
        anywhere: bool,
    ) -> Found | None:
        """The literals from `index` on, each after its hole."""
        if index == 0:
            index = 1  # an empty first literal: the phrase begins with a hole
        if index > len(self._holes):
            return Found(start, position, holes, mistakes)
        name = self._holes[index - 1]
        literal = self._literals[index]
        least = 0 if name == "*" else 1
        if not literal:  # a hole at the very end
            end = min(len(text), position + LONGEST_HOLE)
            if end - position < least:
                return None
            return Found(start, end, {**holes, name: (position, end)} if least else holes, mistakes)
        reach = len(literal) + mistakes_allowed(literal)
        window = text[position : position + LONGEST_HOLE + reach] if not (anywhere and position == 0) else text
        for tried, (begin, end, wrong) in enumerate(occurrences(literal, window)):
            if tried >= _TRIES:
                return None
            if begin < least:
                continue
            kept = holes
            if least:
                kept = {**holes, name: (max(position, position + begin - LONGEST_HOLE), position + begin)}
            found = self._rest(text, index + 1, start, position + end, kept, mistakes + wrong, anywhere=anywhere)
            if found is not None:
                return found
        return None
