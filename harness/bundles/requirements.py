"""Code requirements, decoded to the language that `codesign -d -r-` prints. They are shown, not evaluated.

A requirement is an expression in prefix form, big-endian words; texts and data are padded to 4 bytes. Operators and
their numbers: Security's requirement.h.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

from harness.bundles.der import DerError, dotted

MAX_DEPTH = 100
MAX_TEXT = 64 * 1024
_SET, _SINGLE = 0xFADE0C01, 0xFADE0C00
_KINDS = {1: "host", 2: "guest", 3: "designated", 4: "library", 5: "plugin"}
_EPOCH = datetime(2001, 1, 1, tzinfo=UTC)


class RequirementError(ValueError):
    """Not a requirement, or one that cannot be read."""


def read_requirements(blob: bytes) -> dict[str, str]:
    """Kind (`designated`, `host`, …) to expression, of a requirement set with its header.

    Raises:
        RequirementError: It is damaged, or holds an operator that is not known.
    """
    try:
        magic, length, count = struct.unpack(">III", blob[:12])
        if magic != _SET or length != len(blob) or count > len(_KINDS):
            raise RequirementError(f"magic {magic:08x}, {length} of {len(blob)} bytes, {count} requirements")
        found: dict[str, str] = {}
        end = 12 + count * 8
        for index in range(count):
            kind, offset = struct.unpack(">II", blob[12 + index * 8 : 20 + index * 8])
            if kind not in _KINDS or offset != end:
                raise RequirementError(f"requirement {index} of kind {kind} at {offset}")
            inner, size = struct.unpack(">II", blob[offset : offset + 8])
            if inner != _SINGLE or size < 12 or offset + size > length:
                raise RequirementError(f"requirement {index} is {inner:08x} with {size} bytes")
            found[_KINDS[kind]] = _Reader(blob[offset + 8 : offset + size]).whole()
            end = offset + size
        if end != length:
            raise RequirementError(f"{length - end} bytes behind the last requirement")
    except struct.error as error:
        raise RequirementError(f"it ends too early ({error})") from None
    return found


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._length = 0

    def whole(self) -> str:
        """The expression that fills the data."""
        if self._word() != 1:
            raise RequirementError("not in the form of an expression")
        text = self._expression(0, 0)
        if self._at != len(self._data):
            raise RequirementError(f"{len(self._data) - self._at} bytes behind the expression")
        return text

    def _word(self) -> int:
        (value,) = struct.unpack(">I", self._data[self._at : self._at + 4])
        self._at += 4
        return int(value)

    def _bytes(self) -> bytes:
        length = self._word()
        if self._at + length > len(self._data):
            raise RequirementError(f"a text of {length} bytes with {len(self._data) - self._at} left")
        data = self._data[self._at : self._at + length]
        padded = self._data[self._at + length : self._at + (length + 3) // 4 * 4]
        if padded.strip(b"\0"):
            raise RequirementError("a text that is not padded with zeros")
        self._at += (length + 3) // 4 * 4
        return data

    def _text(self) -> str:
        return _quoted(self._bytes().decode("utf-8", "replace"))

    def _slot(self) -> str:
        number = self._word()
        signed = number - (1 << 32) if number & 0x80000000 else number
        return {0: "leaf", -1: "root"}.get(signed, str(signed))

    def _match(self) -> str:
        kind = self._word()
        if kind == 0:
            return " /* exists */"
        if kind == 14:
            return " absent"
        if kind in (1, 2, 3, 4, 5, 6, 7, 8):
            value = self._text()
            return {
                1: f" = {value}",
                2: f" ~ {value}",
                3: f" = {value}*",
                4: f" = *{value}",
                5: f" < {value}",
                6: f" > {value}",
                7: f" <= {value}",
                8: f" >= {value}",
            }[kind]
        if kind in (9, 10, 11, 12, 13):
            high, low = self._word(), self._word()
            seconds = high << 32 | low
            seconds = seconds - (1 << 64) if seconds >> 63 else seconds
            try:
                moment = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S +0000")
            except OverflowError:
                raise RequirementError(f"a time of {seconds} seconds") from None
            return f" {('=', '<', '>', '<=', '>=')[kind - 9]} timestamp {_quoted(moment)}"
        raise RequirementError(f"a comparison of kind {kind}")

    def _expression(self, depth: int, binding: int) -> str:
        if depth > MAX_DEPTH:
            raise RequirementError("an expression in too many parentheses")
        operator = self._word() & 0x00FFFFFF
        match operator:
            case 0:
                return "never"
            case 1:
                return "always"
            case 2:
                return f"identifier {self._text()}"
            case 3:
                return "anchor apple"
            case 4:
                slot = self._slot()
                return f'certificate {slot} = H"{self._bytes().hex()}"'
            case 5:
                return f"legacy info[{self._text()}] = {self._text()}"
            case 6 | 7:
                word, strength = ("and", 2) if operator == 6 else ("or", 1)
                left, right = self._expression(depth + 1, strength), self._expression(depth + 1, strength)
                joined = f"{left} {word} {right}"
                if len(joined) > MAX_TEXT:
                    raise RequirementError("an endless expression")
                return f"({joined})" if strength < binding else joined
            case 8:
                return f'cdhash H"{self._bytes().hex()}"'
            case 9:
                return f"! {self._expression(depth + 1, 3)}"
            case 10:
                return f"info[{self._plain()}]{self._match()}"
            case 11:
                slot = self._slot()
                return f"certificate {slot}[{self._plain()}]{self._match()}"
            case 12:
                return f"certificate {self._slot()} trusted"
            case 13:
                return "anchor trusted"
            case 14:
                slot = self._slot()
                return f"certificate {slot}[field.{_dotted(self._bytes())}]{self._match()}"
            case 15:
                return "anchor apple generic"
            case 16:
                return f"entitlement[{self._plain()}]{self._match()}"
            case 17:
                slot = self._slot()
                return f"certificate {slot}[policy.{_dotted(self._bytes())}]{self._match()}"
            case 18:
                return f"anchor apple {self._text()}"
            case 19:
                return f"({self._text()})"
            case 20:
                return f"platform = {self._word()}"
            case 21:
                return "notarized"
            case 22:
                slot = self._slot()
                return f"certificate {slot}[timestamp.{_dotted(self._bytes())}]{self._match()}"
            case 23:
                return "legacy"
            case _:
                raise RequirementError(f"the operator {operator}")

    def _plain(self) -> str:
        return self._bytes().decode("utf-8", "replace")


def _quoted(text: str) -> str:
    """Bare where that is unmistakable, else in quotation marks."""
    if text and text[0].isalpha() and text.isascii() and text.isalnum():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _dotted(data: bytes) -> str:
    try:
        return dotted(data)
    except DerError as error:
        raise RequirementError(str(error)) from None
