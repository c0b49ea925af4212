# ruff: noqa: T201, ARG001 - a command line tool prints; all verbs have one signature
"""Every verb of `tart` but `run`: `verb(store, settings, parsed)` → exit code. Messages as Tart words them."""

from __future__ import annotations

import json
import os
import signal
import sys
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.simulator import locks
from harness.simulator.addresses import Forwards, Leases
from harness.simulator.arguments import Parsed
from harness.simulator.faults import known_faults, number
from harness.simulator.images import RemoteName, find_image, parse_remote
from harness.simulator.settings import SimSettings, parse_display
from harness.simulator.store import (
    STATE_FILE,
    VM,
    ImageFacts,
    Store,
    TartError,
    UsageMistake,
    new_config,
    not_running,
    random_mac,
)
from harness.waiting import Deadline, sleep

Verb = Callable[[Store, SimSettings, Parsed], int]


def create(store: Store, settings: SimSettings, given: Parsed) -> int:
    """A new machine; an existing one of the name is replaced silently."""
    name = given.values["name"]
    _local_name(name, "name")
    if "linux" not in given.flags and "from-ipsw" not in given.values:
        raise UsageMistake("Please specify either a --from-ipsw or --linux option!")
    made = store.temporary() / "new"
    disk_gb = given.integer("disk-size")
    if "linux" in given.flags:
        store.make(made, new_config(os_name="linux"), ImageFacts(None, disk_gb=disk_gb))
    else:
        ipsw = given.values["from-ipsw"]
        if ipsw == "latest":
            print("Looking up the latest supported IPSW...")
        elif not ipsw.startswith("https://") and not Path(ipsw).is_file():
            raise TartError(f"Error: The file “{Path(ipsw).name}” couldn’t be opened because there is no such file.")
        image = find_image(RemoteName("ghcr.io", "cirruslabs/macos-tahoe-vanilla", "latest"))
        assert image is not None
        print("Installing OS...\n0%\n100%")
        facts = ImageFacts.of(image)
        facts.disk_gb = disk_gb
        store.make(made, new_config(os_name="darwin"), facts)
    with locks.exclusive(store.home):
        store.place(made, name)
    return 0


def clone(store: Store, settings: SimSettings, given: Parsed) -> int:
    """A copy under a new name, pulled first where need be. What had the name is replaced silently."""
    source_name, name = given.values["source-name"], given.values["new-name"]
    _local_name(name, "new-name")
    _concurrency(given)
    remote = parse_remote(source_name) if "/" in source_name else None
    if remote is not None and store.find_cached(remote) is None:
        _pull(store, settings, remote)
    source = store.find(source_name)
    slow = settings.decided().active("env-slow-clone")
    if slow is not None:
        sleep(number(slow, "seconds", 5))
    with locks.exclusive(store.home):
        store.clone(source, name)
    return 0


def pull(store: Store, settings: SimSettings, given: Parsed) -> int:
    """An image into the cache."""
    name = given.values["remote-name"]
    _concurrency(given)
    if "/" not in name:
        print(f'"{name}" is a local image, nothing to pull here!')
        return 0
    remote = parse_remote(name)
    if remote is None:
        raise TartError(f"failed to parse remote name: {name}")
    print(f"pulling {remote}...")
    _pull(store, settings, remote)
    return 0


def _pull(store: Store, settings: SimSettings, remote: RemoteName) -> None:
    print("pulling manifest...")
    image = find_image(remote)
    if image is None or settings.decided().active("env-pull-404") is not None:
        details = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]})
        raise TartError(
            f'Error: UnexpectedHTTPStatusCode(when: "pulling manifest", code: 404, details: {json.dumps(details)})'
        )
    full = f"{remote.host}/{remote.namespace}@{image.digest}"
    if store.find_cached(remote) is not None:
        print(f"{full} image is already cached and linked!")
        return
    if store.find_cached(RemoteName(remote.host, remote.namespace, image.digest)) is not None:
        print(f"{full} image is already cached! creating a symlink...")
    else:
        print(f"pulling disk ({image.size_gb * 0.9:.1f} GB compressed)...")
        plain = "CI" in os.environ
        for percent in (0, 100):
            print(f"{percent}%" if plain else f"\x1b[1A\r\x1b[J{percent}%")
        print("pulling NVRAM...")
    store.add_image(remote, image)


