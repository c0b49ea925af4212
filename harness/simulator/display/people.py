"""What the desktop asks of a guest that knows accounts. A model that is only a list (tests, benchmarks) knows none: then the one
user is an administrator, and nothing sleeps.
"""

from __future__ import annotations

from harness.simulator.interfaces import GuestModel

_USER = "admin"


def at_console(model: GuestModel | None) -> tuple[str, bool]:
    """Who is at the console, and whether that is an administrator."""
    ask = getattr(model, "console", None)
    found: tuple[str, bool] = ask() if ask is not None else (_USER, True)
    return found


def may(model: GuestModel, name: str, password: str) -> bool:
    """Whether that name and password are an administrator's."""
    ask = getattr(model, "authenticate", None)
    return bool(ask(name, password)) if ask is not None else name == _USER and model.check_password(password)


def refused(model: GuestModel, pane: str) -> None:
    """Somebody who is no administrator pressed Cancel where one was asked for."""
    tell = getattr(model, "refused", None)
    if tell is not None:
        tell(pane)


def told(model: GuestModel | None, kind: str) -> bool:
    """Tell the guest that keyboard or mouse were touched; whether it takes care of what that wakes."""
    tell = getattr(model, "user_activity", None)
    return bool(tell(kind)) if tell is not None else False


def unlocked(model: GuestModel | None) -> bool:
    """Tell the guest that the right password was given; whether it takes care of the rest."""
    tell = getattr(model, "unlocked", None)
    if tell is not None:
        tell()
    return tell is not None
