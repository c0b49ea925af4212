"""Certificates: from a signer's up to one of Apple's roots, every signature on the way checked.

The roots are shipped (`roots/`), and only these end a chain; the host's own store is never asked. Revocation is not asked
for: that needs a network, and macOS asks for it in other ways (tickets).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harness.bundles.der import SEQUENCE, read_node
from harness.bundles.facts import CertificateFacts

MAX_CHAIN = 8
MAX_CERTIFICATE = 64 * 1024
FINGERPRINTS = frozenset(
    (
        "b0b1730ecbc7ff4505142c49f1295e6eda6bcaed7e2c68c5be91b5a11001f024",
        "c2b9b042dd57830e7d117dac55ac8ae19407d38e41d88f3215bc3a890444a050",
        "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179",
    )
)
"""SHA-256 of the roots, as Apple publishes them."""
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


class CertificateError(ValueError):
    """Not a certificate, or one that cannot be read."""


@dataclass(frozen=True)
class Certificate:
    """A certificate, read once."""

    der: bytes = field(repr=False)
    x509: x509.Certificate
    subject: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    serial: int
    key_id: bytes
    authority: bool
    stamps_time: bool
    valid: tuple[datetime, datetime]

    def facts(self) -> CertificateFacts:
        """What people want to know of it."""
        return _facts(self.der)

    def valid_at(self, moment: datetime) -> bool:
        """Neither too early nor expired."""
        return self.valid[0] <= moment <= self.valid[1]


@dataclass(frozen=True)
class Chain:
    """From the signer's certificate upwards. `trusted` when it ends in one of Apple's roots."""

    certificates: tuple[Certificate, ...]
    trusted: bool

    def facts(self) -> tuple[CertificateFacts, ...]:
        """Of each certificate."""
        return tuple(certificate.facts() for certificate in self.certificates)

    def valid_at(self, moment: datetime) -> bool:
        """All of them were valid then."""
        return all(certificate.valid_at(moment) for certificate in self.certificates)


@cache
def roots() -> tuple[Certificate, ...]:
    """Apple's roots. A file whose fingerprint is not published is not taken."""
    found = []
    for path in sorted((Path(__file__).parent / "roots").glob("*.cer")):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() in FINGERPRINTS:
            found.append(read_certificate(data))
    return tuple(found)


@lru_cache(maxsize=256)
def read_certificate(der: bytes) -> Certificate:
    """Read one.

    Raises:
        CertificateError: It is none.
    """
    if len(der) > MAX_CERTIFICATE:
        raise CertificateError(f"a certificate of {len(der)} bytes")
    try:
        with warnings.catch_warnings():
            # It warns of what Apple's own certificates once did; whether to believe one is decided here by its chain.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return _read(der)
    except Exception as error:  # the library raises errors of many families for a damaged certificate
        raise CertificateError(f"an unreadable certificate ({type(error).__name__}: {str(error)[:100]})") from error


def _read(der: bytes) -> Certificate:
    certificate = x509.load_der_x509_certificate(der)
    key_id, authority, stamps = b"", False, False
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectKeyIdentifier):
            key_id = value.digest
        elif isinstance(value, x509.BasicConstraints):
            authority = value.ca
        elif isinstance(value, x509.ExtendedKeyUsage):
            stamps = ExtendedKeyUsageOID.TIME_STAMPING in value
    return Certificate(
        der=der,
        x509=certificate,
        subject=certificate.subject.public_bytes(),
        issuer=certificate.issuer.public_bytes(),
        serial=certificate.serial_number,
        key_id=key_id,
        authority=authority,
        stamps_time=stamps,
        valid=(certificate.not_valid_before_utc, certificate.not_valid_after_utc),
    )


@lru_cache(maxsize=256)
def _facts(der: bytes) -> CertificateFacts:
    certificate = read_certificate(der).x509

    def one(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
        found = name.get_attributes_for_oid(oid)
        return str(found[0].value) if found else ""

    return CertificateFacts(
        name=one(certificate.subject, NameOID.COMMON_NAME),
        team=one(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
        subject=certificate.subject.rfc4514_string(),
        issuer=one(certificate.issuer, NameOID.COMMON_NAME) or certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha1=hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(der).hexdigest(),
        extensions=tuple(extension.oid.dotted_string for extension in certificate.extensions),
    )


@lru_cache(maxsize=512)
def _issued(child: bytes, parent: bytes) -> bool:
    above, below = read_certificate(parent), read_certificate(child)
    try:
        if not isinstance(below.x509.signature_hash_algorithm, hashes.SHA1):
            below.x509.verify_directly_issued_by(above.x509)
            return True
        # The library refuses SHA-1; Apple's root and its oldest authorities are signed so, and macOS takes them.
        body, algorithm, _ = read_node(child).parts(SEQUENCE)
        same = algorithm.raw in [part.raw for part in body.parts(SEQUENCE)[1:3]]
        signature, signed = below.x509.signature, below.x509.tbs_certificate_bytes
        return same and signature_fits(above, signature, signed, "sha1", elliptic=False)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False


def build_chain(leaf: Certificate, others: Iterable[Certificate]) -> Chain:
    """The chain of a certificate, made from what came with it and from Apple's roots."""
    pool = [*roots(), *others]
    trusted = {root.der for root in roots()}
    chain = [leaf]
    while len(chain) < MAX_CHAIN:
        last = chain[-1]
        if last.der in trusted:
            return Chain(tuple(chain), trusted=True)
        above = next(
            (
                other
                for other in pool
                if other.subject == last.issuer
                and other.authority
                and other not in chain
                and _issued(last.der, other.der)
            ),
            None,
        )
        if above is None:
            break
        chain.append(above)
    return Chain(tuple(chain), trusted=False)


def signature_fits(certificate: Certificate, signature: bytes, data: bytes, digest: str, *, elliptic: bool) -> bool:
    """Whether that key signed these bytes.

    Args:
        certificate: Whose key.
        signature: PKCS #1 v1.5, or an ECDSA signature in DER.
        data: What was signed, not yet hashed.
        digest: `sha1`, `sha256`, `sha384`, `sha512`.
        elliptic: The signature says it is ECDSA.
    """
    algorithm = _HASHES.get(digest)
    if algorithm is None:
        return False
    try:
        key = certificate.x509.public_key()
        if isinstance(key, rsa.RSAPublicKey) and not elliptic:
            key.verify(signature, data, padding.PKCS1v15(), algorithm())
        elif isinstance(key, ec.EllipticCurvePublicKey) and elliptic:
            key.verify(signature, data, ec.ECDSA(algorithm()))
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
