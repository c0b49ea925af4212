"""`sysext triage PATH…`: say why, from whatever there is."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click

from harness.errors import SysextError, UsageError


@click.command("triage")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@click.option("--explain", metavar="CODE", help="say what a cause is, how it shows and what to do; reads nothing")
@click.option("--app", type=click.Path(path_type=Path), help="an app file: its extension is the one under test")
@click.option("--extension", metavar="ID", help="the bundle identifier of the extension under test")
@click.option("--since", metavar="TIME", help="leave out log messages before, as 2025-06-09T15:30:00[+05:30]")
@click.option("--until", metavar="TIME", help="leave out log messages after")
@click.option("--together", is_flag=True, help="the paths belong to one Mac: one answer from all of them")
@click.option(
    "-v", "--verbose", is_flag=True, help="also why each cause stands where it does, and what is only suspected"
)
def triage_command(
    paths: tuple[str, ...],
    form: str,
    explain: str | None,
    app: Path | None,
    extension: str | None,
    since: str | None,
    until: str | None,
    *,
    together: bool,
    verbose: bool,
) -> None:
    """Name the causes of a failure, with the lines that prove them.

    PATH is a case file, a sysdiagnose (.tar.gz), a .logarchive, a log in any style, lines copied from somewhere, a listing,
    db.plist, a print of launchctl, a crash or panic report; - is standard input. What it is is found out.

    Exit 0: no failure found. 1: a cause of failure found. 2: an input cannot be read.
    """
    if explain is not None:
        click.echo(explanation(explain))
        return
    if not paths:
        raise UsageError("something to read", seen="no PATH", hint="name a file or folder, or - for standard input")
    from harness.config import load_app
    from harness.triage.engine import triage
    from harness.triage.report import Triage, as_github, as_text

    product = load_app(app) if app else None
    window = (_moment("--since", since), _moment("--until", until))
    answers: list[Triage] = []
    unreadable: list[SysextError] = []
    for group in [paths] if together else [(path,) for path in paths]:
        try:
            answers.append(triage(group, app=product, extension_id=extension, since=window[0], until=window[1]))
        except SysextError as error:
            unreadable.append(error)
        except OSError as error:
            unreadable.append(UsageError(f"{', '.join(group)} can be read", seen=str(error)))
    if form == "json":
        click.echo(json.dumps([answer.as_dict() for answer in answers], indent=1, ensure_ascii=False))
    elif form == "github":
        click.echo("".join(as_github(answer) for answer in answers), nl=False)
    else:
        click.echo("\n".join(as_text(answer, verbose=verbose) for answer in answers), nl=False)
    for problem in unreadable:
        click.echo(f"sysext: {problem}", err=True)
    if unreadable:
        raise click.exceptions.Exit(2)
    if any(answer.verdict == "failure" for answer in answers):
        raise click.exceptions.Exit(1)


def explanation(code: str) -> str:
    """A cause's entry, for people.

    Raises:
        UsageError: There is no such code; names the nearest.
    """
    from harness.triage.catalog import load_catalog
    from harness.triage.pages import cause_text

    return cause_text(load_catalog().get(code))


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{option} is a time",
            seen=repr(text),
            hint="write it as 2025-06-09T15:30:00, with +05:30 behind it if needed",
        ) from error
