"""The `--sysext-…` options of pytest: their texts, and what they put over the settings."""

from __future__ import annotations

from typing import Any

import pytest

OPTIONS = {
    "provider": "where Macs come from: tart, simulated",
    "image": "the image to clone, whatever the macOS version",
    "macos": "macOS versions, comma separated: 13,14,15,26",
    "lane": "how the image was prepared: pristine, instrumented, sip-off, managed",
    "app": "the app file (TOML) of the product under test",
    "artifacts": "folder for case files (default: artifacts)",
}
"""Options that are a setting of the same name."""


def add_options(parser: pytest.Parser) -> None:
    """Add the `--sysext-…` options."""
    group = parser.getgroup("sysext", "macOS system extensions on disposable Macs")
    for name, text in OPTIONS.items():
        group.addoption(f"--sysext-{name}", default=None, help=text)
    group.addoption(
        "--sysext-config", default=None, help="a settings file (default: sysext.toml here, if there is one)"
    )
    group.addoption("--sysext-release", default=None, help="the release under test (default: the app file's last)")
    group.addoption(
        "--sysext-keep-vm",
        action="store_true",
        default=None,
        help="keep failed Macs running, and say how to reach them",
    )
    group.addoption(
        "--sysext-fault",
        action="append",
        default=None,
        metavar="CODE[:rate=R][:seed=N]",
        help="inject a fault into simulated Macs; may be given several times (`sysext faults` lists them)",
    )
    group.addoption(
        "--sysext-no-preflight",
        action="store_true",
        help="go on also with releases whose files show that they cannot work; it is told all the same",
    )
    group.addoption("--sysext-quiet", action="store_true", help="no live line per step")


def overrides(config: pytest.Config) -> dict[str, Any]:
    """What the options put over the settings; None where an option was not given."""
    given: dict[str, Any] = {name: config.getoption(f"sysext_{name}") for name in OPTIONS}
    if given["macos"] is not None:
        given["macos"] = [part.strip() for part in given["macos"].split(",") if part.strip()]
    given["keep_vm"] = config.getoption("sysext_keep_vm")
    given["preflight.enforce"] = False if config.getoption("sysext_no_preflight") else None
    given["simulated.faults"] = config.getoption("sysext_fault")
    return given


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of xdist's worker processes."""
    return hasattr(config, "workerinput")
