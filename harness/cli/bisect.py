"""`sysext bisect`: which release brought a fault that only shows now and then."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import echo, remove_if_empty, run_folder, say, tame, usage_only, write_whole
from harness.errors import SysextError, UsageError

if TYPE_CHECKING:
    from harness.config import AppFile, Settings
    from harness.repro.bisecting import Hunt
    from harness.repro.chains import Chain
    from harness.repro.probing import Probers

REGISTRY_SECONDS = 120.0
MOST_JOBS = 16
"""All the ways in which so many runs may come out are gone through to choose the next one."""


@click.command("bisect", context_settings={"ignore_unknown_options": True})
@click.option("--good", required=True, metavar="RELEASE", help="the last release known as good")
@click.option("--bad", required=True, metavar="RELEASE", help="one known as bad")
@click.argument("scenario")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[--sysext-… OPTIONS]")
@click.option("--sure", type=float, default=0.95, show_default=True, metavar="P", help="how likely the answer is to be")
@click.option(
    "--prior-rate",
    metavar="R",
    default=None,
    help="how often the bad one fails: 0.2 as a guess, or 7/35 as counted (then that is not checked again)",
)
@click.option("--release-list", metavar="A,B,C", default="", help="the releases between, oldest first")
@click.option("--cause", metavar="CODE", default="", help="count only failures by this cause (docs/causes.md)")
@click.option(
    "--most", type=click.IntRange(1, 100_000), default=400, show_default=True, metavar="N", help="runs at most"
)
@click.option(
    "-n", "jobs", type=click.IntRange(1, MOST_JOBS), default=1, metavar="JOBS", help="runs side by side  [default: 1]"
)
@click.option("--ends/--no-ends", default=True, help="see first that the bad end fails and the good one does not")
@click.option(
    "--json", "output", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), metavar="FILE", help="the answer, for programs (- for standard output)"
)  # fmt: skip
@click.pass_context
def bisect(
    ctx: click.Context,
    good: str,
    bad: str,
    scenario: str,
    options: tuple[str, ...],
    sure: float,
    prior_rate: str | None,
    release_list: str,
    cause: str,
    most: int,
    jobs: int,
    ends: bool,  # noqa: FBT001 - click's way
    output: Path | None,
) -> None:
    """Find the release that brought a failure which only shows now and then.

    SCENARIO is a pytest node id or a word of its name. Each run is a fresh one of it at one release (an upgrade: from the
    release before to that one), chosen where it is expected to tell most; each moves the probability of every release. What
    the environment breaks does not count. Releases: those of the app file between --good and --bad; where it only has these
    two, all that their registry has between. Ctrl-C gives the answer so far. The --sysext-… options are those of `pytest --help`.

    Exit 0: found. 3: undecided, or an end is not what it was said to be. 2: unusable input.
    """
    from harness.config import load_app, load_settings
    from harness.repro.bisecting import Hunt, Prior
    from harness.repro.hunting import plan_lines, verdict_lines
    from harness.repro.probing import Probers
    from harness.repro.processes import term_as_interrupt
    from harness.repro.selecting import parse_options, pytest_arguments, settings_overrides
    from harness.triage.catalog import load_catalog

    given = parse_options(options, "bisect")
    if given.rest:
        raise UsageError("one scenario", seen=" ".join([scenario, *given.rest]), hint="quote an expression")
    if given.sysext_release:
        raise UsageError("--good and --bad", seen="--sysext-release", hint="leave it out: each run has its own release")
    settings = load_settings(
        Path(given.sysext_config) if given.sysext_config else None, overrides=settings_overrides(given)
    )
    if settings.app is None:
        raise UsageError(
            "an app file: the product under test",
            seen="none given",
            hint="give --sysext-app scenarios/apps/mitmproxy.toml, set SYSEXT_APP, or `app` in sysext.toml",
        )
    if cause:
        load_catalog().get(cause)  # a code that nothing has would count no failure at all, and run to the end
    app = load_app(settings.app)
    with usage_only():
        chain = _chain(app, good, bad, release_list)
    prior = Prior.parse(prior_rate) if prior_rate is not None else Prior()
    hunt = Hunt(chain.names, sure=sure, prior=prior, cause=cause, most=most, ends=ends)
    if output is not None and str(output) != "-" and not output.absolute().parent.is_dir():
        raise UsageError(f"a folder for {output}", seen="it is not there", hint="check --json")
    plain = str(output) == "-"  # then standard output is the answer's alone
    folder = run_folder(settings)
    words = list(options)
    if not chain.listed:
        words = [*_without_app(words), "--sysext-app", str(chain.write(app, folder / "bisect.toml"))]
    simulated = settings.provider == "simulated"
    base = pytest_arguments(scenario, words, root=Path.cwd(), simulated=simulated, keep="none")
    places = {"simulated": settings.simulated.slots, "tart": settings.tart.slots}.get(settings.provider, jobs)
    jobs = min(jobs, places)  # more would only wait for a place
    before = chain.before.version if chain.before is not None else ""
    for line in plan_lines(hunt, chain.origin, before, jobs=jobs):
        say(line, err=plain)

    def ready(scenarios: list[str], header: list[str]) -> None:
        for text in (*header, *(f"each run: {name}" for name in scenarios)):
            say(text, err=plain)

    started = time.monotonic()
    try:
        with (
            term_as_interrupt(),
            Probers(jobs, lambda at: [*base, f"--sysext-release={at}"], folder, ready=ready, cause=cause) as probers,
        ):
            _hunt(hunt, probers, jobs, plain=plain)
    except KeyboardInterrupt:
        hunt.stop("interrupted")
    except SysextError as error:
        if isinstance(error, UsageError) and not hunt.outcomes:
            remove_if_empty(folder, "workers", "live.log", "bisect.toml")
            raise
        hunt.stop(" ".join(str(error).split())[:600])  # what the runs before it said is not lost
    seconds = time.monotonic() - started
    lines = [*_final_table(hunt), *verdict_lines(hunt, folder=folder, seconds=seconds, simulated=simulated)]
    if hunt.answer is not None:
        lines += _neighbours(hunt, app, chain, settings)
    for line in lines:
        say(line, err=plain)
    _finish(hunt, folder, settings, output, plain=plain, simulated=simulated, seconds=seconds)
    ctx.exit(0 if hunt.answer is not None else 3)


def _chain(app: AppFile, good: str, bad: str, release_list: str) -> Chain:
    from harness.bundles.releases import registry_versions
    from harness.repro.chains import make_chain
    from harness.waiting import Deadline

    named = [part.strip() for part in release_list.split(",") if part.strip()]
    if release_list and not named:
        raise UsageError("releases in --release-list", seen=repr(release_list), hint="A,B,C, oldest first")
    return make_chain(
        app, good, bad, named=named, registry=lambda name: registry_versions(name, Deadline.after(REGISTRY_SECONDS))
    )


def _without_app(words: list[str]) -> list[str]:
    """The options but for `--sysext-app`, in either form."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == "--sysext-app":
            skip = True
        elif not word.startswith("--sysext-app="):
            kept.append(word)
    return kept


