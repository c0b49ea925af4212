"""What Tart prints, read into records. No I/O here.

The texts are those of Tart 2.2x to 2.37 as its sources have them (VMStorageHelper.swift, Commands/*.swift); its exit codes
say little (2 = no such VM or wrong state, 64 = wrong arguments, 1 = everything else), so the text decides.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass

from harness.errors import EnvironmentFailure, HarnessError, SysextError, UsageError
from harness.events import SECRETS
from harness.machines.base import End, EndReason, VncEndpoint

TEXT_LIMIT = 2000


@dataclass(frozen=True)
class VmRow:
    """One row of `tart list --format json`.

    Attributes:
        source: "local" or "OCI".
        name: The VM's or the image's name.
        state: "running", "suspended" or "stopped".
        disk_gb: The disk's size.
        size_gb: What it takes up.
        accessed: When it was last used (Tart ≥ 2.31), else "".
    """

    source: str
    name: str
    state: str
    disk_gb: float = 0.0
    size_gb: float = 0.0
    accessed: str = ""

    @property
    def local(self) -> bool:
        """A VM, not a cached image."""
        return self.source.casefold() == "local"


class UnreadableOutput(EnvironmentFailure):
    """Tart printed something that is none of the known forms."""


def parse_list(text: str) -> list[VmRow]:
    """The rows of `tart list --format json`, both key generations (`Accessed` since 2.31, `SizeOnDisk` before).

    Raises:
        UnreadableOutput: It is not a JSON array of rows with a name.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable("list", text) from error
    if not isinstance(data, list):
        raise _unreadable("list", text)
    rows = []
    for item in data:
        if not isinstance(item, dict) or not isinstance(item.get("Name"), str):
            raise _unreadable("list", text)
        state = item.get("State")
        if not isinstance(state, str):  # before State there was only Running
            state = "running" if item.get("Running") is True else "stopped"
        rows.append(
            VmRow(
                source=str(item.get("Source", "local")),
                name=item["Name"],
                state=state.casefold(),
                disk_gb=_number(item.get("Disk")),
                size_gb=_number(item.get("Size", item.get("SizeOnDisk"))),
                accessed=str(item.get("Accessed") or ""),
            )
        )
    return rows


def _number(value: object) -> float:
    """An int, a float, or (in `get`) a string such as "25.123" or "25 GB"."""
    if isinstance(value, bool) or value is None:
        return 0.0
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return 0.0
    found = re.match(r"\s*(\d{1,12}(?:\.\d{1,6})?)", str(value))
    return float(found[1]) if found else 0.0


def _unreadable(verb: str, text: str) -> UnreadableOutput:
    return UnreadableOutput(
        f"`tart {verb}` prints what is known of it",
        seen=clip(text) or "nothing",
        hint="compare `tart --version` with docs/contracts.md",
    )


def parse_ip(text: str) -> str | None:
    """The address that `tart ip` printed: the last line that is one IPv4 or IPv6 address."""
    for line in reversed(text.splitlines()):
        try:
            return str(ipaddress.ip_address(line.strip()))
        except ValueError:
            continue
    return None


# `VNC server is running at vnc://:w1-w2-w3-w4@127.0.0.1:50123`, or `Opening vnc://…...` when neither CI nor --no-graphics.
# The digit look-ahead leaves a line alone that is still being written. Sizes are bounded: no backtracking over a flood.
_VNC = re.compile(
    r"vnc://(?P<user>[^:@\s/]{0,64}):(?P<password>[^@\s/]{0,128})@"
    r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253}):(?P<port>\d{1,5})(?=\D)"
)


def parse_vnc(text: str) -> VncEndpoint | None:
    """The VNC server that `tart run` announced, or None if there is no whole line yet. Tolerant of what stands around it."""
    for found in _VNC.finditer(text):
        port = int(found["port"])
        if 0 < port < 65536:
            return VncEndpoint(found["host"].strip("[]"), port, found["password"], found["user"])
    return None


_ENDINGS: tuple[tuple[re.Pattern[str], EndReason], ...] = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"guest has stopped the virtual machine due to error", EndReason.PANIC),
        (r"guest has stopped the virtual machine", EndReason.POWER_OFF),
        (r"network attachment .{0,400}has been disconnected", EndReason.NETWORK_LOST),
        (r"Softnet process terminated prematurely", EndReason.NETWORK_LOST),
        (r"snapshot created successfully! shutting down the VM", EndReason.SUSPENDED),
        (r"Stopping VM\.\.\.", EndReason.STOPPED),
        (r"The number of VMs exceeds the system limit|VZErrorDomain Code=6\b", EndReason.VM_LIMIT),
        (
            r"SecKeyCreateRandomKey|-25308|VZErrorDomain Code=-9\b|errSecInteractionNotAllowed|[Kk]eychain",
            EndReason.KEYCHAIN,
        ),
    )
)


