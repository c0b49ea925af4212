"""An extension is removed in Settings: by the menu behind its row's (⋯) button, and never by a walk that was to do anything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.walking import DEVELOPER, World, world
from harness.approval import walk as walk_module
from harness.errors import UsageError
from harness.screen import Box, Button, Frame, TextLine, default_catalog, recognise
from harness.screen.recognise_settings import find_more, see_menu
from harness.screen.sighting import MENU
from harness.simulator.display import settings_window
from harness.simulator.display.gallery import APP, EXTENSIONS
from harness.simulator.display.settings_window import REMOVE
from harness.waiting import Deadline
from tests.support.drawn_reader import DrawnReader


@pytest.fixture(scope="module")
def drawn() -> Iterator[DrawnReader]:
    with pytest.MonkeyPatch.context() as patch:
        reader = DrawnReader()
        reader.install(patch)
        yield reader


def _switched_on(here: World) -> None:
    model = here.mac.model
    model.rows = [dataclasses.replace(row, waiting=False, enabled=True) for row in model.rows]


@pytest.mark.parametrize(
    ("version", "variations", "look"),
    [
        ("15", "rows=12,password=touch-id", {"appearance": "dark"}),
        ("26", f"row-name=developer:{DEVELOPER},page=top,password=security-agent", {"scale": 2}),
    ],
)
def test_removed(
    version: str, variations: str, look: dict[str, object], drawn: DrawnReader, quick: None, tmp_path: Path
) -> None:
    names = (APP,) if "developer" in variations else (APP, "Zebra")  # two of one name could not be told apart
    with world(version, variations, reader=drawn, folder=tmp_path, names=names, **look) as here:  # type: ignore[arg-type]
        _switched_on(here)
        outcome = here.approver.remove_in_settings(Deadline(120))
        assert outcome.approvable is True, outcome.why
        assert [row.app_name for row in here.mac.model.rows] == [*names[1:]]
        assert here.mac.named("other-extension") == []
        assert not any("switch" in hit for hit in here.mac.hits)
        assert here.mac.hits.count(f"settings/{REMOVE}") == 1
        assert here.mac.do(lambda: here.mac.desktop._settings) is None
        pressed = here.mac.hits
        assert here.approver.remove_in_settings(Deadline(60)).approvable is True  # gone already: nothing to press
        assert here.mac.hits == pressed


def test_an_open_menu_is_known_and_left_alone_by_a_walk_that_approves(
    drawn: DrawnReader, quick: None, tmp_path: Path
) -> None:
    with world("15", reader=drawn, folder=tmp_path) as here:
        before = here.screen.frame(Deadline(10))
        here.mac.open(EXTENSIONS)
        opened = here.screen.wait_for_change(before, Deadline(10))
        assert opened is not None
        window = here.mac.desktop._settings

        def open_menu() -> None:
            window._open_menu(here.mac.model.rows[0])  # type: ignore[union-attr]
            here.mac.desktop.refresh()

        here.mac.do(open_menu)
        frame = here.screen.wait_for_change(opened, Deadline(10))
        assert frame is not None
        seen = recognise(frame, drawn, app_name=APP)
        assert (seen.window, seen.advice, [button.role for button in seen.buttons]) == (MENU, None, ["remove"])
        for wanted in ("on", "off"):
            walk = walk_module.Walk("url", wanted=wanted)
            assert MENU in walk.ignored
            assert not here.approver.walker.act(walk, seen, Deadline(5))
        unasked = walk_module.Walk(
            "url", wanted="removed"
        )  # a menu that this walk has not opened may be of another row
        assert not here.approver.walker.act(unasked, seen, Deadline(5))
        assert here.mac.hits == []
        outcome = here.approver.approve_in_settings(Deadline(120), enter="url")
        assert outcome.approvable is True, outcome.why
        assert not any(REMOVE in hit for hit in here.mac.hits)


@pytest.mark.parametrize("missing", ["words", "button"])
def test_a_settings_that_offers_no_removal_is_told(
    missing: str, drawn: DrawnReader, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk_module, "ROWS_COME", 1.0)
    if missing == "words":
        monkeypatch.setattr(settings_window, "REMOVE", "Show in Finder")
    else:
        monkeypatch.setattr(settings_window, "more", lambda *_: None)
    with world("15", reader=drawn, folder=tmp_path) as here:
        _switched_on(here)
        outcome = here.approver.remove_in_settings(Deadline(120))
        assert outcome.approvable is False
        assert outcome.why.startswith(walk_module.NOT_OFFERED), outcome.why
        assert ("no (⋯) button" in outcome.why) is (missing == "button")
        assert len(here.mac.model.rows) == 1
        assert here.mac.model.passwords == []


def test_a_removal_that_does_not_happen_is_no_removal(
    drawn: DrawnReader, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk_module, "PATIENCE", 1.0)
    with world("15", reader=drawn, folder=tmp_path) as here:
        _switched_on(here)
        here.mac.model.deaf = True
        outcome = here.approver.remove_in_settings(Deadline(120))
        assert outcome.approvable is False
        assert not outcome.why.startswith("the oracle")
        assert len(here.mac.model.rows) == 1


def test_before_macos_15_there_is_nothing_to_walk_to(drawn: DrawnReader, tmp_path: Path) -> None:
    with world("14", reader=drawn, folder=tmp_path) as here, pytest.raises(UsageError, match="macOS 14"):
        here.approver.remove_in_settings(Deadline(60))


_MENU = next(page for page in default_catalog().pages if page.layout == "menu")
_LINE = st.builds(
    TextLine,
    st.one_of(st.text(max_size=24), st.sampled_from(["Delete Extension", "delete extension...", "Delete", "Done"])),
    st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), *(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30), st.integers(1, 20))),
    st.just(0.9),
)  # fmt: skip


@given(st.lists(_LINE, max_size=6), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_whatever_is_read_a_menu_is_told_by_one_whole_line_and_advises_nothing(
    lines: list[TextLine], seed: int
) -> None:
    frame = Frame(np.random.default_rng(seed).integers(0, 255, (80, 100, 3), np.uint8), 0, 0.0)
    seen = see_menu(frame, _MENU, lines)
    fitting = [line for line in lines if any(spec.matches(line.text) for spec in _MENU.buttons)]
    assert (seen is not None) is (len(fitting) == 1)
    if seen is not None:
        assert seen.advice is None
        assert seen.buttons[0].box == fitting[0].box
    for line in lines:
        found = find_more(frame, Button(line.text, "switch", line.box, state="on"))
        assert found is None or found.role == "more"
