"""Each session records itself in the history, once."""

from __future__ import annotations

from harness.history.store import History, Selection
from tests.plugin.conftest import Project

SCENARIO = """
def test_good(mac): pass
def test_bad(mac): raise ProductFailure("a prompt", seen="none")
@pytest.mark.parametrize("cycle", [1, 2], ids=["cycle1", "cycle2"])
def test_often(mac, cycle): pass
"""


def test_a_session_is_recorded_once_by_who_leads_it(project: Project) -> None:
    url = f"sqlite:///{project.folder / 'history.sqlite'}"
    project.environment |= {"SYSEXT_HISTORY__RECORD": "true", "SYSEXT_HISTORY__URL": url}
    project.scenario(SCENARIO)
    done = project.run("-n", "2", "--sysext-macos", "15")
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("history: 4 runs recorded") == 1, done.stdout
    history = History(url)
    rows = history.runs(Selection(simulated=True))
    assert history.runs(Selection()) == []  # they are of stubs
    history.close()
    assert sorted((row["scenario"], row["verdict"].value) for row in rows) == [
        ("bad", "product-failure"), ("good", "passed"), ("often", "passed"), ("often", "passed"),
    ]  # fmt: skip
    assert {row["run"] for row in rows} == {run.name for run in project.runs()}
