"""Pages that are cut off, in languages with one word for one and for many, sheets of one app, and pictures of alerts in pages.

What stands on a drawn page is known, so nothing needs to be read off it (and any language can be tried without its fonts).
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from harness.screen import Box, Frame, RapidReader, Sighting, TextLine, recognise
from harness.screen.catalog import ButtonSpec, load_catalog
from harness.screen.layout import find, paragraphs
from harness.screen.looks import button_around
from harness.screen.phrases import Phrase
from tests.support import screen_drawing as drawing


class Page(drawing.Picture):
    """A picture that keeps the lines written on it, and says them when read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lines: list[TextLine] = []

    def text(self, x, y, text, points=13, anchor="lm", ink=None) -> None:
        super().text(x, y, text, points, anchor, ink)
        if len(text) > 1:
            size = [round(value * self.scale) for value in (x, y, points)]
            width = round(len(text) * size[2] * (0.9 if ord(text[0]) > 0x2E00 else 0.52))
            left = size[0] - width // 2 if anchor == "mm" else size[0]
            self.lines.append(
                TextLine(text, Box(left, size[1] - size[2] // 2 - 4, left + width, size[1] + size[2] // 2 + 4), 1.0)
            )

    def warm_up(self) -> None:
        pass

    def read(self, frame: Frame, region: Box | None = None) -> list[TextLine]:
        return sorted(self.lines, key=lambda line: (line.box.y0, line.box.x0))

    def seen(self, **wanted: str) -> Sighting:
        return recognise(self.frame(), self, **wanted)


def extensions(texts: list[str], rows: list[tuple[str, str]]) -> Page:
    """A page with rows of two lines, an (i) button level with the middle of each."""
    page = Page(600, 150 + 50 * len(rows), scale=2.0)
    for index, text in enumerate(texts):
        page.text(30, 24 + 36 * index, text)
    for index, (name, below) in enumerate(rows):
        y = 140 + 50 * index
        page.text(60, y, name, 13)
        page.text(60, y + 17, below, 11)
        page.info(560, y + 8, name)
    return page


IDENTIFIER = "org.pqrs.Karabiner-DriverKit-VirtualHIDDevice"


@pytest.mark.parametrize(
    ("language", "texts", "first", "driver"),
    [
        ("zh-Hans", ["登录项与扩展", "允许在后台", "扩展"], ("操作", "标记"), "驱动程序扩展"),
        ("ja", ["ログイン項目と機能拡張", "機能拡張"], ("アクション", "マークアップ"), "ドライバ機能拡張"),
        ("fr", ["Ouverture et extensions", "Extensions"], ("Actions", "Annoter"), "Extensions de pilotes"),
        ("en", ["Extensions"], ("Actions", "Markup"), "Driver Extensions"),  # the title is cut off
    ],
)
def test_rows_of_kinds_and_rows_of_apps(language: str, texts: list[str], first: tuple[str, str], driver: str) -> None:
    """Where one word says both, the (i) button is the one level with the row, not that of the row above."""
    page = extensions(texts, [first, (driver, IDENTIFIER)])
    seen = page.seen(extension_kind="driver")
    assert (seen.window, seen.language) == ("settings-login-items-extensions", language)
    assert seen.advice is not None, seen.why
    assert page.boxes[driver].overlaps(seen.advice.box)
    if language == "fr":
        return
    kind = {"en": "Driver Extension"}.get(language, driver)
    by_app = extensions([*texts, "By App"], [(".Karabiner-VirtualHIDDevice-Manager", kind), first])
    seen = by_app.seen(app_name=".Karabiner-VirtualHIDDevice-Manager", extension_kind="driver")
    assert seen.advice is not None, seen.why
    assert by_app.boxes[".Karabiner-VirtualHIDDevice-Manager"].overlaps(seen.advice.box)
    assert by_app.seen(app_name="LuLu", extension_kind="network").advice is None


def test_an_info_button_where_the_rest_is_dimmed() -> None:
    page = extensions(["Login Items & Extensions", "Extensions"], [("Driver Extensions", IDENTIFIER)])
    target = page.boxes["Driver Extensions"]
    lit = target.padded(14, (1200, 400))
    pixels = np.array(page.frame().pixels)
    dark = (pixels * 0.45).astype(np.uint8)
    dark[lit.y0 : lit.y1, lit.x0 : lit.x1] = pixels[lit.y0 : lit.y1, lit.x0 : lit.x1]
    seen = recognise(Frame(dark, 0, 0.0), page)
    assert seen.advice is not None, seen.why
    assert target.overlaps(seen.advice.box)


def of_app(*, on: bool = False, done: str = "Done", heading: str = ".Karabiner-VirtualHIDDevice-Manager") -> Page:
    page = Page(560, 320, scale=2.0)
    page.text(40, 30, heading, 15)
    page.text(60, 110, "Driver Extension", 13)
    page.switch(480, 100, "switch", on=on)
    if done:
        page.button((450, 270, 530, 294), done, default=True)
    return page


def test_the_sheet_of_one_app() -> None:
    page = of_app()
    seen = page.seen(app_name=".Karabiner-VirtualHIDDevice-Manager")
    assert seen.window == "settings-extensions-sheet"
    assert seen.advice is not None, seen.why
    assert page.boxes["switch"].overlaps(seen.advice.box)
    assert of_app(on=True).seen().advice is None
    assert of_app().seen(app_name="LuLu").advice is None
    assert of_app(done="").seen().advice is None
    two = of_app()
    two.text(60, 180, "Network Extension", 13)
    two.switch(480, 170, "other", on=False)
    assert two.seen().advice is None


def test_a_row_is_no_heading() -> None:
    """One letter tells "Driver Extension" from "Driver Extensions"; the words of the explanation are not known."""
    page = Page(460, 260, scale=2.0)
    page.text(30, 28, "Driver Extensions", 15)
    page.text(30, 60, "What a driver does for hardware.", 12)
    page.text(46, 110, "LuLu", 13)
    page.text(46, 128, "Driver Extension", 11)
    page.switch(380, 106, "LuLu", on=False)
    seen = page.seen(app_name="LuLu")  # cut off before Done: known by its row
    assert (seen.window, seen.rows) == ("settings-extensions-sheet", ("LuLu",))
    page.button((370, 200, 440, 224), "Done", default=True)
    seen = page.seen(app_name="LuLu")
    assert seen.advice is not None, seen.why
    assert page.boxes["LuLu"].overlaps(seen.advice.box)


def test_rows_of_a_sheet_say_the_extension_s_name_below_the_app_s() -> None:
    """Whatever it is called; and the row that is asked for, not the first."""
    page = Page(460, 300, scale=2.0)
    page.text(30, 28, "Driver Extensions", 15)
    page.text(30, 46, "These extensions run in the background.", 12)
    for index, (app, name) in enumerate((("Foo", "com.example.foo.driver"), (".Manager-VirtualHID", IDENTIFIER))):
        page.text(46, 100 + 48 * index, app, 12)
        page.text(46, 115 + 48 * index, name, 10)
        page.switch(400, 98 + 48 * index, app, on=False)
    seen = page.seen(app_name=".Manager-VirtualHID")
    assert seen.rows == ("Foo", ".Manager-VirtualHID")
    assert seen.advice is not None, seen.why
    assert page.boxes[".Manager-VirtualHID"].overlaps(seen.advice.box)
    assert page.seen().advice is None
    assert page.seen(app_name=IDENTIFIER).advice is None


def test_an_app_with_extensions_of_several_kinds() -> None:
    page = extensions(["Login Items & Extensions", "Extensions", "By App"], [("LuLu", "Network Extension, Sharing")])
    seen = page.seen(app_name="LuLu", extension_kind="network")
    assert seen.advice is not None, seen.why
    assert page.boxes["LuLu"].overlaps(seen.advice.box)


def test_a_switch_below_such_words_is_no_sheet() -> None:
    """Not where its row says nothing of an extension, and nothing explains it."""
    page = Page(460, 200, scale=2.0)
    page.text(30, 28, "Network Extensions", 15)
    page.text(46, 110, "Dark mode", 13)
    page.switch(380, 106, "Dark mode", on=False)
    assert page.seen().advice is None


@pytest.mark.parametrize(
    ("phrase", "lines", "name", "covered"),
    [
        ("{app} desea usar una nueva extensión {kind}",
         ["“LuLu” desea usar una nueva", "extensión de red", "Puedes activar esta extensión en “Ítems de inicio y", "extensiones”. Las extensiones de red se ejecutan solas"], "LuLu", 2),
        ("来自应用程序“{app}”的系统软件{*}阻止{*}", ["来自应用程序·LuLu·的系统软件已被阻止载入。"], "LuLu", 1),
        ("アプリケーション“{app}”のシステムソフトウェア{*}", ["アプリケーションロLuLuのシステムソフトウェアの読み込み", "がブロックされました。"], "LuLu", 2),
        ("{*}Systemsoftware des Programms {app}", ["Systemsoftware des Programms LuLu“ wurde beim Laden", "blockiert."], "LuLu", 2),
        ("System software from application {app} was blocked", ["System software from application ロック was blocked"], "ロック", 1),
    ],
)  # fmt: skip
def test_names_and_ends_of_phrases(phrase: str, lines: list[str], name: str, covered: int) -> None:
    written = [TextLine(text, Box(10, 20 * index, 310, 20 * index + 16), 1.0) for index, text in enumerate(lines)]
    (group,) = paragraphs(written)
    match = find(Phrase(phrase), group)
    assert match is not None
    assert match.alone
    assert match.holes["app"] == name
    assert len(match.lines) == covered


def test_round_ends_of_buttons_are_read_as_brackets() -> None:
    assert ButtonSpec("approve", ("Permitir",)).matches("(Permitir)")
    assert not ButtonSpec("approve", ("Permitir",)).matches("(No permitir)")
    assert load_catalog().forbidden("(Cancel)")


def test_a_pale_button_in_a_compressed_picture() -> None:
    """Wherever beside the letters, whose traces compression spreads, its edge is looked for."""
    picture = drawing.Picture(300, 100, scale=2.0)
    picture.rectangle((80, 30, 160, 60), (228, 228, 228), radius=6)
    picture.text(120, 45, "Allow", 13, "mm")
    ok, packed = cv2.imencode(".jpg", np.asarray(picture.image), [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert ok
    frame = Frame(cv2.imdecode(packed, cv2.IMREAD_COLOR), 0, 0.0)
    found = [button_around(frame, Box(202 + shift, 76, 278 + shift, 106)) for shift in range(-6, 7)]
    assert sum(body is not None for body in found) >= 11


TITLE = "“LuLu” Would Like to Filter Network Content"
BODY = "All network activity on this Mac may be filtered or monitored."


@pytest.mark.parametrize("shadow", [False, True])
def test_a_picture_of_an_alert_in_an_app_s_own_window(shadow: bool, reader: RapidReader) -> None:
    """An app that shows what to click is no alert; one that stands over such a window, with its shadow, is."""
    alert = drawing.alert(TITLE, BODY, ["Allow", "Don’t Allow"], default=1, stacked=False)
    window = drawing.Picture(640, 420)
    window.rectangle((0, 0, 640, 420), (255, 255, 255))
    window.text(30, 36, "Step 2: let LuLu filter", 16)
    window.text(30, 380, "Press the button now.", 13)
    pixels = np.array(window.image)
    height, width = np.asarray(alert.image).shape[:2]
    if shadow:
        shade = np.zeros(pixels.shape[:2], np.float32)
        shade[90 : 90 + height, 280 : 280 + width] = 0.35
        pixels = (pixels * (1 - cv2.GaussianBlur(shade, (0, 0), 15)[:, :, None])).astype(np.uint8)
    pixels[80 : 80 + height, 280 : 280 + width] = np.asarray(alert.image)
    seen = recognise(Frame(pixels, 0, 0.0), reader)
    assert seen.window == "ne-filter-consent"
    assert (seen.advice is not None) is shadow, seen.why
    if not shadow:
        assert "document" in seen.why


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
def test_an_alert_in_front_of_ours(stacked: bool, dark: bool, reader: RapidReader) -> None:
    """Its buttons stand below our title and are not ours, though they say the same. Where it leaves ours in sight, ours count."""
    ours = drawing.alert(TITLE, BODY, ["Allow", "Don’t Allow"], default=1, stacked=stacked, dark=dark)
    other = drawing.alert(
        "“LuLu” would like to access the camera.",
        "It is for calls.",
        ["Allow", "Don’t Allow"],
        stacked=stacked,
        dark=dark,
    )
    for down, expected in ((156, False), (ours.height + 10, True)):
        whole = drawing.on_desktop(ours, (700, 800))
        mine = whole.boxes["Allow"]
        pixels = np.array(whole.image)
        left = (700 - ours.width) // 2
        top = round((800 - ours.height) / 3) + down
        shadow = np.zeros(pixels.shape[:2], np.float32)
        shadow[top + 6 : top + other.height + 10, left : left + other.width] = 0.4
        pixels = (pixels * (1 - cv2.GaussianBlur(shadow, (0, 0), 9))[..., None]).astype(np.uint8)
        pixels[top : top + other.height, left : left + other.width] = np.asarray(other.image)
        seen = recognise(Frame(pixels, 0, 0.0), reader)
        assert (seen.advice is not None) is expected, seen.why
        assert seen.advice is None or (seen.window == "ne-filter-consent" and mine.overlaps(seen.advice.box))


def test_a_frame_drawn_around_words_is_no_window(reader: RapidReader) -> None:
    picture = drawing.alert(TITLE, BODY, ["Allow", "Don’t Allow"], default=1, stacked=False, scale=2.0)
    end = picture.boxes["Allow"].y0 / 2 - 8
    picture.rectangle((8, 96, 252, end), None, outline=(240, 30, 30))
    seen = recognise(picture.frame(), reader)
    assert seen.advice is not None, seen.why
    assert picture.boxes["Allow"].overlaps(seen.advice.box)


def blocked_page(other: list[tuple[int, int, str]]) -> Page:
    page = Page(560, 260, scale=2.0)
    page.text(30, 30, "Security", 15)
    page.text(30, 90, "System software from application “LuLu”", 13)
    page.text(30, 107, "was blocked from loading.", 13)
    for x, y, text in other:
        page.button((x - 50, y - 12, x + 50, y + 12), text)
    return page


def test_an_alert_in_front_of_the_page() -> None:
    """It covers the page's button, and has one that says the same, beside the one that denies."""
    ours = blocked_page([(480, 100, "Allow")])
    assert ours.seen().advice is not None
    assert ours.boxes["Allow"].overlaps(ours.seen().advice.box)
    for other in ([(360, 120, "Allow"), (480, 120, "Don’t Allow")], [(400, 110, "Allow"), (400, 144, "Don’t Allow")]):
        seen = blocked_page(other).seen()
        assert seen.window == "settings-privacy-security"
        assert seen.advice is None
    both = blocked_page([(480, 100, "Allow"), (300, 180, "Allow"), (300, 214, "Don’t Allow")])
    assert both.seen().advice is not None
    assert both.seen().advice.box.centre[1] < 240


def test_warming_up_loads_what_reads() -> None:
    """Both models, or the first alert waits for the second one."""
    reader = RapidReader()
    reader.warm_up()
    assert reader._engine.text_det is not None
    assert reader._engine.text_rec is not None
