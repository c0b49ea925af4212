"""App files for the tests of upgrades."""

from __future__ import annotations

from pathlib import Path

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
