"""`sysext feedback CASE`: a folder for Apple's Feedback Assistant."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from harness.errors import UsageError


@click.command("feedback")
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="where to; must not be there (default: CASE-feedback here)"
)
@click.option("--words", type=click.Path(path_type=Path), metavar="FILE", help="more texts to mask, one a line")
@click.option("--allow-simulated", is_flag=True, help="also for a simulated Mac, marked SIMULATED everywhere")
def feedback(case: Path, output: Path | None, words: Path | None, *, allow_simulated: bool) -> None:
    """Make a report for Apple from a failing scenario's case file CASE: text, exact log lines, redacted attachments.

    Read report.md and look through the attachments before you send them.
    """
    from harness.cli.redact import read_words
    from harness.triage.feedback import MARK, make_package

    target = output or Path(f"{case.resolve().name}-feedback")
    if target.exists() or target.is_symlink():
        raise UsageError(f"nothing at {target} yet", seen="it is there", hint="give another --output")
    more = read_words(words)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        package = make_package(case, work, allow_simulated=allow_simulated, words=more)
        if package.simulated and MARK not in target.name:
            target = target.with_name(f"{target.name}-{MARK}")
            if target.exists():
                raise UsageError(f"nothing at {target} yet", seen="it is there", hint="give another --output")
        work.chmod(0o755)
        work.replace(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    click.echo("\n".join(package.lines()))
    click.echo(f"written to {target}")
