"""Needles: the same prompt is known again wherever it stands, and no other one is ever taken for it."""

from __future__ import annotations

import dataclasses
import multiprocessing
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from harness import events
from harness.screen import Box, Button, Frame, Sighting, TextLine, needle_store
from harness.screen.needle_store import NeedleStore, Stored
from harness.screen.needles import TINT, TOLERANCE, Needles, why_not
from harness.simulator.interfaces import AlertKind
from tests.support import screen_prompts as prompts

APP, TWIN = "Mitmproxy Redirector", "Mitmproxy Redirectar"
KINDS = (AlertKind.EXTENSION, AlertKind.PROXY, AlertKind.VPN, AlertKind.FILTER)
LOOKS = [("13", "light", 1), ("13", "dark", 2), ("15", "light", 2), ("15", "dark", 1), ("26", "light", 1)]


@pytest.fixture
def records() -> Iterator[list[dict]]:
    log = events.EventLog()
    seen: list[dict] = []
    log.subscribe(seen.append)
    with events.use(log):
        yield seen


def needles(folder: Path, app: str = APP, origin: str = "simulated-24G90") -> Needles:
    return Needles(folder, origin=origin, app_name=app)


def named(records: list[dict], name: str) -> list[dict]:
    return [record["attributes"] for record in records if record["name"] == name]