def set_(store: Store, settings: SimSettings, given: Parsed) -> int:
    """Change the configuration; silent, and without a look at whether it runs."""
    vm = store.find(given.values["name"])
    config = vm.config()
    if "cpu" in given.values:
        cpu, least = given.integer("cpu"), config["cpuCountMin"]
        if cpu < least:
            raise TartError(
                f"Error: LessThanMinimalResourcesError: VM should have {least} CPU cores at minimum (requested {cpu})"
            )
        config["cpuCount"] = cpu
    if "memory" in given.values:
        memory, least = given.integer("memory") * 1024**2, config["memorySizeMin"]
        if memory < least:
            raise TartError(
                f"Error: LessThanMinimalResourcesError: VM should have {least} bytes of memory at minimum "
                f"(requested {memory})"
            )
        config["memorySize"] = memory
    if "display" in given.values:
        text = given.values["display"]
        try:
            width, height, unit = parse_display(text)
        except ValueError:
            raise UsageMistake(f"The value '{text}' is invalid for '--display <display>'") from None
        config["display"] = {"height": height, "width": width} | ({"unit": unit} if unit else {})
    config.pop("displayRefit", None)
    if given.flags & {"display-refit", "no-display-refit"}:
        config["displayRefit"] = "display-refit" in given.flags
    if "random-mac" in given.flags:
        config["macAddress"] = random_mac()
    if "random-serial" in given.flags and config["os"] == "darwin":
        config["ecid"] = new_config(os_name="darwin")["ecid"]
    if "disk-size" in given.values:
        size = given.integer("disk-size")
        if size < vm.facts.disk_gb:
            raise TartError(
                f"new disk size of {size} GB should be larger than the current disk size of {vm.facts.disk_gb} GB"
            )
        vm.facts.disk_gb = size
        vm.facts.write(vm.folder)
    vm.write_config(config)
    return 0


def get(store: Store, settings: SimSettings, given: Parsed) -> int:
    """One machine's configuration."""
    vm = store.find(given.values["name"])
    config = vm.config()
    display = config["display"]
    row: dict[str, Any] = {
        "OS": config["os"],
        "CPU": config["cpuCount"],
        "Memory": config["memorySize"] // 1024**2,
        "Disk": vm.facts.disk_gb,
        "DiskFormat": config.get("diskFormat", "raw"),
        "Size": f"{vm.facts.size_gb:.3f}",
        "Display": f"{display['width']}x{display['height']}{display.get('unit', '')}",
        "Running": vm.state == "running",
        "State": vm.state,
    }
    if given.values["format"] == "json":
        print(_swift_json(row))
        return 0
    del row["Running"]
    if settings.version > (2, 35):
        row |= {"Disk": f"{row['Disk']} GB", "Size": f"{float(row['Size']):.1f} GB", "Memory": f"{row['Memory']} MB"}
    print(_table([list(row), [str(value) for value in row.values()]]))
    return 0


def list_(store: Store, settings: SimSettings, given: Parsed) -> int:
    """All machines and images."""
    source = given.values.get("source", "")
    if source not in ("", "local", "oci"):
        raise UsageMistake(f"'{source}' is not a valid <source>")
    vms = [] if source == "oci" else store.local()
    vms += [] if source == "local" else store.cached()
    if "quiet" in given.flags:
        for vm in vms:
            print(vm.name)
        return 0
    old = settings.version < (2, 31)
    rows = []
    for vm in vms:
        try:
            state = vm.state
            accessed = datetime.fromtimestamp(vm.config_path.stat().st_atime, UTC)
        except FileNotFoundError:  # deleted by another process meanwhile
            continue
        row: dict[str, Any] = {
            "Source": vm.source,
            "Name": vm.name,
            "Disk": vm.facts.disk_gb,
            "Size": int(vm.facts.size_gb),
        }
        if old:
            row["SizeOnDisk"] = int(vm.facts.size_gb)
        else:
            row["Accessed"] = accessed.strftime("%Y-%m-%dT%H:%M:%SZ")
        rows.append((row | {"Running": state == "running", "State": state}, accessed))
    if given.values["format"] == "json":
        # Swift's order of keys is not defined: readers must not depend on ours
        print(_swift_json([dict(reversed(row.items())) for row, _ in rows]))
        return 0
    lines = []
    for row, accessed in rows:
        del row["Running"]
        if not old:
            row["Accessed"] = _ago(accessed)
        if settings.version > (2, 35):
            row |= {"Disk": f"{row['Disk']} GB", "Size": f"{row['Size']} GB"}
        lines.append([str(value) for value in row.values()])
    print(_table([list(rows[0][0]), *lines]) if rows else "")
    return 0


