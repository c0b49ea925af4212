"""Texts, paragraphs, phrases, keys, frames: without any pixels of macOS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.screen import Box, Frame, TextLine, UnsupportedCharacter, changed_regions, is_black, load_catalog, save_png
from harness.screen.catalog import Phrase, default_catalog
from harness.screen.frames import same
from harness.screen.keymap import keysym, strokes
from harness.screen.layout import find, find_any, paragraphs
from harness.screen.ocr import alike, normalise, squash
from harness.screen.recognise import is_app


def line(text: str, x: int, y: int, width: int | None = None, height: int = 16) -> TextLine:
    return TextLine(text, Box(x, y, x + (width or 8 * len(text)), y + height), 1.0)


@pytest.mark.parametrize(
    ("read", "wanted", "expected"),
    [
        ("Allow", "Allow", True),
        ("ALLOW", "allow", True),
        ("Don’t Allow", "Don't Allow", True),
        ("Don'tAllow", "Don't Allow", True),
        ("Dont Allow", "Don't Allow", True),
        ("OpenSystemSettings", "Open System Settings", True),
        ("Open System Settlngs", "Open System Settings", True),
        ("Use Password..", "Use Password…", True),
        ("Don't Allow", "Allow", False),
        ("Allow all", "Allow", False),
        ("Al1ow", "Allow", False),
        ("OK", "0K", False),
        ("Open System Preferences", "Open System Settings", False),
    ],
)
def test_whole_texts_are_compared(read: str, wanted: str, expected: bool) -> None:
    assert alike(read, wanted) is expected


@given(st.text(max_size=40), st.text(max_size=40))
def test_normalising_is_stable(one: str, other: str) -> None:
    assert normalise(normalise(one)) == normalise(one)
    assert " " not in squash(one)
    assert alike(one, other) == alike(other, one) or min(len(squash(one)), len(squash(other))) < 9


@given(st.text(alphabet="abcdefg ", min_size=1, max_size=30))
def test_short_texts_must_be_equal(text: str) -> None:
    if squash(text) and len(squash(text)) < 8:
        assert not alike(text + "x", text)


def test_phrases_are_found_over_lines_with_their_holes() -> None:
    phrase = Phrase("{app} would like to use a new network extension")
    group = paragraphs(
        [
            line("“My Fine", 100, 10, 90),
            line("App” would liketo use", 100, 28, 110),
            line("a new network extension", 100, 46),
        ]
    )
    assert len(group) == 1
    match = find(phrase, group[0])
    assert match is not None
    assert match.holes["app"] == "My Fine App"
    assert len(match.lines) == 3


@pytest.mark.parametrize("kind", ["network", "driver", "endpoint security", "camera", "system"])
def test_a_prompt_for_any_kind_of_extension_is_one(kind: str) -> None:
    """How macOS words it for endpoint security is not known: no kind is taken for granted."""
    page = next(page for page in default_catalog().pages if page.window == "alert-new-extension")
    lines = [line("“Example” would like to", 100, 10), line(f"use a new {kind} extension", 96, 28)]
    found = find_any(page.titles, paragraphs(lines))
    assert found is not None
    assert found.holes["app"] == "Example"


def test_a_phrase_begins_at_the_beginning_of_a_line() -> None:
    phrase = Phrase("System Extension Blocked")
    assert find(phrase, paragraphs([line("What “System Extension Blocked” means", 0, 0)])[0]) is None
    assert find(phrase, paragraphs([line("System Extension Blocked", 0, 0)])[0]) is not None


def test_paragraphs_do_not_run_over_gaps_columns_or_sizes() -> None:
    left = [line("one two three", 0, 0), line("four five six", 0, 20)]
    right = [line("other window", 400, 5), line("goes on here", 400, 25)]
    below = [line("far away text", 0, 90)]
    assert sorted(len(group.lines) for group in paragraphs([*left, *right, *below])) == [1, 2, 2]


@given(
    st.lists(st.tuples(st.text(max_size=12), st.integers(0, 500), st.integers(0, 500), st.integers(1, 60)), max_size=30)
)
def test_paragraphs_keep_every_line_once(spec: list[tuple[str, int, int, int]]) -> None:
    lines = [line(text, x, y, 50, height) for text, x, y, height in spec]
    grouped = [id(item) for group in paragraphs(lines) for item in group.lines]
    assert sorted(grouped) == sorted(map(id, lines))
    for group in paragraphs(lines):
        for page in default_catalog().pages:
            for phrase in (*page.titles, *page.bodies):
                find(phrase, group)


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("LuLu", "LuLu", True),
        ("Lulu.app", "LuLu", True),
        ("LuLu2", "LuLu", False),
        ("MitmproxyRedirector", "Mitmproxy Redirector", True),
        ("Mitmproxv Redlrector", "Mitmproxy Redirector", True),
        ("Mitmproxy", "Mitmproxy Redirector", False),
        ("Other App", "Mitmproxy Redirector", False),
        (None, "LuLu", False),
        (None, None, True),
    ],
)
def test_names_of_apps(name: str | None, wanted: str | None, expected: bool) -> None:
    assert is_app(name, wanted) is expected


def test_keys() -> None:
    assert strokes("aA1!\n") == [(97, False), (65, True), (49, False), (33, True), (0xFF0D, False)]
    assert keysym("command") == 0xFFE9
    assert keysym("option") == 0xFFE7
    with pytest.raises(UnsupportedCharacter):
        keysym("hyper")
    for code in range(0x20, 0x7F):
        assert strokes(chr(code))[0][0] == code


def frame(pixels: np.ndarray) -> Frame:
    return Frame(pixels, 0, 0.0)


def test_changed_regions_are_tight_and_small_ones_left_out() -> None:
    before = np.zeros((400, 600, 3), np.uint8)
    after = before.copy()
    after[100:260, 203:411] = 200
    after[2:12, 560:598] = 90  # a clock
    assert changed_regions(frame(before), frame(after)) == [Box(203, 100, 411, 260)]
    assert changed_regions(frame(before), frame(before)) == []
    assert changed_regions(frame(before), frame(np.zeros((10, 10, 3), np.uint8))) == [Box(0, 0, 10, 10)]
    assert not same(frame(before), frame(after))
    assert same(frame(before), frame(after), Box(0, 300, 600, 400))
    assert is_black(frame(before))
    assert not is_black(frame(after))


@given(st.integers(0, 500), st.integers(0, 300), st.integers(97, 300), st.integers(49, 200))
def test_a_changed_rectangle_is_found(x: int, y: int, width: int, height: int) -> None:
    before = np.zeros((337, 613, 3), np.uint8)
    after = before.copy()
    after[y : y + height, x : x + width, 1] = 1
    box = Box(x, y, min(613, x + width), min(337, y + height))
    expected = [box] if box.width >= 96 and box.height >= 48 else []
    assert changed_regions(frame(before), frame(after)) == expected


def test_pictures_are_saved_as_they_are(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(7).integers(0, 255, (20, 30, 3), np.uint8)
    path = save_png(pixels, tmp_path / "deep" / "x.png")
    assert (np.asarray(Image.open(path)) == pixels).all()
    assert [entry.name for entry in path.parent.iterdir()] == ["x.png"]


def test_own_windows_can_be_described(tmp_path: Path) -> None:
    file = tmp_path / "eo.toml"
    file.write_text(
        'language = "eo"\nnever = ["Nuligi"]\n[[page]]\nwindow = "alert-blocked"\nlayout = "dialog"\n'
        'titles = ["Sistema etendo blokita"]\n'
        'buttons = [{ role = "ok", texts = ["Bone"] }, { role = "open-settings", texts = ["Malfermi"], partner = "ok", advise = true }]\n'
    )
    catalog = load_catalog([file])
    assert catalog.pages[-1].language == "eo"
    assert catalog.forbidden("NULIGI")
    assert catalog.forbidden("Don’t Allow")
    assert not catalog.forbidden("Allow")


@pytest.mark.parametrize(
    "text",
    [
        "page = 3",
        '[[page]]\nwindow = "x"\nlayout = "circle"',
        '[[page]]\nlayout = "dialog"',
        '[[page]]\nwindow = "x"\nlayout = "dialog"\ntitles = "text"',
        '[[page]]\nwindow = "x"\nlayout = "dialog"\nbuttons = [{ role = "approve", texts = ["Yes"], advise = true }]',
        '[[page]]\nwindow = "x"\nlayout = "dialog"\nbuttons = [{ role = "nod", texts = ["Yes"] }]',
        "not toml",
    ],
)
def test_bad_descriptions_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        load_catalog([file])
    assert "bad.toml" in str(refused.value)