def wallpaper(width: int, height: int, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (height // 20 + 1, width // 20 + 1, 3), dtype=np.uint8)
    return np.repeat(np.repeat(noise, 20, axis=0), 20, axis=1)[:height, :width].copy()


# --- the simulator's windows, each against every other


def test_no_needle_matches_any_other_window(tmp_path: Path) -> None:
    drawn = {
        (*look, kind, app): prompts.prompt(kind, app, version=look[0], appearance=look[1], scale=look[2])
        for look in LOOKS
        for kind in KINDS
        for app in (APP, TWIN)
    }
    notices = [
        prompts.prompt(AlertKind.NOTICE, app, scale=scale, text=f"“{APP}” would like to use a new network extension")
        for app in (APP, "Finder")
        for scale in (1, 2)
    ]
    hits = misses = 0
    for name, one in drawn.items():
        if name[4] != APP:
            continue
        store = needles(tmp_path / f"{hits}")
        assert store.learn(one.seen) is not None, name
        for other, frame in [*((key, item.frame) for key, item in drawn.items()), *((None, n.frame) for n in notices)]:
            found = store.find(frame, [frame.box])
            assert (found is not None) == (other == name), (name, other)
            misses += found is None
        hits += 1
    assert hits == len(LOOKS) * len(KINDS)
    assert misses > 800


def test_it_is_found_elsewhere_on_another_wallpaper(tmp_path: Path) -> None:
    one = prompts.prompt(AlertKind.PROXY, APP, scale=2)
    store = needles(tmp_path)
    store.learn(one.seen)
    background = wallpaper(1500, 1000)
    for x, y in ((3, 5), (777, 421), (641, 0)):
        frame = one.on(background, x, y)
        found = store.find(frame, [Box(x, y, x + one.window.width, y + one.window.height)])
        assert found is not None
        dx, dy = x - one.window.x0, y - one.window.y0
        seen = found.sighting
        assert [button.box for button in seen.buttons] == [
            Box(b.box.x0 + dx, b.box.y0 + dy, b.box.x1 + dx, b.box.y1 + dy) for b in one.seen.buttons
        ]
        assert seen.advice is not None
        assert (seen.window, seen.app_name, seen.advice.text, seen.language) == ("ne-proxy-consent", APP, "Allow", "en")
        assert seen.frame is frame
        assert seen.text == one.seen.text
        assert not found.settled
        assert store.still(found, frame)
        assert not store.still(found, one.on(background, x + 1, y))


@pytest.mark.parametrize("scale", [1, 2])
def test_the_same_place_on_a_display_of_another_size(scale: int, tmp_path: Path) -> None:
    one = prompts.prompt(AlertKind.PROXY, APP, scale=scale)
    store = needles(tmp_path)
    store.learn(one.seen)
    frame = prompts.frame_of(np.concatenate([one.frame.pixels, np.zeros_like(one.frame.pixels)], axis=1))
    found = store.find(frame, [one.window])
    assert found is not None
    assert found.sighting.title == one.seen.title
    assert not found.settled


def test_only_where_the_frame_has_changed(tmp_path: Path) -> None:
    one = prompts.prompt(AlertKind.VPN, APP)
    store = needles(tmp_path)
    store.learn(one.seen)
    frame = one.on(wallpaper(1200, 800), 100, 100)
    assert store.find(frame, [Box(700, 500, 1100, 790)]) is None
    assert store.find(frame, []) is None
    assert store.find(frame, [Box(100, 100, 100 + one.window.width, 240)]) is None  # its buttons were there before
    assert store.find(frame, [frame.box]) is not None
    title = one.seen.title
    assert title is not None
    assert (
        store.find(one.frame, [title]) is None
    )  # only the title is new: where it was learned, but not this prompt's coming
    assert store.find(one.frame, [title, *(button.box for button in one.seen.buttons)]) is not None
    assert store.find(frame, [frame.box], kinds=["ne-proxy-consent"]) is None
    assert store.find(frame, [frame.box], ignore=["ne-vpn-consent"]) is None


def test_partly_covered_or_half_faded_in_it_is_not_known(tmp_path: Path) -> None:
    one = prompts.prompt(AlertKind.EXTENSION, APP, scale=2)
    store = needles(tmp_path)
    store.learn(one.seen)
    advice = one.seen.advice
    assert advice is not None
    for part in (one.seen.title, advice.box):
        assert part is not None
        pixels = one.frame.pixels.copy()
        pixels[part.y0 : part.y1, part.x0 : part.x0 + 12] = (200, 30, 30)
        frame = prompts.frame_of(pixels)
        assert store.find(frame, [frame.box]) is None
    empty = np.broadcast_to(np.array((70, 110, 190), np.uint8), one.frame.pixels.shape)
    for share in (0.3, 0.8, 0.93):
        frame = prompts.frame_of((one.frame.pixels * share + empty * (1 - share)).astype(np.uint8))
        assert store.find(frame, [frame.box]) is None


# --- windows of our own: one change at a time


@dataclasses.dataclass(frozen=True)
class Look:
    title: str = "“Ant Colony” Would Like to Add Proxy Configurations"
    body: str = "All network activity on this Mac may be filtered."
    buttons: tuple[str, ...] = ("Allow", "Don’t Allow")
    dark: bool = False
    size: int = 22
    greyed: int = -1
    shifted: int = 0


def draw(look: Look, x: int = 60, y: int = 50) -> tuple[np.ndarray, list[tuple[str, Box]], Box]:
    """A dialog: its pixels, its texts with boxes, its own box."""
    font = ImageFont.load_default(look.size)
    width, height = int(font.getlength(look.title)) + 3 * look.size, 9 * look.size
    image = Image.new("RGB", (width + 140, height + 120), (90, 120, 160))
    canvas = ImageDraw.Draw(image)
    back, ink, fill = (
        ((50, 50, 52), (240, 240, 240), (104, 104, 108)) if look.dark else ((236,) * 3, (28,) * 3, (222,) * 3)
    )
    canvas.rectangle((x, y, x + width, y + height), fill=back)
    texts: list[tuple[str, Box]] = []

    def write(text: str, at: tuple[float, float], colour: tuple[int, ...]) -> None:
        canvas.text(at, text, font=font, fill=colour, anchor="mm")
        texts.append((text, Box(*(round(value) for value in canvas.textbbox(at, text, font=font, anchor="mm")))))

    middle = x + width / 2
    write(look.title, (middle, y + 1.5 * look.size), ink)
    write(look.body, (middle, y + 3.5 * look.size), ink)
    for index, text in enumerate(look.buttons):
        centre = middle + (index * 2 - 1) * width / 4 + (look.shifted if index == 0 else 0)
        top = y + 5.5 * look.size
        canvas.rounded_rectangle((centre - width / 5, top, centre + width / 5, top + 2 * look.size), 6, fill=fill)
        colour = ink if index != look.greyed else tuple((a + b) // 2 for a, b in zip(ink, fill, strict=True))
        write(text, (centre, top + look.size), colour)
    return np.asarray(image).copy(), texts, Box(x, y, x + width, y + height)


def sighting(pixels: np.ndarray, texts: list[tuple[str, Box]]) -> Sighting:
    lines = tuple(TextLine(text, box, 1.0) for text, box in texts)
    buttons = tuple(
        Button(line.text, role, line.box) for line, role in zip(lines[2:], ("approve", "deny"), strict=True)
    )
    box = lines[0].box.union(lines[-1].box)
    return Sighting(
        "ne-proxy-consent",
        prompts.frame_of(pixels),
        box,
        lines,
        app_name=APP,
        buttons=buttons,
        advice=buttons[0],
        language="en",
        confidence=1.0,
        title=lines[0].box,
    )


BASE = Look()
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@st.composite
def changed(draw_: st.DrawFn) -> Look:
    """The base with one thing that matters changed."""
    what = draw_(st.sampled_from(["title", "body", "buttons", "swap", "dark", "size", "greyed", "shifted", "label"]))
    if what in ("title", "body"):
        text = getattr(BASE, what)
        at = draw_(st.integers(0, len(text) - 1).filter(lambda index: text[index].isalpha()))
        letter = draw_(st.sampled_from(LETTERS).filter(lambda other: other != text[at]))
        return dataclasses.replace(BASE, **{what: text[:at] + letter + text[at + 1 :]})
    return {
        "buttons": dataclasses.replace(BASE, buttons=("Don’t Allow", "Don’t Allow")),
        "swap": dataclasses.replace(BASE, buttons=BASE.buttons[::-1]),
        "label": dataclasses.replace(
            BASE, buttons=(draw_(st.sampled_from(["Allaw", "Al1ow", "AIlow", "allow"])), "Don’t Allow")
        ),
        "dark": dataclasses.replace(BASE, dark=True),
        "size": dataclasses.replace(BASE, size=draw_(st.sampled_from([20, 21, 23, 24, 11, 44]))),
        "greyed": dataclasses.replace(BASE, greyed=draw_(st.integers(0, 1))),
        "shifted": dataclasses.replace(BASE, shifted=draw_(st.integers(1, 40))),
    }[what]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Needles:
    store = needles(tmp_path_factory.mktemp("base"))
    assert store.learn(sighting(*draw(BASE)[:2])) is not None
    return store


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(other=changed())
def test_one_changed_letter_button_or_colour_is_another_window(base: Needles, other: Look) -> None:
    pixels = draw(other)[0]
    assert np.array_equal(pixels, draw(BASE)[0]) is False
    frame = prompts.frame_of(pixels)
    assert base.find(frame, [frame.box]) is None


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    x=st.integers(0, 130),
    y=st.integers(0, 100),
    seed=st.integers(0, 1000),
    noise=st.integers(0, TOLERANCE - 1),
    pointer=st.booleans(),
    tint=st.integers(-TINT + 2, TINT - 2),
)
def test_what_varies_on_real_screens_is_forgiven(
    base: Needles, x: int, y: int, seed: int, noise: int, pointer: bool, tint: int
) -> None:
    """Place, wallpaper, dithering, a tinted background, a pointer on no text."""
    pixels, _, window = draw(BASE)
    part = pixels[window.y0 : window.y1 + 1, window.x0 : window.x1 + 1].astype(int)
    back = (part == 236).all(axis=2)
    part[back] += tint
    if pointer:
        at = round(4.9 * BASE.size)  # between the body and the buttons
        part[at - 2 : at + 3, 200:212] = 0
    screen = wallpaper(pixels.shape[1], pixels.shape[0], seed).astype(int)
    height, width = part.shape[:2]
    x, y = min(x, screen.shape[1] - width), min(y, screen.shape[0] - height)
    screen[y : y + height, x : x + width] = part
    screen += np.random.default_rng(seed).integers(-noise, noise + 1, screen.shape)
    frame = prompts.frame_of(screen.clip(0, 255).astype(np.uint8))
    found = base.find(frame, [frame.box])
    assert found is not None
    assert found.sighting.title is not None
    left, top = draw(BASE)[1][0][1][:2]
    assert found.sighting.title[:2] == (left - window.x0 + x, top - window.y0 + y)


def test_settled_is_only_what_is_exactly_as_it_was_learned(base: Needles) -> None:
    pixels, _, window = draw(BASE)
    tinted = pixels.copy()
    tinted[(pixels == 236).all(axis=2)] = 231
    moved = np.roll(pixels, 3, axis=1)
    elsewhere = pixels.copy()
    elsewhere[: window.y0] = 7
    for picture, settled in ((pixels, True), (elsewhere, True), (tinted, False), (moved, False)):
        frame = prompts.frame_of(picture)
        found = base.find(frame, [frame.box])
        assert found is not None
        assert found.settled is settled


def test_a_pointer_on_a_text_is_not_forgiven(base: Needles) -> None:
    pixels, texts, _ = draw(BASE)
    box = texts[2][1]
    pixels[box.y0 + 3 : box.y0 + 9, box.x0 : box.x0 + 6] = 0
    frame = prompts.frame_of(pixels)
    assert base.find(frame, [frame.box]) is None


# --- what can be one


def test_windows_that_change_within_are_never_needles(tmp_path: Path, records: list[dict]) -> None:
    seen = prompts.prompt(AlertKind.PROXY, APP).seen
    assert why_not(seen) == ""
    store = needles(tmp_path)
    advice = seen.advice
    assert advice is not None
    flat = prompts.frame_of(np.full_like(seen.frame.pixels, 236))
    for other, word in (
        (dataclasses.replace(seen, window="password-prompt"), "holds what changes"),
        (dataclasses.replace(seen, window="settings-extensions-sheet"), "holds what changes"),
        (dataclasses.replace(seen, window="settings-privacy-security"), "holds what changes"),
        (dataclasses.replace(seen, window="other-alert"), "holds what changes"),
        (dataclasses.replace(seen, title=None), "title"),
        (dataclasses.replace(seen, app_name=None), "app"),
        (dataclasses.replace(seen, advice=None), "clicked"),
        (dataclasses.replace(seen, buttons=(dataclasses.replace(advice, state="on"),)), "switch"),
        (dataclasses.replace(seen, frame=flat), "flat"),
    ):
        assert word in why_not(other)
        assert store.learn(other) is None
    assert store.load() == 0
    assert len(named(records, "needle-refused")) == 9


def test_learned_once_used_refused(tmp_path: Path, records: list[dict]) -> None:
    one = prompts.prompt(AlertKind.FILTER, APP)
    store = needles(tmp_path)
    key = store.learn(one.seen)
    assert key is not None
    assert store.learn(one.seen) == key
    assert len(named(records, "needle-learned")) == 1
    again = needles(tmp_path)
    found = again.find(one.frame, [one.frame.box])
    assert found is not None
    assert found.needle == key
    again.refuse(key, "it misled")
    assert again.find(one.frame, [one.frame.box]) is None
    assert needles(tmp_path).load() == 0
    assert named(records, "needle-refused")[-1]["reason"] == "it misled"


def test_another_build_provider_or_app_has_its_own(tmp_path: Path) -> None:
    one = prompts.prompt(AlertKind.FILTER, APP)
    needles(tmp_path).learn(one.seen)
    assert needles(tmp_path, origin="tart-24G90").load() == 0
    assert needles(tmp_path, origin="simulated-25B78").load() == 0
    assert needles(tmp_path, app=TWIN).load() == 0
    assert needles(tmp_path).load() == 1


# --- on disk


def test_a_damaged_file_is_as_none(tmp_path: Path, records: list[dict]) -> None:
    needles(tmp_path).learn(prompts.prompt(AlertKind.PROXY, APP).seen)
    (path,) = tmp_path.rglob("*.needle")
    whole = path.read_bytes()
    random = np.random.default_rng(5)
    damages = [b"", b"x", whole[:40], whole[:-1], whole + b"x", b"\0" * 5_000_000]
    for _ in range(20):
        at = int(random.integers(0, len(whole)))
        damages.append(whole[:at] + bytes([whole[at] ^ 1 << int(random.integers(0, 8))]) + whole[at + 1 :])
    for damage in damages:
        path.write_bytes(damage)
        assert needles(tmp_path).load() == 0
    assert len(named(records, "needle-refused")) == len(damages)
    path.write_bytes(whole)
    assert needles(tmp_path).load() == 1


def _sealed(stored: Stored) -> bytes:
    import hashlib

    body = msgspec.msgpack.encode(stored)
    return hashlib.blake2b(body, digest_size=16).digest() + body


@pytest.mark.parametrize(
    "lie",
    [
        {"place": (0, 0, 100_000, 100_000)},
        {"place": (5, 5, 5, 5)},
        {"place": (0, 0, 200, 200), "pixels": zlib.compress(b"\0" * 50_000_000)},
        {"advice": 7},
        {"advice": -1},
        {"buttons": ()},
        {"lines": ()},
        {"title": (-5, 0, 40, 40)},
        {"title": (0, 0, 9000, 40)},
        {"window": "password-prompt"},
        {"app": "Another"},
        {"app_name": ""},
    ],
)
def test_a_well_sealed_lie_is_as_none(lie: dict, tmp_path: Path, records: list[dict]) -> None:
    store = needles(tmp_path)
    store.learn(prompts.prompt(AlertKind.PROXY, APP).seen)
    (path,) = tmp_path.rglob("*.needle")
    true = msgspec.msgpack.decode(path.read_bytes()[16:], type=Stored)
    path.write_bytes(_sealed(true))
    assert needles(tmp_path).load() == 1
    path.write_bytes(_sealed(msgspec.structs.replace(true, **lie)))
    assert needles(tmp_path).load() == 0
    assert named(records, "needle-refused")


def test_the_longest_unused_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(needle_store, "_MOST_OF_ONE", 3)
    monkeypatch.setattr(needle_store, "_MOST_FILES", 5)
    seen = prompts.prompt(AlertKind.PROXY, APP).seen
    for app in ("One", "Two"):
        store = NeedleStore(tmp_path, origin="o", app_name=app)
        keys = []
        for number in range(5):
            stored = _some(seen, number)
            keys.append(store.put(stored))
            path = store.folder / f"{keys[-1]}.needle"
            if path.exists():
                os.utime(path, (1_000_000 + number, 1_000_000 + number))
        assert {key for key, _ in store.load()} == set(keys[2:])
    assert len(list(tmp_path.rglob("*.needle"))) <= 6
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_that_cannot_be_written_is_told_and_no_error(tmp_path: Path, records: list[dict]) -> None:
    (tmp_path / "file").write_text("")
    store = needles(tmp_path / "file")
    one = prompts.prompt(AlertKind.PROXY, APP)
    assert store.learn(one.seen) is not None
    assert store.find(one.frame, [one.frame.box]) is not None  # this process knows it all the same
    assert named(records, "degraded")


def _some(seen: Sighting, number: int) -> Stored:
    pixels = np.full((100, 120, 3), number, np.uint8).tobytes()
    button = needle_store.StoredButton("Allow", "approve", (50, 60, 80, 80), default=False, enabled=True)
    line = needle_store.StoredLine("Allow", (50, 60, 80, 80), 1.0)
    return Stored(
        seen.window, APP, "en", 1.0, "", (800, 600), (0, 0, 120, 100), (line,), (button,), 0, (10, 10, 90, 30), pixels
    )


def _busy(folder: str, number: int) -> int:
    """Put, load and drop, as fast as it goes; returns how many files were unreadable."""
    log = events.EventLog()
    bad: list[dict] = []
    log.subscribe(lambda record: bad.append(record) if record["name"] in ("needle-refused", "degraded") else None)
    seen = prompts.prompt(AlertKind.PROXY, APP).seen
    with events.use(log):
        store = NeedleStore(Path(folder), origin="o", app_name=APP)
        for turn in range(30):
            key = store.put(_some(seen, turn % 7))
            store.load()
            if turn % 3 == number % 3:
                store.drop(key)
    return len(bad)


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        assert pool.starmap(_busy, [(str(tmp_path), number) for number in range(3)]) == [0, 0, 0]
    assert len(list(tmp_path.rglob("*.needle"))) <= 7
    assert not list(tmp_path.rglob("*.part"))


def test_frames_of_other_sizes_do_no_harm(base: Needles) -> None:
    for width, height in ((1, 1), (10, 2000), (90, 70), (3000, 40)):
        frame = Frame(wallpaper(width, height), 1, 0.0)
        assert base.find(frame, [frame.box, Box(-5, -5, 10_000, 3)]) is None
