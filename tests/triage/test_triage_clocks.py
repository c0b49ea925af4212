"""Several sources on one clock: a Mac's clock that is off, set, or behind after a boot does not change what came first."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.events import EventLog
from harness.formats import records
from harness.formats.crash import parse_crash_report
from harness.formats.records import Record
from harness.triage import Triage, triage
from harness.triage.clocks import RATES, Clocks, HostClock
from harness.triage.inputs import open_input
from harness.triage.merging import boot_order, boots_in, merged
from harness.triage.report import as_text

ID = "org.weir.filter"
BOOT = "8C6B5A41-1234-5678-9ABC-DEF012345678"
LATER = "1D00AA77-1234-5678-9ABC-DEF012345678"
START = datetime(2025, 6, 15, 15, 0, tzinfo=UTC)
HZ = 24_000_000
HOUR = 3600.0


def line(after: float, message: str, *, off: float = 0.0, boot: str = BOOT, process: str = "sysextd") -> str:
    """A record `after` seconds of that boot, whose wall clock is `off` seconds wrong by then."""
    record = {
        "timestamp": f"{START + timedelta(seconds=after + off):%Y-%m-%d %H:%M:%S.%f}+0000",
        "machTimestamp": 5 * HZ + round(after * HZ),
        "bootUUID": boot,
        "eventType": "logEvent",
        "messageType": "Default",
        "eventMessage": message,
        "processImagePath": f"/usr/libexec/{process}",
        "processID": 357,
        "threadID": 7,
        "subsystem": "com.apple.sx",
        "category": "XPC",
    }
    return json.dumps(record) + "\n"


def ips(after: float, *, off: float, ticks: float | None = None, boot: str = BOOT) -> str:
    """A report of the app's agent, which crashed `after` seconds of that boot, its clock `off` seconds wrong."""
    when = f"{START + timedelta(seconds=after + off):%Y-%m-%d %H:%M:%S.%f}"[:-2] + " +0000"
    name = "WeirAgent"
    header = {"app_name": name, "name": name, "bug_type": "309", "bundleID": "org.weir.agent", "timestamp": when}
    body = {
        "procName": name, "procPath": "/Applications/Weir.app/Contents/MacOS/WeirAgent", "pid": 901, "captureTime": when,
        "cpuType": "ARM-64", "bootSessionUUID": boot, "procStartAbsTime": 4 * HZ,
        "exception": {"type": "EXC_BAD_ACCESS", "signal": "SIGSEGV"},
    }  # fmt: skip
    if ticks is not None:
        body["procExitAbsTime"] = 5 * HZ + round(ticks * HZ)
    return json.dumps(header) + "\n" + json.dumps(body)


def tick(after: float, off: float = 0.0, boot: str = BOOT) -> str:
    return line(after, "tick", off=off, boot=boot, process="mDNSResponder")


def found_in(folder: Path, log: str, report: str = "") -> Triage:
    (folder / "log.ndjson").write_text(log)
    paths = [folder / "log.ndjson"]
    if report:
        (folder / "WeirAgent.ips").write_text(report)
        paths.append(folder / "WeirAgent.ips")
    return triage(paths)


def codes(found: Triage) -> list[str]:
    return [cause.code for cause in found.causes]


REQUEST = f"client activation request for {ID}"


def test_a_crash_ten_seconds_after_the_request_is_near_also_when_the_clock_was_set_between(tmp_path: Path) -> None:
    log = tick(0) + line(1, REQUEST) + tick(2) + tick(8, -HOUR) + tick(20, -HOUR)
    found = found_in(tmp_path, log, ips(11, off=-HOUR, ticks=11))
    assert near(found) == [True]
    (said,) = found.coverage["clocks"]
    assert "jumped back by 3600.0 s" in said
    assert "log.ndjson:4" in said
    assert "clock: the Mac's clock jumped back" in as_text(found)
    whats = [happening.what for happening in found.timeline]
    assert whats.index("activation request") < whats.index("WeirAgent crashed")


def test_a_crash_an_hour_later_is_not_near_although_its_time_says_so(tmp_path: Path) -> None:
    log = tick(0) + line(1, REQUEST) + tick(2) + tick(HOUR) + tick(HOUR + 5, -HOUR) + tick(HOUR + 60, -HOUR)
    assert near(found_in(tmp_path, log, ips(HOUR + 11, off=-HOUR, ticks=HOUR + 11))) == [False]
    # the same times on a clock that was never set: it is near
    assert near(found_in(tmp_path, tick(0) + line(1, REQUEST) + tick(60), ips(11, off=0))) == [True]


