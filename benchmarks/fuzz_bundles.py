"""Inspection against altered apps: nothing but our own errors, bounded time, and no altered byte unnoticed.

    python -m benchmarks.fuzz_bundles [--count 2000] [--seed N] [--source pypi:mitmproxy_macos==0.11.5]

Kinds of alteration: one byte flipped (has to be noticed in code, Info.plist, seals, resources, profile and ticket), bytes
overwritten with extreme numbers, truncation, pieces moved or repeated, files removed, added, or replaced by links.
Ends with 1 at the first thing that is wrong, with the seed that brings it back.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from harness.bundles.inspection import inspect_app
from harness.bundles.inspection_text import as_text
from harness.bundles.macho import read_slices
from harness.bundles.sources import opened
from harness.errors import UsageError

SLOW = 20.0
"""Seconds: far beyond what any input of this size may take."""
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
UNSEALED = ("PkgInfo",)


def alter(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One alteration of a file's content, and its name."""
    kind = rng.choice(("flip", "flip", "extreme", "truncate", "repeat", "move", "noise"))
    # Headers and signatures are where structure is; most of a Mach-O file is code.
    at = rng.choice((rng.randrange(len(data)), rng.randrange(min(len(data), 4096)), _in_signature(data, rng)))
    if kind == "flip":
        return kind, data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if kind == "extreme":
        number = rng.choice(EXTREMES).to_bytes(4, rng.choice(("big", "little")))
        return kind, (data[:at] + number + data[at + 4 :])[: len(data)]
    if kind == "truncate":
        return kind, data[:at]
    length = rng.randrange(1, 4096)
    if kind == "repeat":
        return kind, data[:at] + data[at : at + length] + data[at:]
    if kind == "move":
        other = rng.randrange(len(data))
        return kind, data[:at] + data[other : other + length] + data[at + length :]
    return kind, data[:at] + rng.randbytes(min(length, len(data) - at)) + data[at + length :]


def _in_signature(data: bytes, rng: random.Random) -> int:
    try:
        signed = [part for part in read_slices(data) if part.signature]
    except UsageError:
        signed = []
    if not signed:
        return rng.randrange(len(data))
    part = rng.choice(signed)
    assert part.signature is not None
    start, size = part.signature
    return min(part.offset + start + rng.randrange(size), len(data) - 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--source", default="pypi:mitmproxy_macos==0.11.5")
    options = parser.parse_args()
    first = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    seen: Counter[str] = Counter()
    slowest = 0.0
    with opened(options.source) as app, tempfile.TemporaryDirectory(prefix="sysext-fuzz-") as folder:
        copy = Path(folder) / app.name
        shutil.copytree(app, copy, symlinks=True)
        files = sorted(path for path in copy.rglob("*") if path.is_file() and path.name not in UNSEALED)
        if inspect_app(copy).problems:
            raise SystemExit(f"{app.name} is odd as it is: nothing can be learned from altering it")
        for seed in range(first, first + options.count):
            rng = random.Random(seed)
            path = rng.choice(files)
            original = path.read_bytes()
            kind, altered = alter(original, rng)
            if altered == original:
                continue
            path.write_bytes(altered)
            started = time.perf_counter()
            try:
                inspection = inspect_app(copy)
                as_text(inspection)
                inspection.as_dict()
                outcome = inspection.problems[0].code if inspection.problems else "unnoticed"
            except UsageError:
                outcome = "refused"
            except Exception as error:  # noqa: BLE001 - any other is what is looked for
                print(f"--seed {seed} --count 1: {path.relative_to(copy)}, {kind}: {type(error).__name__}: {error}")
                return 1
            finally:
                path.write_bytes(original)
            taken = time.perf_counter() - started
            slowest = max(slowest, taken)
            if outcome == "unnoticed" or taken > SLOW:
                print(f"--seed {seed} --count 1: {path.relative_to(copy)}, {kind}: {outcome}, {taken:.1f} s")
                return 1
            seen[f"{kind}: {outcome}"] += 1
    print(f"{sum(seen.values())} alterations from seed {first}, slowest {slowest * 1e3:.0f} ms")
    for outcome, count in seen.most_common():
        print(f"  {count:6} {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
