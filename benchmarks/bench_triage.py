"""How well triage answers: the shared samples through their own judge, and texts of our own wording.

Without the shared samples (they lie beside the project) only the own texts are judged.
Floors: top-1 92 %, no false alarm, no must-not hit, both causes of each two-problem text; own texts all right.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from harness.triage import triage

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT.parent / "shared" / "bench" / "triage"
VARIANTS = ROOT / "tests" / "triage" / "variants.toml"


def main() -> int:
    """Run, print, judge."""
    good = own_texts()
    if (BENCH / "dev" / "index.jsonl").exists():
        good &= shared_samples()
    else:
        print(f"the shared samples are absent ({BENCH})")
    return 0 if good else 1


def own_texts() -> bool:
    """Each text of `variants.toml`."""
    data = tomllib.loads(VARIANTS.read_text(encoding="utf-8"))
    wrong: list[str] = []
    failing = [(code, text) for code, texts in data["failing"].items() for text in texts]
    for code, text in failing:
        codes, benign = answer(text.encode())
        if benign or codes[0] != code:
            wrong.append(f"  {code}: said {codes[:3] or 'nothing'}: {text[:60]!r}")
    alarms = [text for text in data["benign"]["texts"] if not answer(text.encode())[1]]
    print(f"own texts                  {len(failing) - len(wrong)}/{len(failing)} right, {len(alarms)} false alarms")
    print("\n".join(wrong + [f"  alarm: {text[:80]!r}" for text in alarms]), end="\n" if wrong or alarms else "")
    return not wrong and not alarms


def shared_samples() -> bool:
    """The development half, scored by its own program."""
    rows = [json.loads(line) for line in (BENCH / "dev" / "index.jsonl").read_text(encoding="utf-8").splitlines()]
    started = time.monotonic()
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as predictions:
        for row in rows:
            codes, benign = answer(BENCH / "dev" / row["file"])
            predictions.write(json.dumps({"file": row["file"], "codes": codes, "benign": benign}) + "\n")
        predictions.flush()
        seconds = time.monotonic() - started
        command = [sys.executable, str(BENCH / "score.py"), predictions.name]
        print(subprocess.run(command, capture_output=True, text=True, check=True).stdout, end="")
        judged = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(judged)
    print(f"{len(rows)} inputs in {seconds:.1f} s")
    (right, failing), (found, both) = result["top1"], result["both_found"]
    good = right >= 0.92 * failing and not result["false_alarms"][0] and not result["must_not_hits"] and found == both
    print("within its floors" if good else "BELOW ITS FLOORS")
    return good


def answer(source: Path | bytes) -> tuple[list[str], bool]:
    """Codes, best first, and whether no failure was found."""
    found = triage([source])
    return [cause.code for cause in found.causes], found.verdict != "failure"


if __name__ == "__main__":
    sys.exit(main())
