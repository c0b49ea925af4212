"""A sign-off as PDF. The same sign-off gives the same bytes: no clock, no random identifier.

Set in Bitstream Vera, which comes with reportlab and is embedded: Latin letters. What it lacks is written as U+0416, and a line at
the end says so.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from harness.reports.signoff.document import SignOff
from harness.reports.signoff.outline import Block, Bullets, Cell, Heading, Paragraph, Table, outline
from harness.reports.signoff.pages import plain

_FONTS = {"Vera": "Vera.ttf", "VeraBd": "VeraBd.ttf"}
_WRITTEN = {"→": "->", "✓": "yes", "\u202f": " ", "\u2009": " ", "\u00a0": " "}
_COLOURS = {"good": "#137333", "bad": "#b00020", "unsure": "#8a5a00", "waived": "#8a5a00", "warning": "#8a5a00"}
_SIZES = {1: 17.0, 2: 12.0}
_MARGIN = 42.0
_MOST_LINES = 50
"""In a cell: a row that is higher than a page cannot be set."""


def as_pdf(signed: SignOff) -> bytes:
    """The report on A4."""
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import SimpleDocTemplate

    known = _known()
    writer = _Writer(known, A4[0] - 2 * _MARGIN)
    story = [part for block in outline(signed) for part in writer.block(block)]
    if writer.missing:
        story += writer.block(
            Paragraph(
                (Cell("Characters that this file's font lacks are written as U+…; the HTML page has them."),), "quiet"
            )
        )
    if writer.cut:
        story += writer.block(
            Paragraph((Cell("Texts that end with … were too long for a cell: the HTML page has them."),))
        )
    into = io.BytesIO()
    what = f"{signed.evidence.app} {signed.evidence.release}"
    document = SimpleDocTemplate(
        into,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=writer.text(f"Sign-off: {what}"),
        author="sysext-harness",
        invariant=1,
    )
    footer = writer.text(
        f"{what}, as of {signed.evidence.as_of[:16].replace('T', ' ')} UTC, digest {signed.digest[:16]}…"
    )

    def page(canvas: Any, _: Any) -> None:
        canvas.saveState()
        if signed.evidence.rehearsal:
            canvas.setFont("VeraBd", 80)
            canvas.setFillGray(0.9)
            canvas.translate(A4[0] / 2, A4[1] / 2)
            canvas.rotate(50)
            canvas.drawCentredString(0, 0, "REHEARSAL")
            canvas.rotate(-50)
            canvas.translate(-A4[0] / 2, -A4[1] / 2)
        canvas.setFont("Vera", 7)
        canvas.setFillGray(0.4)
        canvas.drawString(_MARGIN, _MARGIN / 2, footer[:140])
        canvas.drawRightString(A4[0] - _MARGIN, _MARGIN / 2, f"page {canvas.getPageNumber()}")
        canvas.restoreState()

    document.build(story, onFirstPage=page, onLaterPages=page)
    return into.getvalue()


@cache
def _known() -> frozenset[int]:
    """Register the fonts; the characters that they have."""
    from reportlab.lib.fonts import addMapping
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    for name, file in _FONTS.items():
        pdfmetrics.registerFont(TTFont(name, file))
    for italic in (0, 1):
        addMapping("Vera", 0, italic, "Vera")
        addMapping("Vera", 1, italic, "VeraBd")
    return frozenset(pdfmetrics.getFont("Vera").face.charToGlyph)


class _Writer:
    """Blocks as reportlab's flowables; every text is escaped, so that none of it is markup."""

    def __init__(self, known: frozenset[int], width: float) -> None:
        self.known = known
        self.width = width
        self.missing = False
        self.cut = False

    def text(self, text: str) -> str:
        """In characters that the font has."""
        parts = []
        for char in plain(text):
            written = _WRITTEN.get(char, char)
            if ord(written[0]) in self.known:
                parts.append(written)
            else:
                self.missing = True
                parts.append(f"U+{ord(char):04X}")
        return "".join(parts)

    def block(self, block: Block) -> list[Any]:
        from reportlab.platypus import ListFlowable, Spacer

        if isinstance(block, Heading):
            return [
                Spacer(1, 8),
                self._paragraph(f"<b>{escape(self.text(block.text))}</b>", _SIZES.get(block.level, 10.0)),
            ]
        if isinstance(block, Bullets):
            items = [self._paragraph(self.cell(cell), 8.5) for cell in block.cells]
            return [
                ListFlowable(
                    items, bulletType="bullet", start="–", bulletFontName="Vera", bulletFontSize=8, leftIndent=12
                )
            ]
        if isinstance(block, Paragraph):
            large = block.tone in ("good", "bad")
            return [
                self._paragraph("".join(self.cell(cell, block.tone) for cell in block.cells), 13.0 if large else 9.0)
            ]
        return [Spacer(1, 4), self._table(block), Spacer(1, 4)]

    def cell(self, cell: Cell, tone: str = "plain", *, most: int | None = None) -> str:
        """As reportlab's own markup."""
        written = self.text(cell.text)
        if most is not None and len(written) > most:
            written, self.cut = written[: most - 1] + "…", True
        text = escape(written)
        if cell.link:
            text = f"<link href={quoteattr(cell.link)}><u>{text}</u></link>"
        tone = cell.tone if cell.tone != "plain" else tone
        if tone in _COLOURS:
            text = f'<font color="{_COLOURS[tone]}">{text}</font>'
        return f"<b>{text}</b>" if tone in ("good", "bad", "unsure", "waived") else text

    def _paragraph(self, markup: str, size: float) -> Any:
        from reportlab.lib.styles import ParagraphStyle
        from reportlab.platypus import Paragraph as Flowing

        style = ParagraphStyle(
            f"s{size:g}", fontName="Vera", fontSize=size, leading=size * 1.35, spaceAfter=size * 0.4, splitLongWords=1
        )
        return Flowing(markup, style)

    def _table(self, block: Table) -> Any:
        from reportlab.lib.colors import HexColor
        from reportlab.platypus import LongTable

        rows = [[self._paragraph(f"<b>{escape(text)}</b>", 7.5) for text in block.head]]
        whole = sum(block.widths)
        widths = [self.width * part / whole for part in block.widths]
        most = [max(20, int((width - 6) / 5.5) * _MOST_LINES) for width in widths]
        rows += [
            [self._paragraph(self.cell(cell, most=fits), 7.5) for cell, fits in zip(row, most, strict=True)]
            for row in block.rows
        ]
        table = LongTable(rows, colWidths=widths, repeatRows=1)
        table.setStyle(
            [
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor("#c8c8cc")),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 6),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
            ]
        )
        return table
