"""`sysext signoff`: is a release good enough to ship, by what was demanded beforehand and by evidence that counts?"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from harness.cli.options import settings_from, usage_only
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.config import AppFile, Settings
    from harness.reports.signoff.document import SignOff

FORMATS = ("md", "html", "pdf", "json")


@click.command("signoff")
@click.option("--release", metavar="VERSION", help="the release to sign off, as the app file calls it")
@click.option(
    "--app", "app_file", type=click.Path(path_type=Path), help="the app file (default: `app` of the settings)"
)
@click.option(
    "--demands",
    type=click.Path(path_type=Path),
    default=Path("signoff.toml"),
    show_default=True,
    help="what is demanded",
)
@click.option("--out", type=click.Path(path_type=Path), help="write the reports into this folder")
@click.option("--format", "forms", metavar="LIST", default="md,html,pdf,json", show_default=True, help="which reports")
@click.option("--rehearsal", is_flag=True, help="count simulated Macs as if they were real: stamped, and exits 1")
@click.option(
    "--verify",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="check a sign-off's JSON; with --app and --demands against these, too",
)
@click.option("--against-history", is_flag=True, help="with --verify: its runs are those that the history has")
@click.option(
    "--config", "settings", type=click.Path(path_type=Path), help="a settings file (default: sysext.toml here)"
)
@click.option("--url", metavar="URL", help="another history than `history.url` of the settings")
@click.pass_context
def signoff(
    ctx: click.Context,
    /,
    release: str | None,
    app_file: Path | None,
    demands: Path,
    out: Path | None,
    forms: str,
    *,
    rehearsal: bool,
    verify: Path | None,
    against_history: bool,
    settings: Path | None,
    url: str | None,
) -> None:
    """Judge a release by signoff.toml: often enough run, seldom enough failed, on real Macs, with this very build, lately.

    What does not count is told with its reason. Runs on simulated Macs never count.

    Exit 0: every item is met or waived (with --verify: the file is whole). 1: not. 2: unusable input.
    """
    chosen = _formats(forms)
    options = settings_from(settings, **{"history.url": url})
    if verify is not None:
        given = ctx.get_parameter_source("demands") is not ParameterSource.DEFAULT
        with usage_only():
            _verify(verify, app_file, demands if given else None, options, against_history=against_history)
        return
    if against_history:
        raise UsageError("--against-history with --verify FILE", seen="no --verify", hint="name the sign-off to check")
    if release is None:
        raise UsageError("a release to sign off", seen="none", hint="give --release VERSION")
    from harness.history.store import open_history, require_history
    from harness.reports.signoff.config import load_signoff
    from harness.reports.signoff.document import sign_off
    from harness.reports.signoff.gathering import gather, not_run, unmatched
    from harness.reports.signoff.pages import as_text, plain

    config = load_signoff(demands)
    app = _app(app_file, options)
    app.release(release)
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"a folder at {out}", seen="a file", hint="give --out another name")
    require_history(options)
    with usage_only(), open_history(options) as history:
        evidence = gather(history, app, release, config, options, rehearsal=rehearsal)
        for line in (*unmatched(history, config), *not_run(history, config, release)):
            click.echo(f"sysext: {plain(line)}", err=True)
    signed = sign_off(evidence)
    if out is not None:
        _write(signed, out, chosen)
    click.echo(as_text(signed), nl=False)
    if out is not None:
        click.echo(f"reports: {', '.join(str(out / _name(signed, form)) for form in chosen)}")
    if not signed.decision.signed_off:
        raise click.exceptions.Exit(1)


def _formats(text: str) -> list[str]:
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [one for one in chosen if one not in FORMATS]
    if unknown or not chosen:
        raise UsageError(
            "--format: a list of reports", seen=", ".join(unknown) or "nothing", hint=f"known: {', '.join(FORMATS)}"
        )
    return list(dict.fromkeys(chosen))


def _app(path: Path | None, settings: Settings) -> AppFile:
    from harness.config import load_app

    wanted = path or settings.app
    if wanted is None:
        raise UsageError(
            "an app file: which build is signed off is read from the release's own files",
            seen="none given",
            hint="give --app scenarios/apps/mitmproxy.toml, or set `app` in sysext.toml",
        )
    return load_app(wanted)


def _verify(
    path: Path, app_file: Path | None, demands: Path | None, settings: Settings, *, against_history: bool
) -> None:
    from harness.reports.signoff.document import against, verify

    found = verify(path)
    problems, checked = list(found.problems), list(found.checked)
    evidence = found.signed.evidence
    if against_history:
        from harness.history.store import open_history, require_history
        from harness.reports.signoff.gathering import rows_of

        require_history(settings)
        with open_history(settings) as history:
            rows = rows_of(history, evidence.release)
            if evidence.rehearsal:
                rows += rows_of(history, evidence.release, simulated=True)
        problems += against(found.signed, rows=rows)
        checked.append("every run compared with the history")
    if app_file is not None:
        from harness.bundles.releases import fetch_release
        from harness.reports.signoff.evidence import builds_of
        from harness.reports.signoff.gathering import checked_of

        app = _app(app_file, settings)
        bundle = fetch_release(app.release(evidence.release), app, settings.cache_dir)
        findings = checked_of(evidence.config, app, evidence.release, bundle, settings)
        problems += against(found.signed, builds=builds_of(bundle, app.extension.id), checked=findings)
        checked.append("build and preflight compared with the release's files")
    if demands is not None:
        from harness.reports.signoff.config import load_signoff

        problems += against(found.signed, config=load_signoff(demands))
        checked.append(f"what is demanded compared with {demands}")
    from harness.reports.signoff.pages import plain

    click.echo(f"{plain(evidence.app)} {plain(evidence.release)}, as of {plain(evidence.as_of)}")
    click.echo(f"  {plain(found.signed.decision.headline)}")
    for line in checked:
        click.echo(f"  {line}")
    for problem in problems[:50]:
        click.echo(f"  WRONG: {plain(problem)}")
    if len(problems) > 50:
        click.echo(f"  WRONG: and {len(problems) - 50} more")
    click.echo(f"digest {found.signed.digest}: {'NOT whole' if problems else 'whole'}")
    if problems:
        raise click.exceptions.Exit(1)


def _name(signed: SignOff, form: str) -> str:
    release = "".join(
        char if char.isascii() and (char.isalnum() or char in "-._") else "_" for char in signed.evidence.release
    )
    return f"{'rehearsal' if signed.evidence.rehearsal else 'signoff'}-{release}.{form}"


def _write(signed: SignOff, folder: Path, forms: list[str]) -> None:
    """All of them or none: each is made before the first is written, and they appear together."""
    from harness.reports.signoff import pages
    from harness.reports.signoff.document import as_json

    made: dict[str, bytes] = {}
    for form in forms:
        if form == "pdf":
            from harness.reports.signoff.pdf import as_pdf

            made[form] = as_pdf(signed)
        else:
            text = {"md": pages.as_markdown, "html": pages.as_html, "json": as_json}[form](signed)
            made[form] = text.encode("utf-8", errors="replace")
    partial = {form: folder / f".{_name(signed, form)}.{os.getpid()}" for form in forms}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for form, path in partial.items():
            path.write_bytes(made[form])
        for form, path in partial.items():
            path.replace(folder / _name(signed, form))
    except OSError as error:
        for path in partial.values():
            with contextlib.suppress(OSError):
                path.unlink()
        raise UsageError(f"a folder at {folder} that can be written to", seen=str(error), hint="check --out") from error
