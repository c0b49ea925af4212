"""Which upgrade path is walked on which macOS: the cells of the matrix that a run asks for."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config import AppFile
from harness.errors import UsageError
from harness.upgrades.expression import default_paths, select
from harness.upgrades.paths import UpgradePath, impossible

Cell = tuple[str, UpgradePath]
"""(macOS version, path)."""
DEFAULT_VERSIONS = 2
"""Without a wish, only the newest so many of the versions asked for take part, in turn."""


def cells(app: AppFile, macos: Sequence[str], texts: Sequence[str] = (), *, latest: str | None = None) -> list[Cell]:
    """The cells of a run.

    With expressions: each path on each version on which it can be walked. Without: a small choice, each path once, in turn on the
    newest two versions.

    Args:
        app: The product.
        macos: Versions asked for.
        texts: Expressions (`--sysext-upgrade`).
        latest: The release under test; the app file's last by default.

    Raises:
        UsageError: An expression cannot be used, or nothing of it can be walked on these versions.
    """
    if not texts:
        return _in_turn(app, sorted(macos, key=int)[-DEFAULT_VERSIONS:], default_paths(app, latest=latest))
    paths = select(app, texts, latest=latest)
    found = [(version, path) for version in macos for path in paths if refusal(app, path, version) is None]
    if not found and macos:
        why = next(reason for path in paths if (reason := refusal(app, path, macos[0])) is not None)
        raise UsageError(
            f"an upgrade that can be walked on macOS {', '.join(macos)}",
            seen=f"'{paths[0]}' cannot: {why}",
            hint="give other versions (--sysext-macos), or another state",
        )
    return found


def refusal(app: AppFile, path: UpgradePath, macos: str) -> str | None:
    """Why a path cannot be walked on a version of macOS; None if it can."""
    return next((why for step in path if (why := impossible(app, step, macos)) is not None), None)


def cell_id(cell: Cell) -> str:
    """The name of a cell's test: `macos15-0.11.4->0.11.5-pkg-running`."""
    macos, path = cell
    return f"macos{macos}-{path.id}"


def _in_turn(app: AppFile, versions: Sequence[str], paths: Sequence[UpgradePath]) -> list[Cell]:
    found: list[Cell] = []
    for path in paths:
        fitting = [version for version in versions if refusal(app, path, version) is None]
        if fitting:
            counts = {version: sum(1 for one, _ in found if one == version) for version in fitting}
            found.append((min(fitting, key=lambda version: counts[version]), path))
    return found
