"""This host as the Mac: it is used only where that was said, one scenario at a time, and nothing of it is stopped or deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import load_settings
from harness.errors import UsageError, Verdict, WaitTimeout, verdict_of
from harness.guest import Guest
from harness.machines import NoFreeSlot, SimulatedProvider, ThisMacProvider, provider_for
from harness.machines import this_mac as this_mac_module
from harness.waiting import Deadline
from tests.support import guest_sshd


def settings(tmp_path: Path, **more: object):
    overrides = {"provider": "this-mac", "cache": str(tmp_path / "cache"), "timeouts.slot": 0.3, **more}
    return load_settings(overrides=overrides, environ={})


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Mac, as far as the provider looks."""
    monkeypatch.setattr(this_mac_module.sys, "platform", "darwin")


def create(provider, tmp_path: Path):
    return provider.create(
        image="this-mac", macos="15", purpose="test", folder=tmp_path / "work", deadline=Deadline(30)
    )


def test_a_host_that_is_not_said_to_be_disposable_is_left_alone(on_a_mac, tmp_path):
    provider = provider_for(settings(tmp_path))
    assert isinstance(provider, ThisMacProvider)
    for action in (lambda: provider.check("x"), lambda: create(provider, tmp_path)):
        with pytest.raises(UsageError, match="disposable is false") as caught:
            action()
        assert "never on your own Mac" in caught.value.hint
    assert not (tmp_path / "work").exists()


def test_a_host_that_is_no_mac_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(this_mac_module.sys, "platform", "linux")
    with pytest.raises(UsageError, match="this host is linux"):
        provider_for(settings(tmp_path, **{"this_mac.disposable": True})).check("this-mac")


def test_one_scenario_at_a_time(on_a_mac, tmp_path):
    chosen = settings(tmp_path, **{"this_mac.disposable": True})
    with create(ThisMacProvider(chosen), tmp_path) as machine:
        assert (machine.own_display, machine.simulated, machine.provider) == (True, False, "this-mac")
        with pytest.raises(NoFreeSlot):
            create(ThisMacProvider(chosen), tmp_path)
        with pytest.raises(NoFreeSlot):
            ThisMacProvider(chosen).wait_for_slot(Deadline(0.2))
    ThisMacProvider(chosen).wait_for_slot(Deadline(30))
    machine.delete()  # a second time


def test_it_is_neither_stopped_nor_listed_nor_reaped(on_a_mac, tmp_path):
    provider = ThisMacProvider(settings(tmp_path, **{"this_mac.disposable": True}))
    asked: list[object] = []
    with create(provider, tmp_path) as machine:
        end = machine.stop(Deadline(5), graceful=asked.append)
        assert machine.running()
        assert machine.end() is None
    assert asked == []
    assert end.text == "left running"
    assert (provider.reap(include_kept=True), provider.machines()) == ([], [])
    with pytest.raises(UsageError, match="VNC"):
        machine.vnc_endpoint(Deadline(1))
    assert machine.masked_output() == machine.run_output.read_text() == ""


def test_its_guest_is_reached_through_its_own_ssh_server(on_a_mac, tmp_path):
    sshd = guest_sshd.Sshd(tmp_path / "sshd")
    try:
        chosen = settings(
            tmp_path,
            **{
                "this_mac.disposable": True,
                "guest.ssh_port": sshd.port,
                "guest.user": guest_sshd.USER,
                "guest.key": str(sshd.key),
            },
        )
        with create(ThisMacProvider(chosen), tmp_path) as machine:
            guest = Guest(machine.ssh_endpoint, chosen.guest, name=machine.name, folder=machine.folder)
            with guest:
                guest.connect(Deadline(60))
                assert guest.run(["printf", "%s", "it's me"], deadline=Deadline(60)).text == "it's me"
    finally:
        sshd.stop()


def test_without_remote_login_it_says_where_to_switch_it_on(on_a_mac, tmp_path):
    chosen = settings(tmp_path, **{"this_mac.disposable": True, "guest.ssh_port": guest_sshd.free_port()})
    with create(ThisMacProvider(chosen), tmp_path) as machine, pytest.raises(WaitTimeout) as caught:
        machine.ssh_endpoint(Deadline(0.3))
    assert "Remote Login" in caught.value.hint
    assert verdict_of(caught.value) is Verdict.ENVIRONMENT_FAILURE


def test_no_image_is_wanted_for_it(tmp_path):
    assert settings(tmp_path, image="elsewhere/image").image_for("15") == "this-mac"


@pytest.mark.parametrize(
    ("lane", "given", "wanted"),
    [
        ("instrumented", [], "accessibility=granted"),
        ("instrumented", ["accessibility=refused"], "accessibility=refused"),
        ("pristine", [], ""),
    ],
)
def test_simulated_macs_of_the_instrumented_lane_carry_the_grants(tmp_path, lane, given, wanted):
    chosen = load_settings(
        overrides={"provider": "simulated", "lane": lane, "simulated.variations": given, "cache": str(tmp_path)},
        environ={},
    )
    assert SimulatedProvider(chosen)._behaviour()["SYSEXT_SIM_VARIATIONS"] == wanted
