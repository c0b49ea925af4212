"""CMS messages (RFC 5652): code signatures, provisioning profiles and time-stamp tokens (RFC 3161) are such.

Nothing in a message is left out of account: what no signature vouches for (a stray certificate, an unknown unsigned
attribute, a revocation list, bytes behind the end) is named in `Verdict.extra`, so that a changed byte shows somewhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from harness.bundles.der import (
    CONTEXT_0,
    CONTEXT_1,
    INTEGER,
    NULL,
    OCTET_STRING,
    SEQUENCE,
    SET,
    DerError,
    Node,
    read_node,
)
from harness.bundles.facts import TimestampFacts
from harness.bundles.trust import (
    Certificate,
    CertificateError,
    Chain,
    build_chain,
    read_certificate,
    roots,
    signature_fits,
)

MAX_MESSAGE = 32 * 1024 * 1024
MAX_CERTIFICATES = 64
_SIGNED_DATA, _DATA, _TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.1", "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE, _DIGEST, _TIME = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.5"
_TIMESTAMP = "1.2.840.113549.1.9.16.2.14"
CDHASHES_PLIST, CDHASHES = "1.2.840.113635.100.9.1", "1.2.840.113635.100.9.2"
"""Apple's signed attributes: a property list of cdhashes, and one full hash per code directory."""
DIGESTS = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
# Signature algorithm → hash that it goes with ("" for any), and whether it is ECDSA.
_ALGORITHMS = {
    "1.2.840.113549.1.1.1": ("", False),
    "1.2.840.113549.1.1.5": ("sha1", False),
    "1.2.840.113549.1.1.11": ("sha256", False),
    "1.2.840.113549.1.1.12": ("sha384", False),
    "1.2.840.113549.1.1.13": ("sha512", False),
    "1.2.840.10045.2.1": ("", True),
    "1.2.840.10045.4.1": ("sha1", True),
    "1.2.840.10045.4.3.2": ("sha256", True),
    "1.2.840.10045.4.3.3": ("sha384", True),
    "1.2.840.10045.4.3.4": ("sha512", True),
}


@dataclass(frozen=True)
class SignedMessage:
    """A message with one signer, taken apart; nothing verified.

    Attributes:
        content_type: Object identifier of the content.
        content: None when it is detached.
        certificates: What came with it.
        digest: The signer's hash: `sha256`, …
        attributes: Signed attributes, by object identifier.
        signed: The bytes that the signature is over; None without signed attributes (then it is over the content).
        unsigned: Unsigned attributes.
        extra: Oddities.
    """

    content_type: str
    content: bytes | None
    certificates: tuple[Certificate, ...]
    issuer: bytes
    serial: int
    key_id: bytes
    digest: str
    algorithm: str
    attributes: dict[str, tuple[Node, ...]]
    signed: bytes | None
    signature: bytes
    unsigned: dict[str, tuple[Node, ...]]
    extra: tuple[str, ...]

    @property
    def signing_time(self) -> datetime | None:
        """As the signer claims."""
        values = self.attributes.get(_TIME, ())
        return values[0].time() if values else None


@dataclass(frozen=True)
class Verdict:
    """What verifying a message found."""

    chain: Chain
    signature_ok: bool
    why_not: str
    timestamp: TimestampFacts | None
    signing_time: datetime | None
    extra: tuple[str, ...] = field(default=())

    @property
    def signer(self) -> str:
        """The signer's common name."""
        return self.chain.certificates[0].facts().name if self.chain.certificates else ""

    @property
    def moment(self) -> datetime | None:
        """When it was signed: as the time-stamp authority says, else as the signer claims."""
        if self.timestamp is not None and self.timestamp.ok:
            return self.timestamp.time
        return self.signing_time


