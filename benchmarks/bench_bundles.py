"""How long it takes to inspect an app, and whether that is slower than LIEF merely parsing its executables.

    python -m benchmarks.bench_bundles [--runs 5] [--source pypi:mitmproxy_macos==0.11.5]

Ours verifies every page, seal, signature, chain, time stamp, profile and ticket; LIEF parses two Mach-O files and verifies
nothing. Each figure is the best of fresh processes (nothing is warm but the disk cache), all in the same run, in turn, and in
processor time: that is the wall time of a machine which does nothing else, and other work on this one only ever adds. The
command's wall time is printed beside it.
Ends with 1 beyond a target.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import judge
from harness.bundles.sources import opened

INSPECT = """
import sys, time
from pathlib import Path
started = time.process_time()
from harness.bundles.inspection import inspect_app
imported = time.process_time()
found = inspect_app(Path(sys.argv[1]))
cold = time.process_time()
inspect_app(Path(sys.argv[1]))
warm = time.process_time()
assert not found.problems, found.problems
print([imported - started, cold - imported, warm - cold])
"""
PREFLIGHT = """
import sys, time
from pathlib import Path
from harness.bundles.inspection import inspect_app
from harness.bundles.preflight import Release, judge
path = Path(sys.argv[1])
started = time.process_time()
judge(Release("now", inspect_app(path), path))
print([time.process_time() - started])
"""
LIEF = """
import sys, time
started = time.process_time()
import lief
imported = time.process_time()
for path in sys.argv[1:]:
    assert lief.MachO.parse(path) is not None
print([imported - started, time.process_time() - imported])
"""


def _run(code: str, *arguments: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found = json.loads(done.stdout)
    return [float(value) for value in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--source", default="pypi:mitmproxy_macos==0.11.5")
    options = parser.parse_args()
    with opened(options.source) as app:
        executables = [str(path) for path in sorted(app.rglob("Contents/MacOS/*")) if path.is_file()]
        size = sum(path.stat().st_size for path in app.rglob("*") if path.is_file())
        lief = importlib.util.find_spec("lief") is not None
        preflight = _has_preflight()
        ours: list[list[float]] = []
        theirs: list[list[float]] = []
        judged: list[float] = []
        command: list[tuple[float, float]] = []
        for _ in range(options.runs):
            ours.append(_run(INSPECT, str(app)))
            if lief:
                theirs.append(_run(LIEF, *executables))
            if preflight:
                judged += _run(PREFLIGHT, str(app))
            command.append(_command(app))
    print(f"{app.name}: {size / 1e6:.1f} MB, {len(executables)} executables, best of {options.runs} processes, ms")
    columns = list(zip(*ours, strict=True))
    cold, warm = min(columns[1]), min(columns[2])
    print(f"  ours: import {min(columns[0]) * 1e3:.0f}, inspect and verify {cold * 1e3:.1f}, again {warm * 1e3:.1f}")
    good = judge("inspect in the process, ms", cold * 1e3, 150)
    if judged:
        good &= judge("inspect and preflight in the process, ms", min(judged) * 1e3, 150)
    good &= judge("sysext inspect as a command, ms", min(command)[0] * 1e3, 400)
    print(f"  wall time of the command here: {min(wall for _, wall in command) * 1e3:.0f} ms at best")
    if not theirs:
        print("LIEF is not installed (extra `dev`): not compared")
        return 1
    columns = list(zip(*theirs, strict=True))
    parsed = min(columns[1])
    print(f"  LIEF: import {min(columns[0]) * 1e3:.0f}, parse of the executables {parsed * 1e3:.1f}")
    good &= judge("ours as a share of LIEF's parse", cold / parsed, 1.0)
    return 0 if good else 1


def _has_preflight() -> bool:
    try:
        from harness.bundles import preflight
    except ImportError:
        return False
    return hasattr(preflight, "judge")


def _command(app: Path) -> tuple[float, float]:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [str(Path(sys.executable).with_name("sysext")), "inspect", str(app)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr.decode(errors="replace")[-2000:])
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


if __name__ == "__main__":
    sys.exit(main())