def parse_end(text: str, exit_code: int, *, announced: bool) -> End:
    """Why `tart run` ended.

    Args:
        text: All it printed, stdout and stderr together.
        exit_code: As `subprocess` gives it (negative for a signal).
        announced: Whether it had got as far as its VNC line: after that it is no failed start.
    """
    if exit_code < 0 or exit_code in (129, 137, 143):  # a shell in between reports 128 + signal
        return End(EndReason.KILLED, exit_code, _tail(text))
    # The first of the lines is the cause; what follows it (a stop that ends in an error) is its effect.
    first: tuple[int, int, EndReason] | None = None
    for order, (pattern, reason) in enumerate(_ENDINGS):
        found = pattern.search(text)
        if found is not None and (first is None or (found.start(), order) < first[:2]):
            first = (found.start(), order, reason)
    if first is not None:
        reason = first[2]
        if not (exit_code == 0 and reason in (EndReason.VM_LIMIT, EndReason.KEYCHAIN)):
            return End(reason, exit_code, _tail(text))
    if exit_code != 0 and not announced:
        return End(EndReason.START_FAILED, exit_code, _tail(text))
    return End(EndReason.UNKNOWN, exit_code, _tail(text))


def _tail(text: str) -> str:
    """The last lines, without the VNC address, within the limit."""
    lines = [line for line in text.strip().splitlines() if "vnc://" not in line]
    return clip("\n".join(lines[-12:]))


def clip(text: str) -> str:
    """`text` masked, at most `TEXT_LIMIT` characters: its end, which is where the reason stands."""
    masked = SECRETS.mask(text.strip())
    return masked if len(masked) <= TEXT_LIMIT else "…" + masked[1 - TEXT_LIMIT :]


KEYCHAIN_HINT = (
    "macOS 15 and later need an unlocked login keychain: run in the desktop session of a logged-in user (auto-login, a "
    "LaunchAgent), not as root or by SSH alone; or `security unlock-keychain login.keychain`"
)
LIMIT_HINT = (
    "at most two macOS VMs run on one Mac, those of UTM, Parallels and others included: `sysext gc`, `tart list`; if none "
    "runs, end left-over com.apple.Virtualization.VirtualMachine processes or restart the host"
)
NETWORK_PRIVACY_HINT = (
    "macOS 15 and later: allow this terminal or runner under System Settings > Privacy & Security > Local Network once"
)
NO_IP_HINT = (
    "the guest asked for no address: is it stuck at boot? With hundreds of clones a day the host's DHCP leases run out: "
    "sudo defaults write /Library/Preferences/SystemConfiguration/com.apple.InternetSharing.default.plist bootpd "
    "-dict DHCPLeaseTimeSecs -int 600"
)


def end_hint(end: End) -> str:
    """What a person should do about a machine that ended like this."""
    if "auxiliary storage" in end.text:
        return (
            "a VM that is gone still holds its files: end left-over com.apple.Virtualization.VirtualMachine processes"
        )
    return {
        EndReason.VM_LIMIT: LIMIT_HINT,
        EndReason.KEYCHAIN: KEYCHAIN_HINT,
        EndReason.PANIC: "the guest crashed: look for panic reports in the evidence; give it at least 4 CPUs and 8 GB",
        EndReason.NETWORK_LOST: "the host's network or the softnet helper went away: run again",
        EndReason.KILLED: "something on this host ended the VM's process (memory? a second clean-up?)",
        EndReason.START_FAILED: f"Code=1 is often this: {KEYCHAIN_HINT}"
        if "VZErrorDomain Code=1 " in end.text
        else "the reason is Tart's own: see above, and try `tart run` by hand",
    }.get(end.reason, "see the run output")