def near(found: Triage) -> list[bool]:
    """Whether the crash of the app is told as one near the request."""
    return ["near a request" in cause.why for cause in found.causes if cause.code == "host-component-crash"]


def test_a_clock_that_is_merely_off_is_told_by_the_host(tmp_path: Path) -> None:
    case = case_file(tmp_path, {"log-stream.ndjson": tick(0, -90) + line(1, REQUEST, off=-90) + tick(30, -90)}, -90.0)
    found = triage([case], extension_id=ID)
    assert found.coverage["clocks"] == [f"the Mac's clock is 90.0 s behind the host's in boot {BOOT[:8]} (±0.5 s)"]


def test_what_the_harness_saw_stands_where_it_belongs(tmp_path: Path) -> None:
    waiting = f"extension ABCDE12345 {ID} (2.0/41) advancing state from validating to activated_waiting_for_user"
    enabled = f"extension ABCDE12345 {ID} (2.0/41) advancing state from activated_waiting_for_user to activated_enabled"
    log = tick(0, -90) + line(1, REQUEST, off=-90) + line(5, waiting, off=-90) + line(30, enabled, off=-90)
    case = case_file(tmp_path, {"log-stream.ndjson": log}, -90.0, [(20.0, "answer prompt")])
    whats = [happening.what for happening in triage([case], extension_id=ID).timeline]
    assert whats == [
        "activation request",
        "validating -> activated_waiting_for_user",
        "the harness: answered the prompt",
        "activated_waiting_for_user -> activated_enabled",
    ]


def test_a_boot_that_only_the_stream_holds_comes_before_the_slice_of_the_next(tmp_path: Path) -> None:
    def step(before: str, after: str) -> str:
        return f"extension ABCDE12345 {ID} (2.0/41) advancing state from {before} to {after}"

    # After the reboot its clock is a day behind.
    old = line(0, REQUEST) + line(5, step("validating", "activated_waiting_for_user"))
    new = [
        line(0, "sysextd start", off=-86400, boot=LATER),
        line(9, step("activated_waiting_for_user", "activated_enabled"), off=-86400, boot=LATER),
        tick(60, -86400, LATER),
    ]
    logs = {"log-stream.ndjson": old + new[0] + new[2], "evidence/01-after/log.ndjson": "".join(new)}
    case = case_file(tmp_path, logs)
    source = open_input(case)
    boots = [(record.order[0], record.boot) for record in source.records]
    assert boots == [(1, BOOT)] * 2 + [(2, LATER)] * 3
    found = triage([case], extension_id=ID)
    whats = [happening.what for happening in found.timeline]
    assert whats == [
        "activation request",
        "validating -> activated_waiting_for_user",
        "activated_waiting_for_user -> activated_enabled",
    ]
    assert "approval-pending" not in codes(found)
    assert "went back by 86405.0 s when it booted" in found.coverage["clocks"][0]


def case_file(
    folder: Path, logs: dict[str, str], ahead: float | None = None, steps: list[tuple[float, str]] | None = None
) -> Path:
    """A case file whose events have the host's clock, which is right."""
    case = folder / "case"
    for name, text in logs.items():
        (case / name).parent.mkdir(parents=True, exist_ok=True)
        (case / name).write_text(text)
    (case / "manifest.json").write_text("{}")
    log = EventLog(case / "run.jsonl")
    log.close()
    with (case / "run.jsonl").open("a") as stream:
        if ahead is not None:
            attributes = {"ahead": ahead, "within": 0.5, "boot_session": BOOT}
            stream.write(event(0.5, "clock", attributes))
        for after, name in steps or ():
            stream.write(event(after, name, {}, type="end", outcome="ok", duration=1.0))
    return case


def event(after: float, name: str, attributes: dict[str, Any], **more: Any) -> str:
    time = (START + timedelta(seconds=after)).isoformat()
    return json.dumps({"type": "event", "name": name, "time": time, "attributes": attributes} | more) + "\n"


@pytest.mark.parametrize(
    "bad", [{"ahead": "soon", "within": 1}, {"ahead": float("nan"), "within": 1}, {}, {"ahead": 1e99, "within": 0}]
)
def test_a_case_file_that_somebody_edited_does_no_harm(tmp_path: Path, bad: dict[str, Any]) -> None:
    case = case_file(tmp_path, {"log-stream.ndjson": tick(0) + line(1, REQUEST) + tick(9)})
    with (case / "run.jsonl").open("a") as stream:
        stream.write(event(0.5, "clock", bad))
        stream.write(event(0.5, "clock", {"ahead": 1, "within": 1, "boot_session": 7}).replace("15:", "99:"))
    assert triage([case], extension_id=ID).coverage["clocks"] == []


