"""What is counted together, and what is compared with what."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import Verdict
from harness.events import EventLog
from harness.history.database import Database, alembic_config
from harness.history.grouping import kind, older_of, parameters, path_of, release_of, scenario_name
from harness.history.rates import compare_releases, rates
from harness.history.rows import Row, read_paths
from harness.history.schema import METADATA
from harness.history.store import History, Selection
from harness.upgrades.paths import How, State, Step, UpgradePath
from tests.history.conftest import a_row, case_file

PATH = "t.py::test_upgrade_path[macos15-0.11.4->0.11.5-pkg-running]"
NAMED = "upgrade path [0.11.4->0.11.5-pkg-running]"


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("t.py::test_x[macos15]", "x"),
        ("t.py::test_x", "x"),
        ("t.py::test_x[macos15-cycle3]", "x"),
        ("t.py::test_x[cycle3-macos15]", "x"),
        (PATH, "x [0.11.4->0.11.5-pkg-running]"),
        (PATH.replace("]", "-cycle12]"), "x [0.11.4->0.11.5-pkg-running]"),
        ("t.py::test_x[macos15-second-user]", "x [second-user]"),
        ("t.py::test_x[macos15-cycles]", "x [cycles]"),
        ("t.py::test_x[]", "x"),
    ],
)
def test_names(nodeid: str, name: str) -> None:
    assert scenario_name("x", nodeid) == name


def test_a_name_that_has_its_parameters_already() -> None:
    assert scenario_name(NAMED, PATH) == NAMED


@settings(max_examples=60)
@given(
    chain=st.lists(st.from_regex(r"[0-9a-z._+]{1,5}(-[a-z0-9]{1,3})?", fullmatch=True), min_size=2, max_size=4),
    how=st.sampled_from(How),
    state=st.sampled_from(State),
)
def test_ids_of_paths_are_read(chain: list[str], how: How, state: State) -> None:
    path = UpgradePath(tuple(Step(old, new, how, state) for old, new in itertools.pairwise(chain)))
    found = path_of(parameters(f"t.py::test_upgrade_path[macos26-{path.id}-cycle2]"))
    assert found is not None
    assert found.releases == tuple(chain)
    assert found.way == f"{how}-{state}"


@settings(max_examples=100)
@given(text=st.text(max_size=60) | st.text(st.sampled_from("a1-><.[]pkg running"), max_size=60))
def test_any_text_has_a_name(text: str) -> None:
    name = scenario_name("x", text)
    assert name.startswith("x")
    assert kind(name, "1") == kind(kind(name, "1"), "1")
    assert release_of("1", text)
    older_of(name, "1")


def test_the_release_a_run_is_about() -> None:
    assert release_of("0.11.5", PATH) == "0.11.5"
    assert release_of("0.11.4", PATH) == "0.11.4"  # upgraded away from: still about it
    assert release_of("9.9", PATH) == "0.11.5"  # the path does without it
    assert release_of("9.9", "t.py::test_x[macos15]") == "9.9"


def test_kinds_are_the_same_for_every_release() -> None:
    assert kind(NAMED, "0.11.5") == "upgrade path [0.11.4->this release-pkg-running]"
    assert kind("first activation", "0.11.5") == "first activation"
    assert older_of(NAMED, "0.11.5") == ("0.11.4", "upgrade path [*->this release-pkg-running]")
    assert older_of(NAMED, "0.11.4") is None
    assert older_of("upgrade path [1->2->3-pkg-running]", "3") is None


def rows_of(release: str, path: str, failed: int, count: int = 40) -> list[Row]:
    return [
        a_row(
            number, release=release, scenario=f"upgrade path [{path}]", run=f"{path}{number}",
            verdict=Verdict.PRODUCT_FAILURE if number < failed else Verdict.PASSED,
        )
        for number in range(count)
    ]  # fmt: skip


def test_upgrades_from_the_release_before_are_compared_with_each_other(sqlite_url: str) -> None:
    history = History(sqlite_url)
    history.add(
        [
            *rows_of("1.9", "1.8->1.9-pkg-running", 0), *rows_of("1.10", "1.9->1.10-pkg-running", 20),
            *rows_of("1.9", "1.2->1.9-pkg-running", 5), *rows_of("1.10", "1.2->1.10-pkg-running", 5),
            *rows_of("1.9", "1.8->1.9-dmg-waiting", 0), *rows_of("1.10", "1.10->1.9-pkg-running", 1),
        ]
    )  # fmt: skip
    found = {one.series.scenario: one.comparison for one in compare_releases(history, Selection(), "1.9", "1.10")}
    history.close()
    assert set(found) == {"upgrade path [1.9->1.10-pkg-running]", "upgrade path [1.2->1.10-pkg-running]"}
    assert found["upgrade path [1.9->1.10-pkg-running]"].finding == "regression"
    assert found["upgrade path [1.2->1.10-pkg-running]"].finding == "noise"


def test_cycles_are_runs_of_one_scenario(tmp_path: Path, sqlite_url: str) -> None:
    for number in range(3):
        nodeid = PATH.replace("]", f"-cycle{number + 1}]")
        case_file(tmp_path / "run" / f"case-{number}", nodeid=nodeid, release="0.11.5")
    history = History(sqlite_url)
    assert history.add(read_paths([tmp_path]).rows).added == 3
    (cell,) = rates(history, Selection(simulated=True)).cells
    assert (cell.series.scenario, cell.runs) == ("upgrade [0.11.4->0.11.5-pkg-running]", 3)
    history.close()


def stream(folder: Path, *builds: dict[str, str], same_mac: bool = False, **header: object) -> Row:
    """The row of a case file that has nothing but its stream."""
    about = {
        "scenario": "upgrade", "nodeid": PATH, "macos": "15", "image": "i", "lane": "pristine", "provider": "tart",
        "simulated": False, "release": "0.11.5", "started": "2026-11-01T10:00:00+00:00", "app": "Ours", **header,
    }  # fmt: skip
    log = EventLog(folder / "run.jsonl", **about)
    if same_mac:
        log.event("same-mac", machine="m")
    for build in builds:
        log.event("app build", **build)
    log.event("result", verdict="passed", error="", seconds=1.0, cause="")
    log.close()
    (row,) = read_paths([folder]).rows
    return row


def build(part: str, release: str, digit: str, app: str = "Ours") -> dict[str, str]:
    uuid = f"{digit * 8}-{digit * 4}-{digit * 4}-{digit * 4}-{digit * 12}"
    return {"app": app, "part": part, "release": release, "cdhash": digit * 40, "uuid": uuid.upper()}


def test_the_build_is_that_of_the_release_the_run_is_about(tmp_path: Path) -> None:
    of = [build("app", "0.11.4", "1"), build("extension", "0.11.4", "2"), build("app", "0.11.5", "a"),
          build("extension", "0.11.5", "b"), build("app", "0.11.5", "c", app="Another"), build("app", "0.11.4", "1")]  # fmt: skip
    row = stream(tmp_path / "a", *of)
    assert (row.cdhash, row.extension_cdhash) == ("a" * 40, "b" * 40)
    assert row.uuid == "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
    assert row.extension_uuid[:9] == "bbbbbbbb-"
    assert row.same_mac is False
    older = stream(tmp_path / "b", *of[:2])
    assert (older.cdhash, older.extension_cdhash) == ("", "")
    assert stream(tmp_path / "c", release="0.11.4", *of).cdhash == "1" * 40  # noqa: B026
    both = [*of[2:4], {**of[2], "cdhash": "d" * 40}]  # the same release once more, built anew: which one is it about?
    for number, builds in enumerate(([*both], both[::-1], [*of[2:4], {**of[2], "cdhash": ""}])):
        unsure = stream(tmp_path / f"two-{number}", *builds)
        assert (unsure.cdhash, unsure.uuid, unsure.extension_cdhash) == ("", "", "")
    assert stream(tmp_path / "twice", *of, *of[2:4]).cdhash == "a" * 40  # the same one put there twice
    nameless = [build("app", "", "e"), build("extension", "", "f")]
    assert stream(tmp_path / "nameless", *nameless).extension_cdhash == "f" * 40
    half = stream(tmp_path / "half", *nameless, of[2])
    assert (half.cdhash, half.extension_cdhash) == ("a" * 40, "")  # not made up of two builds
    damaged = stream(tmp_path / "d", {**of[2], "cdhash": "not hex"}, {**of[3], "uuid": "x" * 10_000}, same_mac=True)
    assert (damaged.cdhash, damaged.extension_uuid, damaged.extension_cdhash) == ("", "", "b" * 40)
    assert damaged.same_mac is True


def test_builds_are_stored(any_url: str) -> None:
    history = History(any_url)
    more = {"extension_cdhash": "e" * 40, "extension_uuid": "u", "same_mac": True}
    history.add([a_row(cdhash="c" * 40, **more)])
    (row,) = history.runs(Selection())
    assert {key: row[key] for key in ("cdhash", *more)} == {"cdhash": "c" * 40, **more}
    history.close()


@pytest.mark.parametrize("kind", ["0001", "0002", "0002 with same_mac"])
def test_an_older_history_is_brought_up_to_date(any_url: str, kind: str) -> None:
    """Whoever recorded runs with an older copy keeps them; the last is one whose step 0002 made `same_mac`, too."""
    database = Database(any_url)

    def back(connection: sa.Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, kind[:4])
        if kind.endswith("same_mac"):
            default = "0" if connection.dialect.name == "sqlite" else "false"
            connection.execute(sa.text(f"ALTER TABLE case_run ADD COLUMN same_mac BOOLEAN NOT NULL DEFAULT {default}"))
        connection.execute(
            sa.text("INSERT INTO series VALUES (1, 'upgrade', '15', '1.2', 'i', 'pristine', 'tart', :no, '')"),
            {"no": False},
        )
        columns = (
            "id, series, started, seconds, verdict, cause, attempt, flaky, host, run, case_name, nodeid, cdhash, uuid"
        )
        connection.execute(
            sa.text(
                f"INSERT INTO case_run ({columns}, known_issue, error, content) VALUES ('old', 1, 86400000, 1.0, 'passed', '', 1, "
                ":no, 'h', 'r', 'c', 'n', 'cd', 'uu', '', '', 'x')"
            ),
            {"no": False},
        )

    database.write(back)
    database.close()
    history = History(any_url)
    (row,) = history.runs(Selection())
    assert (row["id"], row["cdhash"], row["extension_cdhash"], row["same_mac"]) == ("old", "cd", "", False)
    history.add([a_row(started=row["started"] + timedelta(days=1), same_mac=True)])
    assert sorted(one["same_mac"] for one in history.runs(Selection())) == [False, True]
    assert history.database.read(lambda link: compare_metadata(MigrationContext.configure(link), METADATA)) == []
    history.close()
