"""What a walk leaves behind: its steps, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One thing that was done: "click", "type", "scroll", "open", "move".

    Attributes:
        window: Class of the window it was done to; "" for none.
        at: Pixel, where there is one.
        channel: By which way: "vnc", "ax"; "guest" for what the guest was told to do.
    """

    what: str
    window: str
    target: str
    at: tuple[int, int] | None = None
    channel: str = "vnc"


@dataclass(frozen=True)
class Approval:
    """How a walk ended.

    Attributes:
        approvable: The oracle said enabled. None only from `run` where nothing was tried.
        route: "prompt" or "url": how Settings was entered.
        why: In words.
        prompt_appeared: Known from `run`; None where it was not asked.
        frames: Pictures of the key steps.
    """

    approvable: bool | None
    route: str
    why: str
    steps: tuple[Step, ...] = ()
    frames: tuple[Path, ...] = ()
    prompt_appeared: bool | None = None
