"""What a killed owner leaves behind, and who removes it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.machines import TartProvider, guard_signals
from harness.machines.base import Machine
from harness.machines.leases import Leases
from harness.machines.processes import alive, birth
from harness.waiting import Deadline, wait_until

IMAGE = "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest"

OWNER = """
import sys
from pathlib import Path
from harness.config import Settings, TartSettings
from harness.machines import guard_signals, provider_for
from harness.waiting import Deadline, sleep
executable, home, cache, work, how = sys.argv[1:]
settings = Settings(cache=Path(cache), tart=TartSettings(executable=executable, home=Path(home)))
with guard_signals():
    machine = provider_for(settings).create(
        image="ghcr.io/cirruslabs/macos-sequoia-vanilla:latest", macos="15", purpose="owned", folder=Path(work), deadline=Deadline(60))
    if how == "keep":
        machine.keep()
    print(machine.name, flush=True)
    if how != "exit":
        sleep(60)
"""


@pytest.fixture
def owner(stub, cache, tmp_path):
    """`owner(how)` starts another process that makes a machine; returns it and (once made) the machine's name."""
    started = []

    def start(how="wait", *, made=True):
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(stub.executable), str(stub.home), str(cache), str(tmp_path / "w"), how],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip() if made else ""

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    TartProvider(stub.settings(cache)).reap(include_kept=True)


def leases(cache):
    return sorted(path.stem for path in (cache / "leases").glob("*.json"))


def end(process, number):
    process.send_signal(number)
    process.wait(30)


@pytest.fixture
def reaper(stub, cache):
    return TartProvider(stub.settings(cache))


def run_of(cache, name):
    record = json.loads((cache / "leases" / f"{name}.json").read_text())
    return record["run"], record["run_birth"]


def test_sigkill_leaves_a_vm_and_the_reaper_removes_it(owner, reaper, stub, cache, seen):
    process, name = owner()
    assert reaper.reap() == []  # it lives
    run = run_of(cache, name)
    end(process, signal.SIGKILL)
    assert alive(*run)
    (state,) = reaper.machines()
    assert (state.name, state.state, state.owner, state.owner_alive) == (name, "running", process.pid, False)
    assert [holder.alive for holder in reaper.slots.holders()] == [False]  # the VM itself holds it
    assert reaper.reap() == [name]
    assert not alive(*run)
    assert stub.vms() == []
    assert leases(cache) == []
    assert reaper.slots.holders() == []
    assert reaper.reap() == []


