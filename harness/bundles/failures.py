"""The one error of this room: a file the user gave that cannot be used."""

from __future__ import annotations

from harness.errors import UsageError


class BundleError(UsageError):
    """A bundle, package, image or archive is damaged, hostile, or not what it should be. Nothing half-done is left."""
