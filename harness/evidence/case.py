"""The case file: one folder with everything that is known of one scenario run.

run.jsonl        the event stream
frames/          what was on the screen at key steps
screen/          the recording of all that was on it (harness.screen.recording)
evidence/NN-…/   what was collected, one folder each time, and why
manifest.json    what is there, what is missing, and why
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

from harness.screen.timeline import FOLDER, TIMELINE

_UNSAFE = re.compile(r"[^A-Za-z0-9._+@-]+")
_LONGEST = 120


def safe_name(text: str) -> str:
    """A file name made from any text, a guest's above all: one path component, ASCII, no leading dot, at most 120
    characters; two texts that would give the same name but are not the same get different ones.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = _UNSAFE.sub("-", plain).strip("-").lstrip(".") or "unnamed"
    if name != text or len(name) > _LONGEST:
        mark = hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()[:8]
        stem, dot, suffix = name.rpartition(".")
        if dot and stem and 0 < len(suffix) <= 10:
            name = f"{stem[: _LONGEST - 20]}-{mark}.{suffix}"
        else:
            name = f"{name[: _LONGEST - 10]}-{mark}"
    return name


class CaseFolder:
    """One case file. Made with its sub-folders; nothing in it is ever overwritten.

    Attributes:
        path: The folder.
        events_path: The event stream (`harness.events.EventLog` writes it).
        frames: Folder of screen frames.
        evidence: Folder of collections.
        manifest_path: `manifest.json`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events_path = path / "run.jsonl"
        self.frames = path / "frames"
        self.evidence = path / "evidence"
        self.manifest_path = path / "manifest.json"
        for folder in (self.frames, self.evidence):
            folder.mkdir(parents=True, exist_ok=True)

    def new_collection(self, reason: str) -> Path:
        """A new folder `evidence/NN-reason`."""
        number = 1 + max(
            (int(match.group()) for path in self.evidence.iterdir() if (match := re.match(r"\d+", path.name))),
            default=0,
        )
        short = _UNSAFE.sub("-", reason.lower()).strip("-.")[:60] or "collected"
        while True:
            folder = self.evidence / f"{number:02d}-{short}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                continue
            return folder

    def new_recording(self) -> Path:
        """A new folder for a recording of the screen: `screen`, or `screen-2`, … for one more Mac."""
        number = 1
        while True:
            folder = self.path / (FOLDER if number == 1 else f"{FOLDER}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                continue
            return folder

    def recordings(self) -> list[Path]:
        """The folders with a recording of the screen, oldest first."""
        found = [path.parent for path in self.path.glob(f"{FOLDER}*/{TIMELINE}")]
        return sorted(found, key=lambda path: (len(path.name), path.name))

    def frame_path(self, label: str) -> Path:
        """A new path `frames/NNN-label.png`; the file is not made."""
        number = 1 + max(
            (int(match.group()) for path in self.frames.iterdir() if (match := re.match(r"\d+", path.name))), default=0
        )
        short = _UNSAFE.sub("-", label.lower()).strip("-.")[:60] or "frame"
        return self.frames / f"{number:03d}-{short}.png"

    def latest_frames(self, count: int) -> list[Path]:
        """The last `count` frames, oldest first."""
        return sorted(self.frames.glob("*.png"), key=lambda path: (path.stat().st_mtime_ns, path.name))[-count:]
