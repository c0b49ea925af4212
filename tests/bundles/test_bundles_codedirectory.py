"""Code signatures, verified: what the one real app has is right, and every kind of damage is named."""

from __future__ import annotations

import contextlib
import hashlib
import plistlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bundles.codedirectory import Sealed, check_slice
from harness.bundles.der import DerError
from harness.bundles.entitlements import differing_keys, read_der_entitlements
from harness.bundles.facts import PROBLEMS, SliceFacts
from harness.bundles.failures import BundleError
from harness.bundles.layout import check_layout
from harness.bundles.macho import MachSlice, read_slices
from harness.bundles.requirements import RequirementError, read_requirements

TOLD = list[tuple[str, str]]
NOTHING = Sealed()


def _blob(magic: int, data: bytes) -> bytes:
    return struct.pack(">II", magic, 8 + len(data)) + data


def _directory(
    kind: int, code: bytes, special: dict[int, bytes], *, page: int = 12, team: str = "", flags: int = 2
) -> bytes:
    name, size = {1: ("sha1", 20), 2: ("sha256", 32), 3: ("sha256", 20), 4: ("sha384", 48)}[kind]

    def digest(data: bytes) -> bytes:
        return hashlib.new(name, data).digest()[:size]

    names = b"org.example\0" + (team.encode() + b"\0" if team else b"")
    slots = max(special, default=0)
    width = 1 << page if page else len(code)
    pages = [digest(code[at : at + width]) for at in range(0, len(code), width)]
    hashes = [digest(special[slot]) if slot in special else bytes(size) for slot in range(slots, 0, -1)] + pages
    head = struct.pack(">7I", 0x20200, flags, 52 + len(names) + slots * size, 52, slots, len(pages), len(code))
    head += struct.pack(">4BI", size, kind, 0, page, 0) + struct.pack(">I", 0)
    head += struct.pack(">I", 64 if team else 0)
    return _blob(0xFADE0C02, head + names + b"".join(hashes))


def _superblob(*slots: tuple[int, bytes]) -> bytes:
    at = 12 + 8 * len(slots)
    index, body = b"", b""
    for slot, blob in slots:
        index += struct.pack(">II", slot, at + len(body))
        body += blob
    return struct.pack(">III", 0xFADE0CC0, at + len(body), len(slots)) + index + body


def _checked(code: bytes, signature: bytes, sealed: Sealed = NOTHING, tail: bytes = b"") -> tuple[SliceFacts, TOLD]:
    data = code + signature + tail
    part = MachSlice(
        arch="arm64",
        cpu_type=0x0100000C,
        cpu_subtype=0,
        offset=0,
        size=len(data),
        file_type=2,
        uuid="",
        platform="macos",
        min_os="12.0",
        sdk="14.5",
        signature=(len(code), len(signature)),
    )
    told: TOLD = []
    facts = check_slice(data, part, sealed, lambda code, what: told.append((code, what)))
    assert all(code in PROBLEMS for code, _ in told)
    return facts, told


