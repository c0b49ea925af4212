"""`Guest`: everything we do inside one Mac."""

from __future__ import annotations

from harness.guest.system import MacSystem


class Guest(MacSystem):
    """One Mac, reached through SSH: commands (`shell.py`), files (`files.py`), folders (`trees.py`), the system (`system.py`).

    Attributes:
        log_command: macOS's log(1), by its path: zsh has a builtin of that name.
    """

    log_command = "/usr/bin/log"
