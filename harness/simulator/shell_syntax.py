"""The shell's grammar: text → a tree. What it does not know is a `ParseError`, never a guess."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Union

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
META = " \t\n;&|<>()"
RESERVED = frozenset("if then elif else fi while until for do done case esac { } ! in".split())
UNSUPPORTED = frozenset("[[ select function coproc repeat foreach always nocorrect".split())
MAX_DEPTH = 60


class ParseError(Exception):
    """The text is no script of ours; the message is what the shell prints behind its name."""


@dataclass(frozen=True)
class Lit:
    """Characters; `quoted` ones are neither split nor matched against files."""

    text: str
    quoted: bool = False


@dataclass(frozen=True)
class Var:
    """`$name`, `${name op word}`; op "" for none, "#" before the name is the op "len"."""

    name: str
    quoted: bool
    op: str = ""
    word: tuple[Part, ...] = ()
    other: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Sub:
    """`$(…)` or backquotes."""

    body: Block
    quoted: bool


@dataclass(frozen=True)
class Arith:
    """`$((…))`."""

    word: tuple[Part, ...]
    quoted: bool


Part = Union[Lit, Var, Sub, Arith]
Word = tuple[Part, ...]


@dataclass(frozen=True)
class Redirect:
    """`fd op target`. op: < > >> >| <> <& >& &> &>> << <<<."""

    fd: int
    op: str
    target: Word


@dataclass(frozen=True)
class Simple:
    """Assignments, words, redirections."""

    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True)
class Group:
    """`{ … }` or `( … )`."""

    body: Block
    subshell: bool
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class If:
    """`if … then … elif … else … fi`."""

    clauses: tuple[tuple[Block, Block], ...]
    otherwise: Block | None
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class Loop:
    """`while`, or `until` where `negated`."""

    condition: Block
    body: Block
    negated: bool
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class For:
    """`for name in words`; words None is "$@"."""

    name: str
    words: tuple[Word, ...] | None
    body: Block
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class Case:
    """`case word in pattern) … ;; esac`."""

    word: Word
    clauses: tuple[tuple[tuple[Word, ...], Block], ...]
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class Function:
    """`name() { … }`."""

    name: str
    body: Group


Node = Union[Simple, Group, If, Loop, For, Case, Function]


@dataclass(frozen=True)
class Pipeline:
    """`a | b`, possibly with `!` before it. `joined[i]`: the i-th is connected by `|&`."""

    parts: tuple[Node, ...]
    negated: bool = False
    joined: tuple[bool, ...] = ()


@dataclass(frozen=True)
class AndOr:
    """`a && b || c`: the operator before each pipeline, "" for the first."""

    parts: tuple[tuple[str, Pipeline], ...]
    background: bool = False


@dataclass(frozen=True)
class Block:
    """A list of commands."""

    items: tuple[AndOr, ...] = ()


@dataclass
class _Pending:
    """A here-document whose lines come after this line."""

    delimiter: str
    quoted: bool
    strip: bool
    slot: list[Word] = field(default_factory=list)


@dataclass(frozen=True)
class _HereRedirect:
    fd: int
    pending: _Pending


class Parser:
    """One script. `dialect` is "zsh" or "bash"; only where the two read the same text differently it matters."""

    def __init__(self, text: str, dialect: str = "zsh") -> None:
        self.text = text
        self.at = 0
        self.dialect = dialect
        self._depth = 0
        self._pending: list[_Pending] = []

    def parse(self) -> Block:
        """The whole text.

        Raises:
            ParseError: See there.
        """
        block = self._block(())
        if self.at < len(self.text):
            raise self._near()
        if self._pending:
            raise ParseError(f"parse error near `<<{self._pending[0].delimiter}'")
        return _settle(block)

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
        inner = Parser(body, self.dialect)
        parts = inner._double(until="")
        return tuple(parts)

    def _reserved(self) -> str:
        """The reserved word that is next, or ""."""
        self._blanks()
        match = re.compile(r"[^\s;&|<>()'\"\\$`]+").match(self.text, self.at)
        if match is None:
            return ""
        after = self.text[match.end() : match.end() + 1]
        if after and after not in META:
            return ""
        if match[0] in UNSUPPORTED:
            raise self._near(match[0])
        return match[0] if match[0] in RESERVED else ""

    def _expect(self, word: str) -> None:
        self._lines()
        if self._reserved() != word:
            raise self._near()
        self.at += len(word)

    # --- commands

    def _block(self, ends: tuple[str, ...]) -> Block:
        """Commands up to one of the closing words or characters, which is left standing."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ParseError("parse error: nested too deeply")
        items: list[AndOr] = []
        while True:
            self._lines()
            if self.at >= len(self.text) or self._peek(")") or self._peek(";;"):
                break
            word = self._reserved()
            if word in ends and word:
                break
            if word in ("then", "elif", "else", "fi", "do", "done", "esac", "}", "in") and word not in ends:
                raise self._near(word)
            item = self._and_or()
            self._blanks()
            if self._peek(";;"):
                items.append(item)
                break
            if self._peek(";"):
                self.at += 1
            elif self._peek("&") and not self._peek("&&"):
                self.at += 1
                item = AndOr(item.parts, background=True)
            elif not (self.at >= len(self.text) or self.text[self.at] in "\n)"):
                raise self._near()
            items.append(item)
        self._depth -= 1
        return Block(tuple(items))

    def _and_or(self) -> AndOr:
        parts = [("", self._pipeline())]
        while True:
            self._blanks()
            operator = "&&" if self._peek("&&") else "||" if self._peek("||") else ""
            if not operator:
                return AndOr(tuple(parts))
            self.at += 2
            self._lines()
            parts.append((operator, self._pipeline()))

    def _pipeline(self) -> Pipeline:
        negated = False
        while self._reserved() == "!":
            self.at += 1
            negated = not negated
            self._blanks()
        parts, joined = [self._command()], [False]
        while True:
            self._blanks()
            if self._peek("||") or not self._peek("|"):
                return Pipeline(tuple(parts), negated, tuple(joined))
            both = self._peek("|&")
            self.at += 2 if both else 1
            self._lines()
            parts.append(self._command())
            joined.append(both)

    def _command(self) -> Node:
        word = self._reserved()
        node: Node
        if word == "if":
            node = self._if()
        elif word in ("while", "until"):
            self.at += len(word)
            condition = self._filled(("do",))
            self._expect("do")
            body = self._filled(("done",))
            self._expect("done")
            node = Loop(condition, body, word == "until", self._trailing())
        elif word == "for":
            node = self._for()
        elif word == "case":
            node = self._case()
        elif word == "{":
            self.at += 1
            body = self._filled(("}",))
            self._expect("}")
            node = Group(body, subshell=False, redirects=self._trailing())
        elif word and word != "in":
            raise self._near(word)
        elif self._peek("(("):
            raise self._near("((")
        elif self._peek("("):
            self.at += 1
            body = self._filled(())
            self._lines()
            if not self._peek(")"):
                raise self._near()
            self.at += 1
            node = Group(body, subshell=True, redirects=self._trailing())
        else:
            node = self._simple()
        return node

    def _filled(self, ends: tuple[str, ...]) -> Block:
        block = self._block(ends)
        if not block.items:
            raise self._near()
        return block

    def _if(self) -> If:
        self.at += 2
        clauses = []
        otherwise = None
        while True:
            condition = self._filled(("then",))
            self._expect("then")
            clauses.append((condition, self._filled(("elif", "else", "fi"))))
            self._lines()
            word = self._reserved()
            self.at += len(word)
            if word == "elif":
                continue
            if word == "else":
                otherwise = self._filled(("fi",))
                self._expect("fi")
            elif word != "fi":
                raise self._near()
            return If(tuple(clauses), otherwise, self._trailing())

    def _for(self) -> For:
        self.at += 3
        self._blanks()
        match = NAME.match(self.text, self.at)
        if match is None:
            raise self._near()
        self.at = match.end()
        self._lines()
        words: list[Word] | None = None
        if self._reserved() == "in":
            self.at += 2
            words = []
            while (word := self._word_or_none()) is not None:
                words.append(word)
        self._blanks()
        if self._peek(";") and not self._peek(";;"):
            self.at += 1
        self._expect("do")
        body = self._filled(("done",))
        self._expect("done")
        return For(match[0], None if words is None else tuple(words), body, self._trailing())

    def _case(self) -> Case:
        self.at += 4
        word = self._word_or_none()
        if word is None:
            raise self._near()
        self._expect("in")
        clauses = []
        while True:
            self._lines()
            if self._reserved() == "esac":
                self.at += 4
                return Case(word, tuple(clauses), self._trailing())
            if self._peek("("):
                self.at += 1
            patterns = []
            while True:
                pattern = self._word_or_none()
                if pattern is None:
                    raise self._near()
                patterns.append(pattern)
                self._blanks()
                if self._peek("|"):
                    self.at += 1
                elif self._peek(")"):
                    self.at += 1
                    break
                else:
                    raise self._near()
            body = self._block(("esac",))
            clauses.append((tuple(patterns), body))
            self._lines()
            if self._peek(";;"):
                self.at += 2
            elif self._reserved() != "esac":
                raise self._near()

    def _trailing(self) -> tuple[Redirect, ...]:
        redirects: list[Redirect | _HereRedirect] = []
        while True:
            self._blanks()
            redirect = self._redirect()
            if redirect is None:
                return tuple(redirects)  # type: ignore[arg-type]  # here-documents are settled at the end
            redirects.append(redirect)

    def _simple(self) -> Node:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[Redirect | _HereRedirect] = []
        start = self.at
        while True:
            self._blanks()
            redirect = self._redirect()
            if redirect is not None:
                redirects.append(redirect)
                continue
            if not words:
                match = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?=)").match(self.text, self.at)
                if match is not None:
                    if match[2] == "+=" or self.text[match.end() : match.end() + 1] == "(":
                        raise self._near(match[0])
                    self.at = match.end()
                    assignments.append((match[1], self._word()))
                    continue
                function = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)[ \t]*\([ \t]*\)").match(self.text, self.at)
                if function is not None and not assignments and not redirects:
                    self.at = function.end()
                    self._lines()
                    body = self._command()
                    if not isinstance(body, Group):
                        raise self._near()
                    return Function(function[1], body)
            word = self._word_or_none()
            if word is None:
                break
            words.append(word)
        if self.at == start or not (assignments or words or redirects):
            raise self._near()
        if self._peek("("):
            raise self._near("(")
        return Simple(tuple(assignments), tuple(words), tuple(redirects))  # type: ignore[arg-type]

    def _redirect(self) -> Redirect | _HereRedirect | None:
        match = re.compile(r"(\d*)(<<<|<<-|<<|<&|<>|<|>>|>&|>\||>)|(&>>|&>)").match(self.text, self.at)
        if match is None:
            return None
        operator = match[2] or match[3]
        after = match.end()
        if self.text[after : after + 1] == "(":
            raise self._near(operator + "(")
        fd = int(match[1]) if match[1] else (0 if operator.startswith("<") else 1)
        if fd > 9:
            raise self._near(match[0])
        self.at = after
        target = self._word_or_none()
        if target is None:
            raise self._near()
        if operator in ("<<", "<<-"):
            if not all(isinstance(part, Lit) for part in target):
                raise self._near(operator)
            delimiter = "".join(part.text for part in target if isinstance(part, Lit))
            quoted = any(isinstance(part, Lit) and part.quoted for part in target)
            pending = _Pending(delimiter, quoted, operator == "<<-")
            self._pending.append(pending)
            return _HereRedirect(fd, pending)
        if operator == ">|":
            operator = ">"
        return Redirect(fd, operator, target)

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
        return Sub(Parser("".join(body), self.dialect).parse(), quoted)

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


def _settle(node: object) -> Block:
    """Put the here-documents' texts, which were read later, into their redirections."""
    settled = _settled(node)
    assert isinstance(settled, Block)
    return settled


def _settled(node: object) -> object:
    if isinstance(node, _HereRedirect):
        return Redirect(node.fd, "<<", node.pending.slot[0] if node.pending.slot else ())
    if isinstance(node, tuple):
        return tuple(_settled(item) for item in node)
    if isinstance(node, str | Lit) or node is None or not hasattr(node, "__dataclass_fields__"):
        return node
    changes = {name: _settled(getattr(node, name)) for name in node.__dataclass_fields__}
    return type(node)(**changes)
