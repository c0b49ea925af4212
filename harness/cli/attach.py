"""`sysext attach`: the Mac that was kept after a failure: what it is, and how to get in."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import settings_from, tame

if TYPE_CHECKING:
    from harness.config import Settings
    from harness.repro.keeping import Kept


@click.command()
@click.argument("target", metavar="CASE|MACHINE")
@click.option(
    "--config", type=click.Path(path_type=Path), default=None, help="a settings file (default: sysext.toml here)"
)
@click.option("--case", "wanted", default="", help="of several case files, the one with this in its name")
@click.option("--ssh", is_flag=True, help="open a shell in it")
@click.option("--vnc", is_flag=True, help="look at its screen (opens macOS's viewer; elsewhere the URL is printed)")
@click.option("--delete", is_flag=True, help="put it away")
@click.option("--show-password", is_flag=True, help="show the VNC password also where no terminal reads it")
def attach(
    target: str,
    config: Path | None,
    wanted: str,
    ssh: bool,  # noqa: FBT001 - click's way
    vnc: bool,  # noqa: FBT001
    delete: bool,  # noqa: FBT001
    show_password: bool,  # noqa: FBT001
) -> None:
    """Reach a Mac that was kept (--sysext-keep-vm, `sysext repro`, `sysext replay`).

    CASE is a case file: its folder, result.json or run.jsonl. MACHINE is a name, or a part of one, of `sysext machines`.

    Exit 0: it runs. 1: it is stopped or gone; it is told how to run the scenario again. 2: there is no such case or Mac.
    """
    from harness.errors import UsageError
    from harness.repro.keeping import find_kept

    if ssh + vnc + delete > 1:
        raise UsageError("one of --ssh, --vnc and --delete", seen="more than one", hint="one after the other")
    # Faults that are to be injected elsewhere (SYSEXT_FAULT) have no bearing here.
    settings = settings_from(config, **{"simulated.faults": []})
    kept = find_kept(target, settings, wanted=wanted)
    if delete:
        _delete(kept, settings)
        return
    running = kept.state == "running"
    if ssh and running:
        _ssh(kept, settings)
    if vnc and running:
        _vnc(kept, show_password=show_password or sys.stdout.isatty())
        return
    for line in describe(kept, settings, target=target, password=show_password or sys.stdout.isatty()):
        click.echo(tame(line))
    if not running:
        raise click.exceptions.Exit(1)


def describe(kept: Kept, settings: Settings, *, target: str, password: bool, now: datetime | None = None) -> list[str]:
    """What it is and how to get in, as lines. The VNC password is among them only with `password`."""
    quoted = shlex.quote(target)
    label = " (a SIMULATED Mac)" if kept.lease is not None and kept.lease.simulated else ""
    if kept.state in ("gone", "absent"):
        words = "was put away" if kept.state == "gone" else "is no longer there, only its lease"
        head = f"{kept.name} {words}."
    elif kept.lease is not None and not kept.lease.kept:
        head = f"{kept.name}{label} is {kept.state}; it is in use, not kept."
    else:
        head = f"{kept.name}{label} is kept and {'runs' if kept.state == 'running' else 'is ' + kept.state}."
    rows: list[tuple[str, str]] = []
    case = kept.case
    if case is not None:
        outcome = case.verdict.value if case.verdict is not None else "cut off"
        rows.append(
            ("scenario", f"{case.text('scenario')}, macOS {case.text('macos')}, release {case.text('release')}")
        )
        rows.append(("verdict", f"{outcome}: {case.cause}" if case.cause else outcome))
        if case.error:
            rows.append(("error", case.error.splitlines()[0][:300]))
        rows.append(("image", case.image_digest or case.text("image")))
    if kept.since is not None:
        rows.append(("kept since", f"{kept.since:%Y-%m-%d %H:%M} UTC ({_ago(kept.since, now or datetime.now(UTC))})"))
    if kept.state == "running":
        command = kept.ssh_command(settings.guest)
        rows.append(("ssh", shlex.join(command) if command else f"does not answer: {kept.trouble}"))
        url = kept.vnc_url(password=password)
        if url:
            hidden = "" if password else "   (its password: on a terminal, or with --show-password)"
            rows.append(("vnc", url + hidden))
    if case is not None:
        rows.append(("case file", case.place))
    lines = [head, *(f"  {name:<11}{text}" for name, text in rows)]
    if kept.state == "running":
        lines.append(f"  sysext attach {quoted} --ssh   (or --vnc; --delete puts it away)")
    elif kept.state in ("stopped", "suspended"):
        lines.append(
            f"  start it with: {kept.start_command()}   (the disk is as it was; processes and the log's memory are gone)"
        )
        lines.append(f"  or put it away: sysext attach {quoted} --delete")
    if kept.state != "running":
        place = case.place if case is not None else "CASE"
        lines.append(f"  run the scenario again, as it was: sysext replay {shlex.quote(place)}")
    return lines


def _ssh(kept: Kept, settings: Settings) -> None:
    import os

    from harness.errors import EnvironmentFailure, UsageError

    command = kept.ssh_command(settings.guest)
    if not command:
        raise EnvironmentFailure(f"the SSH server of {kept.name} to answer", seen=kept.trouble, hint="try --vnc")
    if settings.guest.key is None and settings.guest.password.get_secret_value() == settings.guest.user:
        click.echo(f"the password is {settings.guest.user}, as the user's name", err=True)
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606 - a list, no shell
    except OSError as error:
        raise UsageError("the command ssh", seen=str(error), hint="install OpenSSH's client") from error


def _vnc(kept: Kept, *, show_password: bool) -> None:
    import subprocess

    from harness.errors import EnvironmentFailure

    if sys.platform == "darwin" and kept.vnc_url(password=False):
        # The viewer asks for the password: in a URL it would stand in the list of processes.
        if kept.door is not None and show_password:
            click.echo(f"the password is {kept.door.vnc_password}")
        subprocess.run(["open", kept.vnc_url(password=False)], check=False)
        return
    url = kept.vnc_url(password=show_password)
    if not url:
        raise EnvironmentFailure(f"the VNC server of {kept.name}", seen="none is known", hint="try --ssh")
    click.echo(url)


def _delete(kept: Kept, settings: Settings) -> None:
    from harness.repro.keeping import put_away

    if put_away(kept, settings):
        click.echo(f"{kept.name} is deleted")
    else:
        click.echo(f"{kept.name} was put away before: nothing to do")


def _ago(then: datetime, now: datetime) -> str:
    minutes = max(0, round((now - then).total_seconds() / 60))
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days ago"
