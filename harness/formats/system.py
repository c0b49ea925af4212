"""Small outputs of macOS's own commands: `sw_vers`, `csrutil status`, `sysctl`, `ps`, `hdiutil attach -plist`, `installer`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.formats.failures import FormatError, excerpt
from harness.formats.plists import load_plist, text_of

MAX_TEXT = 8 * 1024 * 1024
PS_COLUMNS = "pid=,ppid=,user=,stat=,command="
"""What `ps -axww -o` must be asked for, so that `parse_ps` can read it. The command comes last: it holds blanks."""
_PS = re.compile(r"^\s*(\d{1,10})\s+(\d{1,10})\s+(\S+)\s+(\S+)\s+(\S.*)$")
_SYSCTL = re.compile(r"^([A-Za-z_][\w.%-]{0,200})\s*[:=]\s?(.*)$")
_BOOT = re.compile(r"sec = (\d{1,12}), usec = (\d{1,7})")


@dataclass(frozen=True)
class SystemVersion:
    """`sw_vers`: "macOS", "15.5", "24F74"."""

    name: str
    version: str
    build: str

    @property
    def major(self) -> int:
        """15 for "15.5"; 0 when there is none."""
        head = self.version.partition(".")[0]
        return int(head) if head.isascii() and head.isdigit() else 0


@dataclass(frozen=True)
class ProcessLine:
    """One line of `ps -axww -o PS_COLUMNS`."""

    pid: int
    ppid: int
    user: str
    state: str
    command: str

    @property
    def zombie(self) -> bool:
        """Ended, but not yet collected by its parent."""
        return self.state.startswith("Z")


@dataclass(frozen=True)
class AttachedImage:
    """What `hdiutil attach -plist` made: the whole disk's device, and where its volumes are mounted."""

    device: str
    mount_points: tuple[str, ...]


@dataclass(frozen=True)
class InstallerResult:
    """What `installer -pkg` said."""

    succeeded: bool
    package: str
    errors: tuple[str, ...]


def parse_sw_vers(text: str) -> SystemVersion:
    """Read `sw_vers`.

    Raises:
        FormatError: There is no ProductVersion line.
    """
    fields: dict[str, str] = {}
    for line in text[:MAX_TEXT].splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    if not fields.get("ProductVersion"):
        raise FormatError("sw_vers to print ProductVersion", seen=excerpt(text), hint="is the guest a Mac?")
    return SystemVersion(fields.get("ProductName", ""), fields["ProductVersion"], fields.get("BuildVersion", ""))


def parse_csrutil(text: str) -> str:
    """`csrutil status` in one word: "enabled", "disabled", "custom" (some parts off), or "unknown"."""
    match = re.search(r"System Integrity Protection status:\s*([A-Za-z]+)([^.\n]*)", text[:MAX_TEXT])
    if match is None:
        return "unknown"
    if "custom" in match.group(0).lower():
        return "custom"
    word = match.group(1).lower()
    return word if word in ("enabled", "disabled") else "unknown"


def parse_sysctl(text: str) -> dict[str, str]:
    """`sysctl NAME…` → name to value; a line without a name continues the value before it."""
    found: dict[str, str] = {}
    last = ""
    for line in text[:MAX_TEXT].splitlines():
        if match := _SYSCTL.match(line):
            last = match.group(1)
            found[last] = match.group(2).strip()
        elif last and line.strip():
            found[last] += "\n" + line
    return found


def parse_boot_time(text: str) -> datetime | None:
    """`kern.boottime`'s value `{ sec = 1753515137, usec = 0 } Sat …`; None if it is something else."""
    match = _BOOT.search(text[:1000])
    if match is None:
        return None
    try:
        return datetime.fromtimestamp(int(match.group(1)), UTC).replace(microsecond=min(int(match.group(2)), 999_999))
    except (OverflowError, ValueError, OSError):
        return None


def parse_ps(text: str) -> tuple[ProcessLine, ...]:
    """The processes; lines of another form (a header) are left out."""
    found = []
    for line in text[:MAX_TEXT].splitlines():
        if match := _PS.match(line):
            pid, ppid, user, state, command = match.groups()
            found.append(ProcessLine(int(pid), int(ppid), user, state, command.rstrip()))
    return tuple(found)


def parse_hdiutil_attach(data: bytes) -> AttachedImage:
    """Read `hdiutil attach -plist`.

    Raises:
        FormatError: No property list, or it names no device.
    """
    # A licence text or a progress line may come before the list.
    start = data.find(b"<?xml")
    plist = load_plist(data[max(start, 0) :], "hdiutil attach -plist", hint="was -plist given, and stderr kept apart?")
    entities = plist.get("system-entities")
    devices: list[str] = []
    mounts: list[str] = []
    for entity in entities if isinstance(entities, list) else []:
        if isinstance(entity, dict):
            if device := text_of(entity.get("dev-entry")):
                devices.append(device)
            if mount := text_of(entity.get("mount-point")):
                mounts.append(mount)
    if not devices:
        raise FormatError("hdiutil attach to name a device", seen=excerpt(data), hint="is the image damaged?")
    return AttachedImage(min(devices, key=len), tuple(mounts))


def parse_installer(text: str) -> InstallerResult:
    """What `installer -pkg … -target /` printed. Succeeded only if it says so: its exit code alone is not enough."""
    lines = [line.strip() for line in text[:MAX_TEXT].splitlines()]
    package = next((m.group(1) for line in lines if (m := re.match(r"installer: Package name is (.+)", line))), "")
    errors = tuple(
        line
        for line in lines
        if re.match(r"installer: (?:Error|The install failed|Cannot)|.*\bThe upgrade failed", line)
    )
    done = any(re.match(r"installer: The (?:install|upgrade) was successful", line) for line in lines)
    return InstallerResult(succeeded=done and not errors, package=package, errors=errors[:20])
