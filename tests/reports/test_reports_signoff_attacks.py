"""Evidence that must not count, made to look as if it did; and failures that somebody would rather not see."""

from __future__ import annotations

import dataclasses
import time
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.reports.signoff.config import SignOffFile, fits, from_dict
from harness.reports.signoff.deciding import Decided, decide, exact
from harness.reports.signoff.document import sign_off
from harness.reports.signoff.evidence import Run
from harness.reports.signoff.pdf import as_pdf
from tests.support.signoff_samples import BUILDS, ITEM, NOW, config, evidence, run, runs

ONE = {**{key: value for key, value in ITEM.items() if key != "maximum_rate"}, "minimum_runs": 1}
PATH = "upgrade path [{}-pkg-running]"


def decided(*of: Run, item: dict[str, object] | None = None, **more: object) -> Decided:
    return decide(evidence(config=config(item or ITEM), runs=of, **more)).items[0]


def test_the_same_run_under_two_names_is_one_run() -> None:
    """A history that two versions of this program wrote may have a run twice, its scenario called otherwise."""
    of = runs(30)
    renamed = tuple(dataclasses.replace(one, id=f"{one.id[:-2]}ff", scenario="first activation [old]") for one in of)
    item = decided(*of, *renamed, item={**ITEM, "per": "macos"})
    assert (item.status, item.parts[0].runs) == ("not enough data", 30)
    assert item.excluded == (("that are in the history twice, under other names", 30),)
    bad = dataclasses.replace(renamed[0], verdict="product-failure")
    item = decided(*of, bad, item={**ITEM, "per": "macos"})
    assert (item.parts[0].runs, item.parts[0].failures) == (30, 1)  # of two, the failure


def test_hashes_of_two_slices_are_no_build() -> None:
    mixed = decided(*runs(60, uuid=BUILDS[0].uuids["x86_64"]))
    assert mixed.status == "not enough data"
    assert mixed.excluded == ((f"of another build: app UUID {BUILDS[0].uuids['x86_64']}", 60),)


def test_a_uuid_alone_identifies_nothing() -> None:
    """It stays the same when only resources or entitlements change."""
    unsigned = tuple(dataclasses.replace(one, cdhashes={}) for one in BUILDS)
    of = runs(60, cdhash="", extension_cdhash="")
    assert decided(*of, builds=unsigned).excluded == (("of another build: app cdhash none", 60),)


def test_a_linker_that_makes_no_uuid() -> None:
    without = tuple(dataclasses.replace(one, uuids={}) for one in BUILDS)
    assert decided(*runs(59, uuid="", extension_uuid=""), builds=without).status == "met"
    assert decided(*runs(59), builds=without).status != "met"


@pytest.mark.parametrize(
    ("releases", "counts"), [("1.1->1.2", True), ("1.0->1.1->1.2", True), ("1.2->1.3", False), ("1.2->1.1", False)]
)
def test_an_upgrade_to_another_release_is_not_this_ones(releases: str, counts: bool) -> None:
    name = PATH.format(releases)
    one = run(scenario=name, nodeid=f"t.py::test_upgrade_path[macos15-{releases}-pkg-running]")
    item = decided(one, item={**ONE, "scenarios": ["upgrade path"]})
    assert (item.status == "met") == counts
    if not counts:
        assert item.excluded == ((f"of a path that ends with another release ({releases[-3:]})", 1),)
    assert decided(one, item={**ONE, "scenarios": [name]}).status == "met"  # asked for by name


def again(number: int, attempt: int, **more: object) -> Run:
    return run(number, run="one", attempt=attempt, **more)


def test_two_sessions_of_one_name_do_not_explain_each_others_reruns() -> None:
    """A folder's name used twice: the failed first attempt of one is not replaced by the broken first attempt of the other."""
    of = (
        again(9, 1, verdict="product-failure"),
        again(8, 2, flaky=True),
        again(3, 1, case="b", verdict="environment-failure"),
    )
    item = decided(*of, item=ONE)
    assert (item.parts[0].runs, item.parts[0].failures) == (1, 1)


def test_a_host_that_stays_the_same_gives_one_run_a_session() -> None:
    """The provider this-mac renews nothing."""
    same = [run(number, provider="this-mac", run="night", case=f"c{number}") for number in range(5)]
    item = decided(*same, *runs(3, first=50, provider="this-mac"), item=ONE)
    assert item.parts[0].runs == 4
    assert item.excluded == (
        ("on this-mac, where the scenario had run before in the same session: not independent", 4),
    )
    broken = [dataclasses.replace(same[4], verdict="environment-failure"), *same[:4]]  # the earliest: it used it, too
    assert decided(*broken, item=ONE).parts[0].runs == 0


@pytest.mark.parametrize(
    "change",
    [
        {"same_mac": True},
        {"started": (NOW - timedelta(days=40)).isoformat()},
        {"lane": "sip-off"},
        {"cdhash": "", "uuid": ""},
    ],
)
def test_failures_of_this_build_are_not_left_out_silently(change: dict[str, object]) -> None:
    item = decided(*runs(59), *runs(2, first=90, verdict="product-failure", **change))
    assert item.status == "met"
    assert item.warnings[0].startswith("2 failures left out")


@pytest.mark.parametrize("change", [{"simulated": True}, {"faults": "x"}, {"cdhash": "b0" * 20}])
def test_failures_of_something_else_are_no_warning(change: dict[str, object]) -> None:
    assert decided(*runs(59), *runs(2, first=90, verdict="product-failure", **change)).warnings == ()


