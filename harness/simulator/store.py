"""TART_HOME: the machines and images on disk, laid out as Tart lays them out.

`vms/NAME/{config.json, disk.img, nvram.bin[, state.vzvmsave][, control.sock]}` as Tart has them; ours beside them:
`disk/` is the guest's root, `sim/` holds what the simulation itself needs. `disk.img` is an empty placeholder.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.simulator import locks
from harness.simulator.disk import make_skeleton
from harness.simulator.images import Image, RemoteName, parse_remote
from harness.simulator.interfaces import MacOSVersion

NEEDED = ("config.json", "disk.img", "nvram.bin")
STATE_FILE = "state.vzvmsave"
GIGABYTE = 1000**3


class TartError(Exception):
    """A RuntimeError of Tart: its bare text on stderr, and an exit code (2 for the three about existence and running)."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class UsageMistake(Exception):
    """A ValidationError of Tart: `Error: …`, the usage, exit code 64. `root`: shows the usage of `tart` itself."""

    def __init__(self, text: str, *, root: bool = False, help_line: str = "") -> None:
        super().__init__(text)
        self.root = root
        self.help_line = help_line


def missing(name: str) -> TartError:
    """The error of every verb but `run` for a machine that does not exist."""
    return TartError(f'the specified VM "{name}" does not exist', 2)


def not_running(name: str) -> TartError:
    """The error of verbs that need a running machine."""
    return TartError(f'VM "{name}" is not running', 2)


@dataclass
class ImageFacts:
    """What a machine was made from (`sim/image.json`)."""

    macos: MacOSVersion | None
    sip: bool = True
    agent: bool = False
    disk_gb: int = 50
    size_gb: float = 0.0
    reference: str = ""

    @classmethod
    def of(cls, image: Image) -> ImageFacts:
        """From an image of the registry."""
        return cls(image.macos, image.sip, image.agent, image.disk_gb, image.size_gb, image.reference)

    @classmethod
    def read(cls, folder: Path) -> ImageFacts:
        """From a machine's folder; a folder without the file counts as a Linux machine."""
        try:
            data = json.loads((folder / "sim/image.json").read_text())
        except FileNotFoundError:
            return cls(None)
        macos = MacOSVersion(**data.pop("macos")) if data.get("macos") else None
        return cls(**{**data, "macos": macos})

    def write(self, folder: Path) -> None:
        """Into a machine's folder."""
        (folder / "sim").mkdir(parents=True, exist_ok=True)
        (folder / "sim/image.json").write_text(json.dumps(asdict(self)))


def random_mac() -> str:
    """A locally administered unicast address, as VZMACAddress.randomLocallyAdministered makes them."""
    octets = bytearray(secrets.token_bytes(6))
    octets[0] = (octets[0] | 0x02) & 0xFE
    return ":".join(f"{octet:02x}" for octet in octets)


def new_config(*, os_name: str) -> dict[str, Any]:
    """A fresh machine's configuration."""
    ecid = base64.b64encode(f"ECID {random.SystemRandom().getrandbits(63)}".encode()).decode()
    config: dict[str, Any] = {
        "arch": "arm64",
        "cpuCount": 4,
        "cpuCountMin": 4,
        "diskFormat": "raw",
        "display": {"height": 768, "width": 1024},
        "macAddress": random_mac(),
        "memorySize": (8 if os_name == "darwin" else 4) * 1024**3,
        "memorySizeMin": (4 if os_name == "darwin" else 1) * 1024**3,
        "os": os_name,
        "version": 1,
    }
    if os_name == "darwin":
        config |= {"ecid": ecid, "hardwareModel": base64.b64encode(b"VirtualMac2,1").decode()}
    return config


