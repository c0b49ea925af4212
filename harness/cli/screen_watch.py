"""`sysext screen watch` and `sysext screen export`: look at what was on a Mac's screen, now or later."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from harness.cli.options import settings_from, settings_options
from harness.config import Settings
from harness.errors import UsageError


@dataclass(frozen=True)
class Source:
    """What is watched.

    Attributes:
        locate: The recording's folder, or None as long as there is none.
        events: The event stream beside it.
        labels: For the title until the recording has its own.
    """

    locate: Callable[[], Path | None]
    events: Path
    labels: dict[str, str]


@click.command()
@settings_options
@click.argument("target", metavar="MACHINE|CASE")
@click.option("--open", "browser", is_flag=True, help="open it in the browser")
def watch(config: Path | None, provider: str | None, target: str, browser: bool) -> None:  # noqa: FBT001 - click's way
    """Show a Mac's screen in a browser page on this host: live for a machine (`sysext machines` lists them), with what is
    recognised and clicked; or a case folder as a replay. Ctrl-C ends it.
    """
    from harness.reports.live_page import LivePage

    source = find_source(target, settings_from(config, provider=provider))
    page = LivePage(source.locate, events=source.events, labels=source.labels)
    click.echo(page.url)
    click.echo("Ctrl-C ends it. The address works on this host only, and only as it stands here.", err=True)
    if browser:
        import webbrowser

        if not webbrowser.open(page.url):
            click.echo("no browser could be opened: open the address above yourself", err=True)
    try:
        page.serve()
    except KeyboardInterrupt:
        click.echo("ended", err=True)


@click.command()
@click.argument("case", metavar="CASE", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), default=None, help=".webp (default: CASE/screen.webp), .gif or .mp4"
)
@click.option("--speed", type=click.FloatRange(0.05, 100), default=1.0, show_default=True, help="2 is twice as fast")
@click.option("--boxes/--no-boxes", default=True, show_default=True, help="draw what was recognised and clicked")
@click.option("--max-width", type=click.IntRange(160, 4096), default=1280, show_default=True, help="pixels")
def export(case: Path, output: Path | None, speed: float, boxes: bool, max_width: int) -> None:  # noqa: FBT001
    """Make a film of a case's recorded screen. Waiting is cut short, and the caption says so. MP4 needs ffmpeg."""
    from harness.screen.film import FORMATS, Options, find_ffmpeg, make_film
    from harness.screen.timeline import Recording, find_recording

    folder = find_recording(case)
    target = output if output is not None else folder.parent / f"{folder.name}.webp"
    if target.suffix.lower() not in FORMATS:
        raise UsageError(f"an output that ends in {', '.join(FORMATS)}", seen=str(target), hint="--output film.webp")
    if target.suffix.lower() == ".mp4":
        find_ffmpeg()
    if not target.parent.is_dir():
        raise UsageError(f"a folder for the film at {target.parent}", seen="no such folder", hint="make it first")
    recording = Recording.load(folder)
    try:
        make_film(recording, target, Options(speed=speed, boxes=boxes, max_width=max_width))
    except OSError as error:
        raise UsageError(f"a film at {target}", seen=str(error), hint="give --output a place with room") from error
    if recording.unread:
        click.echo(f"{recording.unread} lines of the timeline could not be used", err=True)
    click.echo(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")


def find_source(target: str, settings: Settings) -> Source:
    """What `target` means: a folder, else the name of a machine.

    Raises:
        UsageError: Neither, or it has no recording; names the nearest machine.
    """
    from harness.machines.leases import Leases
    from harness.screen.timeline import find_recording

    path = Path(target)
    if path.is_dir():
        folder = find_recording(path).resolve()
        return Source(lambda: folder, folder.parent / "run.jsonl", {"scenario": folder.parent.name})
    leases = {lease.name: lease for lease in Leases(settings.cache_dir / "leases").all()}
    lease = leases.get(target)
    if lease is None:
        close = difflib.get_close_matches(target, leases, n=1, cutoff=0.4)
        known = ", ".join(sorted(leases)) or "none at present"
        raise UsageError(
            "a machine that runs, or a case folder",
            seen=target,
            hint=f"did you mean {close[0]}?" if close else f"machines: {known}; case folders are in artifacts/<run>/",
        )
    if lease.folder is None:
        raise UsageError(
            f"the case folder of {target}", seen="its lease does not name one", hint="give the case folder"
        )
    case = Path(lease.folder).parent
    labels = {"machine": lease.name} | ({"provider": "SIMULATED"} if lease.simulated else {})
    return Source(lambda: newest_recording(case), case / "run.jsonl", labels)


def newest_recording(case: Path) -> Path | None:
    """The recording of a case that began last; None as long as there is none."""
    from harness.screen.timeline import FOLDER, TIMELINE

    found = [path.parent for path in case.glob(f"{FOLDER}*/{TIMELINE}")]
    return max(found, key=lambda folder: (len(folder.name), folder.name), default=None)