def read_message(data: bytes) -> SignedMessage:
    """Take a message apart.

    Raises:
        DerError: It is no CMS message with one signer.
    """
    if len(data) > MAX_MESSAGE:
        raise DerError(f"{len(data)} bytes")
    top = read_node(data)
    extra: list[str] = []
    if top.stop != len(data):
        extra.append(f"{len(data) - top.stop} bytes behind the message")
    kind, wrapped = _exactly(top.parts(SEQUENCE), 2)
    if kind.oid() != _SIGNED_DATA:
        raise DerError(f"content of type {kind.oid()}, no signed data")
    (body,) = _exactly(wrapped.parts(CONTEXT_0), 1)
    parts = body.parts(SEQUENCE)
    if len(parts) < 4:
        raise DerError("signed data that lacks parts")
    version, algorithms, inside, *rest = parts
    content_type, content = _content(inside)
    certificates: tuple[Certificate, ...] = ()
    if rest[0].tag == CONTEXT_0:
        certificates = _certificates(rest.pop(0))
    if rest and rest[0].tag == CONTEXT_1:
        extra.append("a revocation list")
        rest.pop(0)
    (signers,) = _exactly(rest, 1)
    (signer,) = _exactly(signers.parts(SET), 1)
    message = _signer(signer, content_type, content, certificates, extra)
    expected = 3 if message.key_id or content_type != _DATA else 1
    if version.integer() != expected:
        extra.append(f"version {version.integer()}")
    listed = [_algorithm(node, extra) for node in algorithms.parts(SET)]
    if any(oid not in DIGESTS for oid in listed) or message.digest not in [DIGESTS.get(oid) for oid in listed]:
        extra.append(f"a list of hashes that does not fit: {', '.join(listed)}")
    return SignedMessage(**{**message.__dict__, "extra": tuple(extra)})


def _content(inside: Node) -> tuple[str, bytes | None]:
    parts = inside.parts(SEQUENCE)
    if not 1 <= len(parts) <= 2:
        raise DerError("a content of several parts")
    if len(parts) == 1:
        return parts[0].oid(), None
    (octets,) = _exactly(parts[1].parts(CONTEXT_0), 1)
    return parts[0].oid(), octets.octets()


def _certificates(bag: Node) -> tuple[Certificate, ...]:
    nodes = bag.parts(CONTEXT_0)
    if len(nodes) > MAX_CERTIFICATES:
        raise DerError(f"{len(nodes)} certificates")
    try:
        return tuple(read_certificate(node.expect(SEQUENCE).raw) for node in nodes)
    except CertificateError as error:
        raise DerError(str(error)) from error


def _signer(
    signer: Node,
    content_type: str,
    content: bytes | None,
    certificates: tuple[Certificate, ...],
    extra: list[str],
) -> SignedMessage:
    parts = signer.parts(SEQUENCE)
    if len(parts) < 5:
        raise DerError("a signer that lacks parts")
    version, who, digest, *rest = parts
    issuer, serial, key_id = b"", 0, b""
    if who.tag == SEQUENCE:
        name, number = _exactly(who.parts(SEQUENCE), 2)
        issuer, serial = name.expect(SEQUENCE).raw, number.integer()
    elif who.tag == 0x80:
        key_id = who.content
    else:
        raise DerError(f"a signer named by tag {who.tag:#04x}")
    if version.integer() != (3 if key_id else 1):
        extra.append(f"signer version {version.integer()}")
    digest_name = DIGESTS.get(_algorithm(digest, extra), "")
    attributes: dict[str, tuple[Node, ...]] = {}
    signed: bytes | None = None
    if rest[0].tag == CONTEXT_0:
        node = rest.pop(0)
        attributes = _attributes(node)
        signed = bytes([SET]) + node.raw[1:]
    if len(rest) < 2:
        raise DerError("a signer without a signature")
    algorithm = _algorithm(rest[0], extra)
    signature = rest[1].expect(OCTET_STRING).content
    unsigned: dict[str, tuple[Node, ...]] = {}
    if len(rest) == 3 and rest[2].tag == CONTEXT_1:
        unsigned = _attributes(rest[2])
    elif len(rest) > 2:
        raise DerError("a signer with too many parts")
    return SignedMessage(
        content_type=content_type,
        content=content,
        certificates=certificates,
        issuer=issuer,
        serial=serial,
        key_id=key_id,
        digest=digest_name,
        algorithm=algorithm,
        attributes=attributes,
        signed=signed,
        signature=signature,
        unsigned=unsigned,
        extra=(),
    )


def _attributes(node: Node) -> dict[str, tuple[Node, ...]]:
    found: dict[str, tuple[Node, ...]] = {}
    for attribute in node:
        kind, values = _exactly(attribute.parts(SEQUENCE), 2)
        oid = kind.oid()
        found[oid] = (*found.get(oid, ()), *values.parts(SET))
    return found


def _algorithm(node: Node, extra: list[str]) -> str:
    parts = node.parts(SEQUENCE)
    if not parts or len(parts) > 2:
        raise DerError("an algorithm that is none")
    if len(parts) == 2 and (parts[1].tag != NULL or parts[1].content):
        extra.append("an algorithm with parameters")
    return parts[0].oid()


def _exactly(parts: list[Node], count: int) -> list[Node]:
    if len(parts) != count:
        raise DerError(f"{len(parts)} values where {count} belong")
    return parts


