"""The way through: open the inputs, find the signs, replay the history, decide."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from harness.config import AppFile
from harness.triage.report import Triage


def triage(
    paths: Sequence[str | Path | bytes | BinaryIO],
    *,
    app: AppFile | None = None,
    extension_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Triage:
    """Say why, from everything in `paths` together (they belong to one Mac).

    Args:
        paths: Files, folders (a case file), bytes or streams; "-" is standard input.
        app: The product under test: its extension's findings rank before others'.
        extension_id: The same by the extension's bundle identifier.
        since: Leave out log records before; naive times are the log's own clock.
        until: Leave out log records after.

    Raises:
        UsageError: A path does not exist or cannot be read.
        FormatError: Nothing can be read from it.
    """
    raise NotImplementedError
