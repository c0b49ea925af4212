# ruff: noqa: T201 - a command line tool prints
"""`tart run`, up to the point where the machine starts: validation, the lock, the system's limit, start failures."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from harness.simulator import locks
from harness.simulator.arguments import Parsed
from harness.simulator.faults import check_faults, known_faults
from harness.simulator.interfaces import Fault
from harness.simulator.settings import SimSettings
from harness.simulator.store import STATE_FILE, VM, Store, TartError, UsageMistake, random_mac

LIMIT = "The number of VMs exceeds the system limit"
_SECURITY = (
    'Error Domain=VZErrorDomain Code=-9 "The virtual machine encountered a security error." '
    "UserInfo={NSLocalizedFailure=The virtual machine failed to start., "
    "NSLocalizedFailureReason=The virtual machine encountered a security error., "
    'NSUnderlyingError=0x600002a84f30 {Error Domain=NSOSStatusErrorDomain Code=-25308 "errSecInteractionNotAllowed"}}'
)
_SECKEY = (
    'Error Domain=VZErrorDomain Code=1 "Internal Virtualization error. The virtual machine failed to start." '
    "UserInfo={NSLocalizedFailure=Internal Virtualization error., NSLocalizedFailureReason=The virtual machine failed to "
    'start., NSUnderlyingError=0x600003c0d2c0 {Error Domain=NSOSStatusErrorDomain Code=-25308 "failed to generate '
    'asymmetric keypair: SecKeyCreateRandomKey_ios failed"}}'
)


def run(store: Store, settings: SimSettings, given: Parsed, *, started: float) -> int:
    """Run a machine in this process until it ends; the exit code as Tart gives it.

    Raises:
        UsageMistake: Options that exclude one another, a display that cannot be drawn.
        TartError: It does not exist (1 here, with `Error:`), or it is running already (2).
        UsageError: An unknown fault.
    """
    name = given.values["name"]
    try:
        vm = store.find(name)
    except TartError as error:
        raise TartError(f"Error: {error}", 1) from None
    _validate(vm, given)
    check_faults(settings.faults, known_faults() if settings.faults else {})
    suspended = (vm.folder / STATE_FILE).exists()
    if vm.runner() is not None:
        raise TartError(f'VM "{name}" is already running!', 2)
    with locks.exclusive(store.home):
        config = vm.config()
        if _mac_collision(store, vm, config):
            config["macAddress"] = random_mac()
            vm.write_config(config)
            (vm.folder / STATE_FILE).unlink(missing_ok=True)
            suspended = False
        (vm.folder / "sim/started").unlink(missing_ok=True)
        lock = locks.take(vm.config_path)
        if lock is None:
            raise TartError(f'VM "{name}" is already running!', 2)
    # From here on nobody in this process may open config.json: closing it would drop the lock.
    faults = settings.decided()
    (vm.folder / "sim/settings.json").write_text(json.dumps(settings.recorded(), default=str, indent=2))
    if vm.facts.macos is not None and not _take_slot(store, settings, vm, injected=faults.active("env-vm-limit")):
        others = ", ".join(other.name for other in store.running(but=vm.name) if other.facts.macos is not None)
        print(LIMIT + (f" (other running VMs: {others})" if others else ""), file=sys.stderr)
        return 1
    keychain = faults.active("env-keychain")
    if keychain is not None:
        print(_SECKEY if keychain.parameters.get("form") == "seckey" else _SECURITY, file=sys.stderr)
        return 1
    if vm.facts.macos is None:
        return _run_blank()
    from harness.simulator.machine import Machine, RunOptions

    options = RunOptions(
        vnc_experimental="vnc-experimental" in given.flags,
        vnc="vnc" in given.flags,
        print_url="no-graphics" in given.flags or "CI" in os.environ,
        suspendable="suspendable" in given.flags or suspended,
        resume=suspended,
        recovery="recovery" in given.flags,
        started=started,
    )
    machine = Machine(store, settings, vm, config, options)
    code = asyncio.run(machine.run())
    sys.stdout.flush()
    sys.stderr.flush()
    # No interpreter shutdown: a power cut waits for no thread of the guest.
    os._exit(code)


def _validate(vm: VM, given: Parsed) -> None:
    flags = given.flags
    if {"vnc", "vnc-experimental"} <= flags:
        raise UsageMistake("--vnc and --vnc-experimental are mutually exclusive")
    softnet = "net-softnet" in flags or any(option.startswith("net-softnet") for option in given.values)
    if [bool(given.lists["net-bridged"]), softnet, "net-host" in flags].count(True) > 1:
        raise UsageMistake("--net-bridged, --net-softnet and --net-host are mutually exclusive")
    if {"graphics", "no-graphics"} <= flags:
        raise UsageMistake("--graphics and --no-graphics are mutually exclusive")
    if "capture-system-keys" in flags and flags & {"no-graphics", "vnc", "vnc-experimental"}:
        raise UsageMistake("--captures-system-keys can only be used with the default VM view")
    if "suspendable" in flags:
        if vm.facts.macos is None:
            raise UsageMistake("You can only suspend macOS VMs")
        for flag in ("no-trackpad", "no-keyboard", "no-pointer"):
            if flag in flags:
                raise UsageMistake(f"--{flag} cannot be used with --suspendable")
    if "no-trackpad" in flags and vm.facts.macos is None:
        raise UsageMistake("--no-trackpad can only be used with macOS VMs")
    if "nested" in flags:
        if vm.facts.macos is not None:
            raise TartError("macOS virtual machines do not support nested virtualization")
        raise UsageMistake("Nested virtualization is available for Mac with the M3 chip, and later.", root=True)
    if "provisioning-opts" in given.values:
        raise UsageMistake("--provisioning-opts requires the host to be running macOS 27 (or newer)")


def _mac_collision(store: Store, vm: VM, config: dict[str, Any]) -> bool:
    for other in store.running(but=vm.name):
        if other.config().get("macAddress") == config["macAddress"]:
            print("There is already a running VM with the same MAC address!")
            print("Resetting VM to assign a new MAC address...")
            return True
    return False


def _take_slot(store: Store, settings: SimSettings, vm: VM, *, injected: Fault | None) -> bool:
    """The kernel's count of macOS machines, foreign ones included. Two starts at once get one slot each or none."""
    if injected is not None:
        return False
    with locks.exclusive(store.home / "sim/limit.lock"):
        others = [o for o in store.running(but=vm.name) if o.facts.macos and (o.folder / "sim/started").exists()]
        if len(others) + settings.foreign_vms >= settings.vm_limit:
            return False
        (vm.folder / "sim/started").touch()
    return True


def _run_blank() -> int:
    """A Linux machine: holds its lock and waits for a signal, nothing more."""
    import signal

    signal.sigwait({signal.SIGINT})
    print("Stopping VM...")
    return 0
