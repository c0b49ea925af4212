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


@pytest.mark.sysext_newest_only
def test_prompt_never_answered_before_a_reboot(mac: Mac, approval: ApprovalSteps) -> None:
    """Nobody answers, and the Mac is restarted: the request still waits, and Settings approves it without another prompt."""
    mac.install()
    first = mac.activate()
    approval.expect_prompt(first)

    mac.reboot()
    mac.expect_state("activated_waiting_for_user")

    approval.approve_waiting()
    again = mac.activate()
    approval.answer_consents(again)
    mac.expect_working()


@pytest.mark.sysext_newest_only
def test_app_dies_while_its_request_waits(mac: Mac, approval: ApprovalSteps) -> None:
    """The app that asked crashes before anybody has answered: its request lives on, and the app's next start ends it well."""
    mac.install()
    first = mac.activate()
    approval.expect_prompt(first)

    mac.crash_app()
    mac.expect_state("activated_waiting_for_user")

    second = mac.activate()
    approval.approve_in_settings(second)
    mac.expect_working()
