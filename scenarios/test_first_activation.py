"""A user installs the app, starts it, and answers what macOS asks."""

from __future__ import annotations

import pytest

from harness.session.approving import ApprovalSteps
from harness.session.mac import Mac

pytestmark = pytest.mark.sysext


def test_first_activation_through_the_prompt(mac: Mac, approval: ApprovalSteps) -> None:
    mac.install()
    activation = mac.activate()

    approval.expect_prompt(activation)
    approval.approve(activation)

    mac.expect_working()


def test_settings_route_without_the_prompt(mac: Mac, approval: ApprovalSteps) -> None:
    """The prompt is only a door: an extension that waits can be approved in Settings, whether the prompt came or not."""
    mac.install()
    activation = mac.activate()
    mac.expect_state("activated_waiting_for_user")

    approval.approve_in_settings(activation)

    mac.expect_working()


def test_user_says_ok_first(mac: Mac, approval: ApprovalSteps) -> None:
    """OK only closes the prompt. Nothing is approved, and nothing is lost."""
    mac.install()
    activation = mac.activate()
    approval.expect_prompt(activation)

    approval.close_prompt(activation)
    mac.expect_state("activated_waiting_for_user")

    approval.approve_in_settings(activation)
    mac.expect_working()


def test_user_refuses_the_configuration_first(mac: Mac, approval: ApprovalSteps) -> None:
    """Don’t Allow on the second consent: the extension stays enabled, and the next start asks again."""
    if not approval.consents:
        pytest.skip("this app asks for no configuration consent")
    mac.install()
    activation = mac.activate()
    approval.expect_prompt(activation)
    approval.approve(activation, consent="dont-allow")
    mac.expect_state("activated_enabled")

    again = mac.activate()
    approval.answer_consents(again)

    mac.expect_working()


def test_app_outside_applications_is_refused(mac: Mac, approval: ApprovalSteps) -> None:
    mac.install(folder="/Users/Shared/Elsewhere")
    activation = mac.activate()

    activation.expect_refused(approval.deadline(), 3, 4)

    mac.expect_state(None)
