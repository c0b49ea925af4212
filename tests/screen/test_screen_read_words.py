"""Words as readers get them: accents lost, letters wrong, scripts that no font here can draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.screen import Box, Frame, Sighting, TextLine, default_catalog, recognise
from harness.screen.layout import find, paragraphs
from harness.screen.phrases import Phrase
from harness.screen.text import alike, mistakes_allowed, occurrences, squash


class Script:
    """A reader that has read these lines already."""

    def __init__(self, lines: list[TextLine]) -> None:
        self.lines = lines

    def warm_up(self) -> None:
        pass

    def read(self, frame: Frame, region: Box | None = None) -> list[TextLine]:
        return self.lines


def consent(title: list[str], body: list[str], yes: str, no: str) -> Sighting:
    """An alert of these lines, 400 pixels wide, its two buttons side by side."""
    pixels = np.full((400, 400, 3), 236, np.uint8)
    lines = []
    y = 40
    for text in (*title, *body):
        half = min(180, 7 * len(text))
        lines.append(TextLine(text, Box(200 - half, y, 200 + half, y + 20), 1.0))
        y += 24
    y += 20
    for x, text in ((110, yes), (290, no)):
        pixels[y - 6 : y + 26, x - 80 : x + 80] = 205
        half = 6 * len(text)
        lines.append(TextLine(text, Box(x - half, y, x + half, y + 20), 1.0))
    return recognise(Frame(pixels, 0, 0.0), Script(lines))


WORDS = [
    ("ne-filter-consent", "ja", ["“LuLu”がネットワークコンテンツの", "フィルタリングを求めています"],
     ["このMac上のすべてのネットワーク", "アクティビティがフィルタまたは監視される", "可能性があります。"], "許可", "許可しない"),
    ("ne-vpn-consent", "zh-Hans", ["“LuLu”想要添加VPN配置"], ["使用VPN时，此Mac上的所有网络活动都可能被过滤或监视。"], "允许", "不允许"),
    ("ne-proxy-consent", "zh-Hant", ["「LuLu」想要加入代理伺服器設定"], ["此Mac上的所有網路活動可能會被過濾或監控。"], "允許", "不允許"),
    ("ne-filter-consent", "ko", ["“LuLu”에서 네트워크 콘텐츠를 필터링하려고", "합니다"], ["이 Mac의 모든 네트워크 활동이 모니터링될 수 있습니다."],
     "허용", "허용 안 함"),
    ("alert-blocked", "ja", ["システム機能拡張がブロックされました"], ["アプリ“LuLu”が新しいシステム機能拡張を", "読み込もうとしました。"],
     "システム設定を開く", "OK"),
    ("alert-new-extension", "zh-Hans", ["“LuLu”想要使用新的网络扩展"], ["你可以在“登录项与扩展”中启用此扩展。"], "打开系统设置", "好"),
    ("alert-blocked", "zh-Hans", ["系统扩展已被阻止"], ["应用程序“LuLu”尝试载入新的系统扩展。"], "打开系统设置", "好"),
    # Letters that readers take for others, accents that they lose.
    ("alert-blocked", "ja", ["システム機能拡張がプロックされました"], ["アプリ“LuLu”が新しいシステム機能拡張を"], "システム設定を開<", "OK"),
    ("ne-filter-consent", "pt", ["“LuLu” Deseja Filtrar Conteudo de Rede"], ["Toda a atividade de rede neste Mac"], "Permitir", "Nao Permitir"),
    ("ne-filter-consent", "en", ["“LuLu” Wouid Like to Fi1ter", "Network Content"], ["All network activity on this Mac may be"],
     "Allow", "Don't Allow"),
    ("alert-blocked", "sv", ["Systemtillägg blockerat"], ["Programmet ”LuLu” försökte läsa in nya", "systemtillägg."], "Öppna Systeminställningar", "OK"),
    ("alert-new-extension", "nl", ["‘LuLu’ wil een nieuwe netwerkextensie", "gebruiken"], ["Je kunt deze extensie inschakelen in"],
     "Open Systeeminstellingen", "OK"),
    ("ne-vpn-consent", "da", ["”LuLu” ønsker at tilføje", "VPN-konfigurationer"], ["Al netværksaktivitet på denne Mac"], "Tillad", "Tillad ikke"),
    ("ne-filter-consent", "nb", ["«LuLu» ønsker å filtrere", "nettverksinnhold"], ["All nettverksaktivitet på denne Macen"], "Tillat", "Ikke tillat"),
    ("ne-filter-consent", "fi", ["”LuLu” haluaa suodattaa", "verkkosisältöä"], ["Kaikki verkkotoiminta tällä Macilla"], "Salli", "Älä salli"),
    ("ne-proxy-consent", "pl", ["„LuLu” chce dodać konfiguracje", "serwera proxy"], ["Cała aktywność sieciowa na tym Macu"], "Pozwól", "Nie pozwalaj"),
    ("ne-filter-consent", "cs", ["„LuLu“ chce filtrovat síťový obsah"], ["Veškerá síťová aktivita na tomto Macu"], "Povolit", "Nepovolovat"),
    ("ne-vpn-consent", "tr", ["“LuLu” VPN Konfigürasyonları", "Eklemek İstiyor"], ["Bu Mac’teki tüm ağ etkinliği"], "İzin Ver", "İzin Verme"),
]  # fmt: skip


@pytest.mark.parametrize(("window", "language", "title", "body", "yes", "no"), WORDS)
def test_words_of_many_languages(window, language, title, body, yes, no) -> None:
    seen = consent(title, body, yes, no)
    assert (seen.window, seen.language, seen.app_name) == (window, language, "LuLu")
    assert seen.advice is not None, seen.why
    assert seen.advice.text == yes
    # The other way round the button is found just the same; without its partner it is not clicked.
    assert consent(title, body, no, yes).advice.text == yes
    assert consent(title, body, yes, yes).advice is None


@pytest.mark.parametrize(
    ("title", "body", "app"),
    [
        ("System Extension Blocked", ["A program tried to load new system", "extension(s) signed by “Example Inc”. If"], "Example Inc"),
        ("System Extension Blocked", ["“LuLu” tried to load new system", "extension(s). If you want to enable"], "LuLu"),
        ("System Extension Updated", ["A program has updated system extension(s)", "signed by “Example Inc”. To finish"], "Example Inc"),
    ],
)  # fmt: skip
def test_alerts_name_the_app_or_who_signed(title: str, body: list[str], app: str) -> None:
    seen = consent([title], body, "Open Security Preferences", "OK")
    assert seen.app_name == app
    assert seen.advice is not None, seen.why


@pytest.mark.parametrize(
    ("read", "wanted", "expected"),
    [
        ("Nao Permitir", "Não Permitir", True),
        ("Abrir Configuracion del Sistema", "Abrir Configuración del Sistema", True),
        ("エ一ジェント", "エージェント", True),
        ("Détails ...", "Détails…", True),
        ("Nicht erlauben", "Erlauben", False),
        ("不允许", "允许", False),
        ("許可しない", "許可", False),
        ("Non consentire", "Consenti", False),
        ("No permitir", "Permitir", False),
        ("Allaw", "Allow", False),
        ("İzin Verme", "İzin Ver", False),
        ("Nepovolit", "Povolit", False),
        ("Sta niet toe", "Sta toe", False),
    ],
)
def test_button_texts(read: str, wanted: str, expected: bool) -> None:
    assert alike(read, wanted) is expected


def test_what_is_clicked_never_reads_like_what_is_not() -> None:
    """Not within a language, and not across them: pages of all languages are tried on every picture."""
    catalog = default_catalog()
    clicked = {text for page in catalog.pages for spec in page.buttons if spec.advise for text in spec.texts}
    refused = {
        text
        for page in catalog.pages
        for spec in page.buttons
        if spec.role in ("ok", "deny", "cancel")
        for text in spec.texts
    }
    refused |= set(catalog.never)
    assert not [(one, other) for one in clicked for other in refused if alike(one, other) or alike(other, one)]


def test_titles_of_different_windows_are_not_taken_for_one_another() -> None:
    """However many wrong letters are let pass."""
    pages = [page for page in default_catalog().pages if page.layout == "dialog"]
    for page in pages:
        for phrase in page.titles:
            if "{*}" in phrase.text:
                continue
            text = phrase.text.replace("{app}", "Xy").replace("{kind}", "zz")
            (group,) = paragraphs([TextLine(text, Box(0, 0, 300, 20), 1.0)])
            mine = find(phrase, group)
            assert mine is not None
            for other in pages:
                if other.window != page.window and other.language == page.language:
                    assert all((match := find(each, group)) is None or match.mistakes > 0 for each in other.titles), (
                        text,
                        other.window,
                    )


WORDS_OF_OURS = st.sampled_from(
    [
        "System Extension Blocked",
        "{app} Would Like to Filter Network Content",
        "Click the lock to make changes",
        "来自{app}的系统软件已被阻止载入",
    ]
)


@given(WORDS_OF_OURS, st.text("abcdefghijk lmno“”.", max_size=30), st.integers(0, 200), st.sampled_from("xzw"))
def test_one_wrong_letter_in_a_long_text_is_forgiven(text: str, name: str, place: int, letter: str) -> None:
    phrase = Phrase(text)
    own = squash(text.replace("{app}", "qq" + name[:20] + "qq"))
    assert phrase.match(own) is not None
    longest = max(text.split("{app}"), key=lambda part: len(squash(part)))
    piece = squash(longest)
    at = own.index(piece) + place % len(piece)
    assert mistakes_allowed(piece) >= 1
    found = phrase.match(own[:at] + letter + own[at + 1 :])
    assert found is not None
    assert found.mistakes <= 1


@given(st.text("abc", max_size=40), st.text("abc", min_size=12, max_size=24))
def test_occurrences_are_what_they_say(text: str, piece: str) -> None:
    for start, end, wrong in occurrences(piece, text):
        assert 0 <= start <= end <= len(text)
        if not wrong:
            assert text[start:end] == piece
        else:
            assert wrong <= mistakes_allowed(piece)
            assert edits(piece, text[start:end]) == wrong


def edits(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for index, letter in enumerate(one, 1):
        before, row[0] = row[0], index
        for at, wanted in enumerate(other, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (letter != wanted))
    return row[-1]


@given(st.lists(st.text("{}*ap x“", max_size=12), min_size=1, max_size=4), st.text(max_size=120))
def test_phrases_of_any_kind_end(parts: list[str], text: str) -> None:
    try:
        phrase = Phrase(" {app} ".join(parts))
    except ValueError:
        return
    found = phrase.search(squash(text))
    if found is not None:
        assert 0 <= found.start <= found.end <= len(squash(text))
