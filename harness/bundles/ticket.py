"""The notarization ticket stapled to an app (Contents/CodeResources): which code Apple has seen, and its signature.

Little-endian: `s8ch`, version, length of the chain, length of the ticket; the certificates as a SEQUENCE (the signer's
first); the ticket: `g8tk`, version, hash size, count, 0, seconds since 1970, then a hash type and a cdhash each; then an
ECDSA signature with SHA-256 over everything before it, chain and all. Found out by measuring; that the signatures of real
tickets fit is the proof.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime

from harness.bundles.der import SEQUENCE, DerError, read_node
from harness.bundles.facts import CertificateFacts, Ticket
from harness.bundles.trust import Certificate, CertificateError, build_chain, read_certificate, signature_fits

MAX_TICKET = 4 * 1024 * 1024
MAX_HASHES = 100_000
MAGIC = b"s8ch"
_SIGNATURE = 72  # an ECDSA signature with P-256 at its longest; a shorter one is padded


class TicketError(ValueError):
    """Not a ticket, or a damaged one."""


def read_ticket(data: bytes, *, verify: bool = True) -> tuple[Ticket, str]:
    """Read a stapled ticket.

    Returns:
        The ticket, and why it is not verified ("" when it is, or nobody asked).

    Raises:
        TicketError: It is damaged.
    """
    try:
        magic, version, chain_length, ticket_length = struct.unpack("<4sIII", data[:16])
        split, end = 16 + chain_length, 16 + chain_length + ticket_length
        if magic != MAGIC or version != 1 or end >= len(data):
            raise TicketError(f"it begins {data[:4]!r}, version {version}, {len(data)} bytes")
        certificates = _certificates(data[16:split])
        body = data[split:end]
        magic, version, size, count, zero, seconds = struct.unpack("<4sHHIIQ", body[:24])
        fitting = count <= MAX_HASHES and 24 + count * 21 == len(body)
        if magic != b"g8tk" or version != 2 or size != 20 or zero or not fitting:
            raise TicketError(f"its body begins {body[:12]!r}, {count} hashes in {len(body)} bytes")
        moment = datetime.fromtimestamp(seconds, UTC)
        signature = read_node(data, end)
        area, padding = len(data) - end, len(data) - signature.stop
        aligned = area == _SIGNATURE or (area % 4 == 0 and padding < 4)
        if signature.tag != SEQUENCE or not aligned or data[signature.stop :].strip(b"\0"):
            raise TicketError("its signature does not end where the ticket does")
    except (struct.error, DerError, CertificateError, OverflowError, ValueError, OSError) as error:
        if isinstance(error, TicketError):
            raise
        raise TicketError(str(error)) from error
    hashes = tuple(body[24 + index * 21 + 1 : 45 + index * 21].hex() for index in range(count))
    why_not = _why_not(certificates, data[:end], signature.raw, moment) if verify else ""
    chain: tuple[CertificateFacts, ...] = tuple(certificate.facts() for certificate in certificates)
    return Ticket(hashes, moment, not why_not if verify else None, chain), why_not


def _certificates(data: bytes) -> list[Certificate]:
    top = read_node(data)
    if top.stop != len(data):
        raise TicketError("bytes behind its certificates")
    found = [read_certificate(node.raw) for node in top.parts(SEQUENCE)]
    if not 0 < len(found) <= 8:
        raise TicketError(f"{len(found)} certificates")
    return found


def _why_not(certificates: list[Certificate], signed: bytes, signature: bytes, moment: datetime) -> str:
    leaf, *others = certificates
    chain = build_chain(leaf, others)
    if not signature_fits(leaf, signature, signed, "sha256", elliptic=True):
        return "its signature does not fit its certificate"
    if not chain.trusted:
        return "its certificate does not lead to an Apple root"
    if any(certificate not in chain.certificates for certificate in others):
        return "a certificate in it is not part of its chain"
    if not chain.valid_at(moment):
        return "a certificate was not valid when it was issued"
    return ""
