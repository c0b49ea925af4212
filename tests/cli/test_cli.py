"""The command `sysext`: exit codes, formats, and that a verb only loads what it needs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from harness import __version__, events
from harness.bundles.releases import fetch_release
from harness.cli import cli, main, options
from harness.config import load_app, load_settings
from harness.errors import HarnessError, SysextError, UsageError, Verdict
from harness.machines import provider_for
from harness.reports.result import CaseResult
from harness.waiting import Deadline

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "scenarios" / "apps" / "mitmproxy.toml"
SYSEXT = Path(sys.executable).with_name("sysext")
Sysext = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sysext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sysext:
    """Run the command in this process, in a folder of its own: (exit code, what it printed, what it complained of)."""
    for name in list(os.environ):
        if name.startswith("SYSEXT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SYSEXT_SIMULATED__HOME", str(tmp_path / "tart"))
    monkeypatch.setenv("SYSEXT_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sysext", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def _result(folder: Path, name: str, verdict: Verdict = Verdict.PASSED, **more: object) -> None:
    CaseResult(
        **{
            "scenario": name, "nodeid": f"test_x.py::{name}[macos15]", "macos": "15", "image": "i", "lane": "pristine",
            "provider": "simulated", "simulated": True, "release": "1", "verdict": verdict, "seconds": 1.0,
            "started": "2026-08-04T10:11:12.000+00:00", "case": name, **more,
        }  # type: ignore[arg-type]
    ).write(folder / name)  # fmt: skip


def test_help_names_every_verb(sysext: Sysext) -> None:
    code, out, _ = sysext("--help")
    assert code == 0
    assert sorted(re.findall(r"^  ([a-z]+)  +[A-Z].*[^.]\.$", out, flags=re.MULTILINE)) == cli.list_commands(
        click.Context(cli)
    )
    for verb in cli.list_commands(click.Context(cli)):
        code, text, _ = sysext(verb, "--help")
        assert code == 0
        assert text.startswith("Usage:")
        assert "  Show this message" in text or "--help" in text


def test_version(sysext: Sysext) -> None:
    assert sysext("--version") == (0, f"sysext, version {__version__}\n", "")


def test_a_mistyped_verb_is_told_the_nearest_once(sysext: Sysext) -> None:
    code, _, err = sysext("machnes")
    assert code == 2
    assert err.lower().count("did you mean") == 1
    assert "machines" in err
    code, _, err = sysext("zzzzzz")
    assert code == 2
    assert "did you mean" not in err.lower()


OWN = {"cache", "tart"}  # of the settings above; not what a command has to leave alone


def test_wrong_options_end_with_2(sysext: Sysext, tmp_path: Path) -> None:
    for arguments in (
        ("gc", "--nonsense"),
        ("machines", "--format", "xml"),
        ("app",),
        ("gc", "--provider", "vmware"),
        ("doctor", "--macos", "11"),
        ("machines", "--config", "none.toml"),
        ("app", "none.toml"),
        ("report", "nowhere"),
        ("repro", "upgrade"),  # no app file
        ("repro", "upgrade", "--rate", "2"),
        ("bisect", "--good", "0.11.1", "--bad", "0.11.5", "upgrade"),
        ("bisect", "--good", "0.11.1", "--bad", "0.11.5", "upgrade", "--sysext-app", APP, "--cause", "xpc-brokn"),
        ("bisect", "--good", "0.11.5", "--bad", "0.11.1", "upgrade", "--sysext-app", APP),
        ("replay", "nowhere"),
        ("attach", "nowhere"),
        ("history",),
        ("history", "import", "nowhere"),
        ("signoff", "--release", "0.11.5", "--app", APP),  # no signoff.toml
    ):
        code, _, err = sysext(*arguments)
        assert code == 2, arguments
        assert err
        assert "Traceback" not in err
        if "sysext: " in err:  # click's own complaints have no hint but the usage
            assert re.search(r"^sysext: .+: .+\nHint: .+", err), err
        assert [path.name for path in tmp_path.iterdir() if path.name not in OWN] == [], arguments


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UsageError("a file", seen="none", hint="look"), 2, "sysext: a file: none\nHint: look"),
        (HarnessError("us", seen="wrong"), 1, "sysext: us: wrong"),
        (SysextError("x"), 1, "sysext: x"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (click.exceptions.Exit(3), 3, ""),
    ],
)
def test_what_goes_wrong_in_a_verb(
    sysext: Sysext, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(cli, "get_command", lambda *_: broken)
    got, _, err = sysext("gc")
    assert (got, err.strip()) == (code, says)


def test_who_stops_reading_hears_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [_executable(), "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def _executable() -> str:
    return str(Path(sys.executable).with_name("sysext"))


def test_help_and_light_verbs_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom harness.cli import main\n"
        "sys.argv = ['sysext'] + sys.argv[1:]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'numpy', 'paramiko', 'cv2', 'rapidocr', 'onnxruntime', 'allure', 'harness.simulator'}\n"
        "assert not heavy & set(sys.modules), sorted(heavy & set(sys.modules))\n"
        "sys.exit(code)\n"
    )
    environment = {**os.environ, "SYSEXT_CACHE": str(tmp_path), "SYSEXT_SIMULATED__HOME": str(tmp_path / "t")}
    for arguments in (["--help"], ["machines", "--provider", "simulated"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


# --- report ----------------------------------------------------------------------------------------------------------


def test_report_of_a_green_run(sysext: Sysext, tmp_path: Path) -> None:
    _result(tmp_path / "run", "first")
    code, out, _ = sysext("report", tmp_path / "run")
    assert code == 0
    assert "1 passed" in out
    assert "SIMULATED" in out
    assert not out.endswith("\n\n")


@pytest.mark.parametrize(
    "verdict", [Verdict.PRODUCT_FAILURE, Verdict.ENVIRONMENT_FAILURE, Verdict.HARNESS_ERROR, Verdict.SKIPPED]
)
def test_report_of_a_run_that_is_not_green_ends_with_1(sysext: Sysext, tmp_path: Path, verdict: Verdict) -> None:
    if verdict is not Verdict.SKIPPED:
        _result(tmp_path / "run", "first")
    _result(tmp_path / "run", "second", verdict, error="what was seen")
    code, out, _ = sysext("report", tmp_path / "run")
    assert code == 1
    assert verdict.value in out


def test_report_in_markdown(sysext: Sysext, tmp_path: Path) -> None:
    _result(tmp_path / "run", "first", Verdict.PRODUCT_FAILURE, error="<script>")
    code, out, _ = sysext("report", tmp_path / "run", "--format", "markdown")
    assert code == 1
    assert out.startswith("## Scenarios on SIMULATED Macs")
    assert "<script>" not in out


def test_report_takes_the_newest_run(sysext: Sysext, tmp_path: Path) -> None:
    assert sysext("report")[0] == 2
    for stamp, name in (("2026-01-01_00-00-00-9", "older"), ("2026-01-01_00-00-01-1", "newer")):
        _result(tmp_path / "artifacts" / stamp, name)
    (tmp_path / "artifacts" / "zzz-something-else").mkdir()
    code, out, _ = sysext("report")
    assert code == 0
    assert "newer" in out
    assert "older" not in out


def test_report_says_what_it_cannot_read(sysext: Sysext, tmp_path: Path) -> None:
    _result(tmp_path / "run", "first")
    (tmp_path / "run" / "torn").mkdir()
    (tmp_path / "run" / "torn" / "result.json").write_text('{"scenario": "x"')
    code, out, err = sysext("report", tmp_path / "run")
    assert code == 1
    assert "1 passed" in out
    assert "torn" in err
    (tmp_path / "run" / "first" / "result.json").unlink()
    code, _, err = sysext("report", tmp_path / "run")
    assert code == 2
    assert "torn" in err


# --- app -------------------------------------------------------------------------------------------------------------


def test_app_shows_what_its_releases_hold(sysext: Sysext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = load_app(APP)
    monkeypatch.undo()  # the downloads are this user's, shared by all tests
    cache = load_settings(environ={}).cache_dir
    try:
        bundle = fetch_release(app.release("0.11.5"), app, cache)
    except SysextError as error:
        pytest.skip(f"the release cannot be fetched: {error}")
    done = subprocess.run(
        [_executable(), "app", str(APP), "--release", "0.11.5", "--format", "json"],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env={**os.environ, "SYSEXT_CACHE": str(cache)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["release"] == "0.11.5"
    assert row["team"] == "S8XHQB96PW"
    assert app.extension.id in row["extension"]
    assert set(row["uuids"]) == {"arm64", "x86_64"}
    assert row["path"] == str(bundle.path)


def test_app_in_text_and_an_unknown_release(sysext: Sysext, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    piece = SimpleNamespace(arch="arm64", uuid="UUID-OF-IT")
    extension = SimpleNamespace(identifier="x.ext", short="2", build="20", executable=SimpleNamespace(slices=[piece]))
    bundle = SimpleNamespace(
        identifier="x", short="1", build="10", team="T", path="/p", require_extension=lambda _: extension
    )
    monkeypatch.setattr("harness.bundles.releases.fetch_release", lambda *_: bundle)
    code, out, _ = sysext("app", APP)
    assert code == 0
    assert out.splitlines() == [
        "0.11.1: x 1 (10), team T", "    x.ext 2 (20)", "    arm64: UUID-OF-IT",
        "0.11.4: x 1 (10), team T", "    x.ext 2 (20)", "    arm64: UUID-OF-IT",
        "0.11.5: x 1 (10), team T", "    x.ext 2 (20)", "    arm64: UUID-OF-IT",
    ]  # fmt: skip
    code, _, err = sysext("app", APP, "--release", "0.11.6")
    assert code == 2
    assert "0.11.5" in err


# --- machines, gc, faults --------------------------------------------------------------------------------------------


def test_machines_and_gc(sysext: Sysext, tmp_path: Path) -> None:
    assert sysext("machines", "--provider", "simulated") == (0, "none\n", "")
    assert sysext("machines", "--provider", "simulated", "--format", "json") == (0, "[]\n", "")
    settings = load_settings(overrides={"provider": "simulated"})
    machine = provider_for(settings).create(
        image=settings.image_for("15"), macos="15", purpose="cli", folder=tmp_path / "m", deadline=Deadline.after(60)
    )
    with machine:
        code, out, _ = sysext("machines", "--provider", "simulated", "--format", "json")
        (row,) = json.loads(out)
        assert code == 0
        assert (row["name"], row["provider"], row["owner"], row["state"]) == (
            machine.name, "simulated", os.getpid(), "running",
        )  # fmt: skip
        _, out, _ = sysext("machines", "--provider", "simulated")
        assert f"name={machine.name}" in out
        # Ours is alive: never reaped, whatever is asked for.
        assert sysext("gc", "--provider", "simulated", "--include-kept") == (0, "nothing to remove\n", "")
        assert machine.running()
    assert sysext("machines", "--provider", "simulated")[1] == "none\n"


def test_faults_are_listed_and_a_wrong_fault_elsewhere_has_no_bearing(
    sysext: Sysext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSEXT_FAULT", "no-such-fault")
    code, out, _ = sysext("faults")
    assert code == 0
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines()}
    assert "approval-coalesced-no-prompt" in lines
    assert all(lines.values())
    assert sysext("gc") == (0, "nothing to remove\n", "")
    assert sysext("machines") == (0, "none\n", "")


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_of_a_fit_host(sysext: Sysext) -> None:
    code, out, err = sysext("doctor", "--provider", "simulated", "--macos", "13,26")
    assert (code, err) == (0, ""), out
    for line in ("ok   python", "ok   provider", "ok   image for macOS 13", "ok   image for macOS 26", "ok   paramiko"):
        assert line in out
    assert out.splitlines()[-1] == "all well"


def test_doctor_without_tart_says_what_to_do_for_each_macos(sysext: Sysext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSEXT_TART__EXECUTABLE", "/nowhere/tart")
    code, out, _ = sysext("doctor", "--provider", "tart", "--macos", "14,15")
    assert code == 1
    assert out.count("BAD  image for macOS") == 2
    assert "Hint:" in out
    assert "2 not as needed" in out


def test_doctor_with_a_full_disk_and_a_missing_module(sysext: Sysext, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    monkeypatch.setattr("harness.cli.doctor._there", lambda name: name != "rapidocr")
    code, out, _ = sysext("doctor", "--provider", "simulated")
    assert code == 1
    assert "BAD  disk: 0 GB free" in out
    assert "BAD  rapidocr: not installed" in out


def test_doctor_of_a_guest_goes_on_when_one_mac_does_not_come_up(
    sysext: Sysext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.errors import EnvironmentFailure

    def guest(_: object, version: str) -> object:
        if version == "13":
            raise EnvironmentFailure("a Mac", seen="none")
        yield True, "sw-vers", "26.0"
        yield False, "csrutil", "expected\nHint: look"

    monkeypatch.setattr("harness.cli.doctor._guest", guest)
    code, out, _ = sysext("doctor", "--provider", "simulated", "--guest", "--macos", "13,26")
    assert code == 1
    assert "BAD  macOS 13: a Mac: none" in out
    assert "ok   macOS 26 sw-vers: 26.0" in out
    assert "BAD  macOS 26 csrutil: expected\n     Hint: look" in out
    assert "2 not as needed" in out
    assert "SIMULATED" in out


def test_doctor_of_a_simulated_guest(sysext: Sysext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYSEXT_SIMULATED__BOOT_SECONDS", "0.1")
    code, out, _ = sysext("doctor", "--provider", "simulated", "--guest", "--macos", "14")
    assert code == 0, out
    assert "ok   macOS 14 vnc-framebuffer: 1280x800" in out
    assert list((tmp_path / "tart" / "vms").iterdir()) == []


def test_a_long_run_goes_on_where_nobody_reads_any_more(tmp_path: Path) -> None:
    """As behind `| head -1`: nothing is said about it, and what comes after it is done."""
    script = (
        "import pathlib; from harness.cli.options import say\n"
        "for _ in range(3000): say('x' * 100)\n"
        "pathlib.Path('done').touch()"
    )
    run = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stderr is not None
    assert run.stdout.read(5) == b"xxxxx"
    run.stdout.close()
    said = run.stderr.read()
    run.stderr.close()
    assert (run.wait(60), said, (tmp_path / "done").exists()) == (0, b"", True)


def test_what_is_said_is_masked_and_tamed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = events.Secrets()
    monkeypatch.setattr(events, "SECRETS", secrets)
    secrets.add("hush-hush")
    options.say("a \x1b[31mred\x07 word ☃ and hush-hush")
    out = capsys.readouterr().out
    assert out.startswith("a  [31mred  word ☃ and ")
    assert "hush" not in out


@pytest.mark.parametrize(
    "words",
    [
        ("attach", "x" * 5000),
        ("replay", "x" * 5000),
        ("history", "import", "x" * 5000),
        ("signoff", "--release", "1", "--demands", "x" * 5000),
        ("triage", "x" * 5000),
        ("history", "--url", "sqlite:///junk"),
        ("history", "--url", "postgresql://nobody@127.0.0.1:1/none"),
        ("signoff", "--release", "1", "--demands", "signoff.toml", "--app", str(APP), "--url", "sqlite:///junk"),
        ("signoff", "--verify", "junk", "--url", "sqlite:///junk", "--against-history"),
    ],
)
def test_what_cannot_be_used_is_told_and_is_no_answer(sysext: Sysext, words: tuple[str, ...]) -> None:
    """Exit code 1 would say that something was found: a regression, a release that is not signed off, a Mac that is gone."""
    Path("junk").write_bytes(b"junk" * 100)
    Path("signoff.toml").write_text('[[item]]\nname = "all"\nruns = 1\nmost = 0.5\n', encoding="utf-8")
    code, out, said = sysext(*words)
    assert (code, out) == (2, ""), said
    assert said.startswith("sysext: ")
    assert "Hint: " in said
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == ["junk", "signoff.toml"]


@pytest.mark.parametrize("output", ["closed", "full"])
def test_output_that_goes_nowhere(tmp_path: Path, output: str) -> None:
    if output == "full" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = f"exec {SYSEXT} faults {'>&-' if output == 'closed' else '>/dev/full'}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == (0 if output == "closed" else 2)
    assert "Traceback" not in done.stderr
    assert output == "closed" or "Hint: check the path, its rights, the disk" in done.stderr


def test_a_file_is_written_whole_and_what_is_none_is_not_put_aside(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_text("before", encoding="utf-8")
    link.symlink_to(file)
    options.write_whole(link, "after ☃")
    assert (link.is_symlink(), file.read_text(encoding="utf-8")) == (True, "after ☃")
    os.mkfifo(pipe)
    came: list[str] = []
    reader = threading.Thread(target=lambda: came.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    options.write_whole(pipe, "through")
    reader.join(60)
    assert (came, pipe.is_fifo()) == (["through"], True)
    with pytest.raises(OSError):
        options.write_whole(tmp_path / "no" / "folder", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "pipe"]


def test_ctrl_c_in_the_middle_of_writing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("before", encoding="utf-8")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        options.write_whole(file, "after")
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"file": "before"}


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout here")
def test_a_report_may_go_to_standard_output_by_its_name(tmp_path: Path) -> None:
    script = (
        "import pathlib; from harness.cli.options import write_whole; write_whole(pathlib.Path('/dev/stdout'), 'x')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"x"), done.stderr
