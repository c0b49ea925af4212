"""The command `sysext`: thin. Each verb imports what it needs when it runs.

Exit codes: 0 fine, 1 something is wrong (said what), or nobody reads the output any more, 2 unusable input, 130 interrupted.
"""

from __future__ import annotations

import sys

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


class _Lazy(click.Group):
    """Imports a verb's module only when that verb is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(_VERBS)

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

    Scenarios are run by pytest (`pytest scenarios --sysext-app …`); this command looks after the rest.
    """


def main() -> None:
    """Entry point."""
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
        click.echo(f"sysext: {error}", err=True)
        code = 2
    except SysextError as error:
        click.echo(f"sysext: {error}", err=True)
        code = 1
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
