"""Drawn windows in many words, themes and scales are read for what they are; what only looks like them is never clicked."""

from __future__ import annotations

import numpy as np
import pytest

from harness.screen import Frame, RapidReader, Sighting, recognise
from tests.support import screen_drawing as drawing

BLOCKED = (
    "System Extension Blocked",
    "The application “LuLu” tried to load new system extension(s). If you want to enable them, open Privacy & Security.",
)
OLD = ("System Extension Blocked", "The application “LuLu” tried to load new system extension(s).")
FILTER = (
    "“LuLu” Would Like to Filter Network Content",
    "All network activity on this Mac may be filtered or monitored.",
)
PROXY = ("“LuLu” Would Like to Add Proxy Configurations", FILTER[1])

ALERTS = [
    # window, language, title, body, buttons from the top or the right, the one to be clicked, how it looks
    ("alert-blocked", "en", *BLOCKED, ["OK", "Open System Settings"], {"dark": True, "scale": 2.0}),
    ("alert-blocked", "en", *OLD, ["OK", "Open Security Preferences"], {"wide": True, "scale": 2.0}),
    ("alert-blocked", "de", "Systemerweiterung blockiert", "Das Programm „LuLu“ hat versucht, neue Systemerweiterungen zu laden.",
     ["OK", "Systemeinstellungen öffnen"], {}),
    ("alert-blocked", "es", "Extensión de sistema bloqueada", "La app “LuLu” intentó cargar nuevas extensiones del sistema.",
     ["OK", "Abrir Configuración del Sistema"], {"dark": True, "scale": 1.5}),
    ("alert-blocked", "fr", "Extension système bloquée", "L’application « LuLu » a tenté de charger de nouvelles extensions système.",
     ["OK", "Ouvrir Réglages Système"], {"which": 1}),
    ("alert-new-extension", "en", "“LuLu” would like to use a new network extension",
     "You can enable this extension in Login Items & Extensions. Network extensions run in the background.",
     ["OK", "Open System Settings"], {"left": True, "dark": True}),
    ("alert-new-extension", "it", "“LuLu” vorrebbe utilizzare una nuova estensione di rete",
     "Puoi abilitare questa estensione in Elementi login ed estensioni.", ["OK", "Apri Impostazioni di Sistema"], {"scale": 2.0}),
    ("ne-filter-consent", "en", *FILTER, ["Allow", "Don’t Allow"], {"stacked": False, "default": 1, "scale": 2.0}),
    ("ne-filter-consent", "es", "“LuLu” quiere filtrar contenido de red",
     "Toda la actividad de red de esta Mac puede ser filtrada o monitoreada.", ["Permitir", "No permitir"], {"default": 1}),
    ("ne-proxy-consent", "pt", "“LuLu” Deseja Adicionar Configurações de Proxy",
     "Toda a atividade de rede neste Mac pode ser filtrada ou monitorada.", ["Permitir", "Não Permitir"], {"default": 1, "dark": True}),
    ("ne-vpn-consent", "de", "„LuLu“ möchte VPN-Konfigurationen hinzufügen",
     "Alle Netzwerkaktivitäten auf diesem Mac können gefiltert oder überwacht werden.", ["Erlauben", "Nicht erlauben"], {"default": 1}),
]  # fmt: skip


def read(picture: object, reader: RapidReader, **wanted: str) -> Sighting:
    return recognise(picture.frame(), reader, **wanted)


@pytest.mark.parametrize(("window", "language", "title", "body", "buttons", "looks"), ALERTS)
def test_alerts(window, language, title, body, buttons, looks, reader: RapidReader) -> None:
    picture = drawing.alert(title, body, buttons, **looks)
    seen = read(picture, reader)
    assert (seen.window, seen.language) == (window, language)
    assert seen.app_name == "LuLu"
    consent = window.startswith("ne-")
    target = picture.boxes[buttons[0] if consent else buttons[1]]
    assert seen.advice is not None, seen.why
    x, y = seen.advice.centre
    assert target.x0 < x < target.x1
    assert target.y0 < y < target.y1
    assert [button.role for button in seen.buttons if button.default] == ["deny" if consent else "ok"]
    assert seen.appearance == ("dark" if looks.get("dark") else "light")
    assert seen.scale == (None if looks.get("scale") == 1.5 else looks.get("scale", 1.0)) or looks.get("scale") == 1.5


