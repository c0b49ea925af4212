from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from guest_sshd import Sshd, soon


@pytest.fixture(scope="session")
def _sshd(tmp_path_factory):
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def sshd(_sshd):
    """The session's server, without stubs of other tests."""
    for stub in _sshd.stubs.iterdir():
        stub.unlink()
    return _sshd


@pytest.fixture
def own_sshd(tmp_path):
    """A server that a test may stop and start."""
    server = Sshd(tmp_path / "sshd")
    yield server
    server.stop()


@pytest.fixture
def guest(sshd, tmp_path):
    guest = sshd.guest(tmp_path / "machine")
    guest.connect(soon())
    yield guest
    guest.close()
