"""A code signature verified: every code directory, page, sealed part, entitlement and requirement of one slice.

What the kernel and Security check on a Mac, done from the bytes alone. Nothing of the signature's own area is left out
of account: unknown blobs, overlaps and bytes between or behind the blobs are told as problems too.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.bundles.cms import CDHASHES, CDHASHES_PLIST, DIGESTS, SignedMessage, Verdict, read_message, verify_message
from harness.bundles.der import SEQUENCE, DerError
from harness.bundles.entitlements import differing_keys, read_der_entitlements
from harness.bundles.facts import CmsFacts, SliceFacts, SlotState
from harness.bundles.failures import BundleError
from harness.bundles.macho import Buffer, MachSlice
from harness.bundles.requirements import RequirementError, read_requirements
from harness.bundles.signature import ADHOC, MAX_BLOBS, MAX_SIGNATURE, RUNTIME, CodeDirectory, rank, read_directory
from harness.formats.failures import FormatError
from harness.formats.plists import load_plist

_SUPERBLOB, _DIRECTORY, _CMS = 0xFADE0CC0, 0xFADE0C02, 0xFADE0B01
_SLOT_CMS = 0x10000
_ALTERNATES = range(0x1000, 0x1006)
_HASHES = {1: ("sha1", 20), 2: ("sha256", 32), 3: ("sha256", 20), 4: ("sha384", 48)}
_NAMES = {1: "sha1", 2: "sha256", 3: "sha256-truncated", 4: "sha384"}
SLOTS = {
    1: "info",
    2: "requirements",
    3: "resources",
    4: "application",
    5: "entitlements",
    6: "rep-specific",
    7: "entitlements-der",
    8: "launch-self",
    9: "launch-parent",
    10: "launch-responsible",
    11: "library",
}
"""Special slots by number; a code directory keeps their hashes before those of the pages."""
# The blob that a slot of the superblob holds.
_MAGICS = {2: 0xFADE0C01, 5: 0xFADE7171, 7: 0xFADE7172, 8: 0xFADE8181, 9: 0xFADE8181, 10: 0xFADE8181, 11: 0xFADE8181}

Tell = Callable[[str, str], None]
"""Takes a problem's code and what it is."""


@dataclass(frozen=True)
class Sealed:
    """Files outside of the Mach-O that its signature seals; None for what is not there.

    Attributes:
        info: Info.plist of the bundle that the executable is the main one of.
        resources: Its _CodeSignature/CodeResources.
    """

    info: bytes | None = None
    resources: bytes | None = None


@dataclass(frozen=True)
class _Directory:
    basic: CodeDirectory
    blob: bytes = field(repr=False)
    special: int
    pages: int
    table: int

    def hash_at(self, index: int) -> bytes:
        """The hash of a page, or of a special slot for a negative index."""
        size = _HASHES[self.basic.hash_type][1]
        at = self.table + index * size
        return self.blob[at : at + size]

    def digest(self, data: bytes) -> bytes:
        """Data hashed in this directory's way."""
        name, size = _HASHES[self.basic.hash_type]
        return hashlib.new(name, data, usedforsecurity=False).digest()[:size]


@dataclass
class _Signature:
    directories: list[_Directory] = field(default_factory=list)
    blobs: dict[int, bytes] = field(default_factory=dict)
    primary: bytes = b""
    cms: bytes = b""


def check_slice(data: Buffer, part: MachSlice, sealed: Sealed, tell: Tell, *, verify: bool = True) -> SliceFacts:
    """Everything about one slice; what is wrong is told, nothing raised.

    Args:
        data: The whole file.
        part: The slice in it.
        sealed: What the signature covers outside of the file.
        tell: Is given each problem.
        verify: Check hashes and signatures too.
    """
    signature = _Signature()
    if part.signature is None:
        tell("unsigned", "no LC_CODE_SIGNATURE")
        return _facts(part, signature, {}, None, "", None, {}, None)
    start, size = part.signature
    try:
        if size > MAX_SIGNATURE:
            raise BundleError("a code signature of a sane size", seen=f"{size} bytes")
        signature = _read(bytes(data[part.offset + start : part.offset + start + size]), tell)
    except BundleError as error:
        tell("signature-unreadable", f"{error.expected}: {error.seen}")
        return _facts(part, signature, {}, None, "", None, {}, None)
    except struct.error as error:
        tell("signature-unreadable", f"it ends in the middle of a header ({error})")
        return _facts(part, signature, {}, None, "", None, {}, None)
    best = signature.directories[0].basic
    _agree(signature, tell)
    entitlements, der = _entitlements(signature, tell)
    requirement = _requirement(signature, tell)
    pages_ok: bool | None = None
    slots: dict[str, SlotState] = {}
    if verify:
        told = [_pages(data, part, directory, start, tell) for directory in signature.directories]  # each of them
        pages_ok = all(told)
        _behind(data, part, start + size, tell)
        slots = _slots(data, part, signature, sealed, tell)
    cms = _cms(signature, tell) if verify else None
    if not signature.cms or best.flags & ADHOC:
        tell("adhoc", "no certificate stands behind this signature")
    elif cms is not None and cms.leaf is not None and cms.trusted and best.team and cms.leaf.team != best.team:
        tell("team-differs", f"the code directory says {best.team}, the certificate {cms.leaf.team or 'none'}")
    return _facts(part, signature, entitlements, der, requirement, pages_ok, slots, cms)


