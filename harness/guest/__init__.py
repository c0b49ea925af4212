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
from harness.guest.guest import Guest

__all__ = [
    "Background",
    "ChecksumMismatch",
    "CommandFailed",
    "CommandTimeout",
    "ConnectionLost",
    "Guest",
    "HostKeyChanged",
    "LoginRefused",
    "NoSpace",
    "NoSuchFile",
    "Result",
]
