"""The windows that are known, as data: titles, bodies, buttons, partners, per language. Read from TOML.

Keys of a file: `language`; `ok`, `cancel`, `deny`, `never` (texts of buttons that are never clicked as an approval); `[[page]]`.
Keys of a page: `_PAGE_KEYS` below; what they mean is said at `Page`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.screen.phrases import Phrase
from harness.screen.text import alike, bare, squash

__all__ = ["LAYOUTS", "ROLES", "ButtonSpec", "Catalog", "Page", "Phrase", "default_catalog", "load_catalog"]

LAYOUTS = ("dialog", "sheet", "checklist", "blocked", "rows", "menu")
ROLES = (
    "approve",
    "deny",
    "open-settings",
    "ok",
    "cancel",
    "switch",
    "info",
    "use-password",
    "lock",
    "more",
    "remove",
    "other",
)
_MOST_BYTES = 512 * 1024

_FILE_KEYS = ("language", "ok", "cancel", "deny", "never", "page")
_TEXTS = ("bodies", "fields", "lock_closed", "lock_open", "marks", "names", "rows", "several", "titles")
_PAGE_KEYS = ("window", "layout", "language", "macos", "extend", "buttons", "kinds", *_TEXTS)
_BUTTON_KEYS = ("role", "texts", "partner", "advise")


_ENDS = "()[]{}|（）【】"
"""What the round ends of a button are read as."""


def _within(text: str) -> str:
    return text.strip().strip(_ENDS)


@dataclass(frozen=True)
class ButtonSpec:
    """A button of a page. `partner`: the role that must be in sight too before this one may be advised."""

    role: str
    texts: tuple[str, ...]
    partner: str = ""
    advise: bool = False

    def matches(self, text: str) -> bool:
        """Whether a whole line of text is this button."""
        return any(alike(_within(text), wanted) for wanted in self.texts)


@dataclass(frozen=True)
class Page:
    """One window in one language.

    Attributes:
        window: The class it is reported as.
        layout: "dialog" (alert, consent, password sheet), "sheet" (a list of switches), "checklist" (a list of boxes to
            tick), "blocked" (the Security part of Settings), "rows" (a Settings page with (i) buttons), "menu" (an open menu,
            known by an item of it, one of its buttons; it has no title).
        macos: The generations that show it, as far as known; empty: any.
        titles: Phrases, one of which begins a line of it. Of "blocked": the sentence about one item.
        bodies: Phrases, one of which must stand in it too (a dialog may have its pair of buttons instead).
        names: Of dialogs: phrases whose {app} is the app, where the title has none.
        several: Of "blocked": the sentence shown in place of the items when there are more.
        lock_closed, lock_open: Of "blocked": the words beside the lock.
        marks: Of "blocked": texts that tell it from others where no lock is in sight.
        rows: Of "sheet" and "rows": the small text below the name of an extension.
        fields: Of dialogs: the placeholder in the password field.
        kinds: Of "rows": per kind of extension the names that its row may have.
    """

    window: str
    layout: str
    language: str
    macos: tuple[str, ...] = ()
    titles: tuple[Phrase, ...] = ()
    bodies: tuple[Phrase, ...] = ()
    names: tuple[Phrase, ...] = ()
    several: tuple[Phrase, ...] = ()
    lock_closed: tuple[Phrase, ...] = ()
    lock_open: tuple[Phrase, ...] = ()
    marks: tuple[str, ...] = ()
    buttons: tuple[ButtonSpec, ...] = ()
    rows: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Catalog:
    """All known pages, and the texts that are never clicked as an approval.

    Attributes:
        never: Every such text.
        refusals: Those of them that alerts have, by folded text: their role ("ok", "cancel", "deny" or "other").
    """

    pages: tuple[Page, ...]
    never: tuple[str, ...]
    refusals: Mapping[str, str] = field(default_factory=dict)

    def of(self, layout: str) -> Iterator[Page]:
        """The pages of one layout."""
        return (page for page in self.pages if page.layout == layout)

    def forbidden(self, text: str) -> bool:
        """Whether a button text is on the deny-list."""
        return bare(_within(text)) in self.refusals

    def refusal(self, text: str) -> str | None:
        """The role of a text on the deny-list, None for others."""
        return self.refusals.get(bare(_within(text)))


@cache
def default_catalog() -> Catalog:
    """The pages that come with the harness."""
    return load_catalog()


def load_catalog(extra: Sequence[Path] = ()) -> Catalog:
    """The pages that come with the harness, and those of more TOML files of the same form.

    A page with `extend = true` adds its texts to the known page of the same window, layout and language.

    Raises:
        UsageError: A file cannot be read or understood; the error names file and key.
    """
    sources: list[tuple[str, str]] = []
    folder = files("harness.screen") / "pages"
    entries = sorted(folder.iterdir(), key=lambda entry: (entry.name != "en.toml", entry.name))
    sources += [(entry.name, entry.read_text(encoding="utf-8")) for entry in entries if entry.name.endswith(".toml")]
    for path in extra:
        expected = f"the window descriptions {path}"
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise UsageError(expected, seen=f"{path.stat().st_size} bytes", hint=f"at most {_MOST_BYTES} are read")
            sources.append((str(path), path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(expected, seen=str(error), hint="a UTF-8 TOML file is wanted") from error
    pages: list[Page] = []
    refusals: dict[str, str] = {}
    never: list[str] = []
    for name, text in sources:
        try:
            data = tomllib.loads(text)
            _known(data, _FILE_KEYS, "the file")
            for key, role in (("ok", "ok"), ("cancel", "cancel"), ("deny", "deny"), ("never", "other")):
                texts = _texts(data, key)
                never += texts
                for word in texts:
                    refusals.setdefault(bare(word), role)
            entries_of_page = data.get("page", [])
            if not isinstance(entries_of_page, list):
                raise TypeError("page: [[page]] tables are wanted")
            for number, entry in enumerate(entries_of_page, 1):
                where = f"page {number}"
                if not isinstance(entry, dict):
                    raise TypeError(f"{where}: a table is wanted")
                where += f" ({entry.get('window', 'no window')})"
                try:
                    _add(pages, _page(entry, str(data.get("language", ""))), extend=_flag(entry, "extend"))
                except (KeyError, TypeError, ValueError) as error:
                    said = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
                    raise ValueError(f"{where}: {said}") from error
        except (tomllib.TOMLDecodeError, TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"window descriptions in {name}",
                seen=str(error)[:500],
                hint="harness/screen/pages/en.toml shows the form",
            ) from error
        _check(pages, refusals, name)
    return Catalog(tuple(pages), tuple(never), refusals)


def _add(pages: list[Page], page: Page, *, extend: bool) -> None:
    for index, known in enumerate(pages if extend else ()):
        if (known.window, known.layout, known.language) == (page.window, page.layout, page.language):
            pages[index] = _merged(known, page)
            return
    if extend:
        windows = sorted({known.window for known in pages if known.language == page.language})
        raise ValueError(f"extend: no such window in language {page.language!r} yet{_nearest(page.window, windows)}")
    if not (page.titles or page.several or page.layout == "menu"):
        raise ValueError("titles: at least one is wanted")
    pages.append(page)


def _merged(known: Page, more: Page) -> Page:
    """A page with the texts of another added; of a button's partner and advice the known one's count."""
    buttons = list(known.buttons)
    for spec in more.buttons:
        index = next((at for at, old in enumerate(buttons) if old.role == spec.role), None)
        if index is None:
            buttons.append(spec)
        else:
            buttons[index] = replace(buttons[index], texts=(*buttons[index].texts, *spec.texts))
    texts: dict[str, Any] = {key: (*getattr(known, key), *getattr(more, key)) for key in ("macos", *_TEXTS)}
    kinds = {key: (*known.kinds.get(key, ()), *more.kinds.get(key, ())) for key in {**known.kinds, **more.kinds}}
    return replace(known, **texts, buttons=tuple(buttons), kinds=kinds)


def _check(pages: Sequence[Page], refusals: Mapping[str, str], name: str) -> None:
    """No text that would be clicked reads like one that must not be.

    Raises:
        UsageError: One does.
    """
    for page in pages:
        pushed = [(spec, text) for spec in page.buttons if spec.advise for text in spec.texts]
        denied = [text for spec in page.buttons if spec.role in ("ok", "deny", "cancel") for text in spec.texts]
        for spec, text in pushed:
            if bare(text) in refusals:
                raise UsageError(
                    f"window descriptions up to {name}: {page.window} ({page.language})",
                    seen=f"{text!r} is on the deny-list",
                )
            clash = next((other for other in denied if alike(text, other) or alike(other, text)), None)
            if clash is not None:
                raise UsageError(
                    f"window descriptions up to {name}: {page.window} ({page.language})",
                    seen=f"{spec.role} {text!r} reads like {clash!r}",
                )


def _page(entry: dict[str, Any], language: str) -> Page:
    _known(entry, _PAGE_KEYS, "the page")
    layout = str(entry["layout"])
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r}: one of {', '.join(LAYOUTS)}{_nearest(layout, LAYOUTS)}")
    window = entry["window"]
    if not isinstance(window, str) or not window:
        raise TypeError("window: a text is wanted")
    buttons = []
    specs = entry.get("buttons", [])
    if not isinstance(specs, list) or not all(isinstance(spec, dict) for spec in specs):
        raise TypeError("buttons: a list of tables is wanted")
    for button in specs:
        _known(button, _BUTTON_KEYS, "a button")
        role = button["role"]
        partner = button.get("partner", "")
        for value in filter(None, (role, partner)):
            if value not in ROLES:
                raise ValueError(f"role {value!r}: one of {', '.join(ROLES)}{_nearest(str(value), ROLES)}")
        texts = _texts(button, "texts")
        advise = _flag(button, "advise")
        if advise and layout == "dialog" and not partner:
            raise ValueError(f"buttons: an advised button of a dialog needs a partner: {texts}")
        buttons.append(ButtonSpec(str(role), tuple(texts), str(partner), advise))
    table = entry.get("kinds", {})
    if not isinstance(table, dict):
        raise TypeError("kinds: a table of texts is wanted")
    kinds = {str(key): [value] if isinstance(value, str) else value for key, value in table.items()}
    for key in kinds:
        if not _texts(kinds, key):
            raise TypeError(f"kinds: {key}: a text is wanted, or several")

    def phrases(key: str) -> tuple[Phrase, ...]:
        try:
            return tuple(map(Phrase, _texts(entry, key)))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error

    return Page(
        window=window,
        layout=layout,
        language=str(entry.get("language", language)),
        macos=tuple(_texts(entry, "macos")),
        titles=phrases("titles"),
        bodies=phrases("bodies"),
        names=phrases("names"),
        several=phrases("several"),
        lock_closed=phrases("lock_closed"),
        lock_open=phrases("lock_open"),
        marks=tuple(_texts(entry, "marks")),
        buttons=tuple(buttons),
        rows=tuple(_texts(entry, "rows")),
        fields=tuple(_texts(entry, "fields")),
        kinds={key: tuple(value) for key, value in kinds.items()},
    )


def _known(table: Mapping[str, Any], keys: Sequence[str], what: str) -> None:
    for key in table:
        if key not in keys:
            raise ValueError(f"{key}: not a key of {what}{_nearest(key, keys)}")


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _flag(entry: Mapping[str, Any], key: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise TypeError(f"{key}: true or false is wanted")
    return value


def _texts(entry: Mapping[str, Any], key: str) -> list[str]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and squash(item) for item in value):
        raise TypeError(f"{key}: a list of texts is wanted")
    return value
