"""What the VNC client draws from each encoding, against pixels that were packed by other code."""

from __future__ import annotations

import random
import socket
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import rfb_words as words
from harness.screen import Box, ScreenError
from harness.screen.errors import ConnectionLost
from harness.screen.rfb_bytes import Stream
from harness.screen.rfb_encodings import COPY_RECT, RAW, RRE, ZLIB, ZRLE, Framebuffer, skip_cursor


class Wire:
    """A stream that has already been sent."""

    def __init__(self, data: bytes) -> None:
        self.near, self.far = socket.socketpair()
        self.data = data
        self.at = 0

    def __enter__(self) -> Stream:
        import threading

        def push() -> None:
            try:
                self.far.sendall(self.data)
                self.far.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        self.thread = threading.Thread(target=push)
        self.thread.start()
        return Stream(self.near)

    def __exit__(self, *_: object) -> None:
        self.near.close()
        self.thread.join(10)
        self.far.close()


def drawn(width: int, height: int, rectangles: Sequence[tuple[Box, int, bytes]]) -> np.ndarray:
    screen = Framebuffer(width, height)
    with Wire(b"".join(data for _, _, data in rectangles)) as stream:
        for box, encoding, _ in rectangles:
            screen.draw(stream, box, encoding)
        with pytest.raises(ConnectionLost):  # and not one byte was left over
            stream.read(1)
    return screen.pixels


WAYS = ("raw", "runs", "solid", "packed", "palette runs")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), width=st.integers(1, 150), height=st.integers(1, 150), preferred=st.sampled_from(WAYS)
)
def test_rectangles_in_any_order_of_encodings(seed: int, width: int, height: int, preferred: str) -> None:
    rng = random.Random(seed)
    expected = np.zeros((height, width, 4), np.uint8)
    packer = words.Packer()
    rectangles = []
    for _ in range(rng.randint(1, 6)):
        x0, y0 = rng.randrange(width), rng.randrange(height)
        box = Box(x0, y0, rng.randint(x0, width), rng.randint(y0, height))
        encoding = rng.choice((RAW, COPY_RECT, RRE, ZLIB, ZRLE))
        picture = words.picture(rng, box.width, box.height)
        if encoding == COPY_RECT:
            x, y = rng.randint(0, width - box.width), rng.randint(0, height - box.height)
            picture = expected[y : y + box.height, x : x + box.width].copy()
            data = struct.pack(">HH", x, y)
        elif encoding == RAW:
            data = picture.tobytes()
        elif encoding == RRE:
            data = words.rre(picture)
        elif encoding == ZLIB:
            data = packer.zlib(picture)
        else:
            data = packer.zrle(picture, lambda ways: preferred if preferred in ways else rng.choice(ways))
        expected[box.y0 : box.y1, box.x0 : box.x1] = picture
        rectangles.append((box, encoding, data))
    assert np.array_equal(drawn(width, height, rectangles)[:, :, :3], expected[:, :, :3])


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_writing_a_tile_was_met(way: str) -> None:
    # Three colours, or one: every way is open; a frame of odd size has cut tiles on both edges.
    picture = np.zeros((131, 70, 4), np.uint8)
    if way != "solid":
        picture[:, ::3, :3] = (1, 2, 3)
        picture[5:70, 1::2, :3] = (250, 0, 9)
    offered: set[str] = set()

    def choose(ways: list[str]) -> str:
        offered.update(ways)
        return way if way in ways else ways[0]

    data = words.Packer().zrle(picture, choose)
    assert way in offered
    assert np.array_equal(drawn(70, 131, [(Box(0, 0, 70, 131), ZRLE, data)]), picture)


@pytest.mark.parametrize(("dx", "dy"), [(0, 1), (0, -1), (3, 0), (-3, 0), (2, 700), (-2, -700)])
def test_overlapping_copies_read_before_they_write(dx: int, dy: int) -> None:
    # Higher than a band, so that the order of the bands matters.
    width, height = 400, 1600
    picture = np.random.default_rng(5).integers(0, 256, (height, width, 4), np.uint8)
    source = Box(max(0, -dx), max(0, -dy), width - max(0, dx), height - max(0, dy))
    target = Box(source.x0 + dx, source.y0 + dy, source.x1 + dx, source.y1 + dy)
    expected = picture.copy()
    expected[target.y0 : target.y1, target.x0 : target.x1] = picture[source.y0 : source.y1, source.x0 : source.x1]
    copy = struct.pack(">HH", source.x0, source.y0)
    got = drawn(width, height, [(Box(0, 0, width, height), RAW, picture.tobytes()), (target, COPY_RECT, copy)])
    assert np.array_equal(got, expected)


