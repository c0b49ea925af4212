"""From a word of the grammar to the words a command gets: parameters, substitutions, splitting, braces, files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from harness.simulator.interfaces import Disk
from harness.simulator.shell_tree import Arith, Block, Lit, Part, Sub, Var, Word

Char = tuple[str, bool]
"""A character and whether it was quoted."""

MAX_WORDS = 100_000


class ExpansionError(Exception):
    """A word that cannot be expanded; the message is what the shell prints behind its name."""


class Scope(Protocol):
    """What expansion asks of the shell."""

    dialect: str
    cwd: str
    arguments: list[str]

    @property
    def disk(self) -> Disk:
        """The guest's disk."""

    def get(self, name: str) -> str | None:
        """A variable or special parameter."""

    def put(self, name: str, value: str) -> None:
        """Set a variable (`${x:=…}`)."""

    def command_path(self, name: str) -> str | None:
        """Where a command is, for zsh's `=name`."""


Capture = Callable[[Block], Awaitable[str]]


@dataclass
class Expander:
    """Expands words for one shell. `capture` runs a substitution and returns its output without final newlines."""

    scope: Scope
    capture: Capture

    async def words(self, words: tuple[Word, ...]) -> list[str]:
        """All words with splitting and file names."""
        out: list[str] = []
        for word in words:
            out += await self.fields(word)
            if len(out) > MAX_WORDS:
                raise ExpansionError("argument list too long")
        return out

    async def text(self, word: Word) -> str:
        """One word without splitting or file names (assignments, redirections, case)."""
        return "".join(char for char, _ in await self._flat(word))

    async def pattern(self, word: Word) -> str:
        """One word as a regular expression (case, `${x#…}`)."""
        return _regex(await self._flat(word), slash=True)

    async def fields(self, word: Word) -> list[str]:
        """One word: braces, tilde, parameters, splitting, file names."""
        out: list[str] = []
        for braced in _braces(word):
            for chars in await self._split(self._tilde(braced)):
                out += self._files(chars)
        return out

    # --- parts

    def _tilde(self, word: Word) -> Word:
        if not word or not isinstance(word[0], Lit) or word[0].quoted:
            return word
        text = word[0].text
        if text.startswith("~"):
            head, slash, rest = text.partition("/")
            if not slash and len(word) > 1:
                return word  # ~$x, ~"x": left as it is
            home = self._home(head[1:])
            return (Lit(home, quoted=True), Lit(slash + rest), *word[1:])
        if self.scope.dialect == "zsh" and text.startswith("=") and (len(text) > 1 or len(word) > 1):
            name = text[1:]
            found = self.scope.command_path(name) if len(word) == 1 else None
            if found is None:
                raise ExpansionError(f"{name} not found")
            return (Lit(found, quoted=True),)
        return word

    def _home(self, user: str) -> str:
        if not user:
            return self.scope.get("HOME") or "/"
        if user == "root":
            return "/var/root"
        if re.fullmatch(r"[a-z_][a-z0-9_]*", user) and self.scope.disk.path(f"/Users/{user}").is_dir():
            return f"/Users/{user}"
        if self.scope.dialect == "zsh":
            raise ExpansionError(f"no such user or named directory: {user}")
        return "~" + user

    async def _flat(self, word: Word) -> list[Char]:
        chars: list[Char] = []
        for part in self._tilde(word):
            if isinstance(part, Lit):
                chars += [(char, part.quoted) for char in part.text]
            else:
                chars += [(char, part.quoted) for char in await self._value(part)]
        return chars

    async def _value(self, part: Part) -> str:
        if isinstance(part, Lit):
            return part.text
        if isinstance(part, Sub):
            return await self.capture(part.body)
        if isinstance(part, Arith):
            return str(arithmetic(await self.text(part.word), self._number))
        if part.name in ("@", "*") and not part.op:
            return " ".join(self.scope.arguments)
        return await self._parameter(part)

    def _number(self, name: str) -> int:
        text = self.scope.get(name) or "0"
        return int(text) if re.fullmatch(r"-?\d+", text) else 0

    async def _parameter(self, part: Var) -> str:
        value = self.scope.get(part.name)
        operator = part.op
        if not operator:
            return value or ""
        if operator == "len":
            return str(len(self.scope.arguments) if part.name in "@*" else len(value or ""))
        if operator.lstrip(":") in ("-", "=", "+", "?"):
            unset = value is None or (operator.startswith(":") and value == "")
            kind = operator[-1]
            if kind == "+":
                return "" if unset else await self.text(part.word)
            if not unset:
                return value or ""
            word = await self.text(part.word)
            if kind == "?":
                raise ExpansionError(f"{part.name}: {word or 'parameter not set'}")
            if kind == "=":
                self.scope.put(part.name, word)
            return word
        value = value or ""
        pattern = await self.pattern(part.word)
        if operator in ("#", "##"):
            ends = range(len(value) + 1) if operator == "#" else range(len(value), -1, -1)
            return next((value[end:] for end in ends if re.fullmatch(pattern, value[:end], re.DOTALL)), value)
        if operator in ("%", "%%"):
            starts = range(len(value), -1, -1) if operator == "%" else range(len(value) + 1)
            return next((value[:start] for start in starts if re.fullmatch(pattern, value[start:], re.DOTALL)), value)
        other = await self.text(part.other)
        if not part.word:
            return value
        return re.sub(pattern, lambda _: other, value, count=1 if operator == "/" else 0, flags=re.DOTALL)

    # --- splitting

    async def _split(self, word: Word) -> list[list[Char]]:
        fields: list[list[Char]] = []
        current: list[Char] | None = None
        for part in word:
            if isinstance(part, Lit):
                current = (current or []) + [(char, part.quoted) for char in part.text]
                continue
            if isinstance(part, Var) and part.name == "@" and part.quoted and not part.op:
                for number, argument in enumerate(self.scope.arguments):
                    if number:
                        fields.append(current or [])
                        current = None
                    current = (current or []) + [(char, True) for char in argument]
                continue
            value = await self._value(part)
            if part.quoted:
                current = (current or []) + [(char, True) for char in value]
                continue
            if isinstance(part, Var) and part.name in ("@", "*") and not part.op:
                pieces = [[(c, False) for c in argument] for argument in self.scope.arguments if argument]
                for number, piece in enumerate(pieces):
                    if number:
                        fields.append(current or [])
                        current = None
                    current = (current or []) + piece
                continue
            if self.scope.dialect == "zsh" and not isinstance(part, Sub):
                # zsh neither splits a parameter nor looks for files with it
                if value:
                    current = (current or []) + [(char, True) for char in value]
                continue
            separators = self.scope.get("IFS")
            separators = " \t\n" if separators is None else separators
            current = _into_fields(value, separators, fields, current)
        if current is not None:
            fields.append(current)
        return fields

    # --- files

    def _files(self, chars: list[Char]) -> list[str]:
        text = "".join(char for char, _ in chars)
        if not any(not quoted and char in "*?[" for char, quoted in chars) or not _has_magic(chars):
            return [text]
        found = self._match(chars)
        if found:
            return found
        if self.scope.dialect == "zsh":
            raise ExpansionError(f"no matches found: {text}")
        return [text]

    def _match(self, chars: list[Char]) -> list[str]:
        segments: list[list[Char]] = [[]]
        for char, quoted in chars:
            if char == "/":
                segments.append([])
            else:
                segments[-1].append((char, quoted))
        bases = [""]
        for number, segment in enumerate(segments):
            last = number == len(segments) - 1
            slash = "" if last else "/"
            if not _has_magic(segment):
                text = "".join(char for char, _ in segment)
                bases = [base + text + slash for base in bases]
                if text and last:
                    bases = [base for base in bases if self._exists(base)]
                continue
            regex = re.compile(_regex(segment, slash=False), re.DOTALL)
            hidden = bool(segment) and segment[0][0] == "."
            matched: list[str] = []
            for base in bases:
                for name in self._list(base):
                    fits = (hidden or not name.startswith(".")) and regex.fullmatch(name)
                    if fits and (last or self.scope.disk.path(base + name, self.scope.cwd).is_dir()):
                        matched.append(base + name + slash)
            bases = matched
        return sorted(bases)

    def _exists(self, path: str) -> bool:
        try:
            return self.scope.disk.path(path, self.scope.cwd).exists()
        except OSError:
            return False

    def _list(self, base: str) -> list[str]:
        try:
            return sorted(entry.name for entry in self.scope.disk.path(base or ".", self.scope.cwd).iterdir())
        except OSError:
            return []


