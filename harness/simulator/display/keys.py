"""Keys as Virtualization.framework's VNC server takes them: keysyms through a US layout, Shift only if it is held.

A bare upper-case or shifted keysym yields the unshifted character; Command is Alt_L, Option is Meta_L, Super is ignored
(openai/tart's users, trycua/cua lume VNCService.swift, TestAnyware keymap.rs).
"""

from __future__ import annotations

RETURN, ENTER, ESCAPE, TAB, BACKSPACE = 0xFF0D, 0xFF8D, 0xFF1B, 0xFF09, 0xFF08
SHIFTS = frozenset({0xFFE1, 0xFFE2})
COMMANDS = frozenset({0xFFE9, 0xFFEA})

_BASE = "`1234567890-=[]\\;',./abcdefghijklmnopqrstuvwxyz "
_SHIFTED = '~!@#$%^&*()_+{}|:"<>?ABCDEFGHIJKLMNOPQRSTUVWXYZ '
_TO_BASE = dict(zip(_SHIFTED, _BASE, strict=True))
_TO_SHIFTED = dict(zip(_BASE, _SHIFTED, strict=True))


def character(keysym: int, *, shift: bool) -> str:
    """What a keysym types, "" for nothing."""
    if not 0x20 <= keysym <= 0x7E:
        return ""
    base = _TO_BASE.get(chr(keysym), chr(keysym))
    return _TO_SHIFTED.get(base, base) if shift else base
