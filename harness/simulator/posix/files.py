# ruff: noqa: ARG001 - all commands have one signature
"""Commands that change the disk: cp mv rm mkdir rmdir touch ln chmod chown mktemp, and names: basename, readlink and the like."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import time
from pathlib import Path

from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import (
    CommandError,
    command,
    entry,
    guard,
    host,
    options,
    out,
    readable,
    reason,
    warn,
)
from harness.simulator.streams import note_write

BLOCK = 1 << 20


async def _copy_file(runner: CommandRunner, source: Path, target: Path, *, keep: bool) -> None:
    with source.open("rb") as reading, target.open("wb", buffering=0) as writing:
        while data := reading.read(BLOCK):
            note_write(runner.disk, len(data))
            writing.write(data)
            await asyncio.sleep(0)
    shutil.copymode(source, target)
    if keep:
        shutil.copystat(source, target)


async def copy_tree(runner: CommandRunner, source: Path, target: Path, *, keep: bool) -> None:
    """Copy a file, link (as a link) or folder on the host's side of the disk; a full disk raises ENOSPC."""
    if source.is_symlink():
        target.unlink(missing_ok=True)
        target.symlink_to(os.readlink(source))  # noqa: PTH115 - the text as it is
    elif source.is_dir():
        target.mkdir(exist_ok=True)
        for child in sorted(source.iterdir()):
            await copy_tree(runner, child, target / child.name, keep=keep)
        if keep:
            shutil.copystat(source, target)
    else:
        await _copy_file(runner, source, target, keep=keep)


