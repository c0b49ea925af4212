"""What VNC servers say, written from RFC 6143: greetings, messages, rectangles in every encoding.

For servers of our own in tests and for the fuzzer; the client's decoders share nothing with it.
"""

from __future__ import annotations

import random
import secrets
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
"""32 bits little endian, blue first."""
OTHER_FORMAT = struct.pack(">BBBBHHHBBB3x", 16, 16, 1, 1, 31, 63, 31, 11, 5, 0)
NONE, VNC, APPLE = 1, 2, 30
# The 1024-bit group of RFC 2409, 6.2: the length that Apple's servers use.
PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6"
    "49286651ECE65381FFFFFFFFFFFFFFFF",
    16,
)
Tile = NDArray[np.uint8]


def greeting(version: str = "003.008", auth: int = NONE, *, offered: Sequence[int] | None = None) -> bytes:
    """Everything up to ServerInit, whatever the client answers; it is let in."""
    said = f"RFB {version}\n".encode()
    offered = offered or (auth,)
    said += struct.pack(">I", auth) if version == "003.003" else bytes([len(offered), *offered])
    if auth == VNC:
        said += bytes(range(16))
    elif auth == APPLE:
        length = 128
        public = pow(2, 2 + secrets.randbelow(PRIME - 4), PRIME)
        said += struct.pack(">HH", 2, length) + PRIME.to_bytes(length, "big") + public.to_bytes(length, "big")
    if auth != NONE or version not in ("003.003", "003.007"):
        said += struct.pack(">I", 0)
    return said


def server_init(width: int, height: int, *, name: bytes = b"vm", pixel_format: bytes = FORMAT) -> bytes:
    """Size, format, name."""
    return struct.pack(">HH", width, height) + pixel_format + struct.pack(">I", len(name)) + name


def hello(width: int = 8, height: int = 4, pixel_format: bytes = FORMAT) -> bytes:
    """Everything that a server without password says before its first message."""
    return greeting() + server_init(width, height, pixel_format=pixel_format)


def rectangle(x: int, y: int, width: int, height: int, encoding: int, data: bytes = b"") -> bytes:
    """One rectangle of an update."""
    return struct.pack(">HHHHi", x, y, width, height, encoding) + data


def update(*rectangles: bytes, count: int | None = None) -> bytes:
    """A FramebufferUpdate; `count` as it is, or a lie."""
    return struct.pack(">BxH", 0, len(rectangles) if count is None else count) + b"".join(rectangles)


def extended_size(width: int, height: int, *, reason: int = 0, status: int = 0, screens: int = 1) -> bytes:
    """An ExtendedDesktopSize rectangle."""
    layout = struct.pack(">IHHHHI", 1, 0, 0, width, height, 0) * screens
    return rectangle(reason, status, width, height, -308, struct.pack(">B3x", screens) + layout)


def cursor(width: int, height: int) -> bytes:
    """A pointer shape."""
    return rectangle(0, 0, width, height, -239, bytes(width * height * 4 + (width + 7) // 8 * height))


def cut_text(text: bytes) -> bytes:
    """The server's clipboard."""
    return struct.pack(">B3xI", 3, len(text)) + text


def colours(count: int) -> bytes:
    """SetColourMapEntries."""
    return struct.pack(">BxHH", 1, 0, count) + bytes(6 * count)


BELL = b"\x02"
LAST = rectangle(0, 0, 0, 0, -224)


class Packer:
    """The compressed encodings: each has a zlib stream for the whole connection."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(1)
        self._zrle = zlib.compressobj(1)

    def zlib(self, pixels: Tile) -> bytes:
        """Zlib (6): height × width × 4 bytes, blue first."""
        return self._packed(self._zlib, pixels.tobytes())

    def zrle(self, pixels: Tile, choose: Callable[[list[str]], str]) -> bytes:
        """ZRLE (16): height × width × 4; `choose` picks among the ways in which a tile can be written."""
        height, width = pixels.shape[:2]
        said = b"".join(
            zrle_tile(pixels[y : y + 64, x : x + 64, :3], choose)
            for y in range(0, height, 64)
            for x in range(0, width, 64)
        )
        return self._packed(self._zrle, said)

    @staticmethod
    def _packed(deflate: Any, data: bytes) -> bytes:
        packed: bytes = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
        return struct.pack(">I", len(packed)) + packed


def rre(pixels: Tile) -> bytes:
    """RRE (2): height × width × 4; the commonest colour is the ground, runs of others are pieces, one row high."""
    words = np.ascontiguousarray(pixels).view("<u4").reshape(pixels.shape[:2])
    colours_there, counts = np.unique(words, return_counts=True)
    ground = colours_there[counts.argmax()] if counts.size else np.uint32(0)
    pieces = []
    for y, row in enumerate(words.tolist()):
        x = 0
        while x < len(row):
            end = x + 1
            while end < len(row) and row[end] == row[x]:
                end += 1
            if row[x] != ground:
                pieces.append(struct.pack("<I", row[x]) + struct.pack(">HHHH", x, y, end - x, 1))
            x = end
    return struct.pack(">I", len(pieces)) + struct.pack("<I", int(ground)) + b"".join(pieces)


def zrle_tile(tile: Tile, choose: Callable[[list[str]], str]) -> bytes:
    """One tile of height × width × 3, in a way that its colours allow."""
    height, width = tile.shape[:2]
    flat = tile.reshape(-1, 3)
    palette, indices = np.unique(flat, axis=0, return_inverse=True)
    indices = indices.reshape(-1)
    ways = ["raw", "runs"]
    if len(palette) == 1:
        ways.append("solid")
    if 2 <= len(palette) <= 16:
        ways.append("packed")
    if 2 <= len(palette) <= 127:
        ways.append("palette runs")
    way = choose(ways)
    if way == "raw":
        return b"\x00" + flat.tobytes()
    if way == "solid":
        return b"\x01" + palette.tobytes()
    if way == "packed":
        bits = 1 if len(palette) == 2 else 2 if len(palette) <= 4 else 4
        rows = []
        for row in indices.reshape(height, width):
            text = "".join(f"{int(index):0{bits}b}" for index in row)
            text += "0" * (-len(text) % 8)
            rows.append(bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8)))
        return bytes([len(palette)]) + palette.tobytes() + b"".join(rows)
    said = [b"\x80" if way == "runs" else bytes([128 + len(palette)]) + palette.tobytes()]
    at = 0
    while at < len(indices):
        end = at + 1
        while end < len(indices) and indices[end] == indices[at]:
            end += 1
        length = end - at - 1
        run = b"\xff" * (length // 255) + bytes([length % 255])
        if way == "runs":
            said.append(palette[indices[at]].tobytes() + run)
        elif length:
            said.append(bytes([128 + int(indices[at])]) + run)
        else:
            said.append(bytes([int(indices[at])]))
        at = end
    return b"".join(said)


def picture(rng: random.Random, width: int, height: int) -> Tile:
    """Height × width × 4 bytes with flat parts, few colours and noise, as screens have."""
    noise = np.random.default_rng(rng.getrandbits(32))
    colours_there = rng.choice((1, 2, 3, 4, 9, 16, 40, 127, 200))
    palette = noise.integers(0, 256, (colours_there, 4), np.uint8)
    indices = noise.integers(0, colours_there, (height, width))
    if rng.random() < 0.6:  # runs
        indices = np.sort(indices, axis=1)
    made: Tile = palette[indices]
    made[:, :, 3] = 0
    return made
