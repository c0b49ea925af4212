"""`systemextensionsctl list`: the forms of all releases, what posts do to them, and texts that are none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.formats import ExtensionState, is_known_state, is_leftover, normalise_state
from harness.formats.listing import parse_listing

HINT = (
    " (Go to 'System Settings > General > Login Items & Extensions > Network Extensions' to modify these system "
    "extension(s))"
)
HEADER = "enabled\tactive\tteamID\tbundleID (version)\tname\t[state]"


def test_the_form_of_macos_15_and_26() -> None:
    listing = parse_listing(
        "2 extension(s)\n"
        f"--- com.apple.system_extension.network_extension{HINT}\n{HEADER}\n"
        "\t*\tS8XHQB96PW\torg.example.ext (2.0/1)\tnetwork-extension\t[activated waiting for user]\n"
        f"--- com.apple.system_extension.endpoint_security{HINT}\n{HEADER}\n"
        "*\t*\tEQHXZ8M8AV\tcom.example.es (2023.4/2023.4.5)\tsantad\t[activated enabled]\n"
    )
    assert listing.count == 2
    assert listing.notes == ()
    waiting, enabled = listing.entries
    assert (waiting.category, waiting.enabled, waiting.active) == ("network_extension", False, True)
    assert (waiting.team, waiting.identifier, waiting.short, waiting.build) == (
        *("S8XHQB96PW", "org.example.ext", "2.0", "1"),
    )
    assert waiting.name == "network-extension"
    assert waiting.state == ExtensionState.WAITING_FOR_USER
    assert waiting.known
    assert (enabled.category, enabled.enabled, enabled.active) == ("endpoint_security", True, True)
    assert enabled.build == "2023.4.5"


def test_nothing_installed_and_nothing_at_all() -> None:
    assert parse_listing("0 extension(s)\n") == parse_listing("\n0 extension(s)\r\n\r\n")
    assert parse_listing("0 extension(s)\n").count == 0
    empty = parse_listing("")
    assert (empty.count, empty.entries, empty.notes) == (None, (), ())


@pytest.mark.parametrize(
    ("row", "enabled", "active"),
    [
        ("*\t*\tTC292Y5427\ta.b (1/1)\tn\t[activated enabled]", True, True),
        ("\t*\tTC292Y5427\ta.b (1/1)\tn\t[activated disabled]", False, True),
        ("*\t\tTC292Y5427\ta.b (1/1)\tn\t[activated disabled]", True, False),
        ("\t\tTC292Y5427\ta.b (1/1)\tn\t[uninstalling]", False, False),
        ("        *       TC292Y5427      a.b (1/1)     n  [activated waiting for user]", False, True),
        ("*    *    TC292Y5427    a.b (1/1)    n    [activated enabled]", True, True),
        ("* * TC292Y5427 a.b (1/1) [activated enabled]", True, True),
        ("        *\t    TC292Y5427\ta.b (1/1)\tn\t[activated waiting for user]", False, True),
        ("TC292Y5427 a.b (1/1) n[activated enabled]", False, False),
    ],
)
def test_stars_where_tabs_were_lost(row: str, enabled: bool, active: bool) -> None:
    (entry,) = parse_listing(row).entries
    assert (entry.enabled, entry.active) == (enabled, active)
    assert (entry.team, entry.identifier, entry.short, entry.build) == ("TC292Y5427", "a.b", "1", "1")


@pytest.mark.parametrize(
    ("row", "team", "short", "build", "name"),
    [
        ("*\t*\t-\ta.b (1.0/1)\t-\t[activated enabled]", "", "1.0", "1", ""),
        ("*\t*\tAAAAAAAAAA\ta.b (5.1.5-20/1)\ta.b\t[activated enabled]", "AAAAAAAAAA", "5.1.5-20", "1", "a.b"),
        ("*\t*\tAAAAAAAAAA\ta.b (1.0/202501171211)\t\t[activated enabled]", "AAAAAAAAAA", "1.0", "202501171211", ""),
        (
            "*\t*\tAAAAAAAAAA\ta.b (1.0/1)\tFoo [beta] (2/3)\t[activated enabled]",
            "AAAAAAAAAA",
            "1.0",
            "1",
            "Foo [beta] (2/3)",
        ),
        ("*\t*\tAAAAAAAAAA\ta.b (5.5 (6273)/6273)\tn\t[activated enabled]", "AAAAAAAAAA", "5.5 (6273)", "6273", "n"),
        ("*\t*\tAAAAAAAAAA\ta.b (2.0)\tn\t[activated enabled]", "AAAAAAAAAA", "2.0", "", "n"),
        ("a.b (1/2)   [terminating for uninstall]", "", "1", "2", ""),
        ("a.b ... [activated disabled]", "", "", "", ""),
    ],
)
def test_versions_names_and_teams(row: str, team: str, short: str, build: str, name: str) -> None:
    (entry,) = parse_listing(row).entries
    assert (entry.team, entry.identifier, entry.short, entry.build, entry.name) == (team, "a.b", short, build, name)
    assert entry.raw == row


def test_a_line_of_stderr_in_between_is_a_note() -> None:
    odd = "systemextensionsctl[1:2] Cannot getLocalizedStringForKey: Completely failed to resolve bundle info"
    listing = parse_listing(f"1 extension(s)\n{HEADER}\n{odd}\n*\t*\tAAAAAAAAAA\ta.b (1/1)\t[activated enabled]\n")
    assert listing.notes == (odd,)
    assert len(listing.entries) == 1


def test_a_count_that_disagrees_is_a_note() -> None:
    assert parse_listing("3 extension(s)\n").notes == ("the listing counts 3, its rows are 0",)


def test_two_entries_of_one_identifier() -> None:
    listing = parse_listing(
        "*\t*\tAAAAAAAAAA\ta.b (1/1)\tn\t[activated enabled]\n"
        "\t\tAAAAAAAAAA\ta.b (2/1)\tn\t[activated waiting to upgrade]\n"
        "\t\tAAAAAAAAAA\ta.b (0/1)\tn\t[terminated waiting to uninstall on reboot]\n"
    )
    assert [entry.short for entry in listing.of("a.b")] == ["1", "2"]
    assert len(listing.of("a.b", leftovers=True)) == 3
    assert listing.of("a") == ()


def test_a_row_broken_over_lines() -> None:
    (entry,) = parse_listing("enabled active\ncom.example.ext (4.4.2)\n[activated enabled]\n").entries
    assert (entry.identifier, entry.short, entry.state) == ("com.example.ext", "4.4.2", "activated_enabled")


@pytest.mark.parametrize(
    "line",
    [
        "sysextd: [com.apple.sx:XPC] client activation request for a.b (1/2) [done]",
        "it says a.b (1/1) is [activated enabled]",
        "[activated enabled]",
        "-[NSString stringWithFormat:]",
    ],
)
def test_prose_and_log_lines_are_no_rows(line: str) -> None:
    assert parse_listing(line).entries == ()
    assert parse_listing(line).notes == (line,)


def test_states() -> None:
    assert normalise_state("[Activated  waiting for user] ") == "activated_waiting_for_user"
    assert normalise_state("terminated waiting for uninstall on reboot") == ExtensionState.UNINSTALL_ON_REBOOT
    for state in ExtensionState:
        assert normalise_state(str(state).replace("_", " ")) == state
        assert is_known_state(state)
    assert not is_known_state("activated_by_magic")
    (entry,) = parse_listing("*\t*\tAAAAAAAAAA\ta.b (1/1)\tn\t[activated by magic]").entries
    assert (entry.state, entry.known) == ("activated_by_magic", False)
    assert is_leftover("terminating_for_upgrade_via_delegate")
    assert not is_leftover("activated_disabled")


def test_every_posted_row_is_read(samples: dict[str, str]) -> None:
    """Whatever line of a posted listing ends in a known state with a version before it is a row with identifier."""
    row = re.compile(
        r"^[\s*]*(?:[A-Z0-9]{10}|-)?\s*(\S+) \((\S+)\).*\[(activated|terminat|validating|uninstall)[a-z _]*\]\s*$"
    )
    seen = 0
    for name, text in samples.items():
        expected = [match.group(1) for line in text.splitlines() if (match := row.match(line))]
        found = [entry.identifier for entry in parse_listing(text).entries]
        assert [identifier for identifier in found if identifier in expected] == expected, name
        seen += len(expected)
    assert seen >= 40


def test_posted_listings_are_understood(samples: dict[str, str]) -> None:
    """All states are known, and what is no row is told."""
    for name, text in samples.items():
        listing = parse_listing(text)
        if listing.count is None:
            continue
        assert all(entry.known for entry in listing.entries), name
        if listing.count != len(listing.entries):
            assert any("counts" in note for note in listing.notes), name


@given(st.text(max_size=400))
def test_any_text(text: str) -> None:
    listing = parse_listing(text)
    assert len(listing.notes) <= 52
    assert all(entry.identifier and entry.state for entry in listing.entries)


_WORD = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}(\.[A-Za-z0-9-]{1,8}){1,4}", fullmatch=True)
_VERSION = st.from_regex(r"[A-Za-z0-9.-]{1,12}", fullmatch=True)
_NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9 ()\[\]-]{0,20}", fullmatch=True).map(str.strip)


@given(
    identifier=_WORD,
    short=_VERSION,
    build=_VERSION,
    name=_NAME | st.just(""),
    team=st.from_regex(r"[A-Z0-9]{10}", fullmatch=True) | st.just("-"),
    state=st.sampled_from(list(ExtensionState)),
    stars=st.tuples(st.booleans(), st.booleans()),
)
def test_what_macos_prints_is_read_back(
    identifier: str, short: str, build: str, name: str, team: str, state: ExtensionState, stars: tuple[bool, bool]
) -> None:
    marks = "\t".join("*" if star else "" for star in stars)
    row = f"{marks}\t{team}\t{identifier} ({short}/{build})\t{name or '-'}\t[{state.replace('_', ' ')}]"
    (entry,) = parse_listing(f"1 extension(s)\n--- com.apple.system_extension.cmio\n{HEADER}\n{row}\n").entries
    assert (entry.enabled, entry.active) == stars
    assert (entry.team, entry.identifier) == ("" if team == "-" else team, identifier)
    assert (entry.short, entry.build, entry.name, entry.state) == (short, build, name, state)
    assert entry.category == "cmio"
