"""Upgrades as a matrix: which release over which, in which way, in which state before (`--sysext-upgrade`, docs/upgrades.md)."""

from __future__ import annotations

import pytest

from harness.session.approving import ApprovalSteps
from harness.session.mac import Mac
from harness.session.upgrading import UpgradeSteps
from harness.upgrades import UpgradePath

pytestmark = pytest.mark.sysext


def test_upgrade_path(mac: Mac, approval: ApprovalSteps, upgrade_path: UpgradePath) -> None:
    """After each step the newer release works, and nothing of the older one is left but what goes at a restart. Whatever breaks is
    taken up the recovery ladder, so that the failure says what heals it.
    """
    upgrading = UpgradeSteps(mac, approval, upgrade_path)
    for step in upgrade_path:
        with upgrading.told(step):
            upgrading.bring_to(step)
            upgrading.upgrade(step)
            upgrading.check(step)
