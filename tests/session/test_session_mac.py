"""A Mac as a scenario holds it, without one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import load_settings
from harness.errors import EnvironmentFailure, UsageError
from harness.session import mac as module
from harness.session.mac import Mac, require_lane
from harness.waiting import Deadline


def test_the_log_is_kept_before_a_reboot_however_long_that_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`log collect` alone may take minutes on a Mac: as long as one command may take is not enough."""
    kept: list[float] = []
    rebooted: list[float] = []

    def before(*, deadline: Deadline, **_: Any) -> None:
        kept.append(deadline.remaining)

    def reboot(deadline: Deadline) -> None:
        assert kept
        rebooted.append(deadline.remaining)

    monkeypatch.setattr(module, "collect_before_reboot", before)
    mac = Mac.__new__(Mac)
    mac.name = "vm-a"
    mac.machine = SimpleNamespace(own_display=False)  # type: ignore[assignment]
    mac.settings = load_settings(environ={}, overrides={"cache": tmp_path})
    mac.guest = SimpleNamespace(reboot=reboot)  # type: ignore[assignment]
    mac.case = SimpleNamespace(folder=None)  # type: ignore[assignment]
    mac.app = SimpleNamespace(log_subsystems=[])  # type: ignore[assignment]
    mac._activations = []
    mac.reboot()
    assert kept[0] > 480  # the log as text and as an archive: 180 s and 300 s at most
    assert len(rebooted) == 1


def test_the_very_host_is_not_restarted() -> None:
    mac = Mac.__new__(Mac)
    mac.name = "this-mac"
    mac.machine = SimpleNamespace(own_display=True)  # type: ignore[assignment]
    with pytest.raises(UsageError, match="would end this program"):
        mac.reboot()


@pytest.mark.parametrize(
    ("lane", "sip"), [("pristine", True), ("pristine", None), ("sip-off", False), ("managed", False)]
)
def test_a_run_is_of_the_lane_that_it_names(lane: str, sip: bool | None) -> None:
    require_lane(lane, "image", sip=sip)


def test_a_mac_with_sip_off_is_not_pristine() -> None:
    with pytest.raises(EnvironmentFailure, match="for the lane pristine"):
        require_lane("pristine", "image", sip=False)
