"""The same failures in other words, and healthy texts that look bad: `phrasings.toml`, and what those have taught."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import pytest

from harness.triage import Triage, triage
from harness.triage.catalog import BENIGN, load_catalog
from harness.triage.detect import sniff

PHRASINGS = tomllib.loads((Path(__file__).parent / "phrasings.toml").read_text(encoding="utf-8"))
FAILING: dict[str, list[str]] = PHRASINGS["failing"]
NOISE = [
    ("trustd", "(Security) [com.apple.securityd:security_exception] MacOS error: -67062"),
    ("CoreServicesUIAgent", "(Security) UNIX error exception: 17"),
    ("kernel", "(AppleSystemPolicy) ASP: Security policy would not allow process: 12, /private/var/folders/x"),
    ("launchd", "[gui/501/org.heron.sync [77]] exited due to SIGKILL | sent by launchd[1]"),
    ("launchd", "[system/com.apple.sysextd [511]] exited due to exit(0)"),
    ("tccd", "Failed to match existing code requirement for subject org.heron.sync and service kTCCServiceAll"),
    ("cfprefsd", "[0x7f] invalidated because the current process cancelled the connection"),
    ("ReportCrash", "Formulating fatal 309 report for corpse[1920] Heron Helper"),
]


def codes(found: Triage) -> list[str]:
    return [cause.code for cause in found.causes]


def log(*messages: tuple[str, str], seconds: int = 1) -> bytes:
    """Messages of processes as `log show` prints them."""
    lines = [
        f"2025-03-03 {10 + at // 3600:02d}:{at // 60 % 60:02d}:{at % 60:02d}.000000+0100 0x4d96     Default     0x0"
        f"                  357    0    {process}: {message}"
        for at, (process, message) in zip(range(0, len(messages) * seconds, seconds), messages, strict=True)
    ]
    return ("\n".join(lines) + "\n").encode()


def in_noise(*messages: tuple[str, str]) -> bytes:
    """Within a log far too long to be an excerpt."""
    return log(*NOISE * 15, *messages, *NOISE * 15)


@pytest.mark.parametrize("code", FAILING)
def test_a_failure_is_known_in_other_words(code: str) -> None:
    wrong = [(text, codes(found)) for text in FAILING[code] if codes(found := triage([text.encode()]))[:1] != [code]]
    assert wrong == []


def test_every_failure_has_other_words() -> None:
    others = {cause.id for cause in load_catalog().causes.values() if not cause.of_our_own}
    assert set(FAILING) == others - BENIGN
    assert sum(map(len, FAILING.values())) > 150


@pytest.mark.parametrize("text", PHRASINGS["benign"]["texts"])
def test_what_is_sound_or_only_described_is_no_failure(text: str) -> None:
    found = triage([text.encode()])
    assert found.verdict != "failure", codes(found)


def test_sound_texts_together_are_sound() -> None:
    """A folder of them: what is absent in one text may be there in the next."""
    texts = [text for text in PHRASINGS["benign"]["texts"] if "\n" not in text]
    random.Random(4).shuffle(texts)
    for start in range(0, len(texts), 6):
        found = triage([text.encode() for text in texts[start : start + 6]])
        assert found.verdict != "failure", (codes(found), texts[start : start + 6])


def test_errors_of_security_in_other_processes_are_noise() -> None:
    found = triage([in_noise()])
    assert found.verdict != "failure", codes(found)


@pytest.mark.parametrize(
    ("code", "process", "message"),
    [
        ("code-signature-invalid", "sysextd", "(Security) MacOS error: -67062"),
        ("extension-crash", "launchd", "[system/NetworkExtension.org.weir.1.2 [901]] exited due to SIGABRT"),
        ("extension-crash", "ReportCrash", "Formulating fatal 309 report for corpse[19] org.weir.network-extension"),
        ("upgrade-waiting-for-reboot", "Weir", "system extension didFinishWithResult: 1"),
        ("dext-launch-refused", "kernel", "DK: WeirDriver-0x100000aaa user server timeout"),
        ("ne-provider-start-failed", "nesessionmanager", "NESMFilterSession[Weir:7F]: Plugin org.weir did not start"),
        ("ne-preferences-save-failed", "Weir", "Unable to save: (NEVPNErrorDomain error 5.) IPC failed"),
        ("duplicate-entries-jam", "sysextd", "activateDecision found two entries for org.weir.filter"),
    ],
)
def test_a_decisive_line_is_first_in_a_long_log_with_killed_processes(code: str, process: str, message: str) -> None:
    found = triage([in_noise((process, message))])
    assert codes(found)[:1] == [code]


@pytest.mark.parametrize(
    ("status", "label", "code"),
    [
        ("-6", "ABCDE12345.org.weir.guard.daemon", "extension-crash"),
        ("-9", "ABCDE12345.org.weir.guard.daemon", "killed-at-exec"),
        ("78", "org.weir.helper", "host-launchd-job-broken"),
        ("-6", "com.apple.mdworker.shared", ""),
        ("-6", "org.weir.helper", ""),
        ("-15", "ABCDE12345.org.weir.guard.daemon", ""),
        ("0", "ABCDE12345.org.weir.guard.daemon", ""),
    ],
)
def test_how_a_job_ended_is_in_launchctls_list(status: str, label: str, code: str) -> None:
    found = triage([f"% sudo launchctl list | grep weir\n-\t{status}\t{label}\n1294\t0\torg.weir.metrics\n".encode()])
    assert codes(found)[:1] == ([code] if code else [])


def test_a_delegate_interface_that_comes_back_is_a_change_of_link() -> None:
    lost = ("nesessionmanager", "manager set delegate interface name to (null)")
    dead = ("org.weir.tunnel", "Failed to send handshake initiation: sendmsg: no route to host")
    back = ("nesessionmanager", "manager set delegate interface name to en0")
    assert triage([log(lost, dead, back)]).verdict != "failure"
    assert codes(triage([log(lost, dead, dead, back, seconds=20)])) == ["tunnel-session-wedged"]


def test_a_driver_refused_with_code_four_and_nothing_between() -> None:
    asked = ("sysextd", "[com.apple.sx:XPC] client activation request for org.weir.usb.driver")
    tried = ("sysextd", "attempting to realize extension with identifier org.weir.usb.driver")
    failed = ("Weir", "didFailWithError: (OSSystemExtensionErrorDomain error 4.)")
    assert codes(triage([log(asked, tried, failed)]))[:1] == ["dext-silent-after-realize"]
    other = ("sysextd", "realizing target path: file:///Applications/Weir.app/")
    assert codes(triage([log(asked, tried, other, failed)]))[:1] == ["extension-not-found"]


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_are_no_text(seed: int) -> None:
    assert sniff(random.Random(seed).randbytes(100_000)) == "binary"


def test_a_text_in_an_old_encoding_is_a_text() -> None:
    assert sniff("Systemerweiterung wurde blockiert: ungültig, müßig, Öl\n".encode("latin-1") * 50) == "text"
    assert sniff("システム機能拡張がブロックされました\n".encode("shift-jis") * 50) == "text"


@pytest.mark.parametrize(
    ("task", "more", "code"),
    [
        ("pid 350: watchdogd", "", "kernel-panic-other"),
        ("pid 0: kernel_task", "Kernel Extensions in backtrace:\n   org.heron.driver(1.0)", "kernel-panic-other"),
        ("pid 0: kernel_task", "loaded kexts:\ncom.apple.iokit.IOSkywalkFamily 1.0\n", "kernel-panic-other"),
        ("pid 850: org.weir.mac.network-", "", "kernel-panic-network-extension"),
        ("pid 850: org.weir.tunnel", "", "kernel-panic-network-extension"),
    ],
)
def test_a_panic_is_of_the_network_by_its_task_and_not_by_lists_of_kernel_extensions(
    task: str, more: str, code: str
) -> None:
    panic = (
        "panic(cpu 4 caller 0xfffffe0011223344): Kernel data abort. at pc 0xfffffe002e414d9c, lr 0x30ae7e002e2ed61c\n"
        f"Debugger message: panic\nPanicked task 0xfffffe27356e0e38: 373 pages, 4 threads: {task}\n{more}"
    )
    assert codes(triage([panic.encode()]))[:1] == [code]


def test_a_crash_near_the_activation_is_suspicious_in_the_products_own_process_only() -> None:
    asked = ("sysextd", "[com.apple.sx:XPC] client activation request for org.weir.filter")
    ours = ("ReportCrash", "Saved crash report for WeirAgent[911] version 1 to WeirAgent-2025-03-03-100000.ips")
    other = ("ReportCrash", "Saved crash report for Heron[911] version 1 to Heron-2025-03-03-100000.ips")
    assert codes(triage([in_noise(asked, ours)]))[:1] == ["host-component-crash"]
    assert triage([in_noise(asked, other)]).verdict != "failure"


def test_what_is_only_likely_comes_after_what_is_certain() -> None:
    """The noise has two lesser signs of a kill at exec, which is fatal; a tool that was refused is certain."""
    refused = ("systemextensionsctl", "this tool cannot be used if System Integrity Protection is enabled")
    killed = ("launchd", "last exit reason = SIGKILL"), ("kernel", "Killed: 9"), ("Weir", "Code Signature Invalid")
    found = codes(triage([in_noise(refused, *killed)]))
    assert found[0] == "diagnostic-tool-refused"
    assert "killed-at-exec" in found
