# ruff: noqa: ARG001 - all commands have one signature
"""Small commands about the machine: id whoami uname hostname date pwd which sync clear ping-free uptime."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import CommandError, command, host, locate, options, out


@command
async def identity(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`id [-u] [-un] [-g] [-gn] [-G] [-Gn] [user]`, and `whoami`, `groups`."""
    name = argv[0].rsplit("/", 1)[-1]
    given = options(argv, "ugGnrp")
    user = (given.words or [io.user])[0]
    accounts = getattr(runner, "accounts", None)
    account = accounts.get(user) if accounts is not None else None
    if account is None and user not in ("root", "admin", io.user):
        raise CommandError(f"{user}: no such user")
    uid, gid, group = (0, 0, "wheel") if user == "root" else (account.uid if account else 501, 20, "staff")
    groups = {0: "wheel", 1: "daemon", 80: "admin"} if user == "root" else {20: "staff", 80: "admin", 12: "everyone"}
    if account is not None and not account.administrator:
        del groups[80]
    if name == "whoami":
        text = user
    elif name == "groups" or ("G" in given and "n" in given):
        text = " ".join(groups.values())
    elif "G" in given:
        text = " ".join(str(number) for number in groups)
    elif "u" in given:
        text = user if "n" in given else str(uid)
    elif "g" in given:
        text = group if "n" in given else str(gid)
    else:
        listed = ",".join(f"{number}({word})" for number, word in groups.items())
        text = f"uid={uid}({user}) gid={gid}({group}) groups={listed}"
    await out(io, text + "\n")
    return 0


@command
async def uname(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-a -s -n -r -v -m -p`."""
    given = options(argv, "asnrvmpo")
    macos = getattr(runner, "macos", None)
    release = macos.darwin if macos is not None else "24.6.0"
    version = f"Darwin Kernel Version {release}: root:xnu-{release.split('.')[0]}000.1.1~1/RELEASE_ARM64_VMAPPLE"
    values = {"s": "Darwin", "n": _host_name(runner), "r": release, "v": version, "m": "arm64", "p": "arm"}
    if "a" in given:
        await out(io, f"Darwin {values['n']} {release} {version} arm64\n")
        return 0
    await out(
        io,
        " ".join(values[letter] for letter in "snrvmp" if letter in given or (letter == "s" and not given.flags))
        + "\n",
    )
    return 0


def _host_name(runner: CommandRunner) -> str:
    name = getattr(runner, "host_name", None)
    return str(name) if name else "Manageds-Virtual-Machine.local"


@command
async def hostname(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """The name; `-s` up to the first dot."""
    name = _host_name(runner)
    await out(io, (name.split(".")[0] if "-s" in argv else name) + "\n")
    return 0


@command
async def date(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`+FORMAT`, `-u`, `-r SECONDS|FILE`, `-j -f IN VALUE +OUT`, `-v±Nunit`, `-Iseconds`. In the guest's zone."""
    words = argv[1:]
    utc = False
    moment: datetime | None = None
    pattern = "%a %b %e %H:%M:%S %Z %Y"
    adjust = 0.0
    read_as = ""
    while words:
        word = words.pop(0)
        if word.startswith("+"):
            pattern = word[1:]
        elif word in ("-u", "-j", "-n", "-ju", "-uj"):
            utc = utc or "u" in word
        elif word == "-r" and words:
            value = words.pop(0)
            seconds = float(value) if re.fullmatch(r"\d+", value) else host(runner, io, value).stat().st_mtime
            moment = datetime.fromtimestamp(seconds, UTC)
        elif word.startswith("-v") and (match := re.fullmatch(r"-v([-+])(\d+)([SMHdw])", word)):
            unit = {"S": 1, "M": 60, "H": 3600, "d": 86400, "w": 604800}[match[3]]
            adjust += int(match[2]) * unit * (1 if match[1] == "+" else -1)
        elif word.startswith("-I"):
            pattern = "%Y-%m-%dT%H:%M:%S%z" if word.startswith("-Is") else "%Y-%m-%d"
        elif word == "-f" and words:
            read_as = words.pop(0)
        elif read_as:
            zone = UTC if utc else _now(runner).tzinfo
            parsed = datetime.strptime(word, read_as)  # noqa: DTZ007 - the zone comes next
            moment = parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)
        elif re.fullmatch(r"-[ju]f", word) and words:
            utc = utc or "u" in word
            read_as = words.pop(0)
        else:
            raise CommandError(
                f"illegal time format\nusage: date [-jnRu] [-I[date|hours|minutes|seconds]] [+output_fmt]: {word}"
            )
    now = _now(runner)
    moment = (moment or now).astimezone(UTC if utc else now.tzinfo)
    if adjust:
        moment = datetime.fromtimestamp(moment.timestamp() + adjust, moment.tzinfo)
    pattern = pattern.replace("%s", str(int(moment.timestamp()))).replace("%e", f"{moment.day:2d}").replace("%N", "N")
    if "%Z" in pattern:
        pattern = pattern.replace("%Z", "UTC" if utc else _zone_name(moment))
    await out(io, moment.strftime(pattern) + "\n")
    return 0


def _zone_name(moment: datetime) -> str:
    name = moment.tzname() or "UTC"
    return "PDT" if name.startswith("UTC-07") else name


def _now(runner: CommandRunner) -> datetime:
    clock = getattr(runner, "clock", None)
    if clock is not None:
        now: datetime = clock.now()
        return now
    return datetime.now(UTC)


@command
async def pwd(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """The directory (the shell has its own)."""
    await out(io, io.cwd + "\n")
    return 0


@command
async def which(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Where commands are."""
    given = options(argv, "as")
    code = 0
    for name in given.words:
        found = locate(runner, name, io.cwd, io.environment.get("PATH", ""))
        if found is None:
            code = 1
        elif "s" not in given:
            await out(io, found + "\n")
    return code


@command
async def uptime(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Since the guest's boot."""
    clock = getattr(runner, "clock", None)
    minutes = int((clock.uptime() if clock is not None else time.monotonic()) // 60)
    now = _now(runner).strftime("%H:%M")
    await out(io, f"{now}  up {minutes} mins, 1 user, load averages: 1.20 1.10 1.00\n")
    return 0


@command
async def nothing(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """sync: everything is on the disk already."""
    return 0


COMMANDS: dict[str, Command] = {
    "date": date,
    "groups": identity,
    "hostname": hostname,
    "id": identity,
    "pwd": pwd,
    "sync": nothing,
    "uname": uname,
    "uptime": uptime,
    "which": which,
    "whoami": identity,
}
