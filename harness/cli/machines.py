"""`sysext gc`, `sysext machines`, `sysext faults`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.options import settings_from, settings_options
from harness.config import Settings

PROVIDERS = ("tart", "simulated")


@click.command()
@settings_options
@click.option("--include-kept", is_flag=True, help="also remove Macs that --sysext-keep-vm kept")
def gc(config: Path | None, provider: str | None, include_kept: bool) -> None:  # noqa: FBT001 - click's way
    """Remove Macs whose owner is gone (killed, crashed). Never touches one that this program did not make."""
    from harness.machines import provider_for

    removed: list[str] = []
    for name in [provider] if provider else PROVIDERS:
        removed += provider_for(_settings(config, name)).reap(include_kept=include_kept)
    for line in removed:
        click.echo(f"removed {line}")
    click.echo(f"{len(removed)} removed" if removed else "nothing to remove")


@click.command()
@settings_options
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def machines(config: Path | None, provider: str | None, form: str) -> None:
    """List the Macs this program made and has not deleted yet."""
    import dataclasses

    from harness.machines import provider_for

    rows = []
    for name in [provider] if provider else PROVIDERS:
        rows += provider_for(_settings(config, name)).machines()
    if form == "json":
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2, default=str))
        return
    for row in rows:
        click.echo("  ".join(f"{key}={value}" for key, value in dataclasses.asdict(row).items()))
    if not rows:
        click.echo("none")


@click.command()
def faults() -> None:
    """List the faults that can be injected into simulated Macs (`--sysext-fault CODE`)."""
    from harness.machines import SimulatedProvider

    for code, text in SimulatedProvider(_settings(None, "simulated")).faults().items():
        click.echo(f"{code:<42}{text}")


def _settings(config: Path | None, provider: str) -> Settings:
    """For looking after machines: faults that are to be injected elsewhere (SYSEXT_FAULT) have no bearing here."""
    return settings_from(config, provider=provider, **{"simulated.faults": []})
