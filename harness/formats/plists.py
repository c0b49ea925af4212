"""Property lists, binary or XML, from an untrusted source: bounded, and every way to be wrong is one error."""

from __future__ import annotations

import plistlib
from typing import Any

from harness.formats.failures import FormatError, excerpt

MAX_PLIST = 16 * 1024 * 1024
"""Bytes. A db.plist has some kilobytes, a package's table of contents rarely a megabyte."""
MAX_NODES = 1_000_000
MAX_DEPTH = 100
"""A binary list may refer to one value from many places, even to itself: it is measured as if written out."""


def load_plist(data: bytes, what: str, *, hint: str = "") -> dict[str, Any]:
    """The dictionary that a property list holds.

    Args:
        data: Binary or XML plist.
        what: What it is, for the error: "/Library/SystemExtensions/db.plist".
        hint: The next step, for the error.

    Raises:
        FormatError: It is too large, damaged, or not a dictionary.
    """
    if len(data) > MAX_PLIST:
        raise FormatError(f"{what} to be at most {MAX_PLIST} bytes", seen=f"{len(data)} bytes", hint=hint)
    try:
        value = plistlib.loads(data)
    # plistlib lets what its parts raise go through: expat, struct, datetime, codecs, recursion.
    except Exception as error:
        raise FormatError(
            f"{what} to be a property list", seen=f"{excerpt(data)} ({type(error).__name__})", hint=hint
        ) from error
    if not isinstance(value, dict):
        raise FormatError(f"{what} to hold a dictionary", seen=type(value).__name__, hint=hint)
    if not _measurable(value):
        raise FormatError(f"{what} to be of a sane size", seen="values without end in one another", hint=hint)
    return {str(key): item for key, item in value.items()}


def _measurable(value: object) -> bool:
    waiting: list[tuple[object, int]] = [(value, 0)]
    seen = 0
    while waiting:
        item, depth = waiting.pop()
        inside = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        seen += len(inside)
        if seen > MAX_NODES or depth > MAX_DEPTH:
            return False
        waiting.extend((part, depth + 1) for part in inside if isinstance(part, dict | list))
    return True


def text_of(value: object) -> str:
    """A plist value as text: strings and numbers; anything else is ""."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return ""


def table_of(value: object) -> dict[str, Any]:
    """A plist value as a dictionary with text keys; anything else is empty."""
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


def texts_of(value: object) -> tuple[str, ...]:
    """A plist array's texts; anything else in it is left out."""
    return tuple(text for item in value if (text := text_of(item))) if isinstance(value, list) else ()
