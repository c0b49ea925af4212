# ruff: noqa: ARG001 - all commands have one signature
"""The shell's own commands: those that change the shell itself. The rest are programs of `posix/`."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable

from harness.simulator import shell_words
from harness.simulator.interfaces import CommandIO
from harness.simulator.shell import ExitShell, Leave, Shell
from harness.simulator.shell_syntax import Parser

Builtin = Callable[[Shell, CommandIO, list[str]], Awaitable[int]]

OPTION_LETTERS = {"e": "errexit", "u": "nounset", "x": "xtrace", "a": "allexport", "f": "noglob"}
OPTION_NAMES = frozenset({"errexit", "nounset", "xtrace", "allexport", "pipefail"})


async def cd(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Change the directory; `-` goes back, `-P` resolves links."""
    words = [word for word in argv[1:] if word not in ("-P", "-L", "--")]
    if len(words) > 1:
        await shell.complain(
            io, "cd: too many arguments" if shell.dialect == "bash" else f"cd: string not in pwd: {words[0]}"
        )
        return 1
    target = words[0] if words else shell.get("HOME") or "/"
    if target == "-":
        target = shell.variables.get("OLDPWD", shell.cwd)
        await io.stdout(target.encode("utf-8", "surrogateescape") + b"\n")
    parts: list[str] = []
    start = target if target.startswith("/") else f"{shell.cwd}/{target}"
    for part in start.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    path = "/" + "/".join(parts)
    why = ""
    try:
        host = shell.disk.path(path)
        if not host.is_dir():
            why = "not a directory" if host.exists() else "no such file or directory"
    except OSError:
        why = "no such file or directory"
    if why:
        bash = f"cd: {target}: {why[0].upper()}{why[1:]}"
        await shell.complain(io, bash if shell.dialect == "bash" else f"cd: {why}: {target}")
        return 1
    shell.variables["OLDPWD"] = shell.cwd
    shell.cwd = shell.disk.guest(host) if "-P" in argv else path
    return 0


