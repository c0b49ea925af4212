"""Keys as Virtualization.framework's VNC server takes them: X keysyms through a US layout.

Command is Alt_L and Option is Meta_L; Super is ignored, and a shifted character needs Shift held
(cirruslabs/macos-image-templates `<leftAltOn>`; trycua/cua lume VNCService.swift; TestAnyware keymap.rs).
"""

from __future__ import annotations

from harness.screen.errors import UnsupportedCharacter

SHIFT = 0xFFE1

KEYS: dict[str, int] = {
    "return": 0xFF0D,
    "escape": 0xFF1B,
    "tab": 0xFF09,
    "backspace": 0xFF08,
    "delete": 0xFFFF,
    "space": 0x20,
    "left": 0xFF51,
    "up": 0xFF52,
    "right": 0xFF53,
    "down": 0xFF54,
    "home": 0xFF50,
    "end": 0xFF57,
    "pageup": 0xFF55,
    "pagedown": 0xFF56,
    "shift": SHIFT,
    "control": 0xFFE3,
    "option": 0xFFE7,
    "command": 0xFFE9,
    **{f"f{number}": 0xFFBD + number for number in range(1, 13)},
}
"""Named keys."""

_UNSHIFTED = "`1234567890-=[]\\;',./abcdefghijklmnopqrstuvwxyz "
_SHIFTED = '~!@#$%^&*()_+{}|:"<>?ABCDEFGHIJKLMNOPQRSTUVWXYZ'


def keysym(name: str) -> int:
    """The keysym of a named key, or of a single unshifted character.

    Raises:
        UnsupportedCharacter: There is no such key.
    """
    if name in KEYS:
        return KEYS[name]
    if len(name) == 1 and name in _UNSHIFTED:
        return ord(name)
    raise UnsupportedCharacter("a key of the US layout", seen=repr(name), hint=f"named keys: {', '.join(KEYS)}")


def strokes(text: str) -> list[tuple[int, bool]]:
    """(keysym, Shift held) for each character; newline is Return, tab is Tab.

    Raises:
        UnsupportedCharacter: A character has no key. The text itself is not told: it may be a password.
    """
    result: list[tuple[int, bool]] = []
    for index, character in enumerate(text):
        if character == "\n":
            result.append((KEYS["return"], False))
        elif character == "\t":
            result.append((KEYS["tab"], False))
        elif character in _UNSHIFTED:
            result.append((ord(character), False))
        elif character in _SHIFTED:
            result.append((ord(character), True))
        else:
            raise UnsupportedCharacter(
                "characters of the US layout",
                seen=f"character {index + 1} of {len(text)} has no key",
                hint="use a guest password of printable ASCII",
            )
    return result


def key_of(character: str, index: int = 0, length: int = 1) -> tuple[str, bool]:
    """(name of the key, Shift held) for a character: what `strokes` says, for drivers that press keys rather than send
    symbols. "A" is ("a", True). `index` and `length` only serve the error's text.

    Raises:
        UnsupportedCharacter: It has no key. The character itself is not told: it may be of a password.
    """
    if character == "\n":
        return "return", False
    if character == "\t":
        return "tab", False
    if character == " ":
        return "space", False
    if character in _UNSHIFTED:
        return character, False
    if len(character) == 1 and character in _SHIFTED:
        return _UNSHIFTED[_SHIFTED.index(character)], True
    raise UnsupportedCharacter(
        "characters of the US layout",
        seen=f"character {index + 1} of {length} has no key",
        hint="use a guest password of printable ASCII",
    )
