"""A `VncScreen` through what VNC servers do in their lives: break off, restart, resize, fall silent, drip."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import rfb_words as words
from benchmarks.rfb_serving import greet, listening, messages, says, wants
from harness import events
from harness.screen import Box, Frame, ScreenError, VncScreen, rfb_bytes, rfb_reader
from harness.screen.rfb_encodings import COPY_RECT, EXTENDED_DESKTOP_SIZE, RAW, RRE, ZLIB
from harness.screen.rfb_stream import Connection
from harness.waiting import Deadline, wait_until

SIZE = (40, 30)


def flat(value: int, box: Box | None = None) -> bytes:
    """A raw rectangle of one grey."""
    box = box or Box(0, 0, *SIZE)
    return words.rectangle(box.x0, box.y0, box.width, box.height, 0, bytes([value]) * (box.width * box.height * 4))


class Scripted:
    """Greets each client and lets `answer(client, message, number of the connection)` say the rest."""

    def __init__(self, answer: Callable[[socket.socket, bytes, int], None]) -> None:
        self.answer = answer
        self.clients = itertools.count(1)
        self.heard: list[bytes] = []

    def __call__(self, client: socket.socket) -> None:
        number = next(self.clients)
        greet(client, *SIZE)
        for message in messages(client):
            self.heard.append(message)
            self.answer(client, message, number)


def recorded() -> tuple[events.EventLog, list[dict]]:
    told: list[dict] = []
    log = events.EventLog()
    log.subscribe(told.append)
    return log, told


def test_subscribers_are_given_what_changed_until_they_stop() -> None:
    boxes = [Box(0, 0, *SIZE), Box(3, 4, 10, 12), Box(5, 5, 6, 6)]
    go = threading.Semaphore(1)
    values = iter(range(1, 100))

    def answer(client: socket.socket, message: bytes, _: int) -> None:
        if wants(message) and boxes:
            assert go.acquire(timeout=20)
            client.sendall(words.update(flat(next(values), boxes.pop(0))))

    got: list[tuple[Frame, tuple[Box, ...]]] = []
    also: list[Frame] = []

    def breaks(_: Frame, __: tuple[Box, ...]) -> None:
        raise RuntimeError("a recorder without room")

    log, told = recorded()
    with listening(Scripted(answer)) as port, events.use(log), VncScreen("127.0.0.1", port, None, name="vm") as screen:
        first = screen.frame(Deadline(20))
        stop = screen.subscribe(lambda frame, changed: got.append((frame, changed)))
        screen.subscribe(breaks)
        screen.subscribe(lambda frame, _: also.append(frame))
        go.release()
        second = screen.wait_for_change(first, Deadline(20))
        assert second is not None
        wait_until(lambda: also, what="the subscribers", deadline=Deadline(20))
        stop()
        go.release()
        wait_until(lambda: len(also), lambda count: count == 2, what="the third picture", deadline=Deadline(20))
        ((frame, changed),) = got
    assert changed == (Box(3, 4, 10, 12),)
    assert frame is second
    assert frame.pixels[4, 3].tolist() == [2, 2, 2]
    assert also[1].pixels[5, 5].tolist() == [3, 3, 3]
    dropped = [record for record in told if record["name"] == "subscriber-dropped"]
    assert len(dropped) == 1
    assert "without room" in dropped[0]["attributes"]["error"]


def test_nothing_is_copied_while_nothing_changes() -> None:
    def answer(client: socket.socket, message: bytes, _: int) -> None:
        if wants(message) == "everything":
            client.sendall(words.update(flat(9)))

    with listening(Scripted(answer)) as port, VncScreen("127.0.0.1", port, None) as screen:
        first = screen.frame(Deadline(20))
        assert screen.frame(Deadline(20)) is first
        # Everything was sent again, and is the same.
        again = screen.frame(Deadline(20), fresh=True)
        assert again is first
        assert not first.pixels.flags.writeable


def test_only_where_pixels_differ_counts_as_changed() -> None:
    size = (20, 300)
    picture = np.zeros((size[1], size[0], 4), np.uint8)

    def serve(client: socket.socket) -> None:
        greet(client, *size)
        for message in messages(client):
            if wants(message) == "everything":
                client.sendall(words.update(words.rectangle(0, 0, *size, 0, picture.tobytes())))

    seen: list[tuple[Box, ...]] = []
    with listening(serve) as port, VncScreen("127.0.0.1", port, None) as screen:
        screen.frame(Deadline(20))
        screen.subscribe(lambda _, boxes: seen.append(boxes))
        picture[200, 7] = picture[130, 9] = picture[260, 3] = picture[10, 10:15, 3] = 255
        screen.frame(Deadline(20), fresh=True)
        wait_until(lambda: seen, what="the change", deadline=Deadline(20))
    assert [set(seen[0]), len(seen)] == [{Box(9, 128, 10, 192), Box(7, 192, 8, 256), Box(3, 256, 4, 300)}, 1]


def test_an_answer_without_pixels_is_no_fresh_frame() -> None:
    """TigerVNC answers at first with the layout of its screens, others with the pointer's shape."""
    ready = threading.Event()
    hollow = words.update(words.extended_size(*SIZE), words.cursor(8, 8))
    sent = 0

    def answer(client: socket.socket, message: bytes, _: int) -> None:
        nonlocal sent
        if wants(message) == "everything":
            if ready.is_set() and sent < 2:  # two hollow answers, each of which takes the request for answered
                sent += 1
                client.sendall(hollow)
            else:
                client.sendall(words.update(flat(70 + sent)))

    with listening(Scripted(answer)) as port, VncScreen("127.0.0.1", port, None) as screen:
        assert screen.frame(Deadline(20)).pixels[0, 0, 0] == 70
        ready.set()
        assert screen.frame(Deadline(20), fresh=True).pixels[0, 0, 0] == 72


