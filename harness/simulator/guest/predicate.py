"""NSPredicate, as far as `log` users write it: comparisons, IN, AND/OR/NOT, parentheses, on a log record's keys."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from harness.simulator.guest.unified_log import LogRecord

Test = Callable[[LogRecord], bool]
MAX_DEPTH = 50

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<operator>==|!=|<>|>=|<=|=>|=<|&&|\|\||[=<>!(){},])
    | (?P<option>\[[cdnl]+\])
    | (?P<word>[A-Za-z0-9_.\-]+)
    )""",
    re.VERBOSE,
)

_KEYS: dict[str, Callable[[LogRecord], object]] = {
    "process": lambda r: r.process,
    "processimagepath": lambda r: r.process_path,
    "sender": lambda r: r.sender,
    "senderimagepath": lambda r: r.sender_path,
    "library": lambda r: r.sender,
    "subsystem": lambda r: r.subsystem,
    "category": lambda r: r.category,
    "eventmessage": lambda r: r.message,
    "composedmessage": lambda r: r.message,
    "message": lambda r: r.message,
    "formatstring": lambda r: r.message,
    "messagetype": lambda r: r.level,
    "logtype": lambda r: r.level,
    "type": lambda r: r.event_type,
    "eventtype": lambda r: r.event_type,
    "processid": lambda r: r.pid,
    "processidentifier": lambda r: r.pid,
    "pid": lambda r: r.pid,
    "threadid": lambda r: r.thread,
    "threadidentifier": lambda r: r.thread,
    "userid": lambda r: r.user_id,
    "activityidentifier": lambda r: r.activity,
    "bootuuid": lambda r: r.boot_uuid,
}
_NAMED_COMPARISONS = ("CONTAINS", "BEGINSWITH", "ENDSWITH", "LIKE", "MATCHES", "IN", "BETWEEN")
_ENUMERATIONS = ("messagetype", "logtype", "type", "eventtype")


class BadPredicate(ValueError):
    """The text is no predicate that we know; says where it went wrong."""


def parse_predicate(text: str) -> Test:
    """The test that the predicate describes.

    Raises:
        BadPredicate: It cannot be read, or uses a key or operator that is not known here: never silently misread.
    """
    return _Parser(_tokens(text)).parse()


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise BadPredicate(f"unexpected text at {text[position : position + 20]!r}")
        position = match.end()
        kind = str(match.lastgroup)
        tokens.append((kind, match.group(kind)))
    return tokens


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def parse(self) -> Test:
        test = self._or()
        if self._at != len(self._tokens):
            raise BadPredicate(f"unexpected {self._tokens[self._at][1]!r}")
        return test

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _is(self, *wanted: str) -> bool:
        kind, text = self._peek()
        return kind in ("word", "operator") and text.upper() in wanted

    def _or(self) -> Test:
        test = self._and()
        while self._is("OR", "||"):
            self._take()
            left, right = test, self._and()
            test = lambda record, left=left, right=right: left(record) or right(record)  # type: ignore[misc] # noqa: E731
        return test

    def _and(self) -> Test:
        test = self._not()
        while self._is("AND", "&&"):
            self._take()
            left, right = test, self._not()
            test = lambda record, left=left, right=right: left(record) and right(record)  # type: ignore[misc] # noqa: E731
        return test

    def _not(self) -> Test:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadPredicate("nested too deep")
        try:
            if self._is("NOT", "!"):
                self._take()
                inner = self._not()
                return lambda record: not inner(record)
            if self._is("("):
                self._take()
                inner = self._or()
                if self._take()[1] != ")":
                    raise BadPredicate("a closing parenthesis is missing")
                return inner
            if self._is("TRUEPREDICATE"):
                self._take()
                return lambda _record: True
            if self._is("FALSEPREDICATE"):
                self._take()
                return lambda _record: False
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Test:
        kind, name = self._take()
        key = name.lower()
        if kind != "word" or key not in _KEYS:
            raise BadPredicate(f"not a key: {name!r}")
        kind, operator = self._take()
        operator = operator.upper()
        if not (kind == "operator" or operator in _NAMED_COMPARISONS):
            raise BadPredicate(f"not a comparison: {operator!r}")
        options = ""
        if self._peek()[0] == "option":
            options = self._take()[1]
        values = self._set() if operator == "IN" else [self._value()]
        return _comparison(key, operator, values, ignore_case="c" in options)

    def _set(self) -> list[str]:
        if self._take()[1] not in ("{", "("):
            raise BadPredicate("IN needs a set")
        values = [self._value()]
        while True:
            text = self._take()[1]
            if text in ("}", ")"):
                return values
            if text != ",":
                raise BadPredicate("a set is not closed")
            values.append(self._value())

    def _value(self) -> str:
        kind, text = self._take()
        if kind == "string":
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind == "word":
            return text
        raise BadPredicate("a value is missing")


def _comparison(key: str, operator: str, values: list[str], *, ignore_case: bool) -> Test:
    read = _KEYS[key]
    fold = ignore_case or key in _ENUMERATIONS
    expected = [value.lower() if fold else value for value in values]
    wanted = expected[0]

    def text_of(record: LogRecord) -> str:
        text = str(read(record))
        return text.lower() if fold else text

    def number_test(compare: Callable[[float, float], bool]) -> Test:
        try:
            limit = float(int(wanted, 0))
        except ValueError:
            raise BadPredicate(f"not a number: {wanted!r}") from None
        return lambda record: compare(_number(read(record)), limit)

    if operator in ("=", "=="):
        return lambda record: text_of(record) == wanted
    if operator in ("!=", "<>"):
        return lambda record: text_of(record) != wanted
    if operator == "CONTAINS":
        return lambda record: wanted in text_of(record)
    if operator == "BEGINSWITH":
        return lambda record: text_of(record).startswith(wanted)
    if operator == "ENDSWITH":
        return lambda record: text_of(record).endswith(wanted)
    if operator == "LIKE":
        like = re.compile(fnmatch.translate(re.sub(r"\[", "[[]", wanted)))
        return lambda record: like.match(text_of(record)) is not None
    if operator == "MATCHES":
        try:
            pattern = re.compile(wanted, re.DOTALL)
        except re.error as error:
            raise BadPredicate(f"not a regular expression: {error}") from None
        return lambda record: pattern.fullmatch(text_of(record)) is not None
    if operator == "IN":
        return lambda record: text_of(record) in expected
    orders: dict[str, Callable[[float, float], bool]] = {
        "<": lambda a, b: a < b,
        ">": lambda a, b: a > b,
        "<=": lambda a, b: a <= b,
        "=<": lambda a, b: a <= b,
        ">=": lambda a, b: a >= b,
        "=>": lambda a, b: a >= b,
    }
    if operator in orders:
        return number_test(orders[operator])
    raise BadPredicate(f"not a comparison here: {operator!r}")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int) else float("nan")
