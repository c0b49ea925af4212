from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import events
from harness.events import EventLog, Secrets


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_steps_nest_and_failing_ones_have_a_duration(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl", scenario="s")
    with pytest.raises(ValueError, match="boom"), events.use(log), events.step("outer", a=1) as outer:
        events.event("inside", b=2)
        with events.step("inner"):
            raise ValueError("boom")
    log.close()
    header, start, inside, inner_start, inner_end, outer_end = _lines(tmp_path / "run.jsonl")
    assert header["attributes"] == {"scenario": "s"}
    assert inside["parent"] == start["id"] == outer.id == inner_start["parent"]
    for end in (inner_end, outer_end):
        assert end["outcome"] == "failed"
        assert end["error"] == {"type": "ValueError", "text": "boom"}
        assert isinstance(end["duration"], float)
    assert outer_end["attributes"] == {"a": 1}


def test_notes_and_attachments_are_on_the_end_line(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl")
    with log.step("look") as step:
        step.note(seen="prompt")
        step.attach(tmp_path / "frame.png", mime="image/png")
    end = _lines(tmp_path / "run.jsonl")[-1]
    assert end["attributes"] == {"seen": "prompt"}
    assert end["attachments"] == [{"path": str(tmp_path / "frame.png"), "name": "frame.png", "mime": "image/png"}]


def test_a_canary_secret_reaches_no_sink(tmp_path: Path) -> None:
    secrets = Secrets()
    secrets.add("able-baker")
    secrets.add("able-baker-charlie-dog")
    heard: list[str] = []
    log = EventLog(tmp_path / "run.jsonl", secrets=secrets, vnc="able-baker-charlie-dog")
    log.subscribe(lambda record: heard.append(json.dumps(record)))
    with (
        pytest.raises(RuntimeError),
        log.step("connect to able-baker-charlie-dog", url="vnc://:able-baker-charlie-dog@127.0.0.1") as step,
    ):
        log.event("e", deep={"able-baker": ["x able-baker y", ("able-baker-charlie-dog",)]}, path=Path("/able-baker"))
        step.attach(tmp_path / "able-baker.png")
        raise RuntimeError("able-baker-charlie-dog refused")
    log.close()
    for text in [(tmp_path / "run.jsonl").read_text(encoding="utf-8"), *heard]:
        assert "able" not in text
        assert "charlie" not in text
    assert heard


def test_a_subscriber_that_raises_is_dropped_and_told_of(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl")
    good: list[str] = []

    def bad(_record: object) -> None:
        raise RuntimeError("reader broke")

    log.subscribe(bad)
    log.subscribe(lambda record: good.append(str(record["name"])))
    log.event("one")
    log.event("two")
    assert "one" in good
    assert "two" in good
    assert sum(line.get("name") == "subscriber-dropped" for line in _lines(tmp_path / "run.jsonl")) == 1


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl")
    threads = [
        threading.Thread(target=lambda: [log.event("x", n=n, pad="p" * 200) for n in range(50)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(_lines(tmp_path / "run.jsonl")) == 401
    assert len({line.get("id") for line in _lines(tmp_path / "run.jsonl")}) == 401


def test_reading_leaves_out_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    log = EventLog(path)
    log.event("whole")
    log.close()
    with path.open("a") as file:
        file.write('{"type": "event", "na')
    assert [record.get("name") for record in events.read(path)] == [None, "whole"]


def test_without_a_log_steps_still_work() -> None:
    with events.step("nowhere") as step:
        events.event("nothing")
    assert step.name == "nowhere"


@given(st.text(min_size=4, max_size=20), st.text(max_size=50), st.text(max_size=50))
def test_masking_leaves_no_secret(secret: str, before: str, after: str) -> None:
    secrets = Secrets()
    secrets.add(secret)
    masked = secrets.mask(before + secret + after)
    # What the mask itself spells together with its neighbours is not the secret that went in.
    assert secret not in masked.replace(Secrets.MASK, "\0")


def test_short_secrets_are_masked_alone_and_do_not_blot_out_words() -> None:
    secrets = Secrets()
    secrets.add("a")
    assert secrets.mask("a") == "***"
    assert secrets.mask("activated") == "activated"


def test_what_is_spared_is_never_masked_whoever_adds_it() -> None:
    secrets = Secrets()
    secrets.add("admin")
    secrets.spare("admin")
    secrets.add("admin")
    assert secrets.mask("/Users/admin") == "/Users/admin"


def test_a_name_that_is_no_utf8_breaks_no_run(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl")
    log.event("report", path=b"/x/\xff.ips".decode("utf-8", errors="surrogateescape"))
    log.close()
    assert _lines(tmp_path / "run.jsonl")[1]["attributes"] == {"path": "/x/\udcff.ips"}
