"""Each format against its golden file, and what each must never do.

After a wanted change: SYSEXT_GOLDEN=write pytest tests/reports/test_reports_signoff_pages.py, and read the difference.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pypdf
import pytest

from harness.reports.signoff.document import SignOff, as_json, sign_off
from harness.reports.signoff.outline import case_link
from harness.reports.signoff.pages import as_html, as_markdown, as_text
from harness.reports.signoff.pdf import as_pdf
from tests.support.signoff_samples import ITEM, config, evidence, other, run, runs, whole

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def signed() -> SignOff:
    return dataclasses.replace(sign_off(whole()), program="0.0.0")


@pytest.fixture(scope="module")
def pdf(signed: SignOff) -> bytes:
    return as_pdf(signed)


def same(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("SYSEXT_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def pdf_text(data: bytes) -> str:
    reader = pypdf.PdfReader(io.BytesIO(data))
    return "\n".join(page.extract_text() for page in reader.pages) + "\n"


def test_text(signed: SignOff) -> None:
    same("signoff.txt", as_text(signed))


def test_markdown(signed: SignOff) -> None:
    same("signoff.md", as_markdown(signed))


def test_html(signed: SignOff) -> None:
    same("signoff.html", as_html(signed))


def test_json(signed: SignOff) -> None:
    same("signoff.json", as_json(signed))


def test_pdf(pdf: bytes) -> None:
    assert pdf.startswith(b"%PDF-")
    same("signoff.pdf.txt", pdf_text(pdf))
    small = sign_off(evidence(config=config()))
    assert as_pdf(small) == as_pdf(small)  # the same bytes


class Page(HTMLParser):
    """Tags, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "style") or key.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_needs_nothing_and_runs_nothing(signed: SignOff) -> None:
    text = as_html(signed)
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "b"} & set(page.tags)
    assert set(page.links) == {
        "https://example.com/notes?a=1&b=2",
        *(link for link in page.links if link.startswith("artifacts/run-")),
    }
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "url(" not in text
    assert any("<b>on every</b>" in part for part in page.texts)


NASTY = '<script>alert(1)</script> & "x" | [a](javascript:b) `c` *d* \x1b[2J\n# e \u202e'


def test_texts_of_others_are_texts_everywhere() -> None:
    signed = sign_off(
        evidence(
            config=config({**ITEM, "title": NASTY, "scenarios": ["*"]}, name=NASTY),
            runs=(run(1, scenario=NASTY, host=NASTY, cause=NASTY, verdict="product-failure", run="../..", case=NASTY),),
            app=NASTY,
        )
    )
    html = as_html(signed)
    assert "<script" not in html
    assert "script" not in Page(html).tags
    assert not [link for link in Page(html).links if "javascript" in link and not link.startswith("artifacts/")]
    markdown = as_markdown(signed)
    assert "<script" not in re.sub(r"\\<", "", markdown)
    assert not re.search(r"(?<!\\)\]\(javascript", markdown)
    assert all(line.startswith("|") == line.endswith("|") for line in markdown.splitlines())
    for text in (html, markdown, as_text(signed)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<script>alert(1)</script>" in pdf_text(as_pdf(signed)).replace("\n", "")


@pytest.mark.parametrize(
    ("run", "case", "link"),
    [
        ("2026-1", "first-15", "https://x/2026-1/first-15/"),
        ("..", "../../etc/passwd", "https://x/-/..-..-etc-passwd/"),
        ('"><b>', "é ?#%", "https://x/---b-/-----/"),
        ("", "", "https://x/-/-/"),
    ],
)
def test_links_lead_to_case_files_and_nowhere_else(run: str, case: str, link: str) -> None:
    assert case_link("https://x/{run}/{case}/", run, case) == link


def test_a_name_in_other_letters_is_told_not_lost(signed: SignOff, pdf: bytes) -> None:
    text = pdf_text(pdf)
    assert "Łukasz U+0418U+0432" in text.replace("\n", "")
    assert "font lacks" in text
    assert "Łukasz Иванов" in as_html(signed)


def test_a_rehearsal_is_stamped_on_every_page() -> None:
    signed = sign_off(other(whole(), rehearsal=True))
    pages = pypdf.PdfReader(io.BytesIO(as_pdf(signed))).pages
    assert len(pages) >= 3
    assert all("REHEARSAL" in page.extract_text() for page in pages)
    assert 'class="stamp"' in as_html(signed)
    for text in (as_html(signed), as_markdown(signed), as_text(signed)):
        assert "REHEARSAL, not a sign-off" in text
    assert "REHEARSAL" not in as_html(sign_off(whole()))


def test_many_runs_are_listed_up_to_a_limit() -> None:
    signed = sign_off(evidence(config=config({**ITEM, "freshness_days": 3650}), runs=runs(700)))
    assert "The last 500 of 700" in as_markdown(signed)
    assert as_html(signed).count("artifacts/run-") == 500