def test_half_an_update_is_never_seen_and_the_next_connection_goes_on() -> None:
    broken = threading.Event()

    def answer(client: socket.socket, message: bytes, number: int) -> None:
        if not wants(message):
            return
        if number == 1 and wants(message) == "everything":
            client.sendall(words.update(flat(1)))
        elif number == 1:
            client.sendall(words.update(flat(2))[:-50])
            client.shutdown(socket.SHUT_RDWR)
            broken.set()
        elif wants(message) == "everything":
            client.sendall(words.update(flat(3)))

    seen: list[int] = []
    log, told = recorded()
    with listening(Scripted(answer)) as port, events.use(log), VncScreen("127.0.0.1", port, None) as screen:
        screen.subscribe(lambda frame, _: seen.extend(np.unique(frame.pixels).tolist()))
        first = screen.frame(Deadline(20))
        assert broken.wait(20)
        wait_until(
            lambda: screen.frame(Deadline(20)).pixels[0, 0, 0],
            lambda v: v == 3,
            what="the third",
            deadline=Deadline(20),
        )
        assert screen.frame(Deadline(20)).serial > first.serial
    assert set(seen) <= {1, 3}
    assert [record["name"] for record in told].count("screen-connected") == 2
    assert any(record["name"] == "screen-lost" and "closed it" in record["attributes"]["reason"] for record in told)


@pytest.mark.parametrize("kind", ["DesktopSize", "ExtendedDesktopSize"])
def test_a_resize_in_the_middle_of_an_update(kind: str) -> None:
    def answer(client: socket.socket, message: bytes, _: int) -> None:
        if wants(message) == "everything" and message[6:] == struct.pack(">HH", *SIZE):
            size = words.extended_size(9, 5) if kind[0] == "E" else words.rectangle(0, 0, 9, 5, -223)
            part = words.rectangle(8, 4, 1, 1, 0, bytes([5, 5, 5, 0]))
            client.sendall(words.update(flat(1), size, part))
        elif wants(message) == "everything":
            assert message[6:] == struct.pack(">HH", 9, 5)
            client.sendall(words.update(flat(8, Box(0, 0, 9, 5))))

    with listening(Scripted(answer)) as port, VncScreen("127.0.0.1", port, None) as screen:
        frame = wait_until(
            lambda: screen.frame(Deadline(20)),
            lambda seen: seen.pixels[0, 0, 0] == 8,
            what="all",
            deadline=Deadline(20),
        )
    assert frame.size == (9, 5)
    assert np.unique(frame.pixels).tolist() == [8]


def test_layouts_that_change_nothing_and_refusals_are_no_resize() -> None:
    refused = words.extended_size(99, 99, reason=1, status=3)
    with listening(says(words.hello(*SIZE) + words.update(flat(4), words.extended_size(*SIZE), refused))) as port:
        connection = Connection("127.0.0.1", port, None)
        try:
            update = connection.read()
        finally:
            connection.close()
    assert update is not None
    assert not update.resized
    assert connection.size == SIZE
    assert update.regions == (Box(0, 0, *SIZE),)