def _into_fields(
    value: str, separators: str, fields: list[list[Char]], current: list[Char] | None
) -> list[Char] | None:
    blank = {char for char in separators if char in " \t\n"}
    index = 0
    while index < len(value):
        char = value[index]
        if char in blank:
            while index < len(value) and value[index] in blank:
                index += 1
            if index < len(value) and value[index] in separators:
                continue  # blanks around another separator belong to it
            if current is not None:
                fields.append(current)
                current = None
        elif char in separators:
            fields.append(current or [])
            current = None
            index += 1
            while index < len(value) and value[index] in blank:
                index += 1
        else:
            end = index
            while end < len(value) and value[end] not in separators:
                end += 1
            current = (current or []) + [(c, False) for c in value[index:end]]
            index = end
    return current


def _has_magic(chars: list[Char]) -> bool:
    for index, (char, quoted) in enumerate(chars):
        if quoted:
            continue
        if char in "*?":
            return True
        if char == "[" and any(c == "]" and not q for c, q in chars[index + 2 :]):
            return True
    return False


def _regex(chars: list[Char], *, slash: bool) -> str:
    """A glob as a regular expression. `slash`: `*` and `?` match a slash too."""
    out: list[str] = []
    index = 0
    anything = "." if slash else "[^/]"
    while index < len(chars):
        char, quoted = chars[index]
        index += 1
        if quoted or char not in "*?[":
            out.append(re.escape(char))
        elif char == "*":
            out.append(anything + "*")
        elif char == "?":
            out.append(anything)
        else:
            end = index + 1 if chars[index : index + 1] and chars[index][0] in "!^" else index
            end += 1
            while end < len(chars) and not (chars[end][0] == "]" and not chars[end][1]):
                end += 1
            if end >= len(chars):
                out.append(re.escape("["))
                continue
            inner = chars[index:end]
            negated = bool(inner) and inner[0][0] in "!^" and not inner[0][1]
            body = "".join("-" if c == "-" and not q else re.escape(c) for c, q in inner[negated:])
            body = re.sub(r"\\\[:(alpha|digit|alnum|space|upper|lower):\\?\]?", lambda m: _CLASSES[m[1]], body)
            out.append(f"[{'^' if negated else ''}{body}]")
            index = end + 1
    return "".join(out)


