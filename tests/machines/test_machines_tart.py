"""A machine's life, against the stub."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import EnvironmentFailure, UsageError, Verdict, WaitTimeout, verdict_of
from harness.events import SECRETS
from harness.machines import EndReason, NoFreeSlot, StartFailed, TartProvider, provider_for
from harness.machines.base import Endpoint
from harness.waiting import Deadline

IMAGE = "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest"
LIMIT = "The number of VMs exceeds the system limit (other running VMs: a, b)"


@pytest.fixture
def create(provider, tmp_path, deadline):
    def make(**more):
        arguments = {"image": IMAGE, "macos": "15", "purpose": "a Test/of it", "folder": tmp_path / "work"}
        return provider.create(**{**arguments, "deadline": deadline, **more})

    return make


def leases(cache):
    return sorted(path.name for path in (cache / "leases").glob("*.json"))


def names(seen):
    return [record["name"] for record in seen if record["type"] == "event"]


def test_life_of_a_machine(create, stub, cache, deadline, seen):
    with create() as machine:
        assert re.fullmatch(r"sysext-a-test-of-it-15-[0-9a-f]{8}", machine.name)
        assert stub.vms() == [machine.name]
        assert leases(cache) == [f"{machine.name}.json"]
        verbs = [argv[0] for argv in stub.calls()]
        assert verbs == [
            "list",
            "sim-faults",
            "clone",
            "fqn",
            "set",
            "run",
        ]  # looked before it cloned: a clone overwrites
        assert stub.calls("run") == [["run", machine.name, "--no-graphics", "--vnc-experimental"]]
        assert machine.running()
        assert machine.end() is None
        vnc = machine.vnc_endpoint(deadline)
        assert (vnc.host, vnc.port, vnc.password) == ("127.0.0.1", 50123, "abandon-ability-able-about")
        end = machine.stop(deadline)
        assert (end.reason, end.exit_code) == (EndReason.STOPPED, 0)
        assert not machine.running()
        assert machine.end() == end
    assert stub.vms() == []
    assert leases(cache) == []
    machine.delete()  # the second time it is a matter of nothing
    assert len(stub.calls("delete")) == 1


def test_a_simulated_mac_does_not_pass_for_a_real_one(stub, cache, tmp_path, deadline):
    """The simulator's own `tart`, given for Tart: nothing is made."""
    stub.executable = Path(sys.executable).with_name("sysext-simulated-tart")
    provider = TartProvider(stub.settings(cache))
    with pytest.raises(UsageError, match="would be taken for a real Mac") as caught:
        provider.create(image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=deadline)
    assert "--sysext-provider simulated" in (caught.value.hint or "")
    assert leases(cache) == []


def test_the_vnc_password_is_nowhere_but_in_memory(create, cache, deadline, seen):
    with create() as machine:
        password = machine.vnc_endpoint(deadline).password
        assert password not in machine.run_output.read_text()
        assert "*" * len(password) + "@127.0.0.1:50123" in machine.run_output.read_text()
        machine.stop(deadline)
        assert "Stopping VM..." in machine.run_output.read_text()  # it was written on behind the mask
        assert password not in machine.masked_output()
        assert "Stopping VM..." in machine.masked_output()
        assert SECRETS.mask(f"x {password}") == "x ***"
        assert oct(machine.run_output.stat().st_mode & 0o777) == "0o600"
        assert password not in repr(machine.vnc_endpoint) + json.dumps(seen)
        for path in (cache / "leases").iterdir():
            assert password not in path.read_text()


def test_deleted_when_the_body_fails(create, stub, cache):
    with pytest.raises(RuntimeError, match="body"), create():
        raise RuntimeError("body")
    assert stub.vms() == []
    assert leases(cache) == []


