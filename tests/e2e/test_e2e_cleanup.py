"""Nothing is left behind: after SIGKILL the next `sysext gc` cleans up, after SIGTERM and Ctrl-C the run itself."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from .conftest import House  # type: ignore[import-not-found]

FIRST = "test_first_activation_through_the_prompt"
Start = Callable[..., "subprocess.Popen[bytes]"]


def _until(truth: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def test_after_kill_9_gc_leaves_no_process_and_no_clone(house: House, start: Start) -> None:
    process = start("-k", FIRST)
    _until(lambda: house.processes() and house.machines())
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert house.machines()

    done = house.sysext("gc")

    assert done.returncode == 0, done.stderr
    assert "removed" in done.stdout
    assert house.processes() == []
    assert house.machines() == []
    assert "nothing to remove" in house.sysext("gc").stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_deletes_its_mac(house: House, start: Start, number: signal.Signals) -> None:
    process = start("-k", FIRST)
    _until(lambda: house.processes() and house.machines())
    process.send_signal(number)
    process.wait(timeout=60)
    assert house.processes() == []
    assert house.machines() == []


def test_gc_never_touches_what_is_not_ours(house: House) -> None:
    tart = str(house.command()[0]).replace("python", "sysext-simulated-tart")
    environ = {**house.environment, "TART_HOME": str(house.folder / "tart")}
    image = "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest"
    subprocess.run([tart, "clone", image, "somebody-elses"], env=environ, check=True, capture_output=True, timeout=60)
    assert house.sysext("gc").returncode == 0
    assert house.machines() == ["somebody-elses"]
