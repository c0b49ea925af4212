"""Run cycles until a question is answered: worker processes run them, one decider counts them.

Each worker is a pytest session of its own process (`harness.repro.working`). So the line that lives on the terminal belongs to
one process alone, a worker that dies does not take the answer with it, and `-n 4` is the same as `-n 1` four times.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import IO, Any

from harness.errors import HarnessError, UsageError, Verdict
from harness.repro.deciding import Decider, Draw
from harness.repro.outcomes import Outcome
from harness.repro.questions import Question

DEATHS = 3
"""Workers that may die before it is given up."""
GRACE = 300.0
"""Seconds that a worker has to put its Mac away; the settings' own limits are shorter."""
_TAIL = 4000


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
    since: float = field(default_factory=time.monotonic)


class Loop:
    """One repeated run.

    Args:
        arguments: What pytest is given: the scenarios, and `--sysext-…` options.
        question: When to stop.
        folder: The run's folder; case files go into it.
        jobs: Cycles side by side.
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
        told: Told | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if jobs < 1:
            raise UsageError("one worker or more", seen=str(jobs), hint="-n 1")
        self.arguments = list(arguments)
        self.question = question
        self.folder = folder
        self.jobs = jobs
        self.told = told or Told()
        self.environment = environment
        self.decider: Decider | None = None
        self.scenarios: list[str] = []
        self._workers: list[_Process] = []
        self._deaths = 0
        self._started = 0

    def run(self) -> Decider:
        """Until it is answered, or broken off by Ctrl-C (KeyboardInterrupt): then with what is known by then. All workers and
        their Macs are gone (or kept) when this returns.

        Raises:
            UsageError: The scenario or an option cannot be used; pytest's own words are in it.
            HarnessError: The workers do not work.
        """
        interrupted = False
        try:
            jobs = self.jobs if self.question.most is None else min(self.jobs, self.question.most)
            for _ in range(jobs):
                self._start()
            while self.decider is None or self.decider.answer is None:
                self._step()
        except KeyboardInterrupt:
            interrupted = True
            if self.decider is None:
                self.decider = Decider(self.question)
            self.decider.stop("interrupted")
        finally:
            self._end(interrupted=interrupted)
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
            if self.decider is None:
                self.scenarios = list(message[1])
                self.decider = Decider(self.question, items=len(self.scenarios))
                self.told.ready(self.scenarios, list(message[2]))
        elif message[0] == "kept":
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
        if self.decider is None:
            return
        for worker in self._workers:
            if worker.ready and worker.draw is None and (draw := self.decider.draw()) is not None:
                worker.draw, worker.since = draw, time.monotonic()
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
            raise _refused(worker, code)
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
                raise HarnessError("workers that run cycles", seen=said, hint="its log says why")
            self._start()

    def _end(self, *, interrupted: bool) -> None:
        """Let the workers end: the idle ones by a word, those in a cycle by Ctrl-C, so that their Macs are put away."""
        for worker in self._workers:
            busy = worker.draw is not None or not worker.ready
            with contextlib.suppress(OSError):
                worker.connection.send(("end",))
            if busy or interrupted:
                with contextlib.suppress(ProcessLookupError):
                    worker.process.send_signal(signal.SIGINT)
        until = time.monotonic() + GRACE
        while self._workers:
            worker = self._workers[0]
            try:
                self._listen(worker, until)
                worker.process.wait(max(0.1, until - time.monotonic()))
            except KeyboardInterrupt:  # again: less patience
                until = min(until, time.monotonic() + 10)
                with contextlib.suppress(ProcessLookupError):
                    worker.process.terminate()
                continue
            except subprocess.TimeoutExpired:
                self.told.note(f"worker {worker.number} does not end and is killed; `sysext gc` removes its Mac")
                worker.process.kill()
                worker.process.wait()
            worker.connection.close()
            self._workers.pop(0)

    def _listen(self, worker: _Process, until: float) -> None:
        """Take what a worker still has to say (so that it is never stuck with it) until it closes its end."""
        while (left := until - time.monotonic()) > 0:
            try:
                if not worker.connection.poll(min(left, 1.0)):
                    if worker.process.poll() is not None:
                        return
                    continue
                message = worker.connection.recv()
            except (EOFError, OSError):
                return
            if message[0] in ("kept", "outcome") and self.decider is not None:
                self._hear(worker, message)


def _refused(worker: _Process, code: int) -> UsageError | HarnessError:
    """Why pytest did not get as far as the first cycle, in its own words."""
    text = _tail(worker.log)
    if code == 5:
        return UsageError(
            "a scenario of that name", seen="pytest finds none", hint="`pytest --collect-only -q scenarios` lists them"
        )
    if code == 4 or "ERROR: usage" in text or "ERROR: " in text:
        said = re.findall(r"^(?:\S+: )?(?:ERROR|error): (.+(?:\n(?!\s*$).+)*)", text, re.MULTILINE)
        return UsageError("a run that pytest can make", seen="\n".join(said)[:2000] if said else text[-1000:])
    return HarnessError("a worker that gets ready", seen=f"exit code {code}: {text[-1000:]}", hint=f"see {worker.log}")


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            _back(file)
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _back(file: IO[bytes]) -> None:
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL))
