"""Lines of text into paragraphs, and phrases found in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.screen.frames import Box
from harness.screen.ocr import TextLine
from harness.screen.phrases import Phrase
from harness.screen.text import squash

_OPENING = "\"“”„«‘'「"
_QUOTED = re.compile(r"""["“”„«「]\s*([^"“”„«»「」]+?)\s*["“”»」]""")
"""What stands in quotation marks: a name, among words that a phrase leaves open."""


_MARKS_READ = re.compile(r"^[·・•‧ロ口□]+(?=[\w.])(?![^\x00-\x7f])|(?<=[\x21-\x7e])[·・•‧ロ口□]+$")
"""What full-width quotation marks around a name in Latin letters are taken for."""


@dataclass
class Paragraph:
    """Lines that stand below one another, close together."""

    lines: list[TextLine] = field(default_factory=list)

    @property
    def box(self) -> Box:
        """Around all lines."""
        return around(self.lines)


@dataclass(frozen=True)
class Match:
    """Where a phrase was found.

    Attributes:
        lines: The lines that it covers.
        holes: What stood in its holes, as read, joined over lines by blanks.
        mistakes: Wrong letters in it.
        alone: No full line stands before it in its paragraph, nothing after it on its last line: a title, not a part of prose.
    """

    lines: tuple[TextLine, ...]
    holes: dict[str, str]
    mistakes: int = 0
    alone: bool = True

    @property
    def box(self) -> Box:
        """Around the lines that the phrase covers."""
        return around(self.lines)


def around(lines: Iterable[TextLine]) -> Box:
    """The smallest box around some lines (at least one)."""
    boxes = [line.box for line in lines]
    result = boxes[0]
    for box in boxes[1:]:
        result = result.union(box)
    return result


def paragraphs(lines: Sequence[TextLine]) -> list[Paragraph]:
    """Group lines: each joins the paragraph whose last line is right above it, of like height, and overlaps sideways."""
    found: list[Paragraph] = []
    for line in sorted(lines, key=lambda line: (line.box.y0, line.box.x0)):
        best: Paragraph | None = None
        nearest = 0.0
        for paragraph in found:
            last = paragraph.lines[-1].box
            height = min(last.height, line.box.height)
            gap = line.box.y0 - last.y1
            overlap = min(last.x1, line.box.x1) - max(last.x0, line.box.x0)
            if not -0.5 * height <= gap <= 0.7 * height or max(last.height, line.box.height) > 1.7 * height:
                continue
            if overlap < 0.5 * min(last.width, line.box.width):
                continue
            if best is None or gap < nearest:
                best, nearest = paragraph, gap
        if best is None:
            found.append(Paragraph([line]))
        else:
            best.lines.append(line)
    return found


def find(phrase: Phrase, paragraph: Paragraph) -> Match | None:
    """Find a phrase that begins at the beginning of a line. Of several beginnings one with a quotation mark wins (a name
    in quotes that wraps), else the one with the fewest wrong letters, else the latest.
    """
    parts = [squash(line.text) for line in paragraph.lines]
    if not phrase.possible_in("".join(parts)):
        return None
    best: Match | None = None
    for index in range(len(parts)):
        found = phrase.match("".join(parts[index:]))
        if found is None:
            continue
        covered, after = _covered(paragraph.lines[index:], parts[index:], found.end)
        if after > 2 and phrase.ends_with_hole:
            # The hole went on into what stands below the title: it ends where a line does.
            for last in range(index + 1, len(parts)):
                shorter = phrase.match("".join(parts[index:last]))
                if shorter is not None:
                    found = shorter
                    covered, after = _covered(paragraph.lines[index:last], parts[index:last], found.end)
                    break
        holes = {name: _as_read(paragraph.lines[index:], start, end) for name, (start, end) in found.holes.items()}
        quoted = paragraph.lines[index].text[:1] in _OPENING
        # Prose fills its lines; what stands above a title (letters of an icon, the name of who asks) is shorter than it.
        before = max((line.box.width for line in paragraph.lines[:index]), default=0)
        # Or it is that very name, which may be as long as the lines below it ("Login Items & Extensions").
        named = index == 1 and any(parts[0] == squash(name) for name in holes.values())
        first = named or before < 0.8 * max(line.box.width for line in covered)
        match = Match(tuple(covered), holes, found.mistakes, after <= 2 and (first or quoted))
        if quoted and phrase.begins_with_hole:
            return match
        if best is None or match.mistakes <= best.mistakes:
            best = match
    return best


def _covered(lines: Sequence[TextLine], parts: Sequence[str], end: int) -> tuple[list[TextLine], int]:
    """The lines up to a position of their joined text, and how much of the last one stands behind it."""
    covered: list[TextLine] = []
    position = after = 0
    for line, part in zip(lines, parts, strict=True):
        if position < end:
            covered.append(line)
            after = position + len(part) - end
        position += len(part)
    return covered, after


def find_any(phrases: Sequence[Phrase], groups: Sequence[Paragraph], *, alone: bool = False) -> Match | None:
    """The phrase that is in one of the paragraphs with the fewest wrong letters; of equals the first. `alone`: only where it
    is a title (see `Match`).
    """
    best: Match | None = None
    for phrase in phrases:
        for group in groups:
            match = find(phrase, group)
            if match is None or (alone and not match.alone):
                continue
            if not match.mistakes:
                return match
            if best is None or match.mistakes < best.mistakes:
                best = match
    return best


def contains(phrases: Sequence[Phrase], lines: Sequence[TextLine]) -> bool:
    """Whether one of the phrases stands anywhere in the lines, read one after the other."""
    text = "".join(squash(line.text) for line in lines)
    return any(phrase.search(text) is not None for phrase in phrases)


def _as_read(lines: Sequence[TextLine], start: int, end: int) -> str:
    """The text as read behind positions start..end of the squashed lines: what is quoted of it, or all."""
    position = 0
    parts: list[str] = []
    for line in lines:
        part = ""
        for character in line.text:
            size = len(squash(character))
            if (start if size else start + 1) <= position < end:
                part += character
            position += size
        if part:
            parts.append(part)
    joined = ""
    for part in parts:  # a name broken at its own hyphen or dot goes on without a blank
        joined += part if not joined or joined.endswith(("-", ".")) else f" {part}"
    quoted = _QUOTED.search(joined)
    # The opening mark belongs to nobody; a closing one alone ends the name as well.
    name = quoted.group(1) if quoted else re.split(r"(?<=\S)[”“\"»」]", joined, maxsplit=1)[0]
    name = name.strip().strip(_OPENING + "”’ ").strip()
    return _MARKS_READ.sub("", name) or name
