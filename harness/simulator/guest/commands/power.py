"""pmset and caffeinate: sleep, what wakes it, and the power log."""

from __future__ import annotations

import asyncio
import re

from harness.simulator.guest.commands.arguments import EX_NOPERM, EX_USAGE, complain, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.interfaces import CommandIO

_SETTINGS = (
    "System-wide power settings:\nCurrently in use:\n standby              0\n Sleep On Power Button 1\n autorestart          0\n"
    " powernap             0\n networkoversleep     0\n disksleep            0\n sleep                0\n ttyskeepawake        1\n"
    " displaysleep         0\n tcpkeepalive         1\n womp                 0"
)
_USAGE = "Usage: pmset <options>\nSee pmset(1) for details: 'man pmset'"


async def pmset(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`pmset -g [custom|log|assertions|sched]`, `sleepnow`, `displaysleepnow` (anybody), `relative wake SECONDS` and settings (root:
    the settings are taken and change nothing here).
    """
    words = argv[1:]
    if words[:1] == ["-g"]:
        return await _get(guest, io, words[1] if len(words) > 1 else "")
    if words == ["sleepnow"]:
        await say(io, "Sleeping now...")
        guest.spawn(_soon(guest))
        return 0
    if words == ["displaysleepnow"]:
        guest.sleep.display_sleep()
        return 0
    if not words:
        await complain(io, _USAGE)
        return EX_USAGE
    if not io.root:
        await complain(io, f"'{argv[0]}' must be run as root...")
        return EX_NOPERM
    if words[0] == "relative":
        if len(words) != 3 or words[1] not in ("wake", "poweron") or not re.fullmatch(r"\d{1,7}", words[2]):
            await complain(io, _USAGE)
            return EX_USAGE
        if words[1] == "wake":
            guest.sleep.wake_after(float(words[2]))
    return 0


async def _soon(guest: MacGuest) -> None:
    """The command has answered by then."""
    await asyncio.sleep(0.1)
    pid = guest.daemon("powerd").pid
    await guest.sleep.system_sleep(f"Software Sleep pid={pid}")


async def _get(guest: MacGuest, io: CommandIO, what: str) -> int:
    if what in ("", "live", "custom", "cap"):
        await say(io, _SETTINGS)
        return 0
    if what == "assertions":
        await say(io, f"{guest.clock.now():%Y-%m-%d %H:%M:%S %z} \nAssertion status system-wide:\n   BackgroundTask                 0\n"
                      f"   UserIsActive                   {int(not guest.sleep.display_off)}\n   PreventUserIdleDisplaySleep    0\n   PreventUserIdleSystemSleep     0\n"
                      "No kernel assertions.\nIdle sleep preventers: IODisplayWrangler")  # fmt: skip
        return 0
    if what == "log":
        uuid = guest.clock.boot_uuid
        await say(io, f"PM ASL logs for Boot UUID {uuid}\nTime stamp                Domain              \tMessage{' ' * 68}\tDuration  \tDelay     \n"
                      "==========                ======              \t======= ")  # fmt: skip
        for line in guest.sleep.history():
            await say(io, line)
        await say(
            io, f"\nTotal Sleep/Wakes since boot at {guest.clock.boot_time:%Y-%m-%d %H:%M:%S %z} :{guest.sleep.sleeps}"
        )
        return 0
    if what in ("sched", "batt", "ps", "therm", "everything", "stats"):
        if what in ("batt", "ps"):
            await say(io, "Now drawing from 'AC Power'")
        elif what == "stats":
            await say(io, f"Sleep Count:{guest.sleep.sleeps}\nDark Wake Count:0\nUser Wake Count:{guest.sleep.sleeps}")
        return 0
    await complain(io, _USAGE)
    return EX_USAGE


async def caffeinate(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`caffeinate [-dimsu] [-t SECONDS] [-w PID] [command …]`; `-u` turns the display on, and counts five seconds without `-t`."""
    words = argv[1:]
    seconds: float | None = None
    active = False
    while words and words[0].startswith("-"):
        word = words.pop(0)
        active = active or "u" in word
        if "t" in word and words:
            seconds = float(words.pop(0)) if re.fullmatch(r"\d{1,9}", words[0]) else 0.0
        elif "w" in word and words:
            words.pop(0)
    if active:
        guest.sleep.declare_activity("caffeinate")
        if seconds is None and not words:
            seconds = 5.0
    if words:
        return await guest.execute(words, io)
    if seconds is None:
        await asyncio.Event().wait()
    await asyncio.sleep(seconds or 0)
    return 0
