"""Run cycles until a question is answered: worker processes run them, one decider counts them.

Each worker is a pytest session of its own process (`harness.repro.working`). So the line that lives on the terminal belongs to
one process alone, a worker that dies does not take the answer with it, and `-n 4` is the same as `-n 1` four times.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from harness.errors import UsageError, Verdict
from harness.repro.deciding import Decider, Draw
from harness.repro.outcomes import Outcome
from harness.repro.processes import Patience, interrupt, refusal
from harness.repro.questions import Question

DEATHS = 3
"""Workers that may die before it is given up."""
GRACE = 300.0
"""Seconds that a worker has to put its Mac away; the settings' own limits are shorter."""
LAST = 10.0
"""Seconds that it still has after Ctrl-C was pressed a third time."""


@dataclass
class Told:
    """What the loop tells while it runs; each a function that returns at once.

    Attributes:
        ready: The scenarios' node ids and the run's header lines, once, before the first cycle.
        outcome: What an attempt came to, after it was counted.
        kept: How to reach a kept Mac: with its VNC password, for a terminal only, and masked.
        note: Anything else worth a line.
    """

    ready: Callable[[list[str], list[str]], None] = lambda _ids, _lines: None
    outcome: Callable[[Decider, Outcome], None] = lambda _decider, _outcome: None
    kept: Callable[[str, str], None] = lambda _text, _masked: None
    note: Callable[[str], None] = lambda _text: None


@dataclass
class _Process:
    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path
    ready: bool = False
    draw: Draw | None = None
    kept: int = 0
    since: float = field(default_factory=time.monotonic)


