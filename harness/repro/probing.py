"""Single runs of a scenario at one release or another, each fresh: a worker (`harness.repro.working`) per run that is under way.

A worker stays for as long as its release is asked for again, so that what is slow to load is loaded once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UsageError, Verdict
from harness.repro.outcomes import Outcome
from harness.repro.processes import interrupt, refusal

GRACE = 300.0
"""Seconds that a worker has to put its Mac away; the settings' own limits are shorter."""
_WORST = (
    *(Verdict.PRODUCT_FAILURE, Verdict.KNOWN_ISSUE, Verdict.ENVIRONMENT_FAILURE),
    *(Verdict.HARNESS_ERROR, Verdict.PASSED, Verdict.SKIPPED),
)
"""Of several scenarios in one run, the first of these that one of them has. One that is always skipped says nothing of the others."""


class Prober:
    """Runs a scenario once, at the release that is asked for.

    Args:
        arguments: Of pytest, for a release.
        folder: The run's folder: case files, and what the workers print.
        environment: The workers'; this process's by default.
        ready: Told the scenarios and the header lines of the first worker.
        cause: Of several failures in one run, one by this cause is what it came to.
        numbers: What the runs are called; shared by all that write into one folder.
    """

    def __init__(
        self,
        arguments: Callable[[str], list[str]],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        ready: Callable[[list[str], list[str]], None] = lambda _ids, _lines: None,
        cause: str = "",
        numbers: Iterator[int] | None = None,
    ) -> None:
        self._arguments = arguments
        self._numbers = numbers if numbers is not None else itertools.count(1)
        self._cause = cause
        self._folder = folder
        self._environment = dict(environment if environment is not None else os.environ)
        self._ready = ready
        self._told = False
        self._started = 0.0
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
        self.start(release)
        self.begin()
        return self.outcome()

    @property
    def release(self) -> str:
        """The one that its worker is for; "" without one."""
        return self._release if self._process is not None else ""

    def start(self, release: str) -> None:
        """The first part of `run`: see that there is a worker for that release. Does not wait for it to be ready."""
        self._cycle = next(self._numbers)
        if self.release != release:
            self.close()
            self._spawn(release)

    def begin(self) -> None:
        """The second: wait until it is ready, and begin the run. Errors as in `run`."""
        if not self._scenarios:
            self._wait_until_ready()
        self._started = time.monotonic()
        assert self._connection is not None
        with contextlib.suppress(OSError):
            for number in range(len(self._scenarios)):  # one after the other, without asking again
                self._connection.send(("run", number, self._cycle, 1))

    def outcome(self) -> Outcome:
        """The third: wait for what it came to."""
        outcomes: list[Outcome] = []
        for number in range(len(self._scenarios)):
            outcomes.append(self._one(number))
            if self._process is None:  # it died: the next run has another
                break
        return min(outcomes, key=lambda one: (not (one.failed and one.cause == self._cause), _WORST.index(one.verdict)))

    def close(self) -> None:
        """End the worker; its Mac is gone when this returns."""
        process, connection, self._process, self._connection = self._process, self._connection, None, None
        if connection is None:
            return
        if process is None:
            connection.close()
            return
        with contextlib.suppress(OSError):
            connection.send(("end",))
        self._ended(process, connection)

    def interrupt(self) -> None:
        """Tell the worker to break off its run, as Ctrl-C would. Does not wait: see `close`."""
        if self._process is not None:
            interrupt(self._process)

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.interrupt()
        self.close()

    def _spawn(self, release: str) -> None:
        self._connection, theirs = Pipe()
        self._release, self._scenarios = release, []
        self._log = self._folder / "workers" / f"{self._cycle}.log"
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

    def _wait_until_ready(self) -> None:
        message = self._receive()
        if message is None:
            raise self._refused()
        self._scenarios = list(message[1])
        if not self._told:
            self._told = True
            self._ready(self._scenarios, list(message[2]))

    def _one(self, number: int) -> Outcome:
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
            seconds=round(time.monotonic() - self._started, 3),
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
        assert self._connection is not None
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._connection.close()
        self._process = self._connection = None
        return refusal(self._log, code)

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


class Probers:
    """Several runs at once, each with a worker of its own.

    Args:
        jobs: At most so many.
        arguments, folder, environment, ready, cause: See `Prober`.
    """

    def __init__(
        self,
        jobs: int,
        arguments: Callable[[str], list[str]],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        ready: Callable[[list[str], list[str]], None] = lambda _ids, _lines: None,
        cause: str = "",
    ) -> None:
        numbers = itertools.count(1)
        told: list[bool] = []

        def first(scenarios: list[str], lines: list[str]) -> None:
            if not told:
                told.append(True)
                ready(scenarios, lines)

        self._probers = [
            Prober(arguments, folder, environment=environment, ready=first, cause=cause, numbers=numbers)
            for _ in range(jobs)
        ]

    def run(self, releases: Sequence[str]) -> list[Outcome]:
        """One fresh run of each of these (a release may come several times), no more than there are jobs; what they came to, in
        that order. Errors as of `Prober.run`.
        """
        free = list(self._probers)
        chosen: list[Prober] = []
        for release in releases:  # who has a worker for it already does it
            prober = next((one for one in free if one.release == release), None)
            prober = prober or next((one for one in free if one.release not in releases), free[0])
            free.remove(prober)
            chosen.append(prober)
        for prober, release in zip(chosen, releases, strict=True):
            prober.start(release)
        for prober in chosen:
            prober.begin()
        return [prober.outcome() for prober in chosen]

    def __enter__(self) -> Probers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for prober in self._probers:  # all at once: putting a Mac away takes its time
                prober.interrupt()
        for prober in self._probers:
            prober.close()
