"""AppleScript, the part of it that scripts for System Events are written in: from text to a tree.

Known: tell (block and `to`), if / else if / else, try / on error, repeat with … in, repeat N times, exit repeat, with timeout, ignoring,
considering, on run argv, set, get, return, error, delay, click, perform action, activate, quit; texts, numbers, lists, `&`, comparisons,
and / or / not, `exists`, `count`, `character id`, `item N of`; references by index, name, `every`, `first`, `last`, `some`, `whose`,
plurals, `'s`, `its`. Written from Apple's AppleScript Language Guide. Anything else is a syntax error, as a typing mistake would be.

A node is a tuple: its kind, then its parts.
"""

from __future__ import annotations

import re
from typing import Any

Node = tuple[Any, ...]

CLASSES = {
    "application process": "process", "process": "process", "window": "window", "sheet": "sheet", "button": "button",
    "static text": "static text", "text field": "text field", "checkbox": "checkbox", "group": "group",
    "ui element": "ui element", "item": "item",
}  # fmt: skip
_PLURALS = {
    "application processes": "process", "processes": "process", "ui elements": "ui element", "checkboxes": "checkbox",
    **{f"{name}s": name for name in ("window", "sheet", "button", "static text", "text field", "group", "item")},
}  # fmt: skip
_PROPERTIES = (
    "name",
    "value",
    "title",
    "description",
    "role",
    "enabled",
    "class",
    "frontmost",
    "entire contents",
    "number",
    "length",
)
_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|¬[ \t]*\n)|(?P<comment>--[^\n]*|\#[^\n]*)|(?P<block>\(\*.*?\*\))|(?P<line>\r\n|\n|\r)|"(?P<text>(?:[^"\\]|\\.)*)"
        |(?P<number>\d+(?:\.\d+)?)|\|(?P<bar>[^|\n]+)\||(?P<word>[A-Za-z_]\w*)|(?P<sign>[{}(),&=<>≤≥≠+*/:-]|'s\b|’s\b)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_DEEPEST = 60
_COMPARISONS = (
    ("is not equal to", "!="), ("is equal to", "="), ("does not equal", "!="), ("equals", "="), ("is not in", "!in"),
    ("is in", "in"), ("does not contain", "!contains"), ("contains", "contains"), ("starts with", "starts"),
    ("begins with", "starts"), ("ends with", "ends"), ("is greater than", ">"), ("is less than", "<"),
    ("is not", "!="), ("is", "="), ("=", "="), ("≠", "!="), ("≤", "<="), ("≥", ">="), ("<", "<"), (">", ">"),
)  # fmt: skip


class SyntaxMistake(Exception):
    """It is no script; the place is a character offset."""

    def __init__(self, at: int, text: str) -> None:
        self.at = at
        super().__init__(text)


def parse(script: str) -> Node:
    """The script as ("block", (statements…)).

    Raises:
        SyntaxMistake: It cannot be understood.
    """
    parser = _Parser(script)
    block = parser.block(())
    parser.wants_end()
    return block


class _Parser:
    def __init__(self, script: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(script):
            match = _TOKEN.match(script, at)
            if match is None:
                raise SyntaxMistake(at, "A unknown token can’t go here. (-2740)")
            kind = str(match.lastgroup)
            text = match[kind]
            if kind == "text":
                text = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text, flags=re.DOTALL)
            elif kind in ("bar", "word"):
                kind = "word"
            if kind not in ("space", "comment", "block"):
                self._tokens.append((kind, text, at))
            at = match.end()
        self._tokens.append(("line", "\n", at))
        self._at = 0
        self._depth = 0

    # --- statements

    def block(self, ends: tuple[str, ...]) -> Node:
        """Statements up to one of the words in `ends` (which stays), or the script's end."""
        self._deeper()
        found: list[Node] = []
        while True:
            while self._kind() == "line":
                self._at += 1
            if self._over() or any(self._ahead(end) for end in ends):
                break
            found.append(self.statement())
        self._depth -= 1
        return ("block", tuple(found))

    def wants_end(self) -> None:
        """Nothing is left."""
        if not self._over():
            raise self._wrong("end of script")

    def statement(self) -> Node:
        """One statement, with its block if it has one."""
        if self._take("tell"):
            target = self.expression()
            if self._take("to"):
                return ("tell", target, self.statement())
            return ("tell", target, self._body("tell"))
        if self._take("if"):
            return self._if()
        if self._take("try"):
            self._line_ends()
            tried = self.block(("on error", "end"))
            handler: Node = ("block", ())
            name = number = ""
            if self._take("on error"):
                name = self._word() if self._kind() == "word" and not self._ahead("number") else ""
                number = self._word() if self._take("number") else ""
                self._line_ends()
                handler = self.block(("end",))
            self._end("try")
            return ("try", tried, name, number, handler)
        if self._take("repeat"):
            return self._repeat()
        if self._take("with timeout of"):
            seconds = self.expression()
            self._take("seconds") or self._take("second")
            return ("timeout", seconds, self._body("timeout"))
        for word in ("ignoring", "considering"):
            if self._take(word):
                while self._kind() not in ("line", "end"):
                    self._at += 1
                return self._body(word)
        if self._take("on run"):
            name = ""
            if self._kind() == "word":
                name = self._word()
            elif self._take("{"):
                name = self._word()
                self._wants("}")
            return ("run", name, self._body("run"))
        return self._simple()

    def _simple(self) -> Node:
        if self._take("set"):
            name = self._word()
            self._wants("to")
            return ("set", name, self.expression())
        if self._take("return"):
            return ("return", None if self._kind() in ("line", "end") else self.expression())
        if self._take("error"):
            text = None if self._ahead("number") else self.expression()
            return ("error", text, self.expression() if self._take("number") else None)
        if self._take("exit repeat"):
            return ("exit",)
        if self._take("delay"):
            return ("delay", self.expression())
        if self._take("click"):
            return ("click", self.expression())
        if self._take("perform action") or self._take("perform"):
            self._take("action")
            action = self.primary()
            self._wants("of")
            return ("perform", action, self.expression())
        if self._take("activate"):
            return ("activate", None if self._kind() in ("line", "end") else self.expression())
        if self._take("quit"):
            return ("quit", None if self._kind() in ("line", "end") else self.expression())
        self._take("get")
        return ("get", self.expression())

    def _if(self) -> Node:
        condition = self.expression()
        self._wants("then")
        if self._kind() != "line":
            return ("if", condition, self.statement(), None)
        then = self.block(("else if", "else", "end"))
        other: Node | None = None
        if self._take("else if"):
            return ("if", condition, then, self._if())
        if self._take("else"):
            other = self.block(("end",))
        self._end("if")
        return ("if", condition, then, other)

    def _repeat(self) -> Node:
        if self._take("with"):
            name = self._word()
            self._wants("in")
            items = self.expression()
            return ("each", name, items, self._body("repeat"))
        times = None if self._kind() in ("line", "end") else self.expression()
        self._take("times")
        return ("times", times, self._body("repeat"))

    def _body(self, word: str) -> Node:
        self._line_ends()
        block = self.block(("end",))
        self._end(word)
        return block

    def _end(self, word: str) -> None:
        self._wants("end")
        if self._kind() not in ("line", "end") and not self._take(word):
            raise self._wrong(f"end {word}")

    # --- expressions

    def expression(self) -> Node:
        """or, and, not, comparisons, &, + and -, in the language's order."""
        self._deeper()
        left = self._and()
        while self._take("or"):
            left = ("or", left, self._and())
        self._depth -= 1
        return left

    def _and(self) -> Node:
        left = self._not()
        while self._take("and"):
            left = ("and", left, self._not())
        return left

    def _not(self) -> Node:
        if self._take("not"):
            self._deeper()
            inner = self._not()
            self._depth -= 1
            return ("not", inner)
        left = self._joined()
        for words, operator in _COMPARISONS:
            if self._take(words):
                return ("compare", operator, left, self._joined())
        return left

    def _joined(self) -> Node:
        left = self._sum()
        while self._take("&"):
            left = ("join", left, self._sum())
        return left

    def _sum(self) -> Node:
        left = self.primary()
        while self._ahead("+") or self._ahead("-"):
            left = ("sum", self._next(), left, self.primary())
        return left

    def primary(self) -> Node:
        """A value or a reference, with its `of` chain."""
        self._deeper()
        found = self._primary()
        while self._take("'s") or self._take("’s"):
            found = ("of", self._specifier(), found)
        self._depth -= 1
        return found

    def _primary(self) -> Node:
        kind, text = self._kind(), self._text()
        if kind == "text":
            self._at += 1
            return ("value", text)
        if kind == "number":
            self._at += 1
            return ("value", float(text) if "." in text else int(text))
        if self._take("-"):
            return ("sum", "-", ("value", 0), self.primary())
        if self._take("("):
            inner = self.expression()
            self._wants(")")
            return inner
        if self._take("{"):
            items: list[Node] = []
            while not self._take("}"):
                items.append(self.expression())
                if not self._ahead("}"):
                    self._wants(",")
            return ("list", tuple(items))
        for words, value in (("missing value", None), ("true", True), ("false", False)):
            if self._take(words):
                return ("value", value)
        if self._take("character id"):
            return ("character", self.primary())
        if self._take("exists"):
            return ("exists", self.primary())
        if self._take("count"):
            self._take("of")
            return ("count", self.primary())
        if not self._ahead("application process") and (self._take("application") or self._take("app")):
            return ("application", self.primary())
        self._take("the")
        found = self._specifier()
        if self._take("of") or self._take("in"):
            owner = self.primary()
            # `first button of window 1 whose name is "OK"`: the condition is on the button.
            if found[0] == "element" and isinstance(found[2], str) and (self._take("whose") or self._take("where")):
                found = (*found[:3], self.expression())
            return ("of", found, owner)
        if self._take("exists"):  # `window 1 exists`
            return ("exists", found)
        return found

    def _specifier(self) -> Node:
        """What stands before `of`: a property, or an element by class and index, name or condition; or a variable."""
        self._take("its")
        for name in _PROPERTIES:
            if self._take(name):
                return ("property", name)
        which = next((word for word in ("every", "first", "last", "some") if self._take(word)), "")
        for name in sorted(_PLURALS, key=len, reverse=True):
            if self._take(name):
                return self._where("every", _PLURALS[name])
        for name in sorted(CLASSES, key=len, reverse=True):
            if self._take(name):
                if which:
                    return self._where(which, CLASSES[name])
                if (
                    self._kind() in ("text", "number")
                    or self._ahead("(")
                    or (self._kind() == "word" and not self._ahead("of"))
                ):
                    return ("element", CLASSES[name], self._index(), None)
                return ("variable", name)
        if which or self._kind() != "word":
            raise self._wrong("expression")
        return ("variable", self._next())

    def _index(self) -> Node:
        kind, text = self._kind(), self._text()
        if self._take("("):
            inner = self.expression()
            self._wants(")")
            return inner
        self._at += 1
        return (
            ("value", text)
            if kind == "text"
            else ("value", int(float(text)))
            if kind == "number"
            else ("variable", text)
        )

    def _where(self, which: str, name: str) -> Node:
        condition = self.expression() if self._take("whose") or self._take("where") else None
        return ("element", name, which, condition)

    # --- tokens

    def _kind(self) -> str:
        return self._tokens[self._at][0] if not self._over() else "end"

    def _text(self) -> str:
        return self._tokens[self._at][1] if not self._over() else ""

    def _next(self) -> str:
        text = self._text()
        self._at += 1
        return text

    def _over(self) -> bool:
        return self._at >= len(self._tokens)

    def _ahead(self, words: str) -> bool:
        wanted = words.split(" ")
        here = self._tokens[self._at : self._at + len(wanted)]
        return [text.lower() for kind, text, _ in here if kind in ("word", "sign")] == wanted

    def _take(self, words: str) -> bool:
        if self._ahead(words):
            self._at += len(words.split(" "))
            return True
        return False

    def _wants(self, words: str) -> None:
        if not self._take(words):
            raise self._wrong(f"“{words}”")

    def _word(self) -> str:
        if self._kind() != "word":
            raise self._wrong("identifier")
        return self._next()

    def _line_ends(self) -> None:
        if self._kind() != "line":
            raise self._wrong("end of line")
        self._at += 1

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong("something less nested")

    def _wrong(self, wanted: str) -> SyntaxMistake:
        at = self._tokens[min(self._at, len(self._tokens) - 1)][2]
        found = {"line": "end of line", "end": "end of script", "text": "string", "number": "number"}.get(
            self._kind(), f"“{self._text()}”"
        )
        return SyntaxMistake(at, f"Expected {wanted} but found {found}. (-2741)")
