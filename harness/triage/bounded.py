"""Triage in a process of its own, with a time limit: what a Mac left behind can be huge or hostile, and the run goes on.

`python -m harness.triage.bounded` reads one request (JSON) from standard input and answers on standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.errors import HarnessError

MAX_ANSWER: Final = 64 << 20


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        found: `Triage.as_dict()`.
        headline: The answer on one line.
        text: The answer for people.
    """

    found: dict[str, Any]
    headline: str
    text: str


def triage_bounded(
    folder: Path,
    *,
    extension_id: str = "",
    seconds: float,
    prompt_seen: bool | None = None,
) -> Answer:
    """Triage a case file in a process of its own.

    Args:
        folder: The case file.
        extension_id: The extension under test.
        seconds: Time limit; the process is ended then.
        prompt_seen: What whoever watched the screen saw; None: the case file tells.

    Raises:
        HarnessError: It did not end in time, or failed.
    """
    request = {"folder": str(folder), "extension": extension_id, "prompt_seen": prompt_seen}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "harness.triage.bounded"],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HarnessError(
            f"triage of {folder.name} within {seconds:.0f} s",
            seen="it had not ended",
            hint="`sysext triage` on the folder has no limit; triage.seconds sets this one",
        ) from None
    except OSError as error:
        raise HarnessError(f"triage of {folder.name} to be started", seen=str(error)) from error
    try:
        if len(ended.stdout) > MAX_ANSWER:
            raise ValueError("more than 64 MiB of answer")
        answer = json.loads(ended.stdout)
        return Answer(
            found=dict(answer["found"]),
            headline=str(answer["headline"]),
            text=str(answer["text"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        said = ended.stderr.decode(errors="replace").strip()[-2000:]
        raise HarnessError(
            f"an answer of triage about {folder.name}",
            seen=said or f"exit code {ended.returncode}, {error}",
            hint="run `sysext triage` on the folder",
        ) from error


def main() -> int:
    """The other side."""
    from harness.triage.engine import triage
    from harness.triage.report import as_text

    request = json.loads(sys.stdin.buffer.read())
    found = triage(
        [Path(request["folder"])], extension_id=request["extension"] or None, prompt_seen=request["prompt_seen"]
    )
    answer = {"found": found.as_dict(), "headline": found.headline(), "text": as_text(found)}
    sys.stdout.buffer.write(json.dumps(answer).encode(errors="backslashreplace"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
