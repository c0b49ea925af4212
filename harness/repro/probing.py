"""Single runs of a scenario at one release or another, each fresh: a worker (`harness.repro.working`) per release, one at a time.

A worker stays for as long as its release is asked for again, so that what is slow to load is loaded once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UsageError, Verdict
from harness.repro.outcomes import Outcome

GRACE = 300.0
"""Seconds that a worker has to put its Mac away; the settings' own limits are shorter."""
_TAIL = 4000
_WORST = (
    *(Verdict.PRODUCT_FAILURE, Verdict.KNOWN_ISSUE, Verdict.ENVIRONMENT_FAILURE),
    *(Verdict.HARNESS_ERROR, Verdict.SKIPPED, Verdict.PASSED),
)
"""Of several scenarios in one run, the first of these that one of them has."""


class Prober:
    """Runs a scenario once, at the release that is asked for.

    Args:
        arguments: Of pytest, for a release.
        folder: The run's folder: case files, and what the workers print.
        environment: The workers'; this process's by default.
        ready: Told the scenarios and the header lines of the first worker.
    """

    def __init__(
        self,
        arguments: Callable[[str], list[str]],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        ready: Callable[[list[str], list[str]], None] = lambda _ids, _lines: None,
    ) -> None:
        self._arguments = arguments
        self._folder = folder
        self._environment = dict(environment if environment is not None else os.environ)
        self._ready = ready
        self._told = False
        self._release = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._scenarios: list[str] = []
        self._cycle = 0
        self._log = folder

    def run(self, release: str) -> Outcome:
        """One fresh run of all the scenarios chosen; the worst of what they came to.

        Raises:
            UsageError: Nothing can be run at that release; pytest's own words are in it.
            HarnessError: The worker did not work.
        """
        if self._process is None or self._release != release:
            self.close()
            self._start(release)
        self._cycle += 1
        outcomes = [self._one(number) for number in range(len(self._scenarios))]
        return min(outcomes, key=lambda outcome: _WORST.index(outcome.verdict))

    def close(self) -> None:
        """End the worker; its Mac is gone when this returns."""
        process, connection, self._process, self._connection = self._process, self._connection, None, None
        if process is None or connection is None:
            return
        with contextlib.suppress(OSError):
            connection.send(("end",))
        self._ended(process, connection)

    def abort(self) -> None:
        """End the worker in the middle of a run, as Ctrl-C would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)
        self.close()

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _start(self, release: str) -> None:
        ours, theirs = Pipe()
        self._log = self._folder / "workers" / f"{self._cycle + 1}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(  # a session of its own: Ctrl-C comes to us alone, and we pass it on
                [
                    *(sys.executable, "-m", "harness.repro.working", str(theirs.fileno()), str(self._folder)),
                    *self._arguments(release),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                env=self._environment,
                start_new_session=True,
            )
        theirs.close()
        self._connection, self._release = ours, release
        message = self._receive()
        if message is None:
            raise self._refused()
        self._scenarios = list(message[1])
        if not self._told:
            self._told = True
            self._ready(self._scenarios, list(message[2]))

    def _one(self, number: int) -> Outcome:
        started = time.monotonic()
        assert self._connection is not None
        with contextlib.suppress(OSError):
            self._connection.send(("run", number, self._cycle, 1))
        while (message := self._receive()) is not None:
            if message[0] == "outcome":
                return Outcome.from_dict(message[1])
        nodeid = self._scenarios[number]
        self.close()
        return Outcome(
            cycle=self._cycle,
            attempt=1,
            item=number,
            nodeid=nodeid,
            verdict=Verdict.HARNESS_ERROR,
            error=f"its worker ended: see {self._log}",
            seconds=round(time.monotonic() - started, 3),
        )

    def _receive(self) -> tuple[Any, ...] | None:
        assert self._connection is not None
        try:
            message: tuple[Any, ...] = self._connection.recv()
        except (EOFError, OSError):
            return None
        return message

    def _refused(self) -> UsageError | HarnessError:
        """Why pytest did not get as far as the first run, in its own words."""
        assert self._process is not None
        code = self._process.wait(30)
        text = self._tail()
        self._process = None
        if code == 5:
            return UsageError(
                "a scenario of that name", seen="pytest finds none", hint="`pytest --collect-only -q scenarios`"
            )
        at = text.find("ERROR: ")
        if code == 4 or at >= 0:
            return UsageError(f"a run that pytest can make of {self._release}", seen=text[at:][:2000].strip())
        return HarnessError(
            "a worker that gets ready", seen=f"exit code {code}: {text[-1000:]}", hint=f"see {self._log}"
        )

    def _tail(self) -> str:
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _ended(self, process: subprocess.Popen[bytes], connection: Connection) -> None:
        """Wait until it has ended, however often Ctrl-C is pressed (each time with less patience)."""
        until = time.monotonic() + GRACE
        while True:
            try:
                with contextlib.suppress(EOFError, OSError):
                    while connection.poll(max(0.0, until - time.monotonic())):
                        connection.recv()  # what it still has to say, so that it is never stuck with it
                process.wait(max(0.1, until - time.monotonic()))
            except KeyboardInterrupt:
                until = min(until, time.monotonic() + 10)
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                continue
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            connection.close()
            return
