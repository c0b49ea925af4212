"""A sign-off as text, Markdown, and one HTML file that needs nothing beside it.

Names and texts come from files, so they are escaped, and freed of what would move a terminal's cursor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from harness.reports.signoff.deciding import Decided
from harness.reports.signoff.document import SignOff
from harness.reports.signoff.outline import Block, Bullets, Cell, Heading, Paragraph, Table, outline

MOST_TEXT = 2000
_MARKS = re.compile(r"([\\`*_\[\]<>|#~&])")


def as_text(signed: SignOff) -> str:
    """The headline and a line per item, for a terminal."""
    lines = [plain(signed.decision.headline), f"{plain(signed.evidence.app)} {plain(signed.evidence.release)}"]
    width = max((len(item.id) for item in signed.decision.items), default=0)
    for item in signed.decision.items:
        lines.append(f"  {plain(item.id).ljust(width)}  {item.status:15}  {plain(item.says)}")
        lines += [f"  {'':{width}}  {'':15}  {text}" for text in _more(item)]
    lines.append(f"digest {signed.digest}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _more(item: Decided) -> Iterator[str]:
    if item.waiver:
        yield f"waiver: {plain(item.waiver)}"
    for reason, runs in item.excluded[:8]:
        yield f"left out: {runs} run{'' if runs == 1 else 's'} {plain(reason)}"
    if len(item.excluded) > 8:
        yield f"left out: {sum(runs for _, runs in item.excluded[8:])} runs for other reasons"
    for warning in item.warnings[:8]:
        yield f"look at this: {plain(warning)}"


def as_markdown(signed: SignOff) -> str:
    """For a wiki or GitHub."""
    parts = [_markdown(block) for block in outline(signed)]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_marked(Cell(block.text))}"
    if isinstance(block, Bullets):
        return "\n".join(f"- {_marked(cell)}" for cell in block.cells)
    if isinstance(block, Table):
        rows = [" | ".join(block.head), " | ".join("---" for _ in block.head)]
        rows += [" | ".join(_marked(cell) for cell in row) for row in block.rows]
        return "\n".join(f"| {row} |" for row in rows)
    text = "".join(_marked(cell) for cell in block.cells)
    return f"**{text}**" if block.tone in ("good", "bad") else text


def _marked(cell: Cell) -> str:
    text = _MARKS.sub(r"\\\1", plain(cell.text))
    if cell.tone in ("good", "bad", "unsure", "waived"):
        text = f"**{text}**"
    return f"[{text}](<{cell.link.replace('<', '%3C').replace('>', '%3E')}>)" if cell.link else text


def as_html(signed: SignOff) -> str:
    """One self-contained page: no script, nothing loaded; light, dark, and for paper."""
    title = f"Sign-off: {signed.evidence.app} {signed.evidence.release}"
    stamp = '<div class="stamp" aria-hidden="true">REHEARSAL</div>' if signed.evidence.rehearsal else ""
    body = "\n".join(_html(block) for block in outline(signed))
    return _HEAD.replace("{title}", escape(plain(title))) + f"\n{stamp}{body}\n</body></html>\n"


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(plain(block.text))}</h{block.level}>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{_inline(cell)}" for cell in block.cells) + "</ul>"
    if isinstance(block, Paragraph):
        return f'<p class="{block.tone}">{"".join(_inline(cell) for cell in block.cells)}</p>'
    head = "".join(f"<th>{escape(text)}" for text in block.head)
    rows = "\n".join("<tr>" + "".join(f"<td>{_inline(cell)}" for cell in row) + "</tr>" for row in block.rows)
    return f'<div class="wide"><table><tr>{head}</tr>\n{rows}</table></div>'


def _inline(cell: Cell) -> str:
    text = escape(plain(cell.text))
    if cell.link:
        text = f'<a href="{escape(cell.link)}">{text}</a>'
    return text if cell.tone == "plain" else f'<span class="{cell.tone}">{text}</span>'


def plain(text: str) -> str:
    """Without control characters, and no longer than a page takes."""
    text = text[:MOST_TEXT]
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>
:root { --ink: #1c1c1e; --paper: #fff; --line: #e3e3e6; --good: #137333; --bad: #b00020; --unsure: #8a5a00; --mark: #fff3cd }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e8; --paper: #18181a; --line: #3a3a3e; --good: #6fd08c; --bad: #ff8a8a; --unsure: #f0c060; --mark: #4a3c10 }
}
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; padding: 0 1em; max-width: 70em; color: var(--ink);
  background: var(--paper) }
h2 { margin-top: 2em; font-size: 1.15em; break-after: avoid }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3em .9em .3em 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere }
tr { break-inside: avoid }
a { color: inherit }
.good, .bad, .unsure, .waived { font-weight: 600 }
.good { color: var(--good) } .bad { color: var(--bad) } .unsure, .waived { color: var(--unsure) }
p.good, p.bad { font-size: 1.3em }
p.warning, p.waived { background: var(--mark); color: var(--ink); padding: .5em 1em }
.stamp { position: fixed; top: 40%; left: 0; right: 0; text-align: center; font-size: 12vw; font-weight: 800; opacity: .12;
  transform: rotate(-20deg); pointer-events: none }
@media print {
  :root { --ink: #000; --paper: #fff; --line: #bbb; --good: #137333; --bad: #b00020; --unsure: #8a5a00; --mark: #fff3cd }
  body { margin: 0; max-width: none; font-size: 10pt } .wide { overflow: visible }
}
</style></head><body>"""
