# ruff: noqa: ARG001 - all commands have one signature
"""Commands on text: echo printf cat head tail wc sort uniq cut tr tee true false sleep yes seq."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable

from harness.simulator.interfaces import Command, CommandIO, CommandRunner
from harness.simulator.posix.base import (
    CommandError,
    chunks,
    command,
    decode,
    encode,
    lines,
    open_source,
    options,
    out,
    reason,
    sink,
    warn,
    whole,
)

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", "e": "\x1b"}


def unescape(text: str) -> tuple[str, bool]:
    """Backslashes as echo and printf's %b read them; True if a backslash and c ended the output."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        if text[at] != "\\" or at + 1 == len(text):
            parts.append(text[at])
            at += 1
            continue
        match = re.compile(r"\\(?:0([0-7]{0,3})|x([0-9A-Fa-f]{1,2}))").match(text, at)
        if match is not None:
            code = int(match[1] or "0", 8) if match[1] is not None else int(match[2], 16)
            parts.append(bytes([code & 0xFF]).decode("utf-8", "surrogateescape"))
            at = match.end()
            continue
        letter = text[at + 1]
        if letter == "c":
            return "".join(parts), True
        parts.append(_ESCAPES.get(letter, "\\" + letter))
        at += 2
    return "".join(parts), False