@dataclass(frozen=True)
class VM:
    """One machine's (or cached image's) folder."""

    name: str
    folder: Path
    source: str = "local"
    facts: ImageFacts = field(default_factory=lambda: ImageFacts(None), compare=False)

    @property
    def config_path(self) -> Path:
        """The file that `run` locks."""
        return self.folder / "config.json"

    @property
    def complete(self) -> bool:
        """All files are there that make a folder a machine."""
        return all((self.folder / name).exists() for name in NEEDED)

    def config(self) -> dict[str, Any]:
        """Reads config.json. Not for a process that holds its lock: closing the file would drop it."""
        data: dict[str, Any] = json.loads(self.config_path.read_text())
        return data

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes it compactly, keys sorted, in place (Tart does too): a new file would have no lock."""
        text = json.dumps(config, sort_keys=True, separators=(",", ":"))
        descriptor = os.open(self.config_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.truncate()

    def runner(self) -> int | None:
        """The pid of the `tart run` that runs it, or None. Only asked about other processes."""
        return locks.holder(self.config_path) if self.source == "local" else None

    @property
    def state(self) -> str:
        """`running`, `suspended` or `stopped`."""
        if self.runner() is not None:
            return "running"
        return "suspended" if (self.folder / STATE_FILE).exists() else "stopped"

    @property
    def root(self) -> Path:
        """The guest's root folder."""
        return self.folder / "disk"


