"""Code signatures made here byte by byte: what the one real app does not have."""

from __future__ import annotations

import hashlib
import plistlib
import struct

import pytest

from harness.bundles import BundleError
from harness.bundles.signature import read_signature


def _directory(hash_type: int, *, version: int = 0x20500, flags: int = 0x10000, team: str = "TEAM123456") -> bytes:
    names = b"org.example\0" + (team.encode() + b"\0" if team else b"")
    size = {0x20100: 48, 0x20200: 52, 0x20300: 64, 0x20400: 88, 0x20500: 96}[version]
    offset = size
    head = struct.pack(">7I", version, flags, size + len(names), offset, 0, 0, 0x1234)
    head += struct.pack(">4BI", 32, hash_type, 0, 12, 0) + struct.pack(">I", 0)
    if version >= 0x20200:
        head += struct.pack(">I", offset + 12 if team else 0)
    if version >= 0x20300:
        head += struct.pack(">IQ", 0, 0x1_0000_0000)
    if version >= 0x20400:
        head += bytes(24)
    if version >= 0x20500:
        head += struct.pack(">II", 0x000E0501, 0)
    body = head + names
    return struct.pack(">II", 0xFADE0C02, len(body) + 8) + body


def _superblob(*slots: tuple[int, bytes]) -> bytes:
    at = 12 + 8 * len(slots)
    index, body = b"", b""
    for slot, blob in slots:
        index += struct.pack(">II", slot, at + len(body))
        body += blob
    return struct.pack(">III", 0xFADE0CC0, at + len(body), len(slots)) + index + body


def _blob(magic: int, data: bytes) -> bytes:
    return struct.pack(">II", magic, 8 + len(data)) + data


@pytest.mark.parametrize(
    ("kinds", "best"), [((1, 2), 2), ((2, 1), 2), ((1, 4, 2), 4), ((3, 2), 2), ((1, 3), 3), ((1,), 1)]
)
def test_the_best_hash_names_the_code(kinds: tuple[int, ...], best: int) -> None:
    """As the kernel ranks them: SHA-384, SHA-256, SHA-256 cut, SHA-1."""
    blobs = {kind: _directory(kind) for kind in kinds}
    slots = [0, *range(0x1000, 0x1006)]
    signature = read_signature(_superblob(*zip(slots, blobs.values(), strict=False)))
    function = {1: "sha1", 2: "sha256", 3: "sha256", 4: "sha384"}[best]
    assert signature.best.hash_type == best
    assert signature.best.cdhash == hashlib.new(function, blobs[best]).hexdigest()[:40]
    assert len(signature.directories) == len(kinds)


def test_what_a_directory_says() -> None:
    signature = read_signature(_superblob((0, _directory(2)), (0x10000, _blob(0xFADE0B01, b"cms"))))
    best = signature.best
    assert (best.identifier, best.team, best.flags, best.page_size) == ("org.example", "TEAM123456", 0x10000, 4096)
    assert (best.code_limit, best.runtime) == (0x1_0000_0000, "14.5.1")
    assert (signature.cms_size, signature.adhoc, signature.entitlements) == (3, False, {})


def test_older_directories_know_less() -> None:
    old = read_signature(_superblob((0, _directory(1, version=0x20100, team="")))).best
    assert (old.team, old.runtime, old.code_limit) == ("", "", 0x1234)
    assert read_signature(_superblob((0, _directory(2, version=0x20200)))).best.team == "TEAM123456"


def test_signed_by_nobody() -> None:
    empty_cms = (0x10000, _blob(0xFADE0B01, b""))
    assert read_signature(_superblob((0, _directory(2, flags=0x2, team="")), empty_cms)).adhoc
    assert read_signature(_superblob((0, _directory(2)))).adhoc


def test_entitlements() -> None:
    wanted = {"com.apple.developer.networking.networkextension": ["app-proxy-provider"]}
    blob = _blob(0xFADE7171, plistlib.dumps(wanted))
    assert read_signature(_superblob((0, _directory(2)), (5, blob))).entitlements == wanted
    assert read_signature(_superblob((0, _directory(2)), (5, _blob(0xFADE7171, b"")))).entitlements == {}
    with pytest.raises(BundleError, match="entitlements"):
        read_signature(_superblob((0, _directory(2)), (5, _blob(0xFADE7171, b"<plist>"))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack(">III", 0xFADE0CC0, 12, 0),
        struct.pack(">III", 0xFADE0CC0, 12, 65),
        struct.pack(">III", 0xFADE0CC0, 500, 0),
        struct.pack(">IIIII", 0xFADE0CC0, 20, 1, 0, 4000),
        _superblob((0, _blob(0xFADE7171, b"no directory"))),
        _superblob((0, _directory(9))),
        _superblob((0, _directory(2)))[:-4],
    ],
)
def test_what_is_no_signature(data: bytes) -> None:
    with pytest.raises(BundleError) as error:
        read_signature(data, "it")
    assert error.value.seen