@command
async def echo(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """/bin/echo: `-n`, no escapes."""
    words = argv[1:]
    newline = "\n"
    if words[:1] == ["-n"]:
        words, newline = words[1:], ""
    await out(io, " ".join(words) + newline)
    return 0


@command
async def printf(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """The format is used again until all arguments are."""
    words = argv[1:]
    if words[:1] == ["--"]:
        words = words[1:]
    if not words:
        raise CommandError("usage: printf format [arguments ...]")
    pattern, arguments = words[0], words[1:]
    code = 0
    produced: list[str] = []
    while True:
        before = len(arguments)
        text, stop, wrong = _format(pattern, arguments)
        produced.append(text)
        for word in wrong:
            await warn(io, "printf", f"{word}: expected numeric value")
            code = 1
        if stop or not arguments or len(arguments) == before:
            break
    await out(io, "".join(produced))
    return code


def _format(pattern: str, arguments: list[str]) -> tuple[str, bool, list[str]]:
    produced: list[str] = []
    wrong: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            end = at + 2
            match = re.compile(r"\\([0-7]{1,3})|\\x[0-9A-Fa-f]{1,2}").match(pattern, at)
            if match is not None:
                end = match.end()
                source = f"\\0{match[1]}" if match[1] else match[0]
            else:
                source = pattern[at:end]
            text, stop = unescape(source)
            produced.append(text)
            if stop:
                return "".join(produced), True, wrong
            at = end
            continue
        match = re.compile(r"%([-+ 0#]*)(\*|\d+)?(?:\.(\*|\d+))?([diouxXeEfgGcsbq%])").match(pattern, at)
        if char != "%" or match is None:
            produced.append(char)
            at += 1
            continue
        at = match.end()
        kind = match[4]
        if kind == "%":
            produced.append("%")
            continue
        width = arguments.pop(0) if match[2] == "*" and arguments else match[2] or ""
        precision = arguments.pop(0) if match[3] == "*" and arguments else match[3]
        argument = arguments.pop(0) if arguments else None
        spec = f"%{match[1]}{width}" + ("" if precision is None else f".{precision}")
        if kind in "sbcq":
            value = argument or ""
            stop = False
            if kind == "b":
                value, stop = unescape(value)
            elif kind == "c":
                value = value[:1]
            elif kind == "q":
                import shlex

                value = shlex.quote(value)
            produced.append((spec + "s") % value)
            if stop:
                return "".join(produced), True, wrong
            continue
        number = _number(argument or "0", floating=kind in "eEfgG")
        if number is None:
            wrong.append(argument or "")
            number = 0
        produced.append((spec + ("d" if kind in "iu" else kind)) % number)
    return "".join(produced), False, wrong


def _number(text: str, *, floating: bool) -> int | float | None:
    if text[:1] in "'\"" and len(text) > 1:
        return ord(text[1])
    try:
        return float(text) if floating else int(text, 0) if not re.fullmatch(r"[-+]?0\d+", text) else int(text, 8)
    except ValueError:
        return None


@command
async def cat(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Files one after the other; `-n` numbers lines."""
    given = options(argv, "nbuvet")
    if given.flags - {"n", "u"}:
        raise CommandError(f"option -{min(given.flags - {'n', 'u'})} is not simulated")
    code = 0
    number = 0
    for path in given.words or ["-"]:
        try:
            if "n" in given:
                async for line in lines(runner, io, path):
                    number += 1
                    await io.stdout(f"{number:6d}\t".encode() + line)
            else:
                async for data in chunks(runner, io, path):
                    await io.stdout(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            await warn(io, "cat", f"{path}: {reason(error)}")
            code = 1
    return code


def _dash_number(argv: list[str]) -> list[str]:
    """`head -5` is `head -n 5`."""
    return [argv[0], *(f"-n{word[1:]}" if re.fullmatch(r"-\d+", word) else word for word in argv[1:])]


@command
async def head(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """The first lines (`-n`) or bytes (`-c`)."""
    given = options(_dash_number(argv), "n:c:")
    count = int(given.values.get("c", given.values.get("n", "10")))
    for number, path in enumerate(given.words or ["-"]):
        if len(given.words) > 1:
            await out(io, ("\n" if number else "") + f"==> {path} <==\n")
        left = count
        if left <= 0:
            continue
        if "c" in given:
            async for data in chunks(runner, io, path):
                await io.stdout(data[:left])
                left -= len(data)
                if left <= 0:
                    break
        else:
            async for line in lines(runner, io, path):
                await io.stdout(line)
                left -= 1
                if left <= 0:
                    break
    return 0


@command
async def tail(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """The last lines (`-n N`), from a line on (`-n +N`), bytes (`-c`); `-f`/`-F` goes on with what is added."""
    given = options(_dash_number(argv), "n:c:fFq")
    unit = "c" if "c" in given else "n"
    text = given.values.get(unit, "10")
    code = 0
    for number, path in enumerate(given.words or ["-"]):
        if len(given.words) > 1 and "q" not in given:
            await out(io, ("\n" if number else "") + f"==> {path} <==\n")
        try:
            data = await whole(runner, io, path)
        except OSError as error:
            await warn(io, "tail", f"{path}: {reason(error)}")
            code = 1
            if "F" not in given:
                continue
            data = b""
        amount = int(text.lstrip("+-"))
        if unit == "c":
            shown = data[amount - 1 if amount else 0 :] if text.startswith("+") else data[-amount:] if amount else b""
        else:
            all_lines = data.splitlines(keepends=True)
            if text.startswith("+"):
                shown = b"".join(all_lines[max(0, amount - 1) :])
            else:
                shown = b"".join(all_lines[-amount:]) if amount else b""
        await io.stdout(shown)
        if given.flags & {"f", "F"} and path != "-":
            await _follow(runner, io, path, len(data))
    return code


async def _follow(runner: CommandRunner, io: CommandIO, path: str, at: int) -> None:
    while True:
        await asyncio.sleep(0.1)
        try:
            _, file = open_source(runner, io, path)
        except OSError:
            continue
        assert file is not None
        with file:
            size = os.fstat(file.fileno()).st_size
            if size < at:
                at = 0
            if size > at:
                file.seek(at)
                data = file.read(size - at)
                at += len(data)
                await io.stdout(data)


@command
async def wc(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Lines, words, bytes; numbers in eight columns each, as BSD prints them."""
    given = options(argv, "lwcm")
    shown = [letter for letter in "lwcm" if letter in given] or ["l", "w", "c"]
    totals = dict.fromkeys(shown, 0)
    code = 0
    for path in given.words or [""]:
        counts = dict.fromkeys("lwcm", 0)
        try:
            data = await whole(runner, io, path or "-")
        except OSError as error:
            await warn(io, "wc", f"{path}: open: {reason(error)}")
            code = 1
            continue
        counts.update(l=data.count(b"\n"), w=len(data.split()), c=len(data), m=len(decode(data)))
        for letter in shown:
            totals[letter] += counts[letter]
        await out(io, "".join(f" {counts[letter]:7d}" for letter in shown) + (f" {path}" if path else "") + "\n")
    if len(given.words) > 1:
        await out(io, "".join(f" {totals[letter]:7d}" for letter in shown) + " total\n")
    return code


@command
async def sort(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """By bytes; `-r -n -u -f`, `-k N[,M]`, `-t C`, `-o file`."""
    given = options(argv, "rnufk:t:o:z", permute=True)
    data = b"".join([await whole(runner, io, path) for path in given.words or ["-"]])
    end = b"\0" if "z" in given else b"\n"
    rows = data.split(end)
    if rows and not rows[-1]:
        rows.pop()
    key = _sort_key(given.values.get("k"), given.values.get("t"), numeric="n" in given, fold="f" in given)
    rows.sort(key=lambda row: (key(row), row), reverse="r" in given)
    if "u" in given:
        seen: set[object] = set()
        rows = [row for row in rows if key(row) not in seen and not seen.add(key(row))]  # type: ignore[func-returns-value]
    with sink(runner, io, given.values.get("o", "-")) as write:
        await write(b"".join(row + end for row in rows))
    return 0


def _sort_key(spec: str | None, separator: str | None, *, numeric: bool, fold: bool) -> Callable[[bytes], object]:
    match = re.fullmatch(r"(\d+)(n?)(r?)(?:,(\d+)n?)?", spec) if spec else None
    if spec and (match is None or match[3]):
        raise CommandError(f"-k {spec} is not simulated", 2)
    numeric = numeric or bool(match and match[2])

    def key(row: bytes) -> object:
        part = row
        if match is not None:
            fields = row.split(encode(separator)) if separator else row.split()
            part = (encode(separator or " ")).join(fields[int(match[1]) - 1 : int(match[4]) if match[4] else None])
        if numeric:
            number = re.match(rb"\s*(-?\d*\.?\d*)", part)
            try:
                return float(number[1]) if number and number[1] else 0.0
            except ValueError:
                return 0.0
        return part.upper() if fold else part

    return key


@command
async def uniq(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Neighbouring lines once; `-c -d -u`."""
    given = options(argv, "cdu")
    previous: bytes | None = None
    count = 0

    async def flush() -> None:
        if previous is None or ("d" in given and count < 2) or ("u" in given and count > 1):
            return
        await io.stdout((f"{count:4d} ".encode() if "c" in given else b"") + previous + b"\n")

    async for line in lines(runner, io, (given.words or ["-"])[0]):
        bare = line.removesuffix(b"\n")
        if bare == previous:
            count += 1
            continue
        await flush()
        previous, count = bare, 1
    await flush()
    return 0


def _ranges(text: str) -> Callable[[int], bool]:
    spans = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)?(-)?(\d+)?", part)
        if match is None or not part or part == "-":
            raise CommandError(f"[-bcf] list: illegal list value {part!r}")
        first = int(match[1] or 1)
        last = int(match[3]) if match[3] else (10**9 if match[2] else first)
        spans.append((first, last))
    return lambda number: any(first <= number <= last for first, last in spans)


@command
async def cut(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Fields (`-f` with `-d`), characters (`-c`), bytes (`-b`)."""
    given = options(argv, "f:d:c:b:s")
    for path in given.words or ["-"]:
        async for line in lines(runner, io, path):
            text = decode(line.removesuffix(b"\n"))
            if "f" in given:
                delimiter = given.values.get("d", "\t")
                keep = _ranges(given.values["f"])
                if delimiter not in text:
                    if "s" not in given:
                        await out(io, text + "\n")
                    continue
                parts = [part for number, part in enumerate(text.split(delimiter), 1) if keep(number)]
                await out(io, delimiter.join(parts) + "\n")
            else:
                keep = _ranges(given.values.get("c") or given.values.get("b") or "")
                await out(io, "".join(char for number, char in enumerate(text, 1) if keep(number)) + "\n")
    return 0


def _set(text: str) -> str:
    text = unescape(text)[0]
    text = text.replace("[:space:]", " \t\n\r\f\v").replace("[:digit:]", "0-9")
    text = text.replace("[:lower:]", "a-z").replace("[:upper:]", "A-Z")
    text = text.replace("[:alnum:]", "A-Za-z0-9").replace("[:alpha:]", "A-Za-z")
    return re.sub(r"(.)-(.)", lambda m: "".join(map(chr, range(ord(m[1]), ord(m[2]) + 1))), text, flags=re.DOTALL)


@command
async def tr(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Translate, `-d` delete, `-s` squeeze, `-c` complement (with -d or one character)."""
    given = options(argv, "dscC")
    if not given.words:
        raise CommandError("usage: tr [-Ccsu] string1 string2")
    first = _set(given.words[0])
    second = _set(given.words[1]) if len(given.words) > 1 else ""
    complement = bool(given.flags & {"c", "C"})

    def inside(char: str) -> bool:
        return (char in first) != complement

    text = decode(await whole(runner, io, "-"))
    if "d" in given:
        text = "".join(char for char in text if not inside(char))
    elif second:
        second = second.ljust(len(first), second[-1])
        text = "".join(
            (second[-1] if complement else second[first.index(char)]) if inside(char) else char for char in text
        )
    if "s" in given:
        squeezed = second if second else first
        text = re.sub(f"([{re.escape(squeezed)}])\\1+", r"\1", text) if squeezed else text
    await out(io, text)
    return 0


@command
async def tee(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """To stdout and files; `-a` appends."""
    import contextlib

    given = options(argv, "ai")
    code = 0
    with contextlib.ExitStack() as stack:
        writers = [io.stdout]
        for path in given.words:
            try:
                writers.append(stack.enter_context(sink(runner, io, path, append="a" in given)))
            except OSError as error:
                await warn(io, "tee", f"{path}: {reason(error)}")
                code = 1
        async for data in chunks(runner, io, "-"):
            for write in writers:
                await write(data)
    return code


@command
async def true(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Success."""
    return 0


@command
async def false(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Failure."""
    return 1


@command
async def sleep(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Seconds, or with s, m, h behind."""
    total = 0.0
    for word in argv[1:]:
        match = re.fullmatch(r"(\d*\.?\d+)([smhd]?)", word)
        if match is None:
            raise CommandError(f"invalid time interval: {word}")
        total += float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    await asyncio.sleep(total)
    return 0


@command
async def yes(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """A line for ever."""
    line = encode((" ".join(argv[1:]) or "y") + "\n")
    while True:
        await io.stdout(line * 512)
        await asyncio.sleep(0)


@command
async def seq(runner: CommandRunner, io: CommandIO, argv: list[str]) -> int:
    """Numbers from 1, or from the first argument, on."""
    numbers = [int(word) for word in argv[1:]]
    first, step, last = [*numbers, 1][0], 1, numbers[-1]
    if len(numbers) == 1:
        first = 1
    elif len(numbers) == 3:
        step = numbers[1]
    await out(io, "".join(f"{n}\n" for n in range(first, last + (1 if step > 0 else -1), step)))
    return 0


COMMANDS: dict[str, Command] = {
    "cat": cat,
    "cut": cut,
    "echo": echo,
    "false": false,
    "head": head,
    "printf": printf,
    "seq": seq,
    "sleep": sleep,
    "sort": sort,
    "tail": tail,
    "tee": tee,
    "tr": tr,
    "true": true,
    "uniq": uniq,
    "wc": wc,
    "yes": yes,
}
