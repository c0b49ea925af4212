"""Commands that look at the disk: ls stat du df shasum md5 cmp."""

from __future__ import annotations

import hashlib
import os
import re
import stat as modes
import time
from pathlib import Path

from harness.simulator.disk import owner_of
from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import (
    CommandError,
    chunks,
    command,
    entry,
    host,
    options,
    out,
    readable,
    reason,
    warn,
    whole,
)

UIDS = {"root": 0, "admin": 501}
GROUPS = {"root": "wheel", "admin": "staff"}
GIDS = {"wheel": 0, "staff": 20, "admin": 80}
TOTAL_BLOCKS = 48_000_000
"""1024-byte blocks of the disk that df speaks of (50 GB)."""


def _owner(runner: CommandRunner, path: Path) -> tuple[str, str]:
    guest = runner.disk.guest(path)
    user = owner_of(guest)
    return user, "admin" if guest == "/Applications" else GROUPS.get(user, "staff")


def _flags(guest: str) -> str:
    if guest.startswith("/System"):
        return "restricted"
    return "sunlnk" if guest in ("/Applications", "/Library", "/Users", "/Volumes") else "-"


def _when(moment: float) -> str:
    clock = time.localtime(moment)
    far = abs(time.time() - moment) > 182 * 86400
    return time.strftime("%b ", clock) + f"{clock.tm_mday:2d} " + time.strftime(" %Y" if far else "%H:%M", clock)