# -- the clocks themselves ---------------------------------------------------------------------------------------------


def record(after: float, off: float, rate: float, boot: str = BOOT, number: int = 1) -> Record:
    time = datetime.fromtimestamp(START.timestamp() + after + off, UTC)
    ticks = 1_000_000 + round(after / rate)
    return Record(time=time, order=(1, ticks, number), boot=boot, file="log.ndjson", line=number)


WALKS = st.lists(
    st.tuples(st.floats(0.5, 400), st.one_of(st.just(0.0), st.floats(-1e6, 1e6).filter(lambda jump: abs(jump) > 30))),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(WALKS, st.sampled_from(RATES))
def test_moments_are_seconds_of_the_ticks_whatever_the_wall_clock_does(
    walk: list[tuple[float, float]], rate: float
) -> None:
    clocks, after, off = Clocks(), 1.0, 0.0
    first = clocks.place(record(0, 0, rate))
    assert clocks.place(record(1, 0, rate)) is not None  # two good records, and the rate is known
    assert first is not None
    jumps = 0
    for passed, jump in walk:
        after, off = after + passed, off + jump
        jumps += bool(jump)
        moment = clocks.place(record(after, off, rate))
        assert moment == pytest.approx(first + after, abs=0.01)
        # a report that was written then, and which says its ticks, falls on the same moment
        wall = datetime.fromtimestamp(START.timestamp() + after + off, UTC)
        ticks = 1_000_000 + round(after / rate)
        assert clocks.of_wall(wall, boot=BOOT, ticks=ticks, rate=rate) == pytest.approx(moment, abs=0.01)
        assert clocks.of_wall(wall, boot=BOOT.lower(), ticks=ticks) == pytest.approx(moment, abs=0.01)
    assert len(clocks.said()) == jumps


def test_slewing_and_jitter_are_no_jumps() -> None:
    clocks, rng = Clocks(), random.Random(5)
    for number in range(500):
        clocks.place(
            record(number * 3.0, number * 3.0 * 0.0004 + rng.uniform(-0.01, 0.01), RATES[0], number=number + 1)
        )
    assert clocks.said() == []


def test_ticks_that_fit_no_rate_leave_the_wall_clock_alone() -> None:
    clocks = Clocks()
    moments = [clocks.place(record(after, 0, 1e-6)) for after in range(5)]
    assert moments == [pytest.approx(START.timestamp() + after, abs=0.01) for after in range(5)]
    assert clocks.said() == []


def test_a_report_after_a_sleep_that_its_ticks_do_not_count() -> None:
    clocks = Clocks()
    for after, off in ((0, 0.0), (1, 0.0), (2000, 0.0), (2001, -700.0), (2500, -700.0)):
        clocks.place(record(after, off, RATES[0]))
    wall = datetime.fromtimestamp(
        START.timestamp() + 1500, UTC
    )  # of the clock before it was set, or of the one after: 2200
    awake = clocks.of_wall(wall, boot=BOOT, ticks=1_000_000 + round(2150 / RATES[0]))
    assert awake == pytest.approx(START.timestamp() + 2200, abs=0.01)
    # what is nearer to the ticks, but before them, cannot be
    wall = datetime.fromtimestamp(START.timestamp() + 1700, UTC)  # 1700, or 2400
    awake = clocks.of_wall(wall, boot=BOOT, ticks=1_000_000 + round(1800 / RATES[0]))
    assert awake == pytest.approx(START.timestamp() + 2400, abs=0.01)


def test_a_text_log_whose_clock_was_set_back_goes_on() -> None:
    clocks = Clocks()

    def text(after: float) -> Record:
        return Record(time=datetime.fromtimestamp(START.timestamp() + after, UTC), file="log.txt", line=9)

    assert clocks.place(text(100)) == START.timestamp() + 100
    assert clocks.place(text(40)) == START.timestamp() + 40  # out of order: nobody said that the clock was set
    clocks.place(Record(kind=records.CLOCK, file="log.txt"))
    assert clocks.place(text(50)) == START.timestamp() + 100
    assert clocks.place(text(60)) == START.timestamp() + 110
    assert "set back by about 50.0 s before log.txt:9" in clocks.said()[0]
    clocks.place(Record(kind=records.CLOCK, file="log.txt"))
    assert clocks.place(text(90)) == START.timestamp() + 140  # forward: the time that passed meanwhile is not known
    assert len(clocks.said()) == 1


def test_what_has_no_zone_or_no_comparison_has_no_place() -> None:
    clocks = Clocks()
    assert clocks.place(Record(time=datetime(2025, 1, 1), file="x")) is None  # noqa: DTZ001
    assert clocks.place(Record(message="prose")) is None
    assert clocks.of_wall(datetime(2025, 1, 1)) is None  # noqa: DTZ001
    assert clocks.of_host(START) is None
    clocks.compared(HostClock(START.timestamp(), 120.0, 1.0))
    assert clocks.of_host(START) == START.timestamp() + 120
    clocks.compared(HostClock(START.timestamp() + 500, 1.0, 1.0))
    # as far as anybody knows, they agree by then
    assert clocks.of_host(START + timedelta(seconds=600)) == START.timestamp() + 600
    assert clocks.said() == ["the Mac's clock is 120.0 s ahead of the host's (±1.0 s)"]


# -- several files as one ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**6)), unique=True, max_size=40),
    st.lists(st.sampled_from([(0,), (1,), (2,), (0, 1), (0, 1, 2)]), min_size=40, max_size=40),
)
def test_files_that_share_a_log_make_one_in_order(places: list[tuple[int, int]], where: list[tuple[int, ...]]) -> None:
    log = [Record(boot=f"B{boot}", order=(1, ticks, 1), message=f"{boot} {ticks}") for boot, ticks in sorted(places)]
    files = [[each for each, of in zip(log, where, strict=False) if number in of] for number in range(3)]
    boots = sorted({each.boot for each in log})
    found = list(merged([iter(file) for file in files], boots))
    assert list(dict.fromkeys(each.message for each in found)) == [each.message for each in log]
    assert len(found) == sum(map(len, files))


