"""From what a server draws to frames: exact, whole updates only, frames that stay as they are, memory that is used again."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import rfb_words as words
from benchmarks.rfb_serving import greet, listening, messages, says, wants
from harness import events
from harness.screen import Box, Frame, VncScreen
from harness.screen.rfb_encodings import COPY_RECT, MAX_BOXES, RAW, RRE, ZLIB, ZRLE
from harness.screen.rfb_front import Front
from harness.screen.rfb_stream import Connection
from harness.waiting import Deadline, wait_until

WIDTH, HEIGHT = 90, 150
KEPT = (
    "nothing",
    "the frame",
    "a part of it",
    "a part of a part",
    "a memoryview",
    "a part of a memoryview",
    "a generator",
)


class Server:
    """What a server would draw, in the test's own words, and the bytes it would say."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        self.packer = words.Packer()

    def update(self) -> bytes:
        return words.update(*(self._rectangle() for _ in range(self.rng.choice((1, 1, 2, 4)))))

    def _rectangle(self) -> bytes:
        rng = self.rng
        x, y = rng.randrange(WIDTH), rng.randrange(HEIGHT)
        width, height = rng.randint(1, WIDTH - x), rng.randint(1, HEIGHT - y)
        if rng.random() < 0.3:
            x, y, width, height = 0, 0, WIDTH, HEIGHT
        there = self.picture[y : y + height, x : x + width]
        kind = rng.choice((RAW, RAW, RRE, ZLIB, ZRLE, COPY_RECT))
        if kind == COPY_RECT:
            from_x, from_y = rng.randint(0, WIDTH - width), rng.randint(0, HEIGHT - height)
            there[:] = self.picture[from_y : from_y + height, from_x : from_x + width].copy()
            return words.rectangle(x, y, width, height, COPY_RECT, struct.pack(">HH", from_x, from_y))
        match rng.randrange(4):
            case 0:
                pass  # the same again
            case 1:
                there[rng.randrange(height), rng.randrange(width)] = rng.randrange(256)
            case _:
                there[:] = rng.randrange(256)
        wire = np.full((height, width, 4), rng.choice((0, 255)), np.uint8)  # the fourth byte says nothing
        wire[:, :, :3] = there[:, :, ::-1]
        if kind == RAW:
            return words.rectangle(x, y, width, height, RAW, wire.tobytes())
        if kind == RRE:
            return words.rectangle(x, y, width, height, RRE, words.rre(wire))
        if kind == ZLIB:
            return words.rectangle(x, y, width, height, ZLIB, self.packer.zlib(wire))
        return words.rectangle(x, y, width, height, ZRLE, self.packer.zrle(wire, lambda ways: rng.choice(ways)))


def keep(frame: Frame, how: str) -> Callable[[], np.ndarray] | None:
    """Something that still looks into a frame's memory, without the frame; called, it shows what is there now."""
    part = frame.crop(Box(1, 1, WIDTH - 1, HEIGHT - 1))
    held: object = {
        "nothing": None,
        "the frame": frame.pixels,
        "a part of it": part,
        "a part of a part": part[3:9, 2:],
        "a memoryview": memoryview(frame.pixels),
        "a part of a memoryview": memoryview(part)[2:5],
        "a generator": (row for row in part),
    }[how]
    if held is None:
        return None
    if how == "a generator":
        rows = held
        return lambda: next(rows).copy()  # type: ignore[call-overload,no-any-return]
    return lambda: np.array(held)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), kept=st.lists(st.sampled_from(KEPT), min_size=2, max_size=9))