class Loop:
    """One repeated run.

    Args:
        arguments: What pytest is given: the scenarios, and `--sysext-…` options.
        question: When to stop.
        folder: The run's folder; case files go into it.
        jobs: Cycles side by side.
        places: Macs that this host has room for at once, kept ones included; None: not limited.
        told: Who hears of it.
        environment: The workers' environment; this process's by default.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        question: Question,
        *,
        folder: Path,
        jobs: int = 1,
        places: int | None = None,
        told: Told | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if jobs < 1:
            raise UsageError("one worker or more", seen=str(jobs), hint="-n 1")
        self.arguments = list(arguments)
        self.question = question
        self.folder = folder
        self.jobs = jobs
        self.places = places
        self.told = told or Told()
        self.environment = environment
        self.decider: Decider | None = None
        self.scenarios: list[str] = []
        self._workers: list[_Process] = []
        self._deaths = 0
        self._started = 0
        self._kept = 0

    def run(self) -> Decider:
        """Until it is answered, or broken off by Ctrl-C (KeyboardInterrupt): then with what is known by then. All workers and
        their Macs are gone (or kept) when this returns.

        Raises:
            UsageError: The scenario or an option cannot be used; pytest's own words are in it.
            HarnessError: The workers do not work.
        """
        try:
            jobs = self.jobs if self.question.most is None else min(self.jobs, self.question.most)
            for _ in range(jobs):
                self._start()
            while self.decider is None or self.decider.answer is None:
                self._step()
        except KeyboardInterrupt:
            if self.decider is None:
                self.decider = Decider(self.question)
            self.decider.stop("interrupted")
        finally:
            self._end()
        return self.decider

    def _start(self) -> None:
        self._started += 1
        ours, theirs = Pipe()
        log = self.folder / "workers" / f"{self._started}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(  # a session of its own: Ctrl-C comes to us alone, and we pass it on
                [
                    *(sys.executable, "-m", "harness.repro.working", str(theirs.fileno()), str(self.folder)),
                    *self.arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                env=dict(self.environment) if self.environment is not None else None,
                start_new_session=True,
            )
        theirs.close()
        self._workers.append(_Process(self._started, process, ours, log))

    def _step(self) -> None:
        """Wait for one message or more, and act on them."""
        for connection in wait([worker.connection for worker in self._workers]):
            worker = next(one for one in self._workers if one.connection is connection)
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._died(worker)
                continue
            self._hear(worker, message)
        self._assign()

    def _hear(self, worker: _Process, message: tuple[Any, ...]) -> None:
        if message[0] == "ready":
            worker.ready = True
            if self.decider is not None and list(message[1]) != self.scenarios and self.scenarios:
                self.decider.stop(f"worker {worker.number} found other scenarios than the first one: see {worker.log}")
            elif self.decider is None:
                self.scenarios = list(message[1])
                self.decider = Decider(self.question, items=len(self.scenarios))
                self.told.ready(self.scenarios, list(message[2]))
        elif message[0] == "kept":
            self._kept += 1
            worker.kept += 1
            self.told.kept(message[1], message[2])
        elif message[0] == "outcome":
            worker.draw = None
            self._add(Outcome.from_dict(message[1]))

    def _add(self, outcome: Outcome) -> None:
        assert self.decider is not None
        self.decider.add(outcome)
        self.told.outcome(self.decider, outcome)

    def _assign(self) -> None:
        """Give every idle worker a cycle."""
        if self.decider is None or self.decider.answer is not None:
            return
        busy = sum(worker.draw is not None for worker in self._workers)
        if self.places is not None and self._kept >= self.places:  # the next Mac would wait for a place for ever
            if not busy:
                self.decider.stop(
                    f"the kept Mac takes the last of the {self.places} places for Macs on this host (--keep none goes on without)"
                )
            return
        for worker in sorted(
            self._workers, key=lambda one: one.kept
        ):  # others may hold a Mac between two of its cycles
            if self.places is not None and self._kept and busy >= self.places - self._kept:
                return
            if worker.ready and worker.draw is None and (draw := self.decider.draw()) is not None:
                worker.draw, worker.since = draw, time.monotonic()
                busy += 1
                with contextlib.suppress(OSError):  # it died: the next look at its connection says so
                    worker.connection.send(("run", draw.item, draw.cycle, draw.attempt))

    def _died(self, worker: _Process) -> None:
        """A worker is gone. Before it was ready, it is pytest that refuses; later it is a mistake, and its cycle is repeated."""
        self._workers.remove(worker)
        worker.connection.close()
        try:
            code = worker.process.wait(30)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            code = worker.process.wait()
        if not worker.ready:
            trouble = refusal(worker.log, code)
            if self.decider is None:
                raise trouble
            # One that takes the place of another: the files have changed meanwhile. What is known by now is not lost.
            self.decider.stop(f"no other worker can be started: {' '.join(str(trouble).split())}"[:400])
            return
        self._deaths += 1
        draw, worker.draw = worker.draw, None
        said = f"worker {worker.number} ended with exit code {code}: see {worker.log}"
        self.told.note(said)
        if draw is not None and self.decider is not None:
            self._add(
                Outcome(
                    cycle=draw.cycle,
                    attempt=draw.attempt,
                    item=draw.item,
                    nodeid=self.scenarios[draw.item],
                    verdict=Verdict.HARNESS_ERROR,
                    error=said,
                    seconds=round(time.monotonic() - worker.since, 3),
                )
            )
        if self.decider is not None and self.decider.answer is None:
            if self._deaths > DEATHS:
                self.decider.stop(f"{self._deaths} workers died; {said}")
            else:
                self._start()

    def _end(self) -> None:
        """Let the workers end: the idle ones by a word (they may have a Mac between two cycles to put away, which nothing is to
        cut short), those in a cycle by Ctrl-C, so that their Macs are put away.
        """
        with Patience() as patience:
            for worker in self._workers:
                busy = worker.draw is not None or not worker.ready
                with contextlib.suppress(OSError):
                    worker.connection.send(("end",))
                if busy:
                    interrupt(worker.process)
            until = time.monotonic() + GRACE
            told = 0
            while self._workers:
                worker = self._workers[0]
                if (
                    patience.times > told
                ):  # pressed again, and told what it waits for; once more, and it is not waited for
                    until = min(until, time.monotonic() + (LAST if told else GRACE))
                    told = patience.times
                    self.told.note("Macs are being put away; Ctrl-C once more leaves them to `sysext gc`")
                left = until - time.monotonic()
                if left > 0 and not self._ended(worker, min(left, 0.5)):
                    continue
                if worker.process.poll() is None:
                    self.told.note(f"worker {worker.number} does not end and is killed; `sysext gc` removes its Mac")
                    worker.process.kill()
                    worker.process.wait()
                worker.connection.close()
                self._workers.pop(0)

    def _ended(self, worker: _Process, seconds: float) -> bool:
        """Take what a worker still has to say (so that it is never stuck with it); whether it has ended."""
        with contextlib.suppress(EOFError, OSError):
            while worker.connection.poll(seconds):
                message = worker.connection.recv()
                if message[0] in ("kept", "outcome") and self.decider is not None:
                    self._hear(worker, message)
            return worker.process.poll() is not None and not worker.connection.poll(0)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it said goodbye: now it only has to be gone
            worker.process.wait(seconds)
        return worker.process.poll() is not None
