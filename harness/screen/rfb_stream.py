"""One RFB connection: handshake and messages (RFC 6143). Bounded whatever the server sends; knows nothing of screens.

Asked of the server: Raw, Zlib, DesktopSize, LastRect, which is what Virtualization.framework's does well.
"""

from __future__ import annotations

import select
import socket
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.screen.errors import ScreenError
from harness.screen.frames import Box
from harness.screen.vncauth import answer_challenge

RAW, COPY_RECT, ZLIB, DESKTOP_SIZE, LAST_RECT = 0, 1, 6, -223, -224
MAX_SIDE = 16384
MAX_PIXELS = 7680 * 4320
MAX_TEXT = 1 << 20
_REASON = 4096
_SILENCE = 15.0
"""Seconds without a byte in the middle of a message, after which the connection is given up."""
_FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
"""32 bits little endian, red 16, green 8, blue 0: bytes blue, green, red, unused. What VZ offers of itself."""


class AuthenticationFailed(ScreenError):
    """The server refuses the password, or offers no security type that we speak. Trying again does not help."""


@dataclass(frozen=True)
class Update:
    """One framebuffer update, already applied to `Connection.pixels`.

    Attributes:
        regions: What was drawn.
        resized: The framebuffer has another size now (and another array).
    """

    regions: tuple[Box, ...]
    resized: bool


