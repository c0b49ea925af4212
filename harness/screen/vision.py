"""Reading text with Apple's Vision framework, through `ocrmac`: on macOS hosts only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.screen.frames import Pixels
from harness.screen.ocr import RapidReader, TextLine


class VisionReader(RapidReader):
    """Placeholder of the same form."""

    def __init__(self, memory: Path | None = None) -> None:
        super().__init__(memory)
        self._module: Any = None

    def _run(self, pixels: Pixels) -> list[TextLine]:
        return super()._run(np.ascontiguousarray(pixels))