def test_graceful_stop_is_a_power_off(create, stub, deadline):
    with create() as machine:

        def graceful(limit):
            assert 0 < limit.remaining <= 5
            (stub.home / "vms" / machine.name / "shutdown").touch()

        assert machine.stop(deadline, graceful).reason is EndReason.POWER_OFF
        assert stub.calls("stop") == []


def test_graceful_stop_whose_connection_breaks_counts_as_graceful(create, stub, deadline, seen):
    with create() as machine:

        def graceful(_):
            (stub.home / "vms" / machine.name / "shutdown").touch()
            raise ConnectionResetError("the guest went down")

        assert machine.stop(deadline, graceful).reason is EndReason.POWER_OFF
        assert "graceful-stop-failed" not in names(seen)


def test_graceful_stop_that_does_nothing_ends_in_a_stop(create, provider, deadline, seen):
    brief = provider.settings.timeouts.model_copy(update={"shutdown": 0.3})
    provider.settings = provider.settings.model_copy(update={"timeouts": brief})
    with create() as machine:
        end = machine.stop(deadline, lambda _: None)
        assert end.reason is EndReason.STOPPED
        assert "graceful-stop-slow" in names(seen)


def test_machine_deaf_to_stop_is_killed(create, stub, seen):
    with create() as machine:
        stub.told(deaf=True)
        # The deafness is read at start only, so start a deaf one.
        machine.stop(Deadline(20))
        machine.start(Deadline(20))
        end = machine.stop(Deadline(1.0))
        assert end.reason is EndReason.KILLED
        assert not machine.running()
        assert "vm-process-killed" in names(seen)


@pytest.mark.parametrize(
    ("run", "reason", "words"),
    [
        ({"vnc": False, "err": LIMIT, "exit": 1}, EndReason.VM_LIMIT, "at most two"),
        (
            {"vnc": False, "err": 'Error Domain=VZErrorDomain Code=-9 "…"', "exit": 1},
            EndReason.KEYCHAIN,
            "unlock-keychain",
        ),
        (
            {"vnc": False, "err": 'Error Domain=VZErrorDomain Code=2 "Failed to lock auxiliary storage."', "exit": 1},
            EndReason.START_FAILED,
            "left-over",
        ),
        ({"vnc": False, "err": "--net-bridged: x", "exit": 64}, EndReason.START_FAILED, "by hand"),
    ],
)
def test_failed_start_leaves_nothing(create, stub, cache, tmp_path, run, reason, words):
    stub.told(run=[run])
    with pytest.raises(StartFailed, match=words) as caught:
        create()
    assert caught.value.end.reason is reason
    assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE
    assert caught.value.evidence == (tmp_path / "work" / "tart-run.txt",)
    assert len(stub.calls("run")) == (3 if reason is EndReason.VM_LIMIT else 1)
    assert stub.vms() == []
    assert leases(cache) == []
    assert TartProvider(stub.settings(cache)).slots.holders() == []


def test_limit_is_tried_again_but_not_silently(create, stub, seen):
    stub.told(run=[{"vnc": False, "err": LIMIT, "exit": 1}, {}])
    with create() as machine:
        assert machine.running()
    retries = [record["attributes"] for record in seen if record["name"] == "start-retried"]
    assert [retry["reason"] for retry in retries] == ["vm-limit"]


def test_limit_is_not_tried_for_ever(create, stub, provider):
    stub.told(run=[{"vnc": False, "err": LIMIT, "exit": 1}])
    with pytest.raises(StartFailed):
        create()
    assert len(stub.calls("run")) == 1 + len(provider.start_pauses)


def test_panic_shows_wherever_one_waits(create, stub, deadline):
    stub.told(run=[{"out": "guest has stopped the virtual machine due to error: Error Domain=…", "exit": 0}])
    with pytest.raises(StartFailed, match="panic"), create() as machine:
        machine.ssh_endpoint(deadline)


