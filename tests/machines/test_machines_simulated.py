"""Simulated Macs: how they are told what to do (against the stub), and whole lives of real simulated Macs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config import Settings, SimulatedSettings, Timeouts
from harness.errors import EnvironmentFailure, UsageError, Verdict, WaitTimeout
from harness.machines import EndReason, NoFreeSlot, SimulatedProvider, StartFailed, provider_for
from harness.machines.base import Endpoint
from harness.machines.processes import alive
from harness.machines.simulated import EXECUTABLE
from harness.waiting import Deadline, wait_until

IMAGE = "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest"
FAULTS = "env-hung-boot\tthe guest hangs\nenv-vm-limit\tno room\napproval-prompt-missing\tno prompt\n"


def simulated(cache: Path, *, slots: int = 2, **more) -> Settings:
    quick = {"boot_seconds": 0.2, "login_seconds": 0.1, "shutdown_seconds": 0.1, **more}
    return Settings(
        provider="simulated",
        cache=cache,
        simulated=SimulatedSettings(slots=slots, **quick),
        timeouts=Timeouts(slot=0.3, shutdown=20),
    )


@pytest.fixture
def told(stub, cache):
    """`told(**settings)`: a simulated provider that runs the stub."""

    def make(**more):
        stub.told(say={"sim-faults": [0, FAULTS, ""], "sim-forward": [0, "127.0.0.1:2222\n", ""]})
        return SimulatedProvider(simulated(cache, executable=str(stub.executable), home=stub.home, **more))

    return make


# How they are told


def test_settings_become_the_simulators_variables(told):
    provider = told(
        boot_seconds=2.5,
        scale=2,
        appearance="dark",
        display="1440x900px",
        slots=7,
        faults=["env-vm-limit", "env-hung-boot:rate=0.5"],
    )
    environment = provider.cli.derived(provider.run_environment("key", {})).environment()
    assert {name: value for name, value in environment.items() if name.startswith("SYSEXT_SIM_")} == {
        "SYSEXT_SIM_BOOT_SECONDS": "2.5",
        "SYSEXT_SIM_LOGIN_SECONDS": "0.1",
        "SYSEXT_SIM_PROMPT_SECONDS": "0.5",
        "SYSEXT_SIM_SETTLE_SECONDS": "0.2",
        "SYSEXT_SIM_SHUTDOWN_SECONDS": "0.1",
        "SYSEXT_SIM_ACTIVATION_SECONDS": "0.4",
        "SYSEXT_SIM_SYSDIAGNOSE_SECONDS": "1",
        "SYSEXT_SIM_DISPLAY": "1440x900px",
        "SYSEXT_SIM_SCALE": "2",
        "SYSEXT_SIM_APPEARANCE": "dark",
        "SYSEXT_SIM_FAULTS": "env-vm-limit,env-hung-boot:rate=0.5",
        "SYSEXT_SIM_RUN_KEY": "key",
        "SYSEXT_SIM_VARIATIONS": "",
        "SYSEXT_SIM_VM_LIMIT": "7",
    }
    assert provider.hardware()[2] == "1440x900px"
    described = provider.describe()
    assert (described["simulated"], described["slots"], described["simulated boot seconds"]) == ("yes", "7", "2.5")
    assert described["simulated faults"] == "env-vm-limit,env-hung-boot:rate=0.5"


def test_its_home_is_never_that_of_real_macs(cache, monkeypatch):
    monkeypatch.setenv("TART_HOME", "/somewhere/real")
    assert SimulatedProvider(simulated(cache)).cli.environment()["TART_HOME"] == str(cache / "simulated")


def test_the_guests_port_is_asked_for(told, stub, deadline):
    provider = told()
    assert provider.door("192.168.64.5", 22, deadline) == Endpoint("127.0.0.1", 2222)
    assert stub.calls("sim-forward") == [["sim-forward", "192.168.64.5", "22"]]
    for answer in ([0, "nonsense\n", ""], [0, "h:99999\n", ""], [0, "", ""], [1, "", "boom\n"]):
        stub.told(say={"sim-forward": answer})
        with pytest.raises(EnvironmentFailure):
            provider.door("192.168.64.5", 22, deadline)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("env-hung-bot", "did you mean env-hung-boot"),
        ("zzz", "known: approval-prompt-missing, env-hung-boot, env-vm-limit"),
        ("env-hung-boot:rate=2", "rate from 0 to 1"),
        ("env-hung-boot:rate=often", "rate from 0 to 1"),
        ("env-hung-boot:seed=x", "whole number"),
        ("env-hung-boot:after", "has no value"),
        ("", "known:"),
    ],
)
def test_unknown_fault_is_told_before_anything_is_made(told, stub, tmp_path, deadline, fault, words):
    provider = told(faults=[fault])
    with pytest.raises(UsageError, match=words):
        provider.check(IMAGE)
    with pytest.raises(UsageError, match=words):
        provider.create(image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=deadline)
    assert stub.calls("clone") == []


def test_known_faults_pass(told):
    told(faults=["env-hung-boot", "env-vm-limit:rate=0.2:seed=-7:after=3"]).check(IMAGE)
    assert told().faults()["env-vm-limit"] == "no room"


# Whole lives


@pytest.fixture
def sim(cache, tmp_path):
    """`sim(**settings)` makes a provider with the installed simulator; `create` is bound to it."""
    if not Path(sys.executable).with_name(EXECUTABLE).is_file():
        pytest.skip(f"{EXECUTABLE} is not installed beside {sys.executable}")

    def make(**more):
        provider = provider_for(simulated(cache, **more))

        def create(image=IMAGE, macos="15", purpose="test", **arguments):
            return provider.create(
                image=image,
                macos=macos,
                purpose=purpose,
                folder=tmp_path / "w",
                deadline=Deadline.after(60),
                **arguments,
            )

        return provider, create

    return make


def vms(cache):
    folder = cache / "simulated" / "vms"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def leases(cache):
    return sorted(path.stem for path in (cache / "leases").glob("*.json"))


def greeting(endpoint, size=12):
    with socket.create_connection((endpoint.host, endpoint.port), timeout=10) as connection:
        connection.settimeout(10)
        return connection.recv(size)


def test_life_of_a_simulated_mac(sim, cache, deadline, seen):
    provider, create = sim()
    with create() as machine:
        assert machine.simulated
        assert machine.provider == "simulated"
        ssh = machine.ssh_endpoint(deadline)
        assert greeting(ssh).startswith(b"SSH-2.0-")
        vnc = machine.vnc_endpoint(deadline)
        assert greeting(vnc) == b"RFB 003.008\n"
        assert len(vnc.password.split("-")) == 4
        assert vnc.password not in machine.run_output.read_text()
        (state,) = provider.machines()
        assert (state.state, state.provider) == ("running", "simulated")
        assert machine.stop(deadline).reason is EndReason.STOPPED
    assert vms(cache) == []
    assert leases(cache) == []


def test_two_at_once_and_no_third(sim, cache, deadline):
    _, create = sim()
    with create() as first, create() as second:
        assert first.ssh_endpoint(deadline) != second.ssh_endpoint(deadline)
        with pytest.raises(NoFreeSlot, match=first.name):
            create()
        assert vms(cache) == sorted([first.name, second.name])
    assert vms(cache) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("env-vm-limit", EndReason.VM_LIMIT),
        ("env-keychain", EndReason.KEYCHAIN),
        ("env-keychain:form=seckey", EndReason.KEYCHAIN),
    ],
)
def test_faults_of_the_start(sim, cache, fault, reason):
    provider, create = sim(faults=[fault])
    with pytest.raises(StartFailed) as caught:
        create()
    assert caught.value.end.reason is reason
    assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE
    assert caught.value.hint
    assert vms(cache) == []
    assert leases(cache) == []
    assert provider.slots.holders() == []


def test_fault_of_the_registry(sim, cache):
    _, create = sim(faults=["env-pull-404"])
    with pytest.raises(UsageError, match="404"):
        create()
    assert vms(cache) == []
    assert leases(cache) == []


def test_unknown_images(sim, cache):
    provider, create = sim()
    with pytest.raises(UsageError, match="no such local VM"):
        provider.check("no-such-vm")
    for image in ("no-such-vm", "ghcr.io/cirruslabs/macos-nowhere:latest"):
        with pytest.raises(UsageError):
            create(image=image)
    assert vms(cache) == []
    assert leases(cache) == []


def test_hung_boot_is_the_environments(sim):
    _, create = sim(faults=["env-hung-boot"])
    with create() as machine:
        with pytest.raises(WaitTimeout) as caught:
            machine.ssh_endpoint(Deadline(1.5))
        assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE
        assert machine.running()


def test_stale_address(sim, deadline, seen):
    _, create = sim(faults=["env-stale-ip:seconds=6"])  # a busy host is to meet it, too
    with create() as machine:
        assert greeting(machine.ssh_endpoint(deadline)).startswith(b"SSH-2.0-")
    assert "stale-address" in [record["name"] for record in seen]


def test_stop_that_needs_a_kill(sim, cache, monkeypatch):
    monkeypatch.setattr("harness.machines.tart.STOP_GRACE", 1)
    _, create = sim(faults=["env-stop-needs-kill"])
    with create() as machine:
        assert machine.stop(Deadline(30)).reason is EndReason.KILLED
    assert vms(cache) == []


def test_rate_and_run_key_decide_the_same_each_time(sim):
    _, create = sim(faults=["env-keychain:rate=0.5:seed=3"])

    def fails(key):
        try:
            create(environment={"SYSEXT_SIM_RUN_KEY": key}).delete()
        except StartFailed:
            return True
        return False

    # Two keys that differ (the simulator's choice, by hash), each twice.
    assert [fails(key) for key in ("run 0", "run 1", "run 0", "run 1")] == [True, False, True, False]


OWNER = """
import sys
from pathlib import Path
from harness.config import Settings
from harness.machines import provider_for
from harness.waiting import Deadline, sleep
settings = Settings.model_validate_json(sys.argv[1])
machine = provider_for(settings).create(image=sys.argv[2], macos="15", purpose="owned", folder=Path(sys.argv[3]), deadline=Deadline(60))
print(machine.name, flush=True)
sleep(60)
"""


def test_sigkill_of_the_owner_then_reap(sim, cache, tmp_path):
    provider, _ = sim()
    text = simulated(cache).model_dump_json()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, text, IMAGE, str(tmp_path / "o")], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    name = owner.stdout.readline().strip()
    record = json.loads((cache / "leases" / f"{name}.json").read_text())
    run = (record["run"], record["run_birth"])
    assert provider.reap() == []
    assert alive(*run)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert provider.reap() == [name]
    assert not alive(*run)
    assert vms(cache) == []
    assert leases(cache) == []
    wait_until(lambda: provider.slots.holders() == [], what="the slot to be free", deadline=Deadline(10))
    assert os.getpid() != run[0]
