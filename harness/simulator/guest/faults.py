"""The faults that the simulated macOS itself can have, by cause code, and what each does."""

from __future__ import annotations

from harness.simulator.guest.replacing import REPLACEMENT_FAULTS

GUEST_FAULTS: dict[str, str] = {
    "approval-prompt-missing": "The first request waits for the user, and nothing ever shows a dialog; Settings can approve it.",
    "approval-coalesced-no-prompt": "An earlier request's dialog was lost, so the request under test is joined to it and shows none.",
    "invisible-prompt-until-reboot": "The system logs a dialog that is not on screen; further requests show none until a reboot.",
    "sysextd-crash": "sysextd dies in the middle of each request and leaves a crash report.",
    "staging-removal-immutable": "A leftover staged copy cannot be removed, so staging never ends.",
    **REPLACEMENT_FAULTS,
    "no-policy-outside-applications": "The request is refused with code 4 and the 'outside /Applications' line, wherever the app is.",
    "extension-not-found": "The request is refused with code 4: no such extension in the app's bundle.",
    "category-validation-failed": "The category's delegate rejects the staged extension (code 9).",
    "extension-crash": "The extension crashes soon after each start; crash reports pile up.",
    "extension-not-running": "The extension is enabled, and its process is never started.",
    "killed-at-exec": "The kernel kills the extension at exec; launchd tries again and again.",
    "ne-provider-start-timeout": "The provider runs and never finishes starting; the session gives up.",
    "ne-preferences-save-failed": "Saving the network configuration fails.",
    "env-sysdiagnose-hangs": "sysdiagnose never ends.",
    "disable-stuck-still-running": "Switching the extension off never ends.",
    "forbidden-by-policy": "A policy forbids the extension: the request is refused with code 10.",
    "code-signature-invalid": "sysextd finds the bundle's signature invalid (code 8).",
    "extension-category-unrecognised": "No category claims the extension (code 7).",
    "mach-service-name-invalid": "The extension's mach service name is not within its app groups (code 9).",
    "host-component-crash": "The app crashes while its request waits for the user; the request goes on without it.",
    "es-no-full-disk-access": "The extension is an Endpoint Security client without Full Disk Access: it gets none and ends, again and again.",
    "proxy-dead-after-wake": "After a sleep the sessions run on, and their providers are handed no flow until they start anew (flows=held: each hangs).",
    "mdmclient-not-running-with-dns-proxy": "On an enrolled Mac with an active DNS proxy mdmclient's daemon is not started again, until a reboot.",
    "network-extension-count-limit": "No network extension starts beside most=5 that run.",
    "app-group-profile-mismatch": "trustd complains about the app group over and over; everything works all the same.",
}
"""Cause code to one line for a person. The environment's own faults (`env-…`) belong to the machine, not to the guest;
of those the guest honours `env-hung-boot`: it never finishes booting.
"""
