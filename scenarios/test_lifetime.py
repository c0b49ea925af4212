"""An approved extension over its life: restarts, upgrades, a crash, removal."""

from __future__ import annotations

import pytest

from harness.session.approving import ApprovalSteps
from harness.session.mac import Mac

pytestmark = pytest.mark.sysext


def test_approval_survives_a_reboot(mac: Mac, approval: ApprovalSteps) -> None:
    mac.install()
    approval.activate_and_approve()
    mac.expect_working()

    mac.reboot()
    mac.expect_state("activated_enabled")

    again = mac.activate()
    approval.expect_no_questions(again)
    mac.expect_working()


def test_upgrade_with_the_extension_running(mac: Mac, approval: ApprovalSteps, releases: tuple[str, str]) -> None:
    """The new version replaces the old one and inherits its approval; nobody is asked, and XPC lives."""
    if mac.app.extension.kind == "driver":
        pytest.skip("macOS replaces a driver only at a restart or when its device is unplugged")
    older, newer = releases
    mac.install(older)
    approval.activate_and_approve()
    mac.expect_working()

    mac.install(newer)
    upgrade = mac.activate()
    approval.expect_no_questions(upgrade)

    mac.expect_working()


def test_upgrade_while_approval_is_pending(mac: Mac, approval: ApprovalSteps, releases: tuple[str, str]) -> None:
    """A new version arrives while the old one still waits: the user approves once, and gets the new one."""
    older, newer = releases
    mac.install(older)
    first = mac.activate()
    approval.expect_prompt(first)
    approval.close_prompt(first)

    mac.install(newer)
    upgrade = mac.activate()
    mac.expect_state("activated_waiting_for_user")

    approval.approve_in_settings(upgrade)
    mac.expect_working()


def test_killed_extension_is_relaunched(mac: Mac, approval: ApprovalSteps) -> None:
    if mac.app.extension.kind == "driver":
        pytest.skip("launchd's job of a driver is not known")
    mac.install()
    approval.activate_and_approve()
    before = mac.expect_working()

    mac.kill_extension()

    after = mac.expect_relaunched(before)
    assert after.pid != before.pid


def test_uninstall_and_reinstall(mac: Mac, approval: ApprovalSteps) -> None:
    """Removing the app takes its extension along, at the latest at a restart; a new install asks anew."""
    mac.install()
    approval.activate_and_approve()
    mac.expect_working()

    mac.uninstall()
    mac.reboot()
    mac.expect_state(None)

    mac.install()
    approval.activate_and_approve()
    mac.expect_working()
