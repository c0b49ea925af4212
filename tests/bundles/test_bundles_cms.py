"""CMS messages and chains: the real ones hold; forged, foreign, expired and altered ones do not. OpenSSL is a second judge."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bundles import trust
from harness.bundles.cms import read_message, verify_message
from harness.bundles.der import DerError, read_node
from harness.bundles.macho import read_slices
from harness.bundles.profile import ProfileError, read_profile
from harness.bundles.ticket import TicketError, read_ticket

NOW = datetime.datetime(2025, 6, 1, tzinfo=datetime.UTC)


def _signature(app: Path, arch: str) -> tuple[bytes, bytes]:
    """The code directory and the CMS message of a slice of the real app, found without the reader under test."""
    data = (app / "Contents/MacOS/Mitmproxy Redirector").read_bytes()
    part = next(part for part in read_slices(data) if part.arch == arch)
    assert part.signature is not None
    start = part.offset + part.signature[0]
    blob = data[start : start + part.signature[1]]
    directory = blob[52 : 52 + int.from_bytes(blob[56:60], "big")]
    at = blob.index(bytes.fromhex("fade0b01"))
    return directory, blob[at + 8 : at + int.from_bytes(blob[at + 4 : at + 8], "big")]


@pytest.fixture(scope="module")
def real(app_0115: Path) -> tuple[bytes, bytes]:
    return _signature(app_0115, "arm64")


def test_the_roots_are_those_that_apple_publishes() -> None:
    files = sorted((Path(trust.__file__).parent / "roots").glob("*.cer"))
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == trust.FINGERPRINTS
    names = {root.facts().name for root in trust.roots()}
    assert names == {"Apple Root CA", "Apple Root CA - G2", "Apple Root CA - G3"}
    for root in trust.roots():  # each is signed by itself
        assert trust._issued(root.der, root.der)
        damaged = bytearray(root.der)
        damaged[-1] ^= 1
        assert not trust._issued(bytes(damaged), root.der)


def test_the_real_signature(real: tuple[bytes, bytes]) -> None:
    directory, data = real
    verdict = verify_message(read_message(data), directory)
    assert (verdict.signature_ok, verdict.why_not, verdict.extra, verdict.chain.trusted) == (True, "", (), True)
    assert verdict.signer == "Developer ID Application: Maximilian Hils (S8XHQB96PW)"
    assert [item.name for item in verdict.chain.facts()][1:] == [
        "Developer ID Certification Authority",
        "Apple Root CA",
    ]
    assert verdict.timestamp is not None
    assert (verdict.timestamp.ok, str(verdict.timestamp.time)) == (True, "2025-02-17 11:47:35+00:00")
    assert str(verdict.signing_time) == "2025-02-17 11:47:34+00:00"
    assert verdict.chain.valid_at(verdict.timestamp.time)
    assert not verdict.chain.valid_at(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))


def test_openssl_says_the_same(real: tuple[bytes, bytes], tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command here")
    directory, data = real
    (tmp_path / "cms").write_bytes(data)
    root = next(root for root in trust.roots() if root.facts().name == "Apple Root CA")
    (tmp_path / "root.pem").write_bytes(root.x509.public_bytes(serialization.Encoding.PEM))
    for content, good in ((directory, True), (directory[:-1] + b"?", False)):
        (tmp_path / "content").write_bytes(content)
        done = subprocess.run(
            [
                *(openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", str(tmp_path / "cms")),
                *("-content", str(tmp_path / "content"), "-CAfile", str(tmp_path / "root.pem"), "-purpose", "any"),
                *("-no_check_time", "-out", str(tmp_path / "out")),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # OpenSSL does not know Apple's critical extension 1.2.840.113635.100.6.1.13 and stops the chain there.
        signature_ok = done.returncode == 0 or "certificate verify error" in done.stderr
        verdict = verify_message(read_message(data), content)
        if good:
            assert signature_ok, done.stderr
        assert verdict.signature_ok is good


def test_a_signature_of_other_code_and_a_stamp_of_another_signature(app_0115: Path, real: tuple[bytes, bytes]) -> None:
    other, others = _signature(app_0115, "x86_64")
    verdict = verify_message(read_message(real[1]), other)
    assert (verdict.signature_ok, verdict.chain.trusted) == (False, True)
    assert "another content" in verdict.why_not
    # The stamps of the two have the same length: one in the other's place is well-formed, and wrong.
    own, foreign = _token(real[1]), _token(others)
    assert len(own) == len(foreign)
    verdict = verify_message(read_message(real[1].replace(own, foreign)), real[0])
    assert verdict.signature_ok
    assert verdict.timestamp is not None
    assert (verdict.timestamp.ok, verdict.timestamp.why_not) == (False, "it is the stamp of another signature")


def _token(data: bytes) -> bytes:
    (token,) = read_message(data).unsigned["1.2.840.113549.1.9.16.2.14"]
    return token.raw


@settings(max_examples=120, deadline=None)
@given(at=st.integers(0, 1 << 30), mask=st.integers(1, 255))
def test_no_changed_byte_of_a_message_goes_unnoticed(real: tuple[bytes, bytes], at: int, mask: int) -> None:
    """Not in the signature, nor the chain, the time stamp, or what no signature covers."""
    data = bytearray(real[1])
    data[at % len(data)] ^= mask
    try:
        verdict = verify_message(read_message(bytes(data)), real[0])
    except DerError:
        return
    stamp_ok = verdict.timestamp is not None and verdict.timestamp.ok
    assert not (verdict.signature_ok and verdict.chain.trusted and not verdict.extra and stamp_ok)


def test_the_real_profiles_and_ticket(app_0115: Path) -> None:
    profile, why_not = read_profile((app_0115 / "Contents/embedded.provisionprofile").read_bytes())
    assert (profile.name, profile.team, profile.all_devices) == ("Mitmproxy Redirector", "S8XHQB96PW", True)
    assert (profile.verified, why_not, profile.platform) == (True, "", ("OSX",))
    assert profile.certificates == ("89aacb17fa34cc93be764a1024fab6346155a439",)
    assert str(profile.expires) == "2041-08-17 14:55:04+00:00"
    ticket, why_not = read_ticket((app_0115 / "Contents/CodeResources").read_bytes())
    assert (ticket.verified, why_not, len(ticket.cdhashes)) == (True, "", 4)
    assert ticket.covers("748ee256b2e991d606758aaa9e558c71ffe0b51c")
    assert str(ticket.time) == "2025-02-17 11:48:13+00:00"
    assert [item.name for item in ticket.chain] == ["Software Ticket Signing", "Apple System Integration CA 4"]


@settings(max_examples=80, deadline=None)
@given(at=st.integers(0, 1 << 30), mask=st.integers(1, 255), cut=st.integers(0, 40))
def test_no_changed_byte_of_ticket_or_profile_goes_unnoticed(app_0115: Path, at: int, mask: int, cut: int) -> None:
    for name, read, error in (
        ("CodeResources", read_ticket, TicketError),
        ("embedded.provisionprofile", read_profile, ProfileError),
    ):
        data = bytearray((app_0115 / "Contents" / name).read_bytes())
        data[at % len(data)] ^= mask
        with contextlib.suppress(error):
            facts, why_not = read(bytes(data))
            assert why_not
            assert facts.verified is False
        if cut:
            del data[-cut:]
            with pytest.raises(error):
                read(bytes(data))


def _certificate(
    name: str,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    by: x509.Certificate | None = None,
    by_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
    *,
    authority: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.subject if by is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(by_key or key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def forgers() -> list[tuple[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, x509.Certificate, x509.Certificate]]:
    """Signers of a root that calls itself Apple's, with RSA and with elliptic curves."""
    found: list[tuple[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, x509.Certificate, x509.Certificate]] = []
    for make in (lambda: rsa.generate_private_key(65537, 2048), lambda: ec.generate_private_key(ec.SECP256R1())):
        top, key = make(), make()
        root = _certificate("Apple Root CA", top, authority=True)
        found.append((key, _certificate("Developer ID Application: Forger", key, root, top), root))
    return found


