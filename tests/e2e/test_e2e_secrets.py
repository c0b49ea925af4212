"""Passwords of a Mac are used all the way, and then are in no file of the run: neither the guest's nor the screen's."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

from .conftest import ROOT, House  # type: ignore[import-not-found]

GUEST = "Canary-of-the-guest-7"
SCREEN = "finch-of-the-screen"
TART = f"""#!{sys.executable}
import sys
import harness.simulator.guest.core, harness.simulator.machine, harness.simulator.tart
harness.simulator.guest.core.PASSWORD = {GUEST!r}
harness.simulator.machine.passphrase = lambda: {SCREEN!r}
sys.exit(harness.simulator.tart.main())
"""


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return data + gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def test_no_password_is_in_any_file_of_a_run(house: House) -> None:
    tart = house.folder / "tart-with-canaries"
    tart.write_text(TART, encoding="utf-8")
    tart.chmod(0o755)
    command = house.command(
        *("-k", "test_first_activation_through_the_prompt", "--sysext-fault", "extension-not-running", "-ra"),
        *("--alluredir", str(house.folder / "allure"), "--junit-xml", str(house.folder / "junit.xml")),
    )
    command.remove("--sysext-quiet")
    done = subprocess.run(
        command,
        env={
            **house.environment,
            "SYSEXT_SIMULATED__EXECUTABLE": str(tart),
            "SYSEXT_GUEST__PASSWORD": GUEST,
            "SYSEXT_TIMEOUTS__READY": "4",
        },
        cwd=ROOT,
        capture_output=True,
        timeout=280,
        check=False,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    files = [path for path in house.folder.rglob("*") if path.is_file() and path != tart]
    files = [path for path in files if not path.is_relative_to(house.folder / "tart")]  # the Mac's own disk

    # They were in use: the guest lets nobody in without it, the approval types it, and evidence was collected after that.
    assert "product-failure" in said, said[-3000:]
    streams = [path.read_text(encoding="utf-8") for path in files if path.name == "run.jsonl"]
    assert any('"name": "approved"' in stream for stream in streams), said[-3000:]
    assert any(path.name == "sysdiagnose.tar.gz" for path in files)
    output = next(path for path in files if path.name == "tart-run.txt")
    assert f":{'*' * len(SCREEN)}@" in output.read_text(encoding="utf-8")

    for secret in (GUEST, SCREEN, SCREEN[:8]):  # VNC itself takes eight characters of one
        assert secret not in said
        for path in files:
            assert secret.encode() not in _content(path), path
