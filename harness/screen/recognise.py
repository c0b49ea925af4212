"""From a frame to a `Sighting`: which window is it, where are its buttons, which one would approval click now.

A window is known by its title and at least one more sign (its body, or its pair of buttons). A button is chosen by equality
of its whole text, never if deny-listed, only with its partner in sight. Whatever does not fit is `other`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from harness.screen.catalog import ButtonSpec, Catalog, Page, default_catalog
from harness.screen.frames import Box, Frame
from harness.screen.layout import Match, Paragraph, around, contains, find, find_any, paragraphs
from harness.screen.ocr import Reader, TextLine, alike, squash
from harness.screen.widgets import find_info, find_switch, is_default

PASSWORD = "password-prompt"  # noqa: S105 - a window class
SHEET = "settings-extensions-sheet"
PRIVACY = "settings-privacy-security"
LOGIN_ITEMS = "settings-login-items-extensions"
OTHER_ALERT = "other-alert"
OTHER = "other"


@dataclass(frozen=True)
class Button:
    """Something to click, in pixels of the frame.

    Attributes:
        text: Its text as read; for a switch or (i) button, the row's.
        role: One of catalog.ROLES.
        default: Filled with the accent colour.
        state: "on" or "off" for a switch ("" where it cannot be told).
    """

    text: str
    role: str
    box: Box
    default: bool = False
    enabled: bool = True
    state: str = ""

    @property
    def centre(self) -> tuple[int, int]:
        """Where to click."""
        return self.box.centre


@dataclass(frozen=True)
class Sighting:
    """What is in (a part of) a frame.

    Attributes:
        window: The window class; "other-alert" or "other" for what is not known.
        app_name: The app that it is about, where one is told.
        advice: The button that approval would click now; None: nothing.
        why: In words, why this advice or none.
        box: Around the window's own texts and buttons.
        rows: The names in a list of extensions.
        field: Where the password goes, if that is known.
        title: Around the title of an alert or sheet: when these pixels change, it has gone (or moved).
    """

    window: str
    frame: Frame
    box: Box
    lines: tuple[TextLine, ...]
    app_name: str | None = None
    buttons: tuple[Button, ...] = ()
    advice: Button | None = None
    why: str = ""
    language: str = ""
    confidence: float = 0.0
    rows: tuple[str, ...] = ()
    field: Box | None = None
    title: Box | None = None

    def button(self, *roles: str) -> Button | None:
        """The first button of one of these roles."""
        return next((button for role in roles for button in self.buttons if button.role == role), None)

    @property
    def text(self) -> str:
        """What the window says, on one line, cut at 300 characters."""
        return " / ".join(line.text for line in self.lines)[:300]

    def as_dict(self) -> dict[str, Any]:
        """JSON-like."""

        def shown(button: Button) -> dict[str, Any]:
            x, y = button.centre
            return {
                "text": button.text,
                "role": button.role,
                "x": x,
                "y": y,
                "default": button.default,
                "enabled": button.enabled,
                "state": button.state or None,
            }

        return {
            "window": self.window,
            "confidence": round(self.confidence, 2),
            "app_name": self.app_name,
            "language": self.language or None,
            "buttons": [shown(button) for button in self.buttons],
            "advice": shown(self.advice) if self.advice else None,
            "why": self.why,
        }


def recognise(
    frame: Frame,
    reader: Reader,
    catalog: Catalog | None = None,
    region: Box | None = None,
    *,
    app_name: str | None = None,
    extension_kind: str | None = None,
    ignore: Collection[str] = (),
) -> Sighting:
    """Look at a region of a frame (all of it by default).

    Args:
        frame: What to look at.
        reader: Reads the text in it.
        catalog: The windows that are known; those of the harness by default.
        region: The part that is read; reading costs time in proportion.
        ignore: Window classes that are looked past (one that stands in front of what is wanted).
        app_name: The app whose rows count; None: a single row will do.
        extension_kind: "network", "driver" or "endpoint-security"; None: a single one in sight will do.
    """
    catalog = catalog or default_catalog()
    lines = reader.read(frame, region)
    groups = paragraphs(lines)
    region = region or frame.box
    best: Sighting | None = None
    for page in catalog.of("dialog"):
        if page.window in ignore:
            continue
        seen = _dialog(frame, page, catalog, lines, groups)
        if seen is not None and (best is None or _rank(seen) > _rank(best)):
            best = seen
    if best is not None:
        return best
    for page in catalog.pages:
        found: Sighting | None = None
        if page.window in ignore:
            continue
        if page.layout == "sheet":
            found = _sheet(frame, page, lines, region, app_name)
        elif page.layout == "blocked":
            found = _blocked(frame, page, lines, groups, app_name)
        elif page.layout == "rows":
            found = _rows(frame, page, lines, region, app_name, extension_kind)
        if found is not None:
            return found
    return _unknown(frame, lines, region, catalog)


def _rank(seen: Sighting) -> tuple[bool, bool, float]:
    return seen.window == PASSWORD, seen.advice is not None, seen.confidence


# --- alerts, consents, password sheets


def _dialog(
    frame: Frame, page: Page, catalog: Catalog, lines: Sequence[TextLine], groups: Sequence[Paragraph]
) -> Sighting | None:
    title = find_any(page.titles, groups)
    if title is None:
        return None
    height = title.lines[0].box.height
    middle = title.box.centre[0]
    reach = max(title.box.width * 0.62, 7.5 * height)
    column = [
        line
        for line in lines
        if abs(line.box.centre[0] - middle) <= reach and 0 <= line.box.y0 - title.box.y0 <= 24 * height
    ]
    column = [line for line in column if line.box.width <= 2.6 * reach]
    body = contains(page.bodies, [line for line in column if line not in title.lines])
    buttons = _buttons(frame, page.buttons, [line for line in column if line.box.y0 >= title.box.y1])
    roles = {button.role for button in buttons}
    advised = [spec for spec in page.buttons if spec.advise]
    pair = any(spec.role in roles and spec.partner in roles for spec in advised)
    if not body and not pair:
        return None
    app = title.holes.get("app") or _named(page, column)
    advice: Button | None = None
    why = "none of its buttons is in sight with its partner"
    for spec in advised:
        button = next((button for button in buttons if button.role == spec.role), None)
        if button is None or spec.partner not in roles:
            continue
        if catalog.forbidden(button.text):
            why = f"'{button.text}' is on the deny-list"
            continue
        advice, why = button, f"'{button.text}' beside its partner '{_partner(buttons, spec)}'"
        break
    return Sighting(
        page.window,
        frame,
        around([*title.lines, *(line for line in column if any(line.box.overlaps(button.box) for button in buttons))]),
        tuple(column),
        app_name=None if page.window == PASSWORD else app,
        buttons=tuple(buttons),
        advice=advice,
        why=why,
        language=page.language,
        confidence=(1.0 if body and pair else 0.7) * min(line.score for line in title.lines),
        field=_field(page, column, buttons) if page.fields else None,
        title=title.box,
    )


def _partner(buttons: Sequence[Button], spec: ButtonSpec) -> str:
    return next(button.text for button in buttons if button.role == spec.partner)


def _named(page: Page, column: Sequence[TextLine]) -> str | None:
    match = find_any(page.names, paragraphs(column))
    return match.holes.get("app") if match else None


def _buttons(frame: Frame, specs: Sequence[ButtonSpec], lines: Sequence[TextLine]) -> list[Button]:
    """For each spec the nearest line (they are sorted from the top) that is it."""
    found = []
    for spec in specs:
        line = next((line for line in lines if spec.matches(line.text)), None)
        if line is not None:
            found.append(_button(frame, line, spec.role))
    return found


def _button(frame: Frame, line: TextLine, role: str) -> Button:
    return Button(line.text, role, line.box, default=is_default(frame, line.box))


def _field(page: Page, column: Sequence[TextLine], buttons: Sequence[Button]) -> Box | None:
    """The password field: its placeholder while it is empty, the place above the buttons otherwise."""
    for line in column:
        if any(alike(line.text, text) for text in page.fields):
            return line.box
    push = [button for button in buttons if button.role in ("approve", "cancel")]
    if len(push) < 2:
        return None
    top = min(button.box.y0 for button in push)
    height = push[0].box.height
    x0, x1 = min(button.box.x0 for button in push), max(button.box.x1 for button in push)
    return Box(x0, top - 3 * height, x1, top - 2 * height)


# --- System Settings


def _blocked(
    frame: Frame, page: Page, lines: Sequence[TextLine], groups: Sequence[Paragraph], wanted: str | None
) -> Sighting | None:
    lock = find_any((*page.lock_closed, *page.lock_open), groups)
    if (page.lock_closed or page.lock_open) and lock is None:
        return None
    matches = [match for group in groups for match in (find(phrase, group) for phrase in page.titles) if match]
    several = find_any(page.several, groups)
    if not matches and several is None:
        return None
    buttons: list[Button] = []
    chosen: Button | None = None
    app: str | None = None
    why = ""
    for match in matches:
        name = match.holes.get("app")
        allow = _right_of(frame, page, "approve", match, lines)
        if allow is not None:
            buttons.append(allow)
        if app is None or is_app(name, wanted):
            app = name
        if is_app(name, wanted) and (wanted is not None or len(matches) == 1):
            chosen = allow
            why = f"'Allow' for “{name}”" if allow else f"no 'Allow' in sight for “{name}”"
        elif not why:
            why = f"it is about “{name}”, not “{wanted}”" if wanted else "several are blocked, and none was asked for"
    if several is not None:
        details = _right_of(frame, page, "other", several, lines)
        if details is not None:
            buttons.append(details)
        if chosen is None:
            chosen, why = details, "several are pending: the list must be opened"
    if lock is not None:
        height = lock.lines[0].box.height
        box = lock.lines[0].box
        buttons.append(
            Button(lock.lines[0].text, "lock", Box(box.x0 - int(2.0 * height), box.y0, box.x0 - height // 2, box.y1))
        )
        if find_any(page.lock_closed, groups) is not None and chosen is not None:
            chosen, why = buttons[-1], "the lock must be opened first"
    parts = [match.box for match in matches] + ([several.box] if several else []) + [b.box for b in buttons]
    box = parts[0]
    for part in parts[1:]:
        box = box.union(part)
    return Sighting(
        page.window,
        frame,
        box,
        tuple(lines),
        app_name=app,
        buttons=tuple(buttons),
        advice=chosen,
        why=why,
        language=page.language,
        confidence=0.9,
    )


def _right_of(frame: Frame, page: Page, role: str, match: Match, lines: Sequence[TextLine]) -> Button | None:
    """The button of a role beside or right below a sentence, right of its middle; the nearest in height."""
    height = match.lines[0].box.height
    candidates = [
        line
        for spec in page.buttons
        if spec.role == role
        for line in lines
        if spec.matches(line.text)
        and line.box.x0 > match.box.centre[0]
        and match.box.y0 - height <= line.box.centre[1] <= match.box.y1 + 4 * height
    ]
    if not candidates:
        return None
    nearest = min(candidates, key=lambda line: abs(line.box.centre[1] - match.box.centre[1]))
    return _button(frame, nearest, role)


def _sheet(
    frame: Frame,
    page: Page,
    lines: Sequence[TextLine],
    region: Box,
    wanted: str | None,
) -> Sighting | None:
    heading = None
    for line in lines:
        titles = [phrase.text for phrase in page.titles if alike(line.text, phrase.text)]
        if not titles:
            continue
        below = [
            other
            for other in lines
            if other.box.y0 >= line.box.y1 - 2
            and other.box.y0 - line.box.y1 <= 5 * line.box.height
            and abs(other.box.x0 - line.box.x0) <= 2 * line.box.height
        ]
        if contains(page.bodies, below):
            heading = line
            break
    if heading is None:
        return None
    inside = [line for line in lines if line.box.y0 >= heading.box.y1 - 2 and line.box.x0 >= heading.box.x0 - 4]
    end = next((line.box.y1 for line in inside if any(spec.matches(line.text) for spec in page.buttons)), None)
    if end is not None:  # the page goes on below the sheet
        inside = [line for line in inside if line.box.y0 < end]
    buttons: list[Button] = []
    names: list[str] = []
    chosen: Button | None = None
    why = ""
    kinds = {squash(text) for text in page.rows}
    for line in inside:
        if squash(line.text) not in kinds:
            continue
        above = [
            other
            for other in inside
            if 0 <= line.box.y0 - other.box.y1 + other.box.height // 2 <= 1.4 * line.box.height
            and abs(other.box.x0 - line.box.x0) <= line.box.height
            and other is not line
        ]
        if not above:
            continue
        name = above[-1]
        names.append(name.text)
        top, bottom = name.box.y0 - name.box.height // 2, line.box.y1 + line.box.height // 2
        strip = Box(max(name.box.x1, line.box.x1) + 4, top, region.x1, bottom)
        widget = find_switch(frame, strip, name.box.height)
        if widget is None:
            why = why or f"no switch seen in the row “{name.text}”"
            continue
        button = Button(name.text, "switch", widget.box, state=widget.state)
        buttons.append(button)
        if is_app(name.text, wanted):
            chosen = button
    if wanted is None and len(names) > 1:
        chosen, why = None, "several rows, and none was asked for"
    elif chosen is not None and chosen.state != "off":
        why = f"the switch of “{chosen.text}” is on" if chosen.state == "on" else "the switch's state cannot be told"
        chosen = None
    elif chosen is not None:
        why = f"the switch of “{chosen.text}” is off"
    elif not why:
        why = f"it lists {', '.join(names) if names else 'nothing'}" + (f", not “{wanted}”" if wanted else "")
    for spec in page.buttons:
        push = next((line for line in inside if spec.matches(line.text)), None)
        if push is not None:
            buttons.append(_button(frame, push, spec.role))
    own = [heading, *inside]
    return Sighting(
        page.window,
        frame,
        around(own),
        tuple(own),
        app_name=next((name for name in names if is_app(name, wanted)), None),
        buttons=tuple(buttons),
        advice=chosen,
        why=why,
        language=page.language,
        confidence=0.9,
        rows=tuple(names),
    )


def _rows(
    frame: Frame, page: Page, lines: Sequence[TextLine], region: Box, wanted: str | None, kind: str | None
) -> Sighting | None:
    titled = any(alike(line.text, phrase.text) for line in lines for phrase in page.titles)
    marked = any(squash(line.text) == squash(phrase.text) for line in lines for phrase in page.bodies)
    if not titled or not marked:
        return None
    buttons: list[Button] = []
    kinds = {key: text for key, text in page.kinds.items() if kind is None or key == kind}
    texts = [line.box for line in lines if len(line.text) > 2]
    by_kind: list[Button] = []
    by_app: list[Button] = []
    for line in lines:
        if any(alike(line.text, text) for text in page.kinds.values()):
            info = find_info(frame, _strip(line.box, region), line.box.height, texts)
            if info is not None:
                button = Button(line.text, "info", info.box)
                buttons.append(button)
                if any(alike(line.text, text) for text in kinds.values()):
                    by_kind.append(button)
        elif any(alike(line.text, text) for text in page.rows):
            name = _above(line, lines)
            info = find_info(frame, _strip(name.box.union(line.box), region), line.box.height, texts) if name else None
            if name is not None and info is not None:
                button = Button(name.text, "info", info.box)
                buttons.append(button)
                if is_app(name.text, wanted):
                    by_app.append(button)
    choices = by_kind or by_app
    advice = choices[0] if len(choices) == 1 else None
    if advice is not None:
        why = f"the (i) button of “{advice.text}”"
    else:
        why = "several rows would do" if choices else "no row for the extension in sight: scroll"
    return Sighting(
        page.window,
        frame,
        region,
        tuple(lines),
        app_name=by_app[0].text if advice is not None and by_app and not by_kind else None,
        buttons=tuple(buttons),
        advice=advice,
        why=why,
        language=page.language,
        confidence=0.9,
    )


def _strip(row: Box, region: Box) -> Box:
    return Box(row.x1 + 4, row.y0 - row.height * 2 // 3, region.x1, row.y1 + row.height * 2 // 3)


def _above(line: TextLine, lines: Sequence[TextLine]) -> TextLine | None:
    return next(
        (
            other
            for other in lines
            if other is not line
            and abs(other.box.x0 - line.box.x0) <= line.box.height
            and -line.box.height // 2 <= line.box.y0 - other.box.y1 <= line.box.height
        ),
        None,
    )


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


# --- the rest


def _unknown(frame: Frame, lines: Sequence[TextLine], region: Box, catalog: Catalog) -> Sighting:
    """`other`, or `other-alert` for a small window with a button that alerts have. Never any advice."""
    roles = {"ok": "ok", "cancel": "cancel", "don'tallow": "deny", "deny": "deny"}
    small = region.width * region.height * 3 < frame.size[0] * frame.size[1] or region == frame.box
    buttons = []
    if len(lines) <= 16 and small:
        for line in lines:
            role = roles.get(squash(line.text))
            if role is None and catalog.forbidden(line.text):
                role = "other"
            if role is not None:
                buttons.append(_button(frame, line, role))
    return Sighting(
        OTHER_ALERT if buttons else OTHER,
        frame,
        around(lines) if lines else region,
        tuple(lines),
        buttons=tuple(buttons),
        why="no known window" if lines else "no text",
    )
