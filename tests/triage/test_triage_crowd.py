"""A job that was never started beside many network extensions that run: the limit is suspected. Many of them alone are no sign."""

from __future__ import annotations

import pytest

from harness.triage import triage

JOB = """system/NetworkExtension.org.weir.filter.1.0.7 = {{
	active count = {active}
	path = (submitted by sysextd.300)
	type = Submitted
	state = {state}

	program = /Library/SystemExtensions/9F2C3A11-1111-4222-8333-444455556666/org.weir.filter.systemextension/Contents/MacOS/org.weir.filter
	domain = system
	asid = 100000
	minimum runtime = 10
	exit timeout = 5
	runs = {runs}
	last exit code = (never exited)

	endpoints = {{
		"ABCDE12345.org.weir.filter" = {{
			port = 0x5a103
			active = 0
			managed = 1
			reset = 0
			hide = 0
			watching = 1
		}}
	}}

	properties = managed LWCR
}}
"""
LISTING = (
    "1 extension(s)\n--- com.apple.system_extension.network_extension\nenabled\tactive\tteamID\tbundleID (version)\tname\t[state]\n"
    "*\t*\tABCDE12345\torg.weir.filter (1.0/7)\tWeir\t[activated enabled]\n"
)
ALMANAC = ["com.alder.proxy", "com.birch.filter", "net.cedar.vpn", "io.dogwood.dns", "org.elm.guard"]


def listed(others: list[str], *, process: str = "4{0}", ours: str = "-") -> str:
    """`launchctl list` with the jobs of other network extensions."""
    rows = [f"{process.format(number)}\t0\tNetworkExtension.{name}.2.{number}" for number, name in enumerate(others)]
    return "\n".join(["PID\tStatus\tLabel", "81\t0\tcom.apple.logd", *rows, f"{ours}\t0\tNetworkExtension.org.weir.filter.1.0.7", ""])  # fmt: skip


def job(*, runs: int = 0, state: str = "not running") -> bytes:
    return JOB.format(active=1 if state == "running" else 0, state=state, runs=runs).encode()


def named(launchd: str, printed: bytes) -> list[str]:
    found = triage([LISTING.encode(), printed, launchd.encode()], extension_id="org.weir.filter")
    return [cause.code for cause in found.causes if cause.code != "healthy"]


def test_never_started_in_a_crowd() -> None:
    assert named(listed(ALMANAC), job()) == ["network-extension-count-limit", "extension-not-running"]
    found = triage([LISTING.encode(), job(), listed(ALMANAC).encode()])
    assert "beside 5 network extensions that run: com.alder.proxy, com.birch.filter" in found.causes[0].signs[0].text


@pytest.mark.parametrize(
    ("launchd", "printed"),
    [
        pytest.param(listed(ALMANAC[:4]), job(), id="four"),
        pytest.param(listed([*ALMANAC[:4], ALMANAC[0]]), job(), id="two versions of one are one"),
        pytest.param(listed(ALMANAC, process="-"), job(), id="they do not run"),
        pytest.param(listed(ALMANAC), job(runs=3), id="it was started and ended"),
        pytest.param(listed(ALMANAC, ours="977"), job(), id="it runs by now"),
        pytest.param("PID\tStatus\tLabel\n", job(), id="nobody knows of others"),
    ],
)
def test_what_is_no_limit(launchd: str, printed: bytes) -> None:
    assert named(launchd, printed) == ["extension-not-running"]


def test_many_that_all_run_are_no_trouble() -> None:
    assert named(listed(ALMANAC, ours="977"), job(runs=1, state="running")) == []
