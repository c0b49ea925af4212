"""`sysext bisect`: is the right release named, and how many runs does that take beside a plain halving?

    python -m benchmarks.bench_bisect                 # drawn outcomes, seconds
    python -m benchmarks.bench_bisect --machines 3    # and so many trials on simulated Macs, each run a real upgrade

A fault comes with a random one of 20 releases, at a rate that nobody tells. Drawn: `Hunt` (what the command decides by) with and
without its look at the ends, beside a halving that knows the rate and asks each release so often that it is as often right. On
simulated Macs: the command's own prober runs the upgrade scenario, the simulated fault begins at that release. Exit 1 below a floor.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chain_of_releases import make_chain
from benchmarks.common import APP, ROOT, judge, scratch_folder
from harness.errors import Verdict
from harness.history.statistics import halving_runs
from harness.repro.bisecting import Hunt, Prior
from harness.repro.outcomes import Outcome

RELEASES = [f"0.{number}" for number in range(20)]
RATE = 0.2
TRIALS = 100
HALVINGS = 4000
RIGHT = 0.90
FAULT = "xpc-endpoints-missing-after-upgrade"
QUICK = {
    **{f"SYSEXT_SIMULATED__{name}_SECONDS": "0.1" for name in ("BOOT", "LOGIN", "PROMPT", "SHUTDOWN", "ACTIVATION")},
    "SYSEXT_SIMULATED__SETTLE_SECONDS": "0.05",
    "SYSEXT_EVIDENCE__RECORDING": "false",
    "SYSEXT_EVIDENCE__SYSDIAGNOSE": "false",
    "SYSEXT_TIMEOUTS__READY": "6",
    "SYSEXT_HISTORY__RECORD": "false",
}


def outcome(number: int, *, failed: bool) -> Outcome:
    """Of one drawn run."""
    verdict = Verdict.PRODUCT_FAILURE if failed else Verdict.PASSED
    return Outcome(cycle=number, attempt=1, item=0, nodeid="", verdict=verdict, cause=FAULT if failed else "")


def hunted(
    rate: float, seed: int, *, ends: bool, prior: Prior | None = None, jobs: int = 1
) -> tuple[float, float, float, float]:
    """Share of right answers, share of wrong ones, mean runs, and how often somebody waited for (so many at once); the rest was
    said to be undecided.
    """
    dice = np.random.default_rng(seed)
    right, wrong, runs, rounds = 0, 0, 0, 0
    for _ in range(TRIALS):
        first_bad = int(dice.integers(1, len(RELEASES)))
        hunt = Hunt(RELEASES, ends=ends, prior=prior or Prior())
        while batch := hunt.batch(jobs):
            rounds += 1
            for release in batch:
                failed = RELEASES.index(release) >= first_bad and bool(dice.random() < rate)
                hunt.take(release, outcome(len(hunt.outcomes) + 1, failed=failed))
        right += hunt.answer == RELEASES[first_bad]
        wrong += hunt.answer not in (None, RELEASES[first_bad])
        runs += hunt.bisection.runs
    return right / TRIALS, wrong / TRIALS, runs / TRIALS, rounds / TRIALS


def halved(rate: float, each: int, seed: int, *, stop_early: bool) -> tuple[float, float]:
    """The same by halving, with so many runs of each release asked about, or fewer once one has failed."""
    dice = np.random.default_rng(seed)
    right, runs = 0, 0
    for _ in range(HALVINGS):
        first_bad = int(dice.integers(1, len(RELEASES)))
        low, high = 1, len(RELEASES) - 1
        while low < high:
            middle = (low + high) // 2
            failed = dice.random(each) < (rate if middle >= first_bad else 0)
            runs += int(np.argmax(failed)) + 1 if stop_early and failed.any() else each
            low, high = (low, middle) if failed.any() else (middle + 1, high)
        right += low == first_bad
    return right / HALVINGS, runs / HALVINGS


def drawn() -> bool:
    """The table on drawn outcomes, and the floors."""
    good = True
    print(
        f"{TRIALS} trials over {len(RELEASES)} releases; the halving knows the rate, does not look at the ends, and is as often right"
    )
    print(
        "rate   bisect: right wrong  runs | with the ends: right wrong  runs | rate known: right  runs | halving: each right   runs | early: runs"
    )
    for rate in (0.1, RATE, 0.5):
        right, wrong, runs, _ = hunted(rate, 7, ends=False)
        seen = hunted(rate, 7, ends=True)
        known = hunted(rate, 7, ends=False, prior=Prior(round(50 * rate), 50, counted=True))
        each, _ = halving_runs(len(RELEASES), rate, min(right, 0.995))
        share, fixed = halved(rate, each, 8, stop_early=False)
        _, early = halved(rate, each, 8, stop_early=True)
        print(
            f"{rate:<6} {right:13.2f} {wrong:5.2f} {runs:5.1f} | {seen[0]:20.2f} {seen[1]:5.2f} {seen[2]:5.1f} | {known[0]:17.2f} {known[2]:5.1f} | "
            f"{each:13} {share:5.3f} {fixed:6.1f} | {early:11.1f}"
        )
        if math.isclose(rate, RATE):
            good &= judge(f"right release at {rate:.0%}, share", right, RIGHT, most=False)
            good &= judge(
                "right release with the look at the ends, share of the answers given", 1 - seen[1], RIGHT, most=False
            )
            good &= judge("runs, by those of the halving that is as often right", runs / fixed, 1.0)
            good &= judge("runs with the look at the ends, by those of the halving without one", seen[2] / fixed, 1.0)
            good &= at_once(rate, seen[2])
    return good


def at_once(rate: float, alone: float) -> bool:
    """Several runs at once (`-n`): as right, in how much of the time?"""
    good = True
    for jobs in (2, 4, 8):
        right, wrong, runs, rounds = hunted(rate, 7, ends=True, jobs=jobs)
        print(
            f"  {jobs} at once: right {right:.2f} wrong {wrong:.2f}, {runs:.1f} runs in {rounds:.1f} rounds ({alone / rounds:.1f} times as soon)"
        )
        good &= judge(f"{jobs} at once: right release, share", right, RIGHT, most=False)
        good &= judge(f"{jobs} at once: runs, by those of one at a time", runs / alone, 1.35)
    return good


def on_machines(trials: int, seed: int, releases: int, rate: float, most: int, jobs: int) -> bool:
    """Trials on simulated Macs; True when none named a wrong release and one at least named the right one."""
    dice = np.random.default_rng(seed)
    right, wrong, runs, seconds = 0, 0, 0, 0.0
    with scratch_folder() as scratch:
        app, names = make_chain(scratch, APP, releases)
        print(f"{trials} trials on simulated Macs, {releases} releases, rate {rate:.0%}, seed {seed}")
        for trial in range(1, trials + 1):
            first_bad = int(dice.integers(1, releases))
            fault = f"{FAULT}:rate={rate}:seed={int(dice.integers(1, 10**6))}:from={names[first_bad]}"
            started = time.monotonic()
            hunt = _on_macs(names, app, fault, scratch / f"trial{trial}", most, jobs)
            took = time.monotonic() - started
            runs, seconds = runs + len(hunt.outcomes), seconds + took
            right += hunt.answer == names[first_bad]
            wrong += hunt.answer not in (None, names[first_bad])
            causes = ", ".join(f"{code} ({count})" for code, count in hunt.causes)
            print(
                f"  trial {trial}: first bad {names[first_bad]}, named {hunt.answer or 'none: ' + hunt.stopped} "
                f"({hunt.best[1]:.0%}), {hunt.bisection.runs} runs, {took / max(1, len(hunt.outcomes)):.1f} s each; {causes}",
                flush=True,
            )
    print(
        f"right {right}, wrong {wrong}, undecided {trials - right - wrong}; {runs / trials:.1f} runs each, {seconds / max(1, runs):.1f} s per run"
    )
    return wrong <= max(1, trials // 10) and right >= trials / 2


def _on_macs(names: list[str], app: Path, fault: str, folder: Path, most: int, jobs: int) -> Hunt:
    from harness.repro.probing import Probers
    from harness.repro.selecting import pytest_arguments

    folder.mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SYSEXT_")}
    environment: dict[str, Any] = {**inherited, **QUICK, "SYSEXT_SIMULATED__HOME": str(folder.parent / "tart")}
    environment["SYSEXT_CACHE"] = str(folder.parent / "cache")
    words = [
        "--sysext-app",
        str(app),
        "--sysext-provider",
        "simulated",
        "--sysext-macos",
        "15",
        "--sysext-no-preflight",
    ]
    words += ["--sysext-fault", fault, "--rootdir", str(ROOT)]
    base = pytest_arguments(
        f"{ROOT}/scenarios/test_lifetime.py::test_upgrade_with_the_extension_running", words, root=ROOT, simulated=True
    )
    hunt = Hunt(names, most=most)
    with Probers(
        jobs, lambda release: [*base, f"--sysext-release={release}"], folder, environment=environment
    ) as probers:
        while batch := hunt.batch(jobs):
            for release, came in zip(batch, probers.run(batch), strict=True):
                hunt.take(release, came)
    return hunt


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="Bisection over releases: right, and with few runs?")
    parser.add_argument("--machines", type=int, default=0, metavar="TRIALS", help="trials on simulated Macs, too")
    parser.add_argument("--releases", type=int, default=20, help="of those trials")
    parser.add_argument("--rate", type=float, default=RATE, help="the fault's, in those trials")
    parser.add_argument("--seed", type=int, default=None, help="of those trials; random by default")
    parser.add_argument("--most", type=int, default=200, help="runs at most in one of them")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once in one of them")
    given = parser.parse_args()
    good = drawn()
    if given.machines:
        seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4))
        good &= on_machines(given.machines, seed, given.releases, given.rate, given.most, given.jobs)
    print("ok" if good else "NOT MET")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
