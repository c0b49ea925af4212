"""`sysext replay`: the scenario of a case file once more, as it was run."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import remove_if_empty, settings_from, tame, usage_only
from harness.errors import UsageError

PROVIDERS = ("tart", "simulated", "this-mac")

if TYPE_CHECKING:
    from harness.config import Settings
    from harness.repro.cases import Recorded
    from harness.repro.replaying import Replay


@click.command()
@click.argument("case", type=click.Path(path_type=Path), metavar="CASE")
@click.option("--case", "wanted", default="", help="of several case files, the one with this in its name")
@click.option("--print", "only_print", is_flag=True, help="say what would be run and what differs; run nothing")
@click.option("--release", default=None, help="another release of the app")
@click.option("--macos", default=None, help="another macOS version")
@click.option("--provider", type=click.Choice(PROVIDERS), default=None, help="Macs from elsewhere")
@click.option("--image", default=None, help="another image")
@click.option(
    "--app", type=click.Path(path_type=Path), default=None, help="this app file instead of the one that is found"
)
@click.option(
    "--keep",
    type=click.Choice(["none", "first", "all"]),
    default="first",
    show_default=True,
    help="of the Macs on which it fails, keep these running",
)
@click.option(
    "--root", type=click.Path(path_type=Path), default=Path(), help="the checkout with the scenarios (default: here)"
)
@click.option(
    "--config", type=click.Path(path_type=Path), default=None, help="this host's settings (default: sysext.toml here)"
)
def replay(
    case: Path,
    wanted: str,
    only_print: bool,  # noqa: FBT001 - click's way
    keep: str,
    root: Path,
    config: Path | None,
    **changed: Any,
) -> None:
    """Run a scenario again as its case file says it was run, and keep the Mac if it fails.

    CASE is a case file (its folder, run.jsonl or result.json), a folder of them, or a zip: a downloaded artifact as it is.
    What is not as it was (another app file, an image that is gone) is told; it is not recorded in the history.

    Exit 0: it ended as it had. 1: it ended otherwise. 2: it cannot be run here.
    """
    from harness.repro.cases import read_case
    from harness.repro.replaying import Changes, check_image, plan_replay, told_differences

    recorded = read_case(case, wanted)
    host = settings_from(config, **{"simulated.faults": [], "image": None})
    plan = plan_replay(recorded, host, root=root.absolute(), changes=Changes(**changed))
    click.echo(tame(f"replays {recorded.told}"))
    if not only_print:
        with usage_only():
            check_image(plan, host)
    for line in told_differences(plan.differences):
        click.echo(tame(f"  {line}"))
    artifacts = _artifacts(host, claimed=not only_print)
    file = artifacts / "replay.toml"
    if not plan.differences:
        click.echo("  nothing differs from that run")
    if plan.table.get("provider") == "simulated":
        click.echo(tame(f"  SIMULATED; faults are decided as they were (run key {recorded.run_key or 'of its name'})"))
    if only_print:
        click.echo(f"settings ({file}):")
        from harness.repro.writing import as_toml

        click.echo(tame("".join(f"  {line}\n" for line in as_toml(plan.table).splitlines())), nl=False)
    if keep == "first" and recorded.verdict is not None and recorded.verdict.value == "environment-failure":
        keep = "all"  # `first` passes over what the environment broke, which here is what is wanted
    click.echo(plan.shown(file, artifacts, keep=keep))
    if only_print:
        return
    try:
        with usage_only():
            plan.write(file)
            code = _run(plan, recorded, file, artifacts, keep)
    except UsageError:
        remove_if_empty(artifacts, file.name)
        raise
    raise click.exceptions.Exit(code)


def _artifacts(host: Settings, *, claimed: bool) -> Path:
    """A folder of this replay's own; made, if it is `claimed`: two at the same moment get two."""
    from harness.session.run import claim, unused

    stamp = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
    folder = host.artifacts.absolute() / f"replay-{stamp}"
    return claim(folder) if claimed else unused(folder)


def _run(plan: Replay, recorded: Recorded, file: Path, artifacts: Path, keep: str) -> int:
    """Run it and say how it compares; the exit code."""
    import shlex

    from harness.errors import EnvironmentFailure
    from harness.reports.result import final_attempts, read_results
    from harness.repro.processes import run_pytest
    from harness.repro.replaying import same_outcome

    code = run_pytest(plan.command(file, artifacts, keep=keep), cwd=plan.root, environment=plan.environment())
    results, _ = read_results(artifacts)
    ended = [last for last, _ in final_attempts(results)]
    if len(ended) != 1:
        raise EnvironmentFailure(
            f"one result of {plan.nodeid}",
            seen=f"{len(ended)} results; pytest ended with {code}",
            hint="its output above says why; was the scenario renamed since?",
        )
    result = ended[0]
    was = recorded.verdict.value if recorded.verdict is not None else "cut off"
    then = f"{was} ({tame(recorded.cause)})" if recorded.cause else was
    now = f"{result.verdict.value} ({result.cause})" if result.cause else result.verdict.value
    same = same_outcome(recorded, result.verdict, result.cause)
    click.echo(f"{'the same as before' if same else 'not as before'}: it was {then}, and is {now} now")
    folder = artifacts / result.case
    click.echo(f"case file: {folder}")
    from harness.repro.cases import read_case

    again = read_case(folder)
    for difference in plan.overridden(again.settings):
        click.echo(tame(f"differs, and was not to: {difference}"))
    if again.kept:
        click.echo(f"its Mac is kept: sysext attach {shlex.quote(str(folder))}")
    sys.stdout.flush()
    return 0 if same else 1
