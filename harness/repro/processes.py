"""pytest in a process of its own, which is let end in order: its Macs are put away whatever happens here."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import EnvironmentFailure, HarnessError, UsageError

_TAIL = 8000
_DEAF = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""We were started where Ctrl-C is ignored, in the background of a script; whatever we start inherits that."""


def run_pytest(
    arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str], output: Path | None = None
) -> int:
    """Run `python ARGUMENTS` to its end; its exit code.

    It leads a process group of its own, so that Ctrl-C reaches it once and by us: then it puts its Macs away, which is waited
    for; a second Ctrl-C does not cut that short. SIGTERM to us is taken as Ctrl-C.

    Args:
        arguments: What comes after the interpreter.
        cwd: Where.
        environment: All of it.
        output: A file for what it prints; None: where ours goes.

    Raises:
        KeyboardInterrupt: Ctrl-C, or SIGTERM; it has ended.
        EnvironmentFailure: It could not be started, or its output not be written.
    """
    sys.stdout.flush()
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(output.open("ab")) if output is not None else None
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT if stream is not None else None,
                process_group=0,
            )
            with term_as_interrupt():
                return _waited(process)
    except OSError as error:
        raise EnvironmentFailure("pytest to be started", seen=str(error), hint="is the disk full?") from error


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Tell a child to break off in order, as at Ctrl-C: by SIGTERM if it ignores that from birth. Does not wait."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM if _DEAF else signal.SIGINT)


def _waited(process: subprocess.Popen[bytes]) -> int:
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt as error:
            if interrupted is None:
                interrupted = error
                interrupt(process)
            continue
        if interrupted is not None:
            raise interrupted
        return code


def refusal(log: Path, code: int) -> UsageError | HarnessError:
    """Why a worker's pytest did not get as far as its first cycle, in pytest's own words.

    Args:
        log: What it printed.
        code: Its exit code.
    """
    text = _tail(log)
    if code == 5:
        return UsageError(
            "a scenario of that name", seen="pytest finds none", hint="`pytest --collect-only -q scenarios` lists them"
        )
    said = re.findall(r"^(?:\S+: )?(?:ERROR|error): (.+(?:\n(?!\s*$).+)*)", text, re.MULTILINE)
    if code == 4 or said:
        seen = "\n".join(said)[:2000] if said else text[-1000:]
        hint = "" if "Hint:" in seen else "`pytest --collect-only -q scenarios` lists what there is"
        return UsageError("a run that pytest can make", seen=seen, hint=hint)
    if "during collection" in text:
        said = re.findall(r"^E   .+|^ERROR .+", text, re.MULTILINE)
        return UsageError(
            "scenarios that pytest can collect",
            seen="\n".join(line.removeprefix("E  ").strip() for line in said)[:2000] or text[-1000:],
            hint="`pytest --collect-only -q scenarios` shows it",
        )
    return HarnessError("a worker that gets ready", seen=f"exit code {code}: {text[-1000:]}", hint=f"see {log}")


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


class Patience:
    """Inside, Ctrl-C and SIGTERM do not break off what is put away; `times` counts them. Only in the main thread."""

    def __init__(self) -> None:
        self.times = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Patience:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._count) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _count(self, _number: int, _frame: object) -> None:
        self.times += 1


@contextlib.contextmanager
def term_as_interrupt() -> Iterator[None]:
    """Inside, SIGTERM (CI cancels a job by it) is taken as Ctrl-C, so that Macs are put away. Only in the main thread."""

    def terminate(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
