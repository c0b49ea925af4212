"""What a hostile or broken VNC server may send: a clear error of ours, bounded memory, no hang."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz_rfb
from harness.screen import ScreenError, VncScreen, rfb_stream
from harness.screen.errors import ConnectionLost
from harness.screen.rfb_stream import AuthenticationFailed, Connection, Refused
from harness.screen.vncauth import answer_challenge
from harness.waiting import Deadline

FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)


def hello(width: int = 8, height: int = 4, pixel_format: bytes = FORMAT) -> bytes:
    """Everything a server without password says before its first message."""
    return (
        b"RFB 003.008\n\x01\x01"
        + struct.pack(">I", 0)
        + struct.pack(">HH", width, height)
        + pixel_format
        + struct.pack(">I", 2)
        + b"vm"
    )


def rectangle(x: int, y: int, width: int, height: int, encoding: int, data: bytes = b"") -> bytes:
    return struct.pack(">HHHHi", x, y, width, height, encoding) + data


def update(*rectangles: bytes, count: int | None = None) -> bytes:
    return struct.pack(">BxH", 0, len(rectangles) if count is None else count) + b"".join(rectangles)


@contextlib.contextmanager
def server(*streams: bytes) -> Iterator[int]:
    """Each connection in turn gets a stream, whatever it says, and then the end."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            for stream in streams:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, contextlib.suppress(OSError):
                    client.sendall(stream)
                    client.shutdown(socket.SHUT_WR)
                    client.settimeout(5)
                    while client.recv(4096):
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def read_all(stream: bytes, password: str | None = None) -> Connection:
    """Read messages until the server ends or is refused."""
    with server(stream) as port:
        connection = Connection("127.0.0.1", port, password, timeout=5)
        try:
            while True:
                connection.read()
        except ConnectionLost:
            return connection
        finally:
            connection.close()


def test_raw_and_zlib_rectangles_are_drawn() -> None:
    raw = bytes(range(2 * 2 * 4))
    deflate = zlib.compressobj()
    one, two = bytes(range(100, 100 + 3 * 4)), bytes(range(50, 50 + 3 * 4))
    packed = [deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH) for data in (one, two)]
    connection = read_all(
        hello()
        + update(rectangle(1, 1, 2, 2, 0, raw))
        + b"\x02"  # bell
        + b"\x03\0\0\0"
        + struct.pack(">I", 3)
        + b"abc"
        + b"\x01\0\0\0\0\x02"
        + bytes(12)
        + update(
            rectangle(0, 3, 3, 1, 6, struct.pack(">I", len(packed[0])) + packed[0]),
            rectangle(5, 0, 1, 3, 6, struct.pack(">I", len(packed[1])) + packed[1]),
            rectangle(0, 0, 0, 0, -224),
            count=0xFFFF,
        )
    )
    assert connection.name == "vm"
    assert connection.pixels[1:3, 1:3].tobytes() == raw
    assert connection.pixels[3, 0:3].tobytes() == one
    assert connection.pixels[0:3, 5].tobytes() == two
    assert not connection.pixels[0, 0].any()


def test_a_new_size_makes_a_new_framebuffer() -> None:
    connection = read_all(hello() + update(rectangle(0, 0, 3, 2, -223), rectangle(2, 1, 1, 1, 0, b"\1\2\3\4")))
    assert connection.size == (3, 2)
    assert connection.pixels[1, 2].tolist() == [1, 2, 3, 4]


