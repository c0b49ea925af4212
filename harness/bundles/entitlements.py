"""Entitlements, twice in a signature: as a property list in XML, and since macOS 12 in DER. Both should say the same.

DER: [APPLICATION 16] { INTEGER 1, [CONTEXT 16] { SEQUENCE { UTF8String key, value } … } }; a value is a BOOLEAN, INTEGER,
UTF8String, OCTET STRING, a SEQUENCE of values, or again [CONTEXT 16].
"""

from __future__ import annotations

from typing import Any

from harness.bundles.der import BOOLEAN, INTEGER, OCTET_STRING, SEQUENCE, UTF8_STRING, DerError, Node, read_node

MAX_ENTITLEMENTS = 1024 * 1024
MAX_KEYS = 10_000
_OUTER, _TABLE = 0x70, 0xB0


def read_der_entitlements(data: bytes) -> dict[str, Any]:
    """The dictionary in a DER blob (without the blob's header).

    Raises:
        DerError: It is damaged, too large, or names a key twice.
    """
    if len(data) > MAX_ENTITLEMENTS:
        raise DerError(f"{len(data)} bytes of entitlements")
    top = read_node(data)
    if top.stop != len(data):
        raise DerError(f"{len(data) - top.stop} bytes behind the entitlements")
    version, table = _pair(top.expect(_OUTER))
    if version.integer() != 1:
        raise DerError(f"entitlements of version {version.integer()}")
    return _table(table)


def _table(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in node.expect(_TABLE):
        key, value = _pair(entry.expect(SEQUENCE))
        name = key.text()
        if name in found or len(found) >= MAX_KEYS:
            raise DerError(f"the key {name[:100]!r} twice" if name in found else "too many keys")
        found[name] = _value(value)
    return found


def _value(node: Node) -> Any:
    match node.tag:
        case 0x01:
            return node.expect(BOOLEAN).boolean()
        case 0x02:
            return node.expect(INTEGER).integer()
        case 0x04:
            return node.expect(OCTET_STRING).content
        case 0x0C:
            return node.expect(UTF8_STRING).text()
        case 0x30:
            return [_value(part) for part in node]
        case 0xB0:
            return _table(node)
        case tag:
            raise DerError(f"a value of tag {tag:#04x} in the entitlements")


def _pair(node: Node) -> tuple[Node, Node]:
    parts = list(node)
    if len(parts) != 2:
        raise DerError(f"{len(parts)} values where 2 belong")
    return parts[0], parts[1]


def differing_keys(xml: dict[str, Any], der: dict[str, Any]) -> list[str]:
    """Keys that the two do not agree on. `true` is not 1."""
    return sorted(
        key for key in xml.keys() | der.keys() if key not in xml or key not in der or not _same(xml[key], der[key])
    )


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
