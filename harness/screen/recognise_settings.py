"""System Settings and System Preferences: what was blocked from loading, lists of switches, rows with (i) buttons."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from harness.screen.catalog import Catalog, Page
from harness.screen.frames import Box, Frame
from harness.screen.layout import Match, Paragraph, around, contains, find, find_any
from harness.screen.looks import button_around, greyed
from harness.screen.ocr import TextLine
from harness.screen.sighting import Button, Sighting
from harness.screen.text import alike, is_app, squash
from harness.screen.widgets import find_info, find_switch, is_default


def see_blocked(
    frame: Frame,
    page: Page,
    catalog: Catalog,
    lines: Sequence[TextLine],
    groups: Sequence[Paragraph],
    wanted: str | None,
) -> Sighting | None:
    """The Security part of Settings, with something that waits for "Allow"."""
    denials = [line for line in lines if catalog.refusal(line.text) == "deny"]
    free = [line for line in lines if not any(_beside(line, denial) for denial in denials)]
    lock = find_any((*page.lock_closed, *page.lock_open), groups)
    marked = any(alike(line.text, mark) for line in lines for mark in page.marks)
    if (page.lock_closed or page.lock_open) and lock is None and not marked:
        return None
    matches = _sentences(page, groups)
    several = find_any(page.several, groups, alone=True)
    if not matches and several is None:
        return None
    texts = [line.box for match in matches for line in match.lines] + (
        [line.box for line in several.lines] if several else []
    )
    buttons: list[Button] = []
    chosen: Button | None = None
    app: str | None = None
    why = ""
    for match in matches:
        name = match.holes.get("app")
        allow = _right_of(frame, page, "approve", match, free, texts)
        if allow is not None:
            buttons.append(allow)
        if app is None or is_app(name, wanted):
            app = name
        told = f"“{name}”" if name else "an app whose name cannot be read"
        if is_app(name, wanted) and (wanted is not None or len(matches) == 1):
            chosen = allow
            why = f"'{allow.text}' for {told}" if allow is not None else f"no button to allow it in sight for {told}"
        elif not why:
            why = f"it is about {told}, not “{wanted}”" if wanted else "several are blocked, and none was asked for"
    if several is not None:
        details = _right_of(frame, page, "other", several, lines, texts)
        if details is not None:
            buttons.append(details)
        if chosen is None:
            chosen, why = details, "several are pending: the list must be opened"
    if chosen is not None and not marked and lock is None and button_around(frame, chosen.box) is None:
        why, chosen = f"'{chosen.text}' stands on no button: words, not a window", None
    closed = False
    if lock is not None:
        height = lock.lines[0].box.height
        box = lock.lines[0].box
        beside = Box(max(0, box.x0 - int(2.0 * height)), box.y0, max(1, box.x0 - height // 2), box.y1)
        buttons.append(Button(lock.lines[0].text, "lock", beside))
        closed = find_any(page.lock_closed, groups) is not None
    if chosen is not None and closed:
        chosen, why = buttons[-1], "the lock must be opened first"
    elif chosen is not None and not chosen.enabled:
        why, chosen = f"'{chosen.text}' is greyed out", None
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


def _sentences(page: Page, groups: Sequence[Paragraph]) -> list[Match]:
    """Where a sentence about one item stands: per paragraph that of the first phrase with the fewest mistakes. Phrases are
    sorted from the whole sentence to what is left of it under an arrow.
    """
    found = []
    for group in groups:
        matches = [match for match in (find(phrase, group) for phrase in page.titles) if match and match.alone]
        if matches:
            exact = [match for match in matches if match.holes.get("app")]
            found.append(min(exact or matches, key=lambda match: match.mistakes))
    return found


def _beside(button: TextLine, denial: TextLine) -> bool:
    """Whether a button belongs to an alert in front of the page: beside it, or above or below, stands one that denies."""
    height = max(button.box.height, denial.box.height)
    across = abs(button.box.centre[0] - denial.box.centre[0])
    down = abs(button.box.centre[1] - denial.box.centre[1])
    return (down <= 0.6 * height and across <= 16 * height) or (across <= 1.2 * height and down <= 5 * height)


def _right_of(
    frame: Frame, page: Page, role: str, match: Match, lines: Sequence[TextLine], texts: Sequence[Box]
) -> Button | None:
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
    return _push(frame, nearest, role, texts)


def _push(frame: Frame, line: TextLine, role: str, texts: Sequence[Box] = ()) -> Button:
    default = is_default(frame, line.box)
    return Button(line.text, role, line.box, default=default, enabled=default or not greyed(frame, line.box, texts))


# --- sheets with switches


def see_sheet(frame: Frame, page: Page, lines: Sequence[TextLine], region: Box, wanted: str | None) -> Sighting | None:
    """A list of extensions with a switch each."""
    heading = _heading(page, lines)
    if heading is None:
        return _see_sheet_of_app(frame, page, lines, region, wanted)
    inside = [line for line in lines if line.box.y0 >= heading.box.y1 - 2 and line.box.x0 >= heading.box.x0 - 4]
    done = next((line for line in inside if any(spec.matches(line.text) for spec in page.buttons)), None)
    if done is not None:  # the page goes on below the sheet
        inside = [line for line in inside if line.box.y0 < done.box.y1]
        region = _up_to(done, region)
    body = contains(page.bodies, [line for line in inside if line.box.y0 - heading.box.y1 <= 5 * heading.box.height])
    rows = _switch_rows(frame, page, [line for line in inside if line is not done], region)
    # Where it is cut off before Done, and its explanation cannot be read: rows that say what they are, with a switch.
    told = done is not None or any(_is_row(page, line) for line in inside)
    if not body and not (told and any(button is not None for _, button in rows)):
        return None
    names = [name for name, _ in rows]
    buttons = [button for _, button in rows if button is not None]
    mine = [button for button in buttons if is_app(button.text, wanted)]
    chosen: Button | None = None
    if wanted is None and len(names) > 1:
        why = "several rows, and none was asked for"
    elif len(mine) > 1:
        why = f"{len(mine)} rows are called so"
    elif mine and mine[0].state == "off":
        chosen, why = mine[0], f"the switch of “{mine[0].text}” is off"
    elif mine:
        what = "is on" if mine[0].state == "on" else "cannot be told on from off"
        why = f"the switch of “{mine[0].text}” {what}"
    elif any(is_app(name, wanted) for name in names):
        why = f"no switch seen in the row “{next(name for name in names if is_app(name, wanted))}”"
    else:
        why = f"it lists {', '.join(names) if names else 'nothing'}" + (f", not “{wanted}”" if wanted else "")
    for spec in page.buttons:
        push = next((line for line in inside if spec.matches(line.text)), None)
        if push is not None:
            buttons.append(_push(frame, push, spec.role))
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


def _see_sheet_of_app(
    frame: Frame, page: Page, lines: Sequence[TextLine], region: Box, wanted: str | None
) -> Sighting | None:
    """The sheet of one app (macOS 26): its name as the heading, a switch for each kind of extension that it has, and Done."""
    rows = [
        line for line in lines if _is_row(page, line) or any(squash(line.text) == squash(t.text) for t in page.titles)
    ]
    for row in rows:
        above = [
            line for line in lines if line.box.y1 <= row.box.y0 + 2 and row.box.y0 - line.box.y1 <= 8 * row.box.height
        ]
        done = next(
            (
                line
                for line in lines
                if line.box.y0 >= row.box.y1 and any(spec.matches(line.text) for spec in page.buttons)
            ),
            None,
        )
        if done is None or not above:
            continue
        inner = _up_to(done, region)
        button = _switch(frame, row, row, inner)
        if button is None:
            continue
        others = [other for other in rows if other is not row and _switch(frame, other, other, inner) is not None]
        named = next((line.text for line in above if is_app(line.text, wanted)), None)
        name = above[0].text if wanted is None else named
        button = replace(button, text=name or row.text)
        if others:
            why = "several switches"
        elif name is None:
            why = f"the sheet is not called “{wanted}”"
        else:
            what = {"off": "is off", "on": "is on"}.get(button.state, "cannot be told on from off")
            why = f"the switch of “{name}” {what}"
        own = [*above, row, done]
        return Sighting(
            page.window,
            frame,
            around(own),
            tuple(own),
            app_name=name,
            buttons=(button, _push(frame, done, "other")),
            advice=button if button.state == "off" and name is not None and not others else None,
            why=why,
            language=page.language,
            confidence=0.7,
            rows=(name or row.text,),
        )
    return None


def _up_to(done: TextLine, region: Box) -> Box:
    """A sheet ends a little to the right of its Done: what is further right is on the page below, whose rows have switches too."""
    return Box(region.x0, region.y0, max(region.x0 + 1, min(region.x1, done.box.x1 + 3 * done.box.height)), region.y1)


def _is_row(page: Page, line: TextLine) -> bool:
    return any(squash(line.text) == squash(text) for text in page.rows)


def _heading(page: Page, lines: Sequence[TextLine]) -> TextLine | None:
    """The sheet's title: of several lines with its words the one with the explanation right below it, or the last."""
    found = None
    for line in lines:
        # A row's text may differ from a heading by one letter: "Driver Extension", "Driver Extensions".
        exact = any(squash(line.text) == squash(phrase.text) for phrase in page.titles)
        if not exact and (_is_row(page, line) or not any(alike(line.text, phrase.text) for phrase in page.titles)):
            continue
        below = [
            other
            for other in lines
            if other.box.y0 >= line.box.y1 - 2
            and other.box.y0 - line.box.y1 <= 5 * line.box.height
            and abs(other.box.x0 - line.box.x0) <= 2 * line.box.height
        ]
        if contains(page.bodies, below):
            return line
        found = line
    return found


