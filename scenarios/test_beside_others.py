"""Our product is not the only one on the Mac."""

from __future__ import annotations

import pytest

from harness.session.approving import ApprovalSteps
from harness.session.beside import keep_company
from harness.session.mac import Mac

pytestmark = [pytest.mark.sysext, pytest.mark.sysext_newest_only]


@pytest.mark.sysext_simulated("others=5")
def test_found_among_others(mac: Mac, approval: ApprovalSteps) -> None:
    """Other network extensions are there and enabled: ours is found among them, works, and leaves them as they were."""
    company = keep_company(mac)
    if not company.of_category("network_extension"):
        pytest.skip("there is no other network extension on this Mac: name some as `companions` in the app file")

    mac.install()
    approval.activate_and_approve()

    mac.expect_working()
    company.expect_unharmed()


@pytest.mark.sysext_simulated("others=es-without-access")
def test_beside_an_endpoint_security_client(mac: Mac, approval: ApprovalSteps) -> None:
    """Clients of Endpoint Security can get in the way of anything on a Mac; one that is noisy does no harm."""
    company = keep_company(mac)
    if not company.of_category("endpoint_security"):
        pytest.skip("there is no Endpoint Security client on this Mac: name one as a companion in the app file")

    mac.install()
    approval.activate_and_approve()

    mac.expect_working()
    company.expect_unharmed()
