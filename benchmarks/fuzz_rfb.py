"""Hostile VNC servers: does the client end in time, in bounded memory, and with nothing but its own error?

    python -m benchmarks.fuzz_rfb [--count 2000] [--seed 1]

Streams are valid ones of every version, security type and encoding, real ones recorded from the VNC servers that are
installed, mutations and splices of both, and noise; some drip, some fall silent. Every tenth goes through a whole
`VncScreen`, with a deadline. Prints what became of them; exit code 1 if one hung past its limit, took more memory than
the stated bound (4 bytes a pixel of its screen and `rfb_encodings.WORKING`), or raised anything else than a `ScreenError`.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import random
import resource
import socket
import struct
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from unittest import mock

from benchmarks import rfb_words as words
from benchmarks import vnc_servers
from harness import events
from harness.screen import ScreenError, VncScreen, rfb_bytes, rfb_stream
from harness.screen.rfb_encodings import COPY_RECT, RAW, RRE, WORKING, ZLIB, ZRLE, Framebuffer
from harness.screen.rfb_stream import Connection
from harness.waiting import Deadline

SILENCE, MESSAGE = 0.3, 1.0
"""Seconds, instead of 15 and 60: the mechanism is the same, and 2,000 streams have to end today."""
LIMIT = 15.0
"""Seconds that one stream may take; generous, for the host may be busy."""
PASSWORD, USER = "pass1234", "admin"
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def valid(rng: random.Random) -> bytes:
    """A server that keeps to the rules."""
    version = rng.choice(("003.003", "003.007", "003.008", "003.008", "003.889"))
    auth = rng.choice((words.NONE, words.NONE, words.VNC, words.APPLE))
    width, height = rng.randint(1, 200), rng.randint(1, 150)
    name = rng.randbytes(rng.randrange(40))
    said = [words.greeting(version, auth)]
    said += [words.server_init(width, height, name=name, pixel_format=rng.choice((words.FORMAT, words.OTHER_FORMAT)))]
    packer = words.Packer()
    for _ in range(rng.randint(1, 6)):
        match rng.randrange(9):
            case 0:
                said.append(words.BELL)
            case 1:
                said.append(words.cut_text(rng.randbytes(rng.randrange(2000))))
            case 2:
                said.append(words.colours(rng.randrange(300)))
            case _:
                rectangles = []
                for _ in range(rng.randint(1, 5)):
                    kind = rng.randrange(12)
                    if kind == 0:
                        width, height = rng.randint(1, 200), rng.randint(1, 150)
                        resize = words.extended_size(width, height, reason=rng.randrange(3), screens=rng.randrange(4))
                        rectangles.append(rng.choice((resize, words.rectangle(0, 0, width, height, -223))))
                    elif kind == 1:
                        rectangles.append(words.cursor(rng.randrange(40), rng.randrange(40)))
                    else:
                        rectangles.append(_pixels(rng, packer, width, height))
                if rng.random() < 0.2:
                    said.append(words.update(*rectangles, words.LAST, count=0xFFFF))
                else:
                    said.append(words.update(*rectangles))
    return b"".join(said)


def _pixels(rng: random.Random, packer: words.Packer, width: int, height: int) -> bytes:
    x, y = rng.randrange(width), rng.randrange(height)
    wide, high = rng.randint(0, width - x), rng.randint(0, height - y)
    encoding = rng.choice((RAW, COPY_RECT, RRE, ZLIB, ZRLE))
    picture = words.picture(rng, wide, high)
    if encoding == RAW:
        data = picture.tobytes()
    elif encoding == COPY_RECT:
        data = struct.pack(">HH", rng.randint(0, width - wide), rng.randint(0, height - high))
    elif encoding == RRE:
        data = words.rre(picture)
    elif encoding == ZLIB:
        data = packer.zlib(picture)
    else:
        data = packer.zrle(picture, rng.choice)
    return words.rectangle(x, y, wide, high, encoding, data)


def mutate(rng: random.Random, stream: bytes, other: bytes) -> bytes:
    """One to six things go wrong with it."""
    data = bytearray(stream)
    for _ in range(rng.randint(1, 6)):
        if not data:
            break
        at = rng.randrange(len(data))
        # What counts most stands first: sizes, types, lengths.
        at = min(at, rng.randrange(200)) if rng.random() < 0.15 else at
        at = min(at, len(data) - 1)
        match rng.randrange(8):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice((0, 1, 16, 127, 128, 255))
            case 2:
                number = rng.choice(_INTERESTING)
                data[at : at + 2] = struct.pack(">H", number & 0xFFFF)
            case 3:
                data[at : at + 4] = struct.pack(">I", rng.choice(_INTERESTING))
            case 4:
                del data[at : at + rng.randint(1, 64)]
            case 5:
                data[at:at] = rng.randbytes(rng.randint(1, 64))
            case 6:
                piece = data[at : at + rng.randint(1, 300)]
                data[at:at] = piece * rng.randint(1, 3)
            case _:
                from_there = rng.randrange(len(other) + 1)
                data[at:] = other[from_there:]
    return bytes(data)


def stream_of(rng: random.Random, recorded: Sequence[bytes] = ()) -> bytes:
    """What a hostile server might say."""
    base = rng.choice(recorded) if recorded and rng.random() < 0.35 else valid(rng)
    match rng.randrange(20):
        case 0:
            return base
        case 1:
            return rng.randbytes(rng.randrange(400))
        case 2 | 3:
            return words.hello(rng.randint(1, 64), rng.randint(1, 64)) + rng.randbytes(rng.randrange(4000))
        case 4:
            return base[: rng.randrange(len(base) + 1)]
        case 5:  # a bomb: much out of little, and more than there is room for
            side = rng.choice((64, 512, 2048))
            packed = words.Packer().zlib(
                words.picture(random.Random(1), 1, 1).repeat(rng.choice((1 << 16, 1 << 22)), 0)
            )
            rectangle = words.rectangle(0, 0, side, side, rng.choice((ZLIB, ZRLE)), packed)
            return words.hello(side, side) + words.update(rectangle)
        case 6:  # an update without end
            width = rng.randint(1, 300)
            return words.hello(width, 300) + words.update(
                words.rectangle(0, 0, width, 300, COPY_RECT, bytes(4)) * rng.choice((10, 5000)), count=0xFFFF
            )
        case 7:  # a size that nobody has, or nearly
            size = rng.choice(((65535, 65535), (16384, 2025), (7680, 4320), (1, 16384), (0, 5)))
            return words.hello() + words.update(
                words.rectangle(0, 0, *size, -223), words.rectangle(0, 0, 1, 1, RAW, b"abcd")
            )
        case _:
            other = rng.choice(recorded) if recorded and rng.random() < 0.5 else valid(rng)
            return mutate(rng, base, other)


class HostileServer:
    """Says to each client what it is told to say next, and how."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.stream = b""
        self.manner = "at once"
        self.enough = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self.enough.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, contextlib.suppress(OSError):
                    client.settimeout(LIMIT)
                    self._say(client)

    def _say(self, client: socket.socket) -> None:
        stream, manner = self.stream, self.manner
        if manner == "drips":
            half = len(stream) // 2
            client.sendall(stream[:half])
            for byte in stream[half:] + bytes(100_000):
                if self.enough.wait(0.05):
                    return
                client.sendall(bytes([byte]))
        elif manner == "in pieces":
            step = max(1, len(stream) // 23)
            for at in range(0, len(stream), step):
                client.sendall(stream[at : at + step])
        else:
            client.sendall(stream)
        if manner == "falls silent":
            self.enough.wait(LIMIT)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(1.0)
        while client.recv(1 << 16):
            pass


def read_all(port: int) -> str:
    """Read until the connection ends; how it ended."""
    messages = 0
    try:
        connection = Connection("127.0.0.1", port, PASSWORD, user=USER, timeout=MESSAGE)
        try:
            while True:
                # No request is sent: this server speaks without being asked.
                messages += connection.read() is not None
        finally:
            connection.close()
    except ScreenError as error:
        return f"{type(error).__name__} {'after updates' if messages else 'before any update'}"


def look(port: int) -> str:
    """What a caller of the screen gets."""
    with VncScreen("127.0.0.1", port, PASSWORD, user=USER, name="hostile") as screen:
        try:
            screen.frame(Deadline(0.2))
        except ScreenError:
            return "screen: ScreenError"
        return "screen: a frame"


def recorded_streams() -> list[bytes]:
    """What the VNC servers installed here say: one session for each encoding that they know."""
    known = {"TigerVNC": ((RAW,), (RRE,), (ZRLE,)), "x11vnc": ((RAW,), (RRE,), (ZLIB,), (ZRLE,))}
    streams = []
    for name in vnc_servers.installed():
        with vnc_servers.server(name, 160, 120) as server:
            streams += [_record(server.port, encodings) for encodings in known[name]]
    return streams


def _record(port: int, encodings: Sequence[int]) -> bytes:
    heard = bytearray()

    class Tap(rfb_bytes.Stream):
        """Writes down what it receives."""

        def _received(self, targets: Sequence[memoryview]) -> int:
            count = super()._received(targets)
            heard.extend(b"".join(targets)[:count])
            return count

    with mock.patch.object(rfb_stream, "Stream", Tap):
        connection = Connection("127.0.0.1", port, None, encodings=encodings)
    try:
        for _ in range(3):
            connection.request(incremental=False)
            update = connection.read()
            while update is None or not update.regions:  # TigerVNC sends the layout of its screens first
                if update is not None:
                    connection.request(incremental=True)
                update = connection.read()
    finally:
        connection.close()
    return bytes(heard)


class Largest:
    """The largest framebuffer since it was set to nothing."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.pixels = 0
        resize = Framebuffer.resize

        def noted(screen: Framebuffer, width: int, height: int) -> None:
            resize(screen, width, height)
            self.pixels = max(self.pixels, width * height)

        stack.enter_context(mock.patch.object(Framebuffer, "resize", noted))


def run(count: int, seed: int) -> int:
    """Feed `count` streams; the exit code."""
    faulthandler.dump_traceback_later(120, exit=True)
    recorded = recorded_streams()
    print(f"{len(recorded)} recorded streams of {[len(stream) for stream in recorded]} bytes", flush=True)
    ends: collections.Counter[str] = collections.Counter()
    violations: list[str] = []
    slowest = most = beside = 0.0
    server = HostileServer()
    with contextlib.ExitStack() as stack:
        largest = Largest(stack)
        stack.enter_context(mock.patch.multiple(rfb_bytes, SILENCE=SILENCE, MESSAGE=MESSAGE))
        stack.enter_context(events.use(events.EventLog()))
        started = time.monotonic()
        tracemalloc.start()
        for number in range(count):
            rng = random.Random(f"{seed}/{number}")
            server.stream = stream_of(rng, recorded)
            server.manner = rng.choices(("at once", "in pieces", "falls silent", "drips"), (60, 32, 6, 2))[0]
            server.enough.clear()
            feed: Callable[[int], str] = look if number % 10 == 9 else read_all
            largest.pixels = 0
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            began = time.monotonic()
            faulthandler.dump_traceback_later(4 * LIMIT, exit=True)  # a hang of the thread itself is a violation, too
            try:
                end = feed(server.port)
            except Exception as error:  # noqa: BLE001 - exactly what is looked for
                end = f"VIOLATION {type(error).__name__}"
                violations.append(f"stream {number}: {type(error).__name__}: {error}")
            faulthandler.cancel_dump_traceback_later()
            took = time.monotonic() - began
            server.enough.set()
            memory = tracemalloc.get_traced_memory()[1] - before
            screens = 10 if feed is look else 4  # a whole screen has a picture and a frame besides
            if memory > screens * largest.pixels + WORKING:
                violations.append(f"stream {number}: {memory} bytes for a screen of {largest.pixels} pixels")
            if took > LIMIT:
                violations.append(f"stream {number} ({server.manner}): {took:.1f} s")
            slowest, most = max(slowest, took), max(most, memory)
            beside = max(beside, memory - screens * largest.pixels)
            ends[end] += 1
        tracemalloc.stop()
    server.close()
    print(f"\n{count} streams, seed {seed}, {time.monotonic() - started:.0f} s")
    for end, times in ends.most_common():
        print(f"  {times:>6}  {end}")
    print(f"slowest {slowest:.2f} s (limit {LIMIT:g}), with silence {SILENCE} s and message {MESSAGE} s")
    print(f"most memory {most / 1e6:.1f} MB; beside the framebuffer {beside / 1e6:.2f} MB (bound {WORKING / 1e6:.1f})")
    print(f"resident at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB (whole process)")
    for violation in violations[:20]:
        print(f"VIOLATION: {violation}")
    print(f"violations: {len(violations)}")
    return 1 if violations else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    return run(arguments.count, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
