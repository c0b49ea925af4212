"""grep and sed, and the translation of POSIX regular expressions to Python's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import CommandError, command, decode, encode, host, lines, options, out, reason, warn

_CLASSES = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "space": r"\s",
    "upper": "A-Z",
    "lower": "a-z",
    "blank": " \\t",
    "xdigit": "0-9A-Fa-f",
    "punct": re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
}


def posix_regex(pattern: str, *, extended: bool) -> str:
    r"""A POSIX basic or extended expression as Python's. BSD's `\d \w \s \b` are kept (its enhanced mode)."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            following = pattern[at + 1]
            at += 2
            if following in "(){}|+?":
                # basic: the backslash makes it special; extended: plain
                special = not extended
                parts.append(following if special else "\\" + following)
            elif following == "<" or following == ">":
                parts.append(r"\b")
            elif following.isalnum():
                parts.append("\\" + following if following in "bBdDwWsSnt123456789" else following)
            else:
                parts.append("\\" + following)
        elif char == "[":
            end = _bracket_end(pattern, at)
            body = pattern[at + 1 : end]
            body = re.sub(r"\[:([a-z]+):\]", lambda m: "\0" + m[1] + "\0", body)
            negated = body.startswith("^")
            body = body[negated:].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
            body = body.replace("&&", "&\\&").replace("||", "|\\|").replace("~~", "~\\~").replace("--", "-\\-")
            body = re.sub("\0([a-z]+)\0", lambda m: _CLASSES.get(m[1], ""), body)
            parts.append(f"[{'^' if negated else ''}{body}]")
            at = end + 1
        elif char in "(){}|+?" and not extended:
            parts.append("\\" + char)
            at += 1
        elif char == "*" and (not parts or parts[-1] in ("(", "|", "^")):
            parts.append("\\*")
            at += 1
        elif char == "^" and not extended and parts and parts[-1] not in ("(", "|"):
            parts.append("\\^")
            at += 1
        elif char == "$" and not extended and at + 1 < len(pattern) and pattern[at + 1 : at + 3] not in ("\\)", "\\|"):
            parts.append("\\$")
            at += 1
        else:
            parts.append(r"(?=\Z)" if char == "$" else char)
            at += 1
    return "".join(parts)


def _bracket_end(pattern: str, at: int) -> int:
    index = at + 1
    if pattern[index : index + 1] == "^":
        index += 1
    if pattern[index : index + 1] == "]":
        index += 1
    while index < len(pattern) and pattern[index] != "]":
        if pattern.startswith("[:", index):
            close = pattern.find(":]", index)
            index = close + 1 if close > 0 else index
        index += 1
    if index >= len(pattern):
        raise CommandError("brackets ([ ]) not balanced", 2)
    return index


def compiled(pattern: str, *, extended: bool, fold: bool = False) -> re.Pattern[str]:
    """Compile it.

    Raises:
        CommandError: It is no expression (2).
    """
    try:
        return re.compile(posix_regex(pattern, extended=extended), re.IGNORECASE if fold else 0)
    except (re.error, OverflowError) as error:
        raise CommandError(f"{error}", 2) from None