def ip(store: Store, settings: SimSettings, given: Parsed) -> int:
    """The address from the leases. Whether the machine runs only words the error."""
    vm = store.find(given.values["name"])
    resolver = given.values["resolver"]
    leases = Leases(store.home)
    mac = vm.config()["macAddress"]
    deadline = Deadline(given.integer("wait"))
    while True:
        if (
            resolver == "dhcp"
            or (resolver == "agent" and (vm.folder / "sim/agent-up").exists() and vm.runner())
            or (resolver == "arp" and vm.runner())
        ):
            found = leases.lookup(mac)
        else:
            found = None
        if found:
            print(found)
            return 0
        sleep(1)
        if deadline.expired:
            break
    text = "no IP address found"
    if vm.runner() is None:
        text += ", is your VM running?"
    elif resolver == "agent":
        text += " (also make sure that Guest agent for Tart is running inside of a VM)"
    elif resolver == "arp":
        text += " (not all Linux distributions are compatible with the ARP resolver)"
    raise TartError(text)


def exec_(store: Store, settings: SimSettings, given: Parsed) -> int:
    """A command through the guest agent."""
    vm = store.find(given.values["name"])
    if vm.runner() is None:
        raise not_running(vm.name)
    from harness.simulator.agent import call_agent

    return call_agent(vm.folder, given.lists["command"], interactive="interactive" in given.flags)


def stop(store: Store, settings: SimSettings, given: Parsed) -> int:
    """SIGINT to `run`, SIGKILL after the time-out: a power cut either way."""
    vm = store.find(given.values["name"])
    pid = vm.runner()
    if pid is None:
        if (vm.folder / STATE_FILE).exists():
            (vm.folder / STATE_FILE).unlink(missing_ok=True)
            return 0
        raise not_running(vm.name)
    _signal(pid, signal.SIGINT)
    deadline = Deadline(float(given.values["timeout"]))
    while vm.runner() == pid:
        if deadline.expired:
            _signal(pid, signal.SIGKILL)
            break
        sleep(0.1)
    return 0


def suspend(store: Store, settings: SimSettings, given: Parsed) -> int:
    """SIGUSR1 to `run`, and back at once."""
    vm = store.find(given.values["name"])
    pid = vm.runner()
    if pid is None:
        raise TartError(f'VM "VM "{vm.name}" is not running" is not running', 2)
    _signal(pid, signal.SIGUSR1)
    return 0


def delete(store: Store, settings: SimSettings, given: Parsed) -> int:
    """Machines or cached images, up to the first that fails."""
    for name in given.lists["name"]:
        vm = store.find(name)
        if vm.runner() is not None:
            raise TartError(f'VM "{name}" is running')
        store.delete(vm)
    return 0


def rename(store: Store, settings: SimSettings, given: Parsed) -> int:
    """Another name, running or not."""
    name, new = given.values["name"], given.values["new-name"]
    if "/" in new:
        raise UsageMistake("<new-name> should be a local name", root=True)
    try:
        vm = store.find(name)
    except TartError:
        raise UsageMistake(f"failed to rename a non-existent local VM: {name}", root=True) from None
    target = store.home / "vms" / new
    if target.exists():
        said = f"failed to rename VM {name}, target VM {new} already exists, delete it first!"
        raise UsageMistake(said, root=True)
    vm.folder.rename(target)
    return 0


def fqn(store: Store, settings: SimSettings, given: Parsed) -> int:
    """The name by content."""
    name = given.values["name"]
    remote = parse_remote(name) if "/" in name else None
    if remote is None:
        print(name)
        return 0
    cached = store.find_cached(remote)
    if cached is None:
        raise TartError(f"OCI storage error: {remote} is not a digest and doesn't point to a digest")
    print(f"{remote.host}/{remote.namespace}@{cached.folder.name}")
    return 0


def push(store: Store, settings: SimSettings, given: Parsed) -> int:
    """Refused where it runs; otherwise there is no registry to push to."""
    vm = store.find(given.values["local-name"])
    if vm.runner() is not None:
        raise TartError(f'VM "{vm.name}" is running')
    for name in given.lists["remote-names"]:
        remote = parse_remote(name)
        if remote is None:
            raise TartError(f"failed to parse remote name: {name}")
        print(f"pushing {vm.name} to {remote}...\npushing config...")
        raise TartError('Error: UnexpectedHTTPStatusCode(when: "pushing config", code: 401, details: "unauthorized")')
    return 0


def login(store: Store, settings: SimSettings, given: Parsed) -> int:
    """Credentials: checked for form only."""
    if ("username" in given.values) != ("password-stdin" in given.flags):
        raise UsageMistake("both --username and --password-stdin are required")
    return 0


