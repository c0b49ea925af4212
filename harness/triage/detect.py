"""What kind of thing some bytes are: by their beginning, never by a name alone."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Final

from harness.formats.logs_array import is_mandiant, record_from_json
from harness.formats.tracev3 import is_tracev3
from harness.triage.reading import Blocks, Reading
from harness.triage.texts import read_text

HEAD: Final = 64 * 1024
"""Bytes of an input's beginning that decide what it is."""
_STYLES: Final = {
    "default": "log-default",
    "compact": "log-compact",
    "nslog": "log-compact",
    "syslog": "log-syslog",
    "short": "log-default",
    "console": "console",
    "ndjson": "ndjson",
    "json": "json",
}
_DOCUMENTS: Final = {
    "listing": "listing",
    "database": "database",
    "launchctl": "launchctl",
    "launchctl-services": "launchctl",
    "crash": "crash",
    "panic": "panic",
    "plist": "plist",
}
_PICTURES: Final = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"%PDF",
    b"\x7fELF",
    b"\xca\xfe\xba\xbe",
    b"\xcf\xfa\xed\xfe",
    b"RIFF",
    b"SQLite format 3",
)


def sniff(head: bytes) -> str:
    """The container or text family of a file that begins so.

    One of `gzip`, `zip`, `bzip2`, `xz`, `tar`, `yaa`, `plist` (binary), `tracev3`, `utf-16`, `ndjson`, `mandiant`, `json` (objects that
    span lines, in an array), `text`, `binary`, `empty`.
    """
    if not head.strip(b"\0 \t\r\n\xef\xbb\xbf"):
        return "empty" if not head.strip(b" \t\r\n\xef\xbb\xbf") else "binary"
    for magic, kind in (
        (b"\x1f\x8b", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"PK\x05\x06", "zip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"AA01", "yaa"),
        (b"YAA1", "yaa"),
        (b"pbze", "yaa"),
        (b"bplist00", "plist"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar" or _old_tar(head):
        return "tar"
    if is_tracev3(head):
        return "tracev3"
    if head.startswith(_PICTURES):
        return "binary"
    sample = head[:8192]
    if sample.count(b"\0") * 20 > len(sample):
        return "binary"
    controls = sum(sample.count(bytes([code])) for code in (*range(1, 9), *range(14, 27), *range(28, 32)))
    if controls * 10 > len(sample):
        return "binary"
    if controls * 25 > len(sample) and sample.decode("utf-8", "replace").count("\ufffd") * 8 > len(sample):
        return "binary"  # random bytes: a text in an old encoding has no control characters
    return _json_kind(head) or "text"


def _old_tar(head: bytes) -> bool:
    """A tar header without its magic: the checksum fits."""
    if len(head) < 512 or not head[:100].strip(b"\0") or head[99:100] != b"\0":
        return False
    try:
        claimed = int(head[148:156].strip(b"\0 ") or b"x", 8)
    except ValueError:
        return False
    return claimed == sum(head[:148]) + sum(head[156:512]) + 8 * 32


def _json_kind(head: bytes) -> str:
    lines = [line.strip() for line in head.lstrip(b"\xef\xbb\xbf").split(b"\n", 60)[:60]]
    seen = [line for line in lines if line]
    if not seen:
        return ""
    first = seen[0]
    if first[:1] == b"[":
        rest = first[1:].strip() or (seen[1] if len(seen) > 1 else b"")
        return "json" if rest[:1] == b"{" and (rest == b"{" or rest[1:].strip()[:1] == b'"') else ""
    whole = Counter(_line_kind(line) for line in seen[:40])
    whole.pop("", None)
    if whole:
        kind, count = whole.most_common(1)[0]
        if kind != "other" and count * 2 >= len(seen[:40]):
            return kind
    if first[:1] == b"{" and first != b"{" and len(seen) == 1 and len(head) >= HEAD // 2:
        return "ndjson" if b'"eventMessage"' in first or b'"machTimestamp"' in first else ""
    return ""


def _line_kind(line: bytes) -> str:
    if line[:1] != b"{" or line[-1:] != b"}":
        return ""
    try:
        value = json.loads(line.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    if is_mandiant(value):
        return "mandiant"
    if "finished" in value and "count" in value:
        return "ndjson"
    return "ndjson" if "bug_type" not in value and record_from_json(value) is not None else "other"


def text_kind(head: bytes) -> str:
    """The kind of a text, by what most of its lines are: a log style, a document's kind, or `text` for a mixture."""
    reading = Reading()
    weights: Counter[str] = Counter()
    for record in read_text(Blocks(io.BytesIO(), head), "", reading):
        if record.style in _STYLES:
            weights[_STYLES[record.style]] += record.lines
        elif record.kind == "text" or record.style != "bare" or record.kind == "log":
            weights["text"] += record.lines
    for document in reading.documents:
        kind = _DOCUMENTS.get(document.kind, "text")
        if kind in ("crash", "panic") and document.value.format == "ips":
            kind = "ips"
        weights[kind] += document.lines
    if not weights:
        return "text"
    kind, count = weights.most_common(1)[0]
    return kind if count * 4 >= weights.total() * 3 else "text"
