"""For all tests: what the shell or container that starts them has set and the tests should not depend on is undone."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness import events
from harness.events import SECRETS
from harness.waiting import Deadline

# `pytest … &` in a script: SIGINT comes ignored and would stay so in every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Set in many containers: each of the hundreds of processes that the tests start would compile the harness anew.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False

# How long an example takes says how busy the machine is. (Hypothesis does without its 200 ms where CI is set, only there.)
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# What the tests run is not recorded in the history of whoever runs them; tests of recording name a database of their own.
os.environ["SYSEXT_HISTORY__RECORD"] = "false"


@pytest.fixture(autouse=True)
def _secrets_of_one_test() -> Iterator[None]:
    """What one test declares to be secret is not masked in the words of the next."""
    values, spared = list(SECRETS._values), set(SECRETS._spared)
    yield
    SECRETS._values, SECRETS._spared = values, spared


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(60)


@pytest.fixture
def seen() -> Iterator[list[events.Record]]:
    """The events of the test."""
    records: list[events.Record] = []
    log = events.EventLog()
    log.subscribe(records.append)
    with events.use(log):
        yield records


@pytest.fixture
def displays() -> Iterator[Callable[..., object]]:
    """`displays(version, **options)` is a display of the simulated Mac's, closed in the end."""
    from tests.support.screen_display import Display

    made = []

    def make(version: str, **options: object) -> object:
        made.append(Display(version, **options))
        return made[-1]

    yield make
    for display in made:
        display.close()


@pytest.fixture(scope="session")
def _sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from tests.support.guest_sshd import Sshd

    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def sshd(_sshd):
    """An OpenSSH server, without stubs of other tests."""
    for stub in _sshd.stubs.iterdir():
        stub.unlink()
    return _sshd


@pytest.fixture
def guest(sshd, tmp_path: Path):
    """What listens there, taken for a Mac."""
    from tests.support.guest_sshd import soon

    guest = sshd.guest(tmp_path / "machine")
    guest.connect(soon())
    yield guest
    guest.close()