@pytest.mark.parametrize("slots", [1, 2])
def test_the_next_run_reaps_before_it_starts(owner, stub, cache, tmp_path, deadline, slots):
    process, _ = owner()
    end(process, signal.SIGKILL)
    chosen = stub.settings(cache, slots=slots)
    arguments = {"image": IMAGE, "macos": "15", "purpose": "next", "folder": tmp_path / "n", "deadline": deadline}
    with TartProvider(chosen).create(**arguments) as machine:
        assert stub.vms() == [machine.name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_deletes_the_machine(owner, stub, cache, number):
    process, name = owner()
    run = run_of(cache, name)
    end(process, number)
    assert stub.vms() == []
    assert leases(cache) == []
    assert not alive(*run)


def test_a_normal_end_deletes_the_machine(owner, stub, cache):
    process, _ = owner("exit")
    assert process.wait(30) == 0
    assert stub.vms() == []
    assert leases(cache) == []


def test_kept_machines_are_left_alone_until_asked_for(owner, reaper, stub, cache):
    process, name = owner("keep")
    end(process, signal.SIGTERM)
    assert stub.vms() == [name]
    assert reaper.reap() == []
    (state,) = reaper.machines()
    assert (state.kept, state.state) == (True, "running")
    assert reaper.reap(include_kept=True) == [name]
    assert stub.vms() == []


def test_killed_in_the_middle_of_a_clone(owner, reaper, stub, cache):
    stub.told(clone_seconds=30)
    process, _ = owner(made=False)
    wait_until(lambda: stub.vms() and _helper(cache), what="the clone to be under way", deadline=Deadline(30))
    helper = _helper(cache)
    end(process, signal.SIGKILL)
    assert len(reaper.reap()) == 1
    assert stub.vms() == []
    assert not psutil.pid_exists(helper) or psutil.Process(helper).status() == psutil.STATUS_ZOMBIE


def _helper(cache):
    for path in (cache / "leases").glob("*.json"):
        text = path.read_text()
        if text:
            return json.loads(text)["helper"]
    return None


def change(cache, name, **fields):
    path = cache / "leases" / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_killed_before_the_pid_of_the_run_was_written(owner, reaper, stub, cache):
    process, name = owner()
    run = run_of(cache, name)
    end(process, signal.SIGKILL)
    change(cache, name, run=None, run_birth=None)
    assert reaper.reap() == [name]
    assert not alive(*run)
    assert stub.vms() == []


def test_a_run_whose_home_was_removed_is_ended_all_the_same(owner, reaper, stub, cache):
    process, name = owner()
    run = run_of(cache, name)
    end(process, signal.SIGKILL)
    stub.home.rename(stub.home.with_name("moved"))
    assert reaper.reap() == [name]
    assert not alive(*run)
    assert leases(cache) == []


def test_a_reused_pid_is_not_the_owner_and_not_killed(owner, reaper, stub, cache):
    process, name = owner()
    run = run_of(cache, name)
    end(process, signal.SIGKILL)
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        # Both pids now belong to somebody else.
        change(cache, name, owner=bystander.pid, run=bystander.pid)
        assert reaper.reap() == [name]
        assert bystander.poll() is None
        assert not alive(*run)  # Tart found it by its lock
    finally:
        bystander.kill()
        bystander.wait()


def test_vms_without_our_lease_are_never_touched(owner, reaper, stub, deadline):
    reaper.cli.clone(IMAGE, "sysext-mine-by-hand-15-00000000", deadline)
    process, _ = owner()
    end(process, signal.SIGKILL)
    reaper.reap()
    assert stub.vms() == ["sysext-mine-by-hand-15-00000000"]


def test_what_cannot_be_removed_keeps_its_lease(owner, reaper, stub, cache, seen):
    process, name = owner()
    end(process, signal.SIGKILL)
    stub.told(say={"delete": [1, "", "Error: disk on fire\n"]})
    assert reaper.reap() == []
    assert leases(cache) == [name]
    (failed,) = [record["attributes"] for record in seen if record["name"] == "reap-failed"]
    assert "disk on fire" in failed["error"]
    stub.told()
    assert reaper.reap() == [name]


def test_a_vm_that_is_gone_already_only_loses_its_lease(owner, reaper, stub, cache, deadline):
    process, name = owner()
    end(process, signal.SIGKILL)
    reaper.cli.stop(name, deadline)
    reaper.cli.delete(name, deadline)
    assert reaper.machines()[0].state == "absent"
    assert reaper.reap() == [name]
    assert leases(cache) == []


def test_other_files_among_the_leases_are_left_alone(tmp_path, seen):
    folder = tmp_path / "leases"
    folder.mkdir()
    texts = {
        "torn": "{",
        "list": "[]",
        "other": '{"schema": 99, "name": "other"}',
        "bad": '{"schema": 1, "name": "bad"}',
    }
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text)
    (folder / "../escape.json").write_text("{}")
    (folder / "empty.json").touch()
    assert Leases(folder).all() == []
    assert Leases(folder).reap() == []
    assert len(list(folder.glob("*.json"))) == len(texts) + 1
    assert len([record for record in seen if record["name"] == "lease-unreadable"]) == 2 * len(texts)


def test_a_provider_sees_its_own_leases_only(tmp_path, stub):
    leases = Leases(tmp_path / "leases")
    for name in ("tart", "simulated"):
        leases.open(name=f"vm-{name}", provider=name, simulated=name != "tart", image="x", cli=stub.cli())
        change(tmp_path, f"vm-{name}", owner_birth="of another")
    assert [state.name for state in leases.machines("tart")] == ["vm-tart"]
    assert len(leases.machines()) == 2
    assert leases.reap("simulated") == ["vm-simulated"]
    assert leases.reap() == ["vm-tart"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(["owner", "run", "run_birth", "helper", "kept", "home", "new"]), _JSON))
def test_a_lease_is_read_whole_or_not_at_all(tmp_path, stub, changes):
    leases = Leases(tmp_path / "some")
    lease = leases.open(name="vm", provider="tart", simulated=False, image="x", cli=stub.cli())
    before = json.loads(lease.path.read_text())
    lease.path.write_text(json.dumps({**before, **changes}))
    for found in leases.all():
        assert isinstance(found.owner, int)
        assert isinstance(found.kept, bool)
        for pid in (found.run, found.helper):
            assert pid is None or type(pid) is int
        for text in (found.home, found.run_birth):
            assert text is None or isinstance(text, str)
    lease.remove()


def test_no_leases_at_all(tmp_path):
    leases = Leases(tmp_path / "never-made")
    assert leases.all() == []
    assert leases.reap() == []
    assert leases.machines() == []


def test_a_name_is_leased_once(tmp_path, stub):
    leases = Leases(tmp_path / "leases")
    arguments = {"name": "vm", "provider": "tart", "simulated": False, "image": "x", "cli": stub.cli()}
    lease = leases.open(**arguments)
    with pytest.raises(FileExistsError):
        leases.open(**arguments)
    lease.update(kept=True)
    (read,) = leases.all()
    assert read == lease.lease
    assert read.kept
    assert read.owner_birth == birth(read.owner)
    lease.remove()
    lease.remove()
    assert leases.all() == []


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with guard_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_machine_is_abstract():
    assert {"delete", "stop", "ssh_endpoint", "vnc_endpoint", "keep"} <= Machine.__abstractmethods__
    assert isinstance(Path(), Path)
