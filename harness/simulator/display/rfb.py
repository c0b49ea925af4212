"""A VNC server in the manner of Virtualization.framework's: RFB 3.8, one password, Raw and Zlib, desktop size changes."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import struct
import warnings
import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.simulator.display.desktop import Desktop, Region

RAW, ZLIB, DESKTOP_SIZE, LAST_RECT = 0, 6, -223, -224
_MOST_TEXT = 1 << 20
_MOST_ENCODINGS = 1024


@dataclass(frozen=True)
class PixelFormat:
    """How a client wants its pixels; the server's own is 32 bits, little endian, red 16, green 8, blue 0."""

    bits: int = 32
    big: bool = False
    maxima: tuple[int, int, int] = (255, 255, 255)
    shifts: tuple[int, int, int] = (16, 8, 0)

    def pack(self) -> bytes:
        """The 16 bytes of PIXEL_FORMAT."""
        return struct.pack(">BBBBHHHBBB3x", self.bits, 24, int(self.big), 1, *self.maxima, *self.shifts)

    @classmethod
    def unpack(cls, data: bytes) -> PixelFormat:
        """Read one.

        Raises:
            ValueError: Colour maps or a size that is not 8, 16 or 32 bits.
        """
        bits, _, big, true, red, green, blue, r, g, b = struct.unpack(">BBBBHHHBBB3x", data)
        if bits not in (8, 16, 32) or not true or max(r, g, b) >= bits or 0 in (red, green, blue):
            raise ValueError(f"pixel format {data.hex()}")
        return cls(bits, bool(big), (red, green, blue), (r, g, b))

    def encode(self, pixels: NDArray[np.uint8]) -> bytes:
        """BGRX pixels in this format."""
        if self == PixelFormat():
            return pixels.tobytes()
        wide = pixels.astype(np.uint32)
        value = np.zeros(pixels.shape[:2], np.uint32)
        for channel, top, shift in zip((2, 1, 0), self.maxima, self.shifts, strict=True):
            value |= (wide[:, :, channel] * top // 255) << np.uint32(shift)
        return value.astype(np.dtype(f"{'>' if self.big else '<'}u{self.bits // 8}")).tobytes()


@dataclass
class _Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    format: PixelFormat = field(default_factory=PixelFormat)
    encodings: tuple[int, ...] = (RAW,)
    dirty: Region | None = None
    resized: bool = False
    wants: bool = False
    full: bool = False
    deflate: zlib._Compress = field(default_factory=lambda: zlib.compressobj(1))
    news: asyncio.Event = field(default_factory=asyncio.Event)


class RfbServer:
    """Serves one desktop on a port of the loopback interface, to any number of clients."""

    def __init__(self, desktop: Desktop, password: str) -> None:
        self.desktop = desktop
        self._key = _des_key(password)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; returns the port, which the kernel chose."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop listening and drop all clients."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = _Client(reader, writer)
        stop = self.desktop.listen(lambda region: self._changed(client, region))
        sender: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(60):
                if not await self._handshake(client):
                    return
            sender = asyncio.create_task(self._send(client))
            await self._serve(client)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError, struct.error):
            pass  # a client that goes away or talks nonsense is dropped; the desktop lives on
        except asyncio.CancelledError:
            pass  # this is the task's end either way; one that ends as cancelled makes asyncio's streams print a traceback
        finally:
            stop()
            if sender is not None:
                sender.cancel()
                with contextlib.suppress(asyncio.CancelledError):  # as above
                    await asyncio.gather(sender, return_exceptions=True)  # it met what it met because the client left
            self._tasks.discard(task)
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()

    async def _handshake(self, client: _Client) -> bool:
        reader, writer = client.reader, client.writer
        writer.write(b"RFB 003.008\n")
        version = await reader.readexactly(12)
        if not version.startswith(b"RFB 003."):
            return False
        old = version < b"RFB 003.007\n"
        if old:
            writer.write(struct.pack(">I", 2))
        else:
            writer.write(b"\x01\x02")
            if await reader.readexactly(1) != b"\x02":
                return False
        challenge = os.urandom(16)
        writer.write(challenge)
        answer = await reader.readexactly(16)
        if not hmac.compare_digest(answer, _encrypt(self._key, challenge)):
            reason = b"Authentication failed"
            writer.write(
                struct.pack(">I", 1) + (b"" if version < b"RFB 003.008\n" else struct.pack(">I", len(reason)) + reason)
            )
            await writer.drain()
            return False
        writer.write(struct.pack(">I", 0))
        await reader.readexactly(1)  # ClientInit: shared or not makes no difference here
        width, height = self.desktop.size
        name = b"Virtual Machine"
        writer.write(struct.pack(">HH", width, height) + PixelFormat().pack() + struct.pack(">I", len(name)) + name)
        await writer.drain()
        return True

    async def _serve(self, client: _Client) -> None:
        read = client.reader.readexactly
        while True:
            kind = (await read(1))[0]
            if kind == 0:
                client.format = PixelFormat.unpack((await read(19))[3:])
            elif kind == 2:
                (count,) = struct.unpack(">xH", await read(3))
                if count > _MOST_ENCODINGS:
                    raise ValueError(f"{count} encodings")
                client.encodings = struct.unpack(f">{count}i", await read(4 * count))
            elif kind == 3:
                incremental, *_ = struct.unpack(">BHHHH", await read(9))
                client.wants = True
                if not incremental:
                    client.dirty = (0, 0, *self.desktop.size)
                    client.full = True
                    if self.desktop.frozen and not self.desktop.hard:
                        self.desktop.freeze(False)  # noqa: FBT003 - a full request revives a stalled server
                client.news.set()
            elif kind == 4:
                down, keysym = struct.unpack(">BxxI", await read(7))
                self.desktop.key(keysym, bool(down))
            elif kind == 5:
                buttons, x, y = struct.unpack(">BHH", await read(5))
                self.desktop.pointer(x, y, buttons)
            elif kind == 6:
                (length,) = struct.unpack(">3xI", await read(7))
                if length > _MOST_TEXT:
                    raise ValueError(f"{length} bytes of text")
                await read(length)
            else:
                raise ValueError(f"message {kind}")

    def _changed(self, client: _Client, region: Region | None) -> None:
        if region is None:
            client.resized = True
            region = (0, 0, *self.desktop.size)
        client.dirty = _union(client.dirty, region) if client.dirty is not None else region
        client.news.set()

    async def _send(self, client: _Client) -> None:
        while True:
            await client.news.wait()
            client.news.clear()
            if not client.wants or (client.dirty is None and not client.resized):
                continue
            if self.desktop.frozen and (self.desktop.hard or not client.full):
                continue
            client.wants = client.full = False
            await self._update(client)

    async def _update(self, client: _Client) -> None:
        buffer = self.desktop.framebuffer
        height, width = buffer.shape[:2]
        parts: list[bytes] = []
        if client.resized:
            client.resized = False
            if DESKTOP_SIZE in client.encodings:
                parts.append(struct.pack(">HHHHi", 0, 0, width, height, DESKTOP_SIZE))
        x, y, w, h = client.dirty or (0, 0, 0, 0)
        client.dirty = None
        w, h = min(w, width - x), min(h, height - y)
        if w > 0 and h > 0:
            data = client.format.encode(buffer[y : y + h, x : x + w])
            if ZLIB in client.encodings:
                packed = client.deflate.compress(data) + client.deflate.flush(zlib.Z_SYNC_FLUSH)
                parts.append(struct.pack(">HHHHiI", x, y, w, h, ZLIB, len(packed)) + packed)
            else:
                parts.append(struct.pack(">HHHHi", x, y, w, h, RAW) + data)
        if LAST_RECT in client.encodings:
            head = struct.pack(">BxH", 0, 0xFFFF)
            parts.append(struct.pack(">HHHHi", 0, 0, 0, 0, LAST_RECT))
        else:
            head = struct.pack(">BxH", 0, len(parts))
        client.writer.write(head + b"".join(parts))
        await client.writer.drain()


def _union(a: Region, b: Region) -> Region:
    x, y = min(a[0], b[0]), min(a[1], b[1])
    return x, y, max(a[0] + a[2], b[0] + b[2]) - x, max(a[1] + a[3], b[1] + b[3]) - y


def _des_key(password: str) -> bytes:
    """VNC's DES key: the first eight bytes of the password, each with its bits reversed (RFC 6143, 7.2.2)."""
    raw = password.encode()[:8].ljust(8, b"\0")
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in raw)


def _encrypt(key: bytes, challenge: bytes) -> bytes:
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Three equal keys make it single DES. ECB is what the protocol says.
        encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(challenge) + encryptor.finalize()
