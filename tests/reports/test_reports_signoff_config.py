"""signoff.toml: read, or refused with what is wrong and what is nearest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.reports.signoff.config import SignOffFile, fits, from_dict, load_signoff

ITEM = '[[item]]\nid = "a"\nscenarios = ["first activation"]\nmacos = ["15"]\n'
WAIVER = '[[waiver]]\nitem = "a"\nwho = "W"\nwhy = "Y"\nuntil = 2026-12-01\n'


def read(tmp_path: Path, text: str) -> SignOffFile:
    path = tmp_path / "signoff.toml"
    path.write_text(text, encoding="utf-8")
    return load_signoff(path)


def test_defaults(tmp_path: Path) -> None:
    file = read(tmp_path, ITEM)
    assert (file.confidence, file.freshness_days, file.lane, file.correction) == (0.95, 30, "pristine", "none")
    assert (file.item[0].per, file.item[0].minimum_runs, file.item[0].maximum_rate) == ("scenario", 1, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "nothing is demanded"),
        ("freshnes_days = 3\n" + ITEM, "did you mean 'freshness_days'"),
        (ITEM + "maximum_rat = 0.05\n", "did you mean 'maximum_rate'"),
        (ITEM + "maximum_rate = 5\n", r"item\.0\.maximum_rate"),
        (ITEM + "maximum_rate = 0\n", r"item\.0\.maximum_rate"),
        (ITEM + "minimum_runs = 0\n", r"item\.0\.minimum_runs"),
        (ITEM + 'lane = "prestine"\n', r"item\.0\.lane"),
        (ITEM.replace('"15"', '"99"'), r"item\.0\.macos"),
        (ITEM.replace("[\"first activation\"]", "[]"), r"item\.0\.scenarios"),
        (ITEM.replace('"a"', '"a b"'), r"item\.0\.id"),
        (ITEM + ITEM, "there are two of a"),
        (ITEM + '[[manual]]\nid = "a"\n', "there are two of a"),
        (ITEM + WAIVER.replace('"a"', '"activaton"') + ITEM.replace('"a"', '"activation"'), "did you mean 'activation'"),
        (ITEM + WAIVER.replace('why = "Y"\n', ""), r"waiver\.0\.why"),
        (ITEM + WAIVER.replace('"W"', '""'), r"waiver\.0\.who"),
        (ITEM + WAIVER.replace("2026-12-01", '"soon"'), r"waiver\.0\.until"),
        (ITEM + '[[preflight]]\nid = "p"\nrules = ["version-risen"]\n', "did you mean 'version-raised'"),
        (ITEM + '[[preflight]]\nid = "p"\nrules = ["version-raised"]\nprevious = []\n', "is about upgrades"),
        (ITEM + '[[manual]]\nid = "m"\nevidence = "javascript:alert(1)"\n', r"manual\.0\.evidence"),
        ('case_link = "javascript:x"\n' + ITEM, "case_link"),
        ("item = 3\n", "item"),
        ("[item]\n", "item"),
        ("nonsense", "readable TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert re.search(expected, str(caught.value)), str(caught.value)
    assert caught.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("")
    with pytest.raises(UsageError, match=r"other\.toml"):
        load_signoff(tmp_path / "signoff.toml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 100) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=3,
)
NAMES = st.sampled_from(
    ["id", "scenarios", "macos", "who", "why", "until", "on", "rules", "item", "per", "maximum_rate"]
)
TABLES = st.dictionaries(NAMES | st.text(max_size=5), VALUES, max_size=6)
FILES = st.dictionaries(
    st.sampled_from(["item", "manual", "waiver", "preflight", "confidence", "lane", "name", "case_link"]),
    VALUES | st.lists(TABLES, max_size=3),
    max_size=5,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=FILES)
@example(data={"item": [{"id": "a", "scenarios": ["x"], "macos": ["15"]}]})
def test_any_table_is_read_or_refused(data: dict[str, object]) -> None:
    try:
        file = from_dict(data, origin="x")
    except UsageError as error:
        assert error.seen
        return
    assert file.ids()
    assert SignOffFile.model_validate(file.model_dump(mode="json")) == file  # as the report keeps it


NAME = st.text(st.sampled_from("ab [*?.]->\\^$\n"), max_size=12)


@settings(max_examples=60)
@given(name=NAME)
def test_a_name_is_its_own_pattern(name: str) -> None:
    assert fits(name, name)
    assert fits("*", name)
    assert not fits(name + "x", name)
    assert fits(name.replace("*", "?"), name)


@pytest.mark.parametrize(
    ("pattern", "name", "good"),
    [
        ("upgrade path", "upgrade path [1.1->1.2-pkg-running]", True),
        ("upgrade path [*-pkg-*]", "upgrade path [1.1->1.2-pkg-running]", True),
        ("upgrade path [*-dmg-*]", "upgrade path [1.1->1.2-pkg-running]", False),
        ("upgrade", "upgrade path [1.1->1.2-pkg-running]", False),
        ("up*", "upgrade path [1.1->1.2-pkg-running]", True),
        ("first activatio?", "first activation", True),
        ("first.activation", "first activation", False),
        ("[a]", "a", False),
        ("First activation", "first activation", False),
        ("*" * 300 + "x", "y" * 300, False),
    ],
)
def test_patterns(pattern: str, name: str, *, good: bool) -> None:
    assert fits(pattern, name) is good
