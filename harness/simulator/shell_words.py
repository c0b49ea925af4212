"""The lower half of the shell's grammar: words, quotes, `$…`, here-documents."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from harness.simulator.shell_tree import Arith, Block, Lit, Part, Sub, Var, Word

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
META = " \t\n;&|<>()"


class ParseError(Exception):
    """The text is no script of ours; the message is what the shell prints behind its name."""


@dataclass
class Pending:
    """A here-document whose lines come after this line."""

    delimiter: str
    quoted: bool
    strip: bool
    slot: list[Word] = field(default_factory=list)


@dataclass(frozen=True)
class HereRedirect:
    """A redirection from a here-document, until its text is known."""

    fd: int
    pending: Pending


class WordReader(ABC):
    """Reads words of one text; the commands in `$(…)` are the other half's."""

    def __init__(self, text: str, dialect: str = "zsh") -> None:
        self.text = text
        self.at = 0
        self.dialect = dialect
        self._depth = 0
        self._pending: list[Pending] = []

    @abstractmethod
    def _block(self, ends: tuple[str, ...]) -> Block:
        """Commands up to one of the closing words or characters."""

    @abstractmethod
    def parse(self) -> Block:
        """The whole text."""

    # --- characters

    def _near(self, what: str = "") -> ParseError:
        if not what:
            rest = self.text[self.at :].lstrip(" \t")
            match = re.match(r"[;&|<>()]{1,2}|[^\s;&|<>()]+|\n", rest)
            what = match[0] if match else "\n"
        return ParseError("parse error near `" + ("\\n" if what == "\n" else what[:30]) + "'")

    def _peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def _blanks(self) -> None:
        while self.at < len(self.text):
            if self.text[self.at] in " \t":
                self.at += 1
            elif self._peek("\\\n"):
                self.at += 2
            elif self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return

    def _lines(self) -> None:
        """Blanks, comments, newlines."""
        while True:
            self._blanks()
            if not self._peek("\n"):
                return
            self._newline()

    def _newline(self) -> None:
        self.at += 1
        pending, self._pending = self._pending, []
        for here in pending:
            lines = []
            while True:
                if self.at >= len(self.text):
                    break  # both shells take the end of the text for the end of the document
                end = self.text.find("\n", self.at)
                line = self.text[self.at :] if end < 0 else self.text[self.at : end]
                self.at = len(self.text) if end < 0 else end + 1
                if here.strip:
                    line = line.lstrip("\t")
                if line == here.delimiter:
                    break
                lines.append(line + "\n")
            body = "".join(lines)
            here.slot.append((Lit(body, quoted=True),) if here.quoted else self._nested_double(body))

    def _nested_double(self, body: str) -> Word:
        inner = type(self)(body, self.dialect)
        parts = inner._double(until="")
        return tuple(parts)

    # --- words

    def _word_or_none(self) -> Word | None:
        self._blanks()
        if self.at >= len(self.text) or self.text[self.at] in META:
            return None
        return self._word()

    def _word(self) -> Word:
        parts: list[Part] = []
        plain: list[str] = []

        def flush() -> None:
            if plain:
                parts.append(Lit("".join(plain)))
                plain.clear()

        while self.at < len(self.text):
            char = self.text[self.at]
            if char in META:
                break
            if char == "\\":
                following = self.text[self.at + 1 : self.at + 2]
                self.at += 2
                if following == "\n":
                    continue
                flush()
                parts.append(Lit(following or "\\", quoted=True))
            elif char == "'":
                flush()
                end = self.text.find("'", self.at + 1)
                if end < 0:
                    raise ParseError("unmatched '")
                parts.append(Lit(self.text[self.at + 1 : end], quoted=True))
                self.at = end + 1
            elif char == '"':
                flush()
                self.at += 1
                inner = self._double(until='"')
                parts.extend(inner or [Lit("", quoted=True)])
            elif char == "$" and self._peek("$'"):
                flush()
                parts.append(Lit(self._ansi(), quoted=True))
            elif char in "$`":
                part = self._dollar(quoted=False) if char == "$" else self._backquote(quoted=False)
                if isinstance(part, Lit) and not part.quoted:
                    plain.append(part.text)
                else:
                    flush()
                    parts.append(part)
            else:
                plain.append(char)
                self.at += 1
        flush()
        return tuple(parts)

    def _double(self, until: str) -> list[Part]:
        """The inside of double quotes; `until` "" for a here-document."""
        parts: list[Part] = []
        plain: list[str] = []
        while True:
            if self.at >= len(self.text):
                if until:
                    raise ParseError('unmatched "')
                break
            char = self.text[self.at]
            if char == until:
                self.at += 1
                break
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in (
                tuple('$`\\\n"') if until else tuple("$`\\\n")
            ):
                if self.text[self.at + 1] != "\n":
                    plain.append(self.text[self.at + 1])
                self.at += 2
            elif char in "$`":
                part = self._dollar(quoted=True) if char == "$" else self._backquote(quoted=True)
                if isinstance(part, Lit):
                    plain.append(part.text)
                    continue
                if plain:
                    parts.append(Lit("".join(plain), quoted=True))
                    plain = []
                parts.append(part)
            else:
                plain.append(char)
                self.at += 1
        if plain:
            parts.append(Lit("".join(plain), quoted=True))
        return parts

    def _ansi(self) -> str:
        out: list[str] = []
        self.at += 2
        simple = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v"}
        while True:
            if self.at >= len(self.text):
                raise ParseError("unmatched '")
            char = self.text[self.at]
            self.at += 1
            if char == "'":
                return "".join(out)
            if char != "\\":
                out.append(char)
                continue
            match = re.compile(r"x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|u([0-9A-Fa-f]{1,4})").match(self.text, self.at)
            if match is not None:
                self.at = match.end()
                code = int(match[1] or match[3], 16) if not match[2] else int(match[2], 8)
                raw = bytes([code & 0xFF]) if not match[3] else chr(code).encode("utf-8", "surrogatepass")
                out.append(raw.decode("utf-8", "surrogateescape"))
                continue
            following = self.text[self.at : self.at + 1]
            self.at += 1
            out.append(simple.get(following, following if following in "\\'\"?" else "\\" + following))

    def _backquote(self, *, quoted: bool) -> Part:
        self.at += 1
        body: list[str] = []
        while not self._peek("`"):
            if self.at >= len(self.text):
                raise ParseError("unmatched `")
            if self.text[self.at] == "\\" and self.text[self.at + 1 : self.at + 2] in tuple("`\\$"):
                self.at += 1
            body.append(self.text[self.at])
            self.at += 1
        self.at += 1
        return Sub(type(self)("".join(body), self.dialect).parse(), quoted)

    def _dollar(self, *, quoted: bool) -> Part:
        if self._peek("$(("):
            saved = self.at
            part = self._arithmetic(quoted=quoted)
            if part is not None:
                return part
            self.at = saved
        if self._peek("$("):
            self.at += 2
            body = self._block(())
            self._lines()
            if not self._peek(")"):
                raise self._near() if self.at < len(self.text) else ParseError("unmatched (")
            self.at += 1
            return Sub(body, quoted)
        if self._peek("${"):
            return self._braced(quoted=quoted)
        match = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*|[0-9?$!#@*-])").match(self.text, self.at)
        if match is None:
            if self._peek("$[") or (self._peek('$"') and not quoted):
                raise self._near(self.text[self.at : self.at + 2])
            self.at += 1
            return Lit("$", quoted=quoted)
        self.at = match.end()
        if self.dialect == "zsh" and NAME.match(match[1]):
            rest = self.text[self.at : self.at + 2]
            if rest[:1] == "[" or re.match(r":[aAceghlpPqQrstuwWx&]", rest):  # subscripts and modifiers
                raise self._near(match[0] + rest)
        return Var(match[1], quoted)

    def _braced(self, *, quoted: bool) -> Var:
        match = re.compile(r"\$\{(#?)([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?$!#@*-])").match(self.text, self.at)
        if match is None:
            raise ParseError("bad substitution")
        self.at = match.end()
        if match[1]:
            if not self._peek("}"):
                raise ParseError("bad substitution")
            self.at += 1
            return Var(match[2], quoted, "len")
        operator = re.compile(r":[-=+?]|[-=+?]|##?|%%?|//?").match(self.text, self.at)
        if operator is None:
            if not self._peek("}"):
                raise ParseError("bad substitution")
            self.at += 1
            return Var(match[2], quoted)
        self.at = operator.end()
        word = self._until("/}" if operator[0].startswith("/") else "}", quoted=quoted)
        other: Word = ()
        if operator[0].startswith("/") and self._peek("/"):
            self.at += 1
            other = self._until("}", quoted=quoted)
        self.at += 1
        return Var(match[2], quoted, operator[0], word, other)

    def _until(self, ends: str, *, quoted: bool) -> Word:
        parts: list[Part] = []
        while True:
            if self.at >= len(self.text):
                raise ParseError("unmatched {")
            char = self.text[self.at]
            if char in ends:
                return tuple(parts)
            if char == "\\":
                parts.append(Lit(self.text[self.at + 1 : self.at + 2], quoted=True))
                self.at += 2
            elif char == "'" and not quoted:
                end = self.text.find("'", self.at + 1)
                if end < 0:
                    raise ParseError("unmatched '")
                parts.append(Lit(self.text[self.at + 1 : end], quoted=True))
                self.at = end + 1
            elif char == '"':
                self.at += 1
                parts.extend(self._double(until='"') or [Lit("", quoted=True)])
            elif char == "$":
                parts.append(self._dollar(quoted=quoted))
            elif char == "`":
                parts.append(self._backquote(quoted=quoted))
            else:
                parts.append(Lit(char))
                self.at += 1

    def _arithmetic(self, *, quoted: bool) -> Part | None:
        self.at += 3
        parts: list[Part] = []
        depth = 0
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "(":
                depth += 1
            elif char == ")":
                if depth == 0:
                    if not self._peek("))"):
                        return None
                    self.at += 2
                    return Arith(tuple(parts), quoted)
                depth -= 1
            if char == "$":
                parts.append(self._dollar(quoted=True))
                continue
            if char in "'\"`\n;":
                return None
            parts.append(Lit(char, quoted=True))
            self.at += 1
        return None