@command
async def grep(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`-E -F -G -q -c -v -i -n -o -w -x -l -L -h -H -s -r -a -e P -f FILE -m N -A -B -C N`, `--line-buffered --color…`."""
    words = [argv[0]]
    for word in argv[1:]:
        long = {"--quiet": "-q", "--ignore-case": "-i", "--fixed-strings": "-F", "--count": "-c", "--recursive": "-r"}
        if word == "--line-buffered" or word.startswith("--colo") or word == "--text":
            continue
        words.append(long.get(word, word))
    given = options(words, "EFGPqcviynowxlLhHsrRaIUze:f:m:A:B:C:", permute=True)
    if "P" in given:
        raise CommandError("illegal option -- P", 2)
    flags = given.flags
    name = argv[0].rsplit("/", 1)[-1]
    patterns: list[str] = []
    if "e" in given:
        patterns += _all_values(words, "e")
    if "f" in given:
        text = host(runner, io, given.values["f"]).read_text(errors="surrogateescape")
        patterns += text.removesuffix("\n").split("\n")
    operands = list(given.words)
    if not patterns:
        if not operands:
            raise CommandError("usage: grep [-abcdDEFGHhIiJLlMmnOopqRSsUVvwXxZz] [pattern] [file ...]", 2)
        patterns = operands.pop(0).split("\n")
    fixed = "F" in flags or name == "fgrep"
    extended = "E" in flags or name == "egrep"
    sources = []
    for pattern in patterns:
        source = re.escape(pattern) if fixed else compiled(pattern, extended=extended).pattern
        source = f"(?:{source})"
        sources.append(rf"(?<!\w){source}(?!\w)" if "w" in flags else rf"\A{source}\Z" if "x" in flags else source)
    regex = re.compile("|".join(sources), re.IGNORECASE if flags & {"i", "y"} else 0)
    recursive = bool(flags & {"r", "R"})
    paths: list[str] = []
    for word in operands or (["."] if recursive else ["-"]):
        real = host(runner, io, word) if word != "-" else None
        if recursive and real is not None and real.is_dir():
            inner = sorted(item for item in real.rglob("*") if item.is_file() and not item.is_symlink())
            paths += [f"{word.rstrip('/')}/{item.relative_to(real)}" for item in inner]
        else:
            paths.append(word)
    named = ("H" in flags or len(paths) > 1 or recursive) and "h" not in flags
    before = int(given.values.get("B", given.values.get("C", "0")))
    after = int(given.values.get("A", given.values.get("C", "0")))
    search = _Search(flags, regex, before, after, int(given.values.get("m", "0")), io)
    found, failed = False, False
    for path in paths:
        try:
            found = await search.file(runner, path, named=named) or found
        except BrokenPipeError:
            raise
        except OSError as error:
            failed = True
            if "s" not in flags:
                await warn(io, name, f"{path}: {reason(error)}")
        if found and "q" in flags:
            return 0
    return 2 if failed and not (found and "q" in flags) else 0 if found else 1


def _all_values(argv: list[str], letter: str) -> list[str]:
    values = []
    index = 1
    while index < len(argv):
        word = argv[index]
        if word == "--":
            break
        if re.fullmatch(rf"-[A-Za-z]*{letter}", word) and index + 1 < len(argv):
            values += argv[index + 1].split("\n")
            index += 1
        elif word.startswith(f"-{letter}") and len(word) > 2:
            values += word[2:].split("\n")
        index += 1
    return values


@dataclass
class _Search:
    """One grep over its files."""

    flags: set[str]
    regex: re.Pattern[str]
    before: int
    after: int
    limit: int
    io: CommandIO

    async def file(self, runner: CommandRunner, path: str, *, named: bool) -> bool:
        """Whether anything was selected."""
        label = "(standard input)" if path == "-" else path
        count = 0
        number = 0
        shown = 0
        trailing = 0
        recent: list[tuple[int, str]] = []
        quiet = bool(self.flags & {"q", "c", "l", "L"})
        async for raw in lines(runner, self.io, path):
            number += 1
            text = decode(raw.removesuffix(b"\n"))
            if (self.regex.search(text) is not None) == ("v" not in self.flags):
                count += 1
                if "q" in self.flags:
                    return True
                if not quiet:
                    first = recent[0][0] if recent else number
                    if shown and first > shown + 1 and (self.before or self.after):
                        await out(self.io, "--\n")
                    for old, line in recent:
                        await self._show(label, old, line, "-", named=named)
                    await self._show(label, number, text, ":", named=named)
                    shown = number
                    trailing = self.after
                    recent = []
                if self.limit and count >= self.limit:
                    break
            elif trailing:
                trailing -= 1
                shown = number
                if not quiet:
                    await self._show(label, number, text, "-", named=named)
            elif self.before:
                recent = [*recent, (number, text)][-self.before :]
        if "c" in self.flags:
            await out(self.io, (f"{label}:" if named else "") + f"{count}\n")
        if ("l" in self.flags and count) or ("L" in self.flags and not count):
            await out(self.io, label + "\n")
        return bool(count)

    async def _show(self, label: str, number: int, text: str, mark: str, *, named: bool) -> None:
        prefix = (f"{label}{mark}" if named else "") + (f"{number}{mark}" if "n" in self.flags else "")
        if "o" in self.flags:
            if mark == ":":
                for match in self.regex.finditer(text):
                    if match[0]:
                        await out(self.io, prefix + match[0] + "\n")
            return
        await out(self.io, prefix + text + "\n")


@dataclass
class _Edit:
    """One command of a sed script."""

    first: str | int | re.Pattern[str] | None
    last: str | int | re.Pattern[str] | None
    negated: bool
    verb: str
    regex: re.Pattern[str] | None = None
    replacement: str = ""
    flags: str = ""
    active: bool = False

    def selects(self, number: int, text: str, *, is_last: bool) -> bool:
        """Whether the command applies to a line."""
        chosen = self._chosen(number, text, is_last=is_last)
        return chosen != self.negated

    def _one(self, address: str | int | re.Pattern[str], number: int, text: str, *, is_last: bool) -> bool:
        if isinstance(address, int):
            return number == address
        if isinstance(address, str):
            return is_last
        return address.search(text) is not None

    def _chosen(self, number: int, text: str, *, is_last: bool) -> bool:
        if self.first is None:
            return True
        if self.last is None:
            return self._one(self.first, number, text, is_last=is_last)
        if self.active:
            ends = (
                number >= self.last
                if isinstance(self.last, int)
                else self._one(self.last, number, text, is_last=is_last)
            )
            self.active = not ends
            return True
        if self._one(self.first, number, text, is_last=is_last):
            self.active = not (isinstance(self.last, int) and self.last <= number)
            return True
        return False


def _delimited(text: str, at: int, mark: str) -> tuple[str, int]:
    parts: list[str] = []
    while at < len(text) and text[at] != mark:
        if text[at] == "\\" and at + 1 < len(text):
            parts.append(mark if text[at + 1] == mark and mark not in "(){}|+?.*[]^$" else text[at : at + 2])
            at += 2
            continue
        parts.append(text[at])
        at += 1
    if at >= len(text):
        raise CommandError("1: unterminated substitute pattern")
    return "".join(parts), at + 1


def _edits(script: str, *, extended: bool) -> list[_Edit]:
    edits: list[_Edit] = []
    at = 0

    def blank() -> None:
        nonlocal at
        while at < len(script) and script[at] in " \t;\n":
            at += 1

    def address() -> str | int | re.Pattern[str] | None:
        nonlocal at
        if at < len(script) and script[at].isdigit():
            start = at
            while at < len(script) and script[at].isdigit():
                at += 1
            return int(script[start:at])
        if script[at : at + 1] == "$":
            at += 1
            return "$"
        if script[at : at + 1] == "/":
            pattern, at = _delimited(script, at + 1, "/")
            return compiled(pattern, extended=extended)
        return None

    while True:
        blank()
        if at >= len(script):
            return edits
        first = address()
        last = None
        if script[at : at + 1] == ",":
            at += 1
            last = address()
            if last is None:
                raise CommandError("1: expected context address")
        while script[at : at + 1] == " ":
            at += 1
        negated = script[at : at + 1] == "!"
        at += negated
        verb = script[at : at + 1]
        at += 1
        edit = _Edit(first, last, negated, verb)
        if verb in ("s", "y"):
            mark = script[at : at + 1]
            source, at = _delimited(script, at + 1, mark)
            edit.replacement, at = _delimited(script, at, mark)
            while at < len(script) and script[at] in "gpiI0123456789":
                edit.flags += script[at]
                at += 1
            if verb == "s":
                edit.regex = compiled(source, extended=extended, fold=bool(set(edit.flags) & {"i", "I"}))
            else:
                edit.flags = source
        elif verb not in ("p", "d", "q", "=") or not verb:
            raise CommandError(f'1: "{script[:60]}": invalid command code {verb}')
        while script[at : at + 1] == " ":
            at += 1
        if script[at : at + 1] not in ("", ";", "\n", "}"):
            raise CommandError(f'1: "{script[:60]}": extra characters at the end of {verb} command')
        edits.append(edit)


def _substituted(edit: _Edit, text: str) -> tuple[str, bool]:
    assert edit.regex is not None

    def replaced(match: re.Match[str]) -> str:
        def part(piece: re.Match[str]) -> str:
            found = piece[0]
            if found == "&":
                return match[0]
            if found[1:].isdigit():
                return match[int(found[1:])] or ""
            return {"n": "\n", "t": "\t"}.get(found[1:], found[1:])

        return re.sub(r"&|\\.", part, edit.replacement, flags=re.DOTALL)

    digits = "".join(char for char in edit.flags if char.isdigit())
    try:
        if not digits:
            new, count = edit.regex.subn(replaced, text, count=0 if "g" in edit.flags else 1)
            return new, count > 0
        for number, match in enumerate(edit.regex.finditer(text), 1):
            if number == int(digits):
                return text[: match.start()] + replaced(match) + text[match.end() :], True
    except IndexError:
        raise CommandError("1: \\N not defined in the RE") from None
    return text, False


@command
async def sed(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """`s y p d q =` with addresses; `-n -E -e SCRIPT -i SUFFIX` (BSD: the suffix is a word of its own)."""
    given = options(argv, "nErlue:i:f:", permute=True)
    operands = list(given.words)
    script = "\n".join(_all_values(argv, "e")) if "e" in given else (operands.pop(0) if operands else "")
    if "f" in given:
        raise CommandError("-f is not simulated")
    extended = bool(given.flags & {"E", "r"})
    if "i" in given:
        for path in operands:
            real = host(runner, io, path)
            edited: list[bytes] = []

            async def keep(data: bytes, edited: list[bytes] = edited) -> None:
                edited.append(data)

            await _sed(runner, io, [path], _edits(script, extended=extended), keep, silent="n" in given)
            real.write_bytes(b"".join(edited))
        return 0
    return await _sed(runner, io, operands or ["-"], _edits(script, extended=extended), io.stdout, silent="n" in given)


async def _sed(
    runner: CommandRunner, io: CommandIO, paths: list[str], edits: list[_Edit], write: object, *, silent: bool
) -> int:
    assert callable(write)
    code = 0
    number = 0
    held: bytes | None = None

    async def line(raw: bytes, *, is_last: bool) -> bool:
        nonlocal number
        number += 1
        text, end = decode(raw.removesuffix(b"\n")), b"\n" if raw.endswith(b"\n") else b""
        leave = False
        for edit in edits:
            if not edit.selects(number, text, is_last=is_last):
                continue
            if edit.verb == "d":
                return False
            if edit.verb == "s":
                text, changed = _substituted(edit, text)
                if changed and "p" in edit.flags:
                    await write(encode(text) + end)
            elif edit.verb == "y":
                text = text.translate(str.maketrans(edit.flags, edit.replacement))
            elif edit.verb == "p":
                await write(encode(text) + end)
            elif edit.verb == "=":
                await write(f"{number}\n".encode())
            elif edit.verb == "q":
                leave = True
                break
        if not silent:
            await write(encode(text) + end)
        return leave

    # A line is only known to be the last when the next one does not come: `$` waits for it, nothing else does
    waits = any("$" in (edit.first, edit.last) for edit in edits)
    for path in paths:
        try:
            async for raw in lines(runner, io, path):
                if not waits:
                    if await line(raw, is_last=False):
                        return code
                    continue
                if held is not None and await line(held, is_last=False):
                    return code
                held = raw
        except BrokenPipeError:
            raise
        except OSError as error:
            await warn(io, "sed", f"{path}: {reason(error)}")
            code = 1
    if held is not None:
        await line(held, is_last=True)
    return code


COMMANDS: dict[str, Command] = {"egrep": grep, "fgrep": grep, "grep": grep, "sed": sed}
