"""Where each macOS generation approves a system extension: Settings URLs, and the states that end a walk.

Sources: coder/coder-desktop-macos VPNMenu.swift (the extensions sheet, suffix `.extension-point` required);
mozilla-mobile/mozilla-vpn-client macosutils.mm (Privacy & Security).
"""

from __future__ import annotations

_POINTS = {"network": "network_extension", "driver": "driver_extension", "endpoint-security": "endpoint_security"}
ENABLED = frozenset({"activated_enabled", "activated_enabling"})
"""States in which nobody is asked for anything any more."""
DISABLED = frozenset({"activated_disabled"})
"""States in which it is switched off."""
REMOVED: frozenset[str | None] = frozenset({None})
"""What is left of one that was removed: no entry that counts."""
ENDS: dict[str, frozenset[str | None]] = {"on": frozenset(ENABLED), "off": frozenset(DISABLED), "removed": REMOVED}
"""What may be wanted of an extension in Settings → the states in which it is so."""
ENDING = {"off": ("terminating_for_disable",), "removed": ("terminating_for_uninstall",)}
"""How the states on the way there begin, in which there is nothing to press."""
SWITCHES = 15
"""The first macOS generation whose Settings has a switch for each extension, and can remove one (Apple, `SystemExtensions`:
`NonRemovableFromUISystemExtensions`, macOS 15): before it there is only "Allow"."""
PROMPTS = ("alert-new-extension", "alert-blocked", "alert-updated")
"""Window classes of the first prompt; the older ones are accepted on all versions (vendors still picture them on 15)."""


def settings_url(generation: int, kind: str) -> str:
    """The URL that opens Settings where an extension of a kind is approved."""
    if generation >= 15:
        point = _POINTS.get(kind.replace(" ", "-"), "network_extension")
        return (
            "x-apple.systempreferences:com.apple.ExtensionsPreferences?extensionPointIdentifier="
            f"com.apple.system_extension.{point}.extension-point"
        )
    # Until macOS 12 the pane has tabs, and "General" is the one with the blocked software; from 13 on it is a page with parts.
    return f"x-apple.systempreferences:com.apple.preference.security?{'Security' if generation >= 13 else 'General'}"
