"""Files, folders and archives redacted: what can be masked is masked, what cannot is withheld and listed.

Everything is read twice (first to learn, then to mask), in pieces, so that size does not matter. Masked are text of any sort (logs,
ndjson, `.ips`, XML), property lists (binary ones too), gzip files, and tar archives member by member. Pictures, `.tracev3`, databases
and archives within archives are withheld: nothing here can look into them.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import plistlib
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final
from xml.parsers.expat import ExpatError

from harness import events
from harness.errors import UsageError
from harness.triage.redaction import Masker, kind_of_key

PIECE: Final = 64 << 10
"""Bytes of text at a time: small, for what a piece has no word of need not be searched in it."""
LONGEST_LINE: Final = 4 << 20
"""Characters; what is longer has no line ends, and is withheld from there on."""
OVERLAP: Final = 4096
"""Characters of the piece before that `learn` sees again: a key and its value may stand on two lines."""
MAX_PLIST: Final = 64 << 20
MAX_MEMBER: Final = 8 << 30
MAX_TOTAL: Final = 64 << 30
MAX_MEMBERS: Final = 500_000
MAX_DEPTH: Final = 60
IN_MEMORY: Final = 16 << 20
REPORT_NAME: Final = "redaction.json"
_TEXT, _PLIST, _GZIP, _TAR, _BINARY = "text", "plist", "gzip", "tar", "binary"
_Readable = IO[bytes] | gzip.GzipFile


@dataclass
class Redaction:
    """What was done.

    Attributes:
        written: Files (and members) written.
        bytes: Bytes read of them.
        masked: Kind to how often.
        distinct: Kind to how many different values.
        withheld: (name, why) of what was left out.
    """

    written: int = 0
    bytes: int = 0
    masked: dict[str, int] = field(default_factory=dict)
    distinct: dict[str, int] = field(default_factory=dict)
    withheld: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON. It holds no value that was masked."""
        return {
            "files": self.written,
            "bytes": self.bytes,
            "masked": self.masked,
            "distinct": self.distinct,
            "withheld": [{"name": name, "why": why} for name, why in self.withheld],
        }

    def lines(self) -> list[str]:
        """For people."""
        said = [f"{self.written} files, {self.bytes / 1e6:.1f} MB read"]
        said += [
            f"  masked {kind:7} {count:8} times, {self.distinct.get(kind, 0)} different"
            for kind, count in sorted(self.masked.items())
        ]
        for why in dict.fromkeys(why for _, why in self.withheld):
            names = [name for name, reason in self.withheld if reason == why]
            more = f" and {len(names) - 3} more ({REPORT_NAME} lists them)" if len(names) > 3 else ""
            said.append(f"  withheld, {why}: {', '.join(names[:3])}{more}")
        return said


@dataclass(frozen=True)
class Input:
    """One file, and the name it has in the result."""

    path: Path
    name: str


def inputs_of(path: Path) -> list[Input]:
    """The files of a file or folder, no links followed; names relative to the folder.

    Raises:
        UsageError: It is not there, or neither file nor folder.
    """
    if path.is_file():
        return [Input(path, path.name)]
    if not path.is_dir():
        raise UsageError(f"a file or folder at {path}", seen="there is none", hint="check the path")
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            if not file.is_symlink() and file.is_file():
                found.append(Input(file, file.relative_to(path).as_posix()))
    return found


def redact_folder(inputs: Iterable[Input], target: Path, masker: Masker) -> Redaction:
    """Write every input below `target` (a folder that exists), masked, and `redaction.json`.

    Raises:
        UsageError: A file cannot be read or written.
    """
    inputs = list(inputs)
    done = Redaction()
    with events.step("redact", files=len(inputs)) as step:
        for item in inputs:
            masker.learn(item.name.replace("\\", "/"))
            _guarded(item, lambda item=item: _learn_file(item.path, masker))  # type: ignore[misc]
        taken: set[str] = {REPORT_NAME}
        for item in inputs:
            name = _safe(masker.mask(f"/{item.name}"), taken)
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            _guarded(item, lambda item=item, place=place, name=name: _write(item.path, place, name, masker, done))  # type: ignore[misc]
        done.masked = {kind: count for kind, count in sorted(masker.counts.items()) if count}
        done.distinct = {kind: count for kind, count in masker.distinct.items() if kind in done.masked}
        text = json.dumps(done.as_dict(), ensure_ascii=False, indent=1, default=str) + "\n"
        (target / REPORT_NAME).write_text(text, encoding="utf-8", errors="backslashreplace")
        step.note(written=done.written, withheld=len(done.withheld), masked=done.masked)
    return done


def load_map(path: Path) -> tuple[bytes, dict[str, dict[str, str]]]:
    """Key and pseudonyms of an earlier run (`Masker.as_map`).

    Raises:
        UsageError: It is no such file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        known = {
            str(kind): {str(value): str(name) for value, name in values.items()}
            for kind, values in data["pseudonyms"].items()
        }
        return bytes.fromhex(data["key"]), known
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"a map of pseudonyms in {path}", seen=str(error), hint="give another file") from error


def save_map(path: Path, masker: Masker) -> None:
    """Write the map, readable by its owner only."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123 - a descriptor
        json.dump(masker.as_map(), file, ensure_ascii=False, indent=1)
    partial.replace(path)


