"""What we do inside a Mac, through SSH: run, copy files, read logs, reboot."""

from harness.guest.background import Background
from harness.guest.errors import (
    ChecksumMismatch,
    CommandFailed,
    CommandTimeout,
    ConnectionLost,
    HostKeyChanged,
    LoginRefused,
    NoSpace,
    NoSuchFile,
    Result,
)
from harness.guest.files import Transfer
from harness.guest.guest import Guest
from harness.guest.logstream import Gap, LogStream
from harness.guest.system import Readiness, System

__all__ = [
    "Background",
    "ChecksumMismatch",
    "CommandFailed",
    "CommandTimeout",
    "ConnectionLost",
    "Gap",
    "Guest",
    "HostKeyChanged",
    "LogStream",
    "LoginRefused",
    "NoSpace",
    "NoSuchFile",
    "Readiness",
    "Result",
    "System",
    "Transfer",
]
