"""What is odd about permissions and flags of an app's files in the archive it came in; unpacked, nobody could tell."""

from __future__ import annotations

import json
from pathlib import Path

from harness.bundles.archives import unpack
from harness.bundles.sink import collect_oddities

ODDITIES = "oddities.json"
"""Beside an unpacked app in the cache: what was odd about its archive."""


def oddities_of(app: Path) -> tuple[tuple[str, str], ...]:
    """What was odd about the archive that an app in the cache came in: (path in the app, what)."""
    try:
        found = json.loads((app.parent / ODDITIES).read_text(encoding="utf-8"))
        return tuple((str(name), str(what)) for name, what in found)
    except (OSError, ValueError, TypeError):
        return ()


def unpack_noting(
    source: Path, into: Path, app_name: str | None, *, any_app: bool = False
) -> tuple[Path, tuple[tuple[str, str], ...]]:
    """`unpack`, and what was odd about permissions and flags of the app's files in the archive.

    Raises:
        UsageError: As `unpack`.
        EnvironmentFailure: Likewise.
    """
    with collect_oddities() as found:
        path = unpack(source, into, app_name, any_app=any_app)
    odd = []
    for name, what in found:
        before, mark, inner = f"/{name}".rpartition(f"/{path.name}/")
        if mark or name.startswith("Contents/"):
            odd.append((inner if mark else name, what))
        elif before.endswith(f"/{path.name}") or name == path.name:
            odd.append(("", what))
    return path, tuple(dict.fromkeys(odd))
