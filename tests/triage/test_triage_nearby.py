"""A search near hints finds what a search of the whole text finds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.triage import redaction
from harness.triage.nearby import Near

PATTERNS = {
    **{f"behind {kind}": near for kind, near in redaction._BEHIND.items()},
    **{f"place {number}": near for number, (_, near) in enumerate(redaction._PLACES)},
    **{name: getattr(redaction, name) for name in ("_MAC", "_IPV4", "_UDID", "_LOCAL", "_EMAIL", "_USERINFO")},
}
PIECES = [
    "Serial Number (system): C02ABC123456", "\nHost Name: Ann’s MacBook Pro", "hardware UUID: 8F0B81E2-C5B8-37F5-B8FF-533857442CA3",
    "SSID: Weir", "current wifi network name = 'Weir'", "networkName: x7", "Real Name: Ann", "<key>SerialNumber</key>\n  <string>C02ABC</string>",
    "user name: annb", "user = annb", "token: abcd1234", "api_key=zz99zz99", "/Users/annb/Library", "\\/Users\\/annb\\/x", "uid=501(annb)",
    "Jan  2 03:04:05 weir sysextd[311]: x", "\n2026-01-02 03:04:05.123456-0700  weir kernel[0]: x", "Apple Development: Ann B (ABCDE12345)",
    "Ann's Mac mini", "a4:83:e7:01:02:03", "a4-83-e7-01-02-03", "192.168.64.3", "1.2.3.4.5", "03:17:45.636", "fe80::1:2%en0",
    "2001:db8:1:2:3:4:5:6", "00008112-001A2B3C4D5E6F70", "weir.fritz.box", "weir.local.", "ann@weir.example.org", "https://ann:pw@weir.example/x",
    "\\u2019", " ", "\n", ": ", "=", "\"", "é", "x" * 70, "-", "::", ":1:2:3:", ".1.2.3", "@", "realizing", "device", "machine",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(alphabet="ab1:.-@/ \n\"'=", max_size=30), max_size=25).map("".join)


def spans(matches: object) -> list[tuple[int, int]]:
    return [found.span() for found in matches]  # type: ignore[attr-defined]


@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_the_same_is_found_as_in_the_whole_text(text: str) -> None:
    for name, near in PATTERNS.items():
        assert spans(near.matches(text, text.lower())) == spans(near.pattern.finditer(text)), name


@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_addresses_of_the_sixth_version_are_those_that_are_some(text: str) -> None:
    """The pattern also finds times of day, which are no addresses; those need not be found."""
    masker = redaction.Masker(key=b"k" * 32)
    assert masker._near(redaction._IPV6, masker._ipv6, text) == redaction._IPV6.pattern.sub(masker._ipv6, text)


@pytest.mark.parametrize("piece", PIECES)
def test_each_piece_far_from_the_others(piece: str) -> None:
    """Behind and before long stretches without a hint: what windows are for."""
    text = f"{'lorem ' * 400}{piece} {'ipsum ' * 400}{piece}"
    for name, near in PATTERNS.items():
        assert spans(near.matches(text, text.lower())) == spans(near.pattern.finditer(text)), name


def test_a_text_whose_small_letters_are_longer_is_searched_whole() -> None:
    near = Near(re.compile("ab"), words=("zz",))
    assert spans(near.matches("İ ab", "İ ab".lower())) == [(2, 4)]
    assert spans(near.matches("i ab", "i ab")) == []


def test_replacing_keeps_the_rest() -> None:
    near = Near(re.compile("b+"), words=("b",), before=1, after=3)
    text = f"{'a' * 50}bb{'a' * 50}b"
    assert near.sub(lambda found: f"<{found.group()}>", text, text) == re.sub("b+", lambda f: f"<{f.group()}>", text)
    assert near.sub(lambda _: "", "aaa", "aaa") == "aaa"