def _switch_rows(frame: Frame, page: Page, inside: Sequence[TextLine], region: Box) -> list[tuple[str, Button | None]]:
    """(name, its switch if seen) of each row: two lines, the lower one saying what kind of extension it is; where no row
    says so, lines with a switch at their right.
    """
    rows: list[tuple[str, Button | None]] = []
    for line in inside:
        if not _is_row(page, line):
            continue
        name = _above(line, inside)
        if name is not None:
            rows.append((name.text, _switch(frame, name, line, region)))
    if rows:
        return rows
    for line in inside:
        # Or the extension's own name, whatever that is: the switch is level with the middle of both lines.
        below = next((other for other in inside if _above(other, inside) is line), line)
        button = _switch(frame, line, below, region) or _switch(frame, line, line, region)
        if button is not None and not any(known is not None and known.box.overlaps(button.box) for _, known in rows):
            rows.append((line.text, button))
    return rows


def _switch(frame: Frame, name: TextLine, below: TextLine, region: Box) -> Button | None:
    top, bottom = name.box.y0 - name.box.height // 2, below.box.y1 + below.box.height // 2
    strip = Box(max(name.box.x1, below.box.x1) + 4, top, region.x1, bottom)
    widget = find_switch(frame, strip, name.box.height)
    return Button(name.text, "switch", widget.box, state=widget.state) if widget is not None else None


