"""How fast triage reads: ndjson against json.loads and msgspec alone, a sysdiagnose against isal's decompression alone.

Everything runs in a process of its own, one after the other in the same run; compared is processor time, which a busy machine
does not change much. Floors: ndjson ≥ 250 MB/s, ≥ 2× json.loads per line, ≤ 2× the time of msgspec per line, ≤ 150 MB of memory;
a tar.gz in ≤ 1.3× the time of decompressing it.

    python -m benchmarks.bench_triage_speed [--full] [--ndjson MB] [--tar MB]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import msgspec
from isal import igzip

from benchmarks.common import judge, scratch_folder
from harness.formats.logs_scan import Line
from harness.triage.engine import INTEREST
from harness.triage.inputs import open_input

ISAL = cast("Any", igzip)
PROCESSES = ("sysextd", "nehelper", "nesessionmanager", "kernelmanagerd", "amfid", "trustd", "syspolicyd", "launchd")
NOISE = (
    "WindowServer",
    "mds",
    "cfprefsd",
    "runningboardd",
    "backupd",
    "bluetoothd",
    "airportd",
    "locationd",
    "apsd",
    "cloudd",
)


def make_ndjson(path: Path, megabytes: int) -> None:
    """A log as a Mac's: some 900 bytes a line, one line in fifty of interest."""
    chance = random.Random(7)
    pool = []
    for number in range(3000):
        name = chance.choice(PROCESSES) if number % 50 == 0 else chance.choice(NOISE)
        record = {
            "timezoneName": "",
            "messageType": chance.choice(("Default", "Default", "Info", "Debug", "Error")),
            "eventType": "logEvent",
            "source": None,
            "formatString": "%{public}s: state %d for <%{private}@> " + "x" * chance.randint(10, 120),
            "userID": 0,
            "activityIdentifier": chance.getrandbits(40),
            "subsystem": "com.apple." + name[-6:],
            "category": "default",
            "threadID": chance.getrandbits(20),
            "senderImageUUID": "B33F2B09-4BE9-32C5-954C-9233E1D5BB94",
            "backtrace": {"frames": [{"imageOffset": number, "imageUUID": "B33F2B09-4BE9-32C5-954C-9233E1D5BB94"}]},
            "bootUUID": "7871ABF2-F319-49C9-B9FD-884E994F3DF5",
            "processImagePath": f"/System/Library/PrivateFrameworks/{name}.framework/Versions/A/{name}",
            "senderImagePath": "/usr/lib/system/libsystem_trace.dylib",
            "timestamp": f"2026-07-26 18:{number // 60 % 60:02}:{number % 60:02}.348728+1200",
            "machTimestamp": number * 1000,
            "eventMessage": f"[{number}] " + "transaction for “client” " * chance.randint(2, 9),
            "processImageUUID": "72E8021B-1B49-3258-AF87-5DEDFA8D77A8",
            "traceID": chance.getrandbits(60),
            "processID": 345,
            "senderProgramCounter": 99,
            "parentActivityIdentifier": 0,
        }
        pool.append(json.dumps(record, separators=(",", ":"), ensure_ascii=False).replace("/", "\\/").encode() + b"\n")
    block = b"".join(pool)
    written = lines = 0
    with path.open("wb") as file:
        while written < megabytes * 1_000_000:
            file.write(block)
            written += len(block)
            lines += len(pool)
        file.write(b'{"count":%d,"finished":1}\n' % lines)


