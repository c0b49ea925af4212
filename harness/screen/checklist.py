"""Lists with a box to tick before each name, Cancel and OK below: how System Preferences (until macOS 12) lets several items in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.screen.catalog import Page
from harness.screen.frames import Box, Frame
from harness.screen.layout import around, contains
from harness.screen.ocr import TextLine
from harness.screen.sighting import Button, Sighting
from harness.screen.text import is_app
from harness.screen.widgets import Widget, components, is_default

_COLOURFUL = 60


def see_checklist(frame: Frame, page: Page, lines: Sequence[TextLine], wanted: str | None) -> Sighting | None:
    """Known by its words, by OK beside Cancel, and by a box left of at least one line. The row that is called `wanted` is
    advised while its box is empty.
    """
    if not contains(page.titles, lines):
        return None
    push = {spec.role: line for spec in reversed(page.buttons) for line in reversed(lines) if spec.matches(line.text)}
    if len(push) < 2:
        return None
    low = min(line.box.y0 for line in push.values())
    rows: list[Button] = []
    for line in lines:
        if line.box.y1 >= low:
            continue
        box = _box_before(frame, line)
        if box is not None:
            rows.append(Button(line.text, "switch", box.box, state=box.state))
    if not rows:
        return None
    mine = [row for row in rows if is_app(row.text, wanted)]
    chosen: Button | None = None
    if len(mine) > 1 or (wanted is None and len(rows) > 1):
        why = f"{len(mine)} rows are called so" if wanted else "several rows, and none was asked for"
    elif mine and mine[0].state == "off":
        chosen, why = mine[0], f"the box of “{mine[0].text}” is empty"
    elif mine:
        why = f"the box of “{mine[0].text}” is ticked"
    else:
        why = f"it lists {', '.join(row.text for row in rows)}, not “{wanted}”"
    buttons = [
        *rows,
        *(Button(line.text, role, line.box, default=is_default(frame, line.box)) for role, line in push.items()),
    ]
    top = min(row.box.y0 for row in rows)
    heading = [line for line in lines if contains(page.titles, [line]) and line.box.y1 <= top]
    own = [
        *heading,
        *(line for line in lines if top - 4 <= line.box.y0 and line.box.y1 <= max(b.box.y1 for b in buttons) + 4),
    ]
    return Sighting(
        page.window,
        frame,
        around(own),
        tuple(own),
        app_name=mine[0].text if mine else None,
        buttons=tuple(buttons),
        advice=chosen,
        why=why,
        language=page.language,
        confidence=0.85,
        rows=tuple(row.text for row in rows),
    )


def _box_before(frame: Frame, line: TextLine) -> Widget | None:
    """A small square right before a line of text; "on" where it is filled with a colour."""
    height = line.box.height
    strip = Box(max(0, line.box.x0 - 3 * height), line.box.y0 - height // 4, line.box.x0 - 2, line.box.y1 + height // 4)
    pixels = frame.crop(strip)
    for box, area in reversed(components(pixels)):
        ratio = box.width / max(1, box.height)
        if 0.8 <= ratio <= 1.25 and 0.4 * height <= box.height <= 1.4 * height and area >= 0.85:
            inside = pixels[box.y0 + 1 : box.y1 - 1, box.x0 + 1 : box.x1 - 1].reshape(-1, 3).astype(int)
            tone = np.median(inside, axis=0)
            on = float(tone.max() - tone.min()) > _COLOURFUL
            found = Box(strip.x0 + box.x0, strip.y0 + box.y0, strip.x0 + box.x1, strip.y0 + box.y1)
            return Widget(found, "on" if on else "off")
    return None
