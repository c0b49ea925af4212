"""VNC authentication (security type 2): DES of a 16-byte challenge (RFC 6143, 7.2.2)."""

from __future__ import annotations

import warnings

MAX_PASSWORD = 8
"""Only so many bytes of the password count; the rest is ignored by every server."""


def answer_challenge(challenge: bytes, password: str) -> bytes:
    """The 16-byte response to a 16-byte challenge.

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
