"""Shared by the tests of approvals: the same simulated display as the screen tests use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.approval import passwords, pressing, walk
from harness.screen import RapidReader, ocr, rfb
from tests.support.drawn_reader import DrawnReader


@pytest.fixture(scope="session")
def reader(request: pytest.FixtureRequest) -> Iterator[RapidReader]:
    """Reads with one thread, the workers beside us want the other core, and remembers what it read in earlier runs.

    These tests are about what is done with what was read; whether it is read rightly is tested in tests/screen, anew
    each time. What another version of the reader's code has read is not taken.
    """
    cache = getattr(request.config, "cache", None)  # none with -p no:cacheprovider
    code = hashlib.sha256(Path(ocr.__file__).read_bytes()).hexdigest()[:16]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ocr, "_THREADS", 1)
        yield RapidReader(cache.mkdir("sysext-readings") / code if cache is not None else None)


@pytest.fixture(scope="module")
def drawn() -> Iterator[DrawnReader]:
    """Knows what the display has drawn: for tests of what is done with what was read."""
    with pytest.MonkeyPatch.context() as patch:
        reader = DrawnReader()
        reader.install(patch)
        yield reader


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on a staged display is as slow as a Mac may be, and nobody types at it at a person's pace."""
    monkeypatch.setattr(walk, "LANDS", 1.0)
    monkeypatch.setattr(walk, "LOOK_FULLY", 1.5)
    for place, name in ((pressing, "EFFECT"), (walk, "EFFECT"), (passwords, "_ECHO")):
        monkeypatch.setattr(place, name, 20.0)  # ends when it happens: costs nothing, and a machine may be busy
    monkeypatch.setattr(rfb, "CLICK", 0.02)
    monkeypatch.setattr(rfb, "KEY", 0.004)
    monkeypatch.setattr(rfb, "WHEEL", 0.004)
