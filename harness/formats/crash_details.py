"""Where a program or the kernel died, and whether it was killed before it ran: the parts of a crash or panic report that
point at somebody.

Frames are those of the thread that crashed, innermost first. Nothing is symbolicated here: what the report names is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

MAX_FRAMES: Final = 24
MAX_IMAGES: Final = 64
_KILLED = (
    ("Launch Constraint Violation", re.compile(r"launch constraint violation", re.IGNORECASE)),
    ("Taskgated Invalid Signature", re.compile(r"taskgated invalid signature", re.IGNORECASE)),
    ("Code Signature Invalid", re.compile(r"code signature invalid|invalid page", re.IGNORECASE)),
    ("OS_REASON_EXEC", re.compile(r"\bOS_REASON_EXEC\b|^EXEC\b|Namespace EXEC\b")),
    ("dyld path missing", re.compile(r"/dyld_path_missing")),
)
_THREAD = re.compile(r"^Thread (\d{1,5}) Crashed:?:?[ \t]*(.{0,200})$", re.MULTILINE)
_FRAME = re.compile(r"^\d{1,3}[ \t]+(\S.{0,200}?)[ \t]+(0x[0-9a-fA-F]{4,16})[ \t]+(.{1,600})$")
_IMAGE = re.compile(
    r"^[ \t]*0x[0-9a-fA-F]{1,16} -[ \t]+0x[0-9a-fA-F]{1,16}[ \t]+([+*]?\S.{0,200}?)[ \t]+"
    r"(?:\([^()\n]{0,80}\)[ \t]+)?(?:arm64e?[ \t]+|x86_64h?[ \t]+)?<([0-9A-Fa-f-]{32,36})>[ \t]*(.{0,500})$",
    re.MULTILINE,
)
_CODES = re.compile(r"(?:Namespace[ \t]+)?([A-Z_]{3,30}),?[ \t]+(?:Code:?[ \t]+)?(0x[0-9a-fA-F]{1,16}|\d{1,20})")
_NETWORK = (
    ("mbuf copy", re.compile(r"\bm_copym|copy overflow @?uipc_mbuf|\bm_copydata|\bmbuf_", re.IGNORECASE)),
    ("skywalk", re.compile(r"\bskmem|\bskywalk|\bnexus\b|\bskc\.kmd|com\.apple\.netif", re.IGNORECASE)),
    ("interface", re.compile(r"\bdlil_|\bifnet|\butun\d|\bipsec\d", re.IGNORECASE)),
    (
        "tcp/ip stack",
        re.compile(
            r"\btcp_(?:lock|input|output|subr|unlock)|\budp_\w+|\bin6?_pcb|\binp_|\bip6?_output|\bsosend|\bsoreceive|\bsb(?:drop|append|flush)",
            re.IGNORECASE,
        ),
    ),
    ("content filter", re.compile(r"\bcfil_|\bcontent_filter", re.IGNORECASE)),
    ("flow divert", re.compile(r"\bflow_divert|\bnecp_", re.IGNORECASE)),
    (
        "source file of the network stack",
        re.compile(r"@(?:/\S{0,200}/)?(?:bsd/net\w*/|uipc_|tcp_|udp_|ip6?_|in6?_|skmem_|dlil|necp|cfil)\S{0,80}\.c"),
    ),
)
_KEXT = re.compile(
    r"^\s{1,12}((?:[A-Za-z0-9_-]{1,60}\.){1,8}[A-Za-z0-9_-]{1,80})\(([^()\n]{1,60})\)\[([0-9A-F-]{36})\]@0x",
    re.MULTILINE,
)
_TASK = re.compile(
    r"Panicked task 0x[0-9a-fA-F]+: .{0,200}?pid (\d{1,10}): ([^\n]{1,100})|^BSD process name corresponding to current thread(?: \([^)]*\))?: ([^\n]{1,100})$|Process name corresponding to current thread(?: \([^)]*\))?: ([^\n]{1,100})",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Frame:
    """One frame. `symbol` is "" where the report has only an offset; `offset` is the image's, as printed or in bytes."""

    image: str
    symbol: str = ""
    offset: str = ""


@dataclass(frozen=True)
class Image:
    """A loaded image: its name, LC_UUID in upper case, and path."""

    name: str
    uuid: str
    path: str = ""


