"""The guest's shell: runs scripts of `shell_syntax` as zsh (the login shell) or as bash/sh would.

The two differ where it bites: zsh does not split `$x`, a pattern without a match is an error, `=name` is a command's
path, `echo` reads backslashes, and the last part of a pipeline runs in the shell itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from harness.simulator import groups, shell_words
from harness.simulator import shell_tree as tree
from harness.simulator.disk import may_write
from harness.simulator.interfaces import CommandIO, CommandRunner, Disk
from harness.simulator.shell_expand import Expander, ExpansionError
from harness.simulator.shell_syntax import Parser
from harness.simulator.streams import Pipe, Writer, closed, file_reader, file_writer, nowhere, reader_of

Background = set["asyncio.Task[Any]"]
MAX_CAPTURE = 64 * 1024 * 1024
_KEPT: Background = set()
"""Strong references to background tasks; the guest ends them at power-off through its process table."""


class ExitShell(Exception):
    """`exit`: ends the script with a code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code & 0xFF


class Leave(Exception):
    """`break`, `continue` or `return` on its way out."""

    def __init__(self, kind: str, count: int) -> None:
        super().__init__(kind)
        self.kind = kind
        self.count = count


class RedirectError(Exception):
    """A redirection that cannot be made; the message is what the shell prints."""


async def run_script(
    runner: CommandRunner,
    io: CommandIO,
    text: str,
    *,
    dialect: str = "zsh",
    name: str = "zsh",
    arguments: Sequence[str] = (),
    background: Background | None = None,
    keep: bool = False,
) -> int:
    """Run a script; its exit code.

    Args:
        runner: Runs the commands.
        io: Whose shell, where, with which streams.
        text: The script.
        dialect: `zsh` or `bash`.
        name: What error messages begin with, and `$0`.
        arguments: `$1`…
        background: Gets the tasks left running that still hold the script's streams.
        keep: Directory and variables go back into `io` (an interactive shell, line by line).
    """
    try:
        script = Parser(text, dialect).parse()
    except (shell_words.ParseError, RecursionError) as error:
        message = str(error) if isinstance(error, shell_words.ParseError) else "parse error: nested too deeply"
        if dialect == "zsh":
            await io.stderr(f"{name}:1: {message}\n".encode("utf-8", "surrogateescape"))
            return 1
        await io.stderr(f"{name}: -c: line 0: syntax error: {message}\n".encode("utf-8", "surrogateescape"))
        return 2
    shell = Shell(runner, io, dialect=dialect, name=name, arguments=list(arguments), background=background)
    code = await shell.run(script)
    if keep:
        io.cwd = shell.cwd
        io.environment.update({name: shell.variables[name] for name in shell.exported if name in shell.variables})
    return code


