"""`systemextensionsctl list`, in all the forms that macOS 10.15 to 26 print and people post.

Columns are never trusted: posts replace tabs by blanks, lose the last one, or leave columns out. A row is found by its
state (the last `[…]`), the identifier by the `(short/build)` behind it; what stands before it are stars and the team.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.formats.states import is_known_state, is_leftover, normalise_state

MAX_TEXT = 4 * 1024 * 1024
MAX_NOTES = 50
_COUNT = re.compile(r"^\s*(\d{1,9}) extension\(s\)\s*$")
_CATEGORY = re.compile(r"^\s*---\s+(?:com\.apple\.system_extension\.)?([A-Za-z_.]{1,100})(?:\s+\((.{0,400})\))?\s*$")
_HEADER = re.compile(r"^\s*enabled\s+active(\s+teamID\b|\s*$)")
_STATE = re.compile(r"\[([A-Za-z][A-Za-z _]{2,79})\]\s*$")
_IDENTIFIER = re.compile(r"(?<![^\s*])([A-Za-z0-9][A-Za-z0-9._-]{0,254})[ \t]*\(")
_BARE_IDENTIFIER = re.compile(r"(?<!\S)([A-Za-z0-9-]+(?:\.[A-Za-z0-9_-]+){1,20})(?!\S)")
_TEAM = re.compile(r"(?<!\S)([A-Z0-9]{9,10}|-)\s*$")
_LISTED = re.compile(r"^\s*Category:\s*\S+\s*$")


@dataclass(frozen=True)
class ListedExtension:
    """One row.

    Attributes:
        category: `network_extension`, `endpoint_security`, `driver_extension`, `cmio`; "" when no header came before it.
        enabled: The first star.
        active: The second star.
        team: "" for an ad-hoc signature (printed `-`) or when the post left it out.
        identifier: The extension's bundle identifier.
        short: CFBundleShortVersionString; "" if not printed.
        build: CFBundleVersion; "" if not printed.
        name: "" when macOS had none (printed `-` or left out).
        state: With underscores, as in db.plist.
        raw: The line as it was.
    """

    category: str
    enabled: bool
    active: bool
    team: str
    identifier: str
    short: str
    build: str
    name: str
    state: str
    raw: str

    @property
    def known(self) -> bool:
        """Whether the state is one that this project knows."""
        return is_known_state(self.state)

    @property
    def leftover(self) -> bool:
        """Whether the row is an old copy on its way out."""
        return is_leftover(self.state)


@dataclass(frozen=True)
class Listing:
    """A whole listing.

    Attributes:
        count: The number macOS printed (the last one, if a text holds several); None when it is missing.
        entries: The rows, in their order.
        notes: What was odd: lines that are no part of a listing (a stderr line in between), a count that disagrees.
    """

    count: int | None
    entries: tuple[ListedExtension, ...]
    notes: tuple[str, ...]

    def of(self, identifier: str, *, leftovers: bool = False) -> tuple[ListedExtension, ...]:
        """The rows of that bundle identifier; two live ones mean that a replacement is in progress."""
        return tuple(e for e in self.entries if e.identifier == identifier and (leftovers or not e.leftover))


def parse_listing(text: str) -> Listing:
    """Read a listing. Never raises: what is not understood is in `notes`; an empty text has count None and no rows."""
    counts: list[int] = []
    entries: list[ListedExtension] = []
    notes: list[str] = []
    category = ""
    held = ""  # a line that may be the beginning of a row broken in two
    if len(text) > MAX_TEXT:
        notes.append(f"only the first {MAX_TEXT} of {len(text)} characters were read")
        text = text[:MAX_TEXT]
    for line in text.split("\n"):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        if count := _COUNT.match(line):
            counts.append(int(count.group(1)))
            continue
        if header := _CATEGORY.match(line):
            category = header.group(1)
            continue
        if _HEADER.match(line) or _LISTED.match(line):
            continue
        if entry := _row(line, category):
            entries.append(entry)
            continue
        if held and _STATE.match(line.strip()) and (entry := _row(f"{held} {line.strip()}", category)):
            entries.append(entry)
            notes.remove(held[:200])
            held = ""
            continue
        held = line[:2000]
        if len(notes) < MAX_NOTES:
            notes.append(line[:200])
        else:
            held = ""
    if counts and counts[-1] != len(entries):
        notes.append(f"the listing counts {counts[-1]}, its rows are {len(entries)}")
    return Listing(count=counts[-1] if counts else None, entries=tuple(entries), notes=tuple(notes))


def _row(line: str, category: str) -> ListedExtension | None:
    if len(line) > 4000:
        return None
    found = _STATE.search(line)
    if found is None:
        return None
    state = normalise_state(found.group(1))
    body = line[: found.start()]
    match = _IDENTIFIER.search(body)
    if match is not None:
        identifier = match.group(1)
        before = body[: match.start()]
        end = _closing(body, match.end() - 1)
        version, name = body[match.end() : end], body[end + 1 :].strip()
    elif is_known_state(state) and (match := _BARE_IDENTIFIER.search(body)):
        identifier = match.group(1)
        before, version, name = body[: match.start()], "", body[match.end() :].strip(" .\t")
    else:
        return None
    if "." not in identifier and not is_known_state(state):
        return None
    short, build = _versions(version)
    team = _TEAM.search(before)
    stars = before[: team.start()] if team else before
    if stars.strip(" \t*"):
        return None  # prose or a log line that happens to look like the rest of a row
    enabled, active = _stars(stars)
    return ListedExtension(
        category=category,
        enabled=enabled,
        active=active,
        team="" if team is None or team.group(1) == "-" else team.group(1),
        identifier=identifier,
        short=short,
        build=build,
        name="" if name == "-" else name,
        state=state,
        raw=line,
    )


def _closing(text: str, start: int) -> int:
    """Where the bracket at `start` closes; versions can hold brackets of their own. Its end if it never does."""
    depth = 0
    for index in range(start, len(text)):
        if text[index] == "(":
            depth += 1
        elif text[index] == ")":
            depth -= 1
            if depth == 0:
                return index
    return len(text)


def _versions(version: str) -> tuple[str, str]:
    short, slash, build = version.rpartition("/")
    return (short.strip(), build.strip()) if slash else (build.strip(), "")


def _stars(before: str) -> tuple[bool, bool]:
    cells = before.split("\t")
    if len(cells) == 3 and not cells[2].strip():  # as macOS prints it: both cells ended by a tab
        return "*" in cells[0], "*" in cells[1]
    stars = before.count("*")
    # One star whose place was lost: "active only" is the one single-star form that exists.
    return stars >= 2, stars >= 1
