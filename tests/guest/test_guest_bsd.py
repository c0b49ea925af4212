"""Where the tools of a Mac are not those of the counterpart that the other tests have."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.config import GuestSettings
from harness.guest import Guest, Result
from harness.guest.shell import _KILL_GROUP
from harness.waiting import Deadline

BSD_KILL = """#!/bin/sh
# kill(1) of BSD: an optional signal, then processes; -- is none.
signal=$1; shift
for word; do
    case $word in
    -[0-9]*) echo "$signal $word" >> "$LOG" ;;
    *) echo "kill: illegal process id: $word" >&2; failed=1 ;;
    esac
done
exit ${failed:-0}
"""


@pytest.mark.parametrize("system", ["Darwin", "Linux"])
def test_a_group_that_stays_is_killed_in_the_end(tmp_path: Path, system: str) -> None:
    tools = {"kill": BSD_KILL, "uname": f"#!/bin/sh\necho {system}\n", "sleep": "#!/bin/sh\n"}
    if system == "Linux":  # procps: what it is told is a group only after --
        tools["kill"] = '#!/bin/sh\n[ "$2" = -- ] || exit 9\necho "$1 $3" >> "$LOG"\n'
    for name, text in tools.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script = _KILL_GROUP.replace("/bin/kill", str(tmp_path / "kill"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log")}
    done = subprocess.run(["/bin/sh", "-c", script, "sh", "4711"], env=environment, check=True, capture_output=True)
    sent = (tmp_path / "log").read_text().splitlines()
    assert (sent[0], sent[-1]) == ("-TERM -4711", "-KILL -4711")
    assert sent[1:-1] == ["-0 -4711"] * 10
    assert done.stderr == b""


def test_a_folder_comes_without_the_files_that_a_macs_tar_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], Any]] = []

    def run(argv: Sequence[str], **options: Any) -> Result:
        asked.append((list(argv), options.get("env")))
        return Result(tuple(argv), 0, b"", b"", 0.0)

    guest = Guest(lambda _: ("127.0.0.1", 9), GuestSettings(), name="vm-a", folder=tmp_path)
    monkeypatch.setattr(guest, "run", run)
    guest.get_tar("/private/tmp/a.logarchive", tmp_path / "a.tar", deadline=Deadline(5), sudo=True)
    ((argv, environment),) = asked
    assert argv[0] == "tar"
    assert environment == {"COPYFILE_DISABLE": "1"}