_CLASSES = {"alpha": "A-Za-z", "digit": "0-9", "alnum": "A-Za-z0-9", "space": r"\s", "upper": "A-Z", "lower": "a-z"}


def _braces(word: Word) -> list[Word]:
    """`a{b,c}d` and `{1..3}`, which are text: before everything else."""
    for part in word:
        if not isinstance(part, Lit) or part.quoted or "{" not in part.text:
            continue
        # Only braces within one run of plain characters, or spanning other parts, with a comma at their own level
        atoms: list[Part | str] = []
        for other in word:
            atoms += list(other.text) if isinstance(other, Lit) and not other.quoted else [other]
        found = _find_brace(atoms)
        if found is None:
            return [word]
        start, end, commas = found
        if commas:
            edges = [start, *commas, end]
            middles = [atoms[a + 1 : b] for a, b in itertools.pairwise(edges)]
        else:
            middles = [list(text) for text in _range(atoms[start + 1 : end])]
        out: list[Word] = []
        for middle in middles:
            out += _braces(_joined([*atoms[:start], *middle, *atoms[end + 1 :]]))
        return out
    return [word]


def _find_brace(atoms: list[Part | str]) -> tuple[int, int, list[int]] | None:
    for start, atom in enumerate(atoms):
        if atom != "{":
            continue
        depth = 0
        commas: list[int] = []
        for index in range(start + 1, len(atoms)):
            inner = atoms[index]
            if inner == "{":
                depth += 1
            elif inner == "}" and depth:
                depth -= 1
            elif inner == "}":
                if commas or _range(atoms[start + 1 : index]):
                    return start, index, commas
                break
            elif inner == "," and not depth:
                commas.append(index)
    return None


