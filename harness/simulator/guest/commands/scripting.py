"""`osascript`: scripts for System Events, run against what is on the simulated screen; and the quitting of System Settings.

Everything else is refused as on a Mac where nobody granted it. Who may tell System Events is the image's affair: images with SIP
off carry the rows (cirruslabs' base images do), others do not; the variation `accessibility` says otherwise. Whoever may not
is told so (-1719), or, where the question was raised and nobody answers it, waits for ever.
"""

from __future__ import annotations

from harness.simulator.guest.applescript import ScriptError, World, run, spell
from harness.simulator.guest.applescript_syntax import SyntaxMistake
from harness.simulator.guest.commands.arguments import EX_USAGE, complain, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.guest.sessions import NOBODY
from harness.simulator.interfaces import CommandIO

SETTINGS_NAMES = ("System Settings", "System Preferences", "com.apple.systempreferences")
_LONGEST = 1 << 20


async def osascript(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`osascript [-l LANGUAGE] [-s FLAGS] [-e LINE]… | FILE | - [ARGUMENT…]`; without any, the script is standard input."""
    lines: list[str] = []
    flags = language = ""
    words = argv[1:]
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word not in ("-e", "-s", "-l") or not words:
            await complain(
                io, "usage: osascript [-l language] [-i] [-s {ehso}] [programfile] [argument ...]\n       osascript [-l language] [-e script] [-i] [-s {ehso}] [argument ...]"
            )  # fmt: skip
            return EX_USAGE
        value = words.pop(0)
        if word == "-e":
            lines.append(value)
        elif word == "-s":
            flags += value
        else:
            language = value
    try:
        if lines:
            script, arguments = "\n".join(lines), words
        else:
            script, arguments = await _given(guest, io, words[0] if words else "-"), words[1:]
    except OSError:
        await complain(io, f"osascript: {words[0]}: No such file or directory")
        return 1
    if guest.console_user == NOBODY:
        await complain(io, "0:0: execution error: An error of type -10810 has occurred. (-10810)")
        return 1
    if language and language.lower() != "applescript":
        await complain(io, "execution error: Error: Error: Not authorized to send Apple events. (-1743)")
        return 1
    try:
        value = await run(script, _world(guest), arguments)
    except SyntaxMistake as mistake:
        await complain(io, f"{mistake.at}:{mistake.at + 1}: syntax error: {mistake}")
        return 1
    except ScriptError as error:
        await complain(io, f"0:{len(script)}: execution error: {error} ({error.number})")
        return 1
    if value is not None:
        await say(io, spell(value, source="s" in flags))
    return 0


async def _given(guest: MacGuest, io: CommandIO, name: str) -> str:
    if name != "-":
        return guest.disk.path(name, io.cwd).read_text(encoding="utf-8", errors="replace")
    data = b""
    while len(data) < _LONGEST and (more := await io.stdin.read(65536)):
        data += more
    return data.decode("utf-8", "replace")


def _world(guest: MacGuest) -> World:
    access = guest.settings.variations.get("accessibility")
    if access == "as-image":
        access = "refused" if guest.sip else "granted"

    def quit_app(name: str) -> bool:
        if name in SETTINGS_NAMES:
            guest.close_settings()
            return True
        # Other apps: only where Apple events may be sent; one that does not run is left alone
        if access == "granted":
            for process in guest.processes:
                if process.path.endswith(f"/{name.removesuffix('.app')}.app/Contents/MacOS/{process.name}"):
                    guest.processes.kill(process.pid, 15)
        return access == "granted"

    return World(lambda: guest.display.accessible(), access, quit_app)