def _behind(data: Buffer, part: MachSlice, end: int, tell: Tell) -> None:
    """The signature is the last thing in a slice: the linker and codesign leave nothing behind it."""
    if end == part.size:
        return
    if is_zero(data, part.offset + end, part.offset + part.size):
        tell("fat-layout", f"the slice has {part.size} bytes, its signature ends at {end}")
    else:
        tell("unsealed-bytes", f"behind the signature, which ends at {end} of {part.size}")


def is_zero(data: Buffer, start: int, end: int) -> bool:
    """Whether a range holds nothing but zeros."""
    step = 1 << 20
    return not any(bytes(data[at : min(at + step, end)]).strip(b"\0") for at in range(start, end, step))


def _facts(
    part: MachSlice,
    signature: _Signature,
    entitlements: Mapping[str, Any],
    der: Mapping[str, Any] | None,
    requirement: str,
    pages_ok: bool | None,  # noqa: FBT001 - a fact, not a switch
    slots: Mapping[str, SlotState],
    cms: CmsFacts | None,
) -> SliceFacts:
    best = signature.directories[0].basic if signature.directories else None
    return SliceFacts(
        arch=part.arch,
        uuid=part.uuid,
        cdhash=best.cdhash if best else "",
        cdhashes={_NAMES[item.basic.hash_type]: item.basic.cdhash for item in signature.directories},
        min_os=part.min_os,
        sdk=part.sdk,
        platform=part.platform,
        file_type=part.file_type,
        flags=best.flags if best else 0,
        team=best.team if best else "",
        identifier=best.identifier if best else "",
        hardened=bool(best and best.flags & RUNTIME),
        runtime=best.runtime if best else "",
        adhoc=best is not None and (bool(best.flags & ADHOC) or not signature.cms),
        entitlements=entitlements,
        entitlements_der=der,
        requirement=requirement,
        page_hash_ok=pages_ok,
        slots=slots,
        cms=cms,
    )


def _read(data: bytes, tell: Tell) -> _Signature:
    """The superblob; its directories with the best first, of equals the first."""
    magic, length, count = struct.unpack(">III", data[:12])
    if magic != _SUPERBLOB or length > len(data) or count > MAX_BLOBS or 12 + count * 8 > length:
        raise BundleError(
            "the code signature to be whole", seen=f"magic {magic:08x}, {count} blobs, {length} of {len(data)} bytes"
        )
    found = _Signature()
    taken: list[tuple[int, int]] = [(0, 12 + count * 8)]
    for index in range(count):
        slot, offset = struct.unpack(">II", data[12 + index * 8 : 20 + index * 8])
        kind, size = struct.unpack(">II", data[offset : offset + 8])
        if size < 8 or offset + size > length:
            raise BundleError(
                "the code signature to be whole", seen=f"blob {index} lies at {offset}–{offset + size} of {length}"
            )
        taken.append((offset, offset + size))
        blob = data[offset : offset + size]
        if slot == 0 or slot in _ALTERNATES:
            if kind != _DIRECTORY:
                raise BundleError("a code directory", seen=f"slot {slot:#x} holds {kind:08x}")
            found.directories.append(_directory(blob))
            found.primary = blob if slot == 0 else found.primary
        elif slot == _SLOT_CMS and kind == _CMS:
            found.cms = blob[8:]
        elif slot in found.blobs or kind != _MAGICS.get(slot):
            tell("signature-layout", f"slot {slot:#x} holds {kind:08x}" + (" again" if slot in found.blobs else ""))
        else:
            found.blobs[slot] = blob
    if not found.directories:
        raise BundleError("a code directory in the signature", seen="none")
    at = 0
    for begin, end in sorted(taken):
        if begin != at:
            tell("signature-layout", f"a blob begins at {begin}, the one before ends at {at}")
        at = max(at, end)
    if at != length:
        tell("signature-layout", f"the blobs end at {at}, the signature at {length}")
    if data[length:].strip(b"\0"):
        tell("signature-remains", f"behind the blobs, which end at {length} of {len(data)}")
    # Primary first within a rank: the sort is stable.
    found.directories.sort(key=lambda item: rank(item.basic.hash_type), reverse=True)
    return found


