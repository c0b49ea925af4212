"""The states a system extension can be in, as sysextd writes them: db.plist and its log with underscores,
`systemextensionsctl list` with blanks. Both are read into one spelling, underscores.
"""

from __future__ import annotations

import enum
import re


class ExtensionState(enum.StrEnum):
    """Known states. Seen in posted outputs unless noted; an unknown one stays text, for macOS may add some."""

    ENABLED = "activated_enabled"
    """Approved and allowed to run. Not proof that its process runs."""
    WAITING_FOR_USER = "activated_waiting_for_user"
    """Approval pending. A repeated request raises no new prompt."""
    DISABLED = "activated_disabled"
    ENABLING = "activated_enabling"
    WAITING_TO_UPGRADE = "activated_waiting_to_upgrade"
    WAITING_TO_UPGRADE_ON_REBOOT = "activated_waiting_to_upgrade_on_reboot"  # by name only
    REALIZING = "realizing"
    STAGING = "staging"
    VALIDATING = "validating"
    VALIDATING_BY_CATEGORY = "validating_by_category"
    TERMINATING_FOR_UNINSTALL = "terminating_for_uninstall"
    TERMINATING_FOR_UNINSTALL_RUNNING = "terminating_for_uninstall_but_still_running"
    TERMINATING_FOR_UNINSTALL_VIA_DELEGATE = "terminating_for_uninstall_via_delegate"
    TERMINATING_FOR_UPGRADE = "terminating_for_upgrade"  # by name only
    TERMINATING_FOR_UPGRADE_VIA_DELEGATE = "terminating_for_upgrade_via_delegate"
    TERMINATING_FOR_DISABLE = "terminating_for_disable"
    TERMINATING_FOR_DISABLE_RUNNING = "terminating_for_disable_but_still_running"
    UNINSTALL_ON_REBOOT = "terminated_waiting_to_uninstall_on_reboot"
    """Gone after a reboot; a harmless leftover next to a healthy entry."""
    UNINSTALLING = "uninstalling"
    UNINSTALLED = "uninstalled"


_KNOWN = frozenset(str(state) for state in ExtensionState)
# The manual page's own spelling of a state that macOS prints otherwise.
_ALIASES = {"terminated_waiting_for_uninstall_on_reboot": ExtensionState.UNINSTALL_ON_REBOOT.value}


def normalise_state(text: str) -> str:
    """One spelling of a state: lower case, underscores. "activated waiting for user" → "activated_waiting_for_user"."""
    state = re.sub(r"[\s_]+", "_", text.strip().strip("[]").strip()).lower()
    return _ALIASES.get(state, state)


def is_known_state(state: str) -> bool:
    """True for a (normalised) state of `ExtensionState`."""
    return state in _KNOWN


def is_leftover(state: str) -> bool:
    """True when the entry is on its way out: it says nothing about whether the extension works."""
    return state.startswith(("terminat", "uninstall"))