_Rule = tuple[re.Pattern[str], type[SysextError], str, str]
_RULES: tuple[_Rule, ...] = tuple(
    (re.compile(pattern), kind, expected, hint)
    for pattern, kind, expected, hint in (
        (
            r"UnexpectedHTTPStatusCode\(.{0,200}code: 404",
            UsageError,
            "an image that exists",
            "check its name and tag; `tart list` shows what is here",
        ),
        (
            r"UnexpectedHTTPStatusCode\(.{0,200}code: 40[13]",
            UsageError,
            "an image that may be pulled",
            "`tart login HOST`, or set TART_REGISTRY_USERNAME and TART_REGISTRY_PASSWORD",
        ),
        (
            r"UnexpectedHTTPStatusCode|Error pulling image|NSURLErrorDomain|URLError",
            EnvironmentFailure,
            "a registry that answers",
            "try again, or pull the image beforehand with `tart pull`",
        ),
        (r"failed to parse remote name", UsageError, "an image name such as HOST/NAMESPACE/NAME:TAG", "mend the name"),
        (r"invalid credentials|improperly formatted host", UsageError, "registry credentials", "`tart login HOST`"),
        (r"The number of VMs exceeds the system limit", EnvironmentFailure, "room for one more macOS VM", LIMIT_HINT),
        (
            r"SecKeyCreateRandomKey|-25308|VZErrorDomain Code=-9\b",
            EnvironmentFailure,
            "an unlocked keychain",
            KEYCHAIN_HINT,
        ),
        (
            r"TART_HOME is invalid",
            UsageError,
            "a TART_HOME that can be made",
            "set tart.home to a folder that can be written",
        ),
        (
            r"LessThanMinimalResourcesError",
            UsageError,
            "enough CPUs and memory for the image",
            "raise tart.cpu or tart.memory_mb",
        ),
        (
            r"No space left on device|NSPOSIXErrorDomain Code=28|volume .{0,200}is out of space|not enough free",
            EnvironmentFailure,
            "room on the disk",
            "`tart prune --entries caches --older-than 7`, and `sysext gc`",
        ),
        (
            r"VM is missing some of its files|VM is missing files for a supported layout",
            EnvironmentFailure,
            "a whole image",
            "`tart delete` it and pull it again: an interrupted pull or clone left it in part",
        ),
        (
            r"Failed to lock auxiliary storage",
            EnvironmentFailure,
            "files that no other VM holds",
            "end left-over com.apple.Virtualization.VirtualMachine processes",
        ),
        (
            r"seems to be already in use|failed to open block device",
            EnvironmentFailure,
            "a disk that is free",
            "unmount it",
        ),
        (r"must be stopped before cloning", UsageError, "a source that is not running", "stop that VM first"),
        (
            r"Softnet failed",
            EnvironmentFailure,
            "a working softnet helper",
            "see tart's notes on softnet's permissions",
        ),
        (r"OCI storage error", EnvironmentFailure, "a whole image cache", "`tart prune`, then pull again"),
        (
            r"Unknown option|Unexpected argument|unexpected arguments|Missing expected argument|is invalid for",
            HarnessError,
            "a Tart that takes these arguments",
            "Tart 2.31 or later is known to work: `brew upgrade tart`; check tart.run_arguments",
        ),
    )
)

_MISSING = re.compile(r'the specified VM "(?P<name>[^"]{0,300})" does not exist')


def missing_vm(text: str) -> bool:
    """Whether Tart says that a VM does not exist (exit 2; for `tart run` exit 1 and an `Error:` prefix)."""
    return _MISSING.search(text) is not None


def no_ip(text: str) -> bool:
    """Whether `tart ip` says that there is no address yet."""
    return "no IP address found" in text or "is not running" in text


def explain(verb: str, exit_code: int, text: str, *, subject: str = "") -> SysextError:
    """Our error for a `tart` command that failed.

    Args:
        verb: "clone", "set", …
        exit_code: Its exit code.
        text: What it printed, stderr first.
        subject: The image or VM it was about.
    """
    seen = f"tart {verb} ended with {exit_code}: {clip(text) or 'it printed nothing'}"
    about = f" ({subject})" if subject else ""
    if missing_vm(text):
        if verb in ("clone", "get"):
            return UsageError(f"an image that exists{about}", seen=seen, hint="`tart list` shows what is here")
        return EnvironmentFailure(
            f"the VM is there{about}", seen=seen, hint="somebody else deleted it: is another clean-up running?"
        )
    for pattern, kind, expected, hint in _RULES:
        if pattern.search(text):
            return kind(expected + about, seen=seen, hint=hint)
    if exit_code == 64:
        return HarnessError(
            f"tart {verb} takes its arguments{about}",
            seen=seen,
            hint="Tart 2.31 or later is known to work: `brew upgrade tart`",
        )
    return EnvironmentFailure(f"tart {verb} works{about}", seen=seen, hint="run it by hand with TART_HOME as set here")