def _range(atoms: list[Part | str]) -> list[str]:
    text = "".join(atom if isinstance(atom, str) else "\0" for atom in atoms)
    match = re.fullmatch(r"(-?\d{1,6})\.\.(-?\d{1,6})", text)
    if match is not None:
        first, last = int(match[1]), int(match[2])
        if abs(last - first) > 10000:
            return []
        return [str(number) for number in range(first, last + (1 if last >= first else -1), 1 if last >= first else -1)]
    match = re.fullmatch(r"([a-z])\.\.([a-z])|([A-Z])\.\.([A-Z])", text)
    if match is None:
        return []
    a, b = ord(match[1] or match[3]), ord(match[2] or match[4])
    return [chr(code) for code in range(a, b + (1 if b >= a else -1), 1 if b >= a else -1)]


def _joined(atoms: list[Part | str]) -> Word:
    parts: list[Part] = []
    for atom in atoms:
        if not isinstance(atom, str):
            parts.append(atom)
        elif parts and isinstance(parts[-1], Lit) and not parts[-1].quoted:
            parts[-1] = Lit(parts[-1].text + atom)
        else:
            parts.append(Lit(atom))
    return tuple(parts)


# --- arithmetic

_TOKEN = re.compile(
    r"\s*(?:(0[xX][0-9a-fA-F]+|\d+)|([A-Za-z_]\w*)|(\*\*|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%<>!~&|^()?:]))"
)
_LEVELS = (
    ("||",),
    ("&&",),
    ("|",),
    ("^",),
    ("&",),
    ("==", "!="),
    ("<", ">", "<=", ">="),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
)


def arithmetic(text: str, variable: Callable[[str], int]) -> int:
    """The value of a shell's integer expression; assignments are not among what it knows.

    Raises:
        ExpansionError: It is none, or divides by zero.
    """
    tokens: list[str] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpansionError(f"bad math expression: {text.strip()[:60]}")
        tokens.append(match[0].strip())
        at = match.end()
    tokens.append("")
    position = 0

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1]

    def atom() -> int:
        word = take()
        if word == "(":
            value = choice()
            if take() != ")":
                raise ExpansionError("bad math expression: ')' expected")
            return value
        if word in ("-", "+", "!", "~") and word:
            value = atom()
            return {"-": -value, "+": value, "!": int(not value), "~": ~value}[word]
        if word[:1].isdigit():
            return int(word, 16) if word[:2].lower() == "0x" else int(word)
        if word[:1].isalpha() or word[:1] == "_":
            return variable(word)
        raise ExpansionError("bad math expression: operand expected")

    def level(number: int) -> int:
        if number == len(_LEVELS):
            return atom()
        value = level(number + 1)
        while tokens[position] in _LEVELS[number]:
            operator = take()
            value = _apply(operator, value, level(number + 1))
        return value

    def choice() -> int:
        value = level(0)
        if tokens[position] != "?":
            return value
        take()
        first = choice()
        if take() != ":":
            raise ExpansionError("bad math expression: ':' expected")
        second = choice()
        return first if value else second

    if tokens == [""]:
        return 0
    result = choice()
    if tokens[position] != "":
        raise ExpansionError(f"bad math expression: {text.strip()[:60]}")
    return result


def _apply(operator: str, a: int, b: int) -> int:
    if operator in "/%":
        if b == 0:
            raise ExpansionError("division by zero")
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        value = quotient if operator == "/" else a - quotient * b
    elif operator in ("<<", ">>"):
        value = (a << (b % 64)) if operator == "<<" else (a >> (b % 64))
    else:
        value = int(
            {
                "||": bool(a) or bool(b),
                "&&": bool(a) and bool(b),
                "|": a | b,
                "^": a ^ b,
                "&": a & b,
                "==": a == b,
                "!=": a != b,
                "<": a < b,
                ">": a > b,
                "<=": a <= b,
                ">=": a >= b,
                "+": a + b,
                "-": a - b,
                "*": a * b,
            }[operator]
        )
    return (value + 2**63) % 2**64 - 2**63  # 64 bits, as in both shells
