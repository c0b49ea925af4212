"""Which reader of text is used here."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from harness.config import Settings
from harness.errors import UsageError
from harness.screen.ocr import RapidReader, Reader


def make_reader(settings: Settings) -> Reader:
    """The reader that `screen.reader` names; "auto": Apple's where it is installed, RapidOCR elsewhere.

    Raises:
        UsageError: "vision" is wanted where it is not to be had.
    """
    memory = settings.cache_dir / "readings" if settings.remember_readings else None
    wanted = settings.screen.reader
    here = sys.platform == "darwin" and find_spec("ocrmac") is not None
    if wanted == "vision" and not here:
        raise UsageError(
            'Apple\'s text recognition (screen.reader = "vision")',
            seen="not on macOS" if sys.platform != "darwin" else "the package ocrmac is not installed",
            hint="set screen.reader = \"rapidocr\", or on a Mac: pip install 'sysext-harness[macos]'",
        )
    if wanted == "vision" or (wanted == "auto" and here):
        from harness.screen.vision import VisionReader

        return VisionReader(memory)
    return RapidReader(memory)
