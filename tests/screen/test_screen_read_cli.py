"""`sysext screen read`, pictures from anywhere, and what a user may describe."""

from __future__ import annotations

import io
import json
import struct
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.cli.screen import screen
from harness.config import Settings
from harness.errors import UsageError
from harness.screen import Box, Frame, TextLine, load_catalog, pictures, readers
from harness.screen.catalog import default_catalog
from harness.screen.errors import ScreenError
from harness.screen.ocr import RapidReader
from harness.screen.pictures import load_picture
from harness.screen.vision import VisionReader

TITLE = TextLine("“LuLu” Would Like to Filter Network Content", Box(40, 20, 340, 36), 1.0)
BODY = TextLine("All network activity on this Mac may be filtered or monitored.", Box(40, 44, 360, 60), 1.0)
ALLOW = TextLine("Allow", Box(70, 80, 120, 96), 1.0)
DENY = TextLine("Don’t Allow", Box(230, 80, 310, 96), 1.0)


def consent() -> Image.Image:
    image = Image.new("RGB", (400, 130), (236, 236, 236))
    image.paste((200, 200, 200), (50, 74, 190, 102))
    image.paste((0, 122, 255), (210, 74, 350, 102))
    return image


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The command, with a reader that has read the lines above in any picture."""

    class Scripted(RapidReader):
        def warm_up(self) -> None:
            pass

        def _run(self, pixels: object) -> list[TextLine]:
            return [TITLE, BODY, ALLOW, DENY]

    monkeypatch.setattr(readers, "RapidReader", Scripted)
    monkeypatch.setenv("SYSEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SYSEXT_SCREEN__READER", "rapidocr")
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(screen, ["read", *map(str, arguments)])

    return invoke


def test_json_says_all_that_is_known(run, tmp_path: Path) -> None:
    consent().save(tmp_path / "a.png")
    done = run("a.png", "--format", "json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert {key: row[key] for key in ("input", "size", "window", "app_name", "appearance", "scale", "language")} == {
        "input": "a.png", "size": [400, 130], "window": "ne-filter-consent", "app_name": "LuLu", "appearance": "light",
        "scale": 1.0, "language": "en",
    }  # fmt: skip
    assert 0.9 < row["confidence"] <= 1
    assert {button["role"]: button["default"] for button in row["buttons"]} == {"approve": False, "deny": True}
    assert row["buttons"][0].keys() == {"text", "role", "x", "y", "default", "enabled", "state"}
    assert (row["advice"]["text"], row["advice"]["x"], row["advice"]["y"]) == ("Allow", 95, 88)
    assert "partner" in row["why"]


def test_text_is_for_people(run, tmp_path: Path) -> None:
    consent().save(tmp_path / "a.png")
    done = run("a.png")
    assert done.exit_code == 0
    assert "ne-filter-consent of “LuLu”" in done.output
    assert "click Allow at 95,88" in done.output
    assert "(default)" in done.output


def test_a_bad_picture_is_told_and_the_others_are_read(run, tmp_path: Path) -> None:
    consent().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture at all")
    done = run("b.png", "a.png", "missing.png", "--format", "json")
    assert done.exit_code == 2
    assert [row["input"] for row in json.loads(done.stdout)] == ["a.png"]
    assert "b.png" in done.stderr
    assert "missing.png" in done.stderr


def test_own_pages_add_words(run, tmp_path: Path) -> None:
    consent().save(tmp_path / "a.png")
    (tmp_path / "bad.toml").write_text(
        'language = "en"\n[[page]]\nwindow = "x"\nlayout = "dialogue"\ntitles = ["Some title"]\n'
    )
    done = run("a.png", "--pages", "bad.toml")
    assert isinstance(done.exception, UsageError)
    assert "did you mean 'dialog'" in str(done.exception)
    # What is on the deny-list is never advised, whoever wrote it there.
    (tmp_path / "never.toml").write_text('never = ["Allow"]\n')
    done = run("a.png", "--pages", "never.toml")
    assert isinstance(done.exception, UsageError)
    assert "deny-list" in str(done.exception)


CLASH = """[[page]]
window = "x"
layout = "dialog"
titles = ["A title"]
buttons = [{ role = "approve", texts = ["Yes"], partner = "deny", advise = true }, { role = "deny", texts = ["YES…"] }]
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('langage = "en"', "did you mean 'language'"),
        ('[[page]]\nwindow = "x"\nlayout = "dialog"\ntitels = ["A title"]', "did you mean 'titles'"),
        ('[[page]]\nwindow = "x"\nlayout = "dialog"\ntitles = ["A title"]\nbuttons = [{ role = "aprove", texts = ["Yes"] }]', "'approve'"),
        ('[[page]]\nwindow = "x"\nlayout = "dialog"\ntitles = ["Some {a}{b} title"]', "side by side"),
        ('[[page]]\nwindow = "x"\nlayout = "dialog"\ntitles = ["{a}"]', "text of its own"),
        ('[[page]]\nwindow = "x"\nlayout = "dialog"', "titles"),
        ('language = "en"\n[[page]]\nwindow = "alert-bloked"\nlayout = "dialog"\nextend = true', "did you mean 'alert-blocked'"),
        (CLASH, "reads like"),
    ],
)  # fmt: skip
def test_mistakes_in_descriptions_name_the_nearest_right_word(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        load_catalog([file])
    assert said in str(refused.value)
    assert "own.toml" in str(refused.value)


def test_a_known_window_can_be_given_more_words(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        'language = "en"\n[[page]]\nwindow = "alert-blocked"\nlayout = "dialog"\nextend = true\ntitles = ["Driver Held Back"]\n'
        'buttons = [{ role = "open-settings", texts = ["Go to Settings"] }]\n'
    )
    before, after = default_catalog(), load_catalog([file])
    assert len(after.pages) == len(before.pages)
    page = next(page for page in after.pages if (page.window, page.language) == ("alert-blocked", "en"))
    assert page.titles[-1].text == "Driver Held Back"
    opener = next(spec for spec in page.buttons if spec.role == "open-settings")
    assert opener.matches("Go to Settings")
    assert opener.partner == "ok"
    assert opener.advise


def test_every_language_knows_every_window() -> None:
    known: dict[str, set[str]] = {}
    for page in default_catalog().pages:
        known.setdefault(page.language, set()).add(page.window)
    assert known.keys() >= {"en", "de", "fr", "es", "pt", "it", "ja", "ko", "zh-Hans", "zh-Hant"}
    for language, windows in known.items():
        assert windows >= {
            "alert-blocked", "alert-updated", "alert-new-extension", "ne-proxy-consent", "ne-vpn-consent", "ne-filter-consent",
            "settings-privacy-security", "settings-login-items-extensions", "settings-extensions-sheet",
            "prefs-security-privacy", "password-prompt",
        }, language  # fmt: skip


# --- pictures


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def red(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (20, 10), (255, 0, 0)).convert(mode)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "P"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("GIF", "P")]
)
def test_pictures_of_all_kinds(kind: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(kind, red(mode)))
    frame = load_picture(path)
    assert frame.size == (20, 10)
    assert frame.pixels.dtype == np.uint8
    assert np.abs(frame.pixels.reshape(-1, 3).mean(axis=0) - (255, 0, 0)).max() < 6


