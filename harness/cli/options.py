"""Options that several verbs share, and the settings they lead to."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.config import Settings, load_settings

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(command: F) -> F:
    """`--config` and `--provider`."""
    command = click.option("--provider", default=None, help="tart or simulated")(command)
    return click.option(
        "--config", type=click.Path(path_type=Path), default=None, help="a settings file (default: sysext.toml here)"
    )(command)


def settings_from(config: Path | None, **overrides: object) -> Settings:
    """The settings with the options on top.

    Raises:
        UsageError: Something in them cannot be used.
    """
    return load_settings(config, overrides=overrides)


def run_folder(settings: Settings) -> Path:
    """A new folder for the case files of a run.

    Raises:
        UsageError: It cannot be made.
    """
    from harness.errors import SysextError, UsageError
    from harness.session.run import claim, new_run_folder

    try:
        return claim(new_run_folder(settings.artifacts.absolute()))
    except SysextError as error:
        raise UsageError(
            f"a folder for the case files below {settings.artifacts}",
            seen=error.seen,
            hint="give --sysext-artifacts a place that can be written to",
        ) from error


@contextlib.contextmanager
def usage_only() -> Iterator[None]:
    """Where exit code 1 is an answer: whatever keeps it from being given ends with 2."""
    from harness.errors import SysextError, UsageError

    try:
        yield
    except UsageError:
        raise
    except SysextError as error:
        raise UsageError(error.expected, seen=error.seen, hint=error.hint, evidence=error.evidence) from error


def remove_if_empty(folder: Path, *ours: str) -> None:
    """A run that came to nothing leaves nothing: its folder goes if only what we put there is in it, and the one above if that was all."""
    if {path.name for path in folder.iterdir()} <= set(ours):
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def write_whole(path: Path, text: str) -> None:
    """Write a file: all of it or nothing. What is no file (/dev/stdout, /dev/null, a pipe) is written into, never put aside; a link
    stays one.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
        return
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        partial.replace(path)
    except BaseException:  # Ctrl-C, too
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def say(text: str, *, err: bool = False) -> None:
    """Print a line, masked and tamed, as `echo` does."""
    from harness.events import SECRETS

    echo(f"{tame(SECRETS.mask(text))}\n", err=err)


def echo(text: str, *, err: bool = False) -> None:
    """Print as it is. Where nobody reads any more (`… | head -1`) a run of hours goes on without a word: what it finds is written
    into its folder.
    """
    try:
        click.echo(text, nl=False, err=err)
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # what is left in the buffer must not fail once more at the exit
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, (sys.stderr if err else sys.stdout).fileno())
            os.close(nowhere)


def tame(text: str) -> str:
    """`text` without what a terminal would obey: names and messages in case files may come from anywhere."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)
