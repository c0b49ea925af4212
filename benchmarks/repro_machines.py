"""Replacements really run on simulated Macs, through the harness: the outcomes that `bench_repro --machines` decides on.

One Mac serves one experiment: the older release is installed and approved once; from then on each cycle puts the other release
in the place of the running one, there and back in turn, activates it, and it must work. All through `session.Mac`: SSH, the
oracle, launchd's endpoints, the staged copy, no question asked. The fault decides anew at every replacement, so a broken one is
not in the way of the next. A Mac that is broken otherwise is replaced, and told.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import APP, ROOT, judge, scratch_folder
from benchmarks.leading import in_a_process, processes, run_child
from harness import events
from harness.apps.health import XpcBroken
from harness.errors import SysextError, Verdict
from harness.history.intervals import clopper_pearson
from harness.history.sequential import Decision, Sprt, SprtPlan, plan_sprt
from harness.session.approving import ApprovalSteps
from harness.session.mac import Mac, machine_folder
from harness.session.run import Run, open_run
from harness.waiting import Deadline

FAULT = "xpc-endpoints-missing-after-upgrade"
MACOS = "15"
OLDER, NEWER = "0.11.4", "0.11.5"
READY = 10.0
"""Seconds that endpoints are waited for: a simulated Mac without delays has them at once, and a broken one costs so much."""
RATE = 0.2
FINE = 0.01
"""How often the app without the fault fails for other reasons: less than is asked for, and not never."""
LOW, HIGH = 0.02, 0.1
"""What the test tells apart: as `sysext repro --rate 0.1` does."""
COST = 1.15
LAST = 20
"""Macs for one experiment at most."""


@dataclass(frozen=True)
class Wanted:
    """One experiment to run: a test of a fault's rate on upgrades."""

    number: int
    rate: float
    seed: int
    plan: SprtPlan


@dataclass
class Broken(Exception):
    """The Mac is of no more use."""

    why: str


