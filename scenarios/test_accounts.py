"""Who sits at the Mac is no administrator."""

from __future__ import annotations

import pytest

from harness.session.accounts import refusals, use_as_standard_user
from harness.session.approving import ApprovalSteps
from harness.session.mac import Mac

pytestmark = [pytest.mark.sysext, pytest.mark.sysext_newest_only]


def test_standard_user_needs_an_administrator(mac: Mac, approval: ApprovalSteps) -> None:
    """Cancelling leaves the request waiting; with an administrator's name and password it is approved."""
    if mac.machine.own_display:
        pytest.skip("the console of this Mac is ours: nobody else can be logged in there")
    use_as_standard_user(mac)
    mac.install()
    activation = mac.activate()
    approval.expect_prompt(activation)
    approval.close_prompt(activation)

    approval.cancel_password()
    mac.expect_state("activated_waiting_for_user")
    refusals(mac)

    approval.approve_in_settings(activation)
    mac.expect_working()
