"""Windows are known for what they are, and what is not an approval prompt is never advised to be clicked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.screen import Box, Frame, RapidReader, Sighting, TextLine, ocr, recognise
from harness.screen.widgets import find_info, find_switch

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
APP = "Mitmproxy Redirector"


class Script:
    """A reader that has read these lines already."""

    def __init__(self, *lines: TextLine) -> None:
        self.lines = list(lines)

    def warm_up(self) -> None:
        pass

    def read(self, frame: Frame, region: Box | None = None) -> list[TextLine]:
        return sorted(self.lines, key=lambda line: (line.box.y0, line.box.x0))


def line(text: str, centre: int, y: int) -> TextLine:
    half = 4 * len(text)
    return TextLine(text, Box(centre - half, y, centre + half, y + 16), 1.0)


def see(*lines: TextLine, app_name: str | None = None, buttons: bool = True) -> Sighting:
    """What is made of lines; the short ones stand on bodies of their own colour, as buttons do."""
    pixels = np.full((600, 900, 3), 230, np.uint8)
    for each in lines:
        if buttons and len(each.text) <= 20:
            box = each.box.padded(8, (900, 600))
            pixels[box.y0 + 3 : box.y1 - 3, box.x0 : box.x1] = 205
    return recognise(Frame(pixels, 0, 0.0), Script(*lines), app_name=app_name)


PROXY = (
    line("“LuLu” Would Like to Add", 400, 100),
    line("Proxy Configurations", 400, 118),
    line("All network activity on this Mac may be", 400, 145),
    line("filtered or monitored.", 400, 160),
)


def test_allow_wants_its_partner() -> None:
    both = see(*PROXY, line("Allow", 340, 200), line("Don’t Allow", 460, 200))
    assert (both.window, both.app_name) == ("ne-proxy-consent", "LuLu")
    assert both.advice is not None
    assert both.advice.centre == (340, 208)
    assert both.button("deny") is not None
    alone = see(*PROXY, line("Allow", 340, 200))
    assert alone.window == "ne-proxy-consent"
    assert alone.advice is None


def test_a_title_alone_is_no_window() -> None:
    assert see(line("System Extension Blocked", 400, 100), line("Anything else", 400, 130)).window == "other"
    assert see(*PROXY[:2], line("Allow", 340, 200)).window == "other"


@pytest.mark.parametrize("torn", [("Don’t", "Allow"), ("Don", "t Allow"), ("D", "on’t Allow")])
def test_a_torn_dont_allow_is_no_allow(torn: tuple[str, str]) -> None:
    seen = see(*PROXY, line(torn[0], 440, 200), line(torn[1], 480, 200))
    assert seen.advice is None


def test_open_settings_wants_ok_beside_it() -> None:
    text = (line("System Extension Blocked", 400, 100), line("The application “X” tried to load new", 400, 125),
            line("system extension(s) at login.", 400, 141))  # fmt: skip
    seen = see(*text, line("OK", 400, 200), line("Open System Settings", 400, 234))
    assert seen.window == "alert-blocked"
    assert seen.app_name == "X"
    assert seen.advice is not None
    assert seen.advice.role == "open-settings"
    assert see(*text, line("Open System Settings", 400, 234)).advice is None
    # A button of another window, far away, is no partner.
    assert see(*text, line("OK", 800, 200), line("Open System Settings", 400, 234)).advice is None


@pytest.mark.parametrize(
    "title",
    [
        "“LuLu” would like to access the camera.",
        "“LuLu” Would Like to Send You Notifications",
        "“LuLu” would like to find devices on local networks.",
        "“LuLu” wants to use your confidential information",
        "“LuLu” is an app downloaded from the Internet.",
        "LuLu wants to make changes.",
    ],
)
def test_lookalikes_are_never_advised(title: str) -> None:
    seen = see(
        line(title, 400, 100),
        line("Enter your password to allow this.", 400, 130),
        line("Allow", 340, 200),
        line("Don’t Allow", 460, 200),
        line("OK", 400, 230),
        line("Open System Settings", 400, 260),
    )
    assert seen.window in ("other", "other-alert")
    assert seen.advice is None


def test_prose_about_prompts_is_no_prompt() -> None:
    seen = see(
        line("When you see System Extension Blocked, press", 300, 100),
        line("Open System Settings and then allow", 300, 118),
        line("Allow", 300, 160),
        line("OK", 300, 200),
    )
    assert seen.advice is None
    assert seen.window in ("other", "other-alert")


def test_several_blocked_items_choose_ours() -> None:
    lines = (
        line('System software from application "One" was blocked from loading.', 300, 100),
        line("Allow", 700, 100),
        line('System software from application "LuLu" was blocked from loading.', 300, 240),
        line("Allow", 700, 240),
    )
    assert see(*lines).advice is None
    ours = see(*lines, app_name="LuLu")
    assert ours.advice is not None
    assert ours.advice.centre[1] == 248
    assert see(*lines, app_name="Three").advice is None


texts = st.sampled_from(
    ["Allow", "Don’t Allow", "OK", "Cancel", "Deny", "Open System Settings", "Modify Settings", "Details…", "Network Extensions",
     "System Extension Blocked", "“A” Would Like to Add VPN Configurations", "Extension", "Login Items & Extensions",
     "Extensions", "“A” is trying to modify your system settings.", "A", "Enter your password to allow this."]
)  # fmt: skip


@given(st.lists(st.tuples(texts, st.integers(100, 800), st.integers(0, 560)), max_size=14))
def test_advice_is_never_a_denying_button(spec: Sequence[tuple[str, int, int]]) -> None:
    seen = see(*[line(text, x, y) for text, x, y in spec])
    if seen.advice is not None:
        assert seen.advice.role in ("approve", "open-settings", "use-password", "info", "switch", "other")
        assert seen.advice.text not in ("OK", "Cancel", "Deny", "Don’t Allow")
        if seen.advice.text == "Allow" and seen.window.startswith("ne-"):
            assert any(text == "Don’t Allow" for text, _, _ in spec)


# --- pixels


def draw_switch(*, on: bool, dark: bool, scale: int, accent: tuple[int, int, int] = (20, 112, 240)) -> Frame:
    from PIL import ImageDraw

    image = Image.new("RGB", (300 * scale, 60 * scale), (60, 60, 63) if dark else (250, 250, 251))
    pen = ImageDraw.Draw(image)
    x, y = 200, 20
    off = (90, 90, 94) if dark else (205, 205, 208)
    box = [scale * value for value in (x, y, x + 32, y + 18)]
    pen.rounded_rectangle(box, 9 * scale, fill=accent if on else off)
    centre = x + (23 if on else 9)
    pen.ellipse([scale * value for value in (centre - 7.5, y + 1.5, centre + 7.5, y + 16.5)], fill=(255, 255, 255))
    for dot in range(3):
        pen.ellipse([scale * value for value in (260 + 6 * dot, 28, 262 + 6 * dot, 30)], fill=(120, 120, 124))
    return Frame(np.asarray(image), 0, 0.0)


@pytest.mark.parametrize("accent", [(20, 112, 240), (52, 199, 89), (140, 140, 145)])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("on", [False, True])
def test_switches_are_found_and_read(on: bool, dark: bool, scale: int, accent: tuple[int, int, int]) -> None:
    frame = draw_switch(on=on, dark=dark, scale=scale, accent=accent)
    found = find_switch(frame, Box(20, 0, 300 * scale, 60 * scale), 15 * scale)
    assert found is not None
    assert found.state == ("on" if on else "off")
    x, y = found.box.centre
    assert abs(x - 216 * scale) <= 2 * scale
    assert abs(y - 29 * scale) <= 2 * scale
    assert find_info(frame, Box(20, 0, 190 * scale, 60 * scale), 15 * scale) is None


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("on", [False, True])
def test_a_switch_where_the_rest_is_dimmed(on: bool, dark: bool) -> None:
    pixels = np.array(draw_switch(on=on, dark=dark, scale=2, accent=(20, 112, 240)).pixels)
    dimmed = (pixels * 0.55).astype(np.uint8)
    dimmed[10:106, 370:494] = pixels[10:106, 370:494]
    found = find_switch(Frame(dimmed, 0, 0.0), Box(40, 0, 600, 120), 30)
    assert found is not None
    assert found.state == ("on" if on else "off")
    assert abs(found.box.centre[0] - 432) <= 4


def test_a_knob_has_no_colour() -> None:
    """What is brighter at the left is a knob only where it is grey or white."""
    frame = draw_switch(on=True, dark=True, scale=2, accent=(90, 160, 255))
    pixels = np.array(frame.pixels)
    pixels[(pixels == 255).all(axis=2)] = 0
    found = find_switch(Frame(pixels, 0, 0.0), Box(40, 0, 600, 120), 30)
    assert found is None or not found.state


# --- real text, drawn windows

SCENES = {
    "alert": ("alert", "open-settings", "Open System Settings"),
    "ne-proxy-consent": ("ne-proxy-consent", "approve", "Allow"),
    "ne-vpn-consent": ("ne-vpn-consent", "approve", "Allow"),
    "ne-filter-consent": ("ne-filter-consent", "approve", "Allow"),
    "notice": ("other-alert", None, None),
    "login-items": ("settings-login-items-extensions", "info", "Network Extensions"),
    "extensions-sheet": ("settings-extensions-sheet", "switch", APP),
    "privacy-security": ("settings-privacy-security", "approve", "Allow"),
}
LOOKS = [
    ("13", "light", 1, "alert"),
    ("13", "dark", 2, "privacy-security"),
    ("14", "dark", 1, "alert"),
    ("14", "light", 1, "ne-filter-consent"),
    ("15", "light", 2, "alert"),
    ("15", "dark", 1, "ne-proxy-consent"),
    ("15", "light", 1, "login-items"),
    ("15", "dark", 1, "extensions-sheet"),
    ("15", "light", 1, "notice"),
    ("26", "dark", 1, "alert"),
    ("26", "light", 1, "ne-vpn-consent"),
    ("26", "dark", 1, "login-items"),
    ("26", "light", 2, "extensions-sheet"),
]


@pytest.mark.parametrize(("version", "appearance", "scale", "scene"), LOOKS)
def test_drawn_windows(version: str, appearance: str, scale: int, scene: str, reader: RapidReader) -> None:
    from harness.screen import changed_regions
    from harness.simulator.display import gallery

    desktop = gallery.desktop(version, scale=scale, appearance=appearance)
    before = Frame(np.asarray(gallery.picture(desktop)), 0, 0.0)
    dict(gallery.scenes(version))[scene](desktop)
    frame = Frame(np.asarray(gallery.picture(desktop)), 1, 0.0)
    region = changed_regions(before, frame)[0].padded(6, frame.size)
    seen = recognise(frame, reader, region=region, app_name=APP, extension_kind="network")
    window, role, text = SCENES[scene]
    if window == "alert":
        window = "alert-new-extension" if int(version) >= 15 else "alert-blocked"
    assert seen.window == window
    if role is None:
        assert seen.advice is None
        return
    assert seen.advice is not None
    assert (seen.advice.role, seen.advice.text) == (role, text)
    # What the desktop itself has under that point:
    x, y = (value / scale for value in seen.advice.centre)
    control = next(window.press(x, y) for window in reversed(desktop._stack()) if window.contains(x, y))
    assert control is not None
    assert control.text == {"info": f"(i) {text}", "switch": f"switch {text}"}.get(role, text)
    if scene == "alert" or scene.startswith("ne-"):
        assert seen.app_name == APP
        default = next(button for button in seen.buttons if button.default)
        assert default.role in ("ok", "deny")


def test_a_wrong_pick_from_a_full_frame_is_not_made(reader: RapidReader) -> None:
    from harness.simulator.display import gallery

    desktop = gallery.desktop("15")
    frame = Frame(np.asarray(gallery.picture(desktop)), 0, 0.0)
    seen = recognise(frame, reader)
    assert seen.window == "other"
    assert seen.advice is None


@pytest.mark.parametrize(
    ("workers", "cores", "threads"), [("", 8, 2), ("2", 2, 1), ("4", 2, 1), ("2", 8, 2), ("x", 1, 1)]
)
def test_the_reader_leaves_cores_to_the_other_workers(
    workers: str, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", workers)
    monkeypatch.setattr(ocr, "_THREADS", 2)  # the reader of these tests has set it to 1
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert ocr._threads() == threads


def test_the_same_pixels_are_read_once(reader: RapidReader, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (40, 40, 3), np.uint8)
    ran: list[int] = []
    engine = RapidReader()
    engine._engine = lambda picture: ran.append(1)
    assert engine.read(Frame(pixels, 0, 0.0)) == []
    assert engine.read(Frame(pixels.copy(), 5, 9.0)) == []
    assert len(ran) == 1
    engine.read(Frame(pixels, 0, 0.0), Box(0, 0, 20, 40))
    assert len(ran) == 2


# --- real pictures


@cache
def _bench() -> Path:
    folder = SHARED / "bench" / "screens"
    if not (folder / "dev" / "index.jsonl").exists():
        pytest.skip("../shared is absent: no real screenshots to judge by")
    return folder


def test_real_screenshots(reader: RapidReader, tmp_path: Path) -> None:
    """One real picture of each kind of window; `make bench-screens` reads them all."""
    folder = _bench()
    rows: dict[str, dict[str, str]] = {}
    for text in (folder / "dev" / "index.jsonl").read_text().splitlines():
        row = json.loads(text)
        rows.setdefault(row["window"], row)
    index = tmp_path / "index.jsonl"
    index.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    said = []
    for row in rows.values():
        pixels = np.asarray(Image.open(folder / "dev" / row["file"]).convert("RGB"))
        seen = recognise(Frame(pixels, 0, 0.0), reader)
        said.append({"input": row["file"], **seen.as_dict()})
    file = tmp_path / "said.json"
    file.write_text(json.dumps(said))
    scored = subprocess.run(
        [sys.executable, str(folder / "score.py"), str(index), str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    last = scored.stdout.strip().splitlines()[-1]
    parts = dict(zip(("window", "buttons", "advice"), [word for word in last.split() if "/" in word], strict=True))
    shares = {key: int(value.split("/")[0]) / int(value.split("/")[1]) for key, value in parts.items()}
    assert last.endswith("wrong clicks 0"), scored.stdout
    assert shares["window"] >= 0.95, scored.stdout
    assert shares["advice"] >= 0.9, scored.stdout
    assert shares["buttons"] >= 0.85, scored.stdout
