"""What a scenario wishes of its Mac: granted, or refused with a reason."""

from __future__ import annotations

import pytest

from harness.config import load_settings
from harness.errors import EnvironmentFailure, UsageError
from harness.machines import EndReason, SimulatedProvider, TartProvider, Wishes, provider_for
from harness.machines import this_mac as this_mac_module
from harness.waiting import Deadline

from .conftest import IMAGE  # type: ignore[import-not-found]


def make(provider, tmp_path, deadline, **wishes):
    return provider.create(
        image=IMAGE, macos="15", purpose="x", folder=tmp_path / "w", deadline=deadline, wishes=Wishes(**wishes)
    )


def test_a_wish_makes_a_machine_suspendable_from_its_first_start(provider, stub, tmp_path, deadline):
    with make(provider, tmp_path, deadline, suspendable=True) as machine:
        assert machine.suspendable
        (first,) = stub.calls("run")
        assert first.count("--suspendable") == 1
        assert machine.suspend(deadline).reason is EndReason.SUSPENDED
        machine.resume(deadline)
        assert machine.running()
        assert [call.count("--suspendable") for call in stub.calls("run")] == [1, 1]


def test_without_the_wish_a_machine_has_all_its_devices(provider, stub, tmp_path, deadline):
    with make(provider, tmp_path, deadline) as machine:
        assert not machine.suspendable
        assert "--suspendable" not in stub.calls("run")[0]
        with pytest.raises(UsageError, match="sysext_suspendable"):
            machine.suspend(deadline)


def test_the_setting_and_the_wish_say_it_once(stub, cache, tmp_path, deadline):
    provider = TartProvider(stub.settings(cache, run_arguments=["--suspendable", "--no-audio"]))
    with make(provider, tmp_path, deadline, suspendable=True):
        assert stub.calls("run")[0].count("--suspendable") == 1


def test_a_lost_state_is_not_taken_for_a_resumed_machine(provider, stub, tmp_path, deadline):
    with make(provider, tmp_path, deadline, suspendable=True) as machine:
        machine.suspend(deadline)
        (stub.home / "vms" / machine.name / "state.vzvmsave").unlink()
        with pytest.raises(EnvironmentFailure, match="stopped"):
            machine.resume(deadline)
        assert len(stub.calls("run")) == 1


def test_variations_go_over_the_settings_of_the_same_name(stub, cache, tmp_path, deadline):
    settings = load_settings(
        overrides={
            "provider": "simulated",
            "cache": str(cache),
            "simulated.executable": str(stub.executable),
            "simulated.home": str(stub.home),
            "simulated.variations": ["rows=3", "lock=open"],
            "lane": "instrumented",
        },
        environ={},
    )
    wished = SimulatedProvider(settings).wished(Wishes(variations=("rows=5",)))
    assert wished == {"SYSEXT_SIM_VARIATIONS": "lock=open,accessibility=granted,rows=5"}
    assert SimulatedProvider(settings).wished(Wishes()) == {}


def test_a_real_mac_grants_no_variations(provider, stub, tmp_path, deadline):
    with pytest.raises(UsageError, match="only with simulated"):
        make(provider, tmp_path, deadline, variations=("rows=5",))
    assert stub.vms() == []
    assert stub.calls("clone") == []


@pytest.mark.parametrize("wish", [{"suspendable": True}, {"variations": ("rows=5",)}], ids=["suspend", "variations"])
def test_this_mac_is_what_it_is(monkeypatch, tmp_path, wish):
    monkeypatch.setattr(this_mac_module.sys, "platform", "darwin")
    overrides = {"provider": "this-mac", "cache": str(tmp_path / "cache"), "this_mac.disposable": True}
    provider = provider_for(load_settings(overrides=overrides, environ={}))
    assert not provider.can_suspend
    with pytest.raises(UsageError, match="ordinary Mac"):
        make(provider, tmp_path, Deadline(30), **wish)
    plain = make(provider, tmp_path, Deadline(30))
    for action in (plain.suspend, plain.resume):
        with pytest.raises(UsageError, match="cannot"):
            action(Deadline(1))
    plain.delete()
