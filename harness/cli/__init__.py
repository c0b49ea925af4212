"""The command `sysext`: thin. Each verb imports what it needs when it runs.

Exit codes: 0 fine, 1 something is wrong (said what), or nobody reads the output any more, 2 unusable input, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import click

from harness import __version__
from harness.errors import SysextError, UsageError

_VERBS = {
    "app": "harness.cli.app:show",
    "attach": "harness.cli.attach:attach",
    "bisect": "harness.cli.bisect:bisect",
    "doctor": "harness.cli.doctor:doctor",
    "faults": "harness.cli.machines:faults",
    "feedback": "harness.cli.feedback:feedback",
    "gc": "harness.cli.machines:gc",
    "history": "harness.cli.history:history",
    "inspect": "harness.cli.inspect:inspect",
    "machines": "harness.cli.machines:machines",
    "redact": "harness.cli.redact:redact",
    "preflight": "harness.cli.preflight:preflight",
    "replay": "harness.cli.replay:replay",
    "report": "harness.cli.report:report",
    "repro": "harness.cli.repro:repro",
    "screen": "harness.cli.screen:screen",
    "signoff": "harness.cli.signoff:signoff",
    "triage": "harness.cli.triage:triage_command",
}

# What `sysext --help` shows, in the order in which one meets them: a line each, for no verb is imported to be listed.
_SECTIONS = {
    "Before any Mac boots": {
        "doctor": "Check this host, or a Mac, for what the harness needs.",
        "app": "Fetch an app file's releases; show versions, team, builds.",
        "inspect": "Show what is inside an app, archive or release.",
        "preflight": "Say from the files whether it can activate and upgrade.",
    },
    "After a failure": {
        "report": "Print the table of a run.",
        "triage": "Name the cause, with the lines that prove it.",
        "screen": "Read, watch and export what is on a screen.",
        "attach": "Reach the Mac that was kept.",
        "replay": "Run a scenario again as its case file says it was run.",
        "redact": "Mask names, accounts and addresses in evidence.",
        "feedback": "Make a report for Apple from a case file.",
    },
    "What comes now and then": {
        "repro": "Run a scenario until it is sure how often it fails.",
        "bisect": "Find the release that brought a failure.",
        "history": "Failure rates over all recorded runs.",
        "signoff": "Judge a release by signoff.toml.",
    },
    "Macs": {
        "machines": "List the Macs this program made and has not deleted.",
        "gc": "Remove Macs whose owner is gone.",
        "faults": "List the faults that simulated Macs can have.",
    },
}


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What writing to a full disk ends with; of standard output no name is told."""


class _Lazy(click.Group):
    """Imports a verb's module only when that verb is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(_VERBS)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, verbs in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(verbs.items()), col_max=20, col_spacing=3)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        import importlib

        where = _VERBS.get(name)
        if where is None:
            return None
        module, attribute = where.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], _VERBS, n=1)
            if not near or "Did you mean" in error.message:  # newer versions of click say so themselves
                raise
            raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from error


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sysext")
def cli() -> None:
    """Test a macOS system extension's approval end to end, on disposable Macs.

    \b
    Scenarios are run by pytest; this command looks after the rest:
        pytest scenarios --sysext-app FILE
        pytest scenarios --sysext-app FILE --sysext-provider simulated     (no Tart here)

    `sysext COMMAND --help` tells its options and exit codes.
    """  # noqa: D301 - click's mark for a paragraph that is not wrapped is the character \b itself


def main() -> None:
    """Entry point."""
    # Closed by who started us (`>&-`): then Python has None there, and nobody would read it.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        code = cli(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = 2
    except UsageError as error:
        _complain(error)
        code = 2
    except SysextError as error:
        _complain(error)
        code = 1
    except OSError as error:
        if error.filename is None and error.errno not in _FULL:
            raise
        place = "for what is printed" if error.filename is None else f"at {str(error.filename)[:300]}"
        _complain(
            UsageError(
                f"a place that can be used {place}",
                seen=error.strerror or str(error),
                hint="check the path, its rights, the disk",
            )
        )
        code = 2
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _complain(error: SysextError) -> None:
    """What is said may quote a file from anywhere, or a line with a password in it."""
    from harness.cli.options import say

    say(f"sysext: {error}", err=True)