# --- what is behind a row's (⋯) button


def find_more(frame: Frame, switch: Button) -> Button | None:
    """The (⋯) button of a row: the ring right of its switch, as a posted picture of macOS 15 has it. None where there is none."""
    box = switch.box
    strip = Box(box.x1 + 3, box.y0 - box.height // 2, box.x1 + 4 * box.width, box.y1 + box.height // 2)
    found = find_info(frame, strip, max(1, box.height * 3 // 4))
    return Button(switch.text, "more", found.box) if found is not None else None


def see_menu(frame: Frame, page: Page, lines: Sequence[TextLine]) -> Sighting | None:
    """An open menu, known by an item of it that stands on one line by itself. Nothing of it is ever advised."""
    buttons = [
        Button(line.text, spec.role, line.box) for spec in page.buttons for line in lines if spec.matches(line.text)
    ]
    if len(buttons) != 1:  # none; or so many that it is a text about it
        return None
    return Sighting(
        page.window,
        frame,
        buttons[0].box,
        tuple(lines),
        buttons=tuple(buttons),
        why=f"'{buttons[0].text}' is for whoever wants to remove an extension",
        language=page.language,
        confidence=0.7,
    )


# --- pages with (i) buttons


def see_rows(
    frame: Frame, page: Page, lines: Sequence[TextLine], region: Box, wanted: str | None, kind: str | None
) -> Sighting | None:
    """The page that leads to the sheets: a row per kind of extension, or per app."""
    titled = any(alike(line.text, phrase.text) for line in lines for phrase in page.titles)
    marked = any(squash(line.text) == squash(phrase.text) for line in lines for phrase in page.bodies)
    if not marked:
        return None
    written = [line.box for line in lines if len(line.text) > 2]
    kinds = {text for key, texts in page.kinds.items() if kind is None or key == kind for text in texts}
    all_kinds = {text for texts in page.kinds.values() for text in texts}
    below_names = {squash(text) for text in page.rows}
    own_kinds = {squash(text) for text in all_kinds}
    by_kind: list[Button] = []
    by_app: list[Button] = []
    buttons: list[Button] = []
    for line in lines:
        # Which of the two a line is differs by a single letter in English: "Driver Extension", "Driver Extensions".
        # Other languages have one word for both: there the (i) button is level with the row that it belongs to.
        of_app = of_kind = None
        said = [squash(part) for part in line.text.split(",")]  # one app may have extensions of several kinds
        if not below_names.isdisjoint(said) and (name := _above(line, lines)) is not None:
            of_app = _info(frame, name.box.union(line.box), name, line.box.height, region, written)
            off_app = _off_level(of_app, name.box.union(line.box))
        if _one_of(line.text, all_kinds) and (of_app is None or squash(line.text) in own_kinds):
            below = next((other for other in lines if _above(other, lines) is line), None)
            of_kind = _info(frame, line.box, line, line.box.height, region, written)
            off_kind = min(_off_level(of_kind, line.box.union(other.box)) for other in (line, below or line))
        if of_app is not None and of_kind is not None:
            of_app, of_kind = (of_app, None) if off_app < off_kind else (None, of_kind)
        if of_app is not None and is_app(of_app.text, wanted):
            by_app.append(of_app)
        if of_kind is not None and _one_of(line.text, kinds):
            by_kind.append(of_kind)
        buttons += [button for button in (of_app, of_kind) if button is not None]
    if not titled and not buttons:  # where its title is cut off, the page is known by a row with its (i) button
        return None
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


def _one_of(text: str, wanted: Collection[str]) -> bool:
    return any(alike(text, one) for one in wanted)


def _off_level(button: Button | None, row: Box) -> int:
    """How far a button's middle is above or below its row's."""
    return abs(button.box.centre[1] - row.centre[1]) if button is not None else 0


def _info(frame: Frame, row: Box, name: TextLine, height: int, region: Box, texts: Sequence[Box]) -> Button | None:
    strip = Box(row.x1 + 4, row.y0 - height * 2 // 3, region.x1, row.y1 + height * 2 // 3)
    found = find_info(frame, strip, height, texts)
    return Button(name.text, "info", found.box) if found is not None else None


def _above(line: TextLine, lines: Sequence[TextLine]) -> TextLine | None:
    """The line right above, set to the same left edge."""
    return next(
        (
            other
            for other in reversed(lines)
            if other is not line
            and abs(other.box.x0 - line.box.x0) <= line.box.height
            and -line.box.height * 0.6 <= line.box.y0 - other.box.y1 <= line.box.height
            and other.box.y0 < line.box.y0
        ),
        None,
    )
