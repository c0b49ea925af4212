"""Shared by the tests of approvals: the same simulated display as the screen tests use."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.approval import passwords, pressing, walk
from harness.screen import RapidReader, ocr, rfb

for _folder in (
    Path(__file__).resolve().parents[2],
    Path(__file__).parent,
):  # benchmarks/walking.py; drawn_reader.py here
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))

from drawn_reader import DrawnReader  # noqa: E402

_SPEC = importlib.util.spec_from_file_location(
    "screen_display", Path(__file__).parents[1] / "screen" / "screen_display.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
screen_display = sys.modules.get("screen_display") or importlib.util.module_from_spec(_SPEC)
if "screen_display" not in sys.modules:
    sys.modules["screen_display"] = screen_display
    _SPEC.loader.exec_module(screen_display)


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
def displays() -> Iterator[Callable[..., object]]:
    made = []

    def make(version: str, **options: object) -> object:
        made.append(screen_display.Display(version, **options))
        return made[-1]

    yield make
    for display in made:
        display.close()


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
