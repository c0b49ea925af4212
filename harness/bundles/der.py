"""ASN.1 in BER or DER: tags, lengths and values, from an untrusted source.

Apple's signer writes messages of indefinite length, which strict DER readers refuse; hence this one. It only walks:
what the values mean, and whether a signature fits, is decided elsewhere. Nothing is copied until it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_DEPTH = 40
MAX_CHILDREN = 20_000

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTF8_STRING, SEQUENCE, SET, UTC_TIME, GENERALIZED_TIME = 0x0C, 0x30, 0x31, 0x17, 0x18
CONTEXT_0, CONTEXT_1 = 0xA0, 0xA1


class DerError(ValueError):
    """What is there is no ASN.1, or not the kind that was expected."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value: `data[start:stop]` with its header, `data[body:end]` without."""

    data: bytes
    tag: int
    start: int
    body: int
    end: int
    stop: int
    depth: int

    @property
    def content(self) -> bytes:
        """The value's bytes."""
        return self.data[self.body : self.end]

    @property
    def raw(self) -> bytes:
        """Header and value (and end mark)."""
        return self.data[self.start : self.stop]

    def __iter__(self) -> Iterator[Node]:
        """What a constructed value is made of."""
        if not self.tag & 0x20:
            raise DerError(f"a value of tag {self.tag:#04x} has no parts")
        at, count = self.body, 0
        while at < self.end:
            node = read_node(self.data, at, self.end, self.depth + 1)
            count += 1
            if count > MAX_CHILDREN:
                raise DerError("too many parts")
            yield node
            at = node.stop

    def expect(self, tag: int) -> Node:
        """Itself, if it is of that tag."""
        if self.tag != tag:
            raise DerError(f"tag {self.tag:#04x} where {tag:#04x} belongs")
        return self

    def parts(self, tag: int) -> list[Node]:
        """Its parts, if it is of that tag."""
        return list(self.expect(tag))

    def octets(self) -> bytes:
        """An OCTET STRING's bytes; BER may have cut it into pieces."""
        if self.tag == OCTET_STRING:
            return self.content
        return b"".join(part.octets() for part in self.parts(OCTET_STRING | 0x20))

    def oid(self) -> str:
        """An object identifier, dotted."""
        return dotted(self.expect(OID).content)

    def integer(self) -> int:
        """A whole number of at most 64 bytes."""
        content = self.expect(INTEGER).content
        if not 0 < len(content) <= 64:
            raise DerError(f"a number of {len(content)} bytes")
        return int.from_bytes(content, "big", signed=True)

    def boolean(self) -> bool:
        """Yes or no."""
        content = self.expect(BOOLEAN).content
        if content not in (b"\0", b"\xff", b"\1"):
            raise DerError("neither yes nor no")
        return content != b"\0"

    def text(self) -> str:
        """A UTF-8 string."""
        try:
            return self.expect(UTF8_STRING).content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DerError("a text that is not UTF-8") from error

    def time(self) -> datetime:
        """A UTCTime or GeneralizedTime, in UTC; fractions of a second are kept."""
        try:
            text = self.content.decode("ascii")
            if self.tag == UTC_TIME:
                year = int(text[:2])
                text = f"{2000 + year if year < 50 else 1900 + year}{text[2:]}"
            elif self.tag != GENERALIZED_TIME:
                raise DerError(f"tag {self.tag:#04x} is no time")
            if not text.endswith("Z"):
                raise DerError(f"a time that is not UTC: {text[:40]!r}")
            whole, _, fraction = text[:-1].partition(".")
            if len(whole) != 14 or not whole.isdigit() or (fraction and not fraction.isdigit()):
                raise DerError(f"no time: {text[:40]!r}")
            moment = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except (ValueError, UnicodeDecodeError) as error:
            raise DerError("no time") from error
        return moment.replace(microsecond=int(fraction[:6].ljust(6, "0"))) if fraction else moment


def read_node(data: bytes, at: int = 0, end: int | None = None, depth: int = 0) -> Node:
    """The value that begins at `at`.

    Raises:
        DerError: It does not fit before `end`, or lies too deep.
    """
    limit = len(data) if end is None else end
    if depth > MAX_DEPTH:
        raise DerError(f"more than {MAX_DEPTH} values in one another")
    if at + 2 > limit:
        raise DerError("it ends in the middle of a value")
    tag, length = data[at], data[at + 1]
    if tag & 0x1F == 0x1F:
        raise DerError(f"an unknown tag {tag:#04x}")
    body = at + 2
    if length == 0x80:
        if not tag & 0x20:
            raise DerError("an endless value that has no parts")
        here, count = body, 0
        while data[here : min(here + 2, limit)] != b"\0\0":
            count += 1
            if count > MAX_CHILDREN:
                raise DerError("too many parts")
            here = read_node(data, here, limit, depth + 1).stop
        return Node(data, tag, at, body, here, here + 2, depth)
    if length & 0x80:
        width = length & 0x7F
        if width > 4 or body + width > limit:
            raise DerError(f"a length of {width} bytes")
        length = int.from_bytes(data[body : body + width], "big")
        body += width
    if body + length > limit:
        raise DerError(f"a value of {length} bytes with {limit - body} left")
    return Node(data, tag, at, body, body + length, body + length, depth)


def dotted(content: bytes) -> str:
    """An object identifier's content, dotted.

    Raises:
        DerError: It is none.
    """
    if not content or content[-1] & 0x80 or len(content) > 64:
        raise DerError("an object identifier without an end")
    numbers: list[int] = []
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - first * 40, *numbers[1:])))
