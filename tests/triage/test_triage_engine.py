"""What is answered for texts: of our own wording always, of the shared samples and the thread where they are there."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.formats import FormatError
from harness.triage import Triage, triage
from harness.triage.catalog import BENIGN
from harness.triage.report import WIDTH, as_github, as_text, harmless

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
VARIANTS = tomllib.loads((Path(__file__).parent / "variants.toml").read_text(encoding="utf-8"))
FAILING = [(code, number, text) for code, texts in VARIANTS["failing"].items() for number, text in enumerate(texts)]
NOISE = [
    "kernelmanagerd: incoming connection from pid 2679",
    "WindowServer: (SkyLight) [com.apple.SkyLight:default] posting event",
    "org.weir.filter: (NetworkExtension) [com.apple.networkextension:] Signature check failed: code failed to satisfy specified code requirement(s)",
    "sysextd: (libxpc.dylib) [com.apple.xpc:connection] [0x15] invalidated after getting a no-senders notification - client is gone",
    "org.weir.filter: (libxpc.dylib) [com.apple.xpc:connection] [0x13] Channel could not return listener port.",
    "mDNSResponder: [com.apple.mDNSResponder:Default] [R1] DNSServiceQueryRecord START",
]


def codes(found: Triage) -> list[str]:
    return [cause.code for cause in found.causes]


def log(messages: list[str], second: float = 1.0) -> bytes:
    """Messages as `log show --style default` prints them, `second` apart."""
    lines = ["Timestamp                       Thread     Type        Activity             PID    TTL  "]
    for number, message in enumerate(messages):
        at = datetime.fromtimestamp(1_750_000_000 + number * second, UTC)
        lines.append(
            f"{at:%Y-%m-%d %H:%M:%S.%f}+0000 0x4d96     Default     0x0                  357    0    {message}"
        )
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize(("code", "number", "text"), FAILING, ids=[f"{code}-{number}" for code, number, _ in FAILING])
def test_a_cause_is_named_however_it_is_said(code: str, number: int, text: str) -> None:
    found = triage([text.encode()])
    assert found.verdict == "failure"
    assert codes(found)[0] == code
    assert found.causes[0].signs
    assert found.causes[0].remedy


@pytest.mark.parametrize("text", VARIANTS["benign"]["texts"])
def test_what_only_looks_bad_is_no_failure(text: str) -> None:
    found = triage([text.encode()])
    assert found.verdict != "failure", codes(found)
    assert set(codes(found)) <= BENIGN


def test_noise_alone_is_no_failure_however_much_of_it() -> None:
    found = triage([log(NOISE * 60)])
    assert found.verdict == "healthy"
    assert codes(found) == ["harmless-noise"]


def test_a_decisive_line_is_found_in_noise() -> None:
    messages = NOISE * 40
    messages.insert(
        100, "sysextd: initial activation decision: coalesceWithActivationInProgress(<sysextd.Extension: 0x1>)"
    )
    found = triage([log(messages)])
    assert codes(found)[0] == "approval-coalesced-no-prompt"
    assert found.causes[0].signs[0].line == 102
    assert found.causes[0].signs[0].process == "sysextd"


def test_a_complaint_counts_in_an_excerpt_and_not_in_a_whole_log() -> None:
    line = "weird: Error Domain=NSCocoaErrorDomain Code=4097 “Couldn’t communicate with a helper application.”"
    assert codes(triage([line.encode()])) == ["xpc-service-unreachable"]
    whole = triage([log([*NOISE * 30, line])])
    assert whole.verdict == "inconclusive"
    assert "xpc-service-unreachable" in dict(whole.suspected)


def test_two_problems_are_both_told() -> None:
    messages = NOISE * 30
    messages.insert(
        20,
        "launchd: [system:] failed lookup: name = ABCDE12345.org.weir, requestor = Weir[8], error = 3: No such process",
    )
    messages.insert(90, "sysextd: Fatal error: Activate found 2 extensions in active state, ID: org.weir.filter")
    assert set(codes(triage([log(messages)]))) == {"xpc-service-unreachable", "sysextd-crash"}


def test_a_consequence_comes_after_its_cause() -> None:
    text = b"OSSystemExtensionErrorDomain error 4\nsysextd: no policy, cannot allow apps outside /Applications\nMacOS error: -67062\n"
    assert codes(triage([text]))[:3] == [
        "code-signature-invalid",
        "no-policy-outside-applications",
        "extension-not-found",
    ]


def test_a_list_of_all_errors_is_no_event() -> None:
    text = "\n".join(f"| {n} | OSSystemExtensionErrorDomain code {n} | what it means |" for n in range(2, 12))
    assert triage([text.encode()]).verdict != "failure"


def test_the_extension_under_test_comes_first() -> None:
    text = (
        b"ABCDE12345 org.other.filter (1.0/1) Other [activated waiting for user]\n"
        b"ABCDE12345 org.weir.filter (1.0/1) Weir [activated disabled]\n"
    )
    assert set(codes(triage([text]))) == {"approval-pending", "extension-disabled"}
    assert codes(triage([text], extension_id="org.weir.filter")) == ["extension-disabled"]
    assert codes(triage([text], extension_id="org.other.filter")) == ["approval-pending"]


def test_a_window_leaves_out_what_is_not_in_it() -> None:
    messages = ["sysextd: initial activation decision: coalesceWithActivationInProgress(x)", *NOISE * 20]
    data = log(messages)
    assert triage([data]).verdict == "failure"
    later = datetime.fromtimestamp(1_750_000_010, UTC)
    assert triage([data], since=later).verdict != "failure"
    assert triage([data], since=later.replace(tzinfo=None)).verdict != "failure"
    assert triage([data], until=later).verdict == "failure"


def test_several_inputs_of_one_mac_are_one_answer(tmp_path: Path) -> None:
    one, two = tmp_path / "a.txt", tmp_path / "b.txt"
    one.write_text("launchd: failed lookup: name = x.org.weir, requestor = y, error = 3: No such process\n")
    two.write_text("1 extension(s)\n*\t*\tABCDE12345\torg.weir.filter (2.0.1/41)\tWeir\t[activated enabled]\n")
    found = triage([one, str(two)])
    assert codes(found) == ["xpc-service-unreachable"]
    assert {"a.txt", "b.txt"} <= {part.rsplit("/", 1)[-1] for part in found.input.split(", ")}
    assert found.kind == "several"


def test_a_stream_is_read() -> None:
    assert codes(triage([io.BytesIO(b"OSSystemExtensionErrorDomain error 8")])) == ["code-signature-invalid"]


def test_unknown_is_a_result() -> None:
    found = triage([b"it does not work, what now?\n"])
    assert (found.verdict, found.causes) == ("inconclusive", [])
    assert "no known sign" in found.headline()
    quiet = triage([log(["mDNSResponder: hello"] * 20)])
    assert "activation request" in quiet.headline()


def test_a_terminal_is_not_at_the_mercy_of_a_log() -> None:
    evil = "OSSystemExtensionErrorDomain error 8 \x1b[2J\x07\x9b31m \u202e gnp.exe"
    found = triage([evil.encode()])
    for shown in (as_text(found, verbose=True), as_github(found), json.dumps(found.as_dict(), ensure_ascii=False)):
        assert not any(ord(char) < 32 and char not in "\n" for char in shown)
        assert "\x9b" not in shown
        assert "\u202e" not in shown
    assert as_github(triage([b"OSSystemExtensionErrorDomain error 8 ::error::x%0A"])).count("\n::") == 0


def test_text_for_people_has_the_answer_first_and_fits() -> None:
    messages = [
        "sysextd: [com.apple.sx:XPC] client activation request for org.weir.filter",
        "sysextd: initial activation decision: coalesceWithActivationInProgress(<sysextd.Extension: 0x7fc262405b60>) "
        + "long " * 60,
    ]
    text = as_text(triage([log(messages)]), verbose=True)
    assert "approval-coalesced-no-prompt" in text.splitlines()[1]
    assert text.index("What to do") < text.index("History") < text.index("Read:")
    assert max(map(len, text.splitlines())) <= WIDTH + 5


def test_json_keeps_its_keys() -> None:
    found = triage([b"OSSystemExtensionErrorDomain error 8"]).as_dict()
    assert {"input", "kind", "verdict", "causes", "timeline", "coverage"} <= set(found)
    assert {"code", "title", "confidence", "owner", "severity", "signs", "remedy"} <= set(found["causes"][0])
    assert {"file", "line", "time", "process", "text"} <= set(found["causes"][0]["signs"][0])
    json.dumps(found)


@pytest.mark.parametrize(
    "part", ["a.b-", "advancing state from a to b ", "[activated ", "panic(cpu 1 caller ", "x-2024-01-01-000000.ips "]
)
def test_texts_made_to_hold_it_up_are_answered(part: str) -> None:
    """Whoever takes minutes for one of these ends this test by its time limit."""
    triage([(part * (16_000 // len(part))).encode()])


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=400))
def test_any_text_has_an_answer(text: str) -> None:
    data = text.encode("utf-8", "surrogateescape" if text.isascii() else "replace")
    try:
        found = triage([data + b"\n"])
    except (UsageError, FormatError):  # blank, or bytes that are no text
        return
    assert found.verdict in ("failure", "healthy", "inconclusive")
    as_text(found)
    as_github(found)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=100))
def test_harmless_is_one_short_line(text: str) -> None:
    shown = harmless(text, 50)
    assert len(shown) <= 50
    assert shown.isprintable() or not any(ord(char) < 32 for char in shown)


def test_the_thread_of_the_lost_dialog_is_answered_as_its_engineer_did() -> None:
    threads = sorted((SHARED / "seeds").glob("000*.txt")) if SHARED.exists() else []
    if not threads:
        pytest.skip("../shared is absent: the thread is there")
    found = triage([threads[0]])
    assert codes(found)[:5] == [
        "approval-coalesced-no-prompt",
        "staging-removal-immutable",
        "app-group-profile-mismatch",
        "es-no-full-disk-access",
        "host-component-crash",
    ]
    lines = threads[0].read_text(encoding="utf-8").splitlines()
    for cause, part in zip(
        found.causes,
        ["coalesceWithActivationInProgress", "", "is ignored because", "0xe00002d8", "ExtensionLoader"],
        strict=False,
    ):
        sign = cause.signs[0]
        assert part in lines[sign.line - 1]


def test_the_shared_samples_are_answered(tmp_path: Path) -> None:
    bench = SHARED / "bench" / "triage"
    if not (bench / "dev" / "index.jsonl").exists():
        pytest.skip("../shared is absent: the samples are there")
    rows = [json.loads(line) for line in (bench / "dev" / "index.jsonl").read_text(encoding="utf-8").splitlines()]
    predictions = tmp_path / "predictions.jsonl"
    with predictions.open("w", encoding="utf-8") as out:
        for row in rows:
            if row["scored"]:
                found = triage([bench / "dev" / row["file"]])
                out.write(
                    json.dumps({"file": row["file"], "codes": codes(found), "benign": found.verdict != "failure"})
                    + "\n"
                )
    command = [sys.executable, str(bench / "score.py"), "--json", str(predictions)]
    scored = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    right, failing = scored["top1"]
    assert right / failing >= 0.92, scored["misses"]
    assert scored["false_alarms"][0] == 0, scored["alarms"]
    assert scored["must_not_hits"] == 0, scored["must_not"]
    assert scored["both_found"][0] == scored["both_found"][1]
    assert scored["unknown_codes"] == []
