"""One RFB connection: handshake and messages (RFC 6143). Bounded whatever the server sends; knows nothing of screens.

Bounds, whatever arrives: memory 4 bytes a pixel of the server's screen (at most `MAX_PIXELS`: 133 MB) and
`rfb_encodings.WORKING` beside, the system `AHEAD` twice; time `rfb_bytes.MESSAGE` for one message, `rfb_bytes.SILENCE` without a byte of it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.screen.errors import ConnectionLost
from harness.screen.frames import Box, Pixels
from harness.screen.rfb_bytes import SILENCE, Stream
from harness.screen.rfb_encodings import (
    COPY_RECT,
    CURSOR,
    DESKTOP_SIZE,
    EXTENDED_DESKTOP_SIZE,
    LAST_RECT,
    MAX_BOXES,
    MAX_PIXELS,
    MAX_SIDE,
    RAW,
    RRE,
    ZLIB,
    ZRLE,
    Framebuffer,
    around,
    skip_cursor,
)
from harness.screen.rfb_handshake import AuthenticationFailed, Credentials, Refused, nonsense, shake_hands
from harness.waiting import Deadline

__all__ = ["MAX_PIXELS", "MAX_SIDE", "AuthenticationFailed", "Connection", "Refused", "Update"]

MAX_TEXT = 16 << 20
"""Bytes of clipboard that are read past; a server with more of it is given up."""
MAX_OVERDRAW = 16
"""How often one update may draw the whole screen before it is taken for one that never ends."""
HANDSHAKE = 10.0
"""Seconds from connecting to the server's first words, in all."""
NEAR = ((COPY_RECT, ZLIB, RAW, RRE), (COPY_RECT, RAW, RRE))
"""Asked for on this host. Virtualization.framework's server was found to be quicker with Zlib (packer-plugin-tart#178), x11vnc
is ten times quicker with Raw; so which one stays is measured. TigerVNC would choose ZRLE, its slowest, if it were named; with
RRE behind Raw it says in 20 bytes what is of one colour."""
PROVEN = ((ZLIB, RAW), (RAW,))
"""What others were seen to ask Virtualization.framework's server for (packer-plugin-tart), and got: for a server that does not bear
to be asked for more."""
AHEAD = 4 << 20
"""Bytes that the system may hold for a connection on this host (Linux takes twice as much for it)."""
FAR = ((COPY_RECT, ZLIB, ZRLE, RAW),)
"""Asked for over a network."""
_PSEUDO = (CURSOR, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, LAST_RECT)
_FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
"""32 bits little endian, red 16, green 8, blue 0: bytes blue, green, red, unused. What VZ offers of itself."""


@dataclass(frozen=True)
class Update:
    """One framebuffer update, already applied to `Connection.pixels`.

    Attributes:
        regions: What was drawn, at most `MAX_BOXES`.
        resized: The framebuffer has another size now (and another array).
        changed: Where pixels are not as they were before, at most `MAX_BOXES`.
        layout: The layout of the server's screens was told.
    """

    regions: tuple[Box, ...]
    resized: bool
    changed: tuple[Box, ...] = ()
    layout: bool = False


