"""Does each fault of a replacement turn exactly the cells of the upgrade matrix red that it can touch, and no other, and does triage
name it by its own code in each of them?

    python -m benchmarks.upgrade_faults                       every fault of a replacement, the small choice of cells
    python -m benchmarks.upgrade_faults --cells "matrix pairwise" --only old-process-lingers
    python -m benchmarks.upgrade_faults --only xpc-endpoints-missing-after-upgrade --ladder --cells previous
    python -m benchmarks.upgrade_faults --none --cells matrix --macos 15,26         no fault: all must be green

A row per fault: how many cells it can touch, how many of those were red, how many others were red, how many of the red ones triage named
by the fault's own code; then what it named first, and, with `--ladder`, what healed it. Exit code 1 unless the red cells are exactly the
expected ones and all are named so.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import APP, ROOT, scratch_folder
from benchmarks.leading import run_child
from harness.config import AppFile, load_app
from harness.reports.result import CaseResult, final_attempts, read_results
from harness.simulator.guest.replacing import REPLACEMENT_FAULTS
from harness.upgrades import Cell, Step, cell_id, cells, relation
from harness.upgrades.expectations import SAME_VERSION
from harness.upgrades.paths import TUNNEL_UP, State

ANY_ENTRY = frozenset({"replacement-answer-lost", "replacement-cancelled", "duplicate-entries-jam"})
"""These come with the decision to replace, whatever state the older entry is in; all others only where the older one runs."""
QUICK = {
    "SYSEXT_TIMEOUTS__PROMPT": "20",
    "SYSEXT_TIMEOUTS__ACTIVATION": "25",
    "SYSEXT_TIMEOUTS__READY": "20",
    "SYSEXT_TIMEOUTS__APPROVAL": "60",
    "SYSEXT_UPGRADES__RUNG_SECONDS": "15",
    "SYSEXT_EVIDENCE__SYSDIAGNOSE": "false",
    "SYSEXT_EVIDENCE__RECORDING": "false",
    "SYSEXT_HISTORY__RECORD": "false",
    "SYSEXT_SIMULATED__BOOT_SECONDS": "0.2",
    "SYSEXT_SIMULATED__LOGIN_SECONDS": "0.1",
    "SYSEXT_SIMULATED__PROMPT_SECONDS": "0.2",
    "SYSEXT_SIMULATED__ACTIVATION_SECONDS": "0.2",
    "SYSEXT_SIMULATED__SETTLE_SECONDS": "0.1",
}


@dataclass
class Row:
    """What came of one fault."""

    fault: str
    expected: set[str]
    red: set[str] = field(default_factory=set)
    misnamed: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    causes: collections.Counter[str] = field(default_factory=collections.Counter)
    healers: collections.Counter[str] = field(default_factory=collections.Counter)
    cells: int = 0
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Exactly the expected cells were red, as the product's failure, each at the first try, and each was named by the fault's own code."""
        return self.red == self.expected and not (self.broken or self.again or self.missing or self.misnamed)


def touches(fault: str, step: Step, app: AppFile) -> bool:
    """Whether a fault can show in an upgrade: only where a version is really replaced by another."""
    if relation(app, step.older, step.newer) in SAME_VERSION or step.state is State.NEVER:
        return False
    return fault in ANY_ENTRY or step.state in TUNNEL_UP


