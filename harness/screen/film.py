"""A recording as a short film: animated WebP or GIF by Pillow, MP4 by ffmpeg where it is installed.

Waiting is cut short, and the caption says so; what was recognised and clicked is drawn into the film only, never into the
recording.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import HarnessError, UsageError
from harness.screen.annotations import Annotator, Shape, plain, said
from harness.screen.frames import Pixels
from harness.screen.recording import ANCHORS
from harness.screen.timeline import FrameRecord, Painter, Recording
from harness.waiting import Deadline

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

FORMATS = (".webp", ".gif", ".mp4")
IDLE = 1.2
"""Seconds that nothing may happen in the film; longer waits are cut to this."""
LAST = 2.0
"""Seconds that the last picture stays."""
_SHORTEST = 0.08
_SIGHT = 0.4
_ACT = 0.7
_RATE = 10
_BAR = 26
_COLOURS = {"window": (70, 130, 255), "button": (150, 150, 150), "advice": (40, 190, 90), "click": (235, 60, 50)}


@dataclass(frozen=True)
class Options:
    """How the film is made.

    Attributes:
        speed: 2 is twice as fast.
        boxes: Draw what was recognised and clicked.
        max_width: Pixels; larger pictures are scaled down.
        most_pictures: If there are more, those go that were in sight shortest; clicks and sightings last.
        quality: 1 to 100, for WebP.
    """

    speed: float = 1.0
    boxes: bool = True
    max_width: int = 1280
    most_pictures: int = 600
    quality: int = 70


@dataclass(frozen=True)
class _Scene:
    """One picture of the film.

    Attributes:
        upto: How many frames of the recording are painted for it.
        t: Seconds into the recording.
        seconds: In sight for so long.
        skipped: Seconds cut out before it.
        weight: As in ANCHORS.
    """

    upto: int
    t: float
    seconds: float
    skipped: float
    shapes: tuple[Shape, ...]
    text: str
    weight: int


def make_film(
    recording: Recording, target: Path, options: Options | None = None, deadline: Deadline | None = None
) -> Path:
    """Make the film; all of it or nothing. Returns `target`.

    Raises:
        UsageError: A format that cannot be made (here).
        HarnessError: Not within the deadline; or ffmpeg failed.
        OSError: It cannot be written.
    """
    options = options or Options()
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"a film in one of {', '.join(FORMATS)}", seen=target.name, hint="give --output film.webp")
    ffmpeg = find_ffmpeg() if suffix == ".mp4" else ""
    scenes = _few(plan(recording, options), options.most_pictures)
    pictures = _draw(recording, scenes, options, deadline or Deadline.after(600))
    descriptor, name = tempfile.mkstemp(prefix=f".{target.stem[:40]}.", suffix=suffix, dir=target.parent)
    os.close(descriptor)
    scratch = Path(name)
    try:
        if ffmpeg:
            _encode_mp4(ffmpeg, pictures, [scene.seconds for scene in scenes], scratch, deadline or Deadline.after(600))
        else:
            _encode(pictures, [scene.seconds for scene in scenes], scratch, suffix, options)
        scratch.chmod(0o644)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    return target


def make_clip(recording: Recording, target: Path, *, most_bytes: int, deadline: Deadline) -> Path | None:
    """A short animated WebP of at most `most_bytes`: smaller and coarser until it fits; None if it does not come to fit, or
    not in time.
    """
    options = Options(max_width=960, most_pictures=80, quality=55)
    for _ in range(3):
        try:
            make_film(recording, target, options, deadline)
        except HarnessError:
            return None
        if target.stat().st_size <= most_bytes:
            return target
        target.unlink()
        options = replace(
            options,
            max_width=options.max_width * 2 // 3,
            most_pictures=options.most_pictures // 2,
            quality=options.quality - 15,
        )
    return None


def find_ffmpeg() -> str:
    """Where ffmpeg is.

    Raises:
        UsageError: It is not installed.
    """
    found = shutil.which("ffmpeg")
    if found is None:
        raise UsageError(
            "ffmpeg, to make an MP4",
            seen="none in PATH",
            hint="install it, or give --output film.webp, which needs none",
        )
    return found


def plan(recording: Recording, options: Options) -> list[_Scene]:
    """The pictures of the film and how long each is in sight."""
    annotator = Annotator()
    moments: list[_Scene] = []
    upto = 0
    text = ""
    said_at = pressed = -10.0
    for record in recording.records:
        shapes = annotator.feed(record)
        if isinstance(record, FrameRecord):
            upto += 1
            weight = 0
        else:
            weight = ANCHORS.get(record.what, 0)
            if record.what == "press":
                pressed = record.t
            if record.what == "click" and record.t - pressed < 0.1 and moments:
                moments[-1] = replace(moments[-1], shapes=shapes if options.boxes else ())  # one act, told twice
                continue
            text, said_at = said(record), record.t
        if not upto:
            continue
        shown = text if record.t - said_at < 5.0 else ""
        moments.append(_Scene(upto, record.t, 0.0, 0.0, shapes if options.boxes else (), shown, weight))
    scenes: list[_Scene] = []
    for moment, later in zip(moments, [*moments[1:], None], strict=True):
        if later is None:
            scenes.append(replace(moment, seconds=LAST))
            break
        gap = max(0.0, later.t - moment.t)
        least = (_SHORTEST, _SIGHT, _ACT)[moment.weight]
        scenes.append(replace(moment, seconds=max(least, min(gap / options.speed, IDLE)), skipped=gap))
    # What was cut out of a wait is said on the picture that comes after it.
    return [
        replace(scene, skipped=before.skipped if before is not None and before.skipped / options.speed > IDLE else 0.0)
        for before, scene in zip([None, *scenes[:-1]], scenes, strict=True)
    ]


def _few(scenes: list[_Scene], most: int) -> list[_Scene]:
    """At most so many of them; the time of one that goes is given to the one before, up to `IDLE`."""
    excess = len(scenes) - max(2, most)
    if excess <= 0:
        return scenes
    order = sorted(range(1, len(scenes) - 1), key=lambda place: (scenes[place].weight, scenes[place].seconds, place))
    gone = set(order[:excess])
    kept: list[_Scene] = []
    for place, scene in enumerate(scenes):
        if place in gone:
            kept[-1] = replace(kept[-1], seconds=max(kept[-1].seconds, min(IDLE, kept[-1].seconds + scene.seconds)))
        else:
            kept.append(scene)
    return kept


def _draw(recording: Recording, scenes: list[_Scene], options: Options, deadline: Deadline) -> Iterator[Image]:
    """The pictures, one at a time, all of the same size: that of the recording's largest frame, scaled."""
    import cv2
    from PIL import Image, ImageDraw

    frames = list(recording.frames())
    width, height = max(frame.size[0] for frame in frames), max(frame.size[1] for frame in frames)
    scale = min(1.0, options.max_width / width)
    # Even numbers: video formats want them.
    size = (max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
    painter = Painter(recording)
    painted = 0
    pixels: Pixels = painter.pixels
    small: Pixels | None = None
    for scene in scenes:
        if deadline.expired:
            raise HarnessError(
                "the film to be made in time",
                seen=f"not within {deadline.seconds:.0f} s",
                hint="make it smaller: --max-width 640",
            )
        while painted < scene.upto:
            pixels = painter.paint(frames[painted])
            painted += 1
            small = None
        if small is None:
            own = (min(size[0], round(pixels.shape[1] * scale)), min(size[1], round(pixels.shape[0] * scale)))
            fitted = (max(1, own[0]), max(1, own[1]))
            small = np.asarray(cv2.resize(pixels, fitted, interpolation=cv2.INTER_AREA), np.uint8)
        picture = Image.new("RGB", (size[0], size[1] + _BAR), (24, 24, 26))
        picture.paste(Image.fromarray(small), (0, 0))
        draw = ImageDraw.Draw(picture)
        for shape in scene.shapes:
            _draw_shape(draw, shape, scale, size)
        _draw_caption(draw, scene, recording, size)
        yield picture


def _draw_shape(draw: ImageDraw, shape: Shape, scale: float, size: tuple[int, int]) -> None:
    colour = _COLOURS[shape.kind]
    x0, y0, x1, y1 = (round(value * scale) for value in shape.box)
    if shape.kind == "click":
        # Two pixels wide: what is thinner loses its colour in a WebP.
        draw.ellipse((x0 - 12, y0 - 12, x0 + 12, y0 + 12), outline=colour, width=3)
        draw.line((x0 - 18, y0, x0 + 18, y0), fill=colour, width=2)
        draw.line((x0, y0 - 18, x0, y0 + 18), fill=colour, width=2)
        where = (x0 + 18, y0 + 8)
    else:
        draw.rectangle((x0, y0, max(x0 + 1, x1 - 1), max(y0 + 1, y1 - 1)), outline=colour, width=2)
        where = (x0 + 2, y0 - 17 if y0 >= 17 else y1 + 2)
    if shape.text and shape.kind != "button":
        _label(draw, where, shape.text, colour, size)


def _label(
    draw: ImageDraw, where: tuple[int, int], text: str, colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    font = _font(12)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x = max(0, min(where[0], size[0] - int(right - left) - 6))
    y = max(0, min(where[1], size[1] - 16))
    draw.rectangle((x, y, x + int(right - left) + 5, y + int(bottom - top) + 5), fill=colour)
    draw.text((x + 2 - left, y + 2 - top), text, fill=(255, 255, 255), font=font)


def _draw_caption(draw: ImageDraw, scene: _Scene, recording: Recording, size: tuple[int, int]) -> None:
    header = recording.header
    minutes, seconds = divmod(scene.t, 60)
    text = f"{int(minutes):02}:{seconds:04.1f}"
    if header is not None and header.simulated:
        text += "  SIMULATED"
    if scene.skipped:
        text += f"  (+{scene.skipped:.0f} s in which nothing changed)"
    if scene.text:
        text += f"  {scene.text}"
    elif header is not None:
        text += f"  {header.machine}"
    draw.text((6, size[1] + 5), plain(text, max(10, size[0] // 7)), fill=(235, 235, 235), font=_font(13))


@functools.cache
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont as fonts  # noqa: N813 - the module, not the class

    return fonts.load_default(size)


def _encode(pictures: Iterator[Image], seconds: list[float], target: Path, suffix: str, options: Options) -> None:
    first = next(pictures)
    durations = [round(one * 1000) for one in seconds]
    if suffix == ".gif":
        first.save(target, "GIF", save_all=True, append_images=pictures, duration=durations, loop=0, optimize=False)
        return
    first.save(
        target,
        "WEBP",
        save_all=True,
        append_images=pictures,
        duration=durations,
        loop=0,
        quality=options.quality,
        method=1,
    )


def _encode_mp4(ffmpeg: str, pictures: Iterator[Image], seconds: list[float], target: Path, deadline: Deadline) -> None:
    first = next(pictures)
    width, height = first.size
    command = [ffmpeg, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(_RATE), "-i", "pipe:0", "-an", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(target)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
        assert process.stdin is not None
        late = threading.Timer(deadline.remaining, process.kill)
        late.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # it has ended: its exit code says more
                clock = done = 0.0
                for picture, length in zip(_all(first, pictures), seconds, strict=True):
                    clock += length
                    data = picture.tobytes()
                    while done < clock:
                        process.stdin.write(data)
                        done += 1 / _RATE
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            code = process.wait()
        finally:
            late.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        text = log.read(2000).decode(errors="replace").strip()
    if code != 0 or not target.stat().st_size:
        why = f"not within {deadline.seconds:.0f} s" if deadline.expired else f"exit code {code}: {text}"
        raise HarnessError("ffmpeg to make the film", seen=why, hint="try --output film.webp")


def _all(first: Image, rest: Iterator[Image]) -> Iterator[Image]:
    yield first
    yield from rest
