"""Other products that the app file names as companions: brought to the Mac first, and seen unharmed beside ours."""

from __future__ import annotations

import plistlib
import shutil
from pathlib import Path

import pytest

from harness.bundles.releases import fetch_release
from harness.config import load_app, load_settings
from harness.errors import SysextError, Verdict

from .conftest import APP, House, Order, Ran  # type: ignore[import-not-found]

NAME, IDENTIFIER = "Zebra Guard", "com.example.zebra"
QUICK = {
    "SYSEXT_TIMEOUTS__PROMPT": "20",
    "SYSEXT_EVIDENCE__SYSDIAGNOSE": "false",
    "SYSEXT_PREFLIGHT__ENABLED": "false",
    "SYSEXT_EVIDENCE__RECORDING": "false",
    "SYSEXT_SIMULATED__BOOT_SECONDS": "0.2",
    "SYSEXT_SIMULATED__LOGIN_SECONDS": "0.1",
    "SYSEXT_SIMULATED__ACTIVATION_SECONDS": "0.1",
}
COMPANION = f"""
name = "{NAME}"
bundle_id = "{IDENTIFIER}"
consents = ["approval"]
[extension]
id = "{IDENTIFIER}.extension"
kind = "transparent-proxy"
[[releases]]
version = "7"
source = "{{source}}"
[launch]
how = "open"
exits = false
"""


@pytest.fixture
def with_companion(tmp_path: Path) -> Path:
    """Our app file, naming a companion: the real app's bundle under other names, which behaves as any app does."""
    app = load_app(APP)
    try:
        real = fetch_release(app.release(), app, load_settings(environ={}).cache_dir)
    except SysextError as error:
        pytest.skip(f"the release cannot be fetched: {error}")
    copy = tmp_path / f"{NAME}.app"
    shutil.copytree(real.path, copy, symlinks=True)
    (inner,) = copy.glob("Contents/Library/SystemExtensions/*")
    inner = inner.rename(inner.with_name(f"{IDENTIFIER}.extension.systemextension"))
    for info, identifier in ((copy, IDENTIFIER), (inner, f"{IDENTIFIER}.extension")):
        path = info / "Contents" / "Info.plist"
        data = plistlib.loads(path.read_bytes())
        data |= {"CFBundleIdentifier": identifier, "CFBundleName": NAME, "CFBundleDisplayName": NAME}
        if "NetworkExtension" in data:
            data["NetworkExtension"]["NEMachServiceName"] = f"group.{identifier}"
        path.write_bytes(plistlib.dumps(data))
    (tmp_path / "zebra.toml").write_text(COMPANION.replace("{source}", str(copy)), encoding="utf-8")
    ours = APP.read_text(encoding="utf-8")
    file = tmp_path / "ours.toml"
    file.write_text('companions = ["zebra.toml"]\n' + ours, encoding="utf-8")
    return file


def test_a_companion_is_brought_first_and_left_unharmed(house: House, with_companion: Path) -> None:
    order = Order("test_found_among_others", ("--sysext-app", str(with_companion)), QUICK)
    ran: Ran = house.end(house.begin(order))
    (result,) = ran.results
    assert result.verdict is Verdict.PASSED, ran.output[-3000:]
    records = [record for record in ran.events() if record["type"] in ("event", "end")]
    (company,) = [record["attributes"]["others"] for record in records if record["name"] == "company"]
    assert f"{IDENTIFIER}.extension [activated_enabled]" in company
    installed = [
        (record["attributes"]["app"], record["attributes"]["release"])
        for record in records
        if record["name"] == "app build" and record["attributes"]["part"] == "extension"
    ]
    assert installed == [(NAME, "7"), ("Mitmproxy Redirector", "0.11.5")]
    (unharmed,) = [record["attributes"] for record in records if record["name"] == "others are unharmed"]
    assert unharmed["changed"] == []
    assert unharmed["others"] == len(company)
    prompts = [record["attributes"]["app_name"] for record in records if record["name"] == "expect prompt"]
    assert prompts == [NAME, "Mitmproxy Redirector"]
    assert (result.release, result.prompt_appeared, result.approvable) == ("0.11.5", True, True)