def _hunt(hunt: Hunt, probers: Probers, jobs: int, *, plain: bool) -> None:
    """Run until it is over; a table that lives on a terminal, a line per run elsewhere."""
    from harness.repro.hunting import run_line

    with _live(hunt, plain=plain) as show:
        while releases := hunt.batch(jobs):
            show(releases, "")
            for release, outcome in zip(releases, probers.run(releases), strict=True):
                counts = hunt.take(release, outcome)
                show([], run_line(hunt, release, outcome, counts=counts))


@contextmanager
def _live(hunt: Hunt, *, plain: bool) -> Iterator[Any]:
    """Gives a function (releases that run now, line that stays)."""
    from harness.events import SECRETS
    from harness.repro.hunting import table

    stream = sys.stderr if plain else sys.stdout
    if not stream.isatty():

        def tell(_releases: list[str], line: str) -> None:
            if line:
                say(line, err=plain)

        yield tell
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def draw(releases: list[str], line: str) -> None:
            if line:
                console.print(Text(tame(SECRETS.mask(line))))
            live.update(Text(tame("\n".join(table(hunt, now=releases)))), refresh=True)

        yield draw


def _final_table(hunt: Hunt) -> list[str]:
    from harness.repro.hunting import table

    return table(hunt) if hunt.outcomes else []


def _neighbours(hunt: Hunt, app: AppFile, chain: Chain, settings: Settings) -> list[str]:
    """What the files of the release found show beside those of the one before. It only adds to the answer."""
    from harness.bundles.preflight import judge
    from harness.bundles.preflight.sources import from_app_file

    releases = [*([chain.before] if chain.before is not None else []), *chain.releases]
    names = [release.version for release in releases]
    own = app.model_copy(update={"releases": releases})
    try:
        place = names.index(str(hunt.answer))
        found = [from_app_file(own, name, cache=settings.cache_dir) for name in names[max(0, place - 2) : place + 1]]
        report = judge(found[-1], found[-2])
        before = judge(found[-2], found[-3] if len(found) > 2 else None)
    except SysextError as error:
        return [f"preflight of {hunt.answer} could not be made: {error}"]
    # What the release before it had as well did not bring it.
    old = {(finding.rule.id, finding.what.replace(before.name, "")) for finding in before.findings}
    new = [one for one in report.findings if (one.rule.id, one.what.replace(report.name, "")) not in old]
    lines = [
        f"preflight {report.headline()}; {len(new)} of them new with it"
        if report.findings
        else f"preflight {report.headline()}"
    ]
    lines += [f"  {finding.severity} {finding.rule.id}: {finding.what}"[:300] for finding in new[:8]]
    return lines


def _finish(
    hunt: Hunt,
    folder: Path,
    settings: Settings,
    output: Path | None,
    *,
    plain: bool,
    simulated: bool,
    seconds: float,
) -> None:
    from harness.events import SECRETS
    from harness.history.recording import record_session

    if said := record_session(folder, settings):
        say(said, err=plain)
    data = {**hunt.as_dict(), "simulated": simulated, "seconds": round(seconds, 1), "folder": str(folder)}
    text = json.dumps(SECRETS.mask_all(data), indent=1, ensure_ascii=False) + "\n"
    for path in (folder / "bisect.json", output):
        if path is None:
            continue
        if str(path) == "-":
            echo(text)
            continue
        try:
            write_whole(path, text)
        except OSError as error:
            say(f"sysext: the answer could not be written to {path}: {error}", err=True)