def test_a_silent_server_is_asked_again_then_wiggled_at_then_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rfb_reader, "STALL", 0.2)
    monkeypatch.setattr(rfb_reader, "ANSWER", 0.3)

    def answer(client: socket.socket, message: bytes, number: int) -> None:
        if wants(message) == "everything" and (number > 1 or all(heard[0] != 5 for heard in server.heard)):
            client.sendall(words.update(flat(number)))

    server = Scripted(answer)
    log, told = recorded()
    with listening(server) as port, events.use(log), VncScreen("127.0.0.1", port, None) as screen:
        before = screen.frame(Deadline(20))
        screen._move(20, 10, 1)  # a button is held: the wiggle must not let go of it
        assert screen.wait_for_change(before, Deadline(60)) is not None
    pointer = [struct.unpack(">xBHH", message) for message in server.heard if message[0] == 5]
    assert pointer == [(1, 20, 10), (1, 19, 10), (1, 20, 10)]
    order = [record["name"] for record in told if record["name"] in ("screen-refresh", "degraded", "screen-lost")]
    assert list(dict.fromkeys(order))[:3] == ["screen-refresh", "degraded", "screen-lost"]


@pytest.mark.parametrize("manner", ["silence", "drip"])
def test_a_message_that_never_ends_is_given_up(manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rfb_bytes, "SILENCE", 0.3 if manner == "silence" else 60.0)
    monkeypatch.setattr(rfb_bytes, "MESSAGE", 60.0 if manner == "silence" else 0.5)
    stop = threading.Event()

    def serve(client: socket.socket) -> None:
        client.sendall(words.hello(*SIZE) + words.update(flat(1))[:-2000])
        while not stop.wait(0.02):
            if manner == "drip":
                client.sendall(b"!")

    with listening(serve) as port:
        connection = Connection("127.0.0.1", port, None)
        try:
            with pytest.raises(ScreenError) as given_up:
                connection.read()
        finally:
            connection.close()
            stop.set()
    assert ("nothing for" if manner == "silence" else "not whole") in str(given_up.value)


def test_a_dripping_handshake_holds_nobody_up() -> None:
    stop = threading.Event()

    def serve(client: socket.socket) -> None:
        for byte in b"RFB 003.008\n":
            client.sendall(bytes([byte]))
            if stop.wait(5):
                return

    with listening(serve) as port:
        screen = VncScreen("127.0.0.1", port, None, name="slow")
        with pytest.raises(ScreenError) as failed:
            screen.frame(Deadline(0.3))
        screen.close()
        # Its thread ends although the server is in the middle of a word.
        assert not screen._reader._thread.is_alive()
        stop.set()
    assert "connecting" in str(failed.value)


@pytest.mark.parametrize("manner", ["hangs up", "talks nonsense"])
def test_a_server_that_does_not_bear_what_it_is_asked_for_is_asked_for_less(manner: str) -> None:
    clients: list[list[tuple[int, ...]]] = []  # what each has asked for

    def serve(client: socket.socket) -> None:
        clients.append(asked := [])
        greet(client, *SIZE)
        for message in messages(client):
            if message[0] == 2:
                asked.append(struct.unpack(f">{len(message) // 4 - 1}i", message[4:]))
                if RRE in asked[-1] and manner == "hangs up":
                    return
            elif wants(message) == "everything" and RRE in asked[-1]:
                client.sendall(words.update(words.rectangle(0, 0, *SIZE, RRE, b"\xff" * 8)))
            elif wants(message) == "everything":
                client.sendall(words.update(flat(7)))

    with listening(serve) as port, VncScreen("127.0.0.1", port, None) as screen:
        assert screen.frame(Deadline(30)).pixels[0, 0, 0] == 7
        # And that remains so.
        screen._reader.connection.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: len(clients) > 2 and clients[2], what="the next connection", deadline=Deadline(30))
    assert RRE in clients[0][0]
    assert {encodings[0] for asked in clients[1:] for encodings in asked} <= {ZLIB, RAW}
    assert not {RRE, COPY_RECT, EXTENDED_DESKTOP_SIZE} & set(clients[1][0] + clients[2][0])


def test_floods_of_other_messages_do_not_hide_the_picture() -> None:
    noise = (words.BELL + words.cut_text(b"x" * 1000) + words.colours(256)) * 100

    def answer(client: socket.socket, message: bytes, _: int) -> None:
        if wants(message) == "everything":
            client.sendall(noise + words.update(flat(6)) + noise)

    with listening(Scripted(answer)) as port, VncScreen("127.0.0.1", port, None) as screen:
        assert screen.frame(Deadline(30)).pixels[0, 0, 0] == 6


def test_a_subscriber_may_close_the_screen() -> None:
    subscribed = threading.Event()

    def answer(client: socket.socket, message: bytes, _: int) -> None:
        if wants(message) == "everything":
            assert subscribed.wait(20)
            client.sendall(words.update(flat(6)))

    with listening(Scripted(answer)) as port:
        screen = VncScreen("127.0.0.1", port, None)
        screen.subscribe(lambda *_: screen.close())
        subscribed.set()
        screen._reader._thread.join(30)
        assert not screen._reader._thread.is_alive()
        with pytest.raises(ScreenError):
            screen.wait_for_change(None, Deadline(5))
