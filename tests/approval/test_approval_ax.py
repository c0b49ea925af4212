"""The channel `ax`: what it asks of osascript, against the simulated desktop's own reading of AppleScript; and what it does with
answers that no honest Mac would give.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import events
from harness.approval import Approver, VncChannel, applescript
from harness.approval import ax as ax_module
from harness.approval import pressing as pressing_module
from harness.approval.ax import AxChannel, AxError, AxHung, AxNotAuthorised, AxNotTrusted, AxNoWindow
from harness.errors import HarnessError
from harness.guest.errors import CommandTimeout, Result
from harness.screen import Box, Button, Frame, Sighting, TextLine
from harness.simulator.display.gallery import APP, EXTENSIONS, VERSIONS, StillModel, _NoJournal, build_display
from harness.simulator.guest.applescript import ScriptError, World, run, spell
from harness.simulator.guest.applescript_syntax import SyntaxMistake
from harness.simulator.guest.commands.scripting import osascript
from harness.simulator.interfaces import Alert, AlertKind, AxElement, AxProcess, CommandIO, Stage
from harness.simulator.settings import SimSettings
from harness.simulator.variations import parse_variations
from harness.waiting import Deadline


class Journal(_NoJournal):
    def __init__(self) -> None:
        self.entries: list[dict] = []

    def write(self, what: str, **attributes: object) -> None:
        self.entries.append({"what": what, **attributes})

    def hits(self, what: str) -> list[object]:
        return [entry["hit"] for entry in self.entries if entry["what"] == what]


class Mac:
    """A simulated desktop, and the `osascript` that is told about it: a guest as far as the channel needs one."""

    def __init__(self, version: str = "15", variations: str = "accessibility=granted") -> None:
        self.settings = SimSettings(variations=parse_variations(variations))
        self.journal = Journal()
        self.desktop = build_display(
            macos=VERSIONS[version], size_points=(900, 640), scale=1, appearance="light", settings=self.settings, journal=self.journal
        )  # fmt: skip
        self.desktop.model = StillModel(APP)
        self.desktop.set_stage(Stage.DESKTOP)
        self.console = "admin"
        self.pressed: list[str] = []
        self.scripts: list[str] = []
        self.before_call = lambda number: None
        self.answer: Result | None = None
        self.limit = 5.0

    def show(self, kind: AlertKind = AlertKind.EXTENSION, app: str = APP) -> None:
        self.desktop.show(Alert(kind, app, on_button=self.pressed.append))

    # --- the guest

    def console_user(self, deadline=None) -> str:
        return self.console

    def run(self, argv, *, deadline=None, check=True, input=None):  # noqa: A002 - the guest's word
        assert argv[0] == "/usr/bin/osascript"
        assert not check
        self.scripts.append(input.decode("ascii"))
        self.before_call(len(self.scripts))
        if self.answer is not None:
            return self.answer

        async def body() -> Result:
            reader = asyncio.StreamReader()
            reader.feed_data(input)
            reader.feed_eof()
            out, err = bytearray(), bytearray()

            async def to_out(data: bytes) -> None:
                out.extend(data)

            async def to_err(data: bytes) -> None:
                err.extend(data)

            io = CommandIO(reader, to_out, to_err, "admin", "/", {})
            guest = SimpleNamespace(
                console_user="admin",
                settings=self.settings,
                sip=True,
                display=self.desktop,
                close_settings=self.desktop.quit_settings,
            )
            code = await asyncio.wait_for(
                osascript(guest, io, ["osascript", *argv[1:]]), min(self.limit, deadline.remaining)
            )
            return Result(tuple(argv), code, bytes(out), bytes(err), 0.0)

        try:
            return asyncio.run(body())
        except TimeoutError:
            raise CommandTimeout("osascript to end", seen="still running") from None

    def channel(self, lane: str = "instrumented", user: str = "admin") -> AxChannel:
        return AxChannel(self, lane=lane, generation=self.desktop.macos.generation, user=user)


FRAME = Frame(np.zeros((800, 1280, 3), np.uint8), 0, 0.0)
TITLE = Box(500, 100, 780, 150)


def seen(window: str, title: tuple[str, ...], buttons: dict[str, str], app: str | None = APP) -> Sighting:
    """What was read: a title of so many lines, and buttons by text."""
    lines = [TextLine(text, Box(510, 102 + 15 * index, 770, 114 + 15 * index), 0.9) for index, text in enumerate(title)]
    lines.append(TextLine("some body", Box(510, 200, 700, 214), 0.9))
    made = [
        Button(text, role, Box(520, 300 + 40 * i, 640, 320 + 40 * i)) for i, (text, role) in enumerate(buttons.items())
    ]
    return Sighting(
        window, FRAME, Box(500, 100, 780, 400), tuple(lines), app_name=app, buttons=tuple(made), title=TITLE
    )


ALERT = seen(
    "alert-new-extension",
    (f"“{APP}” would like", "to use a new network extension"),
    {"OK": "ok", "Open System Settings": "open-settings"},
)
CONSENT = seen(
    "ne-proxy-consent",
    (f"“{APP}” Would Like to Add", "Proxy Configurations"),
    {"Allow": "approve", "Don't Allow": "deny"},
)
PASSWORD = seen(
    "password-prompt",
    ("Privacy & Security is trying to", "modify your system settings."),
    {"Cancel": "cancel", "Modify Settings": "approve"},
    app=None,
)


def test_it_presses_the_button_of_the_alert_that_was_seen():
    mac = Mac()
    mac.show()
    mac.channel().press(ALERT, ALERT.button("open-settings"), Deadline(30))
    assert mac.journal.hits("ax-press") == ["alert/extension/Open System Settings"]
    assert mac.pressed == ["Open System Settings"]
    assert mac.desktop._settings is not None


def test_the_name_of_the_button_is_the_macs_own_though_it_was_read_otherwise():
    mac = Mac()
    mac.show(AlertKind.PROXY)
    mac.channel().press(CONSENT, CONSENT.button("deny"), Deadline(30))
    assert mac.pressed == ["Don’t Allow"]
    mac.show(AlertKind.PROXY)
    mac.channel().press(CONSENT, CONSENT.button("approve"), Deadline(30))
    assert mac.pressed == ["Don’t Allow", "Allow"]


@pytest.mark.parametrize(
    ("variations", "hit"),
    [
        ("", "password-sheet/Cancel"),
        (",password=security-agent", "security-agent/Cancel"),
        (",password=user-sheet", "password-sheet/Cancel"),
    ],
)
def test_password_windows_are_found_whosever_they_are(variations, hit):
    mac = Mac("14", "accessibility=granted" + variations)
    mac.desktop.open_settings(EXTENSIONS)
    mac.desktop._ask("Privacy & Security", lambda: None)
    mac.channel().press(PASSWORD, PASSWORD.button("cancel"), Deadline(30))
    assert mac.journal.hits("ax-press") == [hit]
    assert mac.desktop._sheet is None


def test_a_misread_letter_of_a_long_name_is_borne_and_of_a_short_one_not():
    mac = Mac("14")
    mac.desktop.open_settings(EXTENSIONS)
    mac.desktop._ask("Privacy & Security", lambda: None)
    mac.channel().press(PASSWORD, Button("Modify Setting:", "approve", Box(0, 0, 9, 9)), Deadline(30))
    assert mac.journal.hits("ax-press") == ["password-sheet/Modify Settings"]
    mac.show(AlertKind.PROXY)
    with pytest.raises(AxNoWindow):
        mac.channel().press(CONSENT, Button("Alow", "approve", Box(0, 0, 9, 9)), Deadline(30))
    assert mac.pressed == []


@pytest.mark.parametrize("where", ["other-on-top", "other-below", "other-beside"])
def test_another_apps_alert_is_never_pressed(where):
    mac = Mac(variations=f"accessibility=granted,alert={where}")
    mac.show()
    mac.channel().press(ALERT, ALERT.button("ok"), Deadline(30))
    assert mac.journal.hits("ax-press") == ["alert/extension/OK"]
    with pytest.raises(AxNoWindow, match="would like"):  # ours is gone, the other's is still there
        mac.channel().press(ALERT, ALERT.button("ok"), Deadline(30))
    assert len(mac.journal.hits("ax-press")) == 1


def test_an_app_whose_name_is_nearly_ours_is_another_app():
    mac = Mac()
    mac.show(AlertKind.PROXY, app=APP + "s")
    mac.show(AlertKind.PROXY, app=APP.replace("M", "N"))
    wanted = dataclasses.replace(CONSENT, app_name="Nitmproxy Redirectos")
    with pytest.raises(AxNoWindow):
        mac.channel().press(wanted, wanted.button("approve"), Deadline(30))
    assert mac.pressed == []


def test_two_windows_that_both_fit_are_one_too_many():
    mac = Mac()
    mac.show(AlertKind.PROXY)
    mac.show(AlertKind.PROXY)
    with pytest.raises(AxError, match="one button 'Allow'") as caught:
        mac.channel().press(CONSENT, CONSENT.button("approve"), Deadline(30))
    assert "window 1, window 2" in caught.value.seen
    assert mac.pressed == []


def test_a_window_that_comes_in_front_between_look_and_press_is_not_pressed():
    mac = Mac()
    mac.show(AlertKind.PROXY)
    mac.before_call = lambda number: mac.show(AlertKind.PROXY, app="Somebody Else") if number == 2 else None
    with pytest.raises(AxNoWindow, match="something else now") as caught:
        mac.channel().press(CONSENT, CONSENT.button("approve"), Deadline(30))
    assert caught.value.code == 1001
    assert mac.pressed == []
    # Looking again finds it behind the other.
    mac.channel().press(CONSENT, CONSENT.button("approve"), Deadline(30))
    assert mac.pressed == ["Allow"]


def test_a_window_that_goes_between_look_and_press_is_an_error_of_its_own():
    mac = Mac()
    mac.show()
    mac.before_call = lambda number: mac.desktop.dismiss(1) if number == 2 else None
    with pytest.raises(AxNoWindow) as caught:
        mac.channel().press(ALERT, ALERT.button("ok"), Deadline(30))
    assert caught.value.code == -1719
    assert "Invalid index" in caught.value.seen


def test_a_press_that_the_mac_ignores_is_not_called_an_error():
    mac = Mac(variations="accessibility=granted,ax=ignored")
    mac.show()
    mac.channel().press(ALERT, ALERT.button("ok"), Deadline(30))
    assert mac.journal.hits("ax-press") == ["alert/extension/OK"]
    assert mac.pressed == []


def test_without_the_right_it_says_so_and_is_not_tried_again():
    mac = Mac(variations="accessibility=refused")
    mac.show()
    channel = mac.channel()
    assert channel.available() == ""
    with pytest.raises(AxNotTrusted, match="assistive access") as caught:
        channel.press(ALERT, ALERT.button("ok"), Deadline(30))
    assert caught.value.code == -1719
    assert "AxNotTrusted" in channel.available()
    with pytest.raises(AxError, match="may be used"):
        channel.press(ALERT, ALERT.button("ok"), Deadline(30))
    assert len(mac.scripts) == 1


def test_a_question_that_nobody_answers_does_not_hold_us_longer_than_the_limit(monkeypatch):
    monkeypatch.setattr(ax_module, "LIMIT", 0.5)
    mac = Mac(variations="accessibility=unanswered")
    mac.show()
    channel = mac.channel()
    with pytest.raises(AxHung, match="System Events to answer"):
        channel.press(ALERT, ALERT.button("ok"), Deadline(60))
    assert "AxHung" in channel.available()
    assert mac.pressed == []


@pytest.mark.parametrize("lane", ["pristine", "managed"])
def test_in_other_lanes_the_guest_is_not_even_asked(lane):
    mac = Mac()
    mac.show()
    channel = mac.channel(lane)
    assert lane in channel.available()
    with pytest.raises(AxError):
        channel.press(ALERT, ALERT.button("ok"), Deadline(30))
    assert mac.scripts == []


def test_another_user_at_the_screen_is_said_so():
    mac = Mac()
    mac.console = "root"
    with pytest.raises(AxError, match="/dev/console is root's"):
        mac.channel().press(ALERT, ALERT.button("ok"), Deadline(30))
    assert mac.scripts == []


def test_switches_are_left_to_the_pointer():
    mac = Mac()
    sheet = seen("settings-extensions-sheet", ("Network Extensions",), {APP: "switch"})
    with pytest.raises(AxError, match="pointer"):
        mac.channel().press(sheet, sheet.buttons[0], Deadline(30))
    assert mac.scripts == []


def test_a_window_without_a_title_that_was_read_is_none_that_it_presses():
    mac = Mac()
    mac.show()
    with pytest.raises(AxNoWindow):
        mac.channel().press(dataclasses.replace(ALERT, title=None), ALERT.buttons[0], Deadline(30))
    assert mac.pressed == []


def answered(out: str, err: str = "", code: int = 0) -> Result:
    return Result(("osascript",), code, out.encode(), err.encode(), 0.0)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("0:95: execution error: osascript is not allowed assistive access. (-25211)", AxNotTrusted),
        ("execution error: System Events got an error: osascript is not allowed assistive access. (-1719)", AxNotTrusted),
        ("execution error: Not authorised to send Apple events to System Events. (-1743)", AxNotAuthorised),
        ("execution error: System Events got an error: AppleEvent timed out. (-1712)", AxHung),
        ("execution error: System Events got an error: Can’t get window 2. Invalid index. (-1719)", AxNoWindow),
        ("execution error: Can’t get process \"X\". (-1728)", AxNoWindow),
        ("execution error: Application isn’t running. (-600)", AxNoWindow),
        ("0:3: syntax error: Expected end of line. (-2741)", AxError),
        ("\x00\xff nonsense", AxError),
        ("", AxError),
    ],
)  # fmt: skip
def test_what_osascript_complains_of_has_a_name(said, kind):
    mac = Mac()
    mac.answer = answered("", said, 1)
    with pytest.raises(AxError) as caught:
        mac.channel().press(ALERT, ALERT.button("ok"), Deadline(30))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "out",
    ["{", "{{}}", '{"a", "b", "c", "d"}', "1", "{{{}}, {{}}, {}, {}", "{" * 5000, '{{{"x"}}, {{1, 2}}, {}, "y"}', "absent", '"absent',
     "{{}, {}, {}, {}} more", "{{" + "{}, " * 40 + "{}}, {" + "{}, " * 40 + "{}}, {}, {}}", "\udcff{}"],
)  # fmt: skip
def test_answers_that_are_none_are_errors_of_ours(out):
    mac = Mac()
    mac.answer = Result(("osascript",), 0, out.encode("utf-8", "surrogateescape"), b"", 0.0)
    with pytest.raises(HarnessError):
        mac.channel().press(ALERT, ALERT.button("ok"), Deadline(30))
    assert mac.pressed == []


def test_an_answer_without_end_is_not_read():
    with pytest.raises(HarnessError, match="sane size"):
        applescript.read('"' + "x" * 300_000 + '"')


# --- in the walk


def test_an_alert_that_ignores_the_pointer_is_pressed_through_the_accessibility_interface(
    displays, drawn, tmp_path, quick, monkeypatch
):
    """The pointer twice, then `ax`, and on to the end by the pointer; what was approved is told by the oracle."""
    monkeypatch.setattr(pressing_module, "EFFECT", 1.0)  # nothing comes of the first ones, however long one waits
    display = displays("15", variations="accessibility=granted,deaf=alert", model=Approvable(APP))
    guest = Mac.__new__(Mac)
    guest.settings = SimSettings(variations=parse_variations("accessibility=granted"))
    guest.desktop = AcrossThreads(display)
    guest.console, guest.scripts, guest.answer, guest.limit = "admin", [], None, 20.0
    guest.before_call = lambda number: monkeypatch.setattr(pressing_module, "EFFECT", 20.0)
    records: list[dict] = []
    log = events.EventLog()
    log.subscribe(records.append)
    with events.use(log), display.connect() as screen:
        approver = Approver(
            screen=screen,
            reader=drawn,
            app_name=APP,
            extension_kind="network",
            generation=15,
            password="admin",
            user="admin",
            oracle=lambda: (
                "activated_enabled" if display.desktop.model.rows[0].enabled else "activated_waiting_for_user"
            ),
            guest_open=lambda url: display.do(lambda: display.desktop.open_settings(url)),
            quit_settings=lambda: display.do(display.desktop.quit_settings),
            folder=tmp_path / "frames",
            channels=(VncChannel(screen), AxChannel(guest, lane="sip-off", generation=15, user="admin")),
        )
        screen.mark()
        display.do(lambda: display.desktop.show(Alert(AlertKind.EXTENSION, APP)))
        approval = approver.run(Deadline(120), Deadline(60))
    log.close()
    assert (approval.approvable, approval.route) == (True, "prompt")
    presses = [(step.window, step.channel) for step in approval.steps if step.what == "click"]
    assert presses[:3] == [("alert-new-extension", "vnc")] * 2 + [("alert-new-extension", "ax")]
    assert {channel for _, channel in presses[3:]} == {"vnc"}
    assert [entry["hit"] for entry in display.journal if entry["what"] == "ax-press"] == [
        "alert/extension/Open System Settings"
    ]
    assert any(record["name"] == "degraded" and "'ax'" in record["attributes"]["what"] for record in records)


class Approvable(StillModel):
    """Its rows are enabled when they are allowed."""

    def allow(self, identifier: str) -> None:
        self.rows = [dataclasses.replace(row, waiting=False, enabled=row.identifier == identifier) for row in self.rows]


class AcrossThreads:
    """The desktop lives in a thread of its own: what the accessibility interface shows and presses is done there."""

    def __init__(self, display) -> None:
        self._display = display
        self.macos = display.desktop.macos

    def quit_settings(self) -> None:
        self._display.do(self._display.desktop.quit_settings)

    def accessible(self):
        def across(element: AxElement) -> AxElement:
            inside = [across(child) for child in element.children]
            press = None if element.press is None else lambda: self._display.do(element.press)
            return dataclasses.replace(element, children=inside, press=press)

        found = self._display.do(self._display.desktop.accessible)
        return [
            AxProcess(process.name, [across(window) for window in process.windows], process.frontmost)
            for process in found
        ]


# --- texts in scripts

HOSTILE = [
    '"',
    "\\",
    '" & (do shell script "id") & "',
    "a\nb\r\tc",
    "“Ünïcødé” 日本 🙂",
    "",
    "¬",
    "(*",
    "-- x",
    "'s",
    "\x01",
]
PLAIN = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=30)


def evaluated(script: str) -> object:
    return asyncio.run(asyncio.wait_for(run(script, World(list, "granted", lambda name: False)), 20))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(text):
    assert evaluated(f"return {applescript.quote(text)}") == text


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_a_quoted_text_is_ascii_on_one_line_and_means_itself(text):
    quoted = applescript.quote(text)
    assert quoted.isascii()
    assert quoted.isprintable()
    assert evaluated(quoted) == text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | PLAIN,
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_what_is_printed_as_source_is_read_back(value):
    assert applescript.read(spell(value, source=True)) == value


@settings(max_examples=40, deadline=None)
@given(st.lists(PLAIN | st.none(), max_size=4))
def test_a_written_list_is_equal_to_itself_in_the_language(value):
    assert evaluated(f"return {applescript.write(value)} is equal to {applescript.write(list(value))}") is True
    assert evaluated(f"return {applescript.write(value)} is not equal to {applescript.write([*value, 'x'])}") is True


@settings(max_examples=80, deadline=None)
@given(st.text(alphabet='{}",\\ 0123456789.-E\nmissingvaluetrf', max_size=40))
def test_any_answer_is_read_or_refused(text):
    with contextlib.suppress(HarnessError):
        applescript.read(text)


@pytest.mark.parametrize("text", ["\x00", "a\ud800b"])
def test_texts_that_no_mac_can_have_are_refused(text):
    with pytest.raises(HarnessError, match="AppleScript"):
        applescript.quote(text)


# --- other people's ways to write the same

SCRIPTS = [
    'tell application "System Events" to tell process "UserNotificationCenter" to click button "OK" of window 1',
    'tell application "System Events"\n\ttell process "UserNotificationCenter"\n\t\tclick button "OK" of window 1\n\tend tell\nend tell',
    'tell app "System Events" to click button "OK" of window 1 of application process "UserNotificationCenter"',
    'tell application "System Events" to click (first button of window 1 of process "UserNotificationCenter" whose name is "ok")',
    'tell application "System Events" to tell process "UserNotificationCenter" to perform action "AXPress" of button "OK" of first window',
    """on run argv
        set wanted to item 1 of argv -- a name
        tell application "System Events" to tell process "UserNotificationCenter"
            repeat with w in windows
                if exists (button wanted of w) then
                    click button wanted of w
                    exit repeat
                end if
            end repeat
        end tell
    end run""",
    """tell application "System Events" to tell process "UserNotificationCenter"
        with timeout of 5 seconds
            try
                click button "Nonesuch" of window 1
            on error message number code
                if code is -1728 then click button "OK" of window 1
            end try
        end timeout
    end tell""",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_the_simulated_osascript_takes_the_usual_ways_to_press_a_button(script):
    pressed: list[str] = []
    window = AxElement("window", None, None, [AxElement("button", "OK", press=lambda: pressed.append("OK"))])
    world = World(lambda: [AxProcess("UserNotificationCenter", [window])], "granted", lambda name: False)
    asyncio.run(asyncio.wait_for(run(script, world, ["OK"]), 20))
    assert pressed == ["OK"]


@pytest.mark.parametrize(
    "script", ["repeat\nend repeat", "repeat 9999999 times\nget 1\nend repeat", "(" * 500, "tell " * 300]
)
def test_the_simulated_osascript_ends_scripts_that_would_not(script):
    with pytest.raises((ScriptError, SyntaxMistake)):
        evaluated(script)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["tell", "process", '"P"', "to", "click", "button", "1", "of", "window", "every", "name", "if", "then", "\n",
                                 "end", "(", "{", ",", "}", "whose", "is", "exists", "repeat", "try", "set", "x", "&", "return", "not"]), max_size=14))  # fmt: skip
def test_whatever_is_written_the_simulated_osascript_answers(words):
    with contextlib.suppress(ScriptError, SyntaxMistake):
        evaluated(" ".join(words))
