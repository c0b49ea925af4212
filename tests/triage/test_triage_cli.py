"""`sysext triage`: what it prints, how it ends, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAILED = "weird: (OSSystemExtensionErrorDomain error 8.)\n"
FINE = "1 extension(s)\n*\t*\tABCDE12345\torg.weir.filter (2.0.1/41)\tWeir\t[activated enabled]\n"


def run(*arguments: object, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from harness.cli import main; main()", "triage", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, input=given, cwd=ROOT, check=False, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triage-cli")
    (folder / "bad.txt").write_text(FAILED)
    (folder / "good.txt").write_text(FINE)
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    (folder / "app.toml").write_text(
        'name = "Weir"\nbundle_id = "org.weir.app"\nteam = "ABCDE12345"\n[extension]\nid = "org.weir.filter"\nkind = "content-filter"\n'
        '[[releases]]\nversion = "1.0"\nsource = "x.zip"\n'
    )
    return folder


def test_one_answer_per_path_as_json_and_exit_1_for_a_failure(folder: Path) -> None:
    done = run(folder / "bad.txt", folder / "good.txt", "--format", "json")
    assert done.returncode == 1, done.stderr
    bad, good = json.loads(done.stdout)
    assert (bad["verdict"], bad["causes"][0]["code"]) == ("failure", "code-signature-invalid")
    assert bad["causes"][0]["signs"][0]["line"] == 1
    assert (good["verdict"], good["input"]) == ("healthy", str(folder / "good.txt"))


def test_nothing_wrong_is_exit_0(folder: Path) -> None:
    done = run(folder / "good.txt")
    assert done.returncode == 0, done.stderr
    assert "healthy" in done.stdout.splitlines()[1]


def test_standard_input_and_annotations() -> None:
    done = run("-", "--format", "github", given=FAILED)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("::error file=")
    assert "title=code-signature-invalid" in done.stdout


def test_together_is_one_answer(folder: Path) -> None:
    done = run("--together", folder / "bad.txt", folder / "good.txt", "--format", "json", "--app", folder / "app.toml")
    assert done.returncode == 1, done.stderr
    (one,) = json.loads(done.stdout)
    assert one["kind"] == "several"


def test_what_cannot_be_read_is_exit_2_and_the_rest_is_answered(folder: Path) -> None:
    done = run(folder / "missing.log", folder / "picture.png", folder / "bad.txt")
    assert done.returncode == 2
    assert "missing.log" in done.stderr
    assert "picture.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert "code-signature-invalid" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no PATH"),
        (("--since", "yesterday", "x"), "--since"),
        (("--explain", "approval-pendin"), "approval-pending"),
        (("--format", "xml", "x"), "xml"),
    ],
)
def test_what_cannot_be_used_is_exit_2_and_says_what_can(arguments: tuple[str, ...], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_a_cause_is_explained() -> None:
    done = run("--explain", "approval-coalesced-no-prompt")
    assert done.returncode == 0
    for part in ("coalesceWithActivationInProgress", "What to do", "Not to be mistaken"):
        assert part in done.stdout