def test_end_while_the_guest_is_looked_for(create, stub, deadline):
    stub.told(ip={"dhcp": [None]})
    with create() as machine:
        (stub.home / "vms" / machine.name / "shutdown").touch()
        with pytest.raises(StartFailed) as caught:
            machine.ssh_endpoint(deadline)
        assert caught.value.end.reason is EndReason.POWER_OFF
        with pytest.raises(StartFailed):
            machine.vnc_endpoint(deadline)


def test_ssh_door_is_found(stub, cache, tmp_path, deadline, door):
    host, port = door()
    stub.told(ip={"dhcp": [None, host]})
    provider = TartProvider(stub.settings(cache, ssh_port=port))
    with provider.create(image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=deadline) as machine:
        assert machine.ssh_endpoint(deadline) == Endpoint(host, port)
        asked = len(stub.calls("ip"))
        assert asked == 2
        assert machine.ssh_endpoint(deadline) == Endpoint(host, port)
        assert len(stub.calls("ip")) == asked  # what answers need not be asked for
        assert str(port) in machine.keep()
        assert "-p" in machine.keep()
        machine.kept = False


def test_stale_address_is_asked_for_again(stub, cache, tmp_path, deadline, door, seen):
    host, port = door()
    stub.told(ip={"dhcp": ["127.0.0.3", "127.0.0.3", host]})
    provider = TartProvider(stub.settings(cache, ssh_port=port))
    provider.ask_again = 0.05
    with provider.create(image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=deadline) as machine:
        assert machine.ssh_endpoint(deadline) == Endpoint(host, port)
    (stale,) = [record["attributes"] for record in seen if record["name"] == "stale-address"]
    assert stale == {"silent": ["127.0.0.3"], "answers": "127.0.0.1"}


def test_a_door_that_is_not_ssh_is_not_the_guest(stub, cache, tmp_path, door):
    host, port = door(b"RFB 003.008\n")
    stub.told(ip={"dhcp": [host]})
    provider = TartProvider(stub.settings(cache, ssh_port=port))
    with (
        provider.create(image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=Deadline(30)) as machine,
        pytest.raises(WaitTimeout, match=r"no SSH banner: b'RFB 003") as caught,
    ):
        machine.ssh_endpoint(Deadline(2.0))
    assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE
    assert "Remote Login" in caught.value.hint


def test_no_address_says_what_may_be_wrong(create, stub):
    stub.told(ip={"dhcp": [None]})
    with create() as machine, pytest.raises(WaitTimeout, match="dhcp: no address") as caught:
        machine.ssh_endpoint(Deadline(1.5))
    assert "DHCPLeaseTimeSecs" in caught.value.hint


def test_other_resolvers_are_asked_when_dhcp_does_not_know(stub, cache, tmp_path, deadline, door, seen):
    host, port = door()
    stub.told(ip={"dhcp": [None], "agent": [host]})
    provider = TartProvider(stub.settings(cache, ssh_port=port))
    provider.resolver_patience = 0.0
    with provider.create(image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=deadline) as machine:
        assert machine.ssh_endpoint(deadline) == Endpoint(host, port)
    (fallback,) = [record["attributes"] for record in seen if record["name"] == "resolver-fallback"]
    assert fallback["used"] == "agent"


def test_unknown_local_image_is_told_before_anything_is_made(provider, create, stub, cache):
    provider.cli.clone(IMAGE, "golden-15", Deadline(30))
    for attempt in (lambda: provider.check("golden-l5"), lambda: create(image="golden-l5")):
        with pytest.raises(UsageError, match="did you mean golden-15"):
            attempt()
    assert stub.vms() == ["golden-15"]
    assert len(stub.calls("clone")) == 1
    provider.check("golden-15")
    provider.check(IMAGE)


def test_unknown_remote_image_leaves_nothing(create, stub, cache):
    with pytest.raises(UsageError, match="image that exists"):
        create(image="ghcr.io/cirruslabs/macos-nowhere:latest")
    assert stub.vms() == []
    assert leases(cache) == []


