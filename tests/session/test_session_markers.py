"""Markers of scenarios: on which versions they run, what they wish, when they are skipped."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.errors import UsageError
from harness.machines import Wishes
from harness.session.markers import versions_for, why_not, wishes_for


class Definition:
    """As pytest has it, as far as markers go."""

    nodeid = "test_x.py::test_x"

    def __init__(self, *marks) -> None:
        self.marks = [mark.mark for mark in marks]

    def iter_markers(self, name):
        return [mark for mark in self.marks if mark.name == name]

    def get_closest_marker(self, name):
        return next(iter(self.iter_markers(name)), None)


mark = pytest.mark
ASKED = ["13", "14", "26", "15"]


@pytest.mark.parametrize(
    ("marks", "versions"),
    [
        ((), ASKED),
        ((mark.sysext_newest_only,), ["26"]),
        ((mark.sysext_macos("15", "13"),), ["13", "15"]),
        ((mark.sysext_macos(15),), ["15"]),
        ((mark.sysext_macos("13", "15"), mark.sysext_newest_only), ["15"]),
        ((mark.sysext_macos("12"),), []),
        ((mark.sysext_macos("12"), mark.sysext_newest_only), []),
    ],
)
def test_versions(marks, versions) -> None:
    assert versions_for(Definition(*marks), ASKED) == versions


def test_newest_is_a_number_and_no_text() -> None:
    assert versions_for(Definition(mark.sysext_newest_only), ["9", "13"]) == ["13"]


def run(kind: str = "transparent-proxy", *, can_suspend: bool = True, simulated: bool = True):
    return SimpleNamespace(
        app=SimpleNamespace(name="App", extension=SimpleNamespace(kind=kind)),
        provider=SimpleNamespace(name="somewhere", can_suspend=can_suspend, simulated=simulated),
    )


def test_kinds() -> None:
    definition = Definition(mark.sysext_kinds("dns-proxy"))
    assert why_not(definition, run("dns-proxy")) is None
    reason = why_not(definition, run())
    assert reason is not None
    assert "dns-proxy" in reason
    assert "App has a transparent-proxy" in reason


@pytest.mark.parametrize("bad", [mark.sysext_kinds("dns"), mark.sysext_kinds(), mark.sysext_macos()])
def test_a_marker_that_says_nothing_usable(bad) -> None:
    with pytest.raises(UsageError, match=bad.mark.name):
        why_not(Definition(bad), run())
        versions_for(Definition(bad), ASKED)


def test_what_cannot_be_suspended_is_skipped_with_its_reason() -> None:
    definition = Definition(mark.sysext_suspendable)
    assert why_not(definition, run()) is None
    assert "somewhere cannot suspend" in str(why_not(definition, run(can_suspend=False)))
    with pytest.raises(pytest.skip.Exception, match="cannot suspend"):
        wishes_for(definition, run(can_suspend=False).provider)


def test_wishes() -> None:
    marks = (mark.sysext_simulated("others=5"), mark.sysext_simulated("rows=2"), mark.sysext_suspendable)
    assert wishes_for(Definition(*marks), run().provider) == {
        "wishes": Wishes(suspendable=True, variations=("others=5", "rows=2"))
    }
    # A real Mac is what it is: it is only asked for what it can be.
    assert wishes_for(Definition(*marks), run(simulated=False).provider) == {"wishes": Wishes(suspendable=True)}
    assert wishes_for(Definition(mark.sysext_simulated("rows=2")), run(simulated=False).provider) == {}
    assert wishes_for(Definition(), run().provider) == {}
    with pytest.raises(UsageError, match="variation"):
        wishes_for(Definition(mark.sysext_simulated()), run().provider)
