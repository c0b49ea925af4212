"""The history for people: text for a terminal, and one HTML file that needs nothing beside it.

Names and texts come from files, so they are escaped, and freed of what would move a terminal's cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from html import escape
from itertools import groupby

from harness.history.intervals import percent, plural
from harness.history.rates import Cell, Compared, Page

_EPOCH = date(1970, 1, 1)
_SIMULATED = "SIMULATED Macs. Nothing here signs a release off."
_MOST_BARS = 60
_STEP, _HEIGHT = 3, 28  # pixels


def as_text(page: Page) -> str:
    """Rates, first sightings and the comparison, as aligned lines."""
    lines = [_SIMULATED if page.simulated else "Real Macs."]
    lines.append(
        f"{plural(page.runs, 'run', none='0')}; failure rates with {page.method} intervals at {page.confidence:.0%}."
    )
    if not page.cells:
        lines.append(
            "Runs on real Macs are shown without --simulated." if page.simulated else "--simulated shows the others."
        )
    for scenario, cells in groupby(page.cells, key=lambda cell: cell.series.scenario):
        lines += ["", plain(scenario)]
        lines += _table([_row(cell) for cell in cells])
    if page.first_seen:
        lines += ["", "Causes, the newest first:"]
        lines += _table(
            [
                [
                    plain(one.code),
                    f"first seen {one.first:%Y-%m-%d}",
                    f"in {plain(one.series.release)} on macOS {plain(one.series.macos)}",
                    f"{one.runs}×",
                ]
                for one in page.first_seen
            ]
        )
    if page.compared_by:
        lines += ["", f"Compared by {page.compared_by}:"]
        lines += _table([_compared_row(one) for one in page.compared]) or ["  no series that both have"]
    return "\n".join(lines) + "\n"


def as_html(page: Page) -> str:
    """One self-contained page: no script, nothing loaded."""
    parts = [_HEAD, f"<h1>Failure rates: {'simulated' if page.simulated else 'real'} Macs</h1>"]
    if page.simulated:
        parts.append(f'<p class="simulated">{escape(_SIMULATED)}</p>')
    parts.append(
        f"<p>{plural(page.runs, 'run', none='0')}. Intervals: {escape(page.method)}, {page.confidence:.0%}. A bar is a day or more; its dark "
        f"part is what failed. Made {page.made:%Y-%m-%d %H:%M} UTC.</p>"
    )
    if page.compared_by:
        rows = [_cells_html(_compared_row(one), one.comparison.finding) for one in page.compared]
        head = "<tr><th>finding<th>series<th>before<th>after<th>p<th>corrected</tr>"
        parts.append(f"<h2>Two releases</h2><p>{escape(page.compared_by)}</p><table>{head}{''.join(rows)}</table>")
    for scenario, cells in groupby(page.cells, key=lambda cell: cell.series.scenario):
        head = (
            "<tr><th>macOS<th>release<th>lane<th>provider<th>image<th>failed<th>rate<th>interval<th>trend"
            "<th>first failure<th>causes<th>days</tr>"
        )
        rows = [_cell_html(cell) for cell in cells]
        parts.append(f"<h2>{escape(plain(scenario))}</h2><table>{head}{''.join(rows)}</table>")
    if page.first_seen:
        rows = [
            f"<tr><td>{escape(plain(one.code))}<td>{one.first:%Y-%m-%d %H:%M}<td>{escape(plain(one.series.release))}"
            f"<td>{escape(plain(one.series.macos))}<td>{escape(plain(one.series.scenario))}<td>{one.runs}</tr>"
            for one in page.first_seen
        ]
        head = "<tr><th>cause<th>first seen (UTC)<th>release<th>macOS<th>scenario<th>times</tr>"
        parts.append(f"<h2>Causes, the newest first</h2><table>{head}{''.join(rows)}</table>")
    return "\n".join(parts) + "\n</body></html>\n"


def sparkline(points: Sequence[tuple[int, int, int]]) -> str:
    """An SVG of (day, failures, runs): a light bar as high as the runs, its dark part what failed. Long times are put
    together, so that there are never more than 60 bars.
    """
    if not points:
        return ""
    first, last = points[0][0], points[-1][0]
    span = -(-(last - first + 1) // _MOST_BARS)
    bars: dict[int, list[int]] = {}
    for day, failures, runs in points:
        bar = bars.setdefault((day - first) // span, [0, 0])
        bar[0] += failures
        bar[1] += runs
    tallest = max(runs for _, runs in bars.values())
    paths: dict[str, list[str]] = {"r": [], "f": []}
    for place, (failures, runs) in sorted(bars.items()):
        for kind, number in (("r", runs), ("f", failures)):
            if number:
                tall = max(1, _HEIGHT * number // tallest)
                paths[kind].append(f"M{place * _STEP} {_HEIGHT}v-{tall}h{_STEP - 1}v{tall}z")
    said = (
        f"{_date(first)} to {_date(last)}, {span} day{'s' if span > 1 else ''} a bar, at most {plural(tallest, 'run')}"
    )
    drawn = "".join(f'<path class="{kind}" d="{"".join(path)}"/>' for kind, path in paths.items() if path)
    return f'<svg width="{_MOST_BARS * _STEP}" height="{_HEIGHT}" role="img"><title>{said}</title>{drawn}</svg>'


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)


def plain(text: str) -> str:
    """Without control characters, cut to what fits a line."""
    text = text[:120]
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def _row(cell: Cell) -> list[str]:
    series = cell.series
    row = [
        f"macOS {plain(series.macos)}",
        plain(series.release),
        plain(series.lane),
        plain(series.provider),
        _short(series.image),
        f"{cell.failures}/{cell.runs}",
        percent(cell.rate) if cell.runs else "–",
        f"{percent(cell.interval.low)}..{percent(cell.interval.high)}" if cell.runs else "no runs that count",
        _trend_word(cell),
    ]
    if cell.first_failure:
        row.append(f"since {cell.first_failure:%Y-%m-%d}: {_causes(cell)}")
    else:
        row.append("")
    row[-1] = "; ".join(part for part in (row[-1], _others(cell)) if part)
    return row


def _cell_html(cell: Cell) -> str:
    series = cell.series
    texts = [series.macos, series.release, series.lane, series.provider, series.image, f"{cell.failures}/{cell.runs}"]
    texts.append(percent(cell.rate) if cell.runs else "–")
    texts.append(f"{percent(cell.interval.low)}..{percent(cell.interval.high)}" if cell.runs else "no runs that count")
    texts.append(_trend_word(cell))
    texts.append(f"{cell.first_failure:%Y-%m-%d}" if cell.first_failure else "")
    texts.append("; ".join(part for part in (_causes(cell), _others(cell)) if part))
    return _cells_html(texts, "failing" if cell.failures else "", sparkline(cell.points))


def _cells_html(texts: Iterable[str], kind: str, last: str = "") -> str:
    cells = "".join(f"<td>{escape(plain(text))}" for text in texts)
    return f'<tr class="{escape(kind.replace(" ", "-"))}">{cells}{f"<td>{last}" if last else ""}</tr>'


def _compared_row(one: Compared) -> list[str]:
    series, found = one.series, one.comparison
    where = f"{series.scenario}, macOS {series.macos}, {series.lane}, {series.provider}, {_short(series.image)}"
    if series.faults:
        where += f", with {series.faults}"
    return [
        found.finding,
        plain(where),
        f"{plain(one.before)}: {found.failures_a}/{found.runs_a}",
        f"{plain(series.release)}: {found.failures_b}/{found.runs_b}",
        f"p = {found.p:.2g}",
        f"corrected {found.adjusted:.2g}",
    ]


def _causes(cell: Cell) -> str:
    named = ", ".join(f"{plain(one.code) or 'no cause named'} {one.runs}×" for one in cell.causes[:3])
    return named + (f" and {len(cell.causes) - 3} more" if len(cell.causes) > 3 else "")


def _others(cell: Cell) -> str:
    parts = [f"{count} {name}" for name, count in sorted(cell.others.items())]
    if cell.known:
        parts.append(f"{cell.known} known")
    if cell.flaky:
        parts.append(f"{cell.flaky} flaky")
    if cell.series.faults:
        parts.append(f"injected: {plain(cell.series.faults)}")
    return ", ".join(parts)


def _trend_word(cell: Cell) -> str:
    return "" if cell.trend.word == "flat" else f"{cell.trend.word} (p = {cell.trend.p:.2g})"


def _short(image: str) -> str:
    """The end of an image's name says which it is."""
    return plain(image.rsplit("/", 1)[-1])[:48]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(len(rows[0]) if rows else 0)]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True) if width).rstrip()
        for row in rows
    ]


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Failure rates</title>
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<style>
:root { --ink: #1c1c1e; --paper: #fff; --line: #e3e3e6; --bad: #b00020; --good: #137333; --bar: #c7d2de; --mark: #fff3cd }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e8; --paper: #18181a; --line: #3a3a3e; --bad: #ff8a8a; --good: #6fd08c; --bar: #46566a; --mark: #4a3c10 }
}
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em; color: var(--ink); background: var(--paper) }
h2 { margin-top: 2em; font-size: 1.1em }
table { border-collapse: collapse }
th, td { text-align: left; padding: .25em .8em .25em 0; border-bottom: 1px solid var(--line); vertical-align: top }
.simulated { background: var(--mark); padding: .5em 1em; font-weight: 600 }
tr.regression td:first-child { color: var(--bad); font-weight: 600 }
tr.improvement td:first-child { color: var(--good); font-weight: 600 }
svg .r { fill: var(--bar) } svg .f { fill: var(--bad) }
</style></head><body>"""
