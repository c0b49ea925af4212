"""Property lists as people paste them: `defaults read` and `plutil -p` texts.

    { bootUUID = "7871…"; developerMode = 0; extensions = ( { identifier = "org.example"; } ); }
    { "bootUUID" => "7871…"  "extensions" => [ 0 => { "identifier" => "org.example" } ] }

Data (`{length = 821, bytes = 0x…}`, `<62706c69 …>`) becomes the text it was printed as: nothing here needs its bytes.
"""

from __future__ import annotations

import re
from typing import Any, Final

from harness.formats.failures import FormatError, excerpt

MAX_TEXT: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 60
_TOKEN = re.compile(
    r'\s+|(?P<text>"(?:[^"\\]++|\\.)*+")|(?P<open>")|(?P<data><[0-9a-fA-F .…]*>)|(?P<sign>=>|[{}()\[\];,=:])'
    r"|(?P<word>[^\s{}()\[\];,=\"<>]+)|(?P<other>.)",
    re.DOTALL,
)
_INTEGER = re.compile(r"(?:0|-?[1-9]\d{0,17})\Z")
_ESCAPE = re.compile(r"\\(U[0-9a-fA-F]{4}|.)", re.DOTALL)


def parse_plist_text(text: str) -> dict[str, Any]:
    """The dictionary in such a text; what is before its first brace is skipped.

    Raises:
        FormatError: It is none, is cut off, or is nested beyond sense.
    """
    start = text.find("{")
    tokens: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(text[start if start >= 0 else 0 :][:MAX_TEXT]):
        if match.lastgroup == "open":  # a text that never ends: looking further would find the same again and again
            break
        if match.lastgroup:
            tokens.append((match.lastgroup, match.group()))
    parser = _Parser(tokens)
    try:
        value = parser.value(0)
    except (IndexError, ValueError) as error:
        raise FormatError("a property list as text, whole", seen=excerpt(text), hint="was it cut off?") from error
    if not isinstance(value, dict):
        raise FormatError("a dictionary { … }", seen=excerpt(text))
    return value


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.place = 0

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        kind, sign = self.next()
        if sign == "{":
            return self.table(depth)
        if sign in ("(", "["):
            return self.array(depth, ")" if sign == "(" else "]")
        if kind == "text":
            return _ESCAPE.sub(_unescape, sign[1:-1])
        if kind == "word":
            words = [sign]
            while self.peek()[0] == "word":  # `Optional name`, dates, a value that nobody quoted
                words.append(self.next()[1])
            word = " ".join(words)
            return int(word) if _INTEGER.match(word) else word
        if kind == "data":
            return sign
        raise ValueError(sign)

    def table(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while True:
            if self.peek()[1] == "}":
                self.next()
                return found
            if self.peek()[1] in (";", ","):
                self.next()
                continue
            kind, key = self.next()
            if kind not in ("text", "word"):
                raise ValueError(key)
            name = key[1:-1] if kind == "text" else key
            while self.peek()[0] == "word":
                name += f" {self.next()[1]}"
            if self.next()[1] not in ("=", "=>", ":"):
                raise ValueError(name)
            found[name] = self.value(depth + 1)

    def array(self, depth: int, end: str) -> list[Any]:
        found: list[Any] = []
        while True:
            token = self.peek()[1]
            if token == end:
                self.next()
                return found
            if token in (",", ";"):
                self.next()
                continue
            if self.place + 1 < len(self.tokens) and self.tokens[self.place + 1][1] == "=>":  # plutil numbers them
                self.place += 2
            found.append(self.value(depth + 1))

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("", "")

    def next(self) -> tuple[str, str]:
        token = self.tokens[self.place]
        self.place += 1
        return token


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if len(code) == 5:
        return chr(int(code[1:], 16))
    return {"n": "\n", "t": "\t", "r": "\r"}.get(code, code)