BAD: dict[str, bytes] = {
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "version 3.2": b"RFB 003.002\n",
    "enormous screen": hello(60000, 60000),
    "flat screen": hello(0, 10),
    "endless name": hello()[:-6] + struct.pack(">I", 1 << 31),
    "outside": hello() + update(rectangle(7, 0, 2, 1, 0, bytes(8))),
    "unknown message": hello() + b"\x77",
    "encoding not asked for": hello() + update(rectangle(0, 0, 1, 1, 5)),
    "enormous resize": hello() + update(rectangle(0, 0, 65535, 65535, -223)),
    "endless clipboard": hello() + b"\x03\0\0\0" + struct.pack(">I", 0xFFFFFFFF),
    "broken zlib": hello() + update(rectangle(0, 0, 1, 1, 6, struct.pack(">I", 4) + b"abcd")),
    "huge zlib": hello() + update(rectangle(0, 0, 1, 1, 6, struct.pack(">I", 0x7FFFFFFF))),
    "zlib too short": hello() + update(rectangle(0, 0, 2, 2, 6, struct.pack(">I", 11) + zlib.compress(b"abc"))),
    "update without end": hello() + update(rectangle(0, 0, 8, 4, 1, bytes(4)) * 20, count=0xFFFF),
    "pointer of a wall's size": hello() + update(rectangle(0, 0, 5000, 5000, -239)),
    "enormous layout": hello() + update(rectangle(0, 0, 30000, 30000, -308, bytes(4))),
    "zlib bomb": hello()
    + update(
        rectangle(0, 0, 2, 2, 6, struct.pack(">I", len(zlib.compress(bytes(1 << 20)))) + zlib.compress(bytes(1 << 20)))
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_nonsense_is_refused(case: str) -> None:
    with pytest.raises(ScreenError):
        read_all(BAD[case])


def test_a_zlib_bomb_takes_no_memory() -> None:
    bomb = zlib.compress(bytes(64 << 20))
    stream = hello(512, 512) + update(rectangle(0, 0, 512, 512, 6, struct.pack(">I", len(bomb)) + bomb))
    tracemalloc.start()
    try:
        with pytest.raises(ScreenError):
            read_all(stream)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


def test_refusals_carry_the_servers_reason() -> None:
    reason = b"too many tries"
    with pytest.raises(Refused) as refused:
        read_all(b"RFB 003.008\n\0" + struct.pack(">I", len(reason)) + reason)
    assert "too many tries" in str(refused.value)
    with pytest.raises(AuthenticationFailed) as strange:
        read_all(b"RFB 003.008\n\x02\x1e\x21", password="x")
    assert "30 (Apple account), 33 (Apple RSA)" in str(strange.value)
    assert "a user" in strange.value.hint


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.889\n"])
def test_other_versions_are_spoken(version: bytes) -> None:
    rest = hello()[12:]
    stream = {
        b"RFB 003.003\n": version + struct.pack(">I", 1) + rest[6:],
        b"RFB 003.007\n": version + b"\x01\x01" + rest[6:],
        b"RFB 003.889\n": version + rest,
    }[version]
    assert read_all(stream).size == (8, 4)


def test_another_pixel_format_is_changed_to_ours() -> None:
    sent = bytearray()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(hello(pixel_format=struct.pack(">BBBBHHHBBB3x", 16, 16, 1, 1, 31, 63, 31, 11, 5, 0)))
                while data := client.recv(4096):
                    sent.extend(data)

        thread = threading.Thread(target=serve)
        thread.start()
        Connection("127.0.0.1", listener.getsockname()[1], None).close()
        thread.join(10)
    assert b"\0\0\0\0" + FORMAT in sent
    assert struct.pack(">8i", 1, 6, 0, 2, -239, -223, -308, -224) in sent


def test_eight_characters_of_the_password_count() -> None:
    # That it is right at all is shown by the servers in test_screen_vnc.py.
    answer = answer_challenge(bytes(16), "sesame12")
    assert answer[:8] == answer[8:]
    assert answer == answer_challenge(bytes(16), "sesame12-and-more")
    assert answer != answer_challenge(bytes(16), "sesame13")


messages = st.one_of(
    st.binary(max_size=64),
    st.builds(
        lambda x, y, w, h, e, d: update(rectangle(x, y, w, h, e, d)),
        st.integers(0, 16),
        st.integers(0, 16),
        st.integers(0, 16),
        st.integers(0, 16),
        st.sampled_from([0, 6, -223, -224, 1, 5, 7, 16]),
        st.binary(max_size=1100),
    ),
    st.builds(lambda n, d: b"\x03\0\0\0" + struct.pack(">I", n) + d, st.integers(0, 1 << 22), st.binary(max_size=64)),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(lambda parts: hello() + b"".join(parts), st.lists(messages, max_size=6)),
        st.builds(
            lambda cut, parts: (hello() + b"".join(parts))[:cut], st.integers(0, 80), st.lists(messages, max_size=3)
        ),
    )
)
def test_any_stream_ends_in_an_error_of_ours(stream: bytes) -> None:
    with contextlib.suppress(ScreenError):
        connection = read_all(stream)
        assert connection.pixels.nbytes <= rfb_stream.MAX_PIXELS * 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**40))
def test_what_a_hostile_server_makes_of_valid_streams_ends_in_an_error_of_ours(seed: int) -> None:
    """A taste of `python -m benchmarks.fuzz_rfb`: every version, security type and encoding, mutated and spliced."""
    with contextlib.suppress(ScreenError):
        connection = read_all(fuzz_rfb.stream_of(random.Random(seed)), "pass1234")
        assert connection.pixels.nbytes <= rfb_stream.MAX_PIXELS * 4


@pytest.mark.parametrize("case", ["enormous screen", "outside", "broken zlib"])
def test_the_screen_survives_and_says_why(case: str) -> None:
    with server(*[BAD[case]] * 50) as port, VncScreen("127.0.0.1", port, None, name="bad") as screen:
        with pytest.raises(ScreenError) as failed:
            screen.frame(Deadline(0.5))
        assert "bad" in str(failed.value)


def test_what_was_drawn_before_the_nonsense_stays_visible() -> None:
    good = hello() + update(rectangle(0, 0, 8, 4, 0, bytes([7]) * 128)) + b"\x77"
    with server(*[good] * 50) as port, VncScreen("127.0.0.1", port, None, name="half") as screen:
        frame = screen.frame(Deadline(10))
        assert np.unique(frame.pixels).tolist() == [7]
        with pytest.raises(ValueError):
            frame.pixels[0, 0] = 1
