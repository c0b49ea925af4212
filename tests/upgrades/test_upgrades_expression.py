"""The language of `--sysext-upgrade`: what it means, that it can be read back, and what is said of mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import AppFile
from harness.errors import SysextError, UsageError
from harness.upgrades import How, State, cells, default_paths, parse, select
from harness.upgrades.cells import cell_id
from harness.upgrades.covering import full, pairs_of, pairwise
from harness.upgrades.expression import RESERVED, Expression, Group


def ids(app: AppFile, *texts: str) -> list[str]:
    return [path.id for path in select(app, texts)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1.0->1.1", ["1.0->1.1-pkg-running"]),
        ("1.0 -> 1.1 via dmg", ["1.0->1.1-dmg-running"]),
        ("previous", ["1.1-b->2.0-pkg-running"]),
        ("previous->latest while never", ["1.1-b->2.0-pkg-never"]),
        ("oldest->latest", ["1.0->2.0-pkg-running"]),
        ("all->latest", ["1.0->2.0-pkg-running", "1.1->2.0-pkg-running", "1.1-b->2.0-pkg-running"]),
        ("latest->previous via dmg", ["2.0->1.1-b-dmg-running"]),
        ("latest->latest", ["2.0->2.0-pkg-running"]),
        ("rebuilt", ["1.1->1.1-b-pkg-running"]),
        ("1.1-b->1.1-b rebuilt", ["1.1->1.1-b-pkg-running"]),
        ("1.1->1.1-b rebuilt", ["1.1->1.1-b-pkg-running"]),
        ("chain via dmg", ["1.0->1.1->1.1-b->2.0-dmg-running"]),
        ("previous via dmg,pkg", ["1.1-b->2.0-pkg-running", "1.1-b->2.0-dmg-running"]),
        ("previous; previous; latest->latest;", ["1.1-b->2.0-pkg-running", "2.0->2.0-pkg-running"]),
        (
            "1.0->1.1 while waiting then 1.1->2.0 via dmg while disabled",
            ["1.0->1.1-pkg-waiting+1.1->2.0-dmg-disabled"],
        ),
    ],
)
def test_meanings(product: AppFile, text: str, wanted: list[str]) -> None:
    assert ids(product, text) == wanted


def test_latest_is_the_release_under_test(product: AppFile) -> None:
    assert [path.id for path in select(product, ["previous"], latest="1.1")] == ["1.0->1.1-pkg-running"]


def test_any_leaves_out_what_cannot_be(product: AppFile) -> None:
    found = ids(product, "previous via any while any")
    assert len(found) == len(set(found)) == len(How) * len(State) - 1 - 4  # updater+never, preinstall without a tunnel
    assert "1.1-b->2.0-updater-never" not in found
    with pytest.raises(UsageError, match=r"none is possible.*updater"):
        select(product, ["previous via updater while never"])


def test_pairwise_keeps_every_pair_with_fewer_paths(product: AppFile) -> None:
    everything = select(product, ["all->latest via any while any"])
    few = select(product, ["all->latest via any while any pairwise"])
    assert len(few) < len(everything) / 2

    def pairs(paths: list) -> set[tuple[str, str]]:
        return {
            pair
            for path in paths
            for step in path
            for pair in ((step.older, step.how), (step.older, step.state), (step.how, step.state))
        }

    assert pairs(few) == pairs(everything)


def test_the_matrix_has_every_way_and_state_and_every_relation(product: AppFile) -> None:
    found = ids(product, "matrix")
    assert set(ids(product, "previous via any while any")) <= set(found)
    for chain in ("1.0->2.0", "1.1->1.1-b", "2.0->2.0", "2.0->1.1-b", "1.0->1.1->1.1-b->2.0"):
        assert any(name.startswith(f"{chain}-") for name in found), chain
    assert len(ids(product, "matrix pairwise")) < len(found)
    assert {name.rsplit("-", 1)[1] for name in ids(product, "matrix while waiting,never")} == {"waiting", "never"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an upgrade expression"),
        (" ; ", "an upgrade expression"),
        ("1.0", "'->' and a release after '1.0'"),
        ("previus", "did you mean 'previous'"),
        ("1.0->1.2", "did you mean '1.1'"),
        ("1.0->", "a release, or one of"),
        ("->1.0", "a release, or one of"),
        ("1.0->1.1 via", "the end"),
        ("1.0->1.1 via pgk", "did you mean 'pkg'"),
        ("1.0->1.1 while runing", "did you mean 'running'"),
        ("1.0->1.1 while running waiting", "or the end"),
        ("1.0->1.1 pairwize", "did you mean 'pairwise'"),
        ("1.0->1.1 then", "a release"),
        ("matrix then previous", "stand alone"),
        ("1.0->matrix", "not 'matrix'"),
        ("latest->latest rebuilt", "rebuild"),
        ("1.0->1.1 while running then 1.1->2.0 while never", "none is possible"),
        ("1.0->1.1 then 1.0->1.1", "none is possible"),
        ("x" * 20_000, "20000 characters"),
    ],
)
def test_mistakes_are_named(product: AppFile, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(product, [text])
    assert any(part in str(caught.value) for part in said.split("|"))
    assert caught.value.hint


def test_too_many_upgrades_are_refused(product: AppFile) -> None:
    releases = [product.releases[0].model_copy(update={"version": f"v{number}"}) for number in range(90)]
    crowd = product.model_copy(update={"releases": releases})
    with pytest.raises(UsageError, match="at most"):
        select(crowd, ["all->latest via any while any"])


words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True).filter(
    lambda word: word not in RESERVED
)
names = st.one_of(words, st.sampled_from(["latest", "previous", "oldest", "all"]))


def members(kind: type) -> st.SearchStrategy:
    return st.lists(st.sampled_from(list(kind)), min_size=1, unique=True).map(
        lambda chosen: tuple(member for member in kind if member in chosen)
    )


groups = st.one_of(
    st.builds(Group, st.lists(names, min_size=2, max_size=4).map(tuple), st.booleans(), members(How), members(State)),
    st.builds(
        Group,
        st.sampled_from([("previous",), ("rebuilt",), ("chain",), ("matrix",)]),
        st.just(False),
        members(How),
        members(State),
    ),
)
expressions = st.builds(
    Expression, st.lists(groups, min_size=1, max_size=3).map(tuple), st.sampled_from(["full", "pairwise"])
)


@settings(max_examples=120, deadline=None)
@given(st.lists(expressions, min_size=1, max_size=3).map(tuple))
def test_what_is_written_is_read_back(given_ones: tuple[Expression, ...]) -> None:
    assert parse("; ".join(map(str, given_ones))) == given_ones


@settings(max_examples=120, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(
            st.sampled_from(
                ["1.0", "->", "via", "while", ",", "any", "then", "pkg", "running", "matrix", "rebuilt", ";"]
            ),
            max_size=12,
        ).map(" ".join),
    )
)
def test_any_text_is_an_expression_or_a_usage_error(text: str) -> None:
    try:
        parsed = parse(text)
    except SysextError as error:
        assert isinstance(error, UsageError)
        return
    assert parse("; ".join(map(str, parsed))) == parsed


def test_default_choice_has_each_way_and_state_and_is_spread_over_the_newest_two(product: AppFile) -> None:
    paths = default_paths(product)
    steps = [step for path in paths for step in path]
    assert {step.how for step in steps} == set(How)
    assert {step.state for step in steps} == set(State)
    assert len(paths) <= 10
    chosen = cells(product, ["13", "14", "15", "26"])
    assert {macos for macos, _ in chosen} == {"15", "26"}
    assert sorted(path.id for _, path in chosen) == sorted(path.id for path in paths)
    counts = [sum(macos == version for macos, _ in chosen) for version in ("15", "26")]
    assert abs(counts[0] - counts[1]) <= 1


def test_default_choice_of_older_systems_leaves_out_what_they_have_not(product: AppFile) -> None:
    chosen = cells(product, ["13", "14"])
    assert chosen
    assert all(step.state is not State.DISABLED for _, path in chosen for step in path)
    assert cells(product, ["26"], latest="1.0") == []


def test_wishes_are_walked_on_every_version_where_they_can_be(product: AppFile) -> None:
    chosen = cells(product, ["14", "15"], ["previous while running,disabled"])
    assert [cell_id(cell) for cell in chosen] == [
        "macos14-1.1-b->2.0-pkg-running",
        "macos15-1.1-b->2.0-pkg-running",
        "macos15-1.1-b->2.0-pkg-disabled",
    ]
    with pytest.raises(UsageError, match="no switch"):
        cells(product, ["13", "14"], ["previous while disabled"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_covering_has_every_pair_that_can_be(sizes: list[int], random: object) -> None:
    factors = {f"f{number}": list(range(size)) for number, size in enumerate(sizes)}
    everything = full(factors, lambda _: True)
    kept = {tuple(row.values()) for row in everything if random.random() < 0.8}  # type: ignore[attr-defined]

    def allowed(row: dict) -> bool:
        return tuple(row.values()) in kept

    legal = full(factors, allowed)
    rows = pairwise(factors, allowed)
    assert all(row in legal for row in rows)
    assert rows == pairwise(factors, allowed)
    wanted = set().union(*(pairs_of(row) for row in legal)) if legal else set()
    assert set().union(*(pairs_of(row) for row in rows)) == wanted if rows else not wanted
    singles = pairwise(factors, allowed, strength=1)
    values = {item for row in legal for item in row.items()}
    assert {item for row in singles for item in row.items()} == values
    assert len(singles) <= len(values)


def test_chains_without_end_are_refused_before_they_are_made(product: AppFile) -> None:
    with pytest.raises(UsageError, match="at most 100000 chains") as caught:
        select(product, ["->".join(["all"] * 60)])
    assert len(str(caught.value)) < 1000


def test_why_nothing_is_possible_is_said_in_short(product: AppFile) -> None:
    with pytest.raises(UsageError, match="none is possible") as caught:
        select(product, ["all->all->oldest via pkg-preinstall while waiting,never,dismissed,disabled"])
    assert "; and " in caught.value.seen
    assert len(caught.value.seen) < 1500
