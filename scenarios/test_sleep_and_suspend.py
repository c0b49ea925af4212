"""The Mac sleeps, its display sleeps, its VM is suspended: afterwards the extension works as before, and traffic passes."""

from __future__ import annotations

import pytest

from harness.session.approving import ApprovalSteps
from harness.session.mac import Mac
from harness.session.proving import Proof

pytestmark = [pytest.mark.sysext, pytest.mark.sysext_newest_only]


def test_works_after_sleep(mac: Mac, approval: ApprovalSteps) -> None:
    """Providers were seen to come back from sleep without getting a flow any more: it runs, and nothing passes through it."""
    proof = Proof(mac)
    mac.install()
    approval.activate_and_approve()
    proof.expect()

    absence = mac.sleep_and_wake()

    if not absence.happened:
        pytest.skip(f"this Mac does not sleep: {absence.why}")
    proof.expect()


def test_works_while_the_display_sleeps(mac: Mac, approval: ApprovalSteps) -> None:
    proof = Proof(mac)
    mac.install()
    approval.activate_and_approve()
    before = proof.expect()

    absence = mac.sleep_display()

    if not absence.happened:
        pytest.skip(f"this Mac's display does not sleep: {absence.why}")
    assert proof.expect().pid == before.pid
    mac.wake_display()
    assert proof.expect().pid == before.pid


@pytest.mark.sysext_suspendable
def test_works_after_suspend_and_resume(mac: Mac, approval: ApprovalSteps) -> None:
    """A VM that goes on is the same Mac at another time: the same process of the extension, and flows that pass."""
    proof = Proof(mac)
    mac.install()
    approval.activate_and_approve()
    before = proof.expect()

    mac.suspend_and_resume()

    after = proof.expect()
    assert after.pid == before.pid, "the extension was started anew: it did not survive the suspension"
