"""The Makefile and the bootstrap script: what they promise, with stand-ins for Python, pip, dpkg and apt."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROMISED = [
    "help",
    "setup",
    "scenarios",
    "test",
    "check",
    "bench",
    "bench-screens",
    "bench-triage",
    "bench-repro",
    "report",
    "clean",
    "upgrades",
]


def make(*arguments: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SYSEXT_", "MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_help_lists_every_target() -> None:
    listed = re.findall(r"^  make ([a-z-]+) +\S", make("help"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(PROMISED)
    assert make() == make("help")


@pytest.mark.parametrize("target", PROMISED)
def test_every_target_has_a_recipe(target: str) -> None:
    assert make("--dry-run", target).strip()


@pytest.mark.parametrize("target", ["scenarios", "test", "check", "bench"])
def test_targets_set_up_what_they_need(target: str) -> None:
    assert "scripts/bootstrap.sh" in make("--dry-run", target).splitlines()[0]


def test_scenarios_need_no_system_packages() -> None:
    assert "--system-packages" not in make("--dry-run", "scenarios")
    assert "--system-packages" in make("--dry-run", "test")


def test_scenarios_take_what_is_given() -> None:
    plain = make("--dry-run", "scenarios", "SYSEXT_PROVIDER=simulated")
    assert "--sysext-macos 13,14,15,26" in plain
    assert " -n 4 " in plain
    given = make(
        "--dry-run", "scenarios", "SYSEXT_PROVIDER=tart", "SYSEXT_MACOS=15", "SYSEXT_WORKERS=7", "PYTEST_ARGS=-k x"
    )
    for text in ("--sysext-provider tart", "--sysext-macos 15", " -n 7 ", "-k x"):
        assert text in given


def test_a_fault_reaches_the_harness_and_the_worker_count_does_not(tmp_path: Path) -> None:
    probe = tmp_path / "Makefile"
    probe.write_text(f"include {ROOT / 'Makefile'}\nprobe:\n\t@env\n")
    out = make("-f", str(probe), "probe", "SYSEXT_FAULT=some-code", SYSEXT_WORKERS="3", SYSEXT_LANE="managed")
    assert "SYSEXT_FAULT=some-code" in out.splitlines()
    assert "SYSEXT_LANE=managed" in out.splitlines()
    assert not [line for line in out.splitlines() if line.startswith("SYSEXT_WORKERS=")]


@pytest.mark.parametrize("script", [".ci/run", "scripts/bootstrap.sh", "scripts/report.sh"])
def test_scripts_are_executable_and_clean(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    shell = path.read_text().splitlines()[0].rpartition("/")[2].removeprefix("env ")
    subprocess.run([shell, "-n", str(path)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (see scripts/apt-packages.txt)")
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_ci_runs_all_three_and_tells_which_failed(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text(
        "setup:\n\t@true\ncheck:\n\t@false\ntest:\n\t@echo tested\nscenarios:\n\t@echo $(SYSEXT_PROVIDER)\n"
    )
    done = subprocess.run([str(tmp_path / ".ci" / "run")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "tested\n" in done.stdout
    assert "simulated\n" in done.stdout
    summary = done.stdout.partition("summary")[2]
    assert re.findall(r"^(\w+) +(passed|FAILED)", summary, flags=re.MULTILINE) == [
        ("setup", "passed"),
        ("check", "FAILED"),
        ("test", "passed"),
        ("scenarios", "passed"),
    ]
    (tmp_path / "Makefile").write_text("setup check test scenarios:\n\t@true\n")
    subprocess.run([str(tmp_path / ".ci" / "run")], capture_output=True, check=True)


FAKE_PYTHON = """#!/bin/sh
printf '%s\\n' "$*" >>"$FAKE_LOG"
case "$*" in
    "-V" | "--version") echo "Python ${FAKE_VERSION:-3.12.1}" ;;
    -c*3,\\ 11*) [ "${FAKE_VERSION:-3.12.1}" != 3.9.2 ] ;;
    -c*) echo python3.12-venv ;;
    "-m venv"*)
        [ -z "${FAKE_NO_VENV:-}" ] || { echo "ensurepip is not available" >&2; exit 1; }
        for last; do :; done
        mkdir -p "$last/bin" && cp "$0" "$last/bin/python" ;;
    "-m pip install"*) [ -z "${FAKE_NO_NETWORK:-}" ] ;;