@command
async def cp(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-R`/`-r`/`-a` folders, `-p` times, `-n` never over something, `-f`. `folder/` copies its contents (BSD)."""
    given = options(argv, "RraPpnfvcHLXi")
    *sources, last = given.words if len(given.words) > 1 else [*given.words, ""]
    if not sources or not last:
        raise CommandError("usage: cp [-R [-H | -L | -P]] [-fi | -n] [-apvXc] source_file target_file", 64)
    target = host(runner, io, last)
    if len(sources) > 1 and not target.is_dir():
        raise CommandError(
            f"{last}: No such file or directory" if not target.exists() else f"{last} is not a directory"
        )
    recursive = bool(given.flags & {"R", "r", "a"})
    code = 0
    for word in sources:
        try:
            follow = not recursive or "L" in given
            source = readable(runner, io, host(runner, io, word) if follow else entry(runner, io, word))
            if not os.path.lexists(source):
                raise FileNotFoundError(2, os.strerror(2))
            if source.is_dir() and not source.is_symlink() and not recursive:
                await warn(io, "cp", f"{word} is a directory (not copied).")
                code = 1
                continue
            contents = word.endswith("/") and source.is_dir()
            place = target / source.name if target.is_dir() and not contents else target
            if "n" in given and place.exists():
                continue
            guard(runner, io, place)
            if source.is_dir() and (place == source or source in place.parents):
                raise OSError(22, "Invalid argument")
            if "f" in given and place.is_file():
                place.unlink()
            await copy_tree(runner, source, place, keep=bool(given.flags & {"p", "a"}))
        except OSError as error:
            where = last if error.errno in (28, 13) and os.path.lexists(source) else word
            await warn(io, "cp", f"{where}: {reason(error)}")
            code = 1
    return code


@command
async def mv(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-f`, `-n`, `-v`."""
    given = options(argv, "fnvi")
    if len(given.words) < 2:
        raise CommandError("usage: mv [-f | -i | -n] [-hv] source target", 64)
    *sources, last = given.words
    target = host(runner, io, last)
    if len(sources) > 1 and not target.is_dir():
        raise CommandError(f"{last} is not a directory")
    code = 0
    for word in sources:
        source = entry(runner, io, word)
        place = target / source.name if target.is_dir() else entry(runner, io, last)
        if "n" in given and os.path.lexists(place):
            continue
        try:
            if source != place:
                guard(runner, io, source)
                guard(runner, io, place)
                source.rename(place)
        except OSError as error:
            await warn(io, "mv", f"rename {word} to {last}: {reason(error)}")
            code = 1
    return code


@command
async def rm(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-r`/`-R`, `-f`, `-d`, `-v`."""
    given = options(argv, "rRfdviPW")
    if not given.words and "f" not in given:
        raise CommandError("usage: rm [-f | -i] [-dIPRrvWx] file ...", 64)
    code = 0
    for word in given.words:
        if re.search(r"(^|/)\.{1,2}/*$", word):
            await warn(io, "rm", '"." and ".." may not be removed')
            code = 1
            continue
        try:
            path = entry(runner, io, word)
            if path == runner.disk.root:
                raise PermissionError(13, os.strerror(13))
            if not os.path.lexists(path):
                if "f" not in given:
                    raise FileNotFoundError(2, os.strerror(2))
                continue
            _may_remove(runner, io, path)
            freed = _size(path)
            if path.is_dir() and not path.is_symlink():
                if given.flags & {"r", "R"}:
                    shutil.rmtree(path)
                elif "d" in given:
                    path.rmdir()
                else:
                    await warn(io, "rm", f"{word}: is a directory")
                    code = 1
                    continue
            else:
                path.unlink()
            release = getattr(runner.disk, "freed", None)
            if release is not None:
                release(freed)
        except OSError as error:
            await warn(io, "rm", f"{word}: {reason(error)}")
            code = 1
    return code


def _may_remove(runner: CommandRunner, io: CommandIO, path: Path) -> None:
    from harness.simulator.disk import may_write

    if not may_write(io.user, runner.disk.guest(path)):
        raise PermissionError(13, os.strerror(13))


def _size(path: Path) -> int:
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(item.lstat().st_size for item in path.rglob("*") if item.is_file() and not item.is_symlink())


@command
async def mkdir(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-p`, `-m MODE`."""
    given = options(argv, "pvm:")
    code = 0
    for word in given.words:
        try:
            path = host(runner, io, word)
            if not (path.is_dir() and "p" in given):
                guard(runner, io, path)
                path.mkdir(parents="p" in given)
            if "m" in given:
                path.chmod(int(given.values["m"], 8))
        except OSError as error:
            where = str(Path(word).parent) if isinstance(error, FileNotFoundError) else word
            await warn(io, "mkdir", f"{where}: {reason(error)}")
            code = 1
    return code


@command
async def rmdir(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Empty folders."""
    code = 0
    for word in options(argv, "p").words:
        try:
            path = entry(runner, io, word)
            _may_remove(runner, io, path)
            path.rmdir()
        except OSError as error:
            await warn(io, "rmdir", f"{word}: {reason(error)}")
            code = 1
    return code


@command
async def touch(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-c`, `-t [[CC]YY]MMDDhhmm[.SS]`, `-r file`, `-m`, `-a`."""
    given = options(argv, "acmft:r:h")
    moment = time.time()
    if "r" in given:
        moment = host(runner, io, given.values["r"]).stat().st_mtime
    elif "t" in given:
        match = re.fullmatch(r"(?:(\d{2})?(\d{2}))?(\d{2})(\d{2})(\d{2})(\d{2})(?:\.(\d{2}))?", given.values["t"])
        if match is None:
            raise CommandError("out of range or illegal time specification: [[CC]YY]MMDDhhmm[.SS]")
        year = int((match[1] or "20") + match[2]) if match[2] else time.localtime().tm_year
        clock = (year, int(match[3]), int(match[4]), int(match[5]), int(match[6]), int(match[7] or 0), 0, 0, -1)
        moment = time.mktime(clock)
    code = 0
    for word in given.words:
        try:
            path = host(runner, io, word)
            if not path.exists():
                if "c" in given:
                    continue
                guard(runner, io, path).touch()
            _may_remove(runner, io, path)
            os.utime(path, (moment, moment))
        except OSError as error:
            await warn(io, "touch", f"{word}: {reason(error)}")
            code = 1
    return code


@command
async def ln(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-s`, `-f`, `-n`/`-h`; hard links without `-s`."""
    given = options(argv, "sfnhv")
    if not given.words:
        raise CommandError("usage: ln [-s [-F] | -L | -P] [-f | -i] [-hnv] source_file [target_file]", 1)
    source = given.words[0]
    last = given.words[1] if len(given.words) > 1 else source.rsplit("/", 1)[-1]
    place = entry(runner, io, last)
    if (place.is_dir() and not (place.is_symlink() and given.flags & {"n", "h"})) or (
        place.is_symlink() and not given.flags & {"n", "h"} and host(runner, io, last).is_dir()
    ):
        place = host(runner, io, last) / source.rstrip("/").rsplit("/", 1)[-1]
    guard(runner, io, place)
    if "f" in given and (place.is_symlink() or place.is_file()):
        place.unlink()
    try:
        if "s" in given:
            place.symlink_to(source)
        else:
            os.link(host(runner, io, source), place)
    except OSError as error:
        raise CommandError(f"{last}: {reason(error)}") from None
    return 0


_MODE = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")


def _changed(mode: int, text: str, *, folder: bool) -> int:
    if re.fullmatch(r"[0-7]{1,4}", text):
        return int(text, 8)
    for part in text.split(","):
        match = _MODE.fullmatch(part)
        if match is None:
            raise CommandError(f"Invalid file mode: {text}")
        bits = 0
        for letter in match[3]:
            run = letter == "x" or (letter == "X" and (folder or mode & 0o111))
            bits |= 4 if letter == "r" else 2 if letter == "w" else 1 if run else 0
        for who in match[1] or "a":
            for shift in {"u": (6,), "g": (3,), "o": (0,), "a": (6, 3, 0)}[who]:
                if match[2] == "+":
                    mode |= bits << shift
                elif match[2] == "-":
                    mode &= ~(bits << shift)
                else:
                    mode = mode & ~(7 << shift) | bits << shift
        if "t" in match[3]:
            mode = mode | 0o1000 if match[2] != "-" else mode & ~0o1000
        if "s" in match[3]:
            mode = mode | 0o4000 if match[2] != "-" else mode & ~0o6000
    return mode


@command
async def chmod(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Octal and symbolic modes, `-R`, `-h`."""
    words = argv[1:]
    recursive = False
    while words and re.fullmatch(r"-[RhfvHLP]+", words[0]):
        recursive = recursive or "R" in words[0]
        words = words[1:]
    if len(words) < 2:
        raise CommandError("usage: chmod [-fhv] [-R [-H | -L | -P]] mode file ...")
    code = 0
    for word in words[1:]:
        try:
            path = host(runner, io, word)
            _may_remove(runner, io, path)
            every = [path, *(path.rglob("*") if recursive and path.is_dir() else ())]
            for item in every:
                if not item.is_symlink():
                    item.chmod(_changed(item.stat().st_mode & 0o7777, words[0], folder=item.is_dir()))
        except OSError as error:
            await warn(io, "chmod", f"{word}: {reason(error)}")
            code = 1
    return code


@command
async def chown(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Root only; the disk keeps no owners, so nothing changes (see `disk.owner_of`). Also chgrp, chflags."""
    given = options(argv, "RhfvHLPnx")
    name = argv[0].rsplit("/", 1)[-1]
    if len(given.words) < 2:
        raise CommandError(f"usage: {name} [-fhnvx] [-R [-H | -L | -P]] owner[:group] file ...")
    code = 0
    for word in given.words[1:]:
        try:
            path = host(runner, io, word)
            if not os.path.lexists(path):
                raise FileNotFoundError(2, os.strerror(2))
            if name == "chown" and not io.root:
                raise PermissionError(1, os.strerror(1))
        except OSError as error:
            await warn(io, name, f"{word}: {reason(error)}")
            code = 1
    return code


@command
async def mktemp(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-d` a folder, `-t prefix`, or a template ending in X."""
    given = options(argv, "dqut:p:")
    folder = given.values.get("p") or io.environment.get("TMPDIR") or "/tmp"  # noqa: S108 - the guest's
    for _ in range(100):
        token = secrets.token_hex(8)
        if given.words:
            template = given.words[0]
            stem = template.rstrip("X")
            name = stem + (token * 8)[: len(template) - len(stem)]
        else:
            name = f"{folder.rstrip('/')}/{given.values.get('t', 'tmp')}.{token[:10]}"
        path = host(runner, io, name)
        if path.exists():
            continue
        guard(runner, io, path)
        if "t" in given or not given.words:
            path.parent.mkdir(parents=True, exist_ok=True)
        if "d" in given:
            path.mkdir(mode=0o700)
        else:
            path.touch(mode=0o600)
        await out(io, name + "\n")
        return 0
    raise CommandError("mkstemp failed: File exists")


@command
async def basename(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """The last part of a path, without a suffix if one is given; `-a` for several."""
    given = options(argv, "as:")
    names = given.words if given.flags or given.values else given.words[:1]
    suffix = given.values.get("s", given.words[1] if len(given.words) > 1 and "a" not in given else "")
    for name in names:
        base = name.rstrip("/").rsplit("/", 1)[-1] if name.strip("/") else ("/" if name else "")
        await out(io, (base.removesuffix(suffix) or base) + "\n")
    return 0


@command
async def dirname(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """All but the last part."""
    for word in argv[1:]:
        if word == "--":
            continue
        head = word.rstrip("/").rpartition("/")
        text = head[0].rstrip("/") or ("/" if head[1] or (word and not word.strip("/")) else ".")
        await out(io, text + "\n")
    return 0


@command
async def readlink(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """A link's text; `-f` and `realpath` the canonical name."""
    given = options(argv, "fnq")
    code = 0
    canonical = "f" in given or argv[0].endswith("realpath")
    for word in given.words or (["."] if argv[0].endswith("realpath") else []):
        try:
            if canonical:
                path = host(runner, io, word)
                if not path.exists() and not (path.parent.is_dir() and "f" in given):
                    raise FileNotFoundError(2, os.strerror(2))
                text = runner.disk.guest(path)
            else:
                text = os.readlink(entry(runner, io, word))  # noqa: PTH115 - the text as it is
        except OSError as error:
            if canonical and "q" not in given:
                await warn(io, argv[0].rsplit("/", 1)[-1], f"{word}: {reason(error)}")
            code = 1
            continue
        await out(io, text + ("" if "n" in given else "\n"))
    return code


@command
async def dd(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`if= of= bs= count=`, as far as making a file of zeros or random bytes goes."""
    values = dict(word.split("=", 1) for word in argv[1:] if "=" in word)
    units = {"k": 1024, "m": 1 << 20, "g": 1 << 30, "": 1}
    match = re.fullmatch(r"(\d+)([kmg]?)", values.get("bs", "512").lower())
    if match is None or set(values) - {"if", "of", "bs", "count", "conv", "status"}:
        raise CommandError("unknown operand")
    size = int(match[1]) * units[match[2]]
    source = values.get("if", "-")
    total = 0
    from harness.simulator.posix.base import chunks, sink

    with sink(runner, io, values.get("of", "-")) as write:
        if source in ("/dev/zero", "/dev/urandom", "/dev/random"):
            for _ in range(int(values.get("count", "0"))):
                await write(bytes(size) if source == "/dev/zero" else secrets.token_bytes(size))
                total += size
        else:
            limit = int(values["count"]) * size if "count" in values else None
            async for data in chunks(runner, io, source):
                piece = data if limit is None else data[: limit - total]
                await write(piece)
                total += len(piece)
                if limit is not None and total >= limit:
                    break
    await io.stderr(
        f"{total // size}+0 records in\n{total // size}+0 records out\n{total} bytes transferred\n".encode()
    )
    return 0


COMMANDS: dict[str, Command] = {
    "basename": basename,
    "chflags": chown,
    "chgrp": chown,
    "chmod": chmod,
    "chown": chown,
    "cp": cp,
    "dd": dd,
    "dirname": dirname,
    "ln": ln,
    "mkdir": mkdir,
    "mktemp": mktemp,
    "mv": mv,
    "readlink": readlink,
    "realpath": readlink,
    "rm": rm,
    "rmdir": rmdir,
    "touch": touch,
    "unlink": rm,
}
