"""The windows that are known, as data: titles, bodies, buttons, partners, per language. Read from TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.screen.ocr import alike, squash

LAYOUTS = ("dialog", "sheet", "blocked", "rows")
ROLES = ("approve", "deny", "open-settings", "ok", "cancel", "switch", "info", "use-password", "lock", "other")
_HOLE = re.compile(r"\{(\w+)\}")
_LONGEST_NAME = 80


class Phrase:
    """A text with holes, compared squashed (see `ocr.squash`)."""

    def __init__(self, text: str) -> None:
        self.text = text
        pattern = ""
        last = 0
        for hole in _HOLE.finditer(text):
            pattern += re.escape(squash(text[last : hole.start()]))
            pattern += f"(?P<{hole.group(1)}>.{{1,{_LONGEST_NAME}}}?)"
            last = hole.end()
        pattern += re.escape(squash(text[last:]))
        self.pattern = re.compile(pattern)

    def __repr__(self) -> str:
        return f"Phrase({self.text!r})"


@dataclass(frozen=True)
class ButtonSpec:
    """A button of a page. `partner`: the role that must be in sight too before this one may be advised."""

    role: str
    texts: tuple[str, ...]
    partner: str = ""
    advise: bool = False

    def matches(self, text: str) -> bool:
        """Whether a whole line of text is this button."""
        return any(alike(text, wanted) for wanted in self.texts)


@dataclass(frozen=True)
class Page:
    """One window in one language; what the fields mean depends on the layout (see recognise.py)."""

    window: str
    layout: str
    language: str
    titles: tuple[Phrase, ...]
    bodies: tuple[Phrase, ...]
    names: tuple[Phrase, ...]
    several: tuple[Phrase, ...]
    lock_closed: tuple[Phrase, ...]
    lock_open: tuple[Phrase, ...]
    buttons: tuple[ButtonSpec, ...]
    rows: tuple[str, ...]
    fields: tuple[str, ...]
    kinds: dict[str, str]


@dataclass(frozen=True)
class Catalog:
    """All known pages, and the texts that are never clicked as an approval."""

    pages: tuple[Page, ...]
    never: tuple[str, ...]

    def of(self, layout: str) -> Iterator[Page]:
        """The pages of one layout."""
        return (page for page in self.pages if page.layout == layout)

    def forbidden(self, text: str) -> bool:
        """Whether a button text is on the deny-list."""
        return any(squash(text) == squash(word) for word in self.never)


@cache
def default_catalog() -> Catalog:
    """The pages that come with the harness."""
    return load_catalog()


def load_catalog(extra: Sequence[Path] = ()) -> Catalog:
    """The pages that come with the harness, and those of more TOML files of the same form.

    Raises:
        UsageError: A file cannot be read or understood; the error names file and key.
    """
    pages: list[Page] = []
    never: list[str] = []
    sources: list[tuple[str, str]] = []
    folder = files("harness.screen") / "pages"
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    sources += [(entry.name, entry.read_text(encoding="utf-8")) for entry in entries if entry.name.endswith(".toml")]
    for path in extra:
        try:
            sources.append((str(path), path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the window descriptions {path}", seen=str(error)) from error
    for name, text in sources:
        try:
            data = tomllib.loads(text)
            never += _texts(data, "never")
            pages += [_page(entry, str(data.get("language", ""))) for entry in data.get("page", [])]
        except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, re.error) as error:
            raise UsageError(f"window descriptions in {name}", seen=f"{type(error).__name__}: {error}") from error
    return Catalog(tuple(pages), tuple(never))


def _page(entry: dict[str, Any], language: str) -> Page:
    layout = str(entry["layout"])
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r}: one of {', '.join(LAYOUTS)}")
    buttons = []
    for button in entry.get("buttons", []):
        if button["role"] not in ROLES:
            raise ValueError(f"role {button['role']!r}: one of {', '.join(ROLES)}")
        advise = bool(button.get("advise", False))
        if advise and layout == "dialog" and not button.get("partner"):
            raise ValueError(f"an advised button of a dialog needs a partner: {button['texts']}")
        buttons.append(
            ButtonSpec(str(button["role"]), tuple(_texts(button, "texts")), str(button.get("partner", "")), advise)
        )
    return Page(
        window=str(entry["window"]),
        layout=layout,
        language=language,
        titles=tuple(map(Phrase, _texts(entry, "titles"))),
        bodies=tuple(map(Phrase, _texts(entry, "bodies"))),
        names=tuple(map(Phrase, _texts(entry, "names"))),
        several=tuple(map(Phrase, _texts(entry, "several"))),
        lock_closed=tuple(map(Phrase, _texts(entry, "lock_closed"))),
        lock_open=tuple(map(Phrase, _texts(entry, "lock_open"))),
        buttons=tuple(buttons),
        rows=tuple(_texts(entry, "rows")),
        fields=tuple(_texts(entry, "fields")),
        kinds={str(key): str(value) for key, value in entry.get("kinds", {}).items()},
    )


def _texts(entry: dict[str, Any], key: str) -> list[str]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise TypeError(f"{key}: a list of texts is wanted")
    return value