esac
"""


@dataclass
class Sandbox:
    """A copy of the bootstrap script with what it reads, and programs of ours in front of the system's."""

    root: Path
    programs: Path
    log: Path

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self.root / "scripts" / "bootstrap.sh"), *arguments],
            env={"PATH": f"{self.programs}:/usr/bin:/bin", "FAKE_LOG": str(self.log), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines

    def installs(self) -> list[str]:
        return [call for call in self.calls() if call.startswith("-m pip install")]


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    root = tmp_path / "a checkout"
    (root / "scripts").mkdir(parents=True)
    for name in ("scripts/bootstrap.sh", "scripts/apt-packages.txt", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    box = Sandbox(root, tmp_path / "programs", tmp_path / "log")
    box.programs.mkdir()
    for name in ("python3.13", "python3.12", "python3.11", "python3.14", "python3"):
        box.program(name, FAKE_PYTHON)
    return box


def test_the_first_setup_installs_pinned_and_the_second_does_nothing(sandbox: Sandbox) -> None:
    done = sandbox.run()
    assert done.returncode == 0, done.stderr
    (install,) = sandbox.installs()
    assert "--constraint constraints.txt" in install
    assert "--editable .[dev,simulator,parallel]" in install
    again = sandbox.run()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert sandbox.calls() == ["-V"]


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt", "scripts/bootstrap.sh"])
def test_a_change_is_followed(sandbox: Sandbox, changed: str) -> None:
    sandbox.run()
    sandbox.calls()
    with (sandbox.root / changed).open("a") as file:
        file.write("# changed\n")
    assert sandbox.run().returncode == 0
    assert len(sandbox.installs()) == 1


def test_a_failed_install_is_said_and_tried_again(sandbox: Sandbox) -> None:
    done = sandbox.run(FAKE_NO_NETWORK="1")
    assert done.returncode == 1
    assert "check the network" in done.stderr
    sandbox.calls()
    assert sandbox.run().returncode == 0
    assert len(sandbox.installs()) == 1


def test_no_python_new_enough_is_said_with_what_to_do(sandbox: Sandbox) -> None:
    done = sandbox.run(FAKE_VERSION="3.9.2")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed; found: Python 3.9.2" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (sandbox.root / ".venv").exists()


def test_the_named_python_is_taken(sandbox: Sandbox, tmp_path: Path) -> None:
    own = tmp_path / "own python"
    own.write_text(FAKE_PYTHON.replace("$*", "own $*", 1))
    own.chmod(0o755)
    assert sandbox.run(PYTHON=str(own)).returncode == 0
    assert any(call.startswith("own -m venv") for call in sandbox.calls())


def test_without_the_venv_module_it_says_which_package(sandbox: Sandbox) -> None:
    sandbox.program("id", "#!/bin/sh\necho 1000\n")
    done = sandbox.run(FAKE_NO_VENV="1")
    assert done.returncode == 1
    assert "apt-get install python3.12-venv" in done.stderr
    assert not (sandbox.root / ".venv").exists()


DPKG = """#!/bin/sh
for package; do case $package in -*) ;; *Status*) ;; git|xvfb) ;; *) echo "installed $package" ;; esac; done
"""


@pytest.fixture
def debian(sandbox: Sandbox) -> Sandbox:
    if not Path("/etc/debian_version").exists():
        pytest.skip("not a Debian")
    sandbox.program("dpkg-query", DPKG)
    sandbox.program("apt-get", '#!/bin/sh\nprintf \'apt %s\\n\' "$*" >>"$FAKE_LOG"\n')
    return sandbox


def test_missing_packages_are_named_to_who_is_not_root(debian: Sandbox) -> None:
    debian.program("id", "#!/bin/sh\necho 1000\n")
    done = debian.run("--only-system-packages")
    assert done.returncode == 0
    assert re.search(r"^ +git xvfb$", done.stdout, flags=re.MULTILINE)
    assert "sudo scripts/bootstrap.sh --only-system-packages" in done.stdout
    assert debian.calls() == []


def test_root_installs_only_what_is_missing(debian: Sandbox) -> None:
    if os.geteuid() != 0 and not Path("/usr/sbin/policy-rc.d").exists():
        pytest.skip("not root: services cannot be kept from starting")
    debian.program("id", "#!/bin/sh\necho 0\n")
    assert debian.run("--only-system-packages").returncode == 0
    assert debian.calls() == ["apt install -y -qq --no-install-recommends git xvfb"]


def test_nothing_missing_asks_apt_nothing(debian: Sandbox) -> None:
    debian.program("dpkg-query", DPKG.replace("git|xvfb) ;;", ""))
    done = debian.run("--only-system-packages")
    assert (done.returncode, done.stdout) == (0, "")
    assert debian.calls() == []


def test_unknown_arguments_are_refused(sandbox: Sandbox) -> None:
    done = sandbox.run("--sytem-packages")
    assert done.returncode == 1
    assert "--system-packages" in done.stderr