CODE = bytes(range(256)) * 50
REQUIREMENTS = _blob(0xFADE0C01, struct.pack(">I", 0))
XML = _blob(0xFADE7171, plistlib.dumps({"a": True, "b": ["x"]}))
DER = bytes.fromhex("701a020101b015" + "3006" + "0c0161" + "0101ff" + "300b" + "0c0162" + "3006" + "0c0178" + "0c0179")


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
@pytest.mark.parametrize("page", [12, 14, 0])
def test_a_signature_made_here_holds_in_every_hash(kind: int, page: int) -> None:
    special = {1: b"info", 2: REQUIREMENTS, 3: b"seal", 5: XML}
    blobs = ((0, _directory(kind, CODE, special, page=page)), (2, REQUIREMENTS), (5, XML))
    facts, told = _checked(CODE, _superblob(*blobs), Sealed(b"info", b"seal"))
    assert facts.page_hash_ok is True
    assert dict(facts.slots) == dict.fromkeys(("info", "requirements", "resources", "entitlements"), "ok")
    assert [code for code, _ in told] == ["adhoc"]
    assert (facts.identifier, facts.adhoc, facts.entitlements) == ("org.example", True, {"a": True, "b": ["x"]})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_of_code_or_directory_is_told(data: st.DataObject) -> None:
    special = {2: REQUIREMENTS, 5: XML}
    signature = _superblob((0, _directory(2, CODE, special)), (2, REQUIREMENTS), (5, XML))
    good, _ = _checked(CODE, signature)
    whole = bytearray(CODE + signature)
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        facts, told = _checked(bytes(whole[: len(CODE)]), bytes(whole[len(CODE) :]))
    except BundleError:  # pragma: no cover - would be a mistake: damage is told, not raised
        pytest.fail("raised")
    # Nobody signed it, so its directory may be altered: then it is another cdhash.
    assert [code for code, _ in told] != ["adhoc"] or facts.cdhash != good.cdhash


def test_each_kind_of_damage_has_its_word() -> None:
    sealed = {1: b"info", 3: b"seal", 5: XML, 9: b"x"}
    directory = _directory(2, CODE, sealed, team="TEAM123456")
    facts, told = _checked(CODE, _superblob((0, directory), (2, REQUIREMENTS)), Sealed(b"INFO", b"seal"))
    assert dict(facts.slots) == {
        "info": "differs",
        "requirements": "unsealed",
        "resources": "ok",
        "entitlements": "missing",
        "launch-parent": "missing",
    }
    codes = [code for code, _ in told]
    assert codes.count("slot-missing") == 2
    assert {"slot-differs", "slot-unsealed", "adhoc"} <= set(codes)
    flipped = CODE[:5000] + b"\xff" + CODE[5001:]
    assert "page-hash" in dict(_checked(flipped, _superblob((0, directory)))[1])
    assert "code-limit" in dict(_checked(CODE + bytes(16), _superblob((0, directory)))[1])
    assert "unsealed-bytes" in dict(_checked(CODE + b"evil".ljust(16, b"\0"), _superblob((0, directory)))[1])
    assert "unsealed-bytes" in dict(_checked(CODE, _superblob((0, directory)), tail=b"evil")[1])
    assert "fat-layout" in dict(_checked(CODE, _superblob((0, directory)), tail=bytes(4))[1])
    assert "signature-remains" in dict(_checked(CODE, _superblob((0, directory)) + b"\0older")[1])
    assert "signature-layout" in dict(_checked(CODE, _superblob((0, directory), (77, _blob(1, b"?"))))[1])
    assert "signature-unreadable" in dict(_checked(CODE, _superblob((2, REQUIREMENTS)))[1])
    other = _directory(1, CODE, sealed, team="OTHER12345")
    assert "directories-disagree" in dict(_checked(CODE, _superblob((0, other), (0x1000, directory)))[1])


def test_the_best_of_several_directories_counts_and_all_are_checked() -> None:
    first, second = _directory(1, CODE, {}), _directory(2, CODE, {})
    facts, told = _checked(CODE, _superblob((0, first), (0x1000, second)))
    assert list(facts.cdhashes) == ["sha256", "sha1"]
    assert facts.cdhash == hashlib.sha256(second).hexdigest()[:40]
    assert [code for code, _ in told] == ["adhoc"]
    stale = _directory(1, CODE[::-1], {})
    facts, told = _checked(CODE, _superblob((0, stale), (0x1000, second)))
    assert facts.page_hash_ok is False
    assert "page-hash" in dict(told)


