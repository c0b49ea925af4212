"""A user switches the extension off in Settings, and on again."""

from __future__ import annotations

import pytest

from harness.session.approving import ApprovalSteps
from harness.session.mac import Mac

pytestmark = pytest.mark.sysext


def test_switched_off_and_on_again(mac: Mac, approval: ApprovalSteps) -> None:
    """Off ends its process and keeps its approval; on brings it back, and the next start of the app asks nothing."""
    if not approval.can_switch:
        pytest.skip(f"Settings of macOS {mac.macos} has no switch for an extension, only Allow")
    mac.install()
    approval.activate_and_approve()
    mac.expect_working()

    approval.switch_off()

    approval.switch_on()
    again = mac.activate()
    approval.expect_no_questions(again)
    mac.expect_working()
