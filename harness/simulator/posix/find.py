"""find: a tree of tests over a tree of files."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import CommandError, command, entry, host, out, reason, warn


@dataclass
class _Visit:
    """One file under a look."""

    shown: str
    path: Path
    depth: int
    pruned: bool = False


_Test = Callable[[_Visit], Awaitable[bool]]


class _Expression:
    """Reads the words behind the paths."""

    def __init__(self, runner: CommandRunner, io: CommandIO, words: list[str]) -> None:
        self.runner = runner
        self.io = io
        self.words = words
        self.now = time.time()
        self.limits = [0, 10**6]
        self.acted = False
        self.depth_first = False
        self.batches: list[tuple[list[str], list[str]]] = []

    def read(self) -> _Test:
        """The whole expression; `-print` where nothing acts."""
        test = self._either() if self.words else _always
        if self.words:
            raise CommandError(f"{self.words[0]}: unexpected")
        if self.acted:
            return test

        async def printing(visit: _Visit) -> bool:
            if await test(visit):
                await out(self.io, visit.shown + "\n")
            return True

        return printing

    def _either(self) -> _Test:
        test = self._both()
        while self.words[:1] in (["-o"], ["-or"]):
            self.words.pop(0)
            test = _or(test, self._both())
        return test

    def _both(self) -> _Test:
        test = self._one()
        while self.words and self.words[0] not in ("-o", "-or", ")"):
            if self.words[0] in ("-a", "-and"):
                self.words.pop(0)
            test = _and(test, self._one())
        return test

    def _one(self) -> _Test:
        word = self.words.pop(0) if self.words else ""
        if word in ("!", "-not"):
            inner = self._one()

            async def negated(visit: _Visit) -> bool:
                return not await inner(visit)

            return negated
        if word == "(":
            inner = self._either()
            if self.words[:1] != [")"]:
                raise CommandError("(: missing closing ')'")
            self.words.pop(0)
            return inner
        if word in ("-print", "-print0", "-delete", "-prune", "-exec", "-ls"):
            return self._action(word)
        if word in ("-maxdepth", "-mindepth"):
            self.limits[word == "-maxdepth"] = int(self._argument(word))
            return _always
        if word in ("-depth", "-d"):
            self.depth_first = True
            return _always
        if word in ("-xdev", "-x", "-follow"):
            return _always
        if word in ("-empty", "-true", "-false"):
            return {"-empty": _empty, "-true": _always, "-false": _never}[word]
        return self._test(word, self._argument(word))

    def _argument(self, word: str) -> str:
        if not word.startswith("-"):
            raise CommandError(f"{word}: unknown primary or operator")
        if not self.words:
            raise CommandError(f"{word}: requires additional arguments")
        return self.words.pop(0)

    def _test(self, word: str, value: str) -> _Test:
        now = self.now
        check: Callable[[_Visit], bool]
        if word in ("-name", "-iname"):
            fold = word == "-iname"
            regex = re.compile(fnmatch.translate(value), re.IGNORECASE if fold else 0)
            check = lambda v: bool(regex.match(v.shown.rstrip("/").rsplit("/", 1)[-1] or "/"))  # noqa: E731
        elif word in ("-path", "-ipath", "-wholename"):
            regex = re.compile(fnmatch.translate(value), re.IGNORECASE if word == "-ipath" else 0)
            check = lambda v: bool(regex.match(v.shown))  # noqa: E731
        elif word == "-type":
            kinds = {"f": Path.is_file, "d": Path.is_dir, "l": Path.is_symlink, "s": Path.is_socket, "p": Path.is_fifo}
            if value not in kinds:
                raise CommandError(f"-type: {value}: unknown type")
            check = lambda v: kinds[value](v.path) and (value == "l" or not v.path.is_symlink())  # noqa: E731
        elif word in ("-newer", "-newermt", "-anewer", "-cnewer"):
            moment = self._moment(value) if word == "-newermt" else host(self.runner, self.io, value).stat().st_mtime
            check = lambda v: v.path.lstat().st_mtime > moment  # noqa: E731
        elif word in ("-mmin", "-mtime", "-cmin", "-ctime", "-amin", "-atime"):
            unit = 60.0 if word.endswith("min") else 86400.0
            compare = _counted(word, value)
            check = lambda v: compare((now - v.path.lstat().st_mtime) / unit, up=unit == 60.0)  # noqa: E731
        elif word == "-size":
            match = re.fullmatch(r"([-+]?)(\d+)([ckMG]?)", value)
            if match is None:
                raise CommandError(f"-size: {value}: illegal trailing character")
            factor = {"": 512, "c": 1, "k": 1024, "M": 1 << 20, "G": 1 << 30}[match[3]]
            size_check = _counted(word, match[1] + match[2])
            check = lambda v: size_check(-(-v.path.lstat().st_size // factor), up=False)  # noqa: E731
        elif word == "-perm":
            wanted = int(value.lstrip("-+"), 8)
            check = lambda v: (  # noqa: E731
                (v.path.lstat().st_mode & wanted) == wanted
                if value.startswith("-")
                else bool(v.path.lstat().st_mode & wanted)
                if value.startswith("+")
                else v.path.lstat().st_mode & 0o7777 == wanted
            )
        elif word == "-user":
            from harness.simulator.disk import owner_of

            check = lambda v: owner_of(self.runner.disk.guest(v.path)) == value  # noqa: E731
        else:
            raise CommandError(f"{word}: unknown primary or operator")

        async def test(visit: _Visit) -> bool:
            try:
                return check(visit)
            except OSError:
                return False

        return test

    def _moment(self, value: str) -> float:
        if value.startswith("@"):
            return float(value[1:])
        from datetime import datetime

        try:
            moment = datetime.fromisoformat(value.replace(" +", "+").replace(" -", "-"))
        except ValueError:
            raise CommandError(f"-newermt: Can't parse date/time: {value}") from None
        return moment.timestamp()

    def _action(self, word: str) -> _Test:
        if word != "-prune":
            self.acted = True
        if word == "-prune":

            async def prune(visit: _Visit) -> bool:
                visit.pruned = True
                return True

            return prune
        if word == "-delete":
            self.depth_first = True

            async def delete(visit: _Visit) -> bool:
                from harness.simulator.posix.files import _may_remove

                try:
                    _may_remove(self.runner, self.io, visit.path)
                    if visit.path.is_dir() and not visit.path.is_symlink():
                        visit.path.rmdir()
                    else:
                        visit.path.unlink()
                except OSError as error:
                    await warn(self.io, "find", f"-delete: unlink({visit.shown}): {reason(error)}")
                    return False
                return True

            return delete
        if word == "-exec":
            return self._exec()
        end = "\0" if word == "-print0" else "\n"

        async def show(visit: _Visit) -> bool:
            await out(self.io, visit.shown + end)
            return True

        return show

    def _exec(self) -> _Test:
        template: list[str] = []
        while True:
            if not self.words:
                raise CommandError('-exec: no terminating ";" or "+"')
            word = self.words.pop(0)
            if word == ";" or (word == "+" and template[-1:] == ["{}"]):
                break
            template.append(word)
        if word == "+":
            names: list[str] = []
            self.batches.append((template[:-1], names))

            async def gather(visit: _Visit) -> bool:
                names.append(visit.shown)
                return True

            return gather

        async def run(visit: _Visit) -> bool:
            return await self.runner.execute([part.replace("{}", visit.shown) for part in template], self.io) == 0

        return run


async def _always(_visit: _Visit) -> bool:
    return True


async def _never(_visit: _Visit) -> bool:
    return False


async def _empty(visit: _Visit) -> bool:
    if visit.path.is_dir() and not visit.path.is_symlink():
        return not any(visit.path.iterdir())
    return visit.path.is_file() and visit.path.stat().st_size == 0


def _or(one: _Test, two: _Test) -> _Test:
    async def test(visit: _Visit) -> bool:
        return await one(visit) or await two(visit)

    return test


def _and(one: _Test, two: _Test) -> _Test:
    async def test(visit: _Visit) -> bool:
        return await one(visit) and await two(visit)

    return test


def _counted(word: str, value: str) -> Callable[..., bool]:
    match = re.fullmatch(r"([-+]?)(\d+)", value)
    if match is None:
        raise CommandError(f"{word}: {value}: illegal numeric value")
    wanted = int(match[2])

    def compare(seen: float, *, up: bool) -> bool:
        # BSD rounds minutes up to the next full one, days down
        whole = int(seen) + (1 if up and seen != int(seen) else 0)
        return whole > wanted if match[1] == "+" else whole < wanted if match[1] == "-" else whole == wanted

    return compare


@command
async def find(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Walk the paths before the expression, in the order of names."""
    words = argv[1:]
    paths = []
    while words and re.fullmatch(r"-[EHLPXdsx]+", words[0]):
        words.pop(0)
    while words and not words[0].startswith("-") and words[0] not in ("!", "("):
        paths.append(words.pop(0))
    if not paths:
        raise CommandError("usage: find [-H | -L | -P] [-EXdsx] [-f path] path ... [expression]")
    expression = _Expression(runner, io, words)
    test = expression.read()
    code = 0

    async def walk(visit: _Visit) -> None:
        nonlocal code
        low, high = expression.limits
        looked = low <= visit.depth <= high
        if looked and not expression.depth_first:
            await test(visit)
        if visit.depth < high and not visit.pruned and visit.path.is_dir() and not visit.path.is_symlink():
            try:
                names = sorted(child.name for child in visit.path.iterdir())
            except OSError as error:
                await warn(io, "find", f"{visit.shown}: {reason(error)}")
                code = 1
                names = []
            base = visit.shown if visit.shown.endswith("/") else visit.shown + "/"
            for name in names:
                await walk(_Visit(base + name, visit.path / name, visit.depth + 1))
        if looked and expression.depth_first:
            await test(visit)

    for word in paths:
        path = host(runner, io, word) if word.endswith("/") else entry(runner, io, word)
        if not os.path.lexists(path):
            await warn(io, "find", f"{word}: No such file or directory")
            code = 1
            continue
        await walk(_Visit(word, path, 0))
    for template, names in expression.batches:
        if names:
            code = await runner.execute(template + names, io) or code
    return code


COMMANDS: dict[str, Command] = {"find": find}