def logout(store: Store, settings: SimSettings, given: Parsed) -> int:
    """Nothing to forget."""
    return 0


def export(store: Store, settings: SimSettings, given: Parsed) -> int:
    """A machine into one file."""
    vm = store.find(given.values["name"])
    default = f"{vm.name}.tvm"
    target = Path(given.values.get("path", default))
    if "path" not in given.values and target.exists():
        question = f"file {target} already exists, are you sure you want to overwrite it? (yes, [no])? "
        print(question, end="", flush=True)
        if sys.stdin.readline().strip() != "yes":
            return 0
    print("exporting...")
    with tarfile.open(target, "w:gz") as archive:
        for name in ("config.json", "disk.img", "nvram.bin", "sim/image.json", "disk"):
            archive.add(vm.folder / name, name)
    return 0


def import_(store: Store, settings: SimSettings, given: Parsed) -> int:
    """A machine from one file; replaces silently."""
    name = given.values["name"]
    _local_name(name, "name")
    print("importing...")
    made = store.temporary() / "new"
    try:
        with tarfile.open(given.values["path"]) as archive:
            archive.extractall(made, filter=_inside)  # noqa: S202 - filtered
    except (OSError, tarfile.TarError) as error:
        raise TartError(f"VM import failed: {error}") from None
    if not VM(name, made).complete:
        raise TartError("VM import failed: VM is missing some of its files (config.json, disk.img or nvram.bin)")
    with locks.exclusive(store.home):
        store.place(made, name)
    return 0


def _inside(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    """Guests have absolute links (GuestDisk re-roots them), so only names are judged here."""
    if (
        member.name.startswith("/")
        or ".." in member.name.split("/")
        or not (member.isreg() or member.isdir() or member.issym())
    ):
        return None
    return member


def prune(store: Store, settings: SimSettings, given: Parsed) -> int:
    """Old caches, or machines that do not run."""
    if not any(key in given.values for key in ("older-than", "space-budget", "cache-budget")):
        if "gc" in given.flags:
            return 0
        raise UsageMistake("at least one pruning criteria must be specified", root=True)
    days = float(given.values.get("older-than", "0"))
    pool = store.local() if given.values["entries"] == "vms" else store.cached()
    for vm in pool:
        old = time.time() - vm.config_path.stat().st_atime >= days * 86400 if vm.folder.exists() else False
        if old and "older-than" in given.values and vm.state != "running":
            store.delete(vm)
    if given.values.get("space-budget", given.values.get("cache-budget")) == "0":
        for vm in pool:
            if vm.folder.exists() and vm.state != "running":
                store.delete(vm)
    return 0


def sim_forward(store: Store, settings: SimSettings, given: Parsed) -> int:
    """`host:port` to connect to for a guest's address and port; the same again if nothing forwards."""
    text = given.values["port"]
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise UsageMistake(f"The value '{text}' is invalid for '<port>'")
    host, port = Forwards(store.home).of(given.values["ip"], int(text))
    print(f"{host}:{port}")
    return 0


def sim_faults(store: Store, settings: SimSettings, given: Parsed) -> int:
    """CODE<TAB>description, one a line."""
    for code, description in known_faults().items():
        print(f"{code}\t{description}")
    return 0


def _local_name(name: str, what: str) -> None:
    if "/" in name or name in ("", ".", ".."):
        raise UsageMistake(f"<{what}> should be a local name")


def _concurrency(given: Parsed) -> None:
    if given.integer("concurrency") < 1:
        raise UsageMistake("network concurrency cannot be less than 1")


def _signal(pid: int, number_: signal.Signals) -> None:
    try:
        os.kill(pid, number_)
    except ProcessLookupError:
        return


def _swift_json(value: Any) -> str:
    if value == []:
        return "[\n\n]"
    return json.dumps(value, indent=2, separators=(",", " : "), ensure_ascii=False).replace("/", "\\/")


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines).strip()


def _ago(moment: datetime) -> str:
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return f"{seconds} second{'' if seconds == 1 else 's'} ago"


VERBS: dict[str, Verb] = {
    "create": create,
    "clone": clone,
    "pull": pull,
    "push": push,
    "set": set_,
    "get": get,
    "list": list_,
    "login": login,
    "logout": logout,
    "ip": ip,
    "exec": exec_,
    "import": import_,
    "export": export,
    "prune": prune,
    "rename": rename,
    "stop": stop,
    "suspend": suspend,
    "delete": delete,
    "fqn": fqn,
    "sim-forward": sim_forward,
    "sim-faults": sim_faults,
}