def test_entitlements_in_der() -> None:
    assert read_der_entitlements(DER) == {"a": True, "b": ["x", "y"]}
    signature = _superblob((0, _directory(2, CODE, {5: XML, 7: _blob(0xFADE7172, DER)})), (5, XML))
    signature = _superblob(
        (0, _directory(2, CODE, {5: XML, 7: _blob(0xFADE7172, DER)})), (5, XML), (7, _blob(0xFADE7172, DER))
    )
    facts, told = _checked(CODE, signature)
    assert facts.entitlements_der == {"a": True, "b": ["x", "y"]}
    assert "b" in dict(told)["entitlements-differ"]
    assert differing_keys({"a": 1, "b": "x"}, {"a": True, "b": "x"}) == ["a"]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.builds(lambda data: b"\x70" + bytes([len(data)]) + data, st.binary(max_size=100)))
def test_noise_as_entitlements_or_requirements_is_refused_not_a_crash(data: bytes) -> None:
    with contextlib.suppress(DerError):
        read_der_entitlements(data)
    for noise in (data, _blob(0xFADE0C01, data), _blob(0xFADE0C01, struct.pack(">III", 1, 3, 20) + data)):
        with contextlib.suppress(RequirementError):
            read_requirements(noise)


def _requirement(*words: int | bytes) -> str:
    body = b""
    for word in words:
        if isinstance(word, int):
            body += struct.pack(">I", word & 0xFFFFFFFF)
        else:
            body += struct.pack(">I", len(word)) + word + bytes(-len(word) % 4)
    single = _blob(0xFADE0C00, struct.pack(">I", 1) + body)
    return read_requirements(_blob(0xFADE0C01, struct.pack(">III", 1, 3, 20) + single))["designated"]


def test_requirements_read_as_codesign_prints_them() -> None:
    assert _requirement(2, b"org.example") == 'identifier "org.example"'
    assert _requirement(6, 15, 7, 8, b"\xab\xcd", 1) == 'anchor apple generic and (cdhash H"abcd" or always)'
    assert _requirement(7, 6, 0, 1, 3) == "never and always or anchor apple"
    assert _requirement(9, 6, 0, 1) == "! (never and always)"
    assert _requirement(11, 0, b"subject.CN", 1, b'A "B"') == 'certificate leaf[subject.CN] = "A \\"B\\""'
    assert _requirement(4, -1, b"\x01") == 'certificate root = H"01"'
    assert _requirement(14, 1, bytes.fromhex("2a864886f763640602"), 0).startswith("certificate 1[field.1.2.840.113635.")
    for words in ((99,), (2, 5), (9,) * 200, (1, 1), (10, b"key", 77)):
        with pytest.raises(RequirementError):
            _requirement(*words)


def test_the_real_app_holds_together(app_0115: Path) -> None:
    contents = app_0115 / "Contents"
    sealed = Sealed((contents / "Info.plist").read_bytes(), (contents / "_CodeSignature/CodeResources").read_bytes())
    data = (contents / "MacOS" / "Mitmproxy Redirector").read_bytes()
    told: TOLD = []
    parts = read_slices(data)
    check_layout(data, parts, lambda code, what: told.append((code, what)))
    for part in parts:
        facts = check_slice(data, part, sealed, lambda code, what: told.append((code, what)))
        assert set(facts.slots) == {"info", "requirements", "resources", "entitlements", "entitlements-der"}
        assert set(facts.slots.values()) == {"ok"}
        assert facts.entitlements == facts.entitlements_der
        assert facts.requirement.endswith("certificate leaf[subject.OU] = S8XHQB96PW)")
    assert told == []


def test_every_byte_of_a_fat_header_matters(app_0115: Path) -> None:
    """Only the slices are signed; what the table says of them has to fit them."""
    data = bytearray((app_0115 / "Contents/MacOS/Mitmproxy Redirector").read_bytes())
    good = {part.arch: (part.offset, part.size) for part in read_slices(data)}
    for at in range(48):
        for bit in (1, 4, 0x80):
            data[at] ^= bit
            told: TOLD = []
            try:
                parts = read_slices(data)
                check_layout(data, parts, lambda code, what, told=told: told.append((code, what)))  # type: ignore[misc]
                sizes = {part.arch: (part.offset, part.size) for part in parts}
                if sizes != good:  # a slice of another length: its signature is not at its end any more
                    for part in parts:
                        assert part.signature is not None
                        if sum(part.signature) != part.size:
                            told.append(("fat-layout", ""))
            except BundleError:
                told.append(("executable-unreadable", ""))
            finally:
                data[at] ^= bit
            assert told, f"byte {at} with {bit:#x}"


