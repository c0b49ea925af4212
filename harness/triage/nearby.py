"""Search a long text only near the places where a match can be: each match of a pattern holds one of a few hints that are found much
quicker than the pattern itself (a word by `str.find`; an expression that begins with a fixed character).

What is found is what a search of the whole text would find, as long as every match holds a hint, begins at most `before` characters in
front of it and ends at most `after` behind its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Near:
    """A pattern and its hints.

    Attributes:
        pattern: What is looked for.
        words: Hints in small letters, looked for in the text's small letters.
        small_hints: Hints as expressions, for the text's small letters. Quick only where they begin with fixed characters.
        hints: Likewise, for the text as it is.
        before: How far in front of a hint a match may begin, at most.
        after: How far behind a hint's beginning it may end, at most.
    """

    pattern: re.Pattern[str]
    words: tuple[str, ...] = ()
    small_hints: tuple[re.Pattern[str], ...] = ()
    hints: tuple[re.Pattern[str], ...] = ()
    before: int = 64
    after: int = 768

    def matches(self, text: str, small: str) -> Iterator[re.Match[str]]:
        """The pattern's matches in `text`, in their order.

        Args:
            text: Where to look.
            small: `text.lower()`. Where that has another length (there are such letters), the whole text is searched.
        """
        if len(small) != len(text):
            yield from self.pattern.finditer(text)
            return
        for begin, end in self._windows(text, small):
            yield from self.pattern.finditer(text, begin, end)

    def sub(self, replacement: Callable[[re.Match[str]], str], text: str, small: str) -> str:
        """`pattern.sub`, near the hints. The text itself where nothing is found."""
        parts: list[str] = []
        at = 0
        for found in self.matches(text, small):
            parts += (text[at : found.start()], replacement(found))
            at = found.end()
        return "".join((*parts, text[at:])) if parts else text

    def _windows(self, text: str, small: str) -> Iterator[tuple[int, int]]:
        """Stretches around the hints, those that touch made one."""
        begin = end = -1
        for spot in sorted(self._spots(text, small)):
            if spot - self.before > end:
                if end >= 0:
                    yield begin, min(end, len(text))
                begin = max(0, spot - self.before)
            end = spot + self.after
        if end >= 0:
            yield begin, min(end, len(text))

    def _spots(self, text: str, small: str) -> Iterable[int]:
        for word in self.words:
            at = small.find(word)
            while at >= 0:
                yield at
                at = small.find(word, at + 1)
        for where, hints in ((small, self.small_hints), (text, self.hints)):
            for hint in hints:
                for found in hint.finditer(where):
                    yield found.start()
