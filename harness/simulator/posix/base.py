"""What the generic commands share: options, messages, opening files on the guest's disk, where commands live."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from harness.simulator.disk import may_write
from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.streams import CHUNK, Writer, file_writer, nowhere, reader_of

LOCATIONS: dict[str, str] = {}
"""Folders of commands; those not named are in /usr/bin."""
for _folder, _names in {
    "/bin": "bash cat chmod cp csh date dd df echo expr hostname kill launchctl link ln ls mkdir mv ps pwd rm rmdir sh "
    "sleep stty sync tcsh test unlink zsh [",
    "/sbin": "ifconfig md5 mount ping reboot shutdown halt umount pfctl route",
    "/usr/sbin": "chown sysctl system_profiler scutil netstat ioreg screencapture spctl installer sysdiagnose diskutil "
    "mdmclient lsof systemsetup nvram",
}.items():
    LOCATIONS.update(dict.fromkeys(_names.split(), _folder))


class CommandError(Exception):
    """Ends a command with a message (printed as `name: message`) and a code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class OptionError(CommandError):
    """An option that the command does not know: 64 would be sysexits, BSD's commands say 1 with their usage."""


@dataclass
class Options:
    """What getopt found."""

    flags: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def __contains__(self, letter: str) -> bool:
        return letter in self.flags or letter in self.values


def options(argv: list[str], letters: str, *, permute: bool = False) -> Options:
    """getopt: letters with a colon take a value; the first word that is no option ends them (unless `permute`).

    Raises:
        OptionError: An unknown letter, or a missing value.
    """
    found = Options()
    words = argv[1:]
    while words:
        word = words.pop(0)
        if word == "--":
            found.words += words
            break
        if not word.startswith("-") or word == "-":
            found.words.append(word)
            if permute:
                continue
            found.words += words
            break
        index = 1
        while index < len(word):
            letter = word[index]
            index += 1
            place = letters.find(letter)
            if place < 0 or letter == ":":
                raise OptionError(f"illegal option -- {letter}")
            if letters[place + 1 : place + 2] == ":":
                value = word[index:]
                if not value:
                    if not words:
                        raise OptionError(f"option requires an argument -- {letter}")
                    value = words.pop(0)
                found.values[letter] = value
                break
            found.flags.add(letter)
    return found


def encode(text: str) -> bytes:
    """Text for a stream; bytes that were no UTF-8 come out as they came in."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """The reverse."""
    return data.decode("utf-8", "surrogateescape")


async def out(io: CommandIO, text: str) -> None:
    """Print text."""
    await io.stdout(encode(text))


async def warn(io: CommandIO, name: str, text: str) -> None:
    """Print a message on stderr."""
    await io.stderr(encode(f"{name}: {text}\n"))


def reason(error: OSError) -> str:
    """The words of an error number."""
    return os.strerror(error.errno) if error.errno else str(error)


def command(function: Callable[[CommandRunner, CommandIO, list[str]], Awaitable[int]]) -> Command:
    """Make a command of a function: a `CommandError` is printed, a broken pipe ends it quietly (141)."""

    async def run(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
        name = argv[0].rsplit("/", 1)[-1]
        try:
            return await function(runner, io, argv)
        except CommandError as error:
            if str(error):
                await warn(io, name, str(error))
            return error.code
        except BrokenPipeError:
            return 141
        except OSError as error:
            where = f"{error.filename}: " if isinstance(error.filename, str) and "/" not in error.filename else ""
            await warn(io, name, where + reason(error))
            return 1

    run.__doc__ = function.__doc__
    run.__name__ = function.__name__
    return run


def host(runner: CommandRunner, io: CommandIO, path: str) -> Path:
    """Where a guest's path is, links followed."""
    return runner.disk.path(path, io.cwd)


def entry(runner: CommandRunner, io: CommandIO, path: str) -> Path:
    """Where a guest's path is, a link in the last place left alone."""
    find = getattr(runner.disk, "entry", None)
    found: Path = find(path.rstrip("/") or "/", io.cwd) if find is not None else runner.disk.path(path, io.cwd)
    return found