class Bench:
    """Runs experiments in this process, one Mac at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def experiment(self, wanted: Wanted) -> dict[str, Any]:
        """Cycles until the test decides; every one on a Mac, with the fault at its rate and a seed of its own."""
        test = Sprt(wanted.plan)
        told: dict[str, Any] = {"macs": 0, "replaced": [], "causes": {}}
        started, processor = time.monotonic(), time.process_time()
        while test.decision is Decision.CONTINUE:
            if told["macs"] >= LAST:
                raise SystemExit(f"experiment {wanted.number}: no Mac lasts: {told['replaced']}")
            fault = f"{FAULT}:rate={wanted.rate}:seed={wanted.seed + told['macs']}"
            told["macs"] += 1
            try:
                with self._mac([fault] if wanted.rate else []) as upgrades:
                    while test.decision is Decision.CONTINUE:
                        error = upgrades.cycle()
                        test.update(error is not None)
                        if error is not None:
                            name = FAULT if isinstance(error, XpcBroken) else type(error).__name__
                            told["causes"][name] = told["causes"].get(name, 0) + 1
            except Broken as broken:
                told["replaced"].append(broken.why[:300])
        return {
            "experiment": wanted.number,
            "rate": wanted.rate,
            "seed": wanted.seed,
            "low": wanted.plan.low,
            "high": wanted.plan.high,
            "rejected": test.decision is Decision.REJECT,
            "runs": test.runs,
            "failures": test.failures,
            "seconds": round(time.monotonic() - started, 2),
            "processor": round(time.process_time() - processor, 2),
            **told,
        }

    @contextlib.contextmanager
    def _mac(self, faults: list[str]) -> Iterator[Upgrades]:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            run = _open(faults, Path(folder))
            case = run.open_case(
                scenario="upgrades", nodeid=f"upgrades-{random.random()}", macos=MACOS, attempt=1, failed_before=False
            )
            with events.use(case.log):
                try:
                    machine = run.provider.create(
                        image=run.settings.image_for(MACOS),
                        macos=MACOS,
                        purpose="bench",
                        folder=machine_folder(case),
                        deadline=Deadline.after(600),
                    )
                except SysextError as error:
                    raise Broken(str(error)) from error
                with machine:
                    mac = Mac(machine, settings=run.settings, app=run.app, case=case, reader=run.reader)
                    try:
                        try:
                            mac.bring_up()
                            upgrades = Upgrades(mac)
                            upgrades.begin()
                        except SysextError as error:
                            raise Broken(str(error)) from error
                        yield upgrades
                    finally:
                        mac.close()
                        machine.stop(Deadline.after(60))
                        case.log.close()


class Upgrades:
    """The replacements on one Mac."""

    def __init__(self, mac: Mac) -> None:
        self.mac = mac
        self.approval = ApprovalSteps(mac)
        mac.case.collected.append("XPC broken")  # evidence is what `sysext repro` is timed with, not this

    def begin(self) -> None:
        """The older release, approved and working."""
        self.mac.install(OLDER)
        self.approval.activate_and_approve()
        self.mac.expect_working()

    def cycle(self) -> SysextError | None:
        """The other release in the place of the one that runs: None if it works afterwards.

        Raises:
            Broken: It is not the product that failed.
        """
        assert self.mac.installed is not None
        return self._replace(OLDER if self.mac.installed.release == NEWER else NEWER)

    def _replace(self, release: str) -> SysextError | None:
        try:
            self.mac.install(release)
            self.approval.expect_no_questions(self.mac.activate())
            self.mac.expect_working()
        except SysextError as error:
            if error.verdict is Verdict.PRODUCT_FAILURE:
                return error
            raise Broken(f"{type(error).__name__}: {error}") from error
        except (OSError, EOFError) as error:
            raise Broken(f"{type(error).__name__}: {error}") from error
        finally:
            self.mac.stop_activations()
        return None


def work(wanted: Wanted, folder: Path) -> dict[str, Any]:
    """For a pool of processes: one experiment."""
    return in_a_process(Bench(folder).experiment, wanted)


_READER: list[Any] = []


def _open(faults: list[str], artifacts: Path) -> Run:
    none = {f"simulated.{name}_seconds": 0 for name in ("boot", "login", "prompt", "settle", "shutdown", "activation")}
    run = open_run(
        {
            "app": str(APP),
            "provider": "simulated",
            "macos": [MACOS],
            "artifacts": str(artifacts),
            "simulated.faults": faults,
            "simulated.slots": 64,
            "timeouts.ready": READY,
            "evidence.recording": False,
            "evidence.sysdiagnose": False,
            **none,
        },
        config=Path(os.devnull),
        release=NEWER,
        folder=artifacts / "run",
    )
    if _READER:  # its models are loaded once per process
        run._reader = _READER[0]
    else:
        _READER.append(run.reader)
    return run


def experiments_on_machines(count: int, workers: int, results: Path | None) -> bool:
    """So many experiments with the fault and as many with an app that is fine; those that `results` has already are not run again."""
    plan = plan_sprt(LOW, HIGH)
    done = _read(results) if results is not None else []
    known = {(one["rate"], one["experiment"]) for one in done}
    dice = random.SystemRandom()
    wanted = [
        Wanted(number, rate, dice.randrange(1 << 31), plan)
        for number in range(count)
        for rate in (RATE, FINE)
        if (rate, number) not in known
    ]
    print(
        f"{len(done)} experiments known, {len(wanted)} to run on simulated Macs, {workers} at a time; a test of {plan.low:.0%} "
        f"against {plan.high:.0%}, alpha = beta = {plan.alpha:g}",
        flush=True,
    )
    started = time.monotonic()
    with scratch_folder() as folder, processes(workers) as pool:
        tasks = [pool.submit(work, one, folder) for one in wanted]
        for task in as_completed(tasks):
            one = task.result()
            done.append(one)
            _append(results, one)
            print(_line(one, len(done), time.monotonic() - started), flush=True)
    return _judged(done, plan)


def _judged(done: list[dict[str, Any]], plan: SprtPlan) -> bool:
    good = True
    for rate, what in ((RATE, "fault"), (FINE, "a fine app")):
        those = [one for one in done if one["rate"] == rate and one["low"] == plan.low and one["high"] == plan.high]
        if not those:
            continue
        wrong = sum(one["rejected"] is (rate < HIGH) for one in those)
        runs = sum(one["runs"] for one in those)
        mean, wald, exact = runs / len(those), plan.wald_expected(rate), plan.operating(rate)
        seen = clopper_pearson(sum(one["failures"] for one in those), runs)
        causes: Counter[str] = Counter()
        for one in those:
            causes.update(one["causes"])
        print(
            f"{what} at {rate:.0%}: {len(those)} experiments, {runs} replacements on {sum(one['macs'] for one in those)} Macs "
            f"({sum(len(one['replaced']) for one in those)} replaced); failing {seen}; causes {dict(causes)}; "
            f"{sum(one['seconds'] for one in those) / runs:.2f} s each; {wrong} wrong decisions "
            f"(exactly {exact.reject if rate < HIGH else exact.accept:.4f} of all)"
        )
        good &= judge(f"{what}: wrong decisions, share", wrong / len(those), plan.alpha)
        good &= judge(f"{what}: mean cycles, by Wald's {wald:.1f}", mean / wald, COST)
    return good


def engine() -> bool:
    """`sysext repro` itself, with an unknown seed: does it find the fault, and name it?"""
    seed = random.SystemRandom().randrange(1 << 31)
    fault = f"{FAULT}:rate={RATE}:seed={seed}"
    with scratch_folder() as folder:
        report, said = folder / "report.json", folder / "said.txt"
        command = [sys.executable, "-c", "from harness.cli import main; main()"]
        command += ["repro", "test_upgrade_with_the_extension_running", "--rate", str(HIGH), "--same-mac", "-n", "2"]
        command += ["--keep", "none", "--json", str(report), "--sysext-fault", fault, "--sysext-app", str(APP)]
        command += ["--sysext-provider", "simulated", "--sysext-macos", MACOS, "--sysext-artifacts", str(folder)]
        delays = {
            f"SYSEXT_SIMULATED__{name.upper()}_SECONDS": "0"
            for name in ("boot", "login", "prompt", "settle", "shutdown", "activation", "sysdiagnose")
        }
        environment = {
            **os.environ,
            **delays,
            "SYSEXT_TIMEOUTS__READY": str(READY),
            "SYSEXT_EVIDENCE__RECORDING": "false",
            "SYSEXT_HISTORY__RECORD": "false",
        }
        print(f"sysext repro, {fault}", flush=True)
        started = time.monotonic()
        code = run_child(command, cwd=ROOT, environment=environment, output=said)
        print(said.read_text(errors="replace"))
        data = json.loads(report.read_text()) if report.is_file() else {}
    causes = [row["code"] for row in data.get("causes", [])]
    print(f"exit {code}, {data.get('runs')} cycles, {time.monotonic() - started:.0f} s, causes {causes}")
    good = code == 1 and causes[:1] == [FAULT]
    print("detected, and its cause named:", "ok" if good else "NOT MET")
    return good


def _line(one: dict[str, Any], number: int, seconds: float) -> str:
    said = "failing" if one["rejected"] else "accepted"
    return (
        f"{seconds:7.0f} s  {number:4}  rate {one['rate']:<4} seed {one['seed']:<10} {said:<8} {one['failures']}/{one['runs']} "
        f"in {one['seconds']:.0f} s, {one['macs']} Macs"
    )


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def _append(path: Path | None, one: dict[str, Any]) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(one) + "\n")
