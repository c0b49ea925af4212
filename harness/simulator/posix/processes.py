# ruff: noqa: ARG001 - all commands have one signature
"""Commands on processes: ps kill pkill pgrep killall. They ask the guest's process table (`runner.processes`)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from harness.simulator import groups
from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import CommandError, command, options, out, warn

SIGNALS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ABRT": 6, "KILL": 9, "SEGV": 11, "PIPE": 13, "ALRM": 14, "TERM": 15,
    "STOP": 17, "TSTP": 18, "CONT": 19, "CHLD": 20, "INFO": 29, "USR1": 30, "USR2": 31,
}  # fmt: skip


class Entry(Protocol):
    """A process as the table has it."""

    pid: int
    name: str
    path: str
    user: str
    parent: int
    started: datetime

    @property
    def command_line(self) -> str:
        """As `ps -o command` shows it."""


class Table(Protocol):
    """The guest's process table."""

    def __iter__(self) -> Iterator[Entry]: ...

    def get(self, pid: int) -> Entry | None:
        """The process of that pid."""

    def kill(self, pid: int, signal: int = 15) -> bool:
        """Send a signal; False when there is none."""


def table(runner: CommandRunner) -> Table:
    """The runner's process table.

    Raises:
        CommandError: It has none.
    """
    found: Table | None = getattr(runner, "processes", None)
    if found is None:
        raise CommandError("no process table")
    return found


def _signal(text: str) -> int:
    name = text.upper().removeprefix("SIG")
    if name.isdigit():
        return int(name)
    if name not in SIGNALS:
        raise CommandError(f"unknown signal {text}")
    return SIGNALS[name]


def _take_signal(argv: list[str]) -> tuple[int, list[str]]:
    """The signal among the arguments (`-9`, `-TERM`, `-s TERM`), and the rest."""
    rest = [argv[0]]
    number = 15
    words = argv[1:]
    given = False
    while words:
        word = words.pop(0)
        if word == "--":
            rest += [word, *words]
            break
        if word == "-s" and words:
            number, given = _signal(words.pop(0)), True
        elif not given and re.fullmatch(r"-(\d+|(SIG)?[A-Z]{2,}[12]?)", word):
            number, given = _signal(word[1:]), True
        else:
            rest += [word]
    return number, rest


