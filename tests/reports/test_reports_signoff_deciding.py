"""What counts, and what that shows."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.history.intervals import upper_bound
from harness.reports.signoff.deciding import Decided, bound, decide, exact
from harness.reports.signoff.evidence import Run
from tests.support.signoff_samples import ITEM, NOW, config, evidence, other, run, runs, whole

NO_RATE = {key: value for key, value in ITEM.items() if key != "maximum_rate"}


def decided(*of: Run, item: dict[str, object] | None = None, **more: object) -> Decided:
    """The first item."""
    return decide(evidence(config=config(item or ITEM), runs=of, **more)).items[0]


def test_59_clean_runs_show_less_than_5_percent_at_95() -> None:
    good = decided(*runs(59))
    assert (good.status, good.runs_missing, good.says) == ("met", 0, "0 of 59 runs failed")
    assert good.parts[0].upper == pytest.approx(upper_bound(0, 59), abs=1e-6)
    short = decided(*runs(58))
    assert (short.status, short.runs_missing) == ("not enough data", 1)


def test_10_runs_where_59_are_needed() -> None:
    decision = decide(evidence(config=config(), runs=runs(10)))
    assert not decision.signed_off
    assert decision.headline == "NOT SIGNED OFF: 1 without enough data"
    (item,) = decision.items
    assert (item.status, item.runs_missing) == ("not enough data", 49)
    assert "49 clean runs missing" in item.says


def test_simulated_evidence() -> None:
    decision = decide(
        evidence(config=config(), simulated=(("first activation", "15", 60), ("first activation", "26", 9)))
    )
    assert not decision.signed_off
    assert decision.items[0].excluded == (("of simulated Macs", 60),)
    assert decision.items[0].runs_missing == 59
    # Rows that call themselves real, from a provider that is not.
    item = decided(*runs(60, provider="simulated"))
    assert item.status == "not enough data"
    assert item.excluded == (("of the provider simulated, which is none of real Macs", 60),)
    assert decided(*runs(60, simulated=True)).excluded == (("of simulated Macs", 60),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cdhash": "b0" * 20}, f"of another build: app cdhash {'b0' * 20}"),
        ({"cdhash": ""}, "of another build: app cdhash none"),
        ({"uuid": "bbbbbbbb-0000-0000-0000-000000000001"}, "of another build: app UUID bbbbbbbb-0000-0000-0000-000000000001"),
        ({"extension_cdhash": "b0" * 20}, f"of another build: extension cdhash {'b0' * 20}"),
        ({"extension_uuid": ""}, "of another build: extension UUID none"),
        ({"cdhash": "", "uuid": ""}, "that do not say which build they were of"),
        ({"extension_cdhash": "", "extension_uuid": ""}, "that do not say which build they were of"),
        ({"lane": "sip-off"}, "of the lane sip-off (wanted: pristine)"),
        ({"faults": "x:rate=0.2"}, "with injected faults (x:rate=0.2)"),
        ({"verdict": "environment-failure"}, "that the environment broke"),
        ({"verdict": "harness-error"}, "that ended by an error of the harness"),
        ({"verdict": "skipped"}, "skipped"),
        ({"same_mac": True}, "on a Mac that an earlier cycle had used (--sysext-same-mac): not independent"),
        ({"started": (NOW - timedelta(days=30, seconds=1)).isoformat()}, "older than 30 days"),
        ({"started": (NOW + timedelta(hours=1)).isoformat()}, "from the future: a clock is wrong"),
    ],
)  # fmt: skip
def test_what_does_not_count_says_why(change: dict[str, object], reason: str) -> None:
    item = decided(*runs(59), *runs(10, first=100, **change))
    assert item.status == "met"
    assert item.excluded == ((reason, 10),)
    alone = decided(*runs(60, **change))
    assert alone.status == "not enough data"
    assert alone.excluded == ((reason, 60),)


def test_either_slice_of_the_very_build_counts() -> None:
    intel = {"cdhash": "a2" * 20, "uuid": "aaaaaaaa-0000-0000-0000-000000000002"}
    assert decided(*runs(59, **intel)).status == "met"


def test_the_age_at_its_limit() -> None:
    limit = (NOW - timedelta(days=7)).isoformat()
    item = {**NO_RATE, "minimum_runs": 1, "freshness_days": 7}
    assert decided(run(started=limit), item=item).status == "met"
    assert decided(run(started=(NOW - timedelta(days=7, milliseconds=1)).isoformat()), item=item).status != "met"


def test_images_providers_and_other_macs_of_an_item() -> None:
    item = {**NO_RATE, "minimum_runs": 1, "images": ["*sequoia*"], "providers": ["orchard"]}
    assert decided(run(), item=item).excluded == (("of the provider tart (wanted: orchard)", 1),)
    assert decided(run(provider="orchard", image="other"), item=item).excluded == (("of the image other", 1),)
    assert decided(run(provider="orchard"), item=item).status == "met"
    assert decided(run(macos="26"), item=item).excluded == ()  # nobody asked for it


def test_failures_count_and_known_ones_too() -> None:
    item = decided(
        *runs(58), run(58, verdict="product-failure", cause="c"), run(59, verdict="known-issue", known_issue="k")
    )
    assert item.status == "not met"
    assert (item.parts[0].failures, item.parts[0].known, item.parts[0].runs) == (2, 1, 60)
    assert [one.cause for one in item.failing] == ["", "c"]
    assert item.runs_missing == 64  # 124 runs with 2 failures show it
    assert decided(*runs(122), *runs(2, first=200, verdict="product-failure")).status == "met"


def test_a_limit_that_is_exceeded_needs_no_more_runs_to_be_shown() -> None:
    item = decided(*runs(7), *runs(3, first=20, verdict="product-failure"))
    assert item.status == "not met"
    assert "the limit is exceeded: 3 of 10 failed" in item.says
    undecided = decided(*runs(9), run(20, verdict="product-failure"))
    assert (undecided.status, undecided.runs_missing) == ("not enough data", 83)


def test_without_a_rate_nothing_may_fail() -> None:
    assert decided(*runs(10), item=NO_RATE).status == "met"
    assert decided(*runs(9), item=NO_RATE).runs_missing == 1
    bad = decided(*runs(10), run(20, verdict="product-failure"), item=NO_RATE)
    assert (bad.status, bad.parts[0].upper) == ("not met", None)


def again(number: int, attempt: int, **more: object) -> Run:
    return run(number, run="one", attempt=attempt, **more)


def test_a_rerun_after_the_environment_broke_counts() -> None:
    item = decided(
        again(2, 1, verdict="environment-failure"), again(1, 2, flaky=True), item={**NO_RATE, "minimum_runs": 1}
    )
    assert item.status == "met"
    assert item.excluded == (("that the environment broke", 1),)


def test_a_flaky_pass_is_the_failure_of_its_first_attempt() -> None:
    item = decided(again(2, 1, verdict="product-failure"), again(1, 2, flaky=True), item={**NO_RATE, "minimum_runs": 1})
    assert (item.parts[0].failures, item.parts[0].runs) == (1, 1)
    assert item.excluded == (("run again after an attempt that counts", 1),)


def test_a_pass_whose_first_attempt_nobody_knows_is_a_failure() -> None:
    item = decided(*runs(5), again(20, 2, flaky=True), item={**NO_RATE, "minimum_runs": 1})
    assert (item.parts[0].failures, item.parts[0].runs) == (1, 6)
    assert "not in the history: a failure" in item.warnings[0]


def test_attempts_of_other_macs_are_other_runs() -> None:
    first = again(2, 1, verdict="product-failure", macos="26", nodeid="t[macos26]")
    assert decided(first, again(1, 1), item={**NO_RATE, "minimum_runs": 1}).status == "met"


def test_a_failure_of_an_unknown_build_is_worth_a_look() -> None:
    item = decided(*runs(59), run(90, verdict="product-failure", cdhash="", uuid=""))
    assert item.status == "met"
    assert "1 failure left out" in item.warnings[0]


def test_every_scenario_on_every_macos() -> None:
    item = {**NO_RATE, "scenarios": ["first activation", "sleep"], "macos": ["15", "26"], "minimum_runs": 2}
    found = decided(*runs(4), *runs(4, first=10, macos="26"), *runs(4, first=20, scenario="sleep"), item=item)
    assert found.status == "not enough data"
    assert [(part.name, part.runs_missing) for part in found.parts] == [
        ("first activation on macOS 15", 0),
        ("sleep on macOS 15", 0),
        ("first activation on macOS 26", 0),
        ("sleep on macOS 26", 2),
    ]
    for per in ("macos", "item"):
        pooled = decided(*runs(9), item={**item, "per": per})
        assert pooled.status == "not enough data", per  # enough runs, but not of everything
        assert "sleep on macOS 26" in pooled.details[0]
        assert pooled.runs_missing >= 2


def test_paths_are_scenarios_of_their_own_where_nothing_else_is_said() -> None:
    names = ["upgrade path [1.1->1.2-pkg-running]", "upgrade path [1.1->1.2-dmg-waiting]"]
    item = {**NO_RATE, "scenarios": ["upgrade path"], "minimum_runs": 3}
    of = (*runs(3, scenario=names[0]), *runs(1, first=9, scenario=names[1]))
    assert [(part.name, part.runs) for part in decided(*of, item=item).parts] == [
        (f"{names[1]} on macOS 15", 1),
        (f"{names[0]} on macOS 15", 3),
    ]
    assert decided(*of, item={**item, "per": "macos"}).status == "met"
    assert decided(*of, item={**item, "scenarios": ["upgrade path [*-pkg-*]"]}).status == "met"


def waiver(**more: object) -> dict[str, object]:
    return {"item": "activation", "who": "A. Person", "why": "because", "until": "2026-11-20", **more}


@pytest.mark.parametrize(
    ("until", "release", "status"),
    [
        (NOW.date(), "", "waived"),  # its last day
        (NOW.date() - timedelta(days=1), "", "not enough data"),
        (NOW.date() + timedelta(days=9), "1.2", "waived"),
        (NOW.date() + timedelta(days=9), "1.3", "not enough data"),
        (date.max, "", "waived"),
    ],
)
def test_waivers(until: date, release: str, status: str) -> None:
    decision = decide(evidence(config=config(waiver=[waiver(until=until, release=release)]), runs=runs(3)))
    assert decision.items[0].status == status
    assert decision.signed_off == (status == "waived")
    assert "A. Person: because" in decision.items[0].waiver
    if status == "waived":
        assert decision.items[0].instead == "not enough data"
        assert decision.headline == "SIGNED OFF: 1 item, 1 waived"


def test_an_expired_waiver_is_told() -> None:
    file = config(waiver=[waiver(until="2026-11-19")])
    item = decide(evidence(config=file, runs=runs(10))).items[0]
    assert item.waiver.startswith("does not hold, expired on 2026-11-19: A. Person")
    last = other(evidence(config=file, runs=runs(10)), as_of="2026-11-19T23:59:59+00:00")
    assert decide(last).items[0].status == "waived"
    assert decide(other(last, as_of="2026-11-20T00:00:00+00:00")).items[0].status == "not enough data"
    assert decide(other(last, as_of="2026-11-20T00:30:00+01:00")).items[0].status == "waived"  # days are UTC's


def test_a_waiver_that_holds_wins_over_one_that_does_not() -> None:
    both = [waiver(until="2027-01-01", release="1.1"), waiver(until="2026-12-01", who="B. Person")]
    item = decide(evidence(config=config(waiver=both), runs=runs(3))).items[0]
    assert (item.status, item.waiver[:9]) == ("waived", "B. Person")


def test_a_waiver_nobody_needs() -> None:
    item = decide(evidence(config=config(waiver=[waiver()]), runs=runs(59))).items[0]
    assert (item.status, item.waiver.split(":")[0]) == ("met", "not needed")


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({}, "met", "done by A. Person on 2026-11-20"),
        ({"on": "2026-11-21"}, "not met", "yet to come"),
        ({"release": "1.1"}, "not met", "with release 1.1, not with this one"),
        ({"release": ""}, "not met", "(none named)"),
        ({"done_by": ""}, "not met", "nobody"),
        ({"on": None}, "not met", "nobody"),
    ],
)
def test_manual_items(changes: dict[str, object], status: str, says: str) -> None:
    values = {"id": "vpn", "done_by": "A. Person", "on": "2026-11-20", "release": "1.2", **changes}
    decision = decide(evidence(config=config(ITEM, manual=[values]), runs=runs(59)))
    assert (decision.items[1].status, decision.signed_off) == (status, status == "met")
    assert says in decision.items[1].says


def test_preflight_items() -> None:
    sample = whole()
    by_id = {item.id: item for item in decide(sample).items}
    assert by_id["files"].status == "not met"  # what the settings switch off for runs takes a waiver for shipping
    assert "switched off (a test build): error version-raised" in by_id["files"].details[0]
    fine = dataclasses.replace(sample.checked[0], findings=sample.checked[0].findings[:1])
    assert {item.id: item for item in decide(other(sample, checked=(fine,))).items}["files"].status == "met"
    finding = dataclasses.replace(sample.checked[0].findings[0], severity="error")
    bad = dataclasses.replace(sample.checked[0], findings=(finding,))
    assert {item.id: item for item in decide(other(sample, checked=(bad,))).items}["files"].status == "not met"
    assert {item.id: item for item in decide(other(sample, checked=())).items}["files"].status == "not enough data"
    strict = sample.config.model_copy(
        update={"preflight": [sample.config.preflight[0].model_copy(update={"warnings": True})]}
    )
    assert {item.id: item for item in decide(other(sample, config=strict, checked=(fine,))).items}[
        "files"
    ].status == "not met"


def test_a_rehearsal_never_signs_off() -> None:
    simulated = runs(59, simulated=True, provider="simulated")
    decision = decide(evidence(config=config(), runs=simulated, rehearsal=True))
    assert decision.items[0].status == "met"
    assert not decision.signed_off
    assert decision.headline == "REHEARSAL, not a sign-off: all items would be met"


def test_the_correction_is_told_and_costs_runs() -> None:
    two = [ITEM, {**ITEM, "id": "sleep", "scenarios": ["sleep"]}]
    of = (*runs(59), *runs(59, first=100, scenario="sleep"))
    plain = decide(evidence(config=config(*two), runs=of))
    assert plain.signed_off
    assert "not corrected" in plain.statistics
    corrected = decide(evidence(config=config(*two, correction="bonferroni"), runs=of))
    assert not corrected.signed_off
    assert corrected.items[0].parts[0].confidence == pytest.approx(0.975)
    assert corrected.items[0].runs_missing == 72 - 59  # ln 0.025 / ln 0.95
    assert "Bonferroni's correction over 2" in corrected.statistics


@settings(max_examples=15)
@given(
    passed=st.integers(0, 200),
    failed=st.integers(0, 12),
    least=st.integers(1, 80),
    rate=st.sampled_from([0.01, 0.05, 0.2, 0.5]),
    confidence=st.sampled_from([0.8, 0.95, 0.99]),
)
def test_met_means_that_the_bound_is_below_the_limit(
    passed: int, failed: int, least: int, rate: float, confidence: float
) -> None:
    item = {**ITEM, "minimum_runs": least, "maximum_rate": rate, "confidence": confidence, "freshness_days": 3650}
    seen = decided(*runs(passed), *runs(failed, first=1000, verdict="product-failure"), item=item)
    good = passed + failed >= least and upper_bound(failed, passed + failed, confidence) <= rate * (1 + 1e-9)
    assert (seen.status == "met") == good
    assert (seen.runs_missing == 0) == good
    if not good:  # so many more clean runs are enough, and one fewer are not
        more = runs(seen.runs_missing, first=5000)
        bad = runs(failed, first=1000, verdict="product-failure")
        assert decided(*runs(passed), *more, *bad, item=item).status == "met"
        assert decided(*runs(passed), *more[1:], *bad, item=item).status != "met"


def test_rates_are_written_so_that_they_can_be_told_from_their_limit() -> None:
    assert (exact(0.05), exact(0.0495), exact(0.0004), exact(1.0), exact(0.975)) == (
        "5 %",
        "4.95 %",
        "0.04 %",
        "100 %",
        "97.5 %",
    )
    assert bound(upper_bound(0, 59)) == "4.96 %"  # up, never down
    assert bound(1.0) == "100 %"
