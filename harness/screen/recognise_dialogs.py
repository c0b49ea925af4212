"""Alerts, consents and password sheets: known by their title and one more sign, clicked only beside the partner button.

What makes words a window's: its title stands alone, its buttons stand in its column, in a row or a pile with one another, on
bodies of their own colour (a web page or a terminal that has the same words has none), and it is no picture inside a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.screen.catalog import ButtonSpec, Catalog, Page
from harness.screen.frames import Box, Frame
from harness.screen.layout import Match, Paragraph, around, contains, find_any, paragraphs
from harness.screen.looks import background, button_around, greyed
from harness.screen.ocr import TextLine
from harness.screen.sighting import PASSWORD, Button, Sighting
from harness.screen.text import alike, squash
from harness.screen.widgets import is_default

_DEEPEST = 24
"""How far below its title a dialog goes, in heights of the title's lines."""


_ROOM = 1.4
"""Heights of a title's line without words: between a window's upper edge and what it says there is its icon."""
_GAP = 4.0
"""In heights of a title's line: real alerts leave 1.5 at most between two lines; an arrow may hide some."""
_ACROSS = 0.9
"""How much of the buttons' width an edge takes; a row of letters changes less than 0.7 of it."""
_EDGE = 12
"""Sum of the three channel differences from one row to the next but one, where a window's edge and shadow are."""
_NEAR = 12
_WORDS = 12
"""Words on the ground that a picture stands on: so near, in heights of the title's lines, and so many letters in a line."""


def see_dialog(
    frame: Frame, page: Page, catalog: Catalog, lines: Sequence[TextLine], groups: Sequence[Paragraph]
) -> Sighting | None:
    """The window that a page of layout "dialog" describes, if it is in sight."""
    title = find_any(page.titles, groups, alone=True)
    if title is None:
        return None
    column = _column(title, lines)
    body = contains(page.bodies, [line for line in column if line not in title.lines])
    below = [line for line in column if line.box.y0 >= title.box.y1 - 2]
    advised = [spec for spec in page.buttons if spec.advise]
    chosen: tuple[ButtonSpec, TextLine, TextLine] | None = None
    pairs = 0
    for spec in advised:
        found = _pairs(page, spec, below)
        pairs += len(found)
        if found and chosen is None:
            chosen = (spec, *found[0])
    if not body and not pairs:
        return None
    texts = [line.box for line in title.lines]
    buttons = _buttons(frame, page.buttons, below, chosen, texts)
    advice: Button | None = None
    why = "none of its buttons is in sight with its partner"
    if chosen is not None:
        spec, own, partner = chosen
        button = next(button for button in buttons if button.box == own.box)
        if catalog.forbidden(button.text):
            why = f"'{button.text}' is on the deny-list"
        elif not button.enabled:
            why = f"'{button.text}' is greyed out"
        elif button_around(frame, own.box) is None and button_around(frame, partner.box) is None:
            why = f"'{button.text}' stands on no button: words, not a window"
        elif page.window != PASSWORD and _something_in_front(frame, title, own.box.union(partner.box), column):
            why = f"another window stands between the title and '{button.text}'"
        elif _in_a_document(frame, title, column, buttons, lines):
            why = "a picture of such a window inside a document"
        else:
            advice, why = button, f"'{button.text}' beside its partner '{partner.text}'"
    app = title.holes.get("app")
    if app is None:
        named = find_any(page.names, paragraphs(column))
        app = named.holes.get("app") if named else None
    sure = min(line.score for line in title.lines) * (1.0 if body and pairs else 0.7) - 0.05 * title.mistakes
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
        confidence=max(0.1, sure),
        field=_field(page, column, buttons) if page.fields else None,
        title=title.box,
    )


