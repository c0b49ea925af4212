"""`sysext app FILE`: what an app file's releases really hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli.options import settings_from


@click.command("app")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--release", default=None, help="one release only (default: all)")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def show(file: Path, release: str | None, form: str) -> None:
    """Fetch an app file's releases, check them against it, and show versions, team and build UUIDs."""
    from harness.bundles.releases import fetch_release
    from harness.config import load_app

    app = load_app(file)
    settings = settings_from(None)
    rows: list[dict[str, Any]] = []
    for item in [app.release(release)] if release else app.releases:
        bundle = fetch_release(item, app, settings.cache_dir)
        extension = bundle.require_extension(app.extension.id)
        rows.append(
            {
                "release": item.version,
                "app": f"{bundle.identifier} {bundle.short} ({bundle.build})",
                "extension": f"{extension.identifier} {extension.short} ({extension.build})",
                "team": bundle.team,
                "uuids": {piece.arch: piece.uuid for piece in extension.executable.slices},
                "path": str(bundle.path),
            }
        )
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['release']}: {row['app']}, team {row['team']}")
        click.echo(f"    {row['extension']}")
        for arch, uuid in row["uuids"].items():
            click.echo(f"    {arch}: {uuid}")
