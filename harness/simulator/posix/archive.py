"""tar and gzip, streaming. tar keeps permissions, times and links; names stay below the folder they are unpacked in."""

from __future__ import annotations

import asyncio
import contextlib
import io as io_module
import os
import queue
import tarfile
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import (
    CommandError,
    chunks,
    command,
    entry,
    guard,
    host,
    options,
    out,
    readable,
    reason,
    sink,
    warn,
)
from harness.simulator.streams import note_write


class _Outgoing(io_module.RawIOBase):
    """What tarfile writes into; collected, and handed on by the loop."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.parts.append(bytes(data))
        self.at += len(data)
        return len(data)

    def tell(self) -> int:
        return self.at

    def take(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self.parts)
        self.parts.clear()
        return data


class _Incoming(io_module.RawIOBase):
    """What tarfile reads from, in a thread; the loop feeds it through a bounded queue."""

    def __init__(self) -> None:
        self.queue: queue.Queue[bytes] = queue.Queue(maxsize=8)
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self._ended:
            self._rest = self.queue.get()
            self._ended = not self._rest
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@command
async def tar(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-c -x -t -z -v -f FILE -C DIR -p -k -O`, `--exclude P`, `--strip-components N`; `-` and no -f are the streams."""
    words = list(argv)
    if len(words) > 1 and not words[1].startswith("-"):
        words[1] = "-" + words[1]
    excluded: list[str] = []
    strip = 0
    plain: list[str] = []
    index = 0
    while index < len(words):
        word = words[index]
        name, equals, value = word.partition("=")
        if name in ("--exclude", "--strip-components"):
            if not equals:
                index += 1
                value = words[index] if index < len(words) else ""
            if name == "--exclude":
                excluded.append(value)
            else:
                strip = int(value)
        elif word not in (
            "--no-xattrs",
            "--no-mac-metadata",
            "--disable-copyfile",
            "--no-same-owner",
            "--numeric-owner",
        ):
            plain.append(word)
        index += 1
    folder_words = _folders(plain)
    given = options(plain, "cxtzjJvf:C:pkOmnoPhHLSaUwT:", permute=True)
    mode = [letter for letter in "cxt" if letter in given]
    if len(mode) != 1:
        raise CommandError("Must specify one of -c, -r, -t, -u, -x")
    path = given.values.get("f", "-")
    if mode == ["c"]:
        return await _create(runner, io, path, folder_words, given.flags, excluded)
    folder = host(runner, io, folder_words[0][0]) if folder_words else host(runner, io, ".")
    if "C" in given and not folder.is_dir():
        raise CommandError(f"could not chdir to '{given.values['C']}'")
    return await _read(runner, io, path, folder, given.flags, strip, given.words, listing=mode == ["t"])


def _folders(argv: list[str]) -> list[tuple[str, str]]:
    """(folder, operand) for each operand, since `-C` counts for those behind it; (folder, "") if there is none."""
    found = []
    folder = "."
    index = 1
    seen_folder = False
    while index < len(argv):
        word = argv[index]
        if word.startswith("-") and len(word) > 1:
            letters = word[1:]
            for place, letter in enumerate(letters):
                if letter in "fCT":
                    value = letters[place + 1 :]
                    if not value:
                        index += 1
                        value = argv[index] if index < len(argv) else ""
                    if letter == "C":
                        folder = value if value.startswith("/") else f"{folder}/{value}"
                        seen_folder = True
                    break
        else:
            found.append((folder, word))
        index += 1
    return found or ([(folder, "")] if seen_folder else [])


