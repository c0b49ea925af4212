"""Shared by the tests of screens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.screen import RapidReader, ocr


@pytest.fixture(scope="session")
def reader() -> Iterator[RapidReader]:
    """Reads with one thread: the workers beside us want the other core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ocr, "_THREADS", 1)
        yield RapidReader()
