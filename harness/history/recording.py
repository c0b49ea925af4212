"""The end of a pytest session: its case files go into the history, and what came of that is said."""

from __future__ import annotations

from pathlib import Path

from harness.config import Settings
from harness.history.store import Recorded, record_run


def record_session(folder: Path, settings: Settings) -> str:
    """Record a run that has ended, and say so for the summary. Never raises: a run's verdict has nothing to do with it.

    Args:
        folder: The run's folder; one without case files (nothing was run) records nothing.
        settings: Of the run; `history.record` switches it off.

    Returns:
        A line, and one per damaged case file; "" where there is nothing to say.
    """
    if not settings.history.record or not folder.is_dir() or not any(folder.glob("*/run.jsonl")):
        return ""
    try:
        return told(record_run(folder, settings))
    except Exception as error:  # noqa: BLE001 - said, and the run's own result stays what it is
        return f"history: NOT recorded: {type(error).__name__}: {error}"


def told(recorded: Recorded) -> str:
    """What `record_run` did, in words."""
    if recorded.problem:
        return f"history: NOT recorded: {recorded.problem}"
    added = recorded.added
    parts = [f"history: {added.added} run{'' if added.added == 1 else 's'} recorded"]
    if added.known:
        parts.append(f"{added.known} already there")
    if recorded.unfinished:
        parts.append(f"{recorded.unfinished} without an end (the process was killed) left out")
    text = ", ".join(parts)
    for problem in recorded.damaged:
        text += f"\nhistory: a case file is NOT recorded: {problem}"
    return text
