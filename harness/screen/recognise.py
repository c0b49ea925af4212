"""From a frame to a `Sighting`: which window is it, where are its buttons, which one would approval click now.

A window is known by its title and at least one more sign (its body, or its pair of buttons). A button is chosen by equality
of its whole text, never if deny-listed, only with its partner in sight. Whatever does not fit is `other`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from harness.screen.catalog import Catalog, default_catalog
from harness.screen.checklist import see_checklist
from harness.screen.frames import Box, Frame
from harness.screen.layout import around, paragraphs
from harness.screen.looks import appearance, button_around, scale
from harness.screen.ocr import Reader, TextLine
from harness.screen.recognise_dialogs import see_dialog
from harness.screen.recognise_settings import see_blocked, see_menu, see_rows, see_sheet
from harness.screen.sighting import (
    LOGIN_ITEMS,
    MENU,
    OTHER,
    OTHER_ALERT,
    PASSWORD,
    PRIVACY,
    SHEET,
    Button,
    Sighting,
)
from harness.screen.text import is_app
from harness.screen.widgets import is_default

__all__ = [
    "LOGIN_ITEMS",
    "OTHER",
    "OTHER_ALERT",
    "PASSWORD",
    "PRIVACY",
    "SHEET",
    "Button",
    "Sighting",
    "is_app",
    "recognise",
]

_ALERT_LINES = 16
"""An alert has no more lines of text than that."""


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
    region = region or frame.box
    seen = _known(frame, catalog, lines, region, app_name, extension_kind, ignore)
    if seen is None:
        seen = _unknown(frame, lines, region, catalog)
    # A dialog's title is 13-point text; on a page most lines are.
    sized = [line for line in seen.lines if seen.title is None or line.box.overlaps(seen.title)]
    return replace(seen, appearance=appearance(frame, seen.lines), scale=scale([line.box.height for line in sized]))


def _known(
    frame: Frame,
    catalog: Catalog,
    lines: Sequence[TextLine],
    region: Box,
    app_name: str | None,
    extension_kind: str | None,
    ignore: Collection[str],
) -> Sighting | None:
    groups = paragraphs(lines)
    best: Sighting | None = None
    for page in catalog.of("dialog"):
        if page.window in ignore:
            continue
        seen = see_dialog(frame, page, catalog, lines, groups)
        if seen is not None and (best is None or _rank(seen) > _rank(best)):
            best = seen
    if best is not None:
        return best
    for page in catalog.pages:
        found: Sighting | None = None
        if page.window in ignore:
            continue
        if page.layout == "sheet":
            found = see_sheet(frame, page, lines, region, app_name)
        elif page.layout == "blocked":
            found = see_blocked(frame, page, catalog, lines, groups, app_name)
        elif page.layout == "checklist":
            found = see_checklist(frame, page, lines, app_name)
        elif page.layout == "rows":
            found = see_rows(frame, page, lines, region, app_name, extension_kind)
        elif page.layout == "menu":
            found = see_menu(frame, page, lines)
        if found is not None and (best is None or _order(found) < _order(best)):
            best = found
    return best


def _rank(seen: Sighting) -> tuple[bool, bool, float]:
    return seen.window == PASSWORD, seen.advice is not None, seen.confidence


def _order(seen: Sighting) -> int:
    """A menu stands in front of its sheet, that of its page; System Preferences are known by more than System Settings are."""
    order = (MENU, SHEET, "prefs-security-privacy", PRIVACY, LOGIN_ITEMS)
    return order.index(seen.window) if seen.window in order else len(order)


def _unknown(frame: Frame, lines: Sequence[TextLine], region: Box, catalog: Catalog) -> Sighting:
    """`other`, or `other-alert` for a small window with a button that alerts have. Never any advice."""
    small = region.area * 3 < frame.size[0] * frame.size[1] or region == frame.box
    buttons = []
    if len(lines) <= _ALERT_LINES and small:
        for line in lines:
            role = catalog.refusal(line.text)
            if role is not None and button_around(frame, line.box) is not None:
                buttons.append(Button(line.text, role, line.box, default=is_default(frame, line.box)))
    return Sighting(
        OTHER_ALERT if buttons else OTHER,
        frame,
        around(lines) if lines else region,
        tuple(lines),
        buttons=tuple(buttons),
        why="no known window" if lines else "no text",
    )
