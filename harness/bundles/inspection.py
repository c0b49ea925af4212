"""Everything about an app bundle that can be known without a Mac: `inspect_app`."""

from __future__ import annotations

from pathlib import Path

from harness.bundles.facts import (
    PROBLEMS,
    CertificateFacts,
    CmsFacts,
    CodeItem,
    Inspection,
    Problem,
    Profile,
    ResourceCheck,
    SliceFacts,
    Ticket,
    TimestampFacts,
)

__all__ = [
    "PROBLEMS",
    "CertificateFacts",
    "CmsFacts",
    "CodeItem",
    "Inspection",
    "Problem",
    "Profile",
    "ResourceCheck",
    "SliceFacts",
    "Ticket",
    "TimestampFacts",
    "inspect_app",
]


def inspect_app(path: Path, *, verify: bool = True) -> Inspection:
    """Read an unpacked `.app` and everything in it.

    Args:
        path: The app's folder (`harness.bundles.archives.unpack` makes one of any archive).
        verify: Check hashes, signatures and chains too; else only read.

    Raises:
        BundleError: It is no bundle at all. What is damaged inside of it is a `Problem`.
    """
    raise NotImplementedError