def _directory(blob: bytes) -> _Directory:
    basic = read_directory(blob, "the code directory")
    table, _, special, pages = struct.unpack(">4I", blob[16:32])
    size = _HASHES[basic.hash_type][1]
    if blob[36] != size:
        raise BundleError("a code directory with hashes of their size", seen=f"{blob[36]} bytes instead of {size}")
    if special > 64 or table - special * size < 44 or table + pages * size > len(blob):
        raise BundleError(
            "a code directory that holds its hashes", seen=f"{special} and {pages} hashes at {table} of {len(blob)}"
        )
    return _Directory(basic, blob, special, pages, table)


def _agree(signature: _Signature, tell: Tell) -> None:
    first = signature.directories[0].basic
    for other in signature.directories[1:]:
        for what in ("identifier", "team", "flags", "code_limit"):
            if getattr(first, what) != getattr(other.basic, what):
                tell("directories-disagree", f"{what}: {getattr(first, what)!r} and {getattr(other.basic, what)!r}")


def _pages(data: Buffer, part: MachSlice, directory: _Directory, start: int, tell: Tell) -> bool:
    limit, page = directory.basic.code_limit, directory.basic.page_size
    if limit != start:
        tell("code-limit", f"the code directory ends at {limit}, the signature begins at {start}")
        if limit > part.size:
            return False
        if limit < start and not is_zero(data, part.offset + limit, part.offset + start):
            tell("unsealed-bytes", f"between the code, which ends at {limit}, and the signature at {start}")
    if page == 1:  # a page size of 2⁰ means one page for all
        page = max(limit, 1)
    if not page or directory.pages != (limit + page - 1) // page:
        tell("page-hash", f"{directory.pages} hashes for {limit} bytes in pages of {page}")
        return False
    name, size = _HASHES[directory.basic.hash_type]
    function = getattr(hashlib, name)
    table, at, end = directory.table, part.offset, part.offset + limit
    expected = directory.blob[table : table + directory.pages * size]
    wrong: list[int] = []
    for index in range(directory.pages):
        here = at + index * page
        found = function(data[here : min(here + page, end)], usedforsecurity=False).digest()
        if found[:size] != expected[index * size : (index + 1) * size]:
            wrong.append(index)
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + ("…" if len(wrong) > 5 else "")
        tell("page-hash", f"{len(wrong)} of {directory.pages} pages differ from their {name} hash: {shown}")
    return not wrong


def _slots(data: Buffer, part: MachSlice, signature: _Signature, sealed: Sealed, tell: Tell) -> dict[str, SlotState]:
    present: dict[int, bytes | None] = {1: sealed.info, 3: sealed.resources, **signature.blobs}
    if sealed.info is None and part.info_plist is not None:  # a tool carries its own
        offset, size = part.info_plist
        present[1] = bytes(data[part.offset + offset : part.offset + offset + size])
    states: dict[str, SlotState] = {}
    for directory in signature.directories:
        for number in sorted({*SLOTS, *range(1, directory.special + 1), *signature.blobs}):
            name = SLOTS.get(number, f"slot-{number}")
            wanted = directory.hash_at(-number) if number <= directory.special else b""
            found = present.get(number)
            state = _slot(directory, wanted, found)
            if state is None:
                continue
            if states.get(name, "ok") == "ok":
                states[name] = state
            if state == "differs":
                tell("slot-differs", f"{name}: its {_NAMES[directory.basic.hash_type]} is not the sealed one")
            elif state == "missing":
                tell("slot-missing", f"{name} is sealed, and not there")
            elif state == "unsealed":
                tell("slot-unsealed", f"{name} is there, and not sealed")
    return states