@command
async def ls(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-l -a -A -1 -d -R -t -r -S -h -O -F -T -n -e -@ -i`; one name a line when not a terminal."""
    given = options(argv, "laA1dRtrShOFTn@egopGicks")
    code = 0
    folders: list[tuple[str, Path]] = []
    loose: list[tuple[str, Path]] = []
    for word in given.words or ["."]:
        try:
            direct = entry(runner, io, word)
            shown = host(runner, io, word) if "l" not in given or word.endswith("/") else direct
            shown = direct if not shown.exists() and direct.is_symlink() else shown
            if not os.path.lexists(shown):
                raise FileNotFoundError(2, os.strerror(2))
            readable(runner, io, shown)
            if shown.is_dir() and "d" not in given and not shown.is_symlink():
                folders.append((word, shown))
            else:
                loose.append((word, shown))
        except OSError as error:
            await warn(io, "ls", f"{word}: {reason(error)}")
            code = 1
    await out(io, _rows(runner, given.flags, _ordered(loose, given.flags), total=False))
    queue = _ordered(folders, given.flags)
    many = len(given.words) > 1 or "R" in given
    first = not loose
    while queue:
        word, folder = queue.pop(0)
        header = "" if first else "\n"
        if many and (not first or len(given.words) > 1 or "R" in given):
            header += f"{word}:\n" if not (first and "R" in given and len(given.words) <= 1) else ""
        first = False
        names = [(child.name, child) for child in folder.iterdir() if given.flags & {"a", "A"} or child.name[0] != "."]
        if "a" in given:
            names += [(".", folder), ("..", folder.parent if folder != runner.disk.root else folder)]
        children = _ordered(names, given.flags)
        await out(io, header + _rows(runner, given.flags, children, total="l" in given))
        if "R" in given:
            inner = [
                (f"{word}/{n}", p) for n, p in children if n not in (".", "..") and p.is_dir() and not p.is_symlink()
            ]
            queue = inner + queue
    return code


def _ordered(items: list[tuple[str, Path]], flags: set[str]) -> list[tuple[str, Path]]:
    if "t" in flags:
        items = sorted(items, key=lambda item: (-item[1].lstat().st_mtime, item[0]))
    elif "S" in flags:
        items = sorted(items, key=lambda item: (-item[1].lstat().st_size, item[0]))
    else:
        items = sorted(items, key=lambda item: os.fsencode(item[0]))
    return items[::-1] if "r" in flags else items


def _rows(runner: CommandRunner, flags: set[str], items: list[tuple[str, Path]], *, total: bool) -> str:
    if "l" not in flags:
        return "".join(name + (_mark(path) if "F" in flags else "") + "\n" for name, path in items)
    rows = []
    blocks = 0
    for name, path in items:
        facts = path.lstat()
        blocks += facts.st_blocks
        inside = path if path == runner.disk.root or runner.disk.root in path.parents else runner.disk.root
        user, group = _owner(runner, inside)
        owner = [str(UIDS.get(user, 502)), str(GIDS.get(group, 20))] if "n" in flags else [user, group]
        size = _human(facts.st_size) if "h" in flags else str(facts.st_size)
        arrow = f" -> {path.readlink()}" if path.is_symlink() else _mark(path) if "F" in flags else ""
        rows.append(
            [
                modes.filemode(facts.st_mode) + " ",
                str(facts.st_nlink),
                *owner,
                *([_flags(runner.disk.guest(inside))] if "O" in flags else []),
                size,
                _when(facts.st_mtime),
                name + arrow,
            ]
        )
    if not rows:
        return "total 0\n" if total else ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = {0, 2, 3, 4} if "O" in flags else {0, 2, 3}
    lines = []
    for row in rows:
        cells = [
            cell
            if column == len(row) - 1
            else cell.ljust(widths[column])
            if column in left
            else cell.rjust(widths[column])
            for column, cell in enumerate(row)
        ]
        # BSD puts two blanks behind user and group
        lines.append(f"{cells[0]} {cells[1]} {'  '.join(cells[2:4])}  {' '.join(cells[4:])}".replace("  ", "  ", 1))
    return (f"total {blocks}\n" if total else "") + "\n".join(lines) + "\n"


def _mark(path: Path) -> str:
    if path.is_symlink():
        return "@"
    if path.is_dir():
        return "/"
    return "*" if path.stat().st_mode & 0o111 else ""


def _human(size: float) -> str:
    for unit in "BKMGT":
        if size < 1000 or unit == "T":
            return f"{size:.0f}{unit}" if size >= 10 or unit == "B" else f"{size:.1f}{unit}"
        size /= 1024
    return ""


@command
async def stat(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """BSD: `-f FORMAT` (%Su %Sg %u %g %z %m %a %c %B %Sm %Sp %p %Op %Lp %A %N %HT %i %d %l), `-L`, `-x` not; else one line."""
    given = options(argv, "f:Lnqst:")
    code = 0
    for word in given.words or ["-"]:
        try:
            if word == "/dev/console":
                await out(io, _console(runner, given.values.get("f", "%Su")) + ("" if "n" in given else "\n"))
                continue
            path = host(runner, io, word) if "L" in given else entry(runner, io, word)
            facts = path.lstat()
        except OSError as error:
            if "q" not in given:
                await warn(io, "stat", f"{word}: stat: {reason(error)}")
            code = 1
            continue
        pattern = given.values.get("f", '%d %i %Sp %l %Su %Sg %r %z "%Sa" "%Sm" "%Sc" "%SB" %k %b %f %N')
        clock = given.values.get("t", "%b %e %H:%M:%S %Y")
        text = _stat_text(pattern, facts, _owner(runner, path), word, clock)
        await out(io, text + ("" if "n" in given else "\n"))
    return code


def _console(runner: CommandRunner, pattern: str) -> str:
    user = getattr(runner, "console_user", None) or "root"
    values = {
        "%Su": user,
        "%u": str(_number(runner, user)),
        "%Sg": "staff" if user != "root" else "wheel",
        "%N": "/dev/console",
    }
    for key, value in values.items():
        pattern = pattern.replace(key, value)
    return pattern


def _number(runner: CommandRunner, user: str) -> int:
    accounts = getattr(runner, "accounts", None)
    found: int = accounts.uid(user) if accounts is not None else UIDS.get(user, 501)
    return found


def _stat_text(pattern: str, facts: os.stat_result, owner: tuple[str, str], word: str, clock: str) -> str:
    user, group = owner

    def moment(seconds: float, kind: str) -> str:
        if kind != "S":
            return str(int(seconds))
        return time.strftime(clock.replace("%e", f"{time.localtime(seconds).tm_mday:2d}"), time.localtime(seconds))

    def field(match: re.Match[str]) -> str:
        kind, letter = match[1], match[2]
        kinds = {"S_IFDIR": "Directory"}
        simple = {
            "z": facts.st_size,
            "i": facts.st_ino,
            "d": 16777233,
            "l": facts.st_nlink,
            "b": facts.st_blocks,
            "k": 4096,
            "f": 0,
            "r": 0,
            "v": 0,
        }
        if letter in simple:
            return str(simple[letter])
        if letter in "amcB":
            seconds = {"a": facts.st_atime, "m": facts.st_mtime, "c": facts.st_ctime, "B": facts.st_ctime}[letter]
            return moment(seconds, kind)
        if letter == "u":
            return user if kind == "S" else str(UIDS.get(user, 502))
        if letter == "g":
            return group if kind == "S" else str(GIDS.get(group, 20))
        if letter == "N":
            return word
        if letter == "p":
            if kind == "S":
                return modes.filemode(facts.st_mode)
            if kind in ("L", "OL"):
                return f"{facts.st_mode & 0o777:03o}"
            return f"{facts.st_mode:o}"
        if letter == "A":
            return f"{facts.st_mode & 0o777:o}"
        if letter == "T":
            if kind == "H":
                kinds = {"d": "Directory", "-": "Regular File", "l": "Symbolic Link", "s": "Socket", "p": "Fifo File"}
                return kinds.get(modes.filemode(facts.st_mode)[0], "???")
            return {"d": "/", "l": "@", "-": "*" if facts.st_mode & 0o111 else ""}.get(
                modes.filemode(facts.st_mode)[0], ""
            )
        return {"n": "\n", "t": "\t", "%": "%"}.get(letter, match[0])

    return re.sub(r"%(S|H|L|OL|O|)([zidlbkfrvamcBugNpATnt%])", field, pattern)


@command
async def du(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-s -k -h -m -d N`; 512-byte blocks without a unit."""
    given = options(argv, "skhmacxd:")
    unit = 1024 if "k" in given else 1 << 20 if "m" in given else 512
    deepest = 0 if "s" in given else int(given.values.get("d", "99"))

    async def show(path: Path, name: str, depth: int) -> int:
        size = path.lstat().st_blocks * 512
        if path.is_dir() and not path.is_symlink():
            for child in sorted(path.iterdir()):
                size += await show(child, f"{name}/{child.name}", depth + 1)
        elif depth and "a" not in given:
            return size
        if depth <= deepest:
            text = f"{_human(size):>4s}" if "h" in given else str(-(-size // unit))
            await out(io, f"{text}\t{name}\n")
        return size

    code = 0
    for word in given.words or ["."]:
        try:
            await show(entry(runner, io, word), word, 0)
        except OSError as error:
            await warn(io, "du", f"{word}: {reason(error)}")
            code = 1
    return code


@command
async def df(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-k -h -m -P -g`: one data volume."""
    given = options(argv, "khmPgHilb")
    unit, name = (1024, "1024-blocks") if given.flags & {"k"} else (512, "512-blocks")
    total = TOTAL_BLOCKS * 1024
    free = 0 if runner.disk.full else total - int(25.3e9)
    used = total - free
    percent = -(-used * 100 // total)

    def show(size: int) -> str:
        return f"{_human(size)}i" if "h" in given else str(size // unit)

    head = "Size" if "h" in given else name
    rows = [
        ["Filesystem", head, "Used", "Available", "Capacity", "Mounted on"],
        ["/dev/disk3s5", show(total), show(used), show(free), f"{percent}%", "/System/Volumes/Data"],
    ]
    if "P" in given or given.words:
        rows[1][5] = "/System/Volumes/Data"
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:5], widths[1:5], strict=True)),
        ]
        await out(io, " ".join(cells) + "   " + row[5] + "\n")
    return 0