def _signed(
    key: object, leaf: x509.Certificate, extra: list[x509.Certificate], content: bytes, *options: object
) -> bytes:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(leaf, key, hashes.SHA256())  # type: ignore[arg-type]
    for certificate in extra:
        builder = builder.add_certificate(certificate)
    return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary, *options])  # type: ignore[list-item]


def test_a_root_that_calls_itself_apples_is_not(
    forgers: list[tuple[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, x509.Certificate, x509.Certificate]],
) -> None:
    for key, leaf, root in forgers:
        data = _signed(key, leaf, [root], b"content", pkcs7.PKCS7Options.DetachedSignature)
        verdict = verify_message(read_message(data), b"content")
        assert (verdict.signature_ok, verdict.chain.trusted) == (True, False), verdict.why_not
        assert [item.name for item in verdict.chain.facts()] == ["Developer ID Application: Forger", "Apple Root CA"]
        assert not verify_message(read_message(data), b"contend").signature_ok
        assert not verify_message(read_message(data)).signature_ok


def test_a_message_that_carries_its_content(
    forgers: list[tuple[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, x509.Certificate, x509.Certificate]],
) -> None:
    key, leaf, root = forgers[0]
    stranger = forgers[1][1]
    verdict = verify_message(read_message(_signed(key, leaf, [root, stranger], b"content")))
    assert verdict.signature_ok
    assert any("not part of the chain" in extra for extra in verdict.extra)
    bare = _signed(key, leaf, [root], b"content", pkcs7.PKCS7Options.NoAttributes)
    assert verify_message(read_message(bare)).signature_ok
    none = _signed(key, leaf, [], b"content", pkcs7.PKCS7Options.NoCerts)
    assert "certificate is not in it" in verify_message(read_message(none)).why_not
    trailing = read_message(_signed(key, leaf, [root], b"content") + b"\0")
    assert any("behind the message" in extra for extra in trailing.extra)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused_not_a_crash(data: bytes) -> None:
    for noise in (data, b"\x30\x80" * 60 + data, b"\x30\x84\xff\xff\xff\xff" + data):
        with contextlib.suppress(DerError):
            verify_message(read_message(noise), b"")
        with contextlib.suppress(TicketError):
            read_ticket(b"s8ch\x01\0\0\0" + noise)
        with contextlib.suppress(ProfileError):
            read_profile(noise)
        with contextlib.suppress(trust.CertificateError):
            trust.read_certificate(noise)


def test_lengths_without_end_and_deep_nesting() -> None:
    assert [part.integer() for part in read_node(bytes.fromhex("3080020101020102" + "0000"))] == [1, 2]
    for bad in ("3080020101", "0480", "30820001", "1f8101", "30030201"):
        with pytest.raises(DerError):
            list(read_node(bytes.fromhex(bad)))
    with pytest.raises(DerError, match="in one another"):
        read_node(b"\x30\x80" * 100 + b"\0\0" * 100)
