"""The plugin before any Mac: options, marker, header, usage errors; and that it is inert for everybody else."""

from __future__ import annotations

import pytest

from .conftest import Project  # type: ignore[import-not-found]

USAGE = 4
PASSES = "def test_passes(mac): pass\n"


def test_options_are_in_the_help_and_the_marker_is_registered_and_neither_checks_anything(project: Project) -> None:
    (project.folder / "app.toml").unlink()
    done = project.run("--help")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "provider",
        "image",
        "macos",
        "lane",
        "app",
        "release",
        "keep-vm",
        "fault",
        "quiet",
        "config",
        "artifacts",
    ):
        assert f"--sysext-{name}" in done.stdout
    assert "@pytest.mark.sysext" in project.run("--markers", app=False).stdout


def test_collecting_nothing_checks_nothing(project: Project) -> None:
    (project.folder / "app.toml").unlink()
    done = project.run("--collect-only")
    assert done.returncode == 5, done.stdout + done.stderr


def test_it_is_inert_without_its_fixtures(project: Project) -> None:
    (project.folder / "conftest.py").unlink()
    project.scenario(
        "import sys\n"
        "def test_plain(request):\n"
        "    assert request.config.pluginmanager.has_plugin('sysext')\n"
        "    heavy = {'numpy', 'paramiko', 'pydantic', 'cv2', 'rapidocr', 'onnxruntime', 'rich', 'harness.config',\n"
        "             'harness.session.run', 'harness.machines', 'harness.screen', 'harness.reports'}\n"
        "    assert not heavy & set(sys.modules), sorted(heavy & set(sys.modules))\n"
    )
    project.environment["SYSEXT_PROVIDER"] = "nonsense"
    done = project.run("-p", "no:allure_pytest", app=False)
    assert done.returncode == 0, done.stdout
    assert "sysext:" not in done.stdout
    assert not project.artifacts.exists()


@pytest.mark.parametrize("by", ["option", "environment", "settings file"])
def test_the_header_says_simulated_wherever_the_app_is_named(project: Project, by: str) -> None:
    project.scenario(PASSES)
    if by == "environment":
        project.environment["SYSEXT_APP"] = str(project.folder / "app.toml")
    if by == "settings file":
        (project.folder / "sysext.toml").write_text('app = "app.toml"\nmacos = ["14"]\n')
    done = project.run("--sysext-macos", "14,26", app=by == "option")
    assert done.returncode == 0, done.stdout
    head = done.stdout[: done.stdout.index("100%")]
    assert head.count("SIMULATED Macs") == 1
    assert "macOS 14, 26; lane pristine; app Example" in head
    assert [line.split()[1] for line in project.journal() if line.startswith("create")] == ["14", "26"]


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_no_app_is_one_usage_error(project: Project, workers: tuple[str, ...]) -> None:
    project.scenario(PASSES)
    done = project.run(*workers, app=False)
    text = done.stdout + done.stderr
    assert "an app file: the product under test: none given" in text
    assert "Traceback" not in text
    assert "pytest_plugin.py" not in text
    assert done.returncode == (1 if workers else USAGE)
    assert project.journal() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--sysext-macos", "11"), "macos"),
        (("--sysext-lane", "fast"), "lane"),
        (("--sysext-release", "3"), "release 3"),
        (("--sysext-config", "none.toml"), "none.toml"),
        (("--sysext-artifacts", "app.toml"), "--sysext-artifacts"),
    ],
)
def test_unusable_options_end_with_4_before_anything_is_made(
    project: Project, arguments: tuple[str, ...], says: str
) -> None:
    project.scenario(PASSES)
    done = project.run(*arguments)
    text = done.stdout + done.stderr
    assert done.returncode == USAGE, text
    assert says in text
    assert "Hint" in text
    assert "Traceback" not in text
    assert project.journal() == []
    assert not project.artifacts.exists()


def test_a_wrong_environment_is_a_usage_error_too(project: Project) -> None:
    project.scenario(PASSES)
    project.environment["SYSEXT_TIMEOUTS__BOOT"] = "soon"
    done = project.run()
    assert done.returncode == USAGE
    assert "timeouts.boot" in done.stdout + done.stderr


def test_collecting_only_starts_nothing_and_names_each_macos(project: Project) -> None:
    project.scenario(PASSES)
    done = project.run("--collect-only", "-q", "--sysext-macos", "13,15")
    assert done.returncode == 0
    assert "test_passes[macos13]" in done.stdout
    assert "test_passes[macos15]" in done.stdout
    assert project.journal() == []
    assert not project.artifacts.exists()
