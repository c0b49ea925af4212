"""Shared by the tests of screens."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.screen import RapidReader, ocr

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:  # what servers say is written down in benchmarks/, for the fuzzer there
    sys.path.append(_ROOT)

_SPEC = importlib.util.spec_from_file_location("screen_display", Path(__file__).with_name("screen_display.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
screen_display = sys.modules.get("screen_display") or importlib.util.module_from_spec(_SPEC)
if "screen_display" not in sys.modules:
    sys.modules["screen_display"] = screen_display
    _SPEC.loader.exec_module(screen_display)


@pytest.fixture(scope="session")
def reader() -> Iterator[RapidReader]:
    """Reads with one thread: the workers beside us want the other core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ocr, "_THREADS", 1)
        yield RapidReader()


@pytest.fixture
def displays() -> Iterator[Callable[..., object]]:
    made = []

    def make(version: str, **options: object) -> object:
        made.append(screen_display.Display(version, **options))
        return made[-1]

    yield make
    for display in made:
        display.close()
