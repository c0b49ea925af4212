"""pytest in a process of its own, which is let end in order: its Macs are put away whatever happens here."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import EnvironmentFailure


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
            with _term_as_interrupt():
                return _waited(process)
    except OSError as error:
        raise EnvironmentFailure("pytest to be started", seen=str(error), hint="is the disk full?") from error


def _waited(process: subprocess.Popen[bytes]) -> int:
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt as error:
            if interrupted is None:
                interrupted = error
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
            continue
        if interrupted is not None:
            raise interrupted
        return code


@contextlib.contextmanager
def _term_as_interrupt() -> Iterator[None]:
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
