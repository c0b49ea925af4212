"""`sysext preflight APP…`: judge releases and upgrades before any Mac boots."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from harness.errors import SysextError, UsageError

if TYPE_CHECKING:
    from harness.bundles.preflight import Release, Report, Terms
    from harness.config import AppFile

_STYLES = {
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow"},
    "note": {"fg": "cyan"},
    "good": {"fg": "green"},
    "strong": {"bold": True},
    "dim": {"dim": True},
}


@click.command("preflight")
@click.argument("apps", nargs=-1, metavar="[APP]...")
@click.option("--previous", metavar="APP", help="the release it replaces: judge the upgrade too")
@click.option("--macos", multiple=True, metavar="VERSION", help="a macOS it shall run on (13, 14, …); may be repeated")
@click.option("--app-file", type=click.Path(path_type=Path), help="an app file: judge its newest release")
@click.option("--release", metavar="VERSION", help="which release of the app file; with --previous, from which")
@click.option("--matrix", is_flag=True, help="judge every upgrade between the app file's releases: a table")
@click.option("--adjacent", is_flag=True, help="with --matrix: only from each release to the next")
@click.option("--lane", default=None, help="how the Macs are prepared; sip-off: who signed does not matter")
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif", "github"]), default="text")
@click.option("--output", type=click.Path(path_type=Path), help="write to this file, and a summary to the terminal")
@click.option("--config", type=click.Path(path_type=Path), help="a settings file (default: sysext.toml here)")
@click.option("-v", "--verbose", is_flag=True, help="explain notes too")
@click.option("--list-rules", is_flag=True, help="say which rules there are; reads nothing")
def preflight(
    apps: tuple[str, ...],
    previous: str | None,
    macos: tuple[str, ...],
    app_file: Path | None,
    release: str | None,
    *,
    matrix: bool,
    adjacent: bool,
    lane: str | None,
    form: str,
    output: Path | None,
    config: Path | None,
    verbose: bool,
    list_rules: bool,
) -> None:
    """Say whether a release can activate, and whether an upgrade to it can go wrong, from its files alone.

    APP is an .app, an archive, package, disk image or a folder of them, a pattern, or a release: pypi:NAME==VERSION,
    https://…#sha256=HEX, or --app-file FILE --release VERSION. Rules are switched off in sysext.toml, with a reason:
    [preflight.off] rule-id = "reason".

    Exit 0: nothing that stops it. 1: findings of severity error. 2: something cannot be read.
    """
    from harness.bundles.preflight.rules import load_rules

    if list_rules:
        for rule in load_rules().values():
            click.echo(f"{rule.id:28} {rule.severity:8} {rule.title}"[:100])
        return
    settings = _settings(config, lane)
    terms = _terms(macos, settings.off, sip=settings.sip)
    app = _app(app_file or (settings.app if matrix or (not apps and release) else None))
    if matrix:
        text, reports = _matrix(app, apps, settings.cache, terms, form, adjacent=adjacent, plain=output is not None)
    else:
        reports = _judged(apps, previous, app, release, settings.cache, terms)
        text = _told(reports, form, plain=output is not None, verbose=verbose)
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)
        for report in reports:
            click.echo(report.headline())
    if any(not report.ok for report in reports):
        raise click.exceptions.Exit(1)


@dataclass(frozen=True)
class _Settings:
    """What is needed of the settings; by default as they are where nobody says anything."""

    off: dict[str, str] = field(default_factory=dict)
    sip: bool = True
    app: Path | None = None
    cache: Path = field(default_factory=lambda: Path.home() / ".cache" / "sysext")


def _settings(config: Path | None, lane: str | None) -> _Settings:
    """Loading settings takes longer than judging a release: only done where there are any."""
    if not (config or lane or Path("sysext.toml").is_file() or any(name.startswith("SYSEXT_") for name in os.environ)):
        return _Settings()
    from harness.cli.options import settings_from

    settings = settings_from(config, lane=lane)
    return _Settings(settings.preflight.off, settings.lane != "sip-off", settings.app, settings.cache_dir)


def _app(path: Path | None) -> AppFile | None:
    from harness.config import load_app

    return load_app(path) if path is not None else None


def _terms(macos: tuple[str, ...], off: dict[str, str], *, sip: bool) -> Terms:
    from harness.bundles.preflight import Terms, check_switched_off

    versions = [part.strip() for entry in macos for part in entry.split(",") if part.strip()]
    if versions:
        from harness.config import MacOS

        for version in versions:
            if version not in get_args(MacOS):
                raise UsageError("a macOS version", seen=version, hint=f"known: {', '.join(get_args(MacOS))}")
    check_switched_off(off, origin="sysext.toml, [preflight.off]")
    return Terms(macos=tuple(versions), sip=sip, off=off)


def _judged(
    apps: tuple[str, ...], previous: str | None, app: AppFile | None, release: str | None, cache: Path, terms: Terms
) -> list[Report]:
    from harness.bundles.preflight import judge
    from harness.bundles.preflight.sources import from_app_file, opened

    if release is not None and app is None:
        raise UsageError("the app file of --release", seen="none", hint="give --app-file FILE")
    if not apps and app is None:
        raise UsageError("an app to judge", seen="none", hint="name an .app or archive, or give --app-file FILE")
    if apps and release is not None:
        raise UsageError("either APP or --release", seen="both", hint="leave one away")
    sources = [previous] if previous is not None and _is_source(previous, app) else []
    with opened(sources, cache=cache, app=app) as before:
        if len(before) > 1:
            raise UsageError("one release for --previous", seen=", ".join(one.name for one in before))
        old = before[0] if before else None
        if previous is not None and old is None:
            assert app is not None
            old = from_app_file(app, previous, cache=cache)
        if not apps:
            assert app is not None
            return [judge(from_app_file(app, release, cache=cache), old, terms=terms)]
        reports: list[Report] = []
        unread: list[SysextError] = []
        for text in apps:
            try:
                with opened([text], cache=cache, app=app) as found:
                    reports += [judge(one, old, terms=terms) for one in found]
            except UsageError as error:
                unread.append(error)
        if unread:
            for problem in unread[:-1]:
                click.echo(f"sysext: {problem}", err=True)
            raise unread[-1]
        return reports


def _is_source(text: str, app: AppFile | None) -> bool:
    """Whether --previous names something to open, not a version of the app file."""
    return app is None or not any(release.version == text for release in app.releases) or Path(text).exists()


def _matrix(
    app: AppFile | None,
    apps: tuple[str, ...],
    cache: Path,
    terms: Terms,
    form: str,
    *,
    adjacent: bool,
    plain: bool,
) -> tuple[str, list[Report]]:
    import json

    from harness.bundles.preflight import matrix as matrices
    from harness.bundles.preflight.sources import from_app_file, opened

    if app is None and len(apps) < 2:
        raise UsageError(
            "the releases of --matrix", seen="none", hint="give --app-file FILE, or two releases and more, oldest first"
        )
    with opened(apps, cache=cache, app=app) as found:
        releases: list[Release] = list(found)
        if not releases:
            assert app is not None
            releases = [from_app_file(app, one.version, cache=cache) for one in app.releases]
        rows = matrices.matrix(releases, adjacent=adjacent, terms=terms)
    reports = [one.report for one in rows]
    if form == "json":
        return json.dumps([one.as_dict() for one in rows], indent=1, ensure_ascii=False) + "\n", reports
    if form == "text":
        return matrices.as_text(rows, _plain if plain else _paint), reports
    return _told(reports, form, plain=plain, verbose=False), reports


def _told(reports: list[Report], form: str, *, plain: bool, verbose: bool) -> str:
    from harness.bundles.preflight import output

    if form == "json":
        return output.as_json(reports)
    if form == "github":
        return output.as_github(reports)
    if form == "sarif":
        from harness.bundles.preflight.sarif import as_sarif

        return as_sarif(reports)
    return output.as_text(reports, _plain if plain else _paint, verbose=verbose)


def _paint(text: str, style: str) -> str:
    """Colours; click leaves them out where no terminal is."""
    return click.style(text, **_STYLES[style])  # type: ignore[arg-type]


def _plain(text: str, style: str) -> str:
    del style
    return text


def _write(path: Path, text: str) -> None:
    """All of it, or nothing."""
    from harness.cli.options import write_whole

    try:
        write_whole(path, text)
    except OSError as error:
        raise UsageError(f"{path} to be written", seen=str(error), hint="check the folder") from error