def test_frames_are_what_the_server_drew_and_stay_so(seed: int, kept: list[str]) -> None:
    server = Server(random.Random(seed))
    pictures: list[np.ndarray] = []
    said = []
    for _ in kept:
        said.append(server.update())
        pictures.append(server.picture.copy())
    front = Front(events.current())
    held: list[tuple[Callable[[], np.ndarray], np.ndarray]] = []
    before: np.ndarray | None = None
    with listening(says(words.hello(WIDTH, HEIGHT) + b"".join(said))) as port:
        connection = Connection("127.0.0.1", port, None)
        try:
            for how, picture in zip(kept, pictures, strict=True):
                update = connection.read()
                assert update is not None
                serial = front.serial
                differs = front.apply(connection.pixels, update.regions, update.changed)
                if before is None or not np.array_equal(before, picture):
                    assert differs
                elif len(update.regions) == 1:  # several may change a pixel and change it back
                    assert not differs
                assert front.serial == serial + differs
                if before is not None:  # what is told to have changed covers what has
                    untold = (before != picture).any(axis=2)
                    for box in update.changed:
                        untold[box.y0 : box.y1, box.x0 : box.x1] = False
                    assert not untold.any()
                before = picture
                frame = front.frame()
                assert frame is not None
                np.testing.assert_array_equal(frame.pixels, picture)
                if (look := keep(frame, how)) is not None:
                    # A generator shows each row once: its second is row 2 of the picture, without the margin.
                    held.append((look, look() if how != "a generator" else picture[1, 1:-1].copy()))
                del frame, look
        finally:
            connection.close()
    for look, copy in held:
        np.testing.assert_array_equal(look(), copy)


def bring(front: Front, value: int, *, size: tuple[int, int] = (8, 6)) -> None:
    back = np.full((size[1], size[0], 4), value, np.uint8)
    whole = [Box(0, 0, *size)]
    front.apply(back, whole, whole)


def where(frame: Frame | None) -> int:
    assert frame is not None
    return int(frame.pixels.__array_interface__["data"][0])


def test_memory_of_frames_that_were_let_go_is_used_again() -> None:
    front = Front(events.current())
    places = set()
    frame = None
    for value in range(20):
        bring(front, value)
        frame = front.frame()  # the one before is let go only now, as somebody does who waits for changes
        places.add(where(frame))
        assert frame is not None
        assert not frame.pixels.flags.writeable
    assert len(places) <= 2


def test_memory_of_frames_that_are_kept_is_not() -> None:
    front = Front(events.current())
    frames = []
    for value in range(6):
        bring(front, value)
        frames.append(front.frame())
    assert len({where(frame) for frame in frames}) == 6
    assert [frame.pixels[0, 0, 0] for frame in frames if frame is not None] == list(range(6))


def test_nobody_can_write_into_a_frame() -> None:
    front = Front(events.current())
    bring(front, 1)
    frame = front.frame()
    assert frame is not None
    with pytest.raises(ValueError, match="WRITEABLE"):
        frame.pixels.setflags(write=True)
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0] = 2


def test_frames_taken_by_many_threads_stay_as_they_are() -> None:
    """Each thread takes frames, looks into a part of each twice, and keeps some; the one that draws never waits for them."""
    front = Front(events.current())
    bring(front, 0, size=(64, 48))
    wrong: list[str] = []
    seen: list[set[int]] = [set() for _ in range(4)]
    done = threading.Event()

    def look(serials: set[int]) -> None:
        kept: list[tuple[int, np.ndarray]] = []
        while not done.is_set():
            frame = front.frame()
            assert frame is not None
            part = frame.pixels[3:40, 5:60][::2]
            first = int(part[0, 0, 0])
            serials.add(frame.serial)
            del frame
            kept = [*kept, (first, part)][-3:]
            wrong.extend(f"{was}: {np.unique(old).tolist()}" for was, old in kept if np.unique(old).tolist() != [was])

    threads = [threading.Thread(target=look, args=(serials,)) for serials in seen]
    for thread in threads:
        thread.start()
    deadline = Deadline(60)
    while min(len(serials) for serials in seen) < 12 and not deadline.expired:
        bring(front, (front.serial + 1) % 251, size=(64, 48))
    done.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert min(len(serials) for serials in seen) >= 12


def test_a_new_size_starts_anew() -> None:
    front = Front(events.current())
    bring(front, 1)
    old = front.frame()
    bring(front, 2, size=(9, 5))
    bring(front, 3, size=(9, 5))
    new = front.frame()
    assert old is not None
    assert new is not None
    assert (old.size, new.size) == ((8, 6), (9, 5))
    assert np.unique(old.pixels).tolist() == [1]
    assert np.unique(new.pixels).tolist() == [3]