def make_sysdiagnose(path: Path, megabytes: int) -> None:
    """A tar.gz of that size: tracev3 files that pack by half, many texts that nobody asked for, and 45 small files of use."""
    chance = random.Random(11)
    noise = chance.randbytes(1 << 20)
    words = b"com.apple.some.service = { state = running pid = 345 }\n" * 4000
    crash = (
        json.dumps({"bug_type": "309", "app_name": "sysextd", "timestamp": "2026-07-26 18:11:22.00 +1200"})
        + '\n{\n "pid" : 1\n}\n'
    )
    top = "sysdiagnose_2026.07.26_18-11-22+1200_macOS_Mac15-3_25G76"

    def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(f"{top}/{name}")
        info.size = len(data)
        tar.addfile(info, BytesIO(data))

    with (
        path.open("wb") as raw,
        ISAL.GzipFile(fileobj=raw, mode="wb", compresslevel=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        add(tar, "sysdiagnose.log", b"started\n")
        for number in range(40):
            add(tar, f"crashes_and_spins/app-2026-07-26-{number:06}.ips", crash.encode())
        add(tar, "systemextensionsctl-list.txt", b"0 extension(s)\n")
        number = 0
        while raw.tell() < megabytes * 1_000_000:
            piece = b"".join(noise[:180_000] + bytes(120_000) + words[:100_000] for _ in range(25))
            add(tar, f"system_logs.logarchive/Persist/{number:016x}.tracev3", piece)
            for text in range(10):
                add(tar, f"ioreg/{number}-{text}.txt", words)
            number += 1


def lines_json(path: Path) -> int:
    """Each line with the standard library."""
    count = 0
    with path.open("rb") as file:
        for line in file:
            json.loads(line)
            count += 1
    return count


def lines_msgspec(path: Path) -> int:
    """Each line with msgspec, typed, and nothing done with it."""
    decode = msgspec.json.Decoder(Line).decode
    count = 0
    with path.open("rb") as file:
        for line in file:
            decode(line)
            count += 1
    return count


def triage_all(path: Path) -> int:
    """As `sysext triage` reads a large file, matching aside."""
    source = open_input(path, interest=INTEREST)
    given = sum(1 for _ in source.records)
    coverage = source.coverage
    assert coverage.of["unparsed"] == 0
    assert given == coverage.given
    return coverage.records or len(source.documents)


def triage_every(path: Path) -> int:
    """The same, with every record given out."""
    return sum(1 for _ in open_input(path).records)


def isal_only(path: Path) -> int:
    """Decompression alone."""
    size = 0
    with path.open("rb") as raw, ISAL.GzipFile(fileobj=raw) as file:
        while piece := file.read(1 << 20):
            size += len(piece)
    return size


def tarfile_gz(path: Path) -> int:
    """The standard library's way: r|gz, every header looked at."""
    with tarfile.open(path, "r|gz") as tar:
        return sum(1 for _ in tar)


WAYS = {one.__name__: one for one in (lines_json, lines_msgspec, triage_all, triage_every, isal_only, tarfile_gz)}


def measure(way: str, path: Path) -> tuple[float, float, int, int]:
    """Processor seconds, wall seconds, kilobytes at most, and what it counted, of a way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_triage_speed", "--one", way, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    cpu, wall, peak, count = done.stdout.split()
    return float(cpu), float(wall), int(peak), int(count)


def main() -> int:
    """Make the data, measure, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true", help="1 GB of ndjson and a 380 MB sysdiagnose")
    parser.add_argument("--ndjson", type=int, default=200, metavar="MB")
    parser.add_argument("--tar", type=int, default=80, metavar="MB")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        started, before = time.perf_counter(), time.process_time()
        count = WAYS[given.one[0]](Path(given.one[1]))
        cpu, wall = time.process_time() - before, time.perf_counter() - started
        print(cpu, wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, count)
        return 0
    ndjson, tar = (1000, 380) if given.full else (given.ndjson, given.tar)
    with scratch_folder() as scratch:
        log, archive = scratch / "log.ndjson", scratch / "sysdiagnose.tar.gz"
        make_ndjson(log, ndjson)
        make_sysdiagnose(archive, tar)
        found = {}
        print(
            f"{'':>16} {'MB':>7} {'cpu s':>7} {'wall s':>7} {'MB/s':>7} {'peak MB':>8}  (load {os.getloadavg()[0]:.1f})"
        )
        for way, path in (
            ("lines_json", log),
            ("lines_msgspec", log),
            ("triage_all", log),
            ("triage_every", log),
            ("isal_only", archive),
            ("triage_all", archive),
            ("tarfile_gz", archive),
        ):
            runs = [measure(way, path) for _ in range(2)]
            cpu, wall, peak, _ = min(runs)
            size = path.stat().st_size / 1e6
            found[way, path.name] = (cpu, size, peak)
            print(f"{way:>16} {size:7.0f} {cpu:7.2f} {wall:7.2f} {size / cpu:7.0f} {peak / 1000:8.0f}  {path.name}")
    cpu, size, peak = found["triage_all", "log.ndjson"]
    good = judge("ndjson MB/s on one core", size / cpu, 250, most=False)
    good &= judge("times as fast as json.loads per line", found["lines_json", "log.ndjson"][0] / cpu, 2, most=False)
    good &= judge("times the time of msgspec alone", cpu / found["lines_msgspec", "log.ndjson"][0], 2)
    good &= judge("peak memory, MB", peak / 1000, 150)
    whole = found["triage_all", "sysdiagnose.tar.gz"][0] / found["isal_only", "sysdiagnose.tar.gz"][0]
    good &= judge("sysdiagnose: times the time of decompressing it", whole, 1.3)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
