"""AppleScript as text: how untrusted texts are written into a script, and how a printed value is read back.

A script is sent to `osascript -s s` by standard input. Texts are written in plain ASCII, everything else by code point: which
encoding osascript takes over SSH depends on the session, and a quote in an app's name must never end a literal.
"""

from __future__ import annotations

import re

from harness.errors import HarnessError

Value = str | int | float | bool | None | list["Value"]
"""What `osascript -s s` prints: texts, numbers, `true`, `missing value` (None), lists of them."""

_PLAIN = re.compile(r"[ !#-\[\]-~]+")  # printable ASCII without the quote and the backslash
_TOKEN = re.compile(
    r"""\s*(?:(?P<punct>[{},])|"(?P<text>(?:[^"\\]|\\.)*)"|(?P<number>-?\d+(?:\.\d+)?(?:E[+-]?\d+)?)
        |(?P<word>missing\ value|true|false)|(?P<end>\Z))""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_DEEPEST = 12
_LONGEST = 256 * 1024


def quote(text: str) -> str:
    """An expression in ASCII that is the text: `"Don" & (character id 8217) & "t Allow"`, in brackets.

    Raises:
        HarnessError: It holds what no text on a Mac can (NUL, half a surrogate pair).
    """
    parts: list[str] = []
    at = 0
    while at < len(text):
        plain = _PLAIN.match(text, at)
        if plain is not None:
            parts.append(f'"{plain.group()}"')
            at = plain.end()
            continue
        code = ord(text[at])
        if code == 0 or 0xD800 <= code <= 0xDFFF:
            raise HarnessError("a text that AppleScript can have", seen=f"code point U+{code:04X} in {text[:60]!r}")
        parts.append(f"(character id {code})")
        at += 1
    if not parts:
        return '""'
    # The first is a literal, so that `&` joins texts and never makes a list.
    return parts[0] if len(parts) == 1 and parts[0].startswith('"') else "(" + " & ".join(['""', *parts]) + ")"


def write(value: Value) -> str:
    """A value as an expression."""
    if value is None:
        return "missing value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return quote(value)
    return "{" + ", ".join(write(item) for item in value) + "}"


def read(text: str) -> Value:
    """The value that `osascript -s s` printed.

    Raises:
        HarnessError: It is no such value, or nested or longer than any answer of ours would be.
    """
    if len(text) > _LONGEST:
        raise HarnessError("an answer of osascript of a sane size", seen=f"{len(text):,} characters")
    reader = _Reader(text)
    value = reader.value(0)
    reader.end()
    return value


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self, depth: int) -> Value:
        """One value."""
        kind, text = self._next()
        if kind == "text":
            return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text, flags=re.DOTALL)
        if kind == "number":
            return float(text) if not text.lstrip("-").isdigit() else int(text)
        if kind == "word":
            return None if text == "missing value" else text == "true"
        if text != "{" or depth >= _DEEPEST:
            raise self._wrong("a value")
        items: list[Value] = []
        if self._peek() == "}":
            self._next()
            return items
        while True:
            items.append(self.value(depth + 1))
            kind, text = self._next()
            if text == "}" and kind == "punct":
                return items
            if text != "," or kind != "punct":
                raise self._wrong("a comma or the list's end")

    def end(self) -> None:
        """Nothing more."""
        if self._next()[0] != "end":
            raise self._wrong("nothing more")

    def _peek(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        return (match["punct"] or "") if match else ""

    def _next(self) -> tuple[str, str]:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self._wrong("a value as `osascript -s s` prints it")
        self._at = match.end()
        kind = str(match.lastgroup)
        return kind, match[kind]

    def _wrong(self, wanted: str) -> HarnessError:
        around = self._text[max(0, self._at - 20) : self._at + 20]
        return HarnessError(f"{wanted} in osascript's answer", seen=f"at character {self._at}: {around!r}")