async def _create(
    runner: CommandRunner,
    io: CommandIO,
    path: str,
    operands: list[tuple[str, str]],
    flags: set[str],
    excluded: list[str],
) -> int:
    import fnmatch

    if not operands or operands[0][1] == "":
        raise CommandError("no files or directories specified")
    code = 0
    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31) if "z" in flags else None
    outgoing = _Outgoing()
    with (
        sink(runner, io, path) as write,
        tarfile.open(fileobj=outgoing, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):

        async def push(*, end: bool = False) -> None:
            data = outgoing.take()
            if squeeze is not None:
                data = squeeze.compress(data) + (squeeze.flush() if end else b"")
            if data:
                await write(data)

        async def add(real: Path, name: str) -> None:
            nonlocal code
            if any(fnmatch.fnmatch(name, p) or fnmatch.fnmatch(name.rsplit("/", 1)[-1], p) for p in excluded):
                return
            try:
                readable(runner, io, real)
                info = archive.gettarinfo(real, arcname=name)
                info.uid, info.gid, info.uname, info.gname = 501, 20, "admin", "staff"
                if info.isreg():
                    with real.open("rb") as file:
                        # in pieces, so that a big file does not stop the machine
                        header = info.tobuf(archive.format, archive.encoding, archive.errors)
                        archive.fileobj.write(header)
                        archive.offset += len(header) + info.size + -info.size % 512
                        left = info.size
                        while left:
                            data = file.read(min(left, 1 << 20)) or bytes(min(left, 1 << 20))
                            archive.fileobj.write(data)
                            left -= len(data)
                            await push()
                        archive.fileobj.write(bytes(-info.size % 512))
                elif info.isdir() or info.issym():
                    archive.addfile(info)
                if "v" in flags:
                    await io.stderr(f"a {name}\n".encode("utf-8", "surrogateescape"))
            except OSError as error:
                await warn(io, "tar", f"{name}: {reason(error)}")
                code = 1
                return
            await push()
            if info.isdir():
                for child in sorted(real.iterdir()):
                    await add(child, f"{name.rstrip('/')}/{child.name}")

        for folder, word in operands:
            base = runner.disk.guest(host(runner, io, folder))
            where = word if word.startswith("/") else f"{base}/{word}"
            real = entry(runner, io, where) if not word.endswith("/") else host(runner, io, where)
            if not os.path.lexists(real):
                await warn(io, "tar", f"{word}: Cannot stat: No such file or directory")
                code = 1
                continue
            await add(real, word.strip("/") or "." if word != "." else ".")
        archive.close()
        await push(end=True)
    if code:
        await warn(io, "tar", "Error exit delayed from previous errors.")
    return code


async def _read(
    runner: CommandRunner,
    io: CommandIO,
    path: str,
    folder: Path,
    flags: set[str],
    strip: int,
    wanted: list[str],
    *,
    listing: bool,
) -> int:
    incoming = _Incoming()
    loop = asyncio.get_running_loop()
    said: list[str] = []
    problems: list[str] = []
    stopped = False

    def member_target(member: tarfile.TarInfo) -> Path | None:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            problems.append(f"{member.name}: Path contains '..'")
            return None
        parts = parts[strip:]
        if not parts:
            return None
        if wanted and not any(
            member.name == w.rstrip("/") or member.name.startswith(w.rstrip("/") + "/") for w in wanted
        ):
            return None
        base = runner.disk.guest(folder)
        place = runner.disk.path("/".join([base, *parts[:-1]])) / parts[-1]
        return guard(runner, io, place)

    def extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        target = member_target(member)
        if target is None:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.isdir():
            if target.is_symlink() or target.is_file():
                target.unlink()
            target.mkdir(exist_ok=True)
            target.chmod((member.mode & 0o777) | 0o700)
            return
        if os.path.lexists(target) and not (target.is_dir() and not target.is_symlink()):
            if "k" in flags:
                return
            target.unlink()
        if member.issym():
            target.symlink_to(member.linkname)
        elif member.islnk():
            source = member_target_of_link(member)
            if source is not None:
                os.link(source, target)
        elif member.isreg():
            reader = archive.extractfile(member)
            assert reader is not None
            with target.open("wb", buffering=0) as file:
                while data := reader.read(1 << 20):
                    note_write(runner.disk, len(data))
                    file.write(data)
            target.chmod(member.mode & 0o777)
            os.utime(target, (member.mtime, member.mtime))

    def member_target_of_link(member: tarfile.TarInfo) -> Path | None:
        parts = [part for part in member.linkname.split("/") if part not in ("", ".")][strip:]
        if not parts or ".." in parts:
            return None
        source = runner.disk.path("/".join([runner.disk.guest(folder), *parts]))
        return source if source.is_file() else None

    def work() -> None:
        try:
            with tarfile.open(fileobj=incoming, mode="r|*") as archive:
                for member in archive:
                    if stopped:
                        return
                    if listing:
                        said.append(member.name + ("/" if member.isdir() else ""))
                        continue
                    try:
                        extract(archive, member)
                        if "v" in flags:
                            said.append(f"x {member.name}")
                    except OSError as error:
                        problems.append(f"{member.name}: {reason(error)}")
                        if error.errno == 28:
                            return
        except (tarfile.TarError, EOFError, zlib.error) as error:
            problems.append(f"Error opening archive: Unrecognized archive format ({error})")
        except OSError as error:
            problems.append(f"Error opening archive: {error}")

    worker = loop.run_in_executor(None, work)

    async def feed(data: bytes) -> bool:
        """Hand on a piece; False once the reader has ended (it may end before its input does)."""
        while not worker.done():
            with contextlib.suppress(queue.Full):
                incoming.queue.put_nowait(data)
                return True
            await asyncio.sleep(0.002)
        return False

    try:
        async for data in chunks(runner, io, path):
            await feed(data)  # to the end in any case, as a pipe's writer expects
    except BaseException:
        stopped = True
        raise
    finally:
        with contextlib.suppress(queue.Full):
            while not worker.done() and not incoming.queue.empty():
                await asyncio.sleep(0.002)
            incoming.queue.put_nowait(b"")
    await worker
    for line in said:
        await (out(io, line + "\n") if listing else io.stderr((line + "\n").encode("utf-8", "surrogateescape")))
    for line in problems:
        await warn(io, "tar", line)
    if problems:
        await warn(io, "tar", "Error exit delayed from previous errors.")
    return 1 if problems else 0


_Transform = Callable[[bytes], bytes]


@command
async def gzip(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`gzip`, `gunzip`, `zcat`/`gzcat`: `-c -d -k -f -1…-9`; files are replaced, streams are filtered."""
    name = argv[0].rsplit("/", 1)[-1]
    given = options(argv, "cdkfqvnN123456789tl")
    unpack = "d" in given or name in ("gunzip", "zcat", "gzcat") or "t" in given
    to_stdout = "c" in given or name in ("zcat", "gzcat") or not given.words
    code = 0
    for path in given.words or ["-"]:
        if unpack and path != "-" and not path.endswith(".gz"):
            await warn(io, name, f"{path}: unknown suffix -- ignored")
            code = 1
            continue
        target = "-" if to_stdout else path.removesuffix(".gz") if unpack else path + ".gz"
        try:
            with sink(runner, io, "/dev/null" if "t" in given else target) as write:
                await _filter(chunks(runner, io, path), write, unpack=unpack)
        except zlib.error:
            await warn(io, name, f"{'(stdin)' if path == '-' else path}: not in gzip format")
            code = 1
            continue
        except OSError as error:
            await warn(io, name, f"{path}: {reason(error)}")
            code = 1
            continue
        if not to_stdout and "k" not in given and "t" not in given:
            host(runner, io, path).unlink()
    return code


async def _filter(source: Any, write: Callable[[bytes], Awaitable[None]], *, unpack: bool) -> None:
    if unpack:
        machine = zlib.decompressobj(31)
        async for data in source:
            while data:
                await write(machine.decompress(data))
                data = machine.unused_data
                if machine.eof and data:
                    machine = zlib.decompressobj(31)
        if not machine.eof:
            raise zlib.error("unexpected end of file")
        return
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    async for data in source:
        await write(packer.compress(data))
    await write(packer.flush())


COMMANDS: dict[str, Command] = {"gunzip": gzip, "gzcat": gzip, "gzip": gzip, "tar": tar, "zcat": gzip}