def test_a_connection_that_goes_on_knows_what_was_there() -> None:
    """A new connection to the same screen: what it sends again has not changed, and what it does not send stays."""
    known = np.arange(8 * 4 * 3, dtype=np.uint8).reshape(4, 8, 3)
    wire = np.zeros((4, 8, 4), np.uint8)
    wire[:, :, :3] = known[:, :, ::-1]
    same = words.rectangle(0, 0, 8, 2, RAW, wire[:2].tobytes())
    with listening(says(words.hello(8, 4) + words.update(same))) as port:
        connection = Connection("127.0.0.1", port, None)
        try:
            connection.adopt(known)
            update = connection.read()
            assert update is not None
            assert update.regions == (Box(0, 0, 8, 2),)
            assert update.changed == ()
            np.testing.assert_array_equal(connection.pixels[:, :, 2::-1], known)
            connection.adopt(np.full((5, 8, 3), 9, np.uint8))  # another size: not this screen
            np.testing.assert_array_equal(connection.pixels[:, :, 2::-1], known)
        finally:
            connection.close()


def test_many_small_changes_become_one() -> None:
    spots = [(x, y) for y in range(0, 120, 2) for x in range(0, 60, 2)][: MAX_BOXES + 5]
    update = words.update(*(words.rectangle(x, y, 1, 1, RAW, b"\1\2\3\0") for x, y in spots))
    with listening(says(words.hello(60, 120) + update)) as port:
        connection = Connection("127.0.0.1", port, None)
        try:
            seen = connection.read()
        finally:
            connection.close()
    assert seen is not None
    assert len(seen.changed) <= MAX_BOXES
    for x, y in spots:
        assert any(box.x0 <= x < box.x1 and box.y0 <= y < box.y1 for box in seen.changed)


def test_after_a_new_connection_black_is_news_too() -> None:
    connections = iter((255, 0))

    def serve(client: socket.socket) -> None:
        value = next(connections)
        greet(client, 8, 4)
        asked = (message for message in messages(client) if wants(message))
        next(asked)
        client.sendall(words.update(words.rectangle(0, 0, 8, 4, RAW, bytes([value]) * 128)))
        if value:
            seen.wait(20)
            client.shutdown(socket.SHUT_RDWR)
        else:
            list(asked)

    seen = threading.Event()
    with listening(serve) as port, VncScreen("127.0.0.1", port, None) as screen:
        white = screen.frame(Deadline(20))
        seen.set()
        black = screen.wait_for_change(white, Deadline(20))
    assert black is not None
    assert (white.pixels.min(), black.pixels.max()) == (255, 0)


def test_a_server_that_answers_with_its_layout_is_told_to_leave_that_out() -> None:
    """libvncserver says the layout before each whole picture, and takes a round of its loop for it."""
    wanted: list[set[int]] = []
    sizes = iter(((8, 4), (12, 6)))
    size = next(sizes)
    grow = threading.Event()

    def serve(client: socket.socket) -> None:
        nonlocal size
        greet(client, *size)
        for message in messages(client):
            if message[0] == 2:
                wanted.append(set(struct.unpack(f">{(len(message) - 4) // 4}i", message[4:])))
            elif wants(message) == "everything" and -308 in wanted[-1]:
                client.sendall(words.update(words.extended_size(*size)))
                continue
            if not wants(message):
                continue
            if grow.is_set() and size != (12, 6):
                size = next(sizes)
                client.sendall(words.update(words.rectangle(0, 0, *size, -223)))
            elif wants(message) == "everything" or len(wanted) == 2:
                client.sendall(words.update(words.rectangle(0, 0, *size, RAW, bytes([5]) * (size[0] * size[1] * 4))))

    with listening(serve) as port, VncScreen("127.0.0.1", port, None) as screen:
        assert screen.frame(Deadline(20)).size == (8, 4)
        assert screen.frame(Deadline(20), fresh=True).size == (8, 4)
        grow.set()
        grown = wait_until(
            lambda: screen.frame(Deadline(20), fresh=True),
            lambda frame: frame.size == (12, 6),
            what="the new size",
            deadline=Deadline(20),
        )
    assert np.unique(grown.pixels).tolist() == [5]
    assert -308 in wanted[0]
    assert all(-308 not in each and -223 in each for each in wanted[1:])
    assert len(wanted) > 1