def _slot(directory: _Directory, wanted: bytes, found: bytes | None) -> SlotState | None:
    sealed = bool(wanted.strip(b"\0"))
    if found is None:
        return "missing" if sealed else None
    if not sealed:
        return "unsealed"
    return "ok" if directory.digest(found) == wanted else "differs"


def _entitlements(signature: _Signature, tell: Tell) -> tuple[dict[str, Any], dict[str, Any] | None]:
    xml: dict[str, Any] | None = None
    der: dict[str, Any] | None = None
    try:
        if 5 in signature.blobs:
            text = signature.blobs[5][8:]
            xml = load_plist(text, "the entitlements") if text.strip() else {}
        if 7 in signature.blobs:
            der = read_der_entitlements(signature.blobs[7][8:])
    except (FormatError, DerError) as error:
        told = f"{error.expected}: {error.seen}" if isinstance(error, FormatError) else f"in DER: {error}"
        tell("entitlements-unreadable", told)
        return xml or {}, der
    if der is not None and xml is not None and (keys := differing_keys(xml, der)):
        tell("entitlements-differ", f"XML and DER disagree about {', '.join(keys[:5])}")
    return xml or {}, der


def _requirement(signature: _Signature, tell: Tell) -> str:
    blob = signature.blobs.get(2)
    if blob is None:
        return ""
    try:
        return read_requirements(blob).get("designated", "")
    except RequirementError as error:
        tell("requirements-unreadable", str(error))
        return ""


def _cms(signature: _Signature, tell: Tell) -> CmsFacts | None:
    if not signature.cms:
        return None
    try:
        message = read_message(signature.cms)
        verdict = verify_message(message, signature.primary)  # always the one in slot 0, whatever its hash
        listed = _listed(message, signature)
    except (DerError, FormatError) as error:
        tell("cms-unreadable", str(error))
        return None
    _tell(verdict, listed, signature, tell)
    return CmsFacts(
        signer=verdict.signer,
        chain=verdict.chain.facts(),
        trusted=verdict.chain.trusted,
        signature_ok=verdict.signature_ok,
        cdhash_attr_ok=listed,
        signing_time=verdict.signing_time,
        timestamp=verdict.timestamp,
    )


def _tell(verdict: Verdict, listed: bool | None, signature: _Signature, tell: Tell) -> None:  # noqa: FBT001
    if not verdict.signature_ok:
        tell("cms-signature", verdict.why_not)
    if listed is False or (listed is None and len(signature.directories) > 1):
        tell("cms-cdhash", "the signed list of cdhashes is not that of the code directories")
    if verdict.chain.certificates and not verdict.chain.trusted:
        tell("cms-untrusted", f"{verdict.signer or 'the certificate'} does not lead to an Apple root")
    for extra in verdict.extra:
        tell("cms-extra", extra)
    if verdict.timestamp is None:
        tell("timestamp-missing", "the signature has no secure timestamp")
    elif not verdict.timestamp.ok:
        tell("timestamp-wrong", verdict.timestamp.why_not)
    moment = verdict.moment
    if moment is not None and not verdict.chain.valid_at(moment):
        tell("cms-expired", f"a certificate of the chain was not valid at {moment:%Y-%m-%d %H:%M:%S} UTC")


def _listed(message: SignedMessage, signature: _Signature) -> bool | None:
    """Whether the signed cdhash lists are right; None where there are none."""
    plists, entries = message.attributes.get(CDHASHES_PLIST, ()), message.attributes.get(CDHASHES, ())
    if not plists and not entries:
        return None
    full = [
        hashlib.new(_HASHES[item.basic.hash_type][0], item.blob, usedforsecurity=False).digest()
        for item in signature.directories
    ]
    short = {digest[:20] for digest in full}
    named: set[bytes] = set()
    for node in plists:
        octets = node.octets()
        value = load_plist(octets, "the signed cdhashes").get("cdhashes") if len(octets) < 65536 else None
        if not isinstance(value, list) or not all(isinstance(item, bytes) and item in short for item in value):
            return False
        named |= set(value)
    for node in entries:
        parts = node.parts(SEQUENCE)
        if len(parts) != 2 or parts[0].oid() not in DIGESTS or parts[1].octets() not in full:
            return False
        named.add(parts[1].octets()[:20])
    return named == short