class Store:
    """One TART_HOME."""

    def __init__(self, home: Path) -> None:
        self.home = home
        try:
            for name in ("vms", "cache/OCIs", "tmp", "sim"):
                (home / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TartError(f"TART_HOME is invalid: {home} does not exist, yet we can't create it: {error}") from None

    @classmethod
    def from_environment(cls) -> Store:
        """TART_HOME, or ~/.tart."""
        return cls(Path(os.environ.get("TART_HOME") or Path.home() / ".tart").absolute())

    # --- looking

    def local(self) -> list[VM]:
        """The local machines, by name. Incomplete folders are passed over silently, as Tart does."""
        found = []
        for folder in sorted((self.home / "vms").iterdir()):
            vm = VM(folder.name, folder, "local")
            with contextlib.suppress(FileNotFoundError):  # deleted by another process meanwhile
                if vm.complete:
                    found.append(self._with_facts(vm))
        return found

    def cached(self) -> list[VM]:
        """The cached images: one row per tag and one per digest, by name."""
        base = self.home / "cache/OCIs"
        found = []
        for config in base.rglob("config.json"):
            if "disk" in config.relative_to(base).parts:
                continue
            folder = config.parent
            space = folder.parent.relative_to(base)
            found.append(self._with_facts(VM(f"{space}@{folder.name}", folder, "OCI")))
            links = [x for x in folder.parent.iterdir() if x.is_symlink() and x.readlink().name == folder.name]
            found += [self._with_facts(VM(f"{space}:{link.name}", folder, "OCI")) for link in links]
        return sorted(found, key=lambda vm: vm.name)

    def find(self, name: str) -> VM:
        """The local machine, or the cached image, of that name.

        Raises:
            TartError: There is none (2).
        """
        remote = parse_remote(name) if "/" in name else None
        if remote is not None:
            vm = self.find_cached(remote)
        elif name in ("", ".", "..") or "/" in name or "\0" in name:
            vm = None
        else:
            vm = VM(name, self.home / "vms" / name)
        if vm is None or not vm.folder.is_dir():
            raise missing(name)
        if not vm.complete:
            raise TartError("VM is missing some of its files (config.json, disk.img or nvram.bin)")
        return self._with_facts(vm)

    def find_cached(self, remote: RemoteName) -> VM | None:
        """The cached image of that name, if it was pulled."""
        folder = self.home / "cache/OCIs" / remote.host / remote.namespace / remote.reference
        if not folder.exists():
            return None
        return self._with_facts(VM(str(remote), folder.resolve(), "OCI"))

    def running(self, *, but: str = "") -> list[VM]:
        """The local macOS machines that run. `but` is left out (and not looked at: it may be our own)."""
        found = []
        for vm in self._running_candidates(but):
            with contextlib.suppress(FileNotFoundError):  # deleted by another process meanwhile
                if vm.runner() is not None:
                    found.append(vm)
        return found

    def _running_candidates(self, but: str) -> Iterator[VM]:
        for folder in sorted((self.home / "vms").iterdir()):
            vm = VM(folder.name, folder)
            with contextlib.suppress(FileNotFoundError):
                if folder.name != but and vm.complete:
                    yield self._with_facts(vm)

    @staticmethod
    def _with_facts(vm: VM) -> VM:
        return VM(vm.name, vm.folder, vm.source, ImageFacts.read(vm.folder))

    # --- changing

    def place(self, made: Path, name: str) -> VM:
        """Move a made folder to the name; what was there is replaced, whatever it was, without a word (so does Tart)."""
        target = self.home / "vms" / name
        old = self.temporary()
        if target.exists():
            target.rename(old / "old")
        made.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        return VM(name, target)

    def temporary(self) -> Path:
        """A new folder in TART_HOME/tmp."""
        folder = self.home / "tmp" / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder

    def collect_garbage(self) -> None:
        """Remove leftovers of an hour ago and older in TART_HOME/tmp."""
        for folder in (self.home / "tmp").iterdir():
            try:
                if time.time() - folder.stat().st_mtime > 3600:
                    shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                continue

    def make(self, folder: Path, config: Mapping[str, Any], facts: ImageFacts) -> None:
        """Fill a folder with a new machine's files."""
        folder.mkdir(parents=True, exist_ok=True)
        VM(folder.name, folder).write_config(config)
        (folder / "disk.img").touch()
        (folder / "nvram.bin").write_bytes(secrets.token_bytes(64))
        facts.write(folder)
        make_skeleton(folder / "disk")

    def add_image(self, remote: RemoteName, image: Image) -> VM:
        """Put an image into the cache, as a pull does."""
        space = self.home / "cache/OCIs" / remote.host / remote.namespace
        space.mkdir(parents=True, exist_ok=True)
        final = space / image.digest
        if not final.exists():
            made = self.temporary() / "image"
            self.make(made, new_config(os_name="darwin"), ImageFacts.of(image))
            try:
                made.rename(final)
            except OSError:  # another process was quicker
                shutil.rmtree(made, ignore_errors=True)
        if not remote.is_digest:
            link = space / remote.reference
            fresh = space / f".{secrets.token_hex(6)}"
            fresh.symlink_to(image.digest)
            fresh.replace(link)
        return self._with_facts(VM(str(remote), final, "OCI"))

    def clone(self, source: VM, name: str) -> VM:
        """Copy a machine or an image to a new local name.

        The MAC address is a new one where some local machine already has it, unless the source is suspended; the
        hardware identity stays. The copy gets its own SSH host keys at its first boot.
        """
        made = self.temporary() / "clone"
        made.mkdir()
        suspended = (source.folder / STATE_FILE).exists()
        for item in (*NEEDED, "sim/image.json", *((STATE_FILE,) if suspended else ())):
            (made / item).parent.mkdir(exist_ok=True)
            shutil.copyfile(source.folder / item, made / item)
        _copy_tree(source.root, made / "disk")
        if not suspended:
            for key in (made / "disk/private/etc/ssh").glob("ssh_host_*"):
                key.unlink(missing_ok=True)
        config = json.loads((made / "config.json").read_text())
        taken = set()
        for vm in self.local():
            with contextlib.suppress(FileNotFoundError):
                taken.add(vm.config().get("macAddress"))
        if config["macAddress"] in taken and not suspended:
            config["macAddress"] = random_mac()
        VM(name, made).write_config(config)
        return self._with_facts(self.place(made, name))

    def delete(self, vm: VM) -> None:
        """Remove the folder (a cached image's tags too)."""
        for link in vm.folder.parent.iterdir():
            if link.is_symlink() and link.readlink().name == vm.folder.name:
                link.unlink(missing_ok=True)
        doomed = self.temporary()
        vm.folder.rename(doomed / "doomed")
        _remove_tree(doomed)


def _copy_tree(source: Path, target: Path) -> None:
    """Copy a guest's disk, links as links. The source may be in use: what vanishes meanwhile is left out."""
    target.mkdir(exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            to = target / entry.name
            try:
                if entry.is_symlink():
                    to.symlink_to(os.readlink(entry.path))  # noqa: PTH115 - text as it is
                elif entry.is_dir():
                    _copy_tree(Path(entry.path), to)
                elif entry.is_file():
                    shutil.copy2(entry.path, to)
            except FileNotFoundError:
                continue
    shutil.copystat(source, target)


def _remove_tree(folder: Path) -> None:
    def force(_function: object, path: str, _error: object) -> None:
        try:
            Path(path).parent.chmod(0o700)
            Path(path).unlink()
        except OSError:
            pass

    shutil.rmtree(folder, onerror=force)
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