@command
async def shasum(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-a 1|224|256|384|512`, `-c`; `sha256sum` and the like are not on a Mac before 15, so only this."""
    words = [word for word in argv if word not in ("--portable", "--quiet", "--status")]
    given = options(words, "a:bctpqs")
    kind = given.values.get("a", "1")
    if kind not in ("1", "224", "256", "384", "512"):
        raise CommandError(f"Unrecognized algorithm: {kind}")
    code = 0
    for path in given.words or ["-"]:
        if "c" in given:
            for line in (await whole(runner, io, path)).decode("utf-8", "surrogateescape").splitlines():
                wanted, _, name = line.partition("  ")
                found = await _digest(runner, io, name, f"sha{kind}")
                code = code or int(found != wanted)
                await out(io, f"{name}: {'OK' if found == wanted else 'FAILED'}\n")
            continue
        try:
            await out(io, f"{await _digest(runner, io, path, f'sha{kind}')}  {path}\n")
        except OSError as error:
            await warn(io, "shasum", f"{path}: {reason(error)}")
            code = 1
    return code


async def _digest(runner: CommandRunner, io: CommandIO, path: str, kind: str) -> str:
    digest = hashlib.new(kind)
    async for data in chunks(runner, io, path):
        digest.update(data)
    return digest.hexdigest()


@command
async def md5(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-q` only the digest, `-r` the other order."""
    given = options(argv, "qrs:")
    for path in given.words or ["-"]:
        digest = await _digest(runner, io, path, "md5")
        plain = "q" in given or path == "-"
        await out(
            io, f"{digest}\n" if plain else f"{digest} {path}\n" if "r" in given else f"MD5 ({path}) = {digest}\n"
        )
    return 0


@command
async def cmp(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """0 where two files are the same."""
    given = options(argv, "sl")
    if len(given.words) < 2:
        raise CommandError("usage: cmp [-l | -s | -x] file1 file2", 2)
    one, two = [await whole(runner, io, path) for path in given.words[:2]]
    if one == two:
        return 0
    if "s" not in given:
        place = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        line = one[:place].count(b"\n") + 1
        await out(io, f"{given.words[0]} {given.words[1]} differ: char {place + 1}, line {line}\n")
    return 1


COMMANDS: dict[str, Command] = {
    "cmp": cmp,
    "df": df,
    "du": du,
    "ls": ls,
    "md5": md5,
    "shasum": shasum,
    "stat": stat,
}
