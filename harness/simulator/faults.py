"""Injected faults: how they are written, which exist, and which of them a machine has.

Written as `CODE[:rate=0.2][:seed=7][:key=value…]`, several separated by commas. A fault with a rate below 1 is decided
by sha256(seed|code|run key), so that a run can be repeated: the same seed and key always decide the same. With `from=VERSION`
a fault acts only once that version of the extension, or a later one, is asked for.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping

from harness.errors import UsageError
from harness.simulator.interfaces import Fault

HULL_FAULTS: dict[str, str] = {
    "env-hung-boot": "the guest never gets as far as the network; `list` says running",
    "env-stale-ip": "`ip` answers an address of an earlier boot, where nothing listens, for seconds=5",
    "env-ssh-drop": "all SSH connections are cut once: after=2 seconds from the first login, or after commands=N",
    "env-vnc-freeze": "the framebuffer stops sending updates, after=0 seconds from the desktop on; hard=1 for good",
    "env-vm-limit": "the start fails with the message of the system's limit",
    "env-keychain": "the start fails as on a host whose keychain is locked; form=code9 (default) or seckey",
    "env-disk-full": "what the guest writes fails with `No space left on device` once after_mb=0 megabytes were written",
    "env-pull-404": "the registry knows no image at all",
    "env-slow-clone": "each clone takes seconds=5 longer",
    "env-stop-needs-kill": "SIGINT does not end `run`",
}
"""The environment's own faults. The guest's are `harness.simulator.guest.GUEST_FAULTS`."""


def known_faults() -> dict[str, str]:
    """Every fault code with its description, the guest's included (imports the guest: slow)."""
    from harness.simulator.guest import GUEST_FAULTS  # only here: `tart list` must stay quick

    return {**HULL_FAULTS, **GUEST_FAULTS}


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Read the written form; the codes themselves are judged by `check_faults`.

    Raises:
        UsageError: A part is not `key=value`, a rate is not within 0…1, a seed is no integer, a code comes twice.
    """
    faults: dict[str, Fault] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        code, *pairs = part.strip().split(":")
        if not code or "=" in code:
            raise _wrong(part, "it begins with a code")
        rate, seed = 1.0, 0
        parameters: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals or not key:
                raise _wrong(part, f"'{pair}' is key=value")
            try:
                if key == "rate":
                    rate = float(value)
                elif key == "seed":
                    seed = int(value)
                else:
                    parameters[key] = value
            except ValueError:
                raise _wrong(part, f"'{value}' is a number") from None
        if not 0 <= rate <= 1:
            raise _wrong(part, "the rate lies within 0…1")
        if code in faults:
            raise _wrong(part, f"{code} is given once")
        faults[code] = Fault(code, rate, seed, parameters)
    return tuple(faults.values())


def check_faults(faults: Iterable[Fault], known: Mapping[str, str]) -> None:
    """Refuse codes that do not exist.

    Raises:
        UsageError: Names the code and the nearest ones.
    """
    for fault in faults:
        if fault.code not in known:
            near = difflib.get_close_matches(fault.code, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "`tart sim-faults` lists them all"
            raise UsageError("a known fault code", seen=f"'{fault.code}'", hint=hint)


def decide(fault: Fault, run_key: str, occasion: str = "") -> bool:
    """Whether a machine with that run key has the fault (at that occasion, for one that is decided more than once)."""
    if fault.rate >= 1:
        return True
    key = f"{fault.seed}|{fault.code}|{run_key}" + (f"|{occasion}" if occasion else "")
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < fault.rate


class FaultSet:
    """The faults of one machine (see `interfaces.Faults`)."""

    def __init__(self, faults: Iterable[Fault] = (), run_key: str = "") -> None:
        self.given = tuple(faults)
        self._run_key = run_key
        self._active = {fault.code: fault for fault in self.given if decide(fault, run_key)}
        self._version = ""

    def asked_for(self, version: str) -> None:
        """The version of the extension that was last asked for: a fault given with `from=VERSION` acts from that one on."""
        self._version = version

    def active(self, code: str) -> Fault | None:
        """The fault, if this machine has it and its time has come."""
        fault = self._active.get(code)
        return fault if fault is not None and self._has_come(fault) else None

    def _has_come(self, fault: Fault) -> bool:
        first = fault.parameters.get("from")
        return first is None or (self._version != "" and version_key(self._version) >= version_key(first))

    def at(self, code: str, occasion: str) -> Fault | None:
        """The fault, if this machine has it at that occasion: decided anew for each, unless it is given with `per=machine`.
        The occasion "" is the machine's own decision.
        """
        fault = next((fault for fault in self.given if fault.code == code), None)
        if fault is None or fault.parameters.get("per") == "machine":
            return self.active(code)
        return fault if self._has_come(fault) and decide(fault, self._run_key, occasion) else None

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes that this machine has."""
        return tuple(self._active)


def version_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Versions in order: numbers as such, a word before the version without it (1.2b1 < 1.2 < 1.2.1)."""
    parts = re.findall(r"\d{1,4000}|[^\W\d_]+", text)
    return (*((2, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts), (1, 0, ""))


def number(fault: Fault, key: str, default: float) -> float:
    """A parameter of a fault as a number.

    Raises:
        UsageError: It is none.
    """
    text = fault.parameters.get(key)
    if text is None:
        return default
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"a number for {key} of {fault.code}", seen=repr(text)) from None


def _wrong(part: str, rule: str) -> UsageError:
    return UsageError(
        f"a fault written CODE[:rate=0.2][:seed=7][:key=value]: {rule}",
        seen=repr(part),
        hint="`tart sim-faults` lists the codes",
    )
