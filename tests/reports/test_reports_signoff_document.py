"""The JSON, its digest, and who finds out that it was altered."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.reports.signoff.document import against, as_json, evidence_of, sign_off, verify
from tests.support.signoff_samples import BUILDS, NOW, config, evidence, run, runs, whole


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    data = json.loads(as_json(sign_off(whole())))
    assert isinstance(data, dict)
    return data


def stored(folder: Path, data: object) -> Path:
    path = folder / "signoff.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_what_is_whole_is_verified(tmp_path: Path, document: dict[str, Any]) -> None:
    found = verify(stored(tmp_path, document))
    assert found.problems == ()
    assert found.signed.digest == document["digest"]["value"]
    assert found.signed.evidence == whole()


def test_the_digest_is_what_anybody_can_compute(document: dict[str, Any]) -> None:
    text = json.dumps(document["evidence"], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert hashlib.sha256(text.encode()).hexdigest() == document["digest"]["value"]


def test_form_of_the_document(document: dict[str, Any]) -> None:
    assert (document["schema"], document["kind"], document["release"]) == (1, "sysext-signoff", "1.2")
    assert document["signed_off"] is False
    first = document["items"][0]
    assert first["runs_missing"] == first["parts"][1]["runs_missing"] > 0
    assert {"reason": "of simulated Macs", "runs": 34} in first["excluded"]
    assert [item["status"] for item in document["items"]] == [
        "not enough data", "met", "waived", "not met", "met", "not met",
    ]  # fmt: skip


def test_an_item_made_better(tmp_path: Path, document: dict[str, Any]) -> None:
    data = copy.deepcopy(document)
    data["items"][0]["status"] = "met"
    data["signed_off"] = True
    problems = " ".join(verify(stored(tmp_path, data)).problems)
    assert "item activation says something else" in problems
    assert "'signed_off' is 'True'" in problems


def test_evidence_made_better(tmp_path: Path, document: dict[str, Any]) -> None:
    data = copy.deepcopy(document)
    (bad,) = [one for one in data["evidence"]["runs"] if one["verdict"] == "product-failure"]
    bad["verdict"] = "passed"
    assert "the digest is" in verify(stored(tmp_path, data)).problems[0]


def test_a_word_that_this_program_does_not_know(tmp_path: Path, document: dict[str, Any]) -> None:
    data = copy.deepcopy(document)
    data["evidence"]["runs"][0]["more"] = 1
    text = json.dumps(data["evidence"], sort_keys=True, separators=(",", ":"))
    data["digest"]["value"] = hashlib.sha256(text.encode()).hexdigest()
    assert "says more than this program knows" in verify(stored(tmp_path, data)).problems[0]


def altered(folder: Path, document: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> Path:
    """The evidence changed, and sealed anew: what whoever knows how to compute a digest can do."""
    data = copy.deepcopy(document)
    change(data["evidence"])
    text = json.dumps(data["evidence"], sort_keys=True, separators=(",", ":"))
    data["digest"]["value"] = hashlib.sha256(text.encode()).hexdigest()
    return stored(folder, data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda evidence: evidence["runs"].append(evidence["runs"][0]), "is in it 2 times"),
        (lambda evidence: evidence.update(as_of="2026-11-20T12:00:00+09:00"), "not a time in UTC"),
        (lambda evidence: evidence.update(as_of="2026-11-20T12:00:00"), "not a time in UTC"),
        (lambda evidence: evidence["builds"][1].update(cdhashes={}), "of a signed app"),
        (lambda evidence: evidence["runs"][0].update(started="yesterday"), "whole sign-off"),
    ],
)
def test_evidence_that_is_none_is_refused(
    tmp_path: Path, document: dict[str, Any], change: Callable[[dict[str, Any]], None], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        verify(altered(tmp_path, document, change))
    assert said in str(caught.value)


def test_of_a_day_to_come(tmp_path: Path, document: dict[str, Any]) -> None:
    path = stored(tmp_path, document)
    assert verify(path, now=NOW).problems == ()
    assert "is yet to come" in verify(path, now=NOW - timedelta(hours=1)).problems[0]


def test_what_python_takes_for_the_same(tmp_path: Path, document: dict[str, Any]) -> None:
    data = copy.deepcopy(document)
    data["signed_off"] = 0
    assert verify(stored(tmp_path, data)).problems == ("'signed_off' is '0', by the evidence it is 'False'",)
    data = copy.deepcopy(document)
    data["items"][0]["parts"][0]["failures"] = False
    assert "item activation says something else" in verify(stored(tmp_path, data)).problems[0]


def test_words_beside_the_evidence(tmp_path: Path, document: dict[str, Any]) -> None:
    assert "more than a sign-off does: approved" in verify(stored(tmp_path, {**document, "approved": True})).problems[0]
    data = {**document, "digest": {**document["digest"], "algorithm": "md5"}}
    assert "'digest' says something else" in verify(stored(tmp_path, data)).problems[0]
    path = stored(tmp_path, document)
    path.write_text('{"signed_off": true, ' + path.read_text().removeprefix("{"))  # some readers take the first
    with pytest.raises(UsageError, match="twice"):
        verify(path)


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*at, key))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from leaves(part, (*at, place))
    else:
        yield at


SMALL = json.loads(
    as_json(sign_off(evidence(config=config(), runs=runs(3), simulated=(("first activation", "15", 2),))))
)
LEAVES = list(leaves(SMALL))
OTHERS = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.just([]) | st.just({}) | st.floats()


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(LEAVES), value=OTHERS)
def test_no_change_goes_unseen(tmp_path: Path, where: tuple[Any, ...], value: object) -> None:
    data = copy.deepcopy(SMALL)
    here = data
    for step in where[:-1]:
        here = here[step]
    if json.dumps(here[where[-1]]) == json.dumps(value):
        return
    here[where[-1]] = value
    try:
        found = verify(stored(tmp_path, data))
    except UsageError:
        return
    assert found.problems or where == ("program",), where  # that one says who wrote it: no claim about the release


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.binary(max_size=60)
    | st.sampled_from([b"{}", b"[]", b'{"kind": "sysext-signoff", "schema": 1}', b"[" * 9999])
)
def test_any_file_is_verified_or_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text)
    with pytest.raises(UsageError):
        verify(path)


def test_a_schema_of_the_future(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="schema 2"):
        verify(stored(tmp_path, {**document, "schema": 2}))


def rows(*of: Any) -> list[dict[str, Any]]:
    return [{**vars(one), "started": one.time} for one in of]


def test_against_the_history_and_the_files() -> None:
    signed = sign_off(evidence(config=config(), runs=runs(2)))
    later = run(9, started=(NOW + timedelta(hours=1)).isoformat())
    unasked = run(10, scenario="another")
    assert against(signed, rows=rows(*runs(2), later, unasked), builds=BUILDS, checked=(), config=config()) == []
    (said,) = against(signed, rows=rows(*runs(2), run(8, verdict="product-failure"), run(9)))
    assert said.startswith(
        f"2 runs of before {NOW.isoformat()}, 1 of them failed, are in the history and not in the file"
    )
    assert said.endswith("run-8/first-activation-macos15")
    assert "the preflight finds something else" in against(signed, checked=whole().checked)[0]
    assert against(signed, config=config(confidence=0.9)) == [
        "what is demanded is something else than the file's: confidence"
    ]
    assert against(signed, rows=rows(run(0), run(1, verdict="product-failure"))) == [
        "the run run-1/first-activation-macos15 differs from the history in verdict"
    ]
    assert "is not in the history" in against(signed, rows=[])[0]
    assert against(signed, builds=BUILDS[:1]) == ["the release's files are of another build than the evidence"]


def test_evidence_reads_back() -> None:
    assert evidence_of(json.loads(json.dumps(whole().as_dict())), origin="x") == whole()
