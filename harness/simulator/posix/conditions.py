"""`test` and `[`."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from harness.simulator.disk import may_write
from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import CommandError, command, entry, host


@command
async def test(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`test` and `[`."""
    words = argv[1:]
    if argv[0].endswith("["):
        if words[-1:] != ["]"]:
            raise CommandError("missing ]", 2)
        words = words[:-1]
    try:
        value, rest = _or(functools.partial(_primary, runner, io), words)
    except (IndexError, ValueError):
        raise CommandError(f"{' '.join(words)}: unexpected operator", 2) from None
    if rest:
        raise CommandError(f"{rest[0]}: unexpected operator", 2)
    return 0 if value else 1


_Primary = Callable[[list[str]], tuple[bool, list[str]]]


def _or(primary: _Primary, words: list[str]) -> tuple[bool, list[str]]:
    if not words:
        return False, []
    value, words = _and(primary, words)
    while words[:1] == ["-o"]:
        other, words = _and(primary, words[1:])
        value = value or other
    return value, words


def _and(primary: _Primary, words: list[str]) -> tuple[bool, list[str]]:
    value, words = _not(primary, words)
    while words[:1] == ["-a"]:
        other, words = _not(primary, words[1:])
        value = value and other
    return value, words


def _not(primary: _Primary, words: list[str]) -> tuple[bool, list[str]]:
    if words[0] == "!" and len(words) > 1 and not (len(words) == 3 and words[1] in _BINARY):
        value, words = _not(primary, words[1:])
        return not value, words
    if words[0] == "(" and len(words) > 2 and words[1] not in _BINARY:
        value, words = _or(primary, words[1:])
        if words[:1] != [")"]:
            raise ValueError
        return value, words[1:]
    return primary(words)


_BINARY: dict[str, Callable[[str, str], bool]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "-eq": lambda a, b: int(a) == int(b),
    "-ne": lambda a, b: int(a) != int(b),
    "-lt": lambda a, b: int(a) < int(b),
    "-le": lambda a, b: int(a) <= int(b),
    "-gt": lambda a, b: int(a) > int(b),
    "-ge": lambda a, b: int(a) >= int(b),
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}


def _primary(runner: CommandRunner, io: CommandIO, words: list[str]) -> tuple[bool, list[str]]:
    if len(words) >= 3 and words[1] in _BINARY:
        return _BINARY[words[1]](words[0], words[2]), words[3:]
    if len(words) >= 3 and words[1] in ("-nt", "-ot"):
        ages = [_mtime(runner, io, words[0]), _mtime(runner, io, words[2])]
        return (ages[0] > ages[1]) if words[1] == "-nt" else (ages[0] < ages[1]), words[3:]
    if len(words) >= 2 and re.fullmatch(r"-[bcdefghkLnprSsuwxzOGt]", words[0]):
        return _unary(runner, io, words[0][1], words[1]), words[2:]
    return words[0] != "", words[1:]


def _mtime(runner: CommandRunner, io: CommandIO, path: str) -> float:
    try:
        return host(runner, io, path).stat().st_mtime
    except OSError:
        return -1.0


def _unary(runner: CommandRunner, io: CommandIO, letter: str, word: str) -> bool:
    if letter in "zn":
        return (word == "") == (letter == "z")
    if letter == "t":
        return io.tty
    try:
        if letter in "Lh":
            return entry(runner, io, word).is_symlink()
        if word == "/dev/null":
            return letter in "ecrw"
        path = host(runner, io, word)
        if not path.exists() or not word:
            return False
        mode = path.stat().st_mode
        if letter == "w":
            return may_write(io.user, runner.disk.guest(path))
        return {
            "d": path.is_dir(),
            "f": path.is_file(),
            "s": path.stat().st_size > 0,
            "x": bool(mode & 0o111),
            "p": path.is_fifo(),
            "S": path.is_socket(),
            "r": io.root or bool(mode & 0o444),
        }.get(letter, letter in "eOG")
    except OSError:
        return False


COMMANDS: dict[str, Command] = {"[": test, "test": test}
