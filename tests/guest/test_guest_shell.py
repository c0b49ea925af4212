"""Commands over a real OpenSSH sshd."""

from __future__ import annotations

import io
import threading
import time

import pytest
from guest_sshd import SUDO, Proxy, Sshd, soon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import events
from harness.errors import HarnessError, Verdict, WaitTimeout
from harness.guest import CommandFailed, CommandTimeout, ConnectionLost, Guest, HostKeyChanged, LoginRefused


def test_streams_exit_code_and_time_are_kept_apart(guest):
    result = guest.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (result.stdout, result.stderr, result.exit_code, result.signal) == (b"out\n", b"err\n", 3, None)
    assert result.seconds > 0
    assert result.lines == ["out"]