def test_hardware_and_run_arguments_come_from_the_settings(stub, cache, tmp_path, deadline):
    settings = stub.settings(cache, cpu=6, memory_mb=12288, display="1280x800px", run_arguments=["--net-softnet"])
    with TartProvider(settings).create(
        image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=deadline, environment={"EXTRA": "1"}
    ) as machine:
        (argv,) = stub.calls("set")
        assert argv[2:] == ["--cpu", "6", "--memory", "12288", "--display", "1280x800px", "--random-mac"]
        assert stub.calls("run") == [["run", machine.name, "--no-graphics", "--vnc-experimental", "--net-softnet"]]
        assert stub.environments()[-1]["EXTRA"] == "1"


def test_no_free_slot(stub, cache, tmp_path, deadline):
    provider = TartProvider(stub.settings(cache, slots=1))
    arguments = {"image": IMAGE, "macos": "15", "purpose": "x", "folder": tmp_path / "w", "deadline": deadline}
    with provider.create(**arguments) as first:
        with pytest.raises(NoFreeSlot, match=f"held by pid {os.getpid()} with {first.name} since") as caught:
            provider.create(**arguments)
        assert isinstance(caught.value, UsageError)
        assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE
        with pytest.raises(NoFreeSlot, match=first.name):
            provider.wait_for_slot(Deadline(0.1))
        assert stub.vms() == [first.name]
        assert leases(cache) == [f"{first.name}.json"]
    for _ in range(2):
        provider.wait_for_slot(Deadline(0.1))  # looks, and takes none
    with provider.create(**arguments):
        pass


def test_a_slot_does_not_leak_when_the_lease_cannot_be_written(create, provider, cache):
    cache.mkdir(exist_ok=True)
    (cache / "leases").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="leases"):
        create()
    assert provider.slots.holders() == []


def test_delete_waits_for_the_lock_of_a_process_just_ended(create, stub, seen):
    machine = create()
    stub.told(say={"delete": [1, "", f'VM "{machine.name}" is running\n']})
    before = machine._delete_clone

    def heal(deadline):
        with pytest.raises(EnvironmentFailure, match="sysext gc"):
            before(Deadline(0.3))
        stub.told()
        before(deadline)

    machine._delete_clone = heal
    machine.delete()
    assert stub.vms() == []


def test_a_clone_that_does_not_go_takes_nobodys_place_and_is_tried_again(create, provider, stub, cache, monkeypatch):
    machine = create()
    before = machine._delete_clone
    monkeypatch.setattr(machine, "_delete_clone", lambda _: before(Deadline(0.05)))
    stub.told(say={"delete": [1, "", "Error: disk on fire\n"]})
    with pytest.raises(EnvironmentFailure, match="sysext gc"):
        machine.delete()
    assert provider.slots.holders() == []
    assert leases(cache) == [f"{machine.name}.json"]
    stub.told()
    monkeypatch.undo()
    machine.delete()
    assert (stub.vms(), leases(cache)) == ([], [])


def test_a_full_host_disk_keeps_no_machine_from_going(create, stub, cache, deadline, seen, monkeypatch):
    machine = create()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("harness.machines.leases.json.dump", full)
    assert machine.stop(deadline).reason is EndReason.STOPPED
    machine.delete()
    assert (stub.vms(), list((cache / "leases").iterdir())) == ([], [])
    assert "lease-not-written" in names(seen)
    with pytest.raises(OSError, match="No space") as caught:
        create()
    assert verdict_of(caught.value) is Verdict.ENVIRONMENT_FAILURE
    assert list((cache / "leases").iterdir()) == []


@pytest.mark.parametrize("verb", ["list", "run"])
def test_a_host_that_can_start_no_process_is_not_a_wrong_executable(create, stub, verb, monkeypatch):
    real = subprocess.Popen.__init__

    def start(self, argv, **more):
        if argv[1] == verb:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        real(self, argv, **more)

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    with pytest.raises(OSError, match="temporarily") as caught:
        create()
    assert verdict_of(caught.value) is Verdict.ENVIRONMENT_FAILURE
    assert stub.vms() == []


