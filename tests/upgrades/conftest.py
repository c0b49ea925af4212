"""An app file with rebuilds, and one of each kind that upgrades differ for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import AppFile, ExtensionSpec, Release


def app_with(*releases: Release, kind: str = "transparent-proxy", configuration: str | None = "tunnel") -> AppFile:
    return AppFile(
        name="Example",
        bundle_id="com.example.app",
        extension=ExtensionSpec(id="com.example.app.ext", kind=kind),  # type: ignore[arg-type]
        releases=list(releases),
        configuration=configuration,
        path=Path("app.toml"),
    )


def release(version: str, rebuild_of: str | None = None) -> Release:
    return Release(version=version, source=f"{version}.zip", rebuild_of=rebuild_of)


@pytest.fixture
def product() -> AppFile:
    """1.0, 1.1 and its rebuild 1.1-b, 2.0."""
    return app_with(release("1.0"), release("1.1"), release("1.1-b", "1.1"), release("2.0"))
