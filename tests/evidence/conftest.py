from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "guest"))

from guest_sshd import Sshd, soon


@pytest.fixture(scope="session")
def _evidence_sshd(tmp_path_factory):
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def sshd(_evidence_sshd):
    for stub in _evidence_sshd.stubs.iterdir():
        stub.unlink()
    return _evidence_sshd


@pytest.fixture
def guest(sshd, tmp_path):
    guest = sshd.guest(tmp_path / "machine")
    guest.connect(soon())
    yield guest
    guest.close()
