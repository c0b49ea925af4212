"""`sysext screen`: what is on a screen. `read` looks at pictures; `watch` and `export` look at machines."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.screen import Sighting

_ELSEWHERE = {
    "export": "harness.cli.screen_watch:export",
    "watch": "harness.cli.screen_watch:watch",
}


class _Group(click.Group):
    """Imports the verbs of other modules only when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        where = _ELSEWHERE.get(name)
        if where is None:
            return super().get_command(ctx, name)
        module, attribute = where.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group("screen", cls=_Group)
def screen() -> None:
    """Read, watch and export what is on a screen."""


@screen.command("read")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE…")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@click.option("--app", "app_name", default=None, help="whose rows and prompts count, by the name that macOS shows")
@click.option("--pages", multiple=True, type=click.Path(path_type=Path), metavar="FILE.toml", help="more known windows")
def read(images: tuple[Path, ...], form: str, app_name: str | None, pages: tuple[Path, ...]) -> None:
    """Say which window each screenshot shows, where its buttons are, and which one approval would click now.

    Exit code 2 when a picture or a pages file cannot be used; the other pictures are read all the same.
    """
    from harness.cli.options import settings_from
    from harness.screen.catalog import load_catalog
    from harness.screen.pictures import load_picture
    from harness.screen.readers import make_reader
    from harness.screen.recognise import recognise

    settings = settings_from(None)
    catalog = load_catalog([*settings.screen.pages, *pages])
    reader = make_reader(settings)
    rows: list[dict[str, Any]] = []
    bad: list[UsageError] = []
    for path in images:
        try:
            frame = load_picture(path)
        except UsageError as error:
            bad.append(error)
            continue
        seen = recognise(frame, reader, catalog, app_name=app_name)
        rows.append({"input": str(path), "size": list(frame.size), **seen.as_dict()})
        if form == "text":
            _tell(path, seen)
    if form == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    for problem in bad:
        click.echo(f"sysext: {problem}", err=True)
    if bad:
        raise click.exceptions.Exit(2)


def _tell(path: Path, seen: Sighting) -> None:
    told = seen.as_dict()
    about = [str(told[key]) for key in ("appearance", "language") if told.get(key)]
    if told.get("scale"):
        about.append(f"{told['scale']:g}x")
    width, height = seen.frame.size
    click.echo(f"{path}: {seen.window}" + (f" of “{seen.app_name}”" if seen.app_name else ""))
    click.echo(f"    {width}×{height} pixels" + (f", {', '.join(about)}" if about else ""))
    for button in told["buttons"]:
        marks = [word for word in (button["state"], "default" if button["default"] else "") if word]
        if not button["enabled"]:
            marks.append("disabled")
        place = f"{button['x']},{button['y']}"
        click.echo(
            f"    {button['role']:14} {button['text']}  at {place}" + (f" ({', '.join(marks)})" if marks else "")
        )
    if told["advice"]:
        click.echo(f"    click {told['advice']['text']} at {told['advice']['x']},{told['advice']['y']}: {seen.why}")
    else:
        click.echo(f"    nothing to click: {seen.why}")