def verify_message(message: SignedMessage, detached: bytes | None = None) -> Verdict:
    """Verify a message's signature, chain and time stamp.

    Args:
        message: As `read_message` gave it.
        detached: The content, when the message does not carry it.

    Raises:
        DerError: A part that matters cannot be read.
    """
    content = message.content if message.content is not None else detached
    leaf = _leaf(message)
    if leaf is None:
        return Verdict(
            Chain((), trusted=False),
            signature_ok=False,
            why_not="the signer's certificate is not in it",
            timestamp=None,
            signing_time=message.signing_time,
            extra=message.extra,
        )
    chain = build_chain(leaf, message.certificates)
    why_not = _why_not(message, content, leaf)
    timestamp: TimestampFacts | None = None
    extra = list(message.extra)
    for oid, values in message.unsigned.items():
        if oid == _TIMESTAMP and len(values) == 1:
            timestamp = _timestamp(values[0], message.signature)
        else:
            extra.append(f"an unsigned attribute {oid}")
    extra += _strays(message, chain)
    return Verdict(chain, not why_not, why_not, timestamp, message.signing_time, tuple(extra))


def _leaf(message: SignedMessage) -> Certificate | None:
    for certificate in message.certificates:
        if message.key_id:
            if certificate.key_id == message.key_id:
                return certificate
        elif certificate.serial == message.serial and certificate.issuer == message.issuer:
            return certificate
    return None


def _why_not(message: SignedMessage, content: bytes | None, leaf: Certificate) -> str:
    """What is wrong with the signature; "" when it is right."""
    hash_name, elliptic = _ALGORITHMS.get(message.algorithm, ("?", False))
    if not message.digest or (hash_name and hash_name != message.digest):
        return f"signature algorithm {message.algorithm} with hash {message.digest or 'unknown'}"
    if content is None:
        return "there is nothing that it signs"
    signed = message.signed
    if signed is None:
        signed = content
    else:
        digests = message.attributes.get(_DIGEST, ())
        kinds = message.attributes.get(_CONTENT_TYPE, ())
        if len(digests) != 1 or len(kinds) != 1 or kinds[0].oid() != message.content_type:
            return "its signed attributes lack the content's hash or type"
        found = hashlib.new(message.digest, content, usedforsecurity=False).digest()
        if digests[0].octets() != found:
            return f"it signs another content: {digests[0].octets().hex()[:16]}…, not {found.hex()[:16]}…"
    if not signature_fits(leaf, message.signature, signed, message.digest, elliptic=elliptic):
        return "the signature does not fit the certificate's key"
    return ""


def _strays(message: SignedMessage, chain: Chain) -> list[str]:
    """Certificates that are not part of a chain to a root: nobody would miss or notice them."""
    known = {certificate.der for certificate in (*chain.certificates, *roots())}
    return [
        f"a certificate that is not part of the chain: {certificate.facts().name or 'unnamed'}"
        for certificate in message.certificates
        if certificate.der not in known and not build_chain(certificate, message.certificates).trusted
    ]


def _timestamp(token: Node, signature: bytes) -> TimestampFacts | None:
    """A time-stamp token over a signature; its own faults are told in the result."""
    message = read_message(token.raw)
    if message.content_type != _TST_INFO or message.content is None:
        raise DerError(f"a time stamp of type {message.content_type}")
    info = read_node(message.content)
    parts = info.parts(SEQUENCE)
    if len(parts) < 5 or info.stop != len(message.content):
        raise DerError("a time stamp that lacks parts")
    algorithm, imprint = _exactly(parts[2].parts(SEQUENCE), 2)
    parts[3].expect(INTEGER)
    moment = parts[4].time()
    verdict = verify_message(message)
    hash_name = DIGESTS.get(_algorithm(algorithm, []), "")
    why_not = verdict.why_not
    if not hash_name or hashlib.new(hash_name, signature, usedforsecurity=False).digest() != imprint.octets():
        why_not = "it is the stamp of another signature"
    elif not why_not and not verdict.chain.trusted:
        why_not = "its authority's certificate does not lead to an Apple root"
    elif not why_not and not verdict.chain.certificates[0].stamps_time:
        why_not = "its certificate is not one for time stamps"
    elif not why_not and not verdict.chain.valid_at(moment):
        why_not = "a certificate of its authority was not valid then"
    elif not why_not and verdict.extra:
        why_not = "; ".join(verdict.extra)
    return TimestampFacts(time=moment, tsa=verdict.signer, ok=not why_not, why_not=why_not)
