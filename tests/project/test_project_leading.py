"""What a benchmark has started ends with it, by Ctrl-C, SIGTERM or SIGKILL, and nothing else does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEADER = """
import os, sys, threading, time
from pathlib import Path
from benchmarks.common import scratch_folder
from benchmarks.leading import in_a_process, processes, run_child, threads

HERE = Path(__file__).parent
CHILD = '''
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the harness takes it
try:
    pathlib.Path("child.here").write_text(str(os.getpid()))
    time.sleep(300)
except KeyboardInterrupt:
    pathlib.Path("child.gone").touch()
'''

def stay(number):
    try:
        (HERE / f"worker{number}.here").write_text(str(os.getpid()))
        time.sleep(300)
    finally:
        (HERE / f"worker{number}.gone").touch()

def work(number):
    return in_a_process(stay, number)

if __name__ == "__main__":
    with scratch_folder() as scratch, processes(2) as pool, threads(1) as side:
        (HERE / "scratch").write_text(str(scratch))
        for number in range(4):  # more than there are workers: what waits must not be begun
            pool.submit(work, number)
        command = [sys.executable, "-c", CHILD]
        for number in range(2):
            task = side.submit(run_child, command, cwd=HERE, environment=os.environ, output=scratch / f"{number}")
        task.result()
"""


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_was_started_ends_with_the_leader(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "leader.py"
    script.write_text(LEADER, encoding="utf-8")
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    leader = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # we may have been started without
    )
    try:
        eventually(lambda: len(list(tmp_path.glob("*.here"))) == 3)
        eventually(lambda: all(file.read_text(encoding="utf-8") for file in tmp_path.glob("*.here")))
        workers = [int(file.read_text(encoding="utf-8")) for file in tmp_path.glob("worker*.here")]
        child = int((tmp_path / "child.here").read_text(encoding="utf-8"))
        leader.send_signal(number)
        leader.wait(60)

        eventually(lambda: not any(running(pid) for pid in workers))
        assert sorted(file.stem for file in tmp_path.glob("worker*.gone")) == ["worker0", "worker1"]
        scratch = Path((tmp_path / "scratch").read_text(encoding="utf-8"))
        if number is signal.SIGKILL:  # nothing can be done about these then
            os.kill(child, signal.SIGKILL)
            shutil.rmtree(scratch)
        else:
            assert (tmp_path / "child.gone").exists()
            assert not scratch.exists()
        assert bystander.poll() is None
    finally:
        for process in (leader, bystander):
            process.kill()
            process.wait()
