"""Apps that a fault needs and the published one is not: its bundle with another kind of provider, and an app file for it. Tests
make theirs here, too.
"""

from __future__ import annotations

import plistlib
import shutil
from pathlib import Path

from benchmarks.common import APP
from harness.bundles.releases import fetch_release
from harness.config import load_app, load_settings

_BEHAVIOUR = """
bundle = "org.mitmproxy.macos-redirector"
[launch]
argument_prefix = "/tmp/"
refusal = "no"
[activation]
conflict = "replace"
[configuration]
kind = "dns-proxy"
name = "mitmproxy"
start = true
[end]
stays = false
"""
_APP_FILE = """
name = "Mitmproxy Redirector"
bundle_id = "org.mitmproxy.macos-redirector"
team = "S8XHQB96PW"
consents = ["approval", "proxy-configuration"]
configuration = "mitmproxy"
[extension]
id = "org.mitmproxy.macos-redirector.network-extension"
kind = "dns-proxy"
[[releases]]
version = "1"
source = "Mitmproxy Redirector.app"
[launch]
how = "exec"
arguments = ["/tmp/mitmproxy-{pid}"]
exits = true
"""
BEHAVIOURS = "behaviours"
"""The folder beside the app file for `SYSEXT_SIM_BEHAVIOURS`."""


def dns_proxy(folder: Path) -> Path:
    """The published app as one whose provider is a DNS proxy; returns its app file. Its signature is broken, so no preflight.

    Raises:
        SysextError: The release cannot be fetched.
    """
    app = load_app(APP)
    real = fetch_release(app.release(), app, load_settings(environ={}).cache_dir)
    copy = folder / real.path.name
    shutil.copytree(real.path, copy, symlinks=True)
    (info,) = copy.glob("Contents/Library/SystemExtensions/*/Contents/Info.plist")
    data = plistlib.loads(info.read_bytes())
    (provider, *_) = data["NetworkExtension"]["NEProviderClasses"].values()
    data["NetworkExtension"]["NEProviderClasses"] = {"com.apple.networkextension.dns-proxy": provider}
    info.write_bytes(plistlib.dumps(data))
    file = folder / "dns.toml"
    file.write_text(_APP_FILE, encoding="utf-8")
    (folder / BEHAVIOURS).mkdir()
    (folder / BEHAVIOURS / "dns.toml").write_text(_BEHAVIOUR, encoding="utf-8")
    return file