async def pwd(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """The directory; `-P` without links."""
    text = shell.disk.guest(shell.disk.path(shell.cwd)) if "-P" in argv else shell.cwd
    await io.stdout(text.encode("utf-8", "surrogateescape") + b"\n")
    return 0


async def echo(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """In zsh it reads backslashes unless `-E`, in bash only with `-e`."""
    words = argv[1:]
    newline, escapes = True, shell.dialect == "zsh"
    while words and re.fullmatch(r"-[neE]+", words[0]):
        for letter in words.pop(0)[1:]:
            newline = newline and letter != "n"
            escapes = letter == "e" if letter in "eE" else escapes
    text = " ".join(words)
    if escapes:
        from harness.simulator.posix.text import unescape

        text, stop = unescape(text)
        newline = newline and not stop
    await io.stdout(text.encode("utf-8", "surrogateescape") + (b"\n" if newline else b""))
    return 0


async def export(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """`export name=value…`; without arguments, a list."""
    words = [word for word in argv[1:] if word != "-p"]
    if not words:
        for name in sorted(shell.exported & set(shell.variables)):
            await io.stdout(f"{name}={shell.variables[name]}\n".encode("utf-8", "surrogateescape"))
        return 0
    for word in words:
        name, equals, value = word.partition("=")
        if not shell_words.NAME.fullmatch(name):
            await shell.complain(io, f"{argv[0]}: not valid in this context: {name}")
            return 1
        if equals:
            shell.put(name, value)
        shell.exported.add(name)
    return 0


async def assign(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """`local`, `readonly`, `typeset` without options: sets variables (of the whole shell)."""
    for word in argv[1:]:
        name, _, value = word.partition("=")
        if not shell_words.NAME.fullmatch(name):
            await shell.complain(io, f"{argv[0]}: not valid in this context: {word}")
            return 1
        shell.put(name, value)
    return 0


async def unset(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Forget variables and functions."""
    for name in argv[1:]:
        shell.variables.pop(name, None)
        shell.functions.pop(name, None)
        shell.exported.discard(name)
    return 0


async def set_(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Options `-e -u -x -a -o name` and the positional parameters."""
    words = argv[1:]
    while words:
        word = words[0]
        if word == "--":
            shell.arguments = words[1:]
            return 0
        if not re.fullmatch(r"[-+][A-Za-z]+", word):
            shell.arguments = words
            return 0
        words.pop(0)
        change = shell.options.add if word[0] == "-" else shell.options.discard
        for letter in word[1:]:
            if letter == "o":
                name = (words.pop(0) if words else "").replace("_", "").lower()
                name = {"errreturn": "errexit"}.get(name, name)
            else:
                name = OPTION_LETTERS.get(letter, "")
            if name not in OPTION_NAMES:
                await shell.complain(io, f"set: bad option: {word}")
                return 1
            change(name)
    return 0


async def setopt(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Zsh's names for options; those that change how words are read are refused, not ignored."""
    for word in argv[1:]:
        name = word.replace("_", "").lower()
        if name not in OPTION_NAMES:
            await shell.complain(io, f"{argv[0]}: no such option: {word}")
            return 1
        (shell.options.add if argv[0] == "setopt" else shell.options.discard)(name)
    return 0


async def exit_(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Leave the shell."""
    raise ExitShell(_number(argv[1] if len(argv) > 1 else "", shell.status))


async def return_(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Leave the function."""
    raise Leave("return", _number(argv[1] if len(argv) > 1 else "", shell.status))


async def leave_loop(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """`break` and `continue`."""
    raise Leave(argv[0], max(1, _number(argv[1] if len(argv) > 1 else "", 1)))


async def shift(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Drop the first parameters."""
    count = _number(argv[1] if len(argv) > 1 else "", 1)
    if count > len(shell.arguments):
        await shell.complain(io, "shift: shift count must be <= $#")
        return 1
    del shell.arguments[:count]
    return 0


async def read(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """One line of input into variables."""
    raw = False
    names = []
    for word in argv[1:]:
        if word == "-r":
            raw = True
        elif word.startswith("-"):
            await shell.complain(io, f"read: bad option: {word}")
            return 1
        else:
            names.append(word)
    data = await io.stdin.readline()
    text = data.decode("utf-8", "surrogateescape").removesuffix("\n")
    if not raw:
        while text.endswith("\\") and data.endswith(b"\n"):
            data = await io.stdin.readline()
            text = text[:-1] + data.decode("utf-8", "surrogateescape").removesuffix("\n")
        text = re.sub(r"\\(.)", r"\1", text)
    names = names or ["REPLY"]
    separators = shell.variables.get("IFS", " \t\n")
    if separators:
        text = text.strip("".join(c for c in separators if c in " \t\n"))
        pattern = "[" + re.escape(separators) + "]+" if not separators.strip() else "[" + re.escape(separators) + "]"
        pieces = re.split(pattern, text, maxsplit=len(names) - 1)
    else:
        pieces = [text]
    for number, name in enumerate(names):
        shell.put(name, pieces[number] if number < len(pieces) else "")
    return 0 if data.endswith(b"\n") else 1


async def eval_(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Run text in this shell."""
    try:
        script = Parser(" ".join(argv[1:]), shell.dialect).parse()
    except shell_words.ParseError as error:
        await shell.complain(io, str(error))
        return 1
    shell.status = 0
    return await shell.block(script, io)


async def source(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Run a file in this shell."""
    try:
        text = shell.disk.path(argv[1], shell.cwd).read_text(errors="surrogateescape")
    except (OSError, IndexError):
        await shell.complain(io, f"{argv[0]}: no such file or directory: {(argv[1:] or [''])[0]}")
        return 127
    return await eval_(shell, io, ["eval", text])


async def exec_(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Become a command: run it, then leave with its code."""
    raise ExitShell(await shell.execute(argv[1:], io))


async def command(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """`command -v name`, or run a command past functions."""
    words = argv[1:]
    if words[:1] in (["-v"], ["-V"]):
        code = 0
        for name in words[1:]:
            found = name if name in BUILTINS or name in shell.functions else shell.command_path(name)
            if found is None:
                code = 1
            else:
                await io.stdout(found.encode("utf-8", "surrogateescape") + b"\n")
        return code
    if words[:1] == ["-p"]:
        words = words[1:]
    if not words:
        return 0
    builtin = BUILTINS.get(words[0])
    return await builtin(shell, io, words) if builtin else await shell.execute(words, io)


async def which(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Where commands are; `type` says it in words."""
    code = 0
    for name in [word for word in argv[1:] if not word.startswith("-")]:
        found = shell.command_path(name)
        if name in BUILTINS:
            text = f"{name} is a shell builtin" if argv[0] == "type" else f"{name}: shell built-in command"
        elif found is not None:
            text = f"{name} is {found}" if argv[0] == "type" else found
        else:
            text, code = f"{name} not found", 1
        await io.stdout(text.encode("utf-8", "surrogateescape") + b"\n")
    return code


async def wait(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Wait for background jobs: all, or those of the given pids."""
    code = 0
    jobs = [job for job in shell.jobs if len(argv) == 1 or job[0] in argv[1:]]
    if len(argv) > 1 and not jobs:
        await shell.complain(io, f"wait: pid {argv[1]} is not a child of this shell")
        return 127
    for _, task in jobs:
        try:
            code = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                raise
            code = 143
    return code if len(argv) > 1 else 0


async def trap(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """`trap text EXIT`; ignoring a signal is accepted, other traps are refused."""
    if len(argv) < 3:
        return 0
    text = argv[1]
    for name in argv[2:]:
        if name in ("EXIT", "0"):
            shell.exit_trap = "" if text == "-" else text
        elif text not in ("", "-"):
            await shell.complain(io, f"trap: {name}: the simulated shell traps EXIT only")
            return 1
    return 0


async def umask(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """The mask for new files."""
    if len(argv) == 1:
        await io.stdout(f"{shell.umask:03o}\n".encode())
        return 0
    if not re.fullmatch(r"[0-7]{1,4}", argv[1]):
        await shell.complain(io, f"umask: bad umask: {argv[1]}")
        return 1
    shell.umask = int(argv[1], 8)
    return 0


async def ulimit(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Limits are not kept; asking says unlimited."""
    if not argv[1:] or argv[-1].startswith("-"):
        await io.stdout(b"unlimited\n")
    return 0


async def true(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Success."""
    return 0


async def disown(shell: Shell, io: CommandIO, argv: list[str]) -> int:
    """Background jobs go on anyway; forget them."""
    with contextlib.suppress(IndexError):
        shell.jobs.pop()
    return 0


def _number(text: str, default: int) -> int:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else default


BUILTINS: dict[str, Builtin] = {
    ".": source,
    ":": true,
    "break": leave_loop,
    "builtin": command,
    "cd": cd,
    "command": command,
    "continue": leave_loop,
    "disown": disown,
    "echo": echo,
    "eval": eval_,
    "exec": exec_,
    "exit": exit_,
    "export": export,
    "local": assign,
    "pwd": pwd,
    "read": read,
    "readonly": assign,
    "return": return_,
    "set": set_,
    "setopt": setopt,
    "shift": shift,
    "source": source,
    "trap": trap,
    "type": which,
    "ulimit": ulimit,
    "umask": umask,
    "unset": unset,
    "unsetopt": setopt,
    "wait": wait,
    "whence": which,
    "which": which,
}