def run(fault: str, wanted: Sequence[Cell], options: argparse.Namespace, app: AppFile, folder: Path) -> Row:
    """One pytest with all cells."""
    started = time.monotonic()
    code = fault.partition(":")[0]
    expected = {cell_id(cell) for cell in wanted if fault and any(touches(code, step, app) for step in cell[1])}
    row = Row(fault or "(none)", expected, cells=len(wanted))
    artifacts = folder / (fault.replace(":", "+") or "none")
    # Without byte code each process would compile everything anew.
    foreign = ("SYSEXT_", "PYTEST_", "GITHUB_", "PYTHONDONTWRITEBYTECODE")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    environ |= {**QUICK, "SYSEXT_ARTIFACTS": str(artifacts), "SYSEXT_SIMULATED__HOME": str(folder / "tart")}
    environ |= {"SYSEXT_UPGRADES__LADDER": "true" if options.ladder else "false"}
    command = [sys.executable, "-m", "pytest", "scenarios/test_upgrade_paths.py", "-q", "-p", "no:cacheprovider"]
    command += ["-n", str(options.workers), "--timeout", "900", "--sysext-app", str(APP), "--sysext-quiet"]
    command += ["--sysext-provider", "simulated", "--sysext-macos", options.macos]
    command += [word for text in options.cells for word in ("--sysext-upgrade", text)]
    command += ["--sysext-fault", fault] if fault else []
    artifacts.mkdir(parents=True)
    run_child(command, cwd=ROOT, environment=environ, output=artifacts / "output.txt")
    results, _ = read_results(artifacts)
    seen = {_cell_of(result): result for result, _ in final_attempts(results)}
    for name, result in seen.items():
        if result.verdict == "product-failure":
            row.red.add(name)
            row.causes[result.cause or "(none)"] += 1
            if result.cause != code:
                row.misnamed[name] = result.cause or "(none)"
            row.healers[_healer(result, artifacts)] += 1
        elif result.verdict != "passed":  # skipped is not green either: nothing was tested
            row.broken.add(name)
        if result.attempt > 1:
            row.again.add(name)
    row.missing = {cell_id(cell) for cell in wanted} - set(seen)
    row.seconds = time.monotonic() - started
    return row


def main() -> int:
    """Run, print the table, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="these faults")
    parser.add_argument("--none", action="store_true", help="no fault at all")
    parser.add_argument("--cells", action="append", help="expressions of --sysext-upgrade; default: the small choice")
    parser.add_argument("--macos", default="15,26")
    parser.add_argument("--workers", type=int, default=4, help="Macs at once; they mostly wait")
    parser.add_argument("--ladder", action="store_true", help="climb the recovery ladder, and say what healed")
    parser.add_argument("--keep", type=Path, help="keep the case files here")
    options = parser.parse_args()
    options.cells = options.cells or []
    app = load_app(APP)
    wanted = cells(app, options.macos.split(","), options.cells)
    faults = [""] if options.none else options.only or list(REPLACEMENT_FAULTS)
    print(f"{len(wanted)} cells on macOS {options.macos}; each fault at rate 1")
    print(
        f"{'fault':38} {'cells':>5} {'touched':>7} {'red':>4} {'others red':>10} {'broken':>6} {'own code':>8} {'seconds':>7}  named"
    )
    rows = []
    with scratch_folder() as scratch:
        for fault in faults:
            row = run(fault, wanted, options, app, options.keep or scratch)
            rows.append(row)
            _show(row, ladder=options.ladder)
    wrong = [row.fault for row in rows if not row.right]
    print(f"{len(rows) - len(wrong)}/{len(rows)} exactly as expected" + (f"; not: {', '.join(wrong)}" if wrong else ""))
    return 1 if wrong else 0


def _show(row: Row, *, ladder: bool) -> None:
    named = ", ".join(f"{cause} ×{count}" for cause, count in row.causes.most_common())
    red = len(row.red & row.expected)
    others = len(row.red - row.expected)
    mark = " " if row.right else "✗"
    print(
        f"{mark}{row.fault:37} {row.cells:>5} {len(row.expected):>7} {red:>4} {others:>10} {len(row.broken):>6} "
        f"{len(row.red) - len(row.misnamed):>8} {row.seconds:>7.0f}  {named or '-'}",
        flush=True,
    )
    if ladder and row.red:
        print(f"    healed by: {', '.join(f'{name} ×{count}' for name, count in row.healers.most_common())}")
    for what, names in (
        ("green, and should be red", row.expected - row.red - row.broken - row.missing),
        ("red, and should be green", row.red - row.expected),
        ("neither passed nor the product's failure", row.broken),
        ("not at the first try", row.again),
        ("without a result", row.missing),
        ("named otherwise", {f"{name}: {cause}" for name, cause in row.misnamed.items()}),
    ):
        for name in sorted(names):
            print(f"    {what}: {name}")


def _cell_of(result: CaseResult) -> str:
    return result.nodeid.partition("[")[2].removesuffix("]")


def _healer(result: CaseResult, artifacts: Path) -> str:
    try:
        steps = json.loads((artifacts / result.case / "upgrade.json").read_text(encoding="utf-8"))["steps"]
    except (OSError, ValueError, KeyError):
        return "(not known)"
    return next((str(step["healed_by"]) for step in steps if "healed_by" in step), "(not tried)")


if __name__ == "__main__":
    sys.exit(main())