def test_markers_stay_behind_what_they_followed() -> None:
    first = [Record(boot="B", order=(1, 10, 1)), Record(message="mark"), Record(boot="B", order=(1, 30, 1))]
    second = [Record(boot="B", order=(1, 20, 1)), Record(boot="unknown", order=(1, 1, 1))]
    found = list(merged([iter(first), iter(second)], ["B"]))
    assert [each.message or each.order[1] for each in found] == [10, "mark", 20, 30, 1]


def test_boots_keep_the_order_of_every_file() -> None:
    assert boot_order([["B", "C"], ["A", "B"], ["C", "D"]]) == ["A", "B", "C", "D"]
    assert boot_order([[], ["A"], ["A"]]) == ["A"]
    assert sorted(boot_order([["A", "B"], ["B", "A"]])) == ["A", "B"]  # they contradict each other


def test_boots_are_found_wherever_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.triage.merging._BLOCK", 40)
    (tmp_path / "log.ndjson").write_text(tick(1) + tick(2, boot=LATER.lower()))
    assert boots_in(tmp_path / "log.ndjson") == [BOOT, LATER]


# -- reports -----------------------------------------------------------------------------------------------------------


def test_a_report_says_its_ticks() -> None:
    report = parse_crash_report(ips(11, off=0, ticks=11))
    assert (report.start_ticks, report.exit_ticks, report.tick) == (4 * HZ, 16 * HZ, 125 / 3e9)
    assert report.exit_ticks * report.tick == pytest.approx(16.0)
    assert parse_crash_report(ips(11, off=0).replace("ARM-64", "X86-64")).tick == 1e-9
    odd = parse_crash_report(ips(11, off=0).replace('"ARM-64"', "7").replace(str(4 * HZ), '"much"'))
    assert (odd.start_ticks, odd.exit_ticks, odd.tick) == (0, 0, 0.0)


PANIC = """panic(cpu 3 caller 0xffffff80): reason
Boot session UUID: 8C6B5A41-1234-5678-9ABC-DEF012345678
Epoch Time:        sec       usec
  Boot    : 0x684edd00 0x00000000
  Sleep   : 0x00000000 0x00000000
  Calendar: 0x684ee110 0x0007a120
"""


def test_a_panic_says_when_it_was_and_when_the_mac_had_booted() -> None:
    report = parse_crash_report(PANIC)
    assert report.time == datetime.fromtimestamp(0x684EE110, UTC) + timedelta(milliseconds=500)
    assert report.booted == datetime.fromtimestamp(0x684EDD00, UTC)
    never = parse_crash_report(PANIC.replace("0x684ee110", "0x00000000").replace("Boot    :", "Boat    :"))
    assert (never.time, never.booted) == (None, None)
