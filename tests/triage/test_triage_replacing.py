"""What went wrong with a replacement, and what only looks like it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.triage import Triage, triage

ID = "org.weir.filter"
ASKED = [
    f"sysextd: [com.apple.sx:XPC] client activation request for {ID}",
    f"sysextd: attempting to realize extension with identifier {ID}",
    "sysextd: activateDecision found entry to replace: 8F0B81E2-C5B8-37F5-B8FF-533857442CA3, BundleVersion(…)",
    "sysextd: initial activation decision: requestAppReplaceAction(<sysextd.Extension: 0x7fc262405b60>)",
    "sysextd: [com.apple.sx:XPC] notifying client of activation conflict",
]
ANSWERED = "Weir: [org.weir:app] actionForReplacingExtension: 1.0/1 -> 2.0/2"
ERROR_11 = 'Weir: [org.weir:app] Activation failed: Error Domain=OSSystemExtensionErrorDomain Code=11 "(null)"'
GONE = "sysextd: [com.apple.sx:XPC] client connection (pid 511) invalidated"
DROPPED = "Weir: NSXPCConnection to service named ABCDE12345.org.weir.filter was invalidated from this process."
TICK = "mDNSResponder: tick"


def step(before: str, after: str, version: str) -> str:
    return f"sysextd: [com.apple.sx:StateChange] extension ABCDE12345 {ID} ({version}) advancing state from {before} to {after}"


REPLACED = [
    *ASKED,
    ANSWERED,
    step("activated_enabled", "terminating_for_upgrade", "1.0/1"),
    step("terminating_for_upgrade", "terminated_waiting_to_uninstall_on_reboot", "1.0/1"),
]
TAKES_OVER = [
    step("validating_by_category", "activated_enabling", "2.0/2"),
    step("activated_enabling", "activated_enabled", "2.0/2"),
]


def log(messages: list[str], second: float = 0.1) -> bytes:
    """A whole log, not an excerpt: other lines around it."""
    lines = ["Timestamp                       Thread     Type        Activity             PID    TTL  "]
    for number, message in enumerate([*[TICK] * 60, *messages, *[TICK] * 60]):
        at = datetime.fromtimestamp(1_750_000_000 + number * second, UTC)
        pid = 511 if message.startswith("Weir") else 357
        lines.append(
            f"{at:%Y-%m-%d %H:%M:%S.%f}+0000 0x4d96     Default     0x0                  {pid}    0    {message}"
        )
    return ("\n".join(lines) + "\n").encode()


def codes(found: Triage) -> list[str]:
    return [cause.code for cause in found.causes]


@pytest.mark.parametrize(
    ("messages", "first"),
    [
        ([*ASKED, ANSWERED, ERROR_11, GONE], "replacement-cancelled"),
        ([*ASKED, GONE], "replacement-answer-lost"),
        ([*ASKED, GONE, *[TICK] * 30, ERROR_11], "replacement-answer-lost"),
        ([*REPLACED, step("validating", "activated_waiting_for_user", "2.0/2")], "approval-not-inherited"),
        ([*REPLACED, *TAKES_OVER, *[DROPPED] * 3], "xpc-invalidated-after-upgrade"),
    ],
)
def test_a_replacement_that_went_wrong(messages: list[str], first: str) -> None:
    assert codes(triage([log(messages)]))[:1] == [first]


@pytest.mark.parametrize(
    ("messages", "never"),
    [
        ([*REPLACED, *TAKES_OVER, GONE], "replacement-answer-lost"),
        # The old version waited itself: that the new one waits is what was to be expected.
        (
            [
                *ASKED,
                ANSWERED,
                step("activated_waiting_for_user", "uninstalling", "1.0/1"),
                step("validating", "activated_waiting_for_user", "2.0/2"),
            ],
            "approval-not-inherited",
        ),
        # The same version waits: a new installation, no replacement.
        (
            [*REPLACED, *TAKES_OVER, step("realizing", "activated_waiting_for_user", "1.0/1")],
            "approval-not-inherited",
        ),
        # It took the approval over, was removed (a recovery), and asks anew.
        (
            [
                *REPLACED,
                *TAKES_OVER,
                step("activated_enabled", "terminating_for_uninstall", "2.0/2"),
                step("terminating_for_uninstall", "terminated_waiting_to_uninstall_on_reboot", "2.0/2"),
                step("validating", "activated_waiting_for_user", "2.0/2"),
            ],
            "approval-not-inherited",
        ),
        ([*REPLACED, *TAKES_OVER, *[DROPPED] * 2], "xpc-invalidated-after-upgrade"),
        ([*TAKES_OVER, *[DROPPED] * 9], "xpc-invalidated-after-upgrade"),
        ([*REPLACED, *TAKES_OVER, *[DROPPED.replace("ABCDE12345.org", "com.apple")] * 9], "xpc-invalidated-after-upgrade"),
        ([ERROR_11], "replacement-cancelled"),
        ([step("activated_enabled", "terminating_for_disable", "1.0/1"),
          step("terminating_for_disable", "activated_disabled", "1.0/1"),
          step("activated_disabled", "activated_enabling", "1.0/1"),
          step("activated_enabling", "activated_enabled", "1.0/1")], "disable-stuck-still-running"),
    ],
)  # fmt: skip
def test_what_only_looks_like_it(messages: list[str], never: str) -> None:
    assert never not in codes(triage([log(messages)]))


def test_an_end_in_switching_off_is_one_that_is_stuck() -> None:
    found = triage([log([step("activated_enabled", "terminating_for_disable", "1.0/1")])])
    assert codes(found)[0] == "disable-stuck-still-running"


LISTED = (
    "PID\tStatus\tLabel\n{0}\tNetworkExtension.org.weir.filter.1.0.1\n{1}\tNetworkExtension.org.weir.filter.2.0.2\n"
)


@pytest.mark.parametrize(
    ("listed", "two"),
    [
        (LISTED.format("512\t0", "640\t-"), True),
        (LISTED.format("-\t0", "640\t0"), False),
        (LISTED.format("0\t0", "640\t0"), False),
        (LISTED.format("512\t0", "640\t0").replace("filter.1.0.1", "filter.helper.1.0"), False),
        (LISTED.format("512\t0", "640\t0").replace("filter.2.0.2", "filter.1.0.1"), False),
        (LISTED.format("512\t0", "640\t0").replace("weir", "other"), False),
    ],
)
def test_two_versions_of_one_extension_at_the_same_moment(listed: str, two: bool) -> None:
    found = triage([log([*REPLACED, *TAKES_OVER]), listed.encode()])
    assert ("old-process-lingers" in codes(found)) is two


def test_before_and_after_are_not_the_same_moment() -> None:
    rows = LISTED.format("512\t0", "640\t0").splitlines()
    prints = [f"{rows[0]}\n{row}\n".encode() for row in rows[1:]]
    assert "old-process-lingers" not in codes(triage([log([*REPLACED, *TAKES_OVER]), *prints]))
