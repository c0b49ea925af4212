"""What a VNC server is told to let us in: DES of a challenge (security type 2) and Apple's Diffie-Hellman (type 30)."""

from __future__ import annotations

import hashlib
import secrets
import warnings

from harness.screen.errors import ScreenError

MAX_PASSWORD = 8
"""Type 2: only so many bytes of the password count; the rest is ignored by every server."""
_FIELD = 64
_SMALLEST, _LARGEST = 64, 512
"""Bytes of a prime. Apple's has 128; smaller ones hide nothing, greater ones take seconds to compute with."""


def answer_challenge(challenge: bytes, password: str) -> bytes:
    """The 16-byte response to a 16-byte challenge (RFC 6143, 7.2.2).

    The key is the password's first eight bytes, zero-padded, the bits of each byte reversed.
    """
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    raw = password.encode("latin-1", "replace")[:MAX_PASSWORD].ljust(MAX_PASSWORD, b"\0")
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Three equal keys make it single DES; ECB is what the protocol says.
        encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(challenge) + encryptor.finalize()


def check_prime_length(length: int) -> None:
    """Refuse a prime of so many bytes before it is read.

    Raises:
        ScreenError: It is too short to hide a password, or too long to compute with.
    """
    if not _SMALLEST <= length <= _LARGEST:
        raise ScreenError(f"a Diffie-Hellman prime of {_SMALLEST} to {_LARGEST} bytes", seen=f"{length} bytes")


def answer_apple(generator: int, prime: bytes, server_key: bytes, user: str, password: str) -> bytes:
    """What a client says to a server of Apple's Screen Sharing, security type 30, after its parameters.

    A Diffie-Hellman secret as long as the prime; its MD5 is an AES-128 key; user and password, each zero-terminated in 64
    bytes (the rest random), are encrypted with it in ECB mode; then follows our public key. As publicly described
    (cafbit.com, "Apple Remote Desktop quirks"); the same words as vncdotool's client says. No server of Apple's was at hand.

    Raises:
        ScreenError: Parameters that would give the password away, or a user or password that is too long.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    length = len(prime)
    check_prime_length(length)
    modulus, theirs = int.from_bytes(prime, "big"), int.from_bytes(server_key, "big")
    if modulus.bit_length() < 8 * _SMALLEST - 8 or not modulus & 1 or not 1 < theirs < modulus - 1 or generator < 2:
        raise ScreenError("sound Diffie-Hellman parameters", seen="ones that would give the password away")
    fields = b""
    for what, text in (("user", user), ("password", password)):
        raw = text.encode("utf-8", "surrogatepass") + b"\0"
        if len(raw) > _FIELD:
            raise ScreenError(f"a {what} of at most {_FIELD - 1} bytes for Apple's Screen Sharing", seen="a longer one")
        fields += raw + secrets.token_bytes(_FIELD - len(raw))
    private = 2 + secrets.randbelow(modulus - 4)
    secret = pow(theirs, private, modulus).to_bytes(length, "big")
    key = hashlib.md5(secret, usedforsecurity=False).digest()
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - what the server expects
    return encryptor.update(fields) + encryptor.finalize() + pow(generator, private, modulus).to_bytes(length, "big")
