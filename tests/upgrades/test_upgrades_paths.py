"""What two releases are to each other, which steps cannot be, which paths make sense."""

from __future__ import annotations

import pytest

from harness.config import AppFile
from harness.errors import UsageError
from harness.upgrades import How, Relation, State, Step, UpgradePath, expect, impossible, relation
from harness.upgrades.covering import full, pairwise
from harness.upgrades.expectations import DISABLED, ENABLED, STATES, WAITING, Answer
from tests.support.upgrade_samples import app_with, release


@pytest.mark.parametrize(
    ("older", "newer", "wanted"),
    [
        ("1.0", "1.1", Relation.PREVIOUS),
        ("1.0", "2.0", Relation.SKIP),
        ("1.1", "1.1-b", Relation.REBUILD),
        ("1.1-b", "1.1", Relation.REBUILD),
        ("1.1-b", "2.0", Relation.PREVIOUS),
        ("2.0", "1.1-b", Relation.DOWNGRADE),
        ("2.0", "2.0", Relation.REINSTALL),
    ],
)
def test_relations(product: AppFile, older: str, newer: str, wanted: Relation) -> None:
    assert relation(product, older, newer) is wanted


def test_rebuilds_of_rebuilds_are_one_group() -> None:
    app = app_with(release("1"), release("2", "1"), release("3", "2"), release("4"))
    assert relation(app, "1", "3") is Relation.REBUILD
    assert relation(app, "3", "4") is Relation.PREVIOUS
    round_about = app_with(release("1", "2"), release("2", "1"), release("3"))
    assert relation(round_about, "1", "2") is Relation.REBUILD
    assert relation(round_about, "2", "3") is Relation.PREVIOUS


def test_a_release_that_is_not_listed_is_named(product: AppFile) -> None:
    with pytest.raises(UsageError, match=r"9\.9"):
        relation(product, "1.0", "9.9")


def test_rebuild_of_must_name_another_release() -> None:
    with pytest.raises(ValueError, match="rebuild_of"):
        app_with(release("1"), release("2", "0.9"))
    with pytest.raises(ValueError, match="rebuild_of"):
        app_with(release("1", "1"))


@pytest.mark.parametrize(
    ("how", "state", "macos", "why"),
    [
        (How.UPDATER, State.NEVER, None, "updater"),
        (How.PREINSTALL, State.WAITING, None, "no tunnel"),
        (How.PREINSTALL, State.DISABLED, None, "no tunnel"),
        (How.PKG, State.DISABLED, "14", "no switch"),
        (How.PKG, State.DISABLED, "15", None),
        (How.PREINSTALL, State.ASLEEP, "26", None),
        (How.DMG, State.NEVER, "13", None),
    ],
)
def test_what_cannot_be_walked(product: AppFile, how: How, state: State, macos: str | None, why: str | None) -> None:
    found = impossible(product, Step("1.0", "2.0", how, state), macos)
    assert (found is None) if why is None else (found is not None and why in found)


def test_packages_do_not_go_down(product: AppFile) -> None:
    for how in (How.PKG, How.PREINSTALL):
        assert "newer" in (impossible(product, Step("2.0", "1.0", how)) or "")
    assert impossible(product, Step("2.0", "1.0", How.DMG)) is None
    assert impossible(product, Step("1.1", "1.1-b", How.PKG)) is None


def test_without_a_configuration_no_script_can_stop_a_tunnel() -> None:
    app = app_with(release("1"), release("2"), configuration=None)
    assert "configuration" in (impossible(app, Step("1", "2", How.PREINSTALL)) or "")


def test_drivers_are_only_replaced_before_they_run() -> None:
    app = app_with(release("1"), release("2"), kind="driver", configuration=None)
    possible = {state for state in State if impossible(app, Step("1", "2", How.PKG, state)) is None}
    assert possible == {State.NEVER, State.WAITING, State.DISMISSED}


def test_a_path_is_a_chain() -> None:
    with pytest.raises(UsageError, match="chain"):
        UpgradePath((Step("1", "2"), Step("3", "4")))
    with pytest.raises(UsageError, match="at least one"):
        UpgradePath(())


def test_states_do_not_go_back_before_the_approval() -> None:
    with pytest.raises(UsageError, match="never"):
        UpgradePath((Step("1", "2"), Step("2", "3", state=State.NEVER)))
    with pytest.raises(UsageError, match="waiting"):
        UpgradePath((Step("1", "2", state=State.DISMISSED), Step("2", "3", state=State.WAITING)))
    path = UpgradePath((Step("1", "2", state=State.WAITING), Step("2", "3", state=State.DISABLED)))
    assert path.target == "3"
    assert path.releases == ("1", "2", "3")


def test_names() -> None:
    path = UpgradePath((Step("0.11.4", "0.11.5"),))
    assert path.id == "0.11.4->0.11.5-pkg-running"
    assert UpgradePath((Step("1", "2", How.DMG), Step("2", "3", How.DMG))).id == "1->2->3-dmg-running"
    mixed = UpgradePath((Step("1", "2", How.DMG), Step("2", "3", How.PKG, State.DISABLED)))
    assert mixed.id == "1->2-dmg-running+2->3-pkg-disabled"
    assert UpgradePath((Step("1/a b", "2[x]"),)).id == "1_a_b->2_x_-pkg-running"


def test_expectations_by_state() -> None:
    for state in State:
        found = expect(Relation.PREVIOUS, state, How.PKG)
        assert found.replaced
        assert found.source
        assert ENABLED not in found.pending
    assert expect(Relation.PREVIOUS, State.RUNNING, How.PKG).answer is Answer.NOTHING
    assert expect(Relation.PREVIOUS, State.DISABLED, How.PKG).pending[0] == DISABLED
    assert expect(Relation.PREVIOUS, State.WAITING, How.PKG).likely == WAITING
    assert set(STATES) == set(State)


def test_the_same_version_is_not_replaced_once_it_is_there() -> None:
    for state in State:
        assert expect(Relation.REBUILD, state, How.PKG).replaced == (state is State.NEVER)
        assert expect(Relation.DOWNGRADE, state, How.DMG).replaced


def test_a_matrix_is_never_cut_off_in_silence() -> None:
    factors = {"a": range(400), "b": range(400)}
    for choose in (full, pairwise):
        with pytest.raises(UsageError, match="at most 100000 combinations: 160000"):
            choose(factors, lambda _: True)