def test_delete_finds_a_run_that_we_lost_sight_of(create, stub):
    machine = create()
    run, machine._run = machine._run, None
    machine.delete()
    assert run.wait(5)
    assert stub.vms() == []


def test_tart_home_of_the_environment_is_written_into_the_lease(stub, cache, tmp_path, deadline, monkeypatch):
    settings = stub.settings(cache)
    settings = settings.model_copy(update={"tart": settings.tart.model_copy(update={"home": None})})
    monkeypatch.setenv("TART_HOME", str(stub.home))
    provider = TartProvider(settings)
    with provider.create(image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=deadline):
        monkeypatch.setenv("TART_HOME", str(tmp_path / "elsewhere"))
        assert provider.machines()[0].state == "running"


def test_kept_machine_runs_on_and_keeps_its_lease(create, provider, stub, cache, deadline):
    with create() as machine:
        how = machine.keep()
    try:
        assert machine.running()
        assert "vnc://:abandon-ability-able-about@127.0.0.1:50123" in how
        assert f"delete {machine.name}" in how
        (state,) = provider.machines()
        assert (state.name, state.kept, state.state, state.owner_alive) == (machine.name, True, "running", True)
        assert provider.reap(include_kept=True) == []  # its owner lives
    finally:
        machine.delete()
    assert provider.machines() == []


def test_suspend_and_resume(stub, cache, tmp_path, deadline):
    provider = TartProvider(stub.settings(cache, run_arguments=["--suspendable"]))
    with provider.create(image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=deadline) as machine:
        assert machine.suspend(deadline).reason is EndReason.SUSPENDED
        assert provider.machines()[0].state == "suspended"
        machine.resume(deadline)
        assert machine.running()
        assert machine.end() is None


def test_suspend_without_its_flag_would_lose_the_vm(create, deadline):
    with create() as machine:
        with pytest.raises(UsageError, match="--suspendable"):
            machine.suspend(deadline)
        assert machine.running()


def test_mark_bad_keeps_the_first_reason(create, seen):
    with create() as machine:
        assert machine.bad is None
        machine.mark_bad("no SSH after the reboot")
        machine.mark_bad("something that followed")
        assert machine.bad == "no SSH after the reboot"


def test_describe(provider, stub, cache):
    told = provider.describe()
    assert (told["provider"], told["simulated"], told["tart"], told["slots"]) == ("tart", "no", "2.35.0", "2")
    stub.executable.unlink()
    assert "not usable" in TartProvider(stub.settings(cache)).describe()["tart"]


def test_faults_are_for_simulated_macs_only(stub, cache):
    settings = stub.settings(cache)
    faulty = settings.model_copy(
        update={"simulated": settings.simulated.model_copy(update={"faults": ["env-hung-boot"]})}
    )
    with pytest.raises(UsageError, match="--sysext-provider simulated"):
        provider_for(faulty)
    assert stub.calls() == []


def test_missing_vnc_line_is_survived_and_said(create, stub, seen, monkeypatch, deadline):
    monkeypatch.setattr("harness.machines.tart.START_SECONDS", 0.5)
    stub.told(run=[{"vnc": False}])
    with create() as machine:
        assert machine.running()
        assert "vnc-line-missing" in names(seen)
        with pytest.raises(WaitTimeout, match="VNC server"):
            machine.vnc_endpoint(Deadline(0.1))


def test_interrupt_in_the_middle_of_a_clone_leaves_nothing(create, stub, cache, monkeypatch):
    stub.told(clone_seconds=30)

    def interrupt(self, pid):
        if pid is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr("harness.machines.leases.LeaseFile.helper", interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        create()
        pytest.fail("the interrupt was swallowed")
    assert stub.vms() == []
    assert leases(cache) == []
