"""What the environment says about how a simulated Mac behaves (`SYSEXT_SIM_*`). Delays in seconds."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.simulator.faults import FaultSet, parse_faults
from harness.simulator.interfaces import Fault
from harness.simulator.variations import Variations, parse_variations

PREFIX = "SYSEXT_SIM_"


@dataclass(frozen=True)
class SimSettings:
    """One machine's settings; the field `boot_seconds` is the variable `SYSEXT_SIM_BOOT_SECONDS`, and so on."""

    boot_seconds: float = 1.5
    login_seconds: float = 0.5
    prompt_seconds: float = 0.5
    settle_seconds: float = 0.2
    shutdown_seconds: float = 0.3
    activation_seconds: float = 0.4
    sysdiagnose_seconds: float = 1.0
    display: str = "1280x800px"
    scale: int = 1
    appearance: str = "light"
    faults: tuple[Fault, ...] = ()
    variations: Variations = Variations()  # noqa: RUF009 - frozen
    run_key: str = ""
    vm_limit: int = 2
    tart_version: str = "2.35.0"
    foreign_vms: int = 0
    behaviours: str = ""
    journal_folder: str = ""

    @property
    def version(self) -> tuple[int, int]:
        """The Tart version played, as (major, minor)."""
        major, minor = self.tart_version.split(".")[:2]
        return int(major), int(minor)

    @property
    def behaviours_folder(self) -> Path | None:
        """A folder of further behaviour files of apps, if one is set."""
        return Path(self.behaviours) if self.behaviours else None

    def decided(self) -> FaultSet:
        """The faults that a machine run with these settings has."""
        return FaultSet(self.faults, self.run_key)

    def recorded(self) -> dict[str, object]:
        """The settings as JSON values, for the journal and the machine's folder."""
        return dataclasses.asdict(self)


def parse_display(text: str) -> tuple[int, int, str]:
    """`1280x800px` → (1280, 800, "px"); the unit is "" where none is given.

    Raises:
        ValueError: It has another form.
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})(px|pt)?", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise ValueError(text)
    return int(match[1]), int(match[2]), match[3] or ""


def from_environment(environ: Mapping[str, str] | None = None) -> SimSettings:
    """Read the variables; those that are absent or empty keep their default.

    Raises:
        UsageError: A value that cannot be used; names the variable.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for item in dataclasses.fields(SimSettings):
        name = PREFIX + item.name.upper()
        text = environ.get(name, "")
        if not text:
            continue
        try:
            values[item.name] = _value(item.name, text)
        except ValueError:
            raise UsageError(f"a usable value in {name}", seen=repr(text), hint=_form(item.name)) from None
    return SimSettings(**values)  # type: ignore[arg-type]


def _value(name: str, text: str) -> object:
    if name.endswith("_seconds"):
        seconds = float(text)
        if not 0 <= seconds < 86400:
            raise ValueError(text)
        return seconds
    if name in ("vm_limit", "foreign_vms"):
        count = int(text)
        if count < 0:
            raise ValueError(text)
        return count
    if name == "scale":
        if text not in ("1", "2"):
            raise ValueError(text)
        return int(text)
    if name == "appearance" and text not in ("light", "dark"):
        raise ValueError(text)
    if name == "display":
        parse_display(text)
    if name == "tart_version" and not re.fullmatch(r"\d+\.\d+(\.\d+)?", text):
        raise ValueError(text)
    if name == "faults":
        return parse_faults(text)
    if name == "variations":
        return parse_variations(text)
    return text


def _form(name: str) -> str:
    if name.endswith("_seconds"):
        return "a number of seconds, 0 or more"
    return {
        "display": "WIDTHxHEIGHT, with px or pt behind it",
        "scale": "1 or 2",
        "appearance": "light or dark",
        "tart_version": "like 2.35.0",
    }.get(name, "a whole number, 0 or more")
