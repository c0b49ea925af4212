"""Small helpers of the guest's commands: printing, and reading options the way their manual pages say."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.simulator.interfaces import CommandIO

EX_USAGE = 64
EX_NOPERM = 77


async def say(io: CommandIO, text: str) -> None:
    """Print a text and a newline."""
    await io.stdout(f"{text}\n".encode())


async def complain(io: CommandIO, text: str) -> None:
    """Print a text and a newline on the error stream."""
    await io.stderr(f"{text}\n".encode())


class UsageMistake(Exception):
    """An option that the command does not know, or one without its value."""


class Parsed:
    """Options and operands of one call."""

    def __init__(self) -> None:
        self.flags: list[str] = []
        self.values: dict[str, str] = {}
        self.operands: list[str] = []

    def has(self, *names: str) -> bool:
        """Whether any of these flags was given."""
        return any(name in self.flags for name in names)

    def value(self, *names: str) -> str | None:
        """The value of the first of these options that was given."""
        return next((self.values[name] for name in names if name in self.values), None)


def parse(
    argv: list[str],
    *,
    flags: Collection[str] = (),
    values: Collection[str] = (),
    optional: Mapping[str, str] | None = None,
) -> Parsed:
    """Read options in Apple's way: one dash and a word, or two; `--name value` and `--name=value`; grouped single letters.

    Args:
        argv: Without the command's own name.
        flags: Options without a value, with their dashes.
        values: Options with a value.
        optional: Options whose value may be missing, with what then counts.

    Raises:
        UsageMistake: An unknown option, or a missing value.
    """
    parsed = Parsed()
    rest = list(argv)
    optional = optional or {}
    while rest:
        word = rest.pop(0)
        name, equals, inline = word.partition("=")
        if word == "--":
            parsed.operands += rest
            break
        if not word.startswith("-") or word == "-":
            parsed.operands.append(word)
        elif word in flags:
            parsed.flags.append(word)
        elif equals and name in values:
            parsed.values[name] = inline
        elif word in optional:
            parsed.values[word] = rest.pop(0) if rest and not rest[0].startswith("-") else optional[word]
        elif word in values:
            if not rest:
                raise UsageMistake(f"option requires an argument -- {word.lstrip('-')}")
            parsed.values[word] = rest.pop(0)
        elif not word.startswith("--") and len(word) > 2 and all(f"-{letter}" in flags for letter in word[1:]):
            parsed.flags += [f"-{letter}" for letter in word[1:]]
        else:
            raise UsageMistake(f"unrecognized option `{word}'")
    return parsed