def _guarded(item: Input, work: Callable[[], None]) -> None:
    try:
        work()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UsageError(
            f"{item.name} to be read and written whole", seen=str(error), hint="is the file whole?"
        ) from error


def _learn_file(path: Path, masker: Masker) -> None:
    with path.open("rb") as file:
        _learn(file, masker, path.name)


def _write(path: Path, place: Path, name: str, masker: Masker, done: Redaction) -> None:
    with path.open("rb") as source:
        why = _refused(source, nested=False)
        if why:
            done.withheld.append((name, why))
            return
        partial = place.with_name(f".{place.name[:100]}.partial")
        with partial.open("wb") as sink:
            why = _redact(source, sink, masker, done, name)
        if why:
            partial.unlink()
            done.withheld.append((name, why))
            return
        partial.replace(place)
        done.written += 1
        done.bytes += path.stat().st_size


def _refused(source: IO[bytes], *, nested: bool) -> str:
    """Why a file is not even begun with; "" if it is."""
    kind = _kind(source)
    if kind == _BINARY:
        return "not text: nothing here can look into it"
    if nested and kind == _TAR:
        return "an archive within an archive"
    return ""


def _kind(source: IO[bytes]) -> str:
    """What it is by its first bytes; leaves the stream at its beginning."""
    head = source.read(8192)
    source.seek(0)
    if head.startswith(b"bplist00"):
        return _PLIST
    if head.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=source) as inner:
            try:
                start = inner.read(600)
            except (OSError, EOFError, zlib.error):
                start = b"\0"
        source.seek(0)
        return _TAR if start[257:262] == b"ustar" else _BINARY if b"\0" in start else _GZIP
    if head[257:262] == b"ustar":
        return _TAR
    if b"\0" in head or head.startswith((b"PK\x03\x04", b"\x89PNG", b"RIFF", b"xar!", b"\xfd7zXZ", b"BZh")):
        return _BINARY
    return _TEXT


# --- the first pass


def _learn(source: IO[bytes], masker: Masker, name: str) -> None:
    kind = _kind(source)
    if kind == _TEXT:
        _learn_text(source, masker)
    elif kind == _GZIP:
        with gzip.GzipFile(fileobj=source) as inner:
            _learn_text(inner, masker)
    elif kind == _PLIST:
        value = _plist(source)
        if value is not None:
            _learn_plist(value, masker, "", 0)
    elif kind == _TAR:
        for member, body in _members(source, []):
            masker.learn(f"/{member.name}")
            masker.learn_value("user", member.uname)
            if body is not None and not _refused(body, nested=True):
                _learn(body, masker, name)


def _learn_text(source: _Readable, masker: Masker) -> None:
    before = ""
    for piece in _pieces(source):
        masker.learn(before + piece)
        before = (before + piece)[-OVERLAP:]