def test_wide_fat_files_and_two_signatures(app_0115: Path) -> None:
    data = (app_0115 / "Contents/MacOS/Mitmproxy Redirector").read_bytes()
    parts = [data[part.offset : part.offset + part.size] for part in read_slices(data)]
    table, body, at = b"", b"", 0x4000
    for part, cpu, sub in zip(parts, (0x01000007, 0x0100000C), (3, 0), strict=True):
        table += struct.pack(">iiQQII", cpu, sub, at, len(part), 14, 0)
        padded = part + bytes(-len(part) % 0x4000 if part is parts[0] else 0)
        body, at = body + padded, at + len(padded)
    whole = (struct.pack(">II", 0xCAFEBABF, 2) + table).ljust(0x4000, b"\0") + body
    told: TOLD = []
    found = read_slices(whole)
    check_layout(whole, found, lambda code, what: told.append((code, what)))
    cdhashes = [check_slice(whole, part, NOTHING, lambda *_: None).cdhash for part in found]
    assert told == []
    assert cdhashes == ["6d62ff36bb1e53278a6ea276178a33ea0504615e", "e00b8d1c973e18f88abbfcbb86abf8a3af62aa11"]
    check_layout(whole + b"\0", found, lambda code, what: told.append((code, what)))
    check_layout(whole[:0x2000] + b"?" + whole[0x2001:], found, lambda code, what: told.append((code, what)))
    assert [code for code, _ in told] == ["fat-layout", "unsealed-bytes"]

    twice = bytearray(parts[1])
    count, length = struct.unpack("<II", twice[16:24])
    command = struct.pack("<IIII", 0x1D, 16, 0, 16)
    twice[16:24] = struct.pack("<II", count + 1, length + 16)
    twice[32 + length : 48 + length] = command
    with pytest.raises(BundleError) as raised:
        read_slices(bytes(twice))
    assert "two code signatures" in raised.value.seen


def test_a_tool_carries_its_own_info_plist() -> None:
    """Section __TEXT,__info_plist: sealed in the slot that a bundle's Info.plist has."""
    plist = plistlib.dumps({"CFBundleIdentifier": "org.example"})
    section = b"__info_plist".ljust(16, b"\0") + b"__TEXT".ljust(16, b"\0")
    section += struct.pack("<QQI", 0, len(plist), 4096) + bytes(28)
    segment = struct.pack("<II", 0x19, 72 + len(section)) + b"__TEXT".ljust(16, b"\0") + bytes(48) + section
    length = 4096 + len(plist) + -len(plist) % 16
    commands = segment + struct.pack("<IIII", 0x1D, 16, length, 0)

    def file(signature: bytes) -> bytes:
        used = segment + struct.pack("<IIII", 0x1D, 16, length, len(signature))
        head = struct.pack("<4sIIIIIII", b"\xcf\xfa\xed\xfe", 0x0100000C, 0, 2, 2, len(used), 0, 0)
        return ((head + used).ljust(4096, b"\0") + plist).ljust(length, b"\0") + signature

    assert len(commands) == len(segment) + 16
    draft = file(_superblob((0, _directory(2, bytes(length), {1: plist}))))
    signature = _superblob((0, _directory(2, draft[:length], {1: plist})))
    (part,) = read_slices(file(signature))
    assert part.info_plist == (4096, len(plist))
    told: TOLD = []
    facts = check_slice(file(signature), part, Sealed(), lambda code, what: told.append((code, what)))
    assert (facts.slots["info"], facts.page_hash_ok, [code for code, _ in told]) == ("ok", True, ["adhoc"])
