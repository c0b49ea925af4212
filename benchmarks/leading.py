"""What a benchmark has started ends with it, whatever ends it: runs of pytest, and pools of worker processes with Macs of theirs.

Ctrl-C and SIGTERM (SIGHUP, too) are passed on, to those only that were started here; they put their Macs away, and that is waited
for. After SIGKILL the workers of a pool notice that nobody leads them, and do the same by themselves.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path
from typing import ParamSpec, TypeVar

from harness.machines import guard_signals
from harness.machines.cleanup import Terminated, delete_all

PATIENCE = 120.0
"""Seconds that those who are told to end have to put their Macs away; then they are killed."""
_P = ParamSpec("_P")
_T = TypeVar("_T")
_children: set[subprocess.Popen[bytes]] = set()
_BREAK_OFF = signal.SIGTERM if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else signal.SIGINT
"""Started in the background of a script, we ignore Ctrl-C, and so does whatever we start."""
_ending = threading.Event()


def run_child(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], output: Path, timeout: float | None = None
) -> int | None:
    """Run a command to its end, from any thread; its exit code, None if it took too long and was told to end.

    It leads a process group of its own: Ctrl-C reaches it once, and by us (`leading`).
    """
    if _ending.is_set():
        return None
    with output.open("wb") as sink:
        child = subprocess.Popen(
            command, cwd=cwd, env=dict(environment), stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, process_group=0
        )  # fmt: skip
    _children.add(child)
    try:
        return child.wait(timeout)
    except subprocess.TimeoutExpired:
        _end([child])
        return None
    finally:
        if child.returncode is not None:
            _children.discard(child)


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """Inside, SIGTERM is as Ctrl-C; whichever comes ends what `run_child` has started, and is waited for."""
    _ending.clear()
    try:
        with guard_signals():
            yield
    except BaseException:
        _end_all()
        raise


@contextlib.contextmanager
def threads(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for `run_child`. If it ends by an exception, what waits is not begun, and what runs is ended."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _end_all()
            raise


@contextlib.contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for functions that are marked `in_a_process`. If it ends by an exception, they are told to end, and waited for."""
    with ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_follow, initargs=(os.getpid(),)
    ) as pool:
        try:
            yield pool
        except BaseException:
            mine = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in mine:
                process.terminate()
            raise


def in_a_process(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call it in a worker of `processes`: SIGTERM puts its Macs away and ends the worker (else the pool would go on with the next)."""
    try:
        with guard_signals():
            return work(*args, **kwargs)
    except Terminated:
        delete_all()
        os._exit(1)


def _follow(leader: int) -> None:
    """First thing in a worker: Ctrl-C is the leader's affair; without a leader there is nothing to do here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid == leader
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _end_all() -> None:
    _ending.set()
    _end(list(_children))


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """As Ctrl-C at a terminal: the whole group of each; however often it is pressed here meanwhile."""
    until = time.monotonic() + PATIENCE
    for child in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, _BREAK_OFF)
    for child in children:
        while child.returncode is None:
            try:
                child.wait(max(0.1, until - time.monotonic()))
            except KeyboardInterrupt:
                continue
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
        _children.discard(child)
