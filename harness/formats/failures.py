"""The one error of the parsers: text or bytes that are not what they should be."""

from __future__ import annotations

from harness.errors import SysextError


class FormatError(SysextError):
    """What a Mac (or a file) printed is not the format it should be. Says what was expected and shows its beginning."""


def excerpt(data: str | bytes, limit: int = 120) -> str:
    """The beginning of `data` on one line, for an error's `seen`."""
    text = data[: limit * 2].decode("utf-8", "replace") if isinstance(data, bytes) else data[: limit * 2]
    text = " ".join(text.split())
    if not text:
        return "nothing" if not data else f"{len(data)} blank characters"
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
