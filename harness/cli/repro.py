"""`sysext repro`: run a scenario again and again until it is sure how often it fails; keep the Mac on which it did first."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import echo, remove_if_empty, run_folder, say, write_whole
from harness.errors import SysextError, UsageError

if TYPE_CHECKING:
    from harness.config import Settings
    from harness.repro.questions import Question


@click.command("repro", context_settings={"ignore_unknown_options": True})
@click.argument("scenario")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[--sysext-… OPTIONS]")
@click.option("--until-fail", is_flag=True, help="stop at the first failure")
@click.option("--cycles", type=int, metavar="N", help="so many, all of them (with --until-fail: at most)")
@click.option("--rate", type=float, metavar="R", help="a failure rate that is not acceptable  [default: 0.05]")
@click.option("--fine", type=float, metavar="R", help="one that is  [default: a fifth of --rate]")
@click.option("--sure", type=float, metavar="P", help="how sure the answer is to be  [default: 0.95]")
@click.option(
    "--fresh/--same-mac", "fresh", default=True, help="a fresh Mac per cycle (default), or the same one, cleaned"
)
@click.option(
    "-n", "jobs", type=click.IntRange(1, 64), default=1, metavar="JOBS", help="cycles side by side  [default: 1]"
)
@click.option(
    "--keep",
    type=click.Choice(["none", "first", "all"]),
    default="first",
    show_default=True,
    help="which of the Macs on which it failed are kept running",
)
@click.option(
    "--json",
    "output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="the report, for programs (- for standard output)",
)
@click.pass_context
def repro(
    ctx: click.Context,
    scenario: str,
    options: tuple[str, ...],
    until_fail: bool,  # noqa: FBT001 - click's way
    cycles: int | None,
    rate: float | None,
    fine: float | None,
    sure: float | None,
    fresh: bool,  # noqa: FBT001
    jobs: int,
    keep: str,
    output: Path | None,
) -> None:
    """Run SCENARIO (a pytest node id, or a word of its name) until it is sure whether it fails.

    By default a sequential test: it stops as soon as the failure rate is known to be low (--fine) or high (--rate). What the
    environment breaks does not count, and is run again. The first Mac on which it fails is kept running. Ctrl-C gives the
    answer so far. The --sysext-… options are those of `pytest --help`: app, provider, macOS, release, faults and so on.

    Exit 0: the rate is accepted. 1: it fails. 3: undecided. 2: unusable input.
    """
    from harness.config import load_settings
    from harness.repro.looping import Loop, Told
    from harness.repro.processes import term_as_interrupt
    from harness.repro.questions import Answer
    from harness.repro.selecting import parse_options, pytest_arguments, settings_overrides
    from harness.repro.telling import Live, as_dict, report

    question = _question(until_fail=until_fail, cycles=cycles, rate=rate, fine=fine, sure=sure)
    given = parse_options(options)
    if given.rest:
        raise UsageError(
            "one scenario", seen=" ".join([scenario, *given.rest]), hint="quote an expression: 'upgrade and not wait'"
        )
    settings = load_settings(
        Path(given.sysext_config) if given.sysext_config else None, overrides=settings_overrides(given)
    )
    plain = str(output) == "-"  # then standard output is the report's alone
    if output is not None and not plain and not output.absolute().parent.is_dir():
        raise UsageError(f"a folder for {output}", seen="it is not there", hint="check --json")
    simulated = settings.provider == "simulated"
    arguments = pytest_arguments(scenario, options, root=Path.cwd(), simulated=simulated, same_mac=not fresh, keep=keep)
    folder = run_folder(settings)
    terminal = (sys.stderr if plain else sys.stdout).isatty()
    live = Live(lambda text: echo(text, err=plain), terminal=terminal)

    def ready(scenarios: list[str], header: list[str]) -> None:
        for line in header:
            live.line(line)
        live.line(f"sysext: {len(scenarios)} scenarios, in turn:" if len(scenarios) > 1 else f"sysext: {scenarios[0]}")
        for name in scenarios if len(scenarios) > 1 else ():
            live.line(f"  {name}")
        for line in question.lines():
            live.line(line)

    told = Told(ready=ready, outcome=live.outcome, kept=live.kept, note=live.line)
    places = {"simulated": settings.simulated.slots, "tart": settings.tart.slots}.get(settings.provider)
    loop = Loop(arguments, question, folder=folder, jobs=jobs, places=places, told=told)
    started = time.monotonic()
    try:
        with term_as_interrupt():
            decider = loop.run()
    except UsageError:
        remove_if_empty(folder, "workers", "live.log")
        raise
    except SysextError as error:  # 1 would say that the scenario fails, and nothing is known of it
        say(f"sysext: {error}", err=True)
        ctx.exit(Answer.UNDECIDED.exit_code)
    finally:
        live.end()
    seconds = time.monotonic() - started
    said = report(decider, folder=folder, simulated=simulated, same_mac=not fresh, seconds=seconds, jobs=jobs)
    say(said, err=plain)
    data = as_dict(decider, folder=folder, simulated=simulated, same_mac=not fresh, seconds=seconds, jobs=jobs)
    _record(folder, settings, plain=plain)
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    if plain:
        echo(text)
    for path in (folder / "repro.json", None if plain else output):
        if path is not None:
            _write(path, text)
    assert decider.answer is not None
    ctx.exit(decider.answer.exit_code)


def _question(
    *, until_fail: bool, cycles: int | None, rate: float | None, fine: float | None, sure: float | None
) -> Question:
    from harness.repro.questions import DEFAULT_RATE, DEFAULT_SURE, Fixed, Sequential, UntilFail

    rate_, sure_ = rate if rate is not None else DEFAULT_RATE, sure if sure is not None else DEFAULT_SURE
    if until_fail:
        if rate is not None or fine is not None:
            raise UsageError("--until-fail alone", seen="with a rate", hint="leave --rate and --fine out")
        return UntilFail(cycles, sure=sure_)
    if cycles is not None:
        if fine is not None:
            raise UsageError("--fine for a sequential test", seen="--cycles", hint="leave one of them out")
        return Fixed(cycles, rate=rate_, sure=sure_)
    return Sequential(rate_, sure=sure_, fine=fine)


def _record(folder: Path, settings: Settings, *, plain: bool) -> None:
    from harness.history.recording import record_session

    if said := record_session(folder, settings):
        say(said, err=plain)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        say(f"sysext: the report could not be written to {path}: {error}", err=True)
