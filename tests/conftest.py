"""For all tests: what the shell or container that starts them has set and the tests should not depend on is undone."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from harness.events import SECRETS

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
