"""All readers against mutated samples and noise: none may raise, no line may be lost, and time grows with size only.

    python -m benchmarks.fuzz_readers [--count 100000] [--seed N] [--samples FOLDER]

Samples are this project's own beginnings of every format, and the files of the folder (any texts). Each input goes through
`open_input`, or through one of the readers of `formats/`. Ends with 1 at the first thing that is wrong, with its seed.
"""

from __future__ import annotations

import argparse
import gzip
import io
import random
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness.errors import SysextError
from harness.formats.crash import parse_crash_report
from harness.formats.logs_array import ObjectSplitter
from harness.formats.logs_markers import parse_marker
from harness.formats.logs_text import parse_head
from harness.formats.plist_text import parse_plist_text
from harness.formats.tracev3 import parse_timesync, parse_trace_header
from harness.triage.inputs import Interest, Source, open_input

INTEREST = Interest(frozenset(("sysextd",)), frozenset(("com.apple.sx",)), ("refused",), frozenset(("Fault",)))
OWN = (
    (
        b"Timestamp                       Thread     Type        Activity             PID    TTL  \n"
        b"2026-07-26 18:11:22.348728+1200 0x6dcc     Default     0x0                  537    0    sysextd: (libxpc.dylib) [a.b:c] hello\nmore\n"
        b"=== system boot: 7871ABF2-F319-49C9-B9FD-884E994F3DF5\n"
    ),
    b"Timestamp               Ty Process[PID:TID]\n2026-01-01 07:17:32.677 E  syspolicyd[527:85cf08] [x.y:z] refused\n",
    b"2026-07-26 18:11:22.348728+1200  localhost backupd[417]: (Lib) [a.b:c] text\n",
    b"error\t13:00:16.745381+0200\ttaskgated-helper\tDisallowing: x\n",
    (
        b'{"timestamp":"2026-07-26 18:11:22.348728+1200","messageType":"Fault","eventType":"logEvent","eventMessage":"a\\nb",'
        b'"processImagePath":"\\/usr\\/libexec\\/sysextd","processID":3,"bootUUID":"7871ABF2","machTimestamp":5}\n{"count":1,"finished":1}\n'
    ),
    b'[{\n  "timestamp" : "2026-07-26 18:11:22.348728+1200",\n  "eventMessage" : "x"\n},{\n  "eventMessage" : "y", "timestamp":""\n}]\n',
    (
        b"1 extension(s)\n--- com.apple.system_extension.cmio\nenabled\tactive\tteamID\tbundleID (version)\tname\t[state]\n"
        b"*\t*\tABCDE12345\torg.example.ext (1.0/1)\tName\t[activated enabled]\n"
    ),
    b'system/org.example.ext = {\n\tactive count = 1\n\tstate = running\n\tendpoints = {\n\t\t"a" = {\n\t\t\tport = 0x1\n\t\t}\n\t}\n}\n',
    (
        b'{"bug_type":"309","timestamp":"2026-07-26 18:11:22.00 +1200","app_name":"x","slice_uuid":"4b208b43-31a6-36c3-984f-d466737b7e01"}\n'
        b'{\n "pid" : 3,\n "procName" : "x",\n "threads" : [{"triggered":true,"frames":[{"imageIndex":0}]}],\n "usedImages":[{"uuid":"a","name":"x"}]\n}\n'
    ),
    (
        b"Process:               sysextd [45250]\nIdentifier:            sysextd\n\nException Type:        EXC_CRASH (SIGKILL)\n"
        b"Termination Reason:    Namespace CODESIGNING, Code 0x2\n\nThread 0 Crashed:\n0   dyld  0x00007fff _dyld_start + 0\n"
    ),
    b'panic(cpu 1 caller 0xfffffe0019b6e2a8): "dlil_if_ref" @dlil.c:1\nPanicked task 0xffff: 1 pages, 2 threads: pid 0: kernel_task\n',
    b'{\n    bootUUID = "7871";\n    developerMode = 0;\n    extensions =     (\n  { identifier = "a.b"; state = "activated_enabled"; }\n );\n}\n',
    b'<?xml version="1.0"?>\n<plist version="1.0">\n<dict><key>extensions</key><array/><key>version</key><integer>1</integer></dict>\n</plist>\n',
    b"> I have seen this:\n> 2026-07-26 18:11:22.348728+1200 sysextd: [com.apple.sx:XPC] hello &quot;x&quot;\n\nand nothing else.\n- kernel[0:12] (X) y\n",
    b"lost >=63 unreliable messages from 1-2 (Mach continuous exact start-approx. end)\n=== system wallclock time adjusted\n",
)
PIECES = (
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\xff\xfe",
    b"{",
    b"}",
    b'"',
    b"\\",
    b"[",
    b"]",
    b"(",
    b"\t",
    b"> ",
    b"0x",
    b"=",
    b"\xe2\x80\xa8",
    b"<plist>",
    b"panic(cpu 1 caller 0x1):",
    b"Process: x [1]",
    b"1 extension(s)",
    b"\xef\xbb\xbf",
    b"0" * 40,
)


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    """A sample with some of it cut, doubled, swapped, spoilt or mixed with another."""
    data = bytearray(chance.choice(seeds)[:6000])
    for _ in range(chance.randint(0, 6)):
        if not data:
            break
        at = chance.randrange(len(data))
        match chance.randrange(8):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 200)]
            case 2:
                data[at:at] = chance.choice(PIECES) * chance.choice((1, 1, 1, 2, 30))
            case 3:
                other = chance.choice(seeds)
                start = chance.randrange(max(1, len(other)))
                data[at:at] = other[start : start + chance.randint(1, 800)]
            case 4:
                del data[at:]
            case 5:
                data[at:at] = data[at : at + chance.randint(1, 300)] * chance.randint(1, 5)
            case 6:
                data[at:at] = chance.randbytes(chance.randint(1, 20))
            case _:
                lines = bytes(data).split(b"\n")
                chance.shuffle(lines)
                data = bytearray(b"\n".join(lines))
    return bytes(data)


