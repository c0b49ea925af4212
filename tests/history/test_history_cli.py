"""`sysext history`: what it says, in each form, and its exit codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import UsageError, Verdict
from harness.history.pages import as_html, as_text, sparkline
from harness.history.rates import compare_releases, rates
from harness.history.rows import Row
from harness.history.store import History, Selection
from tests.history.conftest import a_row, case_file

Sysext = Callable[..., tuple[int, str, str]]
START = datetime(2026, 9, 1, 12, tzinfo=UTC)


@pytest.fixture
def sysext(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Sysext:
    monkeypatch.setenv("SYSEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sysext", "history", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def runs_of(release: str, failed: int, runs: int, *, day: int = 0, **more: object) -> list[Row]:
    """The failures first, two runs a day."""
    return [
        a_row(
            number,
            **{
                "release": release,
                "started": START + timedelta(days=day + number // 2, minutes=number),
                "verdict": Verdict.PRODUCT_FAILURE if number < failed else Verdict.PASSED,
                "cause": "xpc-endpoints-missing" if number < failed else "",
                "run": f"{release}-{number}-{more.get('scenario', '')}",
                **more,
            },
        )
        for number in range(runs)
    ]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """1.1 fine, 1.2 broken in one scenario; one simulated run."""
    path = tmp_path / "cache" / "history.sqlite"
    history = History(f"sqlite:///{path}")
    history.add(
        [
            *runs_of("1.1", 1, 60),
            *runs_of("1.2", 14, 60, day=30),
            *runs_of("1.1", 3, 40, scenario="sleep"),
            *runs_of("1.2", 4, 40, scenario="sleep", day=30),
            *runs_of("1.2", 2, 2, verdict=Verdict.ENVIRONMENT_FAILURE, cause="", day=35, run="broken host"),
            *runs_of("9.9", 1, 1, simulated=True, provider="simulated"),
        ]
    )
    history.close()
    return path


def test_text(sysext: Sysext, filled: Path) -> None:
    code, out, err = sysext()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Real Macs."
    assert "200 runs" in lines[1]
    assert "wilson" in lines[1]
    assert "9.9" not in out
    broken = next(line for line in lines if "14/60" in line)
    assert "23 %" in broken
    assert "14 %..35 %" in broken
    assert "falling" in broken
    assert "xpc-endpoints-missing 14×" in broken
    assert "2 environment-failure" in broken
    assert "first seen 2026-09-01  in 1.1 on macOS 15" in out
    assert lines.index("sleep") < lines.index("upgrade")


def test_the_other_side(sysext: Sysext, filled: Path) -> None:
    code, out, _ = sysext("--simulated")
    assert code == 0
    assert out.startswith("SIMULATED")
    assert "9.9" in out
    assert "1.2" not in out


def test_json(sysext: Sysext, filled: Path) -> None:
    code, out, _ = sysext(
        "--format", "json", "--release", "1.2", "--interval", "clopper-pearson", "--confidence", "0.9"
    )
    page = json.loads(out)
    assert code == 0
    assert page["simulated"] is False
    assert page["interval"] == {"method": "clopper-pearson", "confidence": 0.9}
    cell = next(cell for cell in page["cells"] if cell["scenario"] == "upgrade")
    assert (cell["failures"], cell["runs"], cell["rate"]) == (14, 60, pytest.approx(14 / 60, abs=1e-6))
    assert cell["low"] < cell["rate"] < cell["high"]
    assert sum(day["runs"] for day in cell["days"]) == 60
    assert cell["first_failure"].startswith("2026-10-01")
    assert page["first_seen"][0]["cause"] == "xpc-endpoints-missing"


def test_regression_or_noise(sysext: Sysext, filled: Path) -> None:
    code, out, _ = sysext("--compare", "1.1", "1.2")
    assert code == 1
    said = out[out.index("Compared by") :].splitlines()
    assert "Fisher" in said[0]
    assert "Holm" in said[0]
    assert re.match(r" +regression +upgrade, .*1\.1: 1/60 +1\.2: 14/60", said[1])
    assert re.match(r" +noise +sleep, ", said[2])
    assert sysext("--compare", "1.2", "1.1")[0] == 0
    assert sysext("--compare", "1.1", "1.2", "--scenario", "sleep")[0] == 0


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_html(sysext: Sysext, filled: Path, tmp_path: Path) -> None:
    history = History(f"sqlite:///{filled}")
    history.add([a_row(scenario="<script>alert(1)</script>\x1b[2J", cause="<b>", verdict=Verdict.KNOWN_ISSUE)])
    history.close()
    target = tmp_path / "page.html"
    assert sysext("--html", "-o", target, "--compare", "1.1", "1.2")[:2] == (1, "")
    text = target.read_text()
    page = Page()
    page.feed(text)
    assert page.links == []
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert {"svg", "path", "table"} <= set(page.tags)
    assert "\x1b" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "http" not in text
    assert 'class="regression"' in text
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_plot() -> None:
    points = [(day, day % 3 == 0, 4) for day in range(200)]
    svg = sparkline(points)
    runs, failures = re.findall(r'<path class="([rf])" d="([^"]*)"', svg)
    assert (runs[0], failures[0]) == ("r", "f")
    assert runs[1].count("M") == 50  # four days a bar
    assert failures[1].count("M") == 50
    assert "1970-01-01 to 1970-07-19, 4 days a bar, at most 16 runs" in svg
    assert 'class="f"' not in sparkline([(1, 0, 5)])
    assert sparkline([]) == ""


def test_import(sysext: Sysext, tmp_path: Path) -> None:
    case_file(tmp_path / "artifacts" / "run" / "case")
    assert sysext("import", "artifacts")[:2] == (0, "1 run added, 0 already there\n")
    assert sysext("import", "artifacts", "artifacts/run/case/result.json")[1] == "0 runs added, 1 already there\n"
    changed = tmp_path / "artifacts" / "run" / "case" / "result.json"
    changed.write_text(changed.read_text().replace("product-failure", "passed"))
    assert "what was recorded first stays" in sysext("import", changed)[1]
    assert "1/1" in sysext("--simulated")[1]
    assert "0 runs" in sysext()[1]


def test_an_import_that_cannot_be_read_adds_nothing(sysext: Sysext, tmp_path: Path) -> None:
    case_file(tmp_path / "artifacts" / "a" / "case")
    bad = case_file(tmp_path / "artifacts" / "b" / "case") / "run.jsonl"
    lines = bad.read_text().splitlines(keepends=True)
    bad.write_text("".join([*lines[:2], "{torn\n", *lines[2:]]))
    code, out, err = sysext("import", "artifacts")
    assert (code, out) == (2, "")
    assert f"{Path('artifacts/b/case/run.jsonl')}:3" in err
    assert not (tmp_path / "cache" / "history.sqlite").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),  # no history yet
        ("import", "nowhere"),
        ("--url", "mysql://h/d"),
        ("import",),
    ],
)
def test_unusable_input(sysext: Sysext, arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, out, err = sysext(*arguments)
    assert (code, out) == (2, "")
    assert err
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "yesterday"),
        ("--confidence", "95"),
        ("--compare", "1.1", "7.7"),
        ("--compare", "1.1", "1.1"),
        ("--since", "2026-11-02", "--until", "2026-11-01"),
        ("--interval", "guess"),
        ("-o", "no/such/folder/page.txt"),
    ],
)
def test_unusable_options(sysext: Sysext, filled: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = sysext(*arguments)
    assert (code, out) == (2, "")
    assert err


def test_a_choice_that_nothing_meets_is_told_what_there_is(sysext: Sysext, filled: Path) -> None:
    code, out, err = sysext("--release", "7.7", "--runs-of", "tart")
    assert (code, err) == (0, "sysext: no run of --release 7.7; there are 1.1, 1.2\n")
    assert "0 runs" in out
    assert sysext("--scenario", "sl*")[2] == ""
    assert sysext("--since", "2099-01-01")[2] == ""  # by itself each choice has runs


def test_release_that_nobody_ran_is_named(filled: Path) -> None:
    history = History(f"sqlite:///{filled}")
    with pytest.raises(UsageError, match=r"there are 1\.1, 1\.2"):
        compare_releases(history, Selection(), "1.1", "9.9")
    history.close()


def test_trends_of_many_series_are_corrected(sqlite_url: str) -> None:
    history = History(sqlite_url)
    # A rise with p = 0.02 or so by itself; among 30 series nobody should believe it.
    rows = runs_of("1", 0, 10) + [
        a_row(100 + n, release="1", verdict=Verdict.PRODUCT_FAILURE, started=START + timedelta(days=8 + n))
        for n in range(2)
    ]
    history.add(rows)
    (alone,) = rates(history, Selection()).cells
    assert alone.trend.word == "rising"
    history.add([row for n in range(30) for row in runs_of("1", 1, 4, scenario=f"other {n}")])
    cells = rates(history, Selection()).cells
    assert {cell.trend.word for cell in cells} == {"flat"}
    assert "rising" not in as_text(rates(history, Selection()))
    assert "rising" not in as_html(rates(history, Selection()))
    history.close()
