"""A press is never sent sooner than a pause after the pointer's last way: on a clock of the tests' own, which only sleeping moves."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import rfb_words as words
from benchmarks.rfb_serving import greet, listening, messages, wants
from harness.screen import VncScreen, rfb
from harness.waiting import Deadline, wait_until

SIZE = (40, 30)
POINTS = st.tuples(st.integers(0, SIZE[0] - 1), st.integers(0, SIZE[1] - 1))
DOINGS = st.one_of(
    st.tuples(st.just("park"), POINTS),
    st.tuples(st.just("click"), POINTS),
    st.tuples(st.just("drag"), POINTS),
    st.tuples(st.just("scroll"), POINTS),
    st.tuples(st.just("click where it is"), st.none()),
    st.tuples(st.just("wait"), st.floats(0, 0.3)),
    st.tuples(st.just("leave"), st.none()),
)


class Clock:
    """Stands still but for sleeping; and what was sent when."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.pointer: list[tuple[float, int, tuple[int, int]]] = []

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-6)

    def sent(self, message: bytes) -> None:
        if message[0] == 5:
            _, buttons, x, y = struct.unpack(">BBHH", message)
            self.pointer.append((self.now, buttons, (x, y)))


def serve(client: socket.socket) -> None:
    greet(client, *SIZE)
    for message in messages(client):
        if wants(message) == "everything":
            client.sendall(words.update(words.rectangle(0, 0, *SIZE, 0, bytes(4 * SIZE[0] * SIZE[1]))))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(rfb, "sleep", made.sleep)
    monkeypatch.setattr(rfb, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture
def screen(clock: Clock) -> Iterator[VncScreen]:
    with listening(serve) as port, VncScreen("127.0.0.1", port, None) as made:
        made.frame(Deadline(20))
        send = made._reader.send

        def sent(connection: object, message: bytes) -> None:
            clock.sent(message)
            send(connection, message)  # type: ignore[arg-type]

        made._reader.send = sent  # type: ignore[method-assign]
        yield made


def check(pointer: list[tuple[float, int, tuple[int, int]]]) -> None:
    """Each press of the left button is where the pointer had been put before, and had rested."""
    for index, (pressed, buttons, place) in enumerate(pointer):
        if buttons != 1 or (index and pointer[index - 1][1] == 1):
            continue
        way = pointer[:index]
        assert way, "pressed without a move"
        assert way[-1][1:] == (0, place)
        arrived = next(
            now for number, (now, _, at) in enumerate(way) if all(later == place for _, _, later in way[number:])
        )
        assert pressed - arrived >= rfb.CLICK - 1e-6


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(doings=st.lists(DOINGS, max_size=8))
def test_a_press_comes_after_a_rest(screen: VncScreen, clock: Clock, doings: list[tuple[str, object]]) -> None:
    does: dict[str, Callable[[object], None]] = {
        "park": lambda at: screen.park(*at),
        "click": lambda at: screen.click(*at),
        "drag": lambda at: screen.drag(at, (1, 1)),
        "scroll": lambda at: screen.scroll(*at, 1),
        "click where it is": lambda _: screen.click(*screen._reader.pointer[:2]),
        "wait": clock.sleep,
        "leave": lambda _: screen.leave(),
    }
    screen.park(7, 7)
    for name, what in doings:
        does[name](what)
    check(clock.pointer)


def test_a_pointer_that_has_rested_is_pressed_at_once_and_not_moved(screen: VncScreen, clock: Clock) -> None:
    screen.park(9, 8)
    clock.sleep(2 * rfb.CLICK)
    began = clock.now
    screen.click(9, 8)
    assert [entry for entry in clock.pointer if entry[0] == began] == [(began, 1, (9, 8))]
    assert [(buttons, at) for _, buttons, at in clock.pointer] == [
        (0, (9, 8)), (1, (9, 8)), (0, (9, 8)), (0, (SIZE[0] - 2, SIZE[1] // 2)),
    ]  # fmt: skip


def test_what_is_left_of_the_rest_is_waited_for(screen: VncScreen, clock: Clock) -> None:
    screen.park(9, 8)
    clock.sleep(rfb.CLICK / 4)
    began = clock.now
    screen.click(9, 8)
    assert clock.pointer[1][1] == 1
    assert clock.pointer[1][0] - began == pytest.approx(rfb.CLICK * 3 / 4, abs=1e-4)


def test_after_a_click_the_pointer_has_to_come_back(screen: VncScreen, clock: Clock) -> None:
    screen.park(9, 8)
    screen.click(9, 8)
    clock.sleep(5)
    screen.click(9, 8)
    check(clock.pointer)
    assert [buttons for _, buttons, at in clock.pointer if at == (9, 8)] == [0, 1, 0, 0, 1, 0]


def test_a_wiggle_is_a_way_too(screen: VncScreen, clock: Clock) -> None:
    screen.park(9, 8)
    screen._reader.moved = clock.now - 5
    with screen._front.news:
        connection = screen._reader.connection
    assert connection is not None
    screen._reader._wiggle(connection)
    assert clock.now <= screen._reader.moved


def test_a_new_connection_knows_nothing_of_where_the_pointer_was() -> None:
    heard: list[tuple[int, tuple[int, int, int]]] = []
    drop = threading.Event()
    clients = 0

    def answers(client: socket.socket) -> None:
        nonlocal clients
        clients += 1
        greet(client, *SIZE)
        for message in messages(client):
            if message[0] == 5:
                heard.append((clients, struct.unpack(">BHH", message[1:])))
                if clients == 1:
                    client.shutdown(socket.SHUT_RDWR)
                    drop.set()
            if wants(message) == "everything":
                client.sendall(words.update(words.rectangle(0, 0, *SIZE, 0, bytes(4 * SIZE[0] * SIZE[1]))))

    with listening(answers) as port, VncScreen("127.0.0.1", port, None) as screen:
        screen.frame(Deadline(20))
        old = screen._reader.connection
        screen.park(9, 8)
        assert drop.wait(20)
        wait_until(
            lambda: screen._reader.connection,
            lambda now: now not in (None, old),
            what="the next connection",
            deadline=Deadline(20),
        )
        screen.click(9, 8)
        wait_until(lambda: len(heard), lambda count: count >= 5, what="the click to arrive", deadline=Deadline(20))
    assert heard[:3] == [(1, (0, 9, 8)), (2, (0, 9, 8)), (2, (1, 9, 8))]
