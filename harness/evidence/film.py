"""What becomes of a case's recordings at its end: a short film of a failure, and a place in the manifest."""

from __future__ import annotations

import time
from pathlib import Path

from harness import events
from harness.errors import SysextError
from harness.evidence.case import CaseFolder
from harness.evidence.manifest import Collection, Item, Manifest, now
from harness.screen.film import make_clip
from harness.screen.timeline import TIMELINE, Recording
from harness.waiting import Deadline

CLIP_SECONDS = 20.0
"""A clip that takes longer to make is not made: the recording is there all the same."""


def film_failure(case: CaseFolder, *, most_mb: float) -> list[Path]:
    """Make `screen.webp` from each recording, attached to a step of the event stream. Never raises: what could not be made
    is an event.
    """
    made: list[Path] = []
    if most_mb <= 0:
        return made
    deadline = Deadline.after(CLIP_SECONDS)
    for folder in case.recordings():
        with events.step("film the screen", recording=folder.name) as step:
            target = case.path / f"{folder.name}.webp"
            try:
                recording = Recording.load(folder)
                clip = make_clip(recording, target, most_bytes=int(most_mb * 1e6), deadline=deadline)
                why = f"not within {CLIP_SECONDS:.0f} s, or larger than {most_mb:g} MB"
            except (SysextError, OSError, ValueError, MemoryError) as error:
                clip, why = None, f"{type(error).__name__}: {error}"
            if clip is None:
                events.event("degraded", what="no film of the failure", reason=why)
                continue
            step.note(bytes=clip.stat().st_size, more=f"sysext screen watch {case.path}")
            step.attach(clip, "the screen", "image/webp")
            made.append(clip)
    return made


def seal_recordings(case: CaseFolder, clips: list[Path]) -> None:
    """Note the recordings' timelines (which name every picture by its content) and the films in the manifest, if evidence
    was collected: without that there is none. Never raises.
    """
    folders = case.recordings()
    if not folders or not case.manifest_path.exists():
        return
    try:
        manifest = Manifest(case.manifest_path)
        machine = manifest.collections[-1].machine if manifest.collections else ""
        began = now()
        collection = Collection(id="screen", reason="the screen, recorded", machine=machine, started=began, since=began)
        files = [(f"recording {folder.name}", folder / TIMELINE) for folder in folders]
        files += [(f"film {clip.name}", clip) for clip in clips]
        for name, file in files:
            started = time.monotonic()
            item = Item(name=name, source="the machine's screen", started=began)
            manifest.seal(item, file)
            item.status, item.why = ("ok", "") if item.path is not None else ("missing", "it is not there")
            item.seconds = round(time.monotonic() - started, 3)
            collection.items.append(item)
        manifest.begin(collection)
        manifest.finish(collection)
    except (SysextError, OSError) as error:
        events.event("degraded", what="the recording is not in the manifest", reason=str(error))
