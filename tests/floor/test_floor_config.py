from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from harness.config import GuestSettings, Settings, load_app, load_settings
from harness.errors import UsageError
from harness.events import SECRETS

APP = Path(__file__).resolve().parents[2] / "scenarios" / "apps" / "mitmproxy.toml"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_precedence_command_line_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = _write(tmp_path / "s.toml", 'provider = "simulated"\n[timeouts]\nboot = 1\nprompt = 1\nreboot = 1\n')
    environ = {"SYSEXT_TIMEOUTS__PROMPT": "2", "SYSEXT_TIMEOUTS__REBOOT": "2"}
    settings = load_settings(file, overrides={"timeouts.reboot": 3, "image": None}, environ=environ)
    assert settings.provider == "simulated"
    assert (settings.timeouts.boot, settings.timeouts.prompt, settings.timeouts.reboot) == (1, 2, 3)
    assert settings.timeouts.ssh == Settings().timeouts.ssh


def test_the_environment_can_set_a_number_of_a_choice(tmp_path: Path) -> None:
    file = _write(tmp_path / "s.toml", "")
    assert load_settings(file, environ={"SYSEXT_SIMULATED__SCALE": "2"}).simulated.scale == 2
    for wrong in ("3", "two", ""):
        with pytest.raises(UsageError, match=r"simulated\.scale"):
            load_settings(file, environ={"SYSEXT_SIMULATED__SCALE": wrong})


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("provder = 'tart'", "provider"),
        ("[timeouts]\nbot = 3", "boot"),
        ("[tart]\nmemory = 3", "memory_mb"),
        ("[simulated]\nfault = []", "faults"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, near: str) -> None:
    with pytest.raises(UsageError, match=near):
        load_settings(_write(tmp_path / "s.toml", text), environ={})


@pytest.mark.parametrize(
    "text",
    [
        "provider = 'vmware'",
        "[timeouts]\nboot = -1",
        "macos = ['11']",
        "[tart]\ndisplay = 'big'",
        "provider =",
        "[guest]\nssh_port = 99999",
    ],
)
def test_a_wrong_value_is_a_usage_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"s\.toml"):
        load_settings(_write(tmp_path / "s.toml", text), environ={})


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    _write(tmp_path / "sysext.toml", "")
    with pytest.raises(UsageError, match=r"sysext\.toml"):
        load_settings(tmp_path / "sysxt.toml", environ={})


def test_the_short_name_for_faults() -> None:
    settings = load_settings(environ={"SYSEXT_FAULT": "sysextd-crash:rate=0.2,env-ssh-drop"})
    assert settings.simulated.faults == ["sysextd-crash:rate=0.2", "env-ssh-drop"]


def test_an_unknown_environment_variable_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="SYSEXT_PROVDER"):
        load_settings(environ={"SYSEXT_PROVDER": "tart"})
    with pytest.raises(UsageError, match="SYSEXT_TIMEOUT__BOOT"):
        load_settings(environ={"SYSEXT_TIMEOUT__BOOT": "3"})


def test_a_password_is_hidden_everywhere(tmp_path: Path) -> None:
    settings = load_settings(_write(tmp_path / "s.toml", "[guest]\npassword = 'canary-word'"), environ={})
    assert "canary-word" not in repr(settings)
    assert settings.guest.password.get_secret_value() == "canary-word"
    with pytest.raises(UsageError) as caught:
        load_settings(_write(tmp_path / "s.toml", "[guest]\npassword = ['canary-word']"), environ={})
    assert "canary-word" not in str(caught.value)


def test_the_first_app_file_reads() -> None:
    app = load_app(APP)
    assert app.extension.id == "org.mitmproxy.macos-redirector.network-extension"
    assert app.release().version == "0.11.5"
    assert app.release("0.11.4").source == "pypi:mitmproxy_macos==0.11.4"
    with pytest.raises(UsageError, match=r"0\.11\.4"):
        app.release("0.11.44")


def test_app_files_are_checked(tmp_path: Path) -> None:
    text = APP.read_text(encoding="utf-8")
    for wrong, told in (
        (text.replace("bundle_id", "bundleid"), r"'bundleid'\n.*did you mean 'bundle_id'"),
        (text.replace('"transparent-proxy"', '"magic"'), "extension.kind"),
        (text.replace("0.11.4", "0.11.5"), "each release has its own version"),
        ("path = 'x'\n" + text, "'path'"),
    ):
        with pytest.raises(UsageError, match=told):
            load_app(_write(tmp_path / "a.toml", wrong))
    with pytest.raises(UsageError):
        load_app(tmp_path / "none.toml")


@given(st.text(max_size=300))
def test_any_text_is_settings_or_a_usage_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("s") / "s.toml"
    file.write_text(text, encoding="utf-8", errors="replace")
    try:
        load_settings(file, environ={})
    except UsageError as error:
        assert str(file) in str(error)


@pytest.mark.parametrize(("password", "masked"), [("nobody", "user nobody"), ("much-longer-word", "user ***")])
def test_a_password_that_is_the_users_name_is_no_secret_whoever_holds_it(password: str, masked: str) -> None:
    revealed = GuestSettings(user="nobody", password=SecretStr(password)).reveal()
    SECRETS.add(revealed)  # as the screen does with what it types
    assert SECRETS.mask(f"user {password}") == masked


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("folder", "Is a directory"),
        (b"\xff\xfe\x00junk", "can't decode"),
        (b"x = " + b"[" * 100_000, "recursion"),
        ("/dev/zero", "Invalid statement"),
        ("nowhere.toml", "no such file; here: .*other.toml"),
    ],
)
def test_what_is_no_settings_file(tmp_path: Path, what: str | bytes, words: str) -> None:
    path = tmp_path / (what if isinstance(what, str) else "file.toml")
    (tmp_path / "folder").mkdir()
    (tmp_path / "other.toml").touch()
    if isinstance(what, bytes):
        path.write_bytes(what)
    with pytest.raises(UsageError, match=words):
        load_settings(path, environ={})
