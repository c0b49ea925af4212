"""Shared by the tests of guests."""

from __future__ import annotations

import pytest

from tests.support.guest_sshd import Sshd


@pytest.fixture
def own_sshd(tmp_path):
    """A server that a test may stop and start."""
    server = Sshd(tmp_path / "sshd")
    yield server
    server.stop()
