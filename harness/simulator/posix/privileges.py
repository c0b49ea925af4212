# ruff: noqa: ARG001 - all commands have one signature
"""Commands that run others: sudo sh bash zsh env nohup nice xargs time timeout-like helpers, and `su` refused."""

from __future__ import annotations

import re
import time as clock
from typing import Any

from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import CommandError, command, decode, host, options, out, whole
from harness.simulator.shell import run_script
from harness.simulator.streams import reader_of

TRIES = 3


def _home(user: str) -> str:
    return "/var/root" if user == "root" else f"/Users/{user}"


@command
async def sudo(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-S -n -k -K -v -E -H -i -s -b -p PROMPT -u USER --`.

    The images' administrator needs no password (a file in sudoers.d). With `-k -S`, or for a user who is none, the
    password is one line of stdin. sudo reads no more of stdin than that line.
    """
    words = argv[1:]
    flags: set[str] = set()
    user, prompt = "root", "Password:"
    extra: dict[str, str] = {}
    while words:
        word = words[0]
        assignment = re.fullmatch(r"([A-Za-z_]\w*)=(.*)", word, re.DOTALL)
        if assignment is not None:
            extra[assignment[1]] = assignment[2]
            words.pop(0)
            continue
        if not word.startswith("-") or word == "-":
            break
        words.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            letter = {"stdin": "S", "non-interactive": "n", "reset-timestamp": "k", "preserve-env": "E", "user": "u"}
            letter |= {"prompt": "p", "set-home": "H", "validate": "v", "login": "i", "shell": "s"}
            if name not in letter:
                raise CommandError(f"unrecognized option `--{name}'")
            word = "-" + letter[name]
            if letter[name] in "up":
                words.insert(0, value if equals else words.pop(0))
        for place, letter_ in enumerate(word[1:], 1):
            if letter_ in "upgCDhTUrt":
                value = word[place + 1 :] or (words.pop(0) if words else "")
                if letter_ == "u":
                    user = value
                elif letter_ == "p":
                    prompt = value
                break
            if letter_ not in "SnkKvEHisbAlP":
                raise CommandError(f"invalid option -- '{letter_}'")
            flags.add(letter_)
    # -k with a command only ignores cached credentials; the images' rule asks for none
    if not io.root and io.user != "admin":
        await _authenticate(runner, io, flags, prompt)
    if flags & {"v", "K"} or (flags & {"k"} and not words):
        return 0
    if user not in ("root", "admin") and _account(runner, user) is None:
        raise CommandError(f"unknown user {user}")
    environment = {key: value for key, value in io.environment.items() if "E" in flags or key in _KEPT}
    environment |= {
        "SUDO_USER": io.user,
        "SUDO_UID": _uid(runner, io.user),
        "SUDO_GID": "20",
        "USER": user,
        "LOGNAME": user,
        **extra,
    }
    environment.setdefault("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
    if flags & {"H", "i"}:
        environment["HOME"] = _home(user)
    if flags & {"i", "s"}:
        text = " ".join(re.sub(r"([^A-Za-z0-9_./=:,@%+-])", r"\\\1", word) for word in words)
        words = ["/bin/zsh", "-c", text] if text else ["/bin/zsh"]
    if not words:
        raise CommandError("a command is needed")
    cwd = _home(user) if "i" in flags else io.cwd
    inner = CommandIO(io.stdin, io.stdout, io.stderr, user, cwd, environment, io.tty)
    from harness.simulator.posix.base import locate

    if locate(runner, words[0], io.cwd, environment["PATH"]) is None:
        raise CommandError(f"{words[0]}: command not found")
    return await runner.execute(words, inner)


def _account(runner: CommandRunner, name: str) -> Any:
    """The guest's account of that name."""
    accounts = getattr(runner, "accounts", None)
    return accounts.get(name) if accounts is not None else None


def _uid(runner: CommandRunner, name: str) -> str:
    accounts = getattr(runner, "accounts", None)
    return str(accounts.uid(name)) if accounts is not None else "501"


_KEPT = frozenset({"HOME", "PATH", "TERM", "LANG", "LC_ALL", "TZ", "DISPLAY", "SSH_CLIENT", "SSH_CONNECTION", "SHELL"})


async def _authenticate(runner: CommandRunner, io: CommandIO, flags: set[str], prompt: str) -> None:
    login = getattr(runner, "ssh_login", None)
    if "n" in flags or login is None:
        raise CommandError("a password is required")
    if "S" not in flags:
        raise CommandError(
            "a terminal is required to read the password; either use the -S option to read from standard input"
        )
    for _ in range(TRIES):
        await io.stderr(prompt.encode())
        line = await io.stdin.readline()
        if not line:
            raise CommandError("no password was provided\nsudo: a password is required")
        if login(io.user, decode(line.rstrip(b"\n"))):
            account = _account(runner, io.user)
            if account is None or not account.administrator:
                raise CommandError(f"{io.user} is not in the sudoers file.")
            return
        await io.stderr(b"Sorry, try again.\n")
    raise CommandError(f"{TRIES} incorrect password attempts")


@command
async def sh(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`sh`, `bash`, `zsh`: `-c TEXT [NAME ARG…]`, `-l -e -u -x -i`, `-s` or no argument: stdin; a script file."""
    name = argv[0].rsplit("/", 1)[-1].lstrip("-")
    dialect = "zsh" if name == "zsh" else "bash"
    words = argv[1:]
    text: str | None = None
    before = ""
    take_text = stdin = False
    while words and re.fullmatch(r"[-+][A-Za-z]+|--[a-z]+", words[0]) and not take_text:
        word = words.pop(0)
        if word in ("--login", "--noprofile", "--norc", "--posix"):
            continue
        for letter in word[1:]:
            if letter == "c":
                take_text = True
            elif letter == "s":
                stdin = True
            elif letter in "eux":
                before += f"set -{letter}\n"
            elif letter == "o" and words:
                before += f"set -o {words.pop(0)}\n"
            elif letter not in "lifp":
                raise CommandError(f"-{letter}: invalid option", 2)
    if take_text:
        if not words:
            raise CommandError("-c: option requires an argument", 2)
        text = words.pop(0)
        if words:
            name = words.pop(0)
    elif words and not stdin:
        path = words.pop(0)
        try:
            text = host(runner, io, path).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            dash = "can't open input file: " if dialect == "zsh" else ""
            raise CommandError(f"{dash}{path}" + ("" if dash else ": No such file or directory"), 127) from None
        name = path
    else:
        text = decode(await whole(runner, io, "-"))
        io = CommandIO(reader_of(b""), io.stdout, io.stderr, io.user, io.cwd, io.environment, io.tty)
    inner = CommandIO(io.stdin, io.stdout, io.stderr, io.user, io.cwd, dict(io.environment), io.tty)
    return await run_script(runner, inner, before + text, dialect=dialect, name=name, arguments=words)


@command
async def env(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-i`, `-u NAME`, `NAME=value…`, a command; alone it prints the environment."""
    words = argv[1:]
    environment = dict(io.environment)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in ("-i", "-"):
            environment = {}
        elif word == "-u" and words:
            environment.pop(words.pop(0), None)
        elif word == "--":
            break
        else:
            raise CommandError(f"illegal option -- {word[1:]}")
    while words and re.match(r"[^=]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    if not words:
        for name, value in environment.items():
            await out(io, f"{name}={value}\n")
        return 0
    inner = CommandIO(io.stdin, io.stdout, io.stderr, io.user, io.cwd, environment, io.tty)
    return await _execute(runner, inner, words, "env")


async def _execute(runner: CommandRunner, io: CommandIO, words: list[str], name: str) -> int:
    from harness.simulator.posix.base import locate

    if locate(runner, words[0], io.cwd, io.environment.get("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")) is None:
        raise CommandError(f"{words[0]}: No such file or directory", 127)
    return await runner.execute(words, io)


@command
async def nohup(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Run a command; it goes on when the session ends, as all background jobs here do. Also `nice`."""
    words = argv[1:]
    name = argv[0].rsplit("/", 1)[-1]
    if name == "nice" and words[:1] == ["-n"]:
        words = words[2:]
    if not words:
        raise CommandError(f"usage: {name} utility [arg ...]", 127)
    return await _execute(runner, io, words, name)


@command
async def time(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Run a command and print how long it took (`-p` the portable form)."""
    words = argv[1:]
    portable = words[:1] == ["-p"]
    words = words[portable:]
    started = clock.monotonic()
    code = await runner.execute(words, io) if words else 0
    seconds = clock.monotonic() - started
    if portable:
        await io.stderr(f"real {seconds:.2f}\nuser 0.00\nsys 0.00\n".encode())
    else:
        await io.stderr(f"        {seconds:.2f} real         0.00 user         0.00 sys\n".encode())
    return code


@command
async def xargs(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-0`, `-n N`, `-I REPLACE`, `-r` (BSD never runs a command without words)."""
    given = options(argv, "0rtn:I:L:P:")
    template = given.words or ["echo"]
    data = decode(await whole(runner, io, "-"))
    if "0" in given:
        words = [word for word in data.split("\0") if word]
    elif "I" in given:
        words = [line.strip() for line in data.split("\n") if line.strip()]
    else:
        words = [_bare(word) for word in re.findall(r"(?:'[^'\n]*'|\"[^\"\n]*\"|\\.|[^\s'\"\\])+", data, re.DOTALL)]
    inner = CommandIO(reader_of(b""), io.stdout, io.stderr, io.user, io.cwd, io.environment, io.tty)
    if "I" in given:
        calls = [[part.replace(given.values["I"], word) for part in template] for word in words]
    else:
        size = int(given.values.get("n", given.values.get("L", "5000")))
        calls = [template + words[start : start + size] for start in range(0, len(words), size)]
    code = 0
    for call in calls:
        if await _execute(runner, inner, call, "xargs"):
            code = 1
    return code


def _bare(word: str) -> str:
    return re.sub(
        r"'([^'\n]*)'|\"([^\"\n]*)\"|\\(.)",
        lambda m: next(g for g in m.groups() if g is not None),
        word,
        flags=re.DOTALL,
    )


COMMANDS: dict[str, Command] = {
    "bash": sh,
    "env": env,
    "nice": nohup,
    "nohup": nohup,
    "sh": sh,
    "sudo": sudo,
    "time": time,
    "xargs": xargs,
    "zsh": sh,
}