def _learn_plist(value: Any, masker: Masker, key: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        return
    if isinstance(value, dict):
        for inner_key, inner in value.items():
            masker.learn(str(inner_key))
            _learn_plist(inner, masker, str(inner_key), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _learn_plist(inner, masker, key, depth + 1)
    elif isinstance(value, str):
        kind = kind_of_key(key)
        if kind is not None and kind != "token":
            masker.learn_value(kind, value)
        masker.learn(value)
    elif isinstance(value, bytes):
        inner = _plist(io.BytesIO(value)) if value.startswith(b"bplist00") else None
        if inner is not None:
            _learn_plist(inner, masker, key, depth + 1)
        else:
            masker.learn(value.decode("utf-8", "surrogateescape"))


# --- the second pass


def _redact(source: IO[bytes], sink: IO[bytes], masker: Masker, done: Redaction, name: str) -> str:
    """Mask one stream; returns why it is withheld, or ""."""
    kind = _kind(source)
    if kind == _PLIST:
        value = _plist(source)
        if value is None:
            return "a property list that cannot be read"
        plistlib.dump(_mask_plist(value, masker, "", 0), sink, fmt=plistlib.FMT_BINARY, sort_keys=False)
        return ""
    if kind == _GZIP:
        with (
            gzip.GzipFile(fileobj=source) as inner,
            gzip.GzipFile(filename="", fileobj=sink, mode="wb", mtime=0) as outer,
        ):
            return _mask_text(inner, outer, masker)
    if kind == _TAR:
        return _mask_tar(source, sink, masker, done, name)
    return _mask_text(source, sink, masker)


def _mask_text(source: _Readable, sink: Any, masker: Masker) -> str:
    in_key = False
    for piece in _pieces(source):
        text = piece
        if in_key:  # a private key that began in the piece before
            end = re.search(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----", text)
            if end is None:
                continue
            text = text[end.end() :]
        last = text.rfind("-----BEGIN ")
        in_key = last >= 0 and "PRIVATE KEY-----" in text[last : last + 60] and "-----END " not in text[last:]
        sink.write(masker.mask(text).encode("utf-8", "surrogateescape"))
    return ""


def _mask_plist(value: Any, masker: Masker, key: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return "(withheld: nested too deeply)"
    if isinstance(value, dict):
        return {
            masker.mask(str(name)): _mask_plist(inner, masker, str(name), depth + 1) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_mask_plist(inner, masker, key, depth + 1) for inner in value]
    if isinstance(value, str):
        return masker.mask_value(key, value)
    if isinstance(value, bytes):
        inner = _plist(io.BytesIO(value)) if value.startswith(b"bplist00") else None
        if inner is not None:
            return plistlib.dumps(_mask_plist(inner, masker, key, depth + 1), fmt=plistlib.FMT_BINARY)
        return masker.mask(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    if isinstance(value, int) and not isinstance(value, bool) and kind_of_key(key) in ("serial", "udid"):
        return 0
    return value


def _mask_tar(source: IO[bytes], sink: IO[bytes], masker: Masker, done: Redaction, name: str) -> str:
    packed = source.read(2) == b"\x1f\x8b"
    source.seek(0)
    taken: set[str] = set()
    withheld: list[tuple[str, str]] = []
    with tarfile.open(fileobj=sink, mode="w|gz" if packed else "w|", format=tarfile.PAX_FORMAT) as out:
        for member, body in _members(source, withheld):
            inner_name = _safe(masker.mask(f"/{member.name}"), taken)
            kept = tarfile.TarInfo(inner_name)
            kept.mtime = int(member.mtime)
            kept.mode = 0o755 if member.isdir() else 0o644
            if body is None:
                kept.type = tarfile.DIRTYPE
                out.addfile(kept)
                continue
            why = _refused(body, nested=True)
            with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
                why = why or _redact(body, spool, masker, done, inner_name)
                if why:
                    withheld.append((inner_name, why))
                    continue
                kept.size = spool.tell()
                spool.seek(0)
                out.addfile(kept, spool)
                done.written += 1
    done.withheld += [(f"{name}/{masker.mask('/' + inner).lstrip('/')}", why) for inner, why in withheld]
    return ""


def _members(source: IO[bytes], withheld: list[tuple[str, str]]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Files with their contents, folders with None; in one pass, bounded. What is left out goes to `withheld`."""
    total = 0
    with tarfile.open(fileobj=source, mode="r|*") as archive:
        for number, member in enumerate(archive):
            if number >= MAX_MEMBERS or total > MAX_TOTAL:
                withheld.append(("(the rest)", "more members or bytes than any sysdiagnose has"))
                return
            parts = member.name.split("/")
            if member.name.startswith("/") or ".." in parts:
                withheld.append((member.name, "a name that leads out of the archive"))
            elif member.isdir():
                yield member, None
            elif not member.isfile():
                withheld.append((member.name, "a link or device"))
            elif member.size > MAX_MEMBER:
                withheld.append((member.name, f"{member.size >> 30} GiB"))
            else:
                total += member.size
                stream = archive.extractfile(member)
                assert stream is not None
                with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
                    shutil.copyfileobj(stream, spool, PIECE)
                    spool.seek(0)
                    yield member, spool


# --- what both need


def _pieces(source: _Readable) -> Iterator[str]:
    """The text in pieces of whole lines; a line that never ends is cut off with a note."""
    rest = b""
    while chunk := source.read(PIECE):
        data = rest + chunk
        cut = data.rfind(b"\n") + 1
        if cut == 0 and len(data) > LONGEST_LINE:  # no lines: one long JSON document, perhaps
            cut = max(data.rfind(b","), data.rfind(b">")) + 1
            if cut < len(data) - LONGEST_LINE // 2:
                yield "(withheld: a line without end)\n"
                return
        if cut:
            yield data[:cut].decode("utf-8", "surrogateescape")
        rest = data[cut:]
    if rest:
        yield rest.decode("utf-8", "surrogateescape")


def _plist(source: IO[bytes]) -> Any:
    data = source.read(MAX_PLIST + 1)
    if len(data) > MAX_PLIST:
        return None
    try:
        value = plistlib.loads(data)
    except (
        plistlib.InvalidFileException,
        ExpatError,
        ValueError,
        RecursionError,
        OverflowError,
        TypeError,
        MemoryError,
    ):
        return None
    return value if not isinstance(value, datetime) else None


def _safe(name: str, taken: set[str]) -> str:
    """A relative name that is not taken yet, without parts that lead anywhere else."""
    parts = [part.lstrip("~") or "_" for part in name.split("/") if part not in ("", ".", "..")]
    plain = "/".join(parts) or "unnamed"
    candidate, number = plain, 1
    while candidate in taken:
        number += 1
        stem, dot, suffix = plain.rpartition(".")
        candidate = f"{stem}-{number}.{suffix}" if dot and "/" not in suffix else f"{plain}-{number}"
    taken.add(candidate)
    return candidate
