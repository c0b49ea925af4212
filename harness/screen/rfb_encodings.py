"""How RFB servers write pixels, drawn into a framebuffer: Raw, CopyRect, RRE, Zlib, ZRLE, the pointer's shape (RFC 6143, 7.7;
Zlib from the community's registry of encodings).

Untrusted input. Everything is read piecewise: besides the framebuffer (4 bytes a pixel, at most `MAX_PIXELS` of them)
decoding takes less than `WORKING` bytes, whatever the server claims of lengths.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.screen.frames import Box, Pixels
from harness.screen.rfb_bytes import Stream
from harness.screen.rfb_handshake import nonsense

RAW, COPY_RECT, RRE, ZLIB, ZRLE = 0, 1, 2, 6, 16
CURSOR, DESKTOP_SIZE, LAST_RECT, EXTENDED_DESKTOP_SIZE = -239, -223, -224, -308
MAX_SIDE = 16384
MAX_PIXELS = 7680 * 4320
WORKING = 8 << 20
"""Bytes: the bound on what decoding takes beside the framebuffer."""
_BAND = 1 << 20
_ROWS = 64
"""Rows that are taken together at most: the grain of what is told to have changed."""
MAX_BOXES = 512
"""Boxes that are told one by one; more become one around them all."""
_PIECE = np.dtype([("colour", np.uint32), ("x", ">u2"), ("y", ">u2"), ("w", ">u2"), ("h", ">u2")])
_PIECES = 4096
"""Pieces of an RRE rectangle that are read at once."""
_OVERLAID = 4
"""How often the pieces of an RRE rectangle may draw it: its writers let none overlap, and none was seen that does."""
_OPAQUE = np.frombuffer(b"\xff\xff\xff\x00", np.uint32)[0]
"""What of a pixel, taken as a number, is colour: the fourth byte says nothing."""
_CHUNK = 1 << 16
_MAX_CURSOR = 1024
_TILE = 64
_MOST_OF_A_TILE = 1 + 127 * 3 + 4 * _TILE * _TILE
"""Bytes: no tile, however it is written, is longer (a run of n pixels takes at most 3 + n)."""


class Framebuffer:
    """The server's screen as far as it has told, BGRX: bytes blue, green, red, unused.

    What arrives is compared with what is there while the next bytes are still under way: a server that says everything
    again has not changed everything, and after the last byte there is little left to do.

    Attributes:
        pixels: height × width × 4; another array after each `resize`.
    """

    def __init__(self, width: int, height: int) -> None:
        self.pixels: NDArray[np.uint8] = np.zeros((0, 0, 4), np.uint8)
        self._words: NDArray[np.uint32] = np.zeros((0, 0), np.uint32)
        self._changed: list[Box] = []
        self._scratch = bytearray(0)
        self._zlib = zlib.decompressobj()
        self._zrle = zlib.decompressobj()
        self.resize(width, height)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def resize(self, width: int, height: int) -> None:
        """Start anew in another size, in black.

        Raises:
            ScreenError: No screen has that size.
        """
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or width * height > MAX_PIXELS:
            raise nonsense(f"a screen of {width}x{height} pixels")
        self._words = np.zeros((0, 0), np.uint32)  # the old one goes before the new one comes
        self.pixels = self._words.view(np.uint8).reshape(0, 0, 4)
        self._words = np.zeros((height, width), np.uint32)
        self.pixels = self._words.view(np.uint8).reshape(height, width, 4)
        self._changed = []

    def adopt(self, picture: Pixels) -> None:
        """Begin with a picture that is known already (red, green, blue) instead of in black; one of another size is not
        taken. Nothing counts as changed by it.
        """
        import cv2

        if picture.shape[:2] == self.pixels.shape[:2]:
            cv2.cvtColor(picture, cv2.COLOR_RGB2BGRA, dst=self.pixels)

    def changes(self) -> tuple[Box, ...]:
        """Where pixels are not as they were, since this was asked last or since the size changed; at most `MAX_BOXES`."""
        changed, self._changed = self._changed, []
        return tuple(changed)

    def draw(self, stream: Stream, box: Box, encoding: int) -> None:
        """Read one rectangle and draw it.

        Raises:
            ScreenError: It is outside, broken, or of an encoding that nobody asked for.
        """
        self._inside(box, "a rectangle")
        if encoding == RAW:
            self._raw(stream, box)
        elif encoding == COPY_RECT:
            self._copy(stream, box)
        elif encoding == RRE:
            self._pieces(stream, box)
        elif encoding == ZLIB:
            self._inflated(stream, box)
        elif encoding == ZRLE:
            self._tiles(stream, box)
        else:
            raise nonsense(f"encoding {encoding}, which was not asked for")

    def _inside(self, box: Box, what: str) -> None:
        width, height = self.size
        if box.x1 > width or box.y1 > height:
            raise nonsense(
                f"{what} {box.width}x{box.height} at {box.x0},{box.y0} outside the screen of {width}x{height}"
            )

    def _raw(self, stream: Stream, box: Box) -> None:
        if not box.width or not box.height:
            return
        if not self._scratch:
            self._scratch = bytearray(_BAND)
        for top, rows in _bands(box):
            size = rows * box.width * 4
            stream.read_into(memoryview(self._scratch)[:size])
            self._put(self._scratch, box, top, rows)

    def _put(self, data: bytes | bytearray, box: Box, top: int, rows: int) -> None:
        """Rows of a box, written only if they are not there already."""
        self._set(np.frombuffer(data, np.uint32, rows * box.width).reshape(rows, box.width), box, top)

    def _set(self, new: NDArray[np.uint32], box: Box, top: int) -> None:
        there = self._words[top : top + len(new), box.x0 : box.x1]
        if np.array_equal(new, there):
            return
        columns = np.flatnonzero(np.bitwise_or.reduce(new ^ there, axis=0) & _OPAQUE)
        there[:] = new
        if len(columns):
            self._note(Box(box.x0 + int(columns[0]), top, box.x0 + int(columns[-1]) + 1, top + len(new)))

    def _note(self, box: Box) -> None:
        changed = self._changed
        if changed and changed[-1].y1 == box.y0:
            both = changed[-1].union(box)
            if 4 * both.area <= 5 * (changed[-1].area + box.area):
                changed[-1] = both
                return
        changed.append(box)
        if len(changed) > MAX_BOXES:
            self._changed = [around(changed)]

    def _copy(self, stream: Stream, box: Box) -> None:
        x, y = struct.unpack(">HH", stream.read(4))
        self._inside(Box(x, y, x + box.width, y + box.height), "a copy of")
        bands = list(_bands(box)) if box.width else []
        # Downwards from the bottom up, for the source must not be overwritten before it was read.
        for top, rows in reversed(bands) if box.y0 > y else bands:
            source = y + top - box.y0
            self._set(self._words[source : source + rows, x : x + box.width].copy(), box, top)

    def _pieces(self, stream: Stream, box: Box) -> None:
        count = int.from_bytes(stream.read(4), "big")
        ground = np.frombuffer(stream.read(4), np.uint32)[0]
        if count > box.area:
            raise nonsense(f"{count} pieces in an RRE rectangle of {box.width}x{box.height}")
        bands = list(_bands(box)) if box.width else []
        if not count:  # the case that counts: all of it is of one colour
            for top, rows in bands:
                self._set(np.broadcast_to(ground, (rows, box.width)), box, top)
            return
        before = [self._digest(box, top, rows) for top, rows in bands]
        area = self._words[box.y0 : box.y1, box.x0 : box.x1]
        area[:] = ground
        drawn = 0
        while count:
            pieces = np.frombuffer(stream.read(_PIECE.itemsize * min(count, _PIECES)), _PIECE)
            count -= len(pieces)
            drawn += _draw_pieces(pieces, area)
            if drawn > _OVERLAID * box.area:
                raise nonsense(f"an RRE rectangle that draws itself more than {_OVERLAID} times over")
        for (top, rows), was in zip(bands, before, strict=True):
            if self._digest(box, top, rows) != was:
                self._note(Box(box.x0, top, box.x1, top + rows))

    def _digest(self, box: Box, top: int, rows: int) -> bytes:
        """Stands for the colours there: a copy of a whole rectangle would be beyond `WORKING`."""
        return hashlib.blake2b((self._words[top : top + rows, box.x0 : box.x1] & _OPAQUE).tobytes()).digest()

    def _inflated(self, stream: Stream, box: Box) -> None:
        expected = box.area * 4
        packed = _Packed(stream, self._zlib, expected, "zlib")
        for top, rows in _bands(box) if box.width else ():
            self._put(packed.take(rows * box.width * 4), box, top, rows)
        packed.finish()

    def _tiles(self, stream: Stream, box: Box) -> None:
        tiles = -(-box.width // _TILE) * -(-box.height // _TILE)
        packed = _Packed(stream, self._zrle, tiles * 382 + box.area * 4, "ZRLE")
        for y in range(box.y0, box.y1 if box.width else box.y0, _TILE):
            for x in range(box.x0, box.x1, _TILE):
                where = Box(x, y, min(x + _TILE, box.x1), min(y + _TILE, box.y1))
                tile = self.pixels[where.y0 : where.y1, where.x0 : where.x1, :3]
                before = tile.copy()
                packed.ahead(_MOST_OF_A_TILE)
                _draw_tile(packed, tile)
                if not np.array_equal(before, tile):
                    self._note(where)
        packed.finish()


def skip_cursor(stream: Stream, width: int, height: int) -> None:
    """Read past the shape of the pointer: asked for so that servers do not draw the pointer into the picture.

    Raises:
        ScreenError: No pointer is that big.
    """
    if width > _MAX_CURSOR or height > _MAX_CURSOR:
        raise nonsense(f"a pointer of {width}x{height} pixels")
    stream.skip(width * height * 4 + (width + 7) // 8 * height)


class _Packed:
    """The compressed bytes of one rectangle, unpacked as they are taken."""

    def __init__(self, stream: Stream, inflate: zlib._Decompress, most: int, what: str) -> None:
        (self._left,) = struct.unpack(">I", stream.read(4))
        if self._left > most + most // 100 + 4096:
            raise nonsense(f"{self._left} {what} bytes for {most}")
        self._stream = stream
        self._inflate = inflate
        self._what = what
        self._tail = b""
        self.buffer = b""
        self.start = 0

    def take(self, count: int) -> bytes:
        """Exactly so many unpacked bytes."""
        if count < len(self.buffer) - self.start:
            self.start += count
            return self.buffer[self.start - count : self.start]
        pieces = [self.buffer[self.start :]]
        missing = count - len(pieces[0])
        self.buffer, self.start = b"", 0
        while missing:
            piece = self._more(missing)
            if not piece:
                raise nonsense(f"a {self._what} rectangle that ends {missing} bytes too early")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def ahead(self, count: int) -> None:
        """Have up to so many bytes in `buffer` from `start` on: fewer only if there are no more."""
        if len(self.buffer) - self.start >= count:
            return
        pieces = [self.buffer[self.start :]]
        have = len(pieces[0])
        while have < count:
            piece = self._more(max(count - have, _CHUNK))
            if not piece:
                break
            pieces.append(piece)
            have += len(piece)
        self.buffer, self.start = b"".join(pieces), 0

    def finish(self) -> None:
        """Read to the end of the rectangle, where nothing more may come out; what ends a block may."""
        if self.start < len(self.buffer) or self._more(1):
            raise nonsense(f"more in a {self._what} rectangle than its pixels")

    def _more(self, most: int) -> bytes:
        """Up to `most` unpacked bytes; none only at the end of the rectangle."""
        try:
            while True:
                if not self._tail and self._left:
                    if self._inflate.eof:  # it would keep what follows, without bound
                        raise nonsense(f"a {self._what} stream that has ended")
                    self._tail = self._stream.read(min(self._left, _CHUNK))
                    self._left -= len(self._tail)
                # Also without input: there may be output that found no room the last time.
                piece = self._inflate.decompress(self._tail, most)
                self._tail = self._inflate.unconsumed_tail
                if piece or not (self._tail or self._left):
                    return piece
        except zlib.error as error:
            raise nonsense(f"a broken {self._what} stream ({error})") from None


def _draw_tile(packed: _Packed, tile: NDArray[np.uint8]) -> None:
    """One ZRLE tile (RFC 6143, 7.7.6), which lies in the buffer, into `tile`: height × width × (blue, green, red)."""
    height, width = tile.shape[:2]
    kind = packed.take(1)[0]
    if kind == 0:
        tile[:] = np.frombuffer(packed.take(height * width * 3), np.uint8).reshape(height, width, 3)
    elif kind == 1:
        tile[:] = np.frombuffer(packed.take(3), np.uint8)
    elif kind <= 16:
        palette = np.frombuffer(packed.take(3 * kind), np.uint8).reshape(kind, 3)
        bits = 1 if kind == 2 else 2 if kind <= 4 else 4
        row = (width * bits + 7) // 8
        data = np.frombuffer(packed.take(row * height), np.uint8).reshape(height, row)
        each = np.unpackbits(data, axis=1).reshape(height, -1, bits)
        indices = np.packbits(each, axis=2)[:, :width, 0] >> (8 - bits)
        if int(indices.max()) >= kind:
            raise nonsense("a ZRLE tile with a colour beyond its palette")
        tile[:] = palette[indices]
    elif kind == 128:
        tile[:] = _runs(packed, height * width, None).reshape(height, width, 3)
    elif kind >= 130:
        count = kind - 128
        palette = np.frombuffer(packed.take(3 * count), np.uint8).reshape(count, 3)
        tile[:] = _runs(packed, height * width, palette).reshape(height, width, 3)
    else:
        raise nonsense(f"a ZRLE tile of type {kind}")


def _draw_pieces(pieces: NDArray[np.void], area: NDArray[np.uint32]) -> int:
    """Rectangles of one colour each into `area`; how many pixels they were in all."""
    height, width = area.shape
    x0, y0, wide, high = (pieces[name].astype(np.int64) for name in ("x", "y", "w", "h"))
    x1, y1 = x0 + wide, y0 + high
    if int(x1.max()) > width or int(y1.max()) > height:
        raise nonsense(f"a piece outside its RRE rectangle of {width}x{height}")
    edges = (each.tolist() for each in (x0, y0, x1, y1))
    for colour, left, top, right, bottom in zip(pieces["colour"], *edges, strict=True):
        area[top:bottom, left:right] = colour
    return int((wide * high).sum())


def _runs(packed: _Packed, pixels: int, palette: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """So many pixels from runs, which lie in the buffer: of colours, or of entries in a palette."""
    data, at = packed.buffer, packed.start
    starts: list[int] = []
    lengths: list[int] = []
    done = 0
    try:
        while done < pixels:
            if palette is None:
                starts.append(at)
                at += 3
                more = True
            else:
                starts.append(data[at] & 0x7F)
                more = data[at] >= 0x80
                at += 1
            run = 1
            while more:
                run += data[at]
                more = data[at] == 255
                at += 1
            lengths.append(run)
            done += run
    except IndexError:
        raise nonsense("a ZRLE tile that ends too early") from None
    packed.start = at
    if done > pixels:
        raise nonsense("a ZRLE run beyond its tile")
    found = np.array(starts)
    if palette is None:
        colours = np.frombuffer(data, np.uint8)[found[:, None] + np.arange(3)]
    else:
        if int(found.max()) >= len(palette):
            raise nonsense("a ZRLE tile with a colour beyond its palette")
        colours = palette[found]
    return np.repeat(colours, lengths, axis=0)


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box around them all; there is at least one."""
    whole = boxes[0]
    for box in boxes[1:]:
        whole = whole.union(box)
    return whole


def _bands(box: Box) -> list[tuple[int, int]]:
    """(top row, rows) of bands of `box` with a megabyte each at most: no screen is so wide that a row has more."""
    rows = max(1, min(_ROWS, _BAND // max(1, 4 * box.width)))
    return [(top, min(rows, box.y1 - top)) for top in range(box.y0, box.y1, rows)]
