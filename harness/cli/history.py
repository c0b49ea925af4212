"""`sysext history`: how often what fails, how sure that is, and since when; `sysext history import` adds runs to it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import settings_from, usage_only, write_whole
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.config import Settings
    from harness.history.store import History, Selection

_MOST_NAMED = 12


@click.group("history", invoke_without_command=True)
@click.option("--simulated", is_flag=True, help="runs on simulated Macs, instead of those on real ones")
@click.option("--scenario", metavar="NAME", help="only this one; * stands for any text")
@click.option("--macos", metavar="VERSION", help="only on this one")
@click.option("--release", metavar="VERSION", help="only this one")
@click.option("--image", metavar="NAME", help="only this one; * stands for any text")
@click.option("--lane", metavar="LANE", help="only this one")
@click.option("--runs-of", "provider", metavar="PROVIDER", help="only Macs of this provider")
@click.option("--since", metavar="DAY", help="from this (UTC) day on: 2026-11-01")
@click.option("--until", metavar="DAY", help="up to this (UTC) day")
@click.option("--compare", nargs=2, metavar="BEFORE AFTER", help="regression or noise: one release against another")
@click.option(
    "--correction",
    type=click.Choice(["holm", "benjamini-hochberg", "none"]),
    default="holm",
    show_default=True,
    help="for comparing many series at once",
)
@click.option(
    "--interval", "method", type=click.Choice(["wilson", "clopper-pearson"]), default="wilson", show_default=True
)
@click.option("--confidence", type=float, default=0.95, show_default=True)
@click.option("--format", "form", type=click.Choice(["text", "json", "html"]), default="text", show_default=True)
@click.option("--html", "form", flag_value="html", help="the same as --format html")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="write there, not to the terminal"
)
@click.option("--config", type=click.Path(path_type=Path), help="a settings file (default: sysext.toml here)")
@click.option(
    "--url", metavar="URL", help="another history than `history.url` of the settings (a password: by settings)"
)
@click.pass_context
def history(ctx: click.Context, /, *, config: Path | None, url: str | None, **options: object) -> None:
    """Failure rates per scenario, macOS, release, image, lane and provider, from all recorded runs.

    Real and simulated Macs are never counted together. Environment failures, mistakes of the harness and skips say nothing
    about the product: they are told, and left out of the rates.

    Exit 0. With --compare: 1 if a regression is shown. 2: unusable input.
    """
    settings = settings_from(config, **{"history.url": url})
    ctx.obj = settings
    if ctx.invoked_subcommand is None:
        with usage_only():
            _show(ctx, settings, **options)


@history.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.pass_obj
def import_(settings: Settings, paths: tuple[Path, ...]) -> None:
    """Add runs: case files, folders of them, run.jsonl or result.json files. What is there already stays as it is.

    Exit 0. 2: something cannot be read; then nothing is added.
    """
    from harness.history.intervals import plural
    from harness.history.rows import read_paths
    from harness.history.store import open_history

    for path in paths:
        if not path.exists():
            raise UsageError(f"a file or folder at {path}", seen="nothing there", hint="check the path")
    found = read_paths(paths)
    with usage_only(), open_history(settings) as store:
        added = store.add(found.rows)
    click.echo(f"{plural(added.added, 'run', none='0')} added, {added.known} already there")
    if added.differing:
        click.echo(f"{added.differing} of those have another outcome here; what was recorded first stays")
    if found.unfinished:
        click.echo(f"{len(found.unfinished)} without an end (the process was killed) left out")


def _show(ctx: click.Context, settings: Settings, **options: object) -> None:
    from harness.history import pages
    from harness.history.rates import compare_releases, rates, with_comparison
    from harness.history.store import Selection, open_history, require_history

    require_history(settings)
    names = ("simulated", "scenario", "macos", "release", "image", "lane", "provider")
    chosen = {name: options[name] for name in names}
    days = {name: _day(f"--{name}", options[name]) for name in ("since", "until")}
    selection = Selection(**chosen, **days)  # type: ignore[arg-type] # click has checked them
    method, correction, confidence = options["method"], options["correction"], options["confidence"]
    assert method in ("wilson", "clopper-pearson")
    assert correction in ("holm", "benjamini-hochberg", "none")
    assert isinstance(confidence, float)
    pair = options["compare"]
    if isinstance(pair, tuple) and pair[0] == pair[1]:
        raise UsageError("two different releases to compare", seen=f"{pair[0]} twice", hint="--compare BEFORE AFTER")
    if days["since"] and days["until"] and days["since"] > days["until"]:
        raise UsageError(
            "--since before --until", seen=f"{options['since']} after {options['until']}", hint="swap them"
        )
    with open_history(settings) as store:
        page = rates(store, selection, confidence=confidence, method=method)
        if not page.cells:
            for line in _why_nothing(store, selection):
                click.echo(f"sysext: {line}", err=True)
        if isinstance(pair, tuple):
            page = with_comparison(
                page, compare_releases(store, selection, *pair, correction=correction), correction=correction
            )
    form = options["form"]
    if form == "json":
        text = json.dumps(page.as_dict(), indent=1, ensure_ascii=False) + "\n"
    else:
        text = pages.as_html(page) if form == "html" else pages.as_text(page)
    output = options["output"]
    if isinstance(output, Path):
        _write(output, text)
    else:
        click.echo(text, nl=False)
    if any(one.comparison.finding == "regression" for one in page.compared):
        ctx.exit(1)


def _why_nothing(store: History, selection: Selection) -> list[str]:
    """For each choice that no recorded run meets even by itself: what there is instead."""
    from harness.history.store import Selection

    everything = [count.series for count in store.counts(Selection(simulated=selection.simulated))]
    lines = []
    for name in ("scenario", "macos", "release", "image", "lane", "provider"):
        wanted = getattr(selection, name)
        alone = Selection(simulated=selection.simulated, **{name: wanted})
        if everything and wanted is not None and not store.counts(alone):
            known = list(dict.fromkeys(str(getattr(series, name)) for series in everything))
            rest = f", and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
            option = "runs-of" if name == "provider" else name
            lines.append(
                f"no run of --{option} {wanted or repr(wanted)}; there are {', '.join(known[:_MOST_NAMED])}{rest}"
            )
    return lines


def _write(path: Path, text: str) -> None:
    """All of it or nothing."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise UsageError(f"a file at {path} that can be written", seen=str(error), hint="check -o") from error


def _day(option: str, text: object) -> datetime | None:
    if text is None:
        return None
    from harness.history.rows import moment

    try:
        return moment(str(text), origin=option)
    except UsageError as error:
        raise UsageError(f"{option} is a day", seen=error.seen, hint="write it as 2026-11-01") from error