def _column(title: Match, lines: Sequence[TextLine]) -> list[TextLine]:
    """The lines of the dialog that a title belongs to: below it, and about as far sideways as its text goes."""
    height = title.lines[0].box.height
    box = title.box
    for line in sorted(lines, key=lambda line: line.box.y0):
        # Its body: the lines that follow, set to the left as the title is, or centred below it.
        follows = -height // 2 <= line.box.y0 - box.y1 <= 2 * height and line.box.height <= 1.6 * height
        flush = abs(line.box.x0 - title.box.x0) <= height // 2
        centred = abs(line.box.centre[0] - title.box.centre[0]) <= height
        if follows and (flush or centred) and line.box.width <= 24 * height:
            box = box.union(line.box)
    middle = title.box.centre[0]
    reach = max(title.box.width * 0.62, 7.5 * height)
    left, right = min(box.x0 - height, middle - reach), max(box.x1 + height, middle + reach)
    return [
        line
        for line in lines
        if left <= line.box.centre[0] <= right
        and 0 <= line.box.y0 - title.box.y0 <= _DEEPEST * height
        and line.box.width <= max(2.6 * reach, right - left)
    ]


def _pairs(page: Page, spec: ButtonSpec, lines: Sequence[TextLine]) -> list[tuple[TextLine, TextLine]]:
    """Where a button and its partner stand side by side or in a pile: (button, partner), the uppermost first, of those the nearest to
    one another.
    """
    own = [line for line in lines if spec.matches(line.text)]
    partners = [
        line for other in page.buttons if other.role == spec.partner for line in lines if other.matches(line.text)
    ]
    found = []
    for one in own:
        for two in partners:
            height = max(one.box.height, two.box.height)
            across = abs(one.box.centre[0] - two.box.centre[0])
            down = abs(one.box.centre[1] - two.box.centre[1])
            beside = down <= 0.6 * height and across <= 16 * height
            piled = across <= 1.2 * height and 0.6 * height < down <= 5 * height
            if beside or piled:
                found.append((max(one.box.centre[1], two.box.centre[1]), across + down, one, two))
    # Further below may stand another dialog with the same buttons.
    lowest = min((low for low, *_ in found), default=0) + (own[0].box.height if own else 0)
    return [(one, two) for low, near, one, two in sorted(found, key=lambda item: (item[0] > lowest, item[1]))]


def _buttons(
    frame: Frame,
    specs: Sequence[ButtonSpec],
    lines: Sequence[TextLine],
    chosen: tuple[ButtonSpec, TextLine, TextLine] | None,
    texts: Sequence[Box],
) -> list[Button]:
    """For each spec the line that is it: of the chosen pair, or the nearest to the title (lines are sorted from the top)."""
    found = []
    for spec in specs:
        line = next((line for line in lines if spec.matches(line.text)), None)
        if chosen is not None and spec is chosen[0]:
            line = chosen[1]
        elif chosen is not None and spec.role == chosen[0].partner and spec.matches(chosen[2].text):
            line = chosen[2]
        if line is not None:
            default = is_default(frame, line.box)
            enabled = default or not greyed(frame, line.box, texts)
            found.append(Button(line.text, spec.role, line.box, default=default, enabled=enabled))
    return found


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


def _something_in_front(frame: Frame, title: Match, pair: Box, column: Sequence[TextLine]) -> bool:
    """Whether the buttons are those of a window that covers the lower part of the title's.

    Its upper edge goes all across above them, and below that edge is an icon's room without words; or there is more room between
    two lines than any alert leaves. (A password window has its fields there.)
    """
    height = min(line.box.height for line in title.lines)
    reached = title.box.y1
    for line in sorted(column, key=lambda line: line.box.y0):
        if line.box.y0 < pair.y0 and line.box.y0 - reached > _GAP * height:
            return True
        reached = max(reached, line.box.y1)
    top, bottom = title.box.y1, pair.y0 - height // 2
    rows = frame.crop(Box(pair.x0, top, pair.x1, bottom)).astype(np.int64)
    if rows.shape[0] < _ROOM * height:
        return False
    change = np.abs(rows[2:] - rows[:-2]).sum(axis=2) > _EDGE
    edges = np.nonzero(change.mean(axis=1) > _ACROSS)[0]
    for group in np.split(edges, np.nonzero(np.diff(edges) > 0.6 * height)[0] + 1):
        if not group.size:
            continue
        above, under = rows[group[0]], rows[group[-1] + 2]
        if np.abs(np.median(above, axis=0) - np.median(under, axis=0)).sum() <= _EDGE:
            continue  # a line that was drawn there: the same on both sides
        y = top + int(group[-1]) + 2
        below = min((line.box.y0 for line in column if line.box.centre[1] > y), default=bottom)
        if below - y >= _ROOM * height:
            return True
    return False


