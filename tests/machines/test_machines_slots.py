"""Places for Macs, across processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from harness.errors import Verdict, WaitTimeout
from harness.machines.base import NoFreeSlot
from harness.machines.processes import alive, birth, kill
from harness.machines.slots import Slots, exclusive
from harness.waiting import Deadline, wait_until

HOLD = """
import sys
from pathlib import Path
from harness.machines.slots import Slots
from harness.waiting import Deadline
slot = Slots(Path(sys.argv[1]), "tart", 2).acquire("vm-of-another", Deadline(30))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds one slot until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_slots_are_counted_and_given_back(tmp_path):
    slots = Slots(tmp_path / "deep" / "down", "tart", 2)
    first, second = slots.acquire("a", Deadline(5)), slots.acquire("b", Deadline(5))
    assert {holder.machine for holder in slots.holders()} == {"a", "b"}
    asked = []
    with pytest.raises(NoFreeSlot, match="with a since") as caught:
        slots.acquire("c", Deadline(0.1), before_waiting=lambda: asked.append(1))
    assert asked == [1]
    assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE
    first.release()
    first.release()
    with pytest.raises(ValueError, match="released"):
        first.fileno()
    third = slots.acquire("c", Deadline(0))
    assert {holder.machine for holder in slots.holders()} == {"b", "c"}
    second.release()
    third.release()
    assert slots.holders() == []


def test_a_slot_on_a_full_disk_counts_though_its_holder_has_no_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    slots = Slots(tmp_path, "tart", 1)
    monkeypatch.setattr("harness.machines.slots.os.pwrite", full)
    slot = slots.acquire("a", Deadline(0))
    assert len(slots.holders()) == 1
    slot.release()
    assert slots.holders() == []


def test_real_and_simulated_macs_do_not_take_each_others_places(tmp_path):
    real = Slots(tmp_path, "tart", 1).acquire("a", Deadline(0))
    simulated = Slots(tmp_path, "simulated", 1).acquire("b", Deadline(0))
    real.release()
    simulated.release()


def test_another_process_is_counted_and_its_death_frees(tmp_path, other):
    slots = Slots(tmp_path, "tart", 2)
    mine = slots.acquire("mine", Deadline(0))
    with pytest.raises(NoFreeSlot, match=f"pid {other.pid} with vm-of-another"):
        slots.acquire("third", Deadline(0))
    other.kill()
    other.wait()
    slots.acquire("third", Deadline(10)).release()
    mine.release()


def test_a_wait_ends_when_one_becomes_free(tmp_path):
    slots = Slots(tmp_path, "tart", 1)
    held = slots.acquire("a", Deadline(0))
    thread = threading.Thread(target=lambda: (waiting.wait(10), held.release()))
    waiting = threading.Event()
    thread.start()
    slot = slots.acquire("b", Deadline(20), before_waiting=waiting.set)
    thread.join()
    slot.release()


def test_a_slot_is_taken_as_long_as_the_vm_lives_that_inherited_it(tmp_path):
    slots = Slots(tmp_path, "tart", 1)
    slot = slots.acquire("vm", Deadline(0))
    child = subprocess.Popen(["sleep", "60"], pass_fds=[slot.fileno()])
    try:
        slot.release()
        assert [holder.machine for holder in slots.holders()] == ["vm"]
        with pytest.raises(NoFreeSlot):
            slots.acquire("x", Deadline(0))
    finally:
        child.kill()
        child.wait()
    slots.acquire("x", Deadline(5)).release()


def test_a_holder_that_wrote_no_name_or_is_gone(tmp_path):
    slots = Slots(tmp_path, "tart", 1)
    slot = slots.acquire("vm", Deadline(0))
    slot.path.write_text("{")
    assert slots.holders()[0].machine == ""
    slot.path.write_text(json.dumps({"pid": os.getpid(), "birth": "another", "since": "then", "machine": "vm"}))
    assert "sysext gc" in str(slots.holders()[0])
    slot.release()


def test_one_start_at_a_time(tmp_path):
    slots = Slots(tmp_path, "tart", 2)
    with slots.starting(Deadline(5)):
        with pytest.raises(WaitTimeout, match="start"), slots.starting(Deadline(0.1)):
            pytest.fail("two starts at once")
        with exclusive(tmp_path / "other.lock", Deadline(0.1), what="x"):
            pass
    with slots.starting(Deadline(0)):
        pass


def test_a_process_is_told_from_another_of_its_pid():
    child = subprocess.Popen(["sleep", "60"])
    try:
        born = birth(child.pid)
        assert born is not None
        assert alive(child.pid, born)
        assert not alive(child.pid, born + "1")
        assert not alive(child.pid, None)
        assert kill(child.pid, "another", Deadline(5)) is False
        assert child.poll() is None
    finally:
        child.kill()
        wait_until(lambda: birth(child.pid) is None, what="the zombie to count as gone", deadline=Deadline(10))
        child.wait()
    assert not alive(child.pid, born)
    assert birth(0) is None
    assert birth(-1) is None


def test_kill_takes_the_group_and_a_process_that_ignores_sigterm():
    code = "import signal,time,subprocess\nsignal.signal(15, signal.SIG_IGN)\np=subprocess.Popen(['sleep','60'])\nprint(p.pid, flush=True)\ntime.sleep(60)"
    leader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, process_group=0)
    assert leader.stdout is not None
    grandchild = int(leader.stdout.readline())
    born = birth(grandchild)
    assert kill(leader.pid, birth(leader.pid), Deadline(0.2)) is True
    leader.wait()
    leader.stdout.close()
    wait_until(lambda: not alive(grandchild, born), what="the group to be gone", deadline=Deadline(10))