def frames_of_json(body: dict[str, Any]) -> tuple[str, tuple[Frame, ...]]:
    """The faulting thread's name (or queue) and its frames, of a JSON body."""
    threads = body.get("threads")
    if not isinstance(threads, list):
        return "", ()
    faulting = body.get("faultingThread")
    chosen: Any = None
    if isinstance(faulting, int) and 0 <= faulting < len(threads):
        chosen = threads[faulting]
    else:
        chosen = next((thread for thread in threads if isinstance(thread, dict) and thread.get("triggered")), None)
    if not isinstance(chosen, dict):
        return "", ()
    images = body.get("usedImages")
    images = images if isinstance(images, list) else []
    found = []
    frames = chosen.get("frames")
    for frame in frames[:MAX_FRAMES] if isinstance(frames, list) else ():
        if not isinstance(frame, dict):
            continue
        index = frame.get("imageIndex")
        image = images[index] if isinstance(index, int) and 0 <= index < len(images) else {}
        name = image.get("name") if isinstance(image, dict) else None
        symbol, offset = frame.get("symbol"), frame.get("imageOffset")
        found.append(
            Frame(
                str(name or "???")[:200],
                str(symbol)[:600] if isinstance(symbol, str) else "",
                hex(offset) if isinstance(offset, int) and offset >= 0 else "",
            )
        )
    return str(chosen.get("queue") or chosen.get("name") or "")[:200], tuple(found)


def images_of_json(body: dict[str, Any]) -> tuple[Image, ...]:
    """The images of a JSON body, in its order (the executable first)."""
    images = body.get("usedImages")
    found = []
    for image in images if isinstance(images, list) else ():
        if isinstance(image, dict) and isinstance(image.get("uuid"), str):
            name, path = image.get("name"), image.get("path")
            found.append(Image(str(name or "")[:200], image["uuid"].upper()[:36], str(path or "")[:500]))
        if len(found) == MAX_IMAGES:
            break
    return tuple(found)


def frames_of_text(text: str) -> tuple[str, tuple[Frame, ...]]:
    """The same of the old text: the block `Thread N Crashed:`, or a post's bare frames."""
    match = _THREAD.search(text)
    name = match.group(2).strip().removeprefix("Dispatch queue:").strip() if match else ""
    found: list[Frame] = []
    for line in text[match.end() if match else 0 :][:40_000].split("\n"):
        frame = _FRAME.match(line)
        if frame is None:
            if found:
                break
            continue
        found.append(Frame(frame.group(1).strip(), frame.group(3).strip(), frame.group(2)))
        if len(found) == MAX_FRAMES:
            break
    return name, tuple(found)


def images_of_text(text: str) -> tuple[Image, ...]:
    """The binary images of the old text, in its order (the executable is usually the first)."""
    found: list[Image] = []
    place = text.find("Binary Images:")
    for match in _IMAGE.finditer(text, max(0, place)):
        name, uuid, path = match.groups()
        found.append(Image(name.lstrip("+*").strip(), dashed(uuid), path.strip()))
        if len(found) == MAX_IMAGES:
            break
    return tuple(found)


def dashed(uuid: str) -> str:
    """A UUID in upper case with its dashes."""
    plain = uuid.replace("-", "").upper()
    return f"{plain[:8]}-{plain[8:12]}-{plain[12:16]}-{plain[16:20]}-{plain[20:]}" if len(plain) == 32 else uuid.upper()


def killed_at_exec(exception: str, termination: str, notes: str) -> str:
    """The mark of a process that was killed because of its signature or before it ran; "" for any other.

    `notes` is the text around: the report's own sentences, where "/dyld_path_missing" and launch constraints show.
    """
    joined = "\n".join((exception, termination, notes[:20_000]))
    for name, pattern in _KILLED:
        if pattern.search(joined):
            return name
    return "CODESIGNING" if re.search(r"\bCODESIGNING\b", termination) else ""


def namespace_and_code(termination: str) -> tuple[str, str]:
    """`Namespace CODESIGNING, Code 0x2` and `SIGNAL 5 Trace/BPT trap` → ("CODESIGNING", "0x2"), ("SIGNAL", "5")."""
    match = _CODES.match(termination.strip())
    return (match.group(1), match.group(2)) if match else ("", "")


def network_hints(panic: str) -> tuple[str, ...]:
    """Which parts of the network path a panic's text names; empty for a panic of something else."""
    text = panic[:200_000]
    return tuple(name for name, pattern in _NETWORK if pattern.search(text))


def kexts_in_backtrace(panic: str) -> tuple[tuple[str, str], ...]:
    """(identifier, version) of the kernel extensions that the backtrace runs through."""
    return tuple(dict.fromkeys((match.group(1), match.group(2)) for match in _KEXT.finditer(panic[:200_000])))


def panicked_task(panic: str) -> tuple[str, int | None]:
    """Name and number of the process that ran when the kernel panicked."""
    match = _TASK.search(panic[:200_000])
    if match is None:
        return "", None
    pid, *names = match.groups()
    return next((name.strip() for name in names if name), ""), int(pid) if pid else None
