"""Reading text with Apple's Vision framework, through the package `ocrmac` (extra `macos`): on a Mac only, and there it reads
Korean too, which the models in RapidOCR's wheel do not.

Nobody who wrote this could run it. Relied on: `ocrmac.ocrmac.OCR(image, recognition_level=, language_preference=).recognize()`
gives (text, confidence, [x, y, width, height]) with the box as shares of the picture, y from its bottom (ocrmac's README).
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from harness.screen.errors import ScreenError
from harness.screen.frames import Box, Pixels
from harness.screen.ocr import CachedReader, TextLine

LANGUAGES = ("en-US", "de-DE", "fr-FR", "es-ES", "pt-BR", "it-IT", "ja-JP", "ko-KR", "zh-Hans", "zh-Hant")
"""Vision's names of the languages that the pages know; the first counts most."""


class VisionReader(CachedReader):
    """Apple's Vision."""

    def _name(self) -> str:
        import platform
        from importlib.metadata import PackageNotFoundError, version

        try:
            package = version("ocrmac")
        except PackageNotFoundError:
            package = "unknown"
        return f"vision-{package}-{platform.mac_ver()[0] or 'none'}-{'-'.join(LANGUAGES)}"

    def _load(self) -> Any:
        try:
            return importlib.import_module("ocrmac.ocrmac").OCR
        except (ImportError, AttributeError) as error:
            raise ScreenError(
                "Apple's text recognition",
                seen=f"{type(error).__name__}: {error}",
                hint="pip install 'sysext-harness[macos]' on a Mac, or set screen.reader = \"rapidocr\"",
            ) from error

    def _run(self, pixels: Pixels) -> list[TextLine]:
        from PIL import Image

        height, width = pixels.shape[:2]
        try:
            found = self._engine(
                Image.fromarray(np.ascontiguousarray(pixels)),
                recognition_level="accurate",
                language_preference=list(LANGUAGES),
            ).recognize()
        except Exception as error:  # whatever the framework's bridge raises
            raise ScreenError("text to be read by Apple's Vision", seen=f"{type(error).__name__}: {error}") from error
        lines = []
        for text, score, (x, y, across, up) in found:
            box = Box(
                max(0, math.floor(x * width)),
                max(0, math.floor((1 - y - up) * height)),
                min(width, math.ceil((x + across) * width)),
                min(height, math.ceil((1 - y) * height)),
            )
            if str(text).strip() and box.width > 0 and box.height > 0:
                lines.append(TextLine(str(text).strip(), box, float(score)))
        return sorted(lines, key=lambda line: (line.box.y0, line.box.x0))
