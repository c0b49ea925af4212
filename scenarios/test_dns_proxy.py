"""A DNS proxy, over and over: names resolve, and the Mac hears its management."""

from __future__ import annotations

import pytest

from harness.session.approving import ApprovalSteps
from harness.session.mac import Mac
from harness.session.soak import expect_management, expect_names, soak

pytestmark = [pytest.mark.sysext, pytest.mark.sysext_newest_only, pytest.mark.sysext_kinds("dns-proxy")]


@pytest.mark.sysext_simulated("management=enrolled")
def test_dns_proxy_soak(mac: Mac, approval: ApprovalSteps) -> None:
    expect_names(mac)
    expect_management(mac)
    mac.install()
    approval.activate_and_approve()
    mac.expect_working()

    soak(mac)

    mac.expect_working()
