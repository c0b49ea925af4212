"""Variations of the simulated display: what real Macs differ in. None is a failure of the product or of the Mac; each is a way
that the prompts can look and behave.

Written `NAME=VALUE`, several separated by commas; a name may be given once. Sources for what is confirmed and what is not:
docs/contracts.md.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.errors import UsageError

VARIATIONS: dict[str, tuple[str, str]] = {
    "password": (
        "sheet|sheet-unfocused|security-agent|user-sheet|user-empty|touch-id",
        "the password is asked for by a sheet of Settings (its field focused, or not), a window of SecurityAgent elsewhere on the screen, a sheet with name and password (the name filled in, or empty), a Touch-ID sheet",
    ),
    "rows": ("1…12", "so many extensions wait in the list; ours is never the first of several"),
    "row-name": ("app|developer:NAME", "what our row and the Security message name: the app, or its developer"),
    "alert": (
        "single|other-below|other-on-top|other-beside",
        "another app asks at the same moment: its alert lies under ours, on it, or elsewhere",
    ),
    "settings": (
        "closed|elsewhere|same-page",
        "Settings is open before anything is asked: at another pane, or at the very page",
    ),
    "page": ("landed|top", "Settings lands where the row is, or at the page's top: it must be scrolled"),
    "front": ("nothing|other-window", "another app's window comes up over Settings, once"),
    "someone": (
        "nobody|ok:SECONDS|escape:SECONDS",
        "somebody else presses OK in our prompt, or Escape in the password window, once, so many seconds after it came",
    ),
    "consent": ("plain|password", "a password is asked for after Allow in a configuration consent"),
    "deaf": (
        "nothing|alert|consent|password",
        "pointer and keys have no effect on a kind of window, though they arrive: clicks that were delivered and not accepted",
    ),
    "accessibility": (
        "as-image|granted|refused|unanswered",
        "whether System Events may be told by osascript over SSH (images with SIP off may); unanswered: a question hangs it",
    ),
    "ax": (
        "works|ignored",
        "what a press through the accessibility interface does; ignored: it is reported as done all the same",
    ),
    "others": (
        "0…12|es|es-without-access",
        "so many network extensions of other vendors are on the Mac from the beginning, enabled and running; or their Endpoint Security client, which may complain that it has no Full Disk Access; `3+es` is both",
    ),
    "management": ("none|enrolled", "the Mac is enrolled in an MDM"),
    "lock": ("closed|open", "macOS 12: the lock of Security & Privacy"),
}
"""Name to (values, the first being the usual one; what it does)."""

_OTHERS = re.compile(r"(?:(\d|1[0-2])(?:\+(es|es-without-access))?|(es|es-without-access))", re.ASCII)
_SOMEONE = re.compile(r"(ok|escape):(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Variations:
    """What a display does differently; a name that is absent is as usual."""

    given: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """The value of a variation: the given one, else the usual one ("" for a number and a `password` that is not given)."""
        if name in self.given:
            return self.given[name]
        return "" if name in ("password", "rows", "others") else VARIATIONS[name][0].split("|")[0]

    @property
    def rows(self) -> int:
        """How many extensions wait."""
        return int(self.given.get("rows", "1"))

    @property
    def others(self) -> tuple[int, str]:
        """(network extensions of others, "es" or "es-without-access" or "")."""
        match = _OTHERS.fullmatch(self.given.get("others", "0"))
        return (int(match[1] or 0), match[2] or match[3] or "") if match else (0, "")

    @property
    def someone(self) -> tuple[str, float]:
        """("ok" or "escape", seconds), or ("", 0)."""
        match = _SOMEONE.fullmatch(self.get("someone"))
        return (match[1], float(match[2])) if match else ("", 0.0)


def parse_variations(text: str | Iterable[str]) -> Variations:
    """Read the written form: one text with commas, or a list.

    Raises:
        UsageError: A name that does not exist, a value it does not have, a name twice.
    """
    parts = text.split(",") if isinstance(text, str) else list(text)
    given: dict[str, str] = {}
    for part in (part.strip() for part in parts):
        if not part:
            continue
        name, equals, value = part.partition("=")
        if name not in VARIATIONS:
            near = difflib.get_close_matches(name, VARIATIONS, n=2, cutoff=0.5)
            raise UsageError(
                "a variation of the display that exists",
                seen=repr(part),
                hint=f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(VARIATIONS)}",
            )
        if not equals or not _fits(name, value):
            raise UsageError(f"a value of the variation '{name}'", seen=repr(part), hint=VARIATIONS[name][0])
        if name in given:
            raise UsageError("each variation once", seen=repr(part))
        given[name] = value
    return Variations(given)


def _fits(name: str, value: str) -> bool:
    if name == "rows":
        return value.isascii() and value.isdecimal() and 1 <= int(value[:3]) <= 12
    if name == "others":
        return _OTHERS.fullmatch(value) is not None
    if name == "row-name":
        return value == "app" or (value.startswith("developer:") and 0 < len(value.removeprefix("developer:")) <= 80)
    if name == "someone":
        match = _SOMEONE.fullmatch(value)
        return value == "nobody" or (match is not None and float(match[2]) <= 600)
    return value in VARIATIONS[name][0].split("|")