class Connection:
    """Handshaken connection. One thread may `read`, another may send.

    Raises:
        ScreenError: Anything that is not as RFC 6143 says, or beyond the bounds.
        AuthenticationFailed: See there.
        OSError: The connection broke.
    """

    def __init__(self, host: str, port: int, password: str | None, *, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(timeout)
            self._inflate = zlib.decompressobj()
            self._version = self._agree_on_version()
            self._authenticate(password)
            self.socket.sendall(b"\x01")  # ClientInit: shared
            width, height = struct.unpack(">HH", self._read(4))
            server_format = self._read(16)
            (length,) = struct.unpack(">I", self._read(4))
            if length > _REASON:
                raise _nonsense(f"a desktop name of {length} bytes")
            self.name = self._read(length).decode("utf-8", "replace")
            self.pixels = _blank(width, height)
            if server_format[:13] != _FORMAT[:13]:
                self.socket.sendall(b"\x00\x00\x00\x00" + _FORMAT)
            encodings = (ZLIB, RAW, DESKTOP_SIZE, LAST_RECT)
            self.socket.sendall(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))
            self.socket.settimeout(_SILENCE)
        except BaseException:
            self.socket.close()
            raise

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def request(self, *, incremental: bool) -> None:
        """Ask for an update of the whole framebuffer."""
        self.send(struct.pack(">BBHHHH", 3, int(incremental), 0, 0, *self.size))

    def send(self, message: bytes) -> None:
        """Send one client message."""
        self.socket.sendall(message)

    def readable(self, seconds: float, wake: int | None = None) -> bool:
        """Whether a message has begun to arrive within so many seconds; a readable `wake` descriptor ends the wait."""
        waiting = [self.socket.fileno()] + ([wake] if wake is not None else [])
        ready, _, _ = select.select(waiting, [], [], max(0.0, seconds))
        return self.socket.fileno() in ready

    def read(self) -> Update | None:
        """Read one server message; None for those that change no pixels."""
        kind = self._read(1)[0]
        if kind == 0:
            return self._update()
        if kind == 1:  # SetColourMapEntries: of no use in true colour
            (count,) = struct.unpack(">xxxH", self._read(5))
            self._skip(6 * count)
        elif kind == 3:  # ServerCutText
            (length,) = struct.unpack(">3xI", self._read(7))
            if length > MAX_TEXT:
                raise _nonsense(f"{length} bytes of clipboard")
            self._skip(length)
        elif kind != 2:  # 2: Bell
            raise _nonsense(f"message type {kind}")
        return None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    # --- handshake

    def _agree_on_version(self) -> tuple[int, int]:
        banner = self._read(12)
        try:
            if not banner.startswith(b"RFB ") or banner[7:8] != b"." or banner[11:] != b"\n":
                raise ValueError
            version = (int(banner[4:7]), int(banner[8:11]))
        except ValueError:
            raise _nonsense(f"the greeting {banner!r}", hint="is this the VNC port?") from None
        if version < (3, 3):
            raise _nonsense(f"version {version[0]}.{version[1]}")
        ours = (3, 8) if version >= (3, 8) else (3, 7) if version == (3, 7) else (3, 3)
        self.socket.sendall(f"RFB {ours[0]:03}.{ours[1]:03}\n".encode())
        return ours

    def _authenticate(self, password: str | None) -> None:
        if self._version == (3, 3):
            (kind,) = struct.unpack(">I", self._read(4))
            offered = [kind] if kind else []
        else:
            offered = list(self._read(self._read(1)[0]))
        if not offered:
            raise AuthenticationFailed("the VNC server to let us in", seen=self._reason())
        kind = 2 if 2 in offered and password is not None else 1 if 1 in offered else 0
        if kind == 0:
            raise AuthenticationFailed(
                "a VNC server with security type 1 (none) or 2 (password)",
                seen=f"it offers {offered}" + ("" if password is not None else ", and no password is known"),
            )
        if self._version > (3, 3):
            self.socket.sendall(bytes([kind]))
        if kind == 2:
            self.socket.sendall(answer_challenge(self._read(16), password or ""))
        if kind == 2 or self._version == (3, 8):
            (result,) = struct.unpack(">I", self._read(4))
            if result:
                seen = self._reason() if self._version == (3, 8) else f"result {result}"
                raise AuthenticationFailed("the VNC password to be accepted", seen=seen)

    def _reason(self) -> str:
        try:
            (length,) = struct.unpack(">I", self._read(4))
            return self._read(min(length, _REASON)).decode("utf-8", "replace")
        except (OSError, ScreenError):
            return "no reason given"

    # --- updates

    def _update(self) -> Update:
        (count,) = struct.unpack(">xH", self._read(3))
        regions: list[Box] = []
        resized = False
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self._read(12))
            if encoding == LAST_RECT:
                break
            if encoding == DESKTOP_SIZE:
                self.pixels = _blank(width, height)
                resized = True
                regions = []
                continue
            if x + width > self.size[0] or y + height > self.size[1]:
                raise _nonsense(
                    f"a rectangle {width}x{height} at {x},{y} outside the screen of {self.size[0]}x{self.size[1]}"
                )
            if encoding == RAW:
                self._raw(x, y, width, height)
            elif encoding == ZLIB:
                self._zlib(x, y, width, height)
            else:
                raise _nonsense(f"encoding {encoding}, which was not asked for")
            if width and height:
                regions.append(Box(x, y, x + width, y + height))
        return Update(tuple(regions), resized)

    def _raw(self, x: int, y: int, width: int, height: int) -> None:
        """Read in bands, so that a big rectangle needs no second copy of itself."""
        band = max(1, (1 << 20) // max(1, 4 * width))
        for top in range(0, height if width else 0, band):
            rows = min(band, height - top)
            data = np.frombuffer(self._read(rows * width * 4), np.uint8).reshape(rows, width, 4)
            self.pixels[y + top : y + top + rows, x : x + width] = data

    def _zlib(self, x: int, y: int, width: int, height: int) -> None:
        expected = width * height * 4
        (length,) = struct.unpack(">I", self._read(4))
        if length > expected + expected // 100 + 4096:
            raise _nonsense(f"{length} compressed bytes for {expected}")
        packed = self._read(length)
        try:
            data = self._inflate.decompress(packed, expected) if expected else b""
            # The end of a block may still stand in the queue; it must not bring pixels.
            rest = self._inflate.unconsumed_tail if expected else packed
            extra = self._inflate.decompress(rest, 1) if rest else b""
        except zlib.error as error:
            raise _nonsense(f"a broken zlib stream ({error})") from None
        if len(data) != expected or extra or self._inflate.unconsumed_tail:
            raise _nonsense(f"{len(data)}{'+' if extra else ''} bytes in a zlib rectangle of {expected}")
        if expected:
            self.pixels[y : y + height, x : x + width] = np.frombuffer(data, np.uint8).reshape(height, width, 4)

    # --- bytes

    def _read(self, count: int) -> bytes:
        buffer = bytearray(count)
        view = memoryview(buffer)
        got = 0
        while got < count:
            try:
                received = self.socket.recv_into(view[got:])
            except TimeoutError:
                raise ScreenError(
                    "the VNC server to go on",
                    seen=f"nothing for {self.socket.gettimeout():g} s in the middle of a message",
                ) from None
            if not received:
                raise ConnectionResetError("the VNC server closed the connection")
            got += received
        return bytes(buffer)

    def _skip(self, count: int) -> None:
        for size in _pieces(count, 1 << 16):
            self._read(size)


def _pieces(count: int, most: int) -> Iterator[int]:
    while count > 0:
        yield min(count, most)
        count -= most


def _blank(width: int, height: int) -> NDArray[np.uint8]:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or width * height > MAX_PIXELS:
        raise _nonsense(f"a screen of {width}x{height} pixels")
    return np.zeros((height, width, 4), np.uint8)


def _nonsense(seen: str, *, hint: str = "") -> ScreenError:
    return ScreenError("the VNC server to keep to RFC 6143 and to sane sizes", seen=seen, hint=hint)