class Shell:
    """One shell process: its variables, directory, jobs. `fork` makes a subshell."""

    def __init__(
        self,
        runner: CommandRunner,
        io: CommandIO,
        *,
        dialect: str = "zsh",
        name: str = "zsh",
        arguments: list[str] | None = None,
        background: Background | None = None,
    ) -> None:
        self.runner = runner
        self.io = io
        self.dialect = dialect
        self.name = name
        self.arguments: list[str] = arguments or []
        self.variables: dict[str, str] = dict(io.environment)
        self.exported: set[str] = set(io.environment)
        self.functions: dict[str, tree.Group] = {}
        self.cwd = io.cwd
        self.status = 0
        self.last_background = ""
        self.options: set[str] = set()
        self.umask = 0o022
        self.exit_trap = ""
        self.jobs: list[tuple[str, asyncio.Task[int]]] = []
        self.background: Background = background if background is not None else set()
        self.pid = str(_own_pid(runner))
        self._guarded = 0
        self._substituted = 0
        self._open: list[Any] = []

    def fork(self) -> Shell:
        """A subshell: everything copied, nothing shared but the streams."""
        child = Shell.__new__(Shell)
        child.__dict__.update(self.__dict__)
        child.variables = dict(self.variables)
        child.exported = set(self.exported)
        child.functions = dict(self.functions)
        child.arguments = list(self.arguments)
        child.options = set(self.options)
        child.jobs = []
        child.exit_trap = ""
        child._open = []
        return child

    @property
    def disk(self) -> Disk:
        """The guest's disk."""
        return self.runner.disk

    # --- what expansion asks (shell_expand.Scope)

    def get(self, name: str) -> str | None:
        """A variable or special parameter; None when unset.

        Raises:
            ExpansionError: Unset, and `set -u` is on.
        """
        special = {
            "?": str(self.status),
            "$": self.pid,
            "!": self.last_background,
            "#": str(len(self.arguments)),
            "0": self.name,
            "-": "".join(sorted(option[0] for option in self.options)),
            "@": " ".join(self.arguments),
            "*": " ".join(self.arguments),
            "PWD": self.cwd,
        }
        if name in special:
            return special[name]
        if name.isdigit():
            index = int(name)
            return self.arguments[index - 1] if index <= len(self.arguments) else None
        value = self.variables.get(name)
        if value is None and "nounset" in self.options and name != "IFS":
            raise ExpansionError(f"{name}: {'parameter not set' if self.dialect == 'zsh' else 'unbound variable'}")
        return value

    def put(self, name: str, value: str) -> None:
        """Set a variable."""
        self.variables[name] = value
        if "allexport" in self.options:
            self.exported.add(name)

    def command_path(self, name: str) -> str | None:
        """Where a command is, or None."""
        from harness.simulator.posix.base import locate

        return locate(self.runner, name, self.cwd, self.variables.get("PATH", ""))

    def _expander(self, io: CommandIO) -> Expander:
        async def capture(body: tree.Block) -> str:
            chunks: list[bytes] = []
            size = 0

            async def collect(data: bytes) -> None:
                nonlocal size
                size += len(data)
                if size > MAX_CAPTURE:
                    raise BrokenPipeError
                chunks.append(data)

            child = self.fork()
            self._substituted = await child.run(body, _with(io, stdout=collect))
            self.status = self._substituted
            return b"".join(chunks).replace(b"\0", b"").decode("utf-8", "surrogateescape").rstrip("\n")

        return Expander(self, capture)

    # --- running

    async def run(self, script: tree.Block, io: CommandIO | None = None) -> int:
        """Run a whole script (or subshell) to its end; its exit code."""
        io = io or self.io
        try:
            try:
                code = await self.block(script, io)
            except ExitShell as leaving:
                code = leaving.code
            except Leave as leaving:
                code = self.status if leaving.kind != "return" else leaving.count
            except ExpansionError as error:
                await self.complain(io, str(error))
                code = 1
            except BrokenPipeError:
                code = 141
            if self.exit_trap:
                trap, self.exit_trap = self.exit_trap, ""
                self.status = code
                with contextlib.suppress(ExitShell, Leave):
                    await self.block(Parser(trap, self.dialect).parse(), io)
            return code
        finally:
            for closing in self._open:
                closing()

    async def complain(self, io: CommandIO, text: str) -> None:
        """An error message of the shell itself."""
        where = f"{self.name}:1: " if self.dialect == "zsh" else f"{self.name}: line 1: "
        with contextlib.suppress(BrokenPipeError):
            await io.stderr((where + text + "\n").encode("utf-8", "surrogateescape"))

    async def block(self, block: tree.Block, io: CommandIO) -> int:
        """Run a list of commands in this very shell."""
        for item in block.items:
            if item.background:
                self._start(item, io)
                self.status = 0
            else:
                self.status = await self._and_or(item, io)
        return self.status

    async def _and_or(self, item: tree.AndOr, io: CommandIO) -> int:
        last = len(item.parts) - 1
        for number, (operator, pipeline) in enumerate(item.parts):
            if (operator == "&&" and self.status != 0) or (operator == "||" and self.status == 0):
                continue
            guarded = number != last or pipeline.negated
            self._guarded += guarded
            try:
                self.status = await self._pipeline(pipeline, io)
            finally:
                self._guarded -= guarded
            if self.status and number == last and not guarded and not self._guarded and "errexit" in self.options:
                raise ExitShell(self.status)
        return self.status

    def _start(self, item: tree.AndOr, io: CommandIO) -> None:
        child = self.fork()
        # A job in the background does not read the shell's input
        child_io = _with(io, stdin=reader_of(b""))
        body = tree.Block((tree.AndOr(item.parts),))
        task = asyncio.get_running_loop().create_task(child.run(body, child_io))
        process = _spawn(self.runner, io.user, task)
        pid = str(process.pid) if process is not None else str(10000 + len(_KEPT))
        _KEPT.add(task)
        group = groups.current()
        if group is not None:
            group.add(task)
        holders = {id(self.io.stdout), id(self.io.stderr)}
        if tree.keeps_streams(item) and {id(io.stdout), id(io.stderr)} & holders:
            self.background.add(task)
        self.jobs.append((pid, task))
        self.last_background = pid

        def ended(done: asyncio.Task[int]) -> None:
            _KEPT.discard(done)
            self.background.discard(done)
            if process is not None:
                self.runner.processes.remove(process.pid)  # type: ignore[attr-defined]
            if not done.cancelled():
                done.exception()

        task.add_done_callback(ended)

    async def _pipeline(self, pipeline: tree.Pipeline, io: CommandIO) -> int:
        if len(pipeline.parts) == 1:
            code = await self.node(pipeline.parts[0], io)
        else:
            code = await self._piped(pipeline, io)
        return int(not code) if pipeline.negated else code

    async def _piped(self, pipeline: tree.Pipeline, io: CommandIO) -> int:
        pipes = [Pipe() for _ in pipeline.parts[1:]]
        count = len(pipeline.parts)

        async def part(number: int) -> int:
            last = number == count - 1
            here = self if last and self.dialect == "zsh" else self.fork()
            joined = not last and pipeline.joined[number + 1]
            out: Writer = io.stdout if last else pipes[number].write
            part_io = _with(
                io, stdin=pipes[number - 1].reader if number else None, stdout=out, stderr=out if joined else None
            )
            try:
                return await here.node(pipeline.parts[number], part_io)
            except ExitShell as leaving:
                return leaving.code
            except ExpansionError as error:
                await self.complain(io, str(error))
                return 1
            except BrokenPipeError:
                return 141
            finally:
                if not last:
                    pipes[number].close()
                if number:
                    pipes[number - 1].abandon()

        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(part(number)) for number in range(count)]
        try:
            codes = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        if "pipefail" in self.options:
            return next((code for code in reversed(codes) if code), 0)
        return codes[-1]

    async def node(self, node: tree.Node, io: CommandIO) -> int:
        """Run one command of any kind."""
        if isinstance(node, tree.Simple):
            return await self._simple(node, io)
        if isinstance(node, tree.Function):
            self.functions[node.name] = node.body
            return 0
        closers: list[Callable[[], object]] = []
        try:
            try:
                io = await self._redirected(node.redirects, io, closers)
            except RedirectError as error:
                await self.complain(io, str(error))
                return 1
            return await self._compound(node, io)
        finally:
            for close in closers:
                close()

    async def _compound(self, node: tree.Node, io: CommandIO) -> int:
        if isinstance(node, tree.Group):
            if not node.subshell:
                return await self.block(node.body, io)
            child = self.fork()
            return await child.run(node.body, io)
        if isinstance(node, tree.If):
            for condition, body in node.clauses:
                if await self._condition(condition, io) == 0:
                    return await self.block(body, io)
            return await self.block(node.otherwise, io) if node.otherwise else 0
        if isinstance(node, tree.Loop):
            code = 0
            while (await self._condition(node.condition, io) == 0) != node.negated:
                go_on, code = await self._turn(node.body, io)
                if not go_on:
                    break
                await asyncio.sleep(0)
            return code
        if isinstance(node, tree.For):
            code = 0
            words = self.arguments if node.words is None else await self._expander(io).words(node.words)
            for word in list(words):
                self.put(node.name, word)
                go_on, code = await self._turn(node.body, io)
                if not go_on:
                    break
            return code
        assert isinstance(node, tree.Case)
        return await self._case(node, io)

    async def _case(self, node: tree.Case, io: CommandIO) -> int:
        import re

        expander = self._expander(io)
        subject = await expander.text(node.word)
        for patterns, body in node.clauses:
            for pattern in patterns:
                if re.fullmatch(await expander.pattern(pattern), subject, re.DOTALL):
                    self.status = 0
                    return await self.block(body, io)
        return 0

    async def _condition(self, block: tree.Block, io: CommandIO) -> int:
        self._guarded += 1
        try:
            return await self.block(block, io)
        finally:
            self._guarded -= 1

    async def _turn(self, body: tree.Block, io: CommandIO) -> tuple[bool, int]:
        """One turn of a loop: whether to go on, and the status."""
        try:
            return True, await self.block(body, io)
        except Leave as leaving:
            if leaving.kind == "return":
                raise
            if leaving.count > 1:
                leaving.count -= 1
                raise
            return leaving.kind == "continue", 0

    # --- simple commands

    async def _simple(self, node: tree.Simple, io: CommandIO) -> int:
        from harness.simulator.shell_builtins import BUILTINS

        expander = self._expander(io)
        self._substituted = 0
        words = await expander.words(node.words)
        if "xtrace" in self.options and words:
            await io.stderr(("+ " + " ".join(words) + "\n").encode("utf-8", "surrogateescape"))
        closers: list[Callable[[], object]] = []
        permanent = words == ["exec"]
        try:
            try:
                inner = await self._redirected(node.redirects, io, closers)
            except RedirectError as error:
                await self.complain(io, str(error))
                return 1
            values = [(name, await expander.text(value)) for name, value in node.assignments]
            if not words:
                for name, value in values:
                    self.put(name, value)
                return self._substituted
            if permanent:
                self.io = inner
                io.stdin, io.stdout, io.stderr = inner.stdin, inner.stdout, inner.stderr
                self._open += closers
                closers = []
                return 0
            function = self.functions.get(words[0])
            if function is not None:
                return await self._call(function, words[1:], values, inner)
            builtin = BUILTINS.get(words[0])
            if builtin is not None:
                for name, value in values:
                    self.put(name, value)
                try:
                    return await builtin(self, inner, words)
                except BrokenPipeError:
                    raise
                except OSError as error:
                    await self.complain(io, f"{words[0]}: write error: {_reason(error)}")
                    return 1
            return await self.execute(words, inner, dict(values))
        finally:
            for close in closers:
                close()

    async def execute(self, words: list[str], io: CommandIO, extra: dict[str, str] | None = None) -> int:
        """Run a command that is none of the shell's own."""
        environment = {name: self.variables[name] for name in self.exported if name in self.variables}
        environment["PWD"] = self.cwd
        environment.update(extra or {})
        command_io = CommandIO(io.stdin, io.stdout, io.stderr, io.user, self.cwd, environment, io.tty)
        try:
            return await self.runner.execute(words, command_io)
        except BrokenPipeError:
            return 141

    async def _call(
        self, function: tree.Group, arguments: list[str], values: list[tuple[str, str]], io: CommandIO
    ) -> int:
        saved, self.arguments = self.arguments, arguments
        for name, value in values:
            self.put(name, value)
        try:
            return await self.node(function, io)
        except Leave as leaving:
            if leaving.kind != "return":
                raise
            return leaving.count
        finally:
            self.arguments = saved

    # --- redirections

    async def _redirected(
        self, redirects: tuple[tree.Redirect, ...], io: CommandIO, closers: list[Callable[[], object]]
    ) -> CommandIO:
        if not redirects:
            return io
        streams: dict[int, Any] = {0: io.stdin, 1: io.stdout, 2: io.stderr}
        expander = self._expander(io)
        for redirect in redirects:
            if redirect.op in ("<<", "<<<"):
                text = await expander.text(redirect.target) + ("\n" if redirect.op == "<<<" else "")
                streams[redirect.fd] = reader_of(text.encode("utf-8", "surrogateescape"))
                continue
            targets = await expander.fields(redirect.target)
            if len(targets) != 1:
                raise RedirectError("ambiguous redirect")
            target = targets[0]
            if redirect.op in (">&", "<&") and (target.isdigit() or target == "-"):
                if target == "-":
                    streams[redirect.fd] = reader_of(b"") if redirect.fd == 0 else closed
                elif int(target) not in streams:
                    raise RedirectError(f"{target}: bad file descriptor")
                else:
                    streams[redirect.fd] = streams[int(target)]
                continue
            if redirect.op == "<&":
                raise RedirectError(f"{target}: bad file descriptor")
            if redirect.op in ("<", "<>"):
                streams[redirect.fd] = self._open_read(target, closers, io)
                continue
            writer = self._open_write(target, redirect.op, closers, io, streams)
            if redirect.op in ("&>", "&>>", ">&"):
                streams[1] = streams[2] = writer
            else:
                streams[redirect.fd] = writer
        return _with(io, stdin=streams[0], stdout=streams[1], stderr=streams[2])

    def _open_read(self, target: str, closers: list[Callable[[], object]], io: CommandIO) -> asyncio.StreamReader:
        if target == "/dev/null":
            return reader_of(b"")
        if target in ("/dev/stdin", "/dev/fd/0"):
            return io.stdin
        try:
            path = self.disk.path(target, self.cwd)
            if path.is_dir():
                raise RedirectError(self._why(target, "is a directory"))
            reader, task = file_reader(path)
        except OSError as error:
            raise RedirectError(self._why(target, _reason(error))) from None
        if task is not None:
            closers.append(task.cancel)
        return reader

    def _open_write(
        self, target: str, operator: str, closers: list[Callable[[], object]], io: CommandIO, streams: dict[int, Any]
    ) -> Writer:
        if target == "/dev/null":
            return nowhere
        if target in ("/dev/stdout", "/dev/stderr"):
            writer: Writer = streams[1 if target.endswith("out") else 2]
            return writer
        try:
            path: Path = self.disk.path(target, self.cwd)
            if path.is_dir():
                raise RedirectError(self._why(target, "is a directory"))
            if not may_write(io.user, self.disk.guest(path)):
                raise PermissionError(13, os.strerror(13))
            append = ">>" in operator
            existed = path.exists()
            file = path.open("ab" if append else "wb", buffering=0)
            if not existed:
                path.chmod(0o666 & ~self.umask)
        except OSError as error:
            raise RedirectError(self._why(target, _reason(error))) from None
        closers.append(file.close)
        return file_writer(self.disk, file)

    def _why(self, target: str, reason: str) -> str:
        if self.dialect == "zsh":
            return f"{reason[0].lower()}{reason[1:]}: {target}"
        return f"{target}: {reason[0].upper()}{reason[1:]}"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _with(
    io: CommandIO,
    *,
    stdin: asyncio.StreamReader | None = None,
    stdout: Callable[[bytes], Awaitable[None]] | None = None,
    stderr: Callable[[bytes], Awaitable[None]] | None = None,
) -> CommandIO:
    return CommandIO(
        stdin or io.stdin, stdout or io.stdout, stderr or io.stderr, io.user, io.cwd, io.environment, io.tty
    )


def _spawn(runner: CommandRunner, user: str, task: asyncio.Task[Any]) -> Any:
    processes = getattr(runner, "processes", None)
    return None if processes is None else processes.spawn("zsh", "/bin/zsh", user, (), task=task)


def _own_pid(runner: CommandRunner) -> int:
    """`$$`: of the process that this task is in the table."""
    task = asyncio.current_task()
    return next((process.pid for process in getattr(runner, "processes", ()) if process.task is task), 4242)
