"""The `--sysext-…` options of pytest: their texts, and what they put over the settings."""

from __future__ import annotations

import argparse
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
KEEP_FIRST = "first"
KEEP_ALL = "all"


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
        help="keep failed Macs running, and say how to reach them: the same as --sysext-keep all",
    )
    group.addoption(
        "--sysext-keep",
        choices=("none", KEEP_FIRST, KEEP_ALL),
        default=None,
        help="of the Macs on which a scenario failed, keep none, the first or all of them running",
    )
    group.addoption(
        "--sysext-repeat",
        type=_cycles,
        default=None,
        metavar="N",
        help="run each scenario N times (`sysext repro` runs one until it is sure how often it fails)",
    )
    group.addoption(
        "--sysext-until-fail",
        action="store_true",
        help="begin nothing more once a scenario has failed; without --sysext-repeat each is run up to 1000 times",
    )
    group.addoption(
        "--sysext-same-mac",
        action="store_true",
        help="run the cycles of a scenario on one Mac: the product is removed in between, and a Mac on which anything is left or "
        "failed is replaced",
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
    group.addoption(
        "--sysext-upgrade",
        action="append",
        default=None,
        metavar="PATHS",
        help='upgrades to walk: "0.11.4->0.11.5 via pkg while running", "matrix"; may be given several times (docs/upgrades.md)',
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
    given["upgrades.paths"] = config.getoption("sysext_upgrade")
    return given


def keeping(config: pytest.Config, *, default: bool) -> str:
    """Which failed Macs are kept: KEEP_FIRST, KEEP_ALL, or "" for none.

    Args:
        config: With the options.
        default: What the settings say (`keep_vm`).
    """
    given = config.getoption("sysext_keep")
    if given is None:
        return KEEP_ALL if default else ""
    return "" if given == "none" else str(given)


def _cycles(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError(f"a number of cycles from 1 to 100000 is expected, not {text!r}")
    return number


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of xdist's worker processes."""
    return hasattr(config, "workerinput")