@command
async def kill(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-SIGNAL`, `-s NAME`, `-0`, `-- -GROUP`; other users' processes need root."""
    number, rest = _take_signal(argv)
    pids = [word for word in rest[1:] if word != "--"]
    if not pids:
        raise CommandError("usage: kill [-s signal_name] pid ...")
    code = 0
    for word in pids:
        if re.fullmatch(r"-\d+", word):
            if not groups.kill(int(word[1:]), number):
                await warn(io, "kill", f"{word}: No such process")
                code = 1
            continue
        if not word.isdigit():
            await warn(io, "kill", f"illegal process id: {word}")
            code = 1
            continue
        entry = table(runner).get(int(word))
        if entry is None:
            await warn(io, "kill", f"{word}: No such process")
            code = 1
        elif not io.root and entry.user != io.user:
            await warn(io, "kill", f"{word}: Operation not permitted")
            code = 1
        else:
            table(runner).kill(int(word), number)
    return code


def _chosen(runner: CommandRunner, io: CommandIO, argv: list[str], letters: str) -> tuple[list[Entry], set[str]]:
    given = options(argv, letters, permute=True)
    if not given.words and "u" not in given and "P" not in given:
        raise CommandError("No matching criteria specified", 2)
    pattern = "|".join(f"(?:{word})" for word in given.words)
    try:
        regex = re.compile(pattern, re.IGNORECASE if "i" in given else 0)
    except re.error:
        raise CommandError(f"cannot compile regular expression `{pattern}'", 2) from None
    name = argv[0].rsplit("/", 1)[-1]
    found = []
    for entry in table(runner):
        if entry.name in ("pgrep", "pkill", "sudo") and (name in entry.command_line or entry.name == name):
            continue  # neither looks at itself, nor at the sudo that runs it
        subject = entry.command_line if "f" in given else entry.name
        hit = regex.fullmatch(subject) if "x" in given else regex.search(subject)
        if "u" in given and entry.user not in given.values["u"].split(","):
            hit = None
        if (hit is not None) != ("v" in given):
            found.append(entry)
    if "n" in given:
        found = found[-1:]
    if "o" in given:
        found = found[:1]
    return found, given.flags


@command
async def pgrep(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-x -f -l -a -i -n -o -v -u USER`; 1 when nothing matches."""
    found, flags = _chosen(runner, io, argv, "xflianovqu:P:d:S")
    for entry in found:
        if "q" not in flags:
            label = f" {entry.command_line if 'f' in flags else entry.name}" if "l" in flags else ""
            await out(io, f"{entry.pid}{label}\n")
    return 0 if found else 1


@command
async def pkill(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """As pgrep, with a signal."""
    number, rest = _take_signal(argv)
    found, _ = _chosen(runner, io, rest, "xflianovu:P:I")
    allowed = [entry for entry in found if io.root or entry.user == io.user]
    for entry in found:
        if entry not in allowed:
            await warn(io, "pkill", f"signalling pid {entry.pid}: Operation not permitted")
        else:
            table(runner).kill(entry.pid, number)
    return 0 if allowed else 1


@command
async def killall(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """By exact name; `-SIGNAL`, `-q`, `-u USER`, `-m` regular expression, `-0`."""
    number, rest = _take_signal(argv)
    given = options(rest, "qu:mvscdIz", permute=True)
    code = 0
    for word in given.words:
        found = [
            entry
            for entry in table(runner)
            if (re.search(word, entry.name) if "m" in given else entry.name == word)
            and (io.root or entry.user == io.user)
            and entry.user == given.values.get("u", entry.user)
        ]
        if not found:
            code = 1
            if "q" not in given:
                await io.stderr(
                    f"No matching processes {'were found' if io.root else 'belonging to you were found'}\n".encode()
                )
        for entry in found:
            table(runner).kill(entry.pid, number)
    return code


_COLUMNS = {
    "pid": ("PID", 5), "ppid": ("PPID", 5), "user": ("USER", -16), "ruser": ("RUSER", -16), "uid": ("UID", 5),
    "stat": ("STAT", -4), "state": ("STAT", -4), "tty": ("TTY", -8), "tt": ("TT", -8), "time": ("TIME", 9),
    "lstart": ("STARTED", -28), "start": ("STARTED", -8), "etime": ("ELAPSED", 11), "command": ("COMMAND", 0),
    "args": ("ARGS", 0), "comm": ("COMM", 0), "ucomm": ("UCOMM", -16), "pcpu": ("%CPU", 5), "%cpu": ("%CPU", 5),
    "pmem": ("%MEM", 4), "%mem": ("%MEM", 4), "rss": ("RSS", 6), "vsz": ("VSZ", 9), "pgid": ("PGID", 5),
}  # fmt: skip


def _value(entry: Entry, column: str) -> str:
    elapsed = int(max(0, time.time() - entry.started.timestamp()))
    clock = entry.started.astimezone()
    uid = {"root": 0, "admin": 501}.get(entry.user, 200 + sum(entry.user.encode()) % 80)
    return {
        "pid": str(entry.pid), "ppid": str(entry.parent), "pgid": str(entry.pid), "user": entry.user,
        "ruser": entry.user, "uid": str(uid), "stat": "Ss", "state": "Ss", "tty": "??", "tt": "??",
        "time": f"0:0{entry.pid % 10}.{entry.pid % 100:02d}", "lstart": clock.strftime("%a %b %e %H:%M:%S %Y"),
        "start": clock.strftime("%I:%M%p").lstrip("0"),
        "etime": f"{elapsed // 60:02d}:{elapsed % 60:02d}" if elapsed < 3600
        else f"{elapsed // 3600:02d}:{elapsed // 60 % 60:02d}:{elapsed % 60:02d}",
        "command": entry.command_line, "args": entry.command_line, "comm": entry.path, "ucomm": entry.name,
        "pcpu": "0.0", "%cpu": "0.0", "pmem": "0.1", "%mem": "0.1", "rss": str(4000 + entry.pid % 9000),
        "vsz": str(410_000_000 + entry.pid),
    }[column]  # fmt: skip


@command
async def ps(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`aux`, `-ef`, `-ax`, `-A`, `-e`, `-p PIDS`, `-o COLUMNS` (with `name=` for a header), `-u USER`, `-c`, `-ww`."""
    words = list(argv)
    if len(words) > 1 and re.fullmatch(r"[a-zA-Z]+", words[1]):
        words[1] = "-" + words[1]
    given = options(words, "Aaefjlmrvwxcdho:O:p:u:U:t:G:M", permute=True)
    style_user = "u" in given and given.values["u"] in ("x", "xw", "xww", "") if "u" in given else False
    if "u" in given and not style_user and "aux" in "".join(argv[1:]):
        style_user = True
    everyone = bool(given.flags & {"A", "a", "e", "x"}) or style_user
    entries = list(table(runner))
    if "p" in given:
        pids = {int(word) for word in re.split(r"[,\s]+", given.values["p"]) if word.isdigit()}
        entries = [entry for entry in entries if entry.pid in pids]
    elif "u" in given and not style_user:
        users = given.values["u"].split(",")
        entries = [entry for entry in entries if entry.user in users]
    elif not everyone:
        entries = [entry for entry in entries if entry.user == io.user]
    if "o" in given:
        wanted = _columns(argv, given.values["o"])
    elif style_user:
        wanted = [
            (c, _COLUMNS[c][0])
            for c in ("user", "pid", "%cpu", "%mem", "vsz", "rss", "tt", "stat", "start", "time", "command")
        ]
    elif "f" in given:
        wanted = [(c, _COLUMNS[c][0]) for c in ("uid", "pid", "ppid", "start", "tty", "time", "command")]
    else:
        wanted = [(c, _COLUMNS[c][0]) for c in ("pid", "tt", "time", "command")]
    if "c" in given:
        wanted = [("ucomm" if c in ("command", "args", "comm") else c, h) for c, h in wanted]
    if any(header for _, header in wanted):
        await out(io, _line(wanted, [header for _, header in wanted]))
    for entry in entries:
        await out(io, _line(wanted, [_value(entry, column) for column, _ in wanted]))
    return 0 if entries else 1


def _columns(argv: list[str], last: str) -> list[tuple[str, str]]:
    specs = []
    for number, word in enumerate(argv):
        if re.fullmatch(r"-[a-zA-Z]*o", word) and number + 1 < len(argv):
            specs.append(argv[number + 1])
        elif re.match(r"-[a-zA-Z]*o.", word) and word[word.index("o") + 1 :] == last:
            specs.append(last)
    wanted = []
    for spec in specs or [last]:
        pieces = [spec] if "=" in spec and not re.fullmatch(r"([a-z%]+=?,)*[a-z%]+=?", spec) else spec.split(",")
        for piece in pieces:
            column, equals, header = piece.partition("=")
            if column not in _COLUMNS:
                raise CommandError(f"{column}: keyword not found")
            wanted.append((column, header if equals else _COLUMNS[column][0]))
    return wanted


def _line(wanted: list[tuple[str, str]], cells: list[str]) -> str:
    parts = []
    for number, ((column, _), cell) in enumerate(zip(wanted, cells, strict=True)):
        width = _COLUMNS[column][1]
        last = number == len(cells) - 1
        parts.append(
            cell if (last and width <= 0) or not width else cell.rjust(width) if width > 0 else cell.ljust(-width)
        )
    return " ".join(parts).rstrip() + "\n"


COMMANDS: dict[str, Command] = {"kill": kill, "killall": killall, "pgrep": pgrep, "pkill": pkill, "ps": ps}
