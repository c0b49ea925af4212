"""`sysext report [FOLDER]`: the summary of a run's case files, made anew."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import settings_from
from harness.errors import UsageError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--format", "form", type=click.Choice(["text", "markdown"]), default="text")
def report(folder: Path | None, form: str) -> None:
    """Print the table of a run (a folder of case files; default: the newest).

    Exit 1 when it is not green, or when a result cannot be read.
    """
    from harness.reports.result import read_results
    from harness.reports.summary import summarise

    chosen = folder or _newest(settings_from(None).artifacts)
    results, problems = read_results(chosen)
    for problem in problems:
        click.echo(str(problem), err=True)
    if not results:
        seen = "none" if chosen.is_dir() else "no such folder"
        raise UsageError(f"scenario results below {chosen}", seen=seen, hint="run `make scenarios` first")
    summary = summarise(results)
    click.echo(summary.markdown() if form == "markdown" else summary.text(), nl=False)
    if problems or not summary.green:
        raise click.exceptions.Exit(1)


def _newest(artifacts: Path) -> Path:
    runs = sorted(
        path for path in artifacts.glob("*") if (path / "live.log").exists() or any(path.glob("*/result.json"))
    )
    if not runs:
        raise UsageError(f"a run below {artifacts}", seen="none", hint="run `make scenarios` first, or name a folder")
    return runs[-1]
