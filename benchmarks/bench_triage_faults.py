"""Confusion matrix of triage over the simulated Mac's faults: which cause is named for which injected fault.

    python -m benchmarks.bench_triage_faults                  # every fault alone, and pairs drawn at random (the seed is printed)
    python -m benchmarks.bench_triage_faults --only extension-crash --pairs 0
    python -m benchmarks.bench_triage_faults --alone 0 --pairs 20 --seed 3 --keep FOLDER
    python -m benchmarks.bench_triage_faults --judge FOLDER   # once more, without running anything

Each run is a pytest of its own on a simulated Mac; the case file's own triage (`result.json`) is what counts.

    alone   right: the verdict is as expected and the *first* cause is the fault's own code. A fault that fails no scenario has to be
            told by its code in the result's notes, and must raise no alarm.
    pairs   Half of them are drawn from all that have a scenario in common, half from those of one phase, so that both act.
            Both named: both codes within the first two (of one that only is told: told, if it came to bear). One of two: the fault that ends the run first is named first, and the
            other could not act any more (the simulator's own diary says that it never came to bear, or not before the scenario had
            failed) or is only told. Else wrong.
            Right are the first two; they are counted apart, and so are pairs of which both came to bear.

Floors: 95 % of the faults alone, and of the whole matrix; the share of the pairs is printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.common import APP, ROOT, scratch_folder
from benchmarks.leading import run_child, threads
from benchmarks.triage_apps import BEHAVIOURS, dns_proxy
from harness.simulator.faults import known_faults
from harness.triage.catalog import load_catalog

FLOOR = 0.95
FIRST = "test_first_activation.py::test_first_activation_through_the_prompt"
UPGRADE = "test_lifetime.py::test_upgrade_with_the_extension_running"
SWITCHED = "test_switched_off.py::test_switched_off_and_on_again"
ASLEEP = "test_sleep_and_suspend.py::test_works_after_sleep"
SOAK = "test_dns_proxy.py::test_dns_proxy_soak"
AMONG = "test_beside_others.py::test_found_among_others"
RED, ENVIRONMENT, GREEN, REFUSED = "product-failure", "environment-failure", "passed", "not begun"


@dataclass(frozen=True)
class Expected:
    """What a fault is to look like.

    Attributes:
        code: The fault's own code.
        verdict: Of the scenario. Where it is `passed`, the code must be in the result's notes. `not begun`: the run is refused
            before there is a case file, in words.
        given: How the fault is written, where more than its code is needed.
        dns: It takes an app whose provider is a DNS proxy.
    """

    code: str
    scenario: str = FIRST
    verdict: str = RED
    given: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    dns: bool = False

    @property
    def told(self) -> bool:
        """It fails nothing: a note is all it leaves."""
        return self.verdict == GREEN


def _all(*codes: str, scenario: str = FIRST, verdict: str = RED) -> dict[str, Expected]:
    return {code: Expected(code, scenario, verdict) for code in codes}


FAULTS: dict[str, Expected] = {
    **_all(
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
    **_all(
        "xpc-endpoints-missing-after-upgrade",
        "xpc-invalidated-after-upgrade",
        "build-uuid-unchanged",
        "old-process-lingers",
        "replacement-answer-lost",
        "replacement-cancelled",
        "upgrade-waiting-for-reboot",
        "duplicate-entries-jam",
        "approval-not-inherited",
        "ne-configuration-lost",
        scenario=UPGRADE,
    ),
    **_all("disable-stuck-still-running", scenario=SWITCHED),
    # Flows that pass by the extension are seen only where the app counts them; this one does not.
    "proxy-dead-after-wake": Expected("proxy-dead-after-wake", ASLEEP, given="proxy-dead-after-wake:flows=held"),
    **_all("network-extension-count-limit", scenario=AMONG),
    "mdmclient-not-running-with-dns-proxy": Expected("mdmclient-not-running-with-dns-proxy", SOAK, dns=True),
    **_all("app-group-profile-mismatch", verdict=GREEN),
    **_all("env-vm-limit", "env-keychain", "env-disk-full", verdict=ENVIRONMENT),
    **_all("env-pull-404", verdict=REFUSED),
    "env-hung-boot": Expected("env-hung-boot", verdict=ENVIRONMENT, environment={"SYSEXT_TIMEOUTS__BOOT": "25"}),
    "env-vnc-freeze": Expected("env-vnc-freeze", verdict=ENVIRONMENT, given="env-vnc-freeze:hard=1"),
    "env-ssh-drop": Expected("env-ssh-drop", verdict=ENVIRONMENT, given="env-ssh-drop:after=1"),
    "env-stale-ip": Expected("env-stale-ip", verdict=GREEN, given="env-stale-ip:seconds=20"),
    "env-slow-clone": Expected("env-slow-clone", verdict=GREEN, given="env-slow-clone:seconds=30"),
    **_all("env-stop-needs-kill", verdict=GREEN),
    # A pass needs no sysdiagnose: it is seen beside a failure only (see ALONE_WITH).
    **_all("env-sysdiagnose-hangs", verdict=RED),
}
"""By code. A fault that is known and not here is told by `main`, and counts as wrong."""
ALONE_WITH = {"env-sysdiagnose-hangs": "extension-not-running"}
"""Faults that need a failure to show in: with which one they are injected; they have to be told, the other named first."""
SURVIVABLE = "env-ssh-drop"
"""Whether the cut comes where it ends the run is a matter of moments; if it does not, it has to be told."""
PAIRABLE = [
    code for code, expected in FAULTS.items() if expected.verdict == RED and code not in ALONE_WITH and not expected.dns
]
NOISE = ["app-group-profile-mismatch", "env-sysdiagnose-hangs", "env-stop-needs-kill"]
QUICK = {
    "SYSEXT_TIMEOUTS__PROMPT": "6",
    "SYSEXT_TIMEOUTS__ACTIVATION": "20",
    "SYSEXT_TIMEOUTS__READY": "25",
    "SYSEXT_TIMEOUTS__APPROVAL": "45",
    "SYSEXT_TIMEOUTS__SYSDIAGNOSE": "20",
    "SYSEXT_HISTORY__RECORD": "false",
    "SYSEXT_EVIDENCE__RECORDING": "false",
}
Mark = Literal["both", "one", "alone", "wrong"]


@dataclass(frozen=True)
class Run:
    """One run, and what came of it.

    Attributes:
        causes: What triage names, best first.
        told: What is told beside: codes in notes, and what is suspected.
        acted: The faults that came to bear, as the simulator's own diary says.
    """

    faults: tuple[str, ...]
    verdict: str
    causes: tuple[str, ...]
    told: str
    acted: frozenset[str]
    headline: str
    seconds: float

    @property
    def mark(self) -> Mark:
        """How right it is; see the module."""
        if FAULTS[self.faults[0]].verdict == REFUSED:
            return "alone" if self.verdict == REFUSED else "wrong"
        if self.faults == (SURVIVABLE,) and self.verdict == GREEN:
            return "alone" if SURVIVABLE in self.told and not self.causes else "wrong"
        failing = [code for code in self.faults if not FAULTS[code].told and code not in ALONE_WITH]
        quiet = [code for code in self.faults if code not in failing]
        if (
            len(self.faults) > 1
        ):  # one that the other kept from acting has left nothing to tell; of `env-…` there is no diary
            quiet = [code for code in quiet if code in self.acted or code.startswith("env-")]
        if any(code not in self.told and code not in self.causes for code in quiet):
            return "wrong"
        wanted = {FAULTS[code].verdict for code in failing} or {GREEN}
        if self.verdict not in wanted:
            return "wrong"
        if not failing:
            return "alone" if not self.causes else "wrong"
        if len(failing) == 1:
            return "alone" if self.causes[:1] == (failing[0],) else "wrong"
        if set(self.causes[:2]) == set(failing):
            return "both"
        other = next((code for code in failing if code != self.causes[0]), "") if self.causes else ""
        if self.causes and self.causes[0] in failing and (other not in self.acted or other in self.causes):
            return "one"
        return "wrong"


def run(faults: Sequence[str], folder: Path) -> Run:
    """Run one scenario with these faults."""
    started = time.monotonic()
    expected = [FAULTS[code] for code in faults]
    name = "+".join(faults)
    scenario = next((one.scenario for one in expected if one.scenario != FIRST), FIRST)
    artifacts, home = folder / name / "artifacts", folder / name / "tart"
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SYSEXT_", "PYTEST_", "GITHUB_"))}
    diaries = folder / name / "diaries"
    diaries.mkdir(parents=True)
    environ |= {**QUICK, "SYSEXT_SIMULATED__HOME": str(home), "SYSEXT_ARTIFACTS": str(artifacts)}
    environ |= {"SYSEXT_SIM_JOURNAL_FOLDER": str(diaries)}
    app = APP
    if any(one.dns for one in expected):
        app = dns_proxy(folder / name)
        environ |= {"SYSEXT_SIM_BEHAVIOURS": str(folder / name / BEHAVIOURS), "SYSEXT_PREFLIGHT__ENABLED": "false"}
        environ |= {"SYSEXT_SOAK__PAUSE_SECONDS": "0.1"}
    for one in expected:
        environ |= one.environment
    command = [sys.executable, "-m", "pytest", str(ROOT / "scenarios" / scenario), "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]  # fmt: skip
    command += ["--timeout", "280", "--sysext-app", str(app), "--sysext-provider", "simulated", "--sysext-macos", "15", "--sysext-quiet"]  # fmt: skip
    for one in expected:
        command += ["--sysext-fault", one.given or one.code]
    run_child(command, cwd=ROOT, environment=environ, output=folder / name / "output.txt", timeout=600)
    return found(faults, folder, seconds=time.monotonic() - started)


def found(faults: Sequence[str], folder: Path, *, seconds: float = 0.0) -> Run:
    """What came of a run, from what it left in this folder."""
    name = "+".join(faults)
    artifacts, diaries = folder / name / "artifacts", folder / name / "diaries"
    results: list[dict[str, Any]] = [json.loads(path.read_text()) for path in artifacts.rglob("result.json")]
    if not results and _refused(folder / name):
        return Run(tuple(faults), REFUSED, (), "", frozenset(), "no image of that name", seconds)
    if not results:
        return Run(tuple(faults), "no result", (), "", frozenset(), f"see {folder / name / 'output.txt'}", 0.0)
    # A broken environment is tried twice: the first is what the fault did.
    broken = all(one["verdict"] == ENVIRONMENT for one in results)
    result = (min if broken else max)(results, key=lambda one: one["attempt"])
    why = result.get("why") or {}
    causes = tuple(cause["code"] for cause in why.get("causes", ())) if why.get("verdict") == "failure" else ()
    told = " ".join(str(note) for note in result.get("notes", ()))
    acted = frozenset(_acted(diaries, _decided(artifacts)))
    return Run(tuple(faults), result["verdict"], causes, told, acted, str(why.get("headline", "")), seconds)


def _refused(folder: Path) -> bool:
    """Whether that run was refused before it began, for there is no such image."""
    output = folder / "output.txt"
    return output.is_file() and "an image that exists" in output.read_text(encoding="utf-8", errors="replace")


def _one_phase(one: str, other: str) -> bool:
    """Whether both are of one phase, and take the same scenario: so one does not keep the other from acting by ending it early."""
    if any(code in NOISE for code in (one, other)) or FAULTS[one].scenario != FAULTS[other].scenario:
        return False
    catalog = load_catalog()
    return catalog.get(one).phase == catalog.get(other).phase


def _acted(root: Path, decided: str) -> set[str]:
    """The faults that the simulator's diaries below a folder tell of, until that moment."""
    found: set[str] = set()
    for path in root.glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            told = json.loads(line) if '"fault"' in line else {}
            if told.get("what") == "fault" and (not decided or str(told.get("time", "")) <= decided):
                found.add(str(told["code"]))
    return found


