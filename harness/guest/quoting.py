"""A command as one line for the guest's login shell, so that every word arrives exactly as it is here.

The login shell of a Mac is zsh, of other counterparts bash or sh. All of them read single quotes alike; zsh however also
expands a bare `=name`, and any of them treats some bare first words specially. So only words that are certainly harmless
stay bare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.errors import HarnessError

_BARE = re.compile(rb"[A-Za-z0-9_@%+:,./-]+\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def quote(word: str | bytes) -> bytes:
    """One word, quoted if need be.

    Raises:
        HarnessError: It holds a NUL, which no argument of a process can.
    """
    data = word if isinstance(word, bytes) else word.encode("utf-8", errors="surrogateescape")
    if b"\0" in data:
        raise HarnessError("a word without NUL for a command in the guest", seen=repr(word)[:200])
    if _BARE.match(data):
        return data
    return b"'" + data.replace(b"'", b"'\"'\"'") + b"'"


def command_line(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    prefix: Sequence[str] = (),
) -> bytes:
    """The line that runs `argv` and nothing else.

    Args:
        argv: The command and its arguments; at least one word.
        env: More environment, given through env(1): no shell reads the values.
        cwd: The folder to run it in.
        prefix: Words before it (`sudo -n --`).

    Raises:
        HarnessError: An empty command, a name no variable can have, a NUL, or a command that starts with `-` or holds
            `=` where env(1) would misread it.
    """
    words = list(argv)
    if not words or not words[0]:
        raise HarnessError("a command to run in the guest", seen=f"{words!r}")
    if words[0].startswith("-") or ((env or prefix) and "=" in words[0]):
        raise HarnessError("a command whose name is not an option or assignment", seen=repr(words[0]))
    front = list(prefix)
    if env:
        for name in env:
            if not _NAME.match(name):
                raise HarnessError("a name that an environment variable can have", seen=repr(name))
        front += ["/usr/bin/env", *(f"{name}={value}" for name, value in env.items())]
    line = b" ".join(quote(word) for word in [*front, *words])
    first = (front or words)[0]
    if b"/" not in quote(first) and not line.startswith(b"'"):
        # A bare word could be a reserved one (`time`, `if`) or an alias; a quoted one is only ever a command.
        line = b"'" + first.encode() + b"'" + line[len(first.encode()) :]
    if cwd is not None:
        line = b"cd " + quote(cwd if not cwd.startswith("-") else f"./{cwd}") + b" && " + line
    return line
