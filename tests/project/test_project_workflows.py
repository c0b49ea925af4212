"""The workflows: valid by GitHub's published schema, and every command in them exists."""

from __future__ import annotations

import copy
import importlib.resources
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.name for path in (ROOT / ".github" / "workflows").glob("*.yml"))


def load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.load((ROOT / ".github" / "workflows" / name).read_text(), Loader=StringKeys)
    return data


class StringKeys(yaml.SafeLoader):
    """YAML 1.1 reads the key `on` as true; GitHub does not."""


StringKeys.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StringKeys.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    """The schema of schemastore, as the package check-jsonschema carries it."""
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    return jsonschema.Draft7Validator(json.loads((folder / "github-workflows.json").read_text()))


def steps(workflow: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, step) for name, job in workflow["jobs"].items() for step in job["steps"]]


def commands(workflow: dict[str, Any]) -> list[list[str]]:
    """Every simple command of every `run`, as words."""
    found = []
    for _, step in steps(workflow):
        script = step.get("run", "").replace("\\\n", " ")
        for line in re.sub(r"\$\{\{.*?\}\}", "X", script).splitlines():
            words = shlex.split(line)
            if words:
                found.append(words)
    return found


def test_the_workflows_that_are_promised_are_there() -> None:
    assert NAMES == ["ci.yml", "nightly.yml"]


@pytest.mark.parametrize("name", NAMES)
def test_valid_by_the_published_schema(name: str, validator: jsonschema.Draft7Validator) -> None:
    assert [error.message for error in validator.iter_errors(load(name))] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_would_have_found_mistakes(name: str, validator: jsonschema.Draft7Validator) -> None:
    for spoil in (
        lambda flow: flow.pop("jobs"),
        lambda flow: flow.update({"job": {}}),
        lambda flow: next(iter(flow["jobs"].values())).pop("runs-on"),
        lambda flow: next(iter(flow["jobs"].values())).update({"timeout-minute": 5}),
    ):
        flow = copy.deepcopy(load(name))
        spoil(flow)
        assert list(validator.iter_errors(flow))


@pytest.mark.parametrize("name", NAMES)
def test_least_rights_limits_and_pins(name: str) -> None:
    workflow = load(name)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 240
        assert "permissions" not in job
    for _, step in steps(workflow):
        uses = step.get("uses")
        if uses:
            assert re.fullmatch(r"actions/[a-z-]+@(?:v\d+|[0-9a-f]{40})", uses)
        if uses and uses.startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        if uses and uses.startswith("actions/upload-artifact@"):
            assert "always()" in step["if"] or "!cancelled()" in step["if"]
            assert step["with"]["retention-days"] <= 30


@pytest.mark.parametrize("name", NAMES)
def test_no_text_from_outside_is_pasted_into_a_script(name: str) -> None:
    for _, step in steps(load(name)):
        for expression in re.findall(r"\$\{\{(.*?)\}\}", step.get("run", "")):
            assert re.fullmatch(r"\s*matrix\.[a-z]+\s*", expression)


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_shell(name: str) -> None:
    for _, step in steps(load(name)):
        if "run" in step:
            script = re.sub(r"\$\{\{.*?\}\}", "X", step["run"])
            done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_and_scripts_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    seen = 0
    for words in commands(load(name)):
        if words[0] == "make":
            seen += 1
            assert {word for word in words[1:] if "=" not in word} <= targets
        for word in words:
            if word.startswith("scripts/"):
                assert os.access(ROOT / word, os.X_OK), word
    assert seen >= 1


def pytest_options() -> set[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout))


def test_pytest_options_exist() -> None:
    known = pytest_options()
    assert "--sysext-provider" in known
    used = {
        word.split("=")[0]
        for name in NAMES
        for words in commands(load(name))
        if "pytest" in words
        for word in words[words.index("pytest") + 1 :]
        if word.startswith("-")
    }
    used |= set(
        re.findall(r"--sysext-[a-z-]+", "".join((ROOT / ".github/workflows" / name).read_text() for name in NAMES))
    )
    recipe = (ROOT / "Makefile").read_text().partition("\nscenarios:")[2].partition("\n\n")[0]
    used |= set(re.findall(r"(?<= )--[a-z-]+", recipe))
    assert {"--sysext-provider", "--sysext-macos", "--sysext-keep-vm", "--alluredir", "--timeout"} <= used
    assert used - known == set()


def test_verbs_of_sysext_exist() -> None:
    verbs = {
        words[words.index(".venv/bin/sysext") + 1]
        for name in NAMES
        for words in commands(load(name))
        if ".venv/bin/sysext" in words
    }
    assert {"doctor", "gc"} <= verbs
    for verb in verbs:
        code = "import sys; from harness.cli import main; sys.argv[0] = 'sysext'; main()"
        done = subprocess.run([sys.executable, "-c", code, verb, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_ci_runs_check_test_and_scenarios() -> None:
    made = {word for words in commands(load("ci.yml")) if words[0] == "make" for word in words[1:]}
    assert {"check", "test", "scenarios"} <= made


def test_nightly_is_for_real_macs_and_always_cleans_up() -> None:
    workflow = load("nightly.yml")
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] == ["self-hosted", "macOS", "ARM64", "tart"]
    assert job["strategy"]["fail-fast"] is False
    assert job["strategy"]["max-parallel"] <= 2
    last = job["steps"][-1]
    assert last["run"].endswith("sysext gc")
    assert "always()" in last["if"]
    assert set(workflow["on"]) == {"schedule", "workflow_dispatch"}
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert sum(step.get("timeout-minutes", 0) for step in job["steps"]) <= job["timeout-minutes"]


def test_commit_hooks_are_local_and_their_programs_pinned() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {"ruff-check", "ruff-format", "mypy", "import-linter"} <= {hook["id"] for hook in hooks}
    for hook in hooks:
        assert hook["language"] == "system"
        assert hook["entry"].split()[0].startswith(".venv/bin/")
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
