"""`pmset -g log`: what it says of sleep and waking."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.formats.power import PowerEvent, parse_pmset_log

# The form of powerd's log as machines print it: domain and text padded, a tab between them.
LOG = """\
Time stamp                Domain          \tMessage                                                                    \tDuration  \tDelay
==========                ======          \t=======                                                                    \t========  \t=====
UUID: 5BC2A7F0-0000-4000-8000-000000000001
2025-06-09 15:16:40 +0530 Start               \tpowerd process is started                                                  \t
2025-06-09 15:16:48 +0530 Assertions          \tPID 101(WindowServer) Created UserIsActive "com.apple.iohideventsystem.queue.tickle" 00:00:00  id:0x0x900008abc [System: DeclUser kDisp]
2025-06-09 15:17:02 +0530 Notification        \tDisplay is turned off                                                      \t
2025-06-09 15:17:09 +0530 Sleep               \tEntering Sleep state due to 'Software Sleep pid=812':TCPKeepAlive=active Using AC (Charge:100%) 14 secs   \t
2025-06-09 15:17:23 +0530 DarkWake            \tDarkWake from Deep Idle [CDNP] : due to NUB.SPMI0Sw3IRQ nub-spmi-a0.0x57/ Using AC (Charge:100%) 3 secs
2025-06-09 15:17:26 +0530 Wake                \tDarkWake to FullWake from Deep Idle [CDNVA] : due to HID Activity Using AC (Charge:100%)
2025-06-09 15:17:26 +0530 Wake Requests       \t[process=mDNSResponder request=Maintenance deltaSecs=7198 wakeAt=2025-06-09 17:17:24]
Total Sleep/Wakes since boot at 2025-06-09 15:16:40 +0530 :1   Sleep Cycle Count: 1
"""


def test_sleep_and_waking_are_told_apart() -> None:
    found = parse_pmset_log(LOG)
    assert [event.domain for event in found] == [
        "Start",
        "Assertions",
        "Notification",
        "Sleep",
        "DarkWake",
        "Wake",
        "Wake Requests",
    ]
    assert [event.domain for event in found if event.fell_asleep] == ["Sleep"]
    assert [event.domain for event in found if event.woke] == ["Wake"]
    sleep = next(event for event in found if event.fell_asleep)
    assert sleep.time.astimezone(UTC) == datetime(2025, 6, 9, 9, 47, 9, tzinfo=UTC)
    assert sleep.text.startswith("Entering Sleep state due to 'Software Sleep pid=812'")


def test_what_is_no_line_of_the_log_is_left_out() -> None:
    assert parse_pmset_log("") == []
    assert parse_pmset_log("2025-13-41 99:99:99 +0000 Sleep               \tEntering Sleep state\n") == []
    assert parse_pmset_log("Total Sleep/Wakes since boot at 2025-06-09 15:16:40 +0530 :1\n") == []
    assert not parse_pmset_log("2025-06-09 15:16:40 +0000 Sleep               \tclients requested sleep\n")[
        0
    ].fell_asleep


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_anything_can_be_read(text: str) -> None:
    for event in parse_pmset_log(text):
        assert event.domain


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)).map(lambda time: time.replace(microsecond=0)),  # noqa: DTZ001
    st.integers(-12 * 60, 14 * 60),
    st.sampled_from(["Sleep", "Wake", "DarkWake", "Notification", "Wake Requests"]),
    st.text("abc: ()'=%0123456789", max_size=60).map(str.strip),
)
def test_what_is_printed_is_read(time: datetime, minutes: int, domain: str, text: str) -> None:
    from datetime import timezone

    moment = time.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    line = f"{moment:%Y-%m-%d %H:%M:%S %z} {domain:<20}\t{text:<75}\t           "
    assert parse_pmset_log(line) == [PowerEvent(moment, domain, text)]
