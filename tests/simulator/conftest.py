"""A guest without an operating system: a disk, the generic commands and the shell, run in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.simulator.disk import GuestDisk, make_skeleton
from harness.simulator.interfaces import CommandIO
from harness.simulator.posix import COMMANDS
from harness.simulator.shell import run_script
from harness.simulator.streams import reader_of


@dataclass
class Ran:
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "surrogateescape")


class Bench:
    """A CommandRunner with the generic commands only, and what they printed."""

    def __init__(self, root: Path, **disk: int) -> None:
        make_skeleton(root)
        self.disk = GuestDisk(root, **disk)
        self.calls: list[list[str]] = []

    async def execute(self, argv: list[str], io: CommandIO) -> int:
        name = argv[0].rsplit("/", 1)[-1]
        if name == "argv":  # tells what reached it
            self.calls.append(argv[1:])
            return 0
        command = COMMANDS.get(name)
        if command is None:
            await io.stderr(f"zsh: command not found: {argv[0]}\n".encode())
            return 127
        return await command(self, io, argv)

    def ssh_login(self, user: str, password: str) -> bool:
        return (user, password) == ("admin", "admin")

    def sh(
        self,
        text: str,
        *,
        dialect: str = "zsh",
        stdin: bytes = b"",
        user: str = "admin",
        cwd: str = "/Users/admin",
        timeout: float = 20,
        arguments: tuple[str, ...] = (),
    ) -> Ran:
        out: list[bytes] = []
        err: list[bytes] = []

        async def go() -> int:
            async def stdout(data: bytes) -> None:
                out.append(data)

            async def stderr(data: bytes) -> None:
                err.append(data)

            environment = {"HOME": "/Users/admin", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "USER": user}
            io = CommandIO(reader_of(stdin), stdout, stderr, user, cwd, environment)
            script = run_script(self, io, text, dialect=dialect, name=dialect, arguments=arguments)
            return await asyncio.wait_for(script, timeout)

        code = asyncio.run(go())
        return Ran(code, b"".join(out), b"".join(err))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "disk")


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda **disk: Bench(tmp_path / "disk", **disk)
