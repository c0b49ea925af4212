"""A child that is told to break off does, also where Ctrl-C is ignored; and it is waited for."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.waiting import Deadline, wait_until

CHILD = """
import pathlib, signal, time

signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the plugin takes it
try:
    pathlib.Path("begun").touch()
    time.sleep(300)
except KeyboardInterrupt:
    pathlib.Path("gone").touch()
"""
LEADER = """
import os, pathlib, sys
from harness.repro.processes import run_pytest

try:
    run_pytest(["-c", sys.argv[1]], cwd=pathlib.Path(), environment=os.environ)
except KeyboardInterrupt:
    sys.exit(0 if pathlib.Path("gone").exists() else "it was not waited for")
"""


@pytest.mark.parametrize("ignored", [False, True], ids=["in front", "in the background of a script"])
def test_sigterm_reaches_what_was_started(tmp_path: Path, *, ignored: bool) -> None:
    disposition = signal.SIG_IGN if ignored else signal.SIG_DFL
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER, CHILD],
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, disposition),
    )
    try:
        wait_until((tmp_path / "begun").exists, what="the child", deadline=Deadline.after(60))
        leader.send_signal(signal.SIGTERM)
        assert leader.wait(60) == 0
    finally:
        leader.kill()
        leader.wait()
