"""A request that already waits: what a second one does, and what a restart does."""

from __future__ import annotations

import pytest

from harness.session.approving import ApprovalSteps
from harness.session.mac import Mac

pytestmark = pytest.mark.sysext


def test_second_request_while_waiting(mac: Mac, approval: ApprovalSteps) -> None:
    """The second request joins the first: no new prompt, and one approval serves both."""
    mac.install()
    first = mac.activate()
    approval.expect_prompt(first)
    approval.close_prompt(first)

    second = mac.activate()
    approval.expect_no_prompt(second)
    mac.expect_state("activated_waiting_for_user")

    approval.approve_in_settings(second)
    mac.expect_working()


def test_reboot_brings_the_prompt_back(mac: Mac, approval: ApprovalSteps) -> None:
    """After a prompt was closed no request shows one, until the Mac has restarted."""
    mac.install()
    first = mac.activate()
    approval.expect_prompt(first)
    approval.close_prompt(first)
    second = mac.activate()
    approval.expect_no_prompt(second)

    mac.reboot()
    third = mac.activate()

    approval.expect_prompt(third)
    approval.approve(third)
    mac.expect_working()