def test_pieces_that_say_the_same_again_change_nothing() -> None:
    picture = np.zeros((200, 90, 4), np.uint8)
    picture[70:75, 3:40] = (9, 8, 7, 0)
    again = picture.copy()
    again[:, :, 3] = 255  # says nothing
    moved = again.copy()
    moved[70] = again[0]
    screen = Framebuffer(90, 200)
    everywhere = Box(0, 0, 90, 200)
    seen = []
    with Wire(b"".join(words.rre(each) for each in (picture, again, moved))) as stream:
        for _ in range(3):
            screen.draw(stream, everywhere, RRE)
            seen.append(screen.changes())
    # The first and the third in the 64 rows that the pieces are in.
    assert seen == [(Box(0, 64, 90, 128),), (), (Box(0, 64, 90, 128),)]


def packed(data: bytes) -> bytes:
    whole = zlib.compress(data)
    return struct.pack(">I", len(whole)) + whole


BROKEN = {
    "copy from outside": (COPY_RECT, struct.pack(">HH", 2, 0)),
    "more pieces than pixels": (RRE, struct.pack(">I", 17) + bytes(4 + 17 * 12)),
    "piece too wide": (RRE, struct.pack(">I", 1) + bytes(8) + struct.pack(">HHHH", 1, 0, 4, 1)),
    "piece too low": (RRE, struct.pack(">I", 1) + bytes(8) + struct.pack(">HHHH", 0, 4, 1, 1)),
    "piece beyond all numbers": (RRE, struct.pack(">I", 1) + bytes(8) + struct.pack(">HHHH", 65535, 0, 2, 1)),
    "pieces over and over": (RRE, struct.pack(">I", 5) + bytes(4) + (bytes(8) + b"\0\4\0\4") * 5),
    "tile of type 17": (ZRLE, packed(b"\x11")),
    "tile of type 129": (ZRLE, packed(b"\x81")),
    "run beyond the tile": (ZRLE, packed(b"\x80abc\x10")),
    "run without end": (ZRLE, packed(b"\x80abc" + b"\xff" * 9)),
    "palette run beyond the tile": (ZRLE, packed(b"\x82abcdef\x80\x10")),
    "colour beyond the palette": (ZRLE, packed(b"\x03abcdefghi" + b"\xff" * 4)),
    "run of a colour beyond the palette": (ZRLE, packed(b"\x82abcdef\x85\x0f")),
    "nothing at all": (ZRLE, struct.pack(">I", 0)),
    "tile too short": (ZRLE, packed(b"\x00abc")),
    "more than the tile": (ZRLE, packed(b"\x01abcd")),
    "more than fits into it": (ZRLE, struct.pack(">I", 1 << 20)),
    "zlib too long": (ZLIB, packed(bytes(65))),
    "zlib too short": (ZLIB, packed(bytes(63))),
    "not asked for": (5, bytes(99)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rectangles_are_refused(case: str) -> None:
    encoding, data = BROKEN[case]
    screen = Framebuffer(4, 4)
    with Wire(data) as stream, pytest.raises(ScreenError) as refused:
        screen.draw(stream, Box(0, 0, 4, 4), encoding)
    assert not isinstance(refused.value, ConnectionLost)


def test_what_follows_an_ended_zlib_stream_is_not_hoarded() -> None:
    ended = packed(bytes(4))
    screen = Framebuffer(4, 4)
    with Wire(ended + struct.pack(">I", 4000) + bytes(4000)) as stream:
        screen.draw(stream, Box(0, 0, 1, 1), ZLIB)
        with pytest.raises(ScreenError) as refused:
            screen.draw(stream, Box(0, 0, 0, 0), ZLIB)
    assert "has ended" in str(refused.value)


def test_pointer_shapes_are_read_past() -> None:
    with Wire(words.cursor(9, 3)[12:] + b"!") as stream:
        skip_cursor(stream, 9, 3)
        assert stream.read(1) == b"!"
        with pytest.raises(ScreenError):
            skip_cursor(stream, 5000, 1)


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (16385, 1), (1, 65535), (16384, 16384)])
def test_absurd_sizes_are_refused(size: tuple[int, int]) -> None:
    screen = Framebuffer(2, 2)
    with pytest.raises(ScreenError):
        screen.resize(*size)
    assert screen.size == (2, 2)
