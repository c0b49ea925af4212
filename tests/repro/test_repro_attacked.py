"""What must not be: a cycle that was not run and looks clean, an answer that is lost or made up, a wait without an end."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError, UsageError, Verdict
from harness.repro.bisecting import PASSED_OVER, Hunt
from harness.repro.deciding import Decider
from harness.repro.looping import Loop, Told
from harness.repro.outcomes import Outcome
from harness.repro.probing import Prober
from harness.repro.processes import Patience, refusal
from harness.repro.questions import Answer, Fixed, Sequential
from harness.repro.working import Worker, _outcome


def outcome(cycle: int = 1, verdict: Verdict = Verdict.PASSED, **more: Any) -> Outcome:
    return Outcome(cycle=cycle, attempt=1, item=more.pop("item", 0), nodeid="x", verdict=verdict, **more)


def reported(*reports: tuple[str, str]) -> Outcome:
    """What comes of a plain test with these reports: (phase, outcome)."""
    made = [
        SimpleNamespace(
            when=when,
            outcome=how,
            failed=how == "failed",
            passed=how == "passed",
            skipped=how == "skipped",
            longrepr="it broke",
        )
        for when, how in reports
    ]
    item: Any = SimpleNamespace(stash={})
    template: Any = SimpleNamespace(nodeid="x")
    return _outcome(item, template, 0, 1, 1, made, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reports", "verdict"),
    [
        ([], Verdict.HARNESS_ERROR),
        ([("setup", "passed"), ("teardown", "passed")], Verdict.HARNESS_ERROR),
        ([("setup", "passed"), ("call", "passed"), ("teardown", "passed")], Verdict.PASSED),
        ([("setup", "passed"), ("call", "rerun"), ("call", "passed")], Verdict.PRODUCT_FAILURE),
        ([("setup", "skipped")], Verdict.SKIPPED),
    ],
)
def test_only_what_was_run_and_passed_at_once_is_clean(reports: list[tuple[str, str]], verdict: Verdict) -> None:
    assert reported(*reports).verdict is verdict


@pytest.mark.parametrize("same", [True, False])
def test_what_addopts_say_of_repetition_is_not_the_workers(same: bool, tmp_path: Path) -> None:
    """With --sysext-until-fail from there nothing would be run after a failure, in any of the workers."""
    option = SimpleNamespace(
        numprocesses=4,
        dist="load",
        tx=["popen"],
        reruns=3,
        sysext_repeat=7,
        sysext_until_fail=True,
        sysext_same_mac=True,
    )
    args = ["x", "--sysext-same-mac"] if same else ["x"]
    config: Any = SimpleNamespace(option=option, invocation_params=SimpleNamespace(args=tuple(args)))
    connection: Any = None
    hook = Worker(connection, tmp_path).pytest_cmdline_main(config)
    next(hook)
    hook.close()
    assert vars(option) == {
        "numprocesses": 0,
        "dist": "no",
        "tx": [],
        "reruns": 0,
        "sysext_repeat": None,
        "sysext_until_fail": False,
        "sysext_same_mac": same,
    }


def test_one_that_skips_itself_by_and_by_does_not_take_the_answer_with_it() -> None:
    decider = Decider(Sequential(0.05))
    decider.add(outcome(1, Verdict.PRODUCT_FAILURE))
    decider.add(outcome(2, Verdict.SKIPPED, error="the host is busy"))
    assert (decider.answer, decider.runs, decider.failures) == (Answer.UNDECIDED, 1, 1)
    assert "skips itself by now: the host is busy" in decider.why


@pytest.mark.parametrize(
    ("cycles", "failures", "runs", "answer"),
    [
        (100, 0, 59, Answer.UNDECIDED),  # 59 that were picked as they looked good show nothing
        (100, 0, 99, Answer.ACCEPTED),  # one more cannot change it
        (100, 20, 30, Answer.FAILING),
        (100, 5, 10, Answer.UNDECIDED),
        (59, 0, 59, Answer.ACCEPTED),
    ],
)
def test_a_fixed_number_broken_off_says_only_what_the_rest_could_not_change(
    cycles: int, failures: int, runs: int, answer: Answer
) -> None:
    question = Fixed(cycles)
    assert question.so_far(failures, runs) is answer
    if answer is Answer.UNDECIDED:
        assert "may still show either" in question.because(failures, runs)


def test_a_failure_by_another_cause_again_and_again_ends_a_bisection() -> None:
    hunt = Hunt(["1", "2", "3"], cause="the-one")
    runs = 0
    while (release := hunt.next()) is not None:
        runs += 1
        assert runs <= PASSED_OVER
        hunt.take(release, outcome(runs, Verdict.PRODUCT_FAILURE, cause="another"))
    assert "by another cause than the-one" in hunt.stopped
    assert hunt.answer is None


def probed(monkeypatch: pytest.MonkeyPatch, *outcomes: Outcome | None, cause: str = "") -> Outcome:
    """One run of as many scenarios; None: the worker died in it."""
    prober = Prober(lambda _: [], Path(), cause=cause)

    def begin() -> None:
        prober._scenarios = ["x"] * len(outcomes)
        prober._process = object()  # type: ignore[assignment]

    def one(number: int) -> Outcome:
        assert prober._process is not None, "there is none to run it"
        found = outcomes[number]
        if found is None:
            prober._process = None
            return outcome(1, Verdict.HARNESS_ERROR)
        return found

    monkeypatch.setattr(prober, "start", lambda _release: None)
    monkeypatch.setattr(prober, "begin", begin)
    monkeypatch.setattr(prober, "_one", one)
    return prober.run("1")


def test_several_scenarios_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    skipped, clean = outcome(verdict=Verdict.SKIPPED), outcome()
    other, same = (outcome(verdict=Verdict.PRODUCT_FAILURE, cause=code) for code in ("other", "same"))
    assert probed(monkeypatch, skipped, clean) is clean, "one that is never run here says nothing of the others"
    assert probed(monkeypatch, other, same, cause="same") is same
    assert probed(monkeypatch, clean, other) is other
    assert probed(monkeypatch, None, clean).verdict is Verdict.HARNESS_ERROR


class _Stub:
    """A worker that only notes what it is told."""

    def __init__(self, kept: int = 0) -> None:
        self.ready, self.draw, self.kept, self.since = True, None, kept, 0.0
        self.sent: list[Any] = []
        self.connection = SimpleNamespace(send=self.sent.append)


def looping(tmp_path: Path, workers: list[_Stub], *, places: int | None, kept: int) -> Loop:
    loop = Loop([], Sequential(0.05), folder=tmp_path, jobs=len(workers), places=places)
    loop.decider = Decider(loop.question)
    loop._workers, loop._kept = workers, kept  # type: ignore[assignment]
    loop._assign()
    return loop


@pytest.mark.parametrize(
    ("places", "kept", "busy"),
    [(None, 1, [True, True]), (2, 0, [True, True]), (2, 1, [False, True]), (3, 1, [True, True])],
)
def test_a_kept_mac_takes_a_place(tmp_path: Path, places: int | None, kept: int, busy: list[bool]) -> None:
    """Who gave one away waits: the other may hold a Mac between two of its cycles."""
    workers = [_Stub(kept), _Stub()]
    loop = looping(tmp_path, workers, places=places, kept=kept)
    assert [bool(worker.sent) for worker in workers] == busy
    assert loop.decider is not None
    assert loop.decider.answer is None


def test_a_host_whose_only_place_is_taken_by_the_kept_mac_does_not_wait_for_ever(tmp_path: Path) -> None:
    workers = [_Stub(1)]
    loop = looping(tmp_path, workers, places=1, kept=1)
    assert workers[0].sent == []
    assert loop.decider is not None
    assert loop.decider.answer is Answer.UNDECIDED
    assert "--keep none" in loop.decider.why


@pytest.mark.parametrize(
    ("code", "text", "kind", "said"),
    [
        (5, "no tests ran", UsageError, "pytest finds none"),
        (4, "ERROR: unrecognized arguments: --lf\n", UsageError, "--lf"),
        (
            2,
            "E   SyntaxError: invalid syntax\nERROR scenarios/test_x.py\n!!! Interrupted: 1 error during collection !!!\n",
            UsageError,
            "SyntaxError: invalid syntax",
        ),
        (3, "INTERNALERROR> boom", HarnessError, "boom"),
        (-9, "", HarnessError, "exit code -9"),
    ],
)
def test_why_pytest_does_not_begin(tmp_path: Path, code: int, text: str, kind: type[Exception], said: str) -> None:
    log = tmp_path / "1.log"
    log.write_text(text)
    error = refusal(log, code)
    assert type(error) is kind
    assert said in str(error)


def test_ctrl_c_is_only_counted_while_macs_are_put_away() -> None:
    import os
    import signal

    with Patience() as patience:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert patience.times == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_worker_that_will_not_end_is_waited_for_and_then_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ignores all but SIGKILL, and a user who presses Ctrl-C: told first, not waited for the next time."""
    import multiprocessing.connection
    import os
    import signal
    import sys

    monkeypatch.setattr("harness.repro.looping.LAST", 0.1)
    ours, theirs = multiprocessing.connection.Pipe()
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        os.kill(os.getpid(), signal.SIGINT)

    loop = Loop([], Sequential(0.05), folder=tmp_path, told=Told(note=note))
    loop.decider = Decider(loop.question)
    from harness.repro.looping import _Process

    loop._workers = [_Process(1, process, ours, tmp_path / "1.log", ready=True)]
    monkeypatch.setattr("harness.repro.looping.Patience.__enter__", _pressed_once(Patience.__enter__))
    try:
        loop._end()
    finally:
        process.kill()
        process.stdout.close()
        theirs.close()
    assert process.wait() == -signal.SIGKILL
    assert "being put away" in notes[0]
    assert "is killed" in notes[-1]


def _pressed_once(enter: Any) -> Any:
    def entered(patience: Patience) -> Patience:
        enter(patience)
        patience.times = 1
        return patience

    return entered
