"""The shell's grammar: text → a tree. What it does not know is a `ParseError`, never a guess."""

from __future__ import annotations

import re

from harness.simulator.shell_tree import (
    AndOr,
    Block,
    Case,
    For,
    Function,
    Group,
    If,
    Lit,
    Loop,
    Node,
    Pipeline,
    Redirect,
    Simple,
    Word,
)
from harness.simulator.shell_words import META, NAME, HereRedirect, ParseError, Pending, WordReader

RESERVED = frozenset(
    ["if", "then", "elif", "else", "fi", "while", "until", "for", "do", "done", "case", "esac", "{", "}", "!", "in"]
)
UNSUPPORTED = frozenset(["[[", "select", "function", "coproc", "repeat", "foreach", "always", "nocorrect"])
MAX_DEPTH = 60


class Parser(WordReader):
    """One script. `dialect` is "zsh" or "bash"; only where the two read the same text differently it matters."""

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

    # --- reserved words

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
        clauses: list[tuple[tuple[Word, ...], Block]] = []
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
        redirects: list[Redirect | HereRedirect] = []
        while True:
            self._blanks()
            redirect = self._redirect()
            if redirect is None:
                return tuple(redirects)  # type: ignore[arg-type]  # here-documents are settled at the end
            redirects.append(redirect)

    def _simple(self) -> Node:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[Redirect | HereRedirect] = []
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

    def _redirect(self) -> Redirect | HereRedirect | None:
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
            pending = Pending(delimiter, quoted, operator == "<<-")
            self._pending.append(pending)
            return HereRedirect(fd, pending)
        if operator == ">|":
            operator = ">"
        return Redirect(fd, operator, target)


def _settle(node: object) -> Block:
    """Put the here-documents' texts, which were read later, into their redirections."""
    settled = _settled(node)
    assert isinstance(settled, Block)
    return settled


def _settled(node: object) -> object:
    if isinstance(node, HereRedirect):
        return Redirect(node.fd, "<<", node.pending.slot[0] if node.pending.slot else ())
    if isinstance(node, tuple):
        return tuple(_settled(item) for item in node)
    if isinstance(node, str | Lit) or node is None or not hasattr(node, "__dataclass_fields__"):
        return node
    changes = {name: _settled(getattr(node, name)) for name in node.__dataclass_fields__}
    return type(node)(**changes)