def _decided(artifacts: Path) -> str:
    """When the scenario had failed: the prompt was missing. What the harness then does to see whether the request can be approved all
    the same is no part of it any more, and a fault that comes to bear only then comes too late. "" where nothing was missing.
    """
    lines = (line for path in artifacts.rglob("run.jsonl") for line in path.read_text(encoding="utf-8").splitlines())
    return min((str(json.loads(line).get("time", "")) for line in lines if '"prompt-missing"' in line), default="")


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", action="append", help="these faults alone")
    parser.add_argument("--alone", type=int, default=len(FAULTS), help="at most so many faults alone (0: only pairs)")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--pair", action="append", metavar="CODE+CODE", help="this pair, besides those that are drawn")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--workers", type=int, default=3, help="runs at once; they mostly wait")
    parser.add_argument("--keep", type=Path, help="keep the case files here")
    parser.add_argument(
        "--judge",
        type=Path,
        metavar="FOLDER",
        help="run nothing: judge what an earlier run has kept, also if it was stopped",
    )
    options = parser.parse_args()
    if options.judge is not None:
        ended = [path for path in options.judge.iterdir() if any(path.rglob("result.json")) or _refused(path)]
        told = [found(path.name.split("+"), options.judge) for path in sorted(ended)]
        lone = [one for one in told if one.faults[1:] in ((), (ALONE_WITH.get(one.faults[0], ""),))]
        return judged(lone, [one for one in told if one not in lone])
    left_out = sorted(set(known_faults()) - set(FAULTS))
    if left_out:
        print(f"NOT IN THE TABLE, counted as wrong: {', '.join(left_out)}")
    print(f"seed of the pairs: {options.seed}")
    chooser = random.Random(options.seed)
    alone = [
        (code, ALONE_WITH[code]) if code in ALONE_WITH else (code,)
        for code in (options.only or list(FAULTS)[: options.alone])
    ]
    possible = [
        pair
        for pair in itertools.combinations(PAIRABLE, 2)
        if len({FAULTS[code].scenario for code in pair} - {FIRST}) < 2  # there is a scenario in which both can act
    ]
    possible += [(code, noise) for code in PAIRABLE for noise in NOISE]
    close = [pair for pair in possible if _one_phase(*pair)]
    pairs = chooser.sample(close, min(options.pairs // 2, len(close)))
    pairs += [(one, other) for one, _, other in (text.partition("+") for text in options.pair or ())]
    others = [pair for pair in possible if pair not in pairs]
    pairs += chooser.sample(others, min(max(0, options.pairs - len(pairs)), len(others)))
    with scratch_folder() as scratch:
        folder = options.keep or scratch
        with threads(options.workers) as workers:
            runs = list(workers.map(lambda faults: run(faults, folder), [*alone, *pairs]))
    singles, doubles = runs[: len(alone)], runs[len(alone) :]
    return judged(singles, doubles, missing=len(left_out) if not options.only and options.alone >= len(FAULTS) else 0)


def judged(singles: Sequence[Run], pairs: Sequence[Run], *, missing: int = 0) -> int:
    """Print the matrix; 1 below a floor."""
    width = max(len("+".join(one.faults)) for one in (*singles, *pairs))
    print(f"{'injected':{width}}  {'first cause':36} {'verdict':20} also proven")
    for one in (*singles, *pairs):
        cross = "✗" if one.mark == "wrong" else " "
        told = [code for code in one.faults if code in one.told]
        also = ", ".join(one.causes[1:]) or "-"
        if told:
            also += f"  told: {', '.join(told)}"
        print(f"{'+'.join(one.faults):{width}} {cross}{(one.causes or ('(none)',))[0]:36} {one.verdict:20} {also}  [{one.mark}, {one.seconds:.0f} s]")  # fmt: skip
        if one.mark == "wrong":
            print(f"{'':{width}}   came to bear: {', '.join(sorted(one.acted)) or '-'}; {one.headline}")
    good = True
    if singles:
        right = sum(one.mark != "wrong" for one in singles)
        share = right / (len(singles) + missing)
        good &= share >= FLOOR
        quiet = [one for one in singles if FAULTS[one.faults[0]].told]
        print(f"alone: {right}/{len(singles) + missing} on the diagonal ({share:.0%}), floor {FLOOR:.0%}; of these {len(quiet)} fail nothing and have to be told: "
              f"{sum(one.mark != 'wrong' for one in quiet)} are")  # fmt: skip
    if pairs:
        marks = [one.mark for one in pairs]
        share = 1 - marks.count("wrong") / len(pairs)
        print(f"pairs: {marks.count('both')} both named, {marks.count('one')} one of two (the other could not act or comes later), "
              f"{marks.count('alone')} a failure beside something that only is told, {marks.count('wrong')} wrong of {len(pairs)} ({share:.0%})")  # fmt: skip
        met = [one for one in pairs if one.acted >= set(one.faults) - set(ALONE_WITH)]
        print(f"pairs of which both came to bear: {len(met)}, of these {sum(one.mark == 'both' for one in met)} both named, "
              f"{sum(one.mark == 'wrong' for one in met)} wrong")  # fmt: skip
    if singles or pairs:
        every = [one.mark != "wrong" for one in (*singles, *pairs)]
        share = sum(every) / (len(every) + missing)
        good &= share >= FLOOR
        print(f"the whole matrix: {sum(every)}/{len(every) + missing} on the diagonal ({share:.0%}), floor {FLOOR:.0%}")
    print("within its floors" if good else "BELOW ITS FLOOR")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