def _in_a_document(
    frame: Frame, title: Match, column: Sequence[TextLine], buttons: Sequence[Button], lines: Sequence[TextLine]
) -> bool:
    """Whether the dialog is a picture in a page or in an app's own window: one colour, and the same, on all four sides of it, and
    either text close above and below, and none beside it, or words on that very ground. A real one stands over something that
    goes on behind it, and casts a shadow.
    """
    end = max(button.box.y1 for button in buttons)
    own = around([*title.lines, *(line for line in column if line.box.y1 <= end)])
    for button in buttons:
        own = own.union(button_around(frame, button.box) or button.box)
    height = title.lines[0].box.height
    panel = _panel(frame, title, own)
    if panel is None:
        return False
    rest = [line.box for line in lines if not panel.overlaps(line.box)]
    near = [box for box in rest if box.x0 < panel.x1 and panel.x0 < box.x1]
    above = any(0 <= panel.y0 - box.y1 <= 6 * height for box in near)
    below = any(0 <= box.y0 - panel.y1 <= 6 * height for box in near)
    beside = any(box.y0 < panel.y1 and panel.y0 < box.y1 for box in rest)
    between = above and below and not beside
    around_it = _grounds(frame, panel, height, height // 2)
    if around_it is None or not all(_same(colour, around_it[0]) for colour in around_it[1:]):
        return False
    if between:
        return True
    # No shadow: as flat a little further away.
    further = _grounds(frame, panel, 3 * height, 2 * height)
    if further is None or not all(_same(colour, around_it[0]) for colour in further):
        return False
    wide = panel.padded(_NEAR * height, frame.size)
    for line in lines:
        if len(squash(line.text)) >= _WORDS and wide.overlaps(line.box) and not panel.overlaps(line.box):
            ground = background(frame, line.box)
            if ground is not None and _same(ground, around_it[0]):
                return True
    return False


def _grounds(frame: Frame, panel: Box, across: int, down: int) -> list[NDArray[Any]] | None:
    """The colours left, right, above and below a box, so far away from it; None where the picture ends before."""
    colours = []
    for x, y in (
        (panel.x0 - across, panel.centre[1]),
        (panel.x1 + across, panel.centre[1]),
        (panel.centre[0], panel.y0 - down),
        (panel.centre[0], panel.y1 + down),
    ):
        spot = frame.crop(Box(x - 2, y - 2, x + 3, y + 3))
        if not 2 <= x < frame.size[0] - 2 or spot.size == 0:
            return None
        colours.append(np.median(spot.reshape(-1, 3).astype(np.int64), axis=0))
    return colours


def _same(colour: NDArray[Any], other: NDArray[Any]) -> bool:
    return float(np.abs(colour - other).sum()) <= 8


def _panel(frame: Frame, title: Match, own: Box) -> Box | None:
    """The dialog's body: its texts' box grown until the colour that they stand on ends. None where it does not end."""
    fill = background(frame, title.lines[0].box)
    if fill is None:
        return None
    height = title.lines[0].box.height
    sides = {}
    for side in ("x0", "x1", "y0", "y1"):
        at = getattr(own, side)
        step = -1 if side.endswith("0") else 1
        for distance in range(12 * height):
            edge = at + step * distance
            if side.startswith("x"):
                strip = frame.crop(Box(edge, own.y0, edge + 1, own.y1))
            else:
                strip = frame.crop(Box(own.x0, edge, own.x1, edge + 1))
            if strip.size == 0 or edge < 0:
                return None
            differs = np.abs(strip.reshape(-1, 3).astype(np.int64) - fill).sum(axis=1) > 12
            if differs.mean() > 0.8:
                sides[side] = edge
                break
        else:
            return None
    return Box(sides["x0"], sides["y0"], sides["x1"], sides["y1"])
