"""The simulated display through its VNC port, by a small client that shares no code with either side."""

from __future__ import annotations

import asyncio
import os
import struct
import warnings
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.simulator.display import Desktop, build_display
from harness.simulator.display.gallery import APP, EXTENSIONS, LOGIN_ITEMS, PRIVACY, VERSIONS
from harness.simulator.display.rfb import RfbServer
from harness.simulator.interfaces import Alert, AlertKind, PendingExtension, Stage

PASSWORD = "abandon-able-about-absent"
RAW, ZLIB, SIZE, LAST = 0, 6, -223, -224


@dataclass
class Model:
    """A guest with one extension that waits."""

    names: Sequence[str] = (APP,)
    enabled: set[str] = field(default_factory=set)

    def extensions(self) -> list[PendingExtension]:
        return [
            PendingExtension(name, name, "network", name not in self.enabled, name in self.enabled)
            for name in self.names
        ]

    def check_password(self, password: str) -> bool:
        return password == "Ad-min1"

    def allow(self, identifier: str) -> None:
        self.enabled.add(identifier)

    def disallow(self, identifier: str) -> None:
        self.enabled.discard(identifier)


@dataclass
class Journal:
    lines: list[dict[str, object]] = field(default_factory=list)

    def write(self, what: str, **attributes: object) -> None:
        self.lines.append({"what": what, **attributes})


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    size: tuple[int, int] = (0, 0)
    inflate: object = field(default_factory=zlib.decompressobj)
    frame: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 4), np.uint8))

    @classmethod
    async def connect(cls, port: int, *encodings: int, password: str = PASSWORD) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self = cls(reader, writer)
        assert await reader.readexactly(12) == b"RFB 003.008\n"
        writer.write(b"RFB 003.008\n")
        assert await reader.readexactly(2) == b"\x01\x02"
        writer.write(b"\x02")
        key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cipher = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
        writer.write(cipher.update(await reader.readexactly(16)))
        if struct.unpack(">I", await reader.readexactly(4))[0]:
            length = struct.unpack(">I", await reader.readexactly(4))[0]
            raise PermissionError((await reader.readexactly(length)).decode())
        writer.write(b"\x01")
        width, height, bits, depth, big, true, *colours, name = struct.unpack(
            ">HHBBBBHHHBBB3xI", await reader.readexactly(24)
        )
        assert (bits, depth, big, true) == (32, 24, 0, 1)
        assert colours == [255, 255, 255, 16, 8, 0]
        await reader.readexactly(name)
        writer.write(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))
        self._resize(width, height)
        return self

    def _resize(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.frame = np.zeros((height, width, 4), np.uint8)

    async def update(self, *, incremental: bool = True, timeout: float = 5) -> list[int]:
        """Ask for an update and take it; returns the encodings of its rectangles."""
        self.writer.write(struct.pack(">BBHHHH", 3, int(incremental), 0, 0, *self.size))
        async with asyncio.timeout(timeout):
            kind, count = struct.unpack(">BxH", await self.reader.readexactly(4))
            assert kind == 0
            seen: list[int] = []
            while len(seen) < count:
                x, y, w, h, encoding = struct.unpack(">HHHHi", await self.reader.readexactly(12))
                seen.append(encoding)
                if encoding == LAST:
                    break
                if encoding == SIZE:
                    self._resize(w, h)
                    continue
                if encoding == ZLIB:
                    packed = await self.reader.readexactly(struct.unpack(">I", await self.reader.readexactly(4))[0])
                    data = self.inflate.decompress(packed)  # type: ignore[attr-defined]
                else:
                    assert encoding == RAW
                    data = await self.reader.readexactly(w * h * 4)
                self.frame[y : y + h, x : x + w] = np.frombuffer(data, np.uint8).reshape(h, w, 4)
            return seen

    def pointer(self, x: float, y: float, buttons: int = 0) -> None:
        self.writer.write(struct.pack(">BBHH", 5, buttons, round(x), round(y)))

    def click(self, box: tuple[float, float, float, float], scale: int = 1) -> None:
        x, y = (box[0] + box[2]) / 2 * scale, (box[1] + box[3]) / 2 * scale
        self.pointer(x, y)
        self.pointer(x, y, 1)
        self.pointer(x, y)

    def key(self, keysym: int) -> None:
        self.writer.write(struct.pack(">BBxxI", 4, 1, keysym) + struct.pack(">BBxxI", 4, 0, keysym))

    def type(self, text: str, *, shift: bool = True) -> None:
        for character in text:
            upper = shift and character.isupper()
            if upper:
                self.writer.write(struct.pack(">BBxxI", 4, 1, 0xFFE1))
            self.key(ord(character))
            if upper:
                self.writer.write(struct.pack(">BBxxI", 4, 0, 0xFFE1))


@dataclass
class Rig:
    desktop: Desktop
    model: Model
    journal: Journal
    port: int

    async def until(self, truth: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not truth():
                await asyncio.sleep(0.01)

    def control(self, text: str) -> tuple[float, float, float, float]:
        for window in reversed(self.desktop._stack()):
            for control in window.controls:
                if control.text == text:
                    return control.box
        raise AssertionError(f"no control {text!r}")


def run(
    test: Callable[[Rig], Awaitable[None]],
    version: str = "15",
    *,
    scale: int = 1,
    appearance: str = "light",
    stage: Stage = Stage.DESKTOP,
    names: Sequence[str] = (APP,),
) -> None:
    async def main() -> None:
        journal, model = Journal(), Model(names)
        desktop = build_display(
            macos=VERSIONS[version],
            size_points=(1280, 800),
            scale=scale,
            appearance=appearance,
            settings=None,
            journal=journal,
        )
        desktop.model = model
        desktop.set_stage(stage)
        server = RfbServer(desktop, PASSWORD)
        try:
            await test(Rig(desktop, model, journal, await server.start()))
        finally:
            desktop.set_stage(Stage.OFF)
            await server.close()

    asyncio.run(main())


@pytest.mark.parametrize("encodings", [(RAW,), (ZLIB, SIZE, LAST), (RAW, SIZE)])
def test_what_a_client_gets_is_what_is_on_the_screen(encodings: tuple[int, ...]) -> None:
    async def test(rig: Rig) -> None:
        client = await Client.connect(rig.port, *encodings)
        await client.update(incremental=False)
        assert (client.frame == rig.desktop.framebuffer).all()
        rig.desktop.show(Alert(AlertKind.EXTENSION, APP))
        await client.update()
        assert (client.frame == rig.desktop.framebuffer).all()
        assert client.frame.std() > 10

    run(test)


def test_an_incremental_request_is_held_until_something_changes() -> None:
    async def test(rig: Rig) -> None:
        client = await Client.connect(rig.port, ZLIB)
        await client.update(incremental=False)
        with pytest.raises(TimeoutError):
            await client.update(timeout=0.3)
        rig.desktop.show(Alert(AlertKind.PROXY, APP))
        kind, count = struct.unpack(">BxH", await asyncio.wait_for(client.reader.readexactly(4), 5))
        assert (kind, count) == (0, 1)
        x, y, w, h, _ = struct.unpack(">HHHHi", await client.reader.readexactly(12))
        assert (w, h) < (600, 600)
        assert x > 300
        assert y > 50

    run(test)


def test_the_size_changes_when_the_guest_has_booted_and_the_server_stays() -> None:
    async def test(rig: Rig) -> None:
        client = await Client.connect(rig.port, ZLIB, SIZE, LAST)
        assert client.size == (1024, 768)
        await client.update(incremental=False)
        rig.desktop.set_stage(Stage.DESKTOP)
        assert SIZE in await client.update()
        assert client.size == (2560, 1600)
        assert (client.frame == rig.desktop.framebuffer).all()
        rig.desktop.set_stage(Stage.BOOT)
        await client.update()
        assert client.size == (1024, 768)

    run(test, scale=2, stage=Stage.BOOT)


def test_a_wrong_password_is_refused() -> None:
    async def test(rig: Rig) -> None:
        with pytest.raises(PermissionError, match="Authentication"):
            await Client.connect(rig.port, RAW, password="zoo-zone-zero-youth")
        await Client.connect(rig.port, RAW, password="abandon-but-only-eight-bytes-count")

    run(test)


def test_frozen_updates_stop_and_a_full_request_revives_unless_hard() -> None:
    async def test(rig: Rig) -> None:
        client = await Client.connect(rig.port, RAW)
        await client.update(incremental=False)
        rig.desktop.freeze(True)
        rig.desktop.show(Alert(AlertKind.PROXY, APP))
        with pytest.raises(TimeoutError):
            await client.update(timeout=0.2)
        client.click(rig.control("Allow"))
        await rig.until(lambda: any(line.get("hit") == "alert/ne-proxy-consent/Allow" for line in rig.journal.lines))
        await client.update(incremental=False)
        rig.desktop.freeze(True, hard=True)
        with pytest.raises(TimeoutError):
            await client.update(incremental=False, timeout=0.2)

    run(test)


@pytest.mark.parametrize("version", ["13", "14", "15", "26"])
@pytest.mark.parametrize("scale", [1, 2])
def test_from_the_alert_to_allowed(version: str, scale: int) -> None:
    async def test(rig: Rig) -> None:
        client = await Client.connect(rig.port, ZLIB, SIZE, LAST)
        pressed: list[str] = []
        rig.desktop.show(Alert(AlertKind.EXTENSION, APP, on_button=pressed.append))
        client.click(rig.control("Open System Settings"), scale)
        await rig.until(lambda: pressed == ["Open System Settings"])
        if version in ("15", "26"):
            client.click(rig.control("(i) Network Extensions"), scale)
            await rig.until(lambda: any("switch" in control.text for control in rig.desktop._stack()[-1].controls))
            client.click(rig.control(f"switch {APP}"), scale)
        else:
            client.click(rig.control("Allow"), scale)
        await rig.until(lambda: rig.desktop._stack()[-1].kind == "password-sheet")
        sheet = rig.desktop._stack()[-1]
        client.type("wrong")
        client.key(0xFF0D)
        await rig.until(lambda: sheet.wrong == 1)  # type: ignore[attr-defined]
        assert rig.model.enabled == set()
        assert sheet.fields[-1].text == ""
        client.type("Ad-min1")
        await rig.until(lambda: sheet.fields[-1].text == "Ad-min1")
        client.click(rig.control("Modify Settings"), scale)
        await rig.until(lambda: rig.model.enabled == {APP})
        assert rig.desktop._stack()[-1].kind == "settings"
        if version in ("15", "26"):
            client.click(rig.control("Done"), scale)
            await rig.until(lambda: not any("switch" in control.text for control in rig.desktop._stack()[-1].controls))

    run(test, version, scale=scale)


def test_return_presses_the_default_which_approves_nothing() -> None:
    async def test(rig: Rig) -> None:
        client = await Client.connect(rig.port, RAW)
        pressed: list[str] = []
        for kind in (AlertKind.EXTENSION, AlertKind.PROXY, AlertKind.FILTER):
            rig.desktop.show(Alert(kind, APP, on_button=pressed.append))
            count = len(pressed)
            client.key(0xFF0D)
            await rig.until(lambda count=count: len(pressed) > count)
        assert pressed == ["OK", "Don’t Allow", "Don’t Allow"]

    run(test)


def test_an_upper_case_keysym_without_shift_types_lower_case() -> None:
    async def test(rig: Rig) -> None:
        client = await Client.connect(rig.port, RAW)
        rig.desktop.open_settings(EXTENSIONS)
        client.click(rig.control(f"switch {APP}"))
        await rig.until(lambda: rig.desktop._stack()[-1].kind == "password-sheet")
        entry = rig.desktop._stack()[-1].fields[-1]
        client.type("AB!c", shift=False)
        await rig.until(lambda: entry.text == "ab1c")
        client.writer.write(struct.pack(">BBxxI", 4, 1, 0xFFE9))  # Command, as Virtualization.framework has it
        client.key(ord("a"))
        client.writer.write(struct.pack(">BBxxI", 4, 0, 0xFFE9))
        client.type("x")
        await rig.until(lambda: entry.text == "x")

    run(test)


def test_settings_pages_by_url() -> None:
    async def modern(rig: Rig) -> None:
        rig.desktop.open_settings("x-apple.systempreferences:com.apple.nowhere")
        rig.control("Login Items & Extensions")
        rig.desktop.quit_settings()
        rig.desktop.open_settings(LOGIN_ITEMS)
        rig.control("(i) Network Extensions")
        rig.desktop.open_settings(EXTENSIONS)
        rig.control(f"switch {APP}")
        rig.control("switch Other App")

    async def old(rig: Rig) -> None:
        rig.desktop.open_settings(EXTENSIONS)
        with pytest.raises(AssertionError):
            rig.control(f"switch {APP}")
        rig.desktop.quit_settings()
        rig.desktop.open_settings(PRIVACY)
        rig.control("Details...")

    run(modern, "15", names=(APP, "Other App"))
    run(old, "13", names=(APP, "Other App"))


def test_the_allow_button_lies_below_the_fold_until_scrolled_to() -> None:
    async def test(rig: Rig) -> None:
        client = await Client.connect(rig.port, RAW)
        rig.desktop.open_settings("x-apple.systempreferences:com.apple.preference.security")
        with pytest.raises(AssertionError):
            rig.control("Allow")
        window = rig.desktop._stack()[-1]
        x, y = window.box[2] - 100, window.box[3] - 100
        for _ in range(20):
            client.pointer(x, y, 16)
            client.pointer(x, y, 0)
        await rig.until(lambda: any(control.text == "Allow" for control in rig.desktop._stack()[-1].controls))

    run(test, "14")


@given(st.binary(max_size=200))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_client_that_talks_nonsense_harms_nobody(noise: bytes) -> None:
    async def test(rig: Rig) -> None:
        good = await Client.connect(rig.port, RAW)
        bad = await Client.connect(rig.port, RAW)
        bad.writer.write(noise)
        _rude_reader, rude_writer = await asyncio.open_connection("127.0.0.1", rig.port)
        rude_writer.write(noise + os.urandom(4))
        rude_writer.close()
        await good.update(incremental=False)
        bad.writer.close()

    run(test, stage=Stage.BOOT)