def packed(chance: random.Random, data: bytes) -> bytes:
    """The same inside an archive, sometimes a damaged one."""
    buffer = io.BytesIO()
    name = chance.choice(
        ("log.ndjson", "db.plist", "a/x.ips", "../x", "systemextensionsctl.txt", "n.txt", "t/Persist/1.tracev3")
    )
    match chance.randrange(3):
        case 0:
            buffer.write(gzip.compress(data, 1))
        case 1:
            with tarfile.open(fileobj=buffer, mode=chance.choice(("w", "w:gz"))) as tar:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        case _:
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr(name, data)
    result = bytearray(buffer.getvalue())
    for _ in range(chance.choice((0, 0, 1, 3))):
        result[chance.randrange(len(result))] = chance.randrange(256)
    return bytes(result[: chance.randrange(len(result)) + 1]) if chance.random() < 0.2 else bytes(result)


def accounted(data: bytes, source: Source) -> str:
    """What is wrong with the account of a plain text; "" if nothing is."""
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    coverage = source.coverage
    if coverage.lines != lines:
        return f"{lines} lines, accounted for {dict(coverage.of)}"
    if sum(file.of.total() for file in coverage.files.values()) != lines:
        return "the files' counts do not add up"
    return ""


def one(chance: random.Random, seeds: list[bytes]) -> str:
    """One input through one way; what is wrong, or ""."""
    data = mutated(chance, seeds)
    way = chance.randrange(10)
    if way == 0:
        _formats(data)
        return ""
    archived = way == 1
    given = packed(chance, data) if archived else data
    try:
        source = open_input(given, interest=chance.choice((None, INTEREST)))
        kinds = Counter(record.kind for record in source.records)
    except SysextError:
        return ""
    if kinds.total() != source.coverage.given and source.kind not in ("plist", "database"):
        return f"{kinds.total()} records came, {source.coverage.given} were said to be given"
    plain = not archived and source.kind not in ("plist", "database", "archive", "tracev3", "sysdiagnose")
    if (
        plain
        and not data.startswith((b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"BZh", b"PK"))
        and not (b"\r" in data and b"\n" not in data)
    ):
        return accounted(data, source)
    return ""


def _formats(data: bytes) -> None:
    """The parsers beneath."""
    text = data.decode("utf-8", "replace")
    for line in text.split("\n"):
        parse_head(line)
        parse_marker(line)
    splitter = ObjectSplitter()
    for number, raw in enumerate(data.split(b"\n"), 1):
        splitter.feed(raw, number)
    parse_timesync(data)
    parsers: tuple[Callable[[], object], ...] = (
        lambda: parse_crash_report(text),
        lambda: parse_plist_text(text),
        lambda: parse_trace_header(data),
    )
    for parse in parsers:
        try:
            parse()
        except SysextError:
            continue


def linear() -> list[str]:
    """Repetitions that could be quadratic: ten times the size must not take a hundred times the time."""
    wrong = []
    for piece in (
        *PIECES,
        *OWN,
        b'{"',
        b'"\\',
        b"((((",
        b"[a:b] ",
        b"a [1] ",
        b"2026-07-26 18:11:22.348728 (",
        b"<x>(y)[z]",
        b" = {\n",
        b"{\n",
        b"-\n",
        b"1. ",
    ):
        seconds = []
        for size in (40_000, 400_000):
            data = piece * (size // len(piece))
            before = time.process_time()
            try:
                for _ in open_input(data).records:
                    pass
                _formats(data)
            except SysextError:
                pass
            seconds.append(time.process_time() - before)
        if seconds[1] > 0.5 and seconds[1] > 30 * max(seconds[0], 0.005):
            wrong.append(f"{piece[:30]!r}: {seconds[0]:.3f} s, then {seconds[1]:.3f} s")
    return wrong


def main() -> int:
    """Run as many as asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=Path, help="a folder with texts to mutate as well")
    given = parser.parse_args()
    seeds = list(OWN)
    if given.samples is not None:
        seeds += [path.read_bytes() for path in sorted(given.samples.rglob("*.txt"))]
    slowest = (0.0, 0)
    started = time.perf_counter()
    for number in range(given.count):
        seed = given.seed * 1_000_000_007 + number
        before = time.process_time()
        try:
            wrong = one(random.Random(seed), seeds)
        except Exception as error:  # noqa: BLE001 - that is what this is for
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            print(f"input {number} (seed {given.seed}): {wrong}")
            return 1
        slowest = max(slowest, (time.process_time() - before, number))
    print(
        f"{given.count} inputs from {len(seeds)} samples in {time.perf_counter() - started:.0f} s, none lost a line or raised"
    )
    print(f"slowest: {slowest[0] * 1000:.0f} ms (input {slowest[1]})")
    wrong_times = linear()
    for line in wrong_times:
        print(f"not linear: {line}")
    return 1 if wrong_times else 0


if __name__ == "__main__":
    sys.exit(main())
