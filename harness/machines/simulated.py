"""Simulated Macs: the same provider with another `tart` executable. The simulator itself is never imported."""

from __future__ import annotations

import difflib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.errors import EnvironmentFailure, UsageError
from harness.machines.base import Endpoint, Wishes
from harness.machines.tart import TartProvider
from harness.machines.tart_cli import TartCli
from harness.machines.tart_output import VmRow, explain
from harness.waiting import Deadline

EXECUTABLE = "sysext-simulated-tart"


class SimulatedProvider(TartProvider):
    """Simulated Macs on this host. Everything it makes is labelled simulated."""

    name = "simulated"
    simulated = True
    start_pauses = (0.2, 0.5)
    ask_again = 0.2
    # One resolver only for as long as any wait: a simulated guest has no other way to be found.
    resolver_patience = 60.0

    _fault_codes: dict[str, str] | None = None

    def _make_cli(self) -> TartCli:
        simulated = self.settings.simulated
        home = simulated.home if simulated.home is not None else self.settings.cache_dir / "simulated"
        return TartCli(
            simulated.executable or _installed(), home=home.expanduser().absolute(), environment=self._behaviour()
        )

    def _slot_count(self) -> int:
        return self.settings.simulated.slots

    def _behaviour(self) -> dict[str, str]:
        """How its Macs behave, as the simulator reads it."""
        simulated = self.settings.simulated
        delays = {
            "BOOT": simulated.boot_seconds,
            "LOGIN": simulated.login_seconds,
            "PROMPT": simulated.prompt_seconds,
            "SETTLE": simulated.settle_seconds,
            "SHUTDOWN": simulated.shutdown_seconds,
            "ACTIVATION": simulated.activation_seconds,
            "SYSDIAGNOSE": simulated.sysdiagnose_seconds,
        }
        return {
            **{f"SYSEXT_SIM_{name}_SECONDS": f"{seconds:g}" for name, seconds in delays.items()},
            "SYSEXT_SIM_DISPLAY": simulated.display,
            "SYSEXT_SIM_SCALE": str(simulated.scale),
            "SYSEXT_SIM_APPEARANCE": simulated.appearance,
            "SYSEXT_SIM_FAULTS": ",".join(simulated.faults),
            "SYSEXT_SIM_VARIATIONS": ",".join([*simulated.variations, *self._grants()]),
            "SYSEXT_SIM_VM_LIMIT": str(simulated.slots),
        }

    def _grants(self) -> list[str]:
        """Images of the lane `instrumented` carry the grants (vm_images/scripts/tcc.sh): so do its simulated ones."""
        told = any(variation.startswith("accessibility=") for variation in self.settings.simulated.variations)
        return ["accessibility=granted"] if self.settings.lane == "instrumented" and not told else []

    def run_environment(self, purpose: str, given: Mapping[str, str]) -> dict[str, str]:
        """The run key decides, with a fault's seed, whether a fault with a rate below 1 strikes this machine."""
        variables = {"SYSEXT_SIM_RUN_KEY": purpose, **given}
        if self.settings.simulated.run_key:
            variables["SYSEXT_SIM_RUN_KEY"] = self.settings.simulated.run_key
        return variables

    def wished(self, wishes: Wishes) -> dict[str, str]:
        """What a scenario wishes goes over the settings' variation of the same name."""
        if not wishes.variations:
            return {}
        names = {_name_of(variation) for variation in wishes.variations}
        usual = [*self.settings.simulated.variations, *self._grants()]
        kept = [variation for variation in usual if _name_of(variation) not in names]
        return {"SYSEXT_SIM_VARIATIONS": ",".join([*kept, *wishes.variations])}

    def hardware(self) -> tuple[int, int, str]:
        """Few CPUs and little memory are only said, not taken."""
        return self.settings.tart.cpu, self.settings.tart.memory_mb, self.settings.simulated.display

    def door(self, address: str, port: int, deadline: Deadline) -> Endpoint:
        """A simulated guest's ports are ports of this host."""
        result = self.cli.call("sim-forward", address, str(port), deadline=deadline)
        if result.code != 0:
            raise explain("sim-forward", result.code, result.text, subject=address)
        host, colon, number = result.stdout.strip().rpartition(":")
        if not colon or not number.isdecimal() or not 0 < int(number) < 65536:
            raise EnvironmentFailure("`sim-forward` prints HOST:PORT", seen=repr(result.stdout[:200]))
        return Endpoint(host.strip("[]"), int(number))

    def describe(self) -> dict[str, str]:
        """See `Provider`; with the delays and faults that its Macs have."""
        said = {
            name.removeprefix("SYSEXT_SIM_").lower().replace("_", " "): value
            for name, value in self._behaviour().items()
            if value and name != "SYSEXT_SIM_VM_LIMIT"
        }
        return {**super().describe(), **{f"simulated {name}": value for name, value in said.items()}}

    def _known(self, image: str) -> list[VmRow]:
        self._check_faults()
        return super()._known(image)

    def faults(self) -> dict[str, str]:
        """The codes of the faults that can be injected, each with a line on what it does. Asked once.

        Raises:
            UsageError, EnvironmentFailure: The simulator could not be asked.
        """
        if self._fault_codes is None:
            result = self.cli.call("sim-faults", deadline=Deadline.after(30))
            if result.code != 0:
                raise explain("sim-faults", result.code, result.text)
            pairs = (line.partition("\t") for line in result.stdout.splitlines() if "\t" in line)
            self._fault_codes = {code.strip(): text.strip() for code, _, text in pairs}
        return self._fault_codes

    def _check_faults(self) -> None:
        for fault in self.settings.simulated.faults:
            code, *options = fault.split(":")
            known = self.faults()
            if code not in known:
                close = difflib.get_close_matches(code, known, n=3, cutoff=0.4)
                raise UsageError(
                    f"a fault that the simulator knows, not {code!r}",
                    seen=f"it knows {len(known)}",
                    hint=f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}",
                )
            for option in options:
                _check_option(fault, option)


def _check_option(fault: str, option: str) -> None:
    name, equals, value = option.partition("=")
    if not equals or not name:
        raise UsageError(f"CODE[:rate=0.2][:seed=7][:key=value…], not {fault!r}", seen=f"{option!r} has no value")
    if name == "rate":
        try:
            good = 0 <= float(value) <= 1
        except ValueError:
            good = False
        if not good:
            raise UsageError(f"a rate from 0 to 1 in {fault!r}", seen=repr(value))
    if name == "seed" and not value.lstrip("-").isdecimal():
        raise UsageError(f"a whole number as seed in {fault!r}", seen=repr(value))


def _name_of(variation: str) -> str:
    """`rows` of `rows=3`."""
    return variation.partition("=")[0].strip()


def _installed() -> str:
    """The executable that was installed with this package: beside the interpreter, else wherever PATH has it."""
    beside = Path(sys.executable).with_name(EXECUTABLE)
    return str(beside) if beside.is_file() else shutil.which(EXECUTABLE) or EXECUTABLE
