"""Comparing what a reader has read with what macOS writes: folded, and with a bounded number of wrong letters in long texts.

Readers lose blanks, quotation marks and accents, take look-alikes for one another (a katakana for a kanji), and get letters
wrong that an arrow was drawn over. None of that may turn "Don’t Allow" into "Allow": short texts are compared whole.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

_QUOTES = dict.fromkeys(map(ord, '"“”„‟«»‹›〝〞＂「」『』'), None)
_APOSTROPHES = dict.fromkeys(map(ord, "’‘‛′´`ʼ"), "'")
_DROPPED = frozenset("\u200b\u200e\u200f\ufeff\u2060\u00ad")
_ACCENTS = range(0x0300, 0x0370)
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i"}
    # Kana and the kanji (or larger kana) that look the same.
    | dict(zip("カロニトヘエタハーッャュョっゃゅょ", "力口二卜へ工夕八一ツヤユヨつやゆよ", strict=True))
)
_ELLIPSES = (".", "…", "⋯", "·")


def normalise(text: str) -> str:
    """Text for people to compare: NFKC, case folded, one kind of apostrophe, no quotation marks, single blanks."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES).translate(_QUOTES)
    return " ".join("".join(character for character in folded if character not in _DROPPED).split())


@lru_cache(maxsize=16384)
def squash(text: str) -> str:
    """Text as it is compared: `normalise` without blanks and accents (readers lose and invent them)."""
    plain = unicodedata.normalize("NFD", normalise(text).replace(" ", ""))
    if not plain.isascii():
        plain = "".join(character for character in plain if ord(character) not in _ACCENTS)
        plain = unicodedata.normalize("NFC", plain).translate(_LETTERS)
    return plain


def bare(text: str) -> str:
    """`squash` without dots at the end: how many "…" has is anybody's guess."""
    return squash(text).rstrip("".join(_ELLIPSES))


def alike(read: str, wanted: str) -> bool:
    """Whether a whole read text is the wanted one: equal when squashed; one wrong letter is let pass from eight on.

    "allow" is never "don't allow", whatever the reader makes of blanks and apostrophes.
    """
    one, other = bare(read), bare(wanted)
    if one == other:
        return True
    return len(other) >= 8 and abs(len(one) - len(other)) <= 1 and _distance_at_most_one(one, other)


def is_app(name: str | None, wanted: str | None) -> bool:
    """Whether a row's name is the app's: equal (with or without ".app"), or nearly so for long names.

    With no app asked for, any name is.
    """
    if wanted is None:
        return True
    if name is None:
        return False
    one, other = squash(name).removesuffix(".app"), squash(wanted).removesuffix(".app")
    if alike(one, other):
        return True
    # A long name may have lost a few letters to the reader; a short one must be itself.
    return len(other) >= 12 and difflib.SequenceMatcher(None, one, other).ratio() >= 0.88


def mistakes_allowed(piece: str) -> int:
    """How many wrong letters a squashed text may have and still be found: none in short ones."""
    if piece.isascii():
        return min(3, len(piece) // 11)
    wide = sum(ord(character) > 0x2E00 for character in piece)
    return min(2, len(piece) // 7) if wide * 2 > len(piece) else min(3, len(piece) // 11)


def parts_of(piece: str) -> tuple[str, ...]:
    """Texts of which one, at least, stands unharmed wherever the piece stands with no more mistakes than allowed."""
    count = mistakes_allowed(piece) + 1
    cuts = [len(piece) * index // count for index in range(count + 1)]
    return tuple(piece[start:end] for start, end in pairwise(cuts))


def occurrences(piece: str, text: str, *, exact: bool = False) -> Iterator[tuple[int, int, int]]:
    """(start, end, mistakes) of the places where a squashed text stands in another: the exact ones first, from the left;
    if there are none, the best one with mistakes (unless `exact`).
    """
    start = text.find(piece)
    if start >= 0 or exact:
        while start >= 0:
            yield start, start + len(piece), 0
            start = text.find(piece, start + 1)
        return
    most = mistakes_allowed(piece)
    if most and any(part in text for part in parts_of(piece)):
        found = _nearest(piece, text, most)
        if found is not None:
            yield found


def _nearest(piece: str, text: str, most: int) -> tuple[int, int, int] | None:
    """The part of a text that is nearest to a piece by edit distance, if that is at most `most`."""
    # Row by row of the text: fewest edits from piece[:i] to a part that ends here, and where that part begins.
    costs = list(range(len(piece) + 1))
    starts = [0] * (len(piece) + 1)
    best: tuple[int, int, int] | None = None
    for end, character in enumerate(text, 1):
        before, before_start = costs[0], starts[0]
        costs[0], starts[0] = 0, end
        for index, wanted in enumerate(piece, 1):
            cost, start = before + (wanted != character), before_start
            if costs[index] + 1 < cost:
                cost, start = costs[index] + 1, starts[index]
            if costs[index - 1] + 1 < cost:
                cost, start = costs[index - 1] + 1, starts[index - 1]
            before, before_start = costs[index], starts[index]
            costs[index], starts[index] = cost, start
        if costs[-1] <= most and (best is None or costs[-1] < best[2]):
            best = (starts[-1], end, costs[-1])
    return best


def _distance_at_most_one(one: str, other: str) -> bool:
    if len(one) > len(other):
        one, other = other, one
    for index, character in enumerate(one):
        if character != other[index]:
            rest = one[index + 1 :] if len(one) == len(other) else one[index:]
            return rest == other[index + 1 :]
    return True
