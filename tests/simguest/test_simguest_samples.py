"""The simulated guest beside what real Macs printed: same keys, same order, same sentences."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared/bench/triage/dev"
LABEL = "NetworkExtension.com.example.guard.extension.1.0.1"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"../shared is absent: {SAMPLES}")


def samples(pattern: str) -> list[str]:
    return [
        path.read_text(errors="replace")
        for path in sorted(SAMPLES.rglob("*.txt"))
        if re.search(pattern, path.read_text(errors="replace"), re.MULTILINE)
    ]


def job_keys(text: str) -> list[str]:
    """Keys of a `launchctl print` of one job, its own level only, in order."""
    keys, depth = [], 0
    for line in text.splitlines():
        line = line.strip()
        if depth == 1 and (match := re.match(r'"?([^"={]+?)"? = ', line)):
            keys.append(match[1])
        elif depth == 1 and line == "submitted job. ignore execute allowed":
            keys.append(line)
        depth += line.endswith("{") - (line == "}")
    return keys


def test_a_job_prints_no_key_that_no_real_job_has_and_in_their_order(new_mac, run_async):
    real = [job_keys(text) for text in samples(r"^(system|gui/\d+)/\S+ = \{$") if "properties = " in text]
    assert len(real) >= 3  # whole prints; some posts were shortened by hand
    known = {key for keys in real for key in keys} | {
        "last exit reason",  # known from listings of killed jobs
        "last terminating signal",  # likewise
        "checked allocations flags",
    }
    texts: list[str] = []

    async def body():
        for macos in ("13", "26"):
            async with new_mac(macos=macos) as mac:
                await mac.enabled()
                texts.extend(
                    [
                        (await mac.run(f"launchctl print system/{label}", root=True)).out
                        for label in (LABEL, "com.apple.sysextd")
                    ]
                )
            # the next one finds the app approved: start afresh
            for path in (mac.guest.disk.root / "Library/SystemExtensions").glob("*.plist"):
                path.unlink()
            (mac.guest.disk.root / "Library/SystemExtensions/.simulated.plist").unlink(missing_ok=True)
            (mac.guest.disk.root / "Library/Preferences/com.apple.networkextension.plist").unlink(missing_ok=True)

    run_async(body)
    for text in texts:
        ours = job_keys(text)
        assert [key for key in ours if key not in known] == []
        for theirs in real:
            shared = [key for key in ours if key in theirs]
            assert shared == [key for key in theirs if key in shared]


def test_listing_rows_have_the_columns_of_real_ones_with_tabs_kept(new_mac, run_async):
    rows = [
        line for text in samples(r"\t\[activated") for line in text.splitlines() if re.search(r"\t\[[a-z ]+\]$", line)
    ]
    assert rows
    columns = {line.count("\t") for line in rows}

    async def body():
        async with new_mac() as mac:
            await mac.enabled()
            ours = (await mac.run("systemextensionsctl list")).out.splitlines()[-1]
            assert ours.count("\t") in columns
            assert any(line.split("\t")[:2] == ours.split("\t")[:2] for line in rows)

    run_async(body)


def test_sentences_of_sysextd_are_the_posted_ones(new_mac, run_async, rig, disk_root):
    """Every posted sentence of an activation is said by ours too, with only names, numbers and pointers differing."""
    wanted = {
        "client activation request for ",
        "attempting to realize extension with identifier ",
        "realizing target path: file:///Applications/",
        "initial activation decision: activateNew",
        "staging extension with identifier ",
        "advancing state from realizing to staging",
        "staging bundle from /Applications/",
        "to: /Library/SystemExtensions/",
        "activateDecision found existing entry of same version: state activated_waiting_for_user, ID ",
        "initial activation decision: coalesceWithActivationInProgress(<sysextd.Extension: 0x7f",
        "invalidated because the client process (pid",
    }
    posted = "\n".join(samples("sysextd"))
    known = {sentence for sentence in wanted if sentence in posted}
    assert len(known) >= 9, wanted - known

    async def body():
        async with new_mac() as mac:
            first = await mac.launch()
            await mac.until(lambda: mac.display.alerts)
            second = await mac.launch()
            await mac.until(lambda: any("coalesce" in text for text in mac.messages()))
            first.cancel()
            second.cancel()
            await mac.until(lambda: any("invalidated because" in text for text in mac.messages()))
            ours = "\n".join(mac.messages())
            assert {sentence for sentence in known if sentence not in ours} == set()

    run_async(body)


def test_crash_reports_have_the_keys_of_real_ones(new_mac, run_async, disk_root):
    headers, bodies = set(), set()
    for text in samples(r'^\{"app_name":.*"slice_uuid"'):
        head = next(line for line in text.splitlines() if line.startswith('{"app_name"'))
        headers |= set(json.loads(head))
        bodies |= set(re.findall(r'^  "(\w+)" :', text, re.MULTILINE))
    assert {"slice_uuid", "incident_id", "bug_type"} <= headers
    assert {"procName", "captureTime", "osVersion"} <= bodies

    async def body():
        async with new_mac(faults="extension-crash:every=0.01:count=1") as mac:
            await mac.enabled()
            folder = disk_root / "Library/Logs/DiagnosticReports"
            await mac.until(lambda: list(folder.glob("*.ips")))
            head, _, rest = next(folder.glob("*.ips")).read_text().partition("\n")
            assert set(json.loads(head)) <= headers
            assert {"procName", "captureTime", "osVersion", "pid", "incident", "procLaunch"} <= set(
                json.loads(rest)
            ) & bodies

    run_async(body)
