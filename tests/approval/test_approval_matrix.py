"""Every generation, look, form of the password window and variation of the display: walked to *enabled* by the pointer.

What is written on the screen is known to these tests (drawn_reader.py); `benchmarks/walk_matrix.py` walks the whole product with
the real reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.walking import FORMS, GENERATIONS, LOOKS, OTHERS, Walked, walk
from harness.approval import walk as walk_module
from tests.support.drawn_reader import DrawnReader

# (variations, appearance, scale) per generation: each look with each generation; each form of the password window and each
# other variation on some generations that differ in the pages that follow.
WALKS: dict[str, tuple[tuple[str, str, int], ...]] = {
    "12": (
        ("password=user-empty", "light", 1),
        ("password=touch-id,alert=other-below", "dark", 1),
        ("rows=3", "light", 2),
        ("lock=open,row-name=developer:Example Networks Ltd", "dark", 2),
    ),
    "13": (
        ("password=sheet,page=top", "light", 1),
        ("password=security-agent,rows=12", "dark", 1),
        ("password=user-sheet,settings=same-page", "light", 2),
        ("row-name=developer:Example Networks Ltd,alert=other-beside", "dark", 2),
    ),
    "14": (
        ("password=sheet-unfocused,someone=escape:0.3", "light", 1),
        ("password=user-empty,alert=other-on-top", "dark", 1),
        ("password=touch-id,settings=elsewhere", "light", 2),
        ("rows=3", "dark", 2),
    ),
    "15": (
        ("password=security-agent,rows=3", "light", 1),
        ("password=sheet,alert=other-on-top", "dark", 1),
        ("password=user-sheet,page=top", "light", 2),
        ("password=sheet-unfocused,row-name=developer:Example Networks Ltd,rows=4", "dark", 2),
    ),
    "26": (
        ("password=user-sheet,rows=12", "light", 1),
        ("password=touch-id", "dark", 1),
        ("password=user-empty", "light", 2),
        ("password=security-agent,alert=other-below", "dark", 2),
    ),
}
IMPATIENT = (("26", "password=user-empty,someone=ok:0.5", "dark", 1), ("15", "front=other-window", "light", 1))
"""Walks that come to a stop, and go on by Settings' URL after a while without a window to act on."""
BUTTONS = {"12": "preferences", "13": "settings", "14": "settings", "15": "settings", "26": "settings"}


def test_each_value_is_walked() -> None:
    """The choice above leaves nothing out."""
    assert tuple(WALKS) == GENERATIONS
    for walks in WALKS.values():
        assert {(appearance, scale) for _, appearance, scale in walks} == set(LOOKS)
    texts = [walk[0] for walks in WALKS.values() for walk in walks] + [walk[1] for walk in IMPATIENT]
    parts = {part for text in texts for part in text.split(",")}
    wanted = {f"password={form}" for form in FORMS} | {part for text in OTHERS for part in text.split(",")}
    assert wanted <= parts


@pytest.fixture(scope="module")
def drawn() -> Iterator[DrawnReader]:
    with pytest.MonkeyPatch.context() as patch:
        reader = DrawnReader()
        reader.install(patch)
        yield reader


@pytest.mark.parametrize("version", GENERATIONS)
def test_walks(version: str, drawn: DrawnReader, quick: None) -> None:
    def one(task: tuple[str, str, int]) -> Walked:
        variations, appearance, scale = task
        return walk(version, variations, reader=drawn, appearance=appearance, scale=scale, patience=120)

    with ThreadPoolExecutor(4) as pool:  # a walk is mostly waiting
        walked = list(pool.map(one, WALKS[version]))
    assert {done.variations: done.faults for done in walked if done.faults} == {}
    for done in walked:
        assert done.outcome.why == "the oracle says activated_enabled"
        steps = [step for step in done.outcome.steps if step.what == "click"]
        assert {step.channel for step in steps} <= {"vnc"}
        assert any(hit.startswith(BUTTONS[version]) for hit in done.hits), done.hits
        if "rows=" in done.variations:
            assert [hit for hit in done.hits if hit.endswith("Mitmproxy Redirector")], done.hits


def test_walks_that_come_to_a_stop_go_on_by_the_url(
    drawn: DrawnReader, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk_module, "PATIENCE", 4.0)

    def one(task: tuple[str, str, str, int]) -> Walked:
        version, variations, appearance, scale = task
        return walk(version, variations, reader=drawn, appearance=appearance, scale=scale, patience=120)

    with ThreadPoolExecutor(2) as pool:
        walked = list(pool.map(one, IMPATIENT))
    assert {done.variations: done.faults for done in walked if done.faults} == {}
    # Whether somebody else's OK comes before ours is a matter of speed; the window over Settings has to be got past.
    covered = next(done for done in walked if done.variations == "front=other-window")
    assert any("Settings opened by its URL" in entry for entry in covered.degraded), covered.degraded
