"""plutil, defaults, PlistBuddy: the parts of them that scripts use."""

from __future__ import annotations

import json
import plistlib
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.simulator.guest.commands.arguments import UsageMistake, complain, parse, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.interfaces import CommandIO

MAX_PLIST = 16 * 1024 * 1024


def _read(path: Path) -> Any:
    """The property list (also JSON) in a file.

    Raises:
        ValueError: It is none.
        OSError: It cannot be read.
    """
    if path.stat().st_size > MAX_PLIST:
        raise ValueError("too large")
    data = path.read_bytes()
    try:
        return plistlib.loads(data)
    except Exception:  # noqa: BLE001 - plistlib raises what its parsers raise; JSON is the other form plutil reads
        return json.loads(data)


async def plutil(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`plutil -p X`, `-convert xml1|binary1|json [-o OUT|-] X`, `-lint X`, `-extract KEYPATH raw|xml1|json [-o -] X`."""
    words = argv[1:]
    extract: tuple[str, str] | None = None
    if "-extract" in words and len(words) > words.index("-extract") + 2:
        index = words.index("-extract")
        extract = (words[index + 1], words[index + 2])
        words = words[:index] + words[index + 3 :]
    try:
        given = parse(words, flags=("-p", "-lint", "-s", "-r", "-n"), values=("-convert", "-o", "-e"))
    except UsageMistake as error:
        await complain(io, f"plutil: {error}")
        return 1
    code = 0
    for operand in given.operands:
        path = guest.disk.path(operand, io.cwd)
        try:
            value = _read(path)
        except FileNotFoundError:
            await say(io, f"{operand}: file does not exist or is not readable or is not a regular file")
            code = 1
            continue
        except (ValueError, OSError) as error:
            await say(io, f"{operand}: Property List error: Unexpected character at line 1 / JSON error: {error}")
            code = 1
            continue
        if given.has("-p"):
            await say(io, _pretty(value, 0))
            continue
        form = given.value("-convert")
        if extract is not None:
            try:
                value = _walk(value, extract[0])
            except (KeyError, IndexError, ValueError):
                await say(
                    io,
                    f"{operand}: Could not extract value, error: No value at that key path or invalid key path: {extract[0]}",
                )
                code = 1
                continue
            form = extract[1]
        if form is None:
            await say(io, f"{operand}: OK")
            continue
        data = str(value).encode() + b"\n" if form == "raw" else _encode(value, form)
        if given.value("-o") == "-" or (extract is not None and given.value("-o") is None):
            await io.stdout(data)
        else:
            guest.disk.path(given.value("-o") or operand, io.cwd).write_bytes(data)
    return code


def _walk(value: Any, keypath: str) -> Any:
    for key in keypath.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def _encode(value: Any, form: str) -> bytes:
    if form == "json":
        return json.dumps(value, default=str).encode()
    return plistlib.dumps(value, fmt=plistlib.FMT_BINARY if form == "binary1" else plistlib.FMT_XML)


def _pretty(value: Any, level: int) -> str:
    pad, inner = "  " * level, "  " * (level + 1)
    if isinstance(value, dict):
        rows = [f'{inner}"{key}" => {_pretty(item, level + 1)}' for key, item in value.items()]
        return "\n".join(["{", *rows, f"{pad}}}"])
    if isinstance(value, list):
        return "\n".join(
            ["[", *(f"{inner}{index} => {_pretty(item, level + 1)}" for index, item in enumerate(value)), f"{pad}]"]
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return f"{{length = {len(value)}, bytes = 0x{value[:8].hex()}}}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S +0000")
    return f'"{value}"' if isinstance(value, str) else str(value)


async def defaults(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`defaults read|write|delete DOMAIN|PATH [KEY [-bool|-int|-string|-float VALUE]]`."""
    words = [word for word in argv[1:] if word not in ("-currentHost", "-globalDomain")]
    verb, domain = ([*words, "", ""])[:2]
    if verb not in ("read", "write", "delete", "export") or not domain:
        await complain(
            io,
            "Command line interface to a user's defaults.\nSyntax:\n\n'defaults' [-currentHost | -host <hostname>] followed by one of the following:",
        )
        return 255
    name = (
        domain
        if domain.startswith("/")
        else f"{'/Library' if io.root else f'/Users/{io.user}/Library'}/Preferences/{'.GlobalPreferences' if domain == '-g' else domain}"
    )
    path = guest.disk.path(name if name.endswith(".plist") else f"{name}.plist", io.cwd)
    try:
        value = _read(path)
    except (OSError, ValueError):
        value = {}
    if verb == "read":
        if not value or (len(words) > 2 and words[2] not in value):
            what = "pair of (", f"{domain}, {words[2]}" if len(words) > 2 else domain
            await complain(
                io,
                f"The domain/default {what[0] if len(words) > 2 else ''}{what[1]}{')' if len(words) > 2 else ''} does not exist",
            )
            return 1
        await say(io, _old_style(value[words[2]] if len(words) > 2 else value))
        return 0
    if verb == "export":
        await io.stdout(plistlib.dumps(value))
        return 0
    if verb == "delete":
        if len(words) > 2:
            value.pop(words[2], None)
        else:
            value = {}
    elif len(words) >= 4:
        value[words[2]] = _typed(words[3:])
    if guest.disk.full:
        raise OSError(28, "No space left on device")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plistlib.dumps(value, fmt=plistlib.FMT_BINARY))
    return 0


def _typed(words: list[str]) -> Any:
    if len(words) == 1:
        return words[0]
    kind, text = words[0].lstrip("-"), words[1]
    if kind.startswith("bool"):
        return text.lower() in ("true", "yes", "1")
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    return words[1:] if kind == "array" else text


def _old_style(value: Any) -> str:
    if isinstance(value, dict):
        return "{\n" + "".join(f"    {key} = {_old_style(item)};\n" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "(\n" + ",\n".join(f"    {_old_style(item)}" for item in value) + "\n)"
    return str(int(value)) if isinstance(value, bool) else str(value)


async def plist_buddy(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`PlistBuddy -c "Print :A:B" FILE`."""
    words = argv[1:]
    if len(words) != 3 or words[0] != "-c" or not words[1].startswith("Print"):
        await complain(io, "Usage: PlistBuddy [-cxh] <file.plist>")
        return 1
    try:
        value = _read(guest.disk.path(words[2], io.cwd))
        key = words[1].removeprefix("Print").strip().strip(":").strip('"')
        for part in key.split(":") if key else []:
            value = value[int(part)] if isinstance(value, list) else value[part]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        await complain(io, f'Print: Entry, "{words[1].removeprefix("Print").strip()}", Does Not Exist')
        return 1
    await say(io, _old_style(value))
    return 0
