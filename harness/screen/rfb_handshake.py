"""How an RFB connection begins: version, security type, proof of identity, the server's first words (RFC 6143, 7.1–7.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from harness.screen.errors import ScreenError
from harness.screen.rfb_bytes import Stream
from harness.screen.vncauth import answer_apple, answer_challenge, check_prime_length

NONE, VNC, APPLE = 1, 2, 30
_NAMES = {
    0: "invalid", NONE: "none", VNC: "VNC password", 5: "RSA-AES", 16: "Tight", 18: "TLS", 19: "VeNCrypt",
    APPLE: "Apple account", 33: "Apple RSA", 35: "Apple Kerberos", 36: "Apple SRP",
}  # fmt: skip
MAX_REASON = 4096
"""Bytes of a reason or a desktop's name that are read; more of a reason is left out, a longer name is refused."""


class AuthenticationFailed(ScreenError):
    """The server does not accept who we are, or offers no security type that we speak. Trying again does not help."""


class Refused(ScreenError):
    """The server sends everybody away ("too many connections"): it may think otherwise later."""


@dataclass(frozen=True)
class Credentials:
    """Who we are.

    Attributes:
        password: The VNC password, of which eight characters count, or the user's; None: none.
        user: The account's short name, for Apple's Screen Sharing in a guest; None for all other servers.
    """

    password: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class Hello:
    """What the server says of itself.

    Attributes:
        version: That was agreed on: (3, 3), (3, 7) or (3, 8).
        security: The security type used.
        size: (width, height), not yet judged.
        pixel_format: The server's own, 16 bytes.
        name: The desktop's.
    """

    version: tuple[int, int]
    security: int
    size: tuple[int, int]
    pixel_format: bytes
    name: str


def shake_hands(stream: Stream, who: Credentials) -> Hello:
    """Everything up to ServerInit, asking for a shared session.

    Raises:
        AuthenticationFailed: See there.
        Refused: See there.
        ConnectionLost: See there.
        ScreenError: This is no RFB, or beyond the bounds.
    """
    version = _agree_on_version(stream)
    security = _authenticate(stream, version, who)
    stream.send(b"\x01")  # ClientInit: shared
    width, height = struct.unpack(">HH", stream.read(4))
    pixel_format = stream.read(16)
    (length,) = struct.unpack(">I", stream.read(4))
    if length > MAX_REASON:
        raise nonsense(f"a desktop name of {length} bytes")
    return Hello(version, security, (width, height), pixel_format, stream.read(length).decode("utf-8", "replace"))


def nonsense(seen: str, *, hint: str = "") -> ScreenError:
    """The error for what no sane server sends."""
    return ScreenError("the VNC server to keep to RFC 6143 and to sane sizes", seen=seen, hint=hint)


def _agree_on_version(stream: Stream) -> tuple[int, int]:
    banner = stream.read(12)
    digits = banner[4:7] + banner[8:11]
    if banner[:4] != b"RFB " or banner[7:8] != b"." or banner[11:] != b"\n" or not digits.isdigit():
        raise nonsense(f"the greeting {banner!r}", hint="is this the VNC port?")
    theirs = (int(banner[4:7]), int(banner[8:11]))
    if theirs < (3, 3):
        raise nonsense(f"version {theirs[0]}.{theirs[1]}", hint="is this a repeater instead of a server?")
    # 3.889 is Apple's; 3.4 to 3.6 mean 3.3 (RFC 6143, 7.1.1); what is newer than 3.8 speaks 3.8 as well.
    ours = (3, 8) if theirs >= (3, 8) else (3, 7) if theirs == (3, 7) else (3, 3)
    stream.send(f"RFB {ours[0]:03}.{ours[1]:03}\n".encode())
    return ours


def _authenticate(stream: Stream, version: tuple[int, int], who: Credentials) -> int:
    if version == (3, 3):
        (kind,) = struct.unpack(">I", stream.read(4))
        offered = [kind] if kind else []
    else:
        offered = list(stream.read(stream.read(1)[0]))
    if not offered:
        raise Refused("the VNC server to let us in", seen=_reason(stream))
    kind = _choose(offered, who)
    if version > (3, 3):
        stream.send(bytes([kind]))
    if kind == VNC:
        stream.send(answer_challenge(stream.read(16), who.password or ""))
    elif kind == APPLE:
        generator, length = struct.unpack(">HH", stream.read(4))
        check_prime_length(length)
        prime, key = stream.read(length), stream.read(length)
        stream.send(answer_apple(generator, prime, key, who.user or "", who.password or ""))
    if kind != NONE or version == (3, 8):
        (result,) = struct.unpack(">I", stream.read(4))
        if result:
            seen = _reason(stream) if version == (3, 8) else f"result {result}"
            what = {VNC: "the VNC password", APPLE: "the account and its password"}.get(kind, "nobody")
            raise AuthenticationFailed(f"{what} to be accepted", seen=seen)
    return kind


def _choose(offered: list[int], who: Credentials) -> int:
    if APPLE in offered and who.user and who.password is not None:
        return APPLE
    if VNC in offered and who.password is not None:
        return VNC
    if NONE in offered:
        return NONE
    names = ", ".join(f"{kind} ({_NAMES[kind]})" if kind in _NAMES else str(kind) for kind in offered[:16])
    missing = ", and no password is known" if who.password is None else ""
    raise AuthenticationFailed(
        "a VNC server with security type 1 (none), 2 (password) or 30 (Apple account)",
        seen=f"it offers {names}{missing}",
        hint="Screen Sharing in a guest wants a user as well as a password" if APPLE in offered else "",
    )


def _reason(stream: Stream) -> str:
    try:
        (length,) = struct.unpack(">I", stream.read(4))
        text = stream.read(min(length, MAX_REASON)).decode("utf-8", "replace").strip()
    except ScreenError:
        text = ""
    return text or "no reason given"