def guard(runner: CommandRunner, io: CommandIO, path: Path) -> Path:
    """`path` again.

    Raises:
        PermissionError: The user may not write there.
    """
    if not may_write(io.user, runner.disk.guest(path)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if runner.disk.full and not os.path.lexists(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return path


_PRIVATE = ("/private/var/root", "/private/var/db/sudo", "/private/var/db/diagnostics", "/private/var/db/uuidtext")


def readable(runner: CommandRunner, io: CommandIO, path: Path) -> Path:
    """`path` again.

    Raises:
        PermissionError: The user may not read there: another's home, or root's own places.
    """
    if not io.root:
        guest = runner.disk.guest(path)
        if any(guest == folder or guest.startswith(folder + "/") for folder in _PRIVATE):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if path.exists() and not path.is_symlink() and not path.stat().st_mode & 0o444:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


def open_source(runner: CommandRunner, io: CommandIO, path: str) -> tuple[asyncio.StreamReader | None, BinaryIO | None]:
    """A file, `-` or device for reading: a stream (of stdin) or a file, the other None.

    Raises:
        OSError: It cannot be read.
    """
    if path in ("-", "/dev/stdin"):
        return io.stdin, None
    if path == "/dev/null":
        return reader_of(b""), None
    real = readable(runner, io, host(runner, io, path))
    if real.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return None, real.open("rb", buffering=0)


async def chunks(runner: CommandRunner, io: CommandIO, path: str) -> AsyncIterator[bytes]:
    """A file (or `-`) piece by piece."""
    stream, file = open_source(runner, io, path)
    if path == "/dev/zero":
        while True:
            yield bytes(CHUNK)
    if file is None:
        assert stream is not None
        while data := await stream.read(CHUNK):
            yield data
        return
    with file:
        while data := file.read(CHUNK):
            yield data
            await asyncio.sleep(0)


async def lines(runner: CommandRunner, io: CommandIO, path: str, *, separator: bytes = b"\n") -> AsyncIterator[bytes]:
    """A file (or `-`) line by line, with the newline where it has one; as they come, for streams that never end."""
    rest = b""
    async for data in chunks(runner, io, path):
        pieces = (rest + data).split(separator)
        rest = pieces.pop()
        for piece in pieces:
            yield piece + separator
    if rest:
        yield rest


async def whole(runner: CommandRunner, io: CommandIO, path: str) -> bytes:
    """All of a file (or `-`)."""
    return b"".join([data async for data in chunks(runner, io, path)])


@contextlib.contextmanager
def sink(runner: CommandRunner, io: CommandIO, path: str, *, append: bool = False) -> Any:
    """A writer into a file, `-` or device.

    Raises:
        OSError: It cannot be written.
    """
    if path == "/dev/null":
        yield nowhere
    elif path in ("-", "/dev/stdout"):
        yield io.stdout
    elif path == "/dev/stderr":
        yield io.stderr
    else:
        real = guard(runner, io, host(runner, io, path))
        with real.open("ab" if append else "wb", buffering=0) as file:
            writer: Writer = file_writer(runner.disk, file)
            yield writer


def executable(runner: CommandRunner, io_cwd: str, path: str) -> bool:
    """Whether a guest's path is an executable file on the disk."""
    try:
        real = runner.disk.path(path, io_cwd)
        return real.is_file() and bool(real.stat().st_mode & 0o111)
    except OSError:
        return False


def known(runner: CommandRunner, name: str) -> bool:
    """Whether there is a built-in program of that bare name, macOS's own or a generic one."""
    from harness.simulator.posix import COMMANDS

    asked = getattr(runner, "has_command", None)
    return bool(asked(name)) if asked is not None else name in COMMANDS


def locate(runner: CommandRunner, name: str, cwd: str, path: str) -> str | None:
    """Where a command is: `/bin/ls`, a file on PATH, the path itself; or None."""
    if "/" in name:
        folder, _, base = name.rpartition("/")
        if folder in ("/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/libexec") and known(runner, base):
            return name
        return name if executable(runner, cwd, name) else None
    if known(runner, name):
        return f"{LOCATIONS.get(name, '/usr/bin')}/{name}"
    for folder in path.split(":"):
        if folder.startswith("/") and executable(runner, cwd, f"{folder}/{name}"):
            return f"{folder}/{name}"
    return None
