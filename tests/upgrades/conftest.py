"""An app file with rebuilds, and one of each kind that upgrades differ for."""

from __future__ import annotations

import pytest

from harness.config import AppFile
from tests.support.upgrade_samples import app_with, release


@pytest.fixture
def product() -> AppFile:
    """1.0, 1.1 and its rebuild 1.1-b, 2.0."""
    return app_with(release("1.0"), release("1.1"), release("1.1-b", "1.1"), release("2.0"))
