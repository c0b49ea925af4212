"""Finding the address that really answers."""

from __future__ import annotations

import socket

import pytest

from harness.errors import EnvironmentFailure, WaitTimeout
from harness.machines.address import AddressFinder, Look, hint_for, probe, resolvers
from harness.machines.base import Endpoint
from harness.waiting import Deadline


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ((), ("dhcp", "agent", "arp")),
        (("--net-bridged=en0",), ("agent", "arp")),
        (("--net-bridged", "en0"), ("agent", "arp")),
        (("--net-softnet",), ("dhcp", "agent")),
        (("--net-softnet-allow", "0.0.0.0/0"), ("dhcp", "agent")),
    ],
)
def test_resolvers_that_can_work(arguments, order):
    assert resolvers(arguments) == order


def test_probe_wants_a_banner(door):
    assert probe(Endpoint(*door())) is None
    assert probe(Endpoint(*door(b"welcome\r\nto a host\r\nSSH-2.0-x\r\n"))) is None
    assert "HTTP/1.1" in (probe(Endpoint(*door(b"HTTP/1.1 400 Bad Request\r\n"))) or "")
    assert probe(Endpoint(*door(b""))) == "closed before a banner"
    assert "no SSH banner" in (probe(Endpoint(*door(b"x" * 10_000))) or "")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = Endpoint(*listener.getsockname())
    assert probe(closed) == "Connection refused"


def test_probe_of_a_silent_port_ends(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        assert probe(Endpoint(host, port), 0.2) == "timed out"


def finder(answers, doors, **options):
    """A finder whose resolvers answer in turn, and which knows the doors of some addresses."""
    asked = []

    def ask(resolver, deadline):
        asked.append(resolver)
        answer = answers[resolver]
        found = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(found, Exception):
            raise found
        return found

    options = {"order": ("dhcp", "agent", "arp"), "again": 0.0, "patience": 0.0, **options}
    return AddressFinder(ask, lambda address, _: doors.get(address, Endpoint(address, 1)), **options), asked


def test_only_the_usual_resolver_while_patient(door):
    look, asked = finder({"dhcp": [None]}, {}, patience=60.0)
    assert look.look(Deadline(5)).tried == ("dhcp: no address",)
    assert asked == ["dhcp"]


def test_others_are_asked_when_the_usual_address_is_silent(door, seen):
    there = Endpoint(*door())
    answers = {"dhcp": ["127.0.0.8"], "agent": ["127.0.0.1"], "arp": [None]}
    look, asked = finder(answers, {"127.0.0.1": there})
    assert look.look(Deadline(5)).endpoint is None
    assert asked == ["dhcp"]  # the usual one answered, so the slow others were spared
    assert look.look(Deadline(5)).endpoint == there
    named = {record["name"]: record["attributes"] for record in seen}
    assert named["resolver-fallback"] == {"usual": "dhcp", "used": "agent", "address": "127.0.0.1"}
    assert named["stale-address"]["silent"] == ["127.0.0.8"]


def test_not_asked_again_too_soon(door):
    look, asked = finder({"dhcp": ["127.0.0.8"]}, {}, again=60.0)
    for _ in range(3):
        assert "127.0.0.8" in repr(look.look(Deadline(5)))
    assert asked == ["dhcp"]


def test_trouble_of_one_resolver_is_noted(door):
    there = Endpoint(*door())
    trouble = EnvironmentFailure("tart ip works", seen="UnexpectedFormat(…)")
    look, _ = finder({"dhcp": [trouble], "agent": [None], "arp": ["127.0.0.1"]}, {"127.0.0.1": there})
    assert look.look(Deadline(5)).endpoint == there
    alone, _ = finder({"dhcp": [trouble], "agent": [None], "arp": [None]}, {})
    assert "UnexpectedFormat" in repr(alone.look(Deadline(5)))


def test_a_question_cut_short_does_not_hide_what_was_learned():
    late = WaitTimeout("`tart ip` to end", elapsed=1, attempts=1, last=None)
    look, _ = finder({"dhcp": [None, late], "agent": [None], "arp": [None]}, {})
    look.look(Deadline(5))
    assert "dhcp: no address" in repr(look.look(Deadline(5)))


def test_asked_in_haste_at_first_and_patiently_in_the_end():
    given = []

    def ask(_, deadline):
        given.append(deadline.seconds)
        raise WaitTimeout("`tart ip` to end", elapsed=1, attempts=1, last=None)

    look = AddressFinder(ask, lambda *_: Endpoint("x", 1), order=("dhcp",), again=0.0, patience=0.0)
    for _ in range(16):
        assert look.look(Deadline(100)).endpoint is None
    assert given[0] < 0.5
    assert given[:5] == sorted(given[:5])
    assert given[-1] == 100


def test_hints():
    assert "Local Network" in hint_for(Look(tried=("dhcp says 1.2.3.4, 1.2.3.4:22: No route to host",)))
    assert "DHCPLeaseTimeSecs" in hint_for(Look(tried=("dhcp: no address",)))
    assert "Remote Login" in hint_for(Look(tried=("dhcp says 1.2.3.4, 1.2.3.4:22: Connection refused",)))
    assert hint_for(None)
