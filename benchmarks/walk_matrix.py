"""Every walk that the simulated display can pose, from the prompt to *activated enabled*, by the pointer alone.

    .venv/bin/python -m benchmarks.walk_matrix              all of it, with the real reader (on two cores about an hour)
    .venv/bin/python -m benchmarks.walk_matrix --short      each generation with each form and variation once
    .venv/bin/python -m benchmarks.walk_matrix --only 15    one generation

Exit code 1 if any walk fails, or clicks what is not its own.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator

from benchmarks.leading import in_a_process, leading, processes
from benchmarks.walking import FORMS, GENERATIONS, LOOKS, OTHERS, Walked, walk
from harness.screen import RapidReader

_reader: list[RapidReader] = []
Task = tuple[str, str, str, int]


def everything() -> Iterator[Task]:
    """Generation × look × (each form of the password window, each other variation)."""
    for version, (appearance, scale) in itertools.product(GENERATIONS, LOOKS):
        for variations in all_variations(version):
            yield version, variations, appearance, scale


def short() -> Iterator[Task]:
    """Each generation with each variation once; the looks take turns."""
    looks = itertools.cycle(LOOKS)
    for version in GENERATIONS:
        for variations in all_variations(version):
            appearance, scale = next(looks)
            yield version, variations, appearance, scale
        next(looks)


def all_variations(version: str) -> Iterator[str]:
    """What that generation can have."""
    yield from (f"password={form}" for form in FORMS)
    yield from (other for other in OTHERS if not other.startswith("lock") or version == "12")


def one(task: Task) -> Walked:
    """In a process of its own."""
    return in_a_process(_one, task)


def _one(task: Task) -> Walked:
    """The reader is loaded once in each."""
    if not _reader:
        _reader.append(RapidReader())
        _reader[0].warm_up()
    version, variations, appearance, scale = task
    return walk(version, variations, reader=_reader[0], appearance=appearance, scale=scale, patience=180)


def main() -> int:
    """Print a line per walk and the sum of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", choices=GENERATIONS)
    parser.add_argument("--matching", default="", help="only variations with this text in them")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    tasks = [task for task in (short() if given.short else everything()) if given.only in (None, task[0])]
    tasks = [task for task in tasks if given.matching in task[1]]
    started = time.monotonic()
    failed: list[Walked] = []
    print(f"{'macOS':<6}{'look':<10}{'variation':<52}{'seconds':>8}  result")
    with leading(), processes(given.jobs) as pool:
        for done in pool.map(one, tasks):
            look = f"{done.appearance} {done.scale}x"
            said = "; ".join(done.faults) or "enabled" + (f" ({len(done.degraded)} degraded)" if done.degraded else "")
            print(f"{done.version:<6}{look:<10}{done.variations:<52}{done.seconds:>8.1f}  {said}", flush=True)
            if done.faults:
                failed.append(done)
                print(f"      clicked: {', '.join(done.hits)}")
    print(f"{len(tasks)} walks, {len(failed)} failed, {time.monotonic() - started:.0f} s with {given.jobs} processes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