class Connection:
    """Handshaken connection. One thread may `read`, another may send.

    Args:
        password: The VNC password, or the account's.
        user: The account, for Apple's Screen Sharing.
        timeout: Seconds for the handshake.
        encodings: Asked for, best first; by how far the server is, if None, and `choices` then has what else may be.
        proven: Ask for `PROVEN` only (unless `encodings` says what), and not for the layout of the screens.
        wake: A descriptor whose readability ends `readable`.
        stopped: True breaks off also in the middle of a message.

    Raises:
        ScreenError: Anything that is not as RFC 6143 says, or beyond the bounds.
        ConnectionLost: See there.
        AuthenticationFailed: See there.
        Refused: See there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        password: str | None,
        *,
        user: str | None = None,
        timeout: float = HANDSHAKE,
        encodings: Sequence[int] | None = None,
        proven: bool = False,
        wake: int | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        deadline = Deadline.after(timeout)
        try:
            self.socket = socket.create_connection((host, port), timeout=max(0.1, deadline.remaining))
        except OSError as error:
            raise ConnectionLost(
                f"a VNC server at {host}:{port}",
                seen=f"{type(error).__name__}: {error}",
                hint="does `tart run` with --vnc-experimental still run?",
            ) from error
        self._stream = Stream(self.socket, wake=wake, stopped=stopped)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(SILENCE)
            if _is_near(self.socket):
                _give_room(self.socket)
            self._stream.begin(deadline)
            hello = shake_hands(self._stream, Credentials(password, user))
            self.name = hello.name
            self.security = hello.security
            self._framebuffer = Framebuffer(*hello.size)
            if hello.pixel_format[:13] != _FORMAT[:13]:
                self.send(b"\x00\x00\x00\x00" + _FORMAT)
            self._encodings: tuple[int, ...] = ()
            self._layouts = not proven
            near = NEAR if _is_near(self.socket) else FAR
            self.choices = (tuple(encodings),) if encodings is not None else PROVEN if proven else near
            self.prefer(self.choices[0])
        except BaseException:
            self.close()
            raise

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Rows of columns of (blue, green, red, unused) bytes; another array after each change of size."""
        return self._framebuffer.pixels

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self._framebuffer.size

    def adopt(self, picture: Pixels | None) -> None:
        """Begin with a picture of this very screen that is known from before, if there is one."""
        if picture is not None:
            self._framebuffer.adopt(picture)

    def prefer(self, encodings: Sequence[int] | None = None, *, layouts: bool | None = None) -> None:
        """Ask for these encodings from now on, best first, besides the pseudo-encodings; and whether to be told the layout of
        the server's screens. What is not given stays as it is.
        """
        self._encodings = tuple(encodings) if encodings is not None else self._encodings
        self._layouts = self._layouts if layouts is None else layouts
        pseudo = (each for each in _PSEUDO if self._layouts or each != EXTENDED_DESKTOP_SIZE)
        asked = (*self._encodings, *pseudo)
        self.send(struct.pack(f">BxH{len(asked)}i", 2, len(asked), *asked))

    def request(self, *, incremental: bool) -> None:
        """Ask for an update of the whole framebuffer."""
        self.send(struct.pack(">BBHHHH", 3, int(incremental), 0, 0, *self.size))

    def send(self, message: bytes) -> None:
        """Send one client message."""
        self._stream.send(message)

    def readable(self, seconds: float) -> bool:
        """Whether a message has begun to arrive within so many seconds."""
        return self._stream.readable(seconds)

    def read(self) -> Update | None:
        """Read one server message; None for those that change no pixels."""
        self._stream.begin()
        kind = self._stream.read(1)[0]
        if kind == 0:
            return self._update()
        if kind == 1:  # SetColourMapEntries: of no use in true colour
            (count,) = struct.unpack(">xxxH", self._stream.read(5))
            self._stream.skip(6 * count)
        elif kind == 3:  # ServerCutText
            (length,) = struct.unpack(">3xI", self._stream.read(7))
            if length > MAX_TEXT:
                raise nonsense(f"{length} bytes of clipboard")
            self._stream.skip(length)
        elif kind != 2:  # 2: Bell
            raise nonsense(f"message type {kind}")
        return None

    def close(self) -> None:
        """Close the socket."""
        self._stream.close()

    def _update(self) -> Update:
        (count,) = struct.unpack(">xH", self._stream.read(3))
        regions: list[Box] = []
        resized = layout = False
        drawn = 0
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self._stream.read(12))
            if encoding == LAST_RECT:
                break
            if encoding == CURSOR:
                skip_cursor(self._stream, width, height)
                continue
            if encoding in (DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE):
                layout = layout or encoding == EXTENDED_DESKTOP_SIZE
                if encoding == EXTENDED_DESKTOP_SIZE and not self._screens(reason=x, status=y, size=(width, height)):
                    continue
                self._framebuffer.resize(width, height)
                resized, regions, drawn = True, [], 0
                continue
            box = Box(x, y, x + width, y + height)
            drawn += width * height
            if drawn > MAX_OVERDRAW * self.size[0] * self.size[1]:
                raise nonsense(f"an update that draws its screen more than {MAX_OVERDRAW} times over")
            self._framebuffer.draw(self._stream, box, encoding)
            if width and height:
                regions.append(box)
                if len(regions) > MAX_BOXES:
                    regions = [around(regions)]
        return Update(tuple(regions), resized, self._framebuffer.changes(), layout)

    def _screens(self, *, reason: int, status: int, size: tuple[int, int]) -> bool:
        """Read the layout in an ExtendedDesktopSize; whether the framebuffer has another size now."""
        (count,) = struct.unpack(">B3x", self._stream.read(4))
        self._stream.skip(16 * count)
        refused = reason == 1 and status != 0  # an answer to a wish, which we never express
        return not refused and size != self.size


def _give_room(connected: socket.socket) -> None:
    """Let the system hold much of a frame for us: a server on this host then writes it without waiting in between. Not where the
    system allows less than it gives by itself.
    """
    with contextlib.suppress(OSError, ValueError):
        limit = Path("/proc/sys/net/core/rmem_max")  # macOS has none, and refuses what is too much
        if not limit.exists() or int(limit.read_text(encoding="ascii")) >= AHEAD:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, AHEAD)


def _is_near(connected: socket.socket) -> bool:
    try:
        return ipaddress.ip_address(connected.getpeername()[0].partition("%")[0]).is_loopback
    except (OSError, ValueError, IndexError):
        return False
