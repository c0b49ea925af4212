"""Is each simulated fault named by its own code from the evidence of a real scenario run? A confusion matrix.

    python -m benchmarks.bench_triage_faults                 every fault alone, and pairs
    python -m benchmarks.bench_triage_faults --only extension-crash --pairs 0
    python -m benchmarks.bench_triage_faults --pairs 8 --seed 3 --keep FOLDER

Each run is a pytest of its own on a simulated Mac; the case file's own triage (`result.json`) is what counts. Alone: the first cause is
the fault's code (or, where the fault changes nothing that a scenario sees, the run is green and names nothing). Pairs: the first cause
is one of the two (one often keeps the other from ever showing). Floor: 95 % of all runs.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import APP, ROOT
from harness.simulator.faults import known_faults

FLOOR = 0.95
FIRST = "test_first_activation_through_the_prompt"
UPGRADE = "test_upgrade_with_the_extension_running"
GREEN = ""
"""What a run that passes is to say: no cause at all."""


@dataclass(frozen=True)
class Expected:
    """What a fault is to look like.

    Attributes:
        code: The first cause; `GREEN` where no scenario can see the fault, with the reason in `why`.
        verdict: Of the scenario.
    """

    code: str
    scenario: str = FIRST
    verdict: str = "product-failure"
    why: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def _own(*codes: str, scenario: str = FIRST) -> dict[str, Expected]:
    return {code: Expected(code, scenario) for code in codes}


FAULTS: dict[str, Expected] = {
    **_own(
        "approval-prompt-missing",
        "approval-coalesced-no-prompt",
        "invisible-prompt-until-reboot",
        "sysextd-crash",
        "staging-removal-immutable",
        "no-policy-outside-applications",
        "extension-not-found",
        "category-validation-failed",
        "extension-crash",
        "extension-not-running",
        "killed-at-exec",
        "ne-provider-start-timeout",
        "ne-preferences-save-failed",
        "forbidden-by-policy",
        "code-signature-invalid",
        "extension-category-unrecognised",
        "mach-service-name-invalid",
        "host-component-crash",
        "es-no-full-disk-access",
    ),
    **_own("xpc-endpoints-missing-after-upgrade", scenario=UPGRADE),
    "app-group-profile-mismatch": Expected(GREEN, verdict="passed", why="trustd's noise harms nothing"),
    "disable-stuck-still-running": Expected(GREEN, verdict="passed", why="no scenario switches the extension off"),
    "env-sysdiagnose-hangs": Expected(GREEN, verdict="passed", why="a pass needs no sysdiagnose"),
    "env-slow-clone": Expected(GREEN, verdict="passed", why="slow is not broken"),
    "env-stop-needs-kill": Expected(GREEN, verdict="passed", why="the harness kills it"),
    "env-vm-limit": Expected(GREEN, verdict="environment-failure", why="there never was a Mac"),
    "env-keychain": Expected(GREEN, verdict="environment-failure", why="there never was a Mac"),
    "env-hung-boot": Expected(
        GREEN, verdict="environment-failure", why="it never answered", environment={"SYSEXT_TIMEOUTS__BOOT": "8"}
    ),
}
"""Those that are missing here are variations of the way to a Mac, which the e2e tests cover; `main` says which."""
PAIRABLE = [code for code, expected in FAULTS.items() if expected.code and expected.scenario == FIRST]
NOISE = ["app-group-profile-mismatch", "env-sysdiagnose-hangs"]
QUICK = {
    "SYSEXT_TIMEOUTS__PROMPT": "6",
    "SYSEXT_TIMEOUTS__ACTIVATION": "20",
    "SYSEXT_TIMEOUTS__READY": "25",
    "SYSEXT_TIMEOUTS__APPROVAL": "45",
    "SYSEXT_TIMEOUTS__SYSDIAGNOSE": "20",
}


@dataclass(frozen=True)
class Run:
    """One run, and what came of it; `causes` are what triage names, best first."""

    faults: tuple[str, ...]
    verdict: str
    causes: tuple[str, ...]
    headline: str
    seconds: float

    @property
    def first(self) -> str:
        """The first cause, or GREEN."""
        return self.causes[0] if self.causes else GREEN

    @property
    def right(self) -> bool:
        """Whether it is as it should be."""
        expected = [FAULTS[code] for code in self.faults]
        if len(expected) == 1:
            return self.first == expected[0].code and self.verdict == expected[0].verdict
        return self.first in {one.code for one in expected if one.code} and self.verdict == "product-failure"


def run(faults: Sequence[str], folder: Path) -> Run:
    """Run one scenario with these faults."""
    started = time.monotonic()
    expected = [FAULTS[code] for code in faults]
    name = "+".join(faults)
    scenario = next((one.scenario for one in expected if one.scenario != FIRST), FIRST)
    artifacts, home = folder / name / "artifacts", folder / name / "tart"
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SYSEXT_", "PYTEST_", "GITHUB_"))}
    environ |= {**QUICK, "SYSEXT_SIMULATED__HOME": str(home), "SYSEXT_ARTIFACTS": str(artifacts)}
    for one in expected:
        environ |= one.environment
    command = [sys.executable, "-m", "pytest", str(ROOT / "scenarios"), "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", scenario]  # fmt: skip
    command += ["--timeout", "280", "--sysext-app", str(APP), "--sysext-provider", "simulated", "--sysext-macos", "15", "--sysext-quiet"]  # fmt: skip
    for code in faults:
        command += ["--sysext-fault", code]
    (folder / name).mkdir(parents=True)
    with (folder / name / "output.txt").open("wb") as output:
        subprocess.run(
            command, env=environ, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, timeout=600, check=False
        )
    results: list[dict[str, Any]] = [json.loads(path.read_text()) for path in artifacts.rglob("result.json")]
    if not results:
        return Run(tuple(faults), "no result", (), f"see {folder / name / 'output.txt'}", 0.0)
    result = max(results, key=lambda one: one["attempt"])
    why = result.get("why") or {}
    causes = tuple(cause["code"] for cause in why.get("causes", ())) if why.get("verdict") == "failure" else ()
    seconds = time.monotonic() - started
    return Run(tuple(faults), result["verdict"], causes, str(why.get("headline", "")), seconds)


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", action="append", help="these faults alone")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3, help="runs at once; they mostly wait")
    parser.add_argument("--keep", type=Path, help="keep the case files here")
    options = parser.parse_args()
    left_out = sorted(set(known_faults()) - set(FAULTS))
    print(f"not here (the tests of whole runs have them): {', '.join(left_out)}")
    chooser = random.Random(options.seed)
    alone = [(code,) for code in (options.only or FAULTS)]
    possible = [*itertools.combinations(PAIRABLE, 2), *((code, noise) for code in PAIRABLE for noise in NOISE)]
    pairs = chooser.sample(possible, min(options.pairs, len(possible)))
    with tempfile.TemporaryDirectory(prefix="sysext-faults-") as scratch:
        folder = options.keep or Path(scratch)
        with concurrent.futures.ThreadPoolExecutor(options.workers) as workers:
            runs = list(workers.map(lambda faults: run(faults, folder), [*alone, *pairs]))
    return judged(runs)


def judged(runs: Sequence[Run]) -> int:
    """Print the matrix; 1 below the floor."""
    width = max(len("+".join(one.faults)) for one in runs)
    print(f"{'injected':{width}}  {'first cause':36} {'verdict':20} also proven")
    for one in runs:
        mark = " " if one.right else "✗"
        also = ", ".join(one.causes[1:]) or "-"
        print(
            f"{'+'.join(one.faults):{width}} {mark}{one.first or '(none)':36} {one.verdict:20} {also}  [{one.seconds:.0f} s]"
        )
        if not one.right:
            print(
                f"{'':{width}}   expected {' or '.join(FAULTS[code].code or '(none)' for code in one.faults)}; {one.headline}"
            )
    single = [one for one in runs if len(one.faults) == 1]
    pairs = [one for one in runs if len(one.faults) == 2]
    for name, some in (("alone", single), ("pairs", pairs)):
        if some:
            print(f"{name}: {sum(one.right for one in some)}/{len(some)} on the diagonal")
    both = [one for one in pairs if all(FAULTS[code].code for code in one.faults)]
    if both:
        named = sum(set(one.faults) <= set(one.causes) for one in both)
        print(f"pairs of two failures: both named in {named}/{len(both)} (one often keeps the other from ever showing)")
    share = sum(one.right for one in runs) / len(runs)
    good = share >= FLOOR
    print(f"{share:.0%} on the diagonal, floor {FLOOR:.0%}: {'within its floor' if good else 'BELOW ITS FLOOR'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