def test_an_environment_that_breaks_often_is_worth_a_look() -> None:
    """An extension that takes the network away ends a run as if the Mac had broken."""
    for verdict in ("environment-failure", "harness-error"):
        item = decided(*runs(59), *runs(6, first=90, verdict=verdict, cdhash="", uuid=""))
        assert item.status == "met"
        assert "6 runs were ended by the environment or the harness, 59 count" in item.warnings[0]
    assert decided(*runs(59), *runs(5, first=90, verdict="environment-failure")).warnings == ()
    assert decided(*runs(59), *runs(9, first=90, verdict="environment-failure", simulated=True)).warnings == ()
    assert decided(*runs(59), *runs(9, first=90, verdict="environment-failure", cdhash="b0" * 20)).warnings == ()


@pytest.mark.parametrize(
    ("cdhash", "status"), [("", "met"), ("A1" * 20, "met"), ("a2" * 20, "met"), ("b0" * 20, "not met")]
)
def test_manual_work_on_another_build_of_the_same_version(cdhash: str, status: str) -> None:
    done = {"id": "vpn", "done_by": "R.", "on": "2026-11-19", "release": "1.2", "cdhash": cdhash}
    assert decide(evidence(config=config(ONE, manual=[done]), runs=runs(1))).items[1].status == status


@pytest.mark.parametrize("day", [0, 2026, 1.5, True, "soon", "2026-12-05T10:00:00+09:00"])
def test_a_day_is_a_day(day: object) -> None:
    """For pydantic a number is a time since 1970, so that a slip would be a day long past: done, or waived."""
    with pytest.raises(UsageError):
        from_dict({"item": [ITEM], "manual": [{"id": "m", "on": day}]}, origin="x")
    with pytest.raises(UsageError):
        from_dict(
            {"item": [ITEM], "waiver": [{"item": "activation", "who": "A", "why": "b", "until": day}]}, origin="x"
        )


def test_the_last_day_of_a_waiver_is_whole_in_utc_and_not_a_second_longer() -> None:
    held = config(ITEM, waiver=[{"item": "activation", "who": "A", "why": "b", "until": "2026-11-20"}])
    for at, status in (("23:59:59+00:00", "waived"), ("23:59:59-00:01", "not enough data")):
        moment = f"2026-11-20T{at}"
        assert decide(evidence(config=held, as_of=moment)).items[0].status == status


@pytest.mark.parametrize("name", [" ", "\t", ""])
def test_nobody_is_nobody(name: str) -> None:
    with pytest.raises(UsageError):
        from_dict(
            {"item": [ITEM], "waiver": [{"item": "activation", "who": name, "why": "b", "until": "2026-12-01"}]},
            origin="x",
        )
    done = {"id": "vpn", "done_by": name, "on": "2026-11-19", "release": "1.2"}
    assert decide(evidence(config=config(ONE, manual=[done]), runs=runs(1))).items[1].status == "not met"


def test_a_link_is_one_line() -> None:
    with pytest.raises(UsageError):
        from_dict({"item": [ITEM], "manual": [{"id": "m", "evidence": "notes\n# SIGNED OFF"}]}, origin="x")


def test_almost_sure_is_not_sure() -> None:
    assert exact(0.99999) == "99.999 %"
    assert exact(1 - 1e-9) != "100 %"
    sure = decided(*runs(300), item={**ITEM, "confidence": 1 - 1e-7})
    assert sure.parts[0].confidence < 1
    assert (sure.status, sure.runs_missing) == ("not enough data", 15)  # ln 1e-7 / ln 0.95 = 314.2


def test_patterns_that_would_take_for_ever() -> None:
    pattern = "*a" * 140
    begun = time.process_time()
    assert not fits(pattern, "a" * 299 + "b")
    assert fits(pattern, "a" * 299)
    assert time.process_time() - begun < 60  # a regular expression would be at it for years


NAMES = st.text("ab [-", max_size=8)


@settings(max_examples=150)
@given(left=NAMES, right=NAMES, middle=NAMES)
def test_a_star_is_any_text_and_nothing_else_is(left: str, right: str, middle: str) -> None:
    assert fits(f"{left}*{right}", left + middle + right)
    assert fits(f"{left}?{right}", left + "x" + right)
    assert not fits(f"{left}?{right} [x]", f"{left}{right} [x]")
    assert fits("up", "up [x]")
    assert not fits(f"{left}y*", left + middle)


def test_a_report_in_letters_that_the_font_lacks_still_fits_its_pages() -> None:
    name = "激活" * 140
    demands: SignOffFile = config({**ITEM, "title": "題" * 300, "scenarios": [name, "名" * 300, "字" * 300]})
    signed = sign_off(evidence(config=demands, runs=(run(1, scenario=name, case="箱" * 300, host="主" * 300),)))
    assert as_pdf(signed).startswith(b"%PDF-")


def test_a_waiver_for_ever_is_told_with_its_day() -> None:
    held = config(ITEM, waiver=[{"item": "activation", "who": "A", "why": "b", "until": date.max}])
    decision = decide(evidence(config=held))
    assert decision.headline == "SIGNED OFF: 1 item, 1 waived"
    assert "until 9999-12-31" in decision.items[0].waiver