LOOKALIKES = {
    "camera": ("“LuLu” would like to access the camera.", "This lets you take pictures.", ["Don’t Allow", "OK"]),
    "keystrokes": ("“LuLu” would like to receive keystrokes from any application.", "Grant access to this application.",
                   ["Open System Settings", "Deny"]),
    "automation": ("“LuLu” wants access to control “System Events”.", "Allowing control will provide access.", ["Don’t Allow", "Allow"]),
    "local network": ("Allow “LuLu” to find devices on local networks?", "This will allow the app to discover devices.",
                      ["Allow", "Don’t Allow"]),
    "gatekeeper": ("“LuLu” is an app downloaded from the Internet. Are you sure you want to open it?", "Safari downloaded it.",
                   ["Open", "Cancel"]),
    "keychain": ("“LuLu” wants to use your confidential information", "To allow this, enter the password.",
                 ["Always Allow", "Deny", "Allow"]),
    "notifications": ("“LuLu” Would Like to Send You Notifications", "Notifications may include alerts.", ["Allow", "Don’t Allow"]),
    "malware": ("“LuLu” was blocked to protect your Mac.", "Apple could not verify it.", ["Done", "Move to Trash"]),
    "Spanish camera": ("“LuLu” quiere acceder a la cámara.", "Podrás tomar fotos.", ["Permitir", "No permitir"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOKALIKES)
def test_consents_that_are_not_ours(name: str, reader: RapidReader) -> None:
    title, body, buttons = LOOKALIKES[name]
    seen = read(drawing.alert(title, body, buttons), reader)
    assert seen.advice is None
    assert seen.window == "other-alert"


def test_an_alert_stands_on_a_desktop_but_not_in_a_document(reader: RapidReader) -> None:
    picture = drawing.alert(*FILTER, ["Allow", "Don’t Allow"], default=1, stacked=False)
    real = read(drawing.on_desktop(picture), reader)
    assert real.window == "ne-filter-consent"
    assert real.advice is not None
    page = drawing.in_document(
        picture, "When LuLu starts, macOS asks once.", "Press Allow, then go on with the next step."
    )
    seen = read(page, reader)
    assert seen.advice is None
    assert "document" in seen.why


def test_words_without_buttons_are_not_clicked(reader: RapidReader) -> None:
    """A web page, a terminal."""
    for stacked in (False, True):
        seen = read(drawing.alert(*FILTER, ["Allow", "Don’t Allow"], default=-1, stacked=stacked, flat=True), reader)
        assert seen.advice is None
    sentence = 'System software from application "LuLu" was blocked from loading.'
    assert read(drawing.blocked(sentence, "Allow", flat=True), reader).advice is None


def test_a_lonely_allow_is_not_clicked(reader: RapidReader) -> None:
    for buttons in (["Allow"], ["Allow", "Cancel"], ["Don’t Allow"]):
        assert read(drawing.alert(*PROXY, buttons, default=-1), reader).advice is None


def test_a_greyed_button_is_told_and_not_clicked(reader: RapidReader) -> None:
    seen = read(drawing.alert(*FILTER, ["Don’t Allow", "Allow"], default=0, enabled=False, scale=2.0), reader)
    approve = seen.button("approve")
    assert approve is not None
    assert not approve.enabled
    assert seen.advice is None


SENTENCES = [
    ('System software from application "LuLu" was blocked from loading.', "Allow", "en", {"dark": True, "scale": 2.0}),
    ("Das Laden der Systemsoftware des Entwicklers „LuLu“ wurde blockiert.", "Erlauben", "de", {}),
    ("Se ha bloqueado la carga de software del sistema del desarrollador “LuLu”.", "Permitir", "es", {"scale": 2.0}),
    ("Le chargement de logiciel système du développeur « LuLu » a été bloqué.", "Autoriser", "fr", {"which": 1}),
]


@pytest.mark.parametrize(("sentence", "allow", "language", "looks"), SENTENCES)
def test_what_was_blocked_from_loading(sentence, allow, language, looks, reader: RapidReader) -> None:
    picture = drawing.blocked(sentence, allow, **looks)
    seen = read(picture, reader, app_name="LuLu")
    assert (seen.window, seen.language, seen.app_name) == ("settings-privacy-security", language, "LuLu")
    assert seen.advice is not None, seen.why
    assert picture.boxes[allow].overlaps(seen.advice.box)
    assert read(picture, reader, app_name="Other App").advice is None


def test_the_lock_comes_first(reader: RapidReader) -> None:
    sentence = 'System software from application "LuLu" was blocked from loading.'
    closed = drawing.blocked(
        sentence, "Allow", heading="Security & Privacy", lock="Click the lock to make changes.", enabled=False
    )
    seen = read(closed, reader)
    assert seen.window == "prefs-security-privacy"
    assert seen.advice is not None
    assert seen.advice.role == "lock"
    assert closed.boxes["lock"].overlaps(seen.advice.box)
    cut = read(
        drawing.blocked(sentence, "Allow", heading="Security & Privacy"), reader
    )  # the picture ends above the lock
    assert cut.window == "prefs-security-privacy"
    assert cut.advice is not None
    assert cut.advice.role == "approve"


SHEETS = [
    (
        "Network Extensions",
        "Network extensions extend core networking features on your Mac.",
        "Extension",
        "Done",
        "en",
    ),
    ("Extensiones de red", "Estas extensiones se ejecutan en segundo plano.", "Extensión", "Listo", "es"),
    (
        "Treibererweiterungen",
        "Diese erweitern, was der Rechner kann.",
        "Erweiterung",
        "Fertig",
        "de",
    ),  # other words: by its switches
]


@pytest.mark.parametrize(("heading", "body", "kind", "done", "language"), SHEETS)
def test_sheets_with_switches(heading, body, kind, done, language, reader: RapidReader) -> None:
    picture = drawing.sheet(
        heading, body, [("LuLu", False), ("Other App", True)], kind, done, dark=language == "es", scale=2.0
    )
    seen = read(picture, reader, app_name="LuLu")
    assert (seen.window, seen.language) == ("settings-extensions-sheet", language)
    assert seen.advice is not None, seen.why
    assert picture.boxes["LuLu"].overlaps(seen.advice.box)
    assert seen.advice.state == "off"
    assert read(picture, reader, app_name="Other App").advice is None  # it is on
    assert read(picture, reader).advice is None  # two rows, and none was asked for


def test_pages_with_rows(reader: RapidReader) -> None:
    picture = drawing.login_items("Anmeldeobjekte & Erweiterungen", "Im Hintergrund erlauben", "Erweiterungen",
                                  ["Treibererweiterungen", "Netzwerkerweiterungen"], scale=2.0)  # fmt: skip
    seen = read(picture, reader)
    assert (seen.window, seen.language) == ("settings-login-items-extensions", "de")
    assert seen.advice is None
    network = recognise(picture.frame(), reader, extension_kind="network")
    assert network.advice is not None
    assert picture.boxes["Netzwerkerweiterungen"].overlaps(network.advice.box)


def test_a_language_that_is_not_known_is_not_guessed(reader: RapidReader) -> None:
    seen = read(
        drawing.alert(
            "Rendszerbővítmény letiltva", "“LuLu” bővítményt akart betölteni.", ["OK", "Rendszerbeállítások megnyitása"]
        ),
        reader,
    )
    assert seen.advice is None
    assert seen.window == "other-alert"


def test_marks_drawn_over_a_window(reader: RapidReader) -> None:
    """An arrow across the sentence, a red frame around the button: as people explain what to click."""
    picture = drawing.blocked('System software from application "LuLu" was blocked from loading.', "Allow", scale=2.0)
    picture.pen.line([(500, 40), (540, 150)], fill=(255, 30, 0), width=8)
    picture.rectangle((440, 60, 545, 125), None, outline=(255, 30, 0), radius=8)
    seen = read(picture, reader)
    assert seen.window == "settings-privacy-security"
    assert seen.advice is not None, seen.why
    assert picture.boxes["Allow"].overlaps(seen.advice.box)


def test_noise_is_nothing(reader: RapidReader) -> None:
    pixels = np.random.default_rng(5).integers(0, 255, (200, 300, 3), np.uint8)
    seen = recognise(Frame(pixels, 0, 0.0), reader)
    assert seen.window == "other"
    assert seen.advice is None
