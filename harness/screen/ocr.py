"""Reading text off pixels. The engine's models come inside its wheel: no network, no system package."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness import events
from harness.screen.frames import Box, Frame, Pixels
from harness.screen.remembered import Remembered
from harness.screen.text import alike, normalise, squash

__all__ = ["LONGEST", "CachedReader", "RapidReader", "Reader", "TextLine", "alike", "normalise", "squash"]

LONGEST = 1600
"""Longer sides are scaled down to it: text of 1x points stays readable, and a 2x full frame fits."""
_CACHED = 48
_THREADS = 2
"""Two read a frame in two thirds of the time of one, for half as much work again: not where others want the cores."""
_SETTINGS = 2
"""Raise it when what `_make_engine` or `_run` do changes what is read."""


@dataclass(frozen=True)
class TextLine:
    """A line of text as it was read.

    Attributes:
        text: As read.
        box: In pixels of the frame.
        score: The reader's own confidence, 0 to 1.
    """

    text: str
    box: Box
    score: float


class Reader(Protocol):
    """Something that reads text in a part of a frame."""

    def warm_up(self) -> None:
        """Load what the first `read` needs. Can be called often and from any thread."""

    def read(self, frame: Frame, region: Box | None = None) -> list[TextLine]:
        """The lines in a region (all of it by default), top to bottom."""


class CachedReader(ABC):
    """A reader with an engine that takes time to load: used by one thread at a time; what it read is kept by the pixels it was
    read from.

    Args:
        memory: A folder where readings are kept for later runs, None to keep them in this process only.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self._remembered = Remembered(memory, self._name()) if memory is not None else None
        self._engine: Any = None
        self._loading = threading.Lock()
        self._reading = threading.Lock()
        self._cache: OrderedDict[bytes, list[TextLine]] = OrderedDict()

    @abstractmethod
    def _name(self) -> str:
        """What the lines depend on besides the pixels."""

    @abstractmethod
    def _load(self) -> Any:
        """The engine, run once so that the next time is quick."""

    @abstractmethod
    def _run(self, pixels: Pixels) -> list[TextLine]:
        """The lines in a picture, top to bottom."""

    def warm_up(self) -> None:
        """Load the engine and run it once: seconds at first, nothing later."""
        with self._loading:
            if self._engine is not None:
                return
            with events.step("load text reader"):
                self._engine = self._load()

    def read(self, frame: Frame, region: Box | None = None) -> list[TextLine]:
        """See `Reader`. About 0.2 s for an alert, 1–3 s for a whole frame, on two cores."""
        region = (region or frame.box).padded(0, frame.size)
        if region.width < 4 or region.height < 4:
            return []
        pixels = np.ascontiguousarray(frame.crop(region))
        key = hashlib.blake2b(pixels.data, digest_size=16, salt=b"%dx%d" % pixels.shape[:2]).digest()
        with self._reading:
            lines = self._cache.get(key)
            if lines is None:
                started = time.monotonic()
                lines = self._recall(key)
                known = lines is not None
                if lines is None:
                    self.warm_up()
                    lines = self._run(pixels)
                    if self._remembered is not None:
                        self._remembered.put(key, [(line.text, line.box, line.score) for line in lines])
                self._cache[key] = lines
                if len(self._cache) > _CACHED:
                    self._cache.popitem(last=False)
                events.event(
                    "read",
                    region=list(region),
                    lines=len(lines),
                    seconds=round(time.monotonic() - started, 3),
                    remembered=known,
                )
            else:
                self._cache.move_to_end(key)
        return [
            TextLine(
                line.text,
                Box(line.box.x0 + region.x0, line.box.y0 + region.y0, line.box.x1 + region.x0, line.box.y1 + region.y0),
                line.score,
            )
            for line in lines
        ]

    def _recall(self, key: bytes) -> list[TextLine] | None:
        known = self._remembered.get(key) if self._remembered is not None else None
        return None if known is None else [TextLine(line.text, Box(*line.box), line.score) for line in known]


class RapidReader(CachedReader):
    """RapidOCR with the models of its wheel: Latin letters with accents, Chinese, Japanese; not Korean, not Cyrillic."""

    def _name(self) -> str:
        return _engine_name()

    def _load(self) -> Any:
        import cv2

        engine = _make_engine()
        # With a word in it: the models that read are loaded only when something was found.
        picture = np.full((64, 240, 3), 255, np.uint8)
        engine(cv2.putText(picture, "warm up", (20, 44), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2))
        return engine

    def _run(self, pixels: Pixels) -> list[TextLine]:
        import cv2

        height, width = pixels.shape[:2]
        factor = min(1.0, LONGEST / max(height, width))
        picture: NDArray[Any] = np.ascontiguousarray(pixels[:, :, ::-1])
        if factor < 1.0:
            picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        result = self._engine(picture)
        if result is None or getattr(result, "boxes", None) is None or result.txts is None:
            return []
        lines = []
        for corners, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
            points = np.asarray(corners, float) / factor
            box = Box(
                int(points[:, 0].min()),
                int(points[:, 1].min()),
                int(np.ceil(points[:, 0].max())),
                int(np.ceil(points[:, 1].max())),
            )
            if str(text).strip():
                lines.append(TextLine(str(text).strip(), box, float(score)))
        return sorted(lines, key=lambda line: (line.box.y0, line.box.x0))


def _engine_name() -> str:
    """What the lines depend on besides the pixels: the engine, its models (they come with it) and our own settings."""
    from importlib.metadata import version

    return f"rapidocr-{version('rapidocr')}-{version('onnxruntime')}-{LONGEST}-{_SETTINGS}"


def _threads() -> int:
    """Fewer where pytest-xdist has started other workers beside us, which read as much as we do."""
    workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "")
    return max(1, min(_THREADS, (os.cpu_count() or 1) // (int(workers) if workers.isdecimal() and int(workers) else 1)))


def _make_engine() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,  # text on a screen stands upright
            "Global.max_side_len": 4000,  # we scale ourselves
            "Global.text_score": 0.5,
            "Det.limit_type": "min",
            "Det.limit_side_len": 32,  # never scaled up: costs time and gains nothing on screen text
            # Each line by itself and as wide as it is: in a batch all are padded to the widest ("OK" to a paragraph's line),
            # which takes a third more time and reads the same.
            "Rec.rec_batch_num": 1,
            "Rec.rec_img_shape": [3, 48, 160],
            "EngineConfig.onnxruntime.intra_op_num_threads": _threads(),
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
