"""Settings and app files: typed TOML, read once, wrong keys named with the nearest right one.

Precedence: command line > environment (`SYSEXT_PROVIDER`, `SYSEXT_TIMEOUTS__BOOT`) > `sysext.toml` > defaults.
"""

from __future__ import annotations

from harness.config.apps import (
    AppFile,
    ExtensionKind,
    ExtensionSpec,
    FunctionCheck,
    LaunchSpec,
    Release,
    TrafficSpec,
    UpdaterSpec,
    load_app,
)
from harness.config.settings import (
    ENV_PREFIX,
    EvidenceSettings,
    GuestSettings,
    Settings,
    SimulatedSettings,
    TartSettings,
    Timeouts,
    UpgradeSettings,
    load_settings,
)
from harness.config.tables import Lane, MacOS, Table, load_table, table_of

__all__ = [
    "ENV_PREFIX",
    "AppFile",
    "EvidenceSettings",
    "ExtensionKind",
    "ExtensionSpec",
    "FunctionCheck",
    "GuestSettings",
    "Lane",
    "LaunchSpec",
    "MacOS",
    "Release",
    "Settings",
    "SimulatedSettings",
    "Table",
    "TartSettings",
    "Timeouts",
    "TrafficSpec",
    "UpdaterSpec",
    "UpgradeSettings",
    "load_app",
    "load_settings",
    "load_table",
    "table_of",
]