def test_pictures_are_turned_upright_and_flattened(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    path.write_bytes(encoded("JPEG", red(), exif=exif))
    assert load_picture(path).size == (10, 20)
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    path.write_bytes(encoded("PNG", clear))
    assert (load_picture(path).pixels == 255).all()
    path.write_bytes(encoded("GIF", red("P"), save_all=True, append_images=[Image.new("P", (20, 10))]))
    assert load_picture(path).size == (20, 10)
    grey = np.full((4, 4), 40000, np.uint16)
    path.write_bytes(encoded("PNG", Image.fromarray(grey)))
    assert abs(int(load_picture(path).pixels.mean()) - 156) < 2


def test_pictures_have_a_greatest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)  # says so, holds next to nothing
    chunk = b"IHDR" + header
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    with pytest.raises(UsageError, match="picture"):
        load_picture(path)
    monkeypatch.setattr(pictures, "MOST_BYTES", 10)
    path.write_bytes(encoded("PNG", red()))
    with pytest.raises(UsageError, match="bytes"):
        load_picture(path)
    with pytest.raises(UsageError):
        load_picture(tmp_path)


GOOD = [encoded(kind, red()) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]


@settings(max_examples=60)
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.integers(4, 600),
)
def test_broken_pictures_end_in_our_own_error(
    tmp_path_factory, data: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    broken = bytearray(data[:length])
    for place, value in changes:
        if place < len(broken):
            broken[place] = value
    path = tmp_path_factory.getbasetemp() / "broken-picture"
    path.write_bytes(broken)
    try:
        frame = load_picture(path)
    except UsageError:
        return
    assert frame.size[0] * frame.size[1] <= pictures.MOST_PIXELS


# --- readers


def test_the_reader_is_chosen_by_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def reader(wanted: str) -> object:
        return readers.make_reader(Settings.model_validate({"cache": tmp_path, "screen": {"reader": wanted}}))

    monkeypatch.setattr(readers.sys, "platform", "linux")
    assert type(reader("auto")) is RapidReader
    with pytest.raises(UsageError, match="not on macOS"):
        reader("vision")
    monkeypatch.setattr(readers.sys, "platform", "darwin")
    monkeypatch.setattr(readers, "find_spec", lambda name: None)
    assert type(reader("auto")) is RapidReader
    with pytest.raises(UsageError, match="not installed"):
        reader("vision")
    monkeypatch.setattr(readers, "find_spec", lambda name: object())
    assert type(reader("auto")) is VisionReader
    assert type(reader("rapidocr")) is RapidReader


def test_vision_boxes_are_turned_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple counts from the bottom, in shares of the picture."""
    asked = []

    class Engine:
        def __init__(self, image: Image.Image, **options: object) -> None:
            asked.append((image.size, options))

        def recognize(self) -> list[tuple[str, float, list[float]]]:
            return [
                ("below", 0.5, [0.5, 0.0, 0.25, 0.1]),
                ("above", 1.0, [0.1, 0.8, 0.3, 0.2]),
                (" ", 1.0, [0, 0, 1, 1]),
            ]

    module = types.ModuleType("ocrmac.ocrmac")
    module.OCR = Engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ocrmac", types.ModuleType("ocrmac"))
    monkeypatch.setitem(sys.modules, "ocrmac.ocrmac", module)
    lines = VisionReader().read(Frame(np.zeros((100, 200, 3), np.uint8), 0, 0.0))
    assert [(line.text, tuple(line.box), line.score) for line in lines] == [
        ("above", (20, 0, 80, 20), 1.0),
        ("below", (100, 90, 150, 100), 0.5),
    ]
    assert asked[0][0] == (200, 100)
    assert "ko-KR" in asked[0][1]["language_preference"]


def test_vision_that_cannot_be_used_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ocrmac", None)
    monkeypatch.setitem(sys.modules, "ocrmac.ocrmac", None)
    with pytest.raises(ScreenError, match="Apple's text recognition"):
        VisionReader().read(Frame(np.zeros((100, 200, 3), np.uint8), 0, 0.0))
